"""What a service answers from a pool: the best renditions of one shape, without looking alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from encoder.errors import BadInput
from recommender.artwork.crops import ASPECTS
from recommender.artwork.descriptors import distances
from recommender.artwork.document import (
    Artwork,
    Candidate,
    Crop,
    SelectedArtwork,
    SelectedStill,
)

_DISTANCE_WEIGHT = 0.5
_SAME_CLUSTER = 0.3


@dataclass(frozen=True, slots=True)
class Selected:
    """A candidate and its crop in the shape that was asked for."""

    candidate: Candidate
    crop: Crop


def select(artwork: Artwork, aspect: str, k: int, diverse: bool = False) -> list[Selected]:
    """Up to ``k`` candidates of a pool, best first.

    Those for a smaller ``k`` are the first of those for a larger one, so that a service can keep
    one list of each aspect and cut it.

    Args:
        artwork: the pool.
        aspect: ``16:9``, ``2:3``, ``1:1`` or ``21:9``.
        k: how many at most.
        diverse: choose by quality and by distance to those already chosen, so that the few that
            are shown together differ; otherwise in the order of quality.

    Raises:
        BadInput: there is no such aspect, or ``k`` is not positive.
    """
    if aspect not in ASPECTS:
        raise BadInput(f"no aspect {aspect!r}; choose one of {', '.join(ASPECTS)}")
    if k < 1:
        raise BadInput(f"k is how many to choose, at least 1; got {k}")
    pool = artwork.candidates
    order = _diverse(pool, k) if diverse else sorted(pool, key=lambda one: (-one.quality, one.rank))
    return [
        Selected(one, next(crop for crop in one.crops if crop.aspect == aspect))
        for one in order[:k]
    ]


def answer(artwork: Artwork, aspect: str, k: int, diverse: bool = False) -> SelectedArtwork:
    """What a service answers to ``/artwork?aspect=&k=&diverse=``.

    Args:
        artwork: the pool.
        aspect: as in :func:`select`.
        k: as in :func:`select`.
        diverse: as in :func:`select`.

    Raises:
        BadInput: as :func:`select` does.
    """
    chosen = select(artwork, aspect, k, diverse)
    return SelectedArtwork.model_validate(
        {
            "pool": artwork.pool,
            "title_id": artwork.title.id,
            "aspect": aspect,
            "diverse": diverse,
            "of": len(artwork.candidates),
            "candidates": [_still(one.candidate, one.crop) for one in chosen],
        }
    )


def _still(one: Candidate, crop: Crop) -> SelectedStill:
    return SelectedStill(
        action_id=one.action_id,
        id=one.id,
        rank=one.rank,
        quality=one.quality,
        flags=one.flags,
        frame=one.frame,
        time_seconds=one.time_seconds,
        shot=one.shot,
        cluster=one.cluster,
        spoiler_zone=one.spoiler_zone,
        faces=None if one.faces is None else len(one.faces),
        title_side=one.title_side,
        focal_point=crop.focal_point,
        colours=one.colours,
        renditions=crop.renditions,
    )


def _diverse(pool: list[Candidate], k: int) -> list[Candidate]:
    vectors = np.array([one.embedding for one in pool], np.float32)
    quality = np.array([one.quality for one in pool], np.float32)
    clusters = np.array([one.cluster for one in pool])
    nearest = np.ones(len(pool), np.float32)
    penalty = np.zeros(len(pool), np.float32)
    free = np.ones(len(pool), bool)
    chosen: list[Candidate] = []
    while len(chosen) < min(k, len(pool)):
        value = quality + _DISTANCE_WEIGHT * nearest - penalty
        best = int(np.argmax(np.where(free, value, -np.inf)))
        free[best] = False
        chosen.append(pool[best])
        nearest = np.minimum(nearest, distances(vectors[best], vectors))
        penalty += np.where(clusters == clusters[best], _SAME_CLUSTER, 0).astype(np.float32)
    return chosen
