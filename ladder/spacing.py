"""At which rates the rungs of a ladder lie, by spacing.

Rungs lie on the title's curve from the lowest usable rate to where quality saturates, evenly
spaced so that neighbours differ by at most one JND and one rate ratio. A profile may list the
rates instead, or have rungs placed by what viewers receive (:mod:`ladder.placed`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ladder.constraints import InfeasibleResult, WindowCap
from ladder.profiles import LEAST_RATIO, Profile
from ladder.tracks import SOURCE_RATE, TitleTracks

STEPS_PER_DOUBLING = 32
"""Steps per doubling of the rate in which the title's curve is searched for its saturation."""
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
    notes: tuple[str, ...]
    """Sentences for people: what bounds the whole ladder."""


def bounds(tracks: TitleTracks, profile: Profile, *, placed: bool) -> Bounds | InfeasibleResult:
    """Return between which rates rungs are worth having.

    With ``placed`` (:mod:`ladder.placed`) rungs may lie anywhere that the constraints allow; where
    their objective is quality, up to saturation.

    Returns:
        Infeasible where the user's highest rate is below what the other constraints need.
    """
    notes = []
    feasible = min(tracks.lowest_feasible(track) for track in tracks.tracks)
    if placed:
        first = feasible
        top = profile.placement == "most-quality"
        last = saturation(tracks, profile) if top else tracks.highest_rate
    else:
        usable = tracks.rate_for(profile.min_quality)
        first = min(max(usable, profile.first_rate[0]), profile.first_rate[1])
        last = saturation(tracks, profile)
    for cap in tracks.fixed_caps():
        most = cap.bits / tracks.seconds
        if most < feasible:
            return tracks.infeasible_at(most)
        if most < last:
            last = most
            notes.append(f"highest rung limited to {_whose(tracks, cap, most)}")
    if feasible > first and not profile.rates:
        cheap = feasible <= tracks.lowest_rate * 1.001
        why = "cheapest choices" if cheap else "peak constraints"
        notes.append(f"lowest rung raised to {feasible / 1e3:.0f} kbit/s by the {why}")
        first = feasible
    return Bounds(first, max(last, feasible), feasible, tuple(notes))


def rung_rates(
    tracks: TitleTracks, profile: Profile, within: Bounds, committed: Sequence[float] = ()
) -> tuple[float, ...]:
    """Return the rates at which rungs are worth having besides the ``committed`` rates.

    Args:
        tracks: The title under the profile's constraints.
        profile: Where rungs lie.
        within: Between which rates.
        committed: Rates in bit/s of rungs that are part of the ladder already, ascending.
    """
    first, last = min(within.first, within.last), within.last
    if profile.rates:
        return _listed(profile, within.feasible, last)
    if committed:
        return _around(tracks, profile, first, last, committed)
    return _spaced(tracks, profile, first, last)


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


def _listed(profile: Profile, feasible: float, last: float) -> tuple[float, ...]:
    """Return the profile's own rates that are feasible and below saturation.

    Where the list goes on above ``last``, the highest rung lies there, replacing a listed rate
    that is hardly below.
    """
    listed = tuple(rate for rate in profile.rates if rate >= feasible)
    if listed and listed[-1] < last:
        return listed
    return (*(rate for rate in listed if rate < last / LEAST_RATIO), last)


def _around(
    tracks: TitleTracks, profile: Profile, first: float, last: float, committed: Sequence[float]
) -> tuple[float, ...]:
    """Return the rates between and beside the committed ones that the spacing asks for."""
    ends = [rate for rate in (first,) if apart(rate, committed[0]) and rate < committed[0]]
    ends += [*committed]
    ends += [rate for rate in (last,) if apart(rate, committed[-1]) and rate > committed[-1]]
    steps = (_spaced(tracks, profile, *step, COMMITTED_STRETCH) for step in pairwise(ends))
    return tuple(rate for step in steps for rate in step)


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
    while rates[-1] < last * (1 - 1e-9) and (at_most is None or len(rates) <= at_most):
        rate = rates[-1]
        by_quality = tracks.rate_for(tracks.quality_at(rate) + stride * profile.jnd)
        by_rate = rate * profile.max_rate_ratio**stride
        # A curve that jumps where a size begins must not stop the climb.
        rates.append(min(max(min(by_quality, by_rate), rate * 1.005), last))
    return rates
