"""The first pass in sections: the same to the bit as one pass, kept, continued, and not trusted
where seeking cannot be."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import events
from cluster.execution.executor import InlineExecutor
from cluster.stages import first_pass
from cluster.stages.analysis import find_title
from cluster.stages.first_pass import PassRows, context_of, measure_section, one_pass
from cluster.stages.title import TitleSource, open_title
from cluster.store import Store
from encoder.analysis.damage import PictureDamage
from encoder.analysis.sections import BoundaryDigests, Section, keyframe_numbers, plan_sections
from encoder.analysis.shots import Measures
from encoder.ffmpeg import Command, run
from encoder.source.planning import plan_source
from encoder.source.reference import ReferenceSource
from fixtures.clips import DEMO, make
from recommender.artwork.sampling import StillSampler
from tests.cluster_material import REPOSITORY

STAGES = ("shots", "features", "stills")

# -- where a title is divided ------------------------------------------------------------------


@given(
    frames=st.integers(1, 4000),
    gaps=st.lists(st.integers(1, 400), max_size=60),
    length=st.integers(1, 700),
    context=st.integers(1, 40),
    step=st.integers(1, 12),
)
def test_sections_cover_a_title_once_and_begin_after_a_keyframe(
    frames: int, gaps: list[int], length: int, context: int, step: int
) -> None:
    keyframes = np.unique([0, *np.cumsum(gaps)]).astype(np.int64)
    keyframes = keyframes[keyframes < frames]
    sections = plan_sections(keyframes, frames, length, context, step)
    assert sections[0].start == 0
    assert sections[-1].end == frames
    for section, following in pairwise(sections):
        assert section.end == following.start
        assert section.frames >= length
        assert following.start % step == 0
        # A keyframe lies before what is read of a section, and few frames are decoded in vain.
        behind = following.first - keyframes[keyframes <= following.first].max()
        assert 0 <= behind < step
    for section in sections:
        assert section.first == max(0, section.start - context)
        assert section.stop == min(frames, section.end + context)
    if len(sections) > 1:
        assert 2 * sections[-1].frames >= length


# -- the same to the bit -----------------------------------------------------------------------


def in_sections(reference: ReferenceSource, length: int) -> list[Section]:
    sampler = StillSampler.of(reference)
    return [
        *plan_sections(
            keyframe_numbers(reference),
            reference.frames,
            length,
            context_of(sampler),
            sampler.frames_per_still,
        )
    ]


def assert_equal(found: PassRows, expected: PassRows) -> None:
    for each in fields(Measures):
        name = each.name
        assert np.array_equal(getattr(found.measures, name), getattr(expected.measures, name)), name
    for name in ("numbers", "rows", "tiles"):
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name
    stills = found.stills.arrays()
    for name, array in expected.stills.arrays().items():
        assert np.array_equal(stills[name], array), name


LONG = {
    "h264-open-gop.mkv": "-c:v libx264 -preset veryfast -bf 3 -g 24 -x264-params open-gop=1",
    "hevc-open-gop.ts": "-c:v libx265 -preset ultrafast -x265-params log-level=error:keyint=24",
    "interlaced.ts": "-vf setfield=tff -c:v mpeg2video -bf 2 -flags +ilme+ildct -g 12 -q:v 3",
    "variable-rate.mkv": (
        "-vf setpts=(N+0.7*mod(N\\,3)+9*floor(N/50))/25/TB -fps_mode passthrough "
        "-c:v libx264 -preset veryfast -bf 2 -g 16"
    ),
    "odd-pixels.mkv": "-vf format=yuv422p10le -c:v ffv1 -g 7",
}
LENGTHS = {"h264-open-gop.mkv": (13, 29, 50)}
"""Lengths of sections in frames; 40 for the other clips."""


def write_long(name: str, folder: Path) -> Path:
    """Write 120 pictures with cuts, movement and noise."""
    path = folder / name
    parts = [
        "testsrc2=size=192x108:rate=25:duration=1.6",
        "mandelbrot=size=192x108:rate=25,trim=duration=1.8",
        "cellauto=size=192x108:rate=25:rule=110,trim=duration=1.4,format=yuv420p",
    ]
    inputs = [word for part in parts for word in ("-f", "lavfi", "-i", part)]
    joined = "[0:v]format=yuv420p,noise=alls=9:allf=t:all_seed=5[a];[1:v]format=yuv420p[b];"
    joined += "[a][b][2:v]concat=n=3:v=1:a=0[v]"
    whole = folder / f"{name}.raw.nut"
    made = ["-v", "error", "-y", *inputs, "-filter_complex", joined, "-map", "[v]"]
    run(Command.of([*made, "-c:v", "rawvideo", "-pix_fmt", "yuv420p", whole]))
    run(Command.of(["-v", "error", "-y", "-i", whole, *LONG[name].split(), path]))
    whole.unlink()
    return path


@pytest.mark.parametrize("name", LONG)
def test_sections_of_any_length_are_one_pass(name: str, tmp_path: Path) -> None:
    reference = plan_source(write_long(name, tmp_path), tmp_path)
    whole, damage = one_pass(reference)
    assert damage == PictureDamage()
    counts = set()
    for length in LENGTHS.get(name, (40,)):
        sections = in_sections(reference, length)
        counts.add(len(sections))
        parts = [measure_section(reference, section, threads=1) for section in sections]
        for part, following in pairwise(parts):
            assert part.tail == following.head
            assert part.seen == following.seen
        assert {part.damage for part in parts} == {PictureDamage()}
        kept = [PassRows.of_bytes(part.rows.to_bytes(), 0.0) for part in parts]
        assert_equal(PassRows.joined(kept), whole)
    assert min(counts) >= 2


@pytest.mark.parametrize("file", ["refresh.mp4", "gaps.mkv", "negative.mov"])
def test_awkward_sources_in_sections(
    file: str, awkward_clip: Callable[[str], Path], tmp_path: Path
) -> None:
    reference = plan_source(awkward_clip(file), tmp_path)
    whole, _ = one_pass(reference)
    parts = [measure_section(reference, each, 1) for each in in_sections(reference, 9)]
    assert_equal(PassRows.joined([part.rows for part in parts]), whole)


# -- through the store -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pass")
    clip = make(replace(DEMO, width=192, height=108, audio=False), folder / "plain.mp4")
    path = folder / "demo.mp4"
    words = ["-v", "error", "-i", clip, "-frames:v", "110", "-s", "128x72"]
    run(Command.of([*words, "-c:v", "libx264", "-g", "20", path]))
    return path


@pytest.fixture
def short_sections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_pass, "SECTION_SECONDS", 1)


class Heard:
    def __init__(self) -> None:
        self.events: list[Any] = []

    def __call__(self, event: events.Event) -> None:
        self.events.append(event)

    @property
    def warnings(self) -> list[str]:
        return [event.message for event in self.events if isinstance(event, events.Warned)]


def analysed(
    path: Path, place: Path, changed: Callable[[TitleSource], TitleSource] = lambda source: source
) -> tuple[dict[str, tuple[Any, list[str]]], Heard]:
    """What an analysis leaves in a store: value and digests by stage; and its events."""
    store, heard = Store(place), Heard()
    with store.scratch() as scratch:
        source = open_title(path, scratch)
        source = changed(replace(source, stamp=None))
        find_title(path, source, store, InlineExecutor(), heard)
    found = {}
    for stage in (*STAGES, "section"):
        for number, record in enumerate(store.records(stage)):
            digests = [record.blobs[name].sha256 for name in sorted(record.blobs)]
            found[f"{stage} {number}"] = record.value, digests
    return found, heard


def results(found: dict[str, tuple[Any, list[str]]]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if not name.startswith("section")}


def test_a_title_in_sections_leaves_the_records_of_one_pass(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = analysed(clip, tmp_path / "whole")
    monkeypatch.setattr(first_pass, "SECTION_SECONDS", 1)
    parts, heard = analysed(clip, tmp_path / "parts")
    assert results(parts) == whole
    assert len(whole) == len(STAGES)
    assert len(parts) >= len(STAGES) + 2
    assert heard.warnings == []
    shares = [one.done for one in heard.events if isinstance(one, events.StageProgress)]
    assert shares == sorted(shares)
    assert len(shares) >= 3
    # With the results in the store, nothing is planned in sections.
    again, heard = analysed(clip, tmp_path / "parts")
    assert again == parts


def with_false_keyframes(source: TitleSource) -> TitleSource:
    """The source as if decoding could begin at every fifth frame."""
    index = source.reference.index
    false = replace(index, keyframe_pts=index.pts[::5], keyframe_dts=index.pts[::5])
    return replace(source, reference=replace(source.reference, index=false))


@pytest.mark.usefixtures("short_sections")
def test_a_source_that_cannot_be_sought_is_read_in_one_pass(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "title.ts"
    run(Command.of(["-v", "error", "-i", clip, "-c", "copy", path]))
    found, heard = analysed(path, tmp_path / "false", with_false_keyframes)
    assert any("in one pass" in warning for warning in heard.warnings)
    # Where all frames come out, those around a boundary tell.
    monkeypatch.setattr(BoundaryDigests, "head", "others")
    other, heard = analysed(path, tmp_path / "other")
    assert any("gives other pictures at frame" in warning for warning in heard.warnings)
    assert results(other) == results(found)
    monkeypatch.undo()
    whole, heard = analysed(path, tmp_path / "whole")
    assert (results(found), heard.warnings) == (results(whole), [])


@pytest.mark.usefixtures("short_sections")
def test_a_damaged_section_is_left_to_one_pass(clip: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged.ts"
    run(Command.of(["-v", "error", "-i", clip, "-c", "copy", path]))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 188 * 188
    for place in range(middle + 60, middle + 188 * 6, 188):
        content[place : place + 60] = bytes(60)
    path.write_bytes(content)
    found, heard = analysed(path, tmp_path / "parts")
    assert [warning for warning in heard.warnings if "in one pass" in warning]
    assert found["features 0"][0]["damage"]["pictures"]["pictures"] > 0
    assert any("section" in name for name in found)


KILLED = """
import sys
import encoder.analysis.sections as sections
sections.SECTION_SECONDS = 1
from cluster.cli import main
sys.argv = ["shotladder", *sys.argv[1:]]
sys.exit(main())
"""


@contextlib.contextmanager
def command(*words: object) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, *map(str, words)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )
    with process:
        yield process


def test_a_pass_that_is_killed_goes_on(clip: Path, tmp_path: Path) -> None:
    place = tmp_path / "store"
    words = ("shots", clip, "--store", place, "--json")
    with command(*words) as process:
        deadline = time.monotonic() + 60
        while len(list((place / "quarantine").glob("*/*/*.json"))) < 2:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    with command(*words) as process:
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    planned = next(line for line in said.splitlines() if '"stage_planned"' in line)
    assert '"cached": 0' not in planned  # at least two sections were there
    whole, _ = analysed(clip, tmp_path / "whole")
    assert results(analysed(clip, place)[0]) == results(whole)
