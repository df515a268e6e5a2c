"""Residuals drawn from known covariances, and predictions that are wrong by them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from encoder.arrays import Float64
from encoder.media import Request
from ladder.complexity.inputs import CRF_ENDS
from ladder.complexity.prediction import CrfScale, TitlePrediction
from ladder.complexity.residuals import (
    QUALITY,
    RATE,
    TERMS,
    TITLE_TERMS,
    Cells,
    ResidualModel,
    ShotResiduals,
)
from ladder.complexity.scale import warp
from ladder.curves import Measurement
from ladder.search.steps import TitleShape
from tests.ladder_synthetic import measure

SCALE = CrfScale(14.0, 46.0, CRF_ENDS["x264"])

# Of (level, position, position^2, size, size^2, position x size, own, own x position).
SPREADS = (1.0, 0.3, 0.2, 0.3, 0.15, 0.15, 0.2, 0.1)


def residual_model(level: float = 0.2) -> ResidualModel:
    """Errors of about ``level`` in log rate, as much in warped quality, half of it a title's."""
    own = np.tile(SPREADS, 2) * level
    tied = np.eye(2 * TERMS)
    for term in range(TERMS):  # what costs more bits than expected looks worse as well
        tied[term, TERMS + term] = tied[TERMS + term, term] = -0.4
    covariance = own[:, None] * tied * own
    return ResidualModel(
        title=0.5 * covariance,
        bends=np.array([0.01, 0.01]) * level**2,
        shot=0.5 * covariance,
        local=np.array([0.02, 0.03]) * level**2,
        noise=np.array([0.0004, 0.0006]),
    )


def cells_at(
    positions: Sequence[float] | Float64, sizes: Sequence[float] | Float64, kinds: Sequence[int]
) -> Cells:
    return Cells(
        np.asarray(positions, dtype=np.float64),
        np.asarray(sizes, dtype=np.float64),
        np.asarray(kinds, dtype=np.intp),
    )


def grid_cells(positions: Float64, sizes: Float64) -> Cells:
    """All of both kinds: rate first, then by size, then by position."""
    position, size = np.tile(positions, len(sizes)), np.repeat(sizes, len(positions))
    return Cells(np.tile(position, 2), np.tile(size, 2), np.repeat([RATE, QUALITY], len(position)))


def draw_terms(model: ResidualModel, random: np.random.Generator, scale: float = 1.0) -> Float64:
    """What a title's shots share."""
    root = np.linalg.cholesky(scale * model.title_covariance())
    return np.asarray(root @ random.standard_normal(TITLE_TERMS))


def draw_shot(
    model: ResidualModel,
    terms: Float64,
    cells: Cells,
    random: np.random.Generator,
    scale: float = 1.0,
) -> Float64:
    """Residuals of one shot without noise."""
    phi = cells.phi()
    own = scale * phi @ model.shot @ phi.T + model.local_covariance(cells, cells)
    root = np.linalg.cholesky(own + 1e-10 * np.eye(len(cells)))
    return np.asarray(cells.title_phi() @ terms + root @ random.standard_normal(len(cells)))


def with_noise(
    model: ResidualModel, cells: Cells, values: Float64, random: np.random.Generator
) -> ShotResiduals:
    noise = np.sqrt(model.noise[cells.kind]) * random.standard_normal(len(cells))
    return ShotResiduals(cells, values + noise)


def random_cells(random: np.random.Generator, count: int) -> Cells:
    """Both kinds at ``count`` positions."""
    position = random.uniform(-1, 1, count)
    size = random.choice([0.0, -0.42, -1.0, -1.62], count)
    return Cells(np.tile(position, 2), np.tile(size, 2), np.repeat([RATE, QUALITY], count))


Measuring = Callable[[Request], Measurement]


def prediction_of(
    title: TitleShape,
    residuals: ResidualModel,
    seed: int | None = None,
    measuring: Measuring = measure,
    scale: float = 1.0,
    bias: tuple[float, float] = (0.0, 0.0),
    over: CrfScale = SCALE,
) -> TitlePrediction:
    """The truth minus an error drawn from ``residuals`` (none without a seed) and ``bias`` in log
    rate and warped quality."""
    crfs = over.crfs
    truth = np.array(
        [
            [
                [
                    (found.bits / (size.width * size.height * shot.frames), found.quality)
                    for crf in crfs.tolist()
                    for found in [measuring((number, title.point(size, crf)))]
                ]
                for size in title.sizes
            ]
            for number, shot in enumerate(title.shots)
        ]
    )
    rate, quality = np.log(truth[..., 0]) - bias[0], warp(truth[..., 1]) - bias[1]
    if seed is not None:
        own = title.sizes[-1]
        sizes = np.array(
            [0.5 * np.log2(s.width * s.height / (own.width * own.height)) for s in title.sizes]
        )
        cells = grid_cells(over.position(crfs), sizes)
        random = np.random.default_rng(seed)
        terms = draw_terms(residuals, random, scale)
        phi = cells.phi()
        spread = scale * phi @ residuals.shot @ phi.T + residuals.local_covariance(cells, cells)
        root = np.linalg.cholesky(spread + 1e-9 * np.eye(len(cells)))
        shared = cells.title_phi() @ terms
        for number in range(len(title.shots)):
            error = shared + root @ random.standard_normal(len(cells))
            error = error.reshape(2, len(sizes), len(crfs))
            rate[number] -= error[RATE]
            quality[number] -= error[QUALITY]
    return TitlePrediction(title.sizes, over, rate, quality, residuals)
