"""Which old candidate a new one is: action ids survive when a title is delivered again."""

from __future__ import annotations

from typing import Final

from recommender.artwork.descriptors import hash_distance
from recommender.artwork.diversity import DUPLICATE_BITS
from recommender.artwork.document import Artwork, Candidate, Kept, Lineage

NEAR_SECONDS: Final = 2.0
"""A new cut of a title may be shorter at its head; pictures further apart in time must be nearer
in content."""
FAR_BITS: Final = 4


def follow(new: Artwork, old: Artwork) -> Artwork:
    """``new`` with the action ids of ``old`` where it has the same pictures.

    The same pixels are the same picture; else hashes decide, nearest pairs first, each old
    candidate once. The same pool keeps the lineage that it had, so that a run repeated gives the
    same bytes.
    """
    if new.pool == old.pool:
        names = {one.id: one.action_id for one in old.candidates}
        same = [one.model_copy(update={"action_id": names[one.id]}) for one in new.candidates]
        return new.model_copy(update={"candidates": same, "replaces": old.replaces})
    pairs = sorted(
        (pair for one in new.candidates for other in old.candidates if (pair := _pair(one, other))),
        key=lambda pair: pair[:2],
    )
    match: dict[str, tuple[Candidate, int]] = {}
    used: set[str] = set()
    for bits, _, one, other in pairs:
        if one.id not in match and other.id not in used:
            match[one.id] = other, bits
            used.add(other.id)
    taken = {other.action_id for other, _ in match.values()}
    candidates = [
        one.model_copy(
            update={
                "action_id": match[one.id][0].action_id
                if one.id in match
                # The name of an action that another picture goes on with cannot be used again.
                else (one.id if one.id not in taken else f"{one.id}-{new.pool[:8]}")
            }
        )
        for one in new.candidates
    ]
    lineage = Lineage(
        pool=old.pool,
        title_id=old.title.id,
        kept=[
            Kept(
                action_id=one.action_id,
                old_id=match[one.id][0].id,
                new_id=one.id,
                hash_distance=match[one.id][1],
            )
            for one in candidates
            if one.id in match
        ],
        retired=sorted(other.action_id for other in old.candidates if other.action_id not in taken),
    )
    return new.model_copy(update={"candidates": candidates, "replaces": lineage})


def _pair(new: Candidate, old: Candidate) -> tuple[int, float, Candidate, Candidate] | None:
    if new.id == old.id:
        return -1, 0.0, new, old
    bits = hash_distance(int(new.perceptual_hash, 16), int(old.perceptual_hash, 16))
    apart = abs(new.time_seconds - old.time_seconds)
    if bits <= FAR_BITS or (bits <= DUPLICATE_BITS and apart <= NEAR_SECONDS):
        return bits, apart, new, old
    return None
