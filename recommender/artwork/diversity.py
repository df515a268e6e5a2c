"""Groups of stills that show the same, and a choice that covers all of them.

Clusters are found by distance of embeddings, in one pass over the stills in order of time and a
few of Lloyd's rounds: linear in the stills, and the same on every machine. The choice is greedy,
by quality and by distance to what has been chosen (maximal marginal relevance), and takes one
still of every cluster before a second of any.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from encoder.arrays import Float32, Int64, Mask
from recommender.artwork.descriptors import distances, hash_distance

DIVERSITY_VERSION: Final = 2

SAME_SCENE: Final = 0.28
"""Embeddings nearer than this show the same scene."""
DUPLICATE_BITS: Final = 10
"""Perceptual hashes that differ in no more bits are of the same picture."""
DUPLICATE_DISTANCE: Final = 0.10
"""So are embeddings that are nearer than this."""

_ROUNDS = 4
_LEAST_MEMBERS = 3
_DISTANCE_WEIGHT = 0.4
_SHARE_WEIGHT = 0.15
_FRESH_WEIGHT = 0.15
_LEAST_OF_USUAL = 0.6


def cluster(embeddings: Float32, most: int, radius: float = SAME_SCENE) -> Int64:
    """(n,) a cluster number for each of (n, size) embeddings, at most ``most`` of them.

    Numbers are 0, 1, ... in the order of each cluster's first member. Where more scenes than
    ``most`` are found, the radius grows until they fit.
    """
    if not len(embeddings):
        return np.zeros(0, np.int64)
    while True:
        centres = _leaders(embeddings, radius, most)
        if centres is not None:
            break
        radius *= 1.15
    least = min(_LEAST_MEMBERS, -(-len(embeddings) // 4))
    for _ in range(_ROUNDS):
        labels = _nearest(embeddings, centres)
        used, members = np.unique(labels, return_counts=True)
        # What is seen for less than that is no scene: a flash, somebody passing by.
        used = used[members >= min(least, members.max())]
        centres = np.stack([embeddings[labels == label].mean(axis=0) for label in used])
    labels = _nearest(embeddings, centres)
    _, first = np.unique(labels, return_index=True)
    order = {int(labels[at]): number for number, at in enumerate(sorted(first))}
    return np.array([order[int(label)] for label in labels], np.int64)


def _leaders(embeddings: Float32, radius: float, most: int) -> Float32 | None:
    """Stills that are not within ``radius`` of an earlier leader; None if over ``most``."""
    leaders = embeddings[:1]
    for row in embeddings[1:]:
        if float(distances(row, leaders).min()) > radius:
            if len(leaders) == most:
                return None
            leaders = np.vstack([leaders, row])
    return leaders


def _nearest(embeddings: Float32, centres: Float32) -> Int64:
    squares = np.square(centres).sum(axis=1) - 2 * embeddings @ centres.T
    return np.asarray(squares.argmin(axis=1), np.int64)


def is_duplicate(one: int, other: int, distance: float) -> bool:
    """Whether two stills are the same picture to a viewer: by hash, or by embedding."""
    return hash_distance(one, other) <= DUPLICATE_BITS or distance < DUPLICATE_DISTANCE


def choose(
    quality: Float32,
    labels: Int64,
    hashes: Sequence[int],
    embeddings: Float32,
    size: int,
    reserve: Mask | None = None,
    shots: Int64 | None = None,
) -> list[int]:
    """Up to ``size`` stills, best first: every cluster once, then again, without duplicates.

    Args:
        quality: (n,) about 0 to 1.
        labels: (n,) clusters; a cluster of more stills is a little more telling of the title.
        hashes: (n,) perceptual hashes.
        embeddings: (n, size)
        size: how many to choose; one is chosen if there is any.
        reserve: (n,) stills that come only where a cluster has no others, after all that have.
        shots: (n,) of the title; one that has nothing chosen yet is worth a little more.
    """
    count = len(quality)
    if count == 0 or size < 1:
        return []
    held = np.zeros(count, bool) if reserve is None else reserve
    share = np.bincount(labels)[labels] / count
    worth = quality + _SHARE_WEIGHT * np.sqrt(share)
    nearest = np.full(count, np.inf, np.float32)
    free = np.ones(count, bool)
    taken = np.zeros(int(labels.max()) + 1, np.int64)
    fresh = np.ones(count, bool)
    poor = quality < _LEAST_OF_USUAL * float(np.median(quality))
    chosen: list[int] = []
    while len(chosen) < size and free.any():
        # Clusters with the fewest chosen come first; what is held back comes after all others.
        turn = taken[labels] + np.where(held, count, 0)
        allowed = free & (turn == turn[free].min())
        # A cluster's second picture has to be a good one, its first need not.
        allowed &= (taken[labels] == 0) | ~(held | poor)
        if not allowed.any():
            free &= turn != turn[free].min()
            continue
        value = worth + _DISTANCE_WEIGHT * np.minimum(1, nearest) + _FRESH_WEIGHT * fresh
        best = int(np.argmax(np.where(allowed, value, -np.inf)))
        free[best] = False
        away = float(nearest[best])
        if chosen and any(is_duplicate(hashes[best], hashes[other], away) for other in chosen):
            continue
        chosen.append(best)
        if shots is not None:
            fresh &= shots != shots[best]
        taken[labels[best]] += 1
        nearest = np.minimum(nearest, distances(embeddings[best], embeddings))
    return chosen
