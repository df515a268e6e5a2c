"""Selects a few candidates of a pool, as a service answers them.

There is one order. Without a shape it is the candidates' ``rank``; in a shape it is the ``rank`` of
their crops (:func:`recommender.artwork.build.rank_crops`), which is the same order where crops
lose nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from encoder.errors import BadInput
from recommender.artwork.crops import ASPECTS
from recommender.artwork.document import (
    Artwork,
    Candidate,
    Crop,
    SelectedArtwork,
    SelectedStill,
)


@dataclass(frozen=True, slots=True)
class Selected:
    """A candidate with its crop of the requested aspect."""

    candidate: Candidate
    crop: Crop


def select(artwork: Artwork, aspect: str, k: int | None = None) -> list[Selected]:
    """Return up to ``k`` candidates of a pool that can be shown in a shape, best first.

    The result for a smaller ``k`` is the beginning of that for a larger one, so that a service can
    keep one list per aspect and cut it. Packages of earlier releases lack some shapes, and their
    crops have no ranks: those of the candidates stand for them.

    Raises:
        BadInput: there is no such aspect, or ``k`` is not positive.
    """
    if aspect not in ASPECTS:
        raise BadInput(f"unknown aspect {aspect!r}; choose one of {', '.join(ASPECTS)}")
    if k is not None and k < 1:
        raise BadInput(f"k, the number of candidates, is {k}; give 1 or more")
    usable = [
        Selected(still, crop)
        for still in artwork.candidates
        for crop in still.crops
        if crop.aspect == aspect and crop.usable
    ]
    usable.sort(key=lambda one: one.candidate.rank if one.crop.rank is None else one.crop.rank)
    return usable[:k]


def answer(artwork: Artwork, aspect: str, k: int | None = None) -> SelectedArtwork:
    """Return what a service answers to ``/artwork?aspect=&k=``.

    Arguments and errors are those of :func:`select`.
    """
    usable = select(artwork, aspect)
    selected = select(artwork, aspect, k)
    return SelectedArtwork.model_validate(
        {
            "pool": artwork.pool,
            "title_id": artwork.title.id,
            "aspect": aspect,
            "order": "rank",
            "of": len(artwork.candidates),
            "unusable": len(artwork.candidates) - len(usable),
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
        shot_scale=candidate.shot_scale,
        title_side=crop.title_side or candidate.title_side,
        title_space=crop.title_space,
        focal_point=crop.focal_point,
        colours=candidate.colours,
        blurhash=crop.blurhash,
        renditions=crop.renditions,
    )
