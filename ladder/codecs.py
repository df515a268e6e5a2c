"""A ladder of several codecs: which rungs are worth having beside the others'.

The first codec is the one that every player has to be able to play, so its ladder stays whole. A
rung of any other codec is dropped where a rung of another one, the first included, needs no more
bits and is no worse: whoever can play it loses nothing by taking that one. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ladder.bdrate import RatePoint


def kept_rungs(ladders: Mapping[str, Sequence[RatePoint]]) -> dict[str, tuple[int, ...]]:
    """Which rungs of each codec's ladder stay, by number.

    Args:
        ladders: measured rungs (bit/s, mean quality) by codec; the first one stays whole.
    """
    codecs = list(ladders)
    kept: dict[str, tuple[int, ...]] = {}
    for place, codec in enumerate(codecs):
        others = [
            (other < place, rung)
            for other, name in enumerate(codecs)
            if other != place
            for rung in ladders[name]
        ]
        kept[codec] = tuple(
            number
            for number, rung in enumerate(ladders[codec])
            if place == 0 or not any(_dominates(other, rung, first) for first, other in others)
        )
    return kept


def _dominates(other: RatePoint, rung: RatePoint, first: bool) -> bool:
    """Whether ``other`` needs no more and is no worse; of two equal ones the ``first`` listed."""
    if other.rate > rung.rate or other.quality < rung.quality:
        return False
    return first or other != rung
