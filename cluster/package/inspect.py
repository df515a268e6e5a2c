"""What people ask of a finished package, as values: its documents read, its curves derived.

Nothing here draws or prints; ``cluster.cli`` does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from pydantic import ValidationError

from encoder.errors import BadInput
from encoder.media import Shot
from ladder.document import Cell, Document, Ladder, Measurements, Rung
from ladder.hull import slopes, upper_hull
from recommender.artwork.document import Artwork
from recommender.prefetch.document import Prefetch

_D = TypeVar("_D", bound=Document)


class RateQuality(NamedTuple):
    """A point that people can compare."""

    bitrate: float
    """bit/s."""
    quality: float


@dataclass(frozen=True, slots=True)
class ListedShots:
    """A title's shots."""

    title: str
    """File name of the source."""
    frame_rate: Fraction
    """Frames per second."""
    shots: tuple[Shot, ...]

    @property
    def frames(self) -> int:
        """Of the title."""
        return sum(shot.frames for shot in self.shots)


@dataclass(frozen=True, slots=True)
class Series:
    """One set of points of a plot."""

    label: str
    points: tuple[RateQuality, ...]
    """By ascending rate where ``joined``."""
    joined: bool
    """Drawn as a line through the points, not as marks."""
    basis: Literal["measured", "predicted"] = "measured"


@dataclass(frozen=True, slots=True)
class Plot:
    """Rate against quality, ready to be drawn."""

    title: str
    quality_model: str
    series: tuple[Series, ...]
    """None is empty; what the rungs chose is the last."""
    predictor: str | None = None
    """Identity of the complexity model's weights, where a series is predicted."""


def read_ladder(directory: Path) -> Ladder:
    """``ladder.json`` of a package.

    Raises:
        BadInput: there is none, or it is not one that we can read.
    """
    return _read(directory, "ladder.json", Ladder)


def read_measurements(directory: Path) -> Measurements:
    """``measurements.json`` of a package.

    Raises:
        BadInput: as :func:`read_ladder`.
    """
    return _read(directory, "measurements.json", Measurements)


def read_artwork(directory: Path) -> Artwork:
    """``artwork.json`` of a package.

    Raises:
        BadInput: as :func:`read_ladder`.
    """
    return _read(directory, "artwork.json", Artwork)


def read_prefetch(directory: Path) -> Prefetch:
    """``prefetch.json`` of a package.

    Raises:
        BadInput: as :func:`read_ladder`.
    """
    return _read(directory, "prefetch.json", Prefetch)


def _read(directory: Path, name: str, kind: type[_D]) -> _D:
    path = directory / name
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        found = f"has no {name}" if directory.is_dir() else "is no directory"
        raise BadInput(
            f"{directory} {found}; name the --out directory of a finished `shotladder run`"
        ) from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read ({error.strerror})") from error
    except ValidationError as error:
        raise BadInput(
            f"{path} is not a document that this version reads: {_why(error, path)}"
        ) from (error)


def _why(error: ValidationError, path: Path) -> str:
    """The first thing wrong, in one line; another version's schema before anything else."""
    first = error.errors(include_url=False)[0]
    if first["type"] != "json_invalid":
        found = json.loads(path.read_bytes())
        if not isinstance(found, dict) or "schema" not in found:
            return "it names no schema"
        first = next((e for e in error.errors() if e["loc"][:1] == ("schema",)), first)
    place = ".".join(str(part) for part in first["loc"])
    return f"{place + ': ' if place else ''}{first['msg']}"


def shots_of_package(directory: Path) -> ListedShots:
    """The shots of a finished ladder.

    Raises:
        BadInput: as :func:`read_ladder`.
    """
    ladder, measurements = read_ladder(directory), read_measurements(directory)
    return ListedShots(
        ladder.title.source,
        frame_rate(ladder),
        tuple(Shot(s.start_frame, s.end_frame, tuple(s.cuts)) for s in measurements.shots),
    )


def frame_rate(ladder: Ladder) -> Fraction:
    """Frames per second of the title."""
    return Fraction(ladder.title.frame_rate)


def marginal_quality(ladder: Ladder, rung: Rung, bitrate: float = 100_000) -> float | None:
    """Mean quality that ``bitrate`` bit/s more would add to a rung, to first order: its slope in
    units that people know. None where the rung has no slope.
    """
    if rung.slope is None:
        return None
    # slope: quality x frames per bit; a bit/s more is a bit per frame rate frames.
    return rung.slope * bitrate / float(frame_rate(ladder))


def models_measured(ladder: Ladder) -> tuple[str, ...]:
    """Quality models by which every rung was measured, the ladder's own first."""
    shared = set.intersection(*(set(rung.quality) for rung in ladder.rungs))
    own = ladder.quality_model
    return (own, *sorted(shared - {own})) if own in shared else tuple(sorted(shared))


def title_plot(ladder: Ladder, measurements: Measurements) -> Plot:
    """Title hulls of every size, the hull over all sizes, and the rungs.

    A size's hull is what equal slopes give on its shots' measured points alone, without the
    interpolation that allocation uses between them: rungs may lie a little above it.
    """
    seconds = float(ladder.title.frames / frame_rate(ladder))
    frames = [shot.end_frame - shot.start_frame for shot in measurements.shots]
    series = []
    for label, cells in _by_recipe(measurements.cells):
        by_shot = _by_shot(cells, len(frames))
        sizes = _sizes(cells)
        for size in sizes:
            of_size = [[cell for cell in cells if _size(cell) == size] for cells in by_shot]
            hull = title_hull(of_size, frames, seconds)
            series.append(Series(label + "{}x{}".format(*size), hull, joined=len(sizes) == 1))
        if len(sizes) > 1:
            free = title_hull(by_shot, frames, seconds)
            series.append(Series(f"{label}hull of all sizes, free per shot", free, joined=True))
    rungs = tuple(
        RateQuality(rung.bitrate, rung.quality[ladder.quality_model].mean) for rung in ladder.rungs
    )
    expected = tuple(
        RateQuality(rate, rung.predicted_quality)
        for rung, rate in zip(ladder.rungs, _expected_rates(ladder, measurements), strict=True)
        if rung.predicted_quality is not None and rate is not None
    )
    series.append(Series("rungs as predicted", expected, joined=False, basis="predicted"))
    return Plot(
        f"{ladder.title.source}: title hulls of each size, and the rungs",
        ladder.quality_model,
        (*(one for one in series if one.points), Series("rungs", rungs, joined=False)),
        measurements.weights,
    )


def _expected_rates(ladder: Ladder, measurements: Measurements) -> list[float | None]:
    """bit/s that each rung's encodes were predicted to take; None where one was not."""
    recipes = {rung.recipe for rung in ladder.rungs}
    cells = {
        (recipe, c.shot, c.width, c.height, c.crf): c.predicted_bytes
        for recipe in recipes
        for c in measurements.of_recipe(recipe)
    }
    seconds = float(ladder.title.frames / frame_rate(ladder))
    rates: list[float | None] = []
    for rung in ladder.rungs:
        sizes = [cells.get((rung.recipe, s.shot, s.width, s.height, s.crf)) for s in rung.segments]
        known = [num_bytes for num_bytes in sizes if num_bytes is not None]
        rates.append(8 * sum(known) / seconds if len(known) == len(sizes) else None)
    return rates


def shot_plot(ladder: Ladder, measurements: Measurements, shot: int) -> Plot:
    """Every measured point of one shot by size, its hull, and what the rungs chose.

    Raises:
        BadInput: the title has no such shot.
    """
    if not 0 <= shot < len(measurements.shots):
        raise BadInput(
            f"asked for shot {shot}; {ladder.title.source} has shots 0 to "
            f"{len(measurements.shots) - 1}"
        )
    row = measurements.shots[shot]
    seconds = float((row.end_frame - row.start_frame) / frame_rate(ladder))
    of_shot = [cell for cell in measurements.cells if cell.shot == shot]

    def point(num_bytes: int, quality: float) -> RateQuality:
        return RateQuality(8 * num_bytes / seconds, quality)

    series = []
    for label, cells in _by_recipe(of_shot):
        for size in _sizes(cells):
            points = sorted(point(c.bytes, c.quality) for c in cells if _size(c) == size)
            series.append(Series(label + "{}x{}".format(*size), tuple(points), joined=False))
        hull = [cells[i] for i in upper_hull([c.bytes for c in cells], [c.quality for c in cells])]
        points = [point(c.bytes, c.quality) for c in hull]
        series.append(Series(f"{label}hull", tuple(points), joined=True))
    chosen_points = {
        (rung.recipe or ladder.recipe, segment.width, segment.height, segment.crf)
        for rung in ladder.rungs
        for segment in rung.segments
        if segment.shot == shot
    }
    expected = tuple(
        point(cell.predicted_bytes, cell.predicted_quality)
        for cell in of_shot
        if (cell.recipe or ladder.recipe, cell.width, cell.height, cell.crf) in chosen_points
        and cell.predicted_bytes is not None
        and cell.predicted_quality is not None
    )
    if expected:
        series.append(Series("chosen, as predicted", expected, joined=False, basis="predicted"))
    chosen = tuple(
        point(segment.bytes, segment.quality[ladder.quality_model])
        for rung in ladder.rungs
        for segment in rung.segments
        if segment.shot == shot
    )
    return Plot(
        f"{ladder.title.source}: shot {shot}, frames {row.start_frame} to {row.end_frame}",
        ladder.quality_model,
        (*series, Series("chosen by the rungs", chosen, joined=False)),
        measurements.weights,
    )


def title_hull(
    by_shot: Sequence[Sequence[Cell]], frames: Sequence[int], seconds: float
) -> tuple[RateQuality, ...]:
    """The title's hull from its shots' measured points: all shots at their cheapest, then the
    steepest edges of all shots' hulls one after the other.

    Args:
        by_shot: measured points, one list per shot.
        frames: of each shot, shape (shots,).
        seconds: of the title.

    Returns:
        By ascending rate; empty when a shot has no point.
    """
    if not by_shot or any(not cells for cells in by_shot):
        return ()
    bits, value = 0.0, 0.0
    edges: list[tuple[float, float, float]] = []  # slope, bits, quality x frames
    for cells, count in zip(by_shot, frames, strict=True):
        sizes = [8.0 * cell.bytes for cell in cells]
        values = [cell.quality * count for cell in cells]
        hull = upper_hull(sizes, values)
        bits, value = bits + sizes[hull[0]], value + values[hull[0]]
        steps = zip(slopes(sizes, values, hull), hull, hull[1:], strict=False)
        edges += [(s, sizes[b] - sizes[a], values[b] - values[a]) for s, a, b in steps]
    points = [RateQuality(bits / seconds, value / sum(frames))]
    for _, more_bits, more_value in sorted(edges, reverse=True):
        bits, value = bits + more_bits, value + more_value
        points.append(RateQuality(bits / seconds, value / sum(frames)))
    return tuple(points)


def _by_recipe(cells: Sequence[Cell]) -> list[tuple[str, list[Cell]]]:
    """Cells of each recipe, with what its series are labelled with: nothing where there is one."""
    recipes = list(dict.fromkeys(cell.recipe for cell in cells))
    return [
        (f"{recipe} " if len(recipes) > 1 else "", [c for c in cells if c.recipe == recipe])
        for recipe in recipes
    ]


def _by_shot(cells: Sequence[Cell], shots: int) -> list[list[Cell]]:
    found: list[list[Cell]] = [[] for _ in range(shots)]
    for cell in cells:
        found[cell.shot].append(cell)
    return found


def _size(cell: Cell) -> tuple[int, int]:
    return cell.width, cell.height


def _sizes(cells: Sequence[Cell]) -> list[tuple[int, int]]:
    return sorted({_size(cell) for cell in cells}, key=lambda size: (size[0] * size[1], size))
