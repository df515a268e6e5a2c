"""Which files to keep in a cache of limited size: those with the most expected quality per byte.

The value of a file is the quality x seconds that plays take from it. Choosing greedily by value per
byte solves the knapsack problem exactly up to the one file that no longer fits, and files are small
compared with caches. A file may need others to be of use (a segment needs its init segment and the
audio); those come first.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from encoder.errors import BadInput


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
    """Expected quality x seconds per byte for one play of the title."""


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
    """Expected quality x seconds per byte, multiplied by the title's popularity."""
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
) -> Iterator[PlannedFile]:
    """Yield files of several titles, the most valuable per byte first, until the budget is spent.

    A file that occurs in two titles (the same bytes) counts once, where it is most valuable.

    Args:
        titles: files of each title by falling density, as
            :meth:`recommender.prefetch.document.Prefetch.ranked_files` yields them.
        popularity: expected plays by the same names, in any unit. A title that is not listed
            counts as never played and is left out.
        budget_bytes: size of the cache; None for all files.

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
