"""The sizes that rungs of a title can have.

Codecs code pictures in blocks and pad every side to a multiple of one
(:data:`encoder.recipes.BLOCK`). The padding is coded and costs about its share of the bits, so
sizes are *fitted*: they move a little, in height and in shape, to where little or nothing is
padded. The blocks of x264 are the largest, and a multiple of 16 is one of 8, so sizes are fitted
to x264's blocks whatever the codec, and the rungs of several codecs share their sizes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Literal

from encoder.media import Size
from encoder.recipes import BLOCK

NATIVE_MARGIN = 1.1
"""Ratio of the source's own height to a listed one under which the source's own is taken instead:
it costs the same and needs no scaling."""

MAX_ASPECT_PERCENT = 1
"""Percent by which fitting may make the picture wider or narrower."""

FITTED_LINES, FITTED_SHARE = 8, Fraction(1, 20)
"""Lines, and share of the height, by which fitting moves a height at most: half a block of x264,
and less for small heights."""

KEPT_PADDING = Fraction(1, 100)
"""Padding under which a size of exactly the title's shape is left alone, as 1920x1080 is: players
and devices know such sizes, and 0.7 % of the bits are not worth another shape."""


Fit = Literal["off", "width", "size"]
"""What is fitted: nothing, the longer side of sizes whose heights somebody named, or both sides."""


def rung_sizes(
    display_width: int, display_height: int, heights: Sequence[int], fit: Fit = "off"
) -> tuple[Size, ...]:
    """Return the sizes for a title of this display size, smallest first, the title's own last.

    ``heights`` are lengths of the smaller side, so portrait titles need no heights of their own.
    Heights over the title's own are dropped. The title's own height is always included, never
    fitted, and replaces a listed one that it exceeds by less than 10 %. Both sides are even. Where
    nothing is fitted, the larger side is the even number nearest to the title's shape;
    :func:`aspect_error` gives the difference, :func:`padding` what is coded beside the picture.
    """
    display = Size(display_width, display_height)
    own = min(display)
    if own < 2:
        raise ValueError(f"a title is at least 2 pixels high, got {display_width}x{display_height}")
    listed = {height & ~1 for height in heights if height >= 2 and height * NATIVE_MARGIN <= own}
    sizes = [_fitted(display, height, fit) for height in sorted(listed)]
    # Two heights may be fitted to one.
    by_height = {min(size): size for size in (*sizes, _sized(display, own & ~1))}
    return tuple(by_height[height] for height in sorted(by_height))


def padding(size: Size, block: int = BLOCK["x264"]) -> float:
    """Return the pixels that are coded beside the picture, as a share of the picture's."""
    return float(_padding(size, block))


def aspect_error(size: Size, display_width: int, display_height: int) -> float:
    """Return how much wider (positive) or narrower ``size`` makes the picture, as a share of its
    aspect ratio."""
    return size.width / size.height / (display_width / display_height) - 1


def size_within(display_width: int, display_height: int, height: int) -> tuple[Size, float]:
    """Fit a title into a 16:9 frame of ``height`` lines, turned upright for a portrait title.

    Returns:
        The size, never over the title's own, and the factor by which filling the frame would
        scale the title; over 1 would enlarge it.
    """
    display = Size(display_width, display_height)
    short, long = sorted(display)
    box_long = height * 16 / 9
    scale = min(height / short, box_long / long)
    if scale >= 1:
        return _sized(display, short & ~1), scale
    if scale == height / short:
        return _sized(display, height & ~1), scale
    # Wider than 16:9: the long side fills the frame, the short one follows.
    return _turned(display, _even(box_long), _even(short * scale)), scale


def _sized(display: Size, shorter: int) -> Size:
    short, long = sorted(display)
    return _turned(display, _even(long * shorter / short), shorter)


def _fitted(display: Size, wanted: int, fit: Fit) -> Size:
    """Return the size near ``wanted`` lines that pads least, of those the nearest, then the
    smallest."""
    plain = _sized(display, wanted)
    exact = plain.width * display.height == plain.height * display.width
    if fit == "off" or _padding(plain) == 0 or (exact and _padding(plain) < KEPT_PADDING):
        return plain
    reach = 0 if fit == "width" else min(FITTED_LINES, int(wanted * FITTED_SHARE)) & ~1

    def cost(size: Size) -> tuple[Fraction, int, int, Fraction]:
        shape = Fraction(max(size) * min(display), min(size) * max(display))
        return _padding(size), abs(min(size) - wanted), min(size), abs(shape - 1)

    return min(_near(display, wanted, reach), key=cost, default=plain)


def _near(display: Size, wanted: int, reach: int) -> Iterator[Size]:
    """Yield the even sizes of about the title's shape that are within ``reach`` lines of
    ``wanted``."""
    short, long = sorted(display)
    most, whole = 100 + MAX_ASPECT_PERCENT, 100
    for shorter in range(wanted - reach, wanted + reach + 1, 2):
        # The larger side times short over shorter times long, and its inverse, are 1.01 at most.
        # A title that is nearly square keeps its shorter side the shorter one.
        first = max(shorter, -(-whole * shorter * long // (most * short)))
        last = most * shorter * long // (whole * short)
        for longer in range(first + first % 2, last + 1, 2):
            yield _turned(display, longer, shorter)


def _padding(size: Size, block: int = BLOCK["x264"]) -> Fraction:
    width, height = (-(-side // block) * block for side in size)
    return Fraction(width * height, size.width * size.height) - 1


def _turned(display: Size, longer: int, shorter: int) -> Size:
    """Return a size that lies or stands as the title does."""
    return Size(longer, shorter) if display.width >= display.height else Size(shorter, longer)


def _even(length: float) -> int:
    return max(2, 2 * round(length / 2))
