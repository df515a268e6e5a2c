"""Other searches, driven to their end over a title whose curves are formulas."""

from __future__ import annotations

import dataclasses

import pytest

from encoder.media import OperatingPoint, Request
from ladder.constraints import InfeasibleResult
from ladder.curves import Measurement
from ladder.evaluation.rival_searches import (
    ConstantCrfSearch,
    PredictionOnlySearch,
    SampleSearch,
    measured_plan,
)
from ladder.evaluation.simulate import Steps
from ladder.profiles import load_profile
from ladder.rungs import LadderPlan
from ladder.search.steps import Done, Known, Measure, full_grid
from tests.complexity_synthetic import prediction_of, residual_model
from tests.ladder_synthetic import SHOTS, SIZES, measure, shape

TITLE = shape(SHOTS[:3], SIZES[:2])
PROFILE = load_profile("default-0.1")
PERFECT = prediction_of(TITLE, residual_model(0.1))


def drive(search: Steps) -> tuple[LadderPlan, dict[Request, Measurement], list[set[Request]]]:
    """The ladder, what is measured then, and what was asked for in each round."""
    known: dict[Request, Measurement] = {}
    asked: list[set[Request]] = []
    for _ in range(10):
        step = search.step(Known(TITLE, PROFILE, "locked", known))
        if isinstance(step, Done):
            return step.plan, known, asked
        assert isinstance(step, Measure)
        assert step.requests
        assert not known.keys() & set(step.requests)
        asked.append(set(step.requests))
        known |= {request: measure(request) for request in step.requests}
    raise AssertionError("it does not end")


def check(plan: LadderPlan, known: dict[Request, Measurement]) -> None:
    """Everything delivered is measured, and counts as what it measured."""
    assert plan.rungs
    frames = [shot.frames for shot in TITLE.shots]
    for rung in plan.rungs:
        made = [known[shot, choice.point] for shot, choice in enumerate(rung.choices)]
        assert [(c.bits, c.quality) for c in rung.choices] == [(m.bits, m.quality) for m in made]
        assert {(c.point.width, c.point.height) for c in rung.choices} == {rung.size}
        assert rung.bits == sum(m.bits for m in made)
        assert rung.quality == pytest.approx(
            sum(f * m.quality for f, m in zip(frames, made, strict=True)) / sum(frames)
        )


@pytest.mark.parametrize("cells", [1, 7])
def test_a_sample_is_as_large_as_asked_and_holds_every_size(cells: int) -> None:
    plan, known, asked = drive(SampleSearch(cells, choose_between=False))
    check(plan, known)
    (sample,) = asked
    each = max(cells, len(TITLE.sizes))
    for shot in range(len(TITLE.shots)):
        own = [point for number, point in sample if number == shot]
        assert len(own) == each
        assert {(point.width, point.height) for point in own} == set(TITLE.sizes)
    assert plan.points <= sample


def test_what_is_chosen_between_the_samples_is_measured_too() -> None:
    plan, known, asked = drive(SampleSearch(5))
    check(plan, known)
    assert 2 <= len(asked) <= 5
    assert plan.points - asked[0]
    assert plan.points <= set().union(*asked)


def test_without_correction_what_is_delivered_is_measured_and_nothing_else() -> None:
    plan, known, asked = drive(PredictionOnlySearch(PERFECT))
    check(plan, known)
    assert asked == [set(plan.points)]
    wrong = prediction_of(TITLE, residual_model(0.1), bias=(0.7, 0.0))
    other, known, asked = drive(PredictionOnlySearch(wrong))
    check(other, known)
    assert asked == [set(other.points)]
    assert other.rungs[0].rate > 1.5 * plan.rungs[0].rate  # twice the bits, and left at that


def test_one_crf_for_all_shots_of_a_rung() -> None:
    plan, known, asked = drive(ConstantCrfSearch())
    check(plan, known)
    assert asked[0] == set(full_grid(TITLE, PROFILE))
    for rung in plan.rungs:
        assert len(rung.choices) == len(TITLE.shots)
        assert len({choice.point for choice in rung.choices}) == 1


@pytest.mark.parametrize(
    "search",
    [SampleSearch(6), PredictionOnlySearch(PERFECT), ConstantCrfSearch()],
    ids=lambda search: type(search).__name__,
)
def test_constraints_out_of_reach_are_said(search: Steps) -> None:
    floor = dataclasses.replace(PROFILE, floor=99.9)
    known: dict[Request, Measurement] = {}
    for _ in range(3):
        step = search.step(Known(TITLE, floor, "locked", known))
        if isinstance(step, InfeasibleResult):
            break
        assert isinstance(step, Measure)
        known |= {request: measure(request) for request in step.requests}
    assert isinstance(step, InfeasibleResult)
    assert step.constraint == "worst shot"


def test_nothing_is_delivered_that_is_not_measured() -> None:
    plan, known, _ = drive(PredictionOnlySearch(PERFECT))
    known.pop((0, plan.rungs[0].choices[0].point))
    with pytest.raises(KeyError):
        measured_plan(plan, Known(TITLE, PROFILE, "locked", known))
    assert isinstance(plan.rungs[0].choices[0].point, OperatingPoint)
