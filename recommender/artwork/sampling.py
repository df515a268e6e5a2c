"""Stills, measured in the one decode of a title.

:class:`StillSampler` is an analyser of :mod:`encoder.analysis.frames`. Of every third of a second
it keeps the frame that is sharpest and stillest, and of that one a row of numbers: measures, a
perceptual hash, an embedding. No picture is kept longer than half a second. What is kept is about
0.3 kB a still, and there are at most :data:`MOST_STILLS` of them: of a title longer than that
allows the runs get longer. Memory does not grow with the title.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final, Self

import cv2
import numpy as np
import numpy.typing as npt

from encoder.analysis.feature_maths import StoredLuma, noise
from encoder.analysis.frames import Plane, SmallFrame
from encoder.arrays import AnyArray, Float32, Int64
from encoder.source.reference import ReferenceSource
from recommender.artwork import metrics
from recommender.artwork.descriptors import EMBEDDING_SIZE, embedding, perceptual_hash

SAMPLING_VERSION: Final = 2
"""Raise it when any number of any still changes: it is part of the store's keys."""

STILLS_PER_SECOND: Final = 3
MOST_STILLS: Final = 40_000

MEASURES: Final = (
    "sharpness",
    "blur",
    "motion_blur",
    "exposure",
    "contrast",
    "bright",
    "clipped",
    "entropy",
    "colourfulness",
    "noise",
    "thirds",
    "subject",
    "symmetry",
    "title_space",
    "change",
    "unrest",
    "text",
    "uniform",
    "blend",
    "cut_distance",
)
"""In the order of every row. ``docs/artwork.md`` says what each is."""

_TINY = (64, 36)
_LOOK_SECONDS = Fraction(1, 2)
# A blink is a fifth to a third of a second: so far from any moment of it the eyes look otherwise.
_MOMENT_SECONDS = Fraction(1, 8)
# A hard change: this many levels from one frame to the next, and this many times its neighbours.
_JUMP, _JUMP_RATIO = 6.0, 3.0
# Of the tiny frames half a second apart: under this much change there is no transition.
_LEAST_CHANGE = 5.0
# Sharper by less than this is not sharper: coding must not decide which frame is taken.
_CLEARLY_BETTER = 1.06
_STILL_LEVELS = 12.0
# A shift that leaves less than this of the change is what happened.
_EXPLAINED = 0.7
# Two tiny frames that are this much alike but for their light are one picture; unless one of them
# has less than this share of the other's contrast, as in a fade.
_ALIKE, _LEAST_LIGHT = 0.97, 0.7


@dataclass(frozen=True, slots=True, eq=False)
class Stills:
    """Everything that is known of a title's stills, one row each, in order of time."""

    frames: Int64
    """(n,) canonical frame numbers."""
    measures: Float32
    """(n, :data:`MEASURES`)."""
    hashes: npt.NDArray[np.uint64]
    """(n,)"""
    embeddings: Float32
    """(n, EMBEDDING_SIZE)"""
    bars: Float32
    """(n, 4): black bars at top, bottom, left, right, as shares of the height or width."""

    def __len__(self) -> int:
        return len(self.frames)

    def measure(self, name: str) -> Float32:
        """(n,) one measure."""
        return self.measures[:, MEASURES.index(name)]

    def arrays(self) -> dict[str, AnyArray]:
        """By name, to be kept in a file and given to :meth:`of_arrays`."""
        return {
            "frames": self.frames,
            "measures": self.measures,
            "hashes": self.hashes,
            "embeddings": self.embeddings.astype(np.float16),
            "bars": self.bars.astype(np.float16),
        }

    @classmethod
    def of_arrays(cls, arrays: Any) -> Self:
        """From what :meth:`arrays` gave."""
        return cls(
            frames=np.asarray(arrays["frames"], np.int64),
            measures=np.asarray(arrays["measures"], np.float32),
            hashes=np.asarray(arrays["hashes"], np.uint64),
            embeddings=np.asarray(arrays["embeddings"], np.float32),
            bars=np.asarray(arrays["bars"], np.float32),
        )


@dataclass(slots=True, eq=False)
class _Candidate:
    """The best frame so far of the run that is being read, or one that waits for what follows."""

    number: int
    score: float
    yuv: Plane
    detail: Plane
    windows: Float32
    change: float


@dataclass(slots=True, eq=False)
class _Seen:
    number: int
    step: float
    """Mean absolute difference to the frame before."""
    local: float
    """The same of the blocks that changed most."""
    tiny: Float32
    luma: Plane


@dataclass(slots=True, eq=False)
class _Rows:
    frames: list[int] = field(default_factory=list)
    measures: list[tuple[float, ...]] = field(default_factory=list)
    hashes: list[int] = field(default_factory=list)
    embeddings: list[Float32] = field(default_factory=list)
    bars: list[tuple[float, ...]] = field(default_factory=list)


class StillSampler:
    """Analyser: eats small frames, gives :class:`Stills`. Not thread-safe."""

    def __init__(
        self,
        frame_rate: Fraction,
        frames: int,
        *,
        full_range: bool = False,
        interlaced: bool = False,
    ) -> None:
        """Of a title of ``frames`` frames, whose decoded pictures may use the full range of
        levels, and may hold two fields."""
        shortest = max(1, round(frame_rate / STILLS_PER_SECOND))
        self._run = max(shortest, -(-frames // MOST_STILLS))
        self._look = max(2, round(frame_rate * _LOOK_SECONDS))
        self._full_range = full_range
        self._interlaced = interlaced
        self._moment = max(1, round(frame_rate * _MOMENT_SECONDS))
        self._seen: deque[_Seen] = deque(maxlen=2 * self._look + 1)
        self._previous: Plane | None = None
        self._best: _Candidate | None = None
        self._waiting: deque[_Candidate] = deque()
        self._rows = _Rows()

    @classmethod
    def of(cls, source: ReferenceSource) -> Self:
        """For the frames of a planned source."""
        info = source.info
        return cls(
            source.frame_rate,
            source.frames,
            full_range=info.color_range == "full",
            interlaced=info.interlaced,
        )

    def push(self, frame: SmallFrame) -> None:
        """Take the next frame."""
        luma = frame.luma
        step, local = self._changes(luma)
        self._previous = luma
        tiny = cv2.resize(luma, _TINY, interpolation=cv2.INTER_AREA).astype(np.float32)
        self._seen.append(_Seen(frame.number, step, local, tiny, luma.copy()))
        if self._best is not None:
            if frame.number == self._best.number + 1:
                self._best.change = max(self._best.change, local)
            if frame.number // self._run != self._best.number // self._run:
                self._waiting.append(self._best)
                self._best = None
        if self._waiting and self._waiting[-1].number == frame.number - 1:
            self._waiting[-1].change = max(self._waiting[-1].change, local)
        score = _liveliness(luma) / (1.0 + local / _STILL_LEVELS)
        if self._best is None or score > self._best.score * _CLEARLY_BETTER:
            stored = StoredLuma.of(frame.picture, self._full_range, self._interlaced)
            detail = metrics.detail_plane(stored.plane, stored.scale, stored.offset)
            windows = stored.fine_windows()
            self._best = _Candidate(frame.number, score, frame.yuv, detail, windows, local)
        while self._waiting and self._waiting[0].number + self._look <= frame.number:
            self._finish(self._waiting.popleft())

    def stills(self) -> Stills:
        """All stills, when all frames have been pushed."""
        if self._best is not None:
            self._waiting.append(self._best)
            self._best = None
        while self._waiting:
            self._finish(self._waiting.popleft())
        rows = self._rows
        count = len(rows.frames)
        return Stills(
            frames=np.array(rows.frames, np.int64),
            measures=np.array(rows.measures, np.float32).reshape(count, len(MEASURES)),
            hashes=np.array(rows.hashes, np.uint64),
            # Through half precision, as the store keeps them: what was kept and what was just
            # made must be the same numbers.
            embeddings=np.array(rows.embeddings, np.float16)
            .reshape(count, EMBEDDING_SIZE)
            .astype(np.float32),
            bars=np.array(rows.bars, np.float16).reshape(count, 4).astype(np.float32),
        )

    def _changes(self, luma: Plane) -> tuple[float, float]:
        if self._previous is None:
            return 0.0, 0.0
        difference = np.asarray(cv2.absdiff(luma, self._previous), np.uint8)
        return cv2.mean(difference)[0], _largest(difference, 0.98)

    def _finish(self, still: _Candidate) -> None:
        yuv, luma = still.yuv, still.yuv[0]
        focus = metrics.focus(still.detail)
        attention = metrics.saliency(yuv)
        gradients = metrics.gradient_map(luma)
        values = {
            "sharpness": focus.sharpness,
            "blur": focus.blur,
            "motion_blur": focus.motion_blur,
            "noise": noise(still.windows),
            "text": metrics.text_likelihood(still.detail),
            "colourfulness": metrics.colourfulness(yuv),
            "title_space": metrics.title_space(gradients)[0],
            "uniform": metrics.uniform_share(gradients),
            "change": still.change,
            "unrest": self._unrest(still.number, luma),
            "blend": self._blend(still.number),
            "cut_distance": self._cut_distance(still.number),
            **metrics.levels(luma),
            **metrics.composition(luma, attention),
        }
        rows = self._rows
        rows.frames.append(still.number)
        rows.measures.append(tuple(values[name] for name in MEASURES))
        rows.hashes.append(perceptual_hash(luma))
        rows.embeddings.append(embedding(yuv))
        height, width = luma.shape
        top, bottom, left, right = metrics.bars(luma)
        rows.bars.append((top / height, bottom / height, left / width, right / width))

    def _unrest(self, number: int, luma: Plane) -> float:
        """Levels by which the places that change most differ from how they look a moment before
        or after: eyes that are closing, hands that move. In the middle of a blink it is high on
        either side, whoever else is at rest."""
        first = self._seen[0].number
        places = (number - self._moment - first, number + self._moment - first)
        around = [self._seen[at].luma for at in places if 0 <= at < len(self._seen)]
        differences = (np.asarray(cv2.absdiff(luma, other), np.uint8) for other in around)
        return max((_largest(each, 0.995) for each in differences), default=0.0)

    def _blend(self, number: int) -> float:
        """How much a still is the mean of what is before and after it, 0 to 1.

        In a dissolve or a fade it is exactly that. In anything that moves it is not, because edges
        do not move by fading: for pictures whose spectrum falls as that of nature does, the mean
        is as far off as the still itself. A slow camera over a soft picture does look so; there,
        what is before and after are one picture, shifted. So does a camera that adapts to the
        light; there they are one picture, brighter or darker.
        """
        first = self._seen[0].number
        found = 0.0
        for distance in (self._look, self._look // 2, max(1, self._look // 4)):
            before, at, after = (
                number - distance - first,
                number - first,
                number + distance - first,
            )
            if before < 0 or after >= len(self._seen):
                continue
            tinies = (self._seen[place].tiny for place in (before, at, after))
            # Without their light: a camera that adapts to something bright looks like a fade.
            one, still, other = (tiny - tiny.mean() for tiny in tinies)
            change = float(np.abs(one - other).mean())
            if change < _LEAST_CHANGE:
                continue
            rest = float(np.abs(still - (one + other) / 2).mean())
            blend = 1.0 - 2.0 * rest / change
            if blend > found and not _relit(one, other) and not _moved(one, other):
                found = blend
        return found

    def _cut_distance(self, number: int) -> float:
        """Frames to the nearest hard change, at most the frames looked at."""
        steps = [seen.step for seen in self._seen]
        first = self._seen[0].number
        nearest = self._look
        for place in range(1, len(steps)):
            if steps[place] < _JUMP:
                continue
            around = steps[max(0, place - 3) : place] + steps[place + 1 : place + 4]
            if steps[place] < _JUMP_RATIO * float(np.median(around or [0])):
                continue
            new_scene = first + place
            away = number - new_scene if number >= new_scene else new_scene - number - 1
            nearest = min(nearest, away)
        return float(nearest)


def _largest(difference: Plane, share: float) -> float:
    """The quantile at ``share`` of the means of 8x8 blocks."""
    height, width = (max(1, side // 8) for side in difference.shape)
    blocks = cv2.resize(difference, (width, height), interpolation=cv2.INTER_AREA).ravel()
    at = int(share * (len(blocks) - 1))
    return float(np.partition(blocks, at)[at])


def _relit(one: Float32, other: Float32) -> bool:
    """Whether two tiny frames, of mean 0, are one picture in other light."""
    size, other_size = float(np.linalg.norm(one)), float(np.linalg.norm(other))
    if min(size, other_size) < _LEAST_LIGHT * max(size, other_size):
        return False
    return float((one * other).sum()) > _ALIKE * size * other_size


def _moved(one: Float32, other: Float32) -> bool:
    """Whether a shift explains most of the change between two tiny frames."""
    height, width = one.shape
    window = cv2.createHanningWindow((width, height), cv2.CV_32F)
    # Copies: where it need not pad its input, it multiplies it by the window in place.
    (x, y), _ = cv2.phaseCorrelate(one.copy(), other.copy(), window)
    if abs(x) > width / 4 or abs(y) > height / 4 or max(abs(x), abs(y)) < 0.1:
        return False
    shift = np.array([[1, 0, x], [0, 1, y]], np.float32)
    shifted = cv2.warpAffine(one, shift, (width, height), flags=cv2.INTER_LINEAR)
    edge_x, edge_y = int(abs(x)) + 1, int(abs(y)) + 1
    inner = (slice(edge_y, height - edge_y), slice(edge_x, width - edge_x))
    before, after = (float(np.abs(each - other)[inner].mean()) for each in (one, shifted))
    return after < _EXPLAINED * before


def _liveliness(luma: Plane) -> float:
    """How much detail a small frame has."""
    across = cv2.norm(luma[:, 1:], luma[:, :-1], cv2.NORM_L1)
    down = cv2.norm(luma[1:], luma[:-1], cv2.NORM_L1)
    return (across + down) / luma.size + 0.1
