"""A film of many shots, really run: rounds, encodes, and the CPU of the search itself.

``python -m tests.film FOLDER [SHOTS]`` cuts short pieces from the corpus, shuffles and grades them,
joins them into one film of 426x240, and runs it. Everything stays in FOLDER: the same command goes
on where it stopped. The pieces are graded so that no two shots of a clip are alike.

``python -m tests.film FOLDER --minutes 2 20 120`` measures instead how cost grows with the length
of a generated title (:mod:`tests.film_growth`).
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cluster import events
from cluster.jobs import setup
from cluster.jobs.request import RunOptions
from cluster.jobs.run import run_title
from encoder.errors import SourceUnusable
from encoder.ffmpeg import Command, run
from encoder.source.index import index_frames
from ladder.search.predict import PredictSearch
from ladder.search.steps import Known, Step
from tests.conftest import CORPUS
from tests.film_growth import growth, table

WIDTH, HEIGHT, RATE = 426, 240, 24
LENGTHS = (20, 44)
"""Shortest and longest shot in frames."""
CLASSES = ("*.mp4", "*.mkv", "*.mov", "*.webm")


class TimedSearch(PredictSearch):
    """The search, with the CPU of its steps."""

    cpu_seconds = 0.0

    def step(self, known: Known) -> Step:
        begun = time.thread_time()
        try:
            return super().step(known)
        finally:
            TimedSearch.cpu_seconds += time.thread_time() - begun


def clips() -> list[tuple[Path, float]]:
    """Clips of the corpora that are long enough, with the seconds at which a shot begins at the
    latest."""
    found = []
    for folder in (CORPUS.resolve(), CORPUS.resolve().parent / "corpus2"):
        for pattern in CLASSES:
            for path in sorted(folder.glob(pattern)):
                try:
                    index = index_frames(path)
                except SourceUnusable:
                    continue
                latest = float(index.duration_seconds) * (1 - LENGTHS[1] / index.frames)
                if latest > 0:
                    found.append((path, latest))
    return found


def make_film(folder: Path, shots: int, seed: int) -> Path:
    """The film; what is there already is not made again."""
    film = folder / f"film-{shots}.mkv"
    if film.exists():
        return film
    pieces = folder / f"pieces-{shots}"
    pieces.mkdir(parents=True, exist_ok=True)
    chance = random.Random(seed)
    sources = clips()
    order: list[tuple[Path, float]] = []
    while len(order) < shots:
        some = chance.sample(sources, len(sources))
        order += some
    names = []
    for number, (clip, latest) in enumerate(order[:shots]):
        length, seconds = chance.randint(*LENGTHS), round(chance.uniform(0, latest), 3)
        grade = (
            f"eq=gamma={chance.uniform(0.7, 1.4):.3f}:contrast={chance.uniform(0.8, 1.2):.3f}"
            f":saturation={chance.uniform(0.5, 1.5):.3f}"
        )
        piece = pieces / f"{number:04d}.mkv"
        names.append(piece)
        if piece.exists():
            continue
        _cut(clip, seconds, length, grade, piece)
    listed = pieces / "list.txt"
    listed.write_text("".join(f"file '{name.resolve()}'\n" for name in names))
    part = film.with_suffix(".part.mkv")
    run(
        Command.of(
            [
                *("-v", "error", "-y", "-f", "concat", "-safe", 0, "-i", listed),
                *("-c", "copy", "-f", "matroska", part),
            ]
        ),
        timeout_seconds=600,
    )
    part.replace(film)
    return film


def _cut(clip: Path, seconds: float, length: int, grade: str, piece: Path) -> None:
    """Write one shot, as H.264 of high quality."""
    size = (
        f"scale={WIDTH}:{HEIGHT}:force_original_aspect_ratio=increase:out_color_matrix=bt709"
        f":out_range=tv,crop={WIDTH}:{HEIGHT}"
    )
    tags = "setparams=range=tv:color_primaries=bt709:color_trc=bt709:colorspace=bt709"
    part = piece.with_suffix(".part.mkv")
    run(
        Command.of(
            [
                *("-v", "error", "-y", "-ss", seconds, "-i", clip, "-map", "0:v:0", "-an", "-sn"),
                *("-vf", f"setpts=N/{RATE}/TB,{size},{grade},format=yuv420p,setsar=1,{tags}"),
                *("-r", RATE, "-frames:v", length),
                *("-c:v", "libx264", "-preset", "veryfast", "-crf", 8, "-f", "matroska", part),
            ]
        ),
        timeout_seconds=600,
    )  # fmt: skip
    part.replace(piece)


def run_film(film: Path, folder: Path, profile: str, workers: int | None) -> dict[str, Any]:
    """Run the film; return what that took."""
    rounds = 0

    def note(event: events.Event) -> None:
        nonlocal rounds
        if isinstance(event, events.Round):
            rounds = event.number
            print(event, flush=True)

    setup.PredictSearch = TimedSearch  # type: ignore[misc]
    options = RunOptions(
        film, folder / "package", profile=profile, workers=workers, store=folder / "store"
    )
    made = run_title(options, note)
    search = made.ladder.search
    return {
        "film": film.name,
        "shots": len(made.ladder.rungs[0].segments),
        "rungs": len(made.ladder.rungs),
        "rounds": rounds,
        "encodes": search.encodes,
        "delivered_encodes": search.delivered_encodes,
        "encoded_now": made.run["encoded_now"],
        "cpu_seconds": made.run["cpu_seconds"],
        "search_cpu_seconds": round(TimedSearch.cpu_seconds, 2),
    }


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.film", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("shots", type=int, nargs="?", default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--profile", default="default")
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument(
        "--minutes",
        type=float,
        nargs="+",
        help="generate titles of these lengths and measure how cost grows, see tests.film_growth",
    )
    asked = parser.parse_args(arguments)
    if asked.minutes:
        print(table(growth(asked.folder, asked.minutes, asked.workers or 2)))
        return 0
    asked.folder.mkdir(parents=True, exist_ok=True)
    film = make_film(asked.folder, asked.shots, asked.seed)
    found = run_film(film, asked.folder, asked.profile, asked.workers)
    line = json.dumps(found)
    with (asked.folder / "facts.jsonl").open("a") as file:
        file.write(line + "\n")
    print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
