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
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ladder.complexity.residuals import QUALITY, RATE, Cells
from ladder.complexity.scale import Floats, unwarp_slope, warp
from ladder.prediction import CorrectedTitle
from ladder.rungs import RungPlan

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
    shot: int
    """Whose measurement at both sizes says most about it."""
    columns: tuple[int, int]
    """CRF columns of that shot at the rung's own size and at the other."""
    value: float
    """What that measurement is expected to be worth, as a share of the rung's bits."""


def questions(corrected: CorrectedTitle, rungs: Sequence[RungPlan]) -> list[Question]:
    """What could be asked about the sizes of ``rungs``, the most valuable first.

    The size that is expected to be best may differ from the rung's own where other constraints
    decided; the comparison is with the rung's own.
    """
    sizes = corrected.prediction.sizes
    found = []
    for number, rung in enumerate(rungs):
        if not rung.slope > 0:
            continue
        own = sizes.index(rung.size)
        choices = [_best(corrected, size, rung.slope) for size in range(len(sizes))]
        for other in range(len(sizes)):
            if other != own:
                question = _compare(corrected, number, rung, own, other, choices)
                if question is not None and question.value > 0:
                    found.append(question)
    return sorted(found, key=lambda q: (-q.value, q.rung, q.size))


def _best(corrected: CorrectedTitle, size: int, slope: float) -> Floats:
    """Every shot's best column of a size at a slope, shape ``[shots]``."""
    frames = np.array([shot.frames for shot in corrected.shots], dtype=np.float64)
    worth = frames[:, None] * corrected.quality[:, size] - slope * corrected.bits[:, size]
    return np.asarray(np.argmax(worth, axis=1))


def _compare(
    corrected: CorrectedTitle,
    number: int,
    rung: RungPlan,
    own: int,
    other: int,
    choices: Sequence[Floats],
) -> Question | None:
    prediction, posterior = corrected.prediction, corrected.posterior
    place = prediction.scale.place(prediction.scale.crfs)
    at = [prediction.size_place(prediction.sizes[size]) for size in (own, other)]
    kinds = np.array([RATE, QUALITY, RATE, QUALITY])
    terms = posterior.title_covariance.shape[0]
    difference, own_variance = 0.0, 0.0
    moved = np.zeros(terms)
    shared_by, own_by, weights_by = [], [], []
    for shot, of in enumerate(corrected.shots):
        columns = [int(choices[own][shot]), int(choices[other][shot])]
        bits = corrected.bits[shot, [own, other], columns]
        quality = corrected.quality[shot, [own, other], columns]
        known = corrected.measured[shot, [own, other], columns]
        difference += of.frames * (quality[1] - quality[0]) - rung.slope * (bits[1] - bits[0])
        steep = of.frames * unwarp_slope(warp(quality))
        weights = np.array([rung.slope * bits[0], -steep[0], -rung.slope * bits[1], steep[1]])
        weights = weights * np.repeat(~known, 2)
        cells = Cells(np.repeat(place[columns], 2), np.repeat(at, 2), kinds)
        shared = posterior.shared(shot, cells)
        together = posterior.covariance(shot, cells)
        alone = together - shared @ posterior.title_covariance @ shared.T
        moved += weights @ shared
        own_variance += float(weights @ alone @ weights)
        shared_by.append(shared)
        own_by.append(alone)
        weights_by.append(weights)
    variance = own_variance + float(moved @ posterior.title_covariance @ moved)
    if variance <= 0:
        return None
    scale = rung.slope * rung.bits
    if abs(difference) > OUT_OF_QUESTION * scale:
        return None
    expected, deviation = difference / scale, math.sqrt(variance) / scale
    best_shot, removed = 0, 0.0
    for shot, (shared, alone, weights) in enumerate(
        zip(shared_by, own_by, weights_by, strict=True)
    ):
        if not weights.any():
            continue
        # What is seen of this shot, both sizes and kinds, and how that goes with the difference.
        unsure = shared @ posterior.title_covariance @ shared.T + alone
        unsure[np.diag_indices_from(unsure)] += prediction.residuals.noise[kinds]
        link = shared @ posterior.title_covariance @ moved + alone @ weights
        share = float(link @ np.linalg.solve(unsure, link)) / variance
        if share > removed:
            best_shot, removed = shot, share
    return Question(
        rung=number,
        size=other,
        expected=expected,
        deviation=deviation,
        shot=best_shot,
        columns=(int(choices[own][best_shot]), int(choices[other][best_shot])),
        value=_improvement(expected, deviation * math.sqrt(removed)),
    )


def _improvement(expected: float, deviation: float) -> float:
    """What choosing the better of two brings when their difference, now ``expected``, will be
    known to have moved by ``deviation`` (Gaussian)."""
    if deviation <= 0:
        return 0.0
    z = abs(expected) / deviation
    tail = 0.5 * math.erfc(z / math.sqrt(2))
    return deviation * math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi) - abs(expected) * tail
