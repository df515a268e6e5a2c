"""Upper convex hulls in the rate-quality plane.

Only the part of the hull that matters for choosing is kept: from the point with the fewest bits
to the one with the highest quality. Along it quality rises strictly and slopes (quality per bit)
fall strictly from vertex to vertex. The algorithm is Andrew's monotone chain; slopes are compared
as computed, so the result of :func:`slopes` is strictly falling in floating point too.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence


def pareto(bits: Sequence[float], quality: Sequence[float]) -> list[int]:
    """Return the indices of the points that no other point beats, by ascending bits.

    A point is beaten by one with no more bits and no less quality. The first of equal points is
    kept.
    """
    kept: list[int] = []
    for index in sorted(range(len(bits)), key=lambda i: (bits[i], -quality[i], i)):
        if not kept or quality[index] > quality[kept[-1]]:
            kept.append(index)
    return kept


def upper_hull(bits: Sequence[float], quality: Sequence[float]) -> list[int]:
    """Return the indices of the hull's vertices by ascending bits, without points on edges."""
    return hull_of_pareto(bits, quality, pareto(bits, quality))


def hull_of_pareto(
    bits: Sequence[float], quality: Sequence[float], unbeaten: Sequence[int]
) -> list[int]:
    """Return what :func:`upper_hull` does, given the result of :func:`pareto` as ``unbeaten``."""
    hull: list[int] = []
    edges: list[float] = []
    for index in unbeaten:
        while hull:
            last = hull[-1]
            slope = (quality[index] - quality[last]) / (bits[index] - bits[last])
            if not edges or slope < edges[-1]:
                edges.append(slope)
                break
            hull.pop()
            edges.pop()
        hull.append(index)
    return hull


def slopes(bits: Sequence[float], quality: Sequence[float], hull: Sequence[int]) -> list[float]:
    """Return the quality per bit along each edge of ``hull``, one fewer than it has vertices."""
    return [(quality[b] - quality[a]) / (bits[b] - bits[a]) for a, b in itertools.pairwise(hull)]
