"""What a rung can be made of, and the best choice for it at a rate.

A track is a set of sizes that a rung's shots may have: one size under the policy ``locked``, all
of them under ``mixed``. Every track has a title curve: the best mean quality at every rate, over
all slopes. The title's own curve is the upper envelope of its tracks' curves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from encoder.arrays import Float64
from encoder.media import Size
from ladder.allocation import Allocation, Problem, for_budget
from ladder.constraints import (
    Cap,
    CapSet,
    InfeasibleResult,
    WindowCap,
    leaky_bucket_caps,
    peak_rate_caps,
    whole_title_cap,
    worst_shot_floor,
)
from ladder.hull import pareto
from ladder.profiles import Profile
from ladder.title_curves import TitleCurves

SOURCE_RATE = "source rate"
"""Name of the constraint that the source sets."""
HIGHEST_RATE = "highest rate"
"""Name of the constraint that the user sets on all rungs."""


@dataclass(frozen=True, slots=True)
class Track:
    """One set of sizes with its title curve."""

    problem: Problem
    """The shots' candidates of these sizes, prepared for allocation."""
    rates: Float64
    """Rates along the title curve in bit/s, shape ``[points]``."""
    qualities: Float64
    """Mean qualities there, shape ``[points]``."""
    seconds: float
    """Duration of the title in seconds."""

    @property
    def lines(self) -> int:
        """Lines of the largest size."""
        return max(min(choice.point.size) for choice in self.problem.shots[0].candidates)

    def at_one_crf(self) -> tuple[Float64, Float64]:
        """Return what the title has when all shots have the same CRF, as in encodes of whole
        titles.

        Returns:
            Rates in bit/s and mean qualities, both rising, shape ``[CRFs]``. Where the shots have
            fewer than two CRFs in common, that is the title curve.
        """
        shots = self.problem.shots
        by_crf = [{choice.point.crf: choice for choice in shot.candidates} for shot in shots]
        common = sorted(set.intersection(*(set(of) for of in by_crf)), reverse=True)
        if len(common) < 2:
            return self.rates, self.qualities
        bits = np.array([[of[crf].bits for crf in common] for of in by_crf])
        quality = np.array([[of[crf].quality for crf in common] for of in by_crf])
        frames = np.array([shot.frames for shot in shots])
        rates, means = bits.sum(axis=0) / self.seconds, frames @ quality / frames.sum()
        kept = pareto(rates.tolist(), means.tolist())
        return rates[kept], means[kept]

    def quality_at(self, rate: float) -> float:
        """Return the best mean quality at ``rate`` bit/s without constraints; -inf below the
        cheapest choices."""
        return float(np.interp(rate, self.rates, self.qualities, left=-math.inf))

    def rate_for(self, quality: float) -> float:
        """Return the lowest rate in bit/s that reaches ``quality``; inf when none does."""
        if quality > self.qualities[-1]:
            return math.inf
        return float(np.interp(quality, self.qualities, self.rates))


def tracks_of(
    title: TitleCurves, groups: Sequence[Sequence[Size]], profile: Profile | None
) -> TitleTracks | InfeasibleResult:
    """Build one track per group of sizes.

    Groups in which some shot cannot reach the profile's floor are left out; infeasible when none
    remains.
    """
    seconds = float(sum(title.durations))
    tracks: list[Track] = []
    failures: list[InfeasibleResult] = []
    for sizes in groups:
        shots = title.choices(sizes)
        if profile is not None and profile.floor is not None:
            above = worst_shot_floor(shots, profile.floor)
            if isinstance(above, InfeasibleResult):
                failures.append(above)
                continue
            shots = above
        problem = Problem(shots)
        bits, value = problem.title_curve()
        tracks.append(Track(problem, bits / seconds, value / problem.frames, seconds))
    if not tracks:
        return min(failures, key=lambda failure: failure.shortfall)
    return TitleTracks(title, tuple(tracks), profile)


@dataclass(frozen=True, slots=True)
class BestAllocation:
    """The best choice for a rung, and the track that it is on."""

    track: int
    allocation: Allocation
    unconstrained_quality: float
    """Mean quality that the rate would allow without constraints."""


@dataclass(frozen=True, slots=True)
class TitleTracks:
    """The tracks of a title, smallest sizes first, under a profile's constraints."""

    title: TitleCurves
    tracks: tuple[Track, ...]
    profile: Profile | None
    """Profile whose constraints hold; None for none."""

    @property
    def seconds(self) -> float:
        """Duration of the title in seconds."""
        return float(sum(self.title.durations))

    @property
    def lowest_rate(self) -> float:
        """Rate in bit/s of the cheapest choices of any track."""
        return min(float(track.rates[0]) for track in self.tracks)

    @property
    def highest_rate(self) -> float:
        """Rate in bit/s of the best choices of any track."""
        return max(float(track.rates[-1]) for track in self.tracks)

    @property
    def most_lines(self) -> int:
        """Lines of the largest size of any track."""
        return self.tracks[-1].lines

    def within(self, lines: tuple[float, float]) -> tuple[int, int]:
        """Return the numbers of the first and the last track whose lines are within these, the
        nearest one's where none are."""
        low, high = lines
        numbers = [n for n, track in enumerate(self.tracks) if low <= track.lines <= high]
        if not numbers:
            below = [n for n, track in enumerate(self.tracks) if track.lines <= high]
            numbers = below[-1:] or [0]
        return numbers[0], numbers[-1]

    def quality_at(self, rate: float) -> float:
        """Return the best mean quality of any track at ``rate`` bit/s, without constraints."""
        return max(track.quality_at(rate) for track in self.tracks)

    def rate_for(self, quality: float) -> float:
        """Return the lowest rate in bit/s at which any track reaches ``quality``."""
        return min(track.rate_for(quality) for track in self.tracks)

    def caps(self, rate: float) -> tuple[Cap, ...]:
        """Return all caps that hold for a rung of ``rate`` bit/s."""
        return (*self.scaling_caps(rate), *self.fixed_caps())

    def scaling_caps(self, rate: float) -> tuple[Cap, ...]:
        """Return the caps that are proportional to the rung's rate: peak rate and VBV."""
        profile = self.profile
        if profile is None or profile.peak_ratio is None:
            return ()
        title, peak = self.title, profile.peak_ratio * rate
        caps: tuple[Cap, ...] = peak_rate_caps(title.durations, title.target_duration, peak)
        if profile.vbv_seconds is not None:
            caps += leaky_bucket_caps(title.durations, peak, peak * profile.vbv_seconds)
        return caps

    def fixed_caps(self) -> tuple[WindowCap, ...]:
        """Return the caps on a whole rung: the source's, where the profile asks for it, and the
        user's.

        The source's cap gives way where the cheapest choices need more: every title has a ladder.
        """
        title, caps = self.title, []
        shots = len(title.shots)
        if title.source_bits is not None and self.profile is not None and self.profile.source_cap:
            feasible = min(self.lowest_feasible(track) for track in self.tracks)
            limit = title.source_bits + title.allowance_bits
            bits = max(limit, math.ceil(feasible * self.seconds))
            caps.append(whole_title_cap(shots, bits, SOURCE_RATE))
        if self.profile is not None and self.profile.max_rate is not None:
            bits = math.floor(self.profile.max_rate * self.seconds)
            caps.append(whole_title_cap(shots, bits, HIGHEST_RATE))
        return tuple(caps)

    def lowest_feasible(self, track: Track) -> float:
        """Return the lowest rate in bit/s at which the cheapest choices keep the scaling caps.

        Dinkelbach's iteration: scale the rate by the worst violation until there is none.
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

    def infeasible_at(self, rate: float) -> InfeasibleResult:
        """Say which cap breaks at ``rate`` bit/s, a rate below every track's lowest feasible."""
        best = min(self.tracks, key=self.lowest_feasible)
        result = for_budget(best.problem, math.inf, self.caps(rate))
        assert isinstance(result, InfeasibleResult)
        return result

    def number_with(self, size: Size) -> int:
        """Return the number of the track that ``size`` belongs to."""
        for number, track in enumerate(self.tracks):
            if size in {choice.point.size for choice in track.problem.shots[0].candidates}:
                return number
        raise ValueError(f"no track has {size.width}x{size.height}")

    def best_at(
        self, rate: float, from_track: int = 0, to_track: int | None = None
    ) -> BestAllocation | InfeasibleResult:
        """Return the best choice of at most ``rate`` bit/s on ``from_track`` to ``to_track``.

        A track's unconstrained quality bounds what it can reach, so tracks are tried from the
        most promising one until none can beat the best so far. Ties go to the smaller size.
        """
        caps = self.caps(rate)
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
        return BestAllocation(*best, max(promise.values()))
