"""Segments as players need them: at shots, on a grid, and at given times."""

from __future__ import annotations

import base64
import json
import shlex
import shutil
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import m3u8
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mpegdash.parser import MPEGDASHParser

from cluster.cli.options import parse_split_at
from cluster.jobs.command import run_command
from cluster.jobs.cues import cues_from_csv
from cluster.jobs.estimate import plan_run
from cluster.jobs.request import LadderOptions, LadderRequest, RunOptions
from cluster.jobs.run import RunResult
from cluster.jobs.whatif import WhatIfOptions, what_if
from cluster.package.package import Package
from cluster.service.options import JobOptions
from cluster.service.queue.work import run_options
from encoder.analysis.segments import plan_segments
from encoder.analysis.shots import plan_shots
from encoder.errors import BadInput, VerificationFailed
from encoder.package.cue_check import SpliceOut, read_splice
from encoder.package.cues import crc32_mpeg2, splice_insert
from encoder.package.layout import WrittenCue
from encoder.segmentation import Segmentation
from fixtures.clips import make
from ladder.profiles import load_profile, profile_document, profile_sha256
from tests.running import SMALL, quick_profile, run_inline

RATES = (Fraction(24), Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001), Fraction(50))


@settings(max_examples=50)
@given(
    st.sampled_from(RATES),
    st.integers(1, 4000),
    st.lists(st.integers(0, 4000), max_size=20),
    st.sampled_from(["2s", "1920ms", "1.5s", "6s"]),
)
def test_a_grid_has_its_boundaries_at_the_nearest_frames_and_never_drifts(
    rate: Fraction, frames: int, cuts: list[int], step: str
) -> None:
    shots = plan_segments(cuts, frames, rate, Segmentation.of(step, None))
    seconds = Fraction(step.removesuffix("ms")) / 1000 if "ms" in step else Fraction(step[:-1])
    assert shots[0].start == 0
    assert shots[-1].end == frames
    assert all(before.end == after.start for before, after in pairwise(shots))
    for number, shot in enumerate(shots):
        assert abs(shot.start / rate - number * seconds) <= 1 / (2 * rate)
    assert frames / rate - (len(shots) - 1) * seconds <= seconds + 1 / rate
    # Every cut is a keyframe: the first frame of a segment or an IDR inside one.
    wanted = {cut for cut in cuts if 0 < cut < frames}
    assert wanted <= {shot.start for shot in shots}.union(*(shot.cuts for shot in shots))


def test_a_grid_of_frames_has_segments_of_as_many_frames_at_any_rate() -> None:
    for rate in RATES:
        shots = plan_segments((), 500, rate, Segmentation.of("48f", None))
        assert {shot.frames for shot in shots[:-1]} == {48}
    assert [shot.frames for shot in plan_segments((), 480, RATES[1], Segmentation.of("2s", None))][
        :10
    ] == [48] * 10  # 47.952 frames each: the 21st boundary is the first to lie a frame earlier
    starts = [s.start for s in plan_segments((), 1200, RATES[1], Segmentation.of("2s", None))]
    assert starts[10:12] == [480, 527]


@settings(max_examples=50)
@given(
    st.sampled_from(RATES),
    st.integers(1, 3000),
    st.lists(st.integers(0, 3000), max_size=30),
    st.sampled_from([None, 0.5, 1.0, 2.0, 4.0, 10.0]),
    st.lists(st.integers(0, 2999), max_size=4, unique=True),
)
def test_shots_keep_to_the_longest_segment_and_begin_at_every_cue(
    rate: Fraction, frames: int, cuts: list[int], longest: float | None, at: list[int]
) -> None:
    cues = sorted(frame for frame in at if frame < frames)
    rows = [(float(frame / rate), 0.0, "") for frame in cues]
    shots = plan_segments(cuts, frames, rate, Segmentation.of("shots", longest, rows))
    assert max(shot.frames for shot in shots) <= Fraction(str(longest or 6)) * rate
    assert set(cues) - {0} <= {shot.start for shot in shots}
    assert [shot.start for shot in shots] == [0, *(shot.end for shot in shots[:-1])]
    if longest is None and not cues:
        assert shots == plan_shots(cuts, frames, rate)


def test_a_cue_divides_a_cell_of_a_grid_and_moves_no_other_boundary() -> None:
    rows = [(3.0, 1.5, "ad"), (7.99, 0.0, "")]
    grid = Segmentation.of("2s", None, rows)
    starts = [shot.start for shot in plan_segments((), 240, Fraction(24), grid)]
    assert starts == [0, 48, 72, 96, 108, 144, 192]  # 7.99 s is nearest frame 192, as 8 s is
    assert [(cue.frame, cue.end_frame, cue.id) for cue in grid.cues_in(240, Fraction(24))] == [
        (72, 108, "ad"),
        (192, 192, "cue-2"),
    ]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([(20.0, 0, "")], "the title ends after 10.000 s"),
        ([(8.0, 5.0, "")], "the title ends after 10.000 s"),
        ([(2.0, 3.0, ""), (4.0, 0, "")], "within a cue at 2 s for 3 s"),
        ([(2.0, 0, ""), (2.01, 0, "")], "within a cue at 2 s"),
        ([(2.0, 0, "a"), (4.0, 0, "a")], "the id 'a' twice"),
        ([("1/0", 0, "")], "give a time in seconds"),
        (["12"], "give a time in seconds"),
    ],
)
def test_cues_that_cannot_be_are_refused_with_the_reason(rows: Any, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        Segmentation.of("shots", None, rows).check(240, Fraction(24))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"segments": "two"}, "such as 2s, 1.92s or 48f"),
        ({"segments": "2"}, "such as 2s, 1.92s or 48f"),
        ({"segments": "0.1s"}, "give 0.5 to 60 s"),
        ({"segments": "2s", "longest_segment": 4.0}, "leave one of them out"),
        ({"longest_segment": 0.2}, "give 0.5 to 60 s"),
        ({"split_at": ((-1.0, 0, ""),)}, "times are not negative"),
        ({"split_at": ((1.0, 0, "a b"),)}, "the id 'a b'"),
    ],
)
def test_what_makes_no_segments_is_refused_before_any_work(
    asked: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        LadderRequest.of(RunOptions(Path("a.mp4"), Path("b"), **asked))


def test_times_come_from_the_command_line_or_a_file(tmp_path: Path) -> None:
    assert parse_split_at("600,mid-2@1200.5+30") == ((600.0, 0.0, ""), (1200.5, 30.0, "mid-2"))
    path = tmp_path / "times.csv"
    path.write_text("id,time,duration\nmid-1,10:00,\nmid-2,0:20:00.5,30\n")
    assert parse_split_at(str(path)) == ((600.0, 0.0, "mid-1"), (1200.5, 30.0, "mid-2"))
    path.write_text("600\n1200.5,30\n")
    assert cues_from_csv(path) == ((600.0, 0.0, ""), (1200.5, 30.0, ""))
    for text, said in (
        ("when\n600\n", "the columns are when"),
        ("time\n600\nsoon\n", "row 3: 'soon'"),
        ("", "has no times"),
    ):
        path.write_text(text)
        with pytest.raises(BadInput, match=said):
            cues_from_csv(path)
    with pytest.raises(BadInput, match="cannot be read"):
        parse_split_at(str(tmp_path / "none.csv"))


def test_options_survive_documents_jobs_and_command_lines() -> None:
    cues = ((600.0, 0.0, ""), (1200.5, 30.0, "mid-2"))
    asked = RunOptions(Path("a.mp4"), Path("b"), segments="2s", split_at=cues)
    document = json.loads(json.dumps(asked.document()))
    assert asked.like(LadderOptions.from_document(document)) == asked
    words = run_command(asked, "default", Path("a.mp4"), Path("b"))
    assert shlex.join(words).endswith("--segments 2s --split-at 600.0,mid-2@1200.5+30.0")
    assert parse_split_at(words[-1]) == cues
    job = JobOptions.model_validate({"segments": "2s", "split_at": document["split_at"]})
    again = run_options(JobOptions.model_validate_json(job.model_dump_json()), Path(), Path())
    assert LadderRequest.of(again).segmentation == LadderRequest.of(asked).segmentation
    for name in ("segments", "longest_segment", "split_at"):
        assert name not in RunOptions(Path("a"), Path("b")).document()
        assert name not in JobOptions().model_dump_json()
        assert name not in profile_document(load_profile())


def test_a_profile_may_have_segments_and_options_come_before_it(tmp_path: Path) -> None:
    path = tmp_path / "tv.toml"
    path.write_text('segments = "48f"\n')
    asked = RunOptions(Path("a.mp4"), Path("b"), profile=path)
    assert LadderRequest.of(asked).segmentation == Segmentation.of("48f", None)
    back = replace(asked, segments="shots", longest_segment=4.0)
    assert LadderRequest.of(back).segmentation == Segmentation.of("shots", 4.0)
    assert profile_sha256(load_profile()) != profile_sha256(LadderRequest.of(asked).profile)


# -- a run --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gridded(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """Three scenes of 1 s at 12 fps, on a grid of 0.75 s with a break from 1.5 to 2.5 s."""
    folder = tmp_path_factory.mktemp("gridded")
    source = make(SMALL, folder / "title.mp4")
    return run_inline(
        source,
        folder / "out",
        folder / "store",
        heights=(90,),
        search="exhaustive",
        profile=quick_profile(jnd=90.0, max_rate_ratio=100.0),
        segments="0.75s",
        split_at=((1.5, 1.0, "mid-1"),),
    )


def test_a_run_on_a_grid_has_its_segments_there_and_each_its_own_point(gridded: RunResult) -> None:
    (rung, *_) = gridded.ladder.rungs
    ranges = [(segment.start_frame, segment.end_frame) for segment in rung.segments]
    assert ranges == [(0, 9), (9, 18), (18, 27), (27, 30), (30, 36)]
    package = Package.open(gridded.out)
    assert [shot.cuts for shot in package.shots] == [(), (12,), (24,), (), ()]
    cells = {(cell.shot, cell.crf) for cell in package.measurements.cells}
    assert cells >= {(shot, crf) for shot in range(5) for crf in (24.0, 40.0)}
    package.verify()


# -- cues ---------------------------------------------------------------------------------------

STANDARD = "/DAvAAAAAAAA///wFAVIAACPf+/+c2nALv4AUsz1AAAAAAAKAAhDVUVJAAABNWLbowo="
"""The splice_insert among the samples of SCTE 35, 14.2."""


def test_a_splice_is_written_as_the_standard_has_it_and_read_independently() -> None:
    sample = base64.b64decode(STANDARD)
    read = read_splice(sample)
    assert read == SpliceOut(0x4800008F, Fraction(0x07369C02E, 90_000), Fraction(0x52CCF5, 90_000))
    assert crc32_mpeg2(sample[:-4]) == int.from_bytes(sample[-4:])
    for number, start, lasts in (
        (1, Fraction(0), Fraction(30)),
        (7, Fraction(3003, 5), Fraction(0)),
    ):
        section = splice_insert(WrittenCue(number, "a", start, lasts, ends_title=False))
        assert read_splice(section) == SpliceOut(number, start, lasts)
        # All but the event, its times, and the descriptor of the sample are the sample's bytes.
        assert section[:1] + section[3:12] == sample[:1] + sample[3:12]
        assert section[13:14] + section[18:21] == sample[13:14] + sample[18:21]
        for place in (5, 15, 25, -1):
            damaged = bytearray(section)
            damaged[place] ^= 1
            with pytest.raises(ValueError, match="SCTE 35"):
                read_splice(bytes(damaged))


def test_every_playlist_and_the_manifest_have_the_cues_at_their_segments(
    gridded: RunResult,
) -> None:
    assert [cue.model_dump() for cue in gridded.ladder.cues or ()] == [
        {"id": "mid-1", "start_frame": 18, "end_frame": 30}
    ]
    (rung, *_) = gridded.ladder.rungs
    for folder in (f"video/{rung.name}", "audio"):
        playlist = m3u8.load(str(gridded.out / folder / "media.m3u8"))
        assert [bool(one.cue_out_start) for one in playlist.segments] == [0, 0, 1, 0, 0]
        assert [bool(one.cue_in) for one in playlist.segments] == [0, 0, 0, 0, 1]
        (dates,) = playlist.segments[2].dateranges
        assert (dates.id, dates.start_date) == ("mid-1", "1970-01-01T00:00:01.500000Z")
        assert float(dates.duration) == 1.0
        assert dates.scte35_out.startswith("0xFC30")
    manifest = (gridded.out / "manifest.mpd").read_text()
    read = MPEGDASHParser.parse(str(gridded.out / "manifest.mpd"))
    (stream,) = read.periods[0].event_streams
    assert stream.scheme_id_uri == "urn:scte:scte35:2013:xml"
    (event,) = stream.events
    assert (event.presentation_time, event.duration) == (18_000, 12_000)
    assert 'ptsTime="135000"' in manifest
    assert 'duration="90000"' in manifest


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("audio/media.m3u8", "#EXT-X-CUE-IN\n", "", "0 EXT-X-CUE-IN for 1 cues"),
        ("audio/media.m3u8", "DURATION=1.000000", "DURATION=2.000000", "DURATION of its cue"),
        ("VIDEO/media.m3u8", "00:00:01.500000Z", "00:00:01.600000Z", "START-DATE"),
        ("VIDEO/media.m3u8", "0xFC30", "0xFC31", "SCTE 35 section"),
        ("VIDEO/media.m3u8", 'ID="mid-1"', 'ID="mid-2"', "has the cues"),
        ("VIDEO/media.m3u8", "#EXT-X-PROGRAM-DATE-TIME", "#EXT-X-NOTHING", "PROGRAM-DATE-TIME"),
        ("manifest.mpd", 'presentationTime="18000"', 'presentationTime="9000"', "another time"),
        ("manifest.mpd", 'duration="12000"', 'duration="13000"', "its events are at"),
        ("manifest.mpd", 'outOfNetworkIndicator="true"', "", "no break out"),
    ],
)
def test_a_cue_that_says_something_else_is_found(
    gridded: RunResult, tmp_path: Path, name: str, old: str, new: str, said: str
) -> None:
    package = Package.open(shutil.copytree(gridded.out, tmp_path / "copy"))
    path = package.directory / name.replace("VIDEO", f"video/{package.ladder.rungs[0].name}")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(VerificationFailed, match=said) as found:
        package.verify()
    assert found.value.context["file"] == str(path.relative_to(package.directory))


def test_a_cue_before_another_segment_is_found(gridded: RunResult, tmp_path: Path) -> None:
    package = Package.open(shutil.copytree(gridded.out, tmp_path / "copy"))
    path = package.directory / "audio/media.m3u8"
    lines = path.read_text().splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("#EXT-X-DATERANGE"))
    moved = lines[at : at + 2]
    del lines[at : at + 2]
    path.write_text("\n".join([*lines[: at + 2], *moved, *lines[at + 2 :]]) + "\n")
    with pytest.raises(VerificationFailed, match=r"is at 2\.\d+ to 2"):
        package.verify()


# -- plans and questions ------------------------------------------------------------------------


def test_other_segments_of_a_title_are_a_plan_of_their_own_in_one_store(
    gridded: RunResult, tmp_path: Path
) -> None:
    store = gridded.out.parent / "store"
    title = gridded.out.parent / "title.mp4"
    common = {"profile": quick_profile(), "store": store, "heights": (90,), "preset": "ultrafast"}
    common |= {"search": "exhaustive", "recipe_check": "never"}
    plain = plan_run(RunOptions(title, tmp_path, **common), lambda event: None)
    assert (plain.shots, plain.cached_encodes) == (3, 0)
    again = RunOptions(title, tmp_path, segments="750ms", split_at=((1.5, 1, ""),), **common)
    grid = plan_run(again, lambda event: None)
    assert (grid.shots, grid.encodes) == (5, grid.cached_encodes)


def test_what_if_says_that_other_segments_are_other_encodes(gridded: RunResult) -> None:
    asked = WhatIfOptions(gridded.out, segments="shots", longest_segment=2.0)
    with pytest.raises(BadInput, match="other segments are other encodes") as refused:
        what_if(asked)
    assert "--segments shots --longest-segment 2" in refused.value.message
    assert "--split-at mid-1@1.5+1.0" in refused.value.message
    assert "with --plan at its end" in refused.value.message


def test_the_source_is_opened_again_as_it_was_divided(gridded: RunResult, tmp_path: Path) -> None:
    source = Package.open(gridded.out).open_source(tmp_path)
    assert source.segmentation == Segmentation.of("0.75s", None, [(1.5, 1.0, "mid-1")])
