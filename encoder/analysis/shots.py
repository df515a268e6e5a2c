"""Shots: cuts are detected in frames, then chosen as the boundaries that all renditions share.

Detection (:class:`CutDetector`, an analyser of :mod:`encoder.analysis.frames`) uses PySceneDetect's
AdaptiveDetector on small frames with two thresholds, and detects fades through black by luma.
Planning (:func:`plan_shots`) is pure: it divides the title into runs of 1 to 6 s.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from itertools import pairwise

import cv2
import numpy as np
from scenedetect import FrameTimecode, StatsManager
from scenedetect.detectors import AdaptiveDetector

from encoder.analysis.frames import SmallFrame
from encoder.arrays import Float64, Int64, UInt8
from encoder.media import Shot

MIN_SECONDS = Fraction(1)
"""Least duration of a shot."""
MAX_SECONDS = Fraction(6)
"""Largest duration of a shot."""

# A frame is a cut where its change from the frame before stands out against its two neighbours on
# each side: threefold for any visible change (PySceneDetect's default), twofold for a large one.
# The second threshold finds cuts next to fast motion: 2 of DAVIS' 9 have ratios of 2.6 and 2.8.
_CLEAR_RATIO, _CLEAR_CHANGE = 3.0, 15.0
_CROWDED_RATIO, _CROWDED_CHANGE = 2.0, 30.0

CONTEXT_FRAMES = 4
"""Frames on each side of a run that its :class:`Measures` depend on, and one more."""

# Black frames, by the mean and the 95th percentile of luma on the 8-bit limited range scale, where
# black is 16. A percentile ignores a watermark on black.
_BLACK_MEAN, _BLACK_HIGH = 22.0, 32.0
_PLATEAU = 0.5
# A picture that leaves or enters black at once, not in a fade: luma jumps this much, and this many
# times the steps around.
_JUMP, _JUMP_RATIO = 8.0, 3.0


@dataclass(frozen=True, slots=True, eq=False)
class Measures:
    """Measures that cuts are read from, each of shape (frames,)."""

    change: Float64
    """PySceneDetect's ``content_val`` against the frame before, 0 to 255."""
    ratio: Float64
    """``change`` over its mean at the four nearest frames; 0 where there are fewer."""
    luma: Float64
    """Mean luma, limited range."""
    high: Float64
    """95th percentile of luma, limited range."""

    def between(self, start: int, end: int) -> Measures:
        """Return the measures of frames ``[start, end)``."""
        return Measures(*(getattr(self, each.name)[start:end] for each in fields(self)))

    @classmethod
    def joined(cls, parts: Sequence[Measures]) -> Measures:
        """Return the measures of consecutive runs of frames as those of all frames."""
        columns = ([getattr(part, each.name) for part in parts] for each in fields(cls))
        return cls(*map(np.concatenate, columns))


class _Detector(AdaptiveDetector):  # type: ignore[misc]
    """AdaptiveDetector without edge detection, and with differences summed by OpenCV.

    PySceneDetect detects edges whenever it keeps measures, at half of its total cost, and gives
    them no weight. It sums absolute differences of bytes in arrays of 32 bits, which takes longer
    than everything else that it does; the sums are the same whole numbers here.
    """

    _planes: tuple[UInt8, ...] = ()

    def _calculate_frame_score(self, timecode: FrameTimecode, frame_img: UInt8) -> float:
        before = self._planes
        self._planes = tuple(
            np.asarray(plane, np.uint8)
            for plane in cv2.split(cv2.cvtColor(frame_img, cv2.COLOR_BGR2HSV))
        )
        if not before:
            return 0.0
        distances = [
            cv2.norm(now, then, cv2.NORM_L1) / now.size
            for now, then in zip(self._planes, before, strict=True)
        ]
        weights = self._weights
        pairs = zip(
            distances, (weights.delta_hue, weights.delta_sat, weights.delta_lum), strict=True
        )
        score = sum(distance * weight for distance, weight in pairs) / sum(map(abs, weights))
        self.stats_manager.set_metrics(timecode, {self.FRAME_SCORE_KEY: score})
        return float(score)


class CutDetector:
    """Analyser that takes small frames and returns the frames at which a new scene starts."""

    def __init__(self, frame_rate: Fraction) -> None:
        self._frame_rate = frame_rate
        self._stats = StatsManager()
        self._detector = _Detector(min_scene_len=1)
        self._detector.stats_manager = self._stats
        self._timecodes: list[FrameTimecode] = []
        self._luma: list[float] = []
        self._high: list[float] = []

    def push(self, frame: SmallFrame) -> None:
        """Take the next frame."""
        timecode = FrameTimecode(len(self._timecodes), self._frame_rate)
        self._detector.process_frame(timecode, frame.bgr())
        self._timecodes.append(timecode)
        self._luma.append(cv2.mean(frame.luma)[0])
        levels = cv2.calcHist([frame.luma], [0], None, [256], [0, 256]).ravel().cumsum()
        self._high.append(float(np.searchsorted(levels, 0.95 * frame.luma.size)))

    def measures(self) -> Measures:
        """Return the measures of the frames so far."""
        change, ratio = self._detector.get_metrics()[0], self._detector.get_metrics()[-1]
        rows = [self._stats.get_metrics(at, [change, ratio]) for at in self._timecodes]
        table = np.array([[value or 0.0 for value in row] for row in rows], dtype=np.float64)
        table = table.reshape(-1, 2)
        return Measures(table[:, 0], table[:, 1], np.array(self._luma), np.array(self._high))

    def cuts(self) -> tuple[int, ...]:
        """Return the first frame of every scene but the first, ascending."""
        return find_cuts(self.measures())


def find_cuts(measures: Measures) -> tuple[int, ...]:
    """Find the first frame of every scene but the first, ascending; pure.

    A fade through black is one cut, at its darkest frame (the middle one of a black stretch),
    unless the picture leaves or enters black at once: then that frame is the cut. Black at either
    end of the title is not a scene of its own.
    """
    change, ratio = measures.change, measures.ratio
    is_cut = (ratio >= _CLEAR_RATIO) & (change >= _CLEAR_CHANGE)
    is_cut |= (ratio >= _CROWDED_RATIO) & (change >= _CROWDED_CHANGE)
    cuts = {int(frame) for frame in np.flatnonzero(is_cut)}
    for start, end in _black_runs(measures):
        near = range(start, end + 1)
        hard = {frame for frame in near if _jumps(measures.luma, frame)}
        cuts -= set(near)
        if hard:
            cuts |= hard
        elif start > 0 and end < len(change):
            luma = measures.luma[start:end]
            darkest = np.flatnonzero(luma <= luma.min() + _PLATEAU)
            cuts.add(start + int(darkest[len(darkest) // 2]))
    return tuple(sorted(cuts - {0}))


def _black_runs(measures: Measures) -> list[tuple[int, int]]:
    """Return the half-open runs of black frames."""
    black = (measures.luma <= _BLACK_MEAN) & (measures.high <= _BLACK_HIGH)
    edges = np.flatnonzero(np.diff(np.concatenate(([False], black, [False])).astype(np.int8)))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def _jumps(luma: Float64, frame: int) -> bool:
    if not 0 < frame < len(luma):
        return False
    step = abs(luma[frame] - luma[frame - 1])
    before = abs(luma[frame - 1] - luma[frame - 2]) if frame > 1 else 0.0
    after = abs(luma[frame + 1] - luma[frame]) if frame + 1 < len(luma) else 0.0
    return bool(step >= _JUMP and step >= _JUMP_RATIO * max(before, after))


def plan_shots(
    cuts: Iterable[int],
    frames: int,
    frame_rate: Fraction,
    min_s: Fraction | int | float = MIN_SECONDS,
    max_s: Fraction | int | float = MAX_SECONDS,
) -> tuple[Shot, ...]:
    """Divide a title into shots of ``min_s`` to ``max_s`` seconds; pure and exact.

    The best division has, in this order: the fewest boundaries that are not on a cut; the fewest
    cuts left inside a shot (each gets an IDR there); the most even lengths (least sum of squares).
    Boundaries between two boundaries on cuts are therefore evenly spaced, and the search only runs
    over pairs of cuts. A title shorter than ``min_s`` is one shot. Where no division keeps the
    limits (``max_s`` under twice ``min_s``), shots may be shorter, never longer. Cuts outside
    ``(0, frames)`` are ignored.

    Raises:
        ValueError: the title has no frames, or the limits are out of order.
    """
    if frames < 1 or frame_rate <= 0 or not 0 <= min_s <= max_s:
        raise ValueError(
            f"shots of {min_s} to {max_s} s over {frames} frames at {frame_rate} fps: "
            "need frames, a rate and 0 <= min_s <= max_s"
        )
    inside = sorted({int(cut) for cut in cuts if 0 < cut < frames})
    shortest = max(1, -(-Fraction(min_s) * frame_rate // 1))
    longest = max(1, shortest, int(Fraction(max_s) * frame_rate))
    if frames < shortest:
        return (Shot(0, frames, tuple(inside)),)
    stops = np.array([0, *inside, frames], dtype=np.int64)
    bounds = _best_bounds(stops, int(shortest), int(longest)) or _best_bounds(
        stops, 1, int(longest)
    )
    assert bounds is not None
    return tuple(
        Shot(start, end, tuple(cut for cut in inside if start < cut < end))
        for start, end in pairwise(bounds)
    )


def _best_bounds(stops: Int64, shortest: int, longest: int) -> list[int] | None:
    """Return the boundaries of the best division, ends included; None when none keeps the limits.

    Dynamic program over ``stops`` (title start, cuts, title end): the best division up to a stop
    is the best one up to an earlier stop plus an even split of the span between them.
    """
    count = len(stops)
    never = np.iinfo(np.int64).max // 4
    off = np.full(count, never)
    missed = np.full(count, never)
    squares = np.full(count, never)
    back = np.zeros(count, dtype=np.int64)
    off[0] = missed[0] = squares[0] = 0
    for stop in range(1, count):
        span = stops[stop] - stops[:stop]
        parts = -(-span // longest)
        possible = (off[:stop] < never) & (parts * shortest <= span)
        if not possible.any():
            continue
        size, longer = np.divmod(span, parts)
        costs = (
            off[:stop] + parts - 1,
            missed[:stop] + np.arange(stop - 1, -1, -1),
            squares[:stop] + parts * size**2 + longer * (2 * size + 1),
        )
        for cost in costs:
            possible &= cost == cost[possible].min()
        best = int(np.flatnonzero(possible)[-1])
        back[stop] = best
        off[stop], missed[stop], squares[stop] = (int(cost[best]) for cost in costs)
    if off[-1] >= never:
        return None
    bounds = [int(stops[-1])]
    stop = count - 1
    while stop > 0:
        start, end = int(stops[back[stop]]), int(stops[stop])
        parts = -(-(end - start) // longest)
        bounds += [start + (end - start) * part // parts for part in range(parts - 1, -1, -1)]
        stop = int(back[stop])
    return bounds[::-1]
