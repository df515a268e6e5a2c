"""Sizes in square pixels, and the filters that turn a picture upright. Pure."""

from __future__ import annotations

from fractions import Fraction

_TURNS = ("clock", "cclock", "clock_flip", "cclock_flip")
ORIENTATION_FILTERS = frozenset(("hflip", "vflip", *(f"transpose={turn}" for turn in _TURNS)))
"""Filters that :func:`orientation_filters` may name."""

# A stored aspect within this of square is rounding by the muxer, not an intention.
_SQUARE_TOLERANCE = Fraction(1, 100)
_MAX_ASPECT = 10


def pixel_aspect(stored: Fraction | None) -> Fraction:
    """Return width over height of a stored pixel, 1 where none is stated or an absurd one."""
    if not stored or not Fraction(1, _MAX_ASPECT) <= stored <= _MAX_ASPECT:
        return Fraction(1)
    return Fraction(stored)


def square_pixels(width: int, height: int, sample_aspect: Fraction) -> tuple[int, int]:
    """Return the size in square pixels that loses no resolution: pixels are only ever stretched.

    Stretched sides come out even; an aspect within 1 % of square, or absurd, counts as square.
    """
    if abs(sample_aspect - 1) <= _SQUARE_TOLERANCE:
        return width, height
    if sample_aspect > 1:
        return nearest_even(width * sample_aspect), height
    return width, nearest_even(height / sample_aspect)


def nearest_even(size: Fraction | float) -> int:
    """Return the even number nearest ``size``, at least 2."""
    return max(2, 2 * round(size / 2))


def even(size: int) -> int:
    """Return the largest even number that is no larger than ``size``."""
    return size - size % 2


def orientation_filters(matrix: tuple[int, ...]) -> tuple[str, ...]:
    """Return the filters for a display matrix (nine 32-bit integers), as ffmpeg's autorotate does.

    Angles other than quarter turns are ignored: cameras are not held so.
    """
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    if a == 0 and d == 0 and b and c:
        if b > 0 and c > 0:
            return ("transpose=cclock_flip",)
        if b < 0 and c < 0:
            return ("transpose=clock_flip",)
        return ("transpose=clock",) if b > 0 else ("transpose=cclock",)
    return tuple(name for name, sign in (("hflip", a), ("vflip", d)) if sign < 0 and not (b or c))
