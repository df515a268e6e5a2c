"""Which packets form each lane of a programme: units accepted one after another. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from encoder.arrays import Int64
from encoder.source.transport.clock import difference
from encoder.source.transport.packets import CLOCK_HZ, NO_TIME, PesStarts

_UNTIL_ENTRY_SECONDS = 5.0  # in which pictures have to state where decoding can begin
_LEADING_UNITS = 64
_COMPENSATED_SECONDS = 0.1  # ffmpeg's aresample removes or fills what is longer


@dataclass(frozen=True, slots=True, eq=False)
class LanePath:
    """The coded units of a lane, in the order of the file."""

    lane: int
    starts: PesStarts
    """Where its units begin, whatever their PID."""

    def pid_at(self, rows: Int64) -> tuple[Int64, Int64]:
        """Return the unit that each packet may continue, and the PID that it must have to do so.

        Before the first unit the number is -1.
        """
        unit = np.searchsorted(self.starts.row, rows, side="right") - 1
        return unit, np.where(unit < 0, -1, self.starts.pid[np.maximum(unit, 0)])


def trace(
    starts: PesStarts, map_rows: Sequence[int], lane_of: Sequence[dict[int, int]], lane: int
) -> LanePath:
    """Return the units of a lane.

    Tables may come a little before or after the change that they announce, so a unit that the map
    of its place does not list counts where it is the map before or after that lists it, and no
    other unit of the lane lies between it and that map's stretch.
    """
    pids = {pid for table in lane_of for pid, each in table.items() if each == lane}
    mine = starts[np.isin(starts.pid, list(pids))]
    place = np.maximum(np.searchsorted(np.array(map_rows), mine.row, side="right") - 1, 0)
    listed = [{pid for pid, each in table.items() if each == lane} for table in lane_of]
    elsewhere = [{pid for pid, each in table.items() if each != lane} for table in lane_of]
    accepted = np.zeros(len(mine.row), bool)
    for number in range(len(lane_of)):
        units = np.flatnonzero(place == number)
        if not len(units):
            continue
        pid = mine.pid[units]
        official = np.isin(pid, list(listed[number]))
        accepted[units] = official
        first = units[official][0] if official.any() else units[-1] + 1
        last = units[official][-1] if official.any() else units[0] - 1
        stray = units[~official & ~np.isin(pid, list(elsewhere[number]))]
        for other, side in ((number - 1, stray < first), (number + 1, stray > last)):
            if 0 <= other < len(listed):
                chosen = stray[side]
                accepted[chosen] |= np.isin(mine.pid[chosen], list(listed[other]))
    return LanePath(lane, mine[accepted])


def undecodable(path: LanePath, segment: Int64) -> NDArray[np.bool_]:
    """Return which pictures at the beginning of each segment but the first need others before it.

    These are the units before the first one where the stream states that decoding can begin, and
    those after it that are shown before it. Streams that state nothing keep all units.
    """
    dropped = np.zeros(len(segment), bool)
    starts = path.starts
    for number in range(1, int(segment.max(initial=0)) + 1):
        units = np.flatnonzero(segment == number)
        entries = units[starts.random_access[units]]
        if not len(entries):
            continue
        entry = int(entries[0])
        before, shown = int(starts.dts[units[0]]), int(starts.pts[entry])
        if NO_TIME in (before, shown):
            continue
        if difference(int(starts.dts[entry]), before) > _UNTIL_ENTRY_SECONDS * CLOCK_HZ:
            continue
        dropped[units[units < entry]] = True
        for unit in units[(units > entry) & (units <= entry + _LEADING_UNITS)].tolist():
            time = int(starts.pts[unit])
            dropped[unit] = time != NO_TIME and difference(time, shown) < 0
    return dropped


def overlapping(times: Int64, segment: Int64) -> NDArray[np.bool_]:
    """Return which units of sound at the beginnings of segments repeat time that has passed.

    Encoders begin and end their sound some milliseconds before and after the pictures. Resampling
    only removes what adds up to a tenth of a second, so sound would come later with every segment.

    Args:
        times: presentation times in ticks of the new stream, :data:`~.packets.NO_TIME` without one.
        segment: number of the segment of each unit.
    """
    dropped = np.zeros(len(times), bool)
    known = np.flatnonzero(times != NO_TIME)
    steps = np.diff(times[known])
    steps = steps[steps > 0]
    if not len(steps):
        return dropped
    step = float(np.median(steps))
    late, last = 0.0, int(known[0])  # what is decoded runs late by this many ticks
    for unit in known[1:].tolist():
        if segment[unit] != segment[last]:
            after = late + step - difference(int(times[unit]), int(times[last]))
            if abs(after) > _COMPENSATED_SECONDS * CLOCK_HZ:
                after = 0.0
            elif after > step / 2:
                dropped[unit] = True
                continue
            late = after
        last = unit
    return dropped


def segments(pid: Int64, epoch: Int64) -> Int64:
    """Return the number of the segment of each unit; a change of PID or of epoch begins one."""
    if not len(pid):
        return np.zeros(0, np.int64)
    begins = (np.diff(pid) != 0) | (np.diff(epoch) != 0)
    return np.concatenate([[0], np.cumsum(begins)]).astype(np.int64)
