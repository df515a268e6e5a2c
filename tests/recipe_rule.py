"""Measure encoder options and apply the rule for default recipes: ``python -m tests.recipe_rule``.

Every title is encoded at its own size, shot by shot as the product does (what follows from a cut or
a short lookahead is part of what an option brings), at five CRFs of a recipe in one process, and
scored by VMAF v1, XPSNR and SSIM. The tables are BD-rates against plain x264 ``medium`` by title
and judge, CPU times as multiples of its, the decision of :mod:`ladder.evaluation.recipe_rule` on
every option, and the texture that x264's options keep on grain and foliage.

Every shot is kept in ``data/recipes.jsonl`` as it is measured; started again, the command goes on
where it stopped. ``--pieces 2 --frames 40`` measures the first 40 frames of two shots of every
title instead of whole titles. ``--show`` prints the tables without measuring. ``--recipes`` and
``--titles`` take other recipes, by their names, and other files; such a recipe is compared with the
same preset without its tuning.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import ffmpeg
import numpy as np

from encoder import recipes
from encoder.analysis.frames import feed, small_frames
from encoder.analysis.shots import CutDetector, plan_shots
from encoder.arrays import AnyArray
from encoder.augment import augment
from encoder.encode import encode_shot
from encoder.errors import FrameMismatch, ShotladderError
from encoder.ffmpeg import patience, run
from encoder.media import OperatingPoint, Shot
from encoder.recipes import PRESETS, by_name
from encoder.source.planning import plan_source
from encoder.source.reference import ReferenceSource, open_reference, reading_command
from tests.recipe_material import (
    ANCHOR,
    CPU_FAMILIES,
    CPU_FRAMES,
    CPU_TITLES,
    CRFS,
    GUARD_RECIPES,
    GUARD_TITLES,
    OPTIONS,
    TITLES,
    Kept,
    Row,
    ShotKey,
    clip_path,
)
from tests.recipe_tables import tables
from vmaf import models
from vmaf.graph import Distorted
from vmaf.measure import measure
from vmaf.texture import mean_fine_energy

EVERY = 3
"""Texture is taken from every third frame."""
GRAIN = "+grain"
GRAINY_FRAMES = 72


class Titles:
    """Opened titles, and their shots, found once."""

    def __init__(self, work: Path, scratch: Path) -> None:
        self._work = work
        self._scratch = scratch
        self._sources: dict[str, ReferenceSource] = {}

    def source(self, title: str) -> ReferenceSource:
        """Return a title ready to be read, with grain where its name asks for it."""
        if title not in self._sources:
            name = title.removesuffix(GRAIN)
            folder = Path(tempfile.mkdtemp(dir=self._scratch))
            opened = plan_source(clip_path(name), folder)
            if name != title:
                path = folder / "grain.mp4"
                augment(opened, "grain", 0, min(opened.frames, GRAINY_FRAMES), path)
                opened = plan_source(path, folder)
            self._sources[title] = opened
        return self._sources[title]

    def shots(self, title: str) -> list[Shot]:
        """Return the shots that the product would find."""
        path = self._work / f"{Path(title).name}.shots.json"
        if not path.exists():
            source = self.source(title)
            detector = CutDetector(source.frame_rate)
            feed(small_frames(source), detector)
            found = plan_shots(detector.cuts(), source.frames, source.frame_rate)
            path.write_text(json.dumps([(s.start, s.end, s.cuts) for s in found]))
        return [Shot(start, end, tuple(cuts)) for start, end, cuts in json.loads(path.read_text())]

    def pieces(self, title: str, pieces: int, frames: int) -> list[Shot]:
        """Return all shots, or the first ``frames`` of ``pieces`` shots spread over the title."""
        shots = self.shots(title)
        if not pieces:
            return shots
        count = min(pieces, len(shots))
        chosen = [shots[(2 * number + 1) * len(shots) // (2 * count)] for number in range(count)]
        ends = [min(shot.end, shot.start + frames) for shot in chosen]
        return [
            Shot(shot.start, end, tuple(cut for cut in shot.cuts if cut < end))
            for shot, end in zip(chosen, ends, strict=True)
        ]


def encoded(work: Path, source: ReferenceSource, title: str, shot: Shot, recipe: str) -> Row:
    """Encode a shot at all CRFs of a recipe; the files stay in ``work`` for scoring.

    Raises:
        FrameMismatch: the CRFs do not share one codec configuration.
    """
    crfs = CRFS[by_name(recipe).codec]
    size = (source.width, source.height)
    # What x264 says of itself stays in all encodes: no option is to be credited with its bytes.
    points = [OperatingPoint(by_name(recipe).self_describing, *size, crf) for crf in crfs]
    key = ShotKey(title, shot.start, shot.end)
    with tempfile.TemporaryDirectory(prefix="recipes-", dir=work) as folder:
        encodes, seconds = encode_shot(source, shot, points, Path(folder))
        for path, made in zip(files(work, key, recipe), encodes, strict=True):
            path.write_bytes(made.init_path.read_bytes() + made.media_path.read_bytes())
    configurations = tuple(sorted({made.codec_sha256[:12] for made in encodes}))
    if len(configurations) > 1:
        raise FrameMismatch(f"{recipe} writes several codec configurations over its CRFs")
    return Row(
        title=title,
        start=shot.start,
        end=shot.end,
        title_frames=source.frames,
        width=source.width,
        height=source.height,
        recipe=recipe,
        crfs=crfs,
        bits=tuple(8 * made.num_bytes for made in encodes),
        encode_seconds=round(seconds, 2),
        configurations=configurations,
    )


def files(work: Path, shot: ShotKey, recipe: str) -> list[Path]:
    """Return where the encodes of a shot are kept until they are scored."""
    name = hashlib.sha256(f"{shot} {recipe}".encode()).hexdigest()[:20]
    return [work / f"{name}-{number}.mp4" for number in range(len(CRFS[by_name(recipe).codec]))]


def scored(work: Path, source: ReferenceSource, row: Row) -> Row:
    """Score the encodes of a row by all judges."""
    depth = by_name(row.recipe).bit_depth
    distorted = [
        Distorted(path, row.width, row.height, depth) for path in files(work, row.shot, row.recipe)
    ]
    judges = judges_of(source)
    with tempfile.TemporaryDirectory(prefix="recipes-", dir=work) as folder:
        scores, _ = measure(source, row.start, row.end, distorted, judges, Path(folder))
    quality = {
        judge: tuple(
            round(sum(found.by_model[judge]) / len(found.by_model[judge]), 4) for found in scores
        )
        for judge in judges
    }
    return replace(row, quality={**row.quality, **quality})


def judges_of(source: ReferenceSource) -> tuple[str, ...]:
    """Return the judges of a title, its quality model first."""
    beside = (models.name_for(judge, hdr=source.hdr is not None) for judge in models.JUDGES)
    return (models.title_model(source), *beside)


def textured(work: Path, source: ReferenceSource, row: Row) -> Row:
    """Measure the fine energy of the encodes of a row, over the source's."""
    size = (row.height, row.width)
    depth = 8 if source.pix_fmt == "yuv420p" else 10
    frames = row.end - row.start
    whole = mean_fine_energy(
        lumas(open_reference(source, row.start, row.end), *size, depth, frames)
    )
    depth = by_name(row.recipe).bit_depth
    kept = [
        mean_fine_energy(lumas(ffmpeg.input(path, threads=1)["v"], *size, depth, frames))
        for path in files(work, row.shot, row.recipe)
    ]
    return replace(row, texture=tuple(round(energy / whole, 4) for energy in kept))


def lumas(stream: Any, height: int, width: int, depth: int, frames: int) -> list[AnyArray]:
    """Return every third frame's luma, (height, width) in levels of 8 bit."""
    chosen = stream.filter("select", f"not(mod(n,{EVERY}))").filter("extractplanes", "y")
    options = {"f": "rawvideo", "fps_mode": "passthrough"}
    done = run(
        reading_command(ffmpeg.output(chosen, "-", **options)), timeout_seconds=patience(frames)
    )
    count = -(-frames // EVERY)
    samples = np.frombuffer(done.stdout, np.uint8 if depth == 8 else "<u2")
    if samples.size != count * height * width:
        raise FrameMismatch(f"read {samples.size / (height * width):g} pictures, not {count}")
    levels = samples.reshape(count, height, width).astype(np.float64) / 2 ** (depth - 8)
    return list(levels)


def work_list(
    asked: argparse.Namespace, titles: Titles
) -> Iterator[tuple[str, Shot, str, tuple[str, ...]]]:
    """Yield (title, shot, recipe, what to measure), the most decisive recipes first."""
    if asked.cpu:
        for title in CPU_TITLES:
            (shot,) = titles.pieces(title, 1, CPU_FRAMES)
            for codec, tuning in CPU_FAMILIES:
                for preset in PRESETS:
                    yield title, shot, recipes.recipe(codec, preset, tuning).name, ()
        return
    if asked.guard:
        for title in asked.titles or GUARD_TITLES:
            for recipe in asked.recipes or GUARD_RECIPES:
                for shot in titles.pieces(title, asked.pieces or 1, asked.frames):
                    yield title, shot, recipe, ("texture",)
        return
    for recipe in recipes_of(asked):
        for title in asked.titles or TITLES:
            for shot in titles.pieces(title, asked.pieces, asked.frames):
                yield title, shot, recipe, ("quality",)


def recipes_of(asked: argparse.Namespace) -> list[str]:
    """Return the recipes to measure: the anchor, what is asked for, and what that is held to."""
    both = [name for recipe, without in options_of(asked).items() for name in (without, recipe)]
    return list(dict.fromkeys([ANCHOR, *both]))


def options_of(asked: argparse.Namespace) -> dict[str, str]:
    """Return the recipes to judge, each with the recipe that it is compared with."""
    wanted = asked.recipes or OPTIONS
    return {recipe: OPTIONS.get(recipe) or plain(recipe) for recipe in wanted}


def plain(recipe: str) -> str:
    """Return the recipe that a recipe is held to: its preset without the tuning."""
    own = by_name(recipe)
    return own.plain.name if own.tuning else ANCHOR


def measure_all(asked: argparse.Namespace, kept: Kept) -> None:
    """Measure what is missing, into the file."""
    work: Path = asked.work
    work.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="recipes-titles-") as scratch:
        titles = Titles(work, Path(scratch))
        for title, shot, recipe, what in work_list(asked, titles):
            source = titles.source(title)
            key = ShotKey(title, shot.start, shot.end)
            row = kept.get(key, recipe)
            judges = () if asked.encode_only else judges_of(source)
            lacking = "quality" in what and (row is None or not set(judges) <= set(row.quality))
            flat = "texture" in what and (row is None or not row.texture)
            at_hand = all(path.exists() for path in files(work, key, recipe))
            if row is None or ((lacking or flat) and not at_hand):
                made = encoded(work, source, title, shot, recipe)
                # The bits are the same; the time of the first encode stays.
                row = made if row is None else row
                kept.put(row)
            if lacking and not asked.encode_only:
                row = scored(work, source, row)
                kept.put(row)
            if flat:
                row = textured(work, source, row)
                kept.put(row)
            print(f"{recipe} {title} {shot.start}", file=sys.stderr, flush=True)


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kept", type=Path, default=Path("data/recipes.jsonl"))
    parser.add_argument("--work", type=Path, default=Path("out/recipes"), help="keeps encodes")
    parser.add_argument("--titles", nargs="+", help="file names of the corpus, or paths")
    parser.add_argument("--recipes", nargs="+", metavar="NAME", help="as in x264-slow+ref=3")
    parser.add_argument("--pieces", type=int, default=0, help="shots of a title; all by default")
    parser.add_argument("--frames", type=int, default=40, help="of each shot, with --pieces")
    parser.add_argument("--guard", action="store_true", help="measure texture instead")
    parser.add_argument("--cpu", action="store_true", help="measure the CPU of all presets instead")
    parser.add_argument("--encode-only", action="store_true", help="score later")
    parser.add_argument("--show", action="store_true", help="what is kept, without measuring")
    return parser


def main() -> int:
    asked = arguments().parse_args()
    kept = Kept(asked.kept)
    try:
        options = options_of(asked)
        if not asked.show:
            measure_all(asked, kept)
    except ShotladderError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return 1
    print(tables(kept.rows(), options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
