"""Plans what sites hold, day by day, and remembers what each was told.

``sites/NAME.json`` below the service's data is the last plan of a site, with the plays of its last
days.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from cluster.package.fill_plans import read_plan, write_plan
from cluster.service.library.library import Library
from encoder.errors import Conflict, NotThere
from recommender.prefetch.document import Prefetch
from recommender.sites.catalogue import Catalogue, catalogue
from recommender.sites.document import DayOfPlays, FillPlanDocument
from recommender.sites.filling import FillRules
from recommender.sites.forecast import ForecastModel
from recommender.sites.history import History
from recommender.sites.planning import PlannedSite, followed_counts, plan_site
from recommender.sites.sessions import date_of, day_number

REMEMBERED_DAYS: Final = 14
"""Days whose plays are remembered; a forecast hardly depends on older ones."""
SHARE: Final = 0.9
"""Share of a site that is planned where none is given and none can be followed."""
FOLLOWED_PLAYS: Final = 20_000
"""Plays over whose requests a share is followed: about two seconds of a request's time."""


@dataclass(frozen=True, slots=True)
class SiteDay:
    """What a client says of a site and a day."""

    site: str
    day: date
    capacity: int
    expected: Mapping[str, float]
    played: Mapping[str, float] | None
    """Plays of the day before."""
    held: Sequence[str] | None
    """Digests of what the site holds; None for what its last plan said."""


@dataclass(frozen=True, slots=True, eq=False)
class SitePlan:
    """A site's plan and what it was made from."""

    planned: PlannedSite
    known: Catalogue
    calibration: tuple[float, int]
    missing: list[str]
    removed: list[str]
    """Digests of what is to be removed, files of withdrawn titles included."""


class SitePlans:
    """The plans of all sites of a service."""

    def __init__(self, library: Library, data: Path) -> None:
        self._library = library
        self._folder = data / "sites"

    def plan(self, asked: SiteDay, rules: FillRules, *, follow: bool = False) -> SitePlan:
        """Plan a day of a site, and remember the plan.

        Args:
            asked: the site and the day.
            rules: of the plan.
            follow: True to plan the share that would have been best on the days whose plays are
                known; that of ``rules`` where there are none, or too many to draw their requests.

        Raises:
            Conflict: a later day of the site was planned.
            BadInput: the plan cannot be read or written.
        """
        with self._locked(asked.site):
            last = read_plan(self._folder, asked.site)
            day = day_number(asked.day)
            held, days = _before(last, day, asked.site)
            days = _with_plays(days, day, asked)
            names = {name for each in days for name in (*each.expected, *(each.played or ()))}
            known, missing = self._catalogue(sorted(names))
            history = _history(days, known)
            if asked.held is not None:
                held = list(asked.held)
            mask, _ = known.mask_of(held)
            planned = plan_site(
                *(known, asked.site, asked.capacity, mask, history.before(history.days), rules),
                followed=followed_counts(known, history, FOLLOWED_PLAYS) if follow else None,
            )
            removed = [known.demand[at].sha256 for at in planned.files.remove.tolist()]
            there = {file.sha256 for file in known.demand}
            removed = [digest for digest in held if digest not in there] + removed
            document = planned.document(known)
            write_plan(self._folder, document.model_copy(update={"before": held, "days": days}))
        return SitePlan(planned, known, history.calibration(), missing, removed)

    @contextlib.contextmanager
    def _locked(self, site: str) -> Iterator[None]:
        """Keep all other processes and threads from planning the same site."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / f"{site}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _catalogue(self, names: Sequence[str]) -> tuple[Catalogue, list[str]]:
        """Return the published ones of some titles, and the names of the others."""
        documents, missing = {}, []
        for name in names:
            current = self._library.current(name)
            if current is None or current.version is None:
                missing.append(name)
                continue
            try:
                documents[name] = _prefetch(self._library.files.folder(current.package))
            except (FileNotFoundError, NotThere):  # withdrawn just now
                missing.append(name)
        return catalogue(documents), missing


@lru_cache(maxsize=1024)
def _prefetch(folder: Path) -> Prefetch:
    """Return the manifest of a package, which never changes."""
    return Prefetch.model_validate_json((folder / "prefetch.json").read_bytes())


def _before(
    last: FillPlanDocument | None, day: int, site: str
) -> tuple[list[str], list[DayOfPlays]]:
    """Return what a site held and which plays were known before a day was planned."""
    if last is None:
        return [], []
    planned = last.days[-1].day if last.days else day - 1
    if planned > day:
        raise Conflict(
            f"site {site} was planned for {date_of(planned)} "
            "already; plan that day or a later one, or, where that day was a mistake, remove "
            f"sites/{site}.json below the service's --data and plan the site anew"
        )
    if planned == day:
        return list(last.before), last.days[:-1]
    return list(last.keep), list(last.days)


def _with_plays(days: list[DayOfPlays], day: int, asked: SiteDay) -> list[DayOfPlays]:
    """Return the days with the plays of yesterday and what is expected of today."""
    if asked.played is not None:
        yesterday = next((each for each in days if each.day == day - 1), None)
        expected = {} if yesterday is None else yesterday.expected
        days = [each for each in days if each.day != day - 1]
        days.append(DayOfPlays(day=day - 1, expected=expected, played=dict(asked.played)))
    days.append(DayOfPlays(day=day, expected=dict(asked.expected)))
    return [each for each in days if each.day > day - REMEMBERED_DAYS]


def _history(days: Sequence[DayOfPlays], known: Catalogue) -> History:
    """Return what is known before the last of some days."""
    first, last = days[0].day, days[-1].day
    titles = len(known.titles)
    plays = np.full((last - first, titles), np.nan)
    forecasts = np.full((last - first + 1, titles), np.nan)
    for each in days:
        row = each.day - first
        for name, expected in each.expected.items():
            if name in known.names:
                at = known.names[name]
                forecasts[row, at] = expected + np.nan_to_num(forecasts[row, at])
        if each.played is not None and each.day < last:
            plays[row] = 0.0
            for name, number in each.played.items():
                if name in known.names:
                    plays[row, known.names[name]] += number
    released = np.ones((last - first + 1, titles), np.bool_)
    return History(first, plays, forecasts, released, ForecastModel())
