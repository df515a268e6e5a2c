"""Which files to keep in a cache of limited size: those with the most expected quality per byte.

A file's value is the quality x seconds that plays take from it. Greedy by value per byte is the
optimum of the knapsack up to the one file that no longer fits, and files are small against caches.
A file may need others to be of use (a segment its init segment and the sound); they come first.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from encoder.errors import BadInput

if TYPE_CHECKING:
    from recommender.prefetch import Prefetch


@dataclass(frozen=True, slots=True)
class Fetch:
    """A file that may be kept."""

    bytes: int
    value: float
    """Quality x seconds that one play takes from it."""
    needs: tuple[int, ...] = ()
    """Positions of files without which it is of no use; they need less than it does."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A file in a plan over several titles."""

    title: str
    """By the name that its consumer gave it."""
    uri: str
    """Relative to the title's package."""
    bytes: int
    sha256: str
    density: float
    """Expected quality x seconds per byte, popularity included."""
    total_bytes: int
    """Of the plan up to and with this file."""


def order_by_value(files: Sequence[Fetch]) -> list[tuple[int, float]]:
    """Positions of files and their densities (value per byte), falling, needs before dependents.

    What a file needs is at least as dense as the file itself: where its own bytes say less (an
    init larger than a tiny segment), it is lifted to the density of the densest that needs it.
    """
    density = [file.value / file.bytes if file.bytes else 0.0 for file in files]
    depth = [0] * len(files)
    for at in range(len(files)):
        for need in files[at].needs:
            if need >= at:
                raise ValueError(f"file {at} needs file {need}, which has to stand before it")
            depth[at] = max(depth[at], depth[need] + 1)
    for at in reversed(range(len(files))):
        for need in files[at].needs:
            density[need] = max(density[need], density[at])
    order = sorted(range(len(files)), key=lambda at: (-density[at], depth[at], at))
    return [(at, density[at]) for at in order]


def plan_cache(
    titles: Mapping[str, Prefetch],
    popularity: Mapping[str, float],
    budget_bytes: int | None = None,
) -> Iterator[Planned]:
    """Files of several titles in the order in which keeping them pays, until the budget is spent.

    A file that is listed by two titles (the same bytes) is counted once, where it pays most.

    Args:
        titles: manifests by the names that the consumer uses.
        popularity: expected plays by the same names, in any unit; a title that is not in it has
            none and is left out.
        budget_bytes: size of the cache; None for all files.

    Raises:
        BadInput: a popularity is negative or of a title that is not there.
    """
    for name, plays in popularity.items():
        if name not in titles:
            raise BadInput(
                f"popularity of {name!r} given, but no such title; titles are "
                f"{', '.join(sorted(titles)[:5])}"
            )
        if not 0 <= plays < float("inf"):
            raise BadInput(f"popularity of {name!r} is {plays}; give 0 or more expected plays")
    ranked = [_scaled(name, titles[name], plays) for name, plays in popularity.items() if plays]
    total, seen = 0, set[str]()
    for density, _, name, (uri, size, sha256) in heapq.merge(
        *ranked, key=lambda entry: (-entry[0], entry[2], entry[1])
    ):
        if sha256 in seen:
            continue
        if budget_bytes is not None and total + size > budget_bytes:
            return
        seen.add(sha256)
        total += size
        yield Planned(name, uri, size, sha256, density, total)


def _scaled(
    name: str, title: Prefetch, plays: float
) -> Iterator[tuple[float, int, str, tuple[str, int, str]]]:
    tracks = {rung.name: (rung.init, rung.segments) for rung in title.rungs}
    for place, entry in enumerate(title.cache_plan):
        if entry.track == "audio" and title.audio is not None:
            file = (
                title.audio.init if entry.segment is None else title.audio.segments[entry.segment]
            )
        else:
            init, segments = tracks[entry.track]
            file = init if entry.segment is None else segments[entry.segment]
        yield plays * entry.density, place, name, (file.uri, file.bytes, file.sha256)
