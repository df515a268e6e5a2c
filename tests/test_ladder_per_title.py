"""The search for a per-title CRF ladder, against every encode that there could have been."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from encoder.media import OperatingPoint, Size
from encoder.recipes import by_name
from ladder.bdrate import BdRate, RatePoint, bd_rate, monotone
from ladder.per_title import RAISES, Hint, PerTitleSearch, hint_for, target_rates
from tests.per_title_study import study

RECIPE = by_name("x264-medium")
SIZES = tuple(Size(16 * height // 9 & ~1, height) for height in (234, 288, 360, 432, 540, 720))
RATES = tuple(145e3 * 1.6**number for number in range(8))

Title = Callable[[OperatingPoint], RatePoint]


def title(detail: float = 1.0, busy: float = 0.1, kind: float = 30.0) -> Title:
    """A title by formula: each size has a ceiling that its details cost, and its own rates."""

    def encode(point: OperatingPoint) -> RatePoint:
        area = point.width * point.height
        bits_per_pixel = busy * 2 ** ((24 - point.crf) / 6) * (area / 250_000) ** -0.2
        ceiling = 100 - 12 * detail * (720 / point.height - 1)
        loss = kind * math.log1p(math.exp((point.crf - 30) / 7)) * (area / 250_000) ** 0.1
        return RatePoint(24 * area * bits_per_pixel, ceiling - loss)

    return encode


def hints(encode: Title, off: float = 0.0, sizes: tuple[Size, ...] = SIZES) -> tuple[Hint, ...]:
    """Sizes and CRFs near the best, with rates that are wrong by ``off`` (a natural logarithm)."""
    found = []
    for rate in RATES:
        point = max(every(encode, sizes, rate), key=lambda point: encode(point).quality)
        found.append(Hint(point.size, point.crf, encode(point).rate * math.exp(off)))
    return tuple(found)


def quality(point: RatePoint) -> float:
    return point.quality


def every(encode: Title, sizes: tuple[Size, ...], rate: float) -> list[OperatingPoint]:
    """The encode of each size nearest to a rate."""
    crfs = [crf / 2 for crf in range(8, 103)]
    points = [[OperatingPoint(RECIPE, *size, crf) for crf in crfs] for size in sizes]
    return [
        min(of_size, key=lambda point: abs(math.log(encode(point).rate / rate)))
        for of_size in points
    ]


def run(search: PerTitleSearch, encode: Title) -> tuple[dict[OperatingPoint, RatePoint], int]:
    measured: dict[OperatingPoint, RatePoint] = {}
    rounds = 0
    while wanted := search.wanted(measured):
        assert not measured.keys() & set(wanted)
        measured |= {point: encode(point) for point in wanted}
        rounds += 1
    return measured, rounds


def points(search: PerTitleSearch, measured: Mapping[OperatingPoint, RatePoint]) -> list[RatePoint]:
    return [measured[point] for point in search.ladder(measured)]


@pytest.mark.parametrize("number", range(12))
def test_the_ladder_is_the_best_of_all_encodes_for_little_work(number: int) -> None:
    draw = random.Random(number).uniform
    encode = title(draw(0.3, 3), draw(0.03, 0.3), draw(10, 40))
    # However wrong the sizes are at which it begins.
    begin = (SIZES, SIZES, SIZES[:2], SIZES[3:4], SIZES[-1:])[number % 5]
    search = PerTitleSearch(RECIPE, SIZES, RATES, hints(encode, draw(-0.5, 0.5), begin))
    measured, rounds = run(search, encode)
    found = points(search, measured)
    best = [max(map(encode, every(encode, SIZES, rate)), key=quality) for rate in RATES]
    claim = bd_rate(monotone(best), monotone(found))
    assert isinstance(claim, BdRate)
    assert claim.percent < 1.0, "a worse baseline would flatter what is compared with it"
    assert claim.overlap > 0.9
    assert len(measured) <= (2.75 if begin == SIZES else 6) * len(RATES)
    assert rounds <= 20


def test_good_hints_are_cheap():
    encode = title()
    search = PerTitleSearch(RECIPE, SIZES, RATES, hints(encode))
    measured, rounds = run(search, encode)
    assert len(measured) <= 2.25 * len(RATES)
    assert rounds <= 6
    assert len(search.expected()) == pytest.approx(len(measured), rel=0.35)


def test_what_is_wanted_depends_on_the_set_of_measurements_alone():
    encode = title()
    search = PerTitleSearch(RECIPE, SIZES, RATES, hints(encode, 0.2))
    whole, _ = run(search, encode)
    backwards = dict(reversed(whole.items()))
    assert search.wanted(backwards) == ()
    assert search.ladder(backwards) == search.ladder(whole)
    # Stopped anywhere, it goes on to the same end.
    for stop in range(0, len(whole), 3):
        part = dict(list(whole.items())[:stop])
        while wanted := search.wanted(part):
            part |= {point: encode(point) for point in wanted}
        assert search.ladder(part) == search.ladder(whole)


def test_a_ladder_that_ends_too_low_goes_on_at_higher_rates():
    encode = title()
    search = PerTitleSearch(RECIPE, SIZES, RATES[:4], hints(encode)[:4])
    low, _ = run(search, encode)
    top = points(search, low)[-1]
    higher = replace(search, reach=top.quality + 4)
    measured, _ = run(higher, encode)
    assert points(higher, measured)[-1].quality >= top.quality + 3
    assert points(higher, measured)[:4] == points(search, low)
    # No rate gives more than everything.
    endless = replace(search, reach=101.0)
    assert len(points(endless, run(endless, encode)[0])) == 4 + RAISES


def test_a_still_picture_ends():
    """Its rate hardly follows the CRF, and no rate is near the wanted ones."""

    def still(point: OperatingPoint) -> RatePoint:
        return RatePoint(6_000.0 + point.height // 100, 99.0)

    search = PerTitleSearch(RECIPE, SIZES, RATES, (Hint(SIZES[2], 30.0, 300e3),))
    measured, _ = run(search, still)
    assert points(search, measured)
    assert len(measured) < 100


def test_rates_are_those_of_the_rungs_or_spread_over_their_range():
    assert target_rates(RATES[::-1]) == RATES
    spread = target_rates((200e3, 3e6))
    assert (spread[0], spread[-1], len(spread)) == (pytest.approx(200e3), pytest.approx(3e6), 10)
    ratios = [b / a for a, b in itertools.pairwise(spread)]
    assert ratios == pytest.approx([ratios[0]] * 9)
    alone = target_rates((1e6,))
    assert alone[0] < 1e6 < alone[-1]
    assert len(alone) == 4
    assert len(target_rates([100e3 + 10e3 * n for n in range(60)])) == 7


def test_hints_of_another_codec_are_on_the_codecs_own_scale():
    av1 = by_name("svtav1-medium")
    assert hint_for(RECIPE, RECIPE, SIZES[0], 23.25, 1e6).crf == 23.25
    assert hint_for(RECIPE, av1, SIZES[0], 1.0, 1e6).crf == 4.0
    assert hint_for(RECIPE, av1, SIZES[0], 32.0, 1e6).crf == 27.5


def test_real_titles_get_the_best_ladder_for_few_encodes() -> None:
    """On measured grids, of which no number was used to choose the constants of the search."""
    found = study()
    assert len(found) == 16
    assert max(abs(one.over_best) for one in found) < 0.75
    assert abs(sum(one.over_best for one in found) / len(found)) < 0.1
    assert sum(one.encodes for one in found) / len(found) < 14
    for one in found:
        assert one.encodes <= 2.5 * one.rates
        assert 0.5 * one.encodes < one.expected <= 1.2 * one.encodes
