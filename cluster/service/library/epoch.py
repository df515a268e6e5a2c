"""The epoch of the change feed: the history in which the numbers of changes count.

Consumers of the feed keep the number of the last change that they have seen. When the tables are
restored from a backup, the numbers after the backup are given out again, for other changes. So the
epoch changes then, and consumers read everything again. The file ``epoch`` beside the tables tells
that they were restored: it holds their epoch and their last number. Tables that are behind the
file, that have another epoch, or that have lost it, are not those that consumers have read.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from cluster.service.database import ChangeRow, Database, FeedRow
from cluster.store.files import atomic_write


class Epoch:
    """The epoch of the feed in ``database``, with its mark in the folder ``root``."""

    def __init__(self, database: Database, root: Path) -> None:
        self._database = database
        self._path = root / "epoch"

    def check(self) -> None:
        """Begin a new epoch if the tables were restored, and mark how far the tables are."""
        with self._database.writing() as session:
            marked, last = self._marked(), last_sequence(session)
            row = session.get(FeedRow, 1)
            if row is None:
                row = FeedRow(id=1, epoch=secrets.token_hex(8))
                session.add(row)
            elif marked is None or marked[0] != row.epoch or marked[1] > last:
                row.epoch = secrets.token_hex(8)
            if marked != (row.epoch, last):
                mark = {"epoch": row.epoch, "last": last}
                with contextlib.suppress(OSError):  # no room: the next change is marked again
                    atomic_write(self._path, json.dumps(mark).encode())

    def _marked(self) -> tuple[str, int] | None:
        try:
            document = json.loads(self._path.read_bytes())
            return str(document["epoch"]), int(document["last"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


def last_sequence(session: Session) -> int:
    """Return the number of the last change; 0 if there is none."""
    return session.scalar(select(func.max(ChangeRow.sequence))) or 0


def epoch_of(session: Session) -> str:
    """Return the epoch of the tables that a session reads."""
    return session.get_one(FeedRow, 1).epoch
