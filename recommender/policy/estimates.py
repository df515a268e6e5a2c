"""What another policy would have earned, by the log of the one that chose, with intervals.

- IPS weighs each reward by how much likelier the other policy chooses the shown picture.
- SNIPS divides by the mean of those weights instead of by 1: a little bias for less spread.
- DR (doubly robust: Dudík, Langford and Li 2011) adds the weighted error of a model of the reward
  to that model's expectation under the other policy. The model is a ridge regression, fitted on
  other clusters than those it is applied to (cross-fitted in five folds).

Slots of one row are evaluated given the earlier slots as they were logged.

Decisions of one viewer and day depend on one another, so clusters, not decisions, are the unit of
the intervals. Sums over clusters are skewed where weights are: intervals are those of Student's t,
corrected for skewness by Hall's transformation (Hall 1992, On the removal of skewness by
transformation), which a log of some hundred clusters needs to hold what it promises.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np

from encoder.arrays import Float64, Int64

CONFIDENCE: Final = 0.9
FOLDS: Final = 5
RIDGE: Final = 30.0


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean per decision, and the interval that holds the true one."""

    mean: float
    low: float
    high: float
    clusters: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """The value of a policy by one estimator."""

    estimator: str
    interval: Interval
    effective_size: float
    """Number of decisions of the policy itself that would say as much (Kish)."""
    mean_weight: float
    """Near 1 where the log's propensities are true and cover what the policy chooses."""
    max_weight: float


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Logged decisions and what a policy that is judged makes of them, one row each."""

    rewards: Float64
    """(n,)"""
    weights: Float64
    """Probability of the shown picture by the judged policy, divided by its propensity, (n,)."""
    clusters: Int64
    """Number of the viewer and day from 0 on, (n,)."""
    shown: Float64
    """Features of the shown picture and context, crossed, (n, size): :func:`crossed`."""
    expected: Float64
    """Their expectation over the pictures by the judged policy, (n, size)."""


def crossed(features: Float64, context: Float64) -> Float64:
    """Return features and a constant, each times context and a constant, (n, size).

    ``features`` is (n, features), ``context`` is (n, context).
    """
    ones = np.ones((len(features), 1))
    left, right = np.concatenate([features, ones], 1), np.concatenate([context, ones], 1)
    return np.asarray((left[:, :, None] * right[:, None, :]).reshape(len(left), -1), np.float64)


def estimate(judged: Judged) -> tuple[Estimate, Estimate, Estimate]:
    """Return IPS, SNIPS and DR.

    Raises:
        ValueError: fewer than two clusters, of which no interval can be told.
    """
    weights, rewards, clusters = judged.weights, judged.rewards, judged.clusters
    intervals = {
        "ips": interval(weights * rewards, clusters),
        "snips": interval(weights * rewards, clusters, weights),
        "dr": interval(doubly_robust(judged), clusters),
    }
    effective = float(weights.sum() ** 2 / max(np.square(weights).sum(), 1e-300))
    facts = effective, float(weights.mean()), float(weights.max())
    ips, snips, dr = (Estimate(name, found, *facts) for name, found in intervals.items())
    return ips, snips, dr


def doubly_robust(judged: Judged, folds: int = FOLDS, ridge: float = RIDGE) -> Float64:
    """Return the value of each decision under the judged policy, cross-fitted by cluster, (n,)."""
    shown, rewards = judged.shown, judged.rewards
    fold = _folds(judged.clusters, folds)
    members = [np.flatnonzero(fold == one) for one in range(folds)]
    parts = [(shown[rows].T @ shown[rows], shown[rows].T @ rewards[rows]) for rows in members]
    gram, moment = sum(part[0] for part in parts), sum(part[1] for part in parts)
    penalty = ridge * np.eye(shown.shape[1])
    penalty[-1, -1] = 1e-6  # the constant is not shrunk
    values = np.empty(len(rewards))
    for one, (own_gram, own_moment) in enumerate(parts):
        test = fold == one
        model = np.linalg.solve(gram - own_gram + penalty, moment - own_moment)
        error = rewards[test] - shown[test] @ model
        values[test] = judged.expected[test] @ model + judged.weights[test] * error
    return values


def _folds(clusters: Int64, folds: int) -> Int64:
    """Return a fold for each row, the same for all rows of a cluster."""
    return np.asarray(clusters % folds, np.int64)


def interval(
    values: Float64,
    clusters: Int64,
    sizes: Float64 | None = None,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Return the mean of values per decision with its interval, clusters being independent.

    With ``sizes`` it is the ratio of the sums of both.

    Raises:
        ValueError: fewer than two clusters.
    """
    sums = np.bincount(clusters, values)
    parts = np.bincount(clusters, sizes)
    used = np.bincount(clusters) > 0
    sums, parts = sums[used], parts[used]
    count = len(sums)
    if count < 2:
        raise ValueError(f"{count} clusters: an interval needs 2 or more")
    mean = float(sums.sum() / parts.sum())
    influence = (sums - mean * parts) * count / parts.sum()
    leverage = np.minimum(parts / parts.sum(), 0.5)
    influence = influence / np.sqrt(1 - leverage)  # as HC2: a cluster pulls the mean to itself
    deviation = float(influence.std(ddof=1))
    if deviation == 0:
        return Interval(mean, mean, mean, count)
    skewness = float(((influence - influence.mean()) ** 3).mean() / influence.std() ** 3)
    low, high = _hall(skewness, count, confidence)
    error = deviation / math.sqrt(count)
    return Interval(mean, mean - high * error, mean - low * error, count)


def _hall(skewness: float, count: int, confidence: float) -> tuple[float, float]:
    """Return the quantiles of the t statistic of a mean of ``count`` skewed values.

    Hall's transformation g(t) = t + s t²/3 + s² t³/27 + s/6n with s = skewness/sqrt(n) makes the
    statistic nearly normal; its inverse is exact.
    """
    quantile = student_quantile((1 + confidence) / 2, count - 1)
    slope = skewness / math.sqrt(count)
    if abs(slope) < 1e-6:
        return -quantile, quantile

    def inverse(value: float) -> float:
        root = 1 + slope * (value - slope / 6)
        return 3 / slope * (math.copysign(abs(root) ** (1 / 3), root) - 1)

    return inverse(-quantile), inverse(quantile)


def student_quantile(share: float, degrees: int) -> float:
    """Return a quantile of Student's t with 5 degrees or more, to three digits (Hill 1970)."""
    z = NormalDist().inv_cdf(share)
    first = (z**3 + z) / (4 * degrees)
    second = (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * degrees**3)
    return z + first + second + third
