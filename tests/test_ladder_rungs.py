"""Ladders of a title whose curves are formulas, and of titles that make trouble."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from encoder.media import Shot, Size
from encoder.recipes import x264
from ladder.allocation import Problem, at_slope
from ladder.bdrate import BdRate
from ladder.constraints import CapSet, InfeasibleResult, hls_windows, leaky_bucket_caps
from ladder.curves import MeasuredCurve, Measurement
from ladder.locked_cost import cost_of_locked
from ladder.profiles import Profile, load_profile
from ladder.rungs import LadderPlan, Policy, solve, solve_at_rates
from ladder.search.steps import full_grid, measured_title
from ladder.title_curves import TitleCurves
from tests.ladder_synthetic import SHOTS, SIZES, known, measure, shape

PROFILE = load_profile("default-0.1")
GRID = full_grid(shape(), PROFILE)
TITLE = measured_title(known(GRID), GRID)


def plan_of(profile: Profile = PROFILE, policy: Policy = "locked") -> LadderPlan:
    plan = solve(TITLE, profile, policy)
    assert isinstance(plan, LadderPlan)
    return plan


@pytest.mark.parametrize("policy", ["locked", "mixed"])
def test_rungs_keep_the_spacing_and_are_monotone(policy: Policy) -> None:
    plan = plan_of(policy=policy)
    assert len(plan.rungs) > 5
    for low, high in itertools.pairwise(plan.rungs):
        assert low.bits < high.bits
        assert low.quality < high.quality <= low.quality + PROFILE.jnd * 1.02
        assert high.rate <= low.rate * PROFILE.max_rate_ratio * 1.02
        assert low.size.height <= high.size.height
        assert low.slope > high.slope


def test_a_locked_rung_has_one_size_and_reports_its_own_sums() -> None:
    seconds = float(sum(TITLE.durations))
    for rung in plan_of().rungs:
        assert {(c.point.width, c.point.height) for c in rung.choices} == {rung.size}
        assert rung.bits == pytest.approx(sum(c.bits for c in rung.choices))
        assert rung.rate == pytest.approx(rung.bits / seconds)
        weighted = sum(s.frames * c.quality for s, c in zip(TITLE.shots, rung.choices, strict=True))
        assert rung.quality == pytest.approx(weighted / sum(s.frames for s in TITLE.shots))
        assert rung.rate <= rung.target_rate * (1 + 1e-9)
        assert rung.rate > rung.target_rate * 0.97


def test_each_rung_has_the_best_size_for_its_rate() -> None:
    for rung in plan_of().rungs:
        for size in SIZES:
            problem = Problem(TITLE.choices([size]))
            bits, value = problem.title_curve()
            budget = rung.target_rate * float(sum(TITLE.durations))
            best = float(np.interp(budget, bits, value, left=-np.inf))
            assert rung.quality > best / problem.frames - 0.1


def test_shots_of_an_unbound_rung_share_one_slope() -> None:
    free = dataclasses.replace(PROFILE, peak_ratio=None)
    for rung in plan_of(free).rungs:
        same = at_slope(Problem(TITLE.choices([rung.size])), rung.slope).choices
        different = [a for a, b in zip(rung.choices, same, strict=True) if a != b]
        assert len(different) <= 3, "more than the gap of one edge was filled"


def test_the_ladder_ends_where_a_doubling_adds_less_than_the_saturation() -> None:
    for saturation in (0.5, 1.0, 3.0):
        plan = plan_of(dataclasses.replace(PROFILE, saturation=saturation))
        top = plan.rungs[-1].rate
        doubled = solve_at_rates(TITLE, [top / 2, top, 2 * top])
        assert isinstance(doubled, LadderPlan)
        before, at, after = (rung.quality for rung in doubled.rungs)
        assert after - at < saturation * 1.05
        assert at - before > saturation


def test_the_ladder_ends_at_the_highest_quality_worth_having() -> None:
    plan = plan_of(dataclasses.replace(PROFILE, max_quality=90.0))
    assert plan.rungs[-1].quality == pytest.approx(90, abs=0.1)


def test_listed_rates_take_the_place_of_spacing_up_to_saturation() -> None:
    last = plan_of().rungs[-1].target_rate
    rates = (last / 8, last / 5, last / 2)
    below = plan_of(dataclasses.replace(PROFILE, rates=rates))
    assert [rung.target_rate for rung in below.rungs] == pytest.approx(rates)
    beyond = plan_of(dataclasses.replace(PROFILE, rates=(*rates, last * 1.5, last * 3)))
    assert [rung.target_rate for rung in beyond.rungs] == pytest.approx((*rates, last))
    close = plan_of(dataclasses.replace(PROFILE, rates=(*rates, last / 1.02, last * 3)))
    assert [rung.target_rate for rung in close.rungs] == pytest.approx((*rates, last))
    too_low = plan_of(dataclasses.replace(PROFILE, rates=(1.0, *rates)))
    assert [rung.target_rate for rung in too_low.rungs] == pytest.approx(rates)


def test_peak_and_bucket_hold_in_every_rung() -> None:
    for profile in (PROFILE, load_profile("constrained-0.1")):
        plan = plan_of(profile)
        durations = TITLE.durations
        assert profile.peak_ratio is not None
        for rung in plan.rungs:
            peak = profile.peak_ratio * rung.target_rate
            for first, end in hls_windows(durations, TITLE.target_duration):
                used = sum(choice.bits for choice in rung.choices[first:end])
                assert used <= peak * float(sum(durations[first:end])) + 1
            if profile.vbv_seconds is not None:
                caps = leaky_bucket_caps(durations, peak, peak * profile.vbv_seconds)
                bits = np.array([choice.bits for choice in rung.choices])
                assert not CapSet(caps, len(bits)).violations(bits)


def test_a_tight_peak_costs_quality_and_a_note_says_how_much() -> None:
    tight = plan_of(dataclasses.replace(PROFILE, peak_ratio=1.05))
    noted = [rung for rung in tight.rungs if rung.notes]
    assert noted
    for rung in noted:
        free = solve_at_rates(TITLE, [rung.target_rate])
        assert isinstance(free, LadderPlan)
        lost = free.rungs[0].quality - rung.quality
        assert rung.notes[0].startswith("the peak limit costs ")
        stated = float(rung.notes[0].split()[4])
        assert stated == pytest.approx(lost, abs=0.1)


def test_a_shot_that_cannot_be_cheap_raises_the_lowest_rung() -> None:
    frames, _ = SHOTS[2]
    shots = (*SHOTS[:2], (frames, 40.0), *SHOTS[3:])
    asked = known(GRID)
    title = measured_title(
        dataclasses.replace(asked, measurements={r: measure(r, shots) for r in GRID}), GRID
    )
    plan = solve(title, PROFILE)
    assert isinstance(plan, LadderPlan)
    assert "lowest rung raised to" in plan.notes[0]
    assert "peak constraints" in plan.notes[0]
    below = solve_at_rates(title, [plan.rungs[0].target_rate * 0.98], profile=PROFILE)
    assert isinstance(below, InfeasibleResult)
    assert below.constraint == "peak rate"


def test_source_rate_caps_the_ladder_and_gives_way_to_the_cheapest() -> None:
    seconds = float(sum(TITLE.durations))
    capped = solve(dataclasses.replace(TITLE, source_bits=int(1e6 * seconds)), PROFILE)
    assert isinstance(capped, LadderPlan)
    assert capped.rungs[-1].rate == pytest.approx(1e6, rel=0.01)
    assert capped.rungs[-1].rate <= 1e6
    assert capped.notes == ("highest rung limited to the source's 1000 kbit/s",)
    starved = solve(dataclasses.replace(TITLE, source_bits=int(2e4 * seconds)), PROFILE)
    assert isinstance(starved, LadderPlan)
    assert len(starved.rungs) == 1
    assert "the least that a ladder takes, though more than the source's 20 kbit/s" in str(
        starved.notes
    )
    allowed = solve(
        dataclasses.replace(
            TITLE, source_bits=int(4e5 * seconds), allowance_bits=int(6e5 * seconds)
        ),
        PROFILE,
    )
    assert isinstance(allowed, LadderPlan)
    assert [rung.choices for rung in allowed.rungs] == [rung.choices for rung in capped.rungs]
    assert "limited to 1000 kbit/s, though the source's 400 kbit/s are less" in allowed.notes[0]
    wished = solve(TITLE, dataclasses.replace(PROFILE, max_rate=2e4))
    assert isinstance(wished, InfeasibleResult)
    assert wished.constraint in {"highest rate", "peak rate"}
    assert wished.shortfall > 0
    uncapped = solve(
        dataclasses.replace(TITLE, source_bits=int(2e4 * seconds)),
        dataclasses.replace(PROFILE, source_cap=False),
    )
    assert isinstance(uncapped, LadderPlan)


def test_floor_lifts_every_shot_or_says_which_cannot() -> None:
    plan = plan_of(dataclasses.replace(PROFILE, floor=75.0))
    assert min(c.quality for rung in plan.rungs for c in rung.choices) >= 75
    failed = solve(TITLE, dataclasses.replace(PROFILE, floor=99.0))
    assert isinstance(failed, InfeasibleResult)
    assert failed.constraint == "worst shot"
    assert failed.shots is not None
    assert 0 < failed.shortfall < 5


def test_cost_of_locked_is_what_mixed_saves_at_equal_quality() -> None:
    plan = plan_of()
    cost = cost_of_locked(TITLE, plan)
    assert isinstance(cost.bd_rate, BdRate)
    assert 0.2 < cost.bd_rate.percent < 5
    assert [c.rate for c in cost.rungs] == [r.rate for r in plan.rungs]
    for rung in cost.rungs:
        assert rung.percent > -1e-6
        mixed = solve_at_rates(TITLE, [rung.mixed_rate], "mixed")
        assert isinstance(mixed, LadderPlan)
        assert mixed.rungs[0].quality == pytest.approx(rung.quality, abs=0.05)
    assert max(rung.percent for rung in cost.rungs) > 1


def one_curve(points: dict[float, Measurement]) -> TitleCurves:
    shot = Shot(0, 48)
    return TitleCurves(
        TITLE.frame_rate, x264(), (shot,), {Size(320, 180): (MeasuredCurve(48, points),)}
    )


def test_a_title_of_one_point_has_one_rung() -> None:
    plan = solve(one_curve({20.0: Measurement(100_000, 90.0)}), PROFILE)
    assert isinstance(plan, LadderPlan)
    assert len(plan.rungs) == 1
    assert plan.rungs[0].choices[0].bits == 100_000


def test_a_title_that_no_bit_improves_has_one_rung_at_its_cheapest() -> None:
    flat = {float(crf): Measurement(4_000_000 // crf, 90.0 + crf / 100) for crf in range(14, 50, 4)}
    plan = solve(one_curve(flat), PROFILE)
    assert isinstance(plan, LadderPlan)
    assert len(plan.rungs) == 1
    assert plan.rungs[0].choices[0].point.crf == 46


def test_curves_must_be_those_of_the_shots() -> None:
    with pytest.raises(ValueError, match="not those of the title's shots"):
        dataclasses.replace(TITLE, shots=TITLE.shots[:-1])
