"""Which pictures of other titles look like one: by brute force over the embeddings of all pools.

100,000 pictures of 96 numbers take 40 MB, and a search takes some milliseconds. Pools are read when
the index is asked for the first time, and those that have changed when it is asked again.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from cluster.service.documents import SimilarArtwork, SimilarPicture
from cluster.service.library.library import Library
from cluster.service.library.wanted import Edited
from encoder.arrays import Float32
from encoder.errors import NotThere, StoreUnusable

READ_SECONDS: Final = 2.0
"""Time for which one request reads pools; where that is not enough, it is asked to come again."""


@dataclass(frozen=True, slots=True, eq=False)
class _Pool:
    """The pictures of a title's current version that may be shown."""

    package: str
    edited: Edited
    model: str
    ids: list[tuple[str, str]]
    """Action id and id of each picture."""
    hashes: npt.NDArray[np.uint64]
    embeddings: Float32


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """All pictures with embeddings of one model, one row each."""

    pictures: list[tuple[str, str, str]]
    """Title, action id and id."""
    hashes: npt.NDArray[np.uint64]
    embeddings: Float32
    squares: Float32
    places: dict[str, slice]
    """Rows of each title."""


class SimilarPictures:
    """The index over a library. Thread-safe."""

    def __init__(self, library: Library, read_seconds: float = READ_SECONDS) -> None:
        self._library = library
        self._read_seconds = read_seconds
        self._lock = threading.Lock()
        self._pools: dict[str, _Pool] = {}
        self._rows: dict[str, _Rows] = {}
        self._holders: dict[str, list[str]] = {}
        """Titles that show a picture, by action id, in order of their names."""

    def search(self, action_id: str, title: str | None, k: int) -> SimilarArtwork:
        """Return the pictures of other titles that look most like one.

        Args:
            action_id: lasting id of the picture.
            title: name of its title, where several titles show it; None for the first by name.
            k: number of pictures to return.

        Raises:
            NotThere: no published title shows such a picture.
            StoreUnusable: not all pools have been read yet.
        """
        from recommender.artwork.diversity import DUPLICATE_BITS, DUPLICATE_DISTANCE

        with self._lock:
            self._refresh()
            holders = [name for name in self._holders.get(action_id, ()) if title in (None, name)]
            pool = self._pools[holders[0]] if holders else None
            rows = self._rows[pool.model] if pool is not None else None
        if pool is None or rows is None:
            where = f"{title} has" if title is not None else "the published titles have"
            raise NotThere(
                f"{where} no picture with the action id {action_id} that may be shown; "
                "GET /v1/titles/{title}/artwork lists the pictures of a title",
                reason="no_picture",
            )
        name = holders[0]
        own = [action for action, _ in pool.ids].index(action_id)
        looks = pool.embeddings[own]
        squares = rows.squares + float(looks @ looks) - 2 * (rows.embeddings @ looks)
        distances = np.sqrt(np.maximum(0, squares))
        distances[rows.places[name]] = np.inf
        # Rounded, so that equal pictures stand in the order of their titles.
        rounded = np.round(distances, 4)
        at = min(k, len(rounded)) - 1
        near = np.flatnonzero(rounded <= np.partition(rounded, at)[at])
        order = near[np.argsort(rounded[near], kind="stable")][:k]
        bits = np.bitwise_count(rows.hashes[order] ^ pool.hashes[own]).astype(int).tolist()
        similar = [
            SimilarPicture(
                title=rows.pictures[at][0],
                action_id=rows.pictures[at][1],
                id=rows.pictures[at][2],
                distance=float(rounded[at]),
                hash_distance=differing,
                duplicate=differing <= DUPLICATE_BITS or bool(distances[at] < DUPLICATE_DISTANCE),
            )
            for at, differing in zip(order.tolist(), bits, strict=True)
            if np.isfinite(rounded[at])
        ]
        return SimilarArtwork(
            title=name,
            action_id=action_id,
            embedding_model=pool.model,
            searched=len(rows.pictures),
            similar=similar,
        )

    def _refresh(self) -> None:
        """Read the pools that are not known as they are now, oldest knowledge first."""
        until = time.monotonic() + self._read_seconds
        published = self._library.published()
        changed = False
        for gone in [title for title in self._pools if title not in published]:
            del self._pools[gone]
            changed = True
        left = 0
        for title, package in published.items():
            known = self._pools.get(title)
            edits = self._library.edits
            if (
                known is not None
                and known.package == package
                and not edits.changed(title, package, known.edited)
            ):
                continue
            if time.monotonic() > until:
                left += 1
                continue
            changed = True
            self._pools[title] = self._read(title, package)
        if changed:
            self._rows = _stacked(self._pools)
            self._holders = {}
            for title in sorted(self._pools):
                for action, _ in self._pools[title].ids:
                    self._holders.setdefault(action, []).append(title)
        if left:
            raise StoreUnusable(
                f"the pictures of {left} of {len(published)} titles have not been read yet; ask "
                "again in a few seconds"
            )

    def _read(self, title: str, package: str) -> _Pool:
        try:
            bundle = self._library.files.bundles.get(package)
        except FileNotFoundError:  # withdrawn by another process just now
            return _pool(package, Edited(), {})
        edited = self._library.edits.resolved(title, package, bundle)
        entry = bundle.entry("artwork")
        return _pool(package, edited, {} if entry is None else json.loads(bundle.body(entry)))


def _pool(package: str, edited: Edited, document: dict[str, object]) -> _Pool:
    listed = document.get("candidates")
    candidates = [
        one
        for one in (listed if isinstance(listed, list) else [])
        if one["action_id"] not in edited.banned
    ]
    embeddings = np.array([one["embedding"] for one in candidates], np.float32)
    return _Pool(
        package,
        edited,
        str(document.get("embedding_model", "")),
        [(one["action_id"], one["id"]) for one in candidates],
        np.array([int(one["perceptual_hash"], 16) for one in candidates], np.uint64),
        embeddings.reshape(len(candidates), -1) if candidates else np.zeros((0, 0), np.float32),
    )


def _stacked(pools: dict[str, _Pool]) -> dict[str, _Rows]:
    """Return the pictures of all pools by the model of their embeddings, in order of titles."""
    of_model: dict[str, list[str]] = {}
    for title in sorted(pools):
        if pools[title].ids:
            of_model.setdefault(pools[title].model, []).append(title)
    stacked = {}
    for model, titles in of_model.items():
        embeddings = np.concatenate([pools[title].embeddings for title in titles])
        places, begin = {}, 0
        for title in titles:
            places[title] = slice(begin, begin + len(pools[title].ids))
            begin = places[title].stop
        stacked[model] = _Rows(
            [(title, *ids) for title in titles for ids in pools[title].ids],
            np.concatenate([pools[title].hashes for title in titles]),
            embeddings,
            np.asarray(np.square(embeddings).sum(axis=1), np.float32),
            places,
        )
    return stacked
