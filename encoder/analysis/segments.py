"""Segments: the boundaries that all renditions share, from cuts and from what was asked for.

Whatever is asked for, every cut inside a segment gets an IDR, and every segment is encoded,
measured and chosen by itself, as a :class:`~encoder.media.Shot`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

from encoder.analysis.shots import MAX_SECONDS, MIN_SECONDS, plan_shots
from encoder.media import Shot
from encoder.segmentation import Segmentation


def plan_segments(
    cuts: Iterable[int], frames: int, frame_rate: Fraction, segmentation: Segmentation
) -> tuple[Shot, ...]:
    """Divide a title into segments; pure and exact.

    At shots, the stretches between two cues are divided by :func:`~.shots.plan_shots`, so that a
    segment may be shorter than its limit only where a stretch is. A grid goes on through cues: a
    cue within a cell divides the cell, and moves no other boundary.

    Raises:
        BadInput: a cue lies outside the title.
        ValueError: the title has no frames.
    """
    inside = sorted({int(cut) for cut in cuts if 0 < cut < frames})
    cues = segmentation.cues_in(frames, frame_rate)
    fixed = {frame for cue in cues for frame in (cue.frame, cue.end_frame)} - {0, frames}
    if segmentation.grid is not None:
        steps = segmentation.grid.boundaries(frames, frame_rate)
        bounds = [0, *sorted(fixed.union(steps)), frames]
        return tuple(
            Shot(start, end, tuple(cut for cut in inside if start < cut < end))
            for start, end in pairwise(bounds)
        )
    longest = segmentation.longest or MAX_SECONDS
    return tuple(
        _moved(shot, start)
        for start, end in pairwise([0, *sorted(fixed), frames])
        for shot in plan_shots(
            [cut - start for cut in inside if start < cut < end],
            end - start,
            frame_rate,
            min(MIN_SECONDS, longest / 2),
            longest,
        )
    )


def _moved(shot: Shot, frames: int) -> Shot:
    cuts = tuple(cut + frames for cut in shot.cuts)
    return replace(shot, start=shot.start + frames, end=shot.end + frames, cuts=cuts)
