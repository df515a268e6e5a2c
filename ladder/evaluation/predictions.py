"""How far predictions are from the truth, and whether their intervals hold what they promise."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from encoder.arrays import Float64
from encoder.media import Request
from ladder.choices import Policy
from ladder.complexity.prediction import TitlePrediction, correct
from ladder.complexity.residuals import QUALITY, RATE, Cells, ShotResiduals
from ladder.complexity.scale import censored, warp
from ladder.constraints import InfeasibleResult
from ladder.curves import Measurement
from ladder.evaluation.simulate import Truth
from ladder.profiles import Profile
from ladder.rungs import LadderPlan, solve
from ladder.search.steps import TitleShape

LEVELS = (0.5, 0.8, 0.95)
"""Shares of measurements that the intervals promise to hold."""


@dataclass(frozen=True, slots=True)
class PredictionError:
    """Delivered minus predicted before any measurement, over delivered segments."""

    segments: int
    quality: float
    """Mean absolute difference in points."""
    quality_bias: float
    """Mean difference in points."""
    rate: float
    """Mean absolute difference as a share of the predicted bits."""
    rate_bias: float
    """Mean difference as a share of the predicted bits."""


def prediction_error(
    prediction: TitlePrediction, truth: Truth, plan: LadderPlan
) -> PredictionError | None:
    """Return how far a prediction is from what was delivered; None where it covers none of it."""
    quality, rate = [], []
    for shot, point in sorted(plan.points):
        expected = prediction.expected(shot, point)
        if expected is None:
            continue
        measurement = truth.measurements[shot, point]
        frames = truth.title.shape.shots[shot].frames
        quality.append(measurement.quality - expected.quality)
        rate.append(measurement.bits / (expected.bits_per_frame * frames) - 1)
    if not quality:
        return None
    return PredictionError(
        len(quality),
        float(np.abs(quality).mean()),
        float(np.mean(quality)),
        float(np.abs(rate).mean()),
        float(np.mean(rate)),
    )


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many measured numbers fell into the intervals that were predicted for them."""

    cells: int = 0
    within: tuple[int, ...] = (0,) * len(LEVELS)
    """Number of cells within the interval of each of :data:`LEVELS`."""

    def __add__(self, other: Coverage) -> Coverage:
        """Return the coverage of both together."""
        both = zip(self.within, other.within, strict=True)
        return Coverage(self.cells + other.cells, tuple(a + b for a, b in both))

    @property
    def shares(self) -> tuple[float, ...]:
        """Share of cells within the interval of each of :data:`LEVELS`; NaN without cells."""
        return tuple(n / self.cells if self.cells else math.nan for n in self.within)


def coverage(
    prediction: TitlePrediction,
    shape: TitleShape,
    cells: Mapping[Request, Measurement],
    given: Mapping[Request, Measurement],
) -> tuple[Coverage, Coverage]:
    """Return how ``cells`` lie in the intervals that hold once ``given`` is measured.

    Cells that are given, and scores that are cut off at an end of the scale, do not count.

    Returns:
        Coverage of rate and of quality.
    """
    posterior = correct(prediction, shape.shots, given).posterior
    by_kind = [Coverage(), Coverage()]
    for number, shot in enumerate(shape.shots):
        requests = [r for r in sorted(cells) if r[0] == number and r not in given]
        at, left = _residuals(prediction, shot.frames, {r: cells[r] for r in requests})
        if not len(at):
            continue
        variance = np.diag(posterior.covariance(number, at)) + posterior.model.noise[at.kind]
        z = np.abs(left - posterior.mean(number, at)) / np.sqrt(variance)
        for kind in (RATE, QUALITY):
            own = z[at.kind == kind]
            within = (int((own <= _quantile(level)).sum()) for level in LEVELS)
            by_kind[kind] += Coverage(len(own), tuple(within))
    return by_kind[RATE], by_kind[QUALITY]


def _quantile(level: float) -> float:
    return NormalDist().inv_cdf(0.5 + level / 2)


def _residuals(
    prediction: TitlePrediction, frames: int, cells: Mapping[Request, Measurement]
) -> tuple[Cells, Float64]:
    """Return measured minus predicted on the scales of predictions, and where that is."""
    position, log2_scale, kind, left = [], [], [], []
    for (shot, point), measurement in cells.items():
        number = prediction.sizes.index(point.size)
        column = prediction.scale.column(point.crf)
        if column is None:
            continue
        log_bpp = math.log(measurement.bits / (point.width * point.height * frames))
        both = [log_bpp - prediction.log_bpp[shot, number, column]]
        if not censored(np.array(measurement.quality)):
            score = float(warp(np.array(measurement.quality)))
            both.append(score - prediction.warped_quality[shot, number, column])
        position += [float(prediction.scale.position(point.crf))] * len(both)
        log2_scale += [prediction.log2_scale(prediction.sizes[number])] * len(both)
        kind += [RATE, QUALITY][: len(both)]
        left += both
    at = Cells(np.array(position), np.array(log2_scale), np.array(kind, dtype=np.intp))
    return at, np.array(left)


def shot_residuals(
    prediction: TitlePrediction,
    shape: TitleShape,
    cells: Mapping[Request, Measurement],
    most: int,
) -> list[ShotResiduals]:
    """Return measured minus predicted of every shot, at no more than ``most`` of its ``cells``."""
    by_shot = []
    for number, shot in enumerate(shape.shots):
        requests = [r for r in sorted(cells) if r[0] == number]
        requests = requests[:: max(1, math.ceil(len(requests) / most))]
        at, left = _residuals(prediction, shot.frames, {r: cells[r] for r in requests})
        by_shot.append(ShotResiduals(at, left))
    return by_shot


def first_rung(
    prediction: TitlePrediction, truth: Truth, profile: Profile, policy: Policy = "locked"
) -> dict[Request, Measurement]:
    """Return what the middle rung of the predicted ladder measures, before anything else was."""
    shape = truth.title.shape
    curves = correct(prediction, shape.shots, {}).curves()
    plan = solve(shape.with_curves(curves), profile, policy)
    if isinstance(plan, InfeasibleResult):
        return {}
    rung = plan.rungs[len(plan.rungs) // 2]
    requests = [(shot, choice.point) for shot, choice in enumerate(rung.choices)]
    return {request: truth.measurements[request] for request in requests}


def corrected_by_proxies(
    prediction: TitlePrediction, shape: TitleShape, proxies: Mapping[Request, Measurement]
) -> TitlePrediction:
    """Return the expected curves once ``proxies``, encodes that cost nothing, are measured.

    The covariance is still that of before.
    """
    posterior = correct(prediction, shape.shots, proxies).posterior
    cells, grid = prediction.grid_cells(), prediction.log_bpp.shape[1:]
    moved = np.stack(
        [posterior.mean(shot, cells).reshape(2, *grid) for shot in range(len(shape.shots))]
    )
    return replace(
        prediction,
        log_bpp=prediction.log_bpp + moved[:, RATE],
        warped_quality=prediction.warped_quality + moved[:, QUALITY],
    )
