"""Chooses the pictures of a row: what was shown today stays, the rest is drawn by the policy of the
day, and all of it is in the ledger before it is answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import structlog

from cluster.policy.files import TrainedPolicy
from cluster.policy.ledger import Ledger
from cluster.policy.place import day_of
from cluster.policy.records import Decision, Earlier
from cluster.policy.registry import Registry
from cluster.service.decisions.ids import DecisionIds
from cluster.service.decisions.shelf import Shelf, Shelves
from encoder.arrays import Float64, Mask
from encoder.errors import BadInput, StoreUnusable
from recommender.policy import exploring
from recommender.policy.drawing import NEIGHBOURS, draw, luck_of, unlike

log = structlog.stdlib.get_logger(__name__)

_MAX_EFFECTS: Final = 20_000
"""Pools of which a policy's effects are kept in memory."""
_MAX_RACES: Final = 10
"""Times that a row is chosen while other requests of its viewer take its titles."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of titles that wants pictures."""

    request_id: str
    viewer: str
    context: Mapping[str, float]
    titles: Sequence[str]
    aspect: str
    excluded: frozenset[str]
    """Action ids that may not be shown."""
    no_spoilers: bool


@dataclass(frozen=True, slots=True)
class Chosen:
    """The picture of one title."""

    decision: Decision
    shelf: Shelf
    position: int
    """Place of the picture in its pool."""
    repeated: bool
    """True where it had been drawn before on this day."""

    @property
    def base(self) -> str:
        """Prefix of the URIs of the picture's files."""
        return self.shelf.base


@dataclass(frozen=True, slots=True)
class Answered:
    """The pictures of a row."""

    day: str
    policy: str
    chosen: list[Chosen]
    missing: dict[str, str]
    """Titles without a picture, and why."""


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """A policy that is asked for a row's pictures."""

    name: str
    policy: TrainedPolicy | None
    """None for the untrained one."""
    context: Float64
    """The row's context as the policy takes it."""


class Chooser:
    """Chooses pictures for the viewers of a service. Thread-safe."""

    def __init__(
        self,
        ledger: Ledger,
        registry: Registry,
        shelves: Shelves,
        ids: DecisionIds,
        *,
        day_starts_hour: int = 0,
    ) -> None:
        self._ledger, self._registry = ledger, registry
        self._shelves, self._ids = shelves, ids
        self._day_starts_hour = day_starts_hour
        self._effects: dict[tuple[str, str], Float64] = {}

    def choose(self, row: Row, now: float) -> Answered:
        """Choose the pictures of a row.

        Raises:
            StoreUnusable: the ledger cannot be written, or other requests of the viewer that
                exclude other pictures come faster than this one.
        """
        for _ in range(_MAX_RACES):
            answered = self._choose(row, now)
            if answered is not None:
                return answered
        raise StoreUnusable(
            "other requests of this viewer exclude other pictures at the same time; ask again"
        )

    def _choose(self, row: Row, now: float) -> Answered | None:
        """Choose the pictures of a row; None where another request of the viewer took a title
        meanwhile with a picture that this one may not show."""
        date = day_of(now, self._day_starts_hour)
        day, live = date.isoformat(), self._registry.live_on(date, self._day_starts_hour)
        asked = self._asked(live, row.context)
        shadow_name = self._registry.shadow()
        shadow = None if shadow_name is None else self._asked(shadow_name, row.context)
        viewer_day = self._ids.viewer_day(row.viewer, day)
        titles = list(dict.fromkeys(row.titles))
        known = self._ledger.of_day(viewer_day, row.aspect, titles)
        chosen: list[Chosen] = []
        missing: dict[str, str] = {}
        for slot, title in enumerate(titles):
            shelf = self._shelves.get(title)
            if shelf is None:
                missing[title] = "no_artwork"
                continue
            allowed = _allowed(shelf, row)
            if not allowed.any():
                missing[title] = "all_excluded"
                continue
            old = known.get(title)
            position = _position(old, shelf, allowed)
            if old is not None and position is not None:
                chosen.append(Chosen(old, shelf, position, True))
                continue
            chosen.append(
                self._draw(row, slot, shelf, allowed, chosen[-NEIGHBOURS:], now, day, viewer_day,
                           0 if old is None else old.redraw + 1, asked, shadow)
            )  # fmt: skip
        recorded = self._recorded(chosen, row)
        if len(recorded) < len(chosen):
            return None
        return Answered(day, asked.name, recorded, missing)

    def _draw(
        self,
        row: Row,
        slot: int,
        shelf: Shelf,
        allowed: Mask,
        before: Sequence[Chosen],
        now: float,
        day: str,
        viewer_day: str,
        redraw: int,
        live: _Asked,
        shadow: _Asked | None,
    ) -> Chosen:
        pictures = shelf.pictures
        neighbours = _looks(before, pictures.looks_model)
        seed = self._ids.digest("draw", viewer_day, pictures.title, row.aspect, str(redraw))[:16]
        probabilities = self._probabilities(live, shelf, allowed)
        drawn = draw(unlike(probabilities, pictures.looks, neighbours), luck_of(seed.encode()))
        places = np.flatnonzero(allowed)
        beside = None
        if shadow is not None:
            beside = unlike(
                self._probabilities(shadow, shelf, allowed),
                pictures.looks,
                neighbours,
            )
        decision = Decision(
            decision_id=self._ids.make(now),
            request_id=row.request_id,
            at=now,
            day=day,
            viewer_day=viewer_day,
            title=pictures.title,
            aspect=row.aspect,
            pool=pictures.pool,
            slot=slot,
            action_id=pictures.actions[drawn.index],
            propensity=drawn.propensity,
            allowed=tuple(places.tolist()),
            propensities=_rounded(drawn.probabilities[places]),
            policy=live.name,
            seed=seed,
            context=dict(row.context),
            earlier=tuple(
                Earlier(one.decision.title, one.decision.action_id, one.shelf.pictures.pool)
                for one in before
            ),
            shadow_policy=None if shadow is None else shadow.name,
            shadow_propensities=None if beside is None else _rounded(beside[places]),
            redraw=redraw,
        )
        return Chosen(decision, shelf, drawn.index, False)

    def _probabilities(self, asked: _Asked, shelf: Shelf, allowed: Mask) -> Float64:
        policy = asked.policy
        if policy is None:
            return exploring.untrained(shelf.pictures.quality, allowed)
        key = asked.name, f"{shelf.pictures.title} {shelf.pictures.pool}"
        effects = self._effects.get(key)
        if effects is None:
            effects = policy.effects.picture_effects(shelf.pictures)
            if len(self._effects) >= _MAX_EFFECTS:
                self._effects.clear()
            self._effects[key] = effects
        return exploring.trained(effects, asked.context, allowed)

    def _asked(self, name: str, context: Mapping[str, float]) -> _Asked:
        """Return a policy; the untrained one, which is logged as itself, where it is unusable."""
        try:
            policy = self._registry.policy(name)
        except BadInput as error:
            log.error("policy unusable; the untrained one decides", detail=error.message)
            name, policy = exploring.UNTRAINED, None
        scaled = np.zeros(0) if policy is None else policy.context.scaled(context)
        return _Asked(name, policy, scaled)

    def _recorded(self, chosen: list[Chosen], row: Row) -> list[Chosen]:
        """Put what was drawn into the ledger; where another request was first, take its picture,
        and leave the title out if that may not be shown."""
        new = [one.decision for one in chosen if not one.repeated]
        if not new:
            return chosen
        held = {one.title: one for one in self._ledger.add(new)}
        answered = []
        for one in chosen:
            decision = one.decision if one.repeated else held[one.decision.title]
            if decision.decision_id == one.decision.decision_id:
                answered.append(one)
                continue
            position = _position(decision, one.shelf, _allowed(one.shelf, row))
            if position is not None:
                answered.append(Chosen(decision, one.shelf, position, True))
        return answered


def _allowed(shelf: Shelf, row: Row) -> Mask:
    allowed = np.ones(len(shelf.pictures), np.bool_)
    if not row.excluded.isdisjoint(shelf.pictures.actions):
        allowed = np.array([one not in row.excluded for one in shelf.pictures.actions], np.bool_)
    if row.no_spoilers:
        allowed &= ~shelf.spoiler
    has_files = shelf.has_files.get(row.aspect)
    return allowed & has_files if has_files is not None else np.zeros_like(allowed)


def _position(decision: Decision | None, shelf: Shelf, allowed: Mask) -> int | None:
    """Return where the picture of a decision stands in the pool; None if it may not be shown."""
    if decision is None or decision.action_id not in shelf.pictures.actions:
        return None
    position = shelf.pictures.actions.index(decision.action_id)
    return position if allowed[position] else None


def _looks(before: Sequence[Chosen], model: str) -> list[Float64]:
    """Return the embeddings of the pictures drawn before, of one model."""
    return [
        one.shelf.pictures.looks[one.position]
        for one in before
        if one.shelf.pictures.looks is not None and one.shelf.pictures.looks_model == model
    ]


def _rounded(probabilities: Float64) -> tuple[float, ...]:
    return tuple(probabilities.astype(np.float32).tolist())
