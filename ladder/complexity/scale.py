"""The scales that curves are predicted on, where errors are of one size everywhere.

Rate is the natural logarithm of bits per pixel: an error of 0.1 is one of 10 %. Quality is the
logit of its place between both ends of the model's scale: at VMAF 50 an error of 4 points is as
likely as one of 1 point at 95. Close to its ends the scale is too steep to be informative, and
scores are cut off at 0 and 100 as well. So a score outside of :data:`INFORMATIVE_SCORES` only says
that the truth is at least as far out (:func:`censored`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from encoder.arrays import Float64

LOWEST, HIGHEST = 0.0, 100.0
"""Scores at which VMAF is cut off."""
MARGIN = 2.0
"""Points by which the scale extends beyond both ends."""
INFORMATIVE_SCORES = (8.0, 99.6)
"""Scores outside of this range are moved to its nearest end and count as bounds."""


def warp(quality: Float64) -> Float64:
    """Return quality on the scale of predictions; any shape."""
    inside = np.clip(quality, *INFORMATIVE_SCORES)
    share = (inside - LOWEST + MARGIN) / (HIGHEST - LOWEST + 2 * MARGIN)
    return np.asarray(np.log(share) - np.log1p(-share))


def unwarp(warped: Float64) -> Float64:
    """Return the quality of a warped one: the inverse of :func:`warp`, cut off like scores."""
    share = 1 / (1 + np.exp(-np.asarray(warped, dtype=np.float64)))
    quality = LOWEST - MARGIN + share * (HIGHEST - LOWEST + 2 * MARGIN)
    return np.asarray(np.clip(quality, LOWEST, HIGHEST))


def unwarp_slope(warped: Float64) -> Float64:
    """Return the points of quality per unit of the warped scale at ``warped``."""
    share = 1 / (1 + np.exp(-np.asarray(warped, dtype=np.float64)))
    return np.asarray(share * (1 - share) * (HIGHEST - LOWEST + 2 * MARGIN))


def censored(quality: Float64) -> NDArray[np.int8]:
    """Return 1 where a score is a lower bound, -1 where it is an upper bound, 0 elsewhere."""
    quality = np.asarray(quality)
    high, low = quality >= INFORMATIVE_SCORES[1], quality <= INFORMATIVE_SCORES[0]
    return np.asarray(high.astype(np.int8) - low.astype(np.int8))
