"""Reads the log: decisions of some hours, each with what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from cluster.policy.place import Place, hour_end
from cluster.policy.pools import read_pool
from cluster.policy.records import Decision, Outcome, decisions_of, outcomes_of
from encoder.arrays import Float64, Mask
from encoder.errors import BadInput
from recommender.policy.trials import Pictures


@dataclass(frozen=True, slots=True)
class Tried:
    """A picture that was on the screen, and whether the title was taken."""

    decision: Decision
    pictures: Pictures
    reward: float

    @property
    def position(self) -> int:
        """Place of the picture in its pool."""
        return self.pictures.actions.index(self.decision.action_id)

    def allowed(self) -> Mask:
        """Return which pictures could be shown, (pictures,)."""
        allowed = np.zeros(len(self.pictures), np.bool_)
        allowed[list(self.decision.allowed)] = True
        return allowed

    def logged(self) -> Float64:
        """Return the probabilities that the pictures were drawn by, (pictures,)."""
        chances = np.zeros(len(self.pictures))
        chances[list(self.decision.allowed)] = self.decision.propensities
        return chances


class Logbook:
    """The hours of a place's log."""

    def __init__(self, place: Place, *, min_minutes: float = 0.0) -> None:
        """Read outcomes; a title counts as taken if it was played for ``min_minutes`` or more."""
        self.place = place
        self._min_minutes = min_minutes
        self._outcomes = merged(
            [
                outcome
                for path in sorted(place.outcomes.glob("*.parquet"))
                for outcome in outcomes_of(pq.read_table(path))
            ]
        )
        self._pools: dict[tuple[str, str], Pictures] = {}

    def hours(self, *, until: float = float("inf")) -> list[str]:
        """Return the hours of decisions that ended before ``until``, the oldest first."""
        paths = sorted(self.place.decisions.glob("*.parquet"))
        return [path.stem for path in paths if hour_end(path.stem) <= until]

    def decisions(self, hour: str) -> list[Decision]:
        """Return the decisions of an hour.

        Raises:
            BadInput: the hour is not in the log.
        """
        path: Path = self.place.decisions / f"{hour}.parquet"
        try:
            return decisions_of(pq.read_table(path))
        except FileNotFoundError:
            raise BadInput(
                f"the log has no hour {hour}; its hours are files in {path.parent}"
            ) from None

    def tried(self, hours: Sequence[str]) -> list[Tried]:
        """Return the decisions of hours that were on the screen, in the order of the log. A picture
        that was not on the screen was not tried."""
        found = []
        for hour in hours:
            for decision in self.decisions(hour):
                outcome = self._outcomes.get(decision.decision_id)
                if outcome is not None and outcome.shown:
                    taken = outcome.played and outcome.minutes >= self._min_minutes
                    found.append(Tried(decision, self.pictures(decision), float(taken)))
        return found

    def pictures(self, decision: Decision) -> Pictures:
        """Return the pool that a decision was made from.

        Raises:
            BadInput: its features are missing.
        """
        return self.pool(decision.pool, decision.title)

    def pool(self, pool: str, title: str) -> Pictures:
        """Return a pool; errors are those of :meth:`pictures`."""
        if (pool, title) not in self._pools:
            self._pools[pool, title] = read_pool(self.place.pools, pool, title)
        return self._pools[pool, title]

    def neighbours(self, one: Tried) -> list[Float64]:
        """Return the embeddings of the pictures that a draw was given."""
        found = []
        for earlier in one.decision.earlier:
            pictures = self.pool(earlier.pool, earlier.title)
            if pictures.looks is not None and pictures.looks_model == one.pictures.looks_model:
                found.append(pictures.looks[pictures.actions.index(earlier.action_id)])
        return found


def merged(outcomes: Sequence[Outcome]) -> dict[str, Outcome]:
    """Return what became of each decision: of every field, the most that was reported."""
    found: dict[str, Outcome] = {}
    for new in outcomes:
        old = found.get(new.decision_id)
        if old is not None:
            new = Outcome(
                new.decision_id,
                min(old.at, new.at),
                max(old.received, new.received),
                old.shown or new.shown,
                max(old.seen_seconds, new.seen_seconds),
                old.played or new.played,
                max(old.minutes, new.minutes),
            )
        found[new.decision_id] = new
    return found
