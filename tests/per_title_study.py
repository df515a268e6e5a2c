"""How good the per-title baseline is, and how dear: ``python -m tests.per_title_study``.

The whole-title encodes are simulated on the full grids of ``data/cells.parquet``: bits and quality
of all shots at one CRF, interpolated between measured CRFs. The search begins at the rungs that the
shots' own curves give, and is compared with the best of all sizes at each of its rates.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cluster.training.table import Row, read_table
from encoder.arrays import Float64
from encoder.media import OperatingPoint, Shot, Size
from encoder.recipes import by_name
from ladder.bdrate import BdRate, RatePoint, bd_rate, monotone
from ladder.curves import MeasuredCurve, Measurement
from ladder.per_title import Hint, PerTitleSearch, target_rates
from ladder.profiles import load_profile
from ladder.rungs import LadderPlan, solve
from ladder.title_curves import TitleCurves
from vmaf.models import V1

TABLE = Path(__file__).parent.parent / "data" / "cells.parquet"
RECIPE = by_name("x264-medium")
FULL_GRID = 9
"""CRFs of a shot at a size that has all of them."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the search found for one title."""

    source: str
    shots: int
    sizes: int
    rates: int
    encodes: int
    """Encodes of the whole title that the search asked for."""
    expected: int
    """Encodes that it said it would ask for."""
    over_best: float
    """BD-rate in percent against the best of all sizes at each rate; positive for a worse
    baseline."""


class WholeTitle:
    """Whole-title encodes, by the sums of the shots' measured curves."""

    def __init__(self, title: TitleCurves) -> None:
        frames = np.array([shot.frames for shot in title.shots])
        seconds = float(sum(title.durations))
        self._tables: dict[Size, tuple[Float64, Float64, Float64]] = {}
        for size, curves in title.curves.items():
            points = [{point.crf: point for point in curve.points()} for curve in curves]
            crfs = sorted(set.intersection(*(set(of_shot) for of_shot in points)))
            bits = [[of_shot[crf].bits for crf in crfs] for of_shot in points]
            quality = np.array([[of_shot[crf].quality for crf in crfs] for of_shot in points])
            logs = np.log(np.sum(bits, axis=0) / seconds)
            self._tables[size] = np.array(crfs), logs, frames @ quality / frames.sum()

    def encode(self, point: OperatingPoint) -> RatePoint:
        """Return an encode; beyond the measured CRFs the curves go on as straight lines."""
        crfs, logs, quality = self._tables[point.size]
        log, score = (_straight(crfs, axis, point.crf) for axis in (logs, quality))
        return RatePoint(math.exp(log), min(100.0, score))

    def best_at(self, rate: float) -> RatePoint | None:
        """Return the best of all sizes that were measured at a rate."""
        log = math.log(rate)
        found = [
            float(np.interp(log, logs[::-1], quality[::-1]))
            for _, logs, quality in self._tables.values()
            if logs[-1] <= log <= logs[0]
        ]
        return RatePoint(rate, max(found)) if found else None


def _straight(x: Float64, y: Float64, at: float) -> float:
    inside = float(np.interp(at, x, y))
    first, last = (y[1] - y[0]) / (x[1] - x[0]), (y[-1] - y[-2]) / (x[-1] - x[-2])
    return float(inside + first * min(0.0, at - x[0]) + last * max(0.0, at - x[-1]))


def titles() -> Iterator[tuple[str, TitleCurves]]:
    """Yield the titles of the table that were measured in full at two sizes or more."""
    by_title: Mapping[str, list[Row]] = defaultdict(list)
    for row in read_table(TABLE):
        if row.recipe == RECIPE.name and not row.augmentation and V1 in row.quality:
            by_title[row.source].append(row)
    for source, rows in by_title.items():
        shots = tuple(sorted({row.shot_range for row in rows}))
        cells: dict[tuple[Size, Shot], dict[float, Measurement]] = defaultdict(dict)
        for row in rows:
            measured = Measurement(row.bits, row.quality[V1])
            cells[row.size, row.shot_range][row.crf] = measured
        curves = {
            size: tuple(MeasuredCurve(shot.frames, cells[size, shot]) for shot in shots)
            for size in {row.size for row in rows}
            if all(len(cells[size, shot]) >= FULL_GRID for shot in shots)
        }
        if len(curves) > 1:
            yield source, TitleCurves(rows[0].frame_rate, RECIPE, shots, curves)


def found_for(source: str, title: TitleCurves) -> Found | None:
    """Search one title; None where its ladder has a single rung."""
    plan = solve(title, load_profile("default-0.1"))
    if not isinstance(plan, LadderPlan) or len(plan.rungs) < 2:
        return None
    frames = [shot.frames for shot in title.shots]
    hints = [
        Hint(
            rung.size,
            float(np.average([choice.point.crf for choice in rung.choices], weights=frames)),
            rung.rate,
        )
        for rung in plan.rungs
    ]
    rates = target_rates([rung.rate for rung in plan.rungs])
    search = PerTitleSearch(RECIPE, title.sizes, rates, tuple(hints))
    whole, measured = WholeTitle(title), dict[OperatingPoint, RatePoint]()
    while wanted := search.wanted(measured):
        measured |= {point: whole.encode(point) for point in wanted}
    best = [point for point in map(whole.best_at, rates) if point is not None]
    ladder = [measured[point] for point in search.ladder(measured)]
    claim = bd_rate(monotone(best), monotone(ladder))
    assert isinstance(claim, BdRate)
    return Found(
        source=source,
        shots=len(title.shots),
        sizes=len(title.sizes),
        rates=len(rates),
        encodes=len(measured),
        expected=len(search.expected()),
        over_best=claim.percent,
    )


def study() -> list[Found]:
    """Search every title of the table."""
    return [found for found in (found_for(*title) for title in titles()) if found is not None]


def lines(found: Sequence[Found]) -> Iterator[str]:
    """Yield the study as a table in Markdown."""
    yield "| title | shots | sizes | rates | encodes | said before | over the best, % |"
    yield "|---|---|---|---|---|---|---|"
    for one in found:
        yield (
            f"| {one.source} | {one.shots} | {one.sizes} | {one.rates} | {one.encodes} | "
            f"{one.expected} | {one.over_best:+.2f} |"
        )
    means = [
        np.mean([getattr(one, name) for one in found])
        for name in ("rates", "encodes", "expected", "over_best")
    ]
    rates, encodes, expected, over = means
    yield f"| mean | | | {rates:.1f} | {encodes:.1f} | {expected:.1f} | {over:+.2f} |"


if __name__ == "__main__":
    print("\n".join(lines(study())))
