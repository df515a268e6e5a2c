"""Learns effects from batches of trials, and finds out how strong effects are expected to be.

How much pictures matter differs between services by a factor of three. Two learners start, one that
expects strong effects and one that expects weak ones. After :data:`SETTLED` trials, the one stays
that has predicted better what came (prequential loss: every trial is predicted before it is learned
from, so nothing is judged by what it has seen).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from recommender.policy.effects import Effects, Priors
from recommender.policy.trials import Trials

SCALES: Final = (1.0, 0.4)
"""Factors on the prior deviations of what features and pictures do."""
SETTLED: Final = 20_000
"""Trials after which one of the scales is kept."""


@dataclass(slots=True)
class Learner:
    """Effects that are being learned."""

    candidates: list[Effects] = field(default_factory=list)
    """One for each scale; a single one once that is settled."""

    @staticmethod
    def untrained(num_features: int, num_context: int, priors: Priors | None = None) -> Learner:
        """Return what knows nothing."""
        starts = [scaled(priors or Priors(), scale) for scale in SCALES]
        return Learner([Effects.untrained(num_features, num_context, start) for start in starts])

    @property
    def best(self) -> Effects:
        """The effects that predicted best so far."""
        return min(self.candidates, key=lambda effects: effects.loss)

    def learn(self, trials: Trials, *, days: float = 1 / 24) -> None:
        """Absorb a batch, the time since the last one being ``days``."""
        for effects in self.candidates:
            effects.learn(trials, days=days)
        if len(self.candidates) > 1 and self.best.seen >= SETTLED:
            self.candidates = [self.best]


def scaled(priors: Priors, scale: float) -> Priors:
    """Return priors that expect effects of features and pictures ``scale`` times as strong."""
    return replace(
        priors,
        feature=scale * priors.feature,
        feature_context=scale * priors.feature_context,
        picture=scale * priors.picture,
        picture_context=scale * priors.picture_context,
    )
