"""What a store holds: blobs, records and their bytes, and the names under which both lie."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.store.keys import canonical_json

_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes in the store."""

    sha256: str
    """SHA-256 of the bytes, which is also their name: 64 hexadecimal digits."""
    size: int
    """Number of the bytes."""

    def __post_init__(self) -> None:
        if not is_digest(self.sha256):
            raise ValueError(f"a blob is named by 64 hexadecimal digits, got {self.sha256!r}")
        if self.size < 0:
            raise ValueError(f"a blob's size is not negative, got {self.size}")

    @classmethod
    def of_file(cls, path: Path) -> Blob:
        """Describe the bytes of a file, in constant memory."""
        with path.open("rb") as file:
            return cls(hashlib.file_digest(file, "sha256").hexdigest(), file.tell())


@dataclass(frozen=True, slots=True)
class Record:
    """The result that a stage published under a key."""

    key: str
    """Content key of the result, from :func:`cluster.store.keys.key`."""
    stage: str
    """Name of the stage that made the result."""
    version: int
    """Version of that stage."""
    value: Any
    """The result itself: a small JSON value."""
    blobs: Mapping[str, Blob] = field(default_factory=dict)
    """Files of the result, by names that the stage chose."""
    cpu_seconds: Mapping[str, float] = field(default_factory=dict)
    """CPU time that the result cost, by purpose (``encode``, ``vmaf``, ``other``)."""
    created_by: str = ""
    """Release of shotladder that made the result."""
    title: str = ""
    """First 16 digits of the SHA-256 of the result's source; empty where it has no source."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or object of a store, as a listing has it."""

    name: str
    """Path below the store's root, with slashes."""
    size: int
    """Size of the content in bytes."""
    modified: float
    """Time of the last change, in seconds since 1970 by the clock of the store's machine."""

    @property
    def digest(self) -> str:
        """SHA-256 of a blob, or key of a record."""
        return self.name.rpartition("/")[2].partition(".")[0]


def is_digest(name: str) -> bool:
    """Tell whether ``name`` is 64 hexadecimal digits, as keys and blobs have."""
    return _DIGEST.match(name) is not None


def checked_key(key: str) -> str:
    """Return ``key``, which becomes part of a path; raise ValueError if it is not a key."""
    if not is_digest(key):
        raise ValueError(f"a key is 64 hexadecimal digits, got {key!r}")
    return key


def blob_name(sha256: str) -> str:
    """Return the path of a blob below the store's root."""
    return f"blobs/{sha256[:2]}/{sha256}"


def record_name(key: str) -> str:
    """Return the path of a record below the store's root."""
    return f"records/{checked_key(key)[:2]}/{key}.json"


def record_bytes(record: Record) -> bytes:
    """Return a record as the store keeps it: canonical JSON with its own digest."""
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


def parse_record(content: bytes | None, key: str) -> Record | None:
    """Return the record in ``content``; None unless it is undamaged and the record of ``key``."""
    if content is None:
        return None
    try:
        document = json.loads(content)
        del document["digest"]
        blobs = {name: Blob(**blob) for name, blob in document.pop("blobs").items()}
        record = Record(blobs=blobs, **document)
        undamaged = record_bytes(record) == content  # which includes the digest
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return record if undamaged and record.key == key else None


@functools.cache
def created_by() -> str:
    """Return the release of shotladder as records name it."""
    return f"shotladder {importlib.metadata.version('shotladder')}"
