"""Every clip of the corpus with x264, to a verified package: ``python -m tests.corpus_passes``.

A clip of high dynamic range, which x264 has to refuse, is tone-mapped, and carried by x265.

The whole path of a run, cheaply: the exhaustive search over one CRF at two heights, preset
``ultrafast``. A run verifies its package (every frame decoded, its hash compared with that of the
frame that was scored) before it publishes it. What was found is kept clip by clip in
``out/corpus-passes.jsonl``; started again, the command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cluster.execution.executor import InlineExecutor
from cluster.jobs.request import RunOptions
from cluster.jobs.run import run_title
from encoder.errors import ShotladderError
from tests.conftest import CORPUS
from tests.matrix import PASSED, TOO_SHALLOW, quick_profile

GRID = {"x264": [28], "x265": [28]}
HEIGHTS = (180,)
"""Beside each clip's own."""


@dataclass(frozen=True, slots=True)
class Passed:
    """What became of a clip."""

    clip: str
    outcome: str
    """:data:`tests.matrix.PASSED`, or what was said."""
    picture: str = ""
    frames: int = 0
    shots: int = 0
    qualities: tuple[float, ...] = ()
    """Mean of every rung, from the lowest rate."""
    model: str = ""
    seconds: float = 0.0
    how: str = "x264"


def pass_through(source: Path, out: Path, codec: str = "x264", tone_map: bool = False) -> Passed:
    """Run one clip."""
    started = time.monotonic()
    options = RunOptions(
        source,
        out / "package",
        search="exhaustive",
        codec=codec,
        tone_map=tone_map,
        preset="ultrafast",
        profile=quick_profile(GRID),
        heights=HEIGHTS,
        store=out / "store",
    )
    try:
        ladder = run_title(options, lambda event: None, InlineExecutor()).ladder
    except ShotladderError as error:
        if TOO_SHALLOW in error.message:
            carried = pass_through(source, out / "carried", "x265")
            mapped = pass_through(source, out, tone_map=True)
            worse = mapped if carried.outcome == PASSED else carried
            return replace(worse, how="x264 --tone-map, and carried by x265")
        return Passed(source.name, f"{type(error).__name__}: {error.message}")
    title = ladder.title
    return Passed(
        clip=source.name,
        outcome=PASSED,
        picture=f"{title.width}x{title.height}, {title.frame_rate}",
        frames=title.frames,
        shots=len(ladder.rungs[0].segments),
        qualities=tuple(rung.quality[ladder.quality_model].mean for rung in ladder.rungs),
        model=ladder.quality_model,
        seconds=round(time.monotonic() - started, 1),
    )


def table(found: Sequence[Passed]) -> str:
    """As Markdown: a row for each clip."""
    lines = ["| clip | picture, fps | frames | shots | VMAF of the rungs | |", "|---" * 6 + "|"]
    for one in found:
        rungs = ", ".join(f"{quality:.1f}" for quality in one.qualities)
        name = Path(one.clip).stem
        outcome = one.outcome if one.how == "x264" else f"{one.outcome} ({one.how})"
        lines.append(
            f"| {name} | {one.picture} | {one.frames} | {one.shots} | {rungs} | {outcome} |"
        )
    return "\n".join(lines)


def clips() -> list[Path]:
    """All of them, the shortest files first, so that most have an outcome soon."""
    with (CORPUS / "catalog.csv").open(newline="", encoding="utf-8") as file:
        rows = sorted(
            csv.DictReader(file),
            key=lambda row: int(row["frames"]) * int(row["width"]) * int(row["height"]),
        )
    return [CORPUS.resolve() / row["file"] for row in rows]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", default="", help="only those whose name holds this")
    parser.add_argument("--kept", type=Path, default=Path("out/corpus-passes.jsonl"))
    parser.add_argument("--failed", action="store_true", help="those that failed once more")
    asked = parser.parse_args()
    asked.kept.parent.mkdir(parents=True, exist_ok=True)
    lines = asked.kept.read_text().splitlines() if asked.kept.exists() else []
    known = {one.clip: one for one in (Passed(**json.loads(line)) for line in lines)}
    found = []
    for clip in clips():
        if asked.clips not in clip.name:
            continue
        one = known.get(clip.name)
        if one is None or (asked.failed and one.outcome != PASSED):
            folder = asked.kept.parent / "corpus-work" / clip.name
            folder.mkdir(parents=True, exist_ok=True)
            one = pass_through(clip, folder)
            shutil.rmtree(folder)
            with asked.kept.open("a") as file:
                file.write(json.dumps(asdict(one)) + "\n")
            print(f"{one.clip}: {one.outcome} ({one.seconds} s)", file=sys.stderr, flush=True)
        found.append(one)
    print(table(found))
    bad = [one for one in found if one.outcome != PASSED]
    print(f"{len(found)} clips, {len(found) - len(bad)} pass")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
