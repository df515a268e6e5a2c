"""What a set of sizes costs against all that were measured."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoder.media import Size
from ladder.bdrate import RatePoint
from ladder.evaluation.offered import cost_of_sizes, least_rates, qualities_at

SMALL, MIDDLE, LARGE = Size(320, 180), Size(640, 360), Size(1280, 720)


def line(factor: float, low: float, high: float) -> list[RatePoint]:
    """Points whose rate doubles with every 10 points of quality."""
    return [RatePoint(factor * 2 ** (q / 10), q) for q in np.linspace(low, high, 5)]


def test_a_size_costs_where_it_would_be_the_best() -> None:
    curves = {SMALL: line(100, 20, 60), LARGE: line(120, 20, 100)}
    # Up to 60 the small size needs a sixth less, above it there is only the large one.
    both, large = cost_of_sizes(curves, [(SMALL, LARGE), (LARGE,)], range(41, 81))
    assert both == 0
    assert large == pytest.approx(0.5 * 0.2)


def test_only_qualities_count_that_every_set_reaches() -> None:
    curves = {SMALL: line(100, 20, 60), LARGE: line(120, 40, 100)}
    costs = cost_of_sizes(curves, [(SMALL,), (LARGE,)], range(101))
    assert costs == pytest.approx((0, 0.2))
    with pytest.raises(ValueError, match="no quality is reached"):
        cost_of_sizes(curves, [(SMALL,), (LARGE,)], range(61, 101))


def test_points_that_nobody_would_choose_do_not_count() -> None:
    worse = [*line(100, 20, 60), RatePoint(1e9, 30.0)]
    assert cost_of_sizes({SMALL: worse, LARGE: line(100, 20, 60)}, [(SMALL,)], [30, 50]) == (
        pytest.approx(0),
    )


def test_qualities_at_rates_are_those_of_the_best_size() -> None:
    curves = {SMALL: line(100, 20, 60), LARGE: line(120, 20, 100)}
    rates = least_rates(curves, [30, 59, 90, 101])
    assert math.isinf(rates[3])
    assert qualities_at(curves, rates[:3]) == pytest.approx((30, 59, 90), abs=1e-6)
    assert qualities_at(curves, [1.0, 1e9]) == ()


@given(
    st.lists(
        st.lists(st.tuples(st.integers(1, 10**6), st.integers(0, 100)), min_size=2, max_size=6),
        min_size=3,
        max_size=3,
    )
)
def test_more_sizes_never_cost_more(points: list[list[tuple[float, float]]]) -> None:
    curves = {
        size: [RatePoint(*point) for point in each]
        for size, each in zip((SMALL, MIDDLE, LARGE), points, strict=True)
    }
    sets = [set(some) for count in (1, 2, 3) for some in itertools.combinations(curves, count)]
    try:
        costs = cost_of_sizes(curves, sets, np.linspace(0, 100, 41).tolist())
    except ValueError:
        return
    assert costs[-1] == 0
    for (one, cost), (other, less) in itertools.product(zip(sets, costs, strict=True), repeat=2):
        assert cost >= 0
        if one <= other:
            assert cost >= less
