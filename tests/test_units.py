"""Units: how shots travel together, and how little of a title travels with them."""

from __future__ import annotations

import itertools
import pickle
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.stages.encodes import ShotWork, encode_key
from cluster.stages.pieces import PIECE_SECONDS, StoredPiece, piece_index, piece_ranges
from cluster.stages.title import Title, TitleSource
from cluster.stages.title_record import from_bytes, load_title, store_title, to_bytes
from cluster.stages.units import MAX_UNITS, UNITS_PER_SLOT, Unit, batches
from cluster.store import Blob, Store
from cluster.store.files import file_sha256
from encoder.media import OperatingPoint, Shot
from encoder.recipes import by_name
from encoder.source.colour.hdr_metadata import MasteringDisplay, StaticMetadata
from encoder.source.pieces import Piece
from encoder.source.planning import plan_source
from encoder.source.reference import ReferenceSource
from encoder.source.timeline.constant_rate import Timeline

MODEL = "vmaf_v1.0.16_3d0h"


@pytest.fixture(scope="module")
def source(tiny_title: Path, tmp_path_factory: pytest.TempPathFactory) -> TitleSource:
    planned_source = plan_source(tiny_title, tmp_path_factory.mktemp("work"))
    return TitleSource(planned_source, file_sha256(tiny_title))


def two_hours(reference: ReferenceSource) -> ReferenceSource:
    """As if the title had 172,800 frames."""
    frames = 2 * 3600 * 24
    index = replace(reference.index, pts=np.arange(frames, dtype=np.int64) * 512)
    return replace(reference, index=index, timeline=Timeline(Fraction(24), frames, None))


def works_of(source: TitleSource, shots: int) -> list[ShotWork]:
    points = tuple(
        OperatingPoint(by_name("x264-medium"), 16 * height // 9 // 2 * 2, height, crf)
        for height, crf in ((1080, 23.0), (1080, 27.0), (720, 26.0), (720, 30.0), (360, 30.0))
    )
    return [
        ShotWork(source, Shot(115 * n, 115 * (n + 1)), points, (MODEL,), "") for n in range(shots)
    ]


def test_a_two_hour_title_is_hundreds_of_tasks(source: TitleSource) -> None:
    large = replace(source, reference=two_hours(source.reference))
    works = works_of(large, 1500)
    units = list(batches(works, 16, [0] * len(works)))
    assert [position for unit in units for position in unit] == list(range(1500))
    assert 100 <= len(units) <= MAX_UNITS
    costs = [sum(works[at].cost for at in unit) for unit in units]
    assert max(costs) < 3 * sum(costs) / len(costs)


def test_small_titles_use_all_cores(source: TitleSource) -> None:
    works = works_of(source, 240)
    assert len(list(batches(works, 4, [0] * 240))) >= 0.8 * UNITS_PER_SLOT * 4
    assert len(list(batches(works[:40], 4, [0] * 40))) == 40
    assert [len(unit) for unit in batches(works[:3], 16, [0] * 3)] == [1, 1, 1]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(1, 300), st.booleans()), max_size=40), st.integers(1, 9))
def test_units_are_all_works_in_order_each_of_one_piece(
    shots: list[tuple[int, bool]], slots: int
) -> None:
    class Work:
        def __init__(self, cost: float) -> None:
            self.cost = cost

    works = [Work(float(frames)) for frames, _ in shots]
    piece_of = np.cumsum([new for _, new in shots]).tolist()
    units = list(batches(works, slots, piece_of))  # type: ignore[arg-type]
    assert [at for unit in units for at in unit] == list(range(len(works)))
    assert all(len({piece_of[at] for at in unit}) == 1 for unit in units)
    assert all(unit for unit in units)


def test_a_task_does_not_grow_with_its_title(source: TitleSource, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    sizes = []
    for title in (source, replace(source, reference=two_hours(source.reference))):
        unit = Unit(
            store=store.place,
            title=store_title(title, store),
            source="/somewhere/title.mp4",
            models=(MODEL,),
            works=tuple((work.shot, work.points) for work in works_of(title, 5)),
        )
        sizes.append(len(pickle.dumps(unit)))
    assert sizes[0] == sizes[1] < 4000


def test_a_title_is_described_whole(source: TitleSource, tmp_path: Path) -> None:
    reference = source.reference
    varying = Timeline(Fraction(24), 72, np.repeat(np.arange(36, dtype=np.int64), 2))
    display = MasteringDisplay((34, 16), (13, 34), (7, 3), (15, 16), 10_000_000, 50)
    stated = StaticMetadata(display, (1000, 400))
    hdr = replace(reference.info, color_transfer="smpte2084", static_metadata=stated)
    for title in (
        source,
        replace(source, reference=replace(reference, timeline=varying)),
        replace(source, reference=replace(reference, info=hdr)),
        replace(source, reference=replace(reference, info=hdr, tone_mapped=True)),
    ):
        copy = from_bytes(to_bytes(title), title.reference.path)
        elsewhere = replace(title, reference=replace(title.reference, path="/elsewhere"))
        assert to_bytes(elsewhere) == to_bytes(title)
        assert copy.sha256 == title.sha256
        assert copy.reference.given == ""  # where a file is differs from machine to machine
        for one in fields(ReferenceSource):  # those of one that is added, too
            if one.name not in ("index", "timeline", "given"):
                assert getattr(copy.reference, one.name) == getattr(title.reference, one.name)
        assert copy.reference.graph_id == title.reference.graph_id
        for name in ("pts", "keyframe_pts", "keyframe_dts"):
            assert np.array_equal(
                getattr(copy.reference.index, name), getattr(title.reference.index, name)
            )
        shot, point = Shot(0, 24), OperatingPoint(by_name("x264-medium"), 160, 90, 30.0)
        assert encode_key(copy, shot, point) == encode_key(title, shot, point)
    store = Store(tmp_path / "store")
    identity = store_title(source, store)
    first = load_title(store.place, identity, "/a")
    assert first is load_title(store.place, identity, "/a")
    assert first.reference.path == "/a"


def test_pieces_are_runs_of_whole_shots(source: TitleSource) -> None:
    large = replace(source, reference=two_hours(source.reference))
    shots = tuple(Shot(115 * n, 115 * (n + 1)) for n in range(1502))
    title = Title("title", large, shots)
    ranges = piece_ranges(title)
    assert ranges[0][0] == 0
    assert ranges[-1][1] == shots[-1].end
    assert all(one[1] == two[0] for one, two in itertools.pairwise(ranges))
    lengths = [(end - start) / 24 for start, end in ranges[:-1]]
    assert all(PIECE_SECONDS <= seconds < PIECE_SECONDS + 5 for seconds in lengths)
    found = [StoredPiece(Piece(*one, "nut", 0), Blob("0" * 64, 1)) for one in ranges]
    for number, shot in enumerate(shots):
        assert found[piece_index(found, shot)].contains(shot), number
