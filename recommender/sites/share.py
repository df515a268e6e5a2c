"""How much of a site is planned: as much as would have been best on the days before.

Where plays are foreseen, planning everything saves most; where they are not, a pull cache does. So
small copies of the site plan different shares and see the same requests. A copy holds a sample of
the files in as much smaller a site, which saves the same share of the bytes (Waldspurger and
others, FAST 2015). The share of today is that of the copy which has saved most, net of fill, with
past days counting less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from encoder.arrays import Index, Mask
from recommender.sites.files import SiteFiles
from recommender.sites.filling import FillRules, make_plan
from recommender.sites.forecast import PlaysForecast
from recommender.sites.site import Site

SHARES: Final = (1.0, 0.75, 0.5)
"""Planned shares that are tried; the first is taken until anything is known."""
SAMPLE: Final = 16
"""One file in so many is in the copies."""
MEMORY: Final = 0.6
"""Weight of a day against the day after it."""
_MIXER: Final = 0x9E3779B97F4A7C15
"""Odd multiplier that spreads positions over all 64 bits (Knuth)."""


class ShareFollower:
    """Copies of one site that plan different shares of it."""

    def __init__(
        self,
        files: SiteFiles,
        capacity: int,
        rules: FillRules,
        shares: Sequence[float] = SHARES,
        sample: int = SAMPLE,
    ) -> None:
        self._rules, self._shares = rules, tuple(shares)
        self._sampled: Mask = _sampled(len(files), sample)
        self._files = files.among(self._sampled)
        self._position: Index = np.cumsum(self._sampled) - 1
        self._capacity = round(
            capacity * float(self._files.num_bytes.sum()) / max(float(files.num_bytes.sum()), 1.0)
        )
        self._sites = [Site(self._files.num_bytes, self._capacity) for _ in shares]
        self._filled = [0] * len(self._shares)
        self.saved = [0.0] * len(self._shares)
        """Bytes that each copy saved net of fill, over bytes asked for, with past days decayed."""

    def observe(self, requests: Index) -> None:
        """Let the copies see a day's requests, files in the order in which they were asked for."""
        seen = self._position[requests[self._sampled[requests]]]
        sizes = self._files.num_bytes[seen]
        asked = int(sizes.sum())
        if not asked:
            return
        pairs = list(zip(seen.tolist(), sizes.tolist(), strict=True))
        for at, site in enumerate(self._sites):
            missed = sum(size for file, size in pairs if not site.request(file, size))
            net = 1 - (missed + self._rules.fill_price * self._filled[at]) / asked
            self.saved[at] = MEMORY * self.saved[at] + (1 - MEMORY) * net

    def plan(self, forecast: PlaysForecast) -> float:
        """Let the copies plan a day; return the share of the site to plan."""
        for at, site in enumerate(self._sites):
            rules = replace(self._rules, share=self._shares[at], budget_bytes=None)
            plan = make_plan(self._files, forecast, site.held(), self._capacity, rules)
            self._filled[at] = site.follow(plan)
        return self._shares[int(np.argmax(self.saved))]


def _sampled(count: int, sample: int) -> Mask:
    """Return a mask of one position in ``sample``, the same whenever it is asked for."""
    with np.errstate(over="ignore"):
        mixed = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_MIXER)
    return np.asarray((mixed >> np.uint64(40)) % np.uint64(sample) == 0)
