"""The exhaustive search, stepped to its end by a driver that measures formulas."""

from __future__ import annotations

import dataclasses
import random

import pytest

from encoder.media import OperatingPoint, Request
from encoder.recipes import by_name
from ladder.constraints import InfeasibleResult
from ladder.curves import Measurement
from ladder.profiles import load_profile
from ladder.search.steps import Done, ExhaustiveSearch, Known, Measure, full_grid
from tests.ladder_synthetic import SIZES, known, measure, shape


def drive(search: ExhaustiveSearch, start: Known, seed: int) -> tuple[Done, Known, list[int]]:
    """Carry out steps with results that arrive in random order, asked for after every batch."""
    order = random.Random(seed)
    measurements = dict(start.measurements)
    rounds = []
    while True:
        step = search.step(dataclasses.replace(start, measurements=measurements))
        if isinstance(step, Done):
            return step, dataclasses.replace(start, measurements=measurements), rounds
        assert isinstance(step, Measure)
        assert step.requests
        assert not measurements.keys() & set(step.requests)
        requests = list(step.requests)
        order.shuffle(requests)
        # A driver may be killed halfway: only some of the results are there at the next step.
        done = requests[: order.randint(1, len(requests))]
        rounds.append(len(done))
        results = list({**measurements, **{r: measure(r) for r in done}}.items())
        order.shuffle(results)
        measurements = dict(results)


def test_the_first_step_asks_for_the_full_grid_in_order() -> None:
    step = ExhaustiveSearch().step(known([]))
    assert isinstance(step, Measure)
    assert step.requests == full_grid(shape(), load_profile("default-0.1"))
    assert len(step.requests) == 8 * len(SIZES) * 9


def test_only_what_is_missing_is_asked_for() -> None:
    grid = full_grid(shape(), load_profile("default-0.1"))
    step = ExhaustiveSearch().step(known(grid[:100]))
    assert step == Measure(grid[100:])


def test_order_of_arrival_and_kills_do_not_change_the_plan() -> None:
    outcomes = [drive(ExhaustiveSearch(), known([]), seed) for seed in range(4)]
    plans = [done.plan for done, _, _ in outcomes]
    assert all(plan == plans[0] for plan in plans)
    assert len({frozenset(end.measurements) for _, end, _ in outcomes}) == 1


@pytest.mark.parametrize("rounds", [0, 1, 4])
def test_every_delivered_point_is_measured_and_its_numbers_are_the_measured_ones(
    rounds: int,
) -> None:
    done, end, _ = drive(ExhaustiveSearch(rounds), known([]), 1)
    assert done.plan.points <= end.measurements.keys()
    for rung in done.plan.rungs:
        for shot, choice in enumerate(rung.choices):
            exact = end.measurements[shot, choice.point]
            assert (choice.bits, choice.quality) == (exact.bits, exact.quality)
    between_the_grid = {p for _, p in done.plan.points if p.crf not in range(14, 47, 4)}
    assert bool(between_the_grid) == (rounds > 0)


def test_it_costs_little_more_than_the_grid_and_what_is_delivered() -> None:
    done, end, _ = drive(ExhaustiveSearch(), known([]), 1)
    grid = set(full_grid(shape(), load_profile("default-0.1")))
    extra = len(end.measurements.keys() - grid - done.plan.points)
    assert extra <= 0.25 * len(done.plan.points)


def test_measurements_left_by_other_jobs_do_not_change_the_plan() -> None:
    plain, _, _ = drive(ExhaustiveSearch(), known([]), 1)
    title = shape()
    others: dict[Request, Measurement] = {}
    for shot in range(len(title.shots)):
        for crf in (17.0, 24.5, 31.0):
            request = (shot, title.point(SIZES[1], crf))
            others[request] = Measurement(measure(request).bits // 2, 99.0)  # tempting
        foreign = (shot, OperatingPoint(by_name("x264-veryslow"), 640, 360, 22.0))
        others[foreign] = Measurement(1000, 99.0)
    wanted = plain.plan.points
    others = {request: m for request, m in others.items() if request not in wanted}
    start = dataclasses.replace(known([]), measurements=others)
    other, _, _ = drive(ExhaustiveSearch(), start, 2)
    assert other.plan == plain.plan


def test_infeasible_is_a_step() -> None:
    asked = known(full_grid(shape(), load_profile("default-0.1")))
    step = ExhaustiveSearch().step(
        dataclasses.replace(asked, profile=dataclasses.replace(asked.profile, floor=99.5))
    )
    assert isinstance(step, InfeasibleResult)
