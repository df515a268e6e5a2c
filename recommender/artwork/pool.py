"""Chooses the artwork pool from measured stills: which are candidates, in which order, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np

from encoder.arrays import Float32, Int64
from encoder.media import Shot
from recommender.artwork.diversity import DIVERSITY_VERSION, choose, cluster
from recommender.artwork.filters import FILTERS_VERSION, Filtered, TitleStills, apply_filters
from recommender.artwork.quality import QUALITY_VERSION, all_percentiles, quality
from recommender.artwork.stills import Stills

POOL_VERSION: Final = (1, FILTERS_VERSION, DIVERSITY_VERSION, QUALITY_VERSION)
"""Part of the store keys. Raise one of them when the same stills give another pool."""

MAX_SIZE: Final = 48
PER_SHOT, PER_SECOND = 1.25, 0.5
MIN_SIZE, MIN_SIZE_OF_LONG = 4, 12

# Factor on the quality of flagged stills.
_FLAGGED = 0.3


@dataclass(frozen=True, slots=True)
class ChosenStill:
    """A still that is a candidate."""

    row: int
    """Index of the still among the title's stills."""
    frame: int
    shot: int
    cluster: int
    quality: float
    flags: tuple[str, ...]
    """Names of the filters that found the still but had used up their quota."""


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """The candidates of a title, best first, and how they came to be."""

    chosen: tuple[ChosenStill, ...]
    percentiles: Float32
    """Percentiles of all measures, (number of stills, len(MEASURES))."""
    filtered: Filtered
    clusters: int
    """Number of clusters of the stills that were not dropped. Each of them has a candidate, unless
    all of its stills are duplicates of another cluster's."""
    labels: Int64
    """Cluster of each still, -1 if it was dropped, (number of stills,)."""


def pool_size(shots: int, seconds: float) -> int:
    """Return how many candidates a title gets at most.

    The number grows with the shots and is at least 12 from 24 s on. A very short title gets fewer,
    because each candidate costs as much as encoding a few seconds.
    """
    min_size = min(MIN_SIZE_OF_LONG, max(MIN_SIZE, round(PER_SECOND * seconds)))
    return min(MAX_SIZE, max(min_size, round(PER_SHOT * shots)))


def make_pool(stills: Stills, shots: Sequence[Shot], frames: int, frame_rate: Fraction) -> Pool:
    """Choose the candidates of a title with at least one still."""
    ranks = all_percentiles(stills)
    starts = np.array([shot.start for shot in shots])
    shot_of = np.searchsorted(starts, stills.frames, side="right") - 1
    qualities = quality(stills, ranks, shot_of)
    filtered = apply_filters(TitleStills(stills, frames, frame_rate), qualities)
    kept = np.flatnonzero(filtered.kept)
    size = pool_size(len(shots), float(frames / frame_rate))
    flagged = filtered.flagged[kept]
    clusters = cluster(stills.embeddings[kept], size)
    hashes = [int(value) for value in stills.hashes[kept]]
    rated = np.where(flagged, _FLAGGED * qualities[kept], qualities[kept]).astype(np.float32)
    order = choose(rated, clusters, hashes, stills.embeddings[kept], size, flagged, shot_of[kept])
    labels = np.full(len(stills), -1, np.int64)
    labels[kept] = clusters
    chosen = tuple(
        ChosenStill(
            row=int(kept[at]),
            frame=int(stills.frames[kept[at]]),
            shot=int(shot_of[kept[at]]),
            cluster=int(clusters[at]),
            quality=round(float(rated[at]), 4),
            flags=filtered.flags[kept[at]],
        )
        for at in order
    )
    return Pool(chosen, ranks, filtered, int(clusters.max()) + 1, labels)
