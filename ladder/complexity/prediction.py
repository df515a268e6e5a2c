"""Predicted curves of a title, and what they become once some cells are measured.

A :class:`TitlePrediction` is made once, before any encode. :func:`correct` conditions it on
measurements: every measured cell takes its exact values, and every other cell moves by what the
measurements say about it (:mod:`ladder.complexity.residuals`). The resulting curves are
:class:`PredictedCurve`, another type than measured ones, and each of their candidates says whether
it was measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from encoder.arrays import Float64, Mask
from encoder.media import OperatingPoint, Request, Shot, Size
from ladder.complexity.residuals import (
    QUALITY,
    RATE,
    Cells,
    Posterior,
    ResidualModel,
    ShotResiduals,
    condition,
)
from ladder.complexity.scale import INFORMATIVE_SCORES, censored, unwarp, warp
from ladder.curves import CRF_STEP, Candidate, Measurement


@dataclass(frozen=True, slots=True)
class CrfScale:
    """The CRFs that a prediction covers."""

    low: float
    """Lowest CRF."""
    high: float
    """Highest CRF."""
    ends: tuple[float, float]
    """CRFs at the positions -1 and 1 of the codec's scale."""
    step: float = CRF_STEP
    """Difference between neighbouring CRFs that the encoder tells apart."""

    @property
    def crfs(self) -> Float64:
        """Multiples of the step from the lowest to the highest CRF."""
        last = math.floor(self.high / self.step)
        return np.arange(self._first, last + 1, dtype=np.float64) * self.step

    @property
    def _first(self) -> int:
        return math.ceil(self.low / self.step)

    def column(self, crf: float) -> int | None:
        """Return the index of ``crf`` in :attr:`crfs`; None where it is not among them."""
        steps = crf / self.step
        inside = self._first <= steps <= math.floor(self.high / self.step)
        return int(steps) - self._first if inside and steps.is_integer() else None

    def position(self, crf: Float64 | float) -> Float64:
        """Return the position of a CRF on the codec's scale, -1 to 1 at its ends; any shape."""
        middle, half = sum(self.ends) / 2, (self.ends[1] - self.ends[0]) / 2
        return np.asarray((np.asarray(crf, dtype=np.float64) - middle) / half)


@dataclass(frozen=True, slots=True)
class TitlePrediction:
    """Expected curves of every shot at every size, and how far to trust them."""

    sizes: tuple[Size, ...]
    """Sizes, smallest first; the last is the title's own."""
    scale: CrfScale
    log_bpp: Float64
    """Natural logarithm of bits per pixel, shape ``[shots, sizes, crfs]``."""
    warped_quality: Float64
    """Quality as :func:`ladder.complexity.scale.warp` gives it, shape ``[shots, sizes, crfs]``."""
    residuals: ResidualModel
    """Covariance of the errors of both."""
    model: str = ""
    """Identity of the weights."""
    quality_model: str = ""
    """Quality model whose scores are predicted: a similar one where the weights were not trained
    on the one that was asked for."""
    recipe: str = ""
    """Name of the recipe that the weights were trained on: a similar one where they were not
    trained on the recipe that is predicted (:mod:`ladder.complexity.analogy`)."""

    def log2_scale(self, size: Size) -> float:
        """Return the base-2 logarithm of a size's linear scale against the title's own size."""
        own = self.sizes[-1]
        return 0.5 * math.log2(size.width * size.height / (own.width * own.height))

    def expected(self, shot: int, point: OperatingPoint) -> Expected | None:
        """Return what one operating point of a shot is expected to give; None for a point that
        was not predicted."""
        column = self.scale.column(point.crf)
        if column is None or point.size not in self.sizes:
            return None
        cell = shot, self.sizes.index(point.size), column
        bits = math.exp(self.log_bpp[cell]) * point.width * point.height
        return Expected(bits, float(unwarp(self.warped_quality[cell])))

    def grid_cells(self) -> Cells:
        """Return the cells of one shot: all sizes at all CRFs, first for rate, then for quality."""
        positions = self.scale.position(self.scale.crfs)
        scales = np.array([self.log2_scale(size) for size in self.sizes])
        return Cells(
            np.tile(positions, 2 * len(scales)),
            np.tile(np.repeat(scales, len(positions)), 2),
            np.repeat([RATE, QUALITY], len(positions) * len(scales)),
        )

    def optimistic(self, deviations: float) -> TitlePrediction:
        """Return curves with fewer bits and more quality everywhere, by ``deviations`` standard
        deviations of the prediction's error."""
        cells, grid = self.grid_cells(), self.log_bpp.shape[1:]
        model, shared, phi = self.residuals, cells.title_phi(), cells.phi()
        variance = np.einsum("ij,jk,ik->i", shared, model.title_covariance(), shared)
        variance += np.einsum("ij,jk,ik->i", phi, model.shot, phi) + model.local[cells.kind]
        off = deviations * np.sqrt(variance).reshape(2, *grid)
        # Beyond the informative scores there is nothing to hope for.
        highest = warp(np.array(INFORMATIVE_SCORES[1]))
        hoped = np.minimum(self.warped_quality + off[QUALITY], highest)
        return replace(
            self,
            log_bpp=self.log_bpp - off[RATE],
            warped_quality=np.maximum(self.warped_quality, hoped),
        )


class Expected(NamedTuple):
    """What an encode is expected to give before it is made."""

    bits_per_frame: float
    quality: float


@dataclass(frozen=True, slots=True)
class PredictedCurve:
    """One shot at one size as far as it is known: some points measured, the others predicted."""

    frames: int
    """Number of frames of the shot."""
    candidates: tuple[Candidate, ...]
    """Points by ascending CRF."""

    def points(self, step: float = CRF_STEP) -> tuple[Candidate, ...]:
        """Return all candidates whatever ``step``, as a prediction has one spacing."""
        return self.candidates


@dataclass(frozen=True, slots=True)
class CorrectedTitle:
    """A prediction after conditioning; all arrays have the shape ``[shots, sizes, crfs]``."""

    prediction: TitlePrediction
    shots: tuple[Shot, ...]
    bits: Float64
    """Expected bits of each shot; exact where measured."""
    quality: Float64
    """Expected mean quality of each shot; exact where measured."""
    measured: Mask
    """True where this cell has been measured."""
    posterior: Posterior
    """Distribution of the remaining errors."""

    def curves(self, new_encode_penalty: float = 0.0) -> Mapping[Size, tuple[PredictedCurve, ...]]:
        """Return one curve per shot for each size.

        Cells that are not measured count with their bits times ``1 + new_encode_penalty``, so
        that a new encode has to save at least that share to be preferred to a measured one.
        """
        crfs = self.prediction.scale.crfs.tolist()
        bits = np.where(self.measured, self.bits, self.bits * (1 + new_encode_penalty))
        return {
            size: tuple(
                PredictedCurve(
                    shot.frames,
                    tuple(
                        map(
                            Candidate,
                            crfs,
                            bits[number, column].tolist(),
                            self.quality[number, column].tolist(),
                            self.measured[number, column].tolist(),
                        )
                    ),
                )
                for number, shot in enumerate(self.shots)
            )
            for column, size in enumerate(self.prediction.sizes)
        }


def correct(
    prediction: TitlePrediction,
    shots: Sequence[Shot],
    measurements: Mapping[Request, Measurement],
) -> CorrectedTitle:
    """Condition ``prediction`` on those of ``measurements`` that are at its sizes and CRFs.

    A score that is cut off at an end of the scale says nothing where the prediction lies beyond
    that end as well.
    """
    observed = _observed(prediction, shots, measurements)
    posterior = condition(prediction.residuals, _all_residuals(prediction, shots, observed))
    cells, grid = prediction.grid_cells(), prediction.log_bpp.shape[1:]
    pixels = np.array([size.width * size.height for size in prediction.sizes], dtype=np.float64)
    measured = np.zeros(prediction.log_bpp.shape, dtype=bool)
    bits, quality = np.empty(measured.shape), np.empty(measured.shape)
    for number, shot in enumerate(shots):
        moved = posterior.mean(number, cells).reshape(2, *grid)
        bpp = np.exp(prediction.log_bpp[number] + moved[RATE])
        bits[number] = bpp * pixels[:, None] * shot.frames
        quality[number] = unwarp(prediction.warped_quality[number] + moved[QUALITY])
        for size, column, measurement in observed[number]:
            measured[number, size, column] = True
            bits[number, size, column] = measurement.bits
            quality[number, size, column] = measurement.quality
    return CorrectedTitle(prediction, tuple(shots), bits, quality, measured, posterior)


def residuals(
    prediction: TitlePrediction,
    shots: Sequence[Shot],
    measurements: Mapping[Request, Measurement],
) -> list[ShotResiduals]:
    """Return measured minus predicted of every shot, where the measurement is informative."""
    return _all_residuals(prediction, shots, _observed(prediction, shots, measurements))


class _Observed(NamedTuple):
    """A measured cell of a shot."""

    size: int
    """Number of the size in the prediction."""
    column: int
    """Column of the CRF in the prediction."""
    measurement: Measurement


def _observed(
    prediction: TitlePrediction,
    shots: Sequence[Shot],
    measurements: Mapping[Request, Measurement],
) -> list[list[_Observed]]:
    """Return the measured cells of every shot that the prediction covers."""
    sizes = {size: number for number, size in enumerate(prediction.sizes)}
    observed: list[list[_Observed]] = [[] for _ in shots]
    for (shot, point), measurement in measurements.items():
        size, column = sizes.get(point.size), prediction.scale.column(point.crf)
        if size is not None and column is not None:
            observed[shot].append(_Observed(size, column, measurement))
    return observed


def _all_residuals(
    prediction: TitlePrediction, shots: Sequence[Shot], observed: Sequence[Sequence[_Observed]]
) -> list[ShotResiduals]:
    return [
        _shot_residuals(prediction, number, shot, sorted(cells, key=lambda cell: cell[:2]))
        for number, (shot, cells) in enumerate(zip(shots, observed, strict=True))
    ]


def _shot_residuals(
    prediction: TitlePrediction, number: int, shot: Shot, observed: Sequence[_Observed]
) -> ShotResiduals:
    """Return measured minus predicted, for every number that is informative."""
    if not observed:
        empty = np.empty(0)
        return ShotResiduals(Cells(empty, empty, np.empty(0, dtype=np.intp)), empty)
    sizes = np.array([cell.size for cell in observed])
    columns = np.array([cell.column for cell in observed])
    areas = [size.width * size.height for size in prediction.sizes]
    pixels = np.array([areas[size] * shot.frames for size in sizes])
    log_bpp = np.log(np.array([cell.measurement.bits for cell in observed]) / pixels)
    scores = np.array([cell.measurement.quality for cell in observed])
    rate_left = log_bpp - prediction.log_bpp[number, sizes, columns]
    quality_left = warp(scores) - prediction.warped_quality[number, sizes, columns]
    # Beyond the end that the score is cut off at, the prediction may be right.
    informative = np.sign(quality_left) != -censored(scores)
    informative |= censored(scores) == 0
    positions = prediction.scale.position(prediction.scale.crfs)[columns]
    scales = np.array([prediction.log2_scale(size) for size in prediction.sizes])[sizes]
    cells = Cells(
        np.concatenate([positions, positions[informative]]),
        np.concatenate([scales, scales[informative]]),
        np.repeat([RATE, QUALITY], [len(sizes), int(informative.sum())]),
    )
    return ShotResiduals(cells, np.concatenate([rate_left, quality_left[informative]]))
