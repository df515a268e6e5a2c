"""How far scores of every Nth frame are from full ones: ``python -m tests.measure_every FILE...``.

A shot from the middle of each title is encoded by the recipes of the profile ``auto``, x264 and
SVT-AV1, at the title's size and at half of it, two CRFs each, and scored in full. The scores of
every Nth frame are among them (``tests/test_sampled.py``), so every step is judged from one
measurement: by the error of the shot's mean, and by that of the difference between an encode and
the next one of the same recipe, which is what decides between sizes and CRFs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from encoder.encode import encode_shot
from encoder.media import OperatingPoint, Shot
from encoder.source.planning import plan_source
from ladder.profiles import load_profile
from vmaf.graph import Context, Distorted
from vmaf.measure import measure
from vmaf.models import title_model
from vmaf.sampled import spread

STEPS = (2, 3, 4, 5, 6, 7, 8, 9, 11)
CRFS = {"x264": (24.0, 34.0), "svtav1": (30.0, 48.0)}


def main() -> int:
    """Print the errors by codec and step, as Markdown."""
    parser = argparse.ArgumentParser(prog="python -m tests.measure_every", description=__doc__)
    parser.add_argument("titles", nargs="+", type=Path)
    parser.add_argument("--frames", type=int, default=72, help="frames of each shot")
    parser.add_argument("--codecs", default="x264,svtav1")
    asked = parser.parse_args()
    errors: dict[tuple[str, int], list[float]] = {}
    gaps: dict[tuple[str, int], list[float]] = {}
    for path in asked.titles:
        for codec, before, series in _full_scores(path, asked.frames, asked.codecs.split(",")):
            for step in STEPS:
                off = [_error(scores, before, step) for scores in series]
                errors.setdefault((codec, step), []).extend(off)
                gaps.setdefault((codec, step), []).extend(b - a for a, b in pairwise(off))
        print(f"{path.name} measured", file=sys.stderr, flush=True)
    print("| codec | every | mean error | root mean square | worst | of differences, rms |")
    print("|---|---|---|---|---|---|")
    for (codec, step), found in sorted(errors.items()):
        off, apart = np.array(found), np.array(gaps[codec, step])
        print(
            f"| {codec} | {step} | {off.mean():+.2f} | {np.sqrt(np.mean(off**2)):.2f} | "
            f"{np.abs(off).max():.2f} | {np.sqrt(np.mean(apart**2)):.2f} |"
        )
    return 0


def _full_scores(
    path: Path, frames: int, codecs: Sequence[str]
) -> Iterator[tuple[str, int, list[tuple[float, ...]]]]:
    """Yield codec, number of context frames before the shot, and each encode's scores."""
    with tempfile.TemporaryDirectory(prefix="measure-every-") as name:
        folder = Path(name)
        source = plan_source(path, folder)
        start = max(0, (source.frames - frames) // 2)
        shot = Shot(start, min(start + frames, source.frames))
        profile = load_profile("auto")
        for codec in codecs:
            points = [
                OperatingPoint(
                    profile.recipe(codec),
                    2 * round(source.width * share / 2),
                    2 * round(source.height * share / 2),
                    crf,
                )
                for share in (1, 1 / 2)
                for crf in CRFS[codec]
            ]
            files = []
            for number, made in enumerate(encode_shot(source, shot, points, folder)[0]):
                whole = folder / f"{codec}-{number}.mp4"
                whole.write_bytes(made.init_path.read_bytes() + made.media_path.read_bytes())
                depth = made.point.recipe.bit_depth
                files.append(Distorted(whole, made.point.width, made.point.height, depth))
            model = title_model(source)
            scored, _ = measure(source, shot.start, shot.end, files, (model,), folder)
            before = Context.of(shot.start, shot.end, source.frames).before
            yield codec, before, [each.by_model[model] for each in scored]


def _error(scores: tuple[float, ...], before: int, step: int) -> float:
    """Return by how much the mean is off if only every ``step``-th frame has a score.

    libvmaf counts from the first frame that it is given, ``before`` frames before the shot.
    """
    kept = {n: score for n, score in enumerate(scores) if (n + before) % step == 0}
    return float(np.mean(spread(kept, len(scores))) - np.mean(scores))


if __name__ == "__main__":
    sys.exit(main())
