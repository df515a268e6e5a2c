"""How often one play of a title asks for each of its files.

The viewers are those that ``prefetch.json`` states: log-normal throughputs, and an audience that
halves every ``half_life_seconds``. A client starts on the rung that the start-up table gives for
its throughput. From the end of the seconds that this table looks at, it plays the highest rung that
it can afford. All sessions begin at the title's beginning.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from ladder.viewers import LogNormal
from recommender.caching import Goal, Objective, RankedFile
from recommender.prefetch.document import START_SECONDS, File, Prefetch

_Span = tuple[float, float]
"""Throughputs in bit/s from and up to which a client does something."""


@dataclass(frozen=True, slots=True)
class FileDemand:
    """A file, and how often it is asked for."""

    uri: str
    """Path relative to the title's package."""
    bytes: int
    sha256: str
    start_seconds: float
    """Where the file begins in the title; 0 for init segments."""
    requests: float
    """Expected requests by one play of the title."""


def file_demand(prefetch: Prefetch) -> list[FileDemand]:
    """Return the expected requests for every file of a title by one play of it.

    Sound comes first, then the rungs by rising bitrate; init segments precede their track.
    """
    viewers = prefetch.population

    def watching(seconds: float) -> float:
        return float(0.5 ** (seconds / viewers.half_life_seconds))

    def demand(file: File, start_seconds: float, requests: float) -> FileDemand:
        return FileDemand(file.uri, file.bytes, file.sha256, start_seconds, requests)

    files: list[FileDemand] = []
    if prefetch.audio is not None:
        files.append(demand(prefetch.audio.init, 0.0, 1.0))
        files += [
            demand(part, part.start_seconds, watching(part.start_seconds))
            for part in prefetch.audio.segments
        ]
    throughputs = LogNormal(viewers.median_throughput, viewers.sigma)
    starting, playing = _starting(prefetch), _playing(prefetch)
    for rung in prefetch.rungs:
        starts = _share(throughputs, starting.get(rung.name, (0.0, 0.0)))
        plays = _share(throughputs, playing[rung.name])
        both = _share(throughputs, _overlap(starting.get(rung.name), playing[rung.name]))
        later = watching(START_SECONDS[-1]) if prefetch.seconds > START_SECONDS[-1] else 0.0
        files.append(demand(rung.init, 0.0, starts + (plays - both) * later))
        for shot, segment in zip(prefetch.boundaries, rung.segments, strict=True):
            share = starts if shot.start_seconds < START_SECONDS[-1] else plays
            files.append(demand(segment, shot.start_seconds, share * watching(shot.start_seconds)))
    return files


def ranked_by(prefetch: Prefetch, goal: Goal) -> list[RankedFile]:
    """Return a title's files by falling value per byte for one play; none of value 0.

    For the objective quality this is the document's own plan.
    """
    if goal.objective is Objective.QUALITY:
        return list(prefetch.ranked_files())
    files = file_demand(prefetch)
    densities = goal.densities(
        np.array([file.bytes for file in files], np.float64),
        np.array([file.start_seconds for file in files]),
        np.array([file.requests for file in files]),
    )
    order = np.argsort(-densities, kind="stable")
    return [
        RankedFile(files[at].uri, files[at].bytes, files[at].sha256, float(densities[at]))
        for at in order
        if densities[at] > 0
    ]


def _starting(prefetch: Prefetch) -> dict[str, _Span]:
    """Return the throughputs at which clients start on each rung."""
    ends = [*(entry.throughput for entry in prefetch.startup[1:]), math.inf]
    return {
        entry.rung: (entry.throughput, end)
        for entry, end in zip(prefetch.startup, ends, strict=True)
    }


def _playing(prefetch: Prefetch) -> dict[str, _Span]:
    """Return the throughputs at which each rung is the highest that clients can afford."""
    sound = prefetch.audio.bitrate if prefetch.audio is not None else 0
    needed = [(rung.bitrate + sound) / prefetch.population.affordable for rung in prefetch.rungs]
    bounds = [0.0, *needed[1:], math.inf]
    return {
        rung.name: span
        for rung, span in zip(prefetch.rungs, itertools.pairwise(bounds), strict=True)
    }


def _overlap(one: _Span | None, other: _Span) -> _Span:
    if one is None:
        return 0.0, 0.0
    low, high = max(one[0], other[0]), min(one[1], other[1])
    return low, max(low, high)


def _share(throughputs: LogNormal, span: _Span) -> float:
    """Return the share of clients whose throughput lies in a span."""
    low, high = span
    top = 1.0 if high == math.inf else throughputs.below(high)
    return max(0.0, top - throughputs.below(low))
