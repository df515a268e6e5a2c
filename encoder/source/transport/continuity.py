"""Count the packets that a transport stream lacks, by the counters in those that are there."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from encoder.arrays import Int64
from encoder.source.transport.packets import (
    CLOCK_HZ,
    PIDS,
    WRAP,
    Packets,
    clock_references,
    layout_of,
    pes_starts,
    pids_of,
    read_packets,
)

_NULL = PIDS - 1  # packets without content
_MODULUS = 16
_CLOCK_STEP = 10 * CLOCK_HZ  # a clock that steps further was joined to another one
_USUAL_SHARE = 4  # a PID of which every fourth packet breaks the count is not counted at all


@dataclass(frozen=True, slots=True)
class TransportDamage:
    """What a transport stream lacks."""

    missing: int = 0
    """Packets that are missing, at least: gaps are counted modulo 16."""
    marked: int = 0
    """Packets that the receiver marked as damaged (transport_error_indicator)."""


@dataclass(slots=True)
class ContinuityCounter:
    """Finds the gaps in a stream, which is fed run by run."""

    _last: NDArray[np.int16] = field(default_factory=lambda: np.full(PIDS, -1, np.int16))
    _excused: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(PIDS, bool))
    _row: Int64 = field(default_factory=lambda: np.zeros(PIDS, np.int64))
    _packets: Int64 = field(default_factory=lambda: np.zeros(PIDS, np.int64))
    _marked: Int64 = field(default_factory=lambda: np.zeros(PIDS, np.int64))
    _timed: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(PIDS, bool))
    # Rows of PID, packet before, packet after, packets lost, and whether the count begins anew.
    _gaps: list[Int64] = field(default_factory=list)
    _clock: dict[int, tuple[int, int]] = field(default_factory=dict)
    _joins: list[tuple[int, int]] = field(default_factory=list)

    def feed(self, number: int, packets: Packets) -> None:
        """Take a run of packets, the first of which is ``number``."""
        self._find_joins(number, packets)
        pids = pids_of(packets)
        self._timed[np.unique(pes_starts(number, packets).pid)] = True
        self._marked += np.bincount(pids[packets[:, 1] & 0x80 != 0], minlength=PIDS)
        filled = packets[:, 3] & 0x10 != 0
        adapted = (packets[:, 3] & 0x20 != 0) & (packets[:, 4] > 0)
        announced = adapted & (packets[:, 5] & 0x80 != 0)  # discontinuity_indicator
        rows = np.flatnonzero((filled | announced) & (pids != _NULL))
        rows = rows[np.argsort(pids[rows], kind="stable")]
        if not len(rows):
            return
        pid, count = pids[rows], (packets[rows, 3] & 15).astype(np.int16)
        excused = announced[rows]
        first = np.concatenate([[True], pid[1:] != pid[:-1]])
        last = np.concatenate([pid[1:] != pid[:-1], [True]])
        before = np.where(first, self._last[pid], np.roll(count, 1))
        # An announcement in a packet without payload excuses the next packet as well.
        carried = excused & ~filled[rows]
        pardoned = np.where(first, self._excused[pid], np.roll(carried, 1)) | excused
        row_before = np.where(first, self._row[pid], np.roll(rows, 1) + number)
        step = (count - before) % _MODULUS
        # A step of 0 is a packet that was sent twice.
        broken = (before >= 0) & ~pardoned & filled[rows] & (step > 1)
        if broken.any():
            anew = (count == 0) & (packets[rows, 1] & 0x40 != 0)
            gaps = np.stack([pid, row_before, rows + number, step - 1, anew], axis=1)
            self._gaps.append(gaps[broken])
        self._packets += np.bincount(pid, minlength=PIDS)
        self._last[pid[last]] = count[last]
        self._excused[pid[last]] = carried[last]
        self._row[pid[last]] = rows[last] + number

    def found(self, pids: Set[int] | None = None) -> TransportDamage:
        """Return what the packets so far lack, of some PIDs or of all with pictures or sound."""
        chosen = self._timed.copy()
        if pids is not None:
            chosen &= np.isin(np.arange(PIDS), sorted(pids))
        marked = int(self._marked[chosen].sum())
        if not self._gaps:
            return TransportDamage(0, marked)
        pid, begin, end, lost, anew = np.concatenate(self._gaps).T
        counting = np.bincount(pid, minlength=PIDS) * _USUAL_SHARE < self._packets
        joins = np.array(self._joins, np.int64).reshape(-1, 2)
        # The first table begins anew, and with it the streams: written by another muxer.
        restarts = np.stack([begin, end], axis=1)[(pid == 0) & (anew != 0)]
        joined = _meet(joins, begin, end) | (_meet(restarts, begin, end) & (anew != 0))
        return TransportDamage(int(lost[(chosen & counting)[pid] & ~joined].sum()), marked)

    def _find_joins(self, number: int, packets: Packets) -> None:
        """Note between which packets a clock jumps: another recording begins there."""
        rows, times = clock_references(packets)
        pids = pids_of(packets[rows])
        for row, pid, time in zip(rows.tolist(), pids.tolist(), times.tolist(), strict=True):
            before = self._clock.get(pid)
            if before is not None and (time - before[1]) % WRAP > _CLOCK_STEP:
                self._joins.append((before[0], row + number))
            self._clock[pid] = (row + number, time)


def _meet(spans: Int64, begin: Int64, end: Int64) -> NDArray[np.bool_]:
    """Return which gaps, from packet to packet, overlap any of the spans, shape (spans, 2)."""
    before, after = spans[np.argsort(spans[:, 1])].T
    earliest = np.minimum.accumulate(before[::-1])[::-1]  # of the spans from each one on
    at = np.searchsorted(after, begin)
    met: NDArray[np.bool_] = np.append(earliest, np.iinfo(np.int64).max)[at] <= end
    return met


def transport_damage(path: Path, pids: Set[int] | None = None) -> TransportDamage:
    """Return what a file lacks as a transport stream: nothing where it is none.

    Args:
        path: the file.
        pids: packet identifiers to look at, those of all pictures and sound if None.
    """
    layout = layout_of(path)
    if layout is None:
        return TransportDamage()
    counter = ContinuityCounter()
    for number, packets in read_packets(path, layout):
        counter.feed(number, packets)
    return counter.found(pids)
