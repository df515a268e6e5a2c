"""Clusters of stills that show similar things, and a choice that covers all clusters.

Clusters follow from distances of embeddings, in one pass over the stills in order of time and a few
rounds of Lloyd's algorithm. This takes linear time and gives the same result on every machine. The
choice is greedy by quality and by distance to the stills chosen before (maximal marginal
relevance). It takes one still of every cluster before a second one of any.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from encoder.arrays import Float32, Int64, Mask
from recommender.artwork.descriptors import distances, hash_distance

DIVERSITY_VERSION: Final = 2
"""Part of the store keys. Raise it when clusters or choices change."""

SAME_SCENE: Final = 0.28
"""Distance of embeddings up to which stills show the same scene."""
DUPLICATE_BITS: Final = 10
"""Number of differing bits up to which perceptual hashes mean the same picture."""
DUPLICATE_DISTANCE: Final = 0.10
"""Distance below which embeddings mean the same picture."""

_ROUNDS = 4
_MIN_MEMBERS = 3
_DISTANCE_WEIGHT = 0.4
_SHARE_WEIGHT = 0.15
_FRESH_WEIGHT = 0.15
_MIN_OF_USUAL = 0.6


def cluster(embeddings: Float32, max_clusters: int, radius: float = SAME_SCENE) -> Int64:
    """Return the cluster number (n,) of each of (n, size) embeddings.

    Clusters are numbered 0, 1, ... by their first members. If there are more scenes than
    ``max_clusters``, the radius grows until they fit.
    """
    if not len(embeddings):
        return np.zeros(0, np.int64)
    while True:
        centres = _leaders(embeddings, radius, max_clusters)
        if centres is not None:
            break
        radius *= 1.15
    min_members = min(_MIN_MEMBERS, -(-len(embeddings) // 4))
    for _ in range(_ROUNDS):
        labels = _nearest(embeddings, centres)
        used, members = np.unique(labels, return_counts=True)
        # Fewer members are no scene but a flash, or somebody passing by.
        used = used[members >= min(min_members, members.max())]
        centres = np.stack([embeddings[labels == label].mean(axis=0) for label in used])
    labels = _nearest(embeddings, centres)
    _, first = np.unique(labels, return_index=True)
    order = {int(labels[at]): number for number, at in enumerate(sorted(first))}
    return np.array([order[int(label)] for label in labels], np.int64)


def _leaders(embeddings: Float32, radius: float, limit: int) -> Float32 | None:
    """Return embeddings farther than ``radius`` from each other; None if more than ``limit``."""
    leaders = embeddings[:1]
    for row in embeddings[1:]:
        if float(distances(row, leaders).min()) > radius:
            if len(leaders) == limit:
                return None
            leaders = np.vstack([leaders, row])
    return leaders


def _nearest(embeddings: Float32, centres: Float32) -> Int64:
    squares = np.square(centres).sum(axis=1) - 2 * embeddings @ centres.T
    return np.asarray(squares.argmin(axis=1), np.int64)


def is_duplicate(hash_: int, other: int, distance: float) -> bool:
    """Tell whether two stills look the same: by their hashes, or by their embeddings' distance."""
    return hash_distance(hash_, other) <= DUPLICATE_BITS or distance < DUPLICATE_DISTANCE


def choose(
    quality: Float32,
    labels: Int64,
    hashes: Sequence[int],
    embeddings: Float32,
    size: int,
    reserve: Mask | None = None,
    shots: Int64 | None = None,
) -> list[int]:
    """Choose up to ``size`` stills, best first: one of every cluster, then a second one, and so on.

    Duplicates are skipped. If there are any stills, at least one is chosen.

    Args:
        quality: quality of each still, about 0 to 1, (n,).
        labels: cluster of each still, (n,). Large clusters count a little more, because they say
            more about the title.
        hashes: perceptual hashes, (n,).
        embeddings: embeddings, (n, size).
        size: how many stills to choose at most.
        reserve: stills that are chosen only if their cluster has no others, and last, (n,).
        shots: shot of each still, (n,). Shots without a chosen still count a little more.
    """
    count = len(quality)
    if count == 0 or size < 1:
        return []
    reserved = np.zeros(count, bool) if reserve is None else reserve
    share = np.bincount(labels)[labels] / count
    worth = quality + _SHARE_WEIGHT * np.sqrt(share)
    nearest = np.full(count, np.inf, np.float32)
    free = np.ones(count, bool)
    taken = np.zeros(int(labels.max()) + 1, np.int64)
    fresh = np.ones(count, bool)
    poor = quality < _MIN_OF_USUAL * float(np.median(quality))
    chosen: list[int] = []
    while len(chosen) < size and free.any():
        # Clusters with the fewest chosen stills come first, reserved stills after all others.
        turn = taken[labels] + np.where(reserved, count, 0)
        allowed = free & (turn == turn[free].min())
        # The first still of a cluster may be poor, further ones may not.
        allowed &= (taken[labels] == 0) | ~(reserved | poor)
        if not allowed.any():
            free &= turn != turn[free].min()
            continue
        value = worth + _DISTANCE_WEIGHT * np.minimum(1, nearest) + _FRESH_WEIGHT * fresh
        best = int(np.argmax(np.where(allowed, value, -np.inf)))
        free[best] = False
        distance = float(nearest[best])
        if any(is_duplicate(hashes[best], hashes[other], distance) for other in chosen):
            continue
        chosen.append(best)
        if shots is not None:
            fresh &= shots != shots[best]
        taken[labels[best]] += 1
        nearest = np.minimum(nearest, distances(embeddings[best], embeddings))
    return chosen
