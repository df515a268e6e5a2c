"""The values that every package shares: shots, sizes and operating points.

Units: frames are counted on the title's canonical timeline from 0, ranges are half open
``[start, end)``, bitrates are bit/s, sizes of files are bytes, times are seconds as
:class:`~fractions.Fraction`.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from encoder.recipes import Recipe


@dataclass(frozen=True, slots=True, order=True)
class Shot:
    """A run of frames: the unit of prediction, encoding, caching and packaging."""

    start: int
    """Number of the first frame."""
    end: int
    """One past the number of the last frame."""
    cuts: tuple[int, ...] = ()
    """Frames strictly inside the shot at which another scene begins; each gets an IDR."""

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise ValueError(f"a shot needs 0 <= start < end, got [{self.start}, {self.end})")
        if any(not self.start < cut < self.end for cut in self.cuts):
            raise ValueError(f"cuts {self.cuts} are not inside [{self.start}, {self.end})")

    @property
    def frames(self) -> int:
        """Number of frames."""
        return self.end - self.start

    def seconds(self, frame_rate: Fraction) -> Fraction:
        """Return the duration in seconds at ``frame_rate`` frames per second."""
        return self.frames / frame_rate


class Size(NamedTuple):
    """Size of a rung."""

    width: int
    """Width in pixels, even."""
    height: int
    """Height in pixels, even."""


@dataclass(frozen=True, slots=True, order=True)
class OperatingPoint:
    """How a shot is encoded: recipe, size and CRF. The same point gives the same bits."""

    recipe: Recipe
    """Encoder and its options."""
    width: int
    """Width in pixels, even."""
    height: int
    """Height in pixels, even."""
    crf: float
    """Constant rate factor on the recipe's own scale, a multiple of 0.5."""

    @property
    def size(self) -> Size:
        """Width and height in pixels."""
        return Size(self.width, self.height)

    def __post_init__(self) -> None:
        if self.width <= 0 or self.height <= 0 or self.width % 2 or self.height % 2:
            raise ValueError(f"sizes are positive and even, got {self.width}x{self.height}")
        if self.crf * 2 != int(self.crf * 2):
            raise ValueError(f"CRF goes in steps of 0.5, got {self.crf}")


Request = tuple[int, OperatingPoint]
"""Number of a shot in the title, and the operating point to encode it at."""
