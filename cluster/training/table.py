"""The table of measurements that models are trained on: one Parquet file, one row per cell.

A cell is one operating point of one shot that was encoded and scored. Its row holds the
measurement, the features of the shot, and where both come from. The features are in every row of
their shot, as one list column: rows are sorted, so the repeats lie together and compress to
nothing, and no second file can disagree with this one. There is a column ``quality_MODEL`` for
every quality model that scored any row, null in rows that it did not score.

Writing is safe to repeat and to interrupt: rows are merged by :attr:`Row.key`, sorted, written to
a temporary file and renamed. The same rows give the same bytes, in whatever order they arrive.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from cluster.store.files import atomic_file
from encoder.analysis.features import FEATURE_NAMES, FEATURES_VERSION
from encoder.errors import BadInput
from encoder.media import OperatingPoint, Shot, Size
from encoder.recipes import by_name

TABLE_SCHEMA: Final = "shotladder/table/1"
QUALITY_PREFIX: Final = "quality_"
_METADATA: Final = b"shotladder"


@dataclass(frozen=True, slots=True)
class Row:
    """One measured cell. Its fields are the columns, except that ``frame_rate`` is two columns
    (``frame_rate_num`` and ``frame_rate_den``) and ``quality`` is one per quality model."""

    group: str
    """Name that all titles with the same footage share. A group is never both trained on and
    judged."""
    source: str
    """File name of the source; for an augmentation, of the file that it was made from."""
    augmentation: str
    """Name of the augmentation that made the title; empty for the source itself."""
    title_id: str
    """First 16 hexadecimal digits of ``source_sha256``."""
    source_sha256: str
    """Digest of the title's bytes: of the source, or of the augmented intermediate."""
    reference: str
    """Digest of how the canonical frames are made from those bytes."""
    title_width: int
    title_height: int
    title_frames: int
    frame_rate: Fraction
    source_bits: int
    """Total size of the title's video packets, in bits."""
    shot: int
    """Index of the shot in the title."""
    start_frame: int
    end_frame: int
    cuts: tuple[int, ...]
    """Frames inside the shot that are IDRs."""
    context_before: int
    """Number of frames before the shot that the score saw as context."""
    context_after: int
    """Number of frames after the shot that the score saw as context."""
    recipe: str
    width: int
    height: int
    crf: float
    bits: int
    """Size of the encode's media segment."""
    quality: Mapping[str, float]
    """Mean score over the shot's frames, by quality model."""
    encode_cpu_seconds: float | None
    """This cell's share of the CPU time of its encode; None if it is not known."""
    tool: str
    """Identity of the ffmpeg that encoded and scored."""
    features_version: int
    features: tuple[float, ...]
    """Features of the shot, in the order of :data:`encoder.analysis.features.FEATURE_NAMES` of
    that version."""

    @property
    def size(self) -> Size:
        """Width and height in pixels."""
        return Size(self.width, self.height)

    @property
    def key(self) -> tuple[Any, ...]:
        """What was measured. Of two rows with equal keys the newer one replaces the older."""
        return (
            self.source_sha256,
            self.reference,
            self.start_frame,
            self.end_frame,
            self.cuts,
            self.recipe,
            self.width,
            self.height,
            self.crf,
            self.tool,
        )

    @property
    def shot_range(self) -> Shot:
        """The shot."""
        return Shot(self.start_frame, self.end_frame, self.cuts)

    @property
    def point(self) -> OperatingPoint:
        """The operating point."""
        return OperatingPoint(by_name(self.recipe), self.width, self.height, self.crf)

    @property
    def order(self) -> tuple[Any, ...]:
        """Sort key of the row: title, shot, recipe, size and CRF."""
        return (
            self.group,
            self.source,
            self.augmentation,
            self.source_sha256,
            self.reference,
            self.start_frame,
            self.end_frame,
            self.cuts,
            self.recipe,
            self.width * self.height,
            self.width,
            self.crf,
            self.tool,
        )


_TYPES: Final[Mapping[str, Any]] = {
    "str": pa.string(),
    "int": pa.int64(),
    "float": pa.float64(),
    "float | None": pa.float64(),
    "tuple[int, ...]": pa.list_(pa.int64()),
    "tuple[float, ...]": pa.list_(pa.float32()),
}


def schema(models: Iterable[str]) -> Any:
    """Return the Arrow schema of a table with the quality by ``models``."""
    columns = []
    for field in fields(Row):
        if field.name == "frame_rate":
            columns += [("frame_rate_num", pa.int64()), ("frame_rate_den", pa.int64())]
        elif field.name == "quality":
            columns += [(QUALITY_PREFIX + model, pa.float64()) for model in sorted(models)]
        else:
            columns.append((field.name, _TYPES[str(field.type)]))
    return pa.schema(columns)


def merge(old: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """Return the rows of both, sorted.

    Where keys are equal, the new row replaces the old one. It keeps the old row's quality by
    models that did not score the new one, and the old CPU time if the new one has none.
    """
    rows = {row.key: row for row in old}
    for row in new:
        before = rows.get(row.key)
        if before is not None:
            cost = row.encode_cpu_seconds
            row = replace(
                row,
                quality={**before.quality, **row.quality},
                encode_cpu_seconds=before.encode_cpu_seconds if cost is None else cost,
            )
        rows[row.key] = row
    return sorted(rows.values(), key=lambda row: row.order)


def add_rows(path: Path, new: Sequence[Row]) -> int:
    """Merge ``new`` into the table at ``path``, made if missing; return its number of rows.

    Several processes may add to a table at the same time. A process that is killed leaves the
    table as it was.

    Raises:
        BadInput: the file is not a table, or cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone_in(path.parent):
            old = read_table(path) if path.exists() else ()
            rows = merge(old, new)
            write_table(path, rows)
    except OSError as error:
        raise BadInput(
            f"the table {path} cannot be written ({error.strerror}); name another file"
        ) from error
    return len(rows)


def read_tables(paths: Iterable[Path]) -> list[Row]:
    """Return the rows of several tables, merged; rows of later tables replace earlier ones.

    Raises:
        BadInput: see :func:`read_table`.
    """
    rows: list[Row] = []
    for path in paths:
        rows = merge(rows, read_table(path))
    return rows


def read_table(path: Path) -> tuple[Row, ...]:
    """Return all rows, in order. The rows of a shot share one tuple of features.

    Raises:
        BadInput: there is no table, or none that this version can read.
    """
    if not path.is_file():
        raise BadInput(f"{path} is no file; name a table that `shotladder sweep` wrote")
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise BadInput(
            f"{path} is not a whole Parquet file ({str(error)[:80]}); name a table that "
            "`shotladder sweep` wrote"
        ) from error
    table_schema = json.loads((table.schema.metadata or {}).get(_METADATA, b"{}")).get("schema")
    models = [
        name.removeprefix(QUALITY_PREFIX)
        for name in table.column_names
        if name.startswith(QUALITY_PREFIX)
    ]
    if table_schema != TABLE_SCHEMA or not table.schema.equals(schema(models)):
        raise BadInput(
            f"{path} has the schema {table_schema or 'of another program'}, but this version reads "
            f"{TABLE_SCHEMA}; name another file"
        )
    return tuple(_rows(table, models))


def _rows(table: Any, models: Sequence[str]) -> Iterator[Row]:
    vectors = _shared_vectors(table.column("features").combine_chunks())
    for row, features in zip(table.drop(["features"]).to_pylist(), vectors, strict=True):
        quality = {model: row.pop(QUALITY_PREFIX + model) for model in models}
        row["quality"] = {model: value for model, value in quality.items() if value is not None}
        row["frame_rate"] = Fraction(row.pop("frame_rate_num"), row.pop("frame_rate_den"))
        row["cuts"] = tuple(row["cuts"])
        yield Row(**row, features=features)


def _shared_vectors(column: Any) -> Iterator[tuple[float, ...]]:
    """Yield the column's lists as tuples; equal neighbours are one object."""
    offsets, values = column.offsets.to_numpy(), column.values.to_numpy(zero_copy_only=False)
    previous, shared = b"", ()
    for start, end in pairwise(offsets):
        content = values[start:end].tobytes()
        if content != previous:
            previous, shared = content, tuple(values[start:end].tolist())
        yield shared


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Write ``rows``, in their order, as the table at ``path``; an existing file is replaced.

    Raises:
        OSError: the file cannot be written.
    """
    models = sorted({model for row in rows for model in row.quality})
    metadata = {
        "schema": TABLE_SCHEMA,
        # Of this version's rows. Rows with features of other versions are not trained on.
        "features": {"version": FEATURES_VERSION, "names": list(FEATURE_NAMES)},
    }
    arrow = schema(models).with_metadata({_METADATA: json.dumps(metadata).encode()})
    columns: dict[str, list[Any]] = {name: [] for name in arrow.names}
    for row in rows:
        for field in fields(Row):
            if field.name not in ("frame_rate", "quality"):
                columns[field.name].append(getattr(row, field.name))
        columns["frame_rate_num"].append(row.frame_rate.numerator)
        columns["frame_rate_den"].append(row.frame_rate.denominator)
        for model in models:
            columns[QUALITY_PREFIX + model].append(row.quality.get(model))
    table = pa.table(columns, schema=arrow)
    with atomic_file(path) as partial:
        pq.write_table(table, partial, compression="zstd", compression_level=12)


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes from adding to tables in a folder: read, merge and rename are one
    step."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
