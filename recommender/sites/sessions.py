"""Requests that plays make: what a log of plays does not tell is drawn from the viewers' model.

A play begins somewhere in its title, is watched for so long, and has one throughput. For the first
16 s it plays the rung that the start-up table gives, then the highest that it can afford, as in
:mod:`recommender.prefetch.demand`. A segment is asked for when it is due.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

import numpy as np

from encoder.arrays import Float64, Index, Int64, Mask
from recommender.prefetch.document import START_SECONDS, Prefetch

EARLY_SECONDS = 8.0
"""Requests that are due so soon after a session's beginning delay or spoil its start."""
DAY_SECONDS = 86400
_FIRST_DAY = date(1970, 1, 1)


@dataclass(frozen=True, slots=True, eq=False)
class Plays:
    """Plays in order of time, one element per play."""

    time: Float64
    """Seconds since some midnight."""
    title: Index
    position: Float64
    """Seconds into the title at which the play begins."""
    watched_seconds: Float64
    """How long it lasts; nan where that is not known."""
    throughput: Float64
    """Of its network, in bit/s; nan where that is not known."""

    def among(self, chosen: Mask) -> Plays:
        """Return some of the plays."""
        return Plays(
            self.time[chosen],
            self.title[chosen],
            self.position[chosen],
            self.watched_seconds[chosen],
            self.throughput[chosen],
        )

    def per_day(self, titles: int, first_day: int, days: int, day_starts: float) -> Float64:
        """Return the plays of days x titles; a day begins at the hour ``day_starts``."""
        day = day_of(self.time, day_starts) - first_day
        inside = (day >= 0) & (day < days)
        counts = np.bincount(day[inside] * titles + self.title[inside], minlength=days * titles)
        return counts.reshape(days, titles).astype(np.float64)


def counted_plays(counts: Float64, day: int) -> Plays:
    """Return plays of a day of which only the number of each title is known: they come at random
    over the day, each from the title's beginning.

    Args:
        counts: plays of the titles, (titles,); taken as whole numbers, nan as none.
        day: number of the day, which is also the seed of the draws.
    """
    numbers = np.rint(np.nan_to_num(counts)).astype(np.int64)
    rng = np.random.default_rng(day)
    title = rng.permutation(np.repeat(np.arange(len(counts)), numbers))
    time = DAY_SECONDS * (day + np.sort(rng.random(len(title))))
    unknown = np.full(len(title), np.nan)
    return Plays(time, title, np.zeros(len(title)), unknown, unknown)


def day_number(day: date) -> int:
    """Return the number of a day: how many there were since 1970."""
    return (day - _FIRST_DAY).days


def date_of(number: int) -> date:
    """Return the day of a number (:func:`day_number`)."""
    return _FIRST_DAY + timedelta(days=number)


def day_of(time: Float64, day_starts: float) -> Int64:
    """Return the number of the day that each time belongs to."""
    return np.asarray(np.floor((time - 3600 * day_starts) / DAY_SECONDS), np.int64)


def hours_of(time: Float64) -> Float64:
    """Return the hour of the day of each time, from 0 to 24."""
    return np.asarray(time % DAY_SECONDS / 3600)


@dataclass(frozen=True, slots=True, eq=False)
class Requests:
    """Requests in order of time, one element per request."""

    time: Float64
    file: Index
    session: Index
    """Number of the play that asks."""
    early: Mask
    """True where the request is due in a session's first 8 s."""

    def among(self, chosen: Mask) -> Requests:
        """Return some of the requests."""
        columns = (self.file[chosen], self.session[chosen], self.early[chosen])
        return Requests(self.time[chosen], *columns)


def requests_of(titles: Sequence[Prefetch], plays: Plays, seed: int = 0) -> Requests:
    """Return the requests of plays of titles whose files :func:`.files.site_files` lists in order.

    Args:
        titles: what is played.
        plays: their titles are positions in ``titles``.
        seed: of the draws for what a play does not tell.
    """
    rng = np.random.default_rng(seed)
    normal, patience = rng.normal(size=len(plays.time)), rng.exponential(size=len(plays.time))
    tracks: dict[int, _Tracks] = {}
    bases = np.cumsum([0, *(_count(title) for title in titles)])
    times, files, sessions, early = [], [], [], []
    for number, title in enumerate(plays.title.tolist()):
        if title not in tracks:
            tracks[title] = _Tracks(titles[title], int(bases[title]))
        viewers = titles[title].population
        throughput, watched = plays.throughput[number], plays.watched_seconds[number]
        if np.isnan(throughput):
            throughput = viewers.median_throughput * np.exp(viewers.sigma * normal[number])
        if np.isnan(watched):
            watched = patience[number] * viewers.half_life_seconds / np.log(2)
        due, asked = tracks[title].play(plays.position[number], watched, throughput)
        times.append(plays.time[number] + due)
        files.append(asked)
        sessions.append(np.full(len(asked), number))
        early.append(due < EARLY_SECONDS)
    if not times:
        nothing = np.zeros(0, np.intp)
        return Requests(np.zeros(0), nothing, nothing, np.zeros(0, np.bool_))
    time = np.concatenate(times)
    order = np.argsort(time, kind="stable")
    columns = (np.concatenate(part)[order] for part in (files, sessions, early))
    return Requests(time[order], *columns)


def _count(title: Prefetch) -> int:
    sound = 0 if title.audio is None else 1 + len(title.audio.segments)
    return sound + sum(1 + len(rung.segments) for rung in title.rungs)


@dataclass(slots=True, eq=False)
class _Tracks:
    """Where a title's files are in a site's, and when they are due."""

    title: Prefetch
    base: int
    starts: Float64 = field(init=False)
    audio_starts: Float64 = field(init=False)
    needed: Float64 = field(init=False)
    startup: Float64 = field(init=False)

    def __post_init__(self) -> None:
        title, audio = self.title, self.title.audio
        self.starts = np.array([shot.start_seconds for shot in title.boundaries])
        segments = [] if audio is None else audio.segments
        self.audio_starts = np.array([part.start_seconds for part in segments])
        sound = 0 if audio is None else audio.bitrate
        rates = np.array([rung.bitrate + sound for rung in title.rungs], np.float64)
        self.needed = rates / title.population.affordable
        self.startup = np.array([entry.throughput for entry in title.startup], np.float64)

    def play(self, position: float, watched: float, throughput: float) -> tuple[Float64, Index]:
        """Return when files are due, in seconds since the play begins, and which they are."""
        names = [rung.name for rung in self.title.rungs]
        entry = max(int(np.searchsorted(self.startup, throughput, side="right")) - 1, 0)
        first = names.index(self.title.startup[entry].rung)
        later = max(int(np.searchsorted(self.needed, throughput, side="right")) - 1, 0)
        shots = _played(self.starts, position, watched)
        due = np.maximum(self.starts[shots] - position, 0.0)
        rung = np.where(due < START_SECONDS[-1], first, later)
        sound = 0 if self.title.audio is None else 1 + len(self.audio_starts)
        inits = self.base + sound + rung * (1 + len(self.starts))
        changes = np.flatnonzero(np.diff(rung, prepend=-1))
        asked = [inits[changes], inits + 1 + shots]
        times = [due[changes], due]
        if sound:
            parts = _played(self.audio_starts, position, watched)
            asked += [np.array([self.base]), self.base + 1 + parts]
            times += [np.zeros(1), np.maximum(self.audio_starts[parts] - position, 0.0)]
        time = np.concatenate(times)
        order = np.argsort(time, kind="stable")
        return time[order], np.concatenate(asked)[order].astype(np.intp)


def _played(starts: Float64, position: float, watched: float) -> Index:
    """Return the segments that a play asks for, at least one."""
    first = max(int(np.searchsorted(starts, position, side="right")) - 1, 0)
    end = int(np.searchsorted(starts, position + watched, side="left"))
    return np.arange(first, max(end, first + 1))
