"""The record that describes a title in the store: tasks carry its key instead of the index.

The index of a 2-hour title is 3 MB. A worker reads it once, and the hundreds of tasks of a title
stay small on their way through the scheduler.
"""

from __future__ import annotations

import functools
import hashlib

from cluster.stages.quarantine import trusted
from cluster.stages.stage import Made, find_or_make, require
from cluster.stages.title import TitleSource
from cluster.store import Store, open_store
from cluster.store.keys import key
from encoder.source import reference_bytes

VERSION = 1


def store_title(title: TitleSource, store: Store) -> str:
    """Store the description of a title and return its key."""
    # It needs no quarantine: its key is made of the description, not of the source's digest.
    store = trusted(store)
    content = to_bytes(title)
    identity = key("title", VERSION, content=hashlib.sha256(content).hexdigest())
    find_or_make(
        store,
        identity,
        lambda scratch: Made(blobs={"title": content}),
        stage="title",
        version=VERSION,
        title=title.id,
    )
    return identity


@functools.lru_cache(maxsize=8)
def load_title(place: str, identity: str, path: str) -> TitleSource:
    """Return the title that :func:`store_title` described; a process reads it once.

    Args:
        place: Folder or URL of the store.
        identity: Key of the description.
        path: Path of the source on this machine. The description does not contain it.

    Raises:
        StoreUnusable: the store has lost the description.
    """
    store = open_store(place)
    record = require(store, identity, "the description of a title")
    return from_bytes(store.path(record.blobs["title"]).read_bytes(), path)


def to_bytes(title: TitleSource) -> bytes:
    """Serialise a title source without its paths."""
    return reference_bytes.to_bytes(title.reference, sha256=title.sha256)


def from_bytes(content: bytes, path: str) -> TitleSource:
    """Read what :func:`to_bytes` wrote, with the title's source at ``path``.

    Raises:
        ValueError: the bytes are damaged.
    """
    reference, (sha256,) = reference_bytes.from_bytes(content, "sha256")
    return TitleSource(reference=reference_bytes.located(reference, path), sha256=sha256)
