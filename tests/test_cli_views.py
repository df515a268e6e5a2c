"""What `ladder show`, `ladder plot` and `shots DIR` print, on documents written by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.cli import main
from ladder.document import (
    Cell,
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

GOLDEN = Path(__file__).parent / "golden"
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


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "ladder.json").write_text(hand_made().to_json())
    (tmp_path / "measurements.json").write_text(hand_made_measurements().to_json())
    return tmp_path


def printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int, *line: str
) -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(line) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return "".join(row.rstrip() + "\n" for row in out.splitlines())


@pytest.mark.parametrize("columns", [80, 140])
@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("show", ("ladder", "show")),
        ("show-shots", ("ladder", "show", "--shots")),
        ("plot", ("ladder", "plot")),
        ("plot-shot", ("ladder", "plot", "--shot", "1")),
        ("shots", ("shots",)),
    ],
)
def test_views_are_as_written_down(
    package: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    line: tuple[str, ...],
    columns: int,
) -> None:
    found = printed(capsys, monkeypatch, columns, *line, str(package))
    assert max(map(len, found.splitlines())) <= columns
    assert "\x1b" not in found
    golden = GOLDEN / f"{name}-{columns}.txt"
    assert found == golden.read_text(), f"see {golden}"
