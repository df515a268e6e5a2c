"""Sections of a title that are decoded and analysed apart, and are then as one pass would be.

Analysers remember a bounded number of frames, so a section is read with that many frames of
*context* on each side, and what is measured of them is dropped. Sections begin just after a
keyframe's context, so that little is decoded twice. The frames around a boundary are decoded by
both neighbours, each from a keyframe of its own: :class:`BoundaryDigests` shows whether they are
the same, and so whether seeking in the source can be trusted.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from encoder.analysis.feature_maths import StoredLuma
from encoder.analysis.frames import SmallFrame
from encoder.arrays import Int64
from encoder.source.reference import ReferenceSource

SECTION_SECONDS = 90
"""Least length of a section, but for the last one, which may be half as long."""


@dataclass(frozen=True, slots=True)
class Section:
    """A run of canonical frames, and what has to be read for it."""

    start: int
    """First frame of the section."""
    end: int
    """One past its last frame."""
    first: int
    """First frame that is read."""
    stop: int
    """One past the last frame that is read."""

    @property
    def frames(self) -> int:
        """Number of frames of the section."""
        return self.end - self.start


def keyframe_numbers(source: ReferenceSource) -> Int64:
    """Return the canonical frames at which decoding can begin, ascending, (keyframes,)."""
    index, timeline = source.index, source.timeline
    places = np.searchsorted(index.pts, index.keyframe_pts)
    numbers = places if timeline.source_of is None else np.searchsorted(timeline.source_of, places)
    numbers = np.unique(numbers)
    return np.asarray(numbers[numbers < source.frames], np.int64)


def plan_sections(
    keyframes: Int64, frames: int, length: int, context: int, step: int
) -> tuple[Section, ...]:
    """Divide a title into sections of ``length`` frames or a little more; pure.

    Args:
        keyframes: Frames at which decoding can begin, ascending.
        frames: Frames of the title.
        length: Least frames of a section but the last, which has at least half as many.
        context: Frames that are read on each side.
        step: Sections begin at multiples of this number of frames.
    """
    bounds = [0]
    while True:
        place = int(np.searchsorted(keyframes, bounds[-1] + length - context))
        if place == len(keyframes):
            break
        bound = -(-(int(keyframes[place]) + context) // step) * step
        if 2 * (frames - bound) < length:
            break
        bounds.append(bound)
    return tuple(
        Section(start, end, max(0, start - context), min(frames, end + context))
        for start, end in pairwise([*bounds, frames])
    )


class BoundaryDigests:
    """Analyser that digests the frames around both ends of a section."""

    def __init__(
        self, section: Section, context: int, *, full_range: bool = False, interlaced: bool = False
    ) -> None:
        self._section = section
        self._context = context
        self._stored = full_range, interlaced
        self._head, self._tail = hashlib.sha256(), hashlib.sha256()

    def push(self, frame: SmallFrame) -> None:
        """Take the next frame."""
        for bound, digest in ((self._section.start, self._head), (self._section.end, self._tail)):
            if bound - self._context <= frame.number < bound + self._context:
                luma = StoredLuma.of(frame.picture, *self._stored).plane
                digest.update(luma.tobytes())
                digest.update(frame.yuv.tobytes())

    @property
    def head(self) -> str:
        """Digest of the frames around the section's start."""
        return self._head.hexdigest()

    @property
    def tail(self) -> str:
        """Digest of the frames around the section's end: the next section's :attr:`head`."""
        return self._tail.hexdigest()
