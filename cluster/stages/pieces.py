"""A title's source in the store, in pieces, for workers that do not see it.

The source is cut once, at its shots, into runs of about two minutes. A worker fetches the piece
that a unit of work is about and keeps it in its cache; what it makes of it has the keys and the
bits that the source itself would give.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cluster import events
from cluster.stages.stage import Made, find_or_make
from cluster.stages.title import Title, TitleSource
from cluster.store import Blob, Store
from cluster.store.keys import key
from encoder.media import Shot
from encoder.source import pieces
from encoder.source.pieces import Piece
from encoder.source.reference import ReferenceSource

VERSION = 1
"""Rises when pieces are cut otherwise."""
PIECE_SECONDS = 120


@dataclass(frozen=True, slots=True)
class StoredPiece:
    """A piece and where its file is."""

    piece: Piece
    blob: Blob

    def holds(self, shot: Shot) -> bool:
        """Whether a shot lies in it."""
        return self.piece.start <= shot.start and shot.end <= self.piece.end


def bring(title: Title, store: Store, on_event: events.Listener) -> tuple[StoredPiece, ...]:
    """The title's pieces, in order; cut and stored if they are not there.

    Raises:
        SourceUnusable: the source cannot be read.
        StoreUnusable: they cannot be stored.
    """
    ranges = planned(title)
    identity = key(
        "pieces",
        VERSION,
        source=title.source.sha256,
        reference=title.reference.graph_id,
        ranges=ranges,
    )

    def make(scratch: Path) -> Made:
        on_event(events.StagePlanned("pieces", len(ranges), unit="pieces"))
        stored: list[StoredPiece] = []
        for piece, path in pieces.cut(title.reference, ranges, scratch):
            # At once: the pieces together take as much space as the source.
            stored.append(StoredPiece(piece, store.put_blob(path, move=True)))
            on_event(events.StageProgress("pieces", len(stored), len(ranges)))
        stored.sort(key=lambda one: one.piece.start)
        return Made(
            [asdict(one.piece) for one in stored],
            {str(number): one.blob for number, one in enumerate(stored)},
        )

    record = find_or_make(store, identity, make, stage="pieces", version=VERSION, title=title.id)
    return tuple(
        StoredPiece(Piece(**facts), record.blobs[str(number)])
        for number, facts in enumerate(record.value)
    )


def planned(title: Title) -> list[tuple[int, int]]:
    """Runs of whole shots, canonical frames, each about :data:`PIECE_SECONDS` long."""
    wanted = PIECE_SECONDS * title.reference.frame_rate
    ranges: list[tuple[int, int]] = []
    start = title.shots[0].start
    for shot in title.shots:
        if shot.end - start >= wanted or shot is title.shots[-1]:
            ranges.append((start, shot.end))
            start = shot.end
    return ranges


def number_of(found: Sequence[StoredPiece], shot: Shot) -> int:
    """Which of the pieces holds a shot."""
    return next(number for number, one in enumerate(found) if one.holds(shot))


def fetched(title: TitleSource, stored: StoredPiece, store: Store) -> TitleSource:
    """The title, read from a piece that was fetched into the store's cache.

    Raises:
        StoreUnusable: it cannot be fetched.
        SourceUnusable: it is not a piece of the title.
    """
    path = store.path(stored.blob)
    return replace(title, piece=_reading(title.reference, stored, path))


@functools.lru_cache(maxsize=16)
def _reading(reference: ReferenceSource, stored: StoredPiece, path: Path) -> ReferenceSource:
    return pieces.reading(reference, stored.piece, path)
