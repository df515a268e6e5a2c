"""Decode CEA-608 captions (ANSI/CTA-608-E) to texts with times and places. Pure.

Each field carries two channels of captions (CC1 and CC2, CC3 and CC4) as pairs of bytes. A decoder
keeps two pages of 15 rows of 32 columns per channel: one is shown, the other is written while it
is hidden (pop-on). Captions may also roll up line by line, or be painted on the page that is shown.
Everything that a viewer sees at a time is one caption, or several where it is in several places.

Text services (T1 to T4) and data about programmes (XDS) are no captions and are skipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction

CHANNELS = ("CC1", "CC2", "CC3", "CC4")
"""Channels of captions; the first two are carried in the first field."""

ROWS, COLUMNS = 15, 32
ERASED_AFTER_SECONDS = 16
"""A decoder erases captions that nothing has followed for this long."""
_PAUSE = Fraction(1)  # seconds without a character after which a growing text is another caption

_STANDARD = {
    0x2A: "á", 0x5C: "é", 0x5E: "í", 0x5F: "ó", 0x60: "ú",
    0x7B: "ç", 0x7C: "÷", 0x7D: "Ñ", 0x7E: "ñ", 0x7F: "█",
}  # fmt: skip
_SPECIAL = "®°½¿™¢£♪à\N{NO-BREAK SPACE}èâêîôû"
_EXTENDED = (
    "ÁÉÓÚÜü‘¡*’—©℠•“”ÀÂÇÈÊËëÎÏïÔÙùÛ«»",
    "ÃãÍÌìÒòÕõ{}\\^_|~ÄäÖöß¥¤│ÅåØø┌┐└┘",
)
_COLOURS = ("white", "green", "blue", "cyan", "red", "yellow", "magenta")
# Rows by the low bits of the first byte of a preamble; the second byte picks one of the two.
_PREAMBLE_ROWS = ((11, 11), (1, 2), (3, 4), (12, 13), (14, 15), (5, 6), (7, 8), (9, 10))


@dataclass(frozen=True, slots=True)
class Style:
    """How a character looks."""

    colour: str = "white"
    italic: bool = False
    underlined: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """A row of text."""

    number: int
    """Row of the screen, 1 to 15 from the top."""
    column: int
    """Column of the first character, from 0."""
    runs: tuple[tuple[str, Style], ...]
    """Characters in order, grouped by how they look."""

    @property
    def text(self) -> str:
        """All characters."""
        return "".join(text for text, _ in self.runs)


@dataclass(frozen=True, slots=True)
class Caption:
    """Rows next to each other, and when they are shown."""

    start: Fraction
    """Time at which the text appears, seconds."""
    end: Fraction
    """Time at which the text disappears, seconds."""
    rows: tuple[Row, ...]


_Page = dict[int, dict[int, tuple[str, Style]]]


def decode(pairs: Iterable[tuple[Fraction, int, int, int]]) -> dict[str, tuple[Caption, ...]]:
    """Decode pairs of bytes in order of their time; return the channels that have captions.

    ``pairs`` are a time in seconds, the field (0 or 1) and two bytes with or without parity.
    """
    found = list(pairs)
    odd = sum((one.bit_count() & two.bit_count() & 1) for _, _, one, two in found)
    # Some tools strip the parity bits; otherwise a wrong one marks a damaged byte.
    checked = odd > 0.8 * len(found)
    fields = (_Field(0), _Field(1))
    for time, number, first, second in found:
        if checked:
            first, second = _undamaged(first, second)
        fields[number].take(time, first & 0x7F, second & 0x7F)
    named = zip(CHANNELS, (channel for each in fields for channel in each.channels), strict=True)
    captions = ((name, tuple(channel.screens.captions())) for name, channel in named)
    return {name: texts for name, texts in captions if texts}


def _undamaged(first: int, second: int) -> tuple[int, int]:
    """Return a pair without the bytes whose parity is wrong; a control code needs both."""
    kept = [byte if byte.bit_count() & 1 else 0 for byte in (first, second)]
    if 0x10 <= first & 0x7F <= 0x1F and 0 in kept:
        return 0, 0
    return kept[0], kept[1]


class _Field:
    """One field: its two channels, and whose turn it is."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.channels = (_Channel(), _Channel())
        self._current: _Channel | None = None
        self._before: tuple[int, int] | None = None
        self._data = False
        """True within data about programmes."""

    def take(self, time: Fraction, first: int, second: int) -> None:
        if 0x10 <= first <= 0x1F:
            self._data = False
            # Controls are sent twice; the repetition is none.
            repeated, self._before = self._before == (first, second), (first, second)
            if repeated:
                self._before = None
                return
            self._current = self.channels[first >> 3 & 1]
            self._current.control(time, first & 0x17, second)
            return
        if first == 0 and second == 0:
            self._before = None
            return
        self._before = None
        if 0 < first < 0x10:
            # Data about programmes, which 0x0F ends: only the second field has it.
            self._data = first != 0x0F and self.number == 1
            return
        if self._data or self._current is None:
            return
        for code in (first, second):
            if code >= 0x20:
                self._current.write(time, _STANDARD.get(code, chr(code)))


@dataclass(slots=True)
class _Screen:
    """What is shown from a time on."""

    time: Fraction
    rows: tuple[Row, ...]
    grows: bool
    """True where characters were added to what was shown before."""
    last: Fraction
    """Time of the last character that was added."""


class Screens:
    """What a channel shows over time. A text that grows is one screen from its beginning on."""

    def __init__(self, erased_after_seconds: int = ERASED_AFTER_SECONDS) -> None:
        self._erased_after = erased_after_seconds
        self._screens: list[_Screen] = []

    def show(self, time: Fraction, rows: tuple[Row, ...], *, grows: bool) -> None:
        """Show rows from ``time`` on; ``grows`` is True where only characters were added."""
        before = self._screens[-1] if self._screens else None
        if before is None:
            self._screens.append(_Screen(time, rows, grows, time))
        elif rows != before.rows:
            # A line may begin where the lines above have just rolled up.
            since = before.last if before.grows else before.time
            if grows and before.rows and time - since < _PAUSE:
                before.rows, before.last, before.grows = rows, time, True
            else:
                self._screens.append(_Screen(time, rows, grows, time))

    def captions(self) -> Iterator[Caption]:
        """Yield what was shown, each place of the screen by itself, in order of time."""
        for number, screen in enumerate(self._screens):
            end = screen.last + self._erased_after
            if number + 1 < len(self._screens):
                end = min(end, self._screens[number + 1].time)
            if end > screen.time:
                for block in _blocks(screen.rows):
                    yield Caption(screen.time, end, block)


@dataclass(slots=True)
class _Channel:
    mode: str = ""
    """``pop``, ``roll``, ``paint``, ``text``, or empty before the first command."""
    depth: int = 0
    """Rows that roll up."""
    shown: _Page = field(default_factory=dict)
    hidden: _Page = field(default_factory=dict)
    row: int = 15
    column: int = 0
    style: Style = Style()
    screens: Screens = field(default_factory=Screens)

    @property
    def page(self) -> _Page:
        return self.hidden if self.mode == "pop" else self.shown

    def write(self, time: Fraction, character: str) -> None:
        if self.mode in ("", "text"):
            return
        self.page.setdefault(self.row, {})[self.column] = (character, self.style)
        self.column = min(self.column + 1, COLUMNS - 1)
        self._show(time, grows=True)

    def control(self, time: Fraction, first: int, second: int) -> None:
        if second >= 0x40:
            self._preamble(time, first & 7, second)
        elif first == 0x11 and second >= 0x30:
            self.write(time, _SPECIAL[second & 15])
        elif first in (0x12, 0x13) and second >= 0x20:
            # It takes the place of the plain character before it, for simple decoders.
            self._back()
            self.write(time, _EXTENDED[first & 1][second & 31])
        elif first == 0x11 and second >= 0x20:
            self.style = _style(second & 15, self.style)
            self.write(time, " ")
        elif first in (0x14, 0x15) and 0x20 <= second <= 0x2F:
            self._command(time, second)
        elif first == 0x17 and 0x21 <= second <= 0x23:
            self.column = min(self.column + (second & 3), COLUMNS - 1)

    def _preamble(self, time: Fraction, rows: int, second: int) -> None:
        row = _PREAMBLE_ROWS[rows][second >> 5 & 1]
        if self.mode == "roll" and row != self.row:
            # The whole window moves.
            moved = {n + row - self.row: cells for n, cells in self.shown.items()}
            self.shown = {n: cells for n, cells in moved.items() if 1 <= n <= ROWS}
        code = second >> 1 & 15
        self.row = row
        self.column = 4 * (code & 7) if code >= 8 else 0
        self.style = Style(
            colour=_COLOURS[code] if code < 7 else "white",
            italic=code == 7,
            underlined=bool(second & 1),
        )
        if self.mode == "roll":
            self._show(time, grows=True)

    def _command(self, time: Fraction, code: int) -> None:
        match code:
            case 0x20:
                self.mode = "pop"
            case 0x21:
                self._back()
                self._show(time, grows=True)
            case 0x24:
                for column in range(self.column, COLUMNS):
                    self.page.get(self.row, {}).pop(column, None)
                self._show(time)
            case 0x25 | 0x26 | 0x27:
                self._roll(time, code - 0x23)
            case 0x29:
                self.mode = "paint"
            case 0x2A | 0x2B:
                self.mode = "text"
            case 0x2C:
                self.shown = {}
                self._show(time)
            case 0x2D if self.mode == "roll":
                top = self.row - self.depth + 1
                rolled = {n - 1: cells for n, cells in self.shown.items()}
                self.shown = {n: cells for n, cells in rolled.items() if max(1, top) <= n}
                self.column = 0
                self._show(time)
            case 0x2E:
                self.hidden = {}
            case 0x2F:
                self.mode = "pop"
                self.shown, self.hidden = self.hidden, self.shown
                self._show(time)
            case _:
                pass

    def _roll(self, time: Fraction, depth: int) -> None:
        if self.mode != "roll":
            self.shown, self.hidden = {}, {}
            self.row, self.column, self.style = ROWS, 0, Style()
            self._show(time)
        self.mode, self.depth = "roll", depth

    def _back(self) -> None:
        if self.mode in ("", "text"):
            return
        self.column = max(0, self.column - 1)
        self.page.get(self.row, {}).pop(self.column, None)

    def _show(self, time: Fraction, *, grows: bool = False) -> None:
        if self.mode == "pop" and grows:
            return
        self.screens.show(time, tuple(_rows(self.shown)), grows=grows)


def _style(code: int, before: Style) -> Style:
    """Return the style that a code within a row switches to."""
    if code >> 1 == 7:
        return Style(before.colour, italic=True, underlined=bool(code & 1))
    return Style(_COLOURS[code >> 1], underlined=bool(code & 1))


def _rows(page: _Page) -> Iterator[Row]:
    """Yield the rows of a page that have text, from the top, without space around it."""
    for number in sorted(page):
        cells = page[number]
        inked = [column for column, (text, _) in cells.items() if text.strip()]
        if not inked:
            continue
        runs: list[tuple[str, Style]] = []
        for column in range(min(inked), max(inked) + 1):
            text, style = cells.get(column, (" ", None))
            style = style or (runs[-1][1] if runs else Style())
            if runs and (runs[-1][1] == style or not text.strip()):
                runs[-1] = (runs[-1][0] + text, runs[-1][1])
            else:
                runs.append((text, style))
        yield Row(number, min(inked), tuple(runs))


def _blocks(rows: tuple[Row, ...]) -> Iterator[tuple[Row, ...]]:
    """Yield the runs of rows that follow each other without a gap."""
    block: list[Row] = []
    for row in rows:
        if block and row.number != block[-1].number + 1:
            yield tuple(block)
            block = []
        block.append(row)
    if block:
        yield tuple(block)
