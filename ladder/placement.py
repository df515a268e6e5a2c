"""Where rungs serve an audience best: an exact choice among candidates by dynamic programming.

A ladder is a path through candidate points of a title's curve, lowest first. What an audience
receives from it is a sum over neighbouring rungs: the viewers who can afford the one and not the
next play the one. So is what viewers lose against a reference ladder. The best path therefore is a
shortest path, found over all candidates and numbers of rungs (Toni et al., "Optimal selection of
adaptive streaming representations", ACM TOMM 11, 2015, solve the same choice as an integer program
for many titles together).

Loss comes first, bits second: of the ladders on which viewers lose least beyond the tolerance, the
one whose viewers receive the fewest bits is taken. Where the objective is quality, a point of it is
worth a number of bits, which is found so that the audience receives as many bits as from the
reference ladder.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from encoder.arrays import Float64, Mask
from ladder.viewers import Audience, Offer, playable

Objective = Literal["fewest-bits", "most-quality"]

LOSS_PRICE = 1e9
"""Price of a point of quality that all viewers lose, as a multiple of the highest candidate's rate:
any loss that is more than rounding outweighs all bits."""
FORBIDDEN = math.inf
PRICE_STEPS = 12
"""Bisections of the price of quality for the objective of quality."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a placed ladder has to keep."""

    objective: Objective = "fewest-bits"
    tolerance: float = 0.5
    """Points of quality that a viewer may lose against the reference ladder."""
    counts: tuple[int, int] = (1, 16)
    """Fewest and most rungs."""
    least_ratio: float = 1.1
    """Ratio of the rates of neighbouring rungs at least."""
    most_ratio: float = math.inf
    """Ratio of the rates of neighbouring rungs at most, as far as candidates allow."""
    most_step: float = math.inf
    """Points of quality between neighbouring rungs at most, as far as candidates allow."""
    merge_ratio: float = 1.0
    """Ratio of rates from which on neighbouring rungs are apart, however alike they look."""
    merge_step: float = 0.0
    """Points of quality from which on neighbouring rungs are apart, whatever their rates are."""
    top_lines: int = 0
    """Lines that the highest rung has at least, as far as candidates allow."""


def shortcomings(rungs: Sequence[Offer], rules: Rules, stretch: float = 1.0) -> int:
    """Return how many rungs a ladder lacks to the fewest, plus how many of its steps are larger
    than ``stretch`` times the largest, plus one where its highest rung has too few lines."""
    too_large = [
        high.rate > low.rate * rules.most_ratio**stretch
        or high.quality > low.quality + rules.most_step * stretch
        for low, high in itertools.pairwise(rungs)
    ]
    too_small = bool(rungs) and rungs[-1].lines < rules.top_lines
    return max(0, rules.counts[0] - len(rungs)) + sum(map(int, too_large)) + too_small


class Placement(NamedTuple):
    """The chosen candidates."""

    chosen: tuple[int, ...]
    """Numbers of the candidates, ascending."""
    lost: float
    """Points of quality that viewers lose beyond the tolerance, as a mean over all viewers."""
    received: float
    """Rate in bit/s that viewers receive, as a mean over all viewers."""
    quality: float
    """Quality that viewers see, as a mean over all viewers."""


def place(
    candidates: Sequence[Offer],
    reference: Sequence[Offer],
    audience: Audience,
    rules: Rules,
) -> Placement:
    """Return the candidates that serve the audience best.

    Args:
        candidates: Rungs that a ladder could have, by ascending rate. A ladder's lines never fall.
        reference: The ladder that no viewer may lose against, by ascending rate.
        audience: The viewers.
        rules: What to keep; the number of rungs gives way where the gaps between candidates make
            it impossible, the largest steps and the lines of the highest rung where they leave no
            way.
    """
    problem = _Problem(candidates, reference, audience, rules)
    if rules.objective == "fewest-bits":
        return problem.best(0.0)
    budget = _received_bits(reference, audience)
    best = problem.best(0.0)
    low, high = 0.0, candidates[-1].rate  # bits for a point of quality
    for _ in range(PRICE_STEPS):
        price = (low + high) / 2
        tried = problem.best(price)
        if tried.received <= budget:
            best, low = tried, price
        else:
            high = price
    return best


def _received_bits(rungs: Sequence[Offer], audience: Audience) -> float:
    """Return the mean rate in bit/s that an audience receives from ascending rungs."""
    mean = 0.0
    for lines, of_devices in audience.devices:
        plays = playable(rungs, lines)
        below = [0.0, *(audience.below(rung.rate) for rung in plays[1:]), 1.0]
        shares = np.diff(below) * of_devices
        mean += float(sum(share * rung.rate for share, rung in zip(shares, plays, strict=True)))
    return mean


class _Problem:
    """All costs of going from one candidate to the next, as matrices.

    Row ``i``, column ``k`` is what the viewers cost who play candidate ``i`` when the next rung is
    ``k``; the last column is for no next rung, and row 0 for the viewers below the first rung.
    """

    def __init__(
        self,
        candidates: Sequence[Offer],
        reference: Sequence[Offer],
        audience: Audience,
        rules: Rules,
    ) -> None:
        self.rules = rules
        self.rates = np.array([rung.rate for rung in candidates])
        self.qualities = np.array([rung.quality for rung in candidates])
        self.lines = np.array([rung.lines for rung in candidates])
        self.below = np.array([audience.below(rung.rate) for rung in candidates])
        count = len(candidates)
        self.bits = np.zeros((count, count + 1))
        self.loss = np.zeros((count, count + 1))
        self.quality = np.zeros((count, count + 1))
        self.first_bits, self.first_loss, self.first_quality = np.zeros((3, count))
        for lines, share in audience.devices:
            if share > 0:
                self._add_device(playable(reference, lines), audience, lines, share)
        self.allowed = self._allowed()
        # Nobody who can afford the reference's lowest rung is left without one: the lowest rung is
        # no dearer, or the cheapest of all.
        self.may_begin = self.rates <= max(reference[0].rate, self.rates[0])
        self.may_end = self.lines >= rules.top_lines

    def _add_device(
        self, reference: Sequence[Offer], audience: Audience, lines: float, of_devices: float
    ) -> None:
        """Add the costs of the viewers whose devices play ``lines``."""
        plays = self.lines <= lines
        plays[0] = True  # whatever its size, the lowest rung is played when there is no other
        # A next rung that the device does not play is none.
        ends = np.append(np.where(plays, self.below, 1.0), 1.0)
        share = np.maximum(ends[None, :] - self.below[:, None], 0.0)
        share *= np.where(plays, of_devices, 0.0)[:, None]
        first = np.where(plays, self.below * of_devices, 0.0)
        if not plays.all():
            # Viewers who can play no rung of the ladder play its lowest one.
            first = np.where(plays, first, of_devices)
        self.bits += share * self.rates[:, None]
        self.quality += share * self.qualities[:, None]
        self.first_bits += first * self.rates
        self.first_quality += first * self.qualities
        edges = [0.0, *(audience.below(rung.rate) for rung in reference[1:]), 1.0]
        for number, rung in enumerate(reference):
            lost = np.maximum(rung.quality - self.rules.tolerance - self.qualities, 0.0)
            if not lost.any():
                continue
            low, high = edges[number], edges[number + 1]
            both = np.minimum(ends[None, :], high) - np.maximum(self.below[:, None], low)
            both = np.maximum(both, 0.0) * np.where(plays, of_devices, 0.0)[:, None]
            self.loss += both * lost[:, None]
            reach = np.where(plays, self.below, 1.0)
            self.first_loss += np.maximum(np.minimum(reach, high) - low, 0.0) * of_devices * lost

    def _allowed(self) -> Mask:
        """Return which candidates may be neighbours, shape ``[candidates, candidates]``."""
        rules, count = self.rules, len(self.rates)
        allowed = self.rates[None, :] >= self.rates[:, None] * rules.least_ratio
        allowed &= self.qualities[None, :] > self.qualities[:, None]
        allowed &= self.lines[None, :] >= self.lines[:, None]
        apart = self.rates[None, :] >= self.rates[:, None] * rules.merge_ratio
        apart |= self.qualities[None, :] >= self.qualities[:, None] + rules.merge_step
        allowed &= apart
        if math.isfinite(rules.most_ratio) or math.isfinite(rules.most_step):
            near = self.rates[None, :] <= self.rates[:, None] * rules.most_ratio
            near &= self.qualities[None, :] <= self.qualities[:, None] + rules.most_step
            # Where the curve jumps, the next candidate that is far enough is near enough.
            nearest = np.argmax(allowed, axis=1)
            near |= np.arange(count)[None, :] == nearest[:, None]
            allowed &= near
        return allowed

    def best(self, price: float) -> Placement:
        """Return the best ladder when a point of mean quality is worth ``price`` bit/s."""
        scale = LOSS_PRICE * float(self.rates[-1])
        cost = self.bits + scale * self.loss - price * self.quality
        begin = self.first_bits + scale * self.first_loss - price * self.first_quality
        begin = np.where(self.may_begin, begin, FORBIDDEN)
        end = np.where(self.may_end, cost[:, -1], FORBIDDEN)
        step = np.where(self.allowed, cost[:, :-1], FORBIDDEN)
        reached, came_from = [begin], []
        totals = [float((begin + end).min())]
        fewest, most = self.rules.counts
        for _ in range(1, most):
            through = reached[-1][:, None] + step
            previous = np.argmin(through, axis=0)
            came_from.append(previous)
            reached.append(through[previous, np.arange(len(begin))])
            if not np.isfinite(reached[-1]).any():
                break
            totals.append(float((reached[-1] + end).min()))
        possible = [n for n, total in enumerate(totals) if math.isfinite(total)]
        if not possible:  # no way leads to a rung that may be the highest
            self.may_end = np.ones_like(self.may_end)
            return self.best(price)
        counted = [n for n in possible if n + 1 >= fewest] or possible[-1:]
        count = min(counted, key=lambda n: (totals[n], n))
        chosen = [int(np.argmin(reached[count] + end))]
        for previous in reversed(came_from[:count]):
            chosen.append(int(previous[chosen[-1]]))
        chosen.reverse()
        return Placement(
            tuple(chosen),
            lost=_total(chosen, self.first_loss, self.loss),
            received=_total(chosen, self.first_bits, self.bits),
            quality=_total(chosen, self.first_quality, self.quality),
        )


def _total(chosen: Sequence[int], first: Float64, steps: Float64) -> float:
    """Return what a path costs all viewers: those below its lowest rung, and those of each rung."""
    follows = [*chosen[1:], -1]
    total = sum(float(steps[i, k]) for i, k in zip(chosen, follows, strict=True))
    return float(first[chosen[0]]) + total
