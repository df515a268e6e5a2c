"""The packets of a transport stream as rows of bytes, and the times in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from encoder.arrays import Int64

PACKET = 188
"""Bytes of a transport packet."""
CLOCK_HZ = 90_000
"""Ticks per second of presentation and decoding times."""
WRAP = 1 << 33
"""Times are counted modulo this number of ticks."""
PIDS = 1 << 13
"""Number of packet identifiers."""
NO_TIME = -1
"""Stands for a time that a packet does not have."""

_SYNC = 0x47
_STRIDES = (PACKET, 192, 204)  # as broadcast, with a time of arrival (M2TS), with error correction
_SEARCHED_BYTES = 1 << 20
_SYNCED_PACKETS = 8
_CHUNK_PACKETS = 1 << 15

Packets = NDArray[np.uint8]
"""(packets, 188) transport packets."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the packets of a file lie."""

    start: int
    """Offset of the first packet's synchronisation byte."""
    stride: int
    """Bytes from one packet to the next."""


def find_layout(head: bytes) -> Layout | None:
    """Return where packets lie in a file that begins with ``head``, None without packets."""
    found = np.frombuffer(head, np.uint8) == _SYNC
    best: Layout | None = None
    for stride in _STRIDES:
        span = stride * (_SYNCED_PACKETS - 1)
        if len(found) <= span:
            continue
        synced = np.ones(len(found) - span, bool)
        for number in range(_SYNCED_PACKETS):
            synced &= found[number * stride : len(found) - span + number * stride]
        starts = np.flatnonzero(synced)
        if len(starts) and (best is None or starts[0] < best.start):
            best = Layout(int(starts[0]), stride)
    return best


def layout_of(path: Path) -> Layout | None:
    """Return where the packets of a file lie, None where it is no transport stream."""
    with path.open("rb") as file:
        return find_layout(file.read(_SEARCHED_BYTES))


def read_packets(path: Path, layout: Layout) -> Iterator[tuple[int, Packets]]:
    """Yield runs of packets with the number of their first one; bytes out of step are skipped."""
    number = 0
    with path.open("rb") as file:
        file.seek(layout.start)
        rest = b""
        while block := file.read(_CHUNK_PACKETS * layout.stride):
            data = rest + block
            rows, used = _in_step(data, layout.stride)
            rest = data[used:]
            if len(rows):
                yield number, rows
                number += len(rows)
        if len(rest) >= PACKET and rest[0] == _SYNC:
            yield number, np.frombuffer(rest[:PACKET], np.uint8).reshape(1, PACKET)


def _in_step(data: bytes, stride: int) -> tuple[Packets, int]:
    """Return the packets in ``data`` and the number of bytes that need not be seen again."""
    whole = len(data) // stride
    rows = np.frombuffer(data, np.uint8, whole * stride).reshape(whole, stride)
    if (rows[:, 0] == _SYNC).all():
        return rows[:, :PACKET], whole * stride
    kept: list[Packets] = []
    at = 0
    while at + stride <= len(data):
        rows = np.frombuffer(data, np.uint8, (len(data) - at) // stride * stride, at)
        rows = rows.reshape(-1, stride)
        wrong = np.flatnonzero(rows[:, 0] != _SYNC)
        good = int(wrong[0]) if len(wrong) else len(rows)
        kept.append(rows[:good, :PACKET])
        at += good * stride
        if not len(wrong):
            break
        # The next byte from which two packets follow each other.
        found = at + 1
        while (found := data.find(b"\x47", found)) >= 0:
            if found + stride >= len(data) or data[found + stride] == _SYNC:
                break
            found += 1
        at = len(data) if found < 0 else found
    return np.concatenate(kept) if kept else rows[:0, :PACKET], at


def pids_of(packets: Packets) -> Int64:
    """Return the packet identifier of each packet."""
    return ((packets[:, 1] & 0x1F).astype(np.int64) << 8) | packets[:, 2]


def payload_offsets(packets: Packets) -> Int64:
    """Return where the payload of each packet begins; 188 for packets without one."""
    control = packets[:, 3] >> 4 & 3
    offsets = np.where(control & 2, 5 + packets[:, 4].astype(np.int64), 4)
    return np.where(control & 1, np.minimum(offsets, PACKET), PACKET)


@dataclass(frozen=True, slots=True, eq=False)
class PesStarts:
    """Packets in which the coded units of elementary streams (PES packets) begin."""

    row: Int64
    """Numbers of the packets."""
    pid: Int64
    pts: Int64
    """Presentation times in ticks, :data:`NO_TIME` without one."""
    dts: Int64
    """Decoding times in ticks: the presentation time where no other is stated."""
    random_access: NDArray[np.bool_]
    """True where the stream states that decoding can begin."""
    has_dts: NDArray[np.bool_]
    """True where a decoding time of its own is stated."""

    def __getitem__(self, chosen: Any) -> PesStarts:
        columns = (self.row, self.pid, self.pts, self.dts, self.random_access, self.has_dts)
        return PesStarts(*(column[chosen] for column in columns))


def pes_starts(number: int, packets: Packets) -> PesStarts:
    """Return the packets of a run, the first of which is ``number``, that begin a PES packet."""
    offsets = payload_offsets(packets)
    clear = (packets[:, 1] & 0x40 != 0) & (packets[:, 3] & 0xC0 == 0) & (offsets <= PACKET - 9)
    rows = np.flatnonzero(clear)
    at, chosen = offsets[rows], packets[rows]
    prefix = (_byte(chosen, at) == 0) & (_byte(chosen, at + 1) == 0) & (_byte(chosen, at + 2) == 1)
    # Streams with an optional header: private 1, audio, video, extended.
    kind = _byte(chosen, at + 3)
    timed = (kind == 0xBD) | ((kind >= 0xC0) & (kind <= 0xEF)) | (kind == 0xFD)
    keep = prefix & timed
    rows, at, chosen = rows[keep], at[keep], chosen[keep]
    flags = _byte(chosen, at + 7) >> 6
    has_pts = (flags & 2 != 0) & (at + 14 <= PACKET)
    has_dts = (flags == 3) & (at + 19 <= PACKET)
    pts = np.where(has_pts, _time(chosen, at + 9), NO_TIME)
    dts = np.where(has_dts, _time(chosen, at + 14), pts)
    adapted = (chosen[:, 3] & 0x20 != 0) & (chosen[:, 4] > 0)
    return PesStarts(
        row=rows + number,
        pid=pids_of(chosen),
        pts=pts,
        dts=dts,
        random_access=adapted & (chosen[:, 5] & 0x40 != 0),
        has_dts=has_dts,
    )


def joined(parts: list[PesStarts]) -> PesStarts:
    """Return the starts of several runs as one."""
    names = ("row", "pid", "pts", "dts", "random_access", "has_dts")
    return PesStarts(*(np.concatenate([getattr(each, name) for each in parts]) for name in names))


def _byte(packets: Packets, at: Int64) -> Int64:
    """Return one byte of each packet."""
    places = np.minimum(at, PACKET - 1)
    return packets[np.arange(len(packets)), places].astype(np.int64)


def _time(packets: Packets, at: Int64) -> Int64:
    b = [_byte(packets, at + number) for number in range(5)]
    return (b[0] >> 1 & 7) << 30 | b[1] << 22 | b[2] >> 1 << 15 | b[3] << 7 | b[4] >> 1


def move_times(packets: Packets, rows: Int64, offsets: Int64) -> None:
    """Add ticks to the PTS and DTS in the PES packets that begin in ``rows`` of ``packets``."""
    chosen = packets[rows]
    at = payload_offsets(chosen)
    flags = _byte(chosen, at + 7) >> 6
    for places, there in (
        (at + 9, (flags & 2 != 0) & (at + 14 <= PACKET)),
        (at + 14, (flags == 3) & (at + 19 <= PACKET)),
    ):
        written, place = rows[there], places[there]
        time = (_time(packets[written], place) + offsets[there]) % WRAP
        first = packets[written, place] & 0xF1
        packets[written, place] = first | (time >> 30 << 1).astype(np.uint8)
        packets[written, place + 1] = time >> 22 & 0xFF
        packets[written, place + 2] = (time >> 14 & 0xFE) | 1
        packets[written, place + 3] = time >> 7 & 0xFF
        packets[written, place + 4] = (time << 1 & 0xFE) | 1


def clock_references(packets: Packets) -> tuple[Int64, Int64]:
    """Return the rows of ``packets`` that state the programme clock, and what they state, ticks."""
    there = (packets[:, 3] & 0x20 != 0) & (packets[:, 4] >= 7) & (packets[:, 5] & 0x10 != 0)
    rows = np.flatnonzero(there)
    b = packets[rows, 6:11].astype(np.int64)
    return rows, b[:, 0] << 25 | b[:, 1] << 17 | b[:, 2] << 9 | b[:, 3] << 1 | b[:, 4] >> 7


def move_clock(packets: Packets, rows: Int64, times: Int64) -> None:
    """Write programme clock references, ticks, to rows that :func:`clock_references` found."""
    time = times % WRAP
    for place, shift in enumerate((25, 17, 9, 1)):
        packets[rows, 6 + place] = time >> shift & 0xFF
    packets[rows, 10] = (packets[rows, 10] & 0x7F) | (time << 7 & 0x80).astype(np.uint8)
