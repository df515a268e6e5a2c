"""Subtitles as WebVTT: taken out of the source, put on the title's timeline, cut like the video.

Text of any kind becomes WebVTT by ffmpeg; pictures of text (PGS, DVB, DVD) cannot, and are left
out. HLS wants segments no longer than its target duration, each with every cue that it touches
(RFC 8216, 3.5); DASH takes the whole file.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from encoder.errors import SourceUnusable, ToolFailed
from encoder.ffmpeg import (
    DEFAULT_TIMEOUT_SECONDS,
    SOURCE_OPTIONS,
    Command,
    default_limits,
    does_not_decode,
    run,
)
from encoder.package.layout import SubtitleTrack

STAGE_VERSION = 1
"""Part of the key of taken subtitles: raise it when what comes of them changes."""

_MAX_BYTES = 32 << 20
_ARROW = re.compile(r"(\S+)[ \t]+-->[ \t]+(\S+)[ \t]*(.*)\Z")
_TIME = re.compile(r"(?:(\d+):)?([0-5]\d):([0-5]\d)\.(\d{3})\Z")
# Cue settings that WebVTT knows; anything else a source says there is none.
_SETTING = re.compile(r"(vertical|line|position|size|align|region):[A-Za-z0-9.,%-]+\Z")

_STRAY_AMPERSAND = re.compile(r"&(?!(amp|lt|gt|nbsp|lrm|rlm|#\d+|#x[0-9A-Fa-f]+);)")
# Not before a tag or a time of WebVTT.
_STRAY_BRACKET = re.compile(r"<(?!/?([bciuv]|lang|rt|ruby)([. ][^<>]*)?>|[\d:.]+>)")


@dataclass(frozen=True, slots=True)
class Cue:
    """Some text and when it is shown, on the title's timeline."""

    start: Fraction
    """Seconds."""
    end: Fraction
    text: str
    """Lines of WebVTT cue text, none of them empty."""
    settings: str = ""


def extract_command(source: Path, stream_index: int) -> Command:
    """The ffmpeg call of :func:`extract`, as a value."""
    inputs = [part for name, value in SOURCE_OPTIONS.items() for part in (f"-{name}", value)]
    return Command.of(
        [
            *("-hide_banner", "-nostats", "-v", "error", "-copyts", *inputs),
            *("-i", source),
            *("-map", f"0:{stream_index}", "-map_metadata", "-1", "-c:s", "webvtt"),
            *("-f", "webvtt", "pipe:1"),
        ]
    )


def extract(source: Path, stream_index: int) -> str:
    """A source's subtitle stream as one WebVTT file, on the source's own clock.

    Raises:
        SourceUnusable: it does not decode, or is longer than any text to be read along.
        ToolFailed: ffmpeg failed otherwise.
    """
    command = extract_command(source, stream_index)
    way_out = f"leave it out with ffmpeg -i IN -map 0 -map -0:{stream_index} -c copy OUT"
    try:
        limits = replace(default_limits(DEFAULT_TIMEOUT_SECONDS), output_bytes=_MAX_BYTES)
        out = run(command, limits=limits).stdout
    except ToolFailed as error:
        if "wrote more" in error.message:
            raise SourceUnusable(
                f"cannot use {source}: its subtitles (stream {stream_index}) have over "
                f"{_MAX_BYTES >> 20} MiB of text, more than anybody reads; {way_out}"
            ) from error
        if not does_not_decode(error):
            raise
        why = "is not UTF-8" if "Invalid UTF-8" in error.context["stderr"] else "does not decode"
        raise SourceUnusable(
            f"cannot use {source}: its subtitles (stream {stream_index}) hold text that {why}; "
            f"mend it, or {way_out}",
            **error.context,
        ) from error
    return out.decode("utf-8", "replace")


def cues(text: str, first_video_pts: Fraction, duration: Fraction) -> tuple[Cue, ...]:
    """The cues of a WebVTT file on a title's timeline, by start; what lies outside it is cut off.

    Args:
        text: what :func:`extract` gives.
        first_video_pts: presentation time of the title's first frame in the source, seconds.
        duration: of the title, seconds.

    Raises:
        ValueError: the text is not WebVTT.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\N{REPLACEMENT CHARACTER}")
    if not text.removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}").startswith("WEBVTT"):
        raise ValueError(f"not WebVTT: begins with {text[:20]!r}")
    found = []
    for block in re.split(r"\n{2,}", text):
        lines = block.strip("\n").split("\n")
        for number, line in enumerate(lines[:2]):
            match = _ARROW.match(line)
            said = [part for part in lines[number + 1 :] if part.strip()]
            if match is None or not said:
                continue
            start = max(_seconds(match[1]) - first_video_pts, Fraction(0))
            end = min(_seconds(match[2]) - first_video_pts, duration)
            if start < end:
                settings = " ".join(s for s in match[3].split() if _SETTING.match(s))
                # A cue's text must hold no arrow: a reader would take it for another cue.
                shown = _escaped("\n".join(said)).replace("-->", "--\N{RIGHTWARDS ARROW}")
                found.append(Cue(start, end, shown, settings))
            break
    return tuple(sorted(found, key=lambda cue: (cue.start, cue.end)))


def subtitle_track(
    found: Sequence[Cue],
    boundaries: Sequence[Fraction],
    *,
    language: str | None = None,
    forced: bool = False,
    hearing_impaired: bool = False,
) -> SubtitleTrack:
    """A track of one segment per shot, and the whole.

    Args:
        found: cues by start.
        boundaries: ends of the shots, seconds, increasing, shape (shots,).
        language: BCP 47, when known.
        forced: whether it is shown without being asked for.
        hearing_impaired: whether it also describes sounds.
    """
    starts = (Fraction(0), *boundaries[:-1])
    return SubtitleTrack(
        whole=document(found),
        segments=tuple(
            document([cue for cue in found if cue.start < end and cue.end > start], mapped=True)
            for start, end in zip(starts, boundaries, strict=True)
        ),
        boundaries=tuple(boundaries),
        language=language,
        forced=forced,
        hearing_impaired=hearing_impaired,
    )


def document(found: Sequence[Cue], *, mapped: bool = False) -> str:
    """WebVTT of some cues; ``mapped`` says on which clock, as segments of HLS have to."""
    head = "WEBVTT\n"
    if mapped:
        head += "X-TIMESTAMP-MAP=MPEGTS:0,LOCAL:00:00:00.000\n"
    blocks = [
        f"{_written(cue.start)} --> {_written(cue.end)}{' ' * bool(cue.settings)}{cue.settings}\n"
        f"{cue.text}\n"
        for cue in found
    ]
    return "\n".join([head, *blocks])


def _escaped(text: str) -> str:
    """Cue text whose ``<`` and ``&`` that mean themselves say so: a player would swallow them."""
    return _STRAY_BRACKET.sub("&lt;", _STRAY_AMPERSAND.sub("&amp;", text))


def _seconds(text: str) -> Fraction:
    match = _TIME.match(text)
    if match is None:
        raise ValueError(f"not a WebVTT time: {text[:40]!r}")
    hours, minutes, seconds, millis = (int(part or 0) for part in match.groups())
    return Fraction(((hours * 60 + minutes) * 60 + seconds) * 1000 + millis, 1000)


def _written(seconds: Fraction) -> str:
    millis = round(seconds * 1000)
    whole, millis = divmod(millis, 1000)
    minutes, whole = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{whole:02d}.{millis:03d}"
