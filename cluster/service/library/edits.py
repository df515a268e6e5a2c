"""What editors have decided about the artwork of titles, kept in memory.

A decision is about a picture, not about a version of its title: it holds for every pool of the
title that has the picture, by its action id or, where a new pool lost that, by its perceptual hash.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from cluster.service.database import ArtworkEditRow
from cluster.service.library.bundle import Bundle
from cluster.service.library.cached import Cold
from cluster.service.library.wanted import UNEDITED, Edited

_MAX_RESOLVED = 10_000


@dataclass(frozen=True, slots=True)
class PictureEdit:
    """What was decided about one picture of a title."""

    action_id: str
    kind: str
    perceptual_hash: str


class Edits:
    """Decisions by title, the oldest first."""

    def __init__(self) -> None:
        self._of: dict[str, tuple[PictureEdit, ...]] = {}
        self._resolved: dict[tuple[str, str], tuple[tuple[PictureEdit, ...], Edited]] = {}

    def load(self, session: Session, titles: Iterable[str] | None) -> None:
        """Read the decisions about some titles, or about all, anew."""
        query = select(ArtworkEditRow).order_by(ArtworkEditRow.at, ArtworkEditRow.action_id)
        if titles is None:
            self._of.clear()
        else:
            names = list(titles)
            query = query.where(ArtworkEditRow.title.in_(names))
            for name in names:
                self._of.pop(name, None)
        found: dict[str, list[PictureEdit]] = {}
        for row in session.scalars(query):
            edit = PictureEdit(row.action_id, row.kind, row.perceptual_hash)
            found.setdefault(row.title, []).append(edit)
        self._of.update({title: tuple(edits) for title, edits in found.items()})

    def changed(self, title: str, package: str, edited: Edited) -> bool:
        """Tell whether something else was decided than what :meth:`resolved` returned earlier."""
        edits = self._of.get(title)
        if edits is None:
            return edited != UNEDITED
        known = self._resolved.get((title, package))
        return known is None or known[0] != edits or known[1] != edited

    def resolved(self, title: str, package: str, bundle: Bundle, *, wait: bool = True) -> Edited:
        """Return what holds for the pool of a title's package, whose bundle is given.

        Raises:
            Cold: it has to be worked out, and ``wait`` is False.
        """
        edits = self._of.get(title)
        if edits is None:
            return UNEDITED
        known = self._resolved.get((title, package))
        if known is not None and known[0] == edits:
            return known[1]
        if not wait:
            raise Cold
        entry = bundle.entry("artwork")
        pool = {} if entry is None else json.loads(bundle.body(entry))
        edited = edited_of(edits, pool.get("candidates", []))
        if len(self._resolved) >= _MAX_RESOLVED:
            self._resolved.clear()
        self._resolved[title, package] = edits, edited
        return edited


def edited_of(edits: Iterable[PictureEdit], candidates: Iterable[dict[str, str]]) -> Edited:
    """Return the action ids of the candidates that decisions are about."""
    from recommender.artwork.lineage import is_same_picture  # loads OpenCV

    listed = [(one["action_id"], one["perceptual_hash"]) for one in candidates]
    of_kind: dict[str, list[str]] = {"ban": [], "pin": []}
    for edit in edits:
        alike = [
            action_id
            for action_id, hash_ in listed
            if action_id == edit.action_id or is_same_picture(hash_, edit.perceptual_hash)
        ]
        # Of several that look the same, all are banned, and the one that was meant is pinned.
        if edit.kind == "pin":
            alike = [edit.action_id] if edit.action_id in alike else alike[:1]
        of_kind[edit.kind] += alike
    banned = dict.fromkeys(of_kind["ban"])
    return Edited(tuple(banned), tuple(one for one in of_kind["pin"] if one not in banned))
