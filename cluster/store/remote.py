"""A store behind a URL: the same promises as :mod:`cluster.store`, without a shared disk.

::

    s3://bucket/folder/
     ├── blobs/ab/abcd...          bytes, named by their SHA-256
     ├── records/ef/ef01....json   as in a local store; written only where none is
     └── locks/ef01....N           one object per claim that is held, see below

What is read passes through a local store of bounded size, the cache, and is checked by size and
digest on its way; so is what is written. Processes of one machine share a cache.

A claim is an object that nobody else could create. Its holder writes it again and again; who waits
and sees no change for :data:`LEASE_SECONDS` on its own clock takes over by creating the next in
number. No clocks are compared. A holder that was only cut off may finish beside its successor:
work is then done twice, and the first record stands.
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

from cluster.store.local import Blob, Record, Store, parse_record
from cluster.store.objects import Objects
from encoder.errors import StoreUnusable

LEASE_SECONDS = 30.0
POLL_SECONDS = 0.5
CACHE_VARIABLE = "SHOTLADDER_CACHE"
"""Folder for what is fetched; default: beside the default store."""
LIMIT_VARIABLE = "SHOTLADDER_CACHE_GB"
DEFAULT_LIMIT_GB = 20.0
PINNED, LEAST_PINNED = 64, 8
"""Files handed out last by this process stay: so many, or as many as take half of the limit, but
these few whatever the limit."""
PRESENT_SECONDS = 60.0
"""How long an object that was seen is taken to be still there."""
STREAMS = 16
"""Requests at once, where there are many."""
LISTED = ("labels",)
"""Stages whose records can be listed: each leaves a mark, as reading all records is slow."""
RECORDS = 50_000
"""Records that a process remembers."""


def cache_folder(url: str) -> Path:
    """Where what is fetched from ``url`` is kept on this machine."""
    set_by_user = os.environ.get(CACHE_VARIABLE)
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shotladder"
    place = Path(set_by_user) if set_by_user else base / "fetched"
    return place / hashlib.sha256(url.encode()).hexdigest()[:16]


def cache_limit() -> int:
    """Bytes that the cache may take."""
    return int(float(os.environ.get(LIMIT_VARIABLE) or DEFAULT_LIMIT_GB) * 1e9)


class RemoteStore(Store):
    """A store at ``url``, with a cache in a local folder."""

    def __init__(self, url: str, cache: Path | None = None, limit: int | None = None) -> None:
        self.objects = Objects(url)
        super().__init__(cache or cache_folder(self.objects.url))
        self.place = self.objects.url
        self._limit = cache_limit() if limit is None else limit
        self._fetched = 0
        self._pins: OrderedDict[str, tuple[int, int]] = OrderedDict()
        self._records: OrderedDict[str, Record] = OrderedDict()
        self._present: dict[str, float] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"RemoteStore({self.place!r})"

    @property
    def remote(self) -> bool:
        """As :attr:`Store.remote`."""
        return True

    def close(self) -> None:
        """As :meth:`Store.close`; and let go of the cache's files."""
        with self._lock:
            while self._pins:
                os.close(self._pins.popitem()[1][0])
        super().close()

    # -- blobs ---------------------------------------------------------------------------------

    def put_blob(self, source: bytes | os.PathLike[str], *, move: bool = False) -> Blob:
        """As :meth:`Store.put_blob`. What is there is written again: it may be damaged."""
        while True:
            blob = super().put_blob(source, move=move)
            if (kept := self._pinned(blob)) is not None:
                break
            if move and not isinstance(source, bytes):  # evicted within an instant
                raise StoreUnusable(f"the cache {self.root} is too small for {blob.size} bytes")
        self.objects.upload(_blob_name(blob), kept)
        self._seen(blob.sha256)
        self._grew(blob.size)
        return blob

    def find(self, blob: Blob) -> Path | None:
        """As :meth:`Store.find`: fetched if it is not in the cache. A damaged object is removed."""
        for _ in range(3):
            if (kept := self._pinned(blob)) is not None:
                return kept
            if not self._fetch(blob):
                return None
        raise StoreUnusable(f"the cache {self.root} is too small for {blob.size} bytes")

    def keep(self, blob: Blob, folder: Path) -> Path:
        """As :meth:`Store.keep`: what is fetched stays there, also when the cache wants room."""
        kept = folder / blob.sha256
        if not kept.exists():
            found = self.path(blob)
            try:
                os.link(found, kept)
            except OSError:
                shutil.copyfile(found, kept)
        return kept

    def warm(self, keys: Iterable[str] = (), blobs: Iterable[Blob] = ()) -> None:
        """As :meth:`Store.warm`: many requests at once."""
        wanted = [key for key in dict.fromkeys(keys) if key not in self._records]
        with ThreadPoolExecutor(STREAMS) as pool:
            list(pool.map(self.get, wanted))
            list(pool.map(self.find, dict.fromkeys(blobs)))

    def intact(self, record: Record) -> bool:
        """As :meth:`Store.intact`: read and compared with their digests."""
        if all(self.find(blob) is not None for blob in record.blobs.values()):
            return True
        with self._lock:
            self._records.pop(record.key, None)
        return False

    # -- records -------------------------------------------------------------------------------

    def get(self, key: str) -> Record | None:
        """As :meth:`Store.get`; of blobs only that they are there and of the right size is known
        until they are read.
        """
        with self._lock:
            record = self._records.get(key)
        if record is None:
            content = self.objects.read(_record_name(key))
            record = parse_record(content, key) if content is not None else None
        if record is None or not all(map(self._is_there, record.blobs.values())):
            with self._lock:
                self._records.pop(key, None)
            return None
        with self._lock:
            self._records[key] = record
            while len(self._records) > RECORDS:
                self._records.popitem(last=False)
        return record

    def _require(self, blob: Blob) -> None:
        if not self._is_there(blob):
            raise self._lost(blob)

    def _first(self, record: Record, content: bytes) -> Record:
        key, stage = record.key, record.stage
        name = _record_name(key)
        while not self.objects.create(name, content):
            there = self.objects.read(name)
            first = parse_record(there, key) if there is not None else None
            if first is not None and all(map(self._is_there, first.blobs.values())):
                return first
            if there is not None:  # damaged, or of blobs that are gone
                self.objects.replace(name, content)
                break
        if stage in LISTED:
            self.objects.replace(f"stages/{stage}/{key}", b"")
        published = parse_record(content, key)
        assert published is not None
        with self._lock:
            self._records[key] = published
        return published

    def records(self, stage: str) -> Iterator[Record]:
        """As :meth:`Store.records`, of the :data:`LISTED` stages."""
        if stage not in LISTED:
            raise ValueError(f"records of {stage!r} are not listed behind a URL")
        keys = sorted(
            found.name.rpartition("/")[2] for found in self.objects.list(f"stages/{stage}")
        )
        self.warm(keys)
        for key in keys:
            record = self.get(key)
            if record is not None:
                yield record

    # -- exclusion -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def claim(self, *keys: str) -> Iterator[None]:
        """As :meth:`Store.claim`, among all machines; see the module for what ends a claim."""
        with super().claim(*keys), self._leased([f"locks/{key}" for key in sorted(set(keys))]):
            yield

    @contextlib.contextmanager
    def _leased(self, names: list[str]) -> Iterator[None]:
        ended = threading.Event()
        held: dict[str, int] = {}
        keeper = threading.Thread(target=self._keep, args=(held, ended), daemon=True)
        keeper.start()
        try:
            for name in names:
                held[name] = self._acquired(name)
            yield
        finally:
            ended.set()
            keeper.join()
            with contextlib.suppress(StoreUnusable):  # they will be taken over
                for name, number in held.items():
                    for old in range(number, -1, -1):
                        self.objects.delete(f"{name}.{old}")

    def _acquired(self, name: str) -> int:
        number, seen, since = 0, "", time.monotonic()
        while True:
            if self.objects.create(f"{name}.{number}", _stamp()):
                return number
            found = self.objects.find(f"{name}.{number}")
            if found is None:
                number = 0
                continue
            if (tag := f"{number} {found.tag} {found.modified}") != seen:
                seen, since = tag, time.monotonic()
            elif time.monotonic() - since > LEASE_SECONDS:
                number += 1
                continue
            time.sleep(POLL_SECONDS)

    def _keep(self, held: Mapping[str, int], ended: threading.Event) -> None:
        while not ended.wait(LEASE_SECONDS / 5):
            for name, number in list(held.items()):
                with contextlib.suppress(StoreUnusable):
                    self.objects.replace(f"{name}.{number}", _stamp())

    # -- inside --------------------------------------------------------------------------------

    def _is_there(self, blob: Blob) -> bool:
        now = time.monotonic()
        if now - self._present.get(blob.sha256, -PRESENT_SECONDS) < PRESENT_SECONDS:
            return True
        found = self.objects.find(_blob_name(blob))
        if found is None or found.size != blob.size:
            return False
        self._seen(blob.sha256)
        return True

    def _seen(self, sha256: str) -> None:
        if len(self._present) > RECORDS:
            self._present.clear()
        self._present[sha256] = time.monotonic()

    def _fetch(self, blob: Blob) -> bool:
        """Whether the blob was brought into the cache."""
        with self.scratch() as folder:
            if not self.objects.download(_blob_name(blob), folder / "blob"):
                return False
            digest, size = hashlib.sha256(), 0
            with (folder / "blob").open("rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
                    size += len(chunk)
            if (digest.hexdigest(), size) != (blob.sha256, blob.size):
                self._present.pop(blob.sha256, None)
                self.objects.delete(_blob_name(blob))
                return False
            super().put_blob(folder / "blob", move=True)
            self._pinned(blob)  # before room is made
        self._seen(blob.sha256)
        self._grew(blob.size)
        return True

    def _pinned(self, blob: Blob) -> Path | None:
        """The blob in the cache, held there for a while."""
        found = super().find(blob)
        if found is None:
            return None
        try:
            descriptor = os.open(found, os.O_RDONLY)
        except FileNotFoundError:
            return None
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if os.fstat(descriptor).st_nlink == 0:  # evicted meanwhile
            os.close(descriptor)
            return None
        status = os.fstat(descriptor)
        with contextlib.suppress(OSError):
            os.utime(found, ns=(time.time_ns(), status.st_mtime_ns))
        with self._lock:
            before = self._pins.pop(blob.sha256, None)
            self._pins[blob.sha256] = descriptor, status.st_size
            if before is not None:
                os.close(before[0])
            while len(self._pins) > LEAST_PINNED and (
                len(self._pins) > PINNED
                or sum(size for _, size in self._pins.values()) > self._limit / 2
            ):
                os.close(self._pins.popitem(last=False)[1][0])
        return found

    def _grew(self, size: int) -> None:
        with self._lock:
            self._fetched += size
            if self._fetched < self._limit / 20:
                return
            self._fetched = 0
        self.evict()

    def evict(self) -> int:
        """Remove what was not used for longest until the cache fits its limit; bytes left."""
        entries = []
        for path in (self.root / "blobs").glob("*/*"):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                entries.append((status.st_atime_ns, status.st_size, path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total <= self._limit:
                break
            if _removed(path):
                total -= size
        return total


def _removed(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return False  # somebody reads it
    finally:
        os.close(descriptor)
    return True


def _stamp() -> bytes:
    return uuid.uuid4().hex.encode()


def _blob_name(blob: Blob) -> str:
    return f"blobs/{blob.sha256[:2]}/{blob.sha256}"


def _record_name(key: str) -> str:
    return f"records/{key[:2]}/{key}.json"
