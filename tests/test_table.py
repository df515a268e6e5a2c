from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from cluster.training.dataset import examples
from cluster.training.table import QUALITY_PREFIX, Row, add_rows, merge, read_table
from encoder.analysis.features import FEATURE_NAMES, FEATURES_VERSION
from encoder.errors import BadInput

ROW = Row(
    group="meadow",
    source="meadow.mp4",
    augmentation="",
    title_id="0123456789abcdef",
    source_sha256="0123456789abcdef" * 4,
    reference="fedcba9876543210",
    title_width=640,
    title_height=360,
    title_frames=72,
    frame_rate=Fraction(24000, 1001),
    source_bits=123_456_789_012,
    shot=1,
    start_frame=24,
    end_frame=72,
    cuts=(30, 41),
    context_before=4,
    context_after=0,
    recipe="x264-medium",
    width=320,
    height=180,
    crf=23.5,
    bits=81_920,
    quality={"v1": 71.25, "v0": 80.0},
    encode_cpu_seconds=0.5,
    tool="n9+abc",
    features_version=FEATURES_VERSION,
    features=tuple(float(n) for n in range(len(FEATURE_NAMES))),
)


def test_networks_are_not_trained_on_judges() -> None:
    row = replace(ROW, quality={"v1": 71.25, "xpsnr": 38.5, "ssim": 14.0})
    assert [example.quality for example in examples([row])] == [{"v1": 71.25}]


def many() -> list[Row]:
    """Shots of two titles at several points, some scored by another model."""
    other = replace(ROW, source="pond.mp4", group="meadow", source_sha256="f" * 64, cuts=())
    rows = [
        replace(
            title,
            crf=crf,
            width=width,
            height=width * 9 // 16,
            start_frame=start,
            end_frame=start + 8,
        )
        for title in (ROW, other)
        for start in (0, 8)
        for width in (320, 640)
        for crf in (20.0, 30.5)
    ]
    return [replace(row, quality={"v1": row.crf}) if row.crf > 25 else row for row in rows]


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    path = tmp_path / "new" / "cells.parquet"
    rows = [*many(), replace(ROW, encode_cpu_seconds=None, augmentation="grain", tool="n10")]
    assert add_rows(path, rows) == len(rows) == len(read_table(path))
    assert list(read_table(path)) == sorted(rows, key=lambda row: row.order)


def test_order_and_pieces_do_not_matter(tmp_path: Path) -> None:
    rows = many()
    add_rows(tmp_path / "whole", rows)
    whole = (tmp_path / "whole").read_bytes()
    random.Random(1).shuffle(rows)
    for piece in (rows[:5], rows[5:6], rows[6:]):
        add_rows(tmp_path / "pieces", piece)
    assert (tmp_path / "pieces").read_bytes() == whole
    assert add_rows(tmp_path / "pieces", rows[3:9]) == len(rows)
    assert (tmp_path / "pieces").read_bytes() == whole
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "pieces"}


def test_the_newer_row_counts_and_loses_nothing() -> None:
    newer = replace(
        ROW, bits=5, quality={"neg": 1.0, "v1": 2.0}, encode_cpu_seconds=None, group="field"
    )
    (merged,) = merge([ROW], [newer])
    assert (merged.bits, merged.group) == (5, "field")
    assert merged.quality == {"v1": 2.0, "v0": 80.0, "neg": 1.0}
    assert merged.encode_cpu_seconds == 0.5


@pytest.mark.parametrize(
    "change",
    [
        {"source_sha256": "a" * 64},
        {"reference": "other"},
        {"start_frame": 25},
        {"cuts": ()},
        {"recipe": "x264-slow"},
        {"width": 322},
        {"crf": 24.0},
        {"tool": "n10"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_makes_another_cell(change: dict[str, object]) -> None:
    assert len(merge([ROW], [replace(ROW, **change)])) == 2  # type: ignore[arg-type]


def test_models_have_columns_of_their_own_and_features_their_names(tmp_path: Path) -> None:
    add_rows(tmp_path / "table", many())
    table = pq.read_table(tmp_path / "table")
    columns = [name for name in table.column_names if name.startswith(QUALITY_PREFIX)]
    assert columns == ["quality_v0", "quality_v1"]
    assert table.column("quality_v0").null_count == 8
    assert b'"texture_fine_mean"' in table.schema.metadata[b"shotladder"]


def test_features_cost_nothing_where_they_repeat(tmp_path: Path) -> None:
    noise = random.Random(2)
    vectors = [tuple(noise.random() for _ in FEATURE_NAMES) for _ in range(20)]
    rows = [
        replace(ROW, start_frame=2 * shot, end_frame=2 * shot + 1, cuts=(), crf=crf / 2, features=v)
        for shot, v in enumerate(vectors)
        for crf in range(30, 90)
    ]
    add_rows(tmp_path / "table", rows)
    assert (tmp_path / "table").stat().st_size < 4 * 20 * len(FEATURE_NAMES) + 60_000
    read = read_table(tmp_path / "table")
    assert len({id(row.features) for row in read}) == 20


def _alien(path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), path)


def _cut(path: Path) -> None:
    add_rows(path, many())
    path.write_bytes(path.read_bytes()[:-20])


def _later(path: Path) -> None:
    add_rows(path, many())
    table = pq.read_table(path)
    metadata = {b"shotladder": b'{"schema": "shotladder/table/9"}'}
    pq.write_table(table.replace_schema_metadata(metadata), path)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (_alien, "has the schema of another program, but this version reads shotladder/table/1"),
        (_cut, "is not a whole Parquet file"),
        (_later, "has the schema shotladder/table/9, but this version reads shotladder/table/1"),
        (lambda path: path.write_text("a,b\n1,2\n"), "is not a whole Parquet file"),
    ],
    ids=["alien", "cut", "later", "text"],
)
def test_what_is_not_ours_is_left_alone(
    make: Callable[[Path], None], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "table"
    make(path)
    before = path.read_bytes()
    with pytest.raises(BadInput, match=said):
        add_rows(path, many())
    assert path.read_bytes() == before


def test_no_table_to_read(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is no file"):
        read_table(tmp_path / "nothing")


def test_no_place_to_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be written"):
        add_rows(tmp_path / "file" / "table", many())


def test_processes_that_add_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "table"
    pieces = [[replace(ROW, crf=n / 2)] for n in range(20, 26)]
    with get_context("spawn").Pool(2) as pool:
        pool.starmap(add_rows, [(path, piece) for piece in pieces], chunksize=1)
    assert [row.crf for row in read_table(path)] == [n / 2 for n in range(20, 26)]
