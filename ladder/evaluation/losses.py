"""How much worse delivered rungs are than the best ones of their rates.

A rung is compared at its own rate with the best rung of the title's truth:

    loss = (J* - J) / (slope x bits*),   J = sum of frames x quality - slope x bits

with the slope, J* and bits* of what the exhaustive search would deliver at that rate. The loss is
a share of the rung's bits, needs no interpolation between rungs and does not depend on where rungs
lie. It can be negative.

Where quality is nearly saturated, bits are worth so little that a loss nobody sees is a large share
of them. So the loss is stated in points of quality as well (J* - J per frame), and saturated rungs
are told apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from encoder.media import Size
from ladder.bdrate import BdRate, RatePoint, bd_rate, monotone
from ladder.choices import Policy
from ladder.constraints import InfeasibleResult
from ladder.curves import Measurement
from ladder.evaluation.simulate import Simulated, Truth
from ladder.profiles import Profile
from ladder.rungs import RungPlan, solve_at_rates
from ladder.title_curves import TitleCurves

EQUAL_RATES = 8
"""Number of rates at which two ladders are solved for their BD-rate."""
SATURATED_POINTS = 2.0
"""Points of quality that e times the bits would gain, below which a rung counts as saturated. In
the middle of a ladder they would gain about 20."""


@dataclass(frozen=True, slots=True)
class RungLoss:
    """A delivered rung next to the best one of its rate."""

    rate: float
    """Rate in bit/s."""
    size: Size
    quality: float
    """Mean quality of the delivered rung."""
    best_size: Size | None
    """Size of the best rung at this rate; None where no rung keeps the constraints."""
    best_quality: float | None
    """Mean quality of the best rung; None where no rung keeps the constraints."""
    loss: float | None
    """Share of the rung's bits. None without a best rung, and where the best rung takes the best
    choice of every shot: more bits are worth nothing there, so nothing can be a share of them."""
    points: float | None = None
    """The loss in points of quality. None without a best rung."""
    points_per_fold: float = math.inf
    """Points that e times the bits would gain, at the slope of the best rung."""

    @property
    def saturated(self) -> bool:
        """True where bits are worth so little that a loss in bits says nothing."""
        return self.points_per_fold < SATURATED_POINTS


def rung_losses(
    truth: Truth, rungs: Sequence[RungPlan], profile: Profile, policy: Policy = "locked"
) -> tuple[RungLoss, ...]:
    """Return the loss of each of ``rungs``, whose choices are measured."""
    return tuple(_rung_loss(truth, rung, profile, policy) for rung in rungs)


def _rung_loss(truth: Truth, rung: RungPlan, profile: Profile, policy: Policy) -> RungLoss:
    solved = solve_at_rates(truth.curves, [rung.rate], policy, profile)
    if isinstance(solved, InfeasibleResult):
        return RungLoss(rung.rate, rung.size, rung.quality, None, None, None)
    best = solved.rungs[0]
    frames = sum(shot.frames for shot in truth.title.shape.shots)
    short = (best.quality - rung.quality) * frames - best.slope * (best.bits - rung.bits)
    worth = best.slope * best.bits
    return RungLoss(
        rung.rate,
        rung.size,
        rung.quality,
        best.size,
        best.quality,
        loss=short / worth if best.slope > 0 else None,
        points=short / frames,
        points_per_fold=worth / frames,
    )


def bd_at_equal_rates(
    truth: Truth,
    judged: Simulated,
    best: Simulated,
    profile: Profile,
    policy: Policy = "locked",
) -> BdRate | None:
    """Return the BD-rate of a search against the exhaustive one, both solved at the same rates.

    Each is solved on the curves that it ended with. What it chooses counts with its true bits and
    quality, whether that was measured or not. None where the ladders share no range.
    """
    same = judged.curves.shots == best.curves.shots
    if not same or min(len(judged.plan.rungs), len(best.plan.rungs)) < 2:
        return None
    first, last = best.plan.rungs[0].rate, best.plan.rungs[-1].rate
    anchor: list[RatePoint] = []
    test: list[RatePoint] = []
    for rate in np.geomspace(first, last, EQUAL_RATES).tolist():
        pair = [
            _true_point(truth, curves, rate, profile, policy)
            for curves in (best.curves, judged.curves)
        ]
        if pair[0] is not None and pair[1] is not None:
            anchor.append(pair[0])
            test.append(pair[1])
    both = monotone(anchor), monotone(test)
    if min(map(len, both)) < 2:
        return None
    result = bd_rate(*both)
    return result if isinstance(result, BdRate) else None


def _true_point(
    truth: Truth, curves: TitleCurves, rate: float, profile: Profile, policy: Policy
) -> RatePoint | None:
    """Return what the rung that ``curves`` give at ``rate`` would measure."""
    solved = solve_at_rates(curves, [rate], policy, profile)
    if isinstance(solved, InfeasibleResult):
        return None
    choices = solved.rungs[0].choices
    cells = [truth.measurements[shot, choice.point] for shot, choice in enumerate(choices)]
    seconds = float(sum(truth.curves.durations))
    return RatePoint(sum(m.bits for m in cells) / seconds, _mean_quality(truth, cells))


def _mean_quality(truth: Truth, cells: Sequence[Measurement]) -> float:
    frames = [shot.frames for shot in truth.title.shape.shots]
    return sum(f * m.quality for f, m in zip(frames, cells, strict=True)) / sum(frames)
