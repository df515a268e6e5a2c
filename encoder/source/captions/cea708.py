"""Decode CEA-708 captions (ANSI/CTA-708-E) to texts with times and places. Pure.

Packets of CEA-708 carry up to 63 services, each with eight windows of text. What the visible
windows of a service show at a time are its captions. Colours, sizes and delays are not decoded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction

from encoder.source.captions.cea608 import COLUMNS, ROWS, Caption, Row, Screens, Style

_WINDOWS = 8
# Parameters that follow the codes 0x88 to 0x97; 0x98 to 0x9F have six, those before none.
_PARAMETERS = dict.fromkeys(range(136, 142), 1) | {0x90: 2, 0x91: 3, 0x92: 2, 0x97: 4}
_G2 = {
    0x20: " ", 0x21: "\N{NO-BREAK SPACE}", 0x25: "…", 0x2A: "Š", 0x2C: "Œ", 0x30: "█", 0x31: "‘",
    0x32: "’", 0x33: "“", 0x34: "”", 0x35: "•", 0x39: "™", 0x3A: "š", 0x3C: "œ", 0x3D: "℠",
    0x3F: "Ÿ", 0x76: "⅛", 0x77: "⅜", 0x78: "⅝", 0x79: "⅞", 0x7A: "│", 0x7B: "┐", 0x7C: "└",
    0x7D: "─", 0x7E: "┘", 0x7F: "┌",
}  # fmt: skip


def decode(pairs: Iterable[tuple[Fraction, bool, int, int]]) -> dict[int, tuple[Caption, ...]]:
    """Decode pairs of bytes in order of their time; return the services that have captions.

    ``pairs`` are a time in seconds, True where a packet starts, and two bytes.
    """
    services: dict[int, _Service] = {}
    for time, packet in _packets(pairs):
        for number, block in _blocks(packet):
            services.setdefault(number, _Service()).take(time, block)
    found = {number: tuple(each.screens.captions()) for number, each in sorted(services.items())}
    return {number: captions for number, captions in found.items() if captions}


def _packets(pairs: Iterable[tuple[Fraction, bool, int, int]]) -> Iterator[tuple[Fraction, bytes]]:
    """Yield each complete packet with the time of its last byte."""
    packet, size = bytearray(), 0
    for time, starts, first, second in pairs:
        if starts:
            packet, size = bytearray(), 2 * (first & 0x3F) or 128
        if not size:
            continue
        packet += bytes((first, second))
        if len(packet) >= size:
            yield time, bytes(packet[:size])
            size = 0


def _blocks(packet: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the number and the content of every block of a service in a packet."""
    at = 1
    while at < len(packet):
        service, size = packet[at] >> 5, packet[at] & 0x1F
        at += 1
        if not size:
            return
        if service == 7 and at < len(packet):
            service = packet[at] & 0x3F
            at += 1
        if service:
            yield service, packet[at : at + size]
        at += size


@dataclass(slots=True)
class _Window:
    visible: bool
    relative: bool
    vertical: int
    """Place of the anchor: of 75 rows, or per cent of the height."""
    horizontal: int
    """Place of the anchor: of 210 columns, or per cent of the width."""
    anchor: int
    """Point of the window that is at that place, 0 to 8 from the top left, by rows."""
    height: int
    """Rows of text."""
    row: int = 0
    column: int = 0
    style: Style = field(default_factory=Style)
    cells: dict[tuple[int, int], tuple[str, Style]] = field(default_factory=dict)

    def rows(self) -> Iterator[Row]:
        """Yield the rows of text where they are on the screen of CEA-608."""
        lines: list[tuple[int, str, list[tuple[str, Style]]]] = []
        for number in sorted({row for row, _ in self.cells}):
            inked = [c for (r, c), (text, _) in self.cells.items() if r == number and text.strip()]
            if not inked:
                continue
            places = range(min(inked), max(inked) + 1)
            runs: list[tuple[str, Style]] = []
            for column in places:
                text, style = self.cells.get((number, column), (" ", Style()))
                if runs and (runs[-1][1] == style or not text.strip()):
                    runs[-1] = (runs[-1][0] + text, runs[-1][1])
                else:
                    runs.append((text, style))
            lines.append((min(inked), "".join(text for text, _ in runs), runs))
        share = Fraction(self.vertical, 100 if self.relative else 75)
        top = int(share * ROWS) + 1
        if self.anchor > 2:
            top = round(share * ROWS) - len(lines) // (1 if self.anchor > 5 else 2) + 1
        top = min(max(top, 1), ROWS - len(lines) + 1)
        across = Fraction(self.horizontal, 100 if self.relative else 210) * COLUMNS
        for number, (first, text, runs) in enumerate(lines, max(1, top)):
            column = int(across) + first
            if self.anchor % 3:
                column = int(across) - len(text) // (1 if self.anchor % 3 == 2 else 2)
            column = min(max(column, 0), max(0, COLUMNS - len(text)))
            yield Row(min(number, ROWS), column, tuple(runs))


@dataclass(slots=True)
class _Service:
    windows: list[_Window | None] = field(default_factory=lambda: [None] * _WINDOWS)
    current: int = 0
    screens: Screens = field(default_factory=lambda: Screens(erased_after_seconds=24 * 3600))
    grows: bool = True
    """True while a block only adds characters."""

    def take(self, time: Fraction, block: bytes) -> None:
        self.grows = True
        at = 0
        while at < len(block):
            at += self._code(block[at], block[at + 1 : at + 8])
        rows = [row for each in self.windows if each and each.visible for row in each.rows()]
        rows.sort(key=lambda row: (row.number, row.column))
        self.screens.show(time, tuple(rows), grows=self.grows)

    def _code(self, code: int, after: bytes) -> int:
        """Obey a code; return how many bytes it and its parameters take."""
        if code < 0x20:
            return self._control(code, after)
        if 0x80 <= code < 0xA0:
            return self._command(code, after)
        self._write("♪" if code == 0x7F else chr(code))
        return 1

    def _control(self, code: int, after: bytes) -> int:
        window = self.windows[self.current]
        if code == 0x10:
            return 1 + self._extended(after)
        if code == 0x18 and len(after) > 1:
            self._write(chr(after[0] << 8 | after[1]))
        elif window is not None and code in (0x08, 0x0C, 0x0D, 0x0E):
            self.grows = False
            if code == 0x08:
                window.column = max(0, window.column - 1)
                window.cells.pop((window.row, window.column), None)
            elif code == 0x0C:
                window.cells, window.row, window.column = {}, 0, 0
            elif code == 0x0D:
                _new_line(window)
            else:
                window.cells = {k: v for k, v in window.cells.items() if k[0] != window.row}
                window.column = 0
        return 1 + (code > 0x10) + (code > 0x17)

    def _extended(self, after: bytes) -> int:
        code = after[0] if after else 0
        if 0x20 <= code < 0x80:
            self._write(_G2.get(code, "_"))
        if code < 0x20:
            return 1 + code // 8
        if 0x80 <= code < 0x90:
            return 5 + (code > 0x87)
        if 0x90 <= code < 0xA0:
            return 2 + (after[1] & 0x3F if len(after) > 1 else 0)
        return 1

    def _command(self, code: int, after: bytes) -> int:
        if code < 0x88:
            self.current = code & 7
            return 1
        if code >= 0x98:
            if len(after) > 5:
                self._define(code & 7, after)
            return 7
        size = _PARAMETERS.get(code, 0)
        if len(after) < size:
            return 1 + size
        window = self.windows[self.current]
        if 0x88 <= code <= 0x8C or code == 0x8F:
            self.grows = False
            mask = 0xFF if code == 0x8F else after[0]
            for number in range(_WINDOWS):
                if mask >> number & 1:
                    self._change(code, number)
        elif code == 0x90 and window is not None:
            window.style = Style(italic=bool(after[1] & 0x80), underlined=bool(after[1] & 0x40))
        elif code == 0x92 and window is not None:
            window.row, window.column = after[0] & 15, after[1] & 63
        return 1 + size

    def _change(self, code: int, number: int) -> None:
        window = self.windows[number]
        if window is None:
            return
        if code == 0x88:
            window.cells, window.row, window.column = {}, 0, 0
        elif code in (0x8C, 0x8F):
            self.windows[number] = None
        else:
            window.visible = code == 0x89 or (code == 0x8B and not window.visible)

    def _define(self, number: int, after: bytes) -> None:
        self.grows = False
        self.current = number
        made = _Window(
            visible=bool(after[0] & 0x20),
            relative=bool(after[1] & 0x80),
            vertical=after[1] & 0x7F,
            horizontal=after[2],
            anchor=min(after[3] >> 4, 8),
            height=(after[3] & 15) + 1,
        )
        before = self.windows[number]
        if before is not None:
            # A window that is defined again keeps its text.
            made = replace(
                made,
                row=before.row,
                column=before.column,
                style=before.style,
                cells=before.cells,
            )
        self.windows[number] = made

    def _write(self, character: str) -> None:
        window = self.windows[self.current]
        if window is not None and character.isprintable():
            window.cells[window.row, window.column] = (character, window.style)
            window.column = min(window.column + 1, COLUMNS - 1)


def _new_line(window: _Window) -> None:
    window.column = 0
    if window.row + 1 < window.height:
        window.row += 1
        return
    window.cells = {(r - 1, c): cell for (r, c), cell in window.cells.items() if r}
