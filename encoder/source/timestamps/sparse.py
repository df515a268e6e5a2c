"""Times for pictures of which only some state one. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def rising(times: Sequence[int | None]) -> list[int]:
    """Return the places of the longest run of known times that rises; others are damaged."""
    tails: list[int] = []
    places: list[int] = []
    before: list[int | None] = [None] * len(times)
    for place, time in enumerate(times):
        if time is None:
            continue
        at = bisect_left(tails, time)
        if at == len(tails):
            tails.append(time)
            places.append(place)
        else:
            tails[at], places[at] = time, place
        before[place] = places[at - 1] if at else None
    kept: list[int] = []
    place_or_none = places[-1] if places else None
    while place_or_none is not None:
        kept.append(place_or_none)
        place_or_none = before[place_or_none]
    return kept[::-1]


_AGREE, _DISAGREE = 0.25, 0.75  # of a usual picture


def credible(times: Sequence[int | None], durations: Sequence[int]) -> list[int | None]:
    """Return the times without those that belong to another picture.

    In a program stream the time of a packet belongs to the first picture that begins in it. Writers
    count a picture from its sequence header, libavformat from its picture header: where a packet
    ends between both, a keyframe gets the time of the picture after it. Such a time is off while
    those on both sides of it agree, and it is out of order, or a picture beside it has none.

    Args:
        times: presentation times in ticks, in order of presentation, None where there is none.
        durations: how long each picture stands, as for :func:`interpolated`.
    """
    known = [place for place, time in enumerate(times) if time is not None]
    if len(known) < 4:
        return list(times)
    weights = _weights(times, durations)
    passed = (np.cumsum(weights) - weights)[known]
    at = np.array([times[place] for place in known], np.float64)
    scale = float(np.median(np.diff(at) / np.diff(passed)))
    usual = float(np.median(weights)) * scale
    off = at - passed * scale
    result = list(times)
    for number in range(1, len(known)):
        # The last one has both neighbours before it.
        before, after = (number - 1, number + 1) if number + 1 < len(known) else (-3, -2)
        if abs(off[before] - off[after]) > _AGREE * usual:
            continue
        if min(abs(off[number] - off[before]), abs(off[number] - off[after])) < _DISAGREE * usual:
            continue
        last = known[number + 1] if number + 1 < len(known) else len(times)
        partly = last - known[number - 1] > 2  # a picture between has no time
        first, end = at[number - 1], at[number + 1] if number + 1 < len(known) else np.inf
        if partly or not first < at[number] < end:
            result[known[number]] = None
    return result


def _weights(times: Sequence[int | None], durations: Sequence[int]) -> npt.NDArray[np.float64]:
    weights = np.array(durations, np.float64)
    return weights if len(weights) and weights.min() > 0 else np.ones(len(times))


def interpolated(times: Sequence[int | None], durations: Sequence[int]) -> list[int]:
    """Return a time for each picture, in order of presentation: the known ones where they rise.

    Pictures between two known times share the time between them by their durations. Where much more
    lies between, pictures are missing: the others keep their durations, and the last one stands.

    Args:
        times: known presentation times in ticks, None where there is none.
        durations: what headers say of how long each picture stands, in ticks of any length; zeros
            where they say nothing.

    Raises:
        ValueError: no time is known.
    """
    known = rising(times)
    if not known:
        raise ValueError("no picture has a time")
    weights = _weights(times, durations)
    passed = np.concatenate([[0.0], np.cumsum(weights)])  # before each picture
    at = np.array([times[place] for place in known], np.float64)
    spans, nominal = np.diff(at), np.diff(passed[known])
    scale = float(np.median(spans / nominal)) if len(spans) else 1.0
    passed, usual = passed[:-1] * scale, float(np.median(weights)) * scale
    result = passed - passed[known[0]] + at[0]
    for first, last, begin, span in zip(known, known[1:], at, spans, strict=False):
        inner = passed[first : last + 1] - passed[first]
        missing = span - inner[-1] > usual / 2
        result[first:last] = begin + (inner if missing else inner * span / inner[-1])[:-1]
    result[known[-1] :] = at[-1] + passed[known[-1] :] - passed[known[-1]]
    return [round(time) for time in result.tolist()]
