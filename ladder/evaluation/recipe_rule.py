"""The rule for default recipes: which encoder options are taken, and why others are not.

Quality models disagree, and each can be pleased by an option that people do not like: weaker
adaptive quantisation gains 9 % by VMAF and loses by XPSNR and SSIM. So an option is judged by
several judges over several titles, all as BD-rate against plain x264 ``medium``, and is taken when

- it raises the least of the judges' mean savings over that of the recipe without it;
- no title needs over :data:`WORST_TITLE` percent more bits than plain ``medium`` by any judge;
- no judge's mean saving is over :data:`WORST_MEAN` points less than that of the recipe without it;
- fine texture keeps :data:`LEAST_TEXTURE` of what plain ``medium`` keeps at equal rate
  (:mod:`vmaf.texture`), on titles of grain and foliage.

All functions are pure. BD-rates are in percent; negative means fewer bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ladder.bdrate import RatePoint

WORST_TITLE = 2.0
"""Most percent of bits that a title may need over plain ``medium``, by any judge."""
WORST_MEAN = 5.0
"""Most points of mean saving that an option may cost by any judge."""
LEAST_TEXTURE = 0.95
"""Least share of plain ``medium``'s fine energy that an option may keep, in the mean."""

BdRates = Mapping[str, Mapping[str, float]]
"""BD-rates in percent by judge, then by title. Every judge has the same titles."""


@dataclass(frozen=True, slots=True)
class WorstTitle:
    """The title that a recipe serves worst."""

    title: str
    judge: str
    percent: float
    """BD-rate against plain ``medium``."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What the rule says of a recipe."""

    means: Mapping[str, float]
    """Mean BD-rate over titles against plain ``medium``, by judge."""
    worst: WorstTitle
    changes: Mapping[str, float]
    """Points by which the option changes the means, by judge; negative saves bits."""
    texture: float | None
    """Share of plain ``medium``'s fine energy, mean over titles; None if not measured."""
    refusals: tuple[str, ...]
    """Every condition that the option fails, as a sentence; empty where it is taken."""

    @property
    def taken(self) -> bool:
        """True where the option passes all conditions that were measured."""
        return not self.refusals

    @property
    def least(self) -> float:
        """The least saving of any judge's mean: the largest of the means."""
        return max(self.means.values())


def decide(candidate: BdRates, without: BdRates, texture: Sequence[float] = ()) -> Decision:
    """Apply the rule to an option.

    Args:
        candidate: The recipe with the option against plain ``medium``.
        without: The recipe without it against plain ``medium``; zeros for plain ``medium`` itself.
        texture: Fine energy at equal rate over that of plain ``medium``, by title
            (:func:`ratio_at_equal_rate`); empty if it was not measured.

    Raises:
        ValueError: a judge or a title is missing in one of the two.
    """
    _check(candidate, without)
    means, before = _means(candidate), _means(without)
    changes = {judge: mean - before[judge] for judge, mean in means.items()}
    worst = max(
        (
            WorstTitle(title, judge, percent)
            for judge, of in candidate.items()
            for title, percent in of.items()
        ),
        key=lambda found: found.percent,
    )
    kept = math.fsum(texture) / len(texture) if texture else None
    refusals = []
    least, least_before = max(means.values()), max(before.values())
    if least >= least_before:
        refusals.append(
            f"the least of the means is {least:+.1f} %, {least_before:+.1f} % without the option"
        )
    if worst.percent > WORST_TITLE:
        refusals.append(f"{worst.title} needs {worst.percent:+.1f} % by {worst.judge}")
    refusals += [
        f"the option costs {points:+.1f} points by {judge}"
        for judge, points in changes.items()
        if points > WORST_MEAN
    ]
    if kept is not None and kept < LEAST_TEXTURE:
        refusals.append(f"fine texture keeps {kept:.2f} of plain medium's")
    return Decision(means, worst, changes, kept, tuple(refusals))


def ratio_at_equal_rate(anchor: Sequence[RatePoint], test: Sequence[RatePoint]) -> float | None:
    """Return how much of the anchor's quantity the test has at equal rate: a geometric mean.

    Both logarithms are linear between points; the mean is over the logarithm of the rates that both
    reach. None where they share none.

    Raises:
        ValueError: a curve has fewer than two points, two of one rate, or a value of 0 or less.
    """
    curves = []
    for name, points in (("anchor", anchor), ("test", test)):
        ordered = np.array(sorted(points), dtype=np.float64).reshape(-1, 2)
        if len(ordered) < 2 or ordered.min() <= 0 or np.any(np.diff(ordered[:, 0]) == 0):
            raise ValueError(f"the {name} needs two points of different rates over 0, got {points}")
        curves.append(np.log(ordered))
    (rates_a, values_a), (rates_t, values_t) = (curve.T for curve in curves)
    low, high = max(rates_a[0], rates_t[0]), min(rates_a[-1], rates_t[-1])
    if low >= high:
        return None
    knots = np.unique(np.clip(np.concatenate([rates_a, rates_t]), low, high))
    difference = np.interp(knots, rates_t, values_t) - np.interp(knots, rates_a, values_a)
    return math.exp(float(np.trapezoid(difference, knots)) / (high - low))


def _means(of: BdRates) -> dict[str, float]:
    return {judge: math.fsum(by.values()) / len(by) for judge, by in of.items()}


def _check(*tables: BdRates) -> None:
    titles = {frozenset(by) for of in tables for by in of.values()}
    judges = {frozenset(of) for of in tables}
    if len(titles) != 1 or len(judges) != 1 or not min(map(len, titles | judges)):
        raise ValueError("the rule needs BD-rates of the same titles by the same judges")
