"""Mend timestamps of sound that jump away and come back, as damaged packets have them.

Sound is placed by its timestamps. One that is wrong would move all sound behind it, or silence it
until its time is reached. Frames that follow each other form runs; the runs that can be played one
after the other, and last longest, are where they say. The others are put where the run before them
ends, if there is room, and left out otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

STAMPS = re.compile(r"ashowinfo@stamp .* n: *\d+ ")
"""Lines of the log that :func:`runs` reads."""
MOST_RUNS = 500
"""Most runs among which the true ones are looked for."""

_STAMP = re.compile(r" n: *(\d+) pts:(-?\d+) .* rate:(\d+) nb_samples:(\d+)")
_TOLERANCE_SECONDS = 0.1


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
        if last is not None and abs(start - last.end) <= _TOLERANCE_SECONDS:
            span = (last.samples[0], sample + count)
            whole = start + seconds - last.start
            found[-1] = Run(last.first, last.frames + 1, span, last.start, whole)
        else:
            found.append(Run(number, 1, (sample, sample + count), start, seconds))
        sample += count
    return found


def true_runs(found: Sequence[Run]) -> set[int]:
    """Return the numbers of the runs that follow each other and last longest together."""
    best: list[float] = []
    before: list[int | None] = []
    for number, run in enumerate(found):
        reached = [n for n in range(number) if found[n].end <= run.start + _TOLERANCE_SECONDS]
        previous = max(reached, key=lambda n: best[n], default=None)
        best.append(run.seconds + (best[previous] if previous is not None else 0))
        before.append(previous)
    chosen: set[int] = set()
    at: int | None = max(range(len(found)), key=lambda n: best[n], default=None)
    while at is not None:
        chosen.add(at)
        at = before[at]
    return chosen


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
