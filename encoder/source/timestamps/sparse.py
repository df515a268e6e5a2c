"""Times for pictures of which only some state one. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import numpy as np


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
    weights = np.array(durations, np.float64)
    if not len(weights) or weights.min() <= 0:
        weights = np.ones(len(times))
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
