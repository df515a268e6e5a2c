"""How good the pool is, on real titles: ``python -m tests.artwork_measures TITLE...``.

Prints three tables. *Planted*: bad frames are cut into a title (black, blur, a fade, a dissolve,
cards, credits, a scene once more); how many of them are in the pool? *Overlap*: the pool of a
title and that of an x264 encode of it. *Cost*: CPU seconds of each part.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from encoder import ffmpeg
from encoder.analysis.frames import feed, small_frames
from encoder.analysis.shots import CutDetector, plan_shots
from encoder.arrays import UInt8
from encoder.media import Shot
from encoder.source.planning import plan_source
from encoder.source.reference import ReferenceSource
from encoder.stills import fetch_frames
from recommender.artwork.colour import matrix_of
from recommender.artwork.descriptors import hash_distance
from recommender.artwork.diversity import DUPLICATE_BITS
from recommender.artwork.looking import choose_pool
from recommender.artwork.pool import Pool
from recommender.artwork.sampling import StillSampler
from recommender.artwork.stills import Stills

Picture = UInt8

SIDE = 640
MOST_SECONDS = 40
NEAR_SECONDS = 0.5


@dataclass(frozen=True)
class Analysed:
    source: ReferenceSource
    shots: tuple[Shot, ...]
    stills: Stills
    pool: Pool
    cpu_seconds: float
    """CPU seconds for measuring stills and choosing among them, without the decode."""

    @property
    def frames(self) -> list[int]:
        return [choice.frame for choice in self.pool.chosen]


def analyse(path: Path, workdir: Path) -> Analysed:
    source = plan_source(path, workdir)
    detector, sampler = CutDetector(source.frame_rate), StillSampler.of(source)
    spent = 0.0

    class Timed:
        def push(self, frame: Any) -> None:
            nonlocal spent
            before = time.thread_time()
            sampler.push(frame)
            spent += time.thread_time() - before

    feed(small_frames(source), detector, Timed())
    shots = plan_shots(detector.cuts(), source.frames, source.frame_rate)
    before = time.thread_time()
    stills = sampler.stills()
    matrix = matrix_of(source.sdr_matrix, source.height)
    aspect = Fraction(source.width, source.height)
    facts = stills, shots, source.frames, source.frame_rate, aspect
    pool = choose_pool(*facts, lambda frames: fetch_frames(source, frames, matrix)).pool
    return Analysed(source, shots, stills, pool, spent + time.thread_time() - before)


@dataclass
class Planted:
    """A title with bad frames cut into it, by kind."""

    ranges: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    frames: int = 0

    def add(self, kind: str, start: int, count: int) -> None:
        self.ranges.setdefault(kind, []).append((start, start + count))


def plant(path: Path, out: Path) -> Planted:
    """Insert bad frames into the first seconds of a title, at one tenth, two tenths and so on.

    Frames of a fade or dissolve count from a tenth of the other picture on; nobody sees less.
    """
    pictures, rate = _pictures(path)
    count = len(pictures)
    made: list[Picture] = []
    planted = Planted()
    run = max(6, min(round(0.8 * rate), count // 40))

    def put(kind: str, frames: Sequence[Picture]) -> None:
        planted.add(kind, len(made), len(frames))
        made.extend(frames)

    height, width = pictures[0].shape[:2]
    put("credits", [card(width, height, ["A FILM BY", "NOBODY AT ALL"])] * run)
    places = {tenth: count * tenth // 10 for tenth in range(1, 10)}
    blank = np.zeros_like(pictures[0])
    for number, picture in enumerate(pictures):
        made.append(picture)
        if number == places[1]:
            put("black", [blank + 2] * run)
        if number == places[2]:
            put("text", [card(width, height, _LINES)] * run)
        if number == places[3]:
            put("blur", [cv2.GaussianBlur(p, (0, 0), width / 60) for p in pictures[number:][:run]])
        if number == places[5]:
            steps = np.concatenate([np.linspace(1, 0, run), np.linspace(0, 1, run)])
            put("fade", [mix(picture, blank, float(a)) for a in steps[2:-2]])
        if number == places[6]:
            other = pictures[places[2] - 1]
            put(
                "dissolve",
                [mix(picture, other, float(a)) for a in np.linspace(1, 0, 2 * run)[4:-4]],
            )
        if number == places[7]:
            put("uniform", [np.full_like(picture, 90)] * run)
        if number == places[8]:
            again = pictures[places[4] : places[4] + 2 * run]
            planted.ranges["duplicate of"] = [_moved(planted, places[4], len(again))]
            put("duplicate", again)
    put("credits", [card(width, height, _LINES, shift=at) for at in range(2 * run)])
    planted.frames = len(made)
    encode(made, rate, out, crf=14)
    return planted


_LINES = ["Written by Jane Doe", "Music by John Smith", "Edited by Mary Jones", "No animals harmed"]


def _moved(planted: Planted, number: int, count: int) -> tuple[int, int]:
    """Return where frames of the title are after bad frames were inserted before them."""
    start = number
    for first, end in sorted(r for ranges in planted.ranges.values() for r in ranges):
        if first <= start:
            start += end - first
    return start, start + count


def mix(one: Picture, other: Picture, share: float) -> Picture:
    return np.asarray(cv2.addWeighted(one, share, other, 1 - share, 0), np.uint8)


def card(width: int, height: int, lines: Sequence[str], shift: int = 0) -> Picture:
    card = np.zeros((height, width, 3), np.uint8)
    scale = width / 640
    for number, line in enumerate(lines):
        place = (int(width * 0.2), int(height * 0.3 + 42 * scale * number) - shift)
        cv2.putText(
            card, line, place, cv2.FONT_HERSHEY_DUPLEX, scale, (235, 235, 235), 1, cv2.LINE_AA
        )
    return card


def _pictures(path: Path) -> tuple[list[Picture], Fraction]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        rate = Fraction(stream.average_rate or 25).limit_denominator(1001)
        scale = min(1.0, SIDE / max(stream.width, stream.height))
        width, height = (int(side * scale) // 2 * 2 for side in (stream.width, stream.height))
        found = []
        for frame in container.decode(stream):
            found.append(frame.to_ndarray(format="bgr24", width=width, height=height))
            if len(found) >= MOST_SECONDS * rate:
                break
    return found, rate


def encode(pictures: Sequence[Picture], rate: Fraction, out: Path, crf: int) -> None:
    height, width = pictures[0].shape[:2]

    def chunks() -> Iterator[bytes]:
        for picture in pictures:
            yield picture.tobytes()

    arguments: list[Any] = ["-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "bgr24"]
    arguments += ["-s", f"{width}x{height}", "-r", str(rate), "-i", "pipe:0"]
    arguments += ["-vf", "scale=out_color_matrix=bt709,format=yuv420p", "-c:v", "libx264"]
    arguments += ["-preset", "veryfast", "-crf", crf, "-threads", 1, str(out)]
    ffmpeg.run(ffmpeg.Command.of(arguments), stdin=chunks())


def encode_again(path: Path, out: Path, crf: int = 18) -> None:
    arguments: list[Any] = ["-v", "error", "-y", "-i", path, "-map", "0:v:0", "-c:v", "libx264"]
    arguments += ["-preset", "veryfast", "-crf", crf, "-pix_fmt", "yuv420p", "-threads", 1]
    ffmpeg.run(ffmpeg.Command.of([*arguments, "-fps_mode", "passthrough", out]))


@dataclass(frozen=True)
class Overlap:
    same_frame: float
    """Share of the larger pool that is in both pools, to two frames."""
    same_still: float
    """The same share, where the same picture half a second away counts as well."""
    same_cluster_top: float
    """Share of the first six stills of one pool that are anywhere in the other."""


def overlap(one: Analysed, other: Analysed) -> Overlap:
    most = max(len(one.frames), len(other.frames))
    near = float(NEAR_SECONDS * one.source.frame_rate)
    top = len(one.frames[:6])
    return Overlap(
        _matched(one, other, 2.0, 0) / most,
        _matched(one, other, near, DUPLICATE_BITS) / most,
        _matched(one, other, near, DUPLICATE_BITS, top) / top,
    )


def _matched(one: Analysed, other: Analysed, near: float, bits: int, first: int = 999) -> int:
    left = list(other.pool.chosen)
    found = 0
    for choice in one.pool.chosen[:first]:
        alike = [
            (abs(choice.frame - it.frame), it.frame, it)
            for it in left
            if abs(choice.frame - it.frame) <= near
            or (
                bits
                and hash_distance(
                    int(one.stills.hashes[choice.row]), int(other.stills.hashes[it.row])
                )
                <= bits
            )
        ]
        if alike:
            left.remove(min(alike)[2])
            found += 1
    return found


def planted_row(name: str, planted: Planted, found: Analysed) -> str:
    def chosen(kind: str) -> list[int]:
        return [f for f in found.frames if any(a <= f < b for a, b in planted.ranges.get(kind, []))]

    kinds = ("black", "blur", "fade", "dissolve", "text", "credits", "uniform")
    counts = [len(chosen(kind)) for kind in kinds]
    pairs = sum(
        hash_distance(*(int(found.stills.hashes[c.row]) for c in (one, two))) <= DUPLICATE_BITS
        for one in found.pool.chosen
        if one.frame in chosen("duplicate of")
        for two in found.pool.chosen
        if two.frame in chosen("duplicate")
    )
    share = sum(b - a for k in kinds for a, b in planted.ranges[k]) / planted.frames
    covered = len({choice.cluster for choice in found.pool.chosen})
    flagged = sum(bool(choice.flags) for choice in found.pool.chosen)
    return (
        f"| {name} | {share:.0%} | {len(found.frames)} | "
        + " | ".join(map(str, [*counts, pairs]))
        + f" | {covered}/{found.pool.clusters} | {flagged} |"
    )


def main(paths: Sequence[Path]) -> None:
    cv2.setNumThreads(1)
    rows: dict[str, list[str]] = {"planted": [], "overlap": [], "cost": []}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for path in paths:
            name = path.stem
            planted = plant(path, work / "planted.mp4")
            found = analyse(work / "planted.mp4", work)
            rows["planted"].append(planted_row(name, planted, found))
            for kind, ranges in planted.ranges.items():
                bad = [f for f in found.frames if any(a <= f < b for a, b in ranges)]
                if bad and not kind.startswith("duplicate"):
                    print(f"{name}: {kind} {bad} of {ranges}", file=sys.stderr)
            one = analyse(path, work)
            encode_again(path, work / "again.mp4")
            two = analyse(work / "again.mp4", work)
            both = overlap(one, two)
            rows["overlap"].append(
                f"| {name} | {len(one.frames)} | {len(two.frames)} | {both.same_frame:.2f} | "
                f"{both.same_still:.2f} | {both.same_cluster_top:.2f} |"
            )
            each = 1000 * one.cpu_seconds / one.source.frames
            rows["cost"].append(
                f"| {name} | {one.source.width}x{one.source.height} | {one.source.frames} | "
                f"{each:.2f} |"
            )
            print(*(table[-1] for table in rows.values()), sep="\n", file=sys.stderr)
    print(
        "| title | planted | pool | black | blur | fade | dissolve | text | credits | uniform |"
        " duplicates | clusters | flagged |"
    )
    print(*rows["planted"], sep="\n")
    print("\n| title | pool | of encode | same frame | same still | first six |")
    print(*rows["overlap"], sep="\n")
    print("\n| title | size | frames | ms per frame |")
    print(*rows["cost"], sep="\n")


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
