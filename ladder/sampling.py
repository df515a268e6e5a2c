"""Which operating points of a shot to measure for a training table: an evenly spread sample. Pure.

Cells are drawn one after the other, so a larger sample contains the smaller one and no measurement
is wasted when a table grows. Within the first ``k`` cells every size has the same number of them,
give or take one. Cells of one round lie at evenly spaced CRFs, and the CRFs of one size follow a
golden ratio sequence, which is evenly spread at every length.
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
    """Draw ``cells`` operating points of every shot, or all of them if there are fewer.

    CRFs go from the lowest to the highest of the profile's grid, in steps of the codec.

    Args:
        title: Shots and sizes to sample.
        profile: Profile whose CRF range is sampled.
        cells: Number of cells per shot, at least 1.
        seed: Equal seeds give equal samples. Every shot draws by itself, by its frames, so its
            sample does not depend on the other shots.

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
    """Return the first ``cells`` of a sequence over sizes and CRFs.

    ``crfs`` are the lowest CRF, the highest and the step.
    """
    low, high, step = crfs
    steps = int(Fraction(high - low) / Fraction(step)) + 1
    shift = random_.random()
    order = list(sizes)
    random_.shuffle(order)
    taken: dict[Size, set[int]] = {size: set() for size in sizes}
    cells_drawn = []
    for number in range(min(cells, steps * len(order))):
        turn, rank = divmod(number, len(order))
        size = order[rank]
        position = shift + rank / len(order) + turn * _GOLDEN
        chosen = int(position % 1 * steps)
        while chosen in taken[size]:
            chosen = (chosen + 1) % steps
        taken[size].add(chosen)
        cells_drawn.append((size, low + step * chosen))
    return tuple(cells_drawn)
