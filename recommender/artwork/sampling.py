"""Measures stills during the one decode of a title.

:class:`StillSampler` is an analyser of :mod:`encoder.analysis.frames`. From every third of a second
it takes the frame that is sharpest and moves least, and keeps a row of numbers of it: measures, a
perceptual hash and an embedding. It holds no picture longer than half a second. A row takes about
0.3 kB and a title has at most :data:`MAX_STILLS` rows (in longer titles a still stands for more
frames), so memory does not grow with the title.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from fractions import Fraction
from statistics import median
from typing import Final, Self

import cv2
import numpy as np

from encoder.analysis.feature_maths import StoredLuma, colourfulness, noise, quantile
from encoder.analysis.frames import SmallFrame
from encoder.arrays import Float32, UInt8
from encoder.source.reference import ReferenceSource
from recommender.artwork import letters, metrics, saliency
from recommender.artwork.colour import bgr_of_small
from recommender.artwork.descriptors import EMBEDDING_SIZE, embedding, perceptual_hash
from recommender.artwork.faces import Face, FaceDetector
from recommender.artwork.stills import MEASURES, Stills

SAMPLING_VERSION: Final = 5
"""Part of the store keys. Raise it when any number of any still changes."""

STILLS_PER_SECOND: Final = 3
MAX_STILLS: Final = 40_000
LOOK_SECONDS: Final = 1
"""Time between two stills in which faces are looked for, beside those next to a cut. To look takes
as long as all measures together, and a face that is found stands for the stills around it until
those are read at full size."""

_TINY = (64, 36)
_LOOK_SECONDS = Fraction(1, 2)
# A blink takes a fifth to a third of a second. This far from any moment of it the eyes look
# different.
_MOMENT_SECONDS = Fraction(1, 8)
# A hard cut: this many levels from one frame to the next, and this many times its neighbours.
_JUMP, _JUMP_RATIO = 6.0, 3.0
# Tiny frames half a second apart that differ by less than this have no transition between them.
_MIN_CHANGE = 5.0
# A smaller gain in sharpness does not count, so that coding noise does not decide which frame is
# taken.
_CLEARLY_BETTER = 1.06
_STILL_LEVELS = 12.0
# A shift that leaves less than this share of the change explains the change.
_EXPLAINED = 0.7
# Two tiny frames that correlate this much are one picture in different light, unless one of them
# has less than this share of the other's contrast, as in a fade.
_ALIKE, _MIN_LIGHT = 0.97, 0.7


@dataclass(slots=True, eq=False)
class _SampledFrame:
    """The best frame of a run of frames, with what is needed to measure it later."""

    number: int
    score: float
    yuv: UInt8
    detail: UInt8
    windows: Float32
    change: float


@dataclass(slots=True, eq=False)
class _RecentFrame:
    number: int
    step: float
    """Mean absolute difference to the frame before, in levels."""
    tiny: Float32
    luma: UInt8


@dataclass(slots=True, eq=False)
class _Rows:
    frames: list[int] = field(default_factory=list)
    measures: list[tuple[float, ...]] = field(default_factory=list)
    hashes: list[int] = field(default_factory=list)
    embeddings: list[Float32] = field(default_factory=list)
    bars: list[tuple[float, ...]] = field(default_factory=list)
    faces: list[tuple[Face, ...] | None] = field(default_factory=list)


class StillSampler:
    """Analyser that turns small frames into :class:`Stills`. Not thread-safe."""

    def __init__(
        self,
        frame_rate: Fraction,
        frames: int,
        *,
        full_range: bool = False,
        interlaced: bool = False,
        matrix: str | None = None,
        height: int = 720,
    ) -> None:
        """Create a sampler for a title of ``height`` lines whose YCbCr has this ``matrix``.

        Decoded pictures may hold two fields if ``interlaced``.
        """
        shortest = max(1, round(frame_rate / STILLS_PER_SECOND))
        self.frames_per_still = max(shortest, -(-frames // MAX_STILLS))
        """Length of the runs of frames of which each gives a still."""
        self.look_frames = max(2, round(frame_rate * _LOOK_SECONDS))
        """Frames before and after a still that its measures may depend on."""
        self._moment_frames = max(1, round(frame_rate * _MOMENT_SECONDS))
        self._full_range = full_range
        self._interlaced = interlaced
        self.recent: deque[_RecentFrame] = deque(maxlen=2 * self.look_frames + 1)
        """The last frames; a still is measured when it is in their middle."""
        self.pending: deque[_SampledFrame] = deque()
        """Stills that are waiting for the frames after them."""
        self._previous: UInt8 | None = None
        self._best: _SampledFrame | None = None
        self._rows = _Rows()
        self._matrix, self._height = matrix, height
        self._detector = FaceDetector()
        self._stills_per_look = max(1, round(frame_rate * LOOK_SECONDS / self.frames_per_still))

    @property
    def context_frames(self) -> int:
        """Frames before and after a run that the stills of the run depend on."""
        return self.look_frames + 1

    @classmethod
    def of(cls, source: ReferenceSource) -> Self:
        """Create a sampler for the frames of a planned source."""
        info = source.info
        return cls(
            source.frame_rate,
            source.frames,
            full_range=info.color_range == "full",
            interlaced=info.interlaced,
            matrix=source.sdr_matrix,
            height=source.height,
        )

    def push(self, frame: SmallFrame) -> None:
        """Take the next frame."""
        luma = frame.luma
        step, local = self._changes(luma)
        self._previous = luma
        tiny = cv2.resize(luma, _TINY, interpolation=cv2.INTER_AREA).astype(np.float32)
        self.recent.append(_RecentFrame(frame.number, step, tiny, luma.copy()))
        if self._best is not None:
            if frame.number == self._best.number + 1:
                self._best.change = max(self._best.change, local)
            if frame.number // self.frames_per_still != self._best.number // self.frames_per_still:
                self.pending.append(self._best)
                self._best = None
        if self.pending and self.pending[-1].number == frame.number - 1:
            self.pending[-1].change = max(self.pending[-1].change, local)
        score = _mean_gradient(luma) / (1.0 + local / _STILL_LEVELS)
        if self._best is None or score > self._best.score * _CLEARLY_BETTER:
            stored = StoredLuma.of(frame.picture, self._full_range, self._interlaced)
            detail = metrics.detail_plane(stored.plane, stored.scale, stored.offset)
            windows = stored.fine_windows()
            self._best = _SampledFrame(frame.number, score, frame.yuv, detail, windows, local)
        while self.pending and self.pending[0].number + self.look_frames <= frame.number:
            self._measure(self.pending.popleft())

    def stills(self) -> Stills:
        """Return all stills, after all frames have been pushed."""
        if self._best is not None:
            self.pending.append(self._best)
            self._best = None
        while self.pending:
            self._measure(self.pending.popleft())
        rows = self._rows
        count = len(rows.frames)
        return Stills(
            frames=np.array(rows.frames, np.int64),
            measures=np.array(rows.measures, np.float32).reshape(count, len(MEASURES)),
            hashes=np.array(rows.hashes, np.uint64),
            # Rounded to half precision, in which the store keeps them: fresh and stored stills
            # must be the same numbers.
            embeddings=np.array(rows.embeddings, np.float16)
            .reshape(count, EMBEDDING_SIZE)
            .astype(np.float32),
            bars=np.array(rows.bars, np.float16).reshape(count, 4).astype(np.float32),
            faces=tuple(rows.faces),
        )

    def _changes(self, luma: UInt8) -> tuple[float, float]:
        """Return the mean difference to the previous frame, and that of the most changed blocks."""
        if self._previous is None:
            return 0.0, 0.0
        difference = np.asarray(cv2.absdiff(luma, self._previous), np.uint8)
        return cv2.mean(difference)[0], _block_quantile(difference, 0.98)

    def _measure(self, still: _SampledFrame) -> None:
        yuv, luma = still.yuv, still.yuv[0]
        focus = metrics.focus(still.detail)
        attention = saliency.saliency_map(yuv)
        gradients = metrics.gradient_map(luma)
        values = {
            "sharpness": focus.sharpness,
            "blur": focus.blur,
            "motion_blur": focus.motion_blur,
            "noise": noise(still.windows),
            "text": letters.text_likelihood(still.detail),
            "colourfulness": colourfulness(yuv),
            "title_space": metrics.title_space(gradients)[0],
            "uniform": metrics.uniform_share(gradients),
            "change": still.change,
            "unrest": self._unrest(still.number, luma),
            "blend": self._blend(still.number),
            "cut_distance": self._cut_distance(still.number),
            **metrics.levels(luma),
            **saliency.composition(luma, attention),
        }
        rows = self._rows
        rows.frames.append(still.number)
        rows.measures.append(tuple(values[name] for name in MEASURES))
        rows.hashes.append(perceptual_hash(luma))
        rows.embeddings.append(embedding(yuv))
        # By its place and by what is near it alone, so that a title in pieces is looked at as well.
        due = still.number // self.frames_per_still % self._stills_per_look == 0
        if due or values["cut_distance"] < self.frames_per_still:
            picture = bgr_of_small(yuv, self._matrix, self._height)
            rows.faces.append(self._detector.find(picture))
        else:
            rows.faces.append(None)
        height, width = luma.shape
        top, bottom, left, right = metrics.bars(luma)
        rows.bars.append((top / height, bottom / height, left / width, right / width))

    def _unrest(self, number: int, luma: UInt8) -> float:
        """Return by how many levels the most changed places differ a moment before or after.

        Eyes that are closing and hands that are moving show here. In the middle of a blink the
        value is high on both sides, even if everything else is at rest.
        """
        first = self.recent[0].number
        places = (number - self._moment_frames - first, number + self._moment_frames - first)
        around = [self.recent[at].luma for at in places if 0 <= at < len(self.recent)]
        differences = (np.asarray(cv2.absdiff(luma, other), np.uint8) for other in around)
        return max((_block_quantile(each, 0.995) for each in differences), default=0.0)

    def _blend(self, number: int) -> float:
        """Return how much a still is the mean of the pictures before and after it, 0 to 1.

        In a dissolve or a fade it is exactly that mean. In a moving picture it is not, because
        edges move instead of fading: for pictures with a natural spectrum the mean is as far off
        as the still itself. Two kinds of pictures look like a blend and are none: a slow camera
        move over a soft picture (before and after are one picture, shifted), and a camera that
        adapts to the light (they are one picture, brighter or darker).
        """
        first = self.recent[0].number
        strongest = 0.0
        for distance in (self.look_frames, self.look_frames // 2, max(1, self.look_frames // 4)):
            at = number - first
            if at - distance < 0 or at + distance >= len(self.recent):
                continue
            tinies = (self.recent[place].tiny for place in (at - distance, at, at + distance))
            # Without their mean: a camera that adapts to something bright looks like a fade.
            before, still, after = (tiny - tiny.mean() for tiny in tinies)
            change = float(np.abs(before - after).mean())
            if change < _MIN_CHANGE:
                continue
            rest = float(np.abs(still - (before + after) / 2).mean())
            blend = 1.0 - 2.0 * rest / change
            if blend > strongest and not _relit(before, after) and not _moved(before, after):
                strongest = blend
        return strongest

    def _cut_distance(self, number: int) -> float:
        """Return the number of frames to the nearest hard cut, at most :attr:`look_frames`."""
        steps = [frame.step for frame in self.recent]
        first = self.recent[0].number
        nearest = self.look_frames
        for place in range(1, len(steps)):
            if steps[place] < _JUMP:
                continue
            around = steps[max(0, place - 3) : place] + steps[place + 1 : place + 4]
            if steps[place] < _JUMP_RATIO * (median(around) if around else 0.0):
                continue
            new_scene = first + place
            away = number - new_scene if number >= new_scene else new_scene - number - 1
            nearest = min(nearest, away)
        return float(nearest)


def _block_quantile(difference: UInt8, share: float) -> float:
    """Return the quantile at ``share`` of the means of 8x8 blocks."""
    height, width = (max(1, side // 8) for side in difference.shape)
    blocks = cv2.resize(difference, (width, height), interpolation=cv2.INTER_AREA)
    return quantile(blocks.ravel(), share)


def _relit(before: Float32, after: Float32) -> bool:
    """Tell whether two tiny frames of mean 0 are one picture in different light."""
    size, other_size = float(np.linalg.norm(before)), float(np.linalg.norm(after))
    if min(size, other_size) < _MIN_LIGHT * max(size, other_size):
        return False
    return float((before * after).sum()) > _ALIKE * size * other_size


def _moved(before: Float32, after: Float32) -> bool:
    """Tell whether a shift explains most of the change between two tiny frames."""
    height, width = before.shape
    window = cv2.createHanningWindow((width, height), cv2.CV_32F)
    # Copies, because phaseCorrelate multiplies unpadded input by the window in place.
    (x, y), _ = cv2.phaseCorrelate(before.copy(), after.copy(), window)
    if abs(x) > width / 4 or abs(y) > height / 4 or max(abs(x), abs(y)) < 0.1:
        return False
    shift = np.array([[1, 0, x], [0, 1, y]], np.float32)
    shifted = cv2.warpAffine(before, shift, (width, height), flags=cv2.INTER_LINEAR)
    edge_x, edge_y = int(abs(x)) + 1, int(abs(y)) + 1
    inner = (slice(edge_y, height - edge_y), slice(edge_x, width - edge_x))
    change, rest = (float(np.abs(each - after)[inner].mean()) for each in (before, shifted))
    return rest < _EXPLAINED * change


def _mean_gradient(luma: UInt8) -> float:
    """Return the mean gradient in levels per pixel, plus 0.1 so that no frame scores zero."""
    across = cv2.norm(luma[:, 1:], luma[:, :-1], cv2.NORM_L1)
    down = cv2.norm(luma[1:], luma[:-1], cv2.NORM_L1)
    return (across + down) / luma.size + 0.1
