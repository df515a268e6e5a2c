"""Decides whether a policy may replace the one that is there.

The gate compares both on the same log, decision by decision, and wants the lower bound of the
difference above 0. Who asks again and again finds something by luck, so the n-th question about the
same incumbent is judged at the error ``6 / (π² n²)`` times the allowed one: all of them together
err as often as one was allowed to (alpha spending).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from recommender.policy.estimates import Interval

ERROR: Final = 0.05
"""Chance that a policy passes that is no better, over all questions about one incumbent."""
MIN_EFFECTIVE: Final = 1000.0
"""Effective number of decisions below which nothing is decided."""
MIN_CLUSTERS: Final = 100
"""Viewers and days below which an interval is not believed."""
MEAN_WEIGHT: Final = (0.9, 1.1)
"""Mean weight outside of which the log does not cover what the policy chooses."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a policy may be promoted, and why not."""

    passed: bool
    reasons: tuple[str, ...]
    """Everything that speaks against it; empty if it passed."""
    asked: int
    """How often this was asked about the same incumbent, this time included."""
    confidence: float
    """Confidence of the two-sided interval whose lower end had to be above 0."""


def confidence_of(asked: int, error: float = ERROR) -> float:
    """Return the confidence of the two-sided interval for the ``asked``-th question."""
    return 1 - 2 * error * 6 / (math.pi**2 * asked**2)


def judge(difference: Interval, effective_size: float, mean_weight: float, asked: int) -> Verdict:
    """Judge a policy by the interval of its gain over the incumbent, made with
    :func:`confidence_of`."""
    reasons = []
    if effective_size < MIN_EFFECTIVE:
        reasons.append(
            f"the effective sample is {effective_size:.0f} decisions, fewer than "
            f"{MIN_EFFECTIVE:.0f}; log for longer, or train a policy nearer to the logged one"
        )
    if difference.clusters < MIN_CLUSTERS:
        reasons.append(
            f"the log has {difference.clusters} viewers and days, fewer than {MIN_CLUSTERS}; "
            "log for longer"
        )
    if not MEAN_WEIGHT[0] <= mean_weight <= MEAN_WEIGHT[1]:
        reasons.append(
            f"the mean weight is {mean_weight:.2f}, not {MEAN_WEIGHT[0]} to {MEAN_WEIGHT[1]}: the "
            "log does not cover what the policy chooses"
        )
    if not difference.low > 0:
        reasons.append(
            f"the gain is {difference.mean:+.4f} and its lower bound {difference.low:+.4f}, which "
            "is not above 0"
        )
    return Verdict(not reasons, tuple(reasons), asked, confidence_of(asked))
