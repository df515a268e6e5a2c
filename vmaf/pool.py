"""Pooling of per-frame scores. Ours, so that every number in the product is pooled alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Pooled:
    """Scores of a run of frames as five numbers."""

    mean: float
    harmonic_mean: float
    """``1 / mean(1 / (score + 1)) - 1``, as libvmaf defines it."""
    p5: float
    """5th percentile, linear interpolation."""
    p1: float
    min: float

    def as_dict(self) -> dict[str, float]:
        """For JSON, rounded to a ten-thousandth: libvmaf itself prints six decimals."""
        return {name: round(value, 4) for name, value in asdict(self).items()}


def pool(scores: Sequence[float]) -> Pooled:
    """Pool per-frame scores; a title is pooled from all its frames, never from shots' means.

    Raises:
        ValueError: no scores.
    """
    if not len(scores):
        raise ValueError("no scores to pool")
    values = np.asarray(scores, dtype=np.float64)
    return Pooled(
        mean=float(values.mean()),
        harmonic_mean=float(1.0 / np.mean(1.0 / (values + 1.0)) - 1.0),
        p5=float(np.percentile(values, 5)),
        p1=float(np.percentile(values, 1)),
        min=float(values.min()),
    )
