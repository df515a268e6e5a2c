"""What a package of several codecs gives to viewers of different devices, against a fixed ladder.

Three classes of viewers, each with its share of all: devices that play H.264 only, those that play
HEVC as well, and those that play AV1. A viewer has the best of all rungs that the device plays: of
two rungs the one that needs no more bits and is no worse. The fixed ladder is H.264, which everyone
plays, so it is the same for all classes, and the saving over all viewers is the sum of the classes'
savings, weighted by their shares. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from encoder.errors import BadInput
from ladder.bdrate import BdRate, NoOverlap, RatePoint, monotone
from ladder.claims import Received, ViewersClaim, claim_against, viewers_claim
from ladder.viewers import MEDIANS

PLAYED: Mapping[str, tuple[str, ...]] = {
    "h264": ("x264",),
    "hevc": ("x264", "x265"),
    "av1": ("x264", "x265", "vp9", "svtav1"),
}
"""Codecs that each class of viewers plays."""
SHARES: Mapping[str, float] = {"h264": 0.25, "hevc": 0.25, "av1": 0.5}
"""Shares of the classes unless others are given."""


@dataclass(frozen=True, slots=True)
class ClassClaims:
    """What one class of viewers has of a package."""

    name: str
    """One of :data:`PLAYED`."""
    share: float
    """Share of all viewers, 0 to 1."""
    rungs: int
    """Number of rungs that the class plays and has a use for; 0 where it can play none."""
    against_fixed: BdRate | NoOverlap | None
    """BD-rate of these rungs against the fixed ladder; None where there are no rungs, or both
    ladders have a single one."""
    viewers: tuple[ViewersClaim, ...]
    """What populations of the class receive; () where it can play no rung."""


@dataclass(frozen=True, slots=True)
class AudienceClaims:
    """What all viewers have of a package, by one quality model."""

    classes: tuple[ClassClaims, ...]
    """Classes in the order of :data:`PLAYED`."""
    percent: float | None
    """BD-rate against the fixed ladder in percent, meaned over the viewers that can play the
    package by the classes' shares; None where a class of them has none."""
    viewers: tuple[ViewersClaim, ...]
    """What populations of all viewers that can play the package receive."""
    unserved: float
    """Share of viewers that can play no rung, 0 to 1."""


def parse_shares(text: str) -> dict[str, float]:
    """Return the shares in a text such as ``25/25/50``: H.264 only, HEVC, AV1, in percent.

    Raises:
        BadInput: the text is not three numbers of at least 0 that sum to 100.
    """
    try:
        percents = [float(part) for part in text.split("/")]
    except ValueError:
        percents = []
    valid = len(percents) == len(PLAYED) and all(0 <= percent <= 100 for percent in percents)
    if not valid or not math.isclose(sum(percents), 100, abs_tol=0.01):
        raise BadInput(
            f"shares of viewers are {text!r:.60}; give three percentages that sum to 100, for "
            "H.264 only, HEVC and AV1, as in 25/25/50"
        )
    return {name: percent / 100 for name, percent in zip(PLAYED, percents, strict=True)}


def audience_claims(
    rungs: Mapping[str, Sequence[RatePoint]],
    fixed: Sequence[RatePoint],
    shares: Mapping[str, float] = SHARES,
    *,
    viewers: bool = True,
) -> AudienceClaims:
    """Return what each class, and all of them together, have of a package.

    Args:
        rungs: Measured rungs of the package by codec.
        fixed: Measured rungs of the fixed ladder.
        shares: Share of each class, summing to 1.
        viewers: False for a judge whose scores are no points of VMAF.
    """
    classes = tuple(
        _class_claims(name, share, rungs, fixed, viewers=viewers)
        for name in PLAYED
        if (share := shares.get(name, 0.0)) > 0
    )
    served = [one for one in classes if one.rungs]
    total = sum(one.share for one in served)
    weights = [one.share / total for one in served]
    by_median = zip(*(one.viewers for one in served), strict=True)
    return AudienceClaims(
        classes=classes,
        percent=_mean_percent(served, weights),
        viewers=tuple(_together(claims, weights) for claims in by_median),
        unserved=sum(one.share for one in classes) - total,
    )


def _class_claims(
    name: str,
    share: float,
    rungs: Mapping[str, Sequence[RatePoint]],
    fixed: Sequence[RatePoint],
    *,
    viewers: bool,
) -> ClassClaims:
    played = monotone(rung for codec in PLAYED[name] for rung in rungs.get(codec, ()))
    stated = played and viewers
    return ClassClaims(
        name=name,
        share=share,
        rungs=len(played),
        against_fixed=claim_against(fixed, played),
        viewers=tuple(viewers_claim(played, fixed, median) for median in MEDIANS) if stated else (),
    )


def _mean_percent(classes: Sequence[ClassClaims], weights: Sequence[float]) -> float | None:
    percents = [
        one.against_fixed.percent for one in classes if isinstance(one.against_fixed, BdRate)
    ]
    if not percents or len(percents) < len(classes):
        return None
    return sum(weight * percent for weight, percent in zip(weights, percents, strict=True))


def _together(claims: Sequence[ViewersClaim], weights: Sequence[float]) -> ViewersClaim:
    """Return the claim of a population of which each claim's viewers are a share."""

    def mean(values: Sequence[float]) -> float:
        return sum(weight * value for weight, value in zip(weights, values, strict=True))

    def received(each: Sequence[Received]) -> Received:
        return Received(mean([one.rate for one in each]), mean([one.quality for one in each]))

    return ViewersClaim(
        median=claims[0].median,
        fixed=received([one.fixed for one in claims]),
        received=received([one.received for one in claims]),
        matched=received([one.matched for one in claims]),
        worse_off=mean([one.worse_off for one in claims]),
        worst_loss=max(one.worst_loss for one in claims),
        under_lowest=mean([one.under_lowest for one in claims]),
        under_lowest_fixed=mean([one.under_lowest_fixed for one in claims]),
    )
