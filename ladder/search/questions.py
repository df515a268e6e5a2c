"""Which sizes are in question, and which encode would answer.

A rung has one size, so a size that is wrongly dismissed costs every shot of the rung. Two sizes are
compared at a rung's slope by ``J = sum of frames x quality - slope x bits``. Both values of J are
sums over shots of uncertain numbers, so their difference has a variance in closed form, made of
what the title's shots share and of what is each shot's own. Every possible measurement would remove
a known share of that variance (value of information: Raiffa and Schlaifer, "Applied Statistical
Decision Theory", 1961; for Gaussian choices, Frazier, Powell and Dayanik, "The knowledge-gradient
policy for correlated normal beliefs", INFORMS J. Computing 21, 2009).
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
"""Number of a size, and a CRF column."""
Planned = Mapping[tuple[int, int], Sequence[int]]
"""CRF columns that are to be delivered, by shot and number of the size."""
MOST_SHOTS = 64
"""Number of shots that a question looks at one by one. In longer titles the shared part dominates,
and evenly spread shots stand for the others."""
MOST_PLANNED = 8
"""Number of shots whose planned points are looked at: those that would say most."""
OUT_OF_QUESTION = 0.6
"""Share of a rung's bits above which a size is so much worse that errors are no longer linear."""


@dataclass(frozen=True, slots=True)
class Question:
    """Whether another size would be better for a rung."""

    rung: int
    """Number of the rung among those that were asked about."""
    size: int
    """Number of the other size in the prediction."""
    expected: float
    """Expected gain by the other size, as a share of the rung's bits; mostly negative."""
    deviation: float
    """Standard deviation of that gain."""
    regret: float
    """Expected loss of choosing without an answer, as a share of the rung's bits."""
    direct: Probe
    """Probe of the shot that says most, at the best points of both sizes."""
    planned: Probe | None
    """Best probe at points that are to be delivered in any case; None where there are none."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What to measure of one shot."""

    shot: int
    """Number of the shot in the title."""
    points: tuple[Point, ...]
    """Points at the rung's own size and at the other."""
    value: float
    """Expected gain by the answer, as a share of the rung's bits."""


def questions(
    corrected: CorrectedTitle, rungs: Sequence[RungPlan], planned: Planned = MappingProxyType({})
) -> list[Question]:
    """Return what could be asked about the sizes of ``rungs``, the most valuable question first.

    Other sizes are compared with the rung's own, which is not always the one that is expected to
    be best: constraints may have decided.
    """
    sizes = corrected.prediction.sizes
    asked = []
    for number, rung in enumerate(rungs):
        own = sizes.index(rung.size)
        for other in range(len(sizes)):
            if other != own and rung.slope > 0 and rung.may_have(sizes[other]):
                difference = _Difference.at(corrected, rung.slope, (own, other))
                question = _ask(number, rung, difference, planned)
                if question is not None and question.direct.value > 0:
                    asked.append(question)
    return sorted(asked, key=lambda q: (-q.direct.value, q.rung, q.size))


@dataclass(frozen=True, slots=True)
class _Difference:
    """J of another size minus J of the rung's own, as a sum over shots."""

    corrected: CorrectedTitle
    sizes: tuple[int, int]
    """Numbers of the rung's own size and of the other."""
    columns: Index
    """Best CRF columns of both sizes, shape ``[shots, 2]``."""
    expected: float
    """Expected difference."""
    weights: Float64
    """Derivatives by the residuals of rate and quality of both sizes, shape ``[shots, 4]``."""
    moved: Float64
    """Derivatives by the terms that the title's shots share, shape ``[TITLE_TERMS]``."""
    variance: float
    """Variance of the difference."""

    @classmethod
    def at(cls, corrected: CorrectedTitle, slope: float, sizes: tuple[int, int]) -> _Difference:
        """Compare two sizes at a slope, every shot at its best point of either size."""
        frames = np.array([shot.frames for shot in corrected.shots], dtype=np.float64)
        pair = list(sizes)
        worth = frames[:, None, None] * corrected.quality[:, pair] - slope * corrected.bits[:, pair]
        columns = np.asarray(np.argmax(worth, axis=2))
        at = np.arange(len(frames))[:, None], np.array(pair), columns
        bits, steep = corrected.bits[at], unwarp_slope(warp(corrected.quality[at]))
        derivatives = np.stack([slope * bits, -frames[:, None] * steep], axis=2)
        derivatives *= np.array([1.0, -1.0])[:, None]
        weights = np.where(corrected.measured[at][:, :, None], 0.0, derivatives).reshape(-1, 4)
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
        """Return the shot's best points of both sizes."""
        return tuple(zip(self.sizes, self.columns[shot].tolist(), strict=True))

    def removed(self, shot: int, points: Sequence[Point]) -> float:
        """Return the share of the variance that measuring ``points`` of a shot would remove."""
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
        """Return unmeasured points near the best of both sizes that will be delivered.

        Empty where no point of the other size will be.
        """
        points = []
        for size, column in self.best(shot):
            near = min(planned.get((shot, size), ()), key=lambda c: abs(c - column), default=None)
            if near is None and size == self.sizes[1]:
                return ()
            if near is not None and not self.corrected.measured[shot, size, near]:
                points.append((size, near))
        return tuple(points)


def sample(shots: int) -> range:
    """Return the numbers of at most :data:`MOST_SHOTS` shots, evenly spread."""
    return range(0, shots, math.ceil(shots / MOST_SHOTS))


def _cells(prediction: TitlePrediction, points: Iterable[Point]) -> Cells:
    """Return the cells of points, rate and quality of each in this order."""
    sizes, columns = (np.array(axis, dtype=np.intp) for axis in zip(*points, strict=True))
    positions = prediction.scale.position(prediction.scale.crfs)[columns]
    scales = np.array([prediction.log2_scale(size) for size in prediction.sizes])[sizes]
    return Cells(
        np.repeat(positions, 2), np.repeat(scales, 2), np.tile([RATE, QUALITY], len(sizes))
    )


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
    """Return the expected gain of choosing the better of two after a measurement.

    ``expected`` is their difference now, ``deviation`` the standard deviation by which the
    measurement will move it (Gaussian).
    """
    if deviation <= 0:
        return 0.0
    z = abs(expected) / deviation
    tail = 0.5 * math.erfc(z / math.sqrt(2))
    return deviation * math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi) - abs(expected) * tail
