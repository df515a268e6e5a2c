"""Quality of a still: one number from its measures, relative to its title.

Most of it comes from percentiles within the title, because what is sharp or colourful for one title
is not for another. Measures with a right value of their own (exposure, letters) are judged by that
value.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from encoder.arrays import Float32, Int64
from recommender.artwork.stills import MEASURES, Stills

QUALITY_VERSION: Final = 2
"""Part of the store keys. Raise it when any quality changes."""

WEIGHTS: Final = {
    "sharpness": 0.15,
    "blur": -0.10,
    "change": -0.05,
    "unrest": -0.02,
    "contrast": 0.10,
    "colourfulness": 0.12,
    "entropy": 0.05,
    "subject": 0.14,
    "thirds": 0.06,
    "title_space": 0.03,
    "motion_blur": -0.03,
}
"""Weight of the percentile of each measure; negative where less is better."""

SHOT_WEIGHTS: Final = {"unrest": -0.15}
"""Weight of the percentile of each measure within the still's own shot.

The stillest moment of a shot is its best (eyes are open, hands at rest), but a shot in which
nothing happens is not the best of the title. The absolute weights here and in :data:`WEIGHTS` sum
to 1."""

ENOUGH: Final = {
    "sharpness": 0.5,
    "blur": 0.5,
    "entropy": 0.5,
    "contrast": 0.7,
    "motion_blur": 0.5,
    "change": 0.5,
    "unrest": 0.5,
}
"""Share of the title's stills that a still has to beat; beating more counts for nothing.

Grass has more gradients than a face and is not the better picture, and an empty field is stillest.
"""

_BEST_EXPOSURE, _EXPOSURE_WIDTH = 0.42, 0.28
_EXPOSURE_WEIGHT, _CLIP_WEIGHT, _TEXT_WEIGHT = 0.15, 0.25, 0.5
_SMEAR_WEIGHT, _MOTION_WEIGHT = 0.5, 0.12


def percentiles(values: Float32) -> Float32:
    """Return the share of the other values that each value exceeds, (n,).

    Ties count half. A single value gets 0.5.
    """
    count = len(values)
    if count < 2:
        return np.full(count, 0.5, np.float32)
    _, rank, counts = np.unique(values, return_inverse=True, return_counts=True)
    below = np.cumsum(counts) - counts
    share = (below + (counts - 1) / 2) / (count - 1)
    return share[rank].astype(np.float32)


def all_percentiles(stills: Stills) -> Float32:
    """Return the percentiles of all measures within the title, (n, len(MEASURES))."""
    columns = [percentiles(stills.measures[:, at]) for at in range(len(MEASURES))]
    return np.column_stack(columns) if len(stills) else np.zeros((0, len(MEASURES)), np.float32)


def smear(stills: Stills) -> Float32:
    """Return how much each still moves while it is softer than usual, 0 to 1, (n,)."""
    if not len(stills):
        return np.zeros(0, np.float32)
    blur = stills.measure("blur")
    soft = np.clip((blur - np.median(blur) + 0.03) / 0.08, 0, 1)
    return np.asarray(motion(stills) * soft, np.float32)


def motion(stills: Stills) -> Float32:
    """Return by how much each still changes more than most of the title's stills, 0 to 1, (n,)."""
    change = stills.measure("change")
    usual = max(25.0, float(np.median(change))) if len(stills) else 25.0
    return np.asarray(np.clip((change - usual) / 50, 0, 1), np.float32)


def quality(stills: Stills, ranks: Float32, shots: Int64 | None = None) -> Float32:
    """Return the quality of each still, about 0 to 1, (n,).

    ``ranks`` are :func:`all_percentiles`, ``shots`` the ascending indices of the stills' shots,
    (n,), None if the title is one shot.
    """
    total = np.zeros(len(stills), np.float32)
    for name, weight in WEIGHTS.items():
        rank = ranks[:, MEASURES.index(name)]
        better = rank if weight > 0 else 1 - rank
        total += abs(weight) * np.minimum(1, better / ENOUGH.get(name, 1.0))
    shot_starts: list[int] = []
    if shots is not None:
        shot_starts = (np.flatnonzero(np.diff(shots)) + 1).tolist()
    for name, weight in SHOT_WEIGHTS.items():
        parts = np.split(stills.measure(name), shot_starts)
        rank = np.concatenate([percentiles(part) for part in parts])
        total += abs(weight) * (rank if weight > 0 else 1 - rank)
    misexposure = (stills.measure("exposure") - _BEST_EXPOSURE) / _EXPOSURE_WIDTH
    total += _EXPOSURE_WEIGHT * (np.exp(-misexposure * misexposure) - 1)
    total -= _CLIP_WEIGHT * np.minimum(1, stills.measure("clipped"))
    total -= _TEXT_WEIGHT * stills.measure("text")
    total -= _SMEAR_WEIGHT * smear(stills) + _MOTION_WEIGHT * motion(stills)
    return np.asarray(np.clip(total, 0, 1), np.float32)
