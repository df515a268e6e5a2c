"""Tables of decisions and outcomes (SQLite), and their way into the log of immutable hours.

What has been acknowledged survives ``kill -9``: it is committed before the answer. An outcome is
also on disk (``synchronous=FULL``); a decision lost with the power is only missed by the log.

Several processes may use one ledger. An hour goes into the log a minute after its end, when nothing
can be added to it any more, in the process that holds the lock. Rows leave the tables once they are
in the log and too old to be repeated.
"""

from __future__ import annotations

import contextlib
import fcntl
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from cluster.policy.place import Place, hour_end, hour_of
from cluster.policy.records import (
    Decision,
    Outcome,
    decisions_table,
    outcomes_table,
)
from cluster.store.files import atomic_file
from encoder.errors import StoreUnusable

BUSY_SECONDS = 10.0
CLOSE_SECONDS = 60.0
"""Time after the end of an hour until it goes into the log, longer than a transaction can take."""
KEPT_SECONDS = 2 * 24 * 3600.0
"""Time for which decisions stay in the tables, so that they can be repeated on their day."""
_TABLES = """
CREATE TABLE IF NOT EXISTS decisions (
    viewer_day TEXT NOT NULL, title TEXT NOT NULL, aspect TEXT NOT NULL, redraw INTEGER NOT NULL,
    hour TEXT NOT NULL, at REAL NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (viewer_day, title, aspect, redraw)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS decisions_by_hour ON decisions (hour);
CREATE TABLE IF NOT EXISTS outcomes (
    number INTEGER PRIMARY KEY, hour TEXT NOT NULL, decision_id TEXT NOT NULL, at REAL NOT NULL,
    received REAL NOT NULL, shown INTEGER NOT NULL, seen_seconds REAL NOT NULL,
    played INTEGER NOT NULL, minutes REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS outcomes_by_hour ON outcomes (hour);
CREATE TABLE IF NOT EXISTS logged (
    kind TEXT NOT NULL, hour TEXT NOT NULL, PRIMARY KEY (kind, hour)
) WITHOUT ROWID;
"""


class Ledger:
    """The tables in the folder of ``place``, made when they are missing. Thread-safe."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._local = threading.local()
        try:
            for folder in (place.decisions, place.outcomes, place.pools, place.policies):
                folder.mkdir(parents=True, exist_ok=True)
            # SQLite does not wait for another process that changes the journal's mode just now.
            with (place.root / "open.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                with self._usable() as connection:
                    connection.executescript(_TABLES)
        except OSError as error:
            raise StoreUnusable(
                f"{place.root} cannot be created ({error.strerror}); make it writable"
            ) from error

    # -- decisions -----------------------------------------------------------------------------

    def known_as(self, viewer_days: Sequence[str]) -> str:
        """Return which of a viewer's pseudonyms for a day has decisions; the first if none has."""
        if len(viewer_days) == 1:
            return viewer_days[0]
        marks = ",".join("?" * len(viewer_days))
        query = f"SELECT viewer_day FROM decisions WHERE viewer_day IN ({marks}) LIMIT 1"
        with self._usable() as connection:
            found = connection.execute(query, viewer_days).fetchone()
        return viewer_days[0] if found is None else str(found[0])

    def of_day(self, viewer_day: str, aspect: str, titles: Sequence[str]) -> dict[str, Decision]:
        """Return what was last drawn for a viewer and day, by title."""
        marks = ",".join("?" * len(titles))
        query = (
            f"SELECT body FROM decisions WHERE viewer_day = ? AND aspect = ? AND title IN ({marks})"
            " ORDER BY redraw"
        )
        with self._usable() as connection:
            rows = connection.execute(query, (viewer_day, aspect, *titles)).fetchall()
        found = (Decision.of_body(body) for (body,) in rows)
        return {decision.title: decision for decision in found}

    def add(self, decisions: Iterable[Decision]) -> list[Decision]:
        """Add decisions, and return those that hold: where another request of the same viewer was
        first, its decision."""
        given = list(decisions)
        with self._usable() as connection, _transaction(connection):
            hours = _OpenHours(connection, "decisions")
            rows = [(*_key(one), hours.hour_for(one.at), one.at, one.body()) for one in given]
            added = connection.executemany(
                "INSERT OR IGNORE INTO decisions VALUES (?, ?, ?, ?, ?, ?, ?)", rows
            )
            if added.rowcount == len(given):  # nearly always
                return given
            found = [
                connection.execute(
                    "SELECT body FROM decisions WHERE viewer_day = ? AND title = ? AND aspect = ?"
                    " AND redraw = ?",
                    _key(one),
                ).fetchone()[0]
                for one in given
            ]
        return [Decision.of_body(body) for body in found]

    # -- outcomes ------------------------------------------------------------------------------

    def report(self, outcomes: Iterable[Outcome]) -> None:
        """Add reports; they are on disk when this returns."""
        with self._usable(durable=True) as connection, _transaction(connection):
            hours = _OpenHours(connection, "outcomes")
            rows = [
                (hours.hour_for(one.received), one.decision_id, one.at, one.received,
                 one.shown, one.seen_seconds, one.played, one.minutes)
                for one in outcomes
            ]  # fmt: skip
            connection.executemany(
                "INSERT INTO outcomes (hour, decision_id, at, received, shown, seen_seconds,"
                " played, minutes) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                rows,
            )

    # -- log -----------------------------------------------------------------------------------

    def write_log(self, now: float) -> list[Path]:
        """Write the hours that are over and not in the log yet; return their files."""
        written = []
        with (self.place.root / "log.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for kind in ("decisions", "outcomes"):
                for hour in self._closed(kind, now):
                    path = self.place.root / "log" / kind / f"{hour}.parquet"
                    table = self._rows(kind, hour)
                    # An hour whose file is there was written by a process that died just then.
                    with atomic_file(path) as partial:
                        pq.write_table(table, partial, compression="zstd")
                    written.append(path)
                    self._mark(kind, hour, now)
        return written

    def _closed(self, kind: str, now: float) -> list[str]:
        query = (
            f"SELECT DISTINCT hour FROM {kind} WHERE hour NOT IN"
            " (SELECT hour FROM logged WHERE kind = ?) ORDER BY hour"
        )
        with self._usable() as connection:
            hours = [hour for (hour,) in connection.execute(query, (kind,))]
        return [hour for hour in hours if hour_end(hour) + CLOSE_SECONDS <= now]

    def _rows(self, kind: str, hour: str) -> Any:
        with self._usable() as connection:
            if kind == "decisions":
                query = "SELECT body FROM decisions WHERE hour = ? ORDER BY at, viewer_day, title"
                rows = connection.execute(query, (hour,)).fetchall()
                return decisions_table([Decision.of_body(body) for (body,) in rows])
            query = (
                "SELECT decision_id, at, received, shown, seen_seconds, played, minutes"
                " FROM outcomes WHERE hour = ? ORDER BY number"
            )
            rows = connection.execute(query, (hour,)).fetchall()
        return outcomes_table(
            Outcome(row[0], row[1], row[2], bool(row[3]), row[4], bool(row[5]), row[6])
            for row in rows
        )

    def _mark(self, kind: str, hour: str, now: float) -> None:
        """Note that an hour is in the log, and remove what is not needed any more."""
        kept = 0.0 if kind == "outcomes" else KEPT_SECONDS
        with self._usable() as connection, _transaction(connection):
            connection.execute("INSERT OR IGNORE INTO logged VALUES (?, ?)", (kind, hour))
            connection.execute(
                f"DELETE FROM {kind} WHERE hour < ? AND hour IN"
                " (SELECT hour FROM logged WHERE kind = ?)",
                (hour_of(now - kept), kind),
            )

    def checkpoint(self) -> None:
        """Move what was committed from the write-ahead log into the tables, while others work."""
        with self._usable() as connection:
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def close(self) -> None:
        """Close this thread's connection."""
        connection = getattr(self._local, "connection", None)
        if connection is not None:
            connection.close()
            self._local.connection = None

    @contextlib.contextmanager
    def _usable(self, *, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """Yield this thread's connection; its commits are on disk if ``durable``."""
        try:
            connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
            if connection is None:
                connection = sqlite3.connect(
                    self.place.ledger, timeout=BUSY_SECONDS, isolation_level=None
                )
                connection.execute("PRAGMA journal_mode=WAL")
                # A checkpoint waits for the disk, so no request does it: :meth:`checkpoint`.
                connection.execute("PRAGMA wal_autocheckpoint=0")
                self._local.connection, self._local.durable = connection, None
            if self._local.durable is not durable:
                connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
                self._local.durable = durable
            yield connection
        except sqlite3.Error as error:
            raise StoreUnusable(
                f"{self.place.ledger} cannot be used now ({error}); check that the disk has room "
                "and that no other program has locked the file"
            ) from error


def _key(one: Decision) -> tuple[str, str, str, int]:
    return one.viewer_day, one.title, one.aspect, one.redraw


class _OpenHours:
    """Hours that can still be added to: what a clock that was put back says may be in the log."""

    def __init__(self, connection: sqlite3.Connection, kind: str) -> None:
        self._connection, self._kind = connection, kind
        self._known: dict[str, str] = {}

    def hour_for(self, seconds: float) -> str:
        """Return the hour of a moment, or the first one after it that is not in the log."""
        asked = hour = hour_of(seconds)
        if asked not in self._known:
            query = "SELECT 1 FROM logged WHERE kind = ? AND hour = ?"
            while self._connection.execute(query, (self._kind, hour)).fetchone():
                hour = hour_of(hour_end(hour))
            self._known[asked] = hour
        return self._known[asked]


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
