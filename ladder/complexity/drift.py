"""Predictions beside what was measured: how far off, how surprising, and whose say more.

A job measures what it delivers, so every job tells how good its predictions were. What a model
misses on a title is partly the same for all the title's shots, so cells are not counted as if
each were news: the mean misses of rate and of quality of a title are held against their joint
covariance under the model's own residuals (:mod:`ladder.complexity.residuals`). Whitened, they are
two standard normal numbers if the title is like those that the model was judged on, and the sum
over titles tells drift: a change of encoder, preset or material moves all titles the same way.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from encoder.media import Request, Shot
from ladder.complexity.prediction import TitlePrediction, residuals
from ladder.complexity.residuals import QUALITY, RATE, ResidualModel, ShotResiduals
from ladder.curves import Measurement

LEAST_TITLES = 3
"""From which on titles that are off the same way are called drift."""
DRIFT_CHANCE = 1e-3
"""Chance of a false alarm that is taken: that titles like the model's own look so."""


@dataclass(frozen=True, slots=True)
class Miss:
    """What a prediction missed of one title."""

    cells: int
    log_rate_error: float
    """Mean natural logarithm of measured over predicted bits."""
    quality: float
    """Mean of measured minus predicted, points."""
    quality_error: float
    """Mean absolute difference, points."""
    surprise: tuple[float, float]
    """The mean misses of rate and warped quality, whitened: two standard normal numbers for a
    title like those that the model was judged on."""
    log_score: float
    """Mean logarithm of the density that the prediction gave to what was measured: higher is
    better, and being sure of what is wrong costs most (Gneiting and Raftery, "Strictly proper
    scoring rules", JASA 102, 2007)."""


def miss_document(missed: Miss) -> dict[str, Any]:
    """Return the fields by their names in records and documents; :func:`miss_from_document` reads
    them back."""
    document = asdict(missed)
    return {"rate" if name == "log_rate_error" else name: document[name] for name in document}


def miss_from_document(document: Mapping[str, Any]) -> Miss:
    """Return what :func:`miss_document` made ``document`` from."""
    values = {"log_rate_error" if name == "rate" else name: document[name] for name in document}
    return Miss(**{**values, "surprise": tuple(values["surprise"])})


@dataclass(frozen=True, slots=True)
class Drift:
    """Titles that are off the same way."""

    titles: int
    chance: float
    """That titles like the model's own would be off so far."""
    rate_ratio: float
    """Mean over titles of measured over predicted bits."""
    quality: float
    """Mean over titles of measured minus predicted, points."""


def miss(
    prediction: TitlePrediction,
    shots: Sequence[Shot],
    measurements: Mapping[Request, Measurement],
) -> Miss | None:
    """What ``prediction``, uncorrected, missed of ``measurements``; None of nothing that tells."""
    model, seen = prediction.residuals, residuals(prediction, shots, measurements)
    quality = []
    for (shot, point), found in measurements.items():
        expected = prediction.expected(shot, point)
        if expected is not None:
            quality.append(found.quality - expected.quality)
    counts = np.array(
        [sum(int((of.cells.kind == k).sum()) for of in seen) for k in (RATE, QUALITY)]
    )
    if not counts.all():
        return None
    mean, covariance, density = _mean_miss(model, seen, counts)
    whitened = np.linalg.solve(np.linalg.cholesky(covariance), mean)
    return Miss(
        cells=int(counts[RATE]),
        log_rate_error=float(mean[RATE]),
        quality=float(np.mean(quality)),
        quality_error=float(np.mean(np.abs(quality))),
        surprise=(float(whitened[0]), float(whitened[1])),
        log_score=density / int(counts.sum()),
    )


def _mean_miss(
    model: ResidualModel, seen: Sequence[ShotResiduals], counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Mean residual by kind, its covariance, and the log density of all of them, each alone."""
    title = model.title_covariance()
    shared_by_kind = np.zeros((2, len(title)))
    mean, covariance, density = np.zeros(2), np.zeros((2, 2)), 0.0
    for of in seen:
        if not len(of.cells):
            continue
        share = np.stack([(of.cells.kind == k) / counts[k] for k in (RATE, QUALITY)])
        shared, phi = of.cells.title_phi(), of.cells.phi()
        own = phi @ model.shot @ phi.T + model.local_covariance(of.cells, of.cells)
        own[np.diag_indices_from(own)] += model.noise[of.cells.kind]
        mean += share @ of.values
        shared_by_kind += share @ shared
        covariance += share @ own @ share.T
        variance = np.einsum("ij,jk,ik->i", shared, title, shared) + np.diag(own)
        density -= 0.5 * float((of.values**2 / variance + np.log(2 * math.pi * variance)).sum())
    return mean, covariance + shared_by_kind @ title @ shared_by_kind.T, density


def drift(misses: Sequence[Miss]) -> Drift | None:
    """Whether titles are off the same way; None while chance explains it.

    The sum of whitened misses over the root of their number is standard normal in two
    dimensions, so its squared length exceeds ``t`` with the chance ``exp(-t / 2)``.
    """
    if len(misses) < LEAST_TITLES:
        return None
    together = np.array([one.surprise for one in misses]).sum(axis=0)
    chance = math.exp(-float(together @ together) / len(misses) / 2)
    if chance > DRIFT_CHANCE:
        return None
    return Drift(
        titles=len(misses),
        chance=chance,
        rate_ratio=math.exp(float(np.mean([one.log_rate_error for one in misses]))),
        quality=float(np.mean([one.quality for one in misses])),
    )


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models on titles that neither has seen."""

    titles: int
    better_on: int
    """Titles on which the new one's log score is higher."""
    gain: float
    """Mean difference of log scores, new minus current."""
    deviation: float
    """Standard error of that mean."""
    quality_error: tuple[float, float]
    """Mean absolute, current and new, points."""
    rate_error: tuple[float, float]
    """Mean absolute of titles' mean log ratios, current and new."""

    @property
    def better(self) -> bool:
        """Whether the new one should take over: it says more of most titles, by more than chance
        does, and is no worse in points."""
        return (
            self.titles >= LEAST_TITLES
            and self.gain > self.deviation
            and 2 * self.better_on > self.titles
            and self.quality_error[1] <= self.quality_error[0]
        )


def compare(current: Sequence[Miss], new: Sequence[Miss]) -> Comparison:
    """Misses of two models on the same titles, in the same order."""
    gains = np.array([b.log_score - a.log_score for a, b in zip(current, new, strict=True)])
    count = len(gains)
    return Comparison(
        titles=count,
        better_on=int((gains > 0).sum()),
        gain=float(gains.mean()) if count else 0.0,
        deviation=float(gains.std(ddof=1) / math.sqrt(count)) if count > 1 else math.inf,
        quality_error=(
            _mean(m.quality_error for m in current),
            _mean(m.quality_error for m in new),
        ),
        rate_error=(
            _mean(abs(m.log_rate_error) for m in current),
            _mean(abs(m.log_rate_error) for m in new),
        ),
    )


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return float(np.mean(found)) if found else 0.0
