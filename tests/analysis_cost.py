"""What the analysis pass costs over decoding alone.

``python -m tests.analysis_cost FILE...`` prints, per title, CPU seconds of a plain decode, of the
same with small frames, with each analyser alone, and with all of them, as the job runs them. All
are run in turn, in one process, and the least of the rounds counts, so that other work on the
machine weighs on all of them alike.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import av
import cv2

from cluster.stages.title import open_title
from encoder.analysis.features import FeatureExtractor
from encoder.analysis.frames import Analyser, feed, small_frames
from encoder.analysis.shots import CutDetector
from encoder.source.reference import ReferenceSource
from recommender.artwork.sampling import StillSampler
from recommender.artwork.scrub import ScrubSampler

THREADS = 2


def analysers(reference: ReferenceSource) -> dict[str, Callable[[], list[Analyser]]]:
    """Fresh ones by name."""
    return {
        "small frames": list,
        "cuts": lambda: [CutDetector(reference.frame_rate)],
        "features": lambda: [FeatureExtractor.of(reference)],
        "stills": lambda: [StillSampler.of(reference), ScrubSampler.of(reference)],
        "all": lambda: [
            CutDetector(reference.frame_rate),
            FeatureExtractor.of(reference),
            StillSampler.of(reference),
            ScrubSampler.of(reference),
        ],
    }


def decode(path: Path) -> None:
    """Every picture of the video track, and nothing else."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = THREADS
        for _ in container.decode(stream):
            pass


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds of this process."""
    before = time.process_time()
    work()
    return time.process_time() - before


def costs(path: Path, rounds: int) -> dict[str, float]:
    """CPU seconds of a plain decode and of each analyser with its decode."""
    with tempfile.TemporaryDirectory() as folder:
        reference = open_title(path, Path(folder)).reference
        works: dict[str, Callable[[], object]] = {"decode": partial(decode, path)}
        for name, make in analysers(reference).items():
            works[name] = partial(run_pass, reference, make)
        least = dict.fromkeys(works, float("inf"))
        for _ in range(rounds):
            for name, work in works.items():
                least[name] = min(least[name], seconds(work))
    return least


def run_pass(reference: ReferenceSource, make: Callable[[], list[Analyser]]) -> None:
    """One decode for some analysers."""
    feed(small_frames(reference, THREADS), *make())


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    cv2.setNumThreads(1)
    for path in asked.files:
        least = costs(path, asked.rounds)
        decoded = least.pop("decode")
        print(f"{path.name}: decode {decoded:.2f} CPU s")
        for name, taken in least.items():
            print(f"  with {name:12} {taken:6.2f} CPU s {taken / decoded:6.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
