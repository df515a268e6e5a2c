"""Covariances of residuals, fitted by expectation maximisation to titles held out of training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from encoder.arrays import Float64
from ladder.complexity.residuals import (
    BENDS,
    QUALITY,
    RATE,
    TERMS,
    TITLE_TERMS,
    Posterior,
    ResidualModel,
    ShotResiduals,
    ShotSystem,
    condition,
)

SHRINK_TITLE, SHRINK_SHOT = 3.0, 3.0
"""Strength of the prior, as a number of titles and of shots."""
PRIOR_SCALE = 0.1
"""Standard deviation of every coefficient under the prior."""
FREEDOM = 3.0
"""Degrees of freedom of the distribution of a title's terms."""


def fit(
    titles: Sequence[Sequence[ShotResiduals]],
    rounds: int = 20,
    start: ResidualModel | None = None,
) -> ResidualModel:
    """Return the covariances that explain the residuals of ``titles`` best.

    Args:
        titles: The residuals of every shot of every title.
        rounds: Rounds of expectation maximisation.
        start: A similar fit if there is one; it needs fewer rounds.

    Raises:
        ValueError: there are no residuals.
    """
    if not any(len(shot.cells) for title in titles for shot in title):
        raise ValueError("there are no residuals to fit")
    prior = np.eye(2 * TERMS) * PRIOR_SCALE**2
    model = start or ResidualModel(
        title=prior.copy(),
        bends=np.full(2, 0.01),
        shot=prior.copy(),
        local=np.full(2, 0.004),
        noise=np.full(2, 0.0004),
    )
    for _ in range(rounds):
        model = _improve(model, titles, prior)
    return model


def _improve(
    model: ResidualModel, titles: Sequence[Sequence[ShotResiduals]], prior: Float64
) -> ResidualModel:
    """Run one round of expectation maximisation.

    The ratio of noise to local variance stays; their sum follows the data.
    """
    smooth, bends = slice(0, 2 * TERMS), slice(2 * TERMS, TITLE_TERMS)
    title_sum, shot_sum, bend_sum = SHRINK_TITLE * prior, SHRINK_SHOT * prior, np.zeros(2)
    shot_count = 0
    misfit, cell_count = np.zeros(2), np.zeros(2)
    log_scales = []
    for title in titles:
        posterior = condition(model, title)
        scale = posterior.scale
        log_scales.append(np.log(scale))
        square = _second_moment(posterior.title_mean, posterior.title_covariance)
        # A term in which one title is like no other must not widen it for all (Student's t).
        surprise = np.diag(square)[smooth] / (scale * np.diag(model.title))
        tame = np.sqrt((FREEDOM + 1) / (FREEDOM + surprise))
        title_sum = title_sum + tame[:, None] * square[smooth, smooth] * tame / scale
        bend_sum = bend_sum + np.diag(square)[bends].reshape(2, BENDS).mean(axis=1) / scale
        for observed, system in zip(title, posterior.systems, strict=True):
            if not len(observed.cells):
                continue
            shot = _shot_estimate(model, posterior, system)
            shot_sum = shot_sum + _second_moment(shot.mean, shot.covariance) / scale
            shot_count += 1
            for part in _misfits(model, observed, shot):
                misfit[part.kind] += part.of_mean
                misfit[part.kind] += part.of_covariance
                cell_count[part.kind] += part.cells
    factor = misfit / np.maximum(cell_count, 1)
    typical = float(np.exp(np.mean(log_scales)))  # a scale of 1 is that of a typical title
    return ResidualModel(
        title=typical * title_sum / (len(titles) + SHRINK_TITLE),
        bends=typical * bend_sum / len(titles),
        shot=typical * shot_sum / (shot_count + SHRINK_SHOT),
        local=model.local * factor,
        noise=model.noise * factor,
    )


def _second_moment(mean: Float64, covariance: Float64) -> Float64:
    return np.asarray(np.outer(mean, mean) + covariance)


class _ShotEstimate(NamedTuple):
    """A shot's own terms given the observations, and what they leave of its cells."""

    mean: Float64
    covariance: Float64
    left: Float64
    """Mean of what title and shot terms leave unexplained, shape ``[observed]``."""
    left_covariance: Float64
    """Covariance of what they leave, shape ``[observed, observed]``."""


def _shot_estimate(model: ResidualModel, posterior: Posterior, system: ShotSystem) -> _ShotEstimate:
    shared, phi, gain = system.title_phi, system.phi, system.gain
    spread = posterior.title_covariance
    own = system.values - shared @ posterior.title_mean
    prior = posterior.scale * model.shot
    pulled = prior @ phi.T @ gain
    mean = pulled @ own
    coupled = pulled @ shared
    covariance = prior - pulled @ phi @ prior + coupled @ spread @ coupled.T
    crossed = phi @ coupled @ spread @ shared.T
    left_covariance = shared @ spread @ shared.T + phi @ covariance @ phi.T - crossed - crossed.T
    return _ShotEstimate(mean, covariance, own - phi @ mean, left_covariance)


class _Misfit(NamedTuple):
    """What is left of a shot's cells of one kind, in units of local process and noise."""

    kind: int
    of_mean: float
    of_covariance: float
    cells: int


def _misfits(
    model: ResidualModel, observed: ShotResiduals, shot: _ShotEstimate
) -> Iterator[_Misfit]:
    """Yield what is left of each kind of residual, whitened by local process and noise."""
    rest = model.local_covariance(observed.cells, observed.cells)
    rest[np.diag_indices_from(rest)] += model.noise[observed.cells.kind]
    for kind in (RATE, QUALITY):
        cells = np.flatnonzero(observed.cells.kind == kind)
        if not len(cells):
            continue
        block = np.ix_(cells, cells)
        inverse = np.linalg.inv(rest[block])
        yield _Misfit(
            kind,
            float(shot.left[cells] @ inverse @ shot.left[cells]),
            float(np.trace(inverse @ shot.left_covariance[block])),
            len(cells),
        )
