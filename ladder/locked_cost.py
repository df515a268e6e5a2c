"""What one size per rung costs against sizes that are free for every shot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from encoder.media import Size
from ladder.allocation import Problem
from ladder.bdrate import BdRate, NoOverlap, RatePoint, bd_rate, monotone
from ladder.rungs import LadderPlan
from ladder.title_curves import TitleCurves


@dataclass(frozen=True, slots=True)
class RungCost:
    """What one size for all shots costs one rung."""

    rate: float
    """Rate of the rung in bit/s."""
    quality: float
    """Mean quality that the rung's size reaches at that rate."""
    mixed_rate: float
    """Rate in bit/s at which shots of free size reach the same quality."""

    @property
    def percent(self) -> float:
        """Bits that ``locked`` needs over ``mixed`` at this quality, in percent."""
        return (self.rate / self.mixed_rate - 1) * 100


@dataclass(frozen=True, slots=True)
class CostOfLocked:
    """What one size per rung costs against sizes free per shot, on the same curves."""

    bd_rate: BdRate | NoOverlap | None
    """BD-rate of ``locked`` with ``mixed`` as the anchor, at the same rates; positive where
    ``locked`` needs more bits, None for a ladder of a single rung."""
    rungs: tuple[RungCost, ...]
    """Cost of each rung, from the lowest rate."""


def cost_of_locked(title: TitleCurves, plan: LadderPlan) -> CostOfLocked:
    """Return what the sizes of a locked ``plan`` cost, at its rungs' rates."""
    return cost_of_sizes(title, [(rung.size, rung.bits) for rung in plan.rungs])


def cost_of_sizes(title: TitleCurves, rungs: Sequence[tuple[Size, float]]) -> CostOfLocked:
    """Return what one size per rung costs against sizes that are free for every shot.

    Both sides are solved without constraints, since the sizes are not to blame for what
    constraints cost.

    Args:
        title: Curves of these sizes and of those that could be taken instead.
        rungs: Size and bits of each rung.
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
