"""Matches the candidates of a new pool with those of the old one, so that action ids survive.

Action ids are what a bandit has learned by. They must not change when a title is delivered again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from recommender.artwork.descriptors import hash_distance
from recommender.artwork.diversity import DUPLICATE_BITS
from recommender.artwork.document import Artwork, Candidate, Kept, Lineage

NEAR_SECONDS: Final = 2.0
"""Distance in time up to which pictures match by :data:`DUPLICATE_BITS`."""
FAR_BITS: Final = 4
"""Differing bits up to which pictures match at any distance in time, as a new cut of a title may be
shorter at its head."""


def follow(new: Artwork, old: Artwork) -> Artwork:
    """Return ``new`` with the action ids of ``old`` for the pictures that are in both.

    The same pixels are the same picture. Otherwise hashes decide: the nearest pairs match first,
    and each old candidate matches once. If both are the same pool, it keeps its lineage, so that a
    repeated run gives the same bytes.
    """
    if new.pool == old.pool:
        action_ids = {candidate.id: candidate.action_id for candidate in old.candidates}
        candidates = [
            candidate.model_copy(update={"action_id": action_ids[candidate.id]})
            for candidate in new.candidates
        ]
        return new.model_copy(update={"candidates": candidates, "replaces": old.replaces})
    match = _matches(new.candidates, old.candidates)
    continued = {predecessor.action_id for predecessor, _ in match.values()}
    candidates = []
    for candidate in new.candidates:
        if candidate.id in match:
            action_id = match[candidate.id][0].action_id
        elif candidate.id in continued:  # the id of an action that another picture continues
            action_id = f"{candidate.id}-{new.pool[:8]}"
        else:
            action_id = candidate.id
        candidates.append(candidate.model_copy(update={"action_id": action_id}))
    lineage = Lineage(
        pool=old.pool,
        title_id=old.title.id,
        kept=[
            Kept(
                action_id=candidate.action_id,
                old_id=match[candidate.id][0].id,
                new_id=candidate.id,
                hash_distance=match[candidate.id][1],
            )
            for candidate in candidates
            if candidate.id in match
        ],
        retired=sorted({candidate.action_id for candidate in old.candidates} - continued),
    )
    return new.model_copy(update={"candidates": candidates, "replaces": lineage})


def is_same_picture(one: str, other: str) -> bool:
    """Tell whether two perceptual hashes, as candidates have them, are surely of one picture."""
    return hash_distance(int(one, 16), int(other, 16)) <= FAR_BITS


def _matches(
    new: Sequence[Candidate], old: Sequence[Candidate]
) -> dict[str, tuple[Candidate, int]]:
    """Return the old candidate and its distance in bits by the ids of matching new candidates."""
    pairs = [
        (*distance, candidate, other)
        for candidate in new
        for other in old
        if (distance := _distance(candidate, other))
    ]
    match: dict[str, tuple[Candidate, int]] = {}
    matched: set[str] = set()
    for bits, _, candidate, other in sorted(pairs, key=lambda pair: pair[:2]):
        if candidate.id not in match and other.id not in matched:
            match[candidate.id] = other, bits
            matched.add(other.id)
    return match


def _distance(new: Candidate, old: Candidate) -> tuple[int, float] | None:
    """Return differing bits (-1 for the same pixels) and seconds; None for another picture."""
    if new.id == old.id:
        return -1, 0.0
    bits = hash_distance(int(new.perceptual_hash, 16), int(old.perceptual_hash, 16))
    seconds = abs(new.time_seconds - old.time_seconds)
    if bits <= FAR_BITS or (bits <= DUPLICATE_BITS and seconds <= NEAR_SECONDS):
        return bits, seconds
    return None
