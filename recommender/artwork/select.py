"""Selects a few candidates of a pool, as a service answers them."""

from __future__ import annotations

from collections.abc import Sequence
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
    """A candidate with its crop of the requested aspect."""

    candidate: Candidate
    crop: Crop


def select(artwork: Artwork, aspect: str, k: int, diverse: bool = False) -> list[Selected]:
    """Return up to ``k`` candidates of a pool, best first.

    The result for a smaller ``k`` is the beginning of that for a larger one, so that a service can
    keep one list per aspect and cut it. A ``diverse`` choice is by quality and by distance to the
    candidates chosen before, so that candidates shown together differ; otherwise by quality alone.

    Raises:
        BadInput: there is no such aspect, or ``k`` is not positive.
    """
    if aspect not in ASPECTS:
        raise BadInput(f"unknown aspect {aspect!r}; choose one of {', '.join(ASPECTS)}")
    if k < 1:
        raise BadInput(f"k, the number of candidates, is {k}; give 1 or more")
    if diverse:
        order = _diverse(artwork.candidates, k)
    else:
        order = sorted(artwork.candidates, key=lambda still: (-still.quality, still.rank))
    return [
        Selected(still, next(crop for crop in still.crops if crop.aspect == aspect))
        for still in order[:k]
    ]


def answer(artwork: Artwork, aspect: str, k: int, diverse: bool = False) -> SelectedArtwork:
    """Return what a service answers to ``/artwork?aspect=&k=&diverse=``.

    Arguments and errors are those of :func:`select`.
    """
    selected = select(artwork, aspect, k, diverse)
    return SelectedArtwork.model_validate(
        {
            "pool": artwork.pool,
            "title_id": artwork.title.id,
            "aspect": aspect,
            "diverse": diverse,
            "of": len(artwork.candidates),
            "candidates": [_still(still.candidate, still.crop) for still in selected],
        }
    )


def _still(candidate: Candidate, crop: Crop) -> SelectedStill:
    return SelectedStill(
        action_id=candidate.action_id,
        id=candidate.id,
        rank=candidate.rank,
        quality=candidate.quality,
        flags=candidate.flags,
        frame=candidate.frame,
        time_seconds=candidate.time_seconds,
        shot=candidate.shot,
        cluster=candidate.cluster,
        spoiler_zone=candidate.spoiler_zone,
        faces=None if candidate.faces is None else len(candidate.faces),
        title_side=candidate.title_side,
        focal_point=crop.focal_point,
        colours=candidate.colours,
        renditions=crop.renditions,
    )


def _diverse(candidates: Sequence[Candidate], k: int) -> list[Candidate]:
    """Choose greedily by quality and by distance to the candidates chosen before."""
    embeddings = np.array([candidate.embedding for candidate in candidates], np.float32)
    quality = np.array([candidate.quality for candidate in candidates], np.float32)
    clusters = np.array([candidate.cluster for candidate in candidates])
    nearest = np.ones(len(candidates), np.float32)
    penalty = np.zeros(len(candidates), np.float32)
    free = np.ones(len(candidates), bool)
    chosen: list[Candidate] = []
    while len(chosen) < min(k, len(candidates)):
        value = quality + _DISTANCE_WEIGHT * nearest - penalty
        best = int(np.argmax(np.where(free, value, -np.inf)))
        free[best] = False
        chosen.append(candidates[best])
        nearest = np.minimum(nearest, distances(embeddings[best], embeddings))
        penalty += np.where(clusters == clusters[best], _SAME_CLUSTER, 0).astype(np.float32)
    return chosen
