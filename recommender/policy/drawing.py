"""Draws pictures for a row of titles, so that neighbours do not look alike.

The probability of a picture is the one that it had *given the pictures drawn before it in the row*,
as in a slate whose slots are filled one after the other. A log that has the earlier slots can be
evaluated slot by slot.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from encoder.arrays import Float64, Mask

NEIGHBOURS: Final = 2
"""Number of slots before a slot to which its picture is compared."""
ALIKE: Final = 0.28
"""Distance of embeddings below which pictures look alike: that of stills of one scene
(:data:`recommender.artwork.descriptors.SAME_SCENE`)."""
ALIKE_FACTOR: Final = 0.1
"""Factor on the probability of a picture that looks like a neighbour. It is not 0, since a picture
whose probability is 0 cannot be learned about."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """A picture that was drawn."""

    index: int
    propensity: float
    probabilities: Float64
    """Those it was drawn by, (pictures,)."""


def unlike(probabilities: Float64, looks: Float64 | None, neighbours: Sequence[Float64]) -> Float64:
    """Return probabilities given the looks of the neighbours that were drawn before, (pictures,).

    Args:
        probabilities: of the pictures without neighbours.
        looks: embeddings of the pictures, (pictures, size); None if they are unknown.
        neighbours: embeddings of the neighbours' pictures by the same model, (size,) each.
    """
    if looks is None:
        return probabilities
    alike: Mask = np.zeros(len(probabilities), np.bool_)
    for other in neighbours:
        alike |= np.sqrt(np.square(looks - other).sum(axis=1)) < ALIKE
    if not alike.any():
        return probabilities
    weights = np.where(alike, ALIKE_FACTOR, 1.0) * probabilities
    return np.asarray(weights / weights.sum(), np.float64)


def draw(probabilities: Float64, luck: float) -> Drawn:
    """Return the picture in whose share of [0, 1) ``luck`` lies; never one of probability 0."""
    ends = probabilities.cumsum()
    index = int(ends.searchsorted(luck * ends[-1], side="right"))
    if index == len(ends):  # where rounding puts luck beside the last share
        index = int(probabilities.nonzero()[0][-1])
    return Drawn(index, float(probabilities[index]), probabilities)


def luck_of(seed: bytes) -> float:
    """Return the number in [0, 1) that follows from a seed, evenly spread over seeds."""
    return (int.from_bytes(hashlib.sha256(seed).digest()[:8], "big") >> 11) / 2**53
