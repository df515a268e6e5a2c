"""Lists that are cut without being made anew, and the pool's lists in a bundle."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import given, settings

from cluster.service.documents import ASPECTS, MAX_STILLS
from cluster.service.library.bundle import (
    JSON_TYPE,
    Bundle,
    EntryContent,
    package_entries,
    stills_name,
    write_bundle,
)
from cluster.service.library.cutting import CLOSING, RECORD_BYTES, cut_at, cuttable_list
from cluster.service.library.wanted import Wanted
from recommender.artwork.crops import ASPECTS as CROPS
from recommender.artwork.pool import MAX_SIZE
from recommender.artwork.select import answer
from tests.service_material import write_package, written_artwork, written_package

ENTRIES = st.lists(st.binary(max_size=200), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=100).map(lambda text: b"{" + text), ENTRIES)
def test_a_cut_is_the_list_of_its_first_entries(head: bytes, entries: list[bytes]) -> None:
    whole = cuttable_list(head, entries)
    assert whole.plain == head + b",".join(entries) + CLOSING
    assert len(whole.table) == RECORD_BYTES * len(entries)
    for k in range(1, len(entries) + 1):
        cut = cut_at(whole.table[RECORD_BYTES * (k - 1) : RECORD_BYTES * k])
        right = head + b",".join(entries[:k]) + CLOSING
        assert whole.plain[: cut.plain_bytes] + CLOSING == right
        packed = whole.gzip[: cut.gzip_bytes] + cut.gzip_suffix
        assert gzip.decompress(packed) == right
        reader = zlib.decompressobj(zlib.MAX_WBITS | 16)  # as HTTP clients do: one member only
        assert reader.decompress(packed) == right
        assert reader.eof
        assert not reader.unused_data
    assert gzip.decompress(whole.gzip) == whole.plain


def test_a_bundle_answers_what_the_pure_function_does(tmp_path: Path) -> None:
    ladder, _ = written_package("a")
    pool = written_artwork("pool", ladder, stills=20)
    write_package(tmp_path / "p", "a")
    (tmp_path / "p" / "artwork.json").write_text(pool.to_json())
    entries, prefetch = package_entries(tmp_path / "p", "0" * 32)
    write_bundle(tmp_path / "b", entries, [rung.throughput for rung in prefetch.startup])
    bundle = Bundle(tmp_path / "b")
    for aspect in ASPECTS:
        whole = bundle.entry(stills_name(aspect))
        assert bundle.stills(aspect, None) == whole
        assert bundle.stills(aspect, MAX_STILLS) == whole
        for k in range(1, 21):
            entry = bundle.stills(aspect, k)
            assert entry is not None
            right = answer(pool, aspect, k)
            assert json.loads(bundle.body(entry)) == json.loads(right.model_dump_json())
            assert gzip.decompress(bundle.body(entry, packed=True)) == bundle.body(entry)


SIZES = st.lists(st.integers(1, 2000), max_size=3)


@given(
    st.lists(st.tuples(st.booleans(), st.sampled_from([None, 0, 1, 3]), SIZES), max_size=12),
    st.builds(
        Wanted,
        st.booleans(),
        st.sampled_from([None, True, False]),
        st.frozensets(st.integers(0, 11).map(str)),
        st.integers(0, 2000),
    ),
    st.sampled_from([None, 1, 3]),
)
def test_a_filtered_list_is_what_a_loop_over_it_finds(
    stills: list[tuple[bool, int | None, list[int]]], wanted: Wanted, k: int | None
) -> None:
    made = [
        {"action_id": str(number), "spoiler_zone": spoiler, "faces": faces,
         "renditions": [{"width": width} for width in widths]}
        for number, (spoiler, faces, widths) in enumerate(stills)
    ]  # fmt: skip
    kept = []
    for still, (spoiler, faces, widths) in zip(made, stills, strict=True):
        if spoiler and not wanted.spoilers:
            continue
        if wanted.faces is True and not faces:
            continue
        if wanted.faces is False and faces != 0:
            continue
        if still["action_id"] in wanted.exclude or max([*widths, 0]) < wanted.min_width:
            continue
        kept.append(still)
    found = json.loads(wanted.of(json.dumps({"candidates": made, "of": 12}).encode(), k))
    assert found == {"candidates": kept[:k], "of": 12, "filtered": len(made) - len(kept)}


def test_a_bundle_of_an_earlier_release_answers_in_its_more_varied_order(tmp_path: Path) -> None:
    bodies = {
        f"artwork/16:9/{order}": EntryContent(JSON_TYPE, f'{{"candidates":["{order}"]}}'.encode())
        for order in ("best", "diverse")
    }
    write_bundle(tmp_path / "b", bodies, [0])
    bundle = Bundle(tmp_path / "b")
    found = bundle.stills("16:9", 1)
    assert found is not None
    assert json.loads(bundle.body(found)) == {"candidates": ["diverse"]}
    assert bundle.stills("9:16", 1) is None


def test_the_service_knows_the_shapes_that_crops_have() -> None:
    assert tuple(CROPS) == ASPECTS
    assert MAX_SIZE <= MAX_STILLS
