"""A store behind a URL, with the same guarantees as one in a folder but without a shared disk.

::

    s3://bucket/folder/
     ├── blobs/ab/abcd...          bytes, named by their SHA-256
     ├── records/ef/ef01....json   as in a local store; written only where no record is yet
     ├── quarantine/               records that are not trusted yet
     ├── runs/                     manifests of runs
     ├── stages/labels/ef01....    empty marks that make the records of a stage listable
     └── locks/ef01....N           one object per claim that is held, see below

Everything read or written passes through the cache, a local store of bounded size, and is checked
there by size and digest. Processes of one machine share a cache.

A claim is an object that nobody else could create. Its holder writes the object again and again; a
process that waits and sees no change for :data:`LEASE_SECONDS` on its own clock takes over by
creating the object with the next number. No clocks are compared. A holder that was only cut off
may finish beside its successor: the work is then done twice, and the first record stands.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from typing_extensions import override

from cluster.store.local import Store
from cluster.store.objects import Objects
from cluster.store.records import Blob, Entry, Record, blob_name, parse_record, record_name
from encoder.errors import StoreUnusable

LEASE_SECONDS = 30.0
POLL_SECONDS = 0.5
CACHE_VARIABLE = "SHOTLADDER_CACHE"
"""Environment variable that names the folder of the cache, by default beside the default store."""
LIMIT_VARIABLE = "SHOTLADDER_CACHE_GB"
"""Environment variable with the size that the cache may have, in gigabytes."""
DEFAULT_LIMIT_GB = 20.0
PINNED, LEAST_PINNED = 64, 8
"""Number of files read last by this process that stay in the cache: at most the first number, and
no more than take half of the limit, but always the second number."""
PRESENT_SECONDS = 60.0
"""Time for which an object that was seen counts as still there."""
STREAMS = 16
"""Number of parallel requests when many objects are read."""
LISTED = ("labels",)
"""Stages whose records can be listed: each record leaves a mark, as reading all records is slow."""
RECORDS = 50_000
"""Number of records that a process remembers."""


def cache_folder(url: str) -> Path:
    """Return this machine's folder for what is fetched from ``url``."""
    set_by_user = os.environ.get(CACHE_VARIABLE)
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shotladder"
    place = Path(set_by_user) if set_by_user else base / "fetched"
    return place / hashlib.sha256(url.encode()).hexdigest()[:16]


class RemoteStore(Store):
    """A store at ``url``, with a cache in a local folder."""

    remote = True

    def __init__(self, url: str, cache: Path | None = None, limit: int | None = None) -> None:
        self.objects = Objects(url)
        super().__init__(cache or cache_folder(self.objects.url))
        self.place = self.objects.url
        if limit is None:
            limit = int(float(os.environ.get(LIMIT_VARIABLE) or DEFAULT_LIMIT_GB) * 1e9)
        self.limit_bytes = limit
        """Size that the cache may have."""
        self._fetched = 0
        self._pins: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._records: OrderedDict[str, Record] = OrderedDict()
        self._present: dict[str, float] = {}
        self._lock = threading.Lock()

    @override
    def close(self) -> None:
        with self._lock:
            while self._pins:
                os.close(self._pins.popitem()[1][0])
        super().close()

    # -- blobs ---------------------------------------------------------------------------------

    @override
    def put_blob(self, source: bytes | os.PathLike[str], *, move: bool = False) -> Blob:
        while True:
            blob = super().put_blob(source, move=move)
            if (kept := self._pinned(blob)) is not None:
                break
            if move and not isinstance(source, bytes):  # evicted within an instant
                raise self._cache_too_small(blob)
        # An object that exists is written again: it may be damaged.
        self.objects.upload(blob_name(blob.sha256), kept)
        self._seen(blob.sha256)
        self._grew(blob.size)
        return blob

    @override
    def find(self, blob: Blob) -> Path | None:
        for _ in range(3):
            if (kept := self._pinned(blob)) is not None:
                return kept
            if not self._fetch(blob):
                return None
        raise self._cache_too_small(blob)

    @override
    def keep(self, blob: Blob, folder: Path) -> Path:
        kept = folder / blob.sha256
        if not kept.exists():
            cached = self.path(blob)
            try:
                os.link(cached, kept)  # stays when the cache removes its own name of the file
            except OSError:
                shutil.copyfile(cached, kept)
        return kept

    @override
    def preload(self, keys: Iterable[str] = (), blobs: Iterable[Blob] = ()) -> None:
        unknown = [key for key in dict.fromkeys(keys) if key not in self._records]
        with ThreadPoolExecutor(STREAMS) as pool:
            list(pool.map(self.get, unknown))
            list(pool.map(self.find, dict.fromkeys(blobs)))

    @override
    def intact(self, record: Record) -> bool:
        if all(self.find(blob) is not None for blob in record.blobs.values()):
            return True
        with self._lock:
            self._records.pop(record.key, None)
        return False

    # -- records -------------------------------------------------------------------------------

    @override
    def get(self, key: str) -> Record | None:
        with self._lock:
            record = self._records.get(key)
        if record is None:
            record = parse_record(self.objects.read(record_name(key)), key)
        # Only the existence and size of blobs are checked here; their bytes when they are read.
        if record is None or not all(map(self._is_there, record.blobs.values())):
            with self._lock:
                self._records.pop(key, None)
            return None
        with self._lock:
            self._records[key] = record
            while len(self._records) > RECORDS:
                self._records.popitem(last=False)
        return record

    @override
    def require(self, blob: Blob) -> None:
        if not self._is_there(blob):
            raise self._lost(blob)

    @override
    def _publish(self, record: Record, content: bytes) -> Record:
        key, stage = record.key, record.stage
        name = record_name(key)
        while not self.objects.create(name, content):
            existing = self.objects.read(name)
            first = parse_record(existing, key)
            if first is not None and all(map(self._is_there, first.blobs.values())):
                return first
            if existing is not None:  # damaged, or its blobs are gone
                self.objects.replace(name, content)
                break
        if stage in LISTED:
            self.objects.replace(f"stages/{stage}/{key}", b"")
        with self._lock:
            self._records[key] = record
        return record

    @override
    def adopt(self, name: str, record: Record) -> None:
        self.publish_record(record)
        self.remove_entry(name)

    @override
    def records(self, stage: str) -> Iterator[Record]:
        if stage not in LISTED:
            raise ValueError(f"records of {stage!r} are not listed behind a URL")
        keys = sorted(mark.digest for mark in self.entries(f"stages/{stage}"))
        self.preload(keys)
        for key in keys:
            record = self.get(key)
            if record is not None:
                yield record

    # -- entries -------------------------------------------------------------------------------

    @override
    def entries(self, folder: str) -> Iterator[Entry]:
        return self.objects.list(folder)

    @override
    def read_entry(self, name: str) -> bytes | None:
        return self.objects.read(name)

    @override
    def write_entry(self, name: str, content: bytes) -> None:
        self.objects.replace(name, content)

    @override
    def remove_entry(self, name: str) -> None:
        self.objects.delete(name)

    @override
    def remove_empty_folders(self, folder: str) -> None:
        pass  # there are only objects

    @override
    def abort_uploads(self, older_than: float) -> int:
        return self.objects.abort_uploads(older_than)

    # -- exclusion -----------------------------------------------------------------------------

    @contextlib.contextmanager
    @override
    def claim(self, *keys: str) -> Iterator[None]:
        # Among all machines; the module's docstring says what ends a claim.
        with super().claim(*keys), self._leased([f"locks/{key}" for key in sorted(set(keys))]):
            yield

    @contextlib.contextmanager
    def _leased(self, names: list[str]) -> Iterator[None]:
        """Hold the lock objects, renewing them from a thread."""
        ended = threading.Event()
        held: dict[str, int] = {}
        renewer = threading.Thread(target=self._renew, args=(held, ended), daemon=True)
        renewer.start()
        try:
            for name in names:
                held[name] = self._acquire(name)
            yield
        finally:
            ended.set()
            renewer.join()
            with contextlib.suppress(StoreUnusable):  # others will take the locks over
                for name, number in held.items():
                    for old in range(number, -1, -1):
                        self.objects.delete(f"{name}.{old}")

    def _acquire(self, name: str) -> int:
        """Wait for the lock ``name`` and return the number of the object that holds it."""
        number, seen, since = 0, "", time.monotonic()
        while True:
            if self.objects.create(f"{name}.{number}", _stamp()):
                return number
            holder = self.objects.find(f"{name}.{number}")
            if holder is None:
                number = 0
                continue
            if (tag := f"{number} {holder.tag} {holder.modified}") != seen:
                seen, since = tag, time.monotonic()
            elif time.monotonic() - since > LEASE_SECONDS:
                number += 1
                continue
            time.sleep(POLL_SECONDS)

    def _renew(self, held: Mapping[str, int], ended: threading.Event) -> None:
        while not ended.wait(LEASE_SECONDS / 5):
            for name, number in list(held.items()):
                with contextlib.suppress(StoreUnusable):
                    self.objects.replace(f"{name}.{number}", _stamp())

    # -- inside --------------------------------------------------------------------------------

    def _is_there(self, blob: Blob) -> bool:
        now = time.monotonic()
        if now - self._present.get(blob.sha256, -PRESENT_SECONDS) < PRESENT_SECONDS:
            return True
        stat = self.objects.find(blob_name(blob.sha256))
        if stat is None or stat.size != blob.size:
            return False
        self._seen(blob.sha256)
        return True

    def _seen(self, sha256: str) -> None:
        if len(self._present) > RECORDS:
            self._present.clear()
        self._present[sha256] = time.monotonic()

    def _fetch(self, blob: Blob) -> bool:
        """Bring the blob into the cache; False if it is missing or damaged, and then removed."""
        name = blob_name(blob.sha256)
        with self.scratch() as folder:
            if not self.objects.download(name, folder / "blob"):
                return False
            if Blob.of_file(folder / "blob") != blob:
                self._present.pop(blob.sha256, None)
                self.objects.delete(name)
                return False
            super().put_blob(folder / "blob", move=True)
            self._pinned(blob)  # before room is made
        self._seen(blob.sha256)
        self._grew(blob.size)
        return True

    def _pinned(self, blob: Blob) -> Path | None:
        """Return the blob's file in the cache and hold it there for a while."""
        cached = super().find(blob)
        if cached is None:
            return None
        try:
            descriptor = os.open(cached, os.O_RDONLY)
        except FileNotFoundError:
            return None
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if os.fstat(descriptor).st_nlink == 0:  # evicted meanwhile
            os.close(descriptor)
            return None
        status = os.fstat(descriptor)
        with contextlib.suppress(OSError):
            os.utime(cached, ns=(time.time_ns(), status.st_mtime_ns))
        with self._lock:
            before = self._pins.pop(blob.sha256, None)
            self._pins[blob.sha256] = descriptor, status.st_size
            if before is not None:
                os.close(before[0])
            while len(self._pins) > LEAST_PINNED and (
                len(self._pins) > PINNED
                or sum(size for _, size in self._pins.values()) > self.limit_bytes / 2
            ):
                os.close(self._pins.popitem(last=False)[1][0])
        return cached

    def _grew(self, size: int) -> None:
        with self._lock:
            self._fetched += size
            if self._fetched < self.limit_bytes / 20:
                return
            self._fetched = 0
        self.evict()

    def evict(self) -> int:
        """Remove the blobs used least recently until the cache fits its limit.

        Return the size of the remaining blobs in bytes.
        """
        entries = []
        for path in (self.root / "blobs").glob("*/*"):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                entries.append((status.st_atime_ns, status.st_size, path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total <= self.limit_bytes:
                break
            if _removed(path):
                total -= size
        return total

    def _cache_too_small(self, blob: Blob) -> StoreUnusable:
        return StoreUnusable(
            f"the cache {self.root} is too small for {blob.size} bytes; raise {LIMIT_VARIABLE}"
        )


def _removed(path: Path) -> bool:
    """Remove a file of the cache unless a process has pinned it; tell whether it is removed."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _stamp() -> bytes:
    return uuid.uuid4().hex.encode()
