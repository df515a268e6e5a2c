"""Plugs the product's fill plan into the cache simulator of ``../shared/sim``.

``python ../shared/sim/cache_sim.py --cache tests/cache_plug.py:Follow``: the planned share follows
what planning would have brought. The simulator does not say in which order pinned files were asked
for, so their requests are put at even distances over the day.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from recommender.sites.files import SiteFiles
from recommender.sites.filling import FillRules, make_plan
from recommender.sites.forecast import PlaysForecast, forecast_plays
from recommender.sites.share import ShareFollower
from recommender.sites.site import Site


class Planned:
    """A plan of a fixed share beside S3-FIFO."""

    rules = FillRules()
    follows = False

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.forecasts: list[Any] = []
        self.seen: list[int] = []
        self.ahead = np.array([], np.intp)
        self.shares: list[float] = []

    def request(self, file: int, size: int) -> bool:
        if self.follows:
            self.seen.append(file)
        return self.site.request(file, size)

    def plan(self, view: Any) -> Any:
        if view.day == 0:
            known = view.files
            self.files = SiteFiles(known.size, known.title, known.start, known.requests)
            self.site = Site(known.size, self.capacity)
            self.follower = ShareFollower(self.files, self.capacity, self.rules)
        forecast = self.forecast(view)
        rules = self.rules
        if self.follows:
            self.follower.observe(self.requests(view))
            rules = replace(rules, share=self.follower.plan(forecast))
        self.shares.append(rules.share)
        plan = make_plan(self.files, forecast, self.site.held(), self.capacity, rules)
        self.site.follow(plan)
        self.ahead, self.seen = plan.ahead, []
        return plan.ahead

    def forecast(self, view: Any) -> PlaysForecast:
        plays = np.where(view.plays < 0, np.nan, view.plays).astype(float)
        before = np.full(plays.shape, np.nan)
        if self.forecasts:
            before[-len(self.forecasts) :] = self.forecasts
        self.forecasts.append(view.forecast)
        return forecast_plays(plays, np.asarray(view.forecast, float), before)

    def requests(self, view: Any) -> Any:
        """Yesterday's requests in order, as far as the order is known."""
        seen = np.array(self.seen, np.intp)
        pinned = np.repeat(self.ahead, view.counts[self.ahead])
        places = np.linspace(0, len(seen), len(pinned)).astype(np.intp)
        return np.insert(seen, places, np.random.default_rng(0).permutation(pinned))


class Follow(Planned):
    follows = True


class Half(Planned):
    rules = FillRules(share=0.5)


class ThreeQuarters(Planned):
    rules = FillRules(share=0.75)
