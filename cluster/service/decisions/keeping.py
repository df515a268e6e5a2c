"""What a service has of policies, and the thread that writes the log's hours."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import structlog

from cluster.policy.ledger import Ledger
from cluster.policy.place import Place
from cluster.policy.registry import Registry
from cluster.service.decisions.choosing import Chooser
from cluster.service.decisions.ids import DecisionIds
from cluster.service.decisions.shelf import Shelves
from cluster.service.library.library import Library
from cluster.service.library.links import SigningKeys

log = structlog.stdlib.get_logger(__name__)

LOG_SECONDS = 10.0
"""Time between looks for hours that are over, and between checkpoints."""


class Decisions:
    """Decisions and outcomes of a service, opened when the first request comes: a service that
    nobody asks keeps no ledger."""

    def __init__(self, library: Library, data: Path, *, day_starts_hour: int = 0) -> None:
        self.place = Place.of(data)
        self._library = library
        self._day_starts_hour = day_starts_hour
        self._opening = threading.Lock()
        self._opened: tuple[Ledger, Chooser, DecisionIds] | None = None

    @property
    def ledger(self) -> Ledger:
        """The ledger.

        Raises:
            StoreUnusable: it cannot be opened.
        """
        return self._parts()[0]

    @property
    def chooser(self) -> Chooser:
        """What chooses; errors as those of :attr:`ledger`."""
        return self._parts()[1]

    @property
    def ids(self) -> DecisionIds:
        """What signs; errors as those of :attr:`ledger`."""
        return self._parts()[2]

    def _parts(self) -> tuple[Ledger, Chooser, DecisionIds]:
        with self._opening:
            if self._opened is None:
                ledger = Ledger(self.place)
                ids = DecisionIds(SigningKeys(self.place.keys))
                shelves = Shelves(self._library, self.place.pools)
                chooser = Chooser(
                    ledger,
                    Registry(self.place),
                    shelves,
                    ids,
                    day_starts_hour=self._day_starts_hour,
                )
                self._opened = ledger, chooser, ids
            return self._opened

    def write_log(self) -> None:
        """Write the hours that are over, if anything was ever decided."""
        if self.place.ledger.exists():
            self.ledger.write_log(time.time())
            self.ledger.checkpoint()


@contextlib.contextmanager
def log_written(decisions: Decisions) -> Iterator[None]:
    """Write the log's hours in a thread, until the block ends."""
    stopped = threading.Event()

    def write() -> None:
        while not stopped.wait(LOG_SECONDS):
            try:
                decisions.write_log()
            except Exception as error:  # the thread has to outlive whatever one hour holds
                log.error("an hour of the log was not written; tried again", detail=str(error))

    thread = threading.Thread(target=write, name="policy-log", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
