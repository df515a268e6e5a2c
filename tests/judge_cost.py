"""CPU time of scores: ``python -m tests.judge_cost FILE...``.

The first two seconds of each title are encoded at half its height and at its height, and both
encodes are scored in one process, by VMAF v1, each judge, and all together.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from encoder.encode import encode_shot
from encoder.media import OperatingPoint, Shot
from encoder.recipes import by_name
from encoder.source.planning import plan_source
from vmaf.graph import Distorted
from vmaf.measure import measure
from vmaf.models import JUDGES, name_for, title_model

FRAMES = 48


def main() -> int:
    """Print milliseconds per frame and encode, as Markdown."""
    print("| title | models | ms |\n|---|---|---|")
    for path in sys.argv[1:]:
        with tempfile.TemporaryDirectory(prefix="judge-cost-") as name:
            _measure_title(Path(path), Path(name))
    return 0


def _measure_title(path: Path, folder: Path) -> None:
    source = plan_source(path, folder)
    frames = min(FRAMES, source.frames)
    points = [
        OperatingPoint(by_name("x264-veryfast"), 2 * round(width / 2), 2 * round(height / 2), 24)
        for width, height in (
            (source.width / 2, source.height / 2),
            (source.width, source.height),
        )
    ]
    encodes, _ = encode_shot(source, Shot(0, frames), points, folder)
    files = []
    for number, made in enumerate(encodes):
        whole = folder / f"whole-{number}.mp4"
        whole.write_bytes(made.init_path.read_bytes() + made.media_path.read_bytes())
        files.append(Distorted(whole, made.point.width, made.point.height))
    own = title_model(source)
    judges = tuple(name_for(judge, hdr=source.hdr is not None) for judge in JUDGES)
    for models in ((own,), *((judge,) for judge in judges), judges, (own, *judges)):
        _, seconds = measure(source, 0, frames, files, models, folder)
        spent = 1000 * seconds / frames / len(files)
        print(f"| {path.name}, {source.height}p | {', '.join(models)} | {spent:.1f} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
