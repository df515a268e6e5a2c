"""Captions of the source (CEA-608) as WebVTT on the title's timeline. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from encoder.package.subtitles import Cue, Unshown
from encoder.source.captions.cea608 import COLUMNS, ROWS, Caption, Row, Style
from encoder.source.reference import ReferenceSource

_BOTTOM_ROWS = range(12, ROWS + 1)
"""Rows where players show subtitles anyway."""
_CENTRED_COLUMNS = 2
"""Columns by which text that is meant to be centred may be off centre."""
# The rows and columns of CEA-608 take the middle 80 % of the picture's height and width.
_MARGIN, _SHARE = Fraction(10), Fraction(80)


def captions(
    reference: ReferenceSource,
) -> Iterator[tuple[str, str | None, tuple[Cue, ...], Unshown]]:
    """Yield the name, the language where known, and the cues of each channel of captions.

    The language is a tag as the source has it. A channel whose captions all lie outside the title
    has no cues; how many do is yielded as well.
    """
    start, duration = reference.start_seconds, reference.timeline.duration_seconds
    for data in reference.captions:
        for name, found in data.channels().items():
            cues = (_cue(caption, start, duration) for caption in found)
            times = ((caption.start - start, caption.end - start) for caption in found)
            shown = tuple(cue for cue in cues if cue is not None)
            yield name, data.language, shown, Unshown.of(times, duration)


def _cue(caption: Caption, first_video_pts: Fraction, duration: Fraction) -> Cue | None:
    start = max(caption.start - first_video_pts, Fraction(0))
    end = min(caption.end - first_video_pts, duration)
    if start >= end:
        return None
    return Cue(start, end, "\n".join(map(_text, caption.rows)), _settings(caption.rows))


def _settings(rows: tuple[Row, ...]) -> str:
    """Return where rows are shown, empty for the place of ordinary subtitles."""
    settings = []
    if rows[-1].number not in _BOTTOM_ROWS:
        top = _MARGIN + _SHARE * (rows[0].number - 1) / ROWS
        settings.append(f"line:{float(top):.4g}%")
    left = min(row.column for row in rows)
    centred = all(
        abs(row.column + Fraction(len(row.text), 2) - Fraction(COLUMNS, 2)) <= _CENTRED_COLUMNS
        for row in rows
    )
    if not centred:
        share = _MARGIN + _SHARE * left / COLUMNS
        settings.append(f"position:{float(share):.4g}% align:start")
    return " ".join(settings)


def _text(row: Row) -> str:
    return "".join(_run(text, style) for text, style in row.runs)


def _run(text: str, style: Style) -> str:
    inked = text.strip()
    if not inked:
        return text
    marked = inked.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    if style.underlined:
        marked = f"<u>{marked}</u>"
    if style.italic:
        marked = f"<i>{marked}</i>"
    if style.colour != "white":
        # Classes that every player of WebVTT knows; pure green is called lime.
        marked = f"<c.{'lime' if style.colour == 'green' else style.colour}>{marked}</c>"
    before = text[: len(text) - len(text.lstrip())]
    return before + marked + text[len(text.rstrip()) :]
