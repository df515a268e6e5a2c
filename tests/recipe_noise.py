"""How wrong the check of a further codec can be: ``python -m tests.recipe_noise``.

It computes the constants of :func:`ladder.recipe_check.least_losses` from measured shots, for AV1
against x264 as the profile ``auto`` encodes, by VMAF v1, XPSNR and SSIM:

- the spread over CRFs: BD-rates of four of the five CRFs of both codecs (without the lowest or the
  highest of each) around those of all five, as root mean square of the logarithms;
- the spread over shots: BD-rates of the shots of one title around their mean.

The shots of ``data/recipe_shots.jsonl`` are parts of the titles with several shots in the first
corpus, measured by ``python -m tests.recipe_rule --kept data/recipe_shots.jsonl --pieces 4 --frames
24``. None is of the judges of the claims.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import fmean

from ladder.bdrate import BdRate, RatePoint
from ladder.claims import bd_claim
from tests.recipe_material import TUNED, Kept, Row, shots_of_both

PAIR = ("svtav1-fast+tune=2", f"x264-slow+{TUNED}")
"""Recipes of the further codec and of the first."""
TITLES = Path("data/recipes.jsonl")
SHOTS = Path("data/recipe_shots.jsonl")


def judged_pairs(rows: Sequence[Row]) -> Iterator[tuple[Row, Row]]:
    """Yield the judged shots that both recipes encoded: the further codec's row, the first's."""
    judged = [row for row in rows if row.quality]
    for title in sorted({row.title for row in judged}):
        yield from map(_both, shots_of_both(judged, title, *PAIR))


def _both(rows: tuple[Row, ...]) -> tuple[Row, Row]:
    further, first = rows
    return further, first


def log_rate(further: Row, first: Row, judge: str, ours: slice, theirs: slice) -> float | None:
    """Return the logarithm of the further codec's rate over the first's, at some of the CRFs."""
    anchor = list(map(RatePoint, first.bits[theirs], first.quality[judge][theirs]))
    test = list(map(RatePoint, further.bits[ours], further.quality[judge][ours]))
    claim = bd_claim(anchor, test)
    return math.log1p(claim.percent / 100) if isinstance(claim, BdRate) else None


def curve_spread(rows: Sequence[Row]) -> float:
    """Return the root mean square of what four CRFs say over what five say."""
    everything, parts = slice(None), (slice(4), slice(1, None))
    errors: list[float] = []
    for further, first in judged_pairs(rows):
        for judge in further.quality:
            whole = log_rate(further, first, judge, everything, everything)
            of_parts = (
                log_rate(further, first, judge, ours, theirs)
                for ours, theirs in itertools.product(parts, parts)
            )
            errors += [one - whole for one in of_parts if one is not None and whole is not None]
    return root_mean_square(errors)


def shot_spread(rows: Sequence[Row]) -> tuple[float, int]:
    """Return the spread of the shots of a title around its mean, pooled over titles and judges, and
    its degrees of freedom by one judge: the judges agree too much to count each."""
    whole = slice(None)
    groups: dict[tuple[str, str], list[float]] = {}
    for further, first in judged_pairs(rows):
        for judge in further.quality:
            rate = log_rate(further, first, judge, whole, whole)
            if rate is not None:
                groups.setdefault((further.title, judge), []).append(rate)
    squares = sum((r - fmean(rates)) ** 2 for rates in groups.values() for r in rates)
    freedom = sum(len(rates) - 1 for rates in groups.values())
    return math.sqrt(squares / freedom), freedom // len({judge for _, judge in groups})


def root_mean_square(values: Iterable[float]) -> float:
    return math.sqrt(fmean(value**2 for value in values))


def main() -> None:
    """Print both spreads."""
    titles, shots = Kept(TITLES).rows(), Kept(SHOTS).rows()
    spread, freedom = shot_spread(shots)
    print(f"spread over CRFs: {curve_spread(titles):.3f}")
    print(f"spread over shots: {spread:.3f}, {freedom} degrees of freedom")


if __name__ == "__main__":
    main()
