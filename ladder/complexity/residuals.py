"""How wrong predictions are, and what one measurement says about all other cells.

The error of a network at a cell (size, CRF) of a shot is modelled as

    residual = phi(cell) . title + bends(cell) . title + phi(cell) . shot + local(cell) + noise

for log rate and for warped quality (:mod:`ladder.complexity.scale`) together. ``phi`` is a short
polynomial in the position on the CRF scale and the size relative to the title's. ``title`` is
shared by all shots of a title (its grain, its grade, how it was compressed before), ``shot`` is
the shot's own; both are Gaussian with covariances that :func:`fit` finds by expectation
maximisation in the residuals of titles whose group the network never saw. ``local`` is a Gaussian
process over neighbouring cells for what the polynomial lacks, ``bends`` is the same for a whole
title. This is a linear mixed model (Laird and Ware, "Random-effects models for longitudinal data",
Biometrics 38, 1982) with Gaussian processes (Rasmussen and Williams, "Gaussian Processes for
Machine Learning", 2006); ``bends`` is written out in features (Williams and Seeger, "Using the
Nystroem method to speed up kernel machines", NIPS 2000).

A measurement therefore corrects all other cells of its shot, and a little of all the title's
shots, in closed form (:func:`condition`). Given ``title`` the shots are independent, so a title
costs one small linear system per shot and one for the shared part, whatever its length.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from encoder.arrays import Float64, Index

RATE, QUALITY = 0, 1
"""Kinds of residual: of log rate and of warped quality."""
POWERS = ((0, 0), (1, 0), (2, 0), (0, 1), (0, 2), (1, 1))
"""Powers of (position, size) in ``phi``; two more terms are those of the title's own size."""
TERMS = len(POWERS) + 2
"""Number of terms of ``phi`` for one kind of residual."""
OWN_WITHIN = 0.01
"""Distance from 0 on the size scale within which a size is the title's own. No scaling has
smoothed the title's own size, so its curves do not continue those of the other sizes: sharp text
and a source's own noise are in it alone."""
SIMILAR_MODEL_DEVIATIONS = {0: 0.2, 1: 0.25, 3: 0.15}
"""Standard deviation of the difference between the warped scores of similar quality models, by term
of ``phi``: level, position and size. Root mean squares over nine titles were 0.07, 0.22 and 0.12
between VMAF v1 for 2160 lines and v1; 0.13, 0.08 and 0.04 between v1 for high frame rates and v1;
0.23, 0.27 and 0.15 between v0.6.1 and v1."""


@dataclass(frozen=True, slots=True)
class Cells:
    """Where residuals are: arrays of one length, with one entry per observed number."""

    position: Float64
    """Position on the codec's CRF scale, -1 to 1."""
    log2_scale: Float64
    """Base-2 logarithm of the linear scale against the title's own size: 0 or negative."""
    kind: Index
    """Kind of the residual, :data:`RATE` or :data:`QUALITY`."""

    def __len__(self) -> int:
        return len(self.position)

    def phi(self) -> Float64:
        """Return the polynomial's terms, shape ``[cells, 2 x TERMS]``: one block per kind."""
        own = (self.log2_scale > -OWN_WITHIN).astype(np.float64)
        smooth = [self.position**p * self.log2_scale**s for p, s in POWERS]
        terms = np.stack([*smooth, own, own * self.position], axis=1)
        out = np.zeros((len(self), 2, TERMS))
        out[np.arange(len(self)), self.kind] = terms
        return out.reshape(len(self), 2 * TERMS)

    def title_phi(self) -> Float64:
        """Return the terms that a title's shots share, shape ``[cells, TITLE_TERMS]``."""
        position, scale, whiten = _bend_centres()
        bends = np.zeros((len(self), 2, BENDS))
        bends[np.arange(len(self)), self.kind] = _kernel(self, position, scale) @ whiten
        return np.concatenate([self.phi(), bends.reshape(len(self), 2 * BENDS)], axis=1)


BEND_POSITIONS = (-1.0, -0.5, 0.0, 0.5, 1.0)
BEND_SCALES = (0.0, -0.35, -0.7, -1.05, -1.4, -1.75, -2.1)
BENDS = len(BEND_POSITIONS) * len(BEND_SCALES)
"""Number of features of a title's bends for one kind; these are their centres."""
TITLE_TERMS = 2 * TERMS + 2 * BENDS
"""Number of terms that a title's shots share, for both kinds."""
REACH = (0.5, 0.4)
"""Length scales of ``bends`` and ``local`` over position and size."""


def _kernel(a: Cells, position: Float64, log2_scale: Float64) -> Float64:
    """Return the kernel between cells and other places, shape ``[len(a), len(position)]``."""
    by_position = (a.position[:, None] - position[None, :]) / REACH[0]
    by_size = (a.log2_scale[:, None] - log2_scale[None, :]) / REACH[1]
    return np.asarray(np.exp(-0.5 * (by_position**2 + by_size**2)))


@functools.cache
def _bend_centres() -> tuple[Float64, Float64, Float64]:
    """Return positions and scales of the centres, and the matrix that whitens their features."""
    position, scale = (axis.ravel() for axis in np.meshgrid(BEND_POSITIONS, BEND_SCALES))
    own = _kernel(Cells(position, scale, np.zeros(BENDS, dtype=np.intp)), position, scale)
    return position, scale, np.linalg.inv(np.linalg.cholesky(own + 1e-6 * np.eye(BENDS))).T


@dataclass(frozen=True, slots=True)
class ResidualModel:
    """Covariance of the residuals of one quality model."""

    title: Float64
    """Covariance of the terms that a title's shots share, shape ``[2 x TERMS, 2 x TERMS]``."""
    bends: Float64
    """Variance of the title's bends by kind, shape ``[2]``."""
    shot: Float64
    """Covariance of a shot's own terms, shape ``[2 x TERMS, 2 x TERMS]``."""
    local: Float64
    """Variance of the local process by kind, shape ``[2]``."""
    noise: Float64
    """Variance that neighbouring cells do not share, by kind, shape ``[2]``."""

    def for_similar_model(self) -> ResidualModel:
        """Return the covariance where scores of a similar quality model are predicted.

        The difference between the two models' scores is shared by the title's shots.
        """
        return self._widened(
            {TERMS * QUALITY + term: by for term, by in SIMILAR_MODEL_DEVIATIONS.items()}
        )

    def for_similar_recipe(self, deviations: tuple[float, float]) -> ResidualModel:
        """Return the covariance where the curves of a similar recipe are predicted.

        The difference between the two recipes is a constant that the title's shots share;
        ``deviations`` are its standard deviations in log rate and in warped quality.
        """
        return self._widened({TERMS * kind: by for kind, by in enumerate(deviations)})

    def _widened(self, deviations: Mapping[int, float]) -> ResidualModel:
        """Return the covariance with independent errors added to terms of the title."""
        if not any(deviations.values()):
            return self
        title = self.title.copy()
        for term, deviation in deviations.items():
            title[term, term] += deviation**2
        return replace(self, title=title)

    def title_covariance(self) -> Float64:
        """Return the covariance of all shared terms, shape ``[TITLE_TERMS, TITLE_TERMS]``."""
        whole = np.zeros((TITLE_TERMS, TITLE_TERMS))
        whole[: 2 * TERMS, : 2 * TERMS] = self.title
        whole[2 * TERMS :, 2 * TERMS :] = np.diag(np.repeat(self.bends, BENDS))
        return whole

    def local_covariance(self, a: Cells, b: Cells) -> Float64:
        """Return the covariance of the local process between cells, shape ``[len(a), len(b)]``."""
        same = a.kind[:, None] == b.kind[None, :]
        near = _kernel(a, b.position, b.log2_scale)
        return np.asarray(np.where(same, self.local[a.kind][:, None] * near, 0.0))


def residuals_for(
    learned: Mapping[str, ResidualModel], quality: str, similar: Sequence[str]
) -> tuple[str, ResidualModel] | None:
    """Return the quality model whose scores to predict, and the covariance of their errors.

    Args:
        learned: Covariances by quality model.
        quality: Quality model that is asked for.
        similar: Quality models that may stand in for it, the best first.

    Returns:
        None where none of these models was learned.
    """
    if quality in learned:
        return quality, learned[quality]
    substitute = next((model for model in similar if model in learned), None)
    return None if substitute is None else (substitute, learned[substitute].for_similar_model())


@dataclass(frozen=True, slots=True)
class ShotResiduals:
    """Observed residuals of one shot."""

    cells: Cells
    values: Float64
    """Measured minus predicted, shape ``[cells]``."""


@dataclass(frozen=True, slots=True)
class ShotSystem:
    """One shot's observations as a linear system."""

    title_phi: Float64
    """Terms shared with the title, shape ``[observed, TITLE_TERMS]``."""
    phi: Float64
    """Terms of the shot, shape ``[observed, 2 x TERMS]``."""
    gain: Float64
    """Inverse covariance of the observations given the title's part."""
    values: Float64
    """Observed residuals, shape ``[observed]``."""


class ShotTerms(NamedTuple):
    """What a shot's observations are to a model whatever the scale."""

    title_phi: Float64
    """Terms shared with the title, shape ``[observed, TITLE_TERMS]``."""
    phi: Float64
    """Terms of the shot, shape ``[observed, 2 x TERMS]``."""
    rest: Float64
    """Covariance of local process and noise, shape ``[observed, observed]``."""


def shot_terms(model: ResidualModel, seen: ShotResiduals) -> ShotTerms:
    """Return the terms of a shot's observations under ``model``."""
    rest = model.local_covariance(seen.cells, seen.cells)
    rest[np.diag_indices_from(rest)] += model.noise[seen.cells.kind]
    return ShotTerms(seen.cells.title_phi(), seen.cells.phi(), rest)


class Posterior:
    """Distribution of the residuals at any cell of any shot, given a title's observations."""

    def __init__(
        self,
        model: ResidualModel,
        observed: Sequence[ShotResiduals],
        scale: float = 1.0,
        terms: Sequence[ShotTerms] | None = None,
    ) -> None:
        """Condition ``model`` on ``observed``, the residuals of all shots of a title.

        ``scale`` multiplies the covariances of title and shot; it is over 1 for a title unlike
        those of the training. ``terms`` are what :func:`shot_terms` returns for each shot, where
        the caller has them already.
        """
        self.model = model
        self.observed = observed
        self.scale = scale
        shot = scale * model.shot
        title = scale * model.title_covariance()
        precision: Float64 = np.asarray(np.linalg.inv(title))
        pull = np.zeros(TITLE_TERMS)
        evidence = -0.5 * _log_determinant(title)
        self.systems: list[ShotSystem] = []
        if terms is None:
            terms = [shot_terms(model, seen) for seen in observed]
        for seen, (shared, phi, rest) in zip(observed, terms, strict=True):
            spread = phi @ shot @ phi.T + rest
            gain: Float64 = np.asarray(np.linalg.inv(spread)) if len(seen.cells) else spread
            self.systems.append(ShotSystem(shared, phi, gain, seen.values))
            precision = precision + shared.T @ gain @ shared
            pull = pull + shared.T @ gain @ seen.values
            if len(seen.cells):
                evidence += 0.5 * _log_determinant(gain)
                evidence -= 0.5 * float(seen.values @ gain @ seen.values)
        self.title_covariance: Float64 = np.asarray(np.linalg.inv(precision))
        self.title_mean: Float64 = self.title_covariance @ pull
        self.evidence = float(
            evidence - 0.5 * _log_determinant(precision) + 0.5 * pull @ self.title_mean
        )
        """Log likelihood of the observations, up to a constant."""

    def mean(self, shot: int, cells: Cells) -> Float64:
        """Return the expected residuals of a shot at ``cells``."""
        link, system = self._link(shot, cells)
        own = system.values - system.title_phi @ self.title_mean
        return np.asarray(cells.title_phi() @ self.title_mean + link @ (system.gain @ own))

    def covariance(self, shot: int, cells: Cells) -> Float64:
        """Return the covariance of a shot's residuals at ``cells``, without measurement noise."""
        shared = self.shared(shot, cells)
        own = self.own_covariance(shot, cells)
        return np.asarray(own + shared @ self.title_covariance @ shared.T)

    def own_covariance(self, shot: int, cells: Cells) -> Float64:
        """Return the part of :meth:`covariance` that other shots do not share."""
        link, system = self._link(shot, cells)
        phi = cells.phi()
        prior = self.scale * phi @ self.model.shot @ phi.T + self.model.local_covariance(
            cells, cells
        )
        return np.asarray(prior - link @ system.gain @ link.T)

    def shared(self, shot: int, cells: Cells) -> Float64:
        """Return how the title's terms move ``cells`` of a shot, shape ``[cells, TITLE_TERMS]``.

        With ``title_covariance`` this gives what residuals of different shots have in common.
        """
        link, system = self._link(shot, cells)
        return np.asarray(cells.title_phi() - link @ system.gain @ system.title_phi)

    def _link(self, shot: int, cells: Cells) -> tuple[Float64, ShotSystem]:
        """Return the covariance of ``cells`` with the observations, given the title's part."""
        system, seen = self.systems[shot], self.observed[shot].cells
        link = self.scale * cells.phi() @ self.model.shot @ system.phi.T
        return link + self.model.local_covariance(cells, seen), system


def _log_determinant(matrix: Float64) -> float:
    return float(np.linalg.slogdet(matrix)[1])


SCALES = (0.35, 1.0, 3.0, 9.0, 27.0)
"""Factors on both covariances that a title may have; the larger, the less typical the title."""
SCALE_SPREAD = 1.0
"""Standard deviation of the logarithm of that factor before anything is measured."""


def condition(model: ResidualModel, observed: Sequence[ShotResiduals]) -> Posterior:
    """Return the posterior at the most probable scale.

    Most titles are much like each other; a few (screens, noise, damage) are like no other. How
    atypical a title is shows in how surprising its measurements are. A scale per title keeps the
    few from making every title look uncertain, and lets the few cost measurements instead of
    quality.
    """
    terms = [shot_terms(model, seen) for seen in observed]
    return max(
        (Posterior(model, observed, scale, terms) for scale in SCALES),
        key=lambda posterior: (
            posterior.evidence - 0.5 * (np.log(posterior.scale) / SCALE_SPREAD) ** 2
        ),
    )
