"""Whether contexts and shown pictures are still what a policy was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from encoder.arrays import Float64

BINS: Final = 10
SHIFTED: Final = 0.2
"""Population stability index from which a feature counts as shifted, by common practice."""
_LEAST_SHARE: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Drift:
    """How far a feature has moved."""

    name: str
    before: float
    """Mean before."""
    now: float
    """Mean now."""
    shift: float
    """Difference of the means in standard deviations of before."""
    stability: float
    """Population stability index: sum over tenths of before of (q - p) log(q / p)."""

    @property
    def shifted(self) -> bool:
        """True where the feature is not what it was."""
        return self.stability >= SHIFTED


def drift(names: Sequence[str], before: Float64, now: Float64) -> list[Drift]:
    """Compare columns of ``before`` (n, columns) and ``now`` (m, columns), the most moved first."""
    found = []
    for column, name in enumerate(names):
        old, new = before[:, column], now[:, column]
        deviation = float(old.std()) or 1.0
        moved = float(new.mean() - old.mean())
        stability = _stability(old, new)
        found.append(
            Drift(name, float(old.mean()), float(new.mean()), moved / deviation, stability)
        )
    return sorted(found, key=lambda one: -one.stability)


def _stability(before: Float64, now: Float64) -> float:
    edges = np.unique(np.quantile(before, np.linspace(0, 1, BINS + 1)[1:-1]))
    shares = [
        np.maximum(np.bincount(np.searchsorted(edges, values, "right"), minlength=len(edges) + 1)
                   / len(values), _LEAST_SHARE)
        for values in (before, now)
    ]  # fmt: skip
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())
