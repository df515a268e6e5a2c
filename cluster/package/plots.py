"""Rate-quality plots of a finished package, as values: hulls, measured points, delivered rungs.

The command line and the report draw them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from cluster.package.package import Package
from encoder.errors import BadInput
from encoder.media import Size
from encoder.recipes import Recipe
from ladder.document import Cell
from ladder.hull import slopes, upper_hull


class RateQuality(NamedTuple):
    """A point of a rate-quality plot."""

    bitrate: float
    """Rate in bit/s."""
    quality: float
    """Mean quality by the plot's model."""


@dataclass(frozen=True, slots=True)
class Series:
    """One set of points of a plot."""

    label: str
    """Name of the series in the legend."""
    points: tuple[RateQuality, ...]
    """Points, in order of ascending rate where ``joined``."""
    joined: bool
    """True where the points are drawn as a line, False where they are marks."""
    basis: Literal["measured", "predicted"] = "measured"
    """Where the numbers come from."""


@dataclass(frozen=True, slots=True)
class Plot:
    """Rate against quality, ready to be drawn."""

    title: str
    """Heading of the plot."""
    quality_model: str
    """Quality model of all series."""
    series: tuple[Series, ...]
    """Series to draw, none of them empty; the delivered rungs come last."""
    predictor: str | None = None
    """Identity of the complexity model's weights; None where nothing was predicted."""


def title_plot(package: Package) -> Plot:
    """Plot the title hull of every size, the hull over all sizes, and the rungs.

    A title hull is what equal slopes give on measured points alone. Allocation also interpolates
    between them, so rungs may lie a little above their hull.
    """
    frames = [shot.frames for shot in package.shots]
    series = []
    for label, cells in _by_recipe(package, package.measurements.cells):
        by_shot = _by_shot(cells, len(frames))
        sizes = _sizes(cells)
        for size in sizes:
            at_size = [[cell for cell in cells if cell.size == size] for cells in by_shot]
            hull = title_hull(at_size, frames, float(package.seconds))
            series.append(Series(label + "{}x{}".format(*size), hull, joined=len(sizes) == 1))
        if len(sizes) > 1:
            free = title_hull(by_shot, frames, float(package.seconds))
            series.append(Series(f"{label}hull of all sizes, free per shot", free, joined=True))
    ladder = package.ladder
    rungs = tuple(
        RateQuality(rung.bitrate, rung.quality[ladder.quality_model].mean) for rung in ladder.rungs
    )
    expected = tuple(
        RateQuality(rate, rung.predicted_quality)
        for rung, rate in zip(ladder.rungs, _predicted_rates(package), strict=True)
        if rung.predicted_quality is not None and rate is not None
    )
    series.append(Series("rungs as predicted", expected, joined=False, basis="predicted"))
    return Plot(
        f"{ladder.title.source}: title hulls of each size, and the rungs",
        ladder.quality_model,
        (*(each for each in series if each.points), Series("rungs", rungs, joined=False)),
        package.measurements.weights,
    )


def _predicted_rates(package: Package) -> list[float | None]:
    """Return the predicted rate of each rung; None where an encode of it has no prediction."""
    cells = package.cells()
    rates: list[float | None] = []
    for rung in package.ladder.rungs:
        sizes = [
            cells[request].predicted_bytes if request in cells else None
            for request in package.requests(rung)
        ]
        predicted = [num_bytes for num_bytes in sizes if num_bytes is not None]
        complete = len(predicted) == len(sizes)
        rates.append(8 * sum(predicted) / float(package.seconds) if complete else None)
    return rates


def shot_plot(package: Package, shot: int) -> Plot:
    """Plot every measured point of one shot by size, its hull, and what the rungs chose.

    Raises:
        BadInput: the title has no such shot.
    """
    ladder, shots = package.ladder, package.shots
    if not 0 <= shot < len(shots):
        raise BadInput(f"no shot {shot}; {ladder.title.source} has shots 0 to {len(shots) - 1}")
    seconds = float(shots[shot].seconds(package.frame_rate))
    of_shot = [cell for cell in package.measurements.cells if cell.shot == shot]

    def point(num_bytes: int, quality: float) -> RateQuality:
        return RateQuality(8 * num_bytes / seconds, quality)

    series = []
    for label, cells in _by_recipe(package, of_shot):
        for size in _sizes(cells):
            points = sorted(point(c.bytes, c.quality) for c in cells if c.size == size)
            series.append(Series(label + "{}x{}".format(*size), tuple(points), joined=False))
        hull = [cells[i] for i in upper_hull([c.bytes for c in cells], [c.quality for c in cells])]
        points = [point(c.bytes, c.quality) for c in hull]
        series.append(Series(f"{label}hull", tuple(points), joined=True))
    chosen = {package.requests(rung)[shot] for rung in ladder.rungs}
    expected = tuple(
        point(cell.predicted_bytes, cell.predicted_quality)
        for cell in of_shot
        if package.request_of(cell) in chosen
        and cell.predicted_bytes is not None
        and cell.predicted_quality is not None
    )
    if expected:
        series.append(Series("chosen, as predicted", expected, joined=False, basis="predicted"))
    delivered = tuple(
        point(rung.segments[shot].bytes, rung.segments[shot].quality[ladder.quality_model])
        for rung in ladder.rungs
    )
    return Plot(
        f"{ladder.title.source}: shot {shot}, frames {shots[shot].start} to {shots[shot].end}",
        ladder.quality_model,
        (*series, Series("chosen by the rungs", delivered, joined=False)),
        package.measurements.weights,
    )


def title_hull(
    by_shot: Sequence[Sequence[Cell]], frames: Sequence[int], seconds: float
) -> tuple[RateQuality, ...]:
    """Return the hull of a title from the measured points of its shots.

    It begins with every shot at its cheapest point, and takes one edge of the shots' hulls after
    another, the steepest first.

    Args:
        by_shot: measured points, one list per shot.
        frames: number of frames of each shot, shape (shots,).
        seconds: duration of the title.

    Returns:
        Points by ascending rate; none where a shot has no point.
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


def _by_recipe(package: Package, cells: Sequence[Cell]) -> list[tuple[str, list[Cell]]]:
    """Group cells by recipe; each group has a prefix for its labels, empty for a single recipe."""
    groups: dict[Recipe, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(package.recipe_of(cell), []).append(cell)
    return [(f"{recipe} " if len(groups) > 1 else "", group) for recipe, group in groups.items()]


def _by_shot(cells: Sequence[Cell], shots: int) -> list[list[Cell]]:
    by_shot: list[list[Cell]] = [[] for _ in range(shots)]
    for cell in cells:
        by_shot[cell.shot].append(cell)
    return by_shot


def _sizes(cells: Sequence[Cell]) -> list[Size]:
    return sorted({cell.size for cell in cells}, key=lambda size: (size.width * size.height, size))
