"""From measured stills to the pool: which are candidates, in which order, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np

from encoder.arrays import Float32, Int64
from encoder.media import Shot
from recommender.artwork.diversity import DIVERSITY_VERSION, choose, cluster
from recommender.artwork.filters import FILTERS_VERSION, Filtered, Shown, apply_filters
from recommender.artwork.quality import QUALITY_VERSION, all_percentiles, quality
from recommender.artwork.sampling import Stills

POOL_VERSION: Final = (1, FILTERS_VERSION, DIVERSITY_VERSION, QUALITY_VERSION)
"""Part of the store's keys: raise one when another pool comes of the same stills."""

MOST_SIZE: Final = 48
PER_SHOT, PER_SECOND = 1.25, 0.5
LEAST_SIZE, LEAST_SIZE_OF_LONG = 4, 12
SPOILER_PLACE: Final = 0.8
"""From here on a title is told to its end: a rule by time alone, not a judgement of content."""

_FLAGGED = 0.3


@dataclass(frozen=True, slots=True)
class Choice:
    """A candidate: a row of the stills."""

    row: int
    frame: int
    shot: int
    cluster: int
    quality: float
    flags: tuple[str, ...]
    """Filters that would have dropped it, had their quota allowed."""


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """The candidates of a title, best first, and how they came to be."""

    choices: tuple[Choice, ...]
    percentiles: Float32
    """(n stills, MEASURES)"""
    filtered: Filtered
    clusters: int
    """Of all stills that were not dropped; each has a candidate unless that is a duplicate of
    another's."""
    labels: Int64
    """(n stills,) cluster, -1 where dropped."""


def pool_size(shots: int, seconds: float) -> int:
    """How many candidates a title gets at most: by its shots, but a dozen from 24 s on. Each costs
    as much as encoding a few seconds, so a very short title gets few."""
    least = min(LEAST_SIZE_OF_LONG, max(LEAST_SIZE, round(PER_SECOND * seconds)))
    return min(MOST_SIZE, max(least, round(PER_SHOT * shots)))


def make_pool(stills: Stills, shots: Sequence[Shot], frames: int, frame_rate: Fraction) -> Pool:
    """Choose the candidates.

    Args:
        stills: of the title, at least one.
        shots: of the title, in order.
        frames: of the title.
        frame_rate: frames per second.
    """
    ranks = all_percentiles(stills)
    starts = np.array([shot.start for shot in shots])
    shot_of = np.searchsorted(starts, stills.frames, side="right") - 1
    worth = quality(stills, ranks, shot_of)
    filtered = apply_filters(Shown(stills, frames, frame_rate), worth)
    kept = np.flatnonzero(filtered.kept)
    size = pool_size(len(shots), float(frames / frame_rate))
    flagged = filtered.flagged[kept]
    found = cluster(stills.embeddings[kept], size)
    hashes = [int(value) for value in stills.hashes[kept]]
    rated = np.where(flagged, _FLAGGED * worth[kept], worth[kept]).astype(np.float32)
    of_shot = shot_of[kept]
    order = choose(rated, found, hashes, stills.embeddings[kept], size, flagged, of_shot)
    labels = np.full(len(stills), -1, np.int64)
    labels[kept] = found
    choices = tuple(
        Choice(
            row=int(kept[at]),
            frame=int(stills.frames[kept[at]]),
            shot=int(of_shot[at]),
            cluster=int(found[at]),
            quality=round(float(rated[at]), 4),
            flags=filtered.flags[kept[at]],
        )
        for at in order
    )
    return Pool(choices, ranks, filtered, int(found.max()) + 1, labels)
