"""What has been measured of a title: curves through the measured cells, and rungs as measured.

A cell is one operating point of one shot. Everything here is a pure function of measurements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from encoder.media import Request, Shot, Size
from ladder.choices import Choice
from ladder.curves import MeasuredCurve, MeasuredPoints, Measurement
from ladder.rungs import RungPlan


def measured_curves(
    measurements: Mapping[Request, Measurement], shots: Sequence[Shot]
) -> dict[Size, tuple[MeasuredCurve, ...]]:
    """Return each shot's curve through its measured cells, interpolated between them.

    Args:
        measurements: Cells of one recipe, in any order.
        shots: All shots of the title.

    Returns:
        One curve per shot for every size at which each shot has at least one cell, smallest size
        first.

    Raises:
        ValueError: the cells are of more than one recipe.
    """
    return {
        size: tuple(
            MeasuredCurve(shot.frames, cells) for shot, cells in zip(shots, by_shot, strict=True)
        )
        for size, by_shot in _complete_sizes(measurements, shots).items()
    }


def measured_points(
    measurements: Mapping[Request, Measurement], shots: Sequence[Shot]
) -> dict[Size, tuple[MeasuredPoints, ...]]:
    """Return what :func:`measured_curves` does, with nothing between the measured cells."""
    return {
        size: tuple(
            MeasuredPoints(shot.frames, cells) for shot, cells in zip(shots, by_shot, strict=True)
        )
        for size, by_shot in _complete_sizes(measurements, shots).items()
    }


def _complete_sizes(
    measurements: Mapping[Request, Measurement], shots: Sequence[Shot]
) -> dict[Size, list[dict[float, Measurement]]]:
    """Return the cells by size, shot and CRF, for the sizes at which every shot has cells."""
    cells: dict[Size, list[dict[float, Measurement]]] = {}
    recipes = set()
    for (shot, point), measurement in measurements.items():
        recipes.add(point.recipe)
        by_shot = cells.setdefault(point.size, [{} for _ in shots])
        by_shot[shot][point.crf] = measurement
    if len(recipes) > 1:
        names = ", ".join(sorted(recipe.name for recipe in recipes))
        raise ValueError(f"curves are of one recipe, got cells of {names}")
    ordered = sorted(cells, key=lambda size: (size.width * size.height, size))
    return {size: cells[size] for size in ordered if all(cells[size])}


def measured_rung(
    rung: RungPlan,
    measurements: Mapping[Request, Measurement],
    shots: Sequence[Shot],
    frame_rate: Fraction,
) -> RungPlan:
    """Return ``rung`` with measured bits and quality in place of the expected ones.

    Raises:
        KeyError: the rung has a cell that is not in ``measurements``.
    """
    choices = []
    for shot, choice in enumerate(rung.choices):
        measurement = measurements[shot, choice.point]
        choices.append(Choice(float(measurement.bits), measurement.quality, choice.point))
    bits = sum(choice.bits for choice in choices)
    seconds = float(sum(shot.seconds(frame_rate) for shot in shots))
    total = sum(shot.frames * c.quality for shot, c in zip(shots, choices, strict=True))
    return replace(
        rung,
        choices=tuple(choices),
        bits=bits,
        rate=bits / seconds,
        quality=total / sum(shot.frames for shot in shots),
    )
