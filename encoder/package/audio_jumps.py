"""Find where timestamps of sound step, and mend those that jump away and come back.

Sound is placed by its timestamps. One that is wrong, as damaged packets have them, would move all
sound behind it, or silence it until its time is reached. Frames that follow each other form runs.
The runs that go on in time, and cover most of it together, are where they say; of two that overlap,
as joined recordings do, the earlier one is played to its end. The others are put where the run
before them ends, if there is room, and left out otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

STAMPS = re.compile(r"ashowinfo@stamp .* n: *\d+ ")
"""Lines of the log that :func:`runs` reads."""
MOST_RUNS = 500
"""Most runs among which the true ones are looked for."""

_STAMP = re.compile(r" n: *(\d+) pts:(-?\d+) .* rate:(\d+) nb_samples:(\d+)")
STEP_SECONDS = 0.02
"""Difference between the end of a frame and the next timestamp from which it is a step."""
_TOLERANCE_SECONDS = 0.1
_LASTING_SECONDS = 0.3
"""Shortest sound on both sides of a small step; where it is shorter, timestamps only jitter."""


@dataclass(frozen=True, slots=True)
class Run:
    """Frames whose timestamps follow each other."""

    first: int
    """Number of its first frame in the stream."""
    frames: int
    samples: tuple[int, int]
    """Numbers of its first sample, and of the first that follows, in the stream."""
    start: float
    """Seconds on the file's clock."""
    seconds: float
    squeezed: float = 0.0
    """Seconds by which the frames inside last longer than the run, where they jitter."""

    @property
    def end(self) -> float:
        """Time at which the run ends by its timestamps."""
        return self.start + self.seconds


def runs(lines: Iterable[str]) -> list[Run]:
    """Read the runs of a stream from the log of a decode."""
    found: list[Run] = []
    sample = 0
    for match in filter(None, map(_STAMP.search, lines)):
        number, rate, count = int(match[1]), int(match[3]), int(match[4])
        start, seconds = int(match[2]) / rate, count / rate
        last = found[-1] if found else None
        frame = Run(number, 1, (sample, sample + count), start, seconds)
        if last is not None and abs(start - last.end) <= STEP_SECONDS:
            found[-1] = _together(last, frame)
        else:
            found.append(frame)
        sample += count
    return _without_jitter(found)


def _together(one: Run, other: Run) -> Run:
    """Return two runs as one that ends where the second says."""
    span, frames = (one.samples[0], other.samples[1]), one.frames + other.frames
    squeezed = one.squeezed + other.squeezed
    return Run(one.first, frames, span, one.start, other.end - one.start, squeezed)


def _without_jitter(found: Sequence[Run]) -> list[Run]:
    """Return runs without the small steps beside which there is no lasting run."""
    kept: list[Run] = []
    for run in found:
        near = bool(kept) and abs(run.start - kept[-1].end) <= _TOLERANCE_SECONDS
        if near and min(run.seconds, kept[-1].seconds) < _LASTING_SECONDS:
            squeezed = kept[-1].squeezed + kept[-1].end - run.start
            kept[-1] = _together(replace(kept[-1], squeezed=squeezed), run)
        else:
            kept.append(run)
    return kept


def small_steps(found: Sequence[Run]) -> list[float]:
    """Return the steps in seconds that are too small for ffmpeg to follow them unasked."""
    steps = [after.start - before.end for before, after in pairwise(found)]
    return [step for step in steps if abs(step) <= _TOLERANCE_SECONDS]


def true_runs(found: Sequence[Run]) -> set[int]:
    """Return the numbers of the runs that go on in time and cover most of it together."""
    best: list[float] = []
    before: list[int | None] = []
    for number, run in enumerate(found):
        covered, previous = run.seconds, None
        for n in range(number):
            earlier = found[n]
            if earlier.start < run.start and earlier.end < run.end:
                whole = best[n] + run.end - max(run.start, earlier.end)
                # Where nothing is gained, the run is better known to follow.
                if whole >= covered:
                    covered, previous = whole, n
        best.append(covered)
        before.append(previous)
    chosen: set[int] = set()
    at: int | None = max(range(len(found)), key=lambda n: best[n], default=None)
    while at is not None:
        chosen.add(at)
        at = before[at]
    return chosen


def overlap_seconds(found: Sequence[Run]) -> float:
    """Return the seconds of sound that are left out because other sound is at their time."""
    chosen = set(range(len(found))) if len(found) > MOST_RUNS else true_runs(found)
    left, end = 0.0, float("-inf")
    for number in sorted(chosen):
        run = found[number]
        left += min(max(end - run.start, 0.0), run.seconds) + max(run.squeezed, 0.0)
        end = max(end, run.end)
    return left


def repair(found: Sequence[Run]) -> tuple[str, ...]:
    """Return filters that mend a stream with these runs; none where nothing can be mended."""
    if len(found) > MOST_RUNS:
        return ()
    chosen = true_runs(found)
    moved, dropped = [], []
    end: float | None = None
    for number, run in enumerate(found):
        if number in chosen:
            end = run.end
            continue
        following = min((n for n in chosen if n > number), default=None)
        room = found[following].start if following is not None else float("inf")
        if end is not None and end + run.seconds <= room + _TOLERANCE_SECONDS:
            # asetpts counts samples, aselect frames.
            first, after = run.samples
            moved.append(rf"between(N\,{first}\,{after - 1})*({end - run.start:.6f})")
            end += run.seconds
        else:
            dropped.append(rf"between(n\,{run.first}\,{run.first + run.frames - 1})")
    shift = [f"asetpts=PTS+({'+'.join(moved)})/TB"] if moved else []
    return (*shift, *([f"aselect=not({'+'.join(dropped)})"] if dropped else []))
