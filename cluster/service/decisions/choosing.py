"""Chooses the pictures of a row: what was shown today stays, the rest is drawn by the policy of the
day, and all of it is in the ledger before it is answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt
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

_Number = TypeVar("_Number", bound=np.generic)
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


@dataclass(frozen=True, slots=True, eq=False)
class _Open:
    """A slot whose picture has to be drawn."""

    slot: int
    shelf: Shelf
    allowed: Mask
    redraw: int
    """How often its picture was drawn before on this day."""


@dataclass(frozen=True, slots=True, eq=False)
class _Drawing:
    """What all slots of a row are drawn by."""

    row: Row
    now: float
    day: str
    viewer_day: str
    live: _Asked
    shadow: _Asked | None


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
        viewer_day = self._ledger.known_as(self._ids.viewer_days(row.viewer, day))
        titles = list(dict.fromkeys(row.titles))
        known = self._ledger.of_day(viewer_day, row.aspect, titles)
        slots: list[Chosen | _Open] = []
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
                slots.append(Chosen(old, shelf, position, True))
            else:
                slots.append(_Open(slot, shelf, allowed, 0 if old is None else old.redraw + 1))
        chosen = self._drawn(_Drawing(row, now, day, viewer_day, asked, shadow), slots)
        recorded = self._recorded(chosen, row)
        if len(recorded) < len(chosen):
            return None
        return Answered(day, asked.name, recorded, missing)

    def _drawn(self, drawing: _Drawing, slots: Sequence[Chosen | _Open]) -> list[Chosen]:
        """Draw the pictures of a row one after the other; those of ``slots`` that are chosen
        already stay."""
        opened = [slot for slot in slots if isinstance(slot, _Open)]
        live = iter(self._probabilities(drawing.live, opened))
        beside = iter(() if drawing.shadow is None else self._probabilities(drawing.shadow, opened))
        chosen: list[Chosen] = []
        for slot in slots:
            if isinstance(slot, _Open):
                before = chosen[-NEIGHBOURS:]
                slot = self._draw(drawing, slot, before, next(live), next(beside, None))
            chosen.append(slot)
        return chosen

    def _draw(
        self,
        drawing: _Drawing,
        slot: _Open,
        before: Sequence[Chosen],
        live: Float64,
        beside: Float64 | None,
    ) -> Chosen:
        """Draw a picture by the live policy's probabilities, given those before it; the shadow's
        are logged."""
        row, shadow = drawing.row, drawing.shadow
        pictures = slot.shelf.pictures
        neighbours = _looks(before, pictures.looks_model)
        of_draw = (drawing.viewer_day, pictures.title, row.aspect, str(slot.redraw))
        seed = self._ids.digest("draw", *of_draw)[:16]
        drawn = draw(unlike(live, pictures.looks, neighbours), luck_of(seed.encode()))
        places = slot.allowed.nonzero()[0]
        if beside is not None:
            beside = unlike(beside, pictures.looks, neighbours)[places]
        decision = Decision(
            decision_id=self._ids.make(drawing.now),
            request_id=row.request_id,
            at=drawing.now,
            day=drawing.day,
            viewer_day=drawing.viewer_day,
            title=pictures.title,
            aspect=row.aspect,
            pool=pictures.pool,
            slot=slot.slot,
            action_id=pictures.actions[drawn.index],
            propensity=drawn.propensity,
            allowed=tuple(places.tolist()),
            propensities=_rounded(drawn.probabilities[places]),
            policy=drawing.live.name,
            seed=seed,
            context=dict(row.context),
            earlier=tuple(
                Earlier(one.decision.title, one.decision.action_id, one.shelf.pictures.pool)
                for one in before
            ),
            shadow_policy=None if shadow is None else shadow.name,
            shadow_propensities=None if beside is None else _rounded(beside),
            redraw=slot.redraw,
        )
        return Chosen(decision, slot.shelf, drawn.index, False)

    def _probabilities(self, asked: _Asked, slots: Sequence[_Open]) -> list[Float64]:
        """Return a policy's probabilities of each slot's pictures, (pictures,) each: computed for
        all of the row at once, since of a few dozen numbers each step takes longer than its sum."""
        if not slots:
            return []
        allowed = _padded([slot.allowed for slot in slots])
        if asked.policy is None:
            quality = _padded([slot.shelf.pictures.quality for slot in slots])
            chances = exploring.untrained(quality, allowed)
        else:
            effects = _padded([self._effects_of(asked.name, asked.policy, s.shelf) for s in slots])
            chances = exploring.trained(effects, asked.context, allowed)
        return [chance[: len(slot.allowed)] for chance, slot in zip(chances, slots, strict=True)]

    def _effects_of(self, name: str, policy: TrainedPolicy, shelf: Shelf) -> Float64:
        """Return what a policy expects of the pictures of a pool, (pictures, 1 + context)."""
        key = name, f"{shelf.pictures.title} {shelf.pictures.pool}"
        effects = self._effects.get(key)
        if effects is None:
            effects = policy.effects.picture_effects(shelf.pictures)
            if len(self._effects) >= _MAX_EFFECTS:
                self._effects.clear()
            self._effects[key] = effects
        return effects

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
    return shelf.allowed(row.aspect, row.excluded, no_spoilers=row.no_spoilers)


def _padded(arrays: Sequence[npt.NDArray[_Number]]) -> npt.NDArray[_Number]:
    """Return arrays of different lengths as one, with zeros behind the shorter ones."""
    longest = max(len(array) for array in arrays)
    padded = np.zeros((len(arrays), longest, *arrays[0].shape[1:]), arrays[0].dtype)
    for row, array in zip(padded, arrays, strict=True):
        row[: len(array)] = array
    return padded


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
