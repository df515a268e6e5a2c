"""What a title is, kept in the store: tasks carry its key, not its index.

The index of a 2-hour title is 3 MB. A worker reads it once, and a title's hundreds of tasks stay
small on their way through the scheduler.
"""

from __future__ import annotations

import functools
import hashlib

from pydantic import BaseModel

from cluster.stages.stage import Made, find_or_make, require
from cluster.stages.title import TitleSource
from cluster.store import Store, open_store
from cluster.store.keys import key
from encoder.source import reference_bytes
from encoder.source.reference_bytes import ReferenceFacts, located

VERSION = 1


class _Digest(BaseModel):
    sha256: str


class _Facts(ReferenceFacts, _Digest):
    """Facts of a title: pydantic puts the fields of the last base first, so its digest leads."""


def describe(title: TitleSource, store: Store) -> str:
    """Keep what a title is; the key of it."""
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


def described(place: str, identity: str, path: str) -> TitleSource:
    """The title that :func:`describe` kept in the store at ``place``; read once in a process.

    ``path`` is where its source is: what is kept does not depend on that.

    Raises:
        StoreUnusable: it is not there.
    """
    return _read(place, identity, path)


@functools.lru_cache(maxsize=8)
def _read(place: str, identity: str, path: str) -> TitleSource:
    store = open_store(place)
    record = require(store, identity, "the description of a title")
    return from_bytes(store.path(record.blobs["title"]).read_bytes(), path)


def to_bytes(title: TitleSource) -> bytes:
    """Serialise a title source without its paths."""
    return reference_bytes.to_bytes(
        title.reference, _Facts.of(title.reference, sha256=title.sha256)
    )


def from_bytes(content: bytes, path: str) -> TitleSource:
    """Read what :func:`to_bytes` wrote, with the title's source at ``path``.

    Raises:
        ValueError: the bytes are damaged.
    """
    reference, facts = reference_bytes.from_bytes(content, _Facts)
    return TitleSource(reference=located(reference, path), sha256=facts.sha256)
