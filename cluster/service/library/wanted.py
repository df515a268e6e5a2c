"""Which stills of a list a request wants: filters on lists made when a title was published.

A list without filters is served as it is stored. With filters it is parsed, which takes about as
long as ten plain answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final


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
            and max((one["width"] for one in still["renditions"]), default=0) >= self.min_width
        )

    def of(self, stored: bytes, k: int | None) -> bytes:
        """Return a stored list with the first ``k`` stills that are wanted."""
        document = json.loads(stored)
        every = document["candidates"]
        kept = [still for still in every if self.admits(still)]
        document["candidates"] = kept[:k]
        document["filtered"] = len(every) - len(kept)
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


EVERYTHING: Final = Wanted()
"""No filter."""
