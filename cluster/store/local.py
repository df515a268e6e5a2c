"""A content-addressed store in a folder: a result is found again whole, or not at all.

::

    root/
     ├── blobs/ab/abcd...          bytes, named by their SHA-256
     ├── records/ef/ef01....json   the result of a key: a small document that names its blobs
     ├── quarantine/               records that are not trusted yet, see cluster.store.quarantined
     ├── runs/                     manifests of runs, see cluster.store.manifests
     ├── locks/                    one file per claim that is held now
     └── temporary/                one folder per process that is writing now

A blob or a record appears by a rename, complete, or does not appear. A blob is checked by size
and digest when a process first reads it, a record by its own digest: a damaged one counts as
missing and is made again. Everything that a killed process leaves behind is guarded by a lock
that the kernel releases with the process, so the next store that opens the folder can tell such
leftovers from work in progress and removes them, without guessing from ages or process numbers.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import os
import shutil
import tempfile
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from cluster.store.files import fsync_file
from cluster.store.locks import acquire, release
from cluster.store.records import (
    Blob,
    Entry,
    Record,
    blob_name,
    checked_key,
    created_by,
    is_digest,
    parse_record,
    record_bytes,
    record_name,
)
from encoder.errors import StoreUnusable

CHUNK_BYTES = 1 << 20
_TRIES = 50
"""Number of times that a folder is made again which is removed before something lies in it."""
_Stamp = tuple[int, int, int]
"""What the file system tells of a file's content: inode, size, time of the change in ns."""


class Store:
    """A store in the folder ``root``, made if missing. A pickled store is only its place.

    Every method may be called from several threads and processes at once.

    Raises:
        StoreUnusable: the folder cannot be made or read. Every method raises it too, when the disk
            is full or access is denied; nothing half-written is ever visible, and the store works
            again once the cause is gone.
    """

    remote = False
    """Whether the store is behind a URL; workers may then not see the sources either."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root).absolute()
        self.place = str(self.root)
        """Folder or URL that opens this store on any machine that can reach it."""
        self._verified: dict[str, _Stamp] = {}
        self._workspace: tuple[int, Path, weakref.finalize[Any, Any]] | None = None
        with self._usable("opened"):
            for name in ("blobs", "records", "locks", "temporary"):
                (self.root / name).mkdir(parents=True, exist_ok=True)
            self._sweep()

    def __reduce__(self) -> tuple[Any, ...]:
        return shared, (type(self), self.place)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.place!r})"

    def close(self) -> None:
        """Remove this store's own temporary folder now instead of at the end of the process."""
        if self._workspace is not None:
            self._workspace[2]()
            self._workspace = None

    # -- blobs ---------------------------------------------------------------------------------

    def put_blob(self, source: bytes | os.PathLike[str], *, move: bool = False) -> Blob:
        """Store bytes, or the bytes of a file. Storing the same bytes again changes nothing.

        ``move`` takes the file itself instead of a copy, at no cost if the file lies in
        :meth:`scratch`; the file must not be written to any more.

        Raises:
            FileNotFoundError: ``source`` is a file that does not exist.
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
            elif move and _moved(Path(source), temporary):
                blob = Blob.of_file(temporary)
            else:
                blob = _copy(Path(source), file)
                if move:
                    Path(source).unlink()
            file.flush()
            _make_durable(temporary)
            stamp = _stamp(temporary)
            if stamp is None or stamp[1] != blob.size:
                raise OSError(errno.EIO, "the file does not have the size of what was written")
            final = self.root / blob_name(blob.sha256)
            with self._repairing():
                final.parent.mkdir(exist_ok=True)
                temporary.rename(final)
            self._verified[blob.sha256] = stamp
        return blob

    def find(self, blob: Blob) -> Path | None:
        """Return the file of ``blob``, to be read only; None if it is missing or damaged.

        The bytes are read and compared with the digest when this process first asks, and again
        if the file has changed since. A damaged file is removed.
        """
        path = self.root / blob_name(blob.sha256)
        with self._usable("read"):
            stamp = _stamp(path)
            if stamp is None:
                return None
            if self._verified.get(blob.sha256) == stamp and stamp[1] == blob.size:
                return path
            try:
                intact = stamp[1] == blob.size and Blob.of_file(path) == blob
            except FileNotFoundError:
                return None
            if intact:
                self._verified[blob.sha256] = stamp
                return path
            with self._repairing():
                # Not if another process has put an intact file in its place meanwhile.
                if _stamp(path) == stamp:
                    path.unlink()
        return None

    def path(self, blob: Blob) -> Path:
        """Return the file of a blob that must exist, such as one of a record just read.

        Raises:
            StoreUnusable: the blob is missing or damaged.
        """
        path = self.find(blob)
        if path is None:
            raise self._lost(blob)
        return path

    def keep(self, blob: Blob, folder: Path) -> Path:
        """Return a file as :meth:`path` does, which stays for as long as ``folder`` does."""
        return self.path(blob)

    def preload(self, keys: Iterable[str] = (), blobs: Iterable[Blob] = ()) -> None:
        """Prepare for reading these records and blobs one by one, where that is slow."""

    def intact(self, record: Record) -> bool:
        """Whether all blobs of a record from :meth:`get` have the content that they should have.

        The blobs are read and compared here if :meth:`get` has not done so.
        """
        return True

    def _lost(self, blob: Blob) -> StoreUnusable:
        return StoreUnusable(
            f"{self.place} has lost the blob {blob.sha256[:12]} ({blob.size} bytes); "
            "run the same command again to make it again",
            root=self.place,
            sha256=blob.sha256,
        )

    # -- records -------------------------------------------------------------------------------

    def get(self, key: str) -> Record | None:
        """Return the record of ``key``; None if it or one of its blobs is missing or damaged."""
        record = parse_record(self.read_entry(record_name(key)), key)
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
        """Store the result of ``key`` and return its record as :meth:`get` will.

        If another process was first, its record stands and is returned.

        Raises:
            TypeError: ``value`` is not JSON.
            StoreUnusable: one of ``blobs`` is not in the store.
        """
        blobs, cpu_seconds = dict(blobs or {}), dict(cpu_seconds or {})
        record = Record(key, stage, version, value, blobs, cpu_seconds, created_by(), title)
        return self.publish_record(record)

    def publish_record(self, record: Record) -> Record:
        """Store a record; see :meth:`publish`.

        Raises:
            TypeError: the record's value is not JSON.
            StoreUnusable: one of its blobs is not in the store.
        """
        for blob in record.blobs.values():
            self.require(blob)
        content = record_bytes(record)
        parsed = parse_record(content, record.key)  # as `get` returns it: JSON has no tuples
        assert parsed is not None
        return self._publish(parsed, content)

    def adopt(self, name: str, record: Record) -> None:
        """Publish the record that the entry ``name`` holds, which is then gone.

        Raises:
            StoreUnusable: one of its blobs is not in the store.
        """
        for blob in record.blobs.values():
            self.require(blob)
        path = self.root / record_name(record.key)
        if self.get(record.key) is not None:
            self.remove_entry(name)
            return
        with self._usable("written"), self._repairing():
            path.parent.mkdir(exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # a run of the same session was first
                (self.root / name).replace(path)

    def require(self, blob: Blob) -> None:
        """Raise StoreUnusable unless the blob is there: no record may name a missing one."""
        self.path(blob)

    def _publish(self, record: Record, content: bytes) -> Record:
        """Write a record, or return the record of the process that was first."""
        name = record_name(record.key)
        path = self.root / name
        with self._usable("read"):
            before = _stamp(path)
        first = self.get(record.key)
        if first is not None:
            return first
        with self._usable("written"), self._temporary_file() as (temporary, file):
            file.write(content)
            file.flush()
            _make_durable(temporary)
            with self._repairing():
                path.parent.mkdir(exist_ok=True)
                if _stamp(path) != before:
                    first = parse_record(self.read_entry(name), record.key)
                if first is None:
                    temporary.rename(path)
        return first or record

    def records(self, stage: str) -> Iterator[Record]:
        """Yield all records of one stage, sorted by key. Reads every record of the store."""
        with self._usable("listed"):
            keys = sorted(path.stem for path in (self.root / "records").glob("*/*.json"))
        for key in keys:
            record = self.get(key)
            if record is not None and record.stage == stage:
                yield record

    # -- entries: files or objects by name, whatever they hold -----------------------------------

    def entries(self, folder: str) -> Iterator[Entry]:
        """Yield everything below ``blobs``, ``records``, ``quarantine`` or ``runs``."""
        for path in sorted(self._files(folder)):
            with self._usable("listed"), contextlib.suppress(FileNotFoundError):
                if path.is_file() and not path.name.startswith("."):
                    status = path.stat()
                    name = path.relative_to(self.root).as_posix()
                    yield Entry(name, status.st_size, status.st_mtime)

    def read_entry(self, name: str) -> bytes | None:
        """Return the bytes of an entry; None if there is no such entry."""
        with self._usable("read"), contextlib.suppress(FileNotFoundError):
            return (self.root / name).read_bytes()
        return None

    def write_entry(self, name: str, content: bytes) -> None:
        """Replace or create an entry in one step."""
        path = self.root / name
        # Not beside its final name: a killed process may leave it, and the next one sweeps it away.
        with self._usable("written"), self._temporary_file() as (temporary, file):
            file.write(content)
            file.flush()
            _make_durable(temporary)
            for last in [False] * _TRIES + [True]:
                try:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    temporary.rename(path)
                    return
                except FileNotFoundError:  # somebody removed the folder, which was still empty
                    if last or not temporary.exists():
                        raise

    def remove_entry(self, name: str) -> None:
        """Remove an entry if it exists."""
        with self._usable("written"):
            (self.root / name).unlink(missing_ok=True)

    def remove_empty_folders(self, folder: str) -> None:
        """Remove a folder and those below it where they hold nothing; writers make them again."""
        for place, _, _ in os.walk(self.root / folder, topdown=False):
            with contextlib.suppress(OSError):  # not empty, or gone
                Path(place).rmdir()

    def abort_uploads(self, older_than: float) -> int:
        """Abort uploads that began before that time (seconds since 1970); return their number.

        Such uploads never ended. Nobody can see them, but the server charges for them.
        """
        return 0

    def now(self) -> float:
        """Return the time by the clock that stamps entries, which may not be this machine's."""
        name = f"runs/clock-{os.urandom(4).hex()}"
        self.write_entry(name, b"")
        try:
            stamps = (entry.modified for entry in self.entries("runs") if entry.name == name)
            return next(stamps, time.time())
        finally:
            self.remove_entry(name)

    # -- exclusion and space -------------------------------------------------------------------

    @contextlib.contextmanager
    def claim(self, *keys: str) -> Iterator[None]:
        """Hold ``keys`` for one process (and thread); others that claim one of them wait.

        Call :meth:`get` again once inside: whoever held the claim before may have made the
        result. The kernel ends the claim of a killed process. Several keys are claimed in one
        order by everybody, so nobody waits in a circle; a claim inside a claim has no such order.
        """
        with contextlib.ExitStack() as held:
            for key in sorted(set(keys)):
                path = self.root / "locks" / checked_key(key)
                with self._usable("locked"):
                    descriptor = acquire(path)
                assert descriptor is not None
                held.callback(release, path, descriptor)
            yield

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """Yield a new empty folder in the store's file system, which is removed at the end.

        If the process is killed, the next store that opens the folder removes it.

        Raises:
            StoreUnusable: the disk was full inside the block.
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

    def _files(self, folder: str) -> Iterator[Path]:
        """Yield the files below a folder, some of whose folders may vanish meanwhile."""

        def failed(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError):
                raise self._unusable("listed", error) from error

        for place, _, names in os.walk(self.root / folder, onerror=failed):
            yield from (Path(place) / name for name in names)

    def _own_temporary(self) -> Path:
        """Return this process's folder for unfinished work, made when it is first needed."""
        if self._workspace is None or self._workspace[0] != os.getpid():
            while True:
                folder = self.root / "temporary" / os.urandom(8).hex()
                descriptor = acquire(folder.with_suffix(".lock"), wait=False)
                if descriptor is not None:
                    break
            folder.mkdir()
            leave = weakref.finalize(self, _leave, os.getpid(), folder, descriptor)
            self._workspace = (os.getpid(), folder, leave)
        return self._workspace[1]

    @contextlib.contextmanager
    def _temporary_file(self) -> Iterator[tuple[Path, IO[bytes]]]:
        """Yield a new file that is removed at the end unless it was renamed away."""
        descriptor, name = tempfile.mkstemp(dir=self._own_temporary())
        path = Path(name)
        try:
            with open(descriptor, "wb") as file:  # noqa: PTH123 (it is a descriptor)
                yield path, file
        finally:
            path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _repairing(self) -> Iterator[None]:
        """Keep the removal of a damaged file and the arrival of an intact one apart."""
        descriptor = os.open(self.root / "locks" / "repair", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _sweep(self) -> None:
        """Remove the folders of killed processes, and locks that nobody holds."""
        for lock in (self.root / "temporary").glob("*.lock"):
            descriptor = acquire(lock, wait=False)
            if descriptor is not None:
                shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
                release(lock, descriptor)
        for lock in (self.root / "locks").iterdir():
            if is_digest(lock.name):
                descriptor = acquire(lock, wait=False)
                if descriptor is not None:
                    release(lock, descriptor)

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


def _stamp(path: Path) -> _Stamp | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _make_durable(temporary: Path) -> None:
    temporary.chmod(0o644)  # mkstemp lets only its owner read
    fsync_file(temporary)


def _moved(source: Path, target: Path) -> bool:
    """Rename ``source`` unless it lies in another file system; tell whether that was done."""
    try:
        source.rename(target)
    except OSError as error:
        if error.errno == errno.EXDEV:
            return False
        raise
    return True


def _copy(source: Path, target: IO[bytes]) -> Blob:
    """Copy and hash in one pass, so that the digest is that of the bytes written."""
    digest, size = hashlib.sha256(), 0
    with source.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            target.write(chunk)
            digest.update(chunk)
            size += len(chunk)
    return Blob(digest.hexdigest(), size)


def _leave(process: int, folder: Path, descriptor: int) -> None:
    """End a store's life in the process that made ``folder``, but not in its forked children."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            release(folder.with_suffix(".lock"), descriptor)
