"""What is in a store, as a whole: its records and blobs one by one, and documents that have names.

Documents are for what keys are not: a run, a mark that something lives. Here is the seam through
which housekeeping looks at a local store and at a remote one alike.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cluster.store import Store
from cluster.store.remote import RemoteStore
from encoder.errors import StoreUnusable


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or object of a store."""

    name: str
    """Below the store's root, with slashes."""
    size: int
    """Bytes."""
    modified: float
    """Seconds since 1970, by the clock of whoever keeps it."""

    @property
    def digest(self) -> str:
        """Of a blob its digest, of a record its key."""
        return self.name.rpartition("/")[2].partition(".")[0]


class Shelf(Protocol):
    """All that a store holds."""

    def list(self, folder: str) -> Iterator[Entry]:
        """Everything below ``blobs``, ``records`` or ``runs``."""

    def read(self, name: str) -> bytes | None:
        """Its bytes; None if it is not there."""

    def write(self, name: str, content: bytes) -> None:
        """Replace or make it, in one step."""

    def remove(self, name: str) -> None:
        """Remove it, if it is there."""


def shelf(store: Store) -> Shelf:
    """That of a store."""
    return _Remote(store) if isinstance(store, RemoteStore) else _Local(store)


def now(on: Shelf) -> float:
    """The time by the clock of whoever keeps the store, which may not be ours.

    Raises:
        StoreUnusable: it cannot be written.
    """
    name = f"runs/clock-{os.urandom(4).hex()}"
    on.write(name, b"")
    try:
        return next(
            (entry.modified for entry in on.list("runs") if entry.name == name), time.time()
        )
    finally:
        on.remove(name)


class _Local:
    def __init__(self, store: Store) -> None:
        self._root = store.root

    def list(self, folder: str) -> Iterator[Entry]:
        for path in sorted((self._root / folder).rglob("*")):
            with contextlib.suppress(FileNotFoundError):
                if path.is_file() and not path.name.startswith("."):
                    status = path.stat()
                    yield Entry(
                        path.relative_to(self._root).as_posix(), status.st_size, status.st_mtime
                    )

    def read(self, name: str) -> bytes | None:
        with self._usable(), contextlib.suppress(FileNotFoundError):
            return (self._root / name).read_bytes()
        return None

    def write(self, name: str, content: bytes) -> None:
        path = self._root / name
        with self._usable():
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(3).hex()}")
            try:
                partial.write_bytes(content)
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        with self._usable():
            Path(self._root / name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def _usable(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StoreUnusable(
                f"the store {self._root} cannot be used: {error.strerror}; make it accessible"
            ) from error


class _Remote:
    def __init__(self, store: RemoteStore) -> None:
        self._objects = store.objects

    def list(self, folder: str) -> Iterator[Entry]:
        for found in self._objects.list(folder):
            yield Entry(found.name, found.size, found.modified)

    def read(self, name: str) -> bytes | None:
        return self._objects.read(name)

    def write(self, name: str, content: bytes) -> None:
        self._objects.replace(name, content)

    def remove(self, name: str) -> None:
        self._objects.delete(name)
