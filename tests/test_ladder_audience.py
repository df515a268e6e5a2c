"""Classes of viewers, and when a ladder pays."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from encoder.errors import BadInput
from ladder.audience import PLAYED, SHARES, audience_claims, parse_shares
from ladder.bdrate import BdRate, RatePoint
from ladder.claims import claim_against, viewers_claim
from ladder.payback import Payback, Prices, payback
from ladder.viewers import AFFORDABLE, MEDIANS, SIGMA, TOLERANCE


def ladder(*rates: float, better: float = 1.0) -> list[RatePoint]:
    """Rungs on one curve; a ``better`` codec needs that share of the bits."""
    return [RatePoint(better * rate, 20 * math.log10(rate) - 40) for rate in rates]


RATES = (2e5, 4e5, 8e5, 1.6e6, 3.2e6)
FIXED = ladder(1.45e5, 3.65e5, 7.3e5, 1.1e6, 2e6, 3e6, 4.5e6)
X264, X265 = ladder(*RATES, better=0.9), ladder(*RATES, better=0.7)
AV1 = ladder(*RATES, better=0.6)


def test_each_class_has_what_its_devices_play() -> None:
    claims = audience_claims({"x264": X264, "svtav1": AV1}, FIXED)
    h264, hevc, av1 = claims.classes
    assert [one.name for one in claims.classes] == list(PLAYED)
    assert h264.against_fixed == hevc.against_fixed == claim_against(FIXED, X264)
    assert isinstance(av1.against_fixed, BdRate)
    assert av1.against_fixed.percent == pytest.approx(-40, abs=0.5)
    assert claims.percent == pytest.approx(0.5 * -10 + 0.5 * -40, abs=0.5)
    assert claims.unserved == 0
    with_hevc = audience_claims({"x264": X264, "x265": X265, "svtav1": AV1}, FIXED)
    middle = with_hevc.classes[1].against_fixed
    assert isinstance(middle, BdRate)
    assert middle.percent == pytest.approx(-30, abs=0.5)


def test_a_rung_that_another_makes_useless_is_not_played() -> None:
    """The highest H.264 rung has a higher rate than AV1's and a worse picture."""
    claims = audience_claims({"x264": X264, "svtav1": AV1}, FIXED, {"av1": 1.0})
    assert claims.classes[0].rungs == len(AV1)
    assert claims.viewers == tuple(viewers_claim(AV1, FIXED, median) for median in MEDIANS)


@pytest.mark.parametrize("text", ["25/25/50", "100/0/0", "10/70/20", "0/0/100"])
def test_the_whole_is_a_draw_from_the_classes(text: str) -> None:
    """Against clients that are drawn one by one: a class by its share, then a throughput."""
    shares = parse_shares(text)
    rungs = {"x264": X264, "x265": X265, "svtav1": AV1}
    claims = audience_claims(rungs, FIXED, shares)
    quantiles = (np.arange(1000) + 0.5) / 1000
    normal = np.array([NormalDist().inv_cdf(q) for q in quantiles])
    for claim in claims.viewers:
        throughput = claim.median * np.exp(SIGMA * normal)
        expected = 0.0
        for name, share in shares.items():
            played = {"h264": X264, "hevc": X265, "av1": AV1}[name]
            expected += share * float(np.mean([_matched(played, t) for t in throughput]))
        assert claim.matched.rate == pytest.approx(expected, rel=0.05)
        assert claim.matched_percent < 0


def _matched(ours: list[RatePoint], throughput: float) -> float:
    had = [rung for rung in FIXED if rung.rate <= AFFORDABLE * throughput] or FIXED[:1]
    can = [rung for rung in ours if rung.rate <= AFFORDABLE * throughput] or ours[:1]
    enough = [rung for rung in can if rung.quality >= had[-1].quality - TOLERANCE]
    return (enough[0] if enough else can[-1]).rate


def test_viewers_who_can_play_nothing_are_counted_apart() -> None:
    """A title of high dynamic range without HEVC: half of the viewers get nothing of it."""
    claims = audience_claims({"svtav1": AV1}, FIXED)
    assert claims.unserved == pytest.approx(0.5)
    assert [one.rungs for one in claims.classes] == [0, 0, len(AV1)]
    assert claims.percent == pytest.approx(-40, abs=0.5)
    assert claims.viewers == tuple(viewers_claim(AV1, FIXED, median) for median in MEDIANS)


def test_a_class_without_a_common_range_leaves_the_whole_unknown() -> None:
    far = [RatePoint(1e3, 1.0), RatePoint(2e3, 2.0)]
    claims = audience_claims({"x264": far, "svtav1": AV1}, FIXED)
    assert claims.percent is None
    assert len(claims.viewers) == len(MEDIANS)


def test_judges_have_no_viewers() -> None:
    claims = audience_claims({"x264": X264}, FIXED, viewers=False)
    assert claims.viewers == ()
    assert claims.percent == pytest.approx(-10, abs=0.5)


def test_one_class_of_all_viewers_is_the_usual_claim() -> None:
    claims = audience_claims({"x264": X264}, FIXED, {"h264": 1.0})
    for ours, usual in zip(claims.viewers, MEDIANS, strict=True):
        assert ours == viewers_claim(X264, FIXED, usual)


def test_shares_are_read() -> None:
    assert parse_shares("25/25/50") == SHARES
    assert parse_shares("0/0/100")["av1"] == 1.0


@pytest.mark.parametrize("text", ["", "25/25", "25/25/51", "-10/60/50", "a/b/c", "nan/50/50"])
def test_shares_that_are_none(text: str) -> None:
    with pytest.raises(BadInput, match="three percentages that sum to 100"):
        parse_shares(text)


# -- payback -----------------------------------------------------------------------------------


def test_after_how_many_views_a_ladder_pays() -> None:
    """An hour at 2 Mbit/s is 900 MB, of which a tenth is saved: 90 MB at 0.02 a GB."""
    found = payback(-10.0, 2e6, 3600, cpu_hours=45.0, prices=Prices(0.02, 0.04))
    assert found.saved_bytes == pytest.approx(90e6)
    assert found.saved == pytest.approx(0.0018)
    assert found.cost == pytest.approx(1.8)
    assert found.views == pytest.approx(1000)
    dearer = payback(-10.0, 2e6, 3600, cpu_hours=90.0, prices=Prices(0.02, 0.04))
    assert dearer.views == pytest.approx(2000)


def test_a_ladder_that_saves_nothing_never_pays() -> None:
    assert payback(5.0, 2e6, 3600, 1.0, Prices()).views is None
    assert payback(0.0, 2e6, 3600, 0.0, Prices()).views is None
    assert Payback(1.0, 0.0, 10.0, 1.0).views == 0.0


@pytest.mark.parametrize("prices", [(0.0, 1.0), (-1.0, 1.0), (1.0, -0.1), (math.nan, 1.0)])
def test_prices_that_are_none(prices: tuple[float, float]) -> None:
    with pytest.raises(BadInput, match="the prices are"):
        Prices(*prices)
