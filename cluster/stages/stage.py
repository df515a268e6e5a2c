"""How every cached stage uses the store: a result is looked up by its key, or made once and kept.

A stage gives the key, which holds everything that changes the result, and a function that makes
the result. Processes and machines that want the same result at the same time make it once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.store import Blob, Record, Store
from encoder.errors import SourceChanged, StoreUnusable

TOUCHED = 3
"""Number of times that a result is made again because only the times of its source changed."""


@dataclass(frozen=True, slots=True)
class Made:
    """A result that a stage has just made."""

    value: Any = field(default_factory=dict)
    """JSON value of the result, small."""
    blobs: Mapping[str, bytes | Path | Blob] = field(default_factory=dict)
    """Large parts of the result by name. The store takes over a file that is given by its path;
    parts that are in the store already are given as blobs."""
    cpu_seconds: Mapping[str, float] = field(default_factory=dict)
    """CPU seconds spent on the result, by purpose (``encode``, ``vmaf``, ``other``)."""


def find_or_make(
    store: Store,
    identity: str,
    make: Callable[[Path], Made],
    *,
    stage: str,
    version: int,
    title: str = "",
) -> Record:
    """Return the record of the key ``identity``; if the store has none, make and publish it.

    Args:
        store: Store that has, or gets, the record.
        identity: Key of the result.
        make: Makes the result. It is called with an empty folder, which is removed afterwards.
        stage: Name of the stage, as in the key.
        version: Version of the stage, as in the key.
        title: First 16 digits of the digest of the source that the result belongs to.

    Raises:
        StoreUnusable: the store cannot be read or written. Errors of ``make`` pass through.
    """
    # Looked up before the claim too: behind a URL a claim takes several requests.
    record = store.get(identity)
    if record is None:
        with store.claim(identity):
            record = store.get(identity)
            attempts = 0
            while record is None:
                attempts += 1
                try:
                    with store.scratch() as scratch:
                        made = make(scratch)
                        record = publish(
                            store, identity, made, stage=stage, version=version, title=title
                        )
                except SourceChanged as error:  # touched while it was read: read it again
                    if attempts > TOUCHED or not error.context.get("passing"):
                        raise
    return record


def publish(
    store: Store, identity: str, made: Made, *, stage: str, version: int, title: str = ""
) -> Record:
    """Publish a result as the record of the key ``identity``; if there is one already, it stands.

    Stages that make several results at once claim all keys themselves and call this for each;
    other stages use :func:`find_or_make`.

    Raises:
        StoreUnusable: the result cannot be written.
    """
    return store.publish(
        identity,
        made.value,
        {name: _stored(store, blob) for name, blob in made.blobs.items()},
        made.cpu_seconds,
        stage=stage,
        version=version,
        title=title,
    )


def _stored(store: Store, blob: bytes | Path | Blob) -> Blob:
    return blob if isinstance(blob, Blob) else store.put_blob(blob, move=isinstance(blob, Path))


def require(store: Store, identity: str, what: str) -> Record:
    """Return the record of a key that was in the store a moment ago.

    Args:
        store: Store that had the record.
        identity: Key of the record.
        what: The result as the error names it, for example ``"an encode"``.

    Raises:
        StoreUnusable: the store has lost the record.
    """
    record = store.get(identity)
    if record is None:
        raise lost(store.place, what)
    return record


def lost(place: str, what: str) -> StoreUnusable:
    """Return the error for a result that the store at ``place`` had and has no longer."""
    return StoreUnusable(
        f"the store at {place} lost {what} while it was in use; "
        "run the same command again to make it again"
    )
