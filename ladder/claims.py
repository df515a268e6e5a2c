"""The three claims that a ladder has to earn, on measured numbers.

The claims are BD-rate against a fixed ladder, BD-rate against the best per-title CRF ladder, and
what a population of viewers receives against the fixed ladder. They are stated together because
each hides something. BD-rate gives all qualities the same weight, also those that nobody sees, and
ignores where rungs lie; the viewers' claim depends on their networks. The per-title claim is stated
twice, because an encoder's settings and the choice by shots are two things: against a ladder by the
same recipe, which leaves what the choice by shots saves, and against one by a plain encoder, which
is what the whole saves.

The model of viewers: throughput is log-normal with a given median and sigma 1 in natural
logarithms. A client plays the highest rung whose average rate is below 0.8 of its throughput, and
the lowest rung when there is none. The rung that a client plays is a step function of its
throughput, so all expectations below are exact sums over the steps, not samples.

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

MEDIANS = (1e6, 3e6, 10e6)
"""Median throughputs in bit/s of the populations that are shown."""
SIGMA = 1.0
"""Standard deviation of the natural logarithm of throughput."""
AFFORDABLE = 0.8
"""Share of its throughput that a client uses at most."""
TOLERANCE = 0.5
"""Points of quality that a client may lose before it counts as worse off."""


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
    """Return the BD-rate of a ladder, also where it or the anchor has a single rung.

    A single rung is compared at its own quality, with the curve of the other ladder.
    """
    kept_anchor, kept_test = monotone(anchor), monotone(test)
    if not kept_anchor or not kept_test or len(kept_anchor) == len(kept_test) == 1:
        return None
    ranges = [(kept[0].quality, kept[-1].quality) for kept in (kept_anchor, kept_test)]
    if len(kept_anchor) > 1 and len(kept_test) > 1:
        return bd_rate(kept_anchor, kept_test)
    (single,), curve = sorted((kept_anchor, kept_test), key=len)
    needed = rate_at(curve, single.quality)
    if needed is None:
        return NoOverlap(*ranges)
    ratio = needed / single.rate if len(kept_anchor) == 1 else single.rate / needed
    return BdRate((ratio - 1) * 100, single.quality, single.quality, 0.0, *ranges)


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
    ours, fixed = sorted(ours), sorted(fixed)
    # Between two thresholds nobody's choice changes.
    thresholds = sorted({point.rate / AFFORDABLE for point in (*ours, *fixed)})
    edges = [0.0, *thresholds, math.inf]
    shares = [
        _below(high, median, sigma) - _below(low, median, sigma)
        for low, high in itertools.pairwise(edges)
    ]
    sums = {name: [0.0, 0.0] for name in ("fixed", "received", "matched")}
    worse_off = worst_loss = 0.0
    for low, share in zip(edges, shares, strict=False):
        had = _affordable(fixed, low)[-1]
        can = _affordable(ours, low)
        enough = [point for point in can if point.quality >= had.quality - tolerance]
        played = {"fixed": had, "received": can[-1], "matched": enough[0] if enough else can[-1]}
        for name, point in played.items():
            sums[name][0] += share * point.rate
            sums[name][1] += share * point.quality
        worse_off += 0.0 if enough else share
        worst_loss = max(worst_loss, had.quality - can[-1].quality)
    return ViewersClaim(
        median=median,
        fixed=Received(*sums["fixed"]),
        received=Received(*sums["received"]),
        matched=Received(*sums["matched"]),
        worse_off=worse_off,
        worst_loss=worst_loss,
        under_lowest=_below(ours[0].rate / AFFORDABLE, median, sigma),
        under_lowest_fixed=_below(fixed[0].rate / AFFORDABLE, median, sigma),
    )


def playing_shares(
    rates: Sequence[float], median: float, *, sigma: float = SIGMA
) -> tuple[float, ...]:
    """Return the share of clients that play each rung, by the model of viewers.

    Args:
        rates: Rates of the rungs in bit/s, ascending, at least one.
        median: Median throughput of the clients in bit/s.
        sigma: Standard deviation of the natural logarithm of throughput.

    Returns:
        One share per rung, summing to 1. That of the lowest includes clients that cannot afford
        it.
    """
    below = [0.0, *(_below(rate / AFFORDABLE, median, sigma) for rate in rates[1:]), 1.0]
    return tuple(high - low for low, high in itertools.pairwise(below))


def _affordable(rungs: Sequence[RatePoint], threshold: float) -> Sequence[RatePoint]:
    """Return the rungs for clients just above ``threshold`` bit/s, ascending, at least one."""
    return [point for point in rungs if point.rate / AFFORDABLE <= threshold] or rungs[:1]


def _below(throughput: float, median: float, sigma: float) -> float:
    """Return the share of clients whose throughput is below ``throughput`` bit/s."""
    if throughput == 0:
        return 0.0
    return 0.5 * math.erfc(-math.log(throughput / median) / (sigma * math.sqrt(2)))
