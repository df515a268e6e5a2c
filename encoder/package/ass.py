"""Subtitles with places and drawings, as ASS describes them, to WebVTT. Pure.

ffmpeg turns subtitles of every kind into events of ASS, but what it makes of them as WebVTT has
neither places nor italics of styles, and shows the commands of drawings as words. Here an event
becomes a cue where its text is shown; drawings, invisible text and effects are left out, and a sign
that is drawn again for every frame becomes one cue.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from encoder.package.subtitles import Cue, document, escaped

_BLOCK = re.compile(r"\{([^{}]*)\}")
_TAG = re.compile(r"\\(?:(pos|move)\s*\(([^()]*)\)|([1-4]?[a-zA-Z]+)(&H[0-9A-Fa-f]+&?|-?\d*))")
_FIELDS = 8  # commas before the text of an event: ReadOrder, Layer, Style, ..., Effect
_TOP, _MIDDLE = (7, 8, 9), (4, 5, 6)
_LEFT, _RIGHT = (1, 4, 7), (3, 6, 9)
_BOTTOM_CENTRE = 2
_LEGACY = {1: 1, 2: 2, 3: 3, 5: 7, 6: 8, 7: 9, 9: 4, 10: 5, 11: 6}  # alignments of SSA
_DEFAULT_SIZE = (384, 288)
_LINE_SHARE = 5.33  # height of a line of WebVTT, per cent of the picture's height
_FLICKER_SECONDS = Fraction(1, 5)
"""An event that lasts no longer is one picture of an animation."""
_TOUCHING_SECONDS = Fraction(1, 20)


@dataclass(frozen=True, slots=True)
class Event:
    """An event as Matroska stores it: fields separated by commas, the text last."""

    start: Fraction
    """Time at which it appears, seconds."""
    end: Fraction
    """Time at which it disappears, seconds."""
    line: str


@dataclass(frozen=True, slots=True)
class _Look:
    bold: bool = False
    italic: bool = False
    underlined: bool = False


@dataclass(frozen=True, slots=True)
class _Style:
    alignment: int = _BOTTOM_CENTRE
    """Place as on a numeric keypad, 1 to 9."""
    look: _Look = _Look()


@dataclass(frozen=True, slots=True)
class _Header:
    width: int
    height: int
    styles: Mapping[str, _Style]


def webvtt(header: str, events: Sequence[Event], *, comments: bool = True) -> str | None:
    """Return a WebVTT file of events, None where they are plain text at the usual place.

    Args:
        header: everything before the events of an ASS file.
        events: events in any order.
        comments: True where braces hold tags and comments, as in ASS itself; False where they are
            text unless they hold tags, as in other subtitles.
    """
    facts = _header(header)
    cues: list[Cue] = []
    plain = True
    for event in events:
        if event.start >= event.end:
            continue
        shown = _Shown(comments=comments)
        shown.read(event.line, facts)
        text = shown.text()
        if shown.dropped:
            plain = False
        if text:
            cues.append(Cue(event.start, event.end, text, shown.settings(facts)))
    merged = _merged(cues)
    if plain and len(merged) == len(cues) and not any(cue.settings for cue in cues):
        return None
    return document(merged)


def _header(text: str) -> _Header:
    values: dict[str, str] = {}
    styles: dict[str, _Style] = {}
    names: list[str] = []
    legacy = False
    for line in text.splitlines():
        if line.startswith("["):
            legacy = line.strip().lower() == "[v4 styles]"
        key, _, value = line.partition(":")
        key = key.strip().lower()
        if key == "format":
            names = [name.strip().lower() for name in value.split(",")]
        elif key == "style":
            parts = dict(zip(names, (part.strip() for part in value.split(",")), strict=False))
            styles[parts.get("name", "").lstrip("*")] = _style(parts, legacy=legacy)
        else:
            values[key] = value.strip()
    width, height = (_whole(values.get(name, "")) for name in ("playresx", "playresy"))
    if not width and not height:
        width, height = _DEFAULT_SIZE
    return _Header(width or height * 4 // 3 or 1, height or width * 3 // 4 or 1, styles)


def _style(parts: Mapping[str, str], *, legacy: bool) -> _Style:
    number = _whole(parts.get("alignment", ""))
    alignment = _LEGACY.get(number, _BOTTOM_CENTRE) if legacy else number
    look = _Look(
        *(parts.get(name, "0") not in ("0", "") for name in ("bold", "italic", "underline"))
    )
    return _Style(alignment if 1 <= alignment <= 9 else _BOTTOM_CENTRE, look)


def _whole(text: str) -> int:
    match = re.match(r"\s*(\d{1,6})", text)
    return int(match[1]) if match else 0


@dataclass(slots=True)
class _Shown:
    """What an event shows, and where."""

    comments: bool
    """True where braces without tags are not shown."""
    runs: list[tuple[str, _Look]] = field(default_factory=list)
    style: _Style = _Style()
    look: _Look = _Look()
    alignment: int = _BOTTOM_CENTRE
    place: tuple[float, float] | None = None
    """Anchor of the text in the header's units, None where its style places it."""
    drawing: bool = False
    hidden: bool = False
    dropped: bool = False
    """True where ffmpeg's WebVTT would show something else."""

    def read(self, line: str, header: _Header) -> None:
        fields = line.split(",", _FIELDS)
        if len(fields) <= _FIELDS:
            return
        self.style = header.styles.get(fields[2].lstrip("*"), _Style())
        self.look, self.alignment = self.style.look, self.style.alignment
        text = fields[_FIELDS]
        animated = "\\t(" in text
        parts = _BLOCK.split(text)
        for number, part in enumerate(parts):
            if number % 2 and "\\" not in part:
                self.dropped = self.dropped or self.comments
                if not self.comments:
                    self.runs.append((f"{{{part}}}", self.look))
            elif number % 2:
                self._override(part, header)
            elif self.drawing or (self.hidden and not animated):
                self.dropped = self.dropped or bool(part.strip())
            elif part:
                self.dropped = self.dropped or "\\h" in part
                self.runs.append((_unescaped(part), self.look))

    def _override(self, block: str, header: _Header) -> None:
        placed = aligned = False
        for move, arguments, name, value in _TAG.findall(block):
            if move and not placed:
                placed = self._move(arguments)
            elif name == "p":
                self.drawing = value not in ("", "0")
            elif name in ("an", "a") and not aligned:
                number = _whole(value)
                chosen = number if name == "an" else _LEGACY.get(number, 0)
                if 1 <= chosen <= 9:
                    self.alignment, aligned = chosen, True
            elif name in ("alpha", "1a"):
                self.hidden = value.strip("&H").upper() == "FF"
            elif name == "i":
                self.look = replace(self.look, italic=value not in ("", "0"))
            elif name == "b":
                self.look = replace(self.look, bold=_whole(value) == 1 or _whole(value) > 400)
            elif name == "u":
                self.look = replace(self.look, underlined=value not in ("", "0"))
            elif name.startswith("r") and name in ("r", *(f"r{style}" for style in header.styles)):
                self.look = header.styles.get(name[1:], self.style).look

    def _move(self, arguments: str) -> bool:
        try:
            x, y = (float(each) for each in arguments.split(",")[:2])
        except ValueError:
            return False
        self.place = self.place or (x, y)
        return True

    def text(self) -> str:
        """Return the lines of cue text, empty where nothing is shown."""
        joined: list[tuple[str, _Look]] = []
        for text, look in self.runs:
            if joined and joined[-1][1] == look:
                joined[-1] = (joined[-1][0] + text, look)
            else:
                joined.append((text, look))
        whole = "".join(_marked(text, look) for text, look in joined)
        lines = [line.strip() for line in whole.split("\n")]
        shown = [line for line in lines if re.sub(r"<[^<>]*>", "", line).strip()]
        # An empty line would end a cue of WebVTT.
        self.dropped = self.dropped or len(shown) < len(lines)
        return "\n".join(shown)

    def settings(self, header: _Header) -> str:
        """Return where the text is shown, empty for the place of ordinary subtitles."""
        lines = 1 + self.text().count("\n")
        height = lines * _LINE_SHARE
        settings = []
        if self.place is not None:
            x, y = self.place[0] / header.width * 100, self.place[1] / header.height * 100
            top = y - (0 if self.alignment in _TOP else height / (1 + (self.alignment in _MIDDLE)))
            settings = [f"line:{round(min(max(top, 0), 100 - height))}%"]
            settings.append(f"position:{round(min(max(x, 0), 100))}%")
        elif self.alignment in _TOP:
            settings = ["line:0"]
        elif self.alignment in _MIDDLE:
            settings = [f"line:{round(50 - height / 2)}%"]
        if self.alignment in _LEFT:
            settings.append("align:left")
        elif self.alignment in _RIGHT:
            settings.append("align:right")
        return " ".join(settings)


def _unescaped(text: str) -> str:
    return text.replace("\\N", "\n").replace("\\n", "\n").replace("\\h", "\N{NO-BREAK SPACE}")


def _marked(text: str, look: _Look) -> str:
    """Return text with its marks, line by line, so that a line may be left out."""
    return "\n".join(_marked_line(line, look) for line in text.split("\n"))


def _marked_line(text: str, look: _Look) -> str:
    inked = text.strip(" ")
    if not inked:
        return text
    marked = escaped(inked)
    for tag, on in (("u", look.underlined), ("i", look.italic), ("b", look.bold)):
        if on:
            marked = f"<{tag}>{marked}</{tag}>"
    before = text[: len(text) - len(text.lstrip(" "))]
    return before + marked + text[len(text.rstrip(" ")) :]


def _merged(cues: Sequence[Cue]) -> list[Cue]:
    """Return cues with the pictures and the layers of one animated text as one cue."""
    by_text: defaultdict[str, list[Cue]] = defaultdict(list)
    for cue in sorted(cues, key=lambda cue: (cue.start, cue.end)):
        same = by_text[cue.text]
        before = same[-1] if same else None
        if before is not None and _one(before, cue):
            same[-1] = replace(before, end=max(before.end, cue.end))
        else:
            same.append(cue)
    merged = (cue for same in by_text.values() for cue in same)
    return sorted(merged, key=lambda cue: (cue.start, cue.end))


def _one(before: Cue, cue: Cue) -> bool:
    if (before.start, before.end) == (cue.start, cue.end):
        return True
    touching = cue.start <= before.end + _TOUCHING_SECONDS
    # The one before may have been merged of many pictures.
    return touching and cue.end - cue.start <= _FLICKER_SECONDS
