"""Other predictors with the networks' inputs and correction, to compare the networks with.

Each returns a :class:`~ladder.complexity.prediction.TitlePrediction` with the covariance of its own
held-out errors, so that everything after the prediction is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from encoder.arrays import Float64, Index
from encoder.errors import BadInput
from encoder.media import Size
from encoder.recipes import Recipe
from ladder.complexity.inputs import CRF_ENDS, INPUT_NAMES, ShotInputs, vector
from ladder.complexity.prediction import CrfScale, TitlePrediction
from ladder.complexity.recipe_inputs import CODECS
from ladder.complexity.residual_fit import fit
from ladder.complexity.residuals import ResidualModel, residuals_for
from ladder.complexity.training import Data, Example, arrays, folds, title_residuals
from ladder.curves import pchip

Kind = Literal["mean", "trees"]
KNOTS = np.linspace(-1.0, 1.0, 9)
"""Positions that are predicted: those of the exhaustive grid. Curves are interpolated between them,
as trees give steps only."""
TREES = 300
LEAVES = 15
LEAST_IN_LEAF = 20
LEARNING_RATE = 0.05
RIDGE = 1e-3
"""Strength of the ridge penalty on the mean curves' coefficients."""

Regression = Callable[[Float64, Float64, Float64], Float64]
"""Function from inputs ``[rows, INPUT_NAMES]``, scales and positions ``[rows]`` to a target."""


@dataclass(frozen=True, slots=True)
class RivalModel:
    """A trained rival, as :func:`train_rival` returns it."""

    kind: Kind
    regressions: tuple[Regression, ...]
    """Regressions for log rate and for each warped quality."""
    qualities: tuple[str, ...]
    """Quality models, in the order of the regressions after the first."""
    residuals: dict[str, ResidualModel]
    """Covariance of the errors, by quality model."""

    def predict(
        self,
        shots: Sequence[ShotInputs],
        sizes: Sequence[Size],
        recipe: Recipe,
        quality: str,
        crfs: tuple[float, float],
        similar: Sequence[str] = (),
    ) -> TitlePrediction:
        """Return the expected curves of a title.

        Arguments are those of :meth:`ladder.complexity.model.ComplexityModel.predict`.

        Raises:
            BadInput: the rival was trained on none of the quality models.
        """
        learned = residuals_for(self.residuals, quality, similar)
        if learned is None:
            raise BadInput(f"the {self.kind} rival was not trained on {quality}")
        quality_model, residuals = learned
        scale = CrfScale(*crfs, ends=CRF_ENDS[recipe.codec], step=recipe.crf_step)
        at, own = scale.position(scale.crfs), sizes[-1].width * sizes[-1].height
        rows = [vector(s, size.width, size.height, recipe) for s in shots for size in sizes]
        size = [0.5 * np.log2(s.width * s.height / own) for s in sizes] * len(shots)
        inputs = np.repeat(np.stack(rows), len(KNOTS), axis=0)
        positions = np.tile(KNOTS, len(rows))

        def curves(regression: Regression) -> Float64:
            known = regression(inputs, np.repeat(size, len(KNOTS)), positions)
            lines = [pchip(KNOTS, line, at) for line in known.reshape(len(rows), len(KNOTS))]
            return np.stack(lines).reshape(len(shots), len(sizes), len(at))

        return TitlePrediction(
            sizes=tuple(sizes),
            scale=scale,
            log_bpp=curves(self.regressions[0]),
            warped_quality=curves(self.regressions[1 + self.qualities.index(quality_model)]),
            residuals=residuals,
            model=self.kind,
            quality_model=quality_model,
        )


def train_rival(kind: Kind, examples: Sequence[Example], *, seed: int = 0) -> RivalModel:
    """Train a rival on the examples that the networks would be trained on.

    ``mean`` is a codec's mean curve by size and CRF over all shots and ignores the shot; ``trees``
    are gradient-boosted, monotone in CRF, and have the inputs of the networks.

    Raises:
        BadInput: ``trees`` was asked for and scikit-learn is not installed.
        ValueError: the examples are too few to train on.
    """
    ordered = sorted(examples, key=lambda e: (e.shot, e.recipe, e.width * e.height, e.crf))
    data = arrays(ordered)
    predicted = np.empty_like(data.targets)
    for out in folds(data.group):
        for column, regression in enumerate(_regressions(kind, data.only(~out), seed)):
            predicted[out, column] = regression(
                data.inputs[out], data.log2_scale[out], data.position[out]
            )
    return RivalModel(
        kind,
        _regressions(kind, data, seed),
        data.qualities,
        {
            quality: fit(title_residuals(data, predicted, number))
            for number, quality in enumerate(data.qualities)
        },
    )


def _regressions(kind: Kind, data: Data, seed: int) -> tuple[Regression, ...]:
    learn = {"mean": _mean_curve, "trees": _trees}[kind]
    regressions = []
    for target in data.targets.T:
        rows = ~np.isnan(target)
        regressions.append(learn(data.only(rows), target[rows], seed))
    return tuple(regressions)


def _mean_curve(data: Data, target: Float64, seed: int) -> Regression:
    """Fit a surface per codec: cubic in position, quadratic in size, a step at the own size."""
    of_row = _codecs(data.inputs)
    coefficients = np.zeros(
        (len(CODECS), _surface(data.log2_scale[:1], data.position[:1]).shape[1])
    )
    for codec in np.unique(of_row):
        rows = of_row == codec
        terms = _surface(data.log2_scale[rows], data.position[rows])
        weighted = terms * data.weight[rows, None]
        gram = terms.T @ weighted + RIDGE * np.eye(terms.shape[1])
        coefficients[codec] = np.linalg.solve(gram, weighted.T @ target[rows])
    return lambda inputs, size, position: np.asarray(
        (_surface(size, position) * coefficients[_codecs(inputs)]).sum(axis=1)
    )


def _codecs(inputs: Float64) -> Index:
    """Return the number in :data:`CODECS` of each row's codec."""
    columns = [INPUT_NAMES.index(f"codec_{codec}") for codec in CODECS]
    return np.asarray(inputs[:, columns].argmax(axis=1))


def _surface(size: Float64, position: Float64) -> Float64:
    own = (size > -0.01).astype(np.float64)
    by_size = np.stack([np.ones_like(size), size, size**2, own], axis=1)
    by_position = np.stack([position**power for power in range(4)], axis=1)
    return np.asarray((by_size[:, :, None] * by_position[:, None, :]).reshape(len(size), -1))


def _trees(data: Data, target: Float64, seed: int) -> Regression:
    try:
        from sklearn.ensemble import HistGradientBoostingRegressor
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise BadInput("the rival `trees` needs scikit-learn; install shotladder[dev]") from error

    inputs = np.column_stack([data.inputs, data.position])
    trees = HistGradientBoostingRegressor(
        max_iter=TREES,
        learning_rate=LEARNING_RATE,
        max_leaf_nodes=LEAVES,
        min_samples_leaf=LEAST_IN_LEAF,
        monotonic_cst=[0] * data.inputs.shape[1] + [-1],
        early_stopping=False,
        random_state=seed,
    )
    with threadpool_limits(1):
        trees.fit(inputs, target, sample_weight=data.weight)

    def regression(inputs: Float64, size: Float64, position: Float64) -> Float64:
        with threadpool_limits(1):
            return np.asarray(trees.predict(np.column_stack([inputs, position])), dtype=np.float64)

    return regression
