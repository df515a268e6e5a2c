"""The scales that curves are predicted on, where errors are alike everywhere.

Rate is the natural logarithm of bits per pixel: an error of 0.1 is one of 10 %. Quality is the
logit of its place between both ends of the model's scale: a point at VMAF 50 is as likely to be
missed by 4 as one at 95 by 1. Close to its ends the scale is too steep to tell anything, and
scores are cut off at 0 and 100 as well. So a score outside of :data:`INFORMATIVE_SCORES` only says
that the truth is at least as far out (:func:`censored`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from encoder.arrays import Float64

LOWEST, HIGHEST = 0.0, 100.0
"""Where VMAF cuts its scores off."""
MARGIN = 2.0
"""Of the scale beyond both ends."""
INFORMATIVE_SCORES = (8.0, 99.6)
"""Scores beyond are taken for these, and as bounds."""


def warp(quality: Float64) -> Float64:
    """Quality on the scale of predictions; any shape."""
    place = (np.clip(quality, *INFORMATIVE_SCORES) - LOWEST + MARGIN) / (
        HIGHEST - LOWEST + 2 * MARGIN
    )
    return np.asarray(np.log(place) - np.log1p(-place))


def unwarp(warped: Float64) -> Float64:
    """The inverse of :func:`warp`, and on to where scores end."""
    place = 1 / (1 + np.exp(-np.asarray(warped, dtype=np.float64)))
    quality = LOWEST - MARGIN + place * (HIGHEST - LOWEST + 2 * MARGIN)
    return np.asarray(np.clip(quality, LOWEST, HIGHEST))


def unwarp_slope(warped: Float64) -> Float64:
    """Points of quality per unit of the warped scale, there."""
    place = 1 / (1 + np.exp(-np.asarray(warped, dtype=np.float64)))
    return np.asarray(place * (1 - place) * (HIGHEST - LOWEST + 2 * MARGIN))


def censored(quality: Float64) -> NDArray[np.int8]:
    """1 where a score is a bound from below, -1 where from above, 0 elsewhere; any shape."""
    quality = np.asarray(quality)
    high, low = quality >= INFORMATIVE_SCORES[1], quality <= INFORMATIVE_SCORES[0]
    return np.asarray(high.astype(np.int8) - low.astype(np.int8))
