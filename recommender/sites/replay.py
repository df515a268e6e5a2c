"""What caches would have saved of the requests that a log of plays makes, day by day."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from encoder.arrays import Mask
from encoder.errors import BadInput
from recommender.sites.files import SiteFiles
from recommender.sites.filling import FillRules, make_plan
from recommender.sites.forecast import PlaysForecast
from recommender.sites.pulling import LRU, S3FIFO, PullCache
from recommender.sites.sessions import Requests
from recommender.sites.share import ShareFollower
from recommender.sites.site import Site

CACHES: Final = ("lru", "s3fifo", "plan", "follow")
"""A pull cache; S3-FIFO; a plan of the given share; a plan whose share follows what would have been
best."""


@dataclass(frozen=True, slots=True)
class Savings:
    """What a cache saved; shares of what was asked for."""

    cache: str
    bytes: float
    """Byte hit ratio."""
    early: float
    """Hits among the requests of the first 8 s of sessions."""
    starts: float
    """Sessions whose requests of that kind all hit."""
    net: float
    """Bytes, less those that were pulled ahead."""
    peak: float
    """Byte hit ratio of the peak hours; nan if nothing was asked for then."""
    filled_per_day: float
    """Bytes pulled ahead per day."""
    share: float
    """Mean share of the site that was planned."""


def replay(
    name: str,
    files: SiteFiles,
    days: Sequence[Requests],
    forecasts: Sequence[PlaysForecast],
    capacity: int,
    rules: FillRules,
    *,
    warm_days: int = 0,
    peak: Callable[[Requests], Mask] | None = None,
) -> Savings:
    """Return what a cache saves of the days after ``warm_days``; it is empty at first.

    Args:
        name: one of :data:`CACHES`.
        files: what may be asked for.
        days: requests of each day.
        forecasts: of each day, made before it.
        capacity: bytes of the cache.
        rules: of its plans.
        warm_days: days at the beginning that are not counted.
        peak: says which requests of a day are in peak hours.

    Raises:
        BadInput: there is no such cache, or no day to count.
    """
    if name not in CACHES:
        raise BadInput(f"there is no cache {name!r} to replay; use one of {', '.join(CACHES)}")
    if not any(len(day.file) for day in days[warm_days:]):
        raise BadInput(
            f"nothing is left of {len(days)} days after {warm_days} to warm up; give a longer log "
            "or fewer days"
        )
    cache: PullCache | Site
    cache = LRU(capacity) if name == "lru" else S3FIFO(capacity)
    site = Site(files.num_bytes, capacity)
    follower = ShareFollower(files, capacity, rules)
    if name in ("plan", "follow"):
        cache = site
    hits, filled, shares = [], [], []
    for day, forecast in zip(days, forecasts, strict=True):
        today = rules if cache is site else replace(rules, share=0.0)
        if name == "follow":
            today = replace(rules, share=follower.plan(forecast))
        pulled = 0
        if cache is site:
            pulled = site.follow(make_plan(files, forecast, site.held(), capacity, today))
        sizes = files.num_bytes[day.file].tolist()
        pairs = zip(day.file.tolist(), sizes, strict=True)
        hits.append(np.array([cache.request(*pair) for pair in pairs], np.bool_))
        filled.append(pulled)
        shares.append(today.share)
        if name == "follow":
            follower.observe(day.file)
    counted = slice(warm_days, None)
    return _savings(
        name, files, days[counted], hits[counted], filled[counted], shares[counted], peak
    )


def _savings(
    name: str,
    files: SiteFiles,
    days: Sequence[Requests],
    hits: Sequence[Mask],
    filled: Sequence[int],
    shares: Sequence[float],
    peak: Callable[[Requests], Mask] | None,
) -> Savings:
    hit = np.concatenate(hits)
    size = np.concatenate([files.num_bytes[day.file] for day in days]).astype(np.float64)
    early = np.concatenate([day.early for day in days])
    session = np.concatenate([day.session for day in days])
    peaks = np.concatenate([peak(day) if peak else np.zeros(len(day.file), bool) for day in days])
    begun, spoiled = np.unique(session[early]), np.unique(session[early & ~hit])
    missed, asked = float(size[~hit].sum()), float(size.sum())
    at_peak = float(size[peaks].sum())
    return Savings(
        cache=name,
        bytes=1 - missed / asked,
        early=float(hit[early].mean()) if early.any() else float("nan"),
        starts=1 - len(spoiled) / len(begun) if len(begun) else float("nan"),
        net=1 - (missed + sum(filled)) / asked,
        peak=1 - float(size[peaks & ~hit].sum()) / at_peak if at_peak else float("nan"),
        filled_per_day=sum(filled) / len(days),
        share=float(np.mean(shares)),
    )
