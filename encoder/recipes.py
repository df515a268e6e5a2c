"""Recipes: everything that changes the bits of an encode except size and CRF.

A recipe turns into encoder arguments here and nowhere else; CRF's direction and range are its
own business, so the rest of the code only ever sees rate and quality.

The x264 recipe is measured, not guessed:

- one thread per encode: the output then does not depend on the machine;
- ``keyint=infinite:scenecut=0:open-gop=0``: a shot starts with an IDR, gets others only where we
  ask for them, and no frame refers outside it;
- ``stitchable=1``: without it x264 writes CRF-dependent values into the PPS, and segments of
  different CRFs under one init decode to garbage that some browsers play without an error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from encoder.errors import BadInput

PRESETS = (
    "ultrafast",
    "superfast",
    "veryfast",
    "faster",
    "fast",
    "medium",
    "slow",
    "slower",
    "veryslow",
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """A named way of encoding. Equal recipes, sizes and CRFs give equal bits."""

    name: str
    """``x264-medium``: what operating points, cache keys and documents say."""
    codec: str
    """``x264``: the codec as users name it."""
    encoder: str
    """ffmpeg's name of the encoder, ``libx264``."""
    options: tuple[tuple[str, str], ...]
    """Encoder options, in order, without size, CRF and keyframes."""
    pixel_format: str
    """What the encoder is fed."""
    crf_range: tuple[float, float]
    """Lowest (best) and highest (worst) CRF that make sense."""

    def arguments(self, crf: float) -> dict[str, str]:
        """Encoder options for ``crf``, as keyword arguments of an ``ffmpeg-python`` output.

        Raises:
            ValueError: ``crf`` is outside the recipe's range.
        """
        low, high = self.crf_range
        if not low <= crf <= high:
            raise ValueError(f"CRF {crf:g} is outside {low:g} to {high:g} of {self.name}")
        return {"c:v": self.encoder, **dict(self.options), "crf": f"{crf:g}"}


def x264(preset: str = "medium") -> Recipe:
    """The x264 recipe at ``preset``.

    Raises:
        BadInput: no such preset.
    """
    if preset not in PRESETS:
        raise BadInput(f"x264 has no preset {preset!r}; choose one of {', '.join(PRESETS)}")
    return Recipe(
        name=f"x264-{preset}",
        codec="x264",
        encoder="libx264",
        options=(
            ("preset", preset),
            ("threads", "1"),
            ("forced-idr", "1"),
            ("x264-params", "keyint=infinite:scenecut=0:open-gop=0:stitchable=1"),
        ),
        pixel_format="yuv420p",
        crf_range=(4.0, 51.0),
    )


CODECS = {"x264": x264}
"""Recipe makers by codec, each taking a preset."""


def recipe(codec: str, preset: str) -> Recipe:
    """The recipe for ``codec`` at ``preset``.

    Raises:
        BadInput: unknown codec or preset.
    """
    if codec not in CODECS:
        raise BadInput(f"no recipe for codec {codec!r}; choose one of {', '.join(CODECS)}")
    return CODECS[codec](preset)


def by_name(name: str) -> Recipe:
    """The recipe that calls itself ``name``, for example ``x264-medium``.

    Raises:
        BadInput: unknown codec or preset.
    """
    codec, _, preset = name.partition("-")
    return recipe(codec, preset)


def typical_cpu_seconds(name: str, width: int, height: int, frames: int, crf: float) -> float:
    """A rough guess of the CPU time of an encode, for planning and for ordering work.

    Measured over the grids of a natural 480p and an animated 1080p title with x264 medium, both
    cores of a machine busy: 77 and 34 ns a pixel at CRF 26, 4 % more for each step down. Between
    them lies 45; presets scale it by about 1.5 a step.
    """
    preset = name.partition("-")[2]
    steps = PRESETS.index(preset) - PRESETS.index("medium") if preset in PRESETS else 0
    return 45e-9 * width * height * frames * math.pow(1.5, steps) * math.pow(1.04, 26 - crf)
