"""The product's policy and estimator as plugs of the simulators in ``../shared/sim``.

::

    python ../shared/sim/artwork_sim.py --policy tests/policy_plugs.py:Policy
    python ../shared/sim/artwork_sim.py --ope --logs 400 --estimator tests/policy_plugs.py:dr
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recommender.policy import drawing, estimates, exploring
from recommender.policy.learning import Learner
from recommender.policy.trials import Pictures, Trials, centred


class Policy:
    """The policy that is shown, as the service runs it: untrained first, then learning hourly.

    The simulator's pictures have no looks, so neighbours in a row are not told apart.
    """

    def __init__(self) -> None:
        self.learner: Learner | None = None
        self.known: dict[int, Pictures] = {}
        self.worth: dict[int, Any] = {}

    def decide(self, context: Any, pool: Any, rng: Any) -> tuple[int, float]:
        pictures, everything = self.pictures(pool), np.ones(len(pool.actions), np.bool_)
        if self.learner is None:
            probabilities = exploring.untrained(pictures.quality, everything)
        else:
            if pool.title not in self.worth:
                self.worth[pool.title] = self.learner.best.picture_effects(pictures)
            probabilities = exploring.trained(self.worth[pool.title], context, everything)
        drawn = drawing.draw(probabilities, rng.random())
        return drawn.index, drawn.propensity

    def learn(self, batch: Any) -> None:
        if self.learner is None:
            first = batch[0]
            self.learner = Learner.untrained(first.pool.features.shape[1], len(first.context))
        self.learner.learn(self.trials(batch))
        self.worth.clear()

    def trials(self, batch: Any) -> Trials:
        pictures = [self.pictures(outcome.pool) for outcome in batch]
        pairs = list(zip(pictures, batch, strict=True))
        return Trials(
            titles=tuple(one.title for one in pictures),
            actions=tuple(one.actions[outcome.index] for one, outcome in pairs),
            features=np.array([one.features[outcome.index] for one, outcome in pairs]),
            context=np.array([outcome.context for outcome in batch]),
            rewards=np.array([float(outcome.reward) for outcome in batch]),
        )

    def pictures(self, pool: Any) -> Pictures:
        if pool.title not in self.known:
            quality = pool.features[:, -1]
            self.known[pool.title] = Pictures(
                title=str(pool.title),
                pool=str(pool.title),
                actions=tuple(map(str, pool.actions.tolist())),
                features=centred(pool.features),
                # A percentile within the title, as the quality of a pool is.
                quality=(np.argsort(np.argsort(quality)) + 0.5) / len(quality),
            )
        return self.known[pool.title]


def judged(log: Any, target: Any) -> estimates.Judged:
    """A log of the simulator as the estimators take it; a row is a viewer and day."""
    chances = [target(out.context, out.pool) for out in log]
    context = np.array([out.context for out in log])
    shown = np.array([out.pool.features[out.index] for out in log])
    expected = np.array(
        [chance @ out.pool.features for chance, out in zip(chances, log, strict=True)]
    )
    return estimates.Judged(
        rewards=np.array([float(out.reward) for out in log]),
        weights=np.array(
            [chance[out.index] / out.propensity for chance, out in zip(chances, log, strict=True)]
        ),
        clusters=np.array([out.row for out in log]),
        shown=estimates.crossed(shown, context),
        expected=estimates.crossed(expected, context),
    )


def dr(log: Any, target: Any) -> tuple[float, float, float]:
    return _answer(estimates.estimate(judged(log, target))[2])


def snips(log: Any, target: Any) -> tuple[float, float, float]:
    return _answer(estimates.estimate(judged(log, target))[1])


def ips(log: Any, target: Any) -> tuple[float, float, float]:
    return _answer(estimates.estimate(judged(log, target))[0])


def _answer(found: estimates.Estimate) -> tuple[float, float, float]:
    return found.interval.mean, found.interval.low, found.interval.high
