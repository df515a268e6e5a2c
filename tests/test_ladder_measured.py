"""Curves through measured cells, and rungs with measured numbers."""

from __future__ import annotations

import random

import pytest

from encoder.media import OperatingPoint, Request
from encoder.recipes import x265
from ladder.constraints import InfeasibleResult
from ladder.curves import Measurement
from ladder.profiles import load_profile
from ladder.rungs import solve
from ladder.search.measured import measured_curves, measured_points, measured_rung
from ladder.search.steps import full_grid, measured_title
from tests.ladder_synthetic import SIZES, known, measure, shape

TITLE = shape()
GRID = {request: measure(request) for request in full_grid(TITLE, load_profile("default-0.1"))}


def test_curves_hold_every_cell_and_interpolate_between_them() -> None:
    curves, points = measured_curves(GRID, TITLE.shots), measured_points(GRID, TITLE.shots)
    assert tuple(curves) == tuple(points) == SIZES
    for size in SIZES:
        for number, shot in enumerate(TITLE.shots):
            cells = {p.crf: m for (n, p), m in GRID.items() if n == number and p.size == size}
            curve, bare = curves[size][number], points[size][number]
            assert curve.frames == bare.frames == shot.frames
            assert curve.measurements == bare.measurements == cells
            assert [c.crf for c in bare.points()] == sorted(cells)
            assert {c.crf for c in curve.points() if c.measured} == cells.keys()
            assert len(curve.points()) > len(cells)


def test_the_order_of_the_cells_does_not_matter() -> None:
    shuffled = list(GRID.items())
    random.Random(1).shuffle(shuffled)
    curves = measured_curves(dict(shuffled), TITLE.shots)
    assert curves == measured_curves(GRID, TITLE.shots)
    assert tuple(curves) == SIZES


def test_a_size_that_a_shot_was_not_measured_at_has_no_curves() -> None:
    part = {r: m for r, m in GRID.items() if r[0] != 3 or r[1].size != SIZES[1]}
    assert tuple(measured_curves(part, TITLE.shots)) == (SIZES[0], *SIZES[2:])
    assert tuple(measured_points(part, TITLE.shots)) == (SIZES[0], *SIZES[2:])


def test_nothing_measured_gives_no_curves() -> None:
    assert measured_curves({}, TITLE.shots) == measured_points({}, TITLE.shots) == {}


def test_cells_of_two_recipes_are_not_mixed() -> None:
    shot, point = next(iter(GRID))
    other: Request = shot, OperatingPoint(x265(), point.width, point.height, point.crf)
    with pytest.raises(ValueError, match="one recipe, got cells of x264-medium, x265-medium"):
        measured_curves({**GRID, other: Measurement(1, 50.0)}, TITLE.shots)


def test_a_rung_gets_the_numbers_that_were_measured() -> None:
    start = known(GRID)
    plan = solve(measured_title(start, GRID.keys()), start.profile)
    assert not isinstance(plan, InfeasibleResult)
    rung = plan.rungs[len(plan.rungs) // 2]
    requests = list(enumerate(choice.point for choice in rung.choices))
    made = {request: Measurement(2 * measure(request).bits, 40.0) for request in requests}
    measured = measured_rung(rung, made, TITLE.shots, TITLE.frame_rate)
    assert [(c.bits, c.quality) for c in measured.choices] == [
        (made[request].bits, 40.0) for request in requests
    ]
    assert [c.point for c in measured.choices] == [c.point for c in rung.choices]
    seconds = float(sum(shot.seconds(TITLE.frame_rate) for shot in TITLE.shots))
    assert measured.bits == sum(m.bits for m in made.values())
    assert measured.rate == pytest.approx(measured.bits / seconds)
    assert measured.quality == pytest.approx(40.0)
    assert (measured.size, measured.slope, measured.target_rate) == (
        rung.size,
        rung.slope,
        rung.target_rate,
    )
    with pytest.raises(KeyError):
        measured_rung(rung, {}, TITLE.shots, TITLE.frame_rate)
