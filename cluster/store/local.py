"""The content-addressed store: what was made once is found again, whole, or not at all.

::

    root/
     ├── blobs/ab/abcd...          bytes, named by their SHA-256
     ├── records/ef/ef01....json   what a key gave: a small document that names its blobs
     ├── runs/                     what is remembered of runs, see cluster.jobs.history
     ├── locks/                    one file per claim that is held now
     └── temporary/                one folder per process that is writing now

A blob or a record appears by a rename, complete, or does not appear. A blob is checked by size
and digest when a process first reads it, a record by its own digest: what is damaged counts as
missing and is made again. Everything that a killed process leaves behind is guarded by a lock
that the kernel releases with the process, so the next store that opens here can tell it from
work in progress and sweeps it, without guessing from ages or process numbers.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from cluster.store.files import fsync_file
from cluster.store.keys import canonical_json
from encoder.errors import StoreUnusable

CHUNK_BYTES = 1 << 20
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
# Identity of a file's content as far as the file system tells: inode, size, change in ns.
_Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes in the store."""

    sha256: str
    """Digest of the bytes and their name, 64 hexadecimal digits."""
    size: int
    """Bytes."""

    def __post_init__(self) -> None:
        if not _DIGEST.match(self.sha256):
            raise ValueError(f"a blob is named by 64 hexadecimal digits, got {self.sha256!r}")
        if self.size < 0:
            raise ValueError(f"a blob's size is not negative, got {self.size}")


@dataclass(frozen=True, slots=True)
class Record:
    """What a key gave."""

    key: str
    """From :func:`cluster.store.keys.key`."""
    stage: str
    version: int
    value: Any
    """JSON: the result itself, small."""
    blobs: Mapping[str, Blob] = field(default_factory=dict)
    """The files of the result, by a name that its stage chose."""
    cpu_seconds: Mapping[str, float] = field(default_factory=dict)
    """What making it cost, by purpose (``encode``, ``vmaf``, ``other``)."""
    created_by: str = ""
    """Release of the tool that made it."""
    title: str = ""
    """First 16 digits of the digest of the source that it belongs to; empty where none is."""


class Store:
    """A store in the folder ``root``, made if missing. Cheap to pickle: it is only the place.

    Every method may be called from several threads and processes at once.

    Raises:
        StoreUnusable: the folder cannot be made or read. Every method raises it when the disk is
            full or access is denied; nothing half-written is ever visible, and the store works
            again once the cause is gone.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).absolute()
        self.place = str(self.root)
        """What :func:`open_store` opens it by, on any machine that sees it."""
        self._verified: dict[str, _Stamp] = {}
        self._workspace: tuple[int, Path, weakref.finalize[Any, Any]] | None = None
        with self._usable("opened"):
            for name in ("blobs", "records", "locks", "temporary"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            self._sweep()

    def __reduce__(self) -> tuple[Any, ...]:
        return shared, (type(self), self.place)

    def __repr__(self) -> str:
        return f"Store({str(self.root)!r})"

    def close(self) -> None:
        """Remove this store's own temporary folder now instead of at the end of the process."""
        if self._workspace is not None:
            self._workspace[2]()
            self._workspace = None

    # -- blobs ---------------------------------------------------------------------------------

    def put_blob(self, source: bytes | os.PathLike[str], *, move: bool = False) -> Blob:
        """Keep bytes, or the bytes of a file. Putting the same bytes again changes nothing.

        ``move`` takes the file itself instead of a copy, at no cost if it lies in
        :meth:`scratch`; it must not be written to any more.

        Raises:
            FileNotFoundError: ``source`` is a file that does not exist.
            StoreUnusable: they cannot be written.
        """
        if isinstance(source, bytes):
            blob = Blob(hashlib.sha256(source).hexdigest(), len(source))
            if self.find(blob) is not None:
                return blob
        elif not Path(source).is_file():
            raise FileNotFoundError(errno.ENOENT, "no such file to put", os.fspath(source))
        with self._usable("written"), self._temporary_file() as (temporary, file):
            if isinstance(source, bytes):
                file.write(source)
            elif move and self._moved(Path(source), temporary):
                blob = _read_blob(temporary)
            else:
                blob = _copy(Path(source), file)
                if move:
                    Path(source).unlink()
            file.flush()
            temporary.chmod(0o644)  # mkstemp lets only its owner read
            fsync_file(temporary)
            stamp = _stamp(temporary)
            if stamp is None or stamp[1] != blob.size:
                raise OSError(errno.EIO, "what was written is not what was meant")
            final = self._blob_path(blob.sha256)
            with self._repairing():
                final.parent.mkdir(exist_ok=True)
                temporary.rename(final)
            self._verified[blob.sha256] = stamp
        return blob

    def find(self, blob: Blob) -> Path | None:
        """Where ``blob`` lies, to be read only; None if it is missing or damaged.

        The bytes are read and compared with the digest when this process first asks, and again
        if the file has changed since. A damaged file is removed.

        Raises:
            StoreUnusable: it is there and cannot be read.
        """
        path = self._blob_path(blob.sha256)
        with self._usable("read"):
            stamp = _stamp(path)
            if stamp is None:
                return None
            if self._verified.get(blob.sha256) == stamp and stamp[1] == blob.size:
                return path
            try:
                intact = stamp[1] == blob.size and _read_blob(path) == blob
            except FileNotFoundError:
                return None
            if intact:
                self._verified[blob.sha256] = stamp
                return path
            with self._repairing():
                # Not if another process has put a sound one in its place meanwhile.
                if _stamp(path) == stamp:
                    path.unlink()
        return None

    def path(self, blob: Blob) -> Path:
        """As :meth:`find`, for a blob that has to be there, as those of a record just got are.

        Raises:
            StoreUnusable: it is missing or damaged, or cannot be read.
        """
        found = self.find(blob)
        if found is None:
            raise self._lost(blob)
        return found

    def keep(self, blob: Blob, folder: Path) -> Path:
        """As :meth:`path`, for a blob that has to stay for as long as ``folder`` does.

        Raises:
            StoreUnusable: it is missing or damaged, or cannot be read.
        """
        return self.path(blob)

    def warm(self, keys: Iterable[str] = (), blobs: Iterable[Blob] = ()) -> None:
        """These will be asked for one by one: where that is slow, it is prepared here."""

    def intact(self, record: Record) -> bool:
        """Whether all blobs of a record that :meth:`get` gave are what they should be: read and
        compared, where :meth:`get` has not done so.
        """
        return True

    @property
    def remote(self) -> bool:
        """Whether it is elsewhere: then sources have to be brought to the workers too."""
        return False

    def _lost(self, blob: Blob) -> StoreUnusable:
        return StoreUnusable(
            f"{self.place} has lost the blob {blob.sha256[:12]} ({blob.size} bytes); "
            "run the same command again, it will be made again",
            root=self.place,
            sha256=blob.sha256,
        )

    # -- records -------------------------------------------------------------------------------

    def get(self, key: str) -> Record | None:
        """What ``key`` gave; None if that is not known, or any part of it is missing or damaged.

        Raises:
            StoreUnusable: it is there and cannot be read.
        """
        with self._usable("read"):
            record = _read_record(self._record_path(key), key)
        if record is None or any(self.find(blob) is None for blob in record.blobs.values()):
            return None
        return record

    def publish(
        self,
        key: str,
        value: Any,
        blobs: Mapping[str, Blob] | None = None,
        cpu_seconds: Mapping[str, float] | None = None,
        *,
        stage: str,
        version: int,
        title: str = "",
    ) -> Record:
        """Remember what ``key`` gave and return it as :meth:`get` will.

        If another process was first, its record stands and is returned.

        Raises:
            TypeError: ``value`` is not JSON.
            StoreUnusable: it cannot be written, or one of ``blobs`` is not in the store.
        """
        for blob in (blobs or {}).values():
            self._require(blob)
        record = Record(
            key,
            stage,
            version,
            value,
            dict(blobs or {}),
            dict(cpu_seconds or {}),
            created_by(),
            title,
        )
        return self._first(record, record_bytes(record))

    def _require(self, blob: Blob) -> None:
        """Only what is there may be named by a record."""
        self.path(blob)

    def _first(self, record: Record, content: bytes) -> Record:
        """Write a record, or give that of whoever was first."""
        key = record.key
        path = self._record_path(key)
        with self._usable("read"):
            before = _stamp(path)
        first = self.get(key)
        if first is not None:
            return first
        with self._usable("written"), self._temporary_file() as (temporary, file):
            file.write(content)
            file.flush()
            temporary.chmod(0o644)  # mkstemp lets only its owner read
            fsync_file(temporary)
            with self._repairing():
                path.parent.mkdir(exist_ok=True)
                if _stamp(path) != before:
                    first = _read_record(path, key)
                if first is None:
                    temporary.rename(path)
        if first is not None:
            return first
        published = parse_record(content, key)
        assert published is not None
        return published

    def records(self, stage: str) -> Iterator[Record]:
        """Everything that one stage has published, by key. Reads every record there is.

        Raises:
            StoreUnusable: it cannot be read.
        """
        with self._usable("listed"):
            keys = sorted(path.stem for path in (self.root / "records").glob("*/*.json"))
        for key in keys:
            record = self.get(key)
            if record is not None and record.stage == stage:
                yield record

    # -- exclusion and space -------------------------------------------------------------------

    @contextlib.contextmanager
    def claim(self, *keys: str) -> Iterator[None]:
        """Hold ``keys`` for one process (and thread): others that claim one of them wait.

        Look again with :meth:`get` once inside: whoever held the claim before may have made it.
        The kernel ends the claim of a killed process. Several keys are claimed in one order by
        everybody, so nobody waits in a circle; a claim inside a claim has no such order.

        Raises:
            StoreUnusable: the lock cannot be made.
        """
        with contextlib.ExitStack() as held:
            for key in sorted(set(keys)):
                with self._usable("locked"):
                    descriptor = _lock(self._lock_path(key))
                assert descriptor is not None
                held.callback(_unlock, self._lock_path(key), descriptor)
            yield

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """A new empty folder in the store's file system, removed at the end.

        If the process is killed the next store that opens here removes it.

        Raises:
            StoreUnusable: it cannot be made, or the disk was full inside.
        """
        with self._usable("written"):
            folder = Path(tempfile.mkdtemp(dir=self._own_temporary()))
        try:
            yield folder
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise self._unusable("written", error) from error
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    # -- inside --------------------------------------------------------------------------------

    def _blob_path(self, sha256: str) -> Path:
        return self.root / "blobs" / sha256[:2] / sha256

    def _record_path(self, key: str) -> Path:
        return self.root / "records" / _checked(key)[:2] / f"{key}.json"

    def _lock_path(self, key: str) -> Path:
        return self.root / "locks" / _checked(key)

    def _own_temporary(self) -> Path:
        """This process's folder for unfinished work, made at the first need."""
        if self._workspace is None or self._workspace[0] != os.getpid():
            while True:
                folder = self.root / "temporary" / os.urandom(8).hex()
                descriptor = _lock(folder.with_suffix(".lock"), wait=False)
                if descriptor is not None:
                    break
            folder.mkdir()
            leave = weakref.finalize(self, _leave, os.getpid(), folder, descriptor)
            self._workspace = (os.getpid(), folder, leave)
        return self._workspace[1]

    @contextlib.contextmanager
    def _temporary_file(self) -> Iterator[tuple[Path, IO[bytes]]]:
        """A new file that is gone at the end unless it was renamed away."""
        descriptor, name = tempfile.mkstemp(dir=self._own_temporary())
        path = Path(name)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123 (it is a descriptor)
                yield path, file
        finally:
            path.unlink(missing_ok=True)

    def _moved(self, source: Path, target: Path) -> bool:
        try:
            source.rename(target)
        except OSError as error:
            if error.errno == errno.EXDEV:
                return False
            raise
        return True

    @contextlib.contextmanager
    def _repairing(self) -> Iterator[None]:
        """Keeps the removal of what is damaged and the arrival of what is sound apart."""
        descriptor = os.open(self.root / "locks" / "repair", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _sweep(self) -> None:
        """Remove what killed processes left: their folders, and locks that nobody holds."""
        for lock in (self.root / "temporary").glob("*.lock"):
            descriptor = _lock(lock, wait=False)
            if descriptor is not None:
                shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                _unlock(lock, descriptor)
        for lock in (self.root / "locks").iterdir():
            if _DIGEST.match(lock.name):
                descriptor = _lock(lock, wait=False)
                if descriptor is not None:
                    _unlock(lock, descriptor)

    @contextlib.contextmanager
    def _usable(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._unusable(doing, error) from error

    def _unusable(self, doing: str, error: OSError) -> StoreUnusable:
        cause = error.strerror or str(error)
        remedy = (
            "free some space, or use another place"
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            else "make it accessible, or use another place"
        )
        return StoreUnusable(
            f"the store {self.root} cannot be {doing}: {cause}; {remedy}",
            root=str(self.root),
            errno=error.errno,
        )


@functools.cache
def shared(kind: type[Store], place: str) -> Store:
    """Return this process's store of this kind at ``place``.

    A worker unpickles the store with every task; what it has verified must outlive the task.
    """
    return kind(place)


@functools.cache
def created_by() -> str:
    """Release of this tool, as records have it."""
    return f"shotladder {importlib.metadata.version('shotladder')}"


def _checked(key: str) -> str:
    if not _DIGEST.match(key):
        raise ValueError(f"a key is 64 hexadecimal digits, got {key!r}")
    return key


# -- files -------------------------------------------------------------------------------------


def _stamp(path: Path) -> _Stamp | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _read_blob(path: Path) -> Blob:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return Blob(digest.hexdigest(), size)


def _copy(source: Path, target: IO[bytes]) -> Blob:
    """Copy and hash in one pass: the digest is that of the bytes written."""
    digest, size = hashlib.sha256(), 0
    with source.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            target.write(chunk)
            digest.update(chunk)
            size += len(chunk)
    return Blob(digest.hexdigest(), size)


# -- records as bytes --------------------------------------------------------------------------


def record_bytes(record: Record) -> bytes:
    """A record as it is kept: canonical JSON with its own digest."""
    document = {
        "key": record.key,
        "stage": record.stage,
        "version": record.version,
        "value": record.value,
        "blobs": {
            name: {"sha256": blob.sha256, "size": blob.size} for name, blob in record.blobs.items()
        },
        "cpu_seconds": record.cpu_seconds,
        "created_by": record.created_by,
    }
    if record.title:
        document["title"] = record.title
    digest = hashlib.sha256(canonical_json(document)).hexdigest()
    return canonical_json(document | {"digest": digest}) + b"\n"


def _read_record(path: Path, key: str) -> Record | None:
    try:
        return parse_record(path.read_bytes(), key)
    except FileNotFoundError:
        return None


def parse_record(content: bytes, key: str) -> Record | None:
    """The record in ``content``; None unless it is whole and that of ``key``."""
    try:
        document = json.loads(content)
        del document["digest"]
        blobs = {name: Blob(**blob) for name, blob in document.pop("blobs").items()}
        record = Record(blobs=blobs, **document)
        whole = record_bytes(record) == content  # the digest in it included
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return record if whole and record.key == key else None


# -- locks -------------------------------------------------------------------------------------
# A lock is a file that its holder has flocked and that still bears its name. The holder unlinks
# it before letting go; whoever was waiting then holds a file without a name, sees that, and
# tries again. So no two hold one name, and no file outlives its use (a killed holder's is swept).


def _lock(path: Path, *, wait: bool = True) -> int | None:
    """Descriptor that holds the lock ``path``; None if it is held and we do not wait."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            held, named = os.fstat(descriptor), _stamp(path)
            if named is not None and named[0] == held.st_ino:
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _unlock(path: Path, descriptor: int) -> None:
    try:
        path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _leave(process: int, folder: Path, descriptor: int) -> None:
    """End of a store's life in the process that made ``folder``; not in its forked children."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            _unlock(folder.with_suffix(".lock"), descriptor)
