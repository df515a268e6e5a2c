"""Allocation against a brute-force oracle on small titles, and its behaviour on large ones."""

from __future__ import annotations

import itertools
import math
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder.media import OperatingPoint
from encoder.recipes import by_name
from ladder.allocation import Allocation, Problem, at_slope, for_budget
from ladder.choices import Choice, ShotChoices
from ladder.constraints import (
    Cap,
    CapSet,
    InfeasibleResult,
    LeakyBucket,
    WindowCap,
    leaky_bucket_caps,
    peak_rate_caps,
    whole_title_cap,
    worst_shot_floor,
)

POINTS = [OperatingPoint(by_name("x264-medium"), 320, 180, crf) for crf in range(14, 24)]


def make_shot(frames: int, pairs: list[tuple[int, int]]) -> ShotChoices:
    return ShotChoices(
        frames,
        tuple(Choice(float(b), float(q), p) for (b, q), p in zip(pairs, POINTS, strict=False)),
    )


pairs = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 100)), min_size=1, max_size=5)
shots_strategy = st.lists(
    st.builds(make_shot, st.integers(1, 9), pairs), min_size=1, max_size=5
).map(tuple)


def every_choice(shots: tuple[ShotChoices, ...]) -> list[tuple[tuple[float, ...], float]]:
    """Bits per shot and the sum of frames x quality, of all combinations."""
    return [
        (
            tuple(c.bits for c in combo),
            sum(s.frames * c.quality for s, c in zip(shots, combo, strict=True)),
        )
        for combo in itertools.product(*(s.candidates for s in shots))
    ]


def keeps(bits: tuple[float, ...], caps: tuple[Cap, ...]) -> bool:
    for cap in caps:
        if isinstance(cap, WindowCap):
            if sum(bits[cap.first_shot : cap.end_shot]) > cap.bits:
                return False
        else:
            for first, end in itertools.combinations(range(len(bits) + 1), 2):
                allowed = cap.rate * sum(cap.durations[first:end]) + cap.buffer_bits
                if sum(bits[first:end]) > allowed + 1e-6:
                    return False
    return True


def largest_edge(problem: Problem) -> float:
    return float((problem.edge_slope * problem.edge_bits).max(initial=0.0))


@settings(deadline=None)
@given(shots_strategy)
def test_at_every_hull_slope_the_choice_is_optimal_for_its_own_bits(
    shots: tuple[ShotChoices, ...],
) -> None:
    problem = Problem(shots)
    all_choices = every_choice(shots)
    for slope in {0.0, *problem.edge_slope.tolist(), *(problem.edge_slope * 0.999).tolist()}:
        got = at_slope(problem, slope)
        best = max(value for bits, value in all_choices if sum(bits) <= got.bits)
        assert got.quality_sum == pytest.approx(best)
        assert got.quality_sum == sum(
            s.frames * c.quality for s, c in zip(shots, got.choices, strict=True)
        )


@settings(deadline=None)
@given(shots_strategy)
def test_ties_in_slope_take_fewer_bits(shots: tuple[ShotChoices, ...]) -> None:
    problem = Problem(shots)
    for slope in problem.edge_slope.tolist():
        below = at_slope(problem, math.nextafter(slope, 0.0))
        assert at_slope(problem, slope).bits < below.bits


@settings(deadline=None)
@given(shots_strategy, st.integers(1, 320))
def test_budget_is_kept_and_within_one_hull_edge_of_the_optimum(
    shots: tuple[ShotChoices, ...], budget: int
) -> None:
    problem = Problem(shots)
    feasible = [value for bits, value in every_choice(shots) if sum(bits) <= budget]
    got = for_budget(problem, budget)
    if not feasible:
        assert isinstance(got, InfeasibleResult)
        assert got.constraint == "budget"
        cheapest = min(sum(bits) for bits, _ in every_choice(shots))
        assert got.shortfall == cheapest - budget
        return
    assert isinstance(got, Allocation)
    assert got.bits <= budget
    assert got.quality_sum <= max(feasible) <= got.bound + 1e-6
    assert max(feasible) - got.quality_sum <= largest_edge(problem) + 1e-6


@st.composite
def capped(draw: st.DrawFn) -> tuple[tuple[ShotChoices, ...], int, tuple[Cap, ...]]:
    shots = draw(shots_strategy)
    caps: list[Cap] = []
    for _ in range(draw(st.integers(0, 4))):
        first = draw(st.integers(0, len(shots) - 1))
        end = draw(st.integers(first + 1, len(shots)))
        caps.append(WindowCap(first, end, draw(st.integers(1, 70 * (end - first))), "window"))
    if draw(st.booleans()):
        durations = tuple(float(draw(st.integers(1, 4))) for _ in shots)
        caps.append(LeakyBucket(durations, draw(st.integers(1, 40)), draw(st.integers(0, 60))))
    return shots, draw(st.integers(1, 320)), tuple(caps)


@settings(max_examples=400, deadline=None)
@given(capped())
def test_caps_are_kept_feasibility_is_exact_and_the_bound_holds(
    case: tuple[tuple[ShotChoices, ...], int, tuple[Cap, ...]],
) -> None:
    shots, budget, caps = case
    problem = Problem(shots)
    feasible = [
        value for bits, value in every_choice(shots) if sum(bits) <= budget and keeps(bits, caps)
    ]
    got = for_budget(problem, budget, caps)
    if not feasible:
        assert isinstance(got, InfeasibleResult)
        assert got.shortfall > 0
        return
    assert isinstance(got, Allocation)
    bits = tuple(choice.bits for choice in got.choices)
    assert sum(bits) <= budget
    assert keeps(bits, caps)
    assert got.quality_sum <= max(feasible) <= got.bound + 1e-6
    assert max(feasible) - got.quality_sum <= 2 * largest_edge(problem) + 1e-6


def test_bits_freed_by_a_cap_are_spent_on_other_shots() -> None:
    shot = make_shot(10, [(10, 10), (20, 18), (40, 26), (60, 30)])
    hard = make_shot(10, [(10, 10), (20, 38), (40, 66), (60, 80)])
    problem = Problem([shot, hard, shot])
    free, capped = for_budget(problem, 100), for_budget(problem, 100, [WindowCap(1, 2, 40, "cap")])
    assert isinstance(free, Allocation)
    assert isinstance(capped, Allocation)
    assert [c.bits for c in free.choices] == [20, 60, 20]
    assert [c.bits for c in capped.choices] == [40, 40, 20]


def test_infeasible_names_the_window_and_the_shortfall() -> None:
    problem = Problem([make_shot(5, [(10, 10), (20, 20)])] * 4)
    got = for_budget(problem, 1000, [WindowCap(1, 3, 15, "peak rate")])
    assert isinstance(got, InfeasibleResult)
    assert (got.constraint, got.shortfall, got.shots) == ("peak rate", 5, (1, 3))
    assert "shots 1 to 2" in got.detail


def test_no_budget_at_all_takes_the_best_of_everything() -> None:
    shots = [make_shot(5, [(10, 10), (20, 20), (20, 15), (30, 20)])] * 3
    got = for_budget(Problem(shots), math.inf)
    assert isinstance(got, Allocation)
    assert (got.bits, got.quality, got.slope, got.gap) == (60, 20.0, 0.0, 0.0)


@settings(deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=8), st.integers(50, 500))
def test_peak_caps_are_the_windows_of_the_hls_definition(seconds: list[int], rate: int) -> None:
    durations = [Fraction(s * 1001, 1000) for s in seconds]
    target = 7
    got = {(c.first_shot, c.end_shot): c.bits for c in peak_rate_caps(durations, target, rate)}
    expected = {}
    for first, end in itertools.combinations(range(len(durations) + 1), 2):
        length = sum(durations[first:end])
        if Fraction(target, 2) <= length <= Fraction(target * 3, 2):
            expected[first, end] = math.floor(rate * length)
    assert got == expected


def test_a_segment_longer_than_the_target_duration_is_refused() -> None:
    with pytest.raises(ValueError, match="over the target 4"):
        peak_rate_caps([Fraction(3), Fraction(5)], 4, 1000)


def test_source_cap_covers_the_title() -> None:
    assert whole_title_cap(3, 100, "source rate") == WindowCap(0, 3, 100, "source rate")


def test_floor_removes_what_is_below_and_names_the_shot_that_cannot_reach_it() -> None:
    shots = [make_shot(5, [(10, 40), (20, 70)]), make_shot(5, [(10, 60), (20, 65)])]
    kept = worst_shot_floor(shots, 60)
    assert isinstance(kept, tuple)
    assert [[c.quality for c in shot.candidates] for shot in kept] == [[70], [60, 65]]
    failed = worst_shot_floor(shots, 68)
    assert isinstance(failed, InfeasibleResult)
    assert (failed.constraint, failed.shortfall, failed.shots) == ("worst shot", 3, (1, 2))


def test_a_long_title_is_solved_in_seconds_close_to_the_bound_under_both_kinds_of_cap() -> None:
    rng = np.random.default_rng(5)
    crf = np.arange(14, 46.5, 0.5)
    points = [OperatingPoint(by_name("x264-medium"), 640, 360, float(c)) for c in crf]
    frames = rng.integers(24, 144, 1500)
    durations = [Fraction(int(f), 24) for f in frames]
    shots = []
    for f in frames:
        complexity = np.exp(rng.normal(0, 0.45))
        bits = np.rint(f / 24 * 2e6 * complexity * np.exp(-(crf - 23) * 0.12))
        quality = 100 - np.exp((crf - 20) * 0.09 * (1 + 0.2 * rng.normal())) * complexity**0.3
        rows = zip(bits.tolist(), quality.tolist(), points, strict=True)
        shots.append(ShotChoices(int(f), tuple(Choice(b, q, p) for b, q, p in rows)))
    problem = Problem(shots)
    seconds = float(sum(durations))
    rate = 1.2e6
    for caps in (
        peak_rate_caps(durations, 6, 2 * rate),
        leaky_bucket_caps(durations, 1.2 * rate, 4 * rate),
    ):
        started = time.perf_counter()
        got = for_budget(problem, rate * seconds, caps)
        assert time.perf_counter() - started < 5
        assert isinstance(got, Allocation)
        assert not CapSet(caps, 1500).violations(np.array([c.bits for c in got.choices]))
        assert CapSet(caps, 1500).violations(
            np.array([c.bits for c in at_slope(problem, got.slope).choices])
        ), "the caps do not bind: the test shows nothing"
        assert got.bits > 0.999 * rate * seconds
        assert got.gap < 0.01
