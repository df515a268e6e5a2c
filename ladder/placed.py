"""At which rates rungs serve the viewers best: :mod:`ladder.placement` on a title's curve.

The candidates are points of the title's curve: an even lattice of rates that is the same for all
titles, so that a small change of the curve moves a rung by a small step at most, and for every rung
of the reference ladder the lowest rate that serves its viewers and the highest that they afford.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from encoder.arrays import Float64, Index
from encoder.media import Size
from ladder.placement import Objective, Placement, Rules, place, shortcomings
from ladder.profiles import Profile
from ladder.reference_ladder import MARGIN, predicted, reference_rungs
from ladder.title_curves import TitleCurves
from ladder.tracks import TitleTracks, Track
from ladder.viewers import Offer
from ladder.wanted import Wanted

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
MEASURED_STRETCH = 1.1
"""Factor by which the largest steps may be exceeded beside measured rungs before another one is
added. Measured rungs are not just where they were planned."""
WORTH_LOSS = 0.015
"""Points of quality beyond the tolerance, as a mean over all viewers, that a new rung has to save
to be worth its encodes once others are measured."""
WORTH_BITS = 0.01
"""Share of the bits that viewers receive that a new rung has to save otherwise."""
WORTH_QUALITY = 0.1
"""Points of quality, as a mean over all viewers, that a new rung has to add otherwise."""
OBJECTIVES: dict[str, Objective] = {
    "fewest-bits": "fewest-bits",
    "most-quality": "most-quality",
}


@dataclass(frozen=True, slots=True)
class Placed:
    """The rungs of a ladder: those to solve, by rate, and those that are measured."""

    rates: tuple[Wanted, ...]
    kept: tuple[int, ...]
    """Numbers of the measured rungs that the ladder has, ascending."""
    notes: tuple[str, ...]


def placed_rates(
    tracks: TitleTracks,
    profile: Profile,
    reference: Sequence[Offer],
    first: float,
    last: float,
    measured: Sequence[Offer] = (),
) -> Placed:
    """Return where rungs serve the profile's audience best.

    Args:
        tracks: The title's curves, which the rungs will lie on.
        profile: Objective, audience and gaps.
        reference: Ladder that no viewer may lose against, from the lowest rate.
        first: Lowest rate in bit/s that a rung may have.
        last: Highest rate in bit/s that a rung may have.
        measured: Rungs that are encoded already, ascending. The ladder has those of them that
            serve viewers, and others only where these are worth their encodes.
    """
    measured = _good_enough(measured, profile)
    top = tracks.most_lines if profile.native_top else 0
    candidates = _candidates(tracks, profile, reference, first, last, measured)
    numbers = place(candidates, reference, profile.audience, _rules(profile, top)).chosen
    chosen = [candidates[number] for number in numbers]
    if measured:
        new = [rung for rung in chosen if rung not in measured]
        chosen = worth_encoding(new, measured, reference, profile, candidates[0].rate, top)
    each = zip(chosen, _all_wanted(chosen, reference, profile), strict=True)
    wanted = [needed for rung, needed in each if rung not in measured]
    if wanted and chosen[-1] not in measured and chosen[-1].lines >= top > 0:
        wanted[-1] = replace(wanted[-1], lines=(top, math.inf))
    notes = _losses(chosen, reference, profile.tolerance)
    if first > reference[0].rate:
        notes.insert(0, _raised(first, profile))
    if len(chosen) < profile.rung_count[0]:
        notes.append(
            f"{len(chosen)} rungs instead of {profile.rung_count[0]}: more would lie nearer to one "
            "another than the profile allows"
        )
    kept = tuple(number for number, rung in enumerate(measured) if rung in chosen)
    return Placed(tuple(wanted), kept, tuple(notes))


def _raised(first: float, profile: Profile) -> str:
    """Say why the lowest rung is dearer than the reference ladder's."""
    why = "that the title's cheapest choices and its constraints allow"
    if profile.quality_limits:
        why += f" and that has quality {profile.min_quality:g}"
    return f"lowest rung raised to {first / 1e3:.0f} kbit/s, the least {why}"


def _good_enough(measured: Sequence[Offer], profile: Profile) -> list[Offer]:
    """Return the measured rungs that reach the lowest quality of a rung."""
    if not profile.quality_limits:
        return [*measured]
    return [rung for rung in measured if rung.quality >= profile.min_quality]


def worth_encoding(
    new: Sequence[Offer],
    measured: Sequence[Offer],
    reference: Sequence[Offer],
    profile: Profile,
    first: float,
    top_lines: int = 0,
) -> list[Offer]:
    """Return the rungs of the ladder from measured and ``new`` ones, without new ones that are not
    worth their encodes beside the measured ones.

    Args:
        new: Rungs that are not encoded, in any order.
        measured: Rungs that are, at least one.
        reference: Ladder that no viewer may lose against, from the lowest rate.
        profile: Objective, audience and gaps.
        first: Lowest rate in bit/s that a rung may have.
        top_lines: Lines that the highest rung has at least.
    """

    def placed(among: Sequence[Offer]) -> Placement:
        return place(among, reference, profile.audience, rules)

    def rungs(among: Sequence[Offer], placement: Placement) -> list[Offer]:
        return [among[number] for number in placement.chosen]

    rules = _rules(profile, top_lines)
    lowest = max(reference[0].rate, first)
    while True:
        among = sorted([*measured, *new])
        best = placed(among)
        chosen = rungs(among, best)
        new = [rung for rung in chosen if rung not in measured]
        lacking = shortcomings(chosen, rules, MEASURED_STRETCH)
        without: dict[Offer, Placement] = {}
        for rung in new:
            others = [other for other in among if other != rung]
            # Nobody is left without a rung that they afford.
            if others and others[0].rate <= lowest:
                fewer = placed(others)
                if shortcomings(rungs(others, fewer), rules, MEASURED_STRETCH) <= lacking:
                    without[rung] = fewer
        useless = [rung for rung in without if not _pays(best, without[rung], profile)]
        if not useless:
            return chosen
        least = min(useless, key=lambda r: (without[r].lost, without[r].received, r.rate))
        new = [rung for rung in new if rung != least]


def _pays(placement: Placement, without: Placement, profile: Profile) -> bool:
    """Return whether a rung is worth its encodes, given the best ladder without that rung."""
    if without.lost - placement.lost > WORTH_LOSS:
        return True
    if profile.placement == "most-quality":
        return placement.quality - without.quality > WORTH_QUALITY
    return placement.received < without.received * (1 - WORTH_BITS)


def closest_ratio(profile: Profile) -> float:
    """Return the ratio of the rates of neighbouring measured rungs at least."""
    return (1 + profile.least_ratio) / 2


def are_near(rungs: Sequence[Offer], profile: Profile) -> bool:
    """Return whether two of a placed ladder's rungs are to be merged."""
    ratio, step = _merging(profile)
    return any(
        high.rate < low.rate * ratio and high.quality < low.quality + step
        for low, high in itertools.pairwise(rungs)
    )


def worth_keeping(
    rungs: Sequence[Offer], reference: Sequence[Offer], profile: Profile, top_lines: int = 0
) -> tuple[tuple[int, Wanted], ...]:
    """Return the numbers of those measured ``rungs`` that serve the viewers best, ascending, each
    with what its viewers need and afford.

    A rung that was measured elsewhere than planned may be of no use, and cost viewers bits. Since
    rungs are not measured just where they were planned, half of the smallest gap is enough.
    """
    good = _good_enough(rungs, profile) or [*rungs]
    rules = replace(_rules(profile, top_lines), least_ratio=closest_ratio(profile))
    placed = place(good, reference, profile.audience, rules).chosen
    if len(placed) < profile.rung_count[0]:
        # A number of rungs that was asked for comes before merging.
        unmerged = replace(rules, merge_ratio=1.0, merge_step=0.0)
        placed = place(good, reference, profile.audience, unmerged).chosen
    chosen = [good[number] for number in placed]
    numbers = [number for number, rung in enumerate(rungs) if rung in chosen]
    needs = _all_wanted([rungs[number] for number in numbers], reference, profile)
    return tuple(zip(numbers, needs, strict=True))


def reference_offers(
    title: TitleCurves, profile: Profile, sizes: Sequence[tuple[Size, Track]]
) -> tuple[Offer, ...]:
    """Return the reference ladder with its quality, predicted on these curves.

    Args:
        title: The title.
        profile: Names the reference ladder.
        sizes: Every size with its title curve without constraints, smallest first.
    """
    rungs = reference_rungs(title.shown_size, profile)
    return predicted(rungs, [size for size, _ in sizes], [t for _, t in sizes], title.recipe)


def _merging(profile: Profile) -> tuple[float, float]:
    """Return the ratio of rates and the points of quality within which rungs are merged; 1 and 0
    where no rungs are."""
    if not profile.merge_within:
        return 1.0, 0.0
    ratio, step = profile.merge_within
    if not profile.largest_steps:
        return ratio, step
    # There has to be a way in steps that are small enough.
    return min(ratio, math.sqrt(profile.max_rate_ratio)), min(step, profile.jnd / 2)


def _rules(profile: Profile, top_lines: int) -> Rules:
    ratio, step = _merging(profile)
    return Rules(
        objective=OBJECTIVES[profile.placement],
        tolerance=_tolerance(profile),
        counts=profile.rung_count,
        least_ratio=profile.least_ratio,
        most_ratio=profile.max_rate_ratio if profile.largest_steps else math.inf,
        most_step=profile.jnd if profile.largest_steps else math.inf,
        merge_ratio=ratio,
        merge_step=step,
        top_lines=top_lines,
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
    measured: Sequence[Offer],
) -> list[Offer]:
    """Return the candidates by rate, the measured rungs among them."""
    tolerance = _tolerance(profile)
    low, high = (math.ceil(math.log(first, LATTICE)), math.floor(math.log(last, LATTICE)))
    rates = {first, last, *(LATTICE**step for step in range(low, high + 1))}
    rates |= {tracks.rate_for(rung.quality - tolerance) * ENOUGH for rung in reference}
    rates |= {rung.rate * AFFORDED for rung in reference}
    inside = np.array(sorted(rate for rate in rates if first <= rate <= last))
    quality, lines = _curve(tracks, inside, profile)
    rising = _rising(quality)
    lines = np.maximum.accumulate(lines)
    taken = {rung.rate for rung in measured}
    points = [
        Offer(float(inside[n]), float(quality[n]), int(lines[n]))
        for n in rising
        if inside[n] not in taken
    ]
    return sorted([*points, *measured])


def _curve(tracks: TitleTracks, rates: Float64, profile: Profile) -> tuple[Float64, Index]:
    """Return the title curve's quality and lines at each rate, at sizes that may have the rate."""
    lines = np.array([track.lines for track in tracks.tracks])
    qualities = np.array(
        [np.interp(rates, t.rates, t.qualities, left=-math.inf) for t in tracks.tracks]
    )
    if profile.size_limits:
        most = np.array([profile.most_lines(rate) for rate in rates])
        allowed = lines[:, None] <= np.maximum(most, lines.min())[None, :]
        qualities = np.where(allowed, qualities, -math.inf)
    if profile.native_top and qualities[-1, -1] > -math.inf:
        # The highest rung has the size of the source, even where a smaller one looks better.
        qualities[:-1, -1] = -math.inf
        qualities[-1, -1] = max(qualities[-1, -1], qualities[:, :-1].max(initial=0.0) + NEGLIGIBLE)
    best = np.argmax(qualities, axis=0)
    return qualities.max(axis=0), lines[best]


def _rising(quality: Float64) -> Index:
    """Return the numbers of the points that no earlier point equals."""
    earlier = np.concatenate(([-math.inf], np.maximum.accumulate(quality)[:-1]))
    return np.flatnonzero(quality > earlier)


def _all_wanted(
    chosen: Sequence[Offer], reference: Sequence[Offer], profile: Profile
) -> list[Wanted]:
    """Return what the viewers of each rung of a ladder need."""
    tolerance = _tolerance(profile)
    above = [*(rung.rate for rung in chosen[1:]), math.inf]
    below = [-math.inf, *(rung.quality for rung in chosen[:-1])]
    return [
        _wanted(rung, low, high, reference, tolerance)
        for rung, low, high in zip(chosen, below, above, strict=True)
    ]


def _wanted(
    rung: Offer, below: float, above: float, reference: Sequence[Offer], tolerance: float
) -> Wanted:
    """Return a rung with what its viewers need, given the quality of the rung below and the rate
    of the rung above."""
    served = [each for each in reference if each.rate < above] or list(reference[:1])
    least = max(each.quality for each in served) - tolerance
    # Those who lose even so, because they afford nothing better, bind no other rung.
    own = [
        each.rate for each in served if each.quality - tolerance > below and each.rate >= rung.rate
    ]
    if not own:
        return Wanted(rung.rate, most_rate=above)  # it saves bits, and nobody needs it
    return Wanted(rung.rate, min(least, rung.quality), min(*own, above))


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
