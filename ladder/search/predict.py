"""Deliver and correct: encode what the ladder needs, and let that correct the prediction.

The rungs are solved on predicted curves. What the first rungs need is encoded and measured; those
encodes are deliverables, not probes, and they correct the curves that the next rungs are chosen on
(:mod:`ladder.complexity.prediction`). Before a rung is committed, a few shots are measured where
that may show another size to be better for it (:mod:`ladder.search.probes`). When every rung is
measured, single shots or whole rungs move only where the corrected curves expect the move to pay
(:mod:`ladder.search.moves`), until nothing is worth its encodes or the budget is spent.

The optimiser picks the points that a model flatters, so nothing predicted is ever delivered: the
last choice is among measured cells only.

Rungs are committed in few rounds, the most certain ones first: they tell the title's level, and
what was in doubt before often no longer is.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

from encoder.media import Request
from ladder.complexity.prediction import TitlePrediction
from ladder.constraints import InfeasibleResult
from ladder.rungs import LadderPlan, RungPlan, worth_delivering
from ladder.search.commit import (
    keep_constraints,
    next_rungs,
    pilots,
    reusing_measured,
    serve_viewers,
)
from ladder.search.moves import best_measured, moves
from ladder.search.probes import open_questions, probes, probes_before_giving_up, regrets
from ladder.search.questions import Question
from ladder.search.state import Reasons, State, Tuning, requests_of
from ladder.search.steps import Done, Known, Measure, Step, request_order

CHECKED = "checks the recipe"
"""Reason of the cells that were measured to check the recipe."""


class PredictSearch:
    """Measure what the ladder needs, correct the prediction, move what pays.

    A step's answer follows from its arguments alone. The search remembers where its last step
    stopped and continues there if it knows the same and more, which only saves time.
    """

    def __init__(
        self,
        prediction: TitlePrediction,
        tuning: Tuning | None = None,
        given: Sequence[Request] = (),
    ) -> None:
        """``given`` are cells that are measured in any case; the search starts from them."""
        self.prediction = prediction
        self.given = tuple(given)
        self.tuning = tuning or Tuning()
        self._stopped: _Run | None = None
        self._expected: tuple[object, LadderPlan | InfeasibleResult] | None = None

    @property
    def name(self) -> str:
        """Name as in ``--search``."""
        return "predict"

    def expected_plan(self, known: Known) -> LadderPlan | InfeasibleResult:
        """Return the ladder that would be delivered if every prediction were right."""
        question = known.title, known.profile, known.policy
        if self._expected is None or self._expected[0] != question:
            plan = State.of(self.prediction, self.tuning, known, ()).plan()
            self._expected = question, plan
        return self._expected[1]

    def expected_requests(self, known: Known) -> tuple[Request, ...]:
        """Return the cells that the ladder would deliver if every prediction were right."""
        plan = self.expected_plan(known)
        return () if isinstance(plan, InfeasibleResult) else tuple(sorted(plan.points))

    def step(self, known: Known) -> Step:
        """Return what to measure next, or the ladder."""
        run, self._stopped = self._stopped, None
        if run is None or not run.can_continue(known):
            run = _Run(self, known)
        step = run.step(known)
        if isinstance(step, Measure):
            self._stopped = run
        return step


class _Run:
    """Drives :func:`_rounds` as far as what is known goes."""

    def __init__(self, search: PredictSearch, known: Known) -> None:
        self.search = search
        self.known = known
        self.requested: Reasons = dict.fromkeys(search.given, CHECKED)
        """Every cell that the search has asked for so far, with the reason it gave last."""
        self._rounds = _rounds()
        next(self._rounds)

    def can_continue(self, known: Known) -> bool:
        """Return whether ``known`` holds all that this run knew, unchanged."""
        before = self.known
        same_question = (known.title, known.profile, known.policy) == (
            before.title,
            before.profile,
            before.policy,
        )
        return same_question and all(
            known.measurements.get(request) == before.measurements[request]
            for request in self.requested.keys() & before.measurements.keys()
        )

    def step(self, known: Known) -> Step:
        """Continue until a cell is needed that is not measured."""
        self.known = known
        while True:
            missing = sorted(self.requested.keys() - known.measurements.keys(), key=request_order)
            if missing:
                return Measure(
                    tuple(missing), {request: self.requested[request] for request in missing}
                )
            search = self.search
            state = State.of(search.prediction, search.tuning, known, self.requested, search.given)
            try:
                self.requested |= self._rounds.send(state)
            except StopIteration as stop:
                result: Done | InfeasibleResult = stop.value
                return result


def _rounds() -> Generator[Reasons, State, Done | InfeasibleResult]:
    """Run the search: yield what to measure, and be sent the state once that is measured.

    The first yield asks for nothing.
    """
    state = yield {}
    tuning = state.tuning
    committed: list[RungPlan] = []
    in_vain: list[RungPlan] = []
    while True:
        state, plan, asked = yield from _plan_rungs(state, committed, in_vain)
        if isinstance(plan, InfeasibleResult):
            return plan
        free = _free(plan, committed, in_vain)
        if not committed and (pilot := pilots(state, free)):
            state = yield pilot
            continue
        next_ones = next_rungs(free, committed, regrets(state, asked, free))
        chosen = [reusing_measured(state, rung, committed) for rung in next_ones]
        if not chosen:
            break
        state = yield {
            request: f"wanted by the rung at {rung.rate / 1e3:.0f} kbit/s"
            for rung in chosen
            for request in requests_of(rung)
            if request not in state.measured
        }
        before = len(committed), len(state.measured)
        for rung in chosen:
            state, measured = yield from keep_constraints(state, state.as_measured(rung))
            state, served = yield from serve_viewers(state, measured)
            if served != measured:
                state, measured = yield from keep_constraints(state, served)
            if not any(measured.choices == other.choices for other in committed):
                committed = [*committed, measured]
        if (len(committed), len(state.measured)) == before:
            # Within their constraints these are rungs that are there, and would be again.
            in_vain += next_ones
        committed.sort(key=lambda rung: rung.rate)
    for _ in range(tuning.move_rounds):
        better = moves(state, _delivered(state, committed))
        if not better:
            break
        state = yield better
    rungs = tuple(_delivered(state, committed))
    return Done(LadderPlan(state.known.policy, rungs, plan.notes), state.curves)


def _delivered(state: State, committed: Sequence[RungPlan]) -> list[RungPlan]:
    """Return the rungs to deliver, at their best among measured cells."""

    def worth(rungs: Sequence[RungPlan]) -> tuple[RungPlan, ...]:
        return worth_delivering(state.curves, state.known.profile, rungs)

    # What is of no use must not bound the sizes of what is.
    return [*worth(best_measured(state, worth(committed)))]


def _plan_rungs(
    state: State, committed: Sequence[RungPlan], in_vain: Sequence[RungPlan]
) -> Generator[Reasons, State, tuple[State, LadderPlan | InfeasibleResult, list[Question]]]:
    """Solve the ladder around the committed rungs, probing until the sizes of the others are
    settled enough, except those that were committed ``in_vain``; returns the questions that are
    left open."""
    rounds = 0
    while True:
        plan = state.plan(committed)
        if isinstance(plan, InfeasibleResult):
            doubted = probes_before_giving_up(state)
            if not doubted:
                return state, plan, []
            state = yield doubted
            continue
        free = _free(plan, committed, in_vain)
        asked = open_questions(state, plan, free)
        wanted = probes(state, asked, plan, free)
        if not wanted or rounds == state.tuning.question_rounds:
            return state, plan, asked
        rounds += 1
        state = yield wanted


def _free(
    plan: LadderPlan, committed: Sequence[RungPlan], in_vain: Sequence[RungPlan]
) -> list[RungPlan]:
    """Return the rungs of a plan that are not committed, nor were in vain."""
    return [rung for rung in plan.rungs if rung not in committed and rung not in in_vain]
