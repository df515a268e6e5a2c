"""The scale that quality is predicted on."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ladder.complexity.scale import INFORMATIVE_SCORES, censored, unwarp, unwarp_slope, warp

telling = st.floats(*INFORMATIVE_SCORES)


@given(telling)
def test_unwarp_is_the_inverse_of_warp(quality: float) -> None:
    assert abs(float(unwarp(warp(np.array(quality)))) - quality) < 1e-9


@given(telling, telling)
def test_a_better_score_is_higher_on_the_scale(one: float, other: float) -> None:
    low, high = sorted((one, other))
    warped = warp(np.array([low, high]))
    assert warped[0] <= warped[1]
    assert high - low < 1e-6 or warped[0] < warped[1]


@given(st.floats(-8, 8))
def test_the_slope_is_the_derivative(warped: float) -> None:
    place = 1 / (1 + np.exp(-warped))
    if not 0.03 < place < 0.97:  # unwarp stops where scores end
        return
    numeric = (unwarp(np.array(warped + 1e-5)) - unwarp(np.array(warped - 1e-5))) / 2e-5
    assert abs(float(unwarp_slope(np.array(warped))) - float(numeric)) < 1e-4


def test_four_points_in_the_middle_weigh_as_much_as_one_at_95() -> None:
    middle, top = unwarp_slope(warp(np.array([50.0, 95.0])))
    assert abs(middle / top - 4) < 0.1


def test_the_scale_ends_where_scores_do() -> None:
    assert unwarp(np.array([-50.0, 50.0])).tolist() == [0.0, 100.0]
    assert np.isfinite(warp(np.array([0.0, 100.0, -3.0, 120.0]))).all()


def test_beyond_the_telling_part_all_scores_are_one_bound() -> None:
    low, high = INFORMATIVE_SCORES
    scores = np.array([0.0, low, np.nextafter(low, 50), 50, np.nextafter(high, 50), high, 100.0])
    assert censored(scores).tolist() == [-1, -1, 0, 0, 0, 1, 1]
    warped = warp(scores)
    assert warped[0] == warped[1] < warped[2] < warped[3] < warped[4] < warped[5] == warped[6]


def test_what_was_not_scored_stays_unscored_and_bounds_nothing() -> None:
    scores = np.array([[np.nan, 100.0], [50.0, np.nan]])
    assert np.isnan(warp(scores)).tolist() == [[True, False], [False, True]]
    assert censored(scores).tolist() == [[0, 1], [0, 0]]
