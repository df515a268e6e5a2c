"""What artwork costs, by part, and as a share of the job: ``python -m tests.artwork_cost FILE...``.

All that artwork adds to a job is run as the job runs it, and timed in CPU seconds of this process
and its children. The rest of the job is the analysis without artwork, which is measured, and the
encodes and scores: as ``run --plan`` estimates them for an idle machine or, with ``--job``, as the
run takes them here and now. On a busy machine only the latter is a fair comparison.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from PIL import Image

from cluster.execution.executor import InlineExecutor
from cluster.jobs.estimate import plan_run
from cluster.jobs.request import RunOptions
from cluster.jobs.run import run_title
from cluster.stages import artwork
from cluster.stages.analysis import find_title
from cluster.stages.artwork import find_artwork
from cluster.stages.quarantine import reading
from cluster.stages.title import open_title
from cluster.store import open_store
from encoder import ffmpeg
from recommender.artwork import build, looking
from recommender.artwork.faces import FaceDetector
from recommender.artwork.portraits import PortraitReader
from recommender.artwork.sampling import StillSampler
from recommender.artwork.scrub import ScrubSampler

PARTS = (
    ("measure stills", (StillSampler, "push")),
    ("measure stills", (StillSampler, "stills")),
    ("find faces", (FaceDetector, "find")),
    ("scrub track", (ScrubSampler, "push")),
    ("scrub track", (ScrubSampler, "track")),
    ("read faces", (PortraitReader, "read")),
    ("choose", (looking, "shortlist")),
    ("choose", (looking, "make_pool")),
    ("crop", (artwork, "build_candidate")),
    ("code webp", (Image.Image, "save")),
    ("code jpeg", (build, "jpeg")),
    ("fetch", (artwork, "fetch_frames")),
)
"""Parts of artwork by the functions that do them; what a part calls counts for the inner part."""
REST = "rest"


def cpu_seconds() -> float:
    """CPU seconds of this process and of its children that have ended."""
    return time.process_time() + ffmpeg.children_cpu_seconds()


class Clock:
    """CPU seconds by part, without those of parts inside."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._inner: list[float] = []

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        before = cpu_seconds()
        self._inner.append(0.0)
        try:
            yield
        finally:
            whole = cpu_seconds() - before
            self.seconds[name] += whole - self._inner.pop()
            if self._inner:
                self._inner[-1] += whole

    def timed(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that does the same and is timed; of generators, each step is."""

        def run(*arguments: Any, **named: Any) -> Any:
            with self.part(name):
                result = work(*arguments, **named)
            return self._steps(name, result) if isinstance(result, Iterator) else result

        return run

    def _steps(self, name: str, steps: Iterator[Any]) -> Iterator[Any]:
        while True:
            with self.part(name):
                step = next(steps, self)
            if step is self:
                return
            yield step


def measure(path: Path, folder: Path, *, job: bool) -> tuple[dict[str, float], float, float]:
    """Return CPU seconds by part of artwork, of the rest of the analysis, and of all else."""
    place = str(folder / "store")
    options = RunOptions(source=path, out=folder / "out", store=place)
    clock = Clock()
    with contextlib.ExitStack() as patches:
        for name, (owner, function) in PARTS:
            work = clock.timed(name, getattr(owner, function))
            patches.enter_context(mock.patch.object(owner, function, work))
        with clock.part(REST):
            estimate = plan_run(options, lambda _: None)
        with contextlib.closing(open_store(place)) as store, store.scratch() as scratch:
            source = open_title(path, scratch)
            with reading(store, source) as seen:
                title = find_title(path, source, seen, InlineExecutor(), lambda _: None)
                with clock.part("keep"):
                    find_artwork(title, seen, InlineExecutor(), lambda _: None)
    encodes = 3600 * sum(estimate.cpu_hours.values())
    if job:
        run_title(options, lambda _: None)
        encodes = sum(json.loads((folder / "out/run.json").read_text())["cpu_seconds"].values())
    seconds = dict(clock.seconds)
    return seconds, seconds.pop(REST), encodes


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--job", action="store_true", help="Run the jobs, too.")
    asked = parser.parse_args()
    for path in asked.files:
        with tempfile.TemporaryDirectory() as folder:
            parts, rest, encodes = measure(path, Path(folder), job=asked.job)
        artwork_seconds = sum(parts.values())
        whole = artwork_seconds + rest + encodes
        print(
            f"{path.name}: artwork {artwork_seconds:.2f} CPU s, {artwork_seconds / whole:.2%} of "
            f"{whole:.0f} (analysis and plan {rest:.1f}, "
            f"{'the run' if asked.job else 'encodes and scores, estimated'} {encodes:.0f})"
        )
        for name, seconds in sorted(parts.items(), key=lambda part: -part[1]):
            print(f"  {name:16} {seconds:7.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
