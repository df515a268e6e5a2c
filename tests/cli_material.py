"""Shared by the tests of the command line: hand-written documents, a real shell, a title."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.cli import main
from cluster.package.comparison import (
    ComparedLadder,
    ComparedRung,
    Comparison,
    compared_parts,
)
from cluster.package.package import Package
from fixtures.clips import TINY, make
from ladder.document import (
    Cell,
    CodecFacts,
    Ladder,
    LockedCost,
    Measurements,
    Quality,
    Rung,
    SearchFacts,
    Segment,
    ShotRow,
    TitleFacts,
)

SHOTLADDER = (sys.executable, "-c", "import sys; from cluster.cli import main; sys.exit(main())")


def shell(*line: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """`shotladder` in a process of its own."""
    return subprocess.run(
        [*SHOTLADDER, *map(str, line)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )


def called(*line: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """`shotladder` in this process: a process of its own takes a second to start."""
    said, complaints = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(complaints),
    ):
        for name, value in environment.items():
            patch.setenv(name, value)
        status = main([*map(str, line)])
    return subprocess.CompletedProcess(line, status, said.getvalue(), complaints.getvalue())


def small_title(folder: Path) -> Path:
    """2 s at 24 fps with a cut at 24, and large enough for VMAF v1: 320x180."""
    return make(replace(TINY, scenes=TINY.scenes[:2], width=320, height=180), folder / "small.mp4")


MODEL = "vmaf_v1.0.16_3d0h"
NEG = "vmaf_v0.6.1neg"
SHOTS = ((0, 48), (48, 108), (108, 150))
# Per rung: name, size, slope, and per shot CRF, bytes, quality.
RUNGS = (
    ("v1-234p", (416, 234), 4.2e-3, ((34.5, 30_000, 52.25), (33, 45_500, 49.5), (35, 9_000, 61))),
    ("v2-360p", (640, 360), 8.1e-4, ((28, 96_000, 78), (27.5, 150_000, 75.5), (29, 30_000, 84))),
    ("v3-360p", (640, 360), None, ((20, 260_000, 93.5), (19.5, 401_000, 91), (21, 88_000, 96.5))),
)


def quality(mean: float) -> Quality:
    return Quality(mean=mean, harmonic_mean=mean - 0.5, p5=mean - 4, p1=mean - 6, min=mean - 8.125)


def hand_made() -> Ladder:
    frames = SHOTS[-1][1]
    rungs = []
    for name, (width, height), slope, points in RUNGS:
        mean = sum(q * (e - s) for (_, _, q), (s, e) in zip(points, SHOTS, strict=True)) / frames
        rungs.append(
            Rung(
                name=name,
                codec="x264",
                codecs="avc1.64001e",
                width=width,
                height=height,
                bitrate=round(8 * sum(size for _, size, _ in points) * 24 / frames),
                peak_bitrate=2_000_000,
                slope=slope,
                quality={MODEL: quality(mean), NEG: quality(mean - 10)},
                predicted_quality=None,
                init_uri=f"{name}/init.mp4",
                segments=[
                    Segment(
                        shot=number,
                        start_frame=start,
                        end_frame=end,
                        width=width,
                        height=height,
                        crf=crf,
                        bytes=size,
                        uri=f"{name}/{number:05d}.m4s",
                        sha256="0" * 64,
                        quality={MODEL: score, NEG: score - 10},
                    )
                    for number, ((start, end), (crf, size, score)) in enumerate(
                        zip(SHOTS, points, strict=True)
                    )
                ],
            )
        )
    return Ladder(
        title=TitleFacts(
            id="0123456789abcdef",
            source="clip.mp4",
            sha256="0123456789abcdef" * 4,
            width=640,
            height=360,
            frame_rate="24/1",
            frames=frames,
            source_bitrate=3_456_789,
            audio=True,
        ),
        policy="locked",
        profile="default",
        codec="x264",
        recipe="x264-medium",
        tool="9+0123456789ab",
        quality_model=MODEL,
        search=SearchFacts(mode="exhaustive", encodes=54, delivered_encodes=9, grid_encodes=54),
        locked_cost=LockedCost(bd_rate_percent=1.25, basis="measured"),
        constraints=["highest rung limited to the source's 3457 kbit/s"],
        rungs=rungs,
    )


def hand_made_measurements() -> Measurements:
    """A grid of three CRFs and two sizes: the larger one wins from CRF 28 down."""
    cells = [
        Cell(
            shot=shot,
            width=width,
            height=height,
            crf=crf,
            bytes=round((end - start) * width * height / (40 * 2 ** ((crf - 20) / 6))),
            quality=round(96 - 4 * shot - (crf - 20) * 1.2 - (8 if height == 234 else 0), 2),
        )
        for shot, (start, end) in enumerate(SHOTS)
        for width, height in ((416, 234), (640, 360))
        for crf in (20.0, 28.0, 36.0)
    ]
    return Measurements(
        title_id="0123456789abcdef",
        recipe="x264-medium",
        quality_model=MODEL,
        shots=[ShotRow(start_frame=s, end_frame=e, cuts=[60] if s == 48 else []) for s, e in SHOTS],
        cells=cells,
    )


def of_three_codecs(ladder: Ladder) -> Ladder:
    """The same, as if two other codecs had been asked for and every rung of theirs dropped."""
    found = (("x264", 0.0, []), ("svtav1", -37.1, ["svtav1-v1-234p"]), ("vp9", None, []))
    codecs = [
        CodecFacts(
            codec=codec,
            recipe=f"{codec}-medium",
            search=ladder.search,
            rungs=3,
            dropped=dropped,
            bd_rate_percent={MODEL: percent},
        )
        for codec, percent, dropped in found
    ]
    return ladder.model_copy(update={"codecs": codecs})


def hand_made_comparison() -> Comparison:
    """Three models, the second a judge; by it no quality is shared with the per-title ladder."""
    models = (MODEL, "xpsnr", NEG)
    ladders = {
        "ours": ((150, 50.0), (400, 75.0), (1200, 92.0), (3000, 97.0)),
        "fixed": ((145, 44.0), (365, 68.0), (1100, 88.0), (3000, 96.5)),
        "per_title": ((160, 50.0), (420, 74.5), (1300, 92.5)),
        "plain_per_title": ((160, 49.0), (420, 72.5), (1300, 91.0), (3100, 97.0)),
    }
    made = {
        name: ComparedLadder(
            "x264-slow" if name in ("ours", "per_title") else "x264-medium",
            tuple(
                ComparedRung(
                    name=f"360p {kbits}k",
                    width=640,
                    height=360,
                    bitrate=1000.0 * kbits,
                    quality={m: quality(mean - n - off(name, n)) for n, m in enumerate(models)},
                )
                for kbits, mean in points
            ),
        )
        for name, points in ladders.items()
    }
    return Comparison(
        title="clip.mp4",
        quality_model=MODEL,
        judges=("xpsnr",),
        parts=compared_parts(
            {"x264": (made["ours"], made["per_title"])},
            made["fixed"],
            made["plain_per_title"],
            models,
            ["xpsnr"],
        ),
        fixed=made["fixed"],
        plain_per_title=made["plain_per_title"],
        search="exhaustive",
    )


def off(ladder: str, model: int) -> float:
    return 45.0 if (ladder, model) == ("per_title", 1) else 0.0


def hand_made_package() -> Package:
    """A package without a folder."""
    return Package.of(Path(), hand_made(), hand_made_measurements())
