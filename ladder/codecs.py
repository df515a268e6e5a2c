"""A ladder of several codecs: which rungs are worth keeping.

Every player has to be able to play the first codec, so its ladder stays whole. A rung of any other
codec is dropped where a rung of another codec, the first included, needs no more bits and is no
worse: a player that takes the other rung loses nothing. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ladder.bdrate import RatePoint


def kept_rungs(ladders: Mapping[str, Sequence[RatePoint]]) -> dict[str, tuple[int, ...]]:
    """Return the numbers of the rungs that stay in each codec's ladder.

    Args:
        ladders: Measured rungs by codec; the ladder of the first codec stays whole.
    """
    codecs = list(ladders)
    kept: dict[str, tuple[int, ...]] = {}
    for position, codec in enumerate(codecs):
        others = [
            (other < position, rung)
            for other, name in enumerate(codecs)
            if other != position
            for rung in ladders[name]
        ]
        kept[codec] = tuple(
            number
            for number, rung in enumerate(ladders[codec])
            if position == 0 or not any(_dominates(other, rung, first) for first, other in others)
        )
    return kept


def _dominates(other: RatePoint, rung: RatePoint, first: bool) -> bool:
    """Return whether ``other`` needs no more bits and is no worse.

    Of two equal rungs the one that is listed ``first`` dominates.
    """
    if other.rate > rung.rate or other.quality < rung.quality:
        return False
    return first or other != rung
