"""Which pictures of a source are deinterlaced, where its parts differ. Pure.

Flags hold unless a whole stretch of pictures contradicts them: film inserts of a programme that is
flagged interlaced, interlaced credits of a film that is flagged progressive.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Literal

import numpy as np

from encoder.arrays import Int64, Mask
from encoder.source.probing.source_info import Run
from encoder.source.scan.looks import COMBED, PROGRESSIVE, TOP_FIRST, UNDECIDED

LEAST_PROGRESSIVE = 25
"""Pictures in a row, none combed, that are left as they are against their flags."""
LEAST_COMBED = 10
"""Combed pictures that are deinterlaced against their flags."""
MOST_GAP = 12
"""Pictures between two combed ones that belong to the same stretch."""
MOST_RUNS = 200
"""Runs above which those with only :data:`MOST_GAP` pictures between them become one."""
_LEAST_CERTAIN = 0.5  # share of a progressive stretch that looks progressive, the rest undecided
_LEAST_SHARE = 0.3  # of a combed stretch; film with repeated fields has two combed ones in five


def corrected_flags(flags: Mask, seen: str, *, combed: bool = True) -> Mask:
    """Return ``flags``, which are True for interlaced pictures, as pictures contradict them.

    ``seen`` holds a letter of :mod:`encoder.source.scan.looks` for each picture of the source.
    Without ``combed``, pictures that are not flagged are left as they are.
    """
    wanted = flags.copy()
    start = 0
    for flag, run in groupby(flags.tolist()):
        end = start + len(list(run))
        part = seen[start:end]
        found = _progressive(part) if flag else _combed(part) if combed else ()
        for first, last in found:
            wanted[start + first : start + last] = not flag
        start = end
    if len(wanted) > 1:
        # The end of a stream repeats the last choice of a filter.
        wanted[-1] = wanted[-2]
    return wanted


def _progressive(seen: str) -> Iterator[tuple[int, int]]:
    start = 0
    for combed, run in groupby(seen, COMBED.__contains__):
        end = start + len(list(run))
        part = seen[start:end]
        first, last = part.find(PROGRESSIVE), part.rfind(PROGRESSIVE) + 1
        certain = part.count(PROGRESSIVE) >= _LEAST_CERTAIN * (last - first)
        if not combed and certain and last - first >= LEAST_PROGRESSIVE:
            yield start + first, start + last
        start = end


def _combed(seen: str) -> Iterator[tuple[int, int]]:
    places = np.array([n for n, one in enumerate(seen) if one in COMBED], np.int64)
    if not len(places):
        return
    for group in np.split(places, np.flatnonzero(np.diff(places) > MOST_GAP) + 1):
        start, end = int(group[0]), int(group[-1]) + 1
        decided = sum(one != UNDECIDED for one in seen[start:end])
        if len(group) < LEAST_COMBED or len(group) < _LEAST_SHARE * decided:
            continue
        while start > 0 and seen[start - 1] == UNDECIDED:
            start -= 1
        while end < len(seen) and seen[end] == UNDECIDED:
            end += 1
        yield start, end


def runs_of(wanted: Mask, marked: Mask, seen: str) -> tuple[Run, ...]:
    """Return the runs of wanted pictures.

    Args:
        wanted: True for each picture that is deinterlaced.
        marked: True for each picture that the decoder marks as interlaced, which states its order
            of fields.
        seen: letters of :mod:`encoder.source.scan.looks`, which show the order elsewhere.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], wanted, [False]])))
    spans = edges.reshape(-1, 2)
    if len(spans) > MOST_RUNS:
        spans = _merged(spans)
    return tuple(_run(int(start), int(end), marked, seen) for start, end in spans)


def _merged(spans: Int64) -> Int64:
    apart = spans[1:, 0] - spans[:-1, 1] > MOST_GAP
    starts = spans[np.concatenate([[True], apart]), 0]
    return np.column_stack([starts, spans[np.concatenate([apart, [True]]), 1]])


def _run(start: int, end: int, marked: Mask, seen: str) -> Run:
    parity: Literal["auto", "tff", "bff"] = "auto"
    part = seen[start:end]
    if not marked[start:end].all():
        combed = [one for one in part if one in COMBED]
        parity = "tff" if 2 * combed.count(TOP_FIRST) >= len(combed) else "bff"
    return Run(start, end, parity)


def contradicts(flags: Mask, seen: str, *, combed: bool = True) -> bool:
    """Return True where a few pictures of one place look otherwise than their flags say.

    Without ``combed``, pictures that are not flagged contradict nothing.
    """
    decided = sum(one != UNDECIDED for one in seen)
    found = sum(one in COMBED for one in seen)
    if flags.all():
        return not found and 2 * decided > len(seen)
    if not flags.any():
        return combed and found >= max(3, _LEAST_SHARE * decided)
    return False
