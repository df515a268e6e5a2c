"""Predictions against measurements: how far off, how surprising, and which model predicts better.

A job measures what it delivers, so every job shows how good its predictions were. A model's error
on a title is partly the same for all the title's shots, so cells are not counted as if each were
independent: the mean errors of rate and of quality on a title are divided by their joint covariance
under the model's own residuals (:mod:`ladder.complexity.residuals`). Whitened like that, they are
two standard normal numbers if the title is like those that the model was judged on. Their sum over
titles shows drift: a change of encoder, preset or material moves all titles the same way.
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
"""Number of titles from which on errors that point the same way are called drift."""
DRIFT_CHANCE = 1e-3
"""Chance of a false alarm: that titles like those of the training look like drift."""


@dataclass(frozen=True, slots=True)
class Miss:
    """Errors of a prediction on one title."""

    cells: int
    """Number of measured cells."""
    log_rate_error: float
    """Mean natural logarithm of measured over predicted bits."""
    quality: float
    """Mean of measured minus predicted in points."""
    quality_error: float
    """Mean absolute difference in points."""
    surprise: tuple[float, float]
    """Mean errors of rate and warped quality, whitened: two standard normal numbers for a title
    like those that the model was judged on."""
    log_score: float
    """Mean log density of the measurements under the prediction; higher is better, and
    confident errors cost most (Gneiting and Raftery, "Strictly proper scoring rules", JASA 102,
    2007)."""


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
    """Titles whose errors point the same way."""

    titles: int
    """Number of titles."""
    chance: float
    """Chance that titles like those of the training would be as far off."""
    rate_ratio: float
    """Mean over titles of measured over predicted bits."""
    quality: float
    """Mean over titles of measured minus predicted in points."""


def miss(
    prediction: TitlePrediction,
    shots: Sequence[Shot],
    measurements: Mapping[Request, Measurement],
) -> Miss | None:
    """Return the errors of ``prediction``, uncorrected, on ``measurements``.

    None when nothing informative was measured.
    """
    model, seen = prediction.residuals, residuals(prediction, shots, measurements)
    quality = []
    for (shot, point), measurement in measurements.items():
        expected = prediction.expected(shot, point)
        if expected is not None:
            quality.append(measurement.quality - expected.quality)
    counts = np.array(
        [sum(int((shot.cells.kind == k).sum()) for shot in seen) for k in (RATE, QUALITY)]
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
    """Return the mean residual by kind, its covariance, and the sum of the cells' log densities."""
    title = model.title_covariance()
    shared_by_kind = np.zeros((2, len(title)))
    mean, covariance, density = np.zeros(2), np.zeros((2, 2)), 0.0
    for shot in seen:
        if not len(shot.cells):
            continue
        share = np.stack([(shot.cells.kind == k) / counts[k] for k in (RATE, QUALITY)])
        shared, phi = shot.cells.title_phi(), shot.cells.phi()
        own = phi @ model.shot @ phi.T + model.local_covariance(shot.cells, shot.cells)
        own[np.diag_indices_from(own)] += model.noise[shot.cells.kind]
        mean += share @ shot.values
        shared_by_kind += share @ shared
        covariance += share @ own @ share.T
        variance = np.einsum("ij,jk,ik->i", shared, title, shared) + np.diag(own)
        density -= 0.5 * float((shot.values**2 / variance + np.log(2 * math.pi * variance)).sum())
    return mean, covariance + shared_by_kind @ title @ shared_by_kind.T, density


def drift(misses: Sequence[Miss]) -> Drift | None:
    """Return drift if the errors of titles point the same way; None while chance explains them.

    The sum of whitened errors over the root of their number is standard normal in two
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
    """Number of titles."""
    better_on: int
    """Number of titles on which the new model's log score is higher."""
    gain: float
    """Mean difference of log scores, new minus current."""
    deviation: float
    """Standard error of that mean."""
    quality_error: tuple[float, float]
    """Mean absolute errors of the current and the new model, in points."""
    rate_error: tuple[float, float]
    """Means over titles of the absolute mean log ratio, for the current and the new model."""

    @property
    def better(self) -> bool:
        """True where the new model should take over: its log score is higher on most titles, by
        more than chance explains, and it is no worse in points."""
        return (
            self.titles >= LEAST_TITLES
            and self.gain > self.deviation
            and 2 * self.better_on > self.titles
            and self.quality_error[1] <= self.quality_error[0]
        )

    @property
    def worse(self) -> bool:
        """True where the new model's log score is lower by more than chance explains."""
        return self.titles >= LEAST_TITLES and self.gain < -self.deviation


def compare(
    current: Sequence[Miss], new: Sequence[Miss], titles: Sequence[str] | None = None
) -> Comparison:
    """Compare the errors of two models on the same predictions, given in the same order.

    Args:
        current: Errors of the current model.
        new: Errors of the new model.
        titles: Title of each prediction, where one title was predicted under several recipes. Its
            predictions count as one, since their errors are alike.
    """
    by_title: dict[str, list[float]] = {}
    names = [str(number) for number in range(len(new))] if titles is None else titles
    for name, a, b in zip(names, current, new, strict=True):
        by_title.setdefault(name, []).append(b.log_score - a.log_score)
    gains = np.array([np.mean(own) for own in by_title.values()])
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
    listed = list(values)
    return float(np.mean(listed)) if listed else 0.0
