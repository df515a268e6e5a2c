"""What predictions missed: surprise against drawn titles, drift by chance and by change."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from encoder.media import Request
from ladder.complexity.drift import DRIFT_CHANCE, LEAST_TITLES, Miss, compare, drift, miss
from ladder.complexity.prediction import TitlePrediction
from ladder.curves import Measurement
from tests.complexity_synthetic import prediction_of, residual_model
from tests.ladder_synthetic import measure, shape

TITLE = shape()
MODEL = residual_model(0.1)


def measured(
    crfs: tuple[float, ...] = (22.0, 28.0, 34.0), rate: float = 1.0
) -> dict[Request, Measurement]:
    found = {}
    for shot in range(len(TITLE.shots)):
        for size in TITLE.sizes[1:3]:
            for crf in crfs:
                request = (shot, TITLE.point(size, crf))
                made = measure(request)
                found[request] = Measurement(round(rate * made.bits), made.quality)
    return found


def told(prediction: TitlePrediction, rate: float = 1.0) -> Miss:
    found = miss(prediction, TITLE.shots, measured(rate=rate))
    assert found is not None
    return found


def a_miss(**changes: float | tuple[float, float]) -> Miss:
    plain = Miss(10, 0.0, 0.0, 1.0, (0.0, 0.0), -1.0)
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


def test_a_perfect_prediction_misses_nothing() -> None:
    found = told(prediction_of(TITLE, MODEL))
    assert found.cells == len(measured())
    assert found.log_rate_error == pytest.approx(0.0, abs=1e-3)
    assert found.quality_error == pytest.approx(0.0, abs=0.01)
    assert np.hypot(*found.surprise) < 0.1


def test_a_planted_error_is_found_with_its_sign() -> None:
    found = told(prediction_of(TITLE, MODEL, bias=(math.log(1.5), 0.0)))
    assert found.log_rate_error == pytest.approx(math.log(1.5), abs=1e-3)
    assert abs(found.quality) < 0.01
    better = told(prediction_of(TITLE, MODEL, bias=(0.0, 0.5)))
    assert better.quality > 1
    assert better.quality == pytest.approx(better.quality_error)


def test_surprise_is_standard_normal_on_titles_drawn_from_the_model() -> None:
    drawn = np.array([told(prediction_of(TITLE, MODEL, seed)).surprise for seed in range(120)])
    assert np.allclose(drawn.mean(axis=0), 0.0, atol=0.35)
    assert np.allclose(np.cov(drawn.T), np.eye(2), atol=0.4)


def test_knowing_the_size_of_ones_errors_scores_better_than_being_too_sure() -> None:
    right = [prediction_of(TITLE, MODEL, seed) for seed in range(8)]
    sure = [dataclasses.replace(one, residuals=residual_model(0.02)) for one in right]
    found = compare([told(one) for one in sure], [told(one) for one in right])
    assert found.better
    assert found.better_on >= 7
    assert not compare([told(one) for one in right], [told(one) for one in sure]).better


def test_what_was_not_predicted_says_nothing() -> None:
    prediction = prediction_of(TITLE, MODEL)
    assert miss(prediction, TITLE.shots, {}) is None
    other = {
        (0, dataclasses.replace(TITLE.point(TITLE.sizes[0], 22.0), width=2, height=2)): (
            Measurement(1000, 50.0)
        )
    }
    assert miss(prediction, TITLE.shots, other) is None


def test_titles_like_the_models_own_are_rarely_called_drift() -> None:
    misses = [told(prediction_of(TITLE, MODEL, seed)) for seed in range(60)]
    alarms = [drift(misses[start : start + LEAST_TITLES]) for start in range(0, 60, LEAST_TITLES)]
    assert sum(alarm is not None for alarm in alarms) <= 1
    assert drift(misses) is None


def test_encodes_that_all_take_more_are_called_drift_with_the_evidence() -> None:
    misses = [told(prediction_of(TITLE, MODEL, seed), rate=1.6) for seed in range(5)]
    assert drift(misses[: LEAST_TITLES - 1]) is None
    found = drift(misses)
    assert found is not None
    assert found.titles == 5
    assert found.chance < DRIFT_CHANCE
    assert found.rate_ratio == pytest.approx(1.6, rel=0.15)


@pytest.mark.parametrize("count", [3, 12])
def test_the_chance_is_that_of_two_normal_numbers(count: int) -> None:
    # Rotation does not matter, only how far the sum is from nothing.
    far = math.sqrt(-2 * math.log(DRIFT_CHANCE) * count) / count
    over = [a_miss(surprise=(1.01 * far, 0.0))] * count
    under = [a_miss(surprise=(0.0, 0.99 * far))] * count
    assert drift(over) is not None
    assert drift(under) is None


def test_promotion_needs_titles_certainty_and_no_loss_in_points() -> None:
    current = [a_miss(log_score=-1.0 - 0.1 * n) for n in range(5)]
    new = [a_miss(log_score=-0.5 - 0.1 * n) for n in range(5)]
    assert compare(current, new).better
    assert not compare(new, current).better
    assert not compare(current, current).better
    assert not compare(current[:2], new[:2]).better
    assert not compare([], []).better
    worse_in_points = [dataclasses.replace(one, quality_error=1.2) for one in new]
    assert not compare(current, worse_in_points).better
    one_lucky = [*current[:4], a_miss(log_score=5.0)]
    assert not compare(current, one_lucky).better


def test_a_title_under_several_recipes_counts_once() -> None:
    current = [a_miss(log_score=-1.0) for _ in range(8)]
    new = [a_miss(log_score=score) for score in (-0.5, -0.6, -0.4, -0.5, -1.5, -1.6, -1.4, -1.5)]
    one_by_one = compare(current, new)
    assert (one_by_one.titles, one_by_one.better_on) == (8, 4)
    titles = ["a", "a", "a", "a", "b", "c", "d", "e"]
    together = compare(current, new, titles)
    assert (together.titles, together.better_on) == (5, 1)
    assert together.gain == pytest.approx((0.5 - 0.5 - 0.6 - 0.4 - 0.5) / 5)


def test_a_model_is_worse_only_by_more_than_chance() -> None:
    current = [a_miss(log_score=-1.0 - 0.1 * n) for n in range(5)]
    new = [a_miss(log_score=-1.5 - 0.1 * n) for n in range(5)]
    assert compare(current, new).worse
    assert not compare(new, current).worse
    assert not compare(current, current).worse
    assert not compare(current[:2], new[:2]).worse
    uncertain = [*current[:4], a_miss(log_score=-5.0)]
    assert not compare(current, uncertain).worse
