"""Which operating points of a shot to measure for a table: a spread sample of them, pure.

Cells are drawn one after the other, so a larger sample holds the smaller one and nothing that was
measured is wasted when a table grows. Within the first ``k`` cells every size has the same number
(give or take one), sizes measured in one round lie at evenly spaced CRFs, and the CRFs of one
size follow a golden ratio sequence, which stays evenly spread however far it is drawn.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Sequence
from fractions import Fraction

from encoder.media import Request, Size
from ladder.profiles import Profile
from ladder.search.steps import TitleShape

_GOLDEN = (math.sqrt(5) - 1) / 2


def sparse_sample(
    title: TitleShape, profile: Profile, cells: int, seed: str
) -> tuple[Request, ...]:
    """``cells`` operating points of every shot, from the lowest to the highest CRF of the
    profile's grid in the codec's steps; all there are if that is fewer.

    Args:
        title: Its shots and sizes.
        profile: Whose CRF range is sampled.
        cells: Per shot, at least 1.
        seed: Same seed, same sample. Shots of a title draw on their own, by their frames, so a
            shot's sample does not depend on the other shots.

    Raises:
        ValueError: ``cells`` is not positive.
    """
    if cells < 1:
        raise ValueError(f"asked for {cells} cells a shot; at least 1 is needed")
    grid = profile.crf_grid[title.recipe.codec]
    low, high, step = grid[0], grid[-1], title.recipe.crf_step
    chosen = []
    for number, shot in enumerate(title.shots):
        digest = hashlib.sha256(f"{seed}/{shot.start}-{shot.end}".encode()).digest()
        drawn = spread(title.sizes, (low, high, step), cells, random.Random(digest))
        chosen += [(number, title.point(size, crf)) for size, crf in drawn]
    return tuple(sorted(chosen, key=lambda request: (request[0], request[1])))


def spread(
    sizes: Sequence[Size],
    crfs: tuple[float, float, float],
    cells: int,
    random_: random.Random,
) -> tuple[tuple[Size, float], ...]:
    """The first ``cells`` of a sequence over sizes and ``crfs``: lowest, highest, step."""
    low, high, step = crfs
    steps = int(Fraction(high - low) / Fraction(step)) + 1
    shift = random_.random()
    order = list(sizes)
    random_.shuffle(order)
    taken: dict[Size, set[int]] = {size: set() for size in sizes}
    found = []
    for number in range(min(cells, steps * len(order))):
        turn, rank = divmod(number, len(order))
        size = order[rank]
        place = shift + rank / len(order) + turn * _GOLDEN
        chosen = int(place % 1 * steps)
        while chosen in taken[size]:
            chosen = (chosen + 1) % steps
        taken[size].add(chosen)
        found.append((size, low + step * chosen))
    return tuple(found)
