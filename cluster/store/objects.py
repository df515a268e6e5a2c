"""Objects behind a URL, through fsspec: the few things that a store needs of them.

Everything here is atomic for readers: an object is there, whole, or it is not. :meth:`create` is
also atomic among writers where the server knows conditional writes (S3 does, ``If-None-Match``).
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

from encoder.errors import BadInput, StoreUnusable

CONNECT_SECONDS = 10
READ_SECONDS = 60
ATTEMPTS = 5
"""Of one request, with growing pauses, before the store counts as out of reach."""
PART_BYTES = 50 * 2**20
"""Larger files go up in parts of this size."""

# What server and network say when an object that must not be there is there.
_EXISTS = ("PreconditionFailed", "pre-conditions", "ConditionalRequestConflict", "conflicting")


@dataclass(frozen=True, slots=True)
class Found:
    """An object, as a listing has it."""

    name: str
    size: int
    modified: float
    """Seconds since 1970, by the server's clock; 0 where it does not say."""
    tag: str
    """Changes when the object is written again."""


class Objects:
    """Objects below ``url``, for example ``s3://bucket/folder``.

    Every method raises :class:`StoreUnusable` when the server cannot be reached or refuses; its
    context says ``passing`` when trying again may help.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        protocol = self.url.partition("://")[0]
        try:
            self._fs: Any = _filesystem(protocol)
        except (ImportError, ValueError) as error:
            raise BadInput(
                f"no store at {url}: {error}; a local folder or s3://bucket/folder can be one"
            ) from error
        self.base: str = self._fs._strip_protocol(self.url)

    def read(self, name: str) -> bytes | None:
        """The bytes of an object; None if it is not there."""
        with self._usable("read"), contextlib.suppress(FileNotFoundError):
            content: bytes = self._fs.cat_file(self._path(name))
            return content
        return None

    def download(self, name: str, target: Path) -> bool:
        """Write an object's bytes to a file; False if it is not there."""
        with self._usable("read"), contextlib.suppress(FileNotFoundError):
            self._fs.get_file(self._path(name), str(target))
            return True
        return False

    def find(self, name: str) -> Found | None:
        """What is known of an object without reading it."""
        with self._usable("read"), contextlib.suppress(FileNotFoundError):
            return self._found(self._fs.info(self._path(name)))
        return None

    def create(self, name: str, content: bytes) -> bool:
        """Write an object that is not there; False if it is."""
        path = self._path(name)
        try:
            with self._usable("created"):
                self._fs.pipe_file(path, content, mode="create")
        except FileExistsError:
            return False
        return True

    def replace(self, name: str, content: bytes) -> None:
        """Write an object, whether it is there or not."""
        with self._usable("written"):
            self._fs.pipe_file(self._path(name), content)

    def upload(self, name: str, source: Path) -> None:
        """Write a file's bytes as an object, whether it is there or not."""
        with self._usable("written"):
            self._fs.put_file(str(source), self._path(name))

    def delete(self, name: str) -> None:
        """Remove an object, if it is there."""
        with self._usable("written"), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self._path(name))

    def list(self, prefix: str) -> Iterator[Found]:
        """All objects below a folder, in no order."""
        with self._usable("listed"):
            try:
                entries = self._fs.find(self._path(prefix), detail=True)
            except FileNotFoundError:
                return
        for facts in entries.values():
            yield self._found(facts)

    def abort_uploads(self, older_than: float) -> int:
        """Give up uploads in parts that began before that time (seconds since 1970) and never
        ended: nobody sees them, and they are paid for. How many there were.
        """
        if not hasattr(self._fs, "call_s3"):
            return 0
        bucket, _, folder = self.base.partition("/")
        aborted = 0
        with self._usable("listed"):
            answer = self._fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=folder)
            for upload in answer.get("Uploads", ()):
                if upload["Initiated"].timestamp() < older_than:
                    self._fs.call_s3(
                        "abort_multipart_upload",
                        Bucket=bucket,
                        Key=upload["Key"],
                        UploadId=upload["UploadId"],
                    )
                    aborted += 1
        return aborted

    def _path(self, name: str) -> str:
        return f"{self.base}/{name}"

    def _found(self, facts: dict[str, Any]) -> Found:
        modified = facts.get("LastModified") or facts.get("mtime") or facts.get("created")
        stamp = modified.timestamp() if isinstance(modified, datetime) else modified or 0.0
        return Found(
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
        except Exception as error:  # botocore's errors are no OSErrors, and others have their own
            text = " ".join(str(error).split())
            if doing == "created" and any(word in text for word in _EXISTS):
                raise FileExistsError(text) from error
            if doing == "read" and isinstance(error, FileNotFoundError):
                raise
            # What is written is only not found where there is no bucket for it.
            denied = isinstance(error, PermissionError | FileNotFoundError)
            remedy = (
                "check its name, the credentials and what they permit"
                if denied
                else "see that it can be reached, then run the same command again"
            )
            raise StoreUnusable(
                f"the store {self.url} cannot be {doing}: {type(error).__name__}: {text}; {remedy}",
                root=self.url,
                passing=not denied,
            ) from error


@functools.cache
def _filesystem(protocol: str) -> Any:
    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if protocol in ("s3", "s3a"):
        options["default_block_size"] = PART_BYTES
        options["config_kwargs"] = {
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": READ_SECONDS,
            "retries": {"max_attempts": ATTEMPTS},
        }
    return fsspec.filesystem(protocol, **options)
