"""Whether the choice of sizes holds where players upscale otherwise: ``python -m tests.upscaling``.

Scores upscale encodes with bicubic scaling; browsers and televisions often use bilinear. Of each
title a few runs of frames are encoded as one shot each, at several heights and CRFs, and every
encode is scored by VMAF v1, XPSNR and SSIM under both. For each judge and run, the sizes that are
best under bicubic upscaling at 24 rates are then judged under bilinear. ``same`` is the share of
rates at which the same size is best under both, ``steps`` how many sizes further up bilinear's
choice lies on the mean, and ``costs`` how many percent more bits the sizes of bicubic need under
bilinear than the best sizes would.

Every encode is kept in ``data/upscaling.jsonl`` as it is made; started again, the command goes on
where it stopped. ``--show`` prints the table without measuring.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from encoder.arrays import Float64
from encoder.encode import encode_shot
from encoder.media import OperatingPoint, Shot
from encoder.source.planning import plan_source
from encoder.source.reference import ReferenceSource
from ladder.bdrate import RatePoint, monotone
from ladder.curves import pchip
from ladder.profiles import load_profile
from tests.conftest import CORPUS
from vmaf.graph import UPSCALER, Distorted
from vmaf.measure import measure
from vmaf.models import JUDGES, title_model

RUNS = (
    ("davis_multishot_dev.mov", 100),
    ("davis_multishot_dev.mov", 320),
    ("elephantsdream_576p.mkv", 48),
    ("sam2_multishot_720p.mp4", 289),
    ("sam2_multishot_720p.mp4", 735),
    ("gsam_car_traffic_1080p.mov", 0),
)
"""Titles and first frames: outdoor, drawn, indoor and street."""
FRAMES = 36
HEIGHTS = (234, 288, 360, 432, 540, 720, 1080)
"""Those up to the title's own height are measured, and that one."""
CRFS = (16, 21, 26, 31, 36, 41, 46)
OTHER = "bilinear"
RATES = 24
QUALITIES = (40.0, 94.0)
"""VMAF, of the best size under bicubic upscaling, at the lowest and the highest of the rates."""


@dataclass(frozen=True, slots=True)
class Point:
    """One encode."""

    title: str
    start: int
    """First frame."""
    height: int
    crf: float
    bits: int
    quality: Mapping[str, Mapping[str, float]]
    """Mean score by upscaler and quality model."""


# -- measuring ---------------------------------------------------------------------------------


def measure_run(title: str, start: int, points: list[Point], kept: Path) -> None:
    """Measure what is missing of a run of frames, size by size, into ``points`` and the file."""
    known = {(p.title, p.start, p.height, p.crf) for p in points}
    recipe = load_profile("default").recipe("x264")
    with tempfile.TemporaryDirectory(prefix="upscaling-") as workdir:
        source = plan_source(CORPUS.resolve() / title, workdir)
        for height in sorted({h for h in HEIGHTS if h < source.height} | {source.height}):
            width = 2 * round(source.width * height / source.height / 2)
            missing = [
                OperatingPoint(recipe, width, height, crf)
                for crf in CRFS
                if (title, start, height, crf) not in known
            ]
            if missing:
                found = list(_measured(source, title, start, missing, Path(workdir)))
                points += found
                with kept.open("a") as file:
                    file.writelines(json.dumps(asdict(point)) + "\n" for point in found)
                print(f"{title} {start} {height}p", file=sys.stderr, flush=True)


def _measured(
    source: ReferenceSource,
    title: str,
    start: int,
    wanted: Sequence[OperatingPoint],
    folder: Path,
) -> Iterator[Point]:
    shot = Shot(start, start + FRAMES)
    encodes, _ = encode_shot(source, shot, wanted, folder)
    files = []
    for number, made in enumerate(encodes):
        whole = folder / f"whole-{number}.mp4"
        whole.write_bytes(made.init_path.read_bytes() + made.media_path.read_bytes())
        files.append(Distorted(whole, made.point.width, made.point.height))
    models = (title_model(source), *JUDGES)
    scores = {
        upscaler: measure(source, shot.start, shot.end, files, models, folder, upscaler)[0]
        for upscaler in (UPSCALER, OTHER)
    }
    for number, made in enumerate(encodes):
        yield Point(
            title=title,
            start=start,
            height=made.point.height,
            crf=made.point.crf,
            bits=8 * made.num_bytes,
            quality={
                upscaler: {
                    "vmaf" if model not in JUDGES else model: round(sum(frames) / FRAMES, 4)
                    for model, frames in by_encode[number].by_model.items()
                }
                for upscaler, by_encode in scores.items()
            },
        )


# -- judging -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Curve:
    """Quality of one size over the logarithm of rate, between measured encodes."""

    log_bits: Float64
    quality: Float64

    def at(self, log_bits: float) -> float:
        """Return the quality at a rate; minus infinity where it was not measured."""
        if not self.log_bits[0] <= log_bits <= self.log_bits[-1]:
            return -math.inf
        return float(pchip(self.log_bits, self.quality, np.array([log_bits]))[0])

    def reaches(self, quality: float) -> float:
        """Return the logarithm of the rate at which a quality is reached, else infinity."""
        if not self.quality[0] <= quality <= self.quality[-1]:
            return math.inf
        return float(pchip(self.quality, self.log_bits, np.array([quality]))[0])


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the choice of sizes holds for one run of frames by one judge."""

    same: float
    """Share of the rates at which both upscalers have the same best size."""
    steps: float
    """Mean number of sizes by which the choice moves up under the other upscaler."""
    costs: float
    """Mean of the bits over the best size's under the other upscaler, in percent."""
    worst: float
    """The largest of them."""


def curves(points: Sequence[Point], upscaler: str, model: str) -> dict[int, Curve]:
    """Return the curve of each height, ascending."""
    by_height: dict[int, list[RatePoint]] = {}
    for point in points:
        pair = RatePoint(point.bits, point.quality[upscaler][model])
        by_height.setdefault(point.height, []).append(pair)
    found = {}
    for height, pairs in sorted(by_height.items()):
        kept = monotone(pairs)
        found[height] = Curve(
            np.log([p.rate for p in kept]), np.array([p.quality for p in kept], float)
        )
    return found


def judge(points: Sequence[Point], model: str) -> Verdict:
    """Judge the sizes that are best under bicubic upscaling under the other upscaler."""
    usual, other = curves(points, UPSCALER, model), curves(points, OTHER, model)
    same, steps, costs = [], [], []
    for rate in _rates(points):
        chosen, best = _best(usual, rate), _best(other, rate)
        if chosen is None or best is None:
            continue
        heights = list(usual)
        needed = min(curve.reaches(other[chosen].at(rate)) for curve in other.values())
        same.append(chosen == best)
        steps.append(heights.index(best) - heights.index(chosen))
        costs.append((math.exp(rate - needed) - 1) * 100)
    return Verdict(
        float(np.mean(same)), float(np.mean(steps)), float(np.mean(costs)), float(max(costs))
    )


def _best(by_height: Mapping[int, Curve], rate: float) -> int | None:
    """Return the height of the best quality; None where a larger one may be better still."""
    heights = list(by_height)
    best = max(heights, key=lambda height: by_height[height].at(rate))
    above = heights[min(heights.index(best) + 1, len(heights) - 1)]
    return best if math.isfinite(by_height[above].at(rate)) else None


def _rates(points: Sequence[Point]) -> list[float]:
    """Return logarithms of rates, evenly spaced, at which the best VMAF is in ``QUALITIES``."""
    by_size = curves(points, UPSCALER, "vmaf").values()
    low, high = (min(curve.reaches(q) for curve in by_size) for q in QUALITIES)
    if not math.isfinite(low):
        low = min(float(curve.log_bits[0]) for curve in by_size)
    if not math.isfinite(high):
        high = max(float(curve.log_bits[-1]) for curve in by_size)
    return np.linspace(low, high, RATES).tolist()


def table(points: Sequence[Point]) -> str:
    """Return the verdicts as Markdown."""
    lines = ["| frames | judge | same | steps | costs | at worst |", "|---|---|---|---|---|---|"]
    verdicts: dict[str, list[Verdict]] = {}
    for title, start in RUNS:
        run = [p for p in points if (p.title, p.start) == (title, start)]
        if not run:
            continue
        for model in ("vmaf", *JUDGES):
            verdict = judge(run, model)
            verdicts.setdefault(model, []).append(verdict)
            lines.append(_row(f"`{title}` {start}-{start + FRAMES - 1}", model, verdict))
    for model, found in verdicts.items():
        mean = Verdict(
            float(np.mean([verdict.same for verdict in found])),
            float(np.mean([verdict.steps for verdict in found])),
            float(np.mean([verdict.costs for verdict in found])),
            max(verdict.worst for verdict in found),
        )
        lines.append(_row("mean", model, mean))
    return "\n".join(lines)


def _row(frames: str, model: str, verdict: Verdict) -> str:
    return (
        f"| {frames} | {model} | {100 * verdict.same:.0f} % | {verdict.steps:+.2f} | "
        f"{verdict.costs:.2f} % | {verdict.worst:.1f} % |"
    )


def main() -> int:
    """Measure what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kept", type=Path, default=Path("data/upscaling.jsonl"))
    parser.add_argument("--show", action="store_true", help="what is kept, without measuring")
    asked = parser.parse_args()
    kept: Path = asked.kept
    lines = kept.read_text().splitlines() if kept.exists() else []
    points = [Point(**json.loads(line)) for line in lines]
    if not asked.show:
        for title, start in RUNS:
            measure_run(title, start, points, kept)
    print(table(points))
    return 0


if __name__ == "__main__":
    sys.exit(main())
