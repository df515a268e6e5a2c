"""Whether another process has changed the tables, asked at every read.

Where several processes answer for one service, a client may hear of a change from one of them and
read from another at once. SQLite counts the commits of other connections in shared memory; asking
for that number takes microseconds and reads no file.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path


class TableWatch:
    """Looks at the tables in the file ``path``. May be used from several threads."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._lock = threading.Lock()
        self._version: int | None = None

    def new_sequence(self) -> int | None:
        """Return the number of the last change of the feed, or None if no other connection has
        committed anything since the last call."""
        with self._lock, contextlib.suppress(sqlite3.OperationalError):  # busy: ask next time
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
            if version == self._version:
                return None
            last = self._connection.execute("SELECT max(sequence) FROM changes").fetchone()[0]
            self._version = version
            return last or 0
        return None

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
