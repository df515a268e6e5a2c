"""Claims and baselines, checked by sampling and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ladder.baselines import fixed_rungs
from ladder.bdrate import BdRate, NoOverlap, RatePoint, bd_rate
from ladder.claims import Received, claim_against, state_claims, viewers_claim
from ladder.viewers import MEDIANS

FIXED = [RatePoint(0.5e6, 60), RatePoint(1e6, 75), RatePoint(2e6, 88), RatePoint(6e6, 96)]
OURS = [RatePoint(0.4e6, 62), RatePoint(0.8e6, 77), RatePoint(1.5e6, 89), RatePoint(4e6, 95.8)]


def sampled(
    ours: list[RatePoint], fixed: list[RatePoint], median: float
) -> tuple[float, float, float, float]:
    """The rule of the claim, client by client, over a sample."""
    normal = np.sort(np.random.default_rng(0).normal(size=40_000))
    rates = {"fixed": 0.0, "received": 0.0, "matched": 0.0}
    worse = 0
    for z in normal:
        spend = 0.8 * median * math.exp(z)
        had = max([p for p in fixed if p.rate < spend] or [min(fixed)])
        can = [p for p in ours if p.rate < spend] or [min(ours)]
        good = [p for p in can if p.quality >= had.quality - 0.5]
        rates["fixed"] += had.rate / 40_000
        rates["received"] += max(can).rate / 40_000
        rates["matched"] += (min(good) if good else max(can)).rate / 40_000
        worse += not good
    return rates["fixed"], rates["received"], rates["matched"], worse / 40_000


@pytest.mark.parametrize("median", MEDIANS)
def test_equals_a_sampled_population(median: float) -> None:
    worse_in_the_middle = [*OURS[:2], RatePoint(2.4e6, 89), OURS[3]]
    for ours in (OURS, worse_in_the_middle):
        claim = viewers_claim(ours, FIXED, median)
        fixed, received, matched, worse = sampled(ours, FIXED, median)
        assert claim.fixed.rate == pytest.approx(fixed, rel=0.01)
        assert claim.received.rate == pytest.approx(received, rel=0.01)
        assert claim.matched.rate == pytest.approx(matched, rel=0.01)
        assert claim.worse_off == pytest.approx(worse, abs=0.01)


def test_a_ladder_against_itself_saves_nothing_and_harms_nobody() -> None:
    for median in MEDIANS:
        claim = viewers_claim(FIXED, FIXED, median)
        assert claim.received_percent == claim.matched_percent == 0
        assert claim.worse_off == claim.worst_loss == 0
        assert claim.received == claim.fixed


def test_a_saturated_top_rung_is_where_bits_are_saved() -> None:
    fixed = [*FIXED, RatePoint(8e6, 96.2)]
    claim = viewers_claim(OURS, fixed, 100e6)
    assert claim.fixed.rate == pytest.approx(8e6, rel=0.02)
    assert claim.received.rate == pytest.approx(4e6, rel=0.02)
    assert claim.worst_loss == pytest.approx(0.4)
    assert claim.worse_off == 0
    assert claim.received_percent == pytest.approx(-50, abs=2)


def test_matched_leaves_out_rungs_that_only_add_quality() -> None:
    fixed, ours = [RatePoint(1e6, 80)], [RatePoint(0.5e6, 79.6), RatePoint(2e6, 95)]
    claim = viewers_claim(ours, fixed, 1e9)
    assert claim.received == Received(pytest.approx(2e6), pytest.approx(95))
    assert claim.matched == Received(pytest.approx(0.5e6), pytest.approx(79.6))
    assert claim.worse_off == pytest.approx(0)


def test_who_is_worse_off_is_counted_not_hidden() -> None:
    claim = viewers_claim([RatePoint(1e6, 70)], [RatePoint(1e6, 70.6)], 3e6)
    assert claim.worse_off == pytest.approx(1)
    assert claim.worst_loss == pytest.approx(0.6)
    assert claim.matched == claim.received
    # Half of the clients are under the median throughput.
    edge = viewers_claim([RatePoint(0.8e6, 70)], [RatePoint(1, 1)], 1e6)
    assert edge.under_lowest == pytest.approx(0.5)
    assert edge.under_lowest_fixed == pytest.approx(0, abs=1e-9)


ladders = st.lists(
    st.tuples(st.integers(50, 9000), st.integers(10, 99)), min_size=1, max_size=6, unique=True
).map(lambda rows: [RatePoint(rate * 1e3, float(quality)) for rate, quality in rows])


@settings(deadline=None)
@given(ladders, ladders, st.sampled_from(MEDIANS))
def test_matched_never_costs_more_than_received(
    ours: list[RatePoint], fixed: list[RatePoint], median: float
) -> None:
    claim = viewers_claim(ours, fixed, median)
    assert claim.matched.rate <= claim.received.rate * (1 + 1e-12)
    assert 0 <= claim.worse_off <= 1 + 1e-12
    assert claim.fixed.rate >= min(fixed).rate * (1 - 1e-12)
    assert claim.fixed.rate <= max(fixed).rate * (1 + 1e-12)


def test_all_three_claims_together() -> None:
    claims = state_claims(OURS, FIXED, FIXED, FIXED)
    assert isinstance(claims.against_fixed, BdRate)
    assert claims.against_fixed.percent < -15
    assert (claims.against_fixed.low, claims.against_fixed.high) == (62, 95.8)
    assert claims.against_per_title == claims.against_fixed
    assert [claim.median for claim in claims.viewers] == list(MEDIANS)


def test_claims_survive_ladders_that_cannot_be_compared() -> None:
    apart = [RatePoint(1e6, 10), RatePoint(2e6, 20)]
    claims = state_claims(OURS, apart, [], [])
    assert isinstance(claims.against_fixed, NoOverlap)
    assert claims.against_per_title is None
    bent = [*FIXED, RatePoint(7e6, 95)]  # a rung nobody would choose does not stop the claim
    assert state_claims(OURS, bent, FIXED, []).against_fixed == claims_of_fixed()


def test_a_single_rung_is_compared_at_its_own_quality() -> None:
    low, high = RatePoint(1e6, 75), RatePoint(4e6, 95)
    alone = RatePoint(1.5e6, 75)
    worse = claim_against([low, high], [alone])
    assert isinstance(worse, BdRate)
    assert worse.percent == pytest.approx(50)
    assert (worse.low, worse.high, worse.share_of_anchor) == (75, 75, 0)
    assert (worse.anchor, worse.test) == ((75, 95), (75, 75))
    better = claim_against([alone], [low, high])
    assert isinstance(better, BdRate)
    assert better.percent == pytest.approx(-100 / 3)
    assert better.share_of_anchor == 1
    between = claim_against([low, high], [RatePoint(2e6, 85)])
    assert isinstance(between, BdRate)
    assert between.percent == pytest.approx(0), "halfway in log rate"
    assert claim_against([alone], [low]) is None
    assert isinstance(claim_against([alone], [RatePoint(1e6, 80), high]), NoOverlap)


@pytest.mark.parametrize("few", [(0, 5), (1, 6), (0, 2, 6)])
def test_few_rungs_of_a_curve_take_as_many_bits_as_the_curve(few: tuple[int, ...]) -> None:
    """A line from rung to rung would take more: curves of quality bend down."""
    curve = [RatePoint(1e5 * 2**n, 100 - 60 * 0.6**n) for n in range(7)]
    rungs = [curve[n] for n in few]
    assert isinstance(line := bd_rate(curve, rungs), BdRate)
    assert line.percent > 1
    for claim in (claim_against(curve, rungs), claim_against(rungs, curve)):
        assert isinstance(claim, BdRate)
        assert claim.percent == pytest.approx(0, abs=1e-9)
        assert (claim.low, claim.high) == (rungs[0].quality, rungs[-1].quality)
    half = [RatePoint(rate / 2, quality) for rate, quality in rungs]
    assert isinstance(saved := claim_against(curve, half), BdRate)
    assert saved.percent == pytest.approx(-50)
    assert isinstance(lost := claim_against(half, curve), BdRate)
    assert lost.percent == pytest.approx(100)
    beyond = [*rungs, RatePoint(1e9, 100.0)]
    assert isinstance(reached := claim_against(curve, beyond[-3:]), BdRate)
    assert reached.percent == pytest.approx(0, abs=1e-9), (
        "what the curve does not reach is left out"
    )


def test_a_bd_rate_says_which_part_of_the_anchor_it_is_about() -> None:
    claim = claim_against(FIXED, [RatePoint(1.5e6, 87), RatePoint(2.5e6, 90)])
    assert isinstance(claim, BdRate)
    assert (claim.low, claim.high) == (87, 90)
    assert claim.anchor == (60, 96)
    assert claim.share_of_anchor == pytest.approx(3 / 36)


def test_by_other_judges_nobody_is_said_to_see_a_loss() -> None:
    assert state_claims(OURS, FIXED, FIXED, FIXED, viewers=False).viewers == ()


def claims_of_fixed() -> BdRate | NoOverlap | None:
    return state_claims(OURS, FIXED, FIXED, FIXED).against_fixed


@pytest.mark.parametrize(
    ("display", "rungs"),
    [
        ((1920, 1080), [(416, 234), (640, 360), (768, 432), (768, 432), (960, 540)]
         + [(1280, 720)] * 2 + [(1920, 1080)] * 2),
        ((854, 480), [(416, 234), (640, 360), (768, 432), (768, 432)]),
        ((1280, 720), [(416, 234), (640, 360), (768, 432), (768, 432), (960, 540)]
         + [(1280, 720)] * 2),
        ((1920, 800), [(416, 174), (640, 266), (768, 320), (768, 320), (960, 400)]
         + [(1280, 534)] * 2 + [(1920, 800)] * 2),
        ((480, 854), [(234, 416), (360, 640), (432, 768), (432, 768)]),
        ((160, 90), [(160, 90)]),
    ],
)  # fmt: skip
def test_the_fixed_ladder_is_limited_to_the_source(
    display: tuple[int, int], rungs: list[tuple[int, int]]
) -> None:
    got = fixed_rungs(*display)
    assert [rung.size for rung in got] == rungs
    assert [rung.rate for rung in got] == [
        145_000, 365_000, 730_000, 1_100_000, 2_000_000, 3_000_000, 4_500_000, 6_000_000, 7_800_000,
    ][: len(rungs)]  # fmt: skip
