"""Recipes as the networks see them: a few numbers that say how similar two recipes are.

Networks cannot have an input for every parameter of every encoder. What moves rate and quality most
has one: the codec, the effort, and three deviations from the encoder's own defaults. A plain recipe
at ``medium`` is all zeros beside its codec.

- ``effort`` counts steps of the preset from ``medium``. Fewer reference frames than the preset's
  own take some of it back: x264 ``veryslow`` with 3 of its 16 references takes half of the CPU time
  of ``veryslow``.
- ``psy`` and ``adaptive_quantisation`` are strengths as a share of the default's, minus 1.
- ``tune`` is 1 where SVT-AV1 optimises another measure than PSNR.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from encoder.recipes import PRESETS, Recipe

CODECS = ("x264", "x265", "svtav1", "vp9")
"""Codecs that have an input of their own; a new codec goes at the end."""
DEVIATIONS = ("psy", "adaptive_quantisation", "tune")
"""Inputs that are 0 for every plain recipe."""
RECIPE_INPUTS = (*(f"codec_{codec}" for codec in CODECS), "effort", *DEVIATIONS)
"""Names of the inputs that a recipe has."""

_STEPS = 4.0
"""Steps of the preset that make one unit of the input ``effort``."""
_REFERENCES: Mapping[str, tuple[int, ...]] = {
    "x264": (1, 1, 1, 2, 2, 3, 5, 8, 16),
    "x265": (1, 1, 2, 2, 3, 3, 4, 5, 5),
}
"""Reference frames of each preset."""
_STEPS_PER_DOUBLING = 0.4
"""Steps of effort that twice as many reference frames are worth."""
_PSY_RD: Mapping[str, float] = {"x264": 1.0, "x265": 2.0}
"""Psychovisual strength that the encoders have by default."""
_VARIANCE_BOOST = 2.0
"""Default strength of SVT-AV1's variance boost, which is off by default."""
_TUNE_PSNR = "1"
_FOLDED = frozenset(
    {
        *("ref", "psy", "psy-rd", "aq-mode", "aq-strength", "tune"),
        *("enable-variance-boost", "variance-boost-strength"),
    }
)
"""Parameters of a tuning that these inputs state."""
_DEFAULTS: Mapping[str, Mapping[str, str]] = {"x264": {"bframes": "3", "weightp": "2"}}
"""What parameters are anyway at the encoders' usual presets."""


def parameters(recipe: Recipe) -> dict[str, str]:
    """Return the parameters of a recipe's tuning by name; empty for a plain recipe."""
    parts = recipe.tuning.split(":") if recipe.tuning else []
    return {name: value for name, _, value in (part.partition("=") for part in parts)}


def effort(recipe: Recipe) -> float:
    """Return the recipe's effort in steps of the preset, 0 at ``medium``."""
    rank = PRESETS.index(recipe.preset)
    steps = float(rank - PRESETS.index("medium"))
    own = _REFERENCES.get(recipe.codec)
    given = _number(parameters(recipe).get("ref"))
    if own is None or given is None or given < 1:
        return steps
    return steps + _STEPS_PER_DOUBLING * math.log2(given / own[rank])


def deviations(recipe: Recipe) -> tuple[float, ...]:
    """Return the inputs that are 0 for a plain recipe, in the order of :data:`DEVIATIONS`."""
    given = parameters(recipe)
    return _psy(recipe.codec, given), _adaptive_quantisation(given), _tune(recipe.codec, given)


def recipe_inputs(recipe: Recipe) -> tuple[float, ...]:
    """Return a recipe's inputs in the order of :data:`RECIPE_INPUTS`, before standardising."""
    return (
        *(float(recipe.codec == codec) for codec in CODECS),
        effort(recipe) / _STEPS,
        *deviations(recipe),
    )


def other_parameters(recipe: Recipe) -> dict[str, str]:
    """Return the parameters of the tuning that no input states, but not those at their default."""
    defaults = _DEFAULTS.get(recipe.codec, {})
    return {
        name: value
        for name, value in parameters(recipe).items()
        if (name not in _FOLDED or (name == "tune" and recipe.codec != "svtav1"))
        and defaults.get(name) != value
    }


def _psy(codec: str, given: Mapping[str, str]) -> float:
    if codec not in _PSY_RD:
        return 0.0
    if given.get("psy") == "0":
        return -1.0
    strength = _number(given.get("psy-rd"))
    return 0.0 if strength is None else strength / _PSY_RD[codec] - 1


def _adaptive_quantisation(given: Mapping[str, str]) -> float:
    if given.get("aq-mode") == "0":
        return -1.0
    if given.get("enable-variance-boost") == "1":
        return (_number(given.get("variance-boost-strength")) or _VARIANCE_BOOST) / _VARIANCE_BOOST
    strength = _number(given.get("aq-strength"))
    return 0.0 if strength is None else strength - 1


def _tune(codec: str, given: Mapping[str, str]) -> float:
    return float(codec == "svtav1" and given.get("tune", _TUNE_PSNR) != _TUNE_PSNR)


def _number(text: str | None) -> float | None:
    """Return the first number of a parameter's value; None without a value."""
    return float(text.split(",")[0]) if text else None
