"""Which stills of a list a request wants: filters on lists made when a title was published.

A list without filters is served as it is stored. With filters it is parsed, which takes about as
long as ten plain answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Edited:
    """What editors have decided about a pool, by action ids."""

    banned: tuple[str, ...] = ()
    """Pictures that are not shown."""
    pinned: tuple[str, ...] = ()
    """Pictures that come first, in this order."""


UNEDITED: Final = Edited()
"""Nothing was decided."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """How a still looks that is shown beside others."""

    model: str
    """Id of what made the embedding."""
    embedding: list[float]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request wants of the stills of a list."""

    spoilers: bool = True
    """False leaves out the stills of the last fifth of the title."""
    faces: bool | None = None
    """True for stills with faces only, False for stills without; None for all."""
    exclude: frozenset[str] = frozenset()
    """Action ids to leave out."""
    min_width: int = 0
    """Width in pixels that the largest rendition has at least."""
    fields: tuple[str, ...] = ()
    """Names of features that the list is to have: members of the pool's candidates."""
    edited: Edited = UNEDITED

    def admits(self, still: Mapping[str, Any]) -> bool:
        """Tell whether the list may hold a still, which is a JSON object.

        Where nobody looked for faces, a still is neither with faces nor without.
        """
        return (
            (self.spoilers or not still["spoiler_zone"])
            and (
                self.faces is None
                or (still["faces"] is not None and bool(still["faces"]) is self.faces)
            )
            and still["action_id"] not in self.exclude
            and still["action_id"] not in self.edited.banned
            and max((one["width"] for one in still["renditions"]), default=0) >= self.min_width
        )

    def of(self, stored: bytes, k: int | None, pool: bytes | None = None) -> bytes:
        """Return a stored list with the first ``k`` stills that are wanted.

        ``pool`` is the whole ``artwork.json``, from which :attr:`fields` are taken.
        """
        document = json.loads(stored)
        every = document["candidates"]
        kept = [still for still in every if self.admits(still)]
        pins = self.edited.pinned
        kept.sort(
            key=lambda still: (
                pins.index(still["action_id"]) if still["action_id"] in pins else len(pins)
            )
        )
        document["candidates"] = kept[:k]
        document["filtered"] = len(every) - len(kept)
        if pool is not None and self.fields:
            whole = json.loads(pool)
            candidates = {one["id"]: one for one in whole["candidates"]}
            for still in document["candidates"]:
                candidate = candidates[still["id"]]
                still["features"] = {name: candidate.get(name) for name in self.fields}
                if "embedding" in self.fields:
                    still["features"]["embedding_model"] = whole["embedding_model"]
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def told_apart(
    text: bytes, before: Sequence[Neighbour], k: int, edited: Edited, *, with_looks: bool
) -> tuple[bytes, Neighbour | None]:
    """Return a list of stills with those behind that look like the stills shown before, cut after
    ``k``, and its own first still. Pinned stills stay first.

    ``text`` has all stills, with their embeddings; ``with_looks`` says whether these stay.
    """
    import numpy as np

    from recommender.policy.drawing import ALIKE

    document = json.loads(text)

    def is_alike(still: Mapping[str, Any]) -> bool:
        if still["action_id"] in edited.pinned:
            return False
        features = still["features"]
        looks = np.array(features["embedding"])
        return any(
            float(np.linalg.norm(looks - np.array(other.embedding))) < ALIKE
            for other in before
            if other.model == features["embedding_model"]
        )

    stills = sorted(document["candidates"], key=is_alike)[:k]
    first = None
    if stills:
        features = stills[0]["features"]
        first = Neighbour(features["embedding_model"], features["embedding"])
    if not with_looks:
        for still in stills:
            del still["features"]["embedding"], still["features"]["embedding_model"]
            if not still["features"]:
                del still["features"]
    document["candidates"] = stills
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(), first


EVERYTHING: Final = Wanted()
"""No filter."""
