"""What measurements of some points do to the curves of a whole title."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder.media import OperatingPoint, Request
from encoder.recipes import by_name
from ladder.complexity.prediction import CorrectedTitle, CrfScale, TitlePrediction, correct
from ladder.complexity.residuals import RATE, Cells
from ladder.complexity.scale import unwarp, warp
from ladder.curves import Measurement
from tests.complexity_synthetic import SCALE, prediction_of, residual_model
from tests.ladder_synthetic import SIZES, measure, shape

TITLE = shape()
PREDICTION = prediction_of(TITLE, residual_model(), seed=1)
CRFS = SCALE.crfs.tolist()


def corrected(
    measurements: Mapping[Request, Measurement], prediction: TitlePrediction = PREDICTION
) -> CorrectedTitle:
    return correct(prediction, TITLE.shots, measurements)


def at(shot: int, size: int, crf: float) -> tuple[Request, tuple[int, int, int]]:
    return (shot, TITLE.point(SIZES[size], crf)), (shot, size, CRFS.index(crf))


def expected(
    place: tuple[int, int, int], prediction: TitlePrediction = PREDICTION
) -> tuple[float, float]:
    """Bits and quality of the prediction itself."""
    shot, size, _ = place
    pixels = SIZES[size].width * SIZES[size].height * TITLE.shots[shot].frames
    bits = float(np.exp(prediction.log_bpp[place])) * pixels
    return bits, float(unwarp(prediction.warped_quality[place]))


def test_the_scale_has_the_crfs_that_searches_choose_from() -> None:
    assert [14 + n / 2 for n in range(65)] == CRFS
    assert CrfScale(14.2, 15.9, (14, 46)).crfs.tolist() == [14.5, 15.0, 15.5]
    whole = CrfScale(14.2, 18.9, (14, 46), step=1.0)
    assert whole.crfs.tolist() == [15.0, 16.0, 17.0, 18.0]
    assert [whole.column(crf) for crf in (14, 15, 15.5, 17, 18, 19)] == [None, 0, None, 2, 3, None]
    halves = CrfScale(14.2, 15.9, (14, 46))
    assert [halves.column(crf) for crf in halves.crfs] == [0, 1, 2]
    assert CrfScale(14, 46, (10, 50)).position([10, 30, 50]).tolist() == [-1, 0, 1]


def test_without_measurements_it_is_the_prediction() -> None:
    found = corrected({})
    assert not found.measured.any()
    for place in ((0, 0, 0), (3, 2, 40), (7, 3, 64)):
        bits, quality = expected(place)
        assert found.bits[place] == pytest.approx(bits)
        assert found.quality[place] == pytest.approx(quality)
    curves = found.curves()
    assert list(curves) == list(SIZES)
    for size in SIZES:
        assert [curve.frames for curve in curves[size]] == [s.frames for s in TITLE.shots]
        for shot, curve in enumerate(curves[size]):
            points = curve.points()
            assert [c.crf for c in points] == CRFS
            assert not any(c.measured for c in points)
            assert points[40].bits == found.bits[shot, SIZES.index(size), 40]


wild = st.builds(Measurement, st.integers(1, 10**9), st.floats(-5, 105))
places = st.tuples(st.integers(0, 7), st.integers(0, 3), st.sampled_from(CRFS))


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(places, wild, max_size=12), st.integers(0, 99))
def test_what_was_measured_is_exactly_itself_and_order_says_nothing(
    found: dict[tuple[int, int, float], Measurement], seed: int
) -> None:
    measurements = {at(*place)[0]: made for place, made in found.items()}
    result = corrected(measurements)
    assert int(result.measured.sum()) == len(found)
    assert np.isfinite(result.bits).all()
    assert (result.bits > 0).all()
    assert ((result.quality >= 0) & (result.quality <= 100))[~result.measured].all()
    curves = result.curves(new_encode_penalty=0.1)
    for (shot, size, crf), made in found.items():
        candidate = curves[SIZES[size]][shot].points()[CRFS.index(crf)]
        assert candidate == (crf, made.bits, made.quality, True)
    items = list(measurements.items())
    random.Random(seed).shuffle(items)
    again = corrected(dict(items))
    assert np.array_equal(result.bits, again.bits)
    assert np.array_equal(result.quality, again.quality)


def test_new_encodes_may_be_penalised() -> None:
    request, place = at(2, 1, 30.0)
    result = corrected({request: measure(request)})
    plain, dear = result.curves(), result.curves(new_encode_penalty=0.05)
    for size in SIZES:
        for one, other in zip(plain[size], dear[size], strict=True):
            for a, b in zip(one.points(), other.points(), strict=True):
                assert b.bits == (a.bits if a.measured else pytest.approx(1.05 * a.bits))
                assert b.quality == a.quality
    assert result.measured[place]


def surprise(shot: int, size: int, crf: float, factor: float, better: float = 0.0) -> Measurement:
    bits, quality = expected(at(shot, size, crf)[1])
    warped = warp(np.array(quality)) + better
    return Measurement(round(bits * factor), float(unwarp(warped)))


def moved(result: CorrectedTitle) -> np.ndarray:
    """Change of log bits against the prediction."""
    return np.log(result.bits / corrected({}).bits)


@pytest.mark.parametrize("factor", [0.7, 1.4])
def test_a_measurement_moves_its_neighbours_most_and_the_titles_other_shots_with_it(
    factor: float,
) -> None:
    request, place = at(2, 2, 30.0)
    change = moved(corrected({request: surprise(2, 2, 30.0, factor)})) / np.log(factor)
    shot, size, column = place
    assert change[place] == pytest.approx(1.0, abs=1e-3)
    near, far = change[shot, size, column + 2], change[shot, size, 64]
    assert 0.9 < near < 1.05
    assert far < near
    others = np.delete(np.arange(8), shot)
    assert (change[others, size, column] > 0.2).all()
    assert (change[others, size, column] < 0.8 * near).all()
    assert np.ptp(change[others, size, column]) < 1e-9  # they are all alike to it


def test_a_measurement_says_most_about_its_neighbours() -> None:
    request, (shot, size, column) = at(2, 2, 30.0)
    plain, told = corrected({}), corrected({request: measure(request)})
    places = np.array(told.prediction.scale.position(np.array(CRFS)))
    left = []
    for other, at_size, at_column in (
        (shot, size, column + 1),
        (shot, size, 64),
        (shot, 0, 64),
        (6, 0, 64),
    ):
        cells = Cells(
            places[[at_column]],
            np.array([PREDICTION.log2_scale(SIZES[at_size])]),
            np.array([RATE]),
        )
        before, after = (r.posterior.covariance(other, cells)[0, 0] for r in (plain, told))
        left.append(after / before)
    assert left == sorted(left)
    assert left[0] < 0.05
    assert left[-1] < 1


def test_a_second_shot_that_agrees_moves_the_rest_further() -> None:
    one = {at(2, 2, 30.0)[0]: surprise(2, 2, 30.0, 1.3)}
    two = one | {at(5, 2, 30.0)[0]: surprise(5, 2, 30.0, 1.3)}
    place = at(0, 2, 30.0)[1]
    assert moved(corrected(two))[place] > 1.2 * moved(corrected(one))[place] > 0


def test_quality_is_corrected_like_rate() -> None:
    request, (shot, size, column) = at(1, 1, 32.0)
    before = corrected({})
    after = corrected({request: surprise(1, 1, 32.0, 1.0, better=0.3)})
    change = warp(after.quality) - warp(before.quality)
    assert 0.2 < change[shot, size, column + 2] < 0.32
    assert 0.02 < change[6, size, column] < 0.25
    # What looks better than expected took fewer bits, in errors that are tied that way.
    assert moved(after)[shot, size, column + 2] < 0


def extreme(quality: float, score: float) -> tuple[np.ndarray, np.ndarray]:
    """Qualities before and after a score where ``quality`` was predicted at the lowest CRFs."""
    flat = dataclasses.replace(
        PREDICTION,
        warped_quality=np.full_like(PREDICTION.warped_quality, float(warp(np.array(70.0)))),
    )
    shifted = flat.warped_quality.copy()
    place = (quality + 2) / 104
    shifted[:, :, :10] = np.log(place / (1 - place))  # beyond what warp() tells
    flat = dataclasses.replace(flat, warped_quality=shifted)
    request, at_ = at(3, 3, 15.0)
    exact = Measurement(round(expected(at_, flat)[0]), score)
    return corrected({}, flat).quality[:, :, 20:], corrected({request: exact}, flat).quality[
        :, :, 20:
    ]


@pytest.mark.parametrize(
    ("quality", "score", "direction"),
    [
        (101.0, 100.0, 0),  # expected beyond the end: the score is what it would be
        (101.0, 99.7, 0),
        (90.0, 100.0, 1),  # at least that good: better than expected
        (99.9, 90.0, -1),
        (4.0, 0.0, 0),
        (4.0, 7.0, 0),
        (30.0, 0.0, -1),
        (4.0, 40.0, 1),
    ],
)
def test_a_score_at_an_end_of_the_scale_says_nothing_where_the_prediction_lies_beyond(
    quality: float, score: float, direction: int
) -> None:
    before, after = extreme(quality, score)
    change = after - before
    if direction == 0:
        np.testing.assert_allclose(after, before, atol=0.01)  # bits are whole
    else:
        assert (direction * change[3, 3] > 0.05).all()
        assert (direction * change[:, 3, 0] > 0.05).all()


def test_measurements_elsewhere_are_not_looked_at() -> None:
    elsewhere = {
        (2, OperatingPoint(by_name("x264-medium"), 1920, 1080, 30.0)): Measurement(10, 1.0),
        (2, TITLE.point(SIZES[1], 12.0)): Measurement(10, 1.0),
        (2, TITLE.point(SIZES[1], 47.0)): Measurement(10, 1.0),
    }
    result, plain = corrected(elsewhere), corrected({})
    assert not result.measured.any()
    assert np.array_equal(result.bits, plain.bits)


def test_correction_comes_closer_to_the_truth() -> None:
    """Over titles drawn from what the model says of its errors."""
    gains = []
    for seed in range(6):
        prediction = prediction_of(TITLE, residual_model(), seed=10 + seed)
        truth = np.log(
            [
                [[measure((n, TITLE.point(s, crf))).bits for crf in CRFS] for s in SIZES]
                for n in range(8)
            ]
        )
        seen = {at(n, 1 + n % 2, 30.0)[0]: measure(at(n, 1 + n % 2, 30.0)[0]) for n in range(8)}
        before, after = (corrected(m, prediction) for m in ({}, seen))
        off = [np.abs(np.log(r.bits) - truth).mean() for r in (before, after)]
        gains.append(off[1] / off[0])
    assert np.mean(gains) < 0.6
    assert max(gains) < 1.0
