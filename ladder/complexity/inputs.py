"""The networks' inputs: a shot and an encode of it as a vector of numbers.

Training and prediction make it with the same function.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from encoder.analysis.features import FEATURE_NAMES, KEPT, SCALE_FACTORS, SEEN
from encoder.arrays import Float64
from encoder.recipes import Recipe
from ladder.complexity.recipe_inputs import RECIPE_INPUTS, recipe_inputs

CRF_ENDS: Mapping[str, tuple[float, float]] = {
    "x264": (14.0, 46.0),
    "x265": (14.0, 46.0),
    "svtav1": (15.0, 63.0),
    "vp9": (15.0, 63.0),
}
"""CRFs at the positions -1 and 1 of each codec's scale."""
OWN_SIZE_WITHIN = 0.02
"""Share by which a size may be smaller than the title's and still count as the title's own."""

_OF_TITLE = ("log2_pixels", "log2_fps")
_OF_SHOT = ("log2_seconds", "cuts_per_frame")
_OF_SIZE = ("log2_cell_pixels", "log2_scale", "own_size", "kept_here", "seen_here")
INPUT_NAMES = (*FEATURE_NAMES, *_OF_TITLE, *_OF_SHOT, *_OF_SIZE, *RECIPE_INPUTS)


@dataclass(frozen=True, slots=True)
class ShotInputs:
    """What the model looks at of a shot."""

    title_width: int
    title_height: int
    frame_rate: float
    frames: int
    cuts: int
    """Number of scene cuts inside the shot."""
    features: tuple[float, ...]
    """Features in the order of :data:`encoder.analysis.features.FEATURE_NAMES`."""


def crf_position(codec: str, crf: Float64 | float) -> Float64:
    """Return the position of a CRF on its codec's scale; any shape."""
    low, high = CRF_ENDS[codec]
    return np.asarray((np.asarray(crf, dtype=np.float64) - (low + high) / 2) / ((high - low) / 2))


def vector(shot: ShotInputs, width: int, height: int, recipe: Recipe) -> Float64:
    """Return the inputs of one shot at one size under a recipe.

    Shape ``[len(INPUT_NAMES)]``, before standardising.

    Raises:
        ValueError: the number of features is not that of this version.
    """
    if len(shot.features) != len(FEATURE_NAMES):
        raise ValueError(f"{len(FEATURE_NAMES)} features expected, got {len(shot.features)}")
    title_pixels, pixels = shot.title_width * shot.title_height, width * height
    factor = max(1.0, math.sqrt(title_pixels / pixels))
    return np.array(
        [
            *shot.features,
            math.log2(title_pixels) - 19,
            math.log2(shot.frame_rate / 25),
            math.log2(shot.frames / shot.frame_rate),
            shot.cuts / shot.frames,
            math.log2(pixels) - 19,
            math.log2(pixels / title_pixels),
            float(factor < 1 + OWN_SIZE_WITHIN),
            *(_surviving(shot.features, names, factor) for names in (KEPT, SEEN)),
            *recipe_inputs(recipe),
        ]
    )


_PLACES = {name: number for number, name in enumerate(FEATURE_NAMES)}


def _surviving(features: Sequence[float], names: Sequence[str], factor: float) -> float:
    """Interpolate how much detail survives scaling by ``factor``."""
    measured = [1.0, *(features[_PLACES[f"{name}_mean"]] for name in names)]
    return float(np.interp(math.log(factor), np.log([1.0, *SCALE_FACTORS]), measured))
