"""Other ways to find a ladder, to compare the default search with."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

from encoder.media import Request, Shot, Size
from ladder.complexity.prediction import TitlePrediction, correct
from ladder.constraints import InfeasibleResult
from ladder.curves import Curve, MeasuredCurve, Measurement
from ladder.rungs import LadderPlan, solve
from ladder.sampling import sparse_sample
from ladder.search.measured import measured_rung
from ladder.search.steps import (
    Done,
    Known,
    Measure,
    Step,
    full_grid,
    measured_title,
    request_order,
)
from ladder.title_curves import TitleCurves


@dataclass(frozen=True, slots=True)
class SampleSearch:
    """Measure a fixed sparse sample of every shot and interpolate; nothing is predicted."""

    cells: int
    """Number of cells of each shot."""
    choose_between: bool = True
    """True where cells chosen between the samples are measured too, as in the exhaustive search;
    False where only samples are delivered."""
    rounds: int = 4
    """Solutions after which only measured cells may be chosen."""
    seed: str = "evaluate"
    """Seed of the sample."""

    def step(self, known: Known) -> Step:
        """Return the sample first, then what was chosen, then the ladder."""
        cells = max(self.cells, len(known.title.sizes))
        used: set[Request] = set(sparse_sample(known.title, known.profile, cells, self.seed))
        rounds = self.rounds if self.choose_between else 0
        for solved in range(rounds + 1):
            missing = used - known.measurements.keys()
            if missing:
                return _measure(missing)
            curves = measured_title(known, used, interpolate=solved < rounds)
            plan = solve(curves, known.profile, known.policy)
            if isinstance(plan, InfeasibleResult):
                return plan
            if plan.points <= used:
                return Done(plan, curves)
            used |= plan.points
        raise AssertionError("only measured points were left to choose from")


@dataclass(frozen=True, slots=True)
class PredictionOnlySearch:
    """Deliver what a prediction says is best, whatever is measured."""

    prediction: TitlePrediction

    def step(self, known: Known) -> Step:
        """Return the whole ladder at once, then the ladder as measured."""
        title = known.title
        curves = title.with_curves(correct(self.prediction, title.shots, {}).curves())
        plan = solve(curves, known.profile, known.policy)
        if isinstance(plan, InfeasibleResult):
            return plan
        missing = plan.points - known.measurements.keys()
        return _measure(missing) if missing else Done(measured_plan(plan, known), curves)


@dataclass(frozen=True, slots=True)
class ConstantCrfSearch:
    """One size and one CRF for all shots of a rung: the best of the full grid."""

    def step(self, known: Known) -> Step:
        """Return the grid first, then the ladder's own cells, then the ladder."""
        unknown = set(full_grid(known.title, known.profile)) - known.measurements.keys()
        if unknown:
            return _measure(unknown)
        title = known.title
        frames = sum(shot.frames for shot in title.shots)
        whole = Shot(title.shots[0].start, title.shots[-1].end)
        curves: dict[Size, tuple[Curve, ...]] = {}
        for size in title.sizes:
            cells = {}
            for crf in known.profile.crf_grid[title.recipe.codec]:
                measured = [
                    known.measurements[number, title.point(size, crf)]
                    for number in range(len(title.shots))
                ]
                total = math.fsum(
                    shot.frames * m.quality for shot, m in zip(title.shots, measured, strict=True)
                )
                cells[crf] = Measurement(sum(m.bits for m in measured), total / frames)
            curves[size] = (MeasuredCurve(frames, cells),)
        as_one = TitleCurves(title.frame_rate, title.recipe, (whole,), curves, title.source_bits)
        plan = solve(as_one, known.profile, known.policy)
        if isinstance(plan, InfeasibleResult):
            return plan
        rungs = tuple(replace(rung, choices=rung.choices * len(title.shots)) for rung in plan.rungs)
        plan = LadderPlan(plan.policy, rungs, plan.notes)
        missing = plan.points - known.measurements.keys()
        return _measure(missing) if missing else Done(measured_plan(plan, known), as_one)


def measured_plan(plan: LadderPlan, known: Known) -> LadderPlan:
    """Return the plan with measured bits and quality in place of the expected ones.

    Raises:
        KeyError: a cell of the plan is not measured.
    """
    title, measurements = known.title, known.measurements
    return replace(
        plan,
        rungs=tuple(
            measured_rung(rung, measurements, title.shots, title.frame_rate) for rung in plan.rungs
        ),
    )


def _measure(missing: Collection[Request]) -> Measure:
    return Measure(tuple(sorted(missing, key=request_order)))
