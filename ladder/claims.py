"""The three claims a ladder has to earn, on measured numbers.

1. BD-rate against a fixed ladder, 2. BD-rate against the best per-title CRF ladder, 3. what a
population of viewers receives against the fixed ladder. They are stated together because each
hides something: BD-rate weighs all qualities alike, also those that nobody sees, and says nothing
about where rungs sit; the viewers' claim depends on what networks they have.

The viewers' model: throughput is log-normal with a given median, sigma 1 in natural logarithms. A
client plays the highest rung whose average rate is under 0.8 of its throughput, and the lowest
one when there is none. What a client plays is a step function of its throughput, so all
expectations below are exact sums over the steps, not samples.

Two numbers of bits are given, because a saved bit and a gained point of quality are not the same:

- ``received``: everyone plays by the rule above on both ladders. Bits can go up where our
  ladder offers a better rung that the client can afford; the mean quality says what for.
- ``matched``: on our ladder everyone plays the cheapest rung among those that the rule allows
  whose quality is at least what the client had from the fixed ladder less the tolerance. A client
  for which there is no such rung plays its highest, and is counted as worse off.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from ladder.bdrate import BdRate, Method, NoOverlap, RatePoint, bd_rate, monotone

MEDIANS = (1e6, 3e6, 10e6)
"""bit/s, median throughputs of the populations shown."""
SIGMA = 1.0
AFFORDABLE = 0.8
"""Share of its throughput that a client spends at most."""
TOLERANCE = 0.5
"""Quality that a client may lose before it counts as worse off."""


@dataclass(frozen=True, slots=True)
class Received:
    """What a population gets: means over clients."""

    rate: float
    """bit/s."""
    quality: float


@dataclass(frozen=True, slots=True)
class ViewersClaim:
    """What one population receives from our ladder and from the fixed one."""

    median: float
    """bit/s."""
    fixed: Received
    received: Received
    """From our ladder, playing the highest affordable rung."""
    matched: Received
    """From our ladder, playing the cheapest affordable rung that is not worse."""
    worse_off: float
    """Share of clients whose best rung of ours is worse than the fixed one's by more than the
    tolerance."""
    worst_loss: float
    """Most quality that any client loses on ``received``; 0 when none does."""
    under_lowest: float
    """Share of clients that cannot afford our lowest rung and play it all the same."""
    under_lowest_fixed: float

    @property
    def received_percent(self) -> float:
        """Bits against the fixed ladder; negative: fewer."""
        return (self.received.rate / self.fixed.rate - 1) * 100

    @property
    def matched_percent(self) -> float:
        """Bits against the fixed ladder at quality not worse than by the tolerance."""
        return (self.matched.rate / self.fixed.rate - 1) * 100


@dataclass(frozen=True, slots=True)
class Claims:
    """All three, for one quality model."""

    against_fixed: BdRate | NoOverlap | None
    """None: a ladder has fewer than two rungs worth choosing."""
    against_per_title: BdRate | NoOverlap | None
    viewers: tuple[ViewersClaim, ...]
    """One per median of :data:`MEDIANS`."""


def state_claims(
    ours: Sequence[RatePoint],
    fixed: Sequence[RatePoint],
    per_title: Sequence[RatePoint],
    method: Method = "pchip",
) -> Claims:
    """The three claims from the measured rungs (bit/s, mean quality) of three ladders."""
    return Claims(
        bd_claim(fixed, ours, method),
        bd_claim(per_title, ours, method),
        tuple(viewers_claim(ours, fixed, median) for median in MEDIANS),
    )


def bd_claim(
    anchor: Sequence[RatePoint], test: Sequence[RatePoint], method: Method = "pchip"
) -> BdRate | NoOverlap | None:
    """BD-rate of a ladder's rungs, without those that nobody would choose.

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
    """What clients with log-normal throughput receive from either ladder.

    ``ours`` and ``fixed`` in bit/s and mean quality, in any order, at least one rung each.
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
    """Share of clients that play each rung by the viewers' model.

    Args:
        rates: bit/s of the rungs, ascending, shape (rungs,), at least one.
        median: bit/s, of the clients' throughput.

    Returns:
        Shape (rungs,), sum 1. The lowest rung's includes those that cannot afford it.
    """
    below = [0.0, *(_below(rate / AFFORDABLE, median, sigma) for rate in rates[1:]), 1.0]
    return tuple(high - low for low, high in itertools.pairwise(below))


def _affordable(rungs: Sequence[RatePoint], threshold: float) -> Sequence[RatePoint]:
    """Rungs for clients just over ``threshold`` bit/s, by ascending rate; never none."""
    return [point for point in rungs if point.rate / AFFORDABLE <= threshold] or rungs[:1]


def _below(throughput: float, median: float, sigma: float) -> float:
    """Share of clients under ``throughput``."""
    if throughput == 0:
        return 0.0
    return 0.5 * math.erfc(-math.log(throughput / median) / (sigma * math.sqrt(2)))
