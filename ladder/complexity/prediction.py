"""Curves of a title that a model predicted, corrected by what has been measured of it.

A :class:`TitlePrediction` is made once, before any encode. :func:`correct` conditions it on
measurements: every measured point is exactly itself, everything else moves by what the measurement
says about it (:mod:`ladder.complexity.residuals`). The curves that come out are
:class:`PredictedCurve`, another type than measured ones, and each of their candidates says whether
it was measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from encoder.arrays import Float64
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
    high: float
    ends: tuple[float, float]
    """CRFs at the positions -1 and 1 of the codec's scale."""
    step: float = CRF_STEP
    """Between CRFs that differ to the encoder."""

    @property
    def crfs(self) -> Float64:
        """Multiples of the step from lowest to highest."""
        last = math.floor(self.high / self.step)
        return np.arange(self._first, last + 1, dtype=np.float64) * self.step

    @property
    def _first(self) -> int:
        return math.ceil(self.low / self.step)

    def column(self, crf: float) -> int | None:
        """Where ``crf`` stands in :attr:`crfs`; None where it does not."""
        steps = crf / self.step
        inside = self._first <= steps <= math.floor(self.high / self.step)
        return int(steps) - self._first if inside and steps.is_integer() else None

    def position(self, crf: Float64 | float) -> Float64:
        """On the codec's scale; any shape."""
        middle, half = sum(self.ends) / 2, (self.ends[1] - self.ends[0]) / 2
        return np.asarray((np.asarray(crf, dtype=np.float64) - middle) / half)


@dataclass(frozen=True, slots=True)
class TitlePrediction:
    """Expected curves of every shot at every size, and how far to trust them."""

    sizes: tuple[Size, ...]
    """Smallest first; the last is the title's own."""
    scale: CrfScale
    log_bpp: Float64
    """Natural logarithm of bits per pixel, shape ``[shots, sizes, crfs]``."""
    warped_quality: Float64
    """Quality as :func:`ladder.complexity.scale.warp` gives it, the same shape."""
    residuals: ResidualModel
    model: str = ""
    """Identity of the weights."""
    quality_model: str = ""
    """Whose scores are predicted: not the one that was asked for where that was not learned."""

    def log2_scale(self, size: Size) -> float:
        """Base-2 logarithm of a size's linear scale against the title's own."""
        own = self.sizes[-1]
        return 0.5 * math.log2(size.width * size.height / (own.width * own.height))

    def expected(self, shot: int, point: OperatingPoint) -> Expected | None:
        """What one operating point of a shot is expected to give; None outside of what was
        predicted."""
        column = self.scale.column(point.crf)
        sizes = [(size.width, size.height) for size in self.sizes]
        if column is None or (point.width, point.height) not in sizes:
            return None
        at = shot, sizes.index((point.width, point.height)), column
        bits = math.exp(self.log_bpp[at]) * point.width * point.height
        return Expected(bits, float(unwarp(self.warped_quality[at])))

    def optimistic(self, deviations: float) -> TitlePrediction:
        """Fewer bits and more quality everywhere, by standard deviations of what is missed."""
        position, sizes = (
            self.scale.position(self.scale.crfs),
            [self.log2_scale(s) for s in self.sizes],
        )
        count = len(position) * len(sizes)
        cells = Cells(
            np.tile(position, 2 * len(sizes)),
            np.tile(np.repeat(sizes, len(position)), 2),
            np.repeat([RATE, QUALITY], count),
        )
        model, shared, phi = self.residuals, cells.title_phi(), cells.phi()
        variance = np.einsum("ij,jk,ik->i", shared, model.title_covariance(), shared)
        variance += np.einsum("ij,jk,ik->i", phi, model.shot, phi) + model.local[cells.kind]
        off = deviations * np.sqrt(variance).reshape(2, len(sizes), len(position))
        # Beyond the scores that tell something there is nothing to hope for.
        quality = np.minimum(
            self.warped_quality + off[QUALITY], warp(np.array(INFORMATIVE_SCORES[1]))
        )
        return replace(
            self,
            log_bpp=self.log_bpp - off[RATE],
            warped_quality=np.maximum(self.warped_quality, quality),
        )


class Expected(NamedTuple):
    """An encode before it is made."""

    bits_per_frame: float
    quality: float


@dataclass(frozen=True, slots=True)
class PredictedCurve:
    """One shot at one size, as far as is known: some points measured, the others predicted."""

    frames: int
    candidates: tuple[Candidate, ...]
    """By ascending CRF."""

    def points(self, step: float = CRF_STEP) -> tuple[Candidate, ...]:
        """All candidates, whatever ``step``: a prediction has one spacing."""
        return self.candidates


@dataclass(frozen=True, slots=True)
class CorrectedTitle:
    """A prediction after conditioning. Arrays have the shape ``[shots, sizes, crfs]``."""

    prediction: TitlePrediction
    shots: tuple[Shot, ...]
    bits: Float64
    """Expected; exact where measured."""
    quality: Float64
    """Expected; exact where measured."""
    measured: np.ndarray
    """Whether."""
    posterior: Posterior

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
                            bits[number, position].tolist(),
                            self.quality[number, position].tolist(),
                            self.measured[number, position].tolist(),
                        )
                    ),
                )
                for number, shot in enumerate(self.shots)
            )
            for position, size in enumerate(self.prediction.sizes)
        }


def correct(
    prediction: TitlePrediction,
    shots: Sequence[Shot],
    measurements: Mapping[Request, Measurement],
) -> CorrectedTitle:
    """Condition ``prediction`` on ``measurements`` (those at its sizes and CRFs).

    A score that is cut off at an end of the scale says nothing where the prediction lies beyond
    that end as well.
    """
    measured, observed = _observed(prediction, shots, measurements)
    size_places = np.array([prediction.log2_scale(size) for size in prediction.sizes])
    position = prediction.scale.position(prediction.scale.crfs)
    pixels = np.array([size.width * size.height for size in prediction.sizes], dtype=np.float64)
    seen = _seen(prediction, shots, observed)
    posterior = condition(prediction.residuals, seen)
    grid_positions = np.tile(position, len(size_places))
    grid_size = np.repeat(size_places, len(position))
    count = len(grid_positions)
    cells = Cells(
        np.tile(grid_positions, 2), np.tile(grid_size, 2), np.repeat([RATE, QUALITY], count)
    )
    bits, quality = np.empty(measured.shape), np.empty(measured.shape)
    for number, of in enumerate(shots):
        moved = posterior.mean(number, cells).reshape(2, len(size_places), len(position))
        per_pixel = np.exp(prediction.log_bpp[number] + moved[RATE])
        bits[number] = per_pixel * pixels[:, None] * of.frames
        quality[number] = unwarp(prediction.warped_quality[number] + moved[QUALITY])
        for size, column, found in observed[number]:
            bits[number, size, column] = found.bits
            quality[number, size, column] = found.quality
    return CorrectedTitle(prediction, tuple(shots), bits, quality, measured, posterior)


def residuals(
    prediction: TitlePrediction,
    shots: Sequence[Shot],
    measurements: Mapping[Request, Measurement],
) -> list[ShotResiduals]:
    """Of every shot, measured minus predicted where that tells something."""
    return _seen(prediction, shots, _observed(prediction, shots, measurements)[1])


_Observed = list[list[tuple[int, int, Measurement]]]
"""By shot: number of a size, CRF column, what was measured there."""


def _observed(
    prediction: TitlePrediction,
    shots: Sequence[Shot],
    measurements: Mapping[Request, Measurement],
) -> tuple[np.ndarray, _Observed]:
    """Which cells of the prediction were measured, and those by shot."""
    positions = {(size.width, size.height): number for number, size in enumerate(prediction.sizes)}
    measured = np.zeros(prediction.log_bpp.shape, dtype=bool)
    observed: _Observed = [[] for _ in shots]
    for (shot, point), found in measurements.items():
        size = positions.get((point.width, point.height))
        column = prediction.scale.column(point.crf)
        if size is None or column is None:
            continue
        measured[shot, size, column] = True
        observed[shot].append((size, column, found))
    return measured, observed


def _seen(
    prediction: TitlePrediction, shots: Sequence[Shot], observed: _Observed
) -> list[ShotResiduals]:
    size_places = np.array([prediction.log2_scale(size) for size in prediction.sizes])
    position = prediction.scale.position(prediction.scale.crfs)
    return [
        _residuals(
            prediction, number, shot, sorted(points, key=lambda p: p[:2]), size_places, position
        )
        for number, (shot, points) in enumerate(zip(shots, observed, strict=True))
    ]


def _residuals(
    prediction: TitlePrediction,
    number: int,
    shot: Shot,
    points: Sequence[tuple[int, int, Measurement]],
    size_places: Float64,
    position: Float64,
) -> ShotResiduals:
    """Measured minus predicted, for every number that says something."""
    if not points:
        empty = np.empty(0)
        return ShotResiduals(Cells(empty, empty, np.empty(0, dtype=np.intp)), empty)
    sizes = np.array([size for size, _, _ in points])
    columns = np.array([column for _, column, _ in points])
    own = prediction.sizes
    pixels = np.array([own[size].width * own[size].height * shot.frames for size in sizes])
    rate = np.log(np.array([found.bits for _, _, found in points]) / pixels)
    scores = np.array([found.quality for _, _, found in points])
    rate_left = rate - prediction.log_bpp[number, sizes, columns]
    quality_left = warp(scores) - prediction.warped_quality[number, sizes, columns]
    # Beyond the end that the score is cut off at, the prediction may be right.
    telling = np.sign(quality_left) != -censored(scores)
    telling |= censored(scores) == 0
    cells = Cells(
        np.concatenate([position[columns], position[columns][telling]]),
        np.concatenate([size_places[sizes], size_places[sizes][telling]]),
        np.concatenate([np.full(len(sizes), RATE), np.full(int(telling.sum()), QUALITY)]).astype(
            np.intp
        ),
    )
    return ShotResiduals(cells, np.concatenate([rate_left, quality_left[telling]]))
