"""A view of a store whose new records are not trusted before they are confirmed.

What is made under a session lies in ``quarantine/SESSION/ef/ef01....json``. Only views of the same
session see it; :func:`confirm` moves it among the records that everybody sees, and :func:`discard`
removes it. Blobs need no quarantine: nobody finds one but through a record.

Who opens a session and what confirms it is decided in :mod:`cluster.stages.quarantine`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from typing_extensions import override

from cluster.store.local import Store
from cluster.store.records import (
    Record,
    parse_record,
    record_bytes,
    record_name,
)
from encoder.errors import StoreUnusable

FOLDER = "quarantine"
_STREAMS = 16
_OWN = frozenset(
    {"get", "publish", "publish_record", "records", "session", "base", "guard", "_find"}
)


class Guard(Protocol):
    """Decides whether a result may be stored."""

    def check(self) -> None:
        """Raise an error if what was read since the last call may not be trusted."""


class QuarantinedStore(Store):
    """The store ``base`` as one session sees it. All but :data:`_OWN` is done by ``base``.

    ``publish`` is inherited and ends in :meth:`publish_record` here.
    """

    def __init__(self, base: Store, session: str, guard: Guard) -> None:
        """See the store ``base`` under a session.

        Args:
            base: The store.
            session: Name of the session, a few hexadecimal digits.
            guard: Asked before a record is stored; its error keeps the record out.
        """
        self.base = base
        self.session = session
        self.guard = guard

    @override
    def __getattribute__(self, name: str) -> Any:
        if name in _OWN or name.startswith("__"):
            return object.__getattribute__(self, name)
        return getattr(object.__getattribute__(self, "base"), name)

    @override
    def get(self, key: str) -> Record | None:
        # Last among the records again: another process may have confirmed it in between.
        return self.base.get(key) or self._find(key) or self.base.get(key)

    @override
    def publish_record(self, record: Record) -> Record:
        self.guard.check()
        first = self.get(record.key)
        if first is not None:
            return first
        for blob in record.blobs.values():
            self.base.require(blob)
        content = record_bytes(record)
        parsed = parse_record(content, record.key)
        assert parsed is not None
        self.base.write_entry(_name(self.session, record.key), content)
        return parsed

    @override
    def records(self, stage: str) -> Iterator[Record]:
        found = {record.key: record for record in self.base.records(stage)}
        for name in quarantined(self.base, self.session):
            record = self._find(_key(name))
            if record is not None and record.stage == stage:
                found.setdefault(record.key, record)
        yield from (found[key] for key in sorted(found))

    def _find(self, key: str) -> Record | None:
        record = parse_record(self.base.read_entry(_name(self.session, key)), key)
        return record if record is not None and _whole(self.base, record) else None


def quarantined(store: Store, session: str) -> list[str]:
    """Return the names of the entries that a session has in quarantine."""
    return [entry.name for entry in store.entries(f"{FOLDER}/{session}")]


def confirm(store: Store, names: Sequence[str]) -> int:
    """Make records of a quarantine visible to everybody; return how many.

    Args:
        store: The store itself, not a view of it.
        names: Names of the entries, from :func:`quarantined`.
    """

    def move(name: str) -> int:
        record = parse_record(store.read_entry(name), _key(name))
        if record is not None and _whole(store, record):
            store.adopt(name, record)
            return 1
        store.remove_entry(name)
        return 0

    with ThreadPoolExecutor(_STREAMS if store.remote else 1) as pool:
        return sum(pool.map(move, names))


def discard(store: Store, names: Sequence[str]) -> None:
    """Remove entries of a quarantine."""
    for name in names:
        store.remove_entry(name)


def _whole(store: Store, record: Record) -> bool:
    """Tell whether the blobs of a record are there, without fetching any."""
    try:
        for blob in record.blobs.values():
            store.require(blob)
    except StoreUnusable as error:
        if "sha256" not in error.context:
            raise
        return False
    return True


def _name(session: str, key: str) -> str:
    return f"{FOLDER}/{session}/{record_name(key).removeprefix('records/')}"


def _key(name: str) -> str:
    return name.rpartition("/")[2].partition(".")[0]
