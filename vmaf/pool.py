"""Pooling of per-frame scores, done here so that every pooled number is computed the same way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class PooledScores:
    """Statistics of the scores of a run of frames."""

    mean: float
    harmonic_mean: float
    """``1 / mean(1 / (score + 1)) - 1``, as libvmaf defines it."""
    p5: float
    """5th percentile, linearly interpolated."""
    p1: float
    min: float

    def as_dict(self) -> dict[str, float]:
        """Return the numbers for JSON, rounded to four decimals (libvmaf itself prints six)."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def pool_scores(scores: Sequence[float]) -> PooledScores:
    """Pool per-frame scores. Pool a title from all its frames, never from the means of its shots.

    Raises:
        ValueError: ``scores`` is empty.
    """
    if not len(scores):
        raise ValueError("no scores to pool")
    values = np.asarray(scores, dtype=np.float64)
    return PooledScores(
        mean=float(values.mean()),
        harmonic_mean=float(1.0 / np.mean(1.0 / (values + 1.0)) - 1.0),
        p5=float(np.percentile(values, 5)),
        p1=float(np.percentile(values, 1)),
        min=float(values.min()),
    )
