"""Digests of sources, remembered in the store by what the file system tells of the file.

Reading two hours of video for its digest takes minutes. An equal stamp (inode, size, times) of the
same file system on the same machine lets an estimate do without. A run takes every digest itself
(:mod:`cluster.stages.quarantine` says why) and only notes it here.
"""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Callable
from pathlib import Path

from cluster.stages.title import take_digest
from cluster.store import Store
from encoder.source.stamp import Stamp

FOLDER = "digests"
_HEX_DIGITS = 64

TakeDigest = Callable[[Path], tuple[str, Stamp]]
"""Returns the SHA-256 of a file and its stamp, as :func:`cluster.stages.title.take_digest`."""


def noting(store: Store) -> TakeDigest:
    """Return a function that takes digests and remembers them in the store."""

    def take(path: Path) -> tuple[str, Stamp]:
        sha256, stamp = take_digest(path)
        store.write_entry(_name(path, stamp), json.dumps({"sha256": sha256}).encode())
        return sha256, stamp

    return take


def remembered(store: Store) -> TakeDigest:
    """Return a function that takes only the digests that the store does not remember."""

    def take(path: Path) -> tuple[str, Stamp]:
        stamp = Stamp.of(path)
        known = _read(store, _name(path, stamp))
        return noting(store)(path) if known is None else (known, stamp)

    return take


def _read(store: Store, name: str) -> str | None:
    try:
        sha256 = json.loads(store.read_entry(name) or b"{}").get("sha256")
    except (ValueError, AttributeError):
        return None
    whole = isinstance(sha256, str) and len(sha256) == _HEX_DIGITS
    return sha256 if whole and all(digit in "0123456789abcdef" for digit in sha256) else None


def _name(path: Path, stamp: Stamp) -> str:
    """Return the name of an entry: of this file system of this machine, and of this stamp."""
    where = f"{socket.gethostname()} {path.stat().st_dev} {stamp.name}"
    return f"{FOLDER}/{hashlib.sha256(where.encode()).hexdigest()}.json"
