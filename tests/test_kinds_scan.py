"""Titles that are interlaced in parts, by their flags or against them, or film in parts."""

from __future__ import annotations

import random
from pathlib import Path

import ffmpeg
import numpy as np
import pytest

from cluster.jobs.source_findings import describe_source
from encoder.arrays import UInt8
from encoder.errors import SourceUnusable
from encoder.ffmpeg import Command, run
from encoder.source.planning import plan_source
from encoder.source.probing.source_info import Run
from encoder.source.reference import GLOBAL_ARGUMENTS, ReferenceSource, open_reference
from encoder.source.reference_bytes import from_bytes, to_bytes
from encoder.source.scan import picture_flags
from encoder.source.scan.looks import BOTTOM_FIRST, PROGRESSIVE, TOP_FIRST, UNDECIDED, between
from encoder.source.scan.runs import corrected_flags, runs_of
from fixtures.kinds import ff, scan
from tests.reading_material import read


def luma(source: ReferenceSource, start: int, end: int) -> UInt8:
    """(frames, height, width) of canonical frames [start, end)."""
    built = ffmpeg.output(
        open_reference(source, start, end), "pipe:", f="rawvideo", fps_mode="passthrough"
    )
    done = run(
        Command.of(["-v", "error", *GLOBAL_ARGUMENTS, *built.get_args()]), timeout_seconds=60
    )
    planes = np.frombuffer(done.stdout, np.uint8).reshape(end - start, -1)
    return planes[:, : source.width * source.height].reshape(-1, source.height, source.width)


def given(path: Path, source: ReferenceSource) -> UInt8:
    """(frames, height, width) of all pictures of a file, as they are decoded."""
    command = ["-v", "error", "-i", path, "-map", "0:v", "-fps_mode", "passthrough"]
    done = run(Command.of([*command, "-f", "rawvideo", "-"]), timeout_seconds=60)
    planes = np.frombuffer(done.stdout, np.uint8).reshape(source.index.frames, -1)
    return planes[:, : source.width * source.height].reshape(-1, source.height, source.width)


def combed(pictures: UInt8) -> list[int]:
    """Numbers of the pictures that look interlaced, the first and the last left out."""
    return [
        n
        for n in range(1, len(pictures) - 1)
        if between(pictures[n - 1], pictures[n], pictures[n + 1]) in (TOP_FIRST, BOTTOM_FIRST)
    ]


def check(path: Path, interlaced: list[tuple[int, int]], tmp_path: Path) -> ReferenceSource:
    """Check that exactly these pictures are deinterlaced, and that ranges read the same."""
    source = plan_source(path, tmp_path)
    assert source.frames == source.index.frames
    before, after = given(path, source), luma(source, 0, source.frames)
    changed = (before != after).any(axis=(1, 2))
    wanted = np.zeros(source.frames, bool)
    for start, end in interlaced:
        wanted[start:end] = True
    assert changed.tolist() == wanted.tolist()
    assert len(combed(before)) >= 0.9 * wanted.sum() - 2
    assert combed(after) == []
    whole = read(source, 0, source.frames)
    for start, end in interlaced:
        for place in (start, end):
            for first, last in ((place - 5, place + 5), (place, place + 1), (place - 1, place)):
                first, last = max(0, first), min(source.frames, last)
                if first < last:
                    assert read(source, first, last) == whole[first:last]
    back, _ = from_bytes(to_bytes(source))
    assert back.graph_id == source.graph_id
    return source


@pytest.mark.parametrize("seed", [0, 1, 5])
def test_a_recording_that_turns_interlaced_is_deinterlaced_from_there_on(seed, tmp_path: Path):
    path = tmp_path / "turns.ts"
    truth = scan.make_turns_interlaced(path, random.Random(seed))
    before = {97: 60, 100: 50, 105: 25}[truth.frames or 0]
    source = check(path, [(before, truth.frames)], tmp_path)
    assert source.info.interlaced_runs == (Run(before, truth.frames, "auto"),)
    (said,) = [f for f in describe_source(source, path) if f.topic == "frames"]
    assert said.found.endswith(f"{truth.frames - before} of them interlaced")


@pytest.mark.parametrize("seed", [0, 1])
def test_h264_that_turns_interlaced_is_deinterlaced_from_there_on(seed, tmp_path: Path):
    path = tmp_path / "turns.ts"
    truth = scan.make_turns_interlaced_h264(path, random.Random(seed))
    before = {100: 50, 102: 40}[truth.frames or 0]
    check(path, [(before, truth.frames)], tmp_path)


@pytest.mark.parametrize("seed", [0, 1])
def test_film_inserts_of_a_programme_stay_as_they_are(seed, tmp_path: Path):
    path = tmp_path / "programme.mkv"
    truth = scan.make_film_inserts(path, random.Random(seed))
    start, end = {140: (40, 100), 130: (60, 100)}[truth.frames or 0]
    source = check(path, [(0, start), (end, truth.frames)], tmp_path)
    assert source.info.flags_contradicted == end - start
    (said,) = [f for f in describe_source(source, path) if f.topic == "frames"]
    assert truth.says in said.found
    assert said.state == "warn"


@pytest.mark.parametrize("seed", [0, 1])
def test_interlaced_credits_of_a_film_without_flags_are_deinterlaced(seed, tmp_path: Path):
    path = tmp_path / "film.mkv"
    truth = scan.make_combed_credits(path, random.Random(seed))
    start = {150: 90, 110: 70}[truth.frames or 0]
    source = check(path, [(start, truth.frames)], tmp_path)
    assert source.info.flags_contradicted == truth.frames - start


def test_drawn_pictures_of_no_interlaced_size_are_left_alone(tmp_path: Path):
    path = tmp_path / "drawn.mkv"
    graph = "testsrc2=size=160x96:rate=30:duration=2"
    ff("-f", "lavfi", "-i", graph, "-c:v", "libx264", "-preset", "ultrafast", path)
    source = plan_source(path, tmp_path)
    assert combed(given(path, source))  # patterns that move by whole lines look so
    assert not source.info.interlaced


def test_a_part_of_film_with_repeated_fields_is_deinterlaced_with_the_rest(tmp_path: Path):
    path = tmp_path / "mix.mkv"
    truth = scan.make_partly_telecined(path, random.Random(0))
    check(path, [(0, truth.frames)], tmp_path)


def test_telecine_is_refused_and_its_way_out_is_accepted(tmp_path: Path):
    path = tmp_path / "telecined.mkv"
    truth = scan.make_telecined(path, random.Random(0))
    with pytest.raises(SourceUnusable, match=truth.refused) as caught:
        plan_source(path, tmp_path)
    command = caught.value.message.partition("ffmpeg ")[2]
    out = tmp_path / "film.mkv"
    ff(*(path if one == "IN" else out if one == "OUT" else one for one in command.split()))
    source = plan_source(out, tmp_path)
    assert str(source.frame_rate) == "24000/1001"
    assert combed(luma(source, 0, source.frames)) == []


@pytest.mark.parametrize(
    ("flag", "seen", "expected"),
    [
        (False, "p" * 60, []),
        (True, "t" * 60, [(0, 60)]),
        (True, "t" * 20 + "p" * 24 + "t" * 16, [(0, 60)]),
        (True, "t" * 20 + "u" * 40, [(0, 60)]),
        (True, "t" * 20 + "uupu" + "p" * 30 + "u" * 6, [(0, 22), (54, 60)]),
        (False, "p" * 20 + "t" * 9 + "p" * 31, []),
        (False, "p" * 20 + "u" + "bbbbbtbbbb" + "uu" + "p" * 27, [(20, 33)]),
        (False, "pppppttppptt" * 5, [(5, 60)]),  # 3:2 pulldown
        # The last picture is treated like the one before.
        (False, "p" * 40 + "t" * 19 + "p", [(40, 60)]),
    ],
)
def test_flags_hold_unless_a_stretch_contradicts_them(flag: bool, seen: str, expected):
    wanted = corrected_flags(np.full(60, flag), seen)
    runs = runs_of(wanted, np.full(60, flag), seen)
    assert [(run.start, run.end) for run in runs] == expected


def test_the_order_of_fields_is_that_of_flags_or_else_of_the_pictures():
    wanted = np.array([True] * 10 + [False] * 5 + [True] * 10)
    marked = np.array([True] * 10 + [False] * 15)
    runs = runs_of(wanted, marked, "b" * 10 + "p" * 5 + "bbtbbuubbb")
    assert runs == (Run(0, 10, "auto"), Run(15, 25, "bff"))


def test_very_many_runs_are_joined():
    marked = np.tile([True, False], 300)
    assert runs_of(marked, marked, "u" * 600) == (Run(0, 599, "tff"),)


def test_pictures_without_motion_are_undecided():
    still = np.tile(np.arange(64, dtype=np.uint8), (48, 1))
    assert between(still, still, still) == UNDECIDED
    assert between(None, still, None) == UNDECIDED
    noise = np.random.default_rng(1).integers(0, 256, (48, 64)).astype(np.uint8)
    assert between(still, still, noise) == PROGRESSIVE


def test_the_header_of_an_mpeg2_picture_is_read():
    extension = b"\0\0\1\xb5\x8f\xff\xf3\x80"
    assert picture_flags.mpeg2_interlaced(extension + b"\x00") is True
    assert picture_flags.mpeg2_interlaced(b"\0\0\1\xb5\x14" + extension + b"\x80") is False
    assert picture_flags.mpeg2_interlaced(b"\0\0\1\0\x10") is None
