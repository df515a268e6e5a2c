"""Which sizes are in question, and which encode would answer.

A rung has one size, so a size that is wrongly dismissed costs every shot of it. Two sizes are
compared at a rung's slope by ``J = sum of frames x quality - slope x bits``. Both sides are sums
over shots of what the model may be wrong about, so their difference has a variance in closed form,
with what a title's shots share and what each has of its own; and every possible measurement has
a share of that variance that it would remove (value of information: Raiffa and Schlaifer, "Applied
Statistical Decision Theory", 1961; for Gaussian choices, Frazier, Powell and Dayanik, "The
knowledge-gradient policy for correlated normal beliefs", INFORMS J. Computing 21, 2009).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from encoder.arrays import Float64, Index
from ladder.complexity.prediction import CorrectedTitle, TitlePrediction
from ladder.complexity.residuals import QUALITY, RATE, Cells
from ladder.complexity.scale import unwarp_slope, warp
from ladder.rungs import RungPlan

Point = tuple[int, int]
"""Number of a size, CRF column."""
Planned = Mapping[tuple[int, int], Sequence[int]]
"""CRF columns that are to be delivered, by shot and number of size."""
MOST_SHOTS = 64
"""That a question looks at one by one: of more, what the title shares tells most, and evenly
spread ones stand for the others."""
MOST_PLANNED = 8
"""Shots whose planned points are looked at, those that would say most."""
OUT_OF_QUESTION = 0.6
"""Share of a rung's bits from which on a size is so much worse that errors are no longer linear."""


@dataclass(frozen=True, slots=True)
class Question:
    """Whether another size would be better for a rung."""

    rung: int
    size: int
    """The other size, by its number in the prediction."""
    expected: float
    """What it is expected to be better by, as a share of the rung's bits; mostly negative."""
    deviation: float
    """Standard deviation of that."""
    regret: float
    """What choosing without an answer is expected to lose, as a share of the rung's bits."""
    direct: Probe
    """The shot that says most about it, at the best points of both sizes."""
    planned: Probe | None
    """The same of points that are to be delivered in any case; None where there are none."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What to measure of one shot."""

    shot: int
    points: tuple[Point, ...]
    """At the rung's own size and at the other."""
    value: float
    """What it is expected to be worth, as a share of the rung's bits."""


def questions(
    corrected: CorrectedTitle, rungs: Sequence[RungPlan], planned: Planned = MappingProxyType({})
) -> list[Question]:
    """What could be asked about the sizes of ``rungs``, the most valuable first.

    The size that is expected to be best may differ from the rung's own where other constraints
    decided; the comparison is with the rung's own.
    """
    sizes = corrected.prediction.sizes
    found = []
    for number, rung in enumerate(rungs):
        own = sizes.index(rung.size)
        for other in range(len(sizes)):
            if other != own and rung.slope > 0:
                difference = _Difference.at(corrected, rung.slope, (own, other))
                question = _ask(number, rung, difference, planned)
                if question is not None and question.direct.value > 0:
                    found.append(question)
    return sorted(found, key=lambda q: (-q.direct.value, q.rung, q.size))


@dataclass(frozen=True, slots=True)
class _Difference:
    """J of another size minus J of the rung's own, as a sum over shots of what may move."""

    corrected: CorrectedTitle
    sizes: tuple[int, int]
    """The rung's own and the other."""
    columns: Index
    """Best CRF columns of both, shape ``[shots, 2]``."""
    expected: float
    weights: Float64
    """How it moves with the residuals of rate and quality of both, shape ``[shots, 4]``."""
    moved: Float64
    """How it moves with what the title shares."""
    variance: float

    @classmethod
    def at(cls, corrected: CorrectedTitle, slope: float, sizes: tuple[int, int]) -> _Difference:
        """At a slope, every shot at its best point of either size."""
        frames = np.array([shot.frames for shot in corrected.shots], dtype=np.float64)
        pair = list(sizes)
        worth = frames[:, None, None] * corrected.quality[:, pair] - slope * corrected.bits[:, pair]
        columns = np.asarray(np.argmax(worth, axis=2))
        at = np.arange(len(frames))[:, None], np.array(pair), columns
        bits, steep = corrected.bits[at], unwarp_slope(warp(corrected.quality[at]))
        told = np.stack([slope * bits, -frames[:, None] * steep], axis=2)
        told *= np.array([1.0, -1.0])[:, None]
        weights = np.where(corrected.measured[at][:, :, None], 0.0, told).reshape(-1, 4)
        posterior = corrected.posterior
        moved, own = np.zeros(posterior.title_covariance.shape[0]), 0.0
        some = sample(len(frames))
        for shot in some:
            cells = _cells(corrected.prediction, zip(sizes, columns[shot].tolist(), strict=True))
            shared = posterior.shared(shot, cells)
            alone = posterior.own_covariance(shot, cells)
            moved += weights[shot] @ shared
            own += float(weights[shot] @ alone @ weights[shot])
        moved, own = moved * len(frames) / len(some), own * len(frames) / len(some)
        variance = own + float(moved @ posterior.title_covariance @ moved)
        difference = np.diff(np.take_along_axis(worth, columns[:, :, None], axis=2)[..., 0])
        return cls(corrected, sizes, columns, float(difference.sum()), weights, moved, variance)

    def best(self, shot: int) -> tuple[Point, ...]:
        """Of both sizes."""
        return tuple(zip(self.sizes, self.columns[shot].tolist(), strict=True))

    def removed(self, shot: int, points: Sequence[Point]) -> float:
        """The share of the variance that goes when ``points`` of a shot are measured."""
        posterior, prediction = self.corrected.posterior, self.corrected.prediction
        seen = _cells(prediction, points)
        both = _cells(prediction, [*points, *self.best(shot)])
        shared = posterior.shared(shot, both)
        alone = posterior.own_covariance(shot, both)
        count = len(seen)
        common = shared[:count] @ posterior.title_covariance
        unsure = common @ shared[:count].T + alone[:count, :count]
        unsure[np.diag_indices_from(unsure)] += prediction.residuals.noise[seen.kind]
        link = common @ self.moved + alone[:count, count:] @ self.weights[shot]
        return float(link @ np.linalg.solve(unsure, link)) / self.variance

    def planned(self, shot: int, planned: Planned) -> tuple[Point, ...]:
        """Points that will be delivered, near the best of both sizes; () without the other's."""
        found = []
        for size, column in self.best(shot):
            near = min(planned.get((shot, size), ()), key=lambda c: abs(c - column), default=None)
            if near is None and size == self.sizes[1]:
                return ()
            if near is not None and not self.corrected.measured[shot, size, near]:
                found.append((size, near))
        return tuple(found)


def sample(shots: int) -> range:
    """Numbers of at most :data:`MOST_SHOTS` shots, evenly spread."""
    return range(0, shots, math.ceil(shots / MOST_SHOTS))


def _cells(prediction: TitlePrediction, points: Iterable[Point]) -> Cells:
    """Rate and quality of points, in this order."""
    sizes, columns = (np.array(of, dtype=np.intp) for of in zip(*points, strict=True))
    position = prediction.scale.position(prediction.scale.crfs)[columns]
    at = np.array([prediction.log2_scale(size) for size in prediction.sizes])[sizes]
    return Cells(np.repeat(position, 2), np.repeat(at, 2), np.tile([RATE, QUALITY], len(sizes)))


def _ask(number: int, rung: RungPlan, difference: _Difference, planned: Planned) -> Question | None:
    scale = rung.slope * rung.bits
    if difference.variance <= 0 or abs(difference.expected) > OUT_OF_QUESTION * scale:
        return None
    expected, deviation = difference.expected / scale, math.sqrt(difference.variance) / scale
    if _improvement(expected, deviation) <= 0:
        return None

    def probe(shot: int, points: tuple[Point, ...]) -> Probe:
        removed = difference.removed(shot, points)
        return Probe(shot, points, _improvement(expected, deviation * math.sqrt(max(0, removed))))

    shots = [s for s in sample(len(difference.weights)) if difference.weights[s].any()]
    if not shots:
        return None
    direct = sorted((probe(s, difference.best(s)) for s in shots), key=lambda p: (-p.value, p.shot))
    at_hand = [(p.shot, difference.planned(p.shot, planned)) for p in direct[:MOST_PLANNED]]
    ready = [probe(shot, points) for shot, points in at_hand if points]
    return Question(
        rung=number,
        size=difference.sizes[1],
        expected=expected,
        deviation=deviation,
        regret=max(0.0, expected) + _improvement(expected, deviation),
        direct=direct[0],
        planned=max(ready, key=lambda p: (p.value, -p.shot), default=None),
    )


def _improvement(expected: float, deviation: float) -> float:
    """What choosing the better of two brings when their difference, now ``expected``, will be
    known to have moved by ``deviation`` (Gaussian)."""
    if deviation <= 0:
        return 0.0
    z = abs(expected) / deviation
    tail = 0.5 * math.erfc(z / math.sqrt(2))
    return deviation * math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi) - abs(expected) * tail
