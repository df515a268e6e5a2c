"""Whether the service can write: what its readiness tells beyond being able to read."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from cluster.service.database import Database
from encoder.errors import StoreUnusable

PROBE_BYTES = 65_536
"""Size of the file that is written to see that there is room."""
HOLDS_SECONDS = 1.0
"""Time for which the result of a look holds: whoever asks more often causes no more writes."""


class Writable:
    """Looks whether the tables and the folder ``root`` of a service can be written."""

    def __init__(
        self, database: Database, root: Path, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._path = root / ".writable"
        self._clock = clock
        self._lock = threading.Lock()
        self._looked: float | None = None
        self._error: StoreUnusable | None = None

    def check(self) -> None:
        """Check that jobs could be taken and packages published now.

        Raises:
            StoreUnusable: the folder is read-only or full, or the tables cannot be written.
        """
        with self._lock:
            now = self._clock()
            if self._looked is None or now - self._looked >= HOLDS_SECONDS:
                self._error = self._look()
                self._looked = self._clock()
            if self._error is not None:
                raise StoreUnusable(self._error.message, reason="not_writable")

    def _look(self) -> StoreUnusable | None:
        try:
            _write(self._path)
            self._database.check_writable()
        except OSError as error:
            return StoreUnusable(
                f"nothing can be written in {self._path.parent} ({error.strerror}); "
                "make room there, or make it writable"
            )
        except StoreUnusable as error:
            return error
        return None


def _write(path: Path) -> None:
    try:
        with path.open("wb") as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
