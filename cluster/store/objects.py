"""Objects behind a URL, through fsspec: the few operations that a store needs.

Everything here is atomic for readers: an object exists, whole, or does not exist. :meth:`create`
is also atomic among writers where the server supports conditional writes (S3's ``If-None-Match``).
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import fsspec

from cluster.store.records import Entry
from encoder.errors import BadInput, StoreUnusable

CONNECT_SECONDS = 10
READ_SECONDS = 60
ATTEMPTS = 5
"""Number of attempts of a request, with growing pauses, before the store counts as unreachable."""
PART_BYTES = 50 * 2**20
"""Size of the parts in which larger files are uploaded."""

# What a server says when it refuses to create an object that exists.
_EXISTS = ("PreconditionFailed", "pre-conditions", "ConditionalRequestConflict", "conflicting")

# Protocols whose servers cannot tell whether an object was there before.
_NO_CREATE = ("ftp", "sftp", "ssh", "http", "https", "webhdfs")


@dataclass(frozen=True, slots=True)
class StoredObject(Entry):
    """An object, as a listing has it; ``modified`` is 0 where the server does not say."""

    tag: str
    """Value that changes when the object is written again."""


class Objects:
    """Objects below ``url``, for example ``s3://bucket/folder``.

    Every method raises :class:`StoreUnusable` when the server cannot be reached or refuses; the
    error's context has ``passing`` true where trying again may help.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        protocol = self.url.partition("://")[0]
        if protocol in _NO_CREATE:
            raise BadInput(
                f"no store at {url}: {protocol} cannot create a file only where none is; use a "
                "local folder or s3://bucket/folder"
            )
        try:
            self.filesystem: Any = filesystem(protocol)
        except (ImportError, ValueError, TypeError, OSError) as error:
            raise BadInput(
                f"no store at {url}: {' '.join(str(error).split())}; use a local folder or s3://bucket/folder"
            ) from error
        self.base: str = self.filesystem._strip_protocol(self.url)

    def read(self, name: str) -> bytes | None:
        """Return the bytes of an object; None if it does not exist."""
        with self._usable("read"), contextlib.suppress(FileNotFoundError):
            content: bytes = self.filesystem.cat_file(self._path(name))
            return content
        return None

    def download(self, name: str, target: Path) -> bool:
        """Write an object's bytes to a file; return False if the object does not exist."""
        with self._usable("read"), contextlib.suppress(FileNotFoundError):
            self.filesystem.get_file(self._path(name), str(target))
            return True
        return False

    def find(self, name: str) -> StoredObject | None:
        """Return size, time and tag of an object without reading it; None if it does not exist."""
        with self._usable("read"), contextlib.suppress(FileNotFoundError):
            return self._object(self.filesystem.info(self._path(name)))
        return None

    def create(self, name: str, content: bytes) -> bool:
        """Write an object that does not exist yet; return False if it does."""
        path = self._path(name)
        try:
            with self._usable("created"):
                self.filesystem.pipe_file(path, content, mode="create")
        except FileExistsError:
            return False
        return True

    def replace(self, name: str, content: bytes) -> None:
        """Write an object, whether it exists or not."""
        with self._usable("written"):
            self.filesystem.pipe_file(self._path(name), content)

    def upload(self, name: str, source: Path) -> None:
        """Write a file's bytes as an object, whether it exists or not."""
        with self._usable("written"):
            self.filesystem.put_file(str(source), self._path(name))

    def delete(self, name: str) -> None:
        """Remove an object if it exists."""
        with self._usable("written"), contextlib.suppress(FileNotFoundError):
            self.filesystem.rm_file(self._path(name))

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield all objects below a folder, in no order."""
        with self._usable("listed"):
            try:
                objects = self.filesystem.find(self._path(prefix), detail=True)
            except FileNotFoundError:
                return
        for facts in objects.values():
            yield self._object(facts)

    def abort_uploads(self, older_than: float) -> int:
        """Abort multipart uploads: see :meth:`cluster.store.local.Store.abort_uploads`."""
        if not hasattr(self.filesystem, "call_s3"):
            return 0
        bucket, _, folder = self.base.partition("/")
        aborted = 0
        with self._usable("listed"):
            answer = self.filesystem.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=folder)
            for upload in answer.get("Uploads", ()):
                if upload["Initiated"].timestamp() < older_than:
                    self.filesystem.call_s3(
                        "abort_multipart_upload",
                        Bucket=bucket,
                        Key=upload["Key"],
                        UploadId=upload["UploadId"],
                    )
                    aborted += 1
        return aborted

    def _path(self, name: str) -> str:
        return f"{self.base}/{name}"

    def _object(self, facts: dict[str, Any]) -> StoredObject:
        modified = facts.get("LastModified") or facts.get("mtime") or facts.get("created")
        stamp = modified.timestamp() if isinstance(modified, datetime) else modified or 0.0
        return StoredObject(
            name=str(facts["name"])[len(self.base) + 1 :],
            size=int(facts["size"]),
            modified=float(stamp),
            tag=str(facts.get("ETag") or facts.get("ino") or facts.get("mtime") or stamp),
        )

    @contextlib.contextmanager
    def _usable(self, doing: str) -> Iterator[None]:
        try:
            yield
        except FileExistsError:
            raise
        except Exception as error:  # botocore's errors are no OSErrors; other libraries have theirs
            text = " ".join(str(error).split())
            if doing == "created" and any(word in text for word in _EXISTS):
                raise FileExistsError(text) from error
            if doing == "read" and isinstance(error, FileNotFoundError):
                raise
            # A write only fails with "not found" where the bucket does not exist.
            denied = isinstance(error, PermissionError | FileNotFoundError)
            remedy = (
                "check its name, the credentials and what they permit"
                if denied
                else "make it reachable, then run the same command again"
            )
            raise StoreUnusable(
                f"the store {self.url} cannot be {doing}: {type(error).__name__}: {text}; {remedy}",
                root=self.url,
                passing=not denied,
            ) from error


@functools.cache
def filesystem(protocol: str) -> Any:
    """Return this process's fsspec file system for URLs that begin with ``protocol``."""
    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if protocol in ("s3", "s3a"):
        options["default_block_size"] = PART_BYTES
        options["config_kwargs"] = {
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": READ_SECONDS,
            "retries": {"max_attempts": ATTEMPTS},
        }
    return fsspec.filesystem(protocol, **options)
