"""Write a title's artwork pool into a package: pictures, ``artwork.json``, actions table.

Pictures that the replaced package already showed keep their action ids.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.package.documents import read_artwork
from cluster.stages.artwork import pool_of
from cluster.store import Record, Store
from encoder.errors import BadInput
from encoder.package.layout import Thumbnails
from recommender.artwork.document import (
    ACTIONS_URI,
    ARTWORK_URI,
    SHEETS_TEMPLATE,
    Artwork,
    ArtworkTitle,
    ScrubFacts,
)
from recommender.artwork.lineage import follow
from recommender.artwork.scrub import COLUMNS, ROWS
from recommender.artwork.stills import MEASURES

ACTIONS_SCHEMA: Final = "shotladder/actions/1"
"""Schema of the actions table, kept in the metadata of the Parquet file."""


def write_artwork(
    record: Record, store: Store, directory: Path, previous: Artwork | None
) -> Artwork:
    """Write a pool into a package's folder, and return it with its action ids.

    Args:
        record: result of :func:`cluster.stages.artwork.find_artwork`.
        store: store that holds the record.
        directory: folder of the package.
        previous: pool of the package that this one replaces, if there is one. Pictures that were
            in it keep their action ids.
    """
    artwork, files = pool_of(record, store)
    if previous is not None:
        artwork = follow(artwork, previous)
    for uri, content in files.items():
        target = directory / uri
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    (directory / ACTIONS_URI).write_bytes(actions_table(artwork))
    (directory / ARTWORK_URI).write_text(artwork.to_json(), encoding="utf-8")
    return artwork


def thumbnails_of(record: Record) -> Thumbnails | None:
    """Return the scrub track of a pool as playlists declare it; None where it has no sheet.

    Args:
        record: result of :func:`cluster.stages.artwork.find_artwork`.
    """
    artwork, places = Artwork.model_validate(record.value["artwork"]), record.value["files"]
    sizes = [places[uri][1] for uri in artwork.scrub.sheets]  # offset and length in the blob
    return thumbnails_in(artwork.scrub, artwork.title, sizes) if sizes else None


def thumbnails_in(track: ScrubFacts, title: ArtworkTitle, sizes: Sequence[int]) -> Thumbnails:
    """Return a scrub track of a title, whose sheets have these sizes in bytes."""
    rate = Fraction(title.frame_rate)
    step = round(Fraction(track.step_seconds) * rate)
    left = -(-title.frames // step)
    rows = []
    for _ in track.sheets:
        rows.append(min(ROWS, -(-left // COLUMNS)))
        left -= ROWS * COLUMNS
    return Thumbnails(
        uris=tuple(track.sheets),
        template=SHEETS_TEMPLATE,
        sizes=tuple(sizes),
        columns=COLUMNS,
        rows=tuple(rows),
        width=track.width,
        height=track.height,
        step=step / rate,
    )


def previous_artwork(out: Path) -> Artwork | None:
    """Return the pool of the package in ``out``; None if there is none or it is unreadable."""
    try:
        return read_artwork(out)
    except BadInput:
        return None


def actions_table(artwork: Artwork) -> bytes:
    """Return the candidates as a Parquet file for a bandit: one row of features each, by rank."""
    facts = {"schema": ACTIONS_SCHEMA, "embedding_model": artwork.embedding_model}
    table = pa.table(actions(artwork)).replace_schema_metadata({"shotladder": json.dumps(facts)})
    file = io.BytesIO()
    pq.write_table(table, file)
    return file.getvalue()


def actions(artwork: Artwork) -> dict[str, Any]:
    """Return the columns of the actions table as arrays, one row for each candidate, by rank."""
    rows = artwork.candidates
    columns: dict[str, Any] = {
        "action_id": pa.array([row.action_id for row in rows], pa.string()),
        "candidate_id": pa.array([row.id for row in rows], pa.string()),
        "pool": pa.array([artwork.pool] * len(rows), pa.string()),
        "title_id": pa.array([artwork.title.id] * len(rows), pa.string()),
        "rank": pa.array([row.rank for row in rows], pa.int32()),
        "frame": pa.array([row.frame for row in rows], pa.int64()),
        "time_seconds": pa.array([row.time_seconds for row in rows], pa.float64()),
        "place": pa.array([row.frame / artwork.title.frames for row in rows], pa.float32()),
        "shot": pa.array([row.shot for row in rows], pa.int32()),
        "cluster": pa.array([row.cluster for row in rows], pa.int32()),
        "quality": pa.array([row.quality for row in rows], pa.float32()),
        "spoiler_zone": pa.array([row.spoiler_zone for row in rows], pa.bool_()),
        "faces": pa.array(
            [None if row.faces is None else len(row.faces) for row in rows], pa.int32()
        ),
        "shot_scale": pa.array([row.shot_scale for row in rows], pa.string()),
        "appeal": pa.array([row.appeal for row in rows], pa.float32()),
        "eyes_open": pa.array(
            [row.faces[0].eyes_open if row.faces else None for row in rows], pa.float32()
        ),
        "perceptual_hash": pa.array([row.perceptual_hash for row in rows], pa.string()),
        "embedding": pa.array([row.embedding for row in rows], pa.list_(pa.float32())),
    }
    for name in MEASURES:
        measures = [row.metrics.get(name) for row in rows]
        for part in ("raw", "percentile"):
            values = [None if one is None else getattr(one, part) for one in measures]
            columns[f"{part}_{name}"] = pa.array(values, pa.float32())
    return columns
