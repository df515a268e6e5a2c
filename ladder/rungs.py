"""From the curves of a title's shots to the rungs of its ladder.

Each size has a title curve: the best mean quality at every rate, over all slopes. Under the
policy ``locked`` a rung has one size, so the title's curve is the upper envelope of its sizes';
under ``mixed`` each shot's candidates of all sizes compete. Rungs lie on that curve from the
lowest usable rate to where quality saturates, evenly spaced so that neighbours differ by at most
one JND and one rate ratio, and are then solved under the profile's constraints.

Everything here takes any :class:`~ladder.curves.Curve`: measured, predicted or corrected.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import Literal

import numpy as np

from encoder.arrays import Float64
from encoder.media import OperatingPoint, Shot, Size
from encoder.recipes import Recipe
from ladder.allocation import Allocation, Problem, at_slope, for_budget
from ladder.bdrate import BdRate, NoOverlap, RatePoint, bd_rate, monotone
from ladder.choices import Choice, ShotChoices
from ladder.constraints import (
    Cap,
    CapSet,
    InfeasibleResult,
    WindowCap,
    leaky_bucket_caps,
    peak_rate_caps,
    source_cap,
    worst_shot_floor,
)
from ladder.curves import Curve
from ladder.profiles import Profile

Policy = Literal["locked", "mixed"]

STEPS_PER_DOUBLING = 32
"""Grain at which the title's curve is searched for its saturation."""
LEAST_RATIO = 1.1
"""Of neighbouring rungs' rates where a listed rate meets saturation."""
SETTLED_STRETCH = 1.1
"""By how much the spacing may give beside a rung that is settled: it was put where the curve was
thought to be, and another rung costs more than a step that is a little long."""
NOTEWORTHY = 0.05
"""Quality that a constraint must cost to be mentioned."""


@dataclass(frozen=True, slots=True)
class TitleCurves:
    """All that is known, or predicted, about a title."""

    frame_rate: Fraction
    recipe: Recipe
    shots: tuple[Shot, ...]
    curves: Mapping[Size, tuple[Curve, ...]]
    """By size, one curve per shot."""
    source_bits: int | None = None
    """Of the source's own video stream in total, for the cap of that name."""

    def __post_init__(self) -> None:
        if not self.shots or not self.curves:
            raise ValueError("a title has shots and sizes")
        for size, curves in self.curves.items():
            if [curve.frames for curve in curves] != [shot.frames for shot in self.shots]:
                raise ValueError(f"the curves of {size} are not those of the title's shots")

    @property
    def sizes(self) -> tuple[Size, ...]:
        """Smallest first."""
        return tuple(sorted(self.curves, key=lambda size: (size.width * size.height, size)))

    @property
    def durations(self) -> tuple[Fraction, ...]:
        """Seconds of each shot."""
        return tuple(shot.seconds(self.frame_rate) for shot in self.shots)

    @property
    def target_duration(self) -> int:
        """What HLS will state: the longest segment, rounded up to a second."""
        return math.ceil(max(self.durations))

    def choices(self, sizes: Iterable[Size]) -> tuple[ShotChoices, ...]:
        """Per shot the candidates of all ``sizes`` together."""
        listed, step = tuple(sizes), self.recipe.crf_step
        return tuple(
            ShotChoices(
                shot.frames,
                tuple(
                    Choice(
                        candidate.bits, candidate.quality, _point(self.recipe, size, candidate.crf)
                    )
                    for size in listed
                    for candidate in self.curves[size][index].points(step)
                ),
            )
            for index, shot in enumerate(self.shots)
        )


@functools.lru_cache(maxsize=4096)
def _point(recipe: Recipe, size: Size, crf: float) -> OperatingPoint:
    return OperatingPoint(recipe, size.width, size.height, crf)


@dataclass(frozen=True, slots=True)
class RungPlan:
    """One rung: what each shot is to be encoded as, and what that is expected to give."""

    size: Size
    """Of all its shots under ``locked``, the largest among them under ``mixed``."""
    target_rate: float
    """bit/s that the rung was solved for."""
    slope: float
    """Quality-frames per bit that shots outside of active caps have in common."""
    choices: tuple[Choice, ...]
    """By shot."""
    bits: float
    rate: float
    """Expected bit/s over the whole title."""
    quality: float
    """Expected mean over the title's frames."""
    gap: float
    """Mean quality by which this is at most under the best possible for rate, size and caps."""
    notes: tuple[str, ...] = ()
    """In words: what bounded it, and what that cost."""


@dataclass(frozen=True, slots=True)
class LadderPlan:
    """The rungs of a title, rising in rate and quality and never falling in size."""

    policy: Policy
    rungs: tuple[RungPlan, ...]
    notes: tuple[str, ...] = ()
    """In words: what bounded the whole ladder."""

    @property
    def points(self) -> frozenset[tuple[int, OperatingPoint]]:
        """Every (shot, operating point) that the ladder delivers."""
        return frozenset(
            (shot, choice.point) for rung in self.rungs for shot, choice in enumerate(rung.choices)
        )

    @property
    def rate_points(self) -> tuple[RatePoint, ...]:
        """Expected rate (bit/s) and quality of each rung."""
        return tuple(RatePoint(rung.rate, rung.quality) for rung in self.rungs)


def solve(
    title: TitleCurves,
    profile: Profile,
    policy: Policy = "locked",
    around: Sequence[RungPlan] = (),
) -> LadderPlan | InfeasibleResult:
    """The ladder of a title.

    Rungs whose constraints would break at the lowest usable rate start at the lowest rate that
    keeps them (a note says so). Infeasible when no rate does: the floor is out of reach, or the
    source's rate is under what the other constraints need.

    Args:
        title: Its curves.
        profile: Where rungs lie, and what they must keep.
        policy: Whether a rung has one size.
        around: Rungs that are settled, rising. They are part of the ladder as they are; others
            are put between and beside them where the spacing asks for it.
    """
    solver = _solver(title, policy, profile)
    if isinstance(solver, InfeasibleResult):
        return solver
    targets = solver.targets(around)
    if isinstance(targets, InfeasibleResult):
        return targets
    rates, notes = targets
    rungs: list[RungPlan] = []
    track = 0
    for rate, settled in rates:
        if settled is not None:
            rungs.append(settled)
            track = max(track, solver.track_of(settled))
            continue
        above = (solver.track_of(r) for later, r in rates if r is not None and later >= rate)
        solved = solver.rung(rate, track, min(above, default=len(solver.tracks) - 1))
        if isinstance(solved, InfeasibleResult):
            return solved
        chosen, rung = solved
        # Equal curves, or a cap that binds at every rate, can make a step pointless.
        if not rungs or (rung.bits > rungs[-1].bits and rung.quality > rungs[-1].quality):
            rungs.append(rung)
            track = chosen
    return LadderPlan(policy, tuple(rungs), notes)


def at_slope_within(
    title: TitleCurves, profile: Profile, size: Size, slope: float, most: float = math.inf
) -> RungPlan | InfeasibleResult:
    """A rung of one size at a slope: every shot takes what is best there.

    Where that breaks a cap, or takes more than ``most`` bit/s, the best choice within is taken.
    """
    solver = _solver(replace(title, curves={size: title.curves[size]}), "locked", profile)
    if isinstance(solver, InfeasibleResult):
        return solver
    problem = solver.tracks[0].problem
    found = at_slope(problem, slope)
    rate = min(found.bits / solver.seconds, most)
    caps = (*solver.scaling_caps(rate), *solver.source_caps())
    bits = np.array([choice.bits for choice in found.choices])
    if found.bits > most * solver.seconds or CapSet(caps, len(bits)).violations(bits):
        within = for_budget(problem, rate * solver.seconds, caps)
        if isinstance(within, InfeasibleResult):
            return within
        found = within
    return replace(solver.plan(rate, found, found.quality), slope=slope)


def slope_at(title: TitleCurves, size: Size, bits: float) -> float:
    """Slope of a size's title curve where it takes ``bits`` in total, without constraints."""
    problem = Problem(title.choices([size]))
    return problem.level_within(bits, np.zeros(len(problem.shots)))[1]


def solve_at_rates(
    title: TitleCurves,
    rates: Sequence[float],
    policy: Policy = "locked",
    profile: Profile | None = None,
) -> LadderPlan | InfeasibleResult:
    """One rung for each of ``rates`` (bit/s), for comparing ladders at equal rates.

    Each is solved alone, so sizes need not rise; constraints hold only when a profile is given.
    Infeasible when a rate is under the cheapest choices.
    """
    solver = _solver(title, policy, profile)
    if isinstance(solver, InfeasibleResult):
        return solver
    rungs = []
    for rate in rates:
        solved = solver.rung(rate)
        if isinstance(solved, InfeasibleResult):
            return solved
        rungs.append(solved[1])
    return LadderPlan(policy, tuple(rungs))


@dataclass(frozen=True, slots=True)
class RungCost:
    """What one size per rung costs one rung."""

    rate: float
    """bit/s of the rung."""
    quality: float
    """What its size reaches at that rate."""
    mixed_rate: float
    """bit/s at which shots of free size reach the same."""

    @property
    def percent(self) -> float:
        """Bits that ``locked`` needs over ``mixed`` at this quality."""
        return (self.rate / self.mixed_rate - 1) * 100


@dataclass(frozen=True, slots=True)
class CostOfLocked:
    """What one size per rung costs against sizes free per shot, on the same curves."""

    bd_rate: BdRate | NoOverlap | None
    """Of locked with mixed as the anchor, at the same rates; positive: locked needs more bits.
    None when the ladder has a single rung."""
    rungs: tuple[RungCost, ...]


def cost_of_locked(title: TitleCurves, plan: LadderPlan) -> CostOfLocked:
    """What the sizes of a locked ``plan`` cost, at its rungs' rates."""
    return cost_of_sizes(title, [(rung.size, rung.bits) for rung in plan.rungs])


def cost_of_sizes(title: TitleCurves, rungs: Sequence[tuple[Size, float]]) -> CostOfLocked:
    """What one size per rung costs against sizes that are free for every shot.

    Both sides are solved without constraints: what those cost is not the fault of the sizes.

    Args:
        title: curves of these sizes and of those that could be taken instead.
        rungs: size and bits of each.
    """
    seconds = float(sum(title.durations))
    frames = sum(shot.frames for shot in title.shots)
    mixed_bits, mixed_value = Problem(title.choices(title.sizes)).title_curve()
    locked = {size: Problem(title.choices([size])) for size in {size for size, _ in rungs}}
    costs, mixed_points = [], []
    for size, spent in rungs:
        bits, value = locked[size].title_curve()
        reached = float(np.interp(spent, bits, value))
        needed = float(np.interp(reached, mixed_value, mixed_bits))
        costs.append(RungCost(spent / seconds, reached / frames, needed / seconds))
        best = float(np.interp(spent, mixed_bits, mixed_value))
        mixed_points.append(RatePoint(spent / seconds, best / frames))
    anchor = monotone(mixed_points)
    test = monotone(RatePoint(cost.rate, cost.quality) for cost in costs)
    both = len(anchor) > 1 and len(test) > 1
    return CostOfLocked(bd_rate(anchor, test) if both else None, tuple(costs))


def _apart(rate: float, other: float) -> bool:
    """Whether two rates are worth a rung each."""
    return max(rate, other) > min(rate, other) * LEAST_RATIO


@dataclass(frozen=True, slots=True)
class _Track:
    """What a rung can be made of: one size under ``locked``, everything under ``mixed``."""

    problem: Problem
    rates: Float64
    """bit/s along the title curve."""
    qualities: Float64
    """Mean quality there."""

    def quality_at(self, rate: float) -> float:
        """Best mean quality at ``rate`` without constraints; -inf under the cheapest."""
        return float(np.interp(rate, self.rates, self.qualities, left=-math.inf))

    def rate_for(self, quality: float) -> float:
        """Least rate that reaches ``quality``; inf when none does."""
        if quality > self.qualities[-1]:
            return math.inf
        return float(np.interp(quality, self.qualities, self.rates))


def _solver(
    title: TitleCurves, policy: Policy, profile: Profile | None
) -> _Solver | InfeasibleResult:
    groups = [[size] for size in title.sizes] if policy == "locked" else [list(title.sizes)]
    seconds = float(sum(title.durations))
    tracks: list[_Track] = []
    failures: list[InfeasibleResult] = []
    for sizes in groups:
        shots = title.choices(sizes)
        if profile is not None and profile.floor is not None:
            kept = worst_shot_floor(shots, profile.floor)
            if isinstance(kept, InfeasibleResult):
                failures.append(kept)
                continue
            shots = kept
        problem = Problem(shots)
        bits, value = problem.title_curve()
        tracks.append(_Track(problem, bits / seconds, value / problem.frames))
    if not tracks:
        return min(failures, key=lambda failure: failure.shortfall)
    return _Solver(title, tuple(tracks), profile)


@dataclass(frozen=True, slots=True)
class _Solver:
    title: TitleCurves
    tracks: tuple[_Track, ...]
    profile: Profile | None

    @property
    def seconds(self) -> float:
        return float(sum(self.title.durations))

    def quality_at(self, rate: float) -> float:
        return max(track.quality_at(rate) for track in self.tracks)

    def rate_for(self, quality: float) -> float:
        return min(track.rate_for(quality) for track in self.tracks)

    def scaling_caps(self, rate: float) -> tuple[Cap, ...]:
        """Caps that are proportional to the rung's rate."""
        profile = self.profile
        if profile is None or profile.peak_ratio is None:
            return ()
        title, peak = self.title, profile.peak_ratio * rate
        caps: tuple[Cap, ...] = peak_rate_caps(title.durations, title.target_duration, peak)
        if profile.vbv_seconds is not None:
            caps += leaky_bucket_caps(title.durations, peak, peak * profile.vbv_seconds)
        return caps

    def source_caps(self) -> tuple[WindowCap, ...]:
        bits = self.title.source_bits
        if self.profile is None or not self.profile.source_cap or bits is None:
            return ()
        return source_cap(len(self.title.shots), bits)

    def lowest_feasible(self, track: _Track) -> float:
        """Least rate at which the cheapest choices keep the caps that scale with it.

        Dinkelbach's iteration: scale by the worst violation until there is none.
        """
        cheapest = track.problem.cheapest_bits
        rate = float(cheapest.sum()) / self.seconds
        while True:
            limits = CapSet(self.scaling_caps(rate), len(cheapest))
            broken = limits.violations(cheapest)
            if not broken:
                return rate
            # The added bit outweighs the rounding of caps to whole bits.
            rate *= max((v.bits + 1) / max(v.cap.bits, 1.0) for v in broken)

    def track_of(self, rung: RungPlan) -> int:
        """Number of the track that a rung was solved on."""
        point = rung.choices[0].point
        for number, track in enumerate(self.tracks):
            sizes = {(c.point.width, c.point.height) for c in track.problem.shots[0].candidates}
            if (point.width, point.height) in sizes:
                return number
        raise ValueError(f"no track has {point.width}x{point.height}")

    def targets(
        self, around: Sequence[RungPlan] = ()
    ) -> tuple[tuple[tuple[float, RungPlan | None], ...], tuple[str, ...]] | InfeasibleResult:
        """Rates to solve at with the rung that is settled there, and notes on what bounds the
        ladder."""
        profile = self.profile
        assert profile is not None
        notes = []
        usable = self.rate_for(profile.min_quality)
        first = min(max(usable, profile.first_rate[0]), profile.first_rate[1])
        feasible = min(self.lowest_feasible(track) for track in self.tracks)
        cheapest = min(float(track.rates[0]) for track in self.tracks)
        last = self.saturation()
        for cap in self.source_caps():
            source_rate = cap.bits / self.seconds
            if source_rate < feasible:
                best = min(self.tracks, key=self.lowest_feasible)
                caps = (*self.scaling_caps(source_rate), *self.source_caps())
                result = for_budget(best.problem, math.inf, caps)
                assert isinstance(result, InfeasibleResult)
                return result
            if source_rate < last:
                last = source_rate
                notes.append(f"highest rung limited to the source's {source_rate / 1e3:.0f} kbit/s")
        if feasible > first and not profile.rates:
            why = "cheapest choices" if feasible <= cheapest * 1.001 else "peak constraints"
            notes.append(f"lowest rung raised to {feasible / 1e3:.0f} kbit/s by the {why}")
            first = feasible
        last = max(last, feasible)
        if profile.rates:
            free = self._listed(feasible, last)
        elif around:
            free = self._filled(min(first, last), last, [rung.rate for rung in around])
        else:
            free = self._spaced(min(first, last), last)
        kept = [(rung.target_rate if profile.rates else rung.rate, rung) for rung in around]
        taken = [rate for rate, _ in kept]
        added = [(rate, None) for rate in free if all(_apart(rate, other) for other in taken)]
        return tuple(sorted([*kept, *added], key=lambda target: target[0])), tuple(notes)

    def _filled(self, first: float, last: float, settled: Sequence[float]) -> tuple[float, ...]:
        """Rates between and beside the settled ones that the spacing asks for."""
        ends = [rate for rate in (first,) if _apart(rate, settled[0]) and rate < settled[0]]
        ends += [*settled]
        ends += [rate for rate in (last,) if _apart(rate, settled[-1]) and rate > settled[-1]]
        steps = (self._spaced(low, high, SETTLED_STRETCH) for low, high in pairwise(ends))
        return tuple(rate for step in steps for rate in step)

    def _listed(self, feasible: float, last: float) -> tuple[float, ...]:
        """The profile's own rates, as far as they are feasible and below saturation.

        Where the list goes on above ``last``, the highest rung lies there, in place of one that
        is hardly below.
        """
        assert self.profile is not None
        listed = tuple(rate for rate in self.profile.rates if rate >= feasible)
        if listed and listed[-1] < last:
            return listed
        return (*(rate for rate in listed if rate < last / LEAST_RATIO), last)

    def saturation(self) -> float:
        """Rate where quality reaches its maximum or stops being worth its bits.

        The latter is the least rate from which on a doubling never adds ``saturation`` again.
        """
        profile = self.profile
        assert profile is not None
        low = min(float(track.rates[0]) for track in self.tracks)
        high = max(float(track.rates[-1]) for track in self.tracks)
        count = 2 + math.ceil(math.log2(high / low) * STEPS_PER_DOUBLING)
        rates = np.geomspace(low, high, count)
        gains = np.array([self.quality_at(2 * r) - self.quality_at(r) for r in rates.tolist()])
        worth = np.flatnonzero(gains >= profile.saturation)
        knee = float(rates[min(int(worth[-1]) + 1, count - 1)]) if len(worth) else low
        return min(knee, self.rate_for(profile.max_quality))

    def _spaced(self, first: float, last: float, stretch: float = 1.0) -> tuple[float, ...]:
        """The fewest rates from ``first`` to ``last`` that keep the spacing, times ``stretch`` at
        most, evenly."""
        rates = self._climb(first, last, stretch)
        low, high = 0.0, stretch
        for _ in range(30):  # the least stride that still arrives with as many rungs
            middle = (low + high) / 2
            if len(self._climb(first, last, middle, len(rates))) <= len(rates):
                rates, high = self._climb(first, last, middle, len(rates)), middle
            else:
                low = middle
        return tuple(rates)

    def _climb(
        self, first: float, last: float, stride: float, at_most: int | None = None
    ) -> list[float]:
        """Steps of ``stride`` JNDs and rate ratios; gives up one past ``at_most``."""
        profile = self.profile
        assert profile is not None
        rates = [first]
        while rates[-1] < last * (1 - 1e-9) and (at_most is None or len(rates) <= at_most):
            rate = rates[-1]
            by_quality = self.rate_for(self.quality_at(rate) + stride * profile.jnd)
            by_rate = rate * profile.max_rate_ratio**stride
            # A curve that jumps where a size begins must not stop the climb.
            rates.append(min(max(min(by_quality, by_rate), rate * 1.005), last))
        return rates

    def rung(
        self, rate: float, from_track: int = 0, to_track: int | None = None
    ) -> tuple[int, RungPlan] | InfeasibleResult:
        """The best rung of at most ``rate`` bit/s, from the tracks ``from_track`` to ``to_track``.

        A track's unconstrained quality bounds what it can reach, so tracks are tried from the
        most promising until none can beat what was found; ties go to the smaller size.
        """
        caps = (*self.scaling_caps(rate), *self.source_caps())
        end = len(self.tracks) if to_track is None else max(to_track, from_track) + 1
        numbers = range(from_track, end)
        promise = {number: self.tracks[number].quality_at(rate) for number in numbers}
        best: tuple[int, Allocation] | None = None
        failure: InfeasibleResult | None = None
        for number in sorted(numbers, key=lambda n: (-promise[n], n)):
            if best is not None and promise[number] <= best[1].quality:
                break
            result = for_budget(self.tracks[number].problem, rate * self.seconds, caps)
            if isinstance(result, InfeasibleResult):
                failure = failure or result
            elif best is None or result.quality > best[1].quality:
                best = number, result
        if best is None:
            assert failure is not None
            return failure
        return best[0], self.plan(rate, best[1], max(promise.values()))

    def plan(self, rate: float, found: Allocation, unconstrained: float) -> RungPlan:
        notes: tuple[str, ...] = ()
        if unconstrained - found.quality > NOTEWORTHY:
            lost = unconstrained - found.quality
            notes = (f"constraints cost {lost:.2f} of quality at {rate / 1e3:.0f} kbit/s",)
        return RungPlan(
            size=max(
                (c.point.size for c in found.choices),
                key=lambda size: size.width * size.height,
            ),
            target_rate=rate,
            slope=found.slope,
            choices=found.choices,
            bits=found.bits,
            rate=found.bits / self.seconds,
            quality=found.quality,
            gap=found.gap,
            notes=notes,
        )
