"""VMAF v1 at half of a title's size: ``python -m tests.size_quirk``.

Eight frames of a title are encoded at sizes around half of its own and scored, as they are and
without colour (a lossless grey copy of the title). The table shows v1, its features for chroma
(``speed_chroma_uv``) and for banding (``cambi``), v0.6.1 and XPSNR: at half of the size the feature
for chroma rises, and v1 falls with it, where nothing else does.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from encoder.encode import encode_shot
from encoder.ffmpeg import Command, run
from encoder.media import OperatingPoint, Shot
from encoder.source.planning import plan_source
from ladder.profiles import load_profile
from ladder.sizes import rung_sizes
from tests.conftest import CORPUS
from vmaf import models
from vmaf.graph import CONTEXT_FRAMES, Distorted
from vmaf.measure import measure, read_log

FRAMES = 8
AROUND = (-16, -8, 0, 8)
"""Lines more or less than half of the title's."""
SCORES = (models.V1, models.V0)
FEATURES = ("speed_chroma_uv", "cambi")


def grey(source: Path, frames: int, folder: Path) -> Path:
    """Write the beginning of a title without its colour and without loss."""
    out = folder / "grey.mkv"
    filters = "lutyuv=u=128:v=128"
    lossless = ("-c:v", "libx264", "-preset", "ultrafast", "-qp", "0")
    run(
        Command.of(
            ["-v", "error", "-i", source, "-frames:v", frames, "-vf", filters, *lossless, out]
        ),
        timeout_seconds=120,
    )
    return out


def rows(path: Path, start: int, crf: float, folder: Path) -> list[dict[str, float]]:
    """Encode and score every size; a row for each, the smallest first."""
    source = plan_source(path, folder)
    shot, half = Shot(start, start + FRAMES), min(source.width, source.height) // 2
    found = []
    for lines in AROUND:
        size = rung_sizes(source.width, source.height, (half + lines,))[0]
        point = OperatingPoint(load_profile().recipe("x264"), *size, crf)
        (encode,), _ = encode_shot(source, shot, [point], folder)
        whole = folder / "whole.mp4"
        whole.write_bytes(encode.init_path.read_bytes() + encode.media_path.read_bytes())
        names = (*SCORES, "xpsnr")
        (scores,), _ = measure(
            source, shot.start, shot.end, [Distorted(whole, *size)], names, folder
        )
        frames = read_log(folder / "vmaf-0.json")["frames"][CONTEXT_FRAMES:][:FRAMES]
        row = {"lines": float(min(size)), "kbit": 8e-3 * encode.num_bytes}
        row |= {name: sum(values) / FRAMES for name, values in scores.by_model.items()}
        for feature in FEATURES:
            key = next(name for name in frames[0]["metrics"] if name.startswith(feature))
            row[feature] = sum(frame["metrics"][key] for frame in frames) / FRAMES
        found.append(row)
    return found


def table(measured: list[dict[str, float]]) -> str:
    """Return the rows as Markdown."""
    head = list(measured[0])
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return "\n".join(
        lines + [f"| {' | '.join(f'{row[name]:.5g}' for name in head)} |" for row in measured]
    )


def main() -> int:
    """Measure a title with and without its colour."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--title", type=Path, default=CORPUS / "flutter_bee_720p.mp4")
    parser.add_argument("--start", type=int, default=40)
    parser.add_argument("--crf", type=float, default=24.0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="size-quirk-") as name:
        folder = Path(name)
        print(table(rows(asked.title.resolve(), asked.start, asked.crf, folder)), flush=True)
        end = asked.start + FRAMES + CONTEXT_FRAMES
        print("\nwithout colour:\n")
        print(table(rows(grey(asked.title.resolve(), end, folder), asked.start, asked.crf, folder)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
