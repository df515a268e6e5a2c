"""Deliver and correct: encode what the ladder wants, and let that correct the rest.

The rungs are solved on predicted curves. What the first of them wants is encoded and measured;
those encodes are deliverables, not probes, and they correct the curves that the next rungs are
chosen on (:mod:`ladder.complexity.prediction`). Before a rung is settled, few shots answer whether
another size might be better for it (:mod:`ladder.search.questions`). When every rung is measured,
shots are moved, or a rung's size is, only where the corrected curves expect that to pay, until
nothing is worth its encodes or the budget is spent. The optimiser picks the points that a model
flatters, so nothing predicted is ever delivered: the last choice is among measured points only.

Rungs are settled in few rounds, those first whose size is least in doubt: they tell the title's
level, and what is still in doubt then is often no longer.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace

from encoder.media import OperatingPoint, Request, Shot, Size
from ladder.choices import Choice
from ladder.complexity.prediction import CorrectedTitle, TitlePrediction, correct
from ladder.constraints import InfeasibleResult
from ladder.curves import Curve, MeasuredPoints, Measurement
from ladder.rungs import LadderPlan, RungPlan, at_slope_within, slope_at, solve
from ladder.search.measured import measured_points, measured_rung
from ladder.search.questions import Question, questions
from ladder.search.steps import Done, Known, Measure, Step, request_order
from ladder.title_curves import TitleCurves

Reasons = dict[Request, str]
"""What to measure, and why, in words."""


INFEASIBLE_DEVIATIONS = 15.0
"""Standard deviations by which a prediction has to miss a ladder for that to be believed: three of
a title as unlike the others as :data:`ladder.complexity.residuals.SCALES` goes."""
SAME_RATE_WITHIN = 0.05
"""Share of its bits within which a rung counts as being where it was planned."""


@dataclass(frozen=True, slots=True)
class PredictSearch:
    """Measure what the ladder wants, correct the prediction, move what pays."""

    prediction: TitlePrediction
    budget: float = 0.1
    """Encodes beyond the delivered ones, at most, as a share of those; but for one question,
    without which a short title would get the wrong size unasked."""
    required_gain: float = 0.03
    """Share of a rung's bits that encoding all its shots once more has to bring. What is asked
    or moved has to bring its part of that."""
    new_encode_penalty: float = 0.03
    """Share of a shot's bits that a new encode has to save where another is at hand."""
    planned_share: float = 0.3
    """Points that are to be delivered anyway are asked first if they say at least this share of
    what the best question does."""
    early_cost: float = 0.2
    """What measuring such a point early is held to cost, in encodes: the plan may change."""
    accepted_regret: float = 0.01
    """Share of its bits that a rung is expected to lose by its size at most, for that to be called
    sure."""
    exceptional_gain: float = 4.0
    """A move that brings so many times its price is made beyond the budget, if there is one."""
    question_rounds: int = 6
    """Before rungs are settled, at most."""
    repair_rounds: int = 6
    """Of a settled rung that breaks a constraint once it is measured, at most."""
    move_rounds: int = 3
    """After all are settled, at most."""
    _last: list[_Run] = field(default_factory=list, init=False, repr=False, compare=False)
    """Where the last step stopped: the next one goes on there if it knows the same and more."""

    @property
    def name(self) -> str:
        """As in ``--search``."""
        return "predict"

    def expected_requests(self, known: Known) -> tuple[Request, ...]:
        """What the ladder would be if every prediction were right."""
        plan = _Run(self, known).first_plan()
        return () if isinstance(plan, InfeasibleResult) else tuple(sorted(plan.points))

    def step(self, known: Known) -> Step:
        """The rungs by and by, then what pays to move, then the ladder."""
        run = self._last.pop() if self._last else None
        if run is None or not run.goes_on(known):
            run = _Run(self, known)
        found = run.step(known)
        if isinstance(found, Measure):
            self._last.append(run)
        return found


@dataclass(slots=True)
class _State:
    """The title as far as it is known."""

    corrected: CorrectedTitle
    curves: TitleCurves


@dataclass(slots=True)
class _Run:
    """The search, as far as what is known goes."""

    search: PredictSearch
    known: Known
    used: set[Request] = field(default_factory=set)
    """What the search has asked for so far; nothing else is looked at."""
    _rounds: Generator[Reasons, None, Done | InfeasibleResult] | None = None
    _wanted: Reasons = field(default_factory=dict)

    def goes_on(self, known: Known) -> bool:
        """Whether ``known`` is what this run knew, and more."""
        before = self.known
        same = (known.title, known.profile, known.policy) == (
            before.title,
            before.profile,
            before.policy,
        )
        return same and all(
            known.measurements.get(request) == before.measurements[request]
            for request in self.used & before.measurements.keys()
        )

    def step(self, known: Known) -> Step:
        """Go on to where something is missing."""
        self.known = known
        if self._rounds is None:
            self._rounds = self.rounds()
        while True:
            missing = sorted(self.used - known.measurements.keys(), key=request_order)
            if missing:
                return Measure(
                    tuple(missing), {request: self._wanted[request] for request in missing}
                )
            try:
                self._wanted = next(self._rounds)
            except StopIteration as stop:
                result: Done | InfeasibleResult = stop.value
                return result
            self.used |= self._wanted.keys()

    def first_plan(self) -> LadderPlan | InfeasibleResult:
        """The ladder on the prediction alone."""
        return solve(self._state().curves, self.known.profile, self.known.policy)

    def rounds(self) -> Generator[Reasons, None, Done | InfeasibleResult]:
        """Yields what to measure; goes on when it is in ``used``."""
        settled: list[RungPlan] = []
        while True:
            asked = 0
            while True:
                state = self._state()
                plan = solve(state.curves, self.known.profile, self.known.policy, settled)
                if isinstance(plan, InfeasibleResult):
                    doubted = self._doubted()
                    if not doubted:
                        return plan
                    yield doubted
                    continue
                free = [rung for rung in plan.rungs if rung not in settled]
                open_questions = questions(state.corrected, free, self._planned(plan))
                wanted = self._questions(open_questions, plan, free)
                if not wanted or asked == self.search.question_rounds:
                    break
                asked += 1
                yield wanted
            chosen = [
                self._at_hand(state, rung, settled)
                for rung in _next(free, settled, self._doubts(open_questions, free))
            ]
            if not chosen:
                break
            yield {
                request: f"wanted by the rung at {rung.rate / 1e3:.0f} kbit/s"
                for rung in chosen
                for request in _requests(rung)
                if request not in self.used
            }
            made = []
            for rung in map(self._measured, chosen):
                made.append((yield from self._within(rung)))
            settled = sorted([*settled, *made], key=lambda rung: rung.rate)
        for _ in range(self.search.move_rounds):
            settled = self._best_measured(self._state(), settled)
            wanted = self._moves(self._state(), settled)
            if not wanted:
                break
            yield wanted
        state = self._state()
        return Done(
            LadderPlan(self.known.policy, tuple(self._best_measured(state, settled)), plan.notes),
            state.curves,
        )

    def _doubted(self) -> Reasons:
        """What to measure before a prediction that no ladder is possible is believed; nothing
        where it is sure, or where that is measured."""
        prediction, title = self.search.prediction, self.known.title
        optimistic = correct(
            prediction.optimistic(INFEASIBLE_DEVIATIONS), title.shots, self._found()
        )
        plan = solve(
            self.known.title.with_curves(optimistic.curves()), self.known.profile, self.known.policy
        )
        if isinstance(plan, InfeasibleResult):
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
        return dict.fromkeys(sorted(requests - self.used, key=request_order), why)

    def _within(self, rung: RungPlan) -> Generator[Reasons, None, RungPlan]:
        """A measured rung with what its constraints force to be encoded instead, as measured."""
        # First what is at hand is kept if it can be. Caps follow from the rate, so they are only
        # exact for bits without a penalty.
        for penalty in (self.search.new_encode_penalty, *[0.0] * self.search.repair_rounds):
            if self._keeps_constraints(rung):
                break
            kept = self._at_its_slope(rung, self._state().corrected.curves(penalty)[rung.size])
            if isinstance(kept, InfeasibleResult):
                if penalty:
                    continue
                break
            why = f"the rung at {rung.rate / 1e3:.0f} kbit/s has to keep its constraints"
            yield {request: why for request in _requests(kept) if request not in self.used}
            rung = self._measured(replace(rung, choices=kept.choices))
        return rung

    def _keeps_constraints(self, rung: RungPlan) -> bool:
        """Whether a measured rung does."""
        own = tuple(
            MeasuredPoints(shot.frames, {choice.point.crf: _measurement(choice)})
            for shot, choice in zip(self.known.title.shots, rung.choices, strict=True)
        )
        return not isinstance(self._at_its_slope(rung, own), InfeasibleResult)

    def _at_its_slope(self, rung: RungPlan, curves: Iterable[Curve]) -> RungPlan | InfeasibleResult:
        """What a rung would be on these curves of its size, within its constraints."""
        return at_slope_within(
            self.known.title.with_curves({rung.size: curves}),
            self.known.profile,
            rung.size,
            rung.slope,
            self._most(rung),
        )

    def _state(self) -> _State:
        corrected = correct(self.search.prediction, self.known.title.shots, self._found())
        return _State(corrected, self.known.title.with_curves(corrected.curves()))

    def _found(self) -> dict[Request, Measurement]:
        ordered = sorted(self.used, key=request_order)
        return {request: self.known.measurements[request] for request in ordered}

    def _at_hand(self, state: _State, rung: RungPlan, settled: Sequence[RungPlan]) -> RungPlan:
        """The rung with what is measured already where a new encode would not save enough."""
        found = self._at_its_slope(
            rung, state.corrected.curves(self.search.new_encode_penalty)[rung.size]
        )
        if isinstance(found, InfeasibleResult):
            return rung
        sizes = self.search.prediction.sizes
        columns = [_column(self.search.prediction, choice.point) for choice in found.choices]
        bits = state.corrected.bits[range(len(columns)), sizes.index(rung.size), columns].sum()
        near = abs(bits / rung.bits - 1) < SAME_RATE_WITHIN
        taken = any(_requests(found) == _requests(other) for other in settled)
        return replace(rung, choices=found.choices) if near and not taken else rung

    def _room(self, delivered: int) -> int:
        """How many encodes the budget has left when ``delivered`` are delivered in the end."""
        return max(0, math.floor(self.search.budget * delivered) - (len(self.used) - delivered))

    def _questions(
        self, asked: Sequence[Question], plan: LadderPlan, free: Sequence[RungPlan]
    ) -> Reasons:
        """What to measure of few shots before the sizes of ``free`` rungs are settled."""
        search, title = self.search, self.known.title
        sizes, crfs = search.prediction.sizes, search.prediction.scale.crfs
        allowed = max(1, math.floor(search.budget * len(plan.points)))
        room = allowed - len(self.used - plan.points)
        if room < 0 or not search.budget:
            return {}
        worth: dict[int, float] = {}
        for question in asked:
            worth[question.size] = worth.get(question.size, 0.0) + question.direct.value
        wanted: Reasons = {}
        for size in sorted(worth, key=lambda size: (-worth[size], size)):
            question = next(q for q in asked if q.size == size)
            rung, probe = free[question.rung], question.direct
            ready = question.planned
            if ready is not None and ready.value >= search.planned_share * probe.value:
                probe = ready
            points = [
                (probe.shot, title.point(sizes[number], float(crfs[column])))
                for number, column in probe.points
            ]
            new = [point for point in points if point not in self.used]
            cost = sum(point not in plan.points for point in new if point not in wanted)
            pays = worth[size] * probe.value / question.direct.value * len(title.shots)
            if not new or cost > room or pays < search.required_gain * max(cost, search.early_cost):
                continue
            why = (
                f"may {sizes[size].height}p be better than {rung.size.height}p at "
                f"{rung.rate / 1e3:.0f} kbit/s? expected {100 * question.expected:+.1f} % of "
                f"its bits, give or take {100 * question.deviation:.1f}"
            )
            wanted |= dict.fromkeys(new, why)
            room -= cost
        return wanted

    def _doubts(self, asked: Sequence[Question], free: Sequence[RungPlan]) -> list[float]:
        """What each of ``free`` rungs is expected to lose by its size, as a share of its bits; all
        that are sure enough are the same."""
        doubts = [self.search.accepted_regret] * len(free)
        for question in asked:
            doubts[question.rung] = max(doubts[question.rung], question.regret)
        return doubts

    def _planned(self, plan: LadderPlan) -> dict[tuple[int, int], list[int]]:
        """What a plan delivers, as :func:`ladder.search.questions.questions` takes it."""
        prediction = self.search.prediction
        sizes = {(size.width, size.height): n for n, size in enumerate(prediction.sizes)}
        found: dict[tuple[int, int], list[int]] = {}
        for shot, point in sorted(plan.points, key=request_order):
            at = shot, sizes[point.width, point.height]
            found.setdefault(at, []).append(_column(prediction, point))
        return found

    def _moves(self, state: _State, settled: Sequence[RungPlan]) -> Reasons:
        """What to encode in place of what is measured, best first, within the budget."""
        shots = self.known.title.shots
        offers: list[tuple[float, int, Reasons]] = []
        for number, rung in enumerate(settled):
            if not rung.slope > 0:  # every shot has its best: no bit buys anything
                continue
            rate = f"{rung.rate / 1e3:.0f} kbit/s"
            for size in self._allowed(settled, number):
                best = at_slope_within(
                    state.curves, self.known.profile, size, rung.slope, self._most(rung)
                )
                if isinstance(best, InfeasibleResult):
                    continue
                if size == rung.size:
                    for shot, choice in enumerate(best.choices):
                        if (shot, choice.point) not in self.used:
                            gain = _gain(rung, [shot], best, shots)
                            why = f"is expected to save {100 * gain:.2f} % of the rung at {rate}"
                            offers.append((gain, number, {(shot, choice.point): why}))
                else:
                    requests = [r for r in _requests(best) if r not in self.used]
                    if requests:
                        gain = _gain(rung, range(len(shots)), best, shots)
                        why = f"{size.height}p is expected to save {100 * gain:.1f} % at {rate}"
                        offers.append((gain, number, dict.fromkeys(requests, why)))
        offers.sort(
            key=lambda offer: (-offer[0] / len(offer[2]), offer[1], *map(request_order, offer[2]))
        )
        room = self._room(len({r for rung in settled for r in _requests(rung)}))
        wanted: Reasons = {}
        for gain, _, offered in offers:
            new = {r: why for r, why in offered.items() if r not in wanted}
            worth = gain * len(shots) / len(offered)
            exceptional = (
                self.search.budget > 0
                and worth > self.search.exceptional_gain * self.search.required_gain
            )
            most = math.inf if exceptional else room
            if worth > self.search.required_gain and len(wanted) + len(new) <= most:
                wanted |= new
        return wanted

    def _allowed(self, settled: Sequence[RungPlan], number: int) -> list[Size]:
        """Sizes that keep the ladder's sizes from falling."""
        sizes = self.search.prediction.sizes
        low = sizes.index(settled[number - 1].size) if number else 0
        high = (
            sizes.index(settled[number + 1].size) if number + 1 < len(settled) else len(sizes) - 1
        )
        return list(sizes[low : high + 1])

    def _most(self, rung: RungPlan) -> float:
        return rung.target_rate if self.known.profile.rates else math.inf

    def _best_measured(self, state: _State, settled: Sequence[RungPlan]) -> list[RungPlan]:
        """Each rung's best choice among measured points, at the slope that the title has there."""
        rungs: list[RungPlan] = []
        shots = self.known.title.shots
        curves = measured_points(self._found(), shots)
        sizes = self.search.prediction.sizes
        lowest = 0
        for rung in settled:
            slope = slope_at(state.curves, rung.size, rung.bits)
            best = replace(rung, slope=slope)
            for size in (s for s in curves if lowest <= sizes.index(s)):
                found = at_slope_within(
                    self.known.title.with_curves({size: curves[size]}),
                    self.known.profile,
                    size,
                    slope,
                    self._most(rung),
                )
                if isinstance(found, InfeasibleResult):
                    continue
                ratio = found.rate / rung.rate
                if size != rung.size and not 0.8 < ratio < 1.25:
                    continue
                if slope > 0 and _gain(best, range(len(shots)), found, shots) > 0:
                    best = found
            if not rungs or (best.bits > rungs[-1].bits and best.quality > rungs[-1].quality):
                rungs.append(replace(best, target_rate=rung.target_rate))
                lowest = sizes.index(best.size)
        return rungs

    def _measured(self, rung: RungPlan) -> RungPlan:
        """Return the rung as it was measured."""
        title = self.known.title
        return measured_rung(rung, self.known.measurements, title.shots, title.frame_rate)


def _gain(rung: RungPlan, of: Iterable[int], other: RungPlan, shots: Sequence[Shot]) -> float:
    """What ``other``'s choices for some shots are better by, as a share of the rung's bits."""
    total = 0.0
    for shot in of:
        old, new = rung.choices[shot], other.choices[shot]
        total += shots[shot].frames * (new.quality - old.quality) / rung.slope - (
            new.bits - old.bits
        )
    return total / rung.bits


def _column(prediction: TitlePrediction, point: OperatingPoint) -> int:
    """Where a prediction has the CRF of a point that was chosen from it."""
    column = prediction.scale.column(point.crf)
    if column is None:
        raise ValueError(f"CRF {point.crf:g} was not predicted")
    return column


def _measurement(choice: Choice) -> Measurement:
    return Measurement(round(choice.bits), choice.quality)


def _requests(rung: RungPlan) -> list[Request]:
    return [(shot, choice.point) for shot, choice in enumerate(rung.choices)]


def _next(
    free: Sequence[RungPlan], settled: Sequence[RungPlan], doubts: Sequence[float]
) -> list[RungPlan]:
    """Which rungs to settle in this round: the surest one, then one on each side of it, then all
    that are as sure as can be, or the surest. Of those that are equally sure, the middle."""
    middle = len(free) // 2
    order = sorted(range(len(free)), key=lambda n: (doubts[n], abs(n - middle), n))
    if len(settled) == 1:
        below = [n for n in order if free[n].rate < settled[0].rate]
        above = [n for n in order if free[n].rate > settled[0].rate]
        return [free[side[0]] for side in (below, above) if side]
    if not settled:
        return [free[n] for n in order[:1]]
    return [free[n] for n in sorted(order) if doubts[n] == min(doubts)]
