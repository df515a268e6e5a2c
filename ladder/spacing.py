"""At which rates the rungs of a ladder lie, by spacing.

Rungs lie on the title's curve from the lowest usable rate to where quality saturates, evenly
spaced so that neighbours differ by at most one JND and one rate ratio. A profile may list the
rungs instead (:mod:`ladder.listed`), or have them placed by what viewers receive
(:mod:`ladder.placed`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ladder.bdrate import RatePoint
from ladder.constraints import InfeasibleResult, WindowCap
from ladder.profiles import LEAST_RATIO, Profile
from ladder.tracks import SOURCE_RATE, TitleTracks

USUAL_COUNT = (1, 12)
"""``rung_count`` of a profile that says nothing of it: no limit for spaced rungs."""
STEPS_PER_DOUBLING = 32
"""Steps per doubling of the rate in which the title's curve is searched for its saturation."""
LOWEST_QUALITY = "lowest quality"
"""Name of the constraint that the user sets on the quality of all rungs."""
COMMITTED_STRETCH = 1.1
"""Factor by which the spacing may be exceeded next to a committed rung. Such a rung was put where
the curve was thought to be, and another rung costs more than a step that is a little long."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Between which rates in bit/s rungs lie."""

    first: float
    last: float
    feasible: float
    """Lowest rate that the constraints allow."""
    lowest: float
    """Lowest rate that the constraints and the lowest quality allow."""
    notes: tuple[str, ...]
    """Sentences for people: what bounds the whole ladder."""


def bounds(tracks: TitleTracks, profile: Profile, *, placed: bool) -> Bounds | InfeasibleResult:
    """Return between which rates rungs are worth having.

    With ``placed`` (:mod:`ladder.placed`) rungs may lie anywhere that the constraints allow; where
    their objective is quality, up to saturation.

    Returns:
        Infeasible where the user's highest rate is below what the other constraints need.
    """
    notes: list[str] = []
    limited: list[str] = []
    feasible = min(tracks.lowest_feasible(track) for track in tracks.tracks)
    first, last = _natural(tracks, profile, feasible, placed=placed)
    lowest = feasible
    if profile.quality_limits:
        reached = tracks.rate_for(profile.min_quality)
        if math.isinf(reached):
            return _out_of_reach(tracks, profile)
        lowest = first = max(feasible, reached)
        last = min(last, tracks.rate_for(profile.max_quality))
    for cap in tracks.fixed_caps():
        most = cap.bits / tracks.seconds
        if most < feasible:
            return tracks.infeasible_at(most)
        if most < lowest:
            return _too_dear(profile, lowest, most, cap.why)
        if most < last:
            last = most
            limited = [f"highest rung limited to {_whose(tracks, cap, most)}"]
    notes += limited
    if feasible > first and not profile.lists_rungs:
        cheap = feasible <= tracks.lowest_rate * 1.001
        why = "cheapest choices" if cheap else "peak constraints"
        notes.append(f"lowest rung raised to {feasible / 1e3:.0f} kbit/s by the {why}")
        first = feasible
    return Bounds(first, max(last, lowest), feasible, lowest, tuple(notes))


def _natural(
    tracks: TitleTracks, profile: Profile, feasible: float, *, placed: bool
) -> tuple[float, float]:
    """Return the lowest and the highest rate in bit/s of rungs that no limit bounds."""
    if profile.qualities:
        return feasible, tracks.highest_rate
    if placed:
        top = profile.placement == "most-quality"
        return feasible, saturation(tracks, profile) if top else tracks.highest_rate
    usable = tracks.rate_for(profile.min_quality)
    first = min(max(usable, profile.first_rate[0]), profile.first_rate[1])
    return first, saturation(tracks, profile)


def _out_of_reach(tracks: TitleTracks, profile: Profile) -> InfeasibleResult:
    best = max(float(track.qualities[-1]) for track in tracks.tracks)
    return InfeasibleResult(
        LOWEST_QUALITY,
        f"every rung is to have quality {profile.min_quality:g} at least, and the title reaches "
        f"{best:.2f}",
        profile.min_quality - best,
    )


def _too_dear(profile: Profile, lowest: float, most: float, why: str) -> InfeasibleResult:
    return InfeasibleResult(
        LOWEST_QUALITY,
        f"quality {profile.min_quality:g} takes {lowest / 1e3:.0f} kbit/s, and the {why} is "
        f"{most / 1e3:.0f} kbit/s",
        lowest - most,
    )


def rung_rates(
    tracks: TitleTracks, profile: Profile, within: Bounds, committed: Sequence[float] = ()
) -> tuple[float, ...]:
    """Return the rates at which rungs are worth having besides the ``committed`` rates.

    Args:
        tracks: The title under the profile's constraints.
        profile: How far apart rungs lie.
        within: Between which rates.
        committed: Rates in bit/s of rungs that are part of the ladder already, ascending.
    """
    first, last = min(within.first, within.last), within.last
    stride = _stride(tracks, profile, first, last)
    if profile.rung_count[1] == 1:
        return () if committed else (last,)
    if committed:
        return _around(tracks, profile, first, last, committed, stride)
    return _spaced(tracks, profile, first, last, stride)


def _stride(tracks: TitleTracks, profile: Profile, first: float, last: float) -> float:
    """Return how many times the profile's largest steps a step has at most, so that there are as
    many rungs as are asked for; 1 where no number is asked for."""
    if profile.rung_count == USUAL_COUNT:
        return 1.0
    rates = _climb(tracks, profile, first, last, 1.0)
    fewest, most = profile.rung_count
    if fewest <= len(rates) <= most:
        return 1.0
    wanted = max(fewest, min(len(rates), most), 2)  # the first and the last
    low, high = 0.0, 1.0
    while len(_climb(tracks, profile, first, last, high, wanted)) > wanted:
        low, high = high, high * 2
    for _ in range(30):
        middle = (low + high) / 2
        if len(_climb(tracks, profile, first, last, middle, wanted)) > wanted:
            low = middle
        else:
            high = middle
    return high


def _whose(tracks: TitleTracks, cap: WindowCap, rate: float) -> str:
    """Name the rate in bit/s of a cap on a whole rung, and where it comes from."""
    limit, own = f"{rate / 1e3:.0f} kbit/s", tracks.title.source_bits
    if cap.why != SOURCE_RATE or own is None:
        return f"the cap of {limit}"
    if cap.bits == own:
        return f"the source's {limit}"
    source = f"the source's {own / tracks.seconds / 1e3:.0f} kbit/s"
    if cap.bits > own + tracks.title.allowance_bits:
        return f"{limit}, the least that a ladder takes, though more than {source}"
    return f"{limit}, though {source} are less: another codec, more keyframes or the least rate"


def apart(rate: float, other: float) -> bool:
    """Return whether two rates are far enough apart for a rung each."""
    return max(rate, other) > min(rate, other) * LEAST_RATIO


def saturation(tracks: TitleTracks, profile: Profile) -> float:
    """Return the rate where quality reaches its maximum or more bits stop being worth it.

    The latter is the lowest rate from which on doubling never adds the profile's ``saturation``.
    """
    low, high = tracks.lowest_rate, tracks.highest_rate
    count = 2 + math.ceil(math.log2(high / low) * STEPS_PER_DOUBLING)
    rates = np.geomspace(low, high, count)
    gains = np.array([tracks.quality_at(2 * r) - tracks.quality_at(r) for r in rates.tolist()])
    worth = np.flatnonzero(gains >= profile.saturation)
    knee = float(rates[min(int(worth[-1]) + 1, count - 1)]) if len(worth) else low
    return min(knee, tracks.rate_for(profile.max_quality))


def kept_apart(rungs: Sequence[RatePoint], profile: Profile) -> tuple[int, ...]:
    """Return the numbers of spaced rungs without those that lie within the profile's
    ``merge_within`` of a neighbour, where the steps that this leaves are within its limits.

    The lowest rung always stays, and the highest one beside any other than the lowest.
    """
    kept = list(range(len(rungs)))
    if not profile.merge_within:
        return tuple(kept)
    ratio, points = profile.merge_within

    def near(low: int, high: int) -> bool:
        a, b = rungs[low], rungs[high]
        return b.rate < a.rate * ratio and b.quality < a.quality + points

    def may_go(at: int) -> bool:
        if len(kept) == 2:
            return at == 1
        if not 0 < at < len(kept) - 1:
            return False
        low, high = rungs[kept[at - 1]], rungs[kept[at + 1]]
        return (
            high.rate <= low.rate * profile.max_rate_ratio**COMMITTED_STRETCH
            and high.quality <= low.quality + profile.jnd * COMMITTED_STRETCH
        )

    at = 0
    while at + 1 < len(kept):
        gone = next((n for n in (at, at + 1) if may_go(n)), None)
        if gone is not None and near(kept[at], kept[at + 1]):
            del kept[gone]
            at = max(0, at - 1)
        else:
            at += 1
    return tuple(kept)


def _around(
    tracks: TitleTracks,
    profile: Profile,
    first: float,
    last: float,
    committed: Sequence[float],
    stride: float,
) -> tuple[float, ...]:
    """Return the rates between and beside the committed ones that the spacing asks for."""
    ends = [rate for rate in (first,) if apart(rate, committed[0]) and rate < committed[0]]
    ends += [*committed]
    ends += [rate for rate in (last,) if apart(rate, committed[-1]) and rate > committed[-1]]
    stretch = COMMITTED_STRETCH * stride
    steps = (_spaced(tracks, profile, *step, stretch) for step in pairwise(ends))
    rates = tuple(rate for step in steps for rate in step)
    if profile.rung_count == USUAL_COUNT:
        return rates
    added = [rate for rate in rates if all(apart(rate, other) for other in committed)]
    return tuple(added[: max(0, profile.rung_count[1] - len(committed))])


def _spaced(
    tracks: TitleTracks, profile: Profile, first: float, last: float, stretch: float = 1.0
) -> tuple[float, ...]:
    """Return the fewest evenly spaced rates from ``first`` to ``last`` whose steps are at most
    ``stretch`` times the profile's."""
    rates = _climb(tracks, profile, first, last, stretch)
    low, high = 0.0, stretch
    for _ in range(30):  # the least stride that still arrives with as many rungs
        middle = (low + high) / 2
        shorter = _climb(tracks, profile, first, last, middle, len(rates))
        if len(shorter) <= len(rates):
            rates, high = shorter, middle
        else:
            low = middle
    return tuple(rates)


def _climb(
    tracks: TitleTracks,
    profile: Profile,
    first: float,
    last: float,
    stride: float,
    at_most: int | None = None,
) -> list[float]:
    """Step from ``first`` to ``last`` by ``stride`` JNDs and rate ratios; give up one rate past
    ``at_most``."""
    rates = [first]
    least = profile.least_ratio if profile.least_ratio > LEAST_RATIO else 1.005
    while rates[-1] < last * (1 - 1e-9) and (at_most is None or len(rates) <= at_most):
        rate = rates[-1]
        by_quality = tracks.rate_for(tracks.quality_at(rate) + stride * profile.jnd)
        by_rate = rate * profile.max_rate_ratio**stride
        # A curve that jumps where a size begins must not stop the climb.
        rates.append(min(max(min(by_quality, by_rate), rate * least), last))
    if profile.least_ratio > LEAST_RATIO and len(rates) > 2 and rates[-1] < rates[-2] * least:
        del rates[-2]
    return rates
