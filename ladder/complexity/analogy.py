"""Recipes that the weights were not trained on, by analogy with one that they were trained on.

A recipe is nearly a constant factor on rate, so the curves of the nearest trained recipe of the
codec stand in for those of an unknown one, moved by a constant: how much more log rate and warped
quality the unknown recipe has at the same CRF. The constants below were measured on three titles
(``data/presets.parquet``; ``tests/test_complexity_analogy.py`` computes them again). They differ
from title to title, and for parameters that nobody measured they are unknown; so such predictions
are trusted less. The first measurements of a title show what is right for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from encoder.recipes import PRESETS, Recipe
from ladder.complexity.recipe_inputs import DEVIATIONS, deviations, effort, other_parameters

OF_PRESETS: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "x264": {
        "ultrafast": (0.591, 0.169),
        "faster": (-0.006, -0.084),
        "medium": (0.0, 0.0),
        "slow": (-0.052, -0.042),
        "veryslow": (-0.042, -0.043),
    },
    "x265": {"faster": (-0.067, -0.134), "medium": (0.0, 0.0), "slow": (0.145, 0.265)},
    "svtav1": {"veryfast": (0.013, -0.118), "fast": (0.095, -0.016), "medium": (0.0, 0.0)},
    "vp9": {"fast": (-0.033, -0.041), "medium": (0.0, 0.0), "slow": (-0.018, 0.075)},
}
"""Log rate and warped quality of plain presets against ``medium`` at the same CRF, by codec, the
fastest first. Presets between two measured ones lie between them."""
OF_DEVIATIONS: Mapping[tuple[str, str], tuple[float, float]] = {
    ("x264", "psy"): (0.128, 0.071),
    ("x264", "adaptive_quantisation"): (-0.121, -0.401),
    ("svtav1", "tune"): (-0.063, -0.082),
}
"""The same for one unit of an input of :data:`ladder.complexity.recipe_inputs.DEVIATIONS`, by codec
and input."""
PER_STEP = (0.03, 0.05)
"""Standard deviation between titles of these differences, for one step of effort."""
PER_UNIT = (0.06, 0.08)
"""Standard deviation for one unit of a measured deviation."""
UNMEASURED = (0.15, 0.15)
"""Standard deviation for one unit of a deviation that was not measured, or for one parameter of a
tuning that no input states."""

_UNIT_STEPS, _PARAMETER_STEPS = 2.0, 0.5
"""Distance of one unit of a deviation, and of one other parameter, in steps of effort."""


@dataclass(frozen=True, slots=True)
class Analogy:
    """What stands in for a recipe."""

    recipe: Recipe
    """Recipe that the weights were trained on."""
    log_rate: float = 0.0
    """Log rate that the other recipe has more at the same size and CRF."""
    warped_quality: float = 0.0
    """Warped quality that the other recipe has more."""
    deviations: tuple[float, float] = (0.0, 0.0)
    """Standard deviations of both; 0 where the recipe itself was trained on."""


def analogy(recipe: Recipe, trained: Iterable[Recipe]) -> Analogy | None:
    """Return which of the ``trained`` recipes stands in for ``recipe``, and how they differ.

    Returns:
        None where no recipe of the codec was trained on.
    """
    own_codec = sorted({known for known in trained if known.codec == recipe.codec})
    if not own_codec:
        return None
    if recipe in own_codec:
        return Analogy(recipe)
    nearest = min(own_codec, key=lambda known: _distance(recipe, known))
    (rate, quality), (own_rate, own_quality) = _offset(recipe), _offset(nearest)
    return Analogy(nearest, rate - own_rate, quality - own_quality, _uncertainty(recipe, nearest))


def _distance(one: Recipe, other: Recipe) -> float:
    units = sum(abs(a - b) for a, b in zip(deviations(one), deviations(other), strict=True))
    return (
        abs(effort(one) - effort(other))
        + _UNIT_STEPS * units
        + _PARAMETER_STEPS * _differing(one, other)
    )


def _differing(one: Recipe, other: Recipe) -> int:
    """Return how many parameters that no input states differ between two tunings."""
    different = other_parameters(one).items() ^ other_parameters(other).items()
    return len({name for name, _ in different})


def _offset(recipe: Recipe) -> tuple[float, float]:
    """Return the log rate and warped quality of a recipe against plain ``medium``."""
    measured = OF_PRESETS[recipe.codec]
    ranks = [PRESETS.index(preset) - PRESETS.index("medium") for preset in measured]
    columns = np.array(list(measured.values())).T
    moves = np.array([np.interp(effort(recipe), ranks, column) for column in columns])
    for name, units in zip(DEVIATIONS, deviations(recipe), strict=True):
        moves = moves + units * np.array(OF_DEVIATIONS.get((recipe.codec, name), (0.0, 0.0)))
    return float(moves[0]), float(moves[1])


def _uncertainty(recipe: Recipe, nearest: Recipe) -> tuple[float, float]:
    amounts = [(abs(effort(recipe) - effort(nearest)), PER_STEP)]
    for name, own, other in zip(DEVIATIONS, deviations(recipe), deviations(nearest), strict=True):
        known = (recipe.codec, name) in OF_DEVIATIONS
        amounts.append((abs(own - other), PER_UNIT if known else UNMEASURED))
    amounts.append((math.sqrt(_differing(recipe, nearest)), UNMEASURED))
    rate, quality = (
        math.sqrt(sum((amount * deviation[kind]) ** 2 for amount, deviation in amounts))
        for kind in (0, 1)
    )
    return rate, quality
