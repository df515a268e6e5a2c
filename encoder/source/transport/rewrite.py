"""Writing the packets of one programme as a stream of their own, with one PID for each lane."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encoder.arrays import Int64
from encoder.source.transport.packets import (
    Layout,
    Packets,
    clock_references,
    move_clock,
    move_times,
    pids_of,
    read_packets,
)
from encoder.source.transport.paths import LanePath
from encoder.source.transport.tables import ProgrammeMap, table_packets

_MAP_PID = 0x1000
_LAST_PID = 0x1FFE


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """What becomes of the units of a lane."""

    path: LanePath
    pid: int
    """PID of the lane in the new stream."""
    offset: Int64
    """(units,) ticks to add to the times of each unit."""
    segment: Int64
    """(units,) numbers that change where units are joined that did not follow each other."""
    dropped: NDArray[np.bool_]
    """(units,) True for units that are left out."""


def rewritten(
    path: Path,
    layout: Layout,
    programme: ProgrammeMap,
    tracks: Sequence[Track],
    clock_offset: Callable[[int, int], int] | None,
) -> Iterator[bytes]:
    """Yield the bytes of a stream that holds the units of ``tracks`` and nothing else.

    Args:
        path: file of the stream.
        layout: where its packets lie.
        programme: what the new stream announces.
        tracks: its lanes.
        clock_offset: returns the ticks to add to a clock reference, given the number of its packet
            and its value; None where none is moved.
    """
    used = {track.pid for track in tracks}
    map_pid = next(pid for pid in range(_MAP_PID, _LAST_PID) if pid not in used)
    tables = table_packets(replace(programme, clock_pid=programme.clock_pid), map_pid)
    counters = [_Counter() for _ in tracks]
    owners = _owners(tracks)
    for number, packets in read_packets(path, layout):
        changed = packets.copy()
        pids = pids_of(packets)
        kept = np.zeros(len(packets), bool)
        for track, counter in zip(tracks, counters, strict=True):
            kept |= _place(changed, number, pids, owners, (track, counter))
        if clock_offset is not None:
            rows, times = clock_references(changed)
            chosen = kept[rows]
            rows, times = rows[chosen], times[chosen]
            pairs = zip(rows.tolist(), times.tolist(), strict=True)
            moved = [time + clock_offset(number + row, time) for row, time in pairs]
            move_clock(changed, rows, np.array(moved, np.int64))
        yield tables + changed[kept].tobytes()


def _owners(tracks: Sequence[Track]) -> dict[int, tuple[Int64, Int64]]:
    """Return for each PID the packets in which units begin, and the lanes of the units."""
    rows = np.concatenate([track.path.starts.row for track in tracks])
    pids = np.concatenate([track.path.starts.pid for track in tracks])
    lanes = np.concatenate([np.full(len(t.path.starts.row), t.path.lane) for t in tracks])
    order = np.argsort(rows, kind="stable")
    rows, pids, lanes = rows[order], pids[order], lanes[order]
    return {pid: (rows[pids == pid], lanes[pids == pid]) for pid in np.unique(pids).tolist()}


def _place(
    changed: Packets,
    number: int,
    pids: Int64,
    owners: dict[int, tuple[Int64, Int64]],
    lane: tuple[Track, _Counter],
) -> NDArray[np.bool_]:
    """Rewrite the packets of a lane in place; return which of all packets they are."""
    track, counter = lane
    starts = track.path.starts
    candidates = np.flatnonzero(np.isin(pids, np.unique(starts.pid)))
    unit, pid = track.path.pid_at(candidates + number)
    mine = (unit >= 0) & (pid == pids[candidates])
    for each in np.unique(starts.pid).tolist():
        rows = np.flatnonzero(pids[candidates] == each)
        begun, lanes = owners[each]
        last = np.searchsorted(begun, candidates[rows] + number, side="right") - 1
        mine[rows] &= lanes[np.maximum(last, 0)] == track.path.lane
    mine[mine] = ~track.dropped[unit[mine]]
    rows, unit = candidates[mine], unit[mine]
    begins = starts.row[unit] == rows + number
    moved = begins & (track.offset[unit] != 0)
    move_times(changed, rows[moved], track.offset[unit[moved]])
    changed[rows, 1] = (changed[rows, 1] & 0xE0) | track.pid >> 8
    changed[rows, 2] = track.pid & 0xFF
    counter.renumber(changed, rows, track.segment[unit])
    kept = np.zeros(len(changed), bool)
    kept[rows] = True
    return kept


class _Counter:
    """Continuity counters of a lane: they go on where segments are joined."""

    def __init__(self) -> None:
        self._segment = -1
        self._shift = 0
        self._last = -1

    def renumber(self, packets: Packets, rows: Int64, segment: Int64) -> None:
        """Renumber the packets in ``rows``, which belong to the given segments."""
        for number in np.unique(segment).tolist():
            mine = rows[segment == number]
            counts = packets[mine, 3] & 0x0F
            if number != self._segment:
                # The first packet of a segment begins a unit, so it has a payload.
                self._segment = number
                self._shift = 0 if self._last < 0 else self._last + 1 - int(counts[0])
            fresh = (counts.astype(np.int64) + self._shift) & 0x0F
            packets[mine, 3] = (packets[mine, 3] & 0xF0) | fresh.astype(np.uint8)
            self._last = int(fresh[-1])
