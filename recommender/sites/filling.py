"""Which files a site keeps, which of them it pulls ahead, and which it gives up.

The value of a file is what :class:`~recommender.caching.Goal` says of one play, times the expected
plays of its title. A planned file that the site lacks is pulled ahead only where that pays: the
first request would bring it anyway. It pays where the chance that anybody asks for the file while
it stays, times its weight, exceeds what a byte costs when it is filled rather than missed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from encoder.arrays import Float64, Index, Mask
from encoder.errors import BadInput
from recommender.caching import Goal, Objective
from recommender.sites.files import SiteFiles
from recommender.sites.forecast import PlaysForecast

STAY_DAYS: Final = 2.0
"""Days for which a file is expected to stay planned once it is pulled ahead; some stay for weeks,
those at the plan's edge for a day."""

HARDLY_PLAYS: Final = 1e-6
"""Expected plays a day below which a title is not planned at all."""


@dataclass(frozen=True, slots=True)
class FillRules:
    """What a fill plan is for.

    Raises:
        BadInput: a number is out of its range.
    """

    goal: Goal = field(default_factory=lambda: Goal(Objective.OFFLOAD, 8.0, 8.0))
    share: float = 1.0
    """Share of the site that is planned; a pull cache has what the plan does not use."""
    fill_price: float = 0.9
    """What a byte costs that is pulled ahead, where one that misses costs 1."""
    held_bonus: float = 0.0
    """Requests a day by which a file is favoured that the site holds, since another one would have
    to be pulled first."""
    budget_bytes: int | None = None
    """Most bytes to pull ahead; None for no limit."""

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise BadInput(f"{self.share} of the site cannot be planned; give 0 to 1")
        prices = (self.fill_price, self.held_bonus, self.budget_bytes or 0)
        if not all(0 <= one < float("inf") for one in prices):
            raise BadInput("a fill price, a bonus and a fill budget are 0 or more")
        if self.goal.objective is Objective.QUALITY:
            raise BadInput(
                "a site is filled by what a cache is worth, offload, offload-net, hits or starts, "
                "not by quality"
            )


@dataclass(frozen=True, slots=True, eq=False)
class FillPlan:
    """Files by their positions, the most valuable first."""

    keep: Index
    """Files that stay once they are there: all that are planned."""
    ahead: Index
    """Those of them to pull now."""
    admit: Index
    """Those of them to keep when a viewer first asks for them."""
    remove: Index
    """Files that the site holds and the plan does not: the first to go."""
    value: Float64
    """Value of each file per byte today, the bonus for those that are held included."""
    over_budget: int
    """Bytes that would be pulled ahead too, were the fill budget larger."""


def make_plan(
    files: SiteFiles, forecast: PlaysForecast, held: Mask, capacity: int, rules: FillRules
) -> FillPlan:
    """Plan a site's files for today.

    Args:
        files: all files that the site may hold.
        forecast: of each title's plays.
        held: True for files that the site holds.
        capacity: bytes of the site.
        rules: what the plan is for.
    """
    densities = rules.goal.densities(
        files.num_bytes.astype(np.float64), files.start_seconds, files.requests
    )
    plays = np.where(forecast.mean < HARDLY_PLAYS, 0.0, forecast.mean)
    value = plays[files.title] * densities
    unit = np.divide(densities, files.requests, np.zeros(len(files)), where=files.requests > 0)
    value = np.where(held, value + rules.held_bonus * unit, value)
    keep = _fitting(value, files, rules.share * capacity, rules.goal.least_density)
    shape, rate = forecast.shape[files.title[keep]], forecast.rate[files.title[keep]]
    asked = 1 - (rate / (rate + STAY_DAYS * files.requests[keep])) ** shape
    weight = np.where(
        files.start_seconds[keep] < rules.goal.start_seconds, rules.goal.start_weight, 1.0
    )
    missing = ~held[keep]
    pays = missing & (weight * asked > rules.fill_price)
    ahead = keep[pays]
    affordable = np.ones(len(ahead), np.bool_)
    if rules.budget_bytes is not None:
        affordable = np.cumsum(files.num_bytes[ahead]) <= rules.budget_bytes
    over_budget = int(files.num_bytes[ahead[~affordable]].sum())
    now = np.zeros(len(files), np.bool_)
    now[ahead[affordable]] = True
    stays = np.zeros(len(files), np.bool_)
    stays[keep] = True
    remove = np.flatnonzero(held & ~stays)
    return FillPlan(
        keep,
        keep[now[keep]],
        keep[missing & ~now[keep]],
        remove[np.argsort(value[remove], kind="stable")],
        value,
        over_budget,
    )


def _fitting(value: Float64, files: SiteFiles, budget: float, least: float) -> Index:
    """Return the most valuable files whose bytes fit."""
    worth = np.flatnonzero(value > least)
    order = worth[np.argsort(-value[worth], kind="stable")]
    return order[np.cumsum(files.num_bytes[order]) <= budget]
