"""BD-rate against the reference package and against published numbers."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from bjontegaard import bd_rate as reference
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.interpolate import Akima1DInterpolator

from ladder.bdrate import (
    BdRate,
    Method,
    NoOverlap,
    RatePoint,
    akima_slopes,
    bd_rate,
    monotone,
)


def curve(rates: list[float], quality: list[float]) -> list[RatePoint]:
    return [RatePoint(r, q) for r, q in zip(rates, quality, strict=True)]


@st.composite
def rising(draw: st.DrawFn) -> list[RatePoint]:
    count = draw(st.integers(4, 9))
    steps = st.lists(st.integers(1, 60), min_size=count, max_size=count)
    rates = np.cumsum(draw(steps)) * 1e4
    quality = 20 + np.cumsum(draw(steps)) / 10
    return curve(rates.tolist(), quality.tolist())


@pytest.mark.parametrize("method", ["pchip", "akima"])
@settings(deadline=None)
@given(anchor=rising(), test=rising())
def test_equals_the_bjontegaard_package(
    method: Method, anchor: list[RatePoint], test: list[RatePoint]
) -> None:
    got = bd_rate(anchor, test, method)
    assume(isinstance(got, BdRate))
    assert isinstance(got, BdRate)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = reference(
            [p.rate for p in anchor],
            [p.quality for p in anchor],
            [p.rate for p in test],
            [p.quality for p in test],
            method=method,
            min_overlap=0,
            require_matching_points=False,
        )
    assert got.percent == pytest.approx(expected, rel=1e-6, abs=1e-6)


@settings(deadline=None)
@given(rising())
def test_akima_slopes_equal_scipys(points: list[RatePoint]) -> None:
    x = np.array([p.quality for p in points])
    y = np.log10([p.rate for p in points])
    expected = Akima1DInterpolator(x, y).derivative()(x)
    np.testing.assert_allclose(akima_slopes(x, y), expected, rtol=1e-9, atol=1e-12)


# The example that most implementations carry; bjontegaard 1.3.0, whose PCHIP agrees with the JVET
# spreadsheet to ten places, gave the values.
ANCHOR = curve([686.76, 309.58, 157.11, 85.95], [40.28, 37.18, 34.24, 31.42])
TEST = curve([893.34, 407.8, 204.93, 112.75], [40.39, 37.21, 34.17, 31.24])


@pytest.mark.parametrize(("method", "percent"), [("pchip", 31.3798782), ("akima", 31.3839890)])
def test_golden_vectors(method: Method, percent: float) -> None:
    got = bd_rate(ANCHOR, TEST, method)
    assert isinstance(got, BdRate)
    assert got.percent == pytest.approx(percent, abs=1e-6)
    assert (got.low, got.high) == (31.42, 40.28)


def test_a_constant_factor_of_rate_is_its_own_bd_rate() -> None:
    cheaper = [RatePoint(p.rate * 0.75, p.quality) for p in ANCHOR]
    got = bd_rate(ANCHOR, cheaper)
    assert isinstance(got, BdRate)
    assert got.percent == pytest.approx(-25)
    assert got.overlap == 1


def test_no_overlap_is_a_result_that_says_the_ranges() -> None:
    low, high = curve([1, 2], [10, 20]), curve([1, 2], [20, 30])
    got = bd_rate(low, high)
    assert got == NoOverlap((10, 20), (20, 30))
    assert str(got) == "no common quality range: 10.00 to 20.00 and 20.00 to 30.00"


def test_refuses_curves_that_do_not_rise() -> None:
    bent = curve([1, 2, 3], [10, 30, 20])
    with pytest.raises(ValueError, match="the test's quality does not rise"):
        bd_rate(ANCHOR, bent)
    assert monotone(bent) == tuple(curve([1, 2], [10, 30]))
    with pytest.raises(ValueError, match="two points"):
        bd_rate(ANCHOR[:1], ANCHOR)
