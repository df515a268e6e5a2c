"""Made-up viewers of given pools: how fast a policy would learn, before anybody is shown anything.

What is assumed, all of it: viewers have a hidden taste of four numbers; a policy sees six context
numbers, a random mixture of the taste plus noise. The chance that a viewer takes a title is
logistic: a base, the title's popularity, and the worth of the picture, of which four fifths are
linear in its features (a part for everybody and a part by taste) and one fifth is its own. Within a
title that worth has the standard deviation ``effect`` over pictures and viewers. Visits show a row
of titles, all as likely. Outcomes are known within the hour, policies learn every hour, and nothing
drifts. The rates are true probabilities, so they have no noise of outcomes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from encoder.arrays import AnyArray, Float64
from recommender.policy import exploring
from recommender.policy.drawing import NEIGHBOURS, draw, unlike
from recommender.policy.learning import Learner
from recommender.policy.trials import Pictures, Trials, centred

TASTES, CONTEXT, VIEWERS, ROW = 4, 6, 500, 20
POLICIES: Final = ("uniform", "untrained", "trained", "best")
"""Even choices; the policy without training; the one that learns; the best picture for each viewer,
which nobody knows."""


@dataclass(frozen=True, slots=True)
class Simulated:
    """What a policy would have earned."""

    policy: str
    rates: tuple[float, ...]
    """Share of the shown titles that were taken, by day."""
    mean_weight: float
    """Mean of 1 / (pictures x propensity): 1 where the log can be used again."""


@dataclass(frozen=True, slots=True)
class World:
    """How viewers are."""

    base_rate: float = 0.05
    """Share of titles that is taken with an average picture."""
    effect: float = 0.5
    """Standard deviation of a picture's worth, on the scale of logits."""
    visits: int = 200
    """Visits a day, of a row of titles each."""
    days: int = 14
    seed: int = 1


def simulate(pools: Sequence[Pictures], world: World, policy: str) -> Simulated:
    """Return what one of :data:`POLICIES` would have earned. The same seed has the same viewers.

    Raises:
        ValueError: there is no such policy, or no pool has two pictures.
    """
    if policy not in POLICIES:
        raise ValueError(f"there is no policy {policy!r}; choose one of {', '.join(POLICIES)}")
    truth = _Truth(pools, world)
    if policy in ("uniform", "best"):
        return _known(truth, world, policy)
    luck = np.random.default_rng([world.seed, 3])
    learner: Learner | None = None
    effects: dict[str, Float64] = {}
    rates, weights = [], []
    for _ in range(world.days):
        chances_of_day: list[float] = []
        for _ in range(24):
            shown: list[tuple[Pictures, int, Float64, float]] = []
            for viewer, row in truth.visits(world.visits / 24):
                before: list[Float64] = []
                for at in row:
                    pictures, context = truth.pools[at], truth.context[viewer]
                    allowed = np.ones(len(pictures), np.bool_)
                    if learner is None:
                        chances = exploring.untrained(pictures.quality, allowed)
                    else:
                        if pictures.title not in effects:
                            effects[pictures.title] = learner.best.picture_effects(pictures)
                        chances = exploring.trained(effects[pictures.title], context, allowed)
                    given = unlike(chances, pictures.looks, before[-NEIGHBOURS:])
                    drawn = draw(given, luck.random())
                    if pictures.looks is not None:
                        before.append(pictures.looks[drawn.index])
                    chance = float(truth.chances(viewer, at)[drawn.index])
                    chances_of_day.append(chance)
                    weights.append(1 / (len(pictures) * drawn.propensity))
                    shown.append((pictures, drawn.index, context, float(luck.random() < chance)))
            if shown and policy == "trained":
                if learner is None:
                    learner = Learner.untrained(pools[0].features.shape[1], CONTEXT)
                learner.learn(_trials(shown))
                effects.clear()
        rates.append(float(np.mean(chances_of_day)) if chances_of_day else float("nan"))
    return Simulated(policy, tuple(rates), float(np.mean(weights)))


def made_up_pools(titles: int, pictures: int, num_features: int, seed: int) -> list[Pictures]:
    """Return pools of pictures that resemble one another within a title."""
    rng = np.random.default_rng([seed, 9])
    return [
        Pictures(
            title=f"title-{number}",
            pool=f"title-{number}",
            actions=tuple(f"{number}-{one}" for one in range(pictures)),
            features=centred(rng.normal(size=(pictures, num_features))),
            quality=rng.random(pictures),
        )
        for number in range(titles)
    ]


class _Truth:
    """The viewers and what they like."""

    def __init__(self, pools: Sequence[Pictures], world: World) -> None:
        rng = np.random.default_rng([world.seed, 1])
        self.pools = list(pools)
        self._rng = np.random.default_rng([world.seed, 2])
        self.taste = rng.normal(size=(VIEWERS, TASTES))
        mixing = rng.normal(size=(TASTES, CONTEXT)) / TASTES**0.5
        self.context = self.taste @ mixing + 0.4 * rng.normal(size=(VIEWERS, CONTEXT))
        size = pools[0].features.shape[1]
        # Columns: what everybody likes, then what each taste likes; the first weighs as the rest.
        likes = rng.normal(size=(size, 1 + TASTES)) * np.r_[1.0, np.full(TASTES, TASTES**-0.5)]
        linear = [pictures.features @ likes for pictures in pools]
        spread = np.concatenate(linear).var(axis=0).sum() ** 0.5
        if not spread > 0:
            raise ValueError("no pool has two pictures that differ; give pools of two or more")
        own = np.r_[1.0, np.full(TASTES, TASTES**-0.5)] / 2**0.5
        base = np.log(world.base_rate / (1 - world.base_rate))
        self._worth = [
            world.effect * (0.8**0.5 * part / spread
                            + 0.2**0.5 * own * rng.normal(size=part.shape))
            for part in linear
        ]  # fmt: skip
        self._level = base + 0.3 * rng.normal(size=len(pools))

    def visits(self, expected: float) -> list[tuple[int, AnyArray]]:
        """Return the viewers of an hour, each with the places of a row's titles."""
        count = min(ROW, len(self.pools))
        return [
            (int(self._rng.integers(VIEWERS)),
             self._rng.choice(len(self.pools), count, replace=False))
            for _ in range(self._rng.poisson(expected))
        ]  # fmt: skip

    def chances(self, viewer: int, at: int) -> Float64:
        """Return the chances that a viewer takes a title, by the picture shown, (pictures,)."""
        logits = self._level[at] + self._worth[at] @ np.r_[1.0, self.taste[viewer]]
        return np.asarray(1 / (1 + np.exp(-logits)), np.float64)


def _known(truth: _Truth, world: World, policy: str) -> Simulated:
    """Return what a policy earns that does not learn, over all viewers and titles."""
    summary = np.mean if policy == "uniform" else np.max
    rates = [
        float(summary(truth.chances(viewer, at)))
        for viewer in range(0, VIEWERS, 5)
        for at in range(len(truth.pools))
    ]
    weight = 1.0 if policy == "uniform" else float(
        np.mean([1 / len(pictures) for pictures in truth.pools])
    )  # fmt: skip
    return Simulated(policy, (float(np.mean(rates)),) * world.days, weight)


def _trials(shown: Sequence[tuple[Pictures, int, Float64, float]]) -> Trials:
    return Trials(
        tuple(pictures.title for pictures, *_ in shown),
        tuple(pictures.actions[index] for pictures, index, *_ in shown),
        np.array([pictures.features[index] for pictures, index, *_ in shown]),
        np.array([context for _, _, context, _ in shown]),
        np.array([taken for *_, taken in shown]),
    )
