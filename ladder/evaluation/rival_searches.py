"""Other ways to find a ladder, to judge the default by."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

from encoder.media import Request, Shot, Size
from ladder.choices import Choice
from ladder.complexity.prediction import TitlePrediction, correct
from ladder.constraints import InfeasibleResult
from ladder.curves import Curve, MeasuredCurve, MeasuredPoints, Measurement
from ladder.rungs import LadderPlan, RungPlan, TitleCurves, solve
from ladder.sampling import sparse_sample
from ladder.search.steps import Done, Known, Measure, Step, full_grid, request_order


@dataclass(frozen=True, slots=True)
class SampleSearch:
    """Measure a fixed sparse sample of every shot and interpolate. Nothing is predicted.

    With ``choose_between`` what was chosen between the samples is measured too, as the exhaustive
    search does; without, only samples are delivered.
    """

    cells: int
    """Of each shot."""
    choose_between: bool = True
    rounds: int = 4
    seed: str = "evaluate"

    def step(self, known: Known) -> Step:
        """The sample, what was chosen, the ladder."""
        cells = max(self.cells, len(known.title.sizes))
        used: set[Request] = set(sparse_sample(known.title, known.profile, cells, self.seed))
        rounds = self.rounds if self.choose_between else 0
        for solved in range(rounds + 1):
            missing = used - known.measurements.keys()
            if missing:
                return _measure(missing)
            curves = _curves(known, used, interpolate=solved < rounds)
            plan = solve(curves, known.profile, known.policy)
            if isinstance(plan, InfeasibleResult):
                return plan
            if plan.points <= used:
                return Done(plan, curves)
            used |= plan.points
        raise AssertionError("only measured points were left to choose from")


@dataclass(frozen=True, slots=True)
class BelieveSearch:
    """Deliver what a prediction says is best; what is measured changes nothing."""

    prediction: TitlePrediction

    def step(self, known: Known) -> Step:
        """The whole ladder at once."""
        title = known.title
        curves = TitleCurves(
            title.frame_rate,
            title.recipe,
            title.shots,
            correct(self.prediction, title.shots, {}).curves(),
            title.source_bits,
        )
        plan = solve(curves, known.profile, known.policy)
        if isinstance(plan, InfeasibleResult):
            return plan
        missing = plan.points - known.measurements.keys()
        return _measure(missing) if missing else Done(measured_plan(plan, known), curves)


@dataclass(frozen=True, slots=True)
class ConstantCrfSearch:
    """One size and one CRF for all shots of a rung, the best there is in the full grid."""

    def step(self, known: Known) -> Step:
        """The grid, then the ladder's own points."""
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
                of = [
                    known.measurements[number, title.point(size, crf)]
                    for number in range(len(title.shots))
                ]
                total = math.fsum(
                    shot.frames * m.quality for shot, m in zip(title.shots, of, strict=True)
                )
                cells[crf] = Measurement(sum(m.bits for m in of), total / frames)
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
    """The same choices with what was measured in place of what was expected.

    Raises:
        KeyError: one of them is not measured.
    """
    return replace(plan, rungs=tuple(_measured_rung(rung, known) for rung in plan.rungs))


def _measured_rung(rung: RungPlan, known: Known) -> RungPlan:
    shots = known.title.shots
    choices = []
    for shot, choice in enumerate(rung.choices):
        made = known.measurements[shot, choice.point]
        choices.append(Choice(float(made.bits), made.quality, choice.point))
    bits = math.fsum(choice.bits for choice in choices)
    total = math.fsum(
        shot.frames * choice.quality for shot, choice in zip(shots, choices, strict=True)
    )
    return replace(
        rung,
        choices=tuple(choices),
        bits=bits,
        rate=bits / float(sum(shot.seconds(known.title.frame_rate) for shot in shots)),
        quality=total / sum(shot.frames for shot in shots),
    )


def _measure(missing: Collection[Request]) -> Measure:
    return Measure(tuple(sorted(missing, key=request_order)))


def _curves(known: Known, used: Collection[Request], *, interpolate: bool) -> TitleCurves:
    """Of every size at which all shots are measured."""
    title = known.title
    cells: dict[Size, list[dict[float, Measurement]]] = {}
    for shot, point in used:
        of = cells.setdefault(point.size, [{} for _ in title.shots])
        of[shot][point.crf] = known.measurements[shot, point]
    kind = MeasuredCurve if interpolate else MeasuredPoints
    return TitleCurves(
        frame_rate=title.frame_rate,
        recipe=title.recipe,
        shots=title.shots,
        curves={
            size: tuple(
                kind(shot.frames, of) for shot, of in zip(title.shots, cells[size], strict=True)
            )
            for size in title.sizes
            if size in cells and all(cells[size])
        },
        source_bits=title.source_bits,
    )
