"""Which operating points of a shot one process encodes and scores.

Points of one process share the decoding of the reference, its conversion for VMAF, and the scaling
to each of their sizes. So the points of a shot stay together, whatever their sizes are, up to a
bound on the memory of a process. They are divided further only where workers would otherwise have
nothing to do at the end of a round.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby

from encoder.media import OperatingPoint, Request

MAX_GROUP_PIXELS = 12_000_000
"""Maximum sum of frame sizes of the points that one process encodes and scores together. Nine
1080p points (18.7 million) were measured to take 3.3 GB, mostly encoders' lookahead and frames in
queues."""
MAX_SCORED_PIXELS = 36_000_000
"""Maximum sum of frame sizes that one process scores together, where every encode is as large as
the title. Nine 1080p points (18.7 million) were measured to take 1.1 GB."""
GROUPS_PER_SLOT = 2
"""Least number of groups per slot, where there are enough points: what groups cost is an
estimate."""
IDLE_SHARE = 0.05
"""Largest share of its own time by which a round may be longer for points that stay together."""

Group = tuple[int, tuple[OperatingPoint, ...]]
"""Number of a shot, and the points of it that one process encodes and scores."""
Cost = Callable[[Request], float]
"""Expected CPU seconds of encoding and scoring a point."""


def group_points(
    requests: Sequence[Request], display_pixels: int, slots: int, cost: Cost
) -> Iterator[Group]:
    """Yield the points of each shot that one process encodes and scores, by shot and size.

    Args:
        requests: Points to measure in this round.
        display_pixels: Size of a frame of the title, at which encodes are scored.
        slots: Number of groups that run at the same time.
        cost: Expected cost of a point.
    """
    groups = [
        group
        for _, requested in groupby(sorted(requests), key=lambda request: request[0])
        for group in _within_memory(list(requested), display_pixels)
    ]
    if slots > 1:
        groups = _divided(groups, slots, cost)
    for group in sorted(groups):
        yield group[0][0], tuple(point for _, point in group)


def _within_memory(requests: Sequence[Request], display_pixels: int) -> Iterator[list[Request]]:
    """Divide the points of one shot among as few processes as their memory allows.

    Points of one size stay together where they can.
    """
    most = max(1, MAX_SCORED_PIXELS // display_pixels)
    group: list[Request] = []
    pixels = 0
    for request in requests:
        own = request[1].width * request[1].height
        if group and (len(group) == most or pixels + own > MAX_GROUP_PIXELS):
            yield group
            group, pixels = [], 0
        group.append(request)
        pixels += own
    yield group


def _divided(groups: Sequence[list[Request]], slots: int, cost: Cost) -> list[list[Request]]:
    """Divide the longest groups until all slots end a round at about the same time.

    Where they cannot, because points are few or unequal, no group is divided in vain.
    """
    costs = {request: cost(request) for group in groups for request in group}
    shortest_round = max([sum(costs.values()) / slots, *costs.values()])

    def length(group: Sequence[Request]) -> float:
        return sum(costs[request] for request in group)

    division = sorted(groups, key=length, reverse=True)
    tried = [(_seconds(list(map(length, division)), slots), division)]
    while any(len(group) > 1 for group in division) and (
        len(division) < GROUPS_PER_SLOT * slots or tried[-1][0] > (1 + IDLE_SHARE) * shortest_round
    ):
        longest = next(group for group in division if len(group) > 1)
        rest = [group for group in division if group is not longest]
        division = sorted([*rest, *_halves(longest, costs)], key=length, reverse=True)
        tried.append((_seconds(list(map(length, division)), slots), division))
    enough = [each for each in tried if len(each[1]) >= GROUPS_PER_SLOT * slots] or tried[-1:]
    least = min(seconds for seconds, _ in enough)
    return next(each for seconds, each in enough if seconds <= (1 + IDLE_SHARE) * least)


def _seconds(lengths: Sequence[float], slots: int) -> float:
    """Return how long groups take where each slot that is free takes the longest that is left."""
    ends = [0.0] * slots
    for each in lengths:
        heapq.heapreplace(ends, ends[0] + each)
    return max(ends)


def _halves(
    group: Sequence[Request], costs: dict[Request, float]
) -> tuple[list[Request], list[Request]]:
    """Divide a group of two points or more in two that cost about the same."""
    total, before = sum(costs[request] for request in group), 0.0
    for number, request in enumerate(group[:-1], 1):
        before += costs[request]
        if number == len(group) - 1 or 2 * before + costs[group[number]] > total:
            break
    return list(group[:number]), list(group[number:])
