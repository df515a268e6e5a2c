"""The pools of published titles, as numbers and as what is shown, kept in memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cluster.policy.pools import write_pool
from cluster.service.decision_documents import DecidedImage
from cluster.service.library.library import Library
from cluster.service.library.wanted import UNEDITED, Edited
from encoder.arrays import Mask
from recommender.artwork.document import Artwork
from recommender.policy.features import pictures_of
from recommender.policy.trials import Pictures

MAX_POOLS = 20_000
"""Pools that are kept in memory, of about 50 kB each at 48 pictures."""


@dataclass(frozen=True, slots=True, eq=False)
class Shelf:
    """The pool of one version of a title."""

    pictures: Pictures
    spoiler: Mask
    """True for the pictures of the last part of the title."""
    images: dict[str, list[str]]
    """What is shown of each picture, by aspect: id, focal point and renditions, as JSON."""
    has_files: dict[str, Mask]
    """True for the pictures that can be shown in a shape: they have files, which a crop that would
    cut a face has not, and editors have not banned them."""
    base: str
    """Prefix of the URIs of the renditions."""
    pinned: Mask | None = None
    """True for the pictures that editors have pinned; None if there are none."""

    def allowed(self, aspect: str, excluded: frozenset[str], *, no_spoilers: bool) -> Mask:
        """Return which pictures may be shown in a shape, (pictures,); not to be changed.

        They are those that editors have pinned, if any of these may be shown.

        Args:
            aspect: the shape.
            excluded: action ids that may not be shown.
            no_spoilers: True to leave out the last part of the title.
        """
        allowed = self.has_files.get(aspect)
        if allowed is None:
            return np.zeros(len(self.pictures), np.bool_)
        if not excluded.isdisjoint(self.pictures.actions):
            allowed = allowed & [one not in excluded for one in self.pictures.actions]
        allowed = allowed & ~self.spoiler if no_spoilers else allowed
        if self.pinned is not None and (pinned := allowed & self.pinned).any():
            return pinned
        return allowed


class Shelves:
    """Pools by title, read when they are first asked for."""

    def __init__(self, library: Library, pools: Path) -> None:
        self._library = library
        self._pools = pools
        self._lock = threading.Lock()
        self._read: OrderedDict[tuple[str, str, Edited], Shelf] = OrderedDict()

    def get(self, title: str) -> Shelf | None:
        """Return the pool of a title's current version; None if it has none or is not published."""
        current = self._library.current(title)
        if current is None or current.version is None:
            return None
        try:
            bundle = self._library.files.bundles.get(current.package)
        except FileNotFoundError:  # withdrawn by another process just now
            return None
        edited = self._library.edits.resolved(title, current.package, bundle)
        key = title, current.package, edited
        with self._lock:
            shelf = self._read.get(key)
            if shelf is not None:
                self._read.move_to_end(key)
        base = self._library.links.base(title, current.version, current.package)
        if shelf is not None:  # signed URLs end, so their prefix changes
            return shelf if shelf.base == base else replace(shelf, base=base)
        entry = bundle.entry("artwork")
        if entry is None:
            return None
        shelf = shelf_of(Artwork.model_validate_json(bundle.body(entry)), title, base, edited)
        write_pool(self._pools, shelf.pictures)
        with self._lock:
            self._read[key] = shelf
            while len(self._read) > MAX_POOLS:
                self._read.popitem(last=False)
        return shelf


def shelf_of(artwork: Artwork, title: str, base: str, edited: Edited = UNEDITED) -> Shelf:
    """Return a pool as decisions need it; ``base`` is the prefix of its files' URIs."""
    images: dict[str, list[str]] = {}
    has_files: dict[str, list[bool]] = {}
    for candidate in artwork.candidates:
        for crop in candidate.crops:
            image = DecidedImage(
                id=candidate.id,
                title_side=candidate.title_side,
                focal_point=crop.focal_point,
                renditions=crop.renditions,
            )
            images.setdefault(crop.aspect, []).append(image.model_dump_json())
            shown = bool(crop.renditions) and candidate.action_id not in edited.banned
            has_files.setdefault(crop.aspect, []).append(shown)
    spoiler = np.array([candidate.spoiler_zone for candidate in artwork.candidates], np.bool_)
    masks = {aspect: np.array(flags, np.bool_) for aspect, flags in has_files.items()}
    pins = [candidate.action_id in edited.pinned for candidate in artwork.candidates]
    pinned = np.array(pins, np.bool_) if any(pins) else None
    return Shelf(pictures_of(artwork, title), spoiler, images, masks, base, pinned)
