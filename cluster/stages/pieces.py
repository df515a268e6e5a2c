"""The pieces stage: a title's source in the store, for workers that do not see the source.

The source is cut once, at its shots, into runs of about two minutes. A worker fetches the piece
that contains a unit of work into its cache. Results have the same keys and the same bits as those
made from the source itself.
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
"""Version of the stage in its keys: raise it when sources are cut differently."""
PIECE_SECONDS = 120


@dataclass(frozen=True, slots=True)
class StoredPiece:
    """A piece of a source, and the blob that holds its file."""

    piece: Piece
    blob: Blob

    def contains(self, shot: Shot) -> bool:
        """Return whether the whole shot lies in the piece."""
        return self.piece.start <= shot.start and shot.end <= self.piece.end


def store_pieces(title: Title, store: Store, on_event: events.Listener) -> tuple[StoredPiece, ...]:
    """Return the title's pieces in order, cutting and storing them if need be.

    Raises:
        SourceUnusable: the source cannot be read.
        StoreUnusable: the pieces cannot be stored.
    """
    ranges = piece_ranges(title)
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
            # Stored one by one: together they take as much space as the source.
            stored.append(StoredPiece(piece, store.put_blob(path, move=True)))
            on_event(events.StageProgress("pieces", len(stored), len(ranges)))
        stored.sort(key=lambda each: each.piece.start)
        return Made(
            [asdict(each.piece) for each in stored],
            {str(number): each.blob for number, each in enumerate(stored)},
        )

    record = find_or_make(store, identity, make, stage="pieces", version=VERSION, title=title.id)
    return tuple(
        StoredPiece(Piece(**facts), record.blobs[str(number)])
        for number, facts in enumerate(record.value)
    )


def piece_ranges(title: Title) -> list[tuple[int, int]]:
    """Return the canonical frames of each piece: whole shots, about :data:`PIECE_SECONDS` long."""
    min_frames = PIECE_SECONDS * title.reference.frame_rate
    ranges: list[tuple[int, int]] = []
    start = title.shots[0].start
    for shot in title.shots:
        if shot.end - start >= min_frames or shot is title.shots[-1]:
            ranges.append((start, shot.end))
            start = shot.end
    return ranges


def piece_index(stored: Sequence[StoredPiece], shot: Shot) -> int:
    """Return the index of the piece that contains a shot."""
    return next(index for index, piece in enumerate(stored) if piece.contains(shot))


def read_from_piece(title: TitleSource, stored: StoredPiece, store: Store) -> TitleSource:
    """Return the title so that its frames are read from a piece, which is fetched if need be.

    Raises:
        StoreUnusable: the piece cannot be fetched.
        SourceUnusable: the blob is not a piece of the title.
    """
    path = store.path(stored.blob)
    return replace(title, piece=_reference(title.reference, stored, path))


@functools.lru_cache(maxsize=16)
def _reference(reference: ReferenceSource, stored: StoredPiece, path: Path) -> ReferenceSource:
    return pieces.reading(reference, stored.piece, path)
