"""The per-title CRF ladder: which whole-title encodes to measure, and which of them are its rungs.

This is what an engineer makes in an afternoon who has no pipeline by shots: for each rate, the size
and the CRF of the whole title that look best at that rate. Sizes are compared by encodes of the
whole title alone. A *hint* (the size and mean CRF of a rung of another ladder, whose rate is known)
only says where to begin.

What to measure next is a function of the set of encodes that were measured, so a comparison that
was stopped goes on where it was:

1. For each rate, an encode at the hint's size, its CRF found by bisection on the rate: first one
   encode per size, which shows how far the hints are off, then the others.
2. Where the best size changes from one rate to the next, and at both ends, the neighbouring size as
   well. Curves of two sizes cross once, so between these places nothing changes. A neighbour that
   would be worse even if its curve went on as a straight line (over the logarithm of the rate, in
   which curves of quality bend down) is left out.
3. Higher rates, where the ladder ends below the quality that it is compared at.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from encoder.media import OperatingPoint, Size
from encoder.recipes import Recipe
from ladder.bdrate import RatePoint
from ladder.curves import pchip

FEW, MANY = 6, 14
"""Numbers of rungs of which the rates are taken as they are; otherwise rates are spread evenly."""
SPREAD_RATIO = 1.35
"""Ratio of neighbouring rates where they are spread, if there are then 4 to 10 of them."""
SPREAD_COUNT = 4, 10
LEAST_SPAN = 2.0
"""Ratio of the highest to the lowest rate at least."""

TOLERANCE = math.log(1.08)
"""Difference of log rate from a wanted one at which the CRF is not moved any more."""
CLEARLY = 0.5
"""Points of quality by which a size has to be worse at best to be left out."""
RAISE, RAISES = 1.4, 3
"""Ratio of a further rate to the one below it, and how many further rates there may be."""
REACH = 1.0
"""Points of quality by which the ladder may end below what it is compared with."""

_HALVING = {"x264": 6.0, "x265": 6.0, "svtav1": 8.5, "vp9": 8.5}
# Steps of CRF that halve the rate, where nothing better is known.
_AREA_POWER = 0.75
# Log rate over log area at one CRF, where nothing better is known.

Measured = Mapping[OperatingPoint, RatePoint]
"""Rate (bit/s) and mean quality of whole-title encodes."""


class Hint(NamedTuple):
    """An encode whose rate is roughly known."""

    size: Size
    crf: float
    """CRF on the scale of the ladder's recipe."""
    rate: float
    """Rate in bit/s."""


def hint_for(recipe: Recipe, of: Recipe, size: Size, crf: float, rate: float) -> Hint:
    """Return a hint for ``recipe`` from a rung by the recipe ``of``, whose scale may be another.

    Scales of two codecs are laid over one another by their ends.
    """
    if of.codec != recipe.codec:
        (low, high), (to_low, to_high) = of.crf_range, recipe.crf_range
        crf = to_low + (crf - low) / (high - low) * (to_high - to_low)
    return Hint(size, crf, rate)


def target_rates(rates: Sequence[float]) -> tuple[float, ...]:
    """Return the rates in bit/s for a per-title ladder beside a ladder whose rungs have ``rates``.

    They are those rates, or about ten rates over the same range where there are few or many.
    """
    known = sorted(rates)
    if FEW <= len(known) <= MANY:
        return tuple(known)
    low, high = known[0], known[-1]
    if high / low < LEAST_SPAN:
        middle = math.sqrt(low * high)
        low, high = middle / math.sqrt(LEAST_SPAN), middle * math.sqrt(LEAST_SPAN)
    fewest, most = SPREAD_COUNT
    count = round(math.log(high / low) / math.log(SPREAD_RATIO)) + 1
    spread = np.geomspace(low, high, min(max(count, fewest), most))
    return tuple(spread.tolist())


@dataclass(frozen=True, slots=True)
class PerTitleSearch:
    """Finds the best whole-title encodes of one recipe at given rates."""

    recipe: Recipe
    sizes: tuple[Size, ...]
    """Sizes to choose from, smallest first."""
    rates: tuple[float, ...]
    """Wanted rates in bit/s, ascending, at least one."""
    hints: tuple[Hint, ...]
    """Where to begin; at least one."""
    reach: float = -math.inf
    """Quality that the ladder should nearly reach, at higher rates if need be."""

    def __post_init__(self) -> None:
        if not self.sizes or not self.rates or not self.hints:
            raise ValueError("a per-title ladder needs sizes, rates and hints")

    def wanted(self, measured: Measured) -> tuple[OperatingPoint, ...]:
        """Return the encodes to measure next; none when the ladder is found."""
        for rates in self._extended():
            state = _State(self, measured)
            if points := self._wanted_at(rates, state):
                return points
            if self._reaches(rates, state):
                break
        return ()

    def ladder(self, measured: Measured) -> tuple[OperatingPoint, ...]:
        """Return the measured encodes that are the ladder's rungs, lowest rate first.

        ``measured`` holds everything that :meth:`wanted` asked for.
        """
        state = _State(self, measured)
        rates = self.rates
        for rates in self._extended():
            if self._reaches(rates, state):
                break
        chosen = {
            state.settled(size, rate): None
            for size, rate in zip(self._best(rates, state), rates, strict=True)
        }
        found = [point for point in chosen if point is not None]
        return tuple(sorted(found, key=lambda point: measured[point].rate))

    def expected(self) -> tuple[OperatingPoint, ...]:
        """Return about as many encodes as :meth:`wanted` will ask for in all, and about as dear."""
        state = _State(self, {})
        sizes = [self._start(rate) for rate in self.rates]
        pairs = [*zip(sizes, self.rates, strict=True), *self._beside(sizes, self.rates)]
        return tuple(state.next_point(size, rate) for size, rate in pairs)

    def _extended(self) -> Sequence[tuple[float, ...]]:
        """Return the wanted rates, and the same with one, two and three higher ones."""
        higher = [self.rates[-1] * RAISE**power for power in range(1, RAISES + 1)]
        return [(*self.rates, *higher[:count]) for count in range(RAISES + 1)]

    def _reaches(self, rates: Sequence[float], state: _State) -> bool:
        top = state.settled(self._best(rates, state)[-1], rates[-1])
        return top is not None and state.measured[top].quality >= self.reach - REACH

    def _wanted_at(self, rates: Sequence[float], state: _State) -> tuple[OperatingPoint, ...]:
        starts = [(self._start(rate), rate) for rate in rates]
        if missing := state.missing(starts):
            return missing
        best = self._best(rates, state)
        at = dict(zip(rates, best, strict=True))
        close = [
            (size, rate)
            for size, rate in self._beside(best, rates)
            if not state.clearly_worse(size, at[rate], rate)
        ]
        return state.missing(close)

    def _start(self, rate: float) -> Size:
        """Return the size of the hint whose rate is nearest, or the size most like it."""
        hint = min(self.hints, key=lambda hint: abs(math.log(hint.rate / rate)))
        return min(self.sizes, key=lambda size: abs(_log_area(size) - _log_area(hint.size)))

    def _best(self, rates: Sequence[float], state: _State) -> list[Size]:
        """Return the best size that was measured at each rate."""
        best = []
        for rate in rates:
            tried = [size for size in self.sizes if state.settled(size, rate)]
            best.append(
                max(tried, key=lambda size: state.quality(size, rate), default=self._start(rate))
            )
        return best

    def _beside(self, best: Sequence[Size], rates: Sequence[float]) -> list[tuple[Size, float]]:
        """Return the neighbouring sizes, each with a rate at which another size is next to it."""
        pairs = []
        for number, (size, rate) in enumerate(zip(best, rates, strict=True)):
            place = self.sizes.index(size)
            first, last = number == 0, number == len(rates) - 1
            if place > 0 and (first or best[number - 1] != size):
                pairs.append((self.sizes[place - 1], rate))
            if place + 1 < len(self.sizes) and (last or best[number + 1] != size):
                pairs.append((self.sizes[place + 1], rate))
        return pairs


class _State:
    """What the encodes that were measured say about every size."""

    def __init__(self, search: PerTitleSearch, measured: Measured) -> None:
        self.measured = measured
        self._recipe, self._hints = search.recipe, search.hints
        low, high = search.recipe.crf_range
        step = search.recipe.crf_step
        steps = range(math.ceil(low / step), math.floor(high / step) + 1)
        self._crfs = np.array([number * step for number in steps])
        self._points: dict[Size, list[OperatingPoint]] = {size: [] for size in search.sizes}
        for point in sorted(measured, key=lambda point: point.crf):
            self._points[point.size].append(point)

    def missing(self, pairs: Sequence[tuple[Size, float]]) -> tuple[OperatingPoint, ...]:
        """Return what to encode next for sizes at rates: of a new size, only the middle one."""
        unsettled = [(size, rate) for size, rate in pairs if self.settled(size, rate) is None]
        wanted: dict[OperatingPoint, None] = {}
        for size, group in itertools.groupby(sorted(unsettled), key=lambda pair: pair[0]):
            rates = [rate for _, rate in group]
            if not self._points[size]:
                rates = [rates[len(rates) // 2]]
            wanted.update({self.next_point(size, rate): None for rate in rates})
        return tuple(wanted)

    def settled(self, size: Size, rate: float) -> OperatingPoint | None:
        """Return the encode that stands for a size at a rate; None where one is to be made."""
        points = self._points[size]
        if not points:
            return None
        nearest = min(points, key=lambda point: abs(math.log(self.measured[point].rate / rate)))
        if abs(math.log(self.measured[nearest].rate / rate)) <= TOLERANCE:
            return nearest
        proposed = self.next_point(size, rate)
        return nearest if proposed in self.measured else None

    def next_point(self, size: Size, rate: float) -> OperatingPoint:
        """Return the encode of a size that is expected to come nearest to a rate."""
        off = np.abs(self._expected_log_rates(size) - math.log(rate))
        return OperatingPoint(self._recipe, *size, float(self._crfs[int(np.argmin(off))]))

    def _expected_log_rates(self, size: Size) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Return the expected log rate at every CRF: the hints' curve, moved to the encodes."""
        curve = self._hinted(size)
        points = self._points[size]
        if not points:
            return curve
        crfs = np.array([point.crf for point in points])
        logs = np.log([self.measured[point].rate for point in points])
        return np.asarray(
            curve + np.interp(self._crfs, crfs, logs - np.interp(crfs, self._crfs, curve))
        )

    def _hinted(self, size: Size) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        nearest = min(abs(_log_area(hint.size) - _log_area(size)) for hint in self._hints)
        hints = sorted(
            (hint.crf, math.log(hint.rate) + _AREA_POWER * (_log_area(size) - _log_area(hint.size)))
            for hint in self._hints
            if abs(_log_area(hint.size) - _log_area(size)) == nearest
        )
        crfs, logs = np.array(hints).T
        slope = math.log(2) / _HALVING[self._recipe.codec]
        beyond = slope * (
            np.maximum(self._crfs - crfs[-1], 0) + np.minimum(self._crfs - crfs[0], 0)
        )
        return np.asarray(np.interp(self._crfs, crfs, logs) - beyond)

    def quality(self, size: Size, rate: float) -> float:
        """Return the quality of a measured size at a rate.

        It is interpolated between its encodes, and beyond them by the straight line through the
        last two.
        """
        # Of encodes of one rate, the best counts: a still picture has several.
        known = dict(sorted(self.measured[point] for point in self._points[size]))
        logs, qualities = np.log(list(known)), np.array(list(known.values()))
        at = math.log(rate)
        if logs[0] <= at <= logs[-1]:
            return float(pchip(logs, qualities, np.array([at]))[0])
        if len(known) == 1:
            return float(qualities[0] + self._typical_slope() * (at - logs[0]))
        first = 0 if at < logs[0] else len(known) - 2
        slope = (qualities[first + 1] - qualities[first]) / (logs[first + 1] - logs[first])
        near = 0 if at < logs[0] else -1
        return float(qualities[near] + slope * (at - logs[near]))

    def _typical_slope(self) -> float:
        """Return the quality gained per log rate over all encodes."""
        points = sorted(self.measured.values())
        first, last = points[0], points[-1]
        if last.rate == first.rate:
            return 0.0
        return (last.quality - first.quality) / math.log(last.rate / first.rate)

    def clearly_worse(self, size: Size, than: Size, rate: float) -> bool:
        """Tell whether a size cannot be the better one at a rate, by encodes at other rates."""
        if len(self._points[size]) < 2:
            return False
        return self.quality(size, rate) + CLEARLY < self.quality(than, rate)


def _log_area(size: Size) -> float:
    return math.log(size.width * size.height)
