"""Which probes to make before rungs are committed, within the budget.

:mod:`ladder.search.questions` says what a measurement would be worth; here it is held against
what it costs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ladder.complexity.prediction import correct
from ladder.constraints import InfeasibleResult
from ladder.rungs import LadderPlan, RungPlan
from ladder.search.questions import Question, questions
from ladder.search.state import Reasons, State, column_of
from ladder.search.steps import request_order

INFEASIBLE_DEVIATIONS = 15.0
"""Standard deviations by which the prediction has to miss every ladder before that is accepted
without a measurement: three for a title as unlike the others as
:data:`ladder.complexity.residuals.SCALES` allows."""


def open_questions(state: State, plan: LadderPlan, free: Sequence[RungPlan]) -> list[Question]:
    """Return the questions about the sizes of ``free`` rungs of ``plan``, most valuable first."""
    return questions(state.corrected, free, _planned_columns(state, plan))


def _planned_columns(state: State, plan: LadderPlan) -> dict[tuple[int, int], list[int]]:
    """Return the CRF columns that a plan delivers, by shot and number of the size."""
    sizes = state.prediction.sizes
    columns: dict[tuple[int, int], list[int]] = {}
    for shot, point in sorted(plan.points, key=request_order):
        cell = shot, sizes.index(point.size)
        columns.setdefault(cell, []).append(column_of(state.prediction, point.crf))
    return columns


def regrets(state: State, asked: Sequence[Question], free: Sequence[RungPlan]) -> list[float]:
    """Return the share of its bits that each of ``free`` rungs is expected to lose by its size.

    All rungs that are certain enough have the same regret.
    """
    by_rung = [state.tuning.accepted_regret] * len(free)
    for question in asked:
        by_rung[question.rung] = max(by_rung[question.rung], question.regret)
    return by_rung


def probes(
    state: State, asked: Sequence[Question], plan: LadderPlan, free: Sequence[RungPlan]
) -> Reasons:
    """Return what to measure of few shots before the sizes of ``free`` rungs are decided.

    At most one probe per size, as one measurement answers for all rungs. A probe at points that
    are to be delivered anyway costs next to nothing and is preferred if it says enough.
    """
    tuning, title = state.tuning, state.known.title
    sizes, crfs = state.prediction.sizes, state.prediction.scale.crfs
    allowed = max(1, math.floor(tuning.budget * len(plan.points)))
    room = allowed - len(state.measured.keys() - plan.points - state.given)
    if room < 0 or not tuning.budget:
        return {}
    value_of_size: dict[int, float] = {}
    for question in asked:
        value = value_of_size.get(question.size, 0.0) + question.direct.value
        value_of_size[question.size] = value
    wanted: Reasons = {}
    for size in sorted(value_of_size, key=lambda size: (-value_of_size[size], size)):
        question = next(q for q in asked if q.size == size)
        rung, probe = free[question.rung], question.direct
        planned = question.planned
        if planned is not None and planned.value >= tuning.planned_share * probe.value:
            probe = planned
        requests = [
            (probe.shot, title.point(sizes[number], float(crfs[column])))
            for number, column in probe.points
        ]
        new = [request for request in requests if request not in state.measured]
        cost = sum(request not in plan.points for request in new if request not in wanted)
        gain = value_of_size[size] * probe.value / question.direct.value * len(title.shots)
        if not new or cost > room or gain < tuning.required_gain * max(cost, tuning.early_cost):
            continue
        why = (
            f"may {sizes[size].height}p be better than {rung.size.height}p at "
            f"{rung.rate / 1e3:.0f} kbit/s? expected {100 * question.expected:+.1f} % of "
            f"its bits, give or take {100 * question.deviation:.1f}"
        )
        wanted |= dict.fromkeys(new, why)
        room -= cost
    return wanted


def probes_before_giving_up(state: State) -> Reasons:
    """Return what to measure before a prediction that no ladder is possible is accepted.

    Nothing where the prediction is certain of it, or where all this is measured.
    """
    prediction, title = state.prediction, state.known.title
    optimistic = prediction.optimistic(INFEASIBLE_DEVIATIONS)
    curves = correct(optimistic, title.shots, state.measured).curves()
    if isinstance(state.plan(curves=title.with_curves(curves)), InfeasibleResult):
        return {}
    crfs = (float(prediction.scale.crfs[0]), float(prediction.scale.crfs[-1]))
    ends = (prediction.sizes[0], prediction.sizes[-1])
    requests = {
        (shot, title.point(size, crf))
        for shot in range(len(title.shots))
        for size in ends
        for crf in crfs
    }
    why = "no ladder within the constraints is expected, which is not sure"
    return dict.fromkeys(sorted(requests - state.measured.keys(), key=request_order), why)
