"""Which sizes are in question, against brute force and drawn posteriors."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping

import numpy as np
import pytest

from encoder.arrays import Float64
from encoder.media import Request
from ladder.complexity.prediction import CorrectedTitle, correct
from ladder.complexity.residuals import QUALITY, RATE, Cells
from ladder.complexity.scale import unwarp, warp
from ladder.curves import Measurement
from ladder.profiles import load_profile
from ladder.rungs import LadderPlan, RungPlan, solve
from ladder.search.questions import Question, questions
from ladder.title_curves import TitleCurves
from tests.complexity_synthetic import prediction_of, residual_model
from tests.ladder_synthetic import SIZES, measure, shape

TITLE = shape()
LEVEL = 0.04


@functools.cache
def situation(measured: bool) -> tuple[CorrectedTitle, tuple[RungPlan, ...]]:
    """A prediction with small errors, and the rungs on it; with some of them measured."""
    prediction = prediction_of(TITLE, residual_model(LEVEL), seed=3)
    corrected = correct(prediction, TITLE.shots, {})
    if measured:
        some = {
            (shot, choice.point): measure((shot, choice.point))
            for rung in rungs_on(corrected)[1::2]
            for shot, choice in list(enumerate(rung.choices))[:5]
        }
        corrected = correct(prediction, TITLE.shots, some)
    return corrected, rungs_on(corrected)


def rungs_on(corrected: CorrectedTitle) -> tuple[RungPlan, ...]:
    curves = {size: tuple(of) for size, of in corrected.curves().items()}
    plan = solve(
        TitleCurves(TITLE.frame_rate, TITLE.recipe, TITLE.shots, curves),
        load_profile("default-0.1"),
    )
    assert isinstance(plan, LadderPlan)
    return plan.rungs


def asked(measured: bool) -> list[Question]:
    found = questions(*situation(measured))
    assert found
    return found


def worth(corrected: CorrectedTitle, slope: float, size: int) -> tuple[float, list[int]]:
    """Best J of a size at a slope, point by point, and where."""
    total, columns = 0.0, []
    for shot, curve in enumerate(corrected.curves()[SIZES[size]]):
        of = [TITLE.shots[shot].frames * c.quality - slope * c.bits for c in curve.points()]
        total += max(of)
        columns.append(of.index(max(of)))
    return total, columns


@pytest.mark.parametrize("measured", [False, True])
def test_the_expected_difference_is_that_of_all_shots_best_points(measured: bool) -> None:
    corrected, rungs = situation(measured)
    for question in asked(measured):
        rung = rungs[question.rung]
        own, own_columns = worth(corrected, rung.slope, SIZES.index(rung.size))
        other, other_columns = worth(corrected, rung.slope, question.size)
        assert question.expected == pytest.approx(
            (other - own) / (rung.slope * rung.bits), abs=1e-9
        )
        shot = question.direct.shot
        assert question.direct.points == (
            (SIZES.index(rung.size), own_columns[shot]),
            (question.size, other_columns[shot]),
        )


def cells_of(
    corrected: CorrectedTitle, rung: RungPlan, other: int
) -> tuple[list[Cells], list[list[int]], list[int]]:
    prediction = corrected.prediction
    sizes = [SIZES.index(rung.size), other]
    columns = [worth(corrected, rung.slope, size)[1] for size in sizes]
    position = prediction.scale.position(prediction.scale.crfs)
    at = [prediction.log2_scale(SIZES[size]) for size in sizes]
    cells = [
        Cells(
            np.repeat(position[[columns[0][shot], columns[1][shot]]], 2),
            np.repeat(at, 2),
            np.array([RATE, QUALITY, RATE, QUALITY]),
        )
        for shot in range(len(TITLE.shots))
    ]
    return cells, [[columns[0][n], columns[1][n]] for n in range(len(TITLE.shots))], sizes


def joint(corrected: CorrectedTitle, cells: list[Cells]) -> Float64:
    """Posterior covariance of the residuals of all shots at ``cells``."""
    posterior = corrected.posterior
    blocks = [
        [
            posterior.covariance(a, cells[a])
            if a == b
            else posterior.shared(a, cells[a])
            @ posterior.title_covariance
            @ posterior.shared(b, cells[b]).T
            for b in range(len(cells))
        ]
        for a in range(len(cells))
    ]
    return np.block(blocks)


def differences(corrected: CorrectedTitle, rung: RungPlan, other: int, moved: Float64) -> Float64:
    """J of the other size minus J of the own, as a share of the rung's bits, for residuals moved
    by ``[draws, shots, 4]``; what is measured does not move."""
    _, columns, sizes = cells_of(corrected, rung, other)
    total = np.zeros(len(moved))
    for shot, of in enumerate(TITLE.shots):
        at = (shot, sizes, columns[shot])
        still = corrected.measured[at]
        bits = corrected.bits[at] * np.exp(np.where(still, 0.0, moved[:, shot, ::2]))
        warped = warp(corrected.quality[at]) + np.where(still, 0.0, moved[:, shot, 1::2])
        value = of.frames * unwarp(warped) - rung.slope * bits
        total += value[:, 1] - value[:, 0]
    return np.asarray(total / (rung.slope * rung.bits))


@pytest.mark.parametrize("measured", [False, True])
def test_the_deviation_is_that_of_titles_drawn_from_the_posterior(measured: bool) -> None:
    corrected, rungs = situation(measured)
    random = np.random.default_rng(0)
    for question in asked(measured)[:6]:
        rung = rungs[question.rung]
        cells, _, _ = cells_of(corrected, rung, question.size)
        spread = joint(corrected, cells)
        root = np.linalg.cholesky(spread + 1e-12 * np.eye(len(spread)))
        drawn = (random.standard_normal((4000, len(spread))) @ root.T).reshape(4000, -1, 4)
        found = differences(corrected, rung, question.size, drawn)
        assert question.deviation == pytest.approx(found.std(), rel=0.08)
        assert question.expected == pytest.approx(found.mean(), abs=0.15 * found.std() + 0.002)


@pytest.mark.parametrize("measured", [False, True])
def test_the_value_is_what_choosing_after_the_best_shots_measurement_brings(
    measured: bool,
) -> None:
    corrected, rungs = situation(measured)
    noise = np.tile(corrected.prediction.residuals.noise, 2)
    draws = np.linspace(-8, 8, 4001)
    chance = np.exp(-0.5 * draws**2)
    for question in asked(measured)[:6]:
        rung = rungs[question.rung]
        cells, columns, sizes = cells_of(corrected, rung, question.size)
        spread = joint(corrected, cells)
        count = spread.shape[0]
        step = 1e-4
        weights = np.array(  # how the difference moves with each residual
            [
                differences(
                    corrected,
                    rung,
                    question.size,
                    sign * step * np.eye(count)[n].reshape(1, -1, 4),
                )[0]
                for sign in (1, -1)
                for n in range(count)
            ]
        ).reshape(2, count)
        slope = (weights[0] - weights[1]) / (2 * step)
        removed = []
        for shot in range(len(TITLE.shots)):
            of = slice(4 * shot, 4 * shot + 4)
            link = spread[of] @ slope
            removed.append(link @ np.linalg.solve(spread[of, of] + np.diag(noise), link))
            if corrected.measured[shot, sizes, columns[shot]].all():
                removed[-1] = 0.0
        assert question.direct.shot == int(np.argmax(removed))
        told = question.expected + math.sqrt(max(removed)) * draws
        better = np.average(np.maximum(told, 0), weights=chance) - max(question.expected, 0)
        assert question.direct.value == pytest.approx(better, rel=0.02, abs=1e-9)


def test_the_most_valuable_question_comes_first_and_none_is_about_the_rungs_own_size() -> None:
    corrected, rungs = situation(False)
    found = questions(corrected, rungs)
    assert [q.direct.value for q in found] == sorted((q.direct.value for q in found), reverse=True)
    for question in found:
        assert SIZES[question.size] != rungs[question.rung].size
        assert question.direct.value > 0
        assert question.deviation > 0
    assert len({(q.rung, q.size) for q in found}) == len(found)


def answer(question: Question, corrected: CorrectedTitle) -> Mapping[Request, Measurement]:
    """What was expected, measured."""
    found = {}
    for size, column in question.direct.points:
        point = TITLE.point(SIZES[size], float(corrected.prediction.scale.crfs[column]))
        at = question.direct.shot, size, column
        found[question.direct.shot, point] = Measurement(
            round(corrected.bits[at]), float(corrected.quality[at])
        )
    return found


def test_once_answered_a_question_is_worth_less_and_so_are_those_like_it() -> None:
    corrected, rungs = situation(False)
    first, *_ = before = questions(corrected, rungs)
    known = dict(answer(first, corrected))
    values = [first.direct.value]
    for _ in range(4):
        told = correct(corrected.prediction, TITLE.shots, known)
        again = {(q.rung, q.size): q for q in questions(told, rungs)}
        same = again.get((first.rung, first.size))
        if same is None:
            values.append(0.0)
            break
        values.append(same.direct.value)
        assert same.direct.points != first.direct.points or same.direct.shot != first.direct.shot
        known |= answer(same, told)
    assert all(later < 0.9 * earlier for earlier, later in itertools.pairwise(values))
    told = correct(corrected.prediction, TITLE.shots, answer(first, corrected))
    after = {(q.rung, q.size): q.deviation for q in questions(told, rungs)}
    alike = [q for q in before if q.size == first.size]
    assert all(after.get((q.rung, q.size), 0.0) < q.deviation for q in alike)


def test_when_all_is_measured_nothing_is_in_question() -> None:
    corrected, rungs = situation(False)
    everything = {
        (shot, TITLE.point(size, crf)): measure((shot, TITLE.point(size, crf)))
        for shot in range(len(TITLE.shots))
        for size in SIZES
        for crf in corrected.prediction.scale.crfs.tolist()[::1]
    }
    # Conditioning on all of them is another test; what counts here is that they are known.
    told = CorrectedTitle(
        corrected.prediction,
        corrected.shots,
        corrected.bits,
        corrected.quality,
        np.ones_like(corrected.measured),
        corrected.posterior,
    )
    assert len(everything) == told.measured.size
    assert questions(told, rungs) == []


def test_points_that_are_planned_anyway_tell_at_most_as_much_and_are_told_apart() -> None:
    corrected, rungs = situation(False)
    planned: dict[tuple[int, int], list[int]] = {}
    for rung in rungs:
        size = SIZES.index(rung.size)
        for shot, column in enumerate(worth(corrected, rung.slope, size)[1]):
            planned.setdefault((shot, size), []).append(column)
    assert all(question.planned is None for question in questions(corrected, rungs))
    told = [q for q in questions(corrected, rungs, planned) if q.planned is not None]
    assert told
    for question in told:
        assert question.planned is not None
        own, other = question.planned.points
        assert {own[0], other[0]} == {SIZES.index(rungs[question.rung].size), question.size}
        for size, column in (own, other):
            assert column in planned[question.planned.shot, size]
        assert 0 <= question.planned.value <= question.direct.value + 1e-9


def test_a_planned_point_that_is_the_best_one_tells_as_much_as_asking_it() -> None:
    corrected, rungs = situation(False)
    for question in questions(corrected, rungs)[:4]:
        direct = question.direct
        planned = {(direct.shot, size): [column] for size, column in direct.points}
        same = next(
            q
            for q in questions(corrected, rungs, planned)
            if (q.rung, q.size) == (question.rung, question.size)
        )
        assert same.planned is not None
        assert same.planned.points == direct.points
        assert same.planned.value == pytest.approx(direct.value)
