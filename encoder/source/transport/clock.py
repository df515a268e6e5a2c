"""The clock of a programme: where it jumps, and what has to be added so that it does not. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from encoder.arrays import Int64
from encoder.source.transport.packets import CLOCK_HZ, NO_TIME, WRAP

AHEAD_SECONDS = 10
"""Steps ahead up to this long are gaps in a recording, over which the last picture is held."""
_REORDERED_SECONDS = 1.0  # steps back of presentation times, where no decoding times are stated
_SKEW_SECONDS = 3.0  # that units of one time may lie apart in the file
_NEAR = AHEAD_SECONDS * CLOCK_HZ
_USUAL_STEP = CLOCK_HZ // 25


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """Coded units of the pictures and sounds of a programme, in the order of the file."""

    stream: Int64
    """Number of the stream that each belongs to."""
    time: Int64
    """Decoding times in ticks, :data:`~.packets.NO_TIME` without one."""
    shown: Int64
    """Presentation times in ticks."""
    jitter: Sequence[float]
    """By stream, seconds by which times may step back within one clock."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """A stretch over which the clock runs on."""

    first: int
    """Time of the first unit, ticks."""
    offset: int
    """Ticks to add to its times."""
    jump: int
    """Ticks by which the clock jumps where the epoch begins; 0 for the first one."""
    begins: int
    """Number of its first picture."""
    latest: int
    """Latest time of a unit, ticks."""


def jitter_of(*, states_decoding: bool) -> float:
    """Return the seconds by which the times of a stream may step back within one clock."""
    return 0.0 if states_decoding else _REORDERED_SECONDS


def difference(now: int, before: int) -> int:
    """Return the ticks from one time to another, at most half the range either way."""
    return (now - before + WRAP // 2) % WRAP - WRAP // 2


def find_epochs(units: Units, pictures: int) -> Int64:
    """Return for each unit the number of the stretch of the clock that it belongs to.

    A new stretch begins where all streams step ahead by more than :data:`AHEAD_SECONDS`, or back.
    A stream that alone has no units for a while begins none. Units without a time belong to the
    stretch of the unit before in their stream.

    Args:
        units: the coded units.
        pictures: number of the stream of pictures.
    """
    walk = _Walk(units)
    of_unit = walk.run()
    merged = _confirmed(units, of_unit, walk, pictures)
    return np.unique(merged, return_inverse=True)[1].astype(np.int64)


class _Walk:
    """One pass over the units."""

    def __init__(self, units: Units) -> None:
        self.units = units
        self.usual = [_usual_step(units, stream) for stream in range(len(units.jitter))]
        self.first: list[int] = []
        """Time of the first unit of each epoch."""
        self.latest: list[int] = []
        """Latest time of each epoch."""
        self.before: list[int] = []
        """Time before each epoch in the stream that began it."""

    def run(self) -> Int64:
        """Return the epoch of each unit."""
        units = self.units
        streams, times = units.stream.tolist(), units.time.tolist()
        following = _following(units)
        epoch: dict[int, int] = {}
        last: dict[int, int] = {}
        result = np.zeros(len(streams), np.int64)
        for number, (stream, time) in enumerate(zip(streams, times, strict=True)):
            now = epoch.get(stream)
            if time == NO_TIME:
                result[number] = max(0, len(self.first) - 1) if now is None else now
                continue
            if now is None:
                now = self._place(time, 0, time)
            elif self._is_damage(stream, last[stream], time, following[number]):
                result[number] = now
                continue
            elif not self.runs_on(stream, last[stream], time):
                ahead = difference(time, last[stream]) > 0
                now = self._place(time, now + (not ahead), last[stream])
            else:
                now = self._latest_that_fits(time, now)
            epoch[stream], last[stream] = now, time
            if difference(time, self.latest[now]) > 0:
                self.latest[now] = time
            result[number] = now
        return result

    def _is_damage(self, stream: int, before: int, time: int, after: int | None) -> bool:
        """Return True for one time that is wrong among times that run on."""
        if after is None or not self.runs_on(stream, before, after):
            return False
        if self.units.jitter[stream] > 0:
            return not self.runs_on(stream, before, time)
        # Two units lie between; where recordings overlap, fewer.
        spans = difference(after, before) > 1.5 * self.usual[stream]
        return spans and not 0 < difference(time, before) < difference(after, before)

    def _latest_that_fits(self, time: int, now: int) -> int:
        """Return the last epoch that others have begun and that the time fits as well."""
        for number in range(len(self.first) - 1, now, -1):
            skew = _SKEW_SECONDS * CLOCK_HZ
            begins = difference(time, self.first[number]) >= -skew
            if begins and difference(time, self.latest[number]) <= skew:
                return number
        return now

    def runs_on(self, stream: int, before: int, now: int) -> bool:
        """Return True where one time of a stream can follow another without a jump."""
        step, jitter = difference(now, before), self.units.jitter[stream] * CLOCK_HZ
        return (step > 0 or -jitter <= step < 0) and step <= _NEAR

    def _place(self, time: int, earliest: int, before: int) -> int:
        """Return the epoch that ``time`` belongs to, a new one where it fits none."""
        for number in range(earliest, len(self.first)):
            begins = difference(time, self.first[number]) >= -_NEAR
            if begins and difference(time, self.latest[number]) <= _NEAR:
                return number
        self.first.append(time)
        self.latest.append(time)
        self.before.append(before)
        return len(self.first) - 1


def _usual_step(units: Units, stream: int) -> int:
    times = units.time[(units.stream == stream) & (units.time != NO_TIME)]
    steps = np.diff(times)
    steps = steps[steps > 0]
    return int(np.median(steps)) if len(steps) else _USUAL_STEP


def _following(units: Units) -> list[int | None]:
    """Return the next time in the stream of each unit."""
    following: list[int | None] = [None] * len(units.stream)
    later: dict[int, int] = {}
    streams, times = units.stream.tolist(), units.time.tolist()
    for number in range(len(streams) - 1, -1, -1):
        following[number] = later.get(streams[number])
        if times[number] != NO_TIME:
            later[streams[number]] = times[number]
    return following


def _confirmed(units: Units, of_unit: Int64, walk: _Walk, pictures: int) -> Int64:
    """Join epochs that pictures do not begin, or that other streams run on over."""
    result = of_unit.copy()
    joins = list(range(len(walk.first)))  # the epoch that each belongs to
    for number in range(1, len(walk.first)):
        begins = np.flatnonzero(of_unit == number)
        if not len(begins):
            continue
        after = np.flatnonzero(units.time != NO_TIME)
        after = after[after > begins[0]]
        behind = after[result[after] < number]
        late = [difference(t, walk.before[number]) for t in units.time[behind].tolist()]
        runs_over = any(time > _SKEW_SECONDS * CLOCK_HZ for time in late)
        mine = begins[(units.stream[begins] == pictures) & (units.time[begins] != NO_TIME)]
        earlier = np.flatnonzero((units.stream == pictures) & (units.time != NO_TIME))
        if len(mine):
            earlier = earlier[earlier < mine[0]]
            before, now = int(units.time[earlier[-1]]) if len(earlier) else None, mine[0]
            goes_on = before is not None and walk.runs_on(pictures, before, int(units.time[now]))
        else:
            goes_on = bool((units.stream[behind] == pictures).any())
        if runs_over or goes_on:
            joins[number] = joins[number - 1]
            result[begins] = joins[number]
    return result


def place_epochs(units: Units, of_unit: Int64, pictures: int) -> list[Epoch]:
    """Return the stretches that units belong to, moved so that pictures go on without a gap.

    Units that are not shown (:attr:`Units.shown` without a time, :attr:`Units.time` with one) do
    not count. Where some pictures state no time at all, decoding times tell where stretches end:
    they pass by one picture at a time.
    """
    own = (units.stream == pictures) & ((units.time == NO_TIME) | (units.shown != NO_TIME))
    sparse = units.jitter[pictures] == 0 and bool((units.time[own] == NO_TIME).any())
    epochs: list[Epoch] = []
    offset, after = 0, 0.0  # where pictures would go on, as the file counts
    for number in range(int(of_unit.max(initial=-1)) + 1):
        members = np.flatnonzero((of_unit == number) & (units.time != NO_TIME))
        if not len(members):  # only units without a time, at the beginning of the file
            epochs.append(Epoch(0, offset, 0, 0, 0))
            continue
        first = int(units.time[members[0]])
        mine = np.flatnonzero(own & (of_unit == number))
        timed = mine[units.time[mine] != NO_TIME]
        chosen = timed if len(timed) else members
        if sparse and len(timed):
            begin, end = _decoded_span(units, mine, first)
        else:
            begin, end = _shown_span(units, chosen, first)
        jump = 0
        if number:
            jump = difference(round(first + begin), round(after))
            offset -= jump
        after = first + end
        latest = first + max(difference(t, first) for t in units.time[members].tolist())
        epochs.append(Epoch(first, offset, jump, int(chosen[0]), latest))
    return epochs


def _shown_span(units: Units, chosen: Int64, first: int) -> tuple[float, float]:
    """Return when the first unit is shown and when one after the last would be."""
    shown = np.where(units.shown == NO_TIME, units.time, units.shown)[chosen]
    times = sorted(difference(t, first) for t in shown.tolist())
    steps = np.diff(times)
    steps = steps[steps > 0]
    step = float(np.median(steps)) if len(steps) else _USUAL_STEP
    return times[0], times[-1] + step


def _decoded_span(units: Units, mine: Int64, first: int) -> tuple[float, float]:
    """Return when the first picture is decoded and when one after the last would be."""
    places = np.flatnonzero(units.time[mine] != NO_TIME)
    times = np.array([difference(t, first) for t in units.time[mine[places]].tolist()])
    steps = np.diff(times) / np.diff(places)
    steps = steps[steps > 0]
    step = float(np.median(steps)) if len(steps) else _USUAL_STEP
    begin = float(times[0] - places[0] * step)
    return begin, float(times[-1] + (len(mine) - places[-1]) * step)


def offset_at(epochs: Sequence[Epoch], unit: int, time: int) -> int:
    """Return what to add to a time that lies after unit number ``unit`` in the file.

    Data that goes with pictures may lie a little before or after them, so the epoch whose times fit
    best counts; of several, the one nearest in the file.
    """

    def misfit(epoch: Epoch) -> tuple[int, int]:
        before = max(0, difference(epoch.first, time))
        after = max(0, difference(time, epoch.latest))
        fits = max(before, after) <= _NEAR
        return (0 if fits else max(before, after)), abs(unit - epoch.begins)

    return min(epochs, key=misfit).offset
