"""Estimates of a run: samples of long titles, remembered digests, corrections by past runs."""

from __future__ import annotations

import math
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.cli.views.estimate import estimate_fields, estimate_view, service_estimate
from cluster.jobs import estimate
from cluster.jobs.cost_ranges import correction, range_of, sample_deviation, wall_seconds
from cluster.jobs.estimate import plan_run
from cluster.jobs.request import RunOptions
from cluster.stages import digests
from cluster.stages.title import take_digest
from cluster.store import Store
from encoder.analysis.features import FeatureExtractor
from encoder.analysis.frames import feed, small_frames
from encoder.analysis.sample import (
    expected_shots,
    spread_windows,
    take_sample,
    windows_of,
)
from encoder.analysis.sections import keyframe_numbers
from encoder.analysis.shots import plan_shots
from encoder.recipes import expected_cpu_seconds, recipe
from encoder.source.planning import plan_source
from fixtures.clips import DEMO, make


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(DEMO, tmp_path_factory.mktemp("estimate") / "demo.mp4")


@given(
    frames=st.integers(2, 5000),
    length=st.integers(1, 200),
    count=st.integers(1, 40),
    gaps=st.lists(st.integers(1, 300), min_size=1, max_size=40),
)
def test_windows_are_within_the_title_apart_and_begin_at_keyframes(
    frames: int, length: int, count: int, gaps: list[int]
) -> None:
    keyframes = np.unique([0, *np.cumsum(gaps)])
    keyframes = keyframes[keyframes < frames].astype(np.int64)
    windows = spread_windows(keyframes, frames, length, count)
    assert 1 <= len(windows) <= count
    bounds = [at for window in windows for at in window]
    assert bounds == sorted(bounds)
    assert bounds[0] >= 0
    assert bounds[-1] <= frames
    for start, end in windows:
        assert start < end
        assert start in keyframes or end == frames


def test_windows_of_a_film_are_spread_over_it() -> None:
    keyframes = np.arange(0, 172_800, 48, dtype=np.int64)
    windows = spread_windows(keyframes, 172_800, 144, 16)
    starts = np.array([start for start, _ in windows])
    assert len(windows) == 16
    assert np.abs(np.diff(starts) - 10_800).max() <= 48


def test_the_number_of_shots_is_that_of_cuts_at_the_same_density() -> None:
    rate = Fraction(24)
    cuts = list(range(72, 24_000, 72))  # every three seconds
    whole = len(plan_shots(cuts, 24_000, rate))
    windows = [(start, start + 144) for start in range(30, 23_000, 1500)]
    inside = [[cut - start for cut in cuts if start < cut < end] for start, end in windows]
    found = expected_shots(inside, [144] * len(windows), 24_000, rate)
    assert found == pytest.approx(whole, rel=0.1)


def test_a_sample_measures_what_the_whole_pass_measures(clip: Path, tmp_path: Path) -> None:
    source = plan_source(clip, tmp_path)
    windows = spread_windows(keyframe_numbers(source), source.frames, 30, 3)
    sample = take_sample(source, windows)
    assert sample.frames == 90
    extractor = FeatureExtractor.of(source)
    feed(small_frames(source), extractor)
    assert sample.shot_features == extractor.shots(sample.shots)
    assert sample.cpu_seconds_per_frame > 0


def test_the_plan_of_a_long_title_reads_a_sample_and_keeps_nothing(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = RunOptions(clip, tmp_path / "out", store=tmp_path / "store", heights=(90,))
    monkeypatch.setattr("encoder.analysis.sample.WINDOW_SECONDS", 1)
    monkeypatch.setattr("encoder.analysis.sample.MOST_WINDOWS", 3)
    monkeypatch.setattr("encoder.analysis.sample.FEWEST_WINDOWS", 1)
    sampled = plan_run(options, lambda event: None)
    assert list(Store(tmp_path / "store").entries("records")) == []
    assert sampled.sampled_frames == 72
    monkeypatch.setattr(estimate, "windows_of", lambda source: None)
    whole = plan_run(options, lambda event: None)
    assert whole.sampled_frames is None
    assert sampled.frames == whole.frames
    assert sampled.total_cpu_hours == pytest.approx(whole.total_cpu_hours, rel=0.5)
    assert sampled.delivered_bytes == pytest.approx(whole.delivered_bytes, rel=0.6)
    # Once the store has the analysis, it is used.
    monkeypatch.undo()
    again = plan_run(options, lambda event: None)
    assert (again.sampled_frames, again.cpu_hours["analysis"]) == (None, 0)
    assert again.encodes == whole.encodes
    assert service_estimate(estimate_fields(again)["plan"]) == again
    assert (
        service_estimate(
            {
                k: v
                for k, v in estimate_fields(again)["plan"].items()
                if not k.endswith(("_range", "_on"))
            }
        ).cpu_hours_range
        is None
    )
    priced = estimate_fields(again, 0.05)["plan"]
    assert priced["price"] == pytest.approx(0.05 * again.total_cpu_hours)
    assert len(estimate_view(again, 0.05)) == 2


def test_a_short_title_is_looked_at_whole(clip: Path, tmp_path: Path) -> None:
    assert windows_of(plan_source(clip, tmp_path)) is None


def test_a_digest_is_remembered_until_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, store = tmp_path / "file", Store(tmp_path / "store")
    path.write_bytes(b"one")
    reads: list[Path] = []

    def counting(path: Path) -> tuple[str, object]:
        reads.append(path)
        return take_digest(path)

    monkeypatch.setattr(digests, "take_digest", counting)
    first = digests.remembered(store)(path)
    assert first == take_digest(path)
    assert digests.remembered(Store(tmp_path / "store"))(path) == first
    assert len(reads) == 1
    status = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as a copy may do
    assert digests.remembered(store)(path)[0] == take_digest(path)[0] != first[0]
    # A run reads the file whatever is remembered, and a damaged entry is none.
    digests.noting(store)(path)
    assert len(reads) == 3
    for entry in store.entries("digests"):
        store.write_entry(entry.name, b'{"sha256": 7}')
    digests.remembered(store)(path)
    assert len(reads) == 4


@given(st.lists(st.floats(0.3, 3), min_size=1, max_size=30))
def test_corrections_follow_the_runs(ratios: list[float]) -> None:
    found = correction(ratios)
    assert min(1.0, *ratios) <= found.factor <= max(1.0, *ratios)
    assert found.runs == min(len(ratios), 20)


def test_runs_that_agree_make_the_range_narrow() -> None:
    unseen, seen = correction([]), correction([2.0] * 6)
    assert (unseen.factor, unseen.runs) == (1.0, 0)
    assert seen.factor == pytest.approx(2.0, rel=0.05)
    assert seen.deviation < unseen.deviation
    parts = {"encode": 100.0, "vmaf": 50.0}
    wide = range_of(parts, dict.fromkeys(parts, unseen.deviation))
    narrow = range_of(parts, dict.fromkeys(parts, seen.deviation))
    assert wide.low < narrow.low < 150 < narrow.high < wide.high
    sampled = range_of(parts, dict.fromkeys(parts, seen.deviation), 0.3)
    assert sampled.high > narrow.high


def test_a_sample_whose_parts_differ_says_less() -> None:
    assert sample_deviation([1.0] * 8, [1.0] * 8) == 0
    few = sample_deviation([1.0, 3.0] * 2, [1.0] * 4)
    many = sample_deviation([1.0, 3.0] * 32, [1.0] * 64)
    assert few == pytest.approx(4 * many, rel=0.2)
    assert sample_deviation([1.0, 2.0], [1.0, 2.0]) == 0


def test_more_cores_are_faster_up_to_what_one_has_to_do() -> None:
    times = [wall_seconds(100_000, 60, cores) for cores in (1, 2, 16, 64)]
    assert times == sorted(times, reverse=True)
    assert times[-1] > 60


def test_encodes_of_more_bits_take_longer() -> None:
    fast, slow = recipe("x264", "veryfast"), recipe("x264", "slow")
    few, many = (expected_cpu_seconds(fast, 640, 360, 48, bits) for bits in (1e5, 1e6))
    assert many == pytest.approx(few * math.pow(10, 0.2))
    assert expected_cpu_seconds(slow, 640, 360, 48, 1e5) > few
