"""Plans against what the runs then took: ``python -m tests.plan_check FOLDER TITLE...``.

Every title is planned, from a sample of a third of its frames, and then run by a fast preset; both
use one store in FOLDER, so that each plan is corrected by the runs before it. What has figures
already is not done again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from cluster.jobs import estimate
from cluster.jobs.past_runs import taken
from cluster.jobs.request import RunOptions
from cluster.jobs.run import run_title
from encoder.analysis.sample import WINDOW_SECONDS, Window, spread_windows
from encoder.analysis.sections import keyframe_numbers
from encoder.source.reference import ReferenceSource

SHARE = 3


def a_third(source: ReferenceSource) -> tuple[Window, ...]:
    """Windows that hold about a third of a title."""
    length = max(1, min(int(WINDOW_SECONDS * source.frame_rate), source.frames // SHARE))
    count = max(1, source.frames // (SHARE * length))
    return spread_windows(keyframe_numbers(source), source.frames, length, count)


def check(title: Path, folder: Path, preset: str, workers: int) -> dict[str, Any]:
    """Plan and run one title; return what was expected and what it took, in CPU seconds."""
    options = RunOptions(
        title,
        folder / title.stem,
        store=folder / "store",
        preset=preset,
        workers=workers,
        heights=(144, 224, 288),
        measure_every=3,
        recipe_check="never",
    )
    with mock.patch.object(estimate, "windows_of", a_third):
        plan = estimate.plan_run(options, lambda event: None)
    run = run_title(options, lambda event: None).run
    spent, hours = taken(run), plan.cpu_hours
    actual = {name: spent[name] for name in ("encode", "vmaf", "rest")}
    actual["analysis"] = run["planned"]["analysis"]
    expected = {name: round(3600 * hours[name], 1) for name in actual}
    low, high = plan.cpu_hours_range or (0.0, 0.0)
    video = (plan.delivered_bytes or 0) / spent["delivered_bytes"]
    return {
        "title": title.stem,
        "past_runs": plan.past_runs,
        "sampled": round((plan.sampled_frames or plan.frames) / plan.frames, 2),
        "expected": expected,
        "actual": {name: round(value, 1) for name, value in actual.items()},
        "ratio": round(sum(actual.values()) / sum(expected.values()), 2),
        "range": [round(3600 * low), round(3600 * high)],
        "expected_bytes": plan.delivered_bytes,
        "bytes_ratio": round(1 / video, 2) if video else None,
        "wall_seconds": [round(plan.wall_seconds), round(run["wall_seconds"])],
    }


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.plan_check", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("titles", type=Path, nargs="+")
    parser.add_argument("--preset", default="veryfast")
    parser.add_argument("--workers", type=int, default=1)
    asked = parser.parse_args(arguments)
    asked.folder.mkdir(parents=True, exist_ok=True)
    facts = asked.folder / "facts.jsonl"
    lines = facts.read_text().splitlines() if facts.exists() else []
    done = {json.loads(line)["title"] for line in lines}
    for title in asked.titles:
        if title.stem not in done:
            line = json.dumps(check(title, asked.folder, asked.preset, asked.workers))
            print(line, flush=True)
            with facts.open("a") as file:
                file.write(line + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
