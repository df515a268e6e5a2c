"""What a package gives to viewers by the codecs of their devices, and when it has paid.

This reads measured rungs of a comparison; :mod:`ladder.audience` and :mod:`ladder.payback` decide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ladder.audience import SHARES, AudienceClaims, audience_claims
from ladder.bdrate import RatePoint
from ladder.claims import viewers_claim
from ladder.payback import Payback, Prices, payback
from ladder.viewers import MEDIANS
from vmaf.models import is_judge


@dataclass(frozen=True, slots=True)
class PaybackOfViewers:
    """When a package has paid, where its viewers have one median throughput."""

    median: float
    """Median throughput in bit/s."""
    by_model: Payback
    """Saving by the package's quality model."""
    by_least: Payback | None
    """Saving by the judge that sees least; None where a judge states no saving."""


@dataclass(frozen=True, slots=True)
class Receipts:
    """What all viewers of a package have, and what that is worth."""

    shares: Mapping[str, float]
    """Share of each class of viewers."""
    audience: Mapping[str, AudienceClaims]
    """Claims by quality model or judge, the package's own first."""
    prices: Prices
    paybacks: tuple[PaybackOfViewers, ...]
    """By median throughput; () where the CPU of the whole job or the saving is not known."""

    @property
    def least(self) -> tuple[str, float] | None:
        """Return the judge that sees the least saving over all viewers, with its percent.

        None where a judge states none.
        """
        percents = {m: claims.percent for m, claims in self.audience.items() if is_judge(m)}
        known = {model: percent for model, percent in percents.items() if percent is not None}
        if not known or len(known) < len(percents):
            return None
        return max(known.items(), key=lambda each: each[1])


def receipts_of(
    ours: Mapping[str, Mapping[str, Sequence[RatePoint]]],
    fixed: Mapping[str, Sequence[RatePoint]],
    *,
    seconds: float,
    cpu_seconds: float | None,
    shares: Mapping[str, float] = SHARES,
    prices: Prices | None = None,
) -> Receipts:
    """Return the receipts of a package from its measured rungs.

    Args:
        ours: Rungs of the package by codec, by quality model or judge, the package's own first.
        fixed: Rungs of the fixed ladder by quality model or judge.
        seconds: Duration of the title.
        cpu_seconds: CPU seconds of the whole job; None where they are not known.
        shares: Share of each class of viewers, summing to 1.
        prices: Prices of egress and CPU.
    """
    prices = prices or Prices()
    audience = {
        model: audience_claims(by_codec, fixed[model], shares, viewers=not is_judge(model))
        for model, by_codec in ours.items()
    }
    receipts = Receipts(shares, audience, prices, ())
    own = next(iter(ours))
    percent, least = audience[own].percent, receipts.least
    if cpu_seconds is None or percent is None:
        return receipts
    paybacks = []
    for median in MEDIANS:
        had = viewers_claim(fixed[own], fixed[own], median).fixed.rate
        hours = cpu_seconds / 3600
        paybacks.append(
            PaybackOfViewers(
                median,
                payback(percent, had, seconds, hours, prices),
                payback(least[1], had, seconds, hours, prices) if least else None,
            )
        )
    return Receipts(shares, audience, prices, tuple(paybacks))


def receipts_fields(receipts: Receipts) -> dict[str, Any]:
    """Return receipts as JSON values: those of the ``receipts`` line of ``ladder compare``."""
    return {
        "shares": dict(receipts.shares),
        "audience": [
            {
                "quality_model": model,
                "percent": claims.percent,
                "unserved": claims.unserved,
                "classes": [
                    {
                        "name": one.name,
                        "share": one.share,
                        "rungs": one.rungs,
                        "percent": getattr(one.against_fixed, "percent", None),
                    }
                    for one in claims.classes
                ],
                "viewers": [
                    {
                        **asdict(viewers),
                        "received_percent": viewers.received_percent,
                        "matched_percent": viewers.matched_percent,
                    }
                    for viewers in claims.viewers
                ],
            }
            for model, claims in receipts.audience.items()
        ],
        "prices": asdict(receipts.prices),
        "payback": [
            {
                "median": one.median,
                "by_model": _payback_fields(one.by_model),
                "by_least": one.by_least and _payback_fields(one.by_least),
            }
            for one in receipts.paybacks
        ],
    }


def _payback_fields(found: Payback) -> dict[str, Any]:
    return {**asdict(found), "views": found.views}
