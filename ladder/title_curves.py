"""All curves of a title: the input of every solver.

Takes any :class:`~ladder.curves.Curve`: measured, predicted or corrected.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from encoder.media import OperatingPoint, Shot, Size
from encoder.recipes import Recipe
from ladder.choices import Choice, ShotChoices
from ladder.curves import Curve


@dataclass(frozen=True, slots=True)
class TitleCurves:
    """The rate-quality curves of a title's shots, measured or predicted."""

    frame_rate: Fraction
    """Frames per second."""
    recipe: Recipe
    """Encoder settings that all curves are of."""
    shots: tuple[Shot, ...]
    """Shots of the title, in order."""
    curves: Mapping[Size, tuple[Curve, ...]]
    """One curve per shot for each size."""
    source_bits: int | None = None
    """Bits of the source's own video stream, for the cap at the source's rate; None if unknown."""
    allowance_bits: int = 0
    """Bits that a rung may take beyond those (:mod:`ladder.source_limit`)."""
    display: Size | None = None
    """Size at which the title is shown; None for the largest size that there are curves for."""

    def __post_init__(self) -> None:
        if not self.shots or not self.curves:
            raise ValueError("a title has shots and sizes")
        for size, curves in self.curves.items():
            if [curve.frames for curve in curves] != [shot.frames for shot in self.shots]:
                raise ValueError(f"the curves of {size} are not those of the title's shots")

    @property
    def shown_size(self) -> Size:
        """Display size of the title; the largest size of the curves where it is not stated."""
        return self.display or self.sizes[-1]

    @property
    def sizes(self) -> tuple[Size, ...]:
        """Sizes that there are curves for, smallest first."""
        return tuple(sorted(self.curves, key=lambda size: (size.width * size.height, size)))

    @property
    def durations(self) -> tuple[Fraction, ...]:
        """Duration of each shot in seconds."""
        return tuple(shot.seconds(self.frame_rate) for shot in self.shots)

    @property
    def target_duration(self) -> int:
        """Target duration that HLS will state: the longest shot in seconds, rounded up."""
        return math.ceil(max(self.durations))

    def choices(self, sizes: Iterable[Size]) -> tuple[ShotChoices, ...]:
        """Return each shot's candidates of all ``sizes`` together."""
        listed, step = tuple(sizes), self.recipe.crf_step
        return tuple(
            ShotChoices(
                shot.frames,
                tuple(
                    Choice(
                        candidate.bits, candidate.quality, _point(self.recipe, size, candidate.crf)
                    )
                    for size in listed
                    for candidate in self.curves[size][index].points(step)
                ),
            )
            for index, shot in enumerate(self.shots)
        )


@functools.lru_cache(maxsize=4096)
def _point(recipe: Recipe, size: Size, crf: float) -> OperatingPoint:
    return OperatingPoint(recipe, size.width, size.height, crf)
