"""What makes viewers take a title: a hierarchical Bayesian logistic regression, learned in batches.

The logit of a viewer with context ``c`` for picture ``a`` of title ``t`` is linear in
``z = (1, c)``::

    logit = z·g  +  z·u_t  +  Σ_j f_aj z·w_j  +  z·v_a

``g`` is everybody's, ``u_t`` the title's (its appeal, and to whom), ``w_j`` the effect of feature
``j``, and ``v_a`` what belongs to the single picture. All have normal priors of mean 0, so that a
new picture starts from what its features tell, and its own effect grows as it is shown.

The posterior is kept as one normal distribution of ``g`` and ``w``, and one each per title and per
picture (assumed-density filtering: what a batch says about several of these blocks together is kept
in each block, and their correlation is dropped). A batch is absorbed at once, by Newton's method in
the space of its rows: Rasmussen and Williams, Gaussian Processes for Machine Learning (2006),
algorithm 3.1, with the prior covariance of the rows' logits as its kernel. Between batches, ``w``
spreads by a random walk, since tastes change.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from encoder.arrays import Float64
from recommender.policy.trials import Pictures, Trials, groups

MAX_ROWS: Final = 256
"""Rows that are absorbed at once; more are split, since the cost grows with their cube."""
_NEWTON_STEPS: Final = 3
_MIN_VARIANCE: Final = 1e-4
_MAX_LOGIT: Final = 30.0


@dataclass(frozen=True, slots=True)
class Priors:
    """Standard deviations of effects before anything is known, on the scale of logits.

    Features and context are expected with variances near 1.
    """

    base: float = 1.0
    """Of the constant, about ``base_logit``."""
    base_logit: float = -2.0
    base_context: float = 0.1
    title: float = 0.6
    """Of a title's appeal to everybody."""
    title_context: float = 0.15
    """Of a title's appeal to one side of a context feature."""
    feature: float = 0.1
    """Of a picture feature's effect on everybody."""
    feature_context: float = 0.07
    """Of the effect of a picture feature together with a context feature."""
    picture: float = 0.2
    """Of a single picture's effect on everybody, beyond its features."""
    picture_context: float = 0.15
    """Of a single picture's effect together with a context feature."""
    drift: float = 0.0015
    """Variance, as a share of the prior's, by which effects of features spread in a day."""


@dataclass(slots=True, eq=False)
class Block:
    """A normal distribution of a few effects."""

    mean: Float64
    """(size,)"""
    covariance: Float64
    """(size, size)"""
    learned_at: float = 0.0
    """:attr:`Effects.days` when it was last learned from."""


@dataclass(slots=True, eq=False)
class Effects:
    """The posterior of all effects; :meth:`learn` changes it in place."""

    num_features: int
    num_context: int
    priors: Priors
    shared: Block
    """Effects of features, feature by feature, then those of everybody."""
    titles: dict[str, Block] = field(default_factory=dict)
    pictures: dict[str, Block] = field(default_factory=dict)
    seen: int = 0
    """Number of rows that were learned from."""
    loss: float = 0.0
    """Sum over those rows of minus the log of the probability that had been given to what came."""
    days: float = 0.0
    """Time that learning has gone on."""

    @staticmethod
    def untrained(num_features: int, num_context: int, priors: Priors | None = None) -> Effects:
        """Return the prior."""
        priors = priors or Priors()
        variance = _shared_variance(num_features, num_context, priors)
        shared = Block(np.zeros(len(variance)), np.diag(variance))
        shared.mean[num_features * (num_context + 1)] = priors.base_logit
        return Effects(num_features, num_context, priors, shared)

    def learn(self, trials: Trials, *, days: float = 1 / 24) -> None:
        """Absorb a batch, the time since the last one being ``days``."""
        self.days += days
        variance = _shared_variance(self.num_features, self.num_context, self.priors)
        diagonal = np.diag_indices(len(variance))
        self.shared.covariance[diagonal] += self.priors.drift * days * variance
        for start in range(0, len(trials), MAX_ROWS):
            rows = np.arange(start, min(start + MAX_ROWS, len(trials)))
            self._absorb(trials.rows(rows))

    def forget(self, days: float) -> None:
        """Drop titles and pictures that were not learned from for so many days. If they come back,
        they start from what their features tell."""
        for blocks in (self.titles, self.pictures):
            for name in [n for n, block in blocks.items() if block.learned_at < self.days - days]:
                del blocks[name]

    def picture_effects(self, pictures: Pictures) -> Float64:
        """Return the expected effects of pictures, (pictures, 1 + context): a picture's logit
        differs from that of its title's mean picture by these times ``(1, context)``."""
        size = self.num_context + 1
        weights = self.shared.mean[:-size].reshape(self.num_features, size)
        effects = np.asarray(pictures.features @ weights, np.float64)
        for row, action in enumerate(pictures.actions):
            own = self.pictures.get(action)
            if own is not None:
                effects[row] += own.mean
        return effects

    def _absorb(self, trials: Trials) -> None:
        """Condition the posterior on rows; Rasmussen and Williams, algorithm 3.1."""
        z = np.column_stack([np.ones(len(trials)), trials.context])
        crossed = (trials.features[:, :, None] * z[:, None, :]).reshape(len(z), -1)
        design = np.concatenate([crossed, z], axis=1)
        gain = self.shared.covariance @ design.T
        kernel, prior = design @ gain, design @ self.shared.mean
        touched = []
        for store, names, spread in self._own_blocks(trials):
            for name, rows in groups(names):
                block = store.get(name)
                if block is None:
                    block = store[name] = Block(np.zeros(z.shape[1]), np.diag(spread))
                block.learned_at = self.days
                own_gain = block.covariance @ z[rows].T
                kernel[np.ix_(rows, rows)] += z[rows] @ own_gain
                prior[rows] += z[rows] @ block.mean
                touched.append((block, rows, own_gain))
        self._count(prior, trials.rewards)
        pull, precision = _newton(kernel, prior, trials.rewards)
        self.shared.mean += gain @ pull
        self.shared.covariance -= gain @ (precision @ gain.T)
        for block, rows, own_gain in touched:
            block.mean += own_gain @ pull[rows]
            block.covariance -= own_gain @ precision[np.ix_(rows, rows)] @ own_gain.T

    def _own_blocks(
        self, trials: Trials
    ) -> tuple[tuple[dict[str, Block], tuple[str, ...], Float64], ...]:
        """Return the blocks of titles and pictures: where they are, whose, their prior variance."""
        priors, count = self.priors, self.num_context
        title = _variance(priors.title, priors.title_context, count)
        picture = _variance(priors.picture, priors.picture_context, count)
        return (self.titles, trials.titles, title), (self.pictures, trials.actions, picture)

    def _count(self, logits: Float64, rewards: Float64) -> None:
        """Add to the loss what the rows cost before they are learned from."""
        signed = np.clip(logits, -_MAX_LOGIT, _MAX_LOGIT)
        self.loss += float((np.logaddexp(0, signed) - rewards * signed).sum())
        self.seen += len(rewards)


def _newton(kernel: Float64, prior: Float64, rewards: Float64) -> tuple[Float64, Float64]:
    """Return ``pull``, by which means move (gain @ pull), and the precision that is gained.

    ``kernel`` is the prior covariance of the rows' logits, ``prior`` their mean.
    """
    logits = prior
    pull, precision = np.zeros(len(prior)), np.zeros_like(kernel)
    for _ in range(_NEWTON_STEPS):
        chance = 1 / (1 + np.exp(-np.clip(logits, -_MAX_LOGIT, _MAX_LOGIT)))
        curvature = np.maximum(chance * (1 - chance), _MIN_VARIANCE)
        root = np.sqrt(curvature)
        inner = root[:, None] * kernel * root
        inner[np.diag_indices(len(root))] += 1
        precision = root[:, None] * np.linalg.inv(inner) * root
        step = curvature * (logits - prior) + (rewards - chance)
        pull = step - precision @ (kernel @ step)
        logits = prior + kernel @ pull
    return pull, precision


def _variance(constant: float, context: float, num_context: int) -> Float64:
    """Return the prior variance of a constant effect and of those of context features."""
    return np.concatenate([[constant**2], np.full(num_context, context**2)])


def _shared_variance(num_features: int, num_context: int, priors: Priors) -> Float64:
    """Return the prior variance of the effects of features, then of those of everybody."""
    feature = _variance(priors.feature, priors.feature_context, num_context)
    everybody = _variance(priors.base, priors.base_context, num_context)
    return np.concatenate([np.tile(feature, num_features), everybody])
