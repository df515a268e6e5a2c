"""prefetch.json: what is stated is what is delivered; start-up and caches by brute force."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.cli import main
from cluster.package.documents import read_ladder, read_prefetch
from encoder.errors import BadInput
from fixtures.clips import make
from ladder.bdrate import RatePoint
from ladder.claims import viewers_claim
from ladder.viewers import AFFORDABLE, playing_shares
from recommender.caching import CacheFile, order_by_value, plan_cache
from recommender.prefetch.build import (
    INITIAL_DELAY_SECONDS,
    STALL_FREE_SECONDS,
    build_prefetch,
)
from recommender.prefetch.document import START_SECONDS, Prefetch
from tests.running import SMALL, quick_profile, run_inline
from tests.service_material import write_package, written_package


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package as the main job writes it: three shots of 1 s, with audio."""
    folder = tmp_path_factory.mktemp("prefetch")
    profile = quick_profile()
    source = make(SMALL, folder / "small.mp4")
    run_inline(source, folder / "out", folder / "store", profile=profile)
    return folder / "out"


def built(seed: str = "title", **more: int | bool) -> Prefetch:
    return build_prefetch(*written_package(seed, **more))  # type: ignore[arg-type]


# -- as delivered ------------------------------------------------------------------------------


def test_every_file_is_as_it_says(package: Path) -> None:
    prefetch, ladder = read_prefetch(package), read_ladder(package)
    assert prefetch.audio is not None
    files = [prefetch.audio.init, *prefetch.audio.segments]
    for rung in prefetch.rungs:
        files += [rung.init, *rung.segments]
    for file in files:
        content = (package / file.uri).read_bytes()
        assert len(content) == file.bytes
        assert hashlib.sha256(content).hexdigest() == file.sha256
    media = {str(p.relative_to(package)) for p in package.glob("*/**/*.m[p4]*[4s]")}
    assert media == {file.uri for file in files}
    assert [rung.name for rung in prefetch.rungs] == [rung.name for rung in ladder.rungs]
    for mine, theirs in zip(prefetch.rungs, ladder.rungs, strict=True):
        assert [s.quality for s in mine.segments] == [
            s.quality[ladder.quality_model] for s in theirs.segments
        ]
    assert [(b.start_frame, b.end_frame) for b in prefetch.boundaries] == [
        (0, 12), (12, 24), (24, 36)
    ]  # fmt: skip
    assert prefetch.seconds == 3.0
    assert Prefetch.model_validate_json(prefetch.to_json()) == prefetch


def test_starts_count_whole_segments_with_sound_and_init(package: Path) -> None:
    prefetch = read_prefetch(package)
    for start in prefetch.starts:
        files = prefetch.start_files(start)
        assert len({file.uri for file in files}) == len(files)
        assert sum((package / file.uri).stat().st_size for file in files) == start.bytes
        assert start.bytes == start.init_bytes + start.video_bytes + start.audio_bytes
        assert start.covers_seconds == min(max(start.seconds, 1), 3)
    assert {start.seconds for start in prefetch.starts} == set(START_SECONDS)
    # 2 s are two shots: two files of video, two of sound, two inits, what decodes first first.
    (two,) = (s for s in prefetch.starts if s.seconds == 2 and s.rung == prefetch.rungs[0].name)
    uris = [file.uri for file in prefetch.start_files(two)]
    rung = prefetch.rungs[0].name
    assert uris == [
        f"video/{rung}/init.mp4", f"video/{rung}/00000.m4s", "audio/init.mp4", "audio/00000.m4s",
        "audio/00001.m4s", f"video/{rung}/00001.m4s",
    ]  # fmt: skip


def test_true_seconds_where_shots_are_long() -> None:
    prefetch = built(shots=4)  # of 2, 3, 4 and 2 s
    covers = {s.seconds: s.covers_seconds for s in prefetch.starts if s.rung == "v1-180p"}
    assert covers == {2: 2.0, 4: 5.0, 8: 9.0, 16: 11.0}


# -- start-up ----------------------------------------------------------------------------------


def plays_without_stall(prefetch: Prefetch, rung: str, throughput: float) -> bool:
    """Simulate playback: each segment has to arrive before it is due."""
    (one,) = [r for r in prefetch.rungs if r.name == rung]
    sound = prefetch.audio.bitrate if prefetch.audio else 0
    if one.bitrate + sound > AFFORDABLE * throughput:
        return False
    bits = 8 * one.init.bytes
    if prefetch.audio:
        bits += 8 * prefetch.audio.init.bytes
    for number, shot in enumerate(prefetch.boundaries):
        if shot.start_seconds >= STALL_FREE_SECONDS:
            break
        bits += 8 * one.segments[number].bytes
        if prefetch.audio:
            bits += 8 * prefetch.audio.segments[number].bytes
        if bits / throughput > INITIAL_DELAY_SECONDS + shot.start_seconds + 1e-9:
            return False
    return True


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 5), st.booleans(), st.floats(100, 1e6), st.integers(0, 9))
def test_the_startup_rung_is_the_highest_that_plays(
    shots: int, rungs: int, sound: bool, throughput: float, seed: int
) -> None:
    prefetch = built(f"s{seed}", shots=shots, rungs=rungs, sound=sound, sizes=300)
    assert prefetch.startup[0].throughput == 0
    thresholds = [entry.throughput for entry in prefetch.startup]
    assert thresholds == sorted(set(thresholds))
    plays = [r.name for r in prefetch.rungs if plays_without_stall(prefetch, r.name, throughput)]
    expected = plays[-1] if plays else prefetch.rungs[0].name
    if all(abs(throughput - threshold) > 1 for threshold in thresholds):
        assert prefetch.startup_rung(throughput) == expected


def test_the_start_documents_are_for_rungs_that_are_started_with() -> None:
    prefetch = built(rungs=4)
    started = {entry.rung for entry in prefetch.startup}
    assert started <= {rung.name for rung in prefetch.rungs}
    assert {start.rung for start in prefetch.starts} == {rung.name for rung in prefetch.rungs}


# -- caches ------------------------------------------------------------------------------------


def test_shares_are_those_of_the_viewers_claim() -> None:
    rates = [145e3, 1e6, 4e6]
    points = [RatePoint(rate, quality) for rate, quality in zip(rates, (30, 70, 95), strict=True)]
    shares = playing_shares(rates, 3e6)
    assert sum(shares) == pytest.approx(1)
    claim = viewers_claim(points, points, 3e6)
    assert sum(s * p.rate for s, p in zip(shares, points, strict=True)) == pytest.approx(
        claim.received.rate
    )


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(st.integers(1, 50), st.floats(0, 100), st.lists(st.integers(0, 9), max_size=2)),
        min_size=1,
        max_size=8,
    )
)
def test_the_order_keeps_needs_first_and_densities_falling(
    drawn: list[tuple[int, float, list[int]]],
) -> None:
    files = [
        CacheFile(size, value, tuple({need % at for need in needs} if at else ()))
        for at, (size, value, needs) in enumerate(drawn)
    ]
    order = order_by_value(files)
    places = {at: place for place, (at, _) in enumerate(order)}
    assert sorted(places) == list(range(len(files)))
    for at, file in enumerate(files):
        assert all(places[need] < places[at] for need in file.needs)
    densities = [density for _, density in order]
    assert densities == sorted(densities, reverse=True)


def test_without_needs_the_plan_is_the_best_of_its_size() -> None:
    """Compared with all subsets, greedy by density is the optimum of every budget it fills."""
    files = [CacheFile(size, value) for size, value in ((3, 9), (5, 10), (2, 8), (4, 4), (7, 20))]
    order = [at for at, _ in order_by_value(files)]
    for count in range(1, len(files) + 1):
        chosen = order[:count]
        budget = sum(files[at].bytes for at in chosen)
        best = max(
            sum(files[at].value for at in subset)
            for size in range(len(files) + 1)
            for subset in itertools.combinations(range(len(files)), size)
            if sum(files[at].bytes for at in subset) <= budget
        )
        assert sum(files[at].value for at in chosen) == pytest.approx(best)


def test_a_titles_plan_has_every_file_once_and_needs_first() -> None:
    prefetch = built(shots=9, rungs=3)
    seen: set[tuple[str, int | None]] = set()
    for entry in prefetch.cache_plan:
        if entry.track != "audio":
            assert ("audio", None) in seen
        if entry.segment is not None:
            assert (entry.track, None) in seen
            if entry.track != "audio":
                assert ("audio", entry.segment) in seen
        seen.add((entry.track, entry.segment))
    assert len(seen) == len(prefetch.cache_plan) == (3 + 1) * (9 + 1)
    densities = [entry.density for entry in prefetch.cache_plan]
    assert densities == sorted(densities, reverse=True)
    # Later shots of one rung and size are watched by fewer.
    top = [e.value for e in prefetch.cache_plan if e.track == "v3-540p" and e.segment in (0, 3, 6)]
    assert top == sorted(top, reverse=True)


def test_plans_of_several_titles_follow_popularity_and_budget() -> None:
    titles = {name: tuple(built(name, shots=5).ranked_files()) for name in ("a", "b")}
    everything = list(plan_cache(titles, {"a": 10, "b": 1}))
    assert [one.density for one in everything] == sorted(
        (one.density for one in everything), reverse=True
    )
    assert everything[0].title == "a"
    assert everything[-1].total_bytes == sum(one.bytes for one in everything)
    half = everything[-1].total_bytes // 2
    some = list(plan_cache(titles, {"a": 10, "b": 1}, half))
    assert some == everything[: len(some)]
    assert some[-1].total_bytes <= half < some[-1].total_bytes + everything[len(some)].bytes
    assert {one.title for one in plan_cache(titles, {"b": 2, "a": 0})} == {"b"}
    for wrong in ({"c": 1.0}, {"a": -1.0}, {"a": float("nan")}):
        with pytest.raises(BadInput):
            list(plan_cache(titles, wrong))
    # The same bytes under two names are kept once, for the more popular.
    twice = list(plan_cache({"x": titles["a"], "y": titles["a"]}, {"x": 1, "y": 2}))
    assert {one.title for one in twice} == {"y"}


# -- command line ------------------------------------------------------------------------------


def test_show_and_plan(package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prefetch", "show", str(package)]) == 0
    shown = capsys.readouterr().out
    prefetch = read_prefetch(package)
    for entry in prefetch.startup:
        assert entry.rung in shown
    assert main(["prefetch", "show", str(package), "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1]["type"] == "done"
    starts = [{k: v for k, v in line.items() if k != "type"} for line in lines
              if line["type"] == "start"]  # fmt: skip
    assert starts == [start.model_dump() for start in prefetch.starts]

    write_package(tmp_path / "other", "other")
    both = [str(package), str(tmp_path / "other")]
    asked = ["--bytes", "50k", "--popularity", f"{both[1]}=7.5", "--json"]
    assert main(["prefetch", "plan", *both, *asked]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[-1]["result"]["bytes"] == lines[-2]["total_bytes"] <= 50_000
    assert {line["title"] for line in lines[:-1]} == set(both)
    assert main(["prefetch", "plan", str(package), "--top", "3"]) == 0
    assert "3 of" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--bytes", "many"], "got 'many'"),
        (["--popularity", "x"], "DIR=PLAYS"),
        (["--popularity", "nobody=3"], "no such title"),
    ],
)
def test_mistakes(
    options: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_package(tmp_path / "one", "one")
    assert main(["prefetch", "plan", str(tmp_path / "one"), *options]) == 2
    assert says in capsys.readouterr().err
    assert main(["prefetch", "show", str(tmp_path)]) == 2
    assert "prefetch.json" in capsys.readouterr().err
