"""Reads an operator's logs of plays, forecasts and releases: CSV with a header."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np

from encoder.arrays import Float64
from encoder.errors import BadInput
from recommender.sites.sessions import DAY_SECONDS, Plays, day_number

_LAST_SECONDS = 1e11
"""Unix time from which a number is taken for milliseconds; in seconds it is the year 5138."""
_MOST_DAYS = 3660
"""Longest log: a plan takes time with the square of its days."""


@dataclass(frozen=True, slots=True)
class PlaysLog:
    """Plays by site, and what was not read."""

    sites: Mapping[str, Plays]
    """Plays of each site by name; ``""`` where the log does not tell sites apart."""
    unknown: Mapping[str, int]
    """Plays of titles that are not in the catalogue, by title."""

    def of(self, site: str) -> Plays:
        """Return the plays of a site.

        Raises:
            BadInput: the log tells sites apart and has no such site.
        """
        plays = self.sites.get(site, self.sites.get(""))
        if plays is None:
            known = ", ".join(sorted(self.sites)[:5])
            raise BadInput(f"the log has no plays of site {site!r}; it has {known}")
        return plays


def read_plays(path: Path, names: Mapping[str, int]) -> PlaysLog:
    """Read a log of plays.

    Columns: ``time`` (ISO 8601, UTC unless it says otherwise, or Unix seconds), ``title``, and
    optionally ``site``, ``position_seconds``, ``watched_seconds`` and ``kbps``.

    Raises:
        BadInput: the file cannot be read, lacks a column, or a row is not what it should be.
    """
    rows: dict[str, list[tuple[float, int, float, float, float]]] = {}
    unknown: Counter[str] = Counter()
    for where, row in _rows(path, ("time", "title")):
        title = names.get(row["title"])
        if title is None:
            unknown[row["title"]] += 1
            continue
        position = _number(row, "position_seconds", where)
        watched = _number(row, "watched_seconds", where)
        kbps = _number(row, "kbps", where)
        time = _time(row["time"], where)
        position = 0.0 if np.isnan(position) else position
        rows.setdefault(row.get("site", ""), []).append(
            (time, title, position, watched, 1000 * kbps)
        )
    if not rows:
        named = ", ".join(list(unknown)[:3]) or "none"
        raise BadInput(
            f"{path} has no play of the given titles; it names {named}, the titles are called "
            f"{', '.join(list(names)[:3])}"
        )
    first = min(min(each)[0] for each in rows.values())
    last = max(max(each)[0] for each in rows.values())
    if last - first > _MOST_DAYS * DAY_SECONDS:
        raise BadInput(
            f"{path} has plays from {_moment(first)} to {_moment(last)}, more than ten years; "
            "correct the times that are wrong, or leave out old plays"
        )
    return PlaysLog({site: _plays(each) for site, each in rows.items()}, unknown)


def _plays(rows: list[tuple[float, int, float, float, float]]) -> Plays:
    table = np.array(sorted(rows), np.float64)
    return Plays(table[:, 0], table[:, 1].astype(np.intp), *table[:, 2:].T)


def read_forecasts(path: Path, names: Mapping[str, int], today: int) -> dict[int, Float64]:
    """Read expected plays per title, by the number of the day: columns ``title``, ``plays`` and
    optionally ``date``; without a date they are of ``today``. Titles without one are nan.

    Raises:
        BadInput: the file cannot be read, lacks a column, or a row is not what it should be.
    """
    forecasts: dict[int, Float64] = {}
    for where, row in _rows(path, ("title", "plays")):
        plays = _number(row, "plays", where)
        if np.isnan(plays):
            raise BadInput(f"{where}: `plays` is missing")
        if row["title"] not in names:
            raise BadInput(f"{where}: there is no title {row['title']!r}")
        day = _date(row["date"], where) if row.get("date") else today
        values = forecasts.setdefault(day, np.full(1 + max(names.values()), np.nan))
        at = names[row["title"]]
        values[at] = plays + (0.0 if np.isnan(values[at]) else values[at])
    return forecasts


def read_releases(path: Path, names: Mapping[str, int]) -> dict[int, int]:
    """Read the number of the day on which each title was released: columns ``title`` and ``date``.

    Raises:
        BadInput: the file cannot be read, lacks a column, or a row is not what it should be.
    """
    releases: dict[int, int] = {}
    for where, row in _rows(path, ("title", "date")):
        if row["title"] in names:
            releases[names[row["title"]]] = _date(row["date"], where)
    return releases


def _rows(path: Path, needed: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in needed if name not in (reader.fieldnames or ())]
            if missing:
                raise BadInput(
                    f"the first line of {path} does not name {', '.join(missing)}; it has to name "
                    f"the columns {', '.join(needed)}"
                )
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                if None in row or None in row.values():
                    raise BadInput(f"{where}: it has not as many values as the first line names")
                yield where, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or "it is not CSV in UTF-8"
        raise BadInput(f"{path} cannot be read ({reason})") from error


def _number(row: Mapping[str, str], column: str, where: str) -> float:
    text = row.get(column) or ""
    if not text.strip():
        return float("nan")
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e12:
        raise BadInput(f"{where}: `{column}` has to be a number, 0 or more; got {text!r:.40}")
    return number


def _time(text: str, where: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = None
    if seconds is not None:
        if not 0 <= seconds < _LAST_SECONDS:
            raise BadInput(
                f"{where}: `time` has to be ISO 8601 or Unix seconds, not milliseconds; got "
                f"{text!r:.40}"
            )
        return seconds
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadInput(
            f"{where}: `time` has to be ISO 8601 or Unix seconds; got {text!r:.40}"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _date(text: str, where: str) -> int:
    try:
        return day_number(date.fromisoformat(text.strip()))
    except ValueError:
        raise BadInput(f"{where}: `date` has to be YYYY-MM-DD; got {text!r:.40}") from None


def _moment(seconds: float) -> str:
    return (datetime(1970, 1, 1) + timedelta(seconds=int(seconds))).isoformat(" ")


def day_name(day: int) -> str:
    """Return the date of a day by its number."""
    return datetime.fromtimestamp(day * DAY_SECONDS, UTC).date().isoformat()
