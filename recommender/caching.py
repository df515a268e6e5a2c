"""Which files to keep in a cache of limited size: those with the most expected value per byte.

What a file is worth depends on who asks (:class:`Objective`). A player wants quality x seconds. A
CDN pays for the bytes that its cache does not hold; its viewers wait for the requests that miss,
above all for the first ones. Choosing greedily by value per byte solves the knapsack problem
exactly up to the one file that no longer fits, and files are small compared with caches. Where a
player's quality counts, a file may need others to be of use (a segment needs its init segment and
the audio); those come first. A cache's objectives count every request by itself.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from encoder.arrays import Float64
from encoder.errors import BadInput

START_WEIGHT: Final = 8.0
"""Weight of the files that a title starts with, which keeps nearly all starts in a cache for a
hundredth of its bytes."""
START_WEIGHT_SECONDS: Final = 16.0
"""Seconds of a title from its beginning whose files count as its start."""


class Objective(StrEnum):
    """What a cache is to have as much of as possible."""

    QUALITY = "quality"
    """Quality x seconds that viewers see from the cache: what a player wants."""
    OFFLOAD = "offload"
    """Bytes streamed from the cache: what a CDN does not pay the origin for."""
    OFFLOAD_NET = "offload-net"
    """The same less the bytes that fill the cache. Files that are expected to be asked for less
    than once are left out."""
    HITS = "hits"
    """Requests answered from the cache."""
    STARTS = "starts"
    """Requests for the first seconds of titles that are answered from the cache; later files are
    left out."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What a file in a cache is worth.

    Raises:
        BadInput: a weight is not positive, or the objective does not know it.
    """

    objective: Objective = Objective.OFFLOAD
    start_weight: float = 1.0
    """How many requests for another file one request for a file of the start is worth."""
    start_seconds: float = START_WEIGHT_SECONDS
    """Files of shots that begin earlier in the title belong to its start."""

    def __post_init__(self) -> None:
        if not 0 < self.start_weight < float("inf"):
            raise BadInput(
                f"the start weight is {self.start_weight}; give a positive number, such as "
                f"{START_WEIGHT:g}"
            )
        if not 0 < self.start_seconds < float("inf"):
            raise BadInput(f"a start of {self.start_seconds} s is none; give a positive number")
        weighted = self.objective not in (Objective.QUALITY, Objective.STARTS)
        if self.start_weight != 1 and not weighted:
            raise BadInput(
                f"the objective {self.objective} has no start weight; use it with "
                f"{Objective.OFFLOAD}, {Objective.OFFLOAD_NET} or {Objective.HITS}"
            )

    @property
    def least_density(self) -> float:
        """Density of all plays from which a file is worth its place."""
        return 1.0 if self.objective is Objective.OFFLOAD_NET else 0.0

    def densities(self, num_bytes: Float64, start_seconds: Float64, requests: Float64) -> Float64:
        """Return what files are worth per byte for one play, by a cache's objective.

        Args:
            num_bytes: size of each file.
            start_seconds: where each file begins in its title.
            requests: expected requests for each file by one play of its title.

        Raises:
            ValueError: the objective is quality, which requests do not tell.
        """
        if self.objective is Objective.QUALITY:
            raise ValueError("requests do not tell what quality a file gives")
        is_start = start_seconds < self.start_seconds
        if self.objective is Objective.STARTS:
            return np.where(is_start, requests, 0.0) / np.maximum(num_bytes, 1.0)
        weighted = np.where(is_start, self.start_weight * requests, requests)
        if self.objective is Objective.HITS:
            return np.asarray(weighted / np.maximum(num_bytes, 1.0))
        return weighted


@dataclass(frozen=True, slots=True)
class CacheFile:
    """A file that may be kept in a cache."""

    bytes: int
    value: float
    """Quality x seconds that one play takes from the file."""
    needs: tuple[int, ...] = ()
    """Indices of the files without which this one is useless; they precede it."""


@dataclass(frozen=True, slots=True)
class RankedFile:
    """A file in the cache plan of one title."""

    uri: str
    """Path relative to the title's package."""
    bytes: int
    sha256: str
    density: float
    """Value per byte for one play of the title: quality x seconds, or what :class:`Goal` says."""


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A file in a cache plan over several titles."""

    title: str
    """Name under which the caller passed the title."""
    uri: str
    """Path relative to the title's package."""
    bytes: int
    sha256: str
    density: float
    """Value per byte, multiplied by the title's popularity."""
    total_bytes: int
    """Size of the plan up to and including this file."""


def order_by_value(files: Sequence[CacheFile]) -> list[tuple[int, float]]:
    """Return the indices and densities (value per byte) of files, by falling density.

    A file that others need precedes them and is at least as dense. If its own bytes give it less
    (an init segment that is larger than a tiny media segment), it gets the density of the densest
    file that needs it.

    Raises:
        ValueError: a file needs one that does not precede it in ``files``.
    """
    density = [file.value / file.bytes if file.bytes else 0.0 for file in files]
    depth = [0] * len(files)
    for at, file in enumerate(files):
        for need in file.needs:
            if need >= at:
                raise ValueError(f"file {at} needs file {need}, which must precede it")
            depth[at] = max(depth[at], depth[need] + 1)
    for at in reversed(range(len(files))):
        for need in files[at].needs:
            density[need] = max(density[need], density[at])
    order = sorted(range(len(files)), key=lambda at: (-density[at], depth[at], at))
    return [(at, density[at]) for at in order]


def plan_cache(
    titles: Mapping[str, Iterable[RankedFile]],
    popularity: Mapping[str, float],
    budget_bytes: int | None = None,
    least_density: float = 0.0,
) -> Iterator[PlannedFile]:
    """Yield files of several titles, the most valuable per byte first, until the budget is spent.

    A file that occurs in two titles (the same bytes) counts once, where it is most valuable.

    Args:
        titles: files of each title by falling density, as
            :meth:`recommender.prefetch.document.Prefetch.ranked_files` and
            :func:`recommender.prefetch.demand.ranked_by` return them.
        popularity: expected plays by the same names, in any unit. A title that is not listed
            counts as never played and is left out.
        budget_bytes: size of the cache; None for all files.
        least_density: files whose density is not above it are left out; popularity then has to be
            the number of plays while the plan stands.

    Raises:
        BadInput: a popularity is negative or belongs to no title.
    """
    for name, plays in popularity.items():
        if name not in titles:
            raise BadInput(
                f"popularity of {name!r}: there is no such title; use one of "
                f"{', '.join(sorted(titles)[:5])}"
            )
        if not 0 <= plays < float("inf"):
            raise BadInput(f"popularity of {name!r} is {plays}; give 0 or more expected plays")
    ranked = [_by_plays(name, titles[name], plays) for name, plays in popularity.items() if plays]
    total_bytes, seen = 0, set[str]()
    for density, name, _, file in heapq.merge(*ranked, key=lambda entry: (-entry[0], *entry[1:3])):
        if density <= least_density:
            return
        if file.sha256 in seen:
            continue
        if budget_bytes is not None and total_bytes + file.bytes > budget_bytes:
            return
        seen.add(file.sha256)
        total_bytes += file.bytes
        yield PlannedFile(name, file.uri, file.bytes, file.sha256, density, total_bytes)


def _by_plays(
    name: str, files: Iterable[RankedFile], plays: float
) -> Iterator[tuple[float, str, int, RankedFile]]:
    """Yield (density over all plays, title, rank in the title, file)."""
    for rank, file in enumerate(files):
        yield plays * file.density, name, rank, file
