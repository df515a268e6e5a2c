"""A sample of a title: short windows across it, decoded and analysed without reading the rest.

Windows begin at keyframes, so that nothing is decoded in vain, and are as far apart as keyframes
allow. Within a window, cuts are detected and shots planned as in a whole title. A window's ends are
no cuts: how many shots the whole title has is therefore estimated from all windows, one after the
other (:func:`expected_shots`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from encoder.analysis.features import FeatureExtractor, ShotFeatures
from encoder.analysis.frames import Analyser, feed, small_frames
from encoder.analysis.sections import keyframe_numbers
from encoder.analysis.segments import plan_segments
from encoder.analysis.shots import CutDetector
from encoder.arrays import Int64
from encoder.media import Shot
from encoder.segmentation import AT_SHOTS, Segmentation
from encoder.source.reference import ReferenceSource

WINDOW_SECONDS = 6
"""Length of a window: the longest shot."""
MOST_WINDOWS, FEWEST_WINDOWS = 32, 6
SAMPLED_PIXELS = 5_000_000_000
"""Pixels that are decoded for a sample, about: 2,400 frames of 1080p."""

Window = tuple[int, int]
"""First canonical frame, and one past the last."""


@dataclass(frozen=True, slots=True)
class TitleSample:
    """What the windows of a title hold."""

    windows: tuple[Window, ...]
    shots: tuple[Shot, ...]
    """Shots within windows, in order."""
    shot_features: tuple[ShotFeatures, ...]
    """Features of the shots, in the same order."""
    title_shots: int
    """Number of shots that the whole title is expected to have."""
    cpu_seconds_per_frame: float
    """CPU time of decoding and analysing one frame, on this machine."""

    @property
    def frames(self) -> int:
        """Number of frames in all windows."""
        return sum(end - start for start, end in self.windows)


def spread_windows(keyframes: Int64, frames: int, length: int, count: int) -> tuple[Window, ...]:
    """Return at most ``count`` windows of ``length`` frames, each at the keyframe that is nearest
    to the middle of its part of the title; pure.

    The title is divided in ``count`` equal parts. Windows do not overlap; where keyframes are rare,
    there are fewer windows, and one at least.
    """
    if length >= frames or len(keyframes) < 2:
        return ((0, min(length, frames)),)
    windows: list[Window] = []
    for number in range(count):
        wanted = (2 * number + 1) * frames // (2 * count) - length // 2
        start = int(keyframes[np.argmin(np.abs(keyframes - wanted))])
        start = min(start, frames - length)
        if not windows or start >= windows[-1][1]:
            windows.append((start, start + length))
    return tuple(windows)


def expected_shots(
    cuts: Sequence[Sequence[int]],
    lengths: Sequence[int],
    frames: int,
    frame_rate: Fraction,
    segmentation: Segmentation = AT_SHOTS,
) -> int:
    """Return how many shots a title has whose windows hold these cuts; pure.

    The windows are put one after the other and divided into shots, without cuts where they meet,
    and the number is scaled to the title's length.

    Args:
        cuts: Cuts of each window, counted from its first frame.
        lengths: Frames of each window.
        frames: Frames of the title.
        frame_rate: Frames per second.
        segmentation: How the title is divided; cues are not looked at.
    """
    plain = replace(segmentation, cues=())
    joined, begun = [], 0
    for found, length in zip(cuts, lengths, strict=True):
        joined += [begun + cut for cut in found]
        begun += length
    return max(1, round(len(plan_segments(joined, begun, frame_rate, plain)) * frames / begun))


def _expected_segments(
    cuts: Sequence[Sequence[int]],
    lengths: Sequence[int],
    source: ReferenceSource,
    segmentation: Segmentation,
) -> int:
    """Return how many segments a title has: exactly on a grid, and what its cues add."""
    frames, rate = source.frames, source.frame_rate
    if segmentation.grid is not None:
        return len(plan_segments((), frames, rate, segmentation))
    cues = segmentation.cues_in(frames, rate)
    added = {frame for cue in cues for frame in (cue.frame, cue.end_frame)} - {0, frames}
    return expected_shots(cuts, lengths, frames, rate, segmentation) + len(added)


def windows_of(source: ReferenceSource) -> tuple[Window, ...] | None:
    """Return the windows of a title; None where they would be half of it or more."""
    length = max(1, int(WINDOW_SECONDS * source.frame_rate))
    pixels = length * source.width * source.height
    count = min(MOST_WINDOWS, max(FEWEST_WINDOWS, SAMPLED_PIXELS // pixels))
    if 2 * count * length >= source.frames:
        return None
    return spread_windows(keyframe_numbers(source), source.frames, length, count)


def take_sample(
    source: ReferenceSource,
    windows: Sequence[Window],
    threads: int = 2,
    segmentation: Segmentation = AT_SHOTS,
    further: Callable[[], Sequence[Analyser]] = tuple,
) -> TitleSample:
    """Decode and analyse the windows of a title.

    ``further`` makes the other analysers of a first pass, for each window anew: what they find is
    not looked at, but what they cost is.

    Windows are divided as the title is, but without cues, which say nothing of other places.

    Raises:
        SourceUnusable: a frame does not decode.
    """
    before = time.process_time()
    plain = replace(segmentation, cues=())
    extractor = FeatureExtractor.of(source)
    shots: list[Shot] = []
    cuts: list[tuple[int, ...]] = []
    for start, end in windows:
        detector = CutDetector(source.frame_rate)
        feed(small_frames(source, threads, span=(start, end)), detector, extractor, *further())
        cuts.append(detector.cuts())
        for shot in plan_segments(cuts[-1], end - start, source.frame_rate, plain):
            inside = tuple(start + cut for cut in shot.cuts)
            shots.append(Shot(start + shot.start, start + shot.end, inside))
    lengths = [end - start for start, end in windows]
    spent = time.process_time() - before
    return TitleSample(
        windows=tuple(windows),
        shots=tuple(shots),
        shot_features=extractor.shots(shots),
        title_shots=_expected_segments(cuts, lengths, source, segmentation),
        cpu_seconds_per_frame=spent / sum(lengths),
    )
