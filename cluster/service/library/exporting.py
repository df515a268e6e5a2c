"""All artwork as one table: the rows of the titles that have changed since a change number."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cluster.service.documents import Changes
from cluster.service.library.library import Library
from recommender.artwork.document import Artwork

if TYPE_CHECKING:
    import pyarrow as pa

EXPORT_SCHEMA: Final = "shotladder/artwork-export/1"
"""Schema of the table, in the metadata of the Parquet file."""


@dataclass(frozen=True, slots=True)
class Export:
    """A part of the export."""

    content: bytes
    """Parquet file."""
    changes: Changes
    """The changes that it is of; ``next`` and ``epoch`` say where the next part begins."""


def export_artwork(library: Library, since: int, limit: int, epoch: str | None) -> Export:
    """Return the pictures of the titles that the next ``limit`` changes are about, as they are now.

    A title that was published and replaced meanwhile is there once. Titles without artwork now,
    withdrawn ones among them, are named in the metadata as ``gone``: their earlier rows no longer
    hold, and neither do the earlier rows of titles that the table has.

    Raises:
        Conflict: ``since`` is no number of this epoch, since the tables were restored.
    """
    import pyarrow as pa  # which only this needs
    import pyarrow.parquet as pq

    changes = library.changes(since, limit, epoch)
    tables, gone = [], []
    for title in sorted({change.title for change in changes.changes}):
        table = _table(library, title)
        if table is None:
            gone.append(title)
        else:
            tables.append(table)
    # Embeddings of different models have different lengths: the column is a list.
    whole = pa.concat_tables(tables, promote_options="default") if tables else pa.table({})
    facts = {
        "schema": EXPORT_SCHEMA,
        "since": since,
        "next": changes.next,
        "epoch": changes.epoch,
        "more": changes.more,
        "gone": gone,
    }
    whole = whole.replace_schema_metadata({"shotladder": json.dumps(facts)})
    file = io.BytesIO()
    pq.write_table(whole, file, compression="zstd")
    return Export(file.getvalue(), changes)


def _table(library: Library, title: str) -> pa.Table | None:
    """Return the pictures of a title; None if it has none that can be read."""
    import pyarrow as pa

    from cluster.package.artwork_files import actions

    current = library.current(title)
    if current is None or current.version is None:
        return None
    try:
        bundle = library.files.bundles.get(current.package)
    except FileNotFoundError:  # withdrawn by another process just now
        return None
    entry = bundle.entry("artwork")
    if entry is None:
        return None
    artwork = Artwork.model_validate_json(bundle.body(entry))
    edited = library.edits.resolved(title, current.package, bundle)
    listed = [candidate.action_id for candidate in artwork.candidates]
    count = len(listed)
    columns = {
        "external_id": pa.array([title] * count, pa.string()),
        "version": pa.array([current.version] * count, pa.int32()),
        "package": pa.array([current.package] * count, pa.string()),
        "embedding_model": pa.array([artwork.embedding_model] * count, pa.string()),
        "banned": pa.array([one in edited.banned for one in listed], pa.bool_()),
        "pinned": pa.array(
            [edited.pinned.index(one) if one in edited.pinned else None for one in listed],
            pa.int32(),
        ),
    }
    return pa.table({**columns, **actions(artwork)})
