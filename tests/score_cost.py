"""Where a score's CPU goes: ``python -m tests.score_cost TITLE...``, also a part of ``make bench``.

A shot of each title is encoded at some sizes, and the encodes are scored as a run scores them: each
in a process of its own, those of one size together, and all together. Every step is the difference
between two commands of which one does that step more, so that the steps add up to the whole:

- the start of a process,
- reading the reference: seeking (the frames between the keyframe and the shot) and decoding,
- converting it to 10 bit,
- decoding the encodes,
- hashing their frames,
- scaling them to display size at 10 bit,
- libvmaf itself.

Every command runs ``--repeat`` times, in turn, and the least CPU time (user and system) counts, as
whatever else the machine does only adds to it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import ffmpeg as graphs

from encoder import framehash
from encoder.encode import encode_shot
from encoder.ffmpeg import Command, run
from encoder.media import OperatingPoint, Shot
from encoder.recipes import by_name
from encoder.source.planning import plan_source
from encoder.source.reference import ReferenceSource, open_reference, reading_command
from vmaf.graph import Context, Distorted, score_command, upscaled, viewed_reference
from vmaf.models import title_model

STEPS = ("start", "read reference", "to 10 bit", "decode encodes", "hash", "scale", "libvmaf")
"""What the differences between consecutive commands of :func:`commands` cost."""
MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True)
class Spent:
    """CPU seconds of one way to score some encodes."""

    steps: Mapping[str, float]
    """CPU seconds by step, over all processes."""
    processes: int
    scores: int
    peak_bytes: int
    """Most memory that one process held."""

    @property
    def total(self) -> float:
        """CPU seconds of everything."""
        return sum(self.steps.values())


def main() -> int:
    """Print a table for each title, as Markdown."""
    parser = argparse.ArgumentParser(prog="python -m tests.score_cost", description=__doc__)
    parser.add_argument("titles", nargs="+", type=Path)
    parser.add_argument("--start", type=int, default=100, help="first frame of the shot")
    parser.add_argument("--frames", type=int, default=72)
    parser.add_argument("--repeat", type=int, default=2)
    asked = parser.parse_args()
    show_score_costs(asked.titles, asked.start, asked.frames, asked.repeat)
    return 0


def show_score_costs(
    titles: Sequence[Path], start: int = 100, frames: int = 72, repeat: int = 2
) -> None:
    """Print the shares of each step, and CPU over libvmaf's own, for three ways to score."""
    print(f"| title | scored | processes | {' | '.join(STEPS)} | over libvmaf | ms | MiB |")
    print(f"|---|---|---|{'---|' * len(STEPS)}---|---|---|")
    for path in titles:
        with tempfile.TemporaryDirectory(prefix="score-cost-") as name:
            folder = Path(name)
            source = plan_source(path, folder)
            first = min(start, source.frames - 1)
            shot = Shot(first, min(first + frames, source.frames))
            encodes = list(_encoded(source, shot, folder))
            for label, processes in _ways(encodes):
                spent = measured(source, shot, processes, folder, repeat)
                shares = " | ".join(f"{spent.steps[s] / spent.total:.1%}" for s in STEPS)
                each = 1000 * spent.total / spent.scores / shot.frames
                print(
                    f"| {path.name}, {source.height}p | {label} | {spent.processes} | {shares} | "
                    f"{spent.total / spent.steps['libvmaf']:.2f} | {each:.1f} | "
                    f"{spent.peak_bytes / MEBIBYTE:.0f} |",
                    flush=True,
                )


def _encoded(source: ReferenceSource, shot: Shot, folder: Path) -> Iterator[Distorted]:
    """Encode a shot at three sizes, two CRFs each: about what a round of a search asks for."""
    points = [
        OperatingPoint(
            by_name("x264-veryfast"),
            2 * round(source.width * share / 2),
            2 * round(source.height * share / 2),
            crf,
        )
        for share in (1, 2 / 3, 1 / 2)
        for crf in (24.0, 31.0)
    ]
    for number, made in enumerate(encode_shot(source, shot, points, folder)[0]):
        whole = folder / f"whole-{number}.mp4"
        whole.write_bytes(made.init_path.read_bytes() + made.media_path.read_bytes())
        yield Distorted(whole, made.point.width, made.point.height)


def _ways(encodes: Sequence[Distorted]) -> Iterator[tuple[str, list[list[Distorted]]]]:
    """Yield how encodes can be divided among processes."""
    yield "each alone", [[encode] for encode in encodes]
    yield "by size", [list(same) for _, same in groupby(encodes, lambda encode: encode.height)]
    yield "all together", [list(encodes)]


def measured(
    source: ReferenceSource,
    shot: Shot,
    processes: Iterable[Sequence[Distorted]],
    folder: Path,
    repeat: int,
) -> Spent:
    """Return what scoring costs, one process for each item of ``processes``."""
    steps = dict.fromkeys(STEPS, 0.0)
    count = scores = peak = 0
    for encodes in processes:
        series = commands(source, shot, encodes, folder)
        least = [float("inf")] * len(series)
        for _ in range(repeat):
            for number, command in enumerate(series):
                done = run(command)
                least[number] = min(least[number], done.cpu_seconds)
                peak = max(peak, done.peak_bytes)
        for step, (before, after) in zip(STEPS, pairwise([0.0, *least]), strict=True):
            steps[step] += after - before
        count += 1
        scores += len(encodes)
    return Spent(steps, count, scores, peak)


def commands(
    source: ReferenceSource, shot: Shot, encodes: Sequence[Distorted], folder: Path
) -> list[Command]:
    """Return commands of which each does one of :data:`STEPS` more than the one before."""
    context = Context.of(shot.start, shot.end, source.frames)
    span = shot.start - context.before, shot.end + context.after
    viewed = viewed_reference(source, shot.start, shot.end)

    def side_by_side(*, hashed: bool, scaled: bool) -> Command:
        outputs = [_nothing(viewed)]
        for number, encode in enumerate(encodes):
            stream = graphs.input(encode.path, threads=1)["v"]
            if hashed:
                copies = stream.filter_multi_output("split", 2)
                stream = copies.stream(0)
                options = framehash.hash_output_options(encode.pixel_format)
                path = folder / f"hashes-{number}.txt"
                outputs.append(graphs.output(copies.stream(1), filename=path, **options))
            outputs.append(_nothing(upscaled(stream, source, context) if scaled else stream))
        return reading_command(graphs.merge_outputs(*outputs))

    names = [folder / f"{kind}-{n}" for kind in ("log", "hashes") for n in range(len(encodes))]
    logs, hashes = names[: len(encodes)], names[len(encodes) :]
    return [
        Command.of(["-v", "error", "-f", "lavfi", "-i", "color", "-t", "0.04", "-f", "null", "-"]),
        reading_command(_nothing(open_reference(source, *span))),
        reading_command(_nothing(viewed)),
        side_by_side(hashed=False, scaled=False),
        side_by_side(hashed=True, scaled=False),
        side_by_side(hashed=True, scaled=True),
        score_command(source, shot.start, shot.end, encodes, [title_model(source)], logs, hashes),
    ]


def _nothing(stream: Any) -> Any:
    return graphs.output(stream, "-", f="null", fps_mode="passthrough")


if __name__ == "__main__":
    sys.exit(main())
