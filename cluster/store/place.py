"""Where a store is: in a folder, or behind a URL such as ``s3://bucket/folder``.

Only this module decides which of the two a place is.
"""

from __future__ import annotations

import os
from pathlib import Path

from cluster.store.local import Store, shared
from encoder.errors import BadInput
from encoder.names import shown

STORE_VARIABLE = "SHOTLADDER_STORE"
"""Environment variable that names the default store."""


def default_store() -> Path | str:
    """Return ``SHOTLADDER_STORE``, a folder or a URL, or else a folder in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return store_place(os.environ.get(STORE_VARIABLE) or Path(cache) / "shotladder" / "store")


def store_place(place: str | os.PathLike[str] | None) -> Path | str:
    """Return a folder as a path and a URL as it is; :func:`default_store` for None.

    Raises:
        BadInput: the name of the folder is not UTF-8, which options of ffmpeg's filters must be.
    """
    if place is None:
        return default_store()
    if shown(place) != os.fspath(place):
        raise BadInput(
            f"the store {shown(place)} cannot be used: its path is not UTF-8; name another folder"
        )
    return place if isinstance(place, str) and "://" in place else Path(place)


def open_existing_store(place: str | os.PathLike[str] | None = None) -> Store:
    """Open a store as :func:`open_store` does, but make no folder: the name may be mistyped.

    Raises:
        BadInput: there is no store at ``place``, or no kind of store has such a URL.
        StoreUnusable: the store cannot be read.
    """
    found = store_place(place or None)
    if isinstance(found, Path) and not (found / "records").is_dir():
        raise BadInput(f"{found} is not a store; name the folder that runs had as --store")
    return open_store(place)


def open_store(place: str | os.PathLike[str] | None = None) -> Store:
    """Open the store at ``place``, by default at :func:`default_store`.

    A process has one object for each URL, so that what it knows and holds outlives a task.

    Raises:
        BadInput: no kind of store has such a URL.
        StoreUnusable: the store cannot be made or read.
    """
    place = store_place(place or None)
    if isinstance(place, Path):
        return Store(place)
    # Imported here: fsspec takes a while, and a store in a folder does not need it.
    from cluster.store.remote import RemoteStore

    return shared(RemoteStore, place.rstrip("/"))
