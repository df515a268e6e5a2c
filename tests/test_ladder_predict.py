"""Deliver and correct, driven to its end over titles whose truth is a formula.

The prediction's errors are drawn from the very covariances that the search assumes,
unless a test wants it worse.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import random
from collections.abc import Callable, Generator

import numpy as np
import pytest

from encoder.media import OperatingPoint, Request, Size
from encoder.recipes import by_name, vp9
from ladder.complexity.inputs import CRF_ENDS
from ladder.complexity.prediction import CrfScale, TitlePrediction
from ladder.constraints import CapSet, InfeasibleResult, leaky_bucket_caps, peak_rate_caps
from ladder.curves import MeasuredPoints, Measurement
from ladder.profiles import Profile, load_profile
from ladder.reference_ladder import predicted as predicted_ladder
from ladder.reference_ladder import reference_rungs
from ladder.rungs import LadderPlan, RungPlan, solve, solve_at_rates
from ladder.search import predict
from ladder.search.commit import next_rungs
from ladder.search.moves import moves
from ladder.search.predict import CHECKED, PredictSearch
from ladder.search.questions import MOST_SHOTS, sample
from ladder.search.state import Reasons, State, Tuning
from ladder.search.steps import Done, Known, Measure, TitleShape
from ladder.title_curves import TitleCurves
from ladder.tracks import TitleTracks, tracks_of
from tests.complexity_synthetic import Measuring, prediction_of, residual_model
from tests.ladder_synthetic import SHOTS, SIZES, measure, shape

TITLE = shape(SHOTS[:6], SIZES[:3])
LEVEL = 0.1
"""Errors of about 10 % in rate: what a fair model makes."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Where a search ended."""

    step: Done | InfeasibleResult
    measurements: dict[Request, Measurement]
    asked: tuple[frozenset[Request], ...]
    reasons: dict[Request, str]

    @property
    def plan(self) -> LadderPlan:
        assert isinstance(self.step, Done)
        return self.step.plan

    @property
    def requested(self) -> frozenset[Request]:
        return frozenset().union(*self.asked)

    @property
    def extra(self) -> int:
        return len(self.requested - self.plan.points)


def drive(
    search: PredictSearch,
    start: Known,
    measuring: Measuring = measure,
    seed: int | None = None,
) -> Outcome:
    """Carry out steps. With a seed, results arrive in random order, a part at a time, and the
    search is asked again after each part, as after a kill."""
    order = random.Random(seed)
    measurements = dict(start.measurements)
    asked, reasons = [], {}
    for _ in range(400):
        step = search.step(dataclasses.replace(start, measurements=measurements))
        if not isinstance(step, Measure):
            return Outcome(step, measurements, tuple(asked), reasons)
        assert step.requests
        assert not measurements.keys() & set(step.requests)
        assert set(step.reasons) == set(step.requests)
        reasons |= step.reasons
        requests = list(step.requests)
        if seed is not None:
            order.shuffle(requests)
            requests = requests[: order.randint(1 + len(requests) // 3, len(requests))]
        asked.append(frozenset(requests))
        results = [*measurements.items(), *((r, measuring(r)) for r in requests)]
        if seed is not None:
            order.shuffle(results)
        measurements = dict(results)
    raise AssertionError("it does not end")


def known(
    title: TitleShape | None = None, profile: Profile | None = None, source_bits: int | None = None
) -> Known:
    title = dataclasses.replace(title or TITLE, source_bits=source_bits)
    return Known(title, profile or load_profile("default-0.1"), "locked", {})


def search_for(
    title: TitleShape, seed: int | None, level: float = LEVEL, tuning: Tuning | None = None
) -> PredictSearch:
    return PredictSearch(predicted(title, seed, level), tuning or Tuning())


@functools.cache
def predicted(title: TitleShape, seed: int | None, level: float = LEVEL) -> TitlePrediction:
    return prediction_of(title, residual_model(level), seed)


@functools.cache
def usual(seed: int) -> Outcome:
    return drive(search_for(TITLE, seed), known())


@functools.cache
def truth(title: TitleShape, measuring: Measuring = measure) -> TitleCurves:
    crfs = [14 + n / 2 for n in range(65)]
    return TitleCurves(
        title.frame_rate,
        title.recipe,
        title.shots,
        {
            size: tuple(
                MeasuredPoints(
                    shot.frames, {crf: measuring((n, title.point(size, crf))) for crf in crfs}
                )
                for n, shot in enumerate(title.shots)
            )
            for size in title.sizes
        },
    )


def losses(plan: LadderPlan, title: TitleShape) -> list[float]:
    """Of each rung: (J* - J) / (slope x bits*), with all that there is measured."""
    best = solve_at_rates(truth(title), [rung.rate * (1 + 1e-9) for rung in plan.rungs])
    assert isinstance(best, LadderPlan)
    frames = sum(shot.frames for shot in title.shots)
    return [
        ((yard.quality - rung.quality) * frames / yard.slope - (yard.bits - rung.bits)) / yard.bits
        for rung, yard in zip(plan.rungs, best.rungs, strict=True)
        if yard.slope > 0
    ]


def check_ladder(outcome: Outcome, title: TitleShape, profile: Profile) -> None:
    """What holds for every ladder, however wrong the prediction was."""
    plan = outcome.plan
    assert plan.rungs
    assert plan.points <= outcome.measurements.keys()
    assert plan.points <= outcome.requested
    seconds = float(sum(shot.seconds(title.frame_rate) for shot in title.shots))
    frames = sum(shot.frames for shot in title.shots)
    for rung in plan.rungs:
        assert len(rung.choices) == len(title.shots)
        for shot, choice in enumerate(rung.choices):
            made = outcome.measurements[shot, choice.point]
            assert (choice.bits, choice.quality) == (made.bits, made.quality)
            assert (choice.point.width, choice.point.height) == rung.size
            assert choice.point.recipe == title.recipe
        assert rung.bits == sum(choice.bits for choice in rung.choices)
        assert rung.rate == pytest.approx(rung.bits / seconds)
        total = sum(s.frames * c.quality for s, c in zip(title.shots, rung.choices, strict=True))
        assert rung.quality == pytest.approx(total / frames)
    for below, above in itertools.pairwise(plan.rungs):
        assert above.bits > below.bits
        assert above.quality > below.quality
        assert title.sizes.index(above.size) >= title.sizes.index(below.size)
    assert_constraints(plan, title, profile)


def assert_constraints(plan: LadderPlan, title: TitleShape, profile: Profile) -> None:
    durations = tuple(shot.seconds(title.frame_rate) for shot in title.shots)
    target = math.ceil(max(durations))
    for rung in plan.rungs:
        bits = np.array([choice.bits for choice in rung.choices])
        if profile.rates and rung is not plan.rungs[-1]:
            assert rung.rate <= rung.target_rate * (1 + 1e-9)
            assert rung.target_rate in profile.rates
        if profile.source_cap and title.source_bits is not None:
            assert rung.bits <= title.source_bits
        if profile.floor is not None:
            assert min(choice.quality for choice in rung.choices) >= profile.floor
        if profile.peak_ratio is not None:
            peak = profile.peak_ratio * max(rung.rate, rung.target_rate) * (1 + 1e-6)
            caps: tuple = peak_rate_caps(durations, target, peak)  # type: ignore[type-arg]
            if profile.vbv_seconds is not None:
                caps += leaky_bucket_caps(durations, peak, peak * profile.vbv_seconds)
            assert not CapSet(caps, len(bits)).violations(bits)


@pytest.mark.parametrize("seed", range(3))
def test_every_delivered_point_is_measured_and_the_ladder_rises(seed: int) -> None:
    check_ladder(usual(seed), TITLE, load_profile("default-0.1"))


@pytest.mark.parametrize("seed", range(3))
def test_only_crfs_that_differ_to_the_encoder_are_asked_for(seed: int) -> None:
    """VP9's are whole."""
    title = dataclasses.replace(TITLE, recipe=vp9())
    scale = CrfScale(15.0, 63.0, CRF_ENDS["vp9"], step=1.0)
    prediction = prediction_of(title, residual_model(LEVEL), seed, over=scale)
    outcome = drive(PredictSearch(prediction), known(title))
    check_ladder(outcome, title, load_profile("default-0.1"))
    assert all(point.crf.is_integer() for _, point in outcome.requested)


@pytest.mark.parametrize("seed", range(3))
def test_extra_encodes_stay_within_the_budget_and_what_questions_may_take(seed: int) -> None:
    outcome, search = usual(seed), search_for(TITLE, seed)
    # What was planned when the budget was spent may not be delivered in the end.
    most = 2 * search.tuning.budget
    assert outcome.extra <= most * len(outcome.plan.points)


def test_over_titles_it_loses_little_for_few_extra_encodes() -> None:
    lost = [float(np.mean(losses(usual(seed).plan, TITLE))) for seed in range(4)]
    extra = [usual(seed).extra / len(usual(seed).plan.points) for seed in range(4)]
    assert np.mean(lost) < 0.02
    assert max(lost) < 0.06
    assert np.mean(extra) <= 0.25


def test_every_measurement_has_a_reason_that_people_can_read() -> None:
    outcome = usual(0)
    assert outcome.requested == set(outcome.reasons)
    for reason in outcome.reasons.values():
        assert "nan" not in reason
        assert "inf" not in reason
        assert "\n" not in reason
    assert any("wanted by the rung at" in reason for reason in outcome.reasons.values())


@pytest.mark.parametrize("seed", [1])
def test_order_of_arrival_and_kills_do_not_change_the_plan(seed: int) -> None:
    plain = usual(1)
    other = drive(search_for(TITLE, 1), known(), seed=seed)
    assert len(other.asked) > len(plain.asked)  # it was interrupted
    assert other.plan == plain.plan
    assert other.requested == plain.requested


def test_a_search_that_is_asked_again_says_the_same_and_changes_nothing() -> None:
    outcome, search = usual(2), search_for(TITLE, 2)
    start = dataclasses.replace(known(), measurements=outcome.measurements)
    before = dict(outcome.measurements)
    assert search.step(start) == search.step(start) == outcome.step
    assert outcome.measurements == before
    first = search.step(known())
    assert isinstance(first, Measure)
    assert set(first.requests) == outcome.asked[0]


def test_measurements_left_by_other_jobs_do_not_change_the_plan() -> None:
    plain, title = usual(3), TITLE
    others: dict[Request, Measurement] = {}
    for shot in range(len(title.shots)):
        for size in title.sizes:
            for crf in (14.0, 17.0, 24.5, 31.0, 38.5, 46.0):
                request = (shot, title.point(size, crf))
                if request not in plain.requested:
                    others[request] = Measurement(measure(request).bits // 3, 99.0)  # tempting
        others[shot, OperatingPoint(by_name("x264-veryslow"), 640, 360, 22.0)] = Measurement(
            1000, 99.0
        )
    start = dataclasses.replace(known(), measurements=others)
    other = drive(search_for(title, 3), start, seed=5)
    assert other.plan == plain.plan
    assert other.requested == plain.requested


def test_what_was_measured_before_is_not_asked_for_again() -> None:
    plain = usual(3)
    some = dict(list(plain.measurements.items())[::2])
    start = dataclasses.replace(known(), measurements=some)
    other = drive(search_for(TITLE, 3), start)
    assert other.plan == plain.plan
    assert other.requested == plain.requested - some.keys()


def test_with_a_perfect_prediction_nothing_extra_is_encoded_and_nothing_lost() -> None:
    title = TITLE
    search = PredictSearch(prediction_of(title, residual_model(1e-3)))
    outcome = drive(search, known())
    check_ladder(outcome, title, load_profile("default-0.1"))
    assert outcome.extra == 0
    assert max(losses(outcome.plan, title)) < 0.002


def test_without_a_budget_what_is_delivered_is_all_that_is_encoded() -> None:
    for seed in range(2):
        outcome = drive(search_for(TITLE, seed, tuning=Tuning(budget=0.0)), known())
        check_ladder(outcome, TITLE, load_profile("default-0.1"))
        assert outcome.extra == 0


def test_a_budget_buys_a_better_ladder() -> None:
    poor, rich = [], []
    for seed in range(4):
        bad = predicted(TITLE, seed, 0.3)
        for budget, lost in ((0.0, poor), (0.2, rich)):
            outcome = drive(PredictSearch(bad, Tuning(budget=budget)), known())
            lost += losses(outcome.plan, TITLE)
    assert np.mean(poor) < 0.018
    assert np.mean(rich) < 0.012
    assert np.mean(rich) < 0.75 * np.mean(poor)


def test_the_most_certain_rungs_are_committed_first() -> None:
    rungs = [
        RungPlan(SIZES[0], rate, 1e-6, (), rate, rate, 50.0, 0.0)
        for rate in (1e5, 2e5, 4e5, 8e5, 1.6e6)
    ]
    sure, doubt = 0.03, 0.1
    names = {id(r): n for n, r in enumerate(rungs)}

    def order(free: list[int], committed: list[int], regrets: list[float]) -> list[int]:
        found = next_rungs([rungs[n] for n in free], [rungs[n] for n in committed], regrets)
        return [names[id(r)] for r in found]

    every = [0, 1, 2, 3, 4]
    assert order(every, [], [sure] * 5) == [2]
    assert order(every, [], [sure, doubt, doubt, doubt, sure]) == [0]
    assert order(every, [], [0.3, 0.2, 0.25, 0.1, 0.4]) == [3]
    assert order([0, 1, 3, 4], [2], [sure, doubt, sure, 0.2]) == [0, 3]
    assert order([0, 1], [2], [doubt, sure]) == [1]
    assert order([0, 3, 4], [1, 2], [sure, doubt, sure]) == [0, 4]
    assert order([0, 3, 4], [1, 2], [0.2, doubt, 0.3]) == [3]
    assert order([], [1, 2], []) == []


BAD: dict[str, Callable[[TitleShape], TitlePrediction]] = {
    "twice the rate that it takes": lambda title: prediction_of(
        title, residual_model(LEVEL), bias=(-math.log(2), 0.0)
    ),
    "half the rate that it takes": lambda title: prediction_of(
        title, residual_model(LEVEL), bias=(math.log(2), 0.0)
    ),
    "far too good": lambda title: prediction_of(title, residual_model(LEVEL), bias=(0.0, -1.5)),
    "far too poor": lambda title: prediction_of(title, residual_model(LEVEL), bias=(0.0, 1.5)),
    "unlike any title": lambda title: prediction_of(title, residual_model(LEVEL), 4, scale=27.0),
}


@pytest.mark.parametrize("how", BAD)
def test_however_bad_the_prediction_only_measured_points_are_delivered(how: str) -> None:
    title = TITLE
    check_ladder(drive(PredictSearch(BAD[how](title)), known()), title, load_profile("default-0.1"))
    search = PredictSearch(BAD[how](title), Tuning(exceptional_gain=math.inf))
    outcome = drive(search, known())
    check_ladder(outcome, title, load_profile("default-0.1"))
    most = 2 * search.tuning.budget
    assert outcome.extra <= most * len(outcome.plan.points)


@pytest.mark.parametrize("profile", ["constrained", "archive"])
def test_ladders_of_other_profiles(profile: str) -> None:
    of = load_profile(profile)
    check_ladder(drive(search_for(TITLE, 0), known(profile=of)), TITLE, of)


def binding(**changes: float) -> Profile:
    return dataclasses.replace(load_profile("default-0.1"), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "profile",
    [
        load_profile("replace-fixed-0.1"),
        binding(peak_ratio=1.15),
        binding(peak_ratio=1.2, vbv_seconds=0.5),
        binding(floor=75.0),
    ],
    ids=["listed rates", "peak", "buffer", "floor"],
)
def test_constraints_that_bind_are_kept_by_what_was_measured(profile: Profile) -> None:
    for seed in range(3):
        outcome = drive(search_for(TITLE, seed), known(profile=profile))
        check_ladder(outcome, TITLE, profile)


@pytest.mark.parametrize("how", ["half the rate that it takes", "unlike any title"])
def test_listed_rates_are_kept_however_bad_the_prediction(how: str) -> None:
    of = load_profile("replace-fixed-0.1")
    check_ladder(drive(PredictSearch(BAD[how](TITLE)), known(profile=of)), TITLE, of)


def test_no_rung_takes_more_than_the_source() -> None:
    for seed, share in itertools.product(range(3), (0.3, 0.5, 0.8)):
        start = known(source_bits=round(share * usual(seed).plan.rungs[-1].bits))
        outcome = drive(search_for(TITLE, seed), start)
        assert any("source" in note for note in outcome.plan.notes)
        check_ladder(outcome, start.title, start.profile)


@pytest.mark.parametrize(
    ("shots", "sizes"),
    [
        (SHOTS[:1], SIZES[:3]),
        (SHOTS[:2], SIZES[:3]),
        (SHOTS, SIZES[:1]),
        (SHOTS[2:3], SIZES[:1]),
        (((1, 1.0), (144, 0.7)), SIZES[:2]),
    ],
)
def test_few_shots_and_few_sizes(
    shots: tuple[tuple[int, float], ...], sizes: tuple[Size, ...]
) -> None:
    title = shape(shots, sizes)
    measuring = functools.partial(measure, shots=shots)
    search = PredictSearch(prediction_of(title, residual_model(LEVEL), 0, measuring))
    check_ladder(drive(search, known(title), measuring), title, load_profile("default-0.1"))


def test_it_ends_where_a_constraint_makes_every_further_rung_one_that_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A plan may ask for the same rung again and again, which its constraints never allow."""
    first: list[RungPlan] = []

    def repaired(state: State, rung: RungPlan) -> Generator[Reasons, State, tuple[State, RungPlan]]:
        yield from ()
        first.append(rung)
        assert len(first) < 100, "the search does not end"
        return state, first[0]

    monkeypatch.setattr(predict, "keep_constraints", repaired)
    assert len(drive(search_for(TITLE, 0), known()).plan.rungs) == 1


def test_infeasible_before_anything_is_encoded() -> None:
    of = dataclasses.replace(load_profile("default-0.1"), floor=99.9)
    step = search_for(TITLE, 0).step(known(profile=of))
    assert isinstance(step, InfeasibleResult)
    assert step.constraint == "worst shot"
    step = search_for(TITLE, 0).step(known(source_bits=100))
    assert not isinstance(step, InfeasibleResult)  # every title has a ladder


def test_a_floor_that_was_thought_out_of_reach_is_not_given_up_unmeasured() -> None:
    """The prediction is far too low; the truth keeps the floor."""
    of = binding(floor=82.0)
    assert isinstance(drive(search_for(TITLE, None), known(profile=of)).step, Done)
    pessimist = prediction_of(TITLE, residual_model(LEVEL), bias=(0.0, 1.5))
    outcome = drive(PredictSearch(pessimist), known(profile=of))
    assert isinstance(outcome.step, Done)


def test_a_title_of_many_shots() -> None:
    kinds = random.Random(0)
    shots = tuple((kinds.randint(24, 140), kinds.uniform(0.4, 2.5)) for _ in range(30))
    title = shape(shots, SIZES[:2])
    measuring = functools.partial(measure, shots=shots)
    search = PredictSearch(prediction_of(title, residual_model(LEVEL), 1, measuring))
    outcome = drive(search, known(title), measuring)
    check_ladder(outcome, title, load_profile("default-0.1"))
    assert outcome.extra <= 0.25 * len(outcome.plan.points)


def test_a_step_goes_on_where_the_last_one_stopped_and_says_what_a_new_search_says() -> None:
    outcome = usual(1)
    search = search_for(TITLE, 1)
    start = known()
    for _ in range(4):
        step = search.step(start)
        assert step == search_for(TITLE, 1).step(start)
        if not isinstance(step, Measure):
            break
        found = {request: outcome.measurements[request] for request in step.requests}
        start = dataclasses.replace(start, measurements={**start.measurements, **found})
    # Another truth is another run, whatever was said before.
    other = {
        request: Measurement(made.bits * 2, made.quality)
        for request, made in start.measurements.items()
    }
    changed = dataclasses.replace(start, measurements=other)
    assert search.step(changed) == search_for(TITLE, 1).step(changed)


def test_questions_of_a_long_title_look_at_shots_that_are_spread_over_it() -> None:
    assert list(sample(5)) == [0, 1, 2, 3, 4]
    some = list(sample(1500))
    assert 32 <= len(some) <= MOST_SHOTS
    assert some[-1] > 1400


# -- cells that were measured in any case ------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 4])
def test_a_search_starts_from_the_cells_that_it_is_given(seed: int) -> None:
    """They correct the prediction and are delivered where they fit, but are no probes of its own:
    whether they are known at the start or asked for, the search ends at the same ladder."""
    given = tuple(
        (shot, TITLE.point(TITLE.sizes[-1], crf)) for shot in (0, 2, 5) for crf in (25.0, 30.0)
    )
    search = PredictSearch(predicted(TITLE, seed), given=given)
    before = dataclasses.replace(known(), measurements={r: measure(r) for r in given})
    outcome = drive(search, before)
    assert not outcome.requested & set(given)
    asking = drive(PredictSearch(predicted(TITLE, seed), given=given), known(), seed=seed)
    assert asking.plan == outcome.plan
    assert {asking.reasons[request] for request in given} == {CHECKED}
    without = drive(search_for(TITLE, seed), before)
    assert without.plan == usual(seed).plan  # what others measured changes nothing


def test_given_cells_take_nothing_of_the_budget() -> None:
    plan = usual(2).plan
    first = TITLE.sizes[0]
    cells = [(shot, TITLE.point(first, 14.0 + crf)) for shot in (0, 1) for crf in range(9)]
    measured = {request: measure(request) for request in [*plan.points, *cells]}
    full = dataclasses.replace(known(), measurements=measured)
    eager = Tuning(required_gain=1e-9, exceptional_gain=1e12)
    spent = State.of(predicted(TITLE, 2), eager, full, measured)
    assert not moves(spent, plan.rungs)
    free = State.of(predicted(TITLE, 2), eager, full, measured, cells)
    assert moves(free, plan.rungs)


# -- placed rungs ------------------------------------------------------------------------------

PLACED = dataclasses.replace(
    load_profile(), name="placed", recipes={"x264": "medium"}, heights=(234, 360, 540)
)


def check_viewers(
    outcome: Outcome, title: TitleShape, missed: float, *, lowest_too: bool = False
) -> None:
    """Rungs rise, and nobody loses more than the tolerance and ``missed`` against the reference
    ladder, as predicted on the truth's own curves; of its lowest rung only if asked to."""
    rungs = outcome.plan.rungs
    for low, high in itertools.pairwise(rungs):
        assert low.rate < high.rate
        assert low.quality < high.quality
    found = tracks_of(truth(title), [[size] for size in title.sizes], None)
    assert isinstance(found, TitleTracks)
    reference = predicted_ladder(
        reference_rungs(title.sizes[-1], PLACED), title.sizes, found.tracks, title.recipe
    )
    for rung in reference[0 if lowest_too else 1 :]:
        played = [r for r in rungs if r.rate <= rung.rate] or rungs[:1]
        assert played[-1].quality > rung.quality - PLACED.tolerance - missed
    top = [r for r in rungs if r.quality > reference[-1].quality + 2]
    assert not top, "rungs above what viewers need cost bits"


@pytest.mark.parametrize("seed", range(4))
def test_placed_rungs_serve_viewers_although_they_were_planned_on_a_prediction(seed: int) -> None:
    outcome = drive(search_for(TITLE, seed), known(profile=PLACED))
    check_viewers(outcome, TITLE, 0.4)
    spaced = usual(seed)
    assert len(outcome.requested) <= 1.2 * len(spaced.requested), "more rungs cost as much"


def test_a_killed_search_places_rungs_in_the_same_way() -> None:
    usual = drive(search_for(TITLE, 0), known(profile=PLACED))
    again = drive(search_for(TITLE, 0), known(profile=PLACED), seed=3)
    assert again.plan == usual.plan


def test_a_pilot_is_measured_before_rungs_are_placed_and_only_then() -> None:
    placed = drive(search_for(TITLE, 0), known(profile=PLACED))
    assert len(placed.asked[0]) <= 4
    assert "before rungs are placed" in " ".join(placed.reasons.values())
    spaced = drive(search_for(TITLE, 0), known())
    assert "before rungs are placed" not in " ".join(spaced.reasons.values())


def test_bad_predictions_cost_viewers_nothing_and_few_encodes() -> None:
    """Errors of 30 % in rate, where the lowest rung is easily of the wrong size."""
    ended = [drive(search_for(TITLE, seed, level=0.3), known(profile=PLACED)) for seed in range(8)]
    for outcome in ended:
        check_viewers(outcome, TITLE, 0.2, lowest_too=True)
    requested = sum(len(outcome.requested) for outcome in ended)
    assert requested <= 1.5 * sum(len(outcome.plan.points) for outcome in ended)


def test_the_reference_s_lowest_rung_is_looked_at_before_rungs_are_placed() -> None:
    """The smallest size is predicted to take three times the bits: no rung of ours would have it,
    and the reference ladder's lowest rung would look too bad."""
    prediction = predicted(TITLE, 1)
    log_bpp = prediction.log_bpp.copy()
    log_bpp[:, 0] += math.log(3)
    wrong = PredictSearch(dataclasses.replace(prediction, log_bpp=log_bpp), Tuning(budget=0.0))
    outcome = drive(wrong, known(profile=PLACED))
    why = "tells what the reference ladder's lowest rung looks like"
    asked = [request for request, reason in outcome.reasons.items() if reason == why]
    assert [point.size for _, point in asked] == [SIZES[0]], "one of six shots"
    check_viewers(outcome, TITLE, 0.2, lowest_too=True)


def test_constraints_do_not_have_a_rung_encoded_again_and_again() -> None:
    """The title's curve promises the quality at fewer bits than constraints allow, so a rung that
    is measured seems to take too many."""
    profile = dataclasses.replace(PLACED, peak_ratio=1.1)
    outcome = drive(search_for(TITLE, 0), known(profile=profile))
    assert_constraints(outcome.plan, TITLE, profile)
    check_viewers(outcome, TITLE, 0.2, lowest_too=True)
    assert len(outcome.requested) <= 1.4 * len(outcome.plan.points)


def test_the_lowest_rung_is_raised_to_where_it_keeps_its_constraints_and_stays() -> None:
    """It was planned where constraints turn out not to hold, and a larger size looks better."""
    profile = dataclasses.replace(PLACED, peak_ratio=1.5, vbv_seconds=0.5, floor=70.0)
    outcome = drive(search_for(TITLE, 0), known(profile=profile))
    assert_constraints(outcome.plan, TITLE, profile)
    best = solve(truth(TITLE), profile)
    assert isinstance(best, LadderPlan)
    assert outcome.plan.rungs[0].rate <= 1.1 * best.rungs[0].rate
    assert len(outcome.plan.rungs) == len(best.rungs)
