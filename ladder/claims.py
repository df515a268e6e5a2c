"""The three claims that a ladder has to earn, on measured numbers.

The claims are BD-rate against a fixed ladder, BD-rate against the best per-title CRF ladder, and
what a population of viewers receives against the fixed ladder. They are stated together because
each hides something. BD-rate gives all qualities the same weight, also those that nobody sees, and
ignores where rungs lie; the viewers' claim depends on their networks. The per-title claim is stated
twice, because an encoder's settings and the choice by shots are two things: against a ladder by the
same recipe, which leaves what the choice by shots saves, and against one by a plain encoder, which
is what the whole saves.

The model of viewers is that of :mod:`ladder.viewers`: a client plays the highest rung whose average
rate is below 0.8 of its throughput. Populations are log-normal with sigma 1 unless given otherwise.

Bits are given twice, because a saved bit and a gained point of quality are not the same:

- ``received``: everyone plays by the rule above on both ladders. Bits can go up where our ladder
  offers a better rung that the client can afford; the mean quality shows what that buys.
- ``matched``: on our ladder everyone plays the cheapest rung that the rule allows and whose
  quality is at least that of the client's rung of the fixed ladder, less the tolerance. A client
  without such a rung plays its highest and counts as worse off.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from ladder.bdrate import BdRate, Method, NoOverlap, RatePoint, bd_rate, monotone, rate_at
from ladder.viewers import (
    MEDIANS,
    SIGMA,
    TOLERANCE,
    Audience,
    Offer,
    affordable,
    playable,
    population,
)

CURVE_POINTS = 4
"""Points that a curve has at least for BD-rate (VCEG-M33)."""


@dataclass(frozen=True, slots=True)
class Received:
    """What a population receives, as means over clients."""

    rate: float
    """Mean rate in bit/s."""
    quality: float
    """Mean quality."""


@dataclass(frozen=True, slots=True)
class ViewersClaim:
    """What one population receives from our ladder and from the fixed one."""

    median: float
    """Median throughput in bit/s."""
    fixed: Received
    """Rate and quality from the fixed ladder."""
    received: Received
    """Rate and quality from our ladder, playing the highest affordable rung."""
    matched: Received
    """Rate and quality from our ladder, playing the cheapest affordable rung that is not worse."""
    worse_off: float
    """Share of clients whose best rung of our ladder is worse than that of the fixed ladder by more
    than the tolerance."""
    worst_loss: float
    """Largest quality that any client loses on ``received``; 0 when none does."""
    under_lowest: float
    """Share of clients that cannot afford our lowest rung and play it all the same."""
    under_lowest_fixed: float
    """Share of clients that cannot afford the fixed ladder's lowest rung."""

    @property
    def received_percent(self) -> float:
        """Bits over the fixed ladder's in percent; negative for fewer."""
        return (self.received.rate / self.fixed.rate - 1) * 100

    @property
    def matched_percent(self) -> float:
        """Bits over the fixed ladder's in percent, at a quality within the tolerance."""
        return (self.matched.rate / self.fixed.rate - 1) * 100


@dataclass(frozen=True, slots=True)
class Claims:
    """All three claims for one quality model."""

    against_fixed: BdRate | NoOverlap | None
    """BD-rate against the fixed ladder; None where one of the two has no rungs, or both have only
    one that is worth choosing."""
    against_per_title: BdRate | NoOverlap | None
    """BD-rate against the best per-title CRF ladder by the same recipe; None as above."""
    against_plain_per_title: BdRate | NoOverlap | None
    """BD-rate against the best per-title CRF ladder by a plain encoder; None as above."""
    viewers: tuple[ViewersClaim, ...]
    """Claims for each of :data:`MEDIANS`; () for a judge by which nobody is said to see a loss."""


def state_claims(
    ours: Sequence[RatePoint],
    fixed: Sequence[RatePoint],
    per_title: Sequence[RatePoint],
    plain_per_title: Sequence[RatePoint],
    *,
    viewers: bool = True,
) -> Claims:
    """Return the three claims from the measured rungs of four ladders.

    ``viewers`` is False for a judge whose scores are no points of VMAF.
    """
    return Claims(
        claim_against(fixed, ours),
        claim_against(per_title, ours),
        claim_against(plain_per_title, ours),
        tuple(viewers_claim(ours, fixed, median) for median in MEDIANS) if viewers else (),
    )


def claim_against(
    anchor: Sequence[RatePoint], test: Sequence[RatePoint]
) -> BdRate | NoOverlap | None:
    """Return the BD-rate of a ladder, also where it or the anchor has few rungs.

    BD-rate is defined for :data:`CURVE_POINTS` points or more: between two or three rungs, the
    line from one to the next is no curve, and takes more bits than any encode there would. So
    where one of the ladders has fewer and the other has enough, or one has a single rung, they
    are compared at the qualities of the one with fewer rungs, as far as the other reaches them:
    the mean of the logarithms of the ratios of rates.
    """
    kept_anchor, kept_test = monotone(anchor), monotone(test)
    if not kept_anchor or not kept_test or len(kept_anchor) == len(kept_test) == 1:
        return None
    few, curve = sorted((kept_anchor, kept_test), key=len)
    if len(few) > 1 and not len(few) < CURVE_POINTS <= len(curve):
        return bd_rate(kept_anchor, kept_test)
    ranges = [(kept[0].quality, kept[-1].quality) for kept in (kept_anchor, kept_test)]
    needed = [(rung, rate_at(curve, rung.quality)) for rung in few]
    folds = {rung.quality: math.log(rung.rate / rate) for rung, rate in needed if rate is not None}
    if not folds:
        return NoOverlap(*ranges)
    mean = sum(folds.values()) / len(folds)
    low, high = min(folds), max(folds)
    whole = max(high for _, high in ranges) - min(low for low, _ in ranges)
    percent = math.expm1(mean if few is kept_test else -mean) * 100
    return BdRate(percent, low, high, (high - low) / whole, *ranges)


def bd_claim(
    anchor: Sequence[RatePoint], test: Sequence[RatePoint], method: Method = "pchip"
) -> BdRate | NoOverlap | None:
    """Return the BD-rate of a ladder's rungs, without those that nobody would choose.

    None where a ladder has fewer than two rungs worth choosing.
    """
    kept = monotone(anchor), monotone(test)
    if min(map(len, kept)) < 2:
        return None
    return bd_rate(*kept, method=method)


def viewers_claim(
    ours: Sequence[RatePoint],
    fixed: Sequence[RatePoint],
    median: float,
    *,
    sigma: float = SIGMA,
    tolerance: float = TOLERANCE,
) -> ViewersClaim:
    """Return what clients with log-normal throughput receive from either ladder.

    ``ours`` and ``fixed`` are rates in bit/s with mean qualities, in any order, at least one each.
    """
    return audience_claim(
        [Offer(*point) for point in ours],
        [Offer(*point) for point in fixed],
        population(median, sigma),
        tolerance=tolerance,
    )


def audience_claim(
    ours: Sequence[Offer],
    fixed: Sequence[Offer],
    audience: Audience,
    *,
    tolerance: float = TOLERANCE,
) -> ViewersClaim:
    """Return what an audience receives from either ladder.

    ``ours`` and ``fixed`` are in any order, at least one rung each.
    """
    # Between two thresholds nobody's choice changes.
    edges = [0.0, *sorted({rung.rate for rung in (*ours, *fixed)})]
    shares = [
        high - low
        for low, high in itertools.pairwise([*(audience.below(edge) for edge in edges), 1.0])
    ]
    sums = {name: [0.0, 0.0] for name in ("fixed", "received", "matched")}
    worse_off = worst_loss = 0.0
    for lines, of_devices in audience.devices:
        plays, had_to_play = playable(ours, lines), playable(fixed, lines)
        for low, of_throughput in zip(edges, shares, strict=True):
            share = of_devices * of_throughput
            had = affordable(had_to_play, low)[-1]
            can = affordable(plays, low)
            enough = [rung for rung in can if rung.quality >= had.quality - tolerance]
            played = {
                "fixed": had,
                "received": can[-1],
                "matched": enough[0] if enough else can[-1],
            }
            for name, rung in played.items():
                sums[name][0] += share * rung.rate
                sums[name][1] += share * rung.quality
            worse_off += 0.0 if enough else share
            worst_loss = max(worst_loss, had.quality - can[-1].quality if share > 0 else 0.0)
    return ViewersClaim(
        median=audience.throughput.median,
        fixed=Received(*sums["fixed"]),
        received=Received(*sums["received"]),
        matched=Received(*sums["matched"]),
        worse_off=worse_off,
        worst_loss=worst_loss,
        under_lowest=audience.below(min(ours).rate),
        under_lowest_fixed=audience.below(min(fixed).rate),
    )
