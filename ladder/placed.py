"""At which rates rungs serve the viewers best: :mod:`ladder.placement` on a title's curve.

The candidates are points of the title's curve: an even lattice of rates that is the same for all
titles, so that a small change of the curve moves a rung by a small step at most, and for every rung
of the reference ladder the lowest rate that serves its viewers and the highest that they afford.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from encoder.arrays import Float64, Index
from encoder.media import Size
from ladder.placement import Objective, Rules, place
from ladder.profiles import Profile
from ladder.reference_ladder import MARGIN, predicted, reference_rungs
from ladder.title_curves import TitleCurves
from ladder.tracks import TitleTracks, Track
from ladder.viewers import Offer

LATTICE = 1.015
"""Ratio of neighbouring candidates' rates."""
AFFORDED = 0.995
"""Share of a reference rung's rate that a rung for its viewers takes at most."""
ENOUGH = 1.0005
"""Factor on the lowest rate that serves viewers, against rounding."""
WORTH_SAYING = 0.05
"""Points of quality beyond the tolerance that viewers must lose for it to be said."""
NEGLIGIBLE = 0.05
"""Points of quality that count as nothing: what is left of saturated curves is not worth a rung."""
OBJECTIVES: dict[str, Objective] = {
    "fewest-bits": "fewest-bits",
    "most-quality": "most-quality",
}


@dataclass(frozen=True, slots=True)
class PlacedRate:
    """Where a rung is wanted, and what for."""

    rate: float
    """Rate in bit/s."""
    least_quality: float = -math.inf
    """Quality that its viewers have to get."""
    most_rate: float = math.inf
    """Rate in bit/s that those viewers afford."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Rungs to solve besides the committed ones, by rate, and what bounds the ladder."""

    rates: tuple[PlacedRate, ...]
    notes: tuple[str, ...]


def placed_rates(
    tracks: TitleTracks,
    profile: Profile,
    reference: Sequence[Offer],
    first: float,
    last: float,
    committed: Sequence[Offer] = (),
) -> Placed:
    """Return where rungs serve the profile's audience best.

    Args:
        tracks: The title's curves, which the rungs will lie on.
        profile: Objective, audience and gaps.
        reference: Ladder that no viewer may lose against, from the lowest rate.
        first: Lowest rate in bit/s that a rung may have.
        last: Highest rate in bit/s that a rung may have.
        committed: Rungs that are part of the ladder already, ascending.
    """
    candidates, kept = _candidates(tracks, profile, reference, first, last, committed)
    rules = _rules(profile, len(committed))
    placement = place(candidates, reference, profile.audience, rules, kept)
    chosen = [candidates[number] for number in placement.chosen]
    above = [*(rung.rate for rung in chosen[1:]), math.inf]
    below = [-math.inf, *(rung.quality for rung in chosen[:-1])]
    wanted = [
        _wanted(rung, low, high, reference, rules.tolerance)
        for number, rung, low, high in zip(placement.chosen, chosen, below, above, strict=True)
        if number not in kept
    ]
    notes = _losses(chosen, reference, profile.tolerance)
    if first > reference[0].rate:
        notes.insert(
            0,
            f"lowest rung raised to {first / 1e3:.0f} kbit/s, the least that the title's cheapest "
            "choices and its constraints allow",
        )
    return Placed(tuple(wanted), tuple(notes))


def worth_keeping(
    rungs: Sequence[Offer], reference: Sequence[Offer], profile: Profile
) -> tuple[int, ...]:
    """Return the numbers of those measured ``rungs`` that serve the viewers best, ascending.

    A rung that was measured elsewhere than planned may be of no use, and cost viewers bits.
    """
    rules = _rules(profile, len(rungs))
    kept = replace(rules, counts=(1, rules.counts[1]), least_ratio=1.0)
    return place(rungs, reference, profile.audience, kept).chosen


def reference_offers(
    title: TitleCurves, profile: Profile, sizes: Sequence[tuple[Size, Track]]
) -> tuple[Offer, ...]:
    """Return the reference ladder with its quality: as known, or predicted on these curves.

    Args:
        title: The title.
        profile: Names the reference ladder.
        sizes: Every size with its title curve without constraints, smallest first.
    """
    if title.reference:
        return title.reference
    rungs = reference_rungs(title.shown_size, profile)
    return predicted(rungs, [size for size, _ in sizes], [t for _, t in sizes], title.recipe)


def _rules(profile: Profile, committed: int) -> Rules:
    return Rules(
        objective=OBJECTIVES[profile.placement],
        tolerance=_tolerance(profile),
        counts=(profile.rung_count[0], max(profile.rung_count[1], committed)),
        least_ratio=profile.least_ratio,
        most_ratio=profile.max_rate_ratio if profile.largest_steps else math.inf,
        most_step=profile.jnd if profile.largest_steps else math.inf,
    )


def _tolerance(profile: Profile) -> float:
    """Return the points that viewers may lose by the prediction; a part of what they may lose at
    all is kept for its errors."""
    return max(profile.tolerance - MARGIN, NEGLIGIBLE)


def _candidates(
    tracks: TitleTracks,
    profile: Profile,
    reference: Sequence[Offer],
    first: float,
    last: float,
    committed: Sequence[Offer],
) -> tuple[list[Offer], set[int]]:
    """Return the candidates by rate, and which of them are the committed rungs."""
    tolerance = _tolerance(profile)
    low, high = (math.ceil(math.log(first, LATTICE)), math.floor(math.log(last, LATTICE)))
    rates = {first, last, *(LATTICE**step for step in range(low, high + 1))}
    rates |= {tracks.rate_for(rung.quality - tolerance) * ENOUGH for rung in reference}
    rates |= {rung.rate * AFFORDED for rung in reference}
    inside = np.array(sorted(rate for rate in rates if first <= rate <= last))
    quality, lines = _curve(tracks, inside)
    rising = _rising(quality)
    lines = np.maximum.accumulate(lines)
    taken = {rung.rate for rung in committed}
    points = [
        Offer(float(inside[n]), float(quality[n]), int(lines[n]))
        for n in rising
        if inside[n] not in taken
    ]
    ordered = sorted([*points, *committed])
    kept = {ordered.index(rung) for rung in committed}
    return ordered, kept


def _curve(tracks: TitleTracks, rates: Float64) -> tuple[Float64, Index]:
    """Return the title curve's quality and lines at each rate."""
    qualities = np.array(
        [np.interp(rates, t.rates, t.qualities, left=-math.inf) for t in tracks.tracks]
    )
    best = np.argmax(qualities, axis=0)
    lines = np.array([_lines(track) for track in tracks.tracks])
    return qualities.max(axis=0), lines[best]


def _lines(track: Track) -> int:
    return max(min(c.point.size) for c in track.problem.shots[0].candidates)


def _rising(quality: Float64) -> Index:
    """Return the numbers of the points that no earlier point equals."""
    earlier = np.concatenate(([-math.inf], np.maximum.accumulate(quality)[:-1]))
    return np.flatnonzero(quality > earlier)


def _wanted(
    rung: Offer, below: float, above: float, reference: Sequence[Offer], tolerance: float
) -> PlacedRate:
    """Return a rung with what its viewers need, given the quality of the rung below and the rate
    of the rung above."""
    served = [each for each in reference if each.rate < above] or list(reference[:1])
    least = max(each.quality for each in served) - tolerance
    own = [each.rate for each in served if each.quality - tolerance > below]
    return PlacedRate(rung.rate, min(least, rung.quality), min(own, default=math.inf))


def _losses(chosen: Sequence[Offer], reference: Sequence[Offer], tolerance: float) -> list[str]:
    """Say who loses more than the tolerance even so."""
    lost = {}
    for rung in reference:
        playing = [each for each in chosen if each.rate <= rung.rate] or chosen[:1]
        lost[rung.rate] = rung.quality - playing[-1].quality
    losing = [rate for rate, points in lost.items() if points > tolerance + WORTH_SAYING]
    if not losing:
        return []
    rungs = ", ".join(f"{rate / 1e3:.0f}" for rate in losing)
    return [
        f"viewers lose up to {max(lost[rate] for rate in losing):.1f} points (predicted) against "
        f"the reference ladder, at its rungs of {rungs} kbit/s"
    ]
