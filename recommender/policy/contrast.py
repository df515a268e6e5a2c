"""What a property of pictures goes with: a contrast by double machine learning.

Which picture was shown was drawn with known probabilities. So the surprise of a property, its value
for the shown picture minus its expectation over the draw, is independent of viewer and title by
design, and its regression on the reward is no guess about the past (Chernozhukov et al. 2018,
Double/debiased machine learning; the propensity model is known instead of learned). But properties
come together: open eyes come with close-ups. The slope says what pictures with more of the property
earned, with all that comes with it. It is a contrast, no effect of the property alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from encoder.arrays import Float64, Int64
from recommender.policy.estimates import FOLDS, RIDGE, Interval, interval

MIN_CORRELATION: Final = 0.1
"""Correlation from which a property is named as one that comes with another."""


@dataclass(frozen=True, slots=True)
class Contrast:
    """What came with one standard deviation of a property."""

    property: str
    difference: Interval
    """Reward per standard deviation (within titles, as drawn) of the property, with all that comes
    with it."""
    adjusted: Interval
    """The same with the other properties held constant, as far as a linear regression can."""
    confounded_with: tuple[tuple[str, float], ...]
    """Other properties that come with it, and their correlations, the strongest first."""
    deviation: float
    """Standard deviation of the surprise of the property, in its own unit."""


def contrast(
    name: str,
    names: tuple[str, ...],
    shown: Float64,
    expected: Float64,
    context: Float64,
    rewards: Float64,
    clusters: Int64,
) -> Contrast:
    """Return the contrast of the property ``name``.

    Args:
        name: one of ``names``.
        names: names of the properties.
        shown: properties of the shown pictures, (n, properties).
        expected: their expectations over the draws, (n, properties).
        context: what else explains rewards: context of the viewer, expected properties of the
            pool and the like, (n, context).
        rewards: (n,).
        clusters: number of the viewer and day, (n,).

    Raises:
        ValueError: the property never varies among what could be shown.
    """
    surprise = shown - expected
    column = names.index(name)
    residual = rewards - _predicted(np.concatenate([context, expected], 1), rewards, clusters)
    own = surprise[:, column]
    deviation = float(np.sqrt(np.square(own).mean()))
    if deviation < 1e-9:
        raise ValueError(f"{name} never varies among what could be shown")
    others = np.delete(surprise, column, axis=1)
    kept = np.flatnonzero(others.std(axis=0) > 1e-9)
    others = others[:, kept]
    other_names = [one for at, one in enumerate(names) if at != column]
    correlations = others.T @ own / np.sqrt(np.square(others).sum(0) * np.square(own).sum())
    found = sorted(
        ((other_names[at], float(value)) for at, value in zip(kept, correlations, strict=True)),
        key=lambda pair: -abs(pair[1]),
    )
    penalty = 1e-6 * len(own) * np.eye(others.shape[1])
    partial = own - others @ np.linalg.solve(others.T @ others + penalty, others.T @ own)
    return Contrast(
        name,
        _slope(own / deviation, residual, clusters),
        _slope(partial / deviation, residual, clusters),
        tuple(pair for pair in found if abs(pair[1]) >= MIN_CORRELATION),
        deviation,
    )


def _slope(surprise: Float64, residual: Float64, clusters: Int64) -> Interval:
    """Return the slope of the residual on the surprise, as the ratio of two sums over clusters."""
    return interval(surprise * residual, clusters, np.square(surprise))


def _predicted(design: Float64, rewards: Float64, clusters: Int64) -> Float64:
    """Predict rewards from what is no choice of a picture, cross-fitted by cluster, (n,)."""
    design = np.column_stack([design, np.ones(len(design))])
    predicted = np.empty(len(rewards))
    penalty = RIDGE * np.eye(design.shape[1])
    penalty[-1, -1] = 1e-6  # the constant is not shrunk
    for fold in range(FOLDS):
        test = clusters % FOLDS == fold
        rest = design[~test]
        model = np.linalg.solve(rest.T @ rest + penalty, rest.T @ rewards[~test])
        predicted[test] = design[test] @ model
    return predicted
