"""Rows of the table as training and judging need them: as examples, and as whole titles."""

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
from vmaf.models import default_model, is_judge, typical_cpu_seconds

if TYPE_CHECKING:
    from ladder.complexity.inputs import ShotInputs
    from ladder.complexity.training import Example

PROXY_CRF = 30.0
"""CRF of a typical proxy encode."""


def current(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Return the rows with features of this version.

    Raises:
        BadInput: there are none.
    """
    kept = tuple(row for row in rows if row.features_version == FEATURES_VERSION)
    if not kept:
        raise BadInput(
            f"the table has no rows with features of version {FEATURES_VERSION}; sweep again"
        )
    return kept


def title_name(row: Row) -> str:
    """Return the name of a row's title as tables show it: file name and augmentation."""
    return "/".join(part for part in (row.source, row.augmentation) if part)


def examples(rows: Iterable[Row]) -> list[Example]:
    """Return rows as training examples, without scores by judges: networks predict VMAF."""
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
            quality={m: score for m, score in row.quality.items() if not is_judge(m)},
            source=row.source_sha256,
        )
        for row in rows
    ]


def shot_inputs(row: Row) -> ShotInputs:
    """Return the model's inputs for the shot of a row."""
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
    """All rows of one title and recipe."""

    name: str
    group: str
    shape: TitleShape
    quality_model: str
    """Quality model that a run would choose for the title, and by which it is judged."""
    cells: Mapping[Request, Row]

    @property
    def cost(self) -> float:
        """Time that judging the title takes, compared with other titles."""
        return float(len(self.cells))

    @property
    def shot_rows(self) -> list[Row]:
        """One row of each shot, in order of shots."""
        by_shot: dict[int, Row] = {}
        for (shot, _), row in self.cells.items():
            by_shot.setdefault(shot, row)
        return [by_shot[shot] for shot in range(len(self.shape.shots))]

    @property
    def measurements(self) -> dict[Request, Measurement]:
        """Measurements of all cells that the title's quality model has scored."""
        return {
            request: Measurement(row.bits, row.quality[self.quality_model])
            for request, row in self.cells.items()
            if self.quality_model in row.quality
        }

    def missing(self, profile: Profile) -> str:
        """Return why no search can be simulated on the title; empty if one can."""
        shape = self.shape
        ends = [0, *(shot.end for shot in shape.shots)]
        if [shot.start for shot in shape.shots] != ends[:-1]:
            return "its shots do not follow one another"
        if not self._grid(profile) <= self.measurements.keys():
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
        """Return the title for simulation; nothing may be :meth:`missing`."""
        grid = self._grid(profile)
        seconds = {
            request: cpu_seconds
            for request in grid
            if (cpu_seconds := self.cells[request].encode_cpu_seconds) is not None
        }
        row = self.shot_rows[0]
        return GridTitle(
            name=self.name,
            group=self.group,
            shape=self.shape,
            grid={r: m for r, m in self.measurements.items() if r in grid},
            encode_seconds=seconds if len(seconds) == len(grid) else {},
            score_seconds=[
                typical_cpu_seconds(
                    self.quality_model, row.title_width, row.title_height, shot.frames
                )
                for shot in self.shape.shots
            ],
        )

    def proxies(self) -> dict[Request, Measurement]:
        """Return each shot's cell of the smallest size whose CRF is nearest to a proxy's."""
        smallest = self.shape.sizes[0]
        nearest: dict[int, Request] = {}
        for shot, point in sorted(self.measurements):
            best = nearest.get(shot)
            if point.size == smallest and (
                best is None or abs(point.crf - PROXY_CRF) < abs(best[1].crf - PROXY_CRF)
            ):
                nearest[shot] = (shot, point)
        return {request: self.measurements[request] for request in nearest.values()}


def table_titles(rows: Iterable[Row]) -> list[TableTitle]:
    """Return the titles of a table. Rows of one title differ in shot, size and CRF only.

    Where a table has a title with several recipes, the names of the titles include the recipe.
    """
    by_title: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        identity = row.group, title_name(row), row.source_sha256, row.reference, row.recipe
        by_title[identity].append(row)
    recipes: dict[str, set[str]] = defaultdict(set)
    for _, name, *_, recipe in by_title:
        recipes[name].add(recipe)
    uses: dict[str, int] = defaultdict(int)
    titles = []
    for (group, name, *_, recipe), title_rows in sorted(by_title.items()):
        if len(recipes[name]) > 1:
            name = f"{name}, {recipe}"
        uses[name] += 1
        unique = name if uses[name] == 1 else f"{name} ({uses[name]})"
        titles.append(_table_title(unique, group, title_rows))
    return titles


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
