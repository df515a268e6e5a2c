"""Points that share a process: bounded, the same results, and no worker without work."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.execution.executor import InlineExecutor
from cluster.execution.tasks import Outcome, Task
from cluster.stages import grouping
from cluster.stages.encodes import ShotWork, encode_and_score, encode_key, score_key
from cluster.stages.grouping import MAX_GROUP_PIXELS, MAX_SCORED_PIXELS, group_points
from cluster.stages.measurer import Measurer
from cluster.stages.quarantine import title_store
from cluster.stages.title import Title, TitleSource, open_title
from cluster.store import Store, open_store
from encoder import ffmpeg
from encoder.encode import encode_shot
from encoder.media import OperatingPoint, Request, Shot
from encoder.recipes import by_name
from tests.score_cost import STEPS, measured
from vmaf.graph import Distorted, score_command
from vmaf.models import V1

RECIPE = by_name("x264-ultrafast")
HEIGHTS = (90, 144, 180)
TITLE_PIXELS = 1920 * 1080


def point(height: int, crf: float) -> OperatingPoint:
    return OperatingPoint(RECIPE, 16 * height // 9, height, crf)


def seconds(request: Request) -> float:
    """A cost that grows with the encode, most of which is the score at the title's size."""
    _, wanted = request
    return 10.0 + wanted.width * wanted.height / 100_000


def ends_after(groups: Iterable[Iterable[Request]], slots: int) -> float:
    """When the last slot is free: the longest group first, each to the first free slot."""
    slot_ends = [0.0] * slots
    for length in sorted((sum(map(seconds, group)) for group in groups), reverse=True):
        slot_ends[slot_ends.index(min(slot_ends))] += length
    return max(slot_ends)


points_of_shots = st.sets(
    st.tuples(
        st.integers(0, 5),
        st.builds(point, st.sampled_from((270, 540, 720, 1080)), st.integers(10, 40).map(float)),
    ),
    min_size=1,
    max_size=60,
)


@given(points_of_shots, st.integers(1, 40))
def test_groups_are_all_points_of_a_shot_within_the_memory_of_a_process(
    requests: set[Request], slots: int
) -> None:
    groups = list(group_points(list(requests), TITLE_PIXELS, slots, seconds))
    assert sorted((shot, p) for shot, points in groups for p in points) == sorted(requests)
    assert [shot for shot, _ in groups] == sorted(shot for shot, _ in groups)
    for _, points in groups:
        pixels = [each.width * each.height for each in points]
        assert sum(pixels) <= MAX_GROUP_PIXELS
        assert len(points) * TITLE_PIXELS <= MAX_SCORED_PIXELS
    by_size = itertools.groupby(sorted(requests), lambda r: (r[0], r[1].size))
    before = ends_after([list(group) for _, group in by_size], slots)
    now = ends_after([[(shot, p) for p in points] for shot, points in groups], slots)
    assert now <= 1.1 * before


def test_one_worker_decodes_a_shot_once() -> None:
    requests = [(shot, point(h, 30.0 + n)) for shot in (0, 1) for h in HEIGHTS for n in range(3)]
    groups = list(group_points(requests, 320 * 180, 1, seconds))
    assert [(shot, len(points)) for shot, points in groups] == [(0, 9), (1, 9)]


def test_many_workers_share_the_points_of_the_last_shot() -> None:
    requests = [(0, point(h, 30.0 + n)) for h in HEIGHTS for n in range(3)]
    count = {s: len(list(group_points(requests, 320 * 180, s, seconds))) for s in (2, 4, 16)}
    assert count == {2: 4, 4: 8, 16: 9}
    # With enough shots for everybody, none is divided.
    many = [(shot, p) for shot in range(40) for _, p in requests]
    assert len(list(group_points(many, 320 * 180, 4, seconds))) == 40


def test_what_one_process_holds_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the sizes of encodes, and of the title that they are scored against."""
    requests = [(0, point(h, float(crf))) for h in (90, 180) for crf in range(20, 29)]

    def sizes() -> list[tuple[int, ...]]:
        groups = group_points(requests, 320 * 180, 1, seconds)
        return [tuple(each.height for each in points) for _, points in groups]

    assert sizes() == [(90,) * 9 + (180,) * 9]
    monkeypatch.setattr(grouping, "MAX_GROUP_PIXELS", 4 * 320 * 180 - 1)
    assert sizes() == [(90,) * 9 + (180,), (180,) * 3, (180,) * 3, (180,) * 2]
    monkeypatch.setattr(grouping, "MAX_SCORED_PIXELS", 5 * 320 * 180)
    assert sizes() == [(90,) * 5, (90,) * 4 + (180,), (180,) * 3, (180,) * 3, (180,) * 2]
    monkeypatch.setattr(grouping, "MAX_SCORED_PIXELS", 1)
    assert sizes() == [(90,)] * 9 + [(180,)] * 9


# -- the same results ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def source(tiny_title: Path, tmp_path_factory: pytest.TempPathFactory) -> TitleSource:
    return open_title(tiny_title, tmp_path_factory.mktemp("grouping"))


def test_points_score_together_as_they_do_alone(source: TitleSource, tmp_path: Path) -> None:
    shot = Shot(8, 24)
    points = tuple(point(height, crf) for height in HEIGHTS for crf in (24.0, 36.0))
    places = [str(tmp_path / name) for name in ("together", "alone")]
    together, alone = (title_store(open_store(place), source) for place in places)
    encode_and_score(ShotWork(source, shot, points, (V1,), places[0]))
    for each in points:
        encode_and_score(ShotWork(source, shot, (each,), (V1,), places[1]))
    for each in points:
        for key in (encode_key(source, shot, each), score_key(source, shot, each, V1)):
            one, other = together.get(key), alone.get(key)
            assert one is not None
            assert other is not None
            assert one.value == other.value
            assert one.blobs == other.blobs


class Counting(InlineExecutor):
    """Counts what it runs."""

    works = 0

    def run(self, tasks: Iterable[Task]) -> Iterable[Outcome]:  # type: ignore[override]
        listed = list(tasks)
        self.works += sum(len(task.arguments[0].works) for task in listed)
        return super().run(listed)


def test_a_round_over_several_sizes_is_one_process_per_shot(
    source: TitleSource, tmp_path: Path
) -> None:
    title = Title("title", source, (Shot(0, 8), Shot(8, 16)))
    executor = Counting()
    measurer = Measurer(title, (V1,), Store(tmp_path / "s"), executor, lambda event: None)
    measurer.measure([(shot, point(h, 40.0)) for shot in (0, 1) for h in HEIGHTS], "encode")
    assert executor.works == 2
    assert measurer.costs.scored == 6


def test_scores_of_several_sizes_read_the_reference_once(source: TitleSource) -> None:
    encodes = [Distorted(Path(f"{h}.mp4"), 16 * h // 9, h) for h in HEIGHTS]
    files = [Path(f"{kind}-{n}") for kind in ("log", "hash") for n in range(3)]
    command = score_command(source.reference, 8, 16, encodes, [V1], files[:3], files[3:])
    assert ffmpeg.shell_quoted(source.reference.path) in command.shell()
    assert len(re.findall(re.escape(source.reference.path), command.shell())) == 1


def test_the_steps_of_a_score_add_up_to_its_commands(source: TitleSource, tmp_path: Path) -> None:
    shot = Shot(8, 16)
    (made,), _ = encode_shot(source.reference, shot, [point(90, 40.0)], tmp_path)
    whole = tmp_path / "whole.mp4"
    whole.write_bytes(made.init_path.read_bytes() + made.media_path.read_bytes())
    spent = measured(source.reference, shot, [[Distorted(whole, 160, 90)]], tmp_path, repeat=1)
    assert tuple(spent.steps) == STEPS
    assert spent.steps["libvmaf"] > 0
    assert 0 < spent.total < 60
    assert (spent.processes, spent.scores) == (1, 1)


def test_nothing_to_measure_is_no_group() -> None:
    assert list(group_points([], TITLE_PIXELS, 2, seconds)) == []
