"""The table of measured cells as training, judging and promoting take it: examples and titles."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cluster.training.table import Row
from encoder.analysis.features import FEATURES_VERSION
from encoder.errors import BadInput
from encoder.media import Request
from encoder.recipes import by_name
from ladder.curves import Measurement
from ladder.evaluation.simulate import GridTitle
from ladder.profiles import Profile
from ladder.search.steps import TitleShape
from vmaf.models import default_model, typical_cpu_seconds

if TYPE_CHECKING:
    from ladder.complexity.inputs import ShotInputs
    from ladder.complexity.training import Example

PROXY_CRF = 30.0
"""Of the encode that a proxy would be."""


def current(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Those with features of this version.

    Raises:
        BadInput: there are none.
    """
    found = tuple(row for row in rows if row.features_version == FEATURES_VERSION)
    if not found:
        raise BadInput(
            f"the table has no rows with features of version {FEATURES_VERSION}; sweep again"
        )
    return found


def title_name(row: Row) -> str:
    """A title as tables show it."""
    return "/".join(part for part in (row.source, row.augmentation) if part)


def examples(rows: Iterable[Row]) -> list[Example]:
    """Rows as training takes them."""
    from ladder.complexity.training import Example

    return [
        Example(
            group=row.group,
            title=f"{row.source_sha256[:16]}/{row.reference[:8]}",
            shot=f"{row.source_sha256[:16]}/{row.reference[:8]}/{row.start_frame}-{row.end_frame}",
            inputs=shot_inputs(row),
            recipe=by_name(row.recipe),
            width=row.width,
            height=row.height,
            crf=row.crf,
            bits=row.bits,
            quality=row.quality,
            source=row.source_sha256,
        )
        for row in rows
    ]


def shot_inputs(row: Row) -> ShotInputs:
    """What the model looks at."""
    from ladder.complexity.inputs import ShotInputs

    return ShotInputs(
        title_width=row.title_width,
        title_height=row.title_height,
        frame_rate=float(row.frame_rate),
        frames=row.end_frame - row.start_frame,
        cuts=len(row.cuts),
        features=row.features,
    )


@dataclass(frozen=True, slots=True)
class TableTitle:
    """All rows of one title under one recipe, as one title."""

    name: str
    group: str
    shape: TitleShape
    quality_model: str
    """Its own, by which it is judged."""
    cells: Mapping[Request, Row]

    @property
    def cost(self) -> float:
        """How long judging it takes, beside others."""
        return float(len(self.cells))

    @property
    def shot_rows(self) -> list[Row]:
        """A row of each shot, in order."""
        first: dict[int, Row] = {}
        for (shot, _), row in self.cells.items():
            first.setdefault(shot, row)
        return [first[shot] for shot in range(len(self.shape.shots))]

    @property
    def measurements(self) -> dict[Request, Measurement]:
        """Of all cells that its quality model has scored."""
        return {
            request: Measurement(row.bits, row.quality[self.quality_model])
            for request, row in self.cells.items()
            if self.quality_model in row.quality
        }

    def missing(self, profile: Profile) -> str:
        """Why no search can be simulated on it; empty if one can."""
        shape = self.shape
        ends = [0, *(shot.end for shot in shape.shots)]
        if [shot.start for shot in shape.shots] != ends[:-1]:
            return "its shots do not follow one another"
        have = self.measurements.keys()
        if not self._grid(profile) <= have:
            return "its full grid is not measured"
        return ""

    def _grid(self, profile: Profile) -> set[Request]:
        return {
            (shot, self.shape.point(size, crf))
            for shot in range(len(self.shape.shots))
            for size in self.shape.sizes
            for crf in profile.crf_grid[self.shape.recipe.codec]
        }

    def with_grid(self, profile: Profile) -> GridTitle:
        """For simulation; nothing may be :meth:`missing`."""
        grid = self._grid(profile)
        costs = {request: self.cells[request].encode_cpu_seconds for request in grid}
        known = {request: cost for request, cost in costs.items() if cost is not None}
        row = self.shot_rows[0]
        return GridTitle(
            name=self.name,
            group=self.group,
            shape=self.shape,
            grid={r: m for r, m in self.measurements.items() if r in grid},
            encode_seconds=known if len(known) == len(grid) else {},
            score_seconds=[
                typical_cpu_seconds(
                    self.quality_model, row.title_width, row.title_height, shot.frames
                )
                for shot in self.shape.shots
            ],
        )

    def proxies(self) -> dict[Request, Measurement]:
        """Of every shot the cell of the smallest size that is nearest to the proxy's CRF."""
        smallest = self.shape.sizes[0]
        found: dict[int, Request] = {}
        for shot, point in sorted(self.measurements):
            best = found.get(shot)
            if point.size == smallest and (
                best is None or abs(point.crf - PROXY_CRF) < abs(best[1].crf - PROXY_CRF)
            ):
                found[shot] = (shot, point)
        return {request: self.measurements[request] for request in found.values()}


def table_titles(rows: Iterable[Row]) -> list[TableTitle]:
    """The titles of a table. What differs in anything but shots, sizes and CRFs is another one.

    Where a table has a title under several recipes, its names tell which.
    """
    by: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        by[row.group, title_name(row), row.source_sha256, row.reference, row.recipe].append(row)
    recipes: dict[str, set[str]] = defaultdict(set)
    for _, name, *_, recipe in by:
        recipes[name].add(recipe)
    names: dict[str, int] = defaultdict(int)
    found = []
    for (group, name, *_, recipe), of in sorted(by.items()):
        if len(recipes[name]) > 1:
            name = f"{name}, {recipe}"
        names[name] += 1
        label = name if names[name] == 1 else f"{name} ({names[name]})"
        found.append(_table_title(label, group, of))
    return found


def _table_title(name: str, group: str, rows: Sequence[Row]) -> TableTitle:
    first = rows[0]
    shots = tuple(sorted({row.shot_range for row in rows}))
    sizes = sorted({row.size for row in rows}, key=lambda s: s[0] * s[1])
    return TableTitle(
        name=name,
        group=group,
        shape=TitleShape(
            shots=shots,
            frame_rate=first.frame_rate,
            sizes=tuple(sizes),
            recipe=by_name(first.recipe),
            source_bits=first.source_bits,
        ),
        quality_model=default_model(first.title_height, first.frame_rate),
        cells={(shots.index(row.shot_range), row.point): row for row in rows},
    )
