"""Which heights to offer: shots of real titles at many sizes, by three judges.

``python -m tests.size_study`` encodes 24 frames of each shot with the default profile's recipe at
the sizes of :func:`sizes_of`, at five CRFs, and scores the encodes at the title's display size. It
prints, for sets of heights, the rate over the best of all sizes at equal quality. Every point is
kept in ``data/sizes.jsonl`` as it is made, and encodes in a store; started again, the command goes
on where it stopped, and a judge that was added scores the encodes that there are.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from cluster.stages.encodes import MeasuredEncode, ShotWork, encode_and_score, find_encode
from cluster.stages.quarantine import reading
from cluster.stages.title import TitleSource, open_title
from cluster.store import open_store
from cluster.training.dataset import current, table_titles
from cluster.training.table import read_table
from encoder.media import OperatingPoint, Shot, Size
from encoder.recipes import Recipe
from ladder.bdrate import RatePoint
from ladder.evaluation.offered import cost_of_sizes, least_rates, qualities_at
from ladder.profiles import load_profile
from ladder.sizes import NATIVE_MARGIN, rung_sizes
from tests.conftest import CORPUS
from vmaf import models

SHOTS: dict[str, int] = {
    # name: first frame; the order in which they are measured
    "corpus2/davis_tennis_480p.mov": 10,
    "corpus/flutter_bee_720p.mp4": 30,
    "corpus2/soccer_shot_480p.mp4": 60,
    "corpus2/jungle_720p.mp4": 20,
    "corpus2/sol_levante_480p.mp4": 40,
    "corpus2/androidx_beddog_720p.mp4": 40,
    "corpus/gsam_car_traffic_1080p.mov": 60,
    "corpus2/trainstation_game_480p.mp4": 40,
    "corpus/pyscenedetect_testvideo_720p.mp4": 100,
    "corpus2/blackpool_drone_480p.mp4": 60,
    "corpus/sam2_dog_720p.mp4": 60,
    "corpus2/androidx_selfie_1080p.mp4": 8,
    "corpus2/pexels_redhair_720p.mp4": 60,
    "corpus/mdn_flower_540p.mp4": 30,
    "corpus/mdn_friday_bw_480p.mp4": 60,
    "corpus2/park_fountain_720p.mp4": 50,
}
"""Shots that choose: none of the titles that judge a release."""

FRAMES = 24

PLAIN = (234, 360, 540)
"""Heights that are offered without fitting, with the padding that they had."""
FITTED = (144, 208, 224, 288, 352, 432, 576, 720, 864)
LARGE = (208, 288, 432, 576, 720, 864)
"""Of them, those that titles of over 720 lines are measured at."""

SETS = (
    (234, 360, 432, 540, 720),
    (234, 352, 432, 540, 720),
    (234, 288, 432, 540, 720),
    (208, 288, 432, 576, 720),
    (224, 288, 432, 576, 720),
    (224, 288, 432, 720),
    (224, 288, 352, 432, 576, 720),
    (144, 224, 288, 432, 576, 720),
    (288, 432, 576, 720),
)
"""Sets of heights to compare; the first is that of release 0.1, as it was."""
QUALITIES = tuple(float(quality) for quality in range(40, 94))
CLASSES = {"480 to 540 lines": 576, "720 lines": 800, "1080 lines": 1200}

LOW_CRFS = (14.0, 18.0, 22.0, 27.0, 32.0, 38.0)
MIDDLE_CRFS = (17.0, 22.0, 27.0, 32.0, 38.0)
HIGH_CRFS = (19.0, 24.0, 29.0, 34.0, 39.0)


@dataclass(frozen=True, slots=True)
class Point:
    """One encode."""

    title: str
    start: int
    """First frame of the shot."""
    frames: int
    recipe: str
    own: tuple[int, int]
    """Display size of the title."""
    width: int
    height: int
    crf: float
    bits: int
    quality: dict[str, float] = field(default_factory=dict)
    """Mean over the frames, by quality model."""
    cpu_seconds: float = 0.0
    """CPU of the encode: its share of the process that made the CRFs of a size."""

    @property
    def key(self) -> tuple[str, int, int, float]:
        """What tells one encode from another."""
        return self.title, self.width, self.height, self.crf


def sizes_of(own: Size) -> tuple[Size, ...]:
    """Return the sizes that a title is measured at, its own last."""
    fitted = LARGE if min(own) > 720 else FITTED
    both = {*rung_sizes(*own, fitted, "size"), *rung_sizes(*own, PLAIN)}
    return tuple(sorted(both, key=min))


def crfs_of(size: Size, own: Size) -> tuple[float, ...]:
    """Return the CRFs that a size is measured at: those at which it may be the best one."""
    share = min(size) / min(own)
    return LOW_CRFS if share <= 0.45 else MIDDLE_CRFS if share <= 0.8 else HIGH_CRFS


def judges(title: TitleSource) -> tuple[str, ...]:
    """Return the quality models that a title is scored by, its own first."""
    return (models.title_model(title.reference), *models.JUDGES)


def missing(
    own: Size,
    recipe: Recipe,
    kept: dict[tuple[str, int, int, float], Point],
    title: str,
    wanted: Sequence[str],
) -> Iterator[tuple[OperatingPoint, ...]]:
    """Yield what is not measured yet, the points of one size together."""
    for size in sizes_of(own):
        points = tuple(
            OperatingPoint(recipe, *size, crf)
            for crf in crfs_of(size, own)
            if (found := kept.get((title, *size, crf))) is None or set(wanted) - set(found.quality)
        )
        if points:
            yield points


def measure_title(name: str, store: Path, kept: Path) -> None:
    """Measure what is missing of a title's shot, into the file."""
    recipe = load_profile().recipe("x264")
    with tempfile.TemporaryDirectory(prefix="size-study-") as workdir:
        title = open_title(CORPUS.resolve().parent / name, Path(workdir))
        own = Size(title.reference.width, title.reference.height)
        wanted = judges(title)
        shot = Shot(SHOTS[name], SHOTS[name] + FRAMES)
        short = Path(name).stem
        for points in missing(own, recipe, read_points(kept), short, wanted):
            with reading(open_store(store), title) as quarantine:
                encode_and_score(ShotWork(title, shot, points, wanted, str(store)))
                found = [find_encode(quarantine, title, shot, point, wanted) for point in points]
            rows = [row(short, own, encode) for encode in found if encode is not None]
            with kept.open("a") as file:
                file.writelines(json.dumps(asdict(each)) + "\n" for each in rows)
            print(f"{short} {points[0].width}x{points[0].height}", file=sys.stderr, flush=True)


def row(title: str, own: Size, encode: MeasuredEncode) -> Point:
    """Return the row of an encode."""
    return Point(
        title=title,
        start=encode.shot.start,
        frames=encode.shot.frames,
        recipe=encode.point.recipe.name,
        own=(own.width, own.height),
        width=encode.point.width,
        height=encode.point.height,
        crf=encode.point.crf,
        bits=8 * encode.num_bytes,
        quality={name: round(encode.mean_quality(name), 4) for name in encode.scores},
        cpu_seconds=round(encode.encode_cpu_seconds or 0.0, 3),
    )


def read_points(path: Path) -> dict[tuple[str, int, int, float], Point]:
    """Return the kept points; of one that was scored twice, the last row."""
    lines = path.read_text().splitlines() if path.exists() else []
    points = (
        Point(**{**json.loads(line), "own": tuple(json.loads(line)["own"])}) for line in lines
    )
    return {point.key: point for point in points}


def curves_of(points: Sequence[Point], model: str) -> dict[Size, list[RatePoint]]:
    """Return the measured points of one shot by size, by one quality model."""
    curves: dict[Size, list[RatePoint]] = {}
    for point in points:
        if model in point.quality:
            measured = RatePoint(point.bits, point.quality[model])
            curves.setdefault(Size(point.width, point.height), []).append(measured)
    return curves


def offered(curves: Collection[Size], own: Size, heights: Sequence[int]) -> set[Size]:
    """Return the measured sizes of a set of heights, and the title's own."""
    listed = {height for height in heights if height * NATIVE_MARGIN <= min(own)}
    return {size for size in curves if min(size) in listed or min(size) == min(own) & ~1}


def costs_of(points: Sequence[Point]) -> dict[str, tuple[float, ...]]:
    """Return the cost of each of :data:`SETS` on one shot as a share, by judge.

    The judges' qualities are those of their best sizes at the rates at which the best size by the
    title's own model has each of :data:`QUALITIES`.
    """
    own = Size(*points[0].own)
    models_of = list(points[0].quality)
    by_own = curves_of(points, models_of[0])
    rates = [rate for rate in least_rates(by_own, QUALITIES) if math.isfinite(rate)]
    found = {}
    for model in models_of:
        curves = curves_of(points, model)
        sets = [offered(curves, own, heights) for heights in SETS]
        at = QUALITIES if model == models_of[0] else qualities_at(curves, rates)
        found["vmaf" if model == models_of[0] else model] = cost_of_sizes(curves, sets, at)
    return found


def table(points: Iterable[Point]) -> str:
    """Return, as Markdown, what sets of heights cost on titles of about the same height."""
    shots: dict[str, list[Point]] = {}
    for point in points:
        shots.setdefault(point.title, []).append(point)
    classes: dict[str, list[dict[str, tuple[float, ...]]]] = {}
    for of_shot in shots.values():
        own = min(of_shot[0].own)
        label = next(name for name, most in CLASSES.items() if own <= most)
        classes.setdefault(label, []).append(costs_of(of_shot))
    judges = ("vmaf", *models.JUDGES)
    heads = [f"{label}, {len(costs)} shots" for label, costs in classes.items()]
    lines = [
        f"| heights (VMAF / {' / '.join(models.JUDGES)}) | {' | '.join(heads)} |",
        "|---" * (len(classes) + 1) + "|",
    ]
    for number, heights in enumerate(SETS):
        cells = []
        for costs in classes.values():
            means = [
                100 * sum(shot[judge][number] for shot in costs) / len(costs)
                for judge in judges
                if all(judge in shot for shot in costs)
            ]
            cells.append(" / ".join(f"{mean:.1f}" for mean in means) + " %")
        lines.append(f"| {', '.join(map(str, heights))} | {' | '.join(cells)} |")
    return "\n".join(lines)


def without_each(path: Path) -> str:
    """Return, as Markdown, what leaving out each height costs on titles with full grids.

    By the title's own quality model, mean over the title's shots.
    """
    profile = load_profile("default-0.1")
    lines = ["| title | shots | without |", "|---|---|---|"]
    for title in table_titles(current(read_table(path))):
        if title.missing(profile) or len(title.shape.sizes) < 3:
            continue
        sizes = title.shape.sizes
        sets = [[other for other in sizes if other != size] for size in sizes[:-1]]
        costs = []
        for shot in range(len(title.shape.shots)):
            curves: dict[Size, list[RatePoint]] = {}
            for (number, point), cell in title.measurements.items():
                if number == shot:
                    curves.setdefault(point.size, []).append(RatePoint(cell.bits, cell.quality))
            costs.append(cost_of_sizes(curves, sets, QUALITIES))
        means = [100 * sum(each) / len(each) for each in zip(*costs, strict=True)]
        said = (f"{min(z)}: {mean:.1f} %" for z, mean in zip(sizes, means, strict=False))
        lines.append(f"| {title.name} | {len(costs)} | {', '.join(said)} |")
    return "\n".join(lines)


def main() -> int:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kept", type=Path, default=Path("data/sizes.jsonl"))
    parser.add_argument("--store", type=Path, default=Path("out/size-study"))
    parser.add_argument("--titles", default="", help="only those whose name holds this")
    parser.add_argument("--show", action="store_true", help="what is kept, without measuring")
    parser.add_argument("--grids", type=Path, help="a table: what leaving out each height costs")
    asked = parser.parse_args()
    if asked.grids:
        print(without_each(asked.grids))
        return 0
    for name in () if asked.show else SHOTS:
        if asked.titles in name:
            measure_title(name, asked.store, asked.kept)
    print(table(read_points(asked.kept).values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
