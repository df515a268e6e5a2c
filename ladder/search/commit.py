"""Which rungs to commit next, and how a committed rung keeps its constraints once measured."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import replace

from encoder.media import OperatingPoint, Request, Size
from ladder.constraints import InfeasibleResult
from ladder.curves import MeasuredPoints, Measurement
from ladder.reference_ladder import is_placed, reference_rungs
from ladder.rungs import RungPlan
from ladder.search.state import Reasons, State, column_of, requests_of

PILOT_SHARE = 0.15
"""Share of the shots that are measured before the first rung is placed, rounded up."""
SAME_LEVEL_CRF = 6.0
"""Difference in CRF up to which one measurement of a size says what another would."""
TARGET_ROUNDS = 3
"""Rounds of new encodes at most to bring a rung to the quality that it was asked for by."""
SAME_RATE_WITHIN = 0.05
"""Share of its bits within which a rung counts as being where it was planned."""


def pilots(state: State, free: Sequence[RungPlan]) -> Reasons:
    """Return what to measure before the first of the ``free`` rungs is committed.

    Placed rungs have to lie between a quality that their viewers need and a rate that they afford,
    and before anything is measured, the rate of a whole title is off by more than that. A few shots
    of the middle rung tell most of it; without them a whole rung would be encoded elsewhere.

    What viewers need follows from the reference ladder, whose sizes may be none of ours. Where its
    lowest rung was predicted too bad, on the steepest part of the curves, viewers would lose most;
    where its highest was predicted too good, they would get bits for nothing. So a few shots tell
    what these two look like.
    """
    title, profile = state.known.title, state.known.profile
    if not free or not is_placed(profile, title.sizes[-1]):
        return {}
    shots = len(title.shots)
    count = math.ceil(shots * PILOT_SHARE)
    chosen = sorted({shots * (2 * n + 1) // (2 * count) for n in range(count)})
    pilot: Reasons = {}
    if not state.measured:
        wanted = requests_of(free[len(free) // 2])
        pilot |= {wanted[n]: "tells the title's level before rungs are placed" for n in chosen}
    fixed = reference_rungs(state.curves.shown_size, profile)
    for name, rung, beside in (("lowest", fixed[0], free[0]), ("highest", fixed[-1], free[-1])):
        size = _nearest(rung.size, state.prediction.sizes)
        if size == beside.size:
            continue
        wanted = _at_rate(state, size, float(rung.rate), beside)
        if not any(_says_much(state, wanted[n][1]) for n in chosen):
            why = f"tells what the reference ladder's {name} rung looks like"
            pilot |= {wanted[n]: why for n in chosen}
    return pilot


def _says_much(state: State, point: OperatingPoint) -> bool:
    """Return whether something near an operating point is measured, of whatever shot."""
    return any(
        measured.size == point.size and abs(measured.crf - point.crf) <= SAME_LEVEL_CRF
        for _, measured in state.measured
    )


def _nearest(wanted: Size, sizes: Sequence[Size]) -> Size:
    pixels = wanted.width * wanted.height
    return min(sizes, key=lambda size: abs(math.log(size.width * size.height / pixels)))


def _at_rate(state: State, size: Size, rate: float, like: RungPlan) -> list[Request]:
    """Return what a size is predicted to need for ``rate`` bit/s, by shot; its cheapest choices
    where none are as cheap."""
    at_rate = replace(like, size=size, slope=0.0, most_rate=rate)
    rung = state.at_slope(at_rate, state.curves.curves[size])
    if isinstance(rung, InfeasibleResult):
        title, highest_crf = state.known.title, float(state.prediction.scale.crfs[-1])
        return [(shot, title.point(size, highest_crf)) for shot in range(len(title.shots))]
    return requests_of(rung)


def next_rungs(
    free: Sequence[RungPlan], committed: Sequence[RungPlan], regrets: Sequence[float]
) -> list[RungPlan]:
    """Return the rungs to commit in this round.

    First the most certain one, then the most certain one on each side of it, then all that are
    as certain as any. Of equally certain rungs the middle one comes first.
    """
    middle = len(free) // 2
    order = sorted(range(len(free)), key=lambda n: (regrets[n], abs(n - middle), n))
    if len(committed) == 1:
        below = [n for n in order if free[n].rate < committed[0].rate]
        above = [n for n in order if free[n].rate > committed[0].rate]
        return [free[side[0]] for side in (below, above) if side]
    if not committed:
        return [free[n] for n in order[:1]]
    return [free[n] for n in sorted(order) if regrets[n] == min(regrets)]


def reusing_measured(state: State, rung: RungPlan, committed: Sequence[RungPlan]) -> RungPlan:
    """Return the rung with measured cells wherever a new encode would not save enough.

    The rung is returned unchanged where that would move its rate, or repeat a committed rung.
    """
    cheap = state.corrected.curves(state.tuning.new_encode_penalty)[rung.size]
    reused = state.at_slope(rung, cheap)
    if isinstance(reused, InfeasibleResult):
        return rung
    size = state.prediction.sizes.index(rung.size)
    columns = [column_of(state.prediction, choice.point.crf) for choice in reused.choices]
    bits = state.corrected.bits[range(len(columns)), size, columns].sum()
    near = abs(bits / rung.bits - 1) < SAME_RATE_WITHIN
    taken = any(requests_of(reused) == requests_of(other) for other in committed)
    return replace(rung, choices=reused.choices) if near and not taken else rung


def keep_constraints(
    state: State, rung: RungPlan
) -> Generator[Reasons, State, tuple[State, RungPlan]]:
    """Replace what a measured rung cannot keep under its constraints; yields what to measure.

    First measured cells are kept where possible. Caps follow from the rate, so they are exact
    only for bits without a penalty on new encodes, which later attempts go without.
    """
    tuning = state.tuning
    for penalty in (tuning.new_encode_penalty, *[0.0] * tuning.repair_rounds):
        if _keeps_constraints(state, rung):
            break
        curves = state.corrected.curves(penalty)[rung.size]
        kept, solved = state.at_slope(rung, curves), rung.target_rate
        if isinstance(kept, InfeasibleResult):
            if penalty:
                continue
            # At this rate nothing does; the lowest rung is where something can.
            kept = state.lowest(rung, curves)
            if isinstance(kept, InfeasibleResult):
                break
            solved = rung.target_rate if state.known.profile.rates else kept.target_rate
        why = f"the rung at {rung.rate / 1e3:.0f} kbit/s has to keep its constraints"
        state = yield {
            request: why for request in requests_of(kept) if request not in state.measured
        }
        rung = state.as_measured(replace(rung, choices=kept.choices, target_rate=solved))
    return state, rung


def serve_viewers(
    state: State, rung: RungPlan
) -> Generator[Reasons, State, tuple[State, RungPlan]]:
    """Change single shots of a measured rung that narrowly misses the viewers for whom it was
    placed; yields what to measure."""
    rounds = TARGET_ROUNDS if rung.has_target else 1
    for penalty in (state.tuning.new_encode_penalty, *[0.0] * rounds):
        served = state.serving(rung, state.corrected.curves(penalty)[rung.size])
        enough = rung.rate <= rung.most_rate and not rung.has_target
        if served is None or (penalty == 0 and enough):
            break  # what is still short of quality is not worth another round
        what = "have the quality asked for" if rung.has_target else "serve its viewers"
        why = f"the rung at {rung.rate / 1e3:.0f} kbit/s has to {what}"
        state = yield {
            request: why for request in requests_of(served) if request not in state.measured
        }
        rung = state.as_measured(served)
    return state, rung


def _keeps_constraints(state: State, rung: RungPlan) -> bool:
    """Return whether a measured rung keeps its constraints as it is."""
    points = tuple(
        MeasuredPoints(
            shot.frames, {choice.point.crf: Measurement(round(choice.bits), choice.quality)}
        )
        for shot, choice in zip(state.known.title.shots, rung.choices, strict=True)
    )
    return not isinstance(state.at_slope(rung, points), InfeasibleResult)
