"""Interpolation between measurements, and hulls."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import interpolate  # comes with bjontegaard, which the tests need anyway

from ladder.curves import MeasuredCurve, Measurement, pchip
from ladder.hull import pareto, slopes, upper_hull

GRID = {
    float(crf): Measurement(int(4e6 * 0.85**crf), 100 - crf**1.9 / 40) for crf in range(14, 50, 4)
}


def test_passes_through_every_measurement_and_asks_for_every_half_step() -> None:
    points = MeasuredCurve(48, GRID).points()
    assert [p.crf for p in points] == [14 + k / 2 for k in range(65)]
    for point in points:
        assert point.measured == (point.crf in GRID)
        if point.measured:
            assert (point.bits, point.quality) == (GRID[point.crf].bits, GRID[point.crf].quality)


def test_is_close_to_a_smooth_curve_between_measurements() -> None:
    for point in MeasuredCurve(48, GRID).points():
        assert point.bits == pytest.approx(4e6 * 0.85**point.crf, rel=1e-3)
        assert point.quality == pytest.approx(100 - point.crf**1.9 / 40, abs=0.05)


@settings(deadline=None)
@given(
    st.dictionaries(
        st.integers(20, 90).map(lambda k: k / 2),
        st.builds(Measurement, st.integers(1, 10**8), st.floats(0, 100)),
        min_size=1,
        max_size=10,
    )
)
def test_stays_between_neighbouring_measurements_even_where_they_are_not_monotone(
    known: dict[float, Measurement],
) -> None:
    points = MeasuredCurve(10, known).points()
    crfs = sorted(known)
    assert {p.crf for p in points} >= set(crfs)
    for point in points:
        left = max(c for c in crfs if c <= point.crf)
        right = min(c for c in crfs if c >= point.crf)
        for value, a, b in (
            (math.log(point.bits), math.log(known[left].bits), math.log(known[right].bits)),
            (point.quality, known[left].quality, known[right].quality),
        ):
            assert min(a, b) - 1e-9 <= value <= max(a, b) + 1e-9


def test_one_measurement_gives_that_point_and_two_are_joined() -> None:
    one = MeasuredCurve(10, {23.0: Measurement(1000, 90.0)}).points()
    assert one == ((23.0, 1000.0, 90.0, True),)
    two = MeasuredCurve(10, {23.0: Measurement(1000, 90.0), 24.0: Measurement(250, 80.0)}).points()
    assert [p.crf for p in two] == [23.0, 23.5, 24.0]
    assert two[1].bits == pytest.approx(500)
    assert two[1].quality == pytest.approx(85)


def test_refuses_what_is_not_a_measurement() -> None:
    with pytest.raises(ValueError, match="has bits"):
        Measurement(0, 50.0)
    with pytest.raises(ValueError, match="finite"):
        Measurement(10, math.nan)
    with pytest.raises(ValueError, match="at least one"):
        MeasuredCurve(10, {})


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 60), min_size=2, max_size=9, unique=True),
    st.data(),
)
def test_pchip_agrees_with_scipy(xs: list[int], data: st.DataObject) -> None:
    x = np.array(sorted(xs), dtype=float)
    y = np.array(data.draw(st.lists(st.integers(-50, 50), min_size=len(x), max_size=len(x))), float)
    at = np.linspace(x[0], x[-1], 50)
    np.testing.assert_allclose(
        pchip(x, y, at), interpolate.PchipInterpolator(x, y)(at), rtol=1e-9, atol=1e-9
    )


points = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 40)), min_size=1, max_size=12)


@settings(deadline=None)
@given(points)
def test_hull_is_what_some_slope_chooses(cloud: list[tuple[int, int]]) -> None:
    bits, quality = [b for b, _ in cloud], [q for _, q in cloud]
    hull = upper_hull(bits, quality)
    edges = slopes(bits, quality, hull)
    assert edges == sorted(set(edges), reverse=True)
    assert all(slope > 0 for slope in edges)
    assert bits[hull[0]] == min(bits)
    assert quality[hull[-1]] == max(quality)
    # No point lies above the hull, at the slope of any edge or between two of them.
    for slope in [0.0, *edges, *(s * 1.0001 for s in edges), 1e9]:
        reached = max(quality[i] - slope * bits[i] for i in hull)
        assert max(q - slope * b for b, q in cloud) <= reached + 1e-6


@settings(deadline=None)
@given(points)
def test_pareto_keeps_exactly_what_no_point_beats(cloud: list[tuple[int, int]]) -> None:
    kept = [cloud[i] for i in pareto([b for b, _ in cloud], [q for _, q in cloud])]
    unbeaten = {
        p for p in cloud if not any(o[0] <= p[0] and o[1] >= p[1] and o != p for o in cloud)
    }
    assert kept == sorted(unbeaten)


def test_hull_of_ties_duplicates_and_points_on_an_edge() -> None:
    bits, quality = [1, 1, 2, 2, 3, 3], [10, 10, 20, 19, 30, 30]
    assert upper_hull(bits, quality) == [0, 4]
    assert upper_hull([5], [1]) == [0]
