"""How committed rungs get better: by other measured cells, or by new encodes that pay."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from encoder.media import Shot, Size
from ladder.constraints import InfeasibleResult
from ladder.placed import closest_ratio
from ladder.reference_ladder import is_placed
from ladder.rungs import COMMITTED_SLACK, RungPlan, at_slope_within, slope_at
from ladder.search.measured import measured_points
from ladder.search.state import Reasons, State, requests_of
from ladder.search.steps import request_order


@dataclass(frozen=True, slots=True)
class _Offer:
    """New encodes for one rung, and what they are expected to save."""

    gain: float
    """Share of the rung's bits."""
    rung: int
    """Number of the rung among the committed ones."""
    reasons: Reasons


def moves(state: State, committed: Sequence[RungPlan]) -> Reasons:
    """Return what to encode to improve committed rungs, best first, within the budget."""
    tuning, shots = state.tuning, state.known.title.shots
    offers = sorted(
        _offers(state, committed),
        key=lambda offer: (
            -offer.gain / len(offer.reasons),
            offer.rung,
            *map(request_order, offer.reasons),
        ),
    )
    room = _room(state, committed)
    wanted: Reasons = {}
    for offer in offers:
        new = {request: why for request, why in offer.reasons.items() if request not in wanted}
        gain = offer.gain * len(shots) / len(offer.reasons)
        exceptional = gain > tuning.exceptional_gain * tuning.required_gain
        allowed = math.inf if tuning.budget > 0 and exceptional else room
        if gain > tuning.required_gain and len(wanted) + len(new) <= allowed:
            wanted |= new
    return wanted


def _room(state: State, committed: Sequence[RungPlan]) -> int:
    """Return how many encodes the budget has left beside those that are delivered now."""
    delivered = {request for rung in committed for request in requests_of(rung)}
    extra = state.measured.keys() - delivered - state.given
    return max(0, math.floor(state.tuning.budget * len(delivered)) - len(extra))


def _offers(state: State, committed: Sequence[RungPlan]) -> Iterator[_Offer]:
    """Yield every single shot that could move, and every other size of a rung."""
    shots = state.known.title.shots
    for number, rung in enumerate(committed):
        # Where every shot has its best, no bit buys anything; a rung that has the quality that it
        # was asked for by would move away from it.
        if not rung.slope > 0 or rung.has_target:
            continue
        rate = f"{rung.rate / 1e3:.0f} kbit/s"
        for size in _allowed_sizes(state, committed, number):
            best = at_slope_within(
                state.curves, state.known.profile, size, rung.slope, state.max_rate(rung)
            )
            if isinstance(best, InfeasibleResult):
                continue
            new = [request for request in requests_of(best) if request not in state.measured]
            if size == rung.size:
                for shot, point in new:
                    gain = _gain(rung, [shot], best, shots)
                    why = f"is expected to save {100 * gain:.2f} % of the rung at {rate}"
                    yield _Offer(gain, number, {(shot, point): why})
            elif new:
                gain = _gain(rung, range(len(shots)), best, shots)
                why = f"{size.height}p is expected to save {100 * gain:.1f} % at {rate}"
                yield _Offer(gain, number, dict.fromkeys(new, why))


def _allowed_sizes(state: State, committed: Sequence[RungPlan], number: int) -> tuple[Size, ...]:
    """Return the sizes of a rung with which the ladder's sizes never fall."""
    sizes = state.prediction.sizes
    low = sizes.index(committed[number - 1].size) if number else 0
    above = committed[number + 1 :]
    high = sizes.index(above[0].size) if above else len(sizes) - 1
    return tuple(size for size in sizes[low : high + 1] if committed[number].may_have(size))


def best_measured(state: State, committed: Sequence[RungPlan]) -> list[RungPlan]:
    """Return each rung's best choice among measured cells, at the slope that the title has there.

    A rung that is no better than the one below it is dropped.
    """
    rungs: list[RungPlan] = []
    shots, sizes = state.known.title.shots, state.prediction.sizes
    points = measured_points(state.measured, shots)
    lowest = 0
    for number, rung in enumerate(committed):
        most_bits = _most_bits(state, committed[number + 1 :])
        slope = slope_at(state.curves, rung.size, rung.bits)
        best = at_slope = replace(rung, slope=slope)
        for size in (s for s in points if lowest <= sizes.index(s)):
            other = state.at_slope(replace(at_slope, size=size), points[size])
            if isinstance(other, InfeasibleResult):
                continue
            other = replace(other, least_quality=rung.least_quality)
            if not rung.may_have(size):
                continue
            if size != rung.size and not 0.8 < other.rate / rung.rate < 1.25:
                continue
            if other.quality < min(rung.quality, rung.least_quality) or other.bits > most_bits:
                continue
            if rung.has_target and _off(other) > max(_off(rung), COMMITTED_SLACK):
                continue
            if slope > 0 and _gain(best, range(len(shots)), other, shots) > 0:
                best = other
        if not rungs or (best.bits > rungs[-1].bits and best.quality > rungs[-1].quality):
            kept = replace(best, target_rate=rung.target_rate, lines=rung.lines, wish=rung.wish)
            rungs.append(kept)
            lowest = sizes.index(best.size)
    return rungs


def _off(rung: RungPlan) -> float:
    """Return by how much a rung misses the quality that it was asked for by."""
    return abs(rung.quality - rung.least_quality)


def _most_bits(state: State, above: Sequence[RungPlan]) -> float:
    """Return the bits of a rung at most that leave those ``above`` rungs of their own; where rungs
    are placed, each of them has its viewers."""
    profile = state.known.profile
    if not above or not is_placed(profile, state.known.title.sizes[-1]):
        return math.inf
    return above[0].bits / closest_ratio(profile)


def _gain(rung: RungPlan, of: Iterable[int], other: RungPlan, shots: Sequence[Shot]) -> float:
    """Return what ``other``'s choices for the shots ``of`` save, as a share of the rung's bits."""
    total = 0.0
    for shot in of:
        old, new = rung.choices[shot], other.choices[shot]
        total += shots[shot].frames * (new.quality - old.quality) / rung.slope - (
            new.bits - old.bits
        )
    return total / rung.bits
