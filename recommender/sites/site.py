"""A site: planned files, and a pull cache in what they leave free.

A planned file is kept from the first request for it, or from when it is pulled ahead, until a plan
drops it; then the pull cache has it. A plan that takes a file over which the pull cache holds pays
nothing for it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from encoder.arrays import Int64, Mask
from recommender.sites.filling import FillPlan
from recommender.sites.pulling import S3FIFO, PullCache


class Site:
    """Holds files by their positions in ``num_bytes``, at most ``capacity`` bytes of them."""

    def __init__(
        self, num_bytes: Int64, capacity: int, pull: Callable[[int], PullCache] = S3FIFO
    ) -> None:
        self.capacity = capacity
        self._num_bytes = num_bytes
        self._pull = pull(capacity)
        self._kept: dict[int, int] = {}  # planned files that are there, and their bytes
        self._kept_bytes = 0
        self._awaited: set[int] = set()  # planned files that are not there

    def request(self, file: int, num_bytes: int) -> bool:
        """Ask for a file; True if the site has it."""
        if file in self._kept:
            return True
        if file in self._awaited:
            self._awaited.discard(file)
            self._kept[file] = num_bytes
            self._kept_bytes += num_bytes
            self._pull.resize(self.capacity - self._kept_bytes)
            return False
        return self._pull.request(file, num_bytes)

    def held(self) -> Mask:
        """Return a mask of the files that the site has."""
        mask = np.zeros(len(self._num_bytes), np.bool_)
        mask[list(self._kept)] = True
        mask[self._pull.held()] = True
        return mask

    def follow(self, plan: FillPlan) -> int:
        """Keep what a plan says from now on; return the bytes that are pulled ahead."""
        planned = plan.keep.tolist()
        was, self._kept, awaited = self._kept, {}, set()
        sizes = self._num_bytes[plan.keep].tolist()
        for file, num_bytes in zip(planned, sizes, strict=True):
            if was.pop(file, None) is not None or self._pull.take(file):
                self._kept[file] = num_bytes
            else:
                awaited.add(file)
        ahead = plan.ahead.tolist()
        filled = 0
        for file, num_bytes in zip(ahead, self._num_bytes[plan.ahead].tolist(), strict=True):
            if file in awaited:
                awaited.discard(file)
                self._kept[file] = num_bytes
                filled += num_bytes
        self._awaited, self._kept_bytes = awaited, sum(self._kept.values())
        self._pull.resize(self.capacity - self._kept_bytes)
        for file, num_bytes in was.items():
            self._pull.give(file, num_bytes)
        return filled
