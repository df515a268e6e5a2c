"""How the artwork of a package looks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from cluster.cli.views.tables import Column, clock, table
from cluster.service.documents import ArtworkEdit
from recommender.artwork.document import Artwork, Candidate


def artwork_view(
    artwork: Artwork, candidates: Sequence[Candidate], aspect: str | None = None
) -> list[RenderableType]:
    """List candidates with what was measured of each, in the order of a shape if it is named."""
    rate = Fraction(artwork.title.frame_rate)
    faces = artwork.face_model is not None
    columns: list[Column[Candidate]] = [
        Column("rank", lambda still: still.rank),
        Column("at", lambda still: clock(float(still.frame / rate))),
        Column("shot", lambda still: still.shot),
        Column("quality", lambda still: still.quality, ".2f"),
        Column("sharp", lambda still: 100 * still.metrics["sharpness"].percentile, ".0f"),
        Column("faces", lambda still: len(still.faces or ()), shown=faces),
        Column("eyes", _eyes, ".0f", shown=faces),
        Column("action", lambda still: still.action_id, left=True),
    ]
    selection = artwork.selection
    dropped = ", ".join(f"{step.dropped} {step.name}" for step in selection.filters if step.dropped)
    heading = (
        f"{artwork.title.source}: pool {artwork.pool}, {len(artwork.candidates)} candidates of "
        f"{selection.stills} stills in {selection.clusters} clusters"
    )
    order = f"Order: rank of the {aspect} crops" if aspect else "Order: rank"
    left_out = len(artwork.candidates) - len(candidates)
    notes = f"{order}. Dropped: {dropped or 'none'}. sharp: percentile within the title."
    if faces:
        notes += " eyes: how far those of the main face are open, percent of their widest."
    else:
        notes += " Nobody looked for faces: the package is of an earlier release."
    if aspect and left_out:
        notes += f" {left_out} of {len(artwork.candidates)} candidates are not listed."
    return [
        *(Text(heading), Text(), table(columns, candidates)),
        *(Text(), Text(notes, style="dim")),
    ]


def _eyes(still: Candidate) -> float | None:
    face = still.faces[0] if still.faces else None
    return None if face is None or face.eyes_open is None else 100 * face.eyes_open


def artwork_lines(
    artwork: Artwork, candidates: Sequence[Candidate]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield artwork as NDJSON: one ``artwork``, then the ``candidate`` objects."""
    yield "artwork", artwork.model_dump(mode="json", by_alias=True, exclude={"candidates"})
    for still in candidates:
        yield "candidate", still.model_dump(mode="json")


def edits_view(edits: Sequence[ArtworkEdit]) -> list[RenderableType]:
    """List what editors have decided about the pictures of a title."""
    columns: list[Column[ArtworkEdit]] = [
        Column("action", lambda one: one.action_id, left=True),
        Column("edit", lambda one: one.edit, left=True),
        Column("by", lambda one: one.actor, left=True),
        Column("at", lambda one: f"{one.at:%Y-%m-%d %H:%M}", left=True),
        Column("reason", lambda one: one.reason, left=True),
    ]
    return [table(columns, edits)]
