"""Clusters of stills that show similar things, and a choice that covers all clusters.

Clusters follow from distances of embeddings, in one pass over the stills in order of time and a few
rounds of Lloyd's algorithm. This takes linear time and gives the same result on every machine. The
choice is greedy by quality and by distance to the stills chosen before (maximal marginal
relevance). It begins with the portraits that a title may begin with, if it has any, and then takes
one still of every cluster before a second one of any.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from encoder.arrays import Float32, Int64, Mask
from recommender.artwork.descriptors import SAME_SCENE, distances, hash_distance

DIVERSITY_VERSION: Final = 3
"""Part of the store keys. Raise it when clusters or choices change."""

DUPLICATE_BITS: Final = 10
"""Number of differing bits up to which perceptual hashes mean the same picture."""
DUPLICATE_DISTANCE: Final = 0.10
"""Distance below which embeddings mean the same picture."""

_ROUNDS = 4
_MIN_MEMBERS = 3
_DISTANCE_WEIGHT = 0.4
_SHARE_WEIGHT = 0.15
_FRESH_WEIGHT = 0.15
_MIN_OF_USUAL = 0.6
_LEADS = 3
_APPEAL_WEIGHT, _AGAIN_WEIGHT = 0.5, 0.25
# With a smaller difference than usual, a portrait is still better than what is no portrait.
_ENOUGH_UNLIKE = 0.6
_SITTER_WEIGHT, _MOST_REPEATS = 0.08, 3
_SHOT_WEIGHT, _FEW_OF_A_SHOT = 0.08, 2


def cluster(embeddings: Float32, max_clusters: int, radius: float = SAME_SCENE) -> Int64:
    """Return the cluster number (n,) of each of (n, size) embeddings.

    Clusters are numbered 0, 1, ... by their first members. If there are more scenes than
    ``max_clusters``, the radius grows until they fit.
    """
    if not len(embeddings):
        return np.zeros(0, np.int64)
    while True:
        centres = _leaders(embeddings, radius, max_clusters)
        if centres is not None:
            break
        radius *= 1.15
    min_members = min(_MIN_MEMBERS, -(-len(embeddings) // 4))
    for _ in range(_ROUNDS):
        labels = _nearest(embeddings, centres)
        used, members = np.unique(labels, return_counts=True)
        # Fewer members are no scene but a flash, or somebody passing by.
        used = used[members >= min(min_members, members.max())]
        centres = np.stack([embeddings[labels == label].mean(axis=0) for label in used])
    labels = _nearest(embeddings, centres)
    _, first = np.unique(labels, return_index=True)
    order = {int(labels[at]): number for number, at in enumerate(sorted(first))}
    return np.array([order[int(label)] for label in labels], np.int64)


def _leaders(embeddings: Float32, radius: float, limit: int) -> Float32 | None:
    """Return embeddings farther than ``radius`` from each other; None if more than ``limit``."""
    leaders = embeddings[:1]
    for row in embeddings[1:]:
        if float(distances(row, leaders).min()) > radius:
            if len(leaders) == limit:
                return None
            leaders = np.vstack([leaders, row])
    return leaders


def _nearest(embeddings: Float32, centres: Float32) -> Int64:
    squares = np.square(centres).sum(axis=1) - 2 * embeddings @ centres.T
    return np.asarray(squares.argmin(axis=1), np.int64)


def is_duplicate(hash_: int, other: int, distance: float) -> bool:
    """Tell whether two stills look the same: by their hashes, or by their embeddings' distance."""
    return hash_distance(hash_, other) <= DUPLICATE_BITS or distance < DUPLICATE_DISTANCE


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """Who is in the stills of a title that shows people."""

    sitters: Int64
    """Number of the person who is shown, -1 for nobody, (n,)."""
    leads: Float32
    """Appeal of the portraits with which the choice may begin, 0 for all other stills, (n,)."""
    unlike: Callable[[int, int], float]
    """How unlike the faces of two stills are; from 1 on, they are two pictures."""


def choose(
    quality: Float32,
    labels: Int64,
    hashes: Sequence[int],
    embeddings: Float32,
    size: int,
    reserve: Mask | None = None,
    shots: Int64 | None = None,
    shown: Shown | None = None,
    least: int = 1,
) -> list[int]:
    """Choose up to ``size`` stills, best first: one of every cluster, then a second one, and so on.

    Where people are shown, up to three portraits come before that. Duplicates are skipped, unless
    there would be fewer than ``least`` stills. If there are any stills, at least one is chosen.

    Args:
        quality: quality of each still, about 0 to 1, (n,).
        labels: cluster of each still, (n,). Large clusters count a little more, because they say
            more about the title.
        hashes: perceptual hashes, (n,).
        embeddings: embeddings, (n, size).
        size: how many stills to choose at most.
        reserve: stills that are chosen only if their cluster has no others, and last, (n,).
        shots: shot of each still, (n,). Shots without a chosen still count a little more.
        shown: who is shown; None if nobody is.
        least: how many stills to choose at least, as far as there are as many.
    """
    if len(quality) == 0 or size < 1:
        return []
    choice = _Choice(quality, labels, hashes, embeddings, reserve, shots, shown)
    if shown is not None:
        for unlike in (1.0, _ENOUGH_UNLIKE):
            while len(choice.chosen) < min(size, _LEADS) and choice.lead(shown.leads, unlike):
                pass
    while len(choice.chosen) < size and choice.free.any():
        turn = choice.turn()
        choice.take_of(turn, turn[choice.free].min())
    choice.fill(min(least, size))
    return choice.chosen


class _Choice:
    """A choice in the making."""

    def __init__(
        self,
        quality: Float32,
        labels: Int64,
        hashes: Sequence[int],
        embeddings: Float32,
        reserve: Mask | None,
        shots: Int64 | None,
        shown: Shown | None,
    ) -> None:
        count = len(quality)
        self.chosen: list[int] = []
        self.free = np.ones(count, bool)
        self._labels, self._hashes, self._embeddings = labels, hashes, embeddings
        self._reserved = np.zeros(count, bool) if reserve is None else reserve
        self._shots, self._shown = shots, shown
        self._worth = quality + _SHARE_WEIGHT * np.sqrt(np.bincount(labels)[labels] / count)
        self._poor = quality < _MIN_OF_USUAL * float(np.median(quality))
        self._nearest = np.full(count, np.inf, np.float32)
        self._taken = np.zeros(int(labels.max()) + 1, np.int64)
        self._fresh = np.ones(count, bool)

    def turn(self) -> Int64:
        """Return when each still's cluster is on: those with the fewest chosen stills first."""
        late = np.where(self._reserved, len(self._labels), 0)
        return np.asarray(self._taken[self._labels] + late, np.int64)

    def take_of(self, turn: Int64, now: int) -> None:
        """Take the best still whose turn it is now, or close the turn."""
        # The first still of a cluster may be poor, further ones may not.
        usable = (self._taken[self._labels] == 0) | ~(self._reserved | self._poor)
        if not self.take((turn == now) & usable):
            self.free &= turn != now

    def lead(self, appeal: Float32, unlike: float) -> bool:
        """Take the best portrait, of a scene that has none if there is one; tell whether it did.

        Portraits that are as ``unlike`` as this are no duplicates. None is dropped here: what is
        too like the first ones may still come later.
        """
        again = self._taken[self._labels] > 0
        value = self._value() + _APPEAL_WEIGHT * appeal - _AGAIN_WEIGHT * again
        for at in np.argsort(-value, kind="stable"):
            if appeal[at] > 0 and self.free[at] and not self._is_duplicate(int(at), unlike):
                self._add(int(at))
                return True
        return False

    def take(self, allowed: Mask) -> bool:
        """Take the best of the allowed stills that is no duplicate; tell whether there was one."""
        value = self._value()
        while (left := self.free & allowed).any():
            best = int(np.argmax(np.where(left, value, -np.inf)))
            self.free[best] = False
            if not self._is_duplicate(best):
                self._add(best)
                return True
        return False

    def fill(self, least: int) -> None:
        """Take duplicates too, those that differ most, until there are as many as asked for."""
        left = np.ones(len(self._labels), bool)
        left[self.chosen] = False
        while len(self.chosen) < least and left.any():
            differs = np.array(
                [
                    min(self._difference(at, other) for other in self.chosen)
                    for at in range(len(left))
                ]
            )
            value = self._worth + differs - np.where(self._reserved, len(left), 0)
            best = int(np.argmax(np.where(left, value, -np.inf)))
            left[best] = False
            self._add(best)

    def _value(self) -> Float32:
        value = self._worth + _DISTANCE_WEIGHT * np.minimum(1, self._nearest)
        value = value + _FRESH_WEIGHT * self._fresh
        if self._shown is not None and self.chosen:
            sitters, of = self._shown.sitters, self._shown.sitters[self.chosen]
            times = (sitters[:, None] == of).sum(axis=1) * (sitters >= 0)
            value = value - _SITTER_WEIGHT * np.minimum(_MOST_REPEATS, times)
            if self._shots is not None:
                times = (self._shots[:, None] == self._shots[self.chosen]).sum(axis=1)
                value = value - _SHOT_WEIGHT * np.maximum(0, times - _FEW_OF_A_SHOT + 1)
        return np.asarray(value, np.float32)

    def _is_duplicate(self, at: int, unlike: float = 1.0) -> bool:
        apart = distances(self._embeddings[at], self._embeddings[self.chosen])
        return any(
            is_duplicate(self._hashes[at], self._hashes[other], float(distance))
            and not (self._shown is not None and self._shown.unlike(at, other) >= unlike)
            for other, distance in zip(self.chosen, apart, strict=True)
        )

    def _difference(self, at: int, other: int) -> float:
        """Return how much two stills differ at a glance, 0 to about 3."""
        bits = hash_distance(self._hashes[at], self._hashes[other]) / DUPLICATE_BITS
        face = self._shown.unlike(at, other) if self._shown is not None else 0.0
        # Of a picture that never changes, those farthest apart in time.
        apart = abs(at - other) / len(self._labels)
        return min(1.0, bits) + min(1.0, face) + apart

    def _add(self, at: int) -> None:
        self.chosen.append(at)
        self.free[at] = False
        if self._shots is not None:
            self._fresh &= self._shots != self._shots[at]
        self._taken[self._labels[at]] += 1
        self._nearest = np.minimum(self._nearest, distances(self._embeddings[at], self._embeddings))
