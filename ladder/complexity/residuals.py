"""How wrong predictions are, and what a measurement says about everything else.

What a network misses at a cell (size, CRF) of a shot is modelled as

    residual = phi(cell) . title + bends(cell) . title + phi(cell) . shot + local(cell) + noise

for log rate and for warped quality (:mod:`ladder.complexity.scale`) together. ``phi`` is a short
polynomial in the position on the CRF scale and the size relative to the title's. ``title`` is what
all shots of a title share (its grain, its grade, how it was compressed before), ``shot`` is the
shot's own; both are Gaussian with covariances that :func:`fit` finds by expectation maximisation
in the residuals of titles whose group the network never saw. ``local`` is a Gaussian process over
neighbouring cells for what the polynomial lacks, ``bends`` the same for a whole title (written
out in features, Williams and Seeger, "Using the Nystroem method to speed up kernel machines",
NIPS 2000). (A linear mixed model: Laird and Ware,
"Random-effects models for longitudinal data", Biometrics 38, 1982; with Rasmussen and Williams,
"Gaussian Processes for Machine Learning", 2006, for ``local``.)

So a measurement corrects every other cell of its shot, and a little of all the title's shots, in
closed form (:func:`condition`). Given ``title`` the shots are independent, so a title costs one
small system per shot and one for the shared part, whatever its length.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from encoder.arrays import Float64, Index

RATE, QUALITY = 0, 1
"""Kinds of residual."""
POWERS = ((0, 0), (1, 0), (2, 0), (0, 1), (0, 2), (1, 1))
"""Of (position, size) in ``phi``; two more terms tell the title's own size from the others."""
TERMS = len(POWERS) + 2
OWN_WITHIN = 0.01
"""Of 0 on the size scale: the title's own size, which no scaling has smoothed. Its curves do not
continue those of the other sizes: sharp text and a source's own noise are in it alone."""
SHRINK_TITLE, SHRINK_SHOT = 3.0, 3.0
"""Strength of the prior in :func:`fit`, in titles and in shots."""
PRIOR_SCALE = 0.1
"""Standard deviation of every coefficient under that prior."""


SIMILAR_MODEL_DEVIATIONS = {0: 0.2, 1: 0.25, 3: 0.15}
"""Standard deviation of the difference between the warped scores of similar quality models, by term
of ``phi``: level, position and size. Root mean squares over nine titles were 0.07, 0.22 and 0.12
between VMAF v1 for 2160 lines and v1; 0.13, 0.08 and 0.04 between v1 for high frame rates and v1;
0.23, 0.27 and 0.15 between v0.6.1 and v1."""


@dataclass(frozen=True, slots=True)
class Cells:
    """Where residuals are: arrays of one length, one entry per observed number."""

    position: Float64
    """On the codec's CRF scale, from -1 to 1."""
    log2_scale: Float64
    """Base-2 logarithm of the linear scale against the title's own size: 0 or negative."""
    kind: Index
    """RATE or QUALITY."""

    def __len__(self) -> int:
        return len(self.position)

    def phi(self) -> Float64:
        """The polynomial's terms, shape ``[cells, 2 x TERMS]``: a block for each kind."""
        own = (self.log2_scale > -OWN_WITHIN).astype(np.float64)
        smooth = [self.position**p * self.log2_scale**s for p, s in POWERS]
        terms = np.stack([*smooth, own, own * self.position], axis=1)
        out = np.zeros((len(self), 2, TERMS))
        out[np.arange(len(self)), self.kind] = terms
        return out.reshape(len(self), 2 * TERMS)

    def title_phi(self) -> Float64:
        """The terms of what a title shares, shape ``[cells, TITLE_TERMS]``."""
        position, size, whiten = _bend_centres()
        bends = np.zeros((len(self), 2, BENDS))
        bends[np.arange(len(self)), self.kind] = _near(self, position, size) @ whiten
        return np.concatenate([self.phi(), bends.reshape(len(self), 2 * BENDS)], axis=1)


BEND_POSITIONS = (-1.0, -0.5, 0.0, 0.5, 1.0)
BEND_SIZES = (0.0, -0.35, -0.7, -1.05, -1.4, -1.75, -2.1)
BENDS = len(BEND_POSITIONS) * len(BEND_SIZES)
"""Centres of the features of a title's bends, for each kind."""
TITLE_TERMS = 2 * TERMS + 2 * BENDS
REACH = (0.5, 0.4)
"""Length scales of ``bends`` and ``local`` over position and size."""


def _near(a: Cells, position: Float64, size: Float64) -> Float64:
    """The kernel between cells and other positions, shape ``[len(a), len(position)]``."""
    by_position = (a.position[:, None] - position[None, :]) / REACH[0]
    by_size = (a.log2_scale[:, None] - size[None, :]) / REACH[1]
    return np.asarray(np.exp(-0.5 * (by_position**2 + by_size**2)))


@functools.cache
def _bend_centres() -> tuple[Float64, Float64, Float64]:
    """Places and sizes of the centres, and what makes their features uncorrelated."""
    position, size = (axis.ravel() for axis in np.meshgrid(BEND_POSITIONS, BEND_SIZES))
    own = _near(Cells(position, size, np.zeros(BENDS, dtype=np.intp)), position, size)
    return position, size, np.linalg.inv(np.linalg.cholesky(own + 1e-6 * np.eye(BENDS))).T


@dataclass(frozen=True, slots=True)
class ResidualModel:
    """The covariance of residuals."""

    title: Float64
    """Covariance of what a title's shots share, shape ``[2 x TERMS, 2 x TERMS]``."""
    bends: Float64
    """Variance of the title's bends by kind, shape ``[2]``."""
    shot: Float64
    """Covariance of the shot's own, of the shape of ``title``."""
    local: Float64
    """Variance of the local process by kind, shape ``[2]``."""
    noise: Float64
    """Variance of what no neighbour shares, by kind, shape ``[2]``."""

    def for_similar_model(self) -> ResidualModel:
        """For scores of a quality model that was not learned, where those of a similar one are
        predicted: what they differ by is shared by the title's shots."""
        title = self.title.copy()
        for term, deviation in SIMILAR_MODEL_DEVIATIONS.items():
            title[TERMS * QUALITY + term, TERMS * QUALITY + term] += deviation**2
        return replace(self, title=title)

    def title_covariance(self) -> Float64:
        """Of all that a title shares, shape ``[TITLE_TERMS, TITLE_TERMS]``."""
        whole = np.zeros((TITLE_TERMS, TITLE_TERMS))
        whole[: 2 * TERMS, : 2 * TERMS] = self.title
        whole[2 * TERMS :, 2 * TERMS :] = np.diag(np.repeat(self.bends, BENDS))
        return whole

    def local_covariance(self, a: Cells, b: Cells) -> Float64:
        """Of the local process between cells, shape ``[len(a), len(b)]``."""
        same = a.kind[:, None] == b.kind[None, :]
        near = _near(a, b.position, b.log2_scale)
        return np.asarray(np.where(same, self.local[a.kind][:, None] * near, 0.0))


def residuals_for(
    learned: Mapping[str, ResidualModel], quality: str, similar: Sequence[str]
) -> tuple[str, ResidualModel] | None:
    """Whose scores to predict for a quality model, and the covariance of what they miss.

    Args:
        learned: By quality model.
        quality: The one that is asked for.
        similar: Those that may stand in for it, the best first.

    Returns:
        Nothing where none of them was learned.
    """
    if quality in learned:
        return quality, learned[quality]
    found = next((one for one in similar if one in learned), None)
    return None if found is None else (found, learned[found].for_similar_model())


@dataclass(frozen=True, slots=True)
class ShotResiduals:
    """What was observed of one shot."""

    cells: Cells
    values: Float64
    """Measured minus predicted, shape ``[cells]``."""


@dataclass(frozen=True, slots=True)
class _ShotSystem:
    """One shot's observations, whitened by what is not shared with the title."""

    title_phi: Float64
    """Shape ``[observed, TITLE_TERMS]``."""
    phi: Float64
    """Shape ``[observed, 2 x TERMS]``."""
    gain: Float64
    """Inverse covariance of the observations given the title's part."""
    values: Float64


class Posterior:
    """What the observations of a title's shots say about any cell of any of them."""

    def __init__(
        self, model: ResidualModel, observed: Sequence[ShotResiduals], scale: float = 1.0
    ) -> None:
        """``scale`` multiplies both covariances: over 1 for a title unlike any seen."""
        self.model = model
        self.observed = observed
        self.scale = scale
        shot = scale * model.shot
        title = scale * model.title_covariance()
        precision: Float64 = np.asarray(np.linalg.inv(title))
        pull = np.zeros(TITLE_TERMS)
        evidence = -0.5 * _log_determinant(title)
        self._systems: list[_ShotSystem] = []
        for seen in observed:
            shared, phi = seen.cells.title_phi(), seen.cells.phi()
            spread = phi @ shot @ phi.T + model.local_covariance(seen.cells, seen.cells)
            spread[np.diag_indices_from(spread)] += model.noise[seen.cells.kind]
            gain: Float64 = np.asarray(np.linalg.inv(spread)) if len(seen.cells) else spread
            self._systems.append(_ShotSystem(shared, phi, gain, seen.values))
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
        """Log likelihood of what was observed, but for a constant."""

    def mean(self, shot: int, cells: Cells) -> Float64:
        """Expected residuals of a shot at ``cells``."""
        link, system = self._link(shot, cells)
        own = system.values - system.title_phi @ self.title_mean
        return np.asarray(cells.title_phi() @ self.title_mean + link @ (system.gain @ own))

    def covariance(self, shot: int, cells: Cells) -> Float64:
        """Of the residuals of a shot at ``cells``, without the noise of a measurement."""
        shared = self.shared(shot, cells)
        own = self.own_covariance(shot, cells)
        return np.asarray(own + shared @ self.title_covariance @ shared.T)

    def own_covariance(self, shot: int, cells: Cells) -> Float64:
        """The same without what other shots share in."""
        link, system = self._link(shot, cells)
        phi = cells.phi()
        prior = self.scale * phi @ self.model.shot @ phi.T + self.model.local_covariance(
            cells, cells
        )
        return np.asarray(prior - link @ system.gain @ link.T)

    def shared(self, shot: int, cells: Cells) -> Float64:
        """How the title's part moves ``cells`` of a shot, shape ``[cells, TITLE_TERMS]``: with
        ``title_covariance``, what residuals of different shots have in common."""
        link, system = self._link(shot, cells)
        return np.asarray(cells.title_phi() - link @ system.gain @ system.title_phi)

    def _link(self, shot: int, cells: Cells) -> tuple[Float64, _ShotSystem]:
        """Covariance between ``cells`` and what was observed, given the title's part."""
        system, seen = self._systems[shot], self.observed[shot].cells
        link = self.scale * cells.phi() @ self.model.shot @ system.phi.T
        return link + self.model.local_covariance(cells, seen), system


def _log_determinant(matrix: Float64) -> float:
    return float(np.linalg.slogdet(matrix)[1])


FREEDOM = 3.0
"""Degrees of freedom of the distribution of a title's terms."""
SCALES = (0.35, 1.0, 3.0, 9.0, 27.0)
"""How unlike the others a title can be, as a factor on both covariances."""
SCALE_SPREAD = 1.0
"""Standard deviation of the logarithm of that factor, before anything is measured."""


def condition(model: ResidualModel, observed: Sequence[ShotResiduals]) -> Posterior:
    """The posterior at the most probable scale.

    Most titles are much like each other and a few (screens, noise, damage) are like none. A scale
    per title, told by how surprising its measurements are, keeps the few from making every title
    look uncertain, and makes the few cost more measurements instead of quality.
    """
    return max(
        (Posterior(model, observed, scale) for scale in SCALES),
        key=lambda posterior: (
            posterior.evidence - 0.5 * (np.log(posterior.scale) / SCALE_SPREAD) ** 2
        ),
    )


def fit(
    titles: Sequence[Sequence[ShotResiduals]],
    rounds: int = 20,
    start: ResidualModel | None = None,
) -> ResidualModel:
    """The covariances that explain the residuals of ``titles``, each a sequence of shots.

    ``start`` saves rounds where a similar fit is known.

    Raises:
        ValueError: there are no residuals.
    """
    shots = [shot for title in titles for shot in title if len(shot.cells)]
    if not shots:
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
    """One round of expectation maximisation.

    The ratio of noise to local variance stays; their sum follows the data.
    """
    smooth, bends = slice(0, 2 * TERMS), slice(2 * TERMS, TITLE_TERMS)
    of_title, of_shot = SHRINK_TITLE * prior, SHRINK_SHOT * prior
    of_bends = np.zeros(2)
    title_count, shot_count = 0, 0
    misfit, cells_seen = np.zeros(2), np.zeros(2)
    log_scales = []
    for title in titles:
        posterior = condition(model, title)
        scale = posterior.scale
        log_scales.append(np.log(scale))
        mean, spread = posterior.title_mean, posterior.title_covariance
        square = np.outer(mean, mean) + spread
        # A term in which one title is like no other must not widen it for all (Student's t).
        surprise = np.diag(square)[smooth] / (scale * np.diag(model.title))
        tame = np.sqrt((FREEDOM + 1) / (FREEDOM + surprise))
        of_title = of_title + tame[:, None] * square[smooth, smooth] * tame / scale
        of_bends = of_bends + np.diag(square)[bends].reshape(2, BENDS).mean(axis=1) / scale
        title_count += 1
        for seen, system in zip(title, posterior._systems, strict=True):
            if not len(seen.cells):
                continue
            shared, phi, gain = system.title_phi, system.phi, system.gain
            own = system.values - shared @ mean
            prior_shot = scale * model.shot
            pulled = prior_shot @ phi.T @ gain
            shot_mean = pulled @ own
            coupled = pulled @ shared
            shot_spread = prior_shot - pulled @ phi @ prior_shot + coupled @ spread @ coupled.T
            of_shot = of_shot + (np.outer(shot_mean, shot_mean) + shot_spread) / scale
            shot_count += 1
            # What is left of each cell, whitened by the shape of local process and noise.
            rest = model.local_covariance(seen.cells, seen.cells)
            rest[np.diag_indices_from(rest)] += model.noise[seen.cells.kind]
            left = own - phi @ shot_mean
            crossed = phi @ coupled @ spread @ shared.T
            unsure = shared @ spread @ shared.T + phi @ shot_spread @ phi.T - crossed - crossed.T
            for kind in (RATE, QUALITY):
                of = np.flatnonzero(seen.cells.kind == kind)
                if not len(of):
                    continue
                inverse = np.linalg.inv(rest[np.ix_(of, of)])
                misfit[kind] += left[of] @ inverse @ left[of]
                misfit[kind] += np.trace(inverse @ unsure[np.ix_(of, of)])
                cells_seen[kind] += len(of)
    factor = misfit / np.maximum(cells_seen, 1)
    typical = float(np.exp(np.mean(log_scales)))  # a scale of 1 is that of a typical title
    return ResidualModel(
        title=typical * of_title / (title_count + SHRINK_TITLE),
        bends=typical * of_bends / title_count,
        shot=typical * of_shot / (shot_count + SHRINK_SHOT),
        local=model.local * factor,
        noise=model.noise * factor,
    )
