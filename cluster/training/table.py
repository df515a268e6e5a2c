"""The table of measurements that models are trained on: one Parquet file, one row per cell.

A cell is one operating point of one shot, really encoded and really scored. Its row holds what was
measured, what the shot is (features), and where both come from. Features stand in every row of
their shot, in one list column: rows are sorted, so the repeats lie together and compress to
nothing, and no second file can disagree with this one. A column ``quality_MODEL`` exists for every
quality model by which any row was measured, null where a row was not.

Writing is safe to repeat and to interrupt: rows are merged by :attr:`Row.key`, sorted, written to
a temporary file and renamed. The same rows give the same bytes, whatever the order they came in.
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

from encoder.analysis.features import FEATURE_NAMES, FEATURES_VERSION
from encoder.errors import BadInput
from encoder.media import OperatingPoint, Shot, Size
from encoder.recipes import by_name

TABLE_SCHEMA: Final = "shotladder/table/1"
QUALITY_PREFIX: Final = "quality_"
_METADATA: Final = b"shotladder"


@dataclass(frozen=True, slots=True)
class Row:
    """One measured cell. Fields are columns, but for ``frame_rate`` (``frame_rate_num`` and
    ``frame_rate_den``) and ``quality`` (a column per model)."""

    group: str
    """Titles that share footage have one group; training and judging never share one."""
    source: str
    """File name of the source: for an augmentation, of what it was made from."""
    augmentation: str
    """Name of the augmentation that made the title; empty for the source itself."""
    title_id: str
    """First 16 hexadecimal digits of ``source_sha256``."""
    source_sha256: str
    """Of the title's bytes: the source's, or the augmented intermediate's."""
    reference: str
    """Digest of how canonical frames are made of it."""
    title_width: int
    title_height: int
    title_frames: int
    frame_rate: Fraction
    source_bits: int
    """Of the title's video packets; of an intermediate, that of the intermediate."""
    shot: int
    """Number of the shot in the title."""
    start_frame: int
    end_frame: int
    cuts: tuple[int, ...]
    """Frames inside the shot that got an IDR."""
    context_before: int
    """Frames of context that the score saw before the shot, and after it."""
    context_after: int
    recipe: str
    width: int
    height: int
    crf: float
    bits: int
    """Of the encode's media segment."""
    quality: Mapping[str, float]
    """Mean over the shot's frames, by model."""
    encode_cpu_seconds: float | None
    """This cell's share of what its encode took; None where nobody wrote it down."""
    tool: str
    """Identity of the ffmpeg that encoded and measured."""
    features_version: int
    features: tuple[float, ...]
    """In the order of :data:`encoder.analysis.features.FEATURE_NAMES` of that version."""

    @property
    def size(self) -> Size:
        """Width and height in pixels."""
        return Size(self.width, self.height)

    @property
    def key(self) -> tuple[Any, ...]:
        """Rows with equal keys are measurements of the same thing; the newer one counts."""
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
        """Where the row stands: by title, shot, recipe, size and CRF."""
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
    """The Arrow schema of a table with quality by ``models``."""
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
    """Rows of both, sorted. Of equal keys the new row counts, and keeps the quality by models
    that only the old one has, and its cost if it has none."""
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
    """Merge ``new`` into the table at ``path``, made if missing; how many rows it has then.

    Several processes may add to one table at once. A process that is killed leaves the table as it
    was.

    Raises:
        BadInput: what is there is no table of ours, or the place cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone_in(path.parent):
            old = read_table(path) if path.exists() else ()
            rows = merge(old, new)
            write_table(path, rows)
    except OSError as error:
        raise BadInput(
            f"the table {path} cannot be written ({error.strerror}); name another place"
        ) from error
    return len(rows)


def read_tables(paths: Iterable[Path]) -> list[Row]:
    """The rows of several tables, each cell once, as :func:`merge` has them.

    Raises:
        BadInput: as :func:`read_table`.
    """
    rows: list[Row] = []
    for path in paths:
        rows = merge(rows, read_table(path))
    return rows


def read_table(path: Path) -> tuple[Row, ...]:
    """All rows, in their order. Rows of a shot share one tuple of features.

    Raises:
        BadInput: there is no table, or not one that this version reads.
    """
    if not path.is_file():
        raise BadInput(f"{path} is no file; name a table that `shotladder sweep` wrote")
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise BadInput(f"{path} is not a whole Parquet file ({str(error)[:80]})") from error
    found = json.loads((table.schema.metadata or {}).get(_METADATA, b"{}")).get("schema")
    models = [
        name.removeprefix(QUALITY_PREFIX)
        for name in table.column_names
        if name.startswith(QUALITY_PREFIX)
    ]
    if found != TABLE_SCHEMA or not table.schema.equals(schema(models)):
        raise BadInput(
            f"{path} is a table of {found or 'someone else'}; this version reads {TABLE_SCHEMA}"
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
    """The column's lists as tuples, equal neighbours as one."""
    offsets, values = column.offsets.to_numpy(), column.values.to_numpy(zero_copy_only=False)
    last, shared = b"", ()
    for start, end in pairwise(offsets):
        content = values[start:end].tobytes()
        if content != last:
            last, shared = content, tuple(values[start:end].tolist())
        yield shared


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Write ``rows``, in their order, as the table at ``path``, whatever is there.

    Raises:
        OSError: the place cannot be written.
    """
    models = sorted({model for row in rows for model in row.quality})
    own = {
        "schema": TABLE_SCHEMA,
        # Of the newest rows: those of other versions keep theirs, and training leaves them out.
        "features": {"version": FEATURES_VERSION, "names": list(FEATURE_NAMES)},
    }
    shape = schema(models).with_metadata({_METADATA: json.dumps(own).encode()})
    columns: dict[str, list[Any]] = {name: [] for name in shape.names}
    for row in rows:
        for field in fields(Row):
            if field.name not in ("frame_rate", "quality"):
                columns[field.name].append(getattr(row, field.name))
        columns["frame_rate_num"].append(row.frame_rate.numerator)
        columns["frame_rate_den"].append(row.frame_rate.denominator)
        for model in models:
            columns[QUALITY_PREFIX + model].append(row.quality.get(model))
    table = pa.table(columns, schema=shape)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        pq.write_table(table, temporary, compression="zstd", compression_level=12)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """One process at a time: read, merge and rename are one step."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
