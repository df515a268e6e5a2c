"""The package of a feature film with made-up numbers, as far as a report reads it."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

from ladder.document import (
    Cell,
    Ladder,
    LockedCost,
    Measurements,
    Rung,
    SearchFacts,
    Segment,
    ShotRow,
    TitleFacts,
)
from tests.cli_material import MODEL, quality
from tests.package_media import encode

SIZES = ((416, 234), (640, 360), (960, 540), (1280, 720), (1920, 1080))
RUNGS = 9
CELLS = 11
"""Number of measured points per shot, of which nine are delivered."""
SHOT_FRAMES = 96


def write_long_title(folder: Path, shots: int = 1500) -> None:
    """Write the documents of a title of ``shots`` shots of 4 s in nine rungs, and one small segment
    per rung as the media of all its shots."""
    draw = random.Random(shots)
    hard = [draw.gauss(0, 0.5) for _ in range(shots)]
    init, media, _ = encode(0, 24, 30)
    for number in range(RUNGS):
        (folder / f"v{number}").mkdir(parents=True)
        (folder / f"v{number}" / "init.mp4").write_bytes(init)
        (folder / f"v{number}" / "0.m4s").write_bytes(media)
    frames, seconds = shots * SHOT_FRAMES, shots * SHOT_FRAMES / 24

    def point(shot: int, place: float) -> tuple[float, int, float]:
        """Return CRF, bytes and quality of a shot at ``place``, 0 (lowest rung) to 1 (highest)."""
        crf = round(2 * (38 - 20 * place + hard[shot])) / 2
        rate = 150_000 * math.exp(3.6 * place + hard[shot])
        return crf, round(rate * SHOT_FRAMES / 24 / 8), min(99.9, 45 + 53 * place - 4 * hard[shot])

    rungs = []
    for number in range(RUNGS):
        width, height = SIZES[number * len(SIZES) // RUNGS]
        points = [point(shot, number / (RUNGS - 1)) for shot in range(shots)]
        segments = [
            Segment(
                shot=shot, start_frame=shot * SHOT_FRAMES, end_frame=(shot + 1) * SHOT_FRAMES,
                width=width, height=height, crf=crf, bytes=size, uri=f"v{number}/0.m4s",
                sha256="0" * 64, quality={MODEL: mean},
            )
            for shot, (crf, size, mean) in enumerate(points)
        ]  # fmt: skip
        rungs.append(
            Rung(
                name=f"v{number + 1}-{height}p", codec="x264", codecs="avc1.640028",
                recipe="x264-medium", width=width, height=height,
                bitrate=round(8 * sum(size for _, size, _ in points) / seconds),
                peak_bitrate=9_000_000, slope=1e-3 / (number + 1),
                quality={MODEL: quality(sum(mean for *_, mean in points) / shots)},
                predicted_quality=70.0, init_uri=f"v{number}/init.mp4", segments=segments,
            )
        )  # fmt: skip
    cells = []
    for shot in range(shots):
        for number in range(CELLS):
            place = number / (RUNGS - 1) if number < RUNGS else draw.random()
            width, height = SIZES[min(RUNGS - 1, number) * len(SIZES) // RUNGS]
            crf, size, mean = point(shot, place)
            cells.append(
                Cell(
                    shot=shot, width=width, height=height, crf=crf, recipe="x264-medium",
                    bytes=size, quality=round(mean, 4), predicted_bytes=round(1.05 * size),
                    predicted_quality=round(mean - draw.gauss(0, 1), 4),
                    reason="the ladder wants it",
                )
            )  # fmt: skip
    ladder = Ladder(
        title=TitleFacts(
            id="0" * 16, source="film.mp4", sha256="0" * 64, width=1920, height=1080,
            frame_rate="24/1", frames=frames, source_bitrate=8_000_000, audio=False,
        ),
        policy="locked", profile="default", codec="x264", recipe="x264-medium", tool="none",
        quality_model=MODEL, constraints=[],
        search=SearchFacts(
            mode="predict", weights="0" * 16, encodes=CELLS * shots,
            delivered_encodes=RUNGS * shots, grid_encodes=63 * shots,
        ),
        locked_cost=LockedCost(bd_rate_percent=1.5, basis="predicted"),
        rungs=rungs,
    )  # fmt: skip
    measurements = Measurements(
        title_id="0" * 16, recipe="x264-medium", quality_model=MODEL, weights="0" * 16,
        shots=[
            ShotRow(start_frame=n * SHOT_FRAMES, end_frame=(n + 1) * SHOT_FRAMES, cuts=[])
            for n in range(shots)
        ],
        cells=cells,
    )  # fmt: skip
    (folder / "ladder.json").write_text(ladder.to_json())
    (folder / "measurements.json").write_text(measurements.to_json())
    (folder / "run.json").write_text(json.dumps({"source": "film.mp4", "options": {}}))
