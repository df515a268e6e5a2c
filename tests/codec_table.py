"""x265, SVT-AV1 and VP9 against x264 on cuts of real titles: ``python -m tests.codec_table``.

Of each title a few seconds are encoded as one shot, at two sizes and five CRFs, with every codec at
its preset ``medium`` and at one that takes about as long as another codec's ``medium``, one thread
each, and scored at the title's display size. BD-rate is that of the best of both sizes, over the
quality that both reach; of several titles the mean is of their BD-rates. Encode times are CPU
seconds of the process that makes the five CRFs of a size, the decode and scaling that they share
included.

Every point is kept in ``out/codec-table.jsonl`` as it is made; started again, the command goes on
where it stopped. ``--variants`` also measures x265 with other settings, to tell what its standing
comes from.

``--ladders TABLE...`` compares whole titles instead, without any encode: the ladders that the
exhaustive search makes of full grids in the tables, codec against codec.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cluster.training.dataset import table_titles
from cluster.training.table import read_table
from encoder import recipes
from encoder.encode import encode_shot
from encoder.media import OperatingPoint, Shot
from encoder.recipes import Recipe, by_name
from encoder.source.reference import ReferenceSource, plan_source
from ladder.bdrate import BdRate, RatePoint, bd_rate, monotone
from ladder.evaluation.simulate import Simulated, Truth, simulate
from ladder.profiles import load_profile
from ladder.search.steps import ExhaustiveSearch
from tests.conftest import CORPUS
from vmaf import models
from vmaf.graph import Distorted
from vmaf.measure import measure

CUTS: dict[str, tuple[int, int]] = {
    # name: first frame and number of frames
    "davis_multishot_dev.mov": (0, 48),
    "tears_of_steel_battle_332p.webm": (400, 60),
    "elephantsdream_576p.mkv": (0, 48),
    "mdn_flower_540p.mp4": (30, 60),
    "cotracker_teddy_portrait.mp4": (0, 60),
    "sam2_dog_720p.mp4": (60, 60),
}
"""Natural, film with effects, drawn, macro, held by hand, indoor; good sources and weak ones."""

CRFS = {
    "x264": (18, 23, 28, 33, 38),
    "x265": (18, 23, 28, 33, 38),
    "svtav1": (24, 32, 40, 48, 56),
    "vp9": (24, 32, 40, 48, 56),
}
CODECS = tuple(CRFS)
PRESET = "medium"
ANCHOR = f"x264-{PRESET}"
AS_LONG = ("x264-veryslow", "x265-superfast", "svtav1-faster", "vp9-fast")
"""x264 with the time of the others' ``medium``, and the others with more like its own."""
SMALLER = 0.6
"""Of the display size: the second size."""
ALSO = models.V0

VARIANTS = {
    "x265nopsy": "psy-rd=0:psy-rdoq=0",
    "x265aq1": "aq-mode=1",
    "x265nosao": "sao=0",
}


@dataclass(frozen=True, slots=True)
class Point:
    """One encode."""

    title: str
    recipe: str
    width: int
    height: int
    crf: float
    bits: int
    quality: dict[str, float]
    encode_seconds: float
    """CPU: a fifth of what the five CRFs of a size took together."""


def variant(name: str) -> Recipe:
    """A recipe of x265 with other settings, for comparison only."""
    plain = recipes.x265(PRESET)
    options = dict(plain.options)
    options["x265-params"] += f":{VARIANTS[name]}"
    return replace(plain, name=f"{name}-{PRESET}", options=tuple(options.items()))


def sizes(source: ReferenceSource) -> list[tuple[int, int]]:
    """The display size and a smaller one."""
    whole = (source.width, source.height)
    small = (2 * round(SMALLER * whole[0] / 2), 2 * round(SMALLER * whole[1] / 2))
    return [whole, small]


def measured(
    source: ReferenceSource, title: str, shot: Shot, wanted: Sequence[OperatingPoint]
) -> list[Point]:
    """Encode and score points of one size and recipe."""
    model = models.title_model(source)
    with tempfile.TemporaryDirectory(prefix="codec-table-") as name:
        folder = Path(name)
        encodes, seconds = encode_shot(source, shot, wanted, folder)
        files = []
        for number, made in enumerate(encodes):
            whole = folder / f"whole-{number}.mp4"
            whole.write_bytes(made.init_path.read_bytes() + made.media_path.read_bytes())
            depth = made.point.recipe.bit_depth
            files.append(Distorted(whole, made.point.width, made.point.height, depth))
        scores, _ = measure(source, shot.start, shot.end, files, (model, ALSO), folder)
    return [
        Point(
            title=title,
            recipe=made.point.recipe.name,
            width=made.point.width,
            height=made.point.height,
            crf=made.point.crf,
            bits=8 * made.num_bytes,
            quality={m: round(sum(v) / len(v), 4) for m, v in scored.by_model.items()},
            encode_seconds=round(seconds / len(encodes), 3),
        )
        for made, scored in zip(encodes, scores, strict=True)
    ]


def against(
    points: Iterable[Point], title: str, anchor: str, test: str, model: str
) -> float | None:
    """BD-rate in percent on one title; None where it cannot be said."""
    curves = []
    for name in (anchor, test):
        own = [p for p in points if p.title == title and p.recipe == name and model in p.quality]
        curves.append(monotone(RatePoint(p.bits, p.quality[model]) for p in own))
    if min(map(len, curves)) < 2:
        return None
    found = bd_rate(*curves)
    return found.percent if isinstance(found, BdRate) else None


def table(points: Sequence[Point], tests: Sequence[str], anchor: str = ANCHOR) -> str:
    """As Markdown: a row for each title, their mean, and encode times."""
    titles = list(dict.fromkeys(point.title for point in points))
    lines = []
    for model in dict.fromkeys(name for point in points for name in point.quality):
        lines += [f"| {model} | {' | '.join(tests)} |", "|---" * (len(tests) + 1) + "|"]
        columns: dict[str, list[float]] = {test: [] for test in tests}
        for title in titles:
            cells = []
            for test in tests:
                percent = against(points, title, anchor, test, model)
                cells.append("-" if percent is None else f"{percent:+.1f} %")
                columns[test] += [] if percent is None else [percent]
            if any(cell != "-" for cell in cells):
                lines.append(f"| {Path(title).stem} | {' | '.join(cells)} |")
        means = [f"{sum(c) / len(c):+.1f} %" if c else "-" for c in columns.values()]
        lines += [f"| mean | {' | '.join(means)} |", ""]
    names = [anchor, *tests]
    lines += [f"| CPU s an encode | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    totals = {}
    for name in names:
        own = [point.encode_seconds for point in points if point.recipe == name]
        totals[name] = sum(own) / len(own) if own else 0.0
    lines.append(f"| mean | {' | '.join(f'{seconds:.2f}' for seconds in totals.values())} |")
    if totals[anchor]:
        times = (f"{seconds / totals[anchor]:.1f}" for seconds in totals.values())
        lines.append(f"| times {anchor} | {' | '.join(times)} |")
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class WholeLadder:
    """What the exhaustive search makes of a title's grid."""

    rungs: tuple[RatePoint, ...]
    encode_seconds: float
    """CPU of an encode, mean over the grid."""


def whole_ladders(tables: Sequence[Path]) -> dict[str, dict[str, WholeLadder]]:
    """By title, then by recipe; of titles whose grid is whole under x264 and another codec."""
    profile = load_profile()
    found: dict[str, dict[str, WholeLadder]] = {}
    for one in table_titles([row for path in tables for row in read_table(path)]):
        if one.missing(profile):
            continue
        title = one.with_grid(profile)
        ended = simulate(ExhaustiveSearch(), Truth.of(title), profile)
        if isinstance(ended, Simulated):
            rungs = tuple(RatePoint(rung.rate, rung.quality) for rung in ended.plan.rungs)
            seconds = sum(title.encode_seconds.values()) / len(title.grid)
            name = one.shot_rows[0].source
            found.setdefault(name, {})[title.shape.recipe.name] = WholeLadder(rungs, seconds)
    return {name: of for name, of in found.items() if ANCHOR in of and len(of) > 1}


def ladders_table(found: dict[str, dict[str, WholeLadder]]) -> str:
    """As Markdown: BD-rate of every codec's ladder against that of x264, and CPU."""
    tests = sorted({recipe for of in found.values() for recipe in of} - {ANCHOR})
    lines = [f"| title | {' | '.join(tests)} |", "|---" * (len(tests) + 1) + "|"]
    columns: dict[str, list[tuple[float, float]]] = {test: [] for test in tests}
    for name, of in sorted(found.items()):
        cells = []
        for test in tests:
            both = [of[name].rungs for name in (ANCHOR, test) if name in of]
            several = len(both) == 2 and min(map(len, both)) > 1
            result = bd_rate(*both) if several else None
            if isinstance(result, BdRate):
                times = of[test].encode_seconds / of[ANCHOR].encode_seconds
                columns[test].append((result.percent, times))
                cells.append(f"{result.percent:+.1f} %, {times:.1f} x")
            else:
                cells.append("-")
        if any(cell != "-" for cell in cells):
            lines.append(f"| {Path(name).stem} | {' | '.join(cells)} |")
    means = [
        f"{sum(p for p, _ in c) / len(c):+.1f} %, {sum(t for _, t in c) / len(c):.1f} x"
        if c
        else "-"
        for c in columns.values()
    ]
    return "\n".join([*lines, f"| mean | {' | '.join(means)} |"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kept", type=Path, default=Path("out/codec-table.jsonl"))
    parser.add_argument("--titles", default="", help="only those whose name holds this")
    parser.add_argument("--variants", action="store_true")
    parser.add_argument("--show", action="store_true", help="what is kept, without measuring")
    parser.add_argument("--ladders", type=Path, nargs="+", metavar="TABLE")
    asked = parser.parse_args()
    if asked.ladders:
        print(ladders_table(whole_ladders(asked.ladders)))
        return 0
    for name in VARIANTS:
        recipes.CODECS[name] = (
            lambda preset="", tuning="", name=name: variant(name)  # type: ignore[misc]
        )
    kept: Path = asked.kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    lines = kept.read_text().splitlines() if kept.exists() else []
    points = [Point(**json.loads(line)) for line in lines]
    wanted = [f"{codec}-{PRESET}" for codec in (*CODECS, *(VARIANTS if asked.variants else ()))]
    wanted += AS_LONG
    if not asked.show:
        for title in CUTS:
            if asked.titles in title:
                measure_title(title, wanted, points, kept)
    points = [point for point in points if asked.titles in point.title]
    print(table(points, [name for name in wanted if name != ANCHOR]))
    return 0


def measure_title(title: str, wanted: Sequence[str], points: list[Point], kept: Path) -> None:
    """Measure what is missing of a title, into ``points`` and the file."""
    known = {(p.title, p.recipe, p.width, p.height, p.crf) for p in points}
    start, frames = CUTS[title]
    with tempfile.TemporaryDirectory(prefix="codec-table-") as workdir:
        source = plan_source(CORPUS.resolve() / title, workdir)
        shot = Shot(start, start + frames)
        for recipe in wanted:
            crfs = CRFS.get(by_name(recipe).codec, CRFS["x265"])
            for width, height in sizes(source):
                missing = [
                    OperatingPoint(by_name(recipe), width, height, crf)
                    for crf in crfs
                    if (title, recipe, width, height, crf) not in known
                ]
                if not missing:
                    continue
                found = measured(source, title, shot, missing)
                points += found
                with kept.open("a") as file:
                    file.writelines(json.dumps(asdict(point)) + "\n" for point in found)
                print(f"{title} {recipe} {height}p", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
