"""The plan of one site for today, from all that is known of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from encoder.arrays import Float64, Index, Int64, Mask
from encoder.errors import BadInput
from recommender.sites.catalogue import Catalogue
from recommender.sites.document import FillPlanDocument
from recommender.sites.filling import FillPlan, FillRules, make_plan
from recommender.sites.forecast import PlaysForecast
from recommender.sites.history import History
from recommender.sites.sessions import Requests, counted_plays, requests_of
from recommender.sites.share import ShareFollower

FOLLOWED_DAYS: Final = 14
"""Past days over which the planned share is followed; older ones hardly count."""


@dataclass(frozen=True, slots=True)
class PeakHours:
    """Hours of the day in which nothing is pulled ahead; over midnight if ``end`` is less.

    Raises:
        BadInput: they are no hours, or are the whole day.
    """

    begin: float
    end: float

    def __post_init__(self) -> None:
        if not (0 <= self.begin <= 24 and 0 <= self.end <= 24) or self.off_peak_hours <= 0:
            raise BadInput(
                f"peak hours from {self.begin:g} to {self.end:g} leave no time to fill; give hours "
                "of a day, such as 18-23"
            )

    @property
    def off_peak_hours(self) -> float:
        """Hours of a day that are left to fill."""
        return 24 - ((self.end - self.begin) % 24 or abs(self.end - self.begin))

    def contain(self, hours: Float64) -> Mask:
        """Return which hours of the day are peak hours."""
        inside = (hours >= self.begin, hours < self.end)
        return inside[0] & inside[1] if self.begin <= self.end else inside[0] | inside[1]


@dataclass(frozen=True, slots=True, eq=False)
class PlannedSite:
    """A site's plan for today."""

    name: str
    capacity: int
    share: float
    """Share of the site that is planned."""
    followed_days: int
    """Past days with plays from which the share follows; 0 where it was given."""
    files: FillPlan
    forecast: PlaysForecast
    num_bytes: Int64
    """Size of every file."""

    def bytes_of(self, files: Index) -> int:
        """Return how many bytes files have together."""
        return int(self.num_bytes[files].sum())

    def fill_rate(self, peak: PeakHours) -> float:
        """Return the bit/s at which the files to add are pulled outside peak hours."""
        return 8 * self.bytes_of(self.files.ahead) / (3600 * peak.off_peak_hours)

    def document(self, catalogue: Catalogue) -> FillPlanDocument:
        """Return what the next plan has to know of this one."""
        keep = [catalogue.demand[at].sha256 for at in self.files.keep.tolist()]
        return FillPlanDocument(
            site=self.name, capacity_bytes=self.capacity, share=self.share, keep=keep
        )


def plan_site(
    catalogue: Catalogue,
    name: str,
    capacity: int,
    held: Mask,
    forecast: PlaysForecast,
    rules: FillRules,
    *,
    followed: tuple[History, Sequence[Requests]] | None = None,
) -> PlannedSite:
    """Plan a site.

    Args:
        catalogue: titles that it may hold.
        name: what the site is called.
        capacity: its bytes.
        held: files that it holds.
        forecast: of today's plays.
        rules: of the plan; where the share follows, theirs does not count.
        followed: past plays, and the requests of each of their days, from which the share follows.
    """
    days = 0
    if followed is not None:
        history, requests = followed
        follower = ShareFollower(catalogue.files, capacity, rules)
        for day in range(max(history.days - FOLLOWED_DAYS, 0), history.days):
            follower.plan(history.before(day))
            follower.observe(requests[day].file)
            days += len(requests[day].file) > 0
        rules = replace(rules, share=follower.plan(forecast))
    plan = make_plan(catalogue.files, forecast, held, capacity, rules)
    sizes = np.asarray(catalogue.files.num_bytes, np.int64)
    return PlannedSite(name, capacity, rules.share, days, plan, forecast, sizes)


def followed_counts(
    catalogue: Catalogue, history: History, max_plays: int
) -> tuple[History, list[Requests]] | None:
    """Return what :func:`plan_site` follows where only the plays of each day are known.

    Args:
        catalogue: the titles of the history.
        history: plays by day.
        max_plays: most plays whose requests are drawn; those of earlier days are left out.

    Returns:
        The history, and the requests of each of its days; None where no day has plays, or one day
        alone has more than ``max_plays``.
    """
    requests: list[Requests] = []
    left = max_plays
    for day in reversed(range(history.days)):
        count = int(np.nansum(history.plays[day]))
        if count > max_plays:
            return None
        left -= count
        counts = history.plays[day] if left >= 0 else np.zeros(len(catalogue.titles))
        plays = counted_plays(counts, history.first_day + day)
        requests.append(requests_of(catalogue.titles, plays, seed=history.first_day + day))
    if not any(len(each.file) for each in requests):
        return None
    return history, requests[::-1]


def requests_by_day(requests: Requests, day: Int64, first_day: int, days: int) -> list[Requests]:
    """Return the requests of each day; those after the last day count as the last's.

    Args:
        requests: in order of time.
        day: number of the day of each request.
        first_day: number of the first day.
        days: how many days there are.
    """
    number = np.clip(day - first_day, 0, days - 1)
    return [requests.among(number == at) for at in range(days)]
