"""Transport and program streams of kinds that users report: one programme, all of it, in time."""

from __future__ import annotations

import random
import re
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from cluster.jobs.source_findings import describe_source
from encoder.analysis.frames import small_frames
from encoder.errors import SourceUnusable
from encoder.package.audio import encode_audio
from encoder.source.choices import SourceChoices
from encoder.source.copy_facts import NO_CHANGES
from encoder.source.planning import plan_source
from encoder.source.reference import ReferenceSource
from encoder.source.sandbox import plan_guarded
from encoder.source.timestamps.sparse import credible, interpolated
from encoder.source.transport.clock import Units, find_epochs, place_epochs
from encoder.source.transport.lanes import CodecChange, Course, follow
from encoder.source.transport.survey import survey
from encoder.source.transport.tables import (
    Elementary,
    ProgrammeMap,
    SectionReader,
    read_map,
    table_packets,
)
from fixtures.kinds import X264, Truth, beeping, ff, flashing, transport


def flashes(source: ReferenceSource) -> list[float]:
    """Return when white pictures begin, seconds."""
    bright = [float(np.mean(small.luma)) > 200 for small in small_frames(source)]
    begins = [n for n, on in enumerate(bright) if on and not (n and bright[n - 1])]
    return [float(n / source.frame_rate) for n in begins]


def beeps(source: ReferenceSource, made: Path, track: int = 0) -> list[float]:
    """Return when tones begin in a track, seconds."""
    out = encode_audio(
        Path(source.path),
        source.info.audio[track].index,
        made,
        first_video_pts=source.start_seconds,
        duration=source.timeline.duration_seconds,
        channels=source.info.audio[track].channels,
    )
    assert out is not None
    with av.open(str(out)) as container:
        frames = [np.abs(frame.to_ndarray()[0]) for frame in container.decode(audio=0)]
    loud = np.flatnonzero(np.concatenate(frames) > 0.1)
    begins = loud[np.concatenate([[True], np.diff(loud) > 4800])] if len(loud) else loud
    return [float(n) / 48000 for n in begins]


def check(path: Path, truth: Truth, workdir: Path) -> ReferenceSource:
    """Compare what is planned for a source with what is right."""
    source = plan_source(path, workdir, replace(SourceChoices(), **truth.options))
    assert (source.frames, source.frame_rate) == (truth.frames, truth.frame_rate)
    assert (source.width, source.height) == truth.size
    assert flashes(source) == pytest.approx(list(truth.flashes), abs=1e-6)
    assert len(source.info.audio) == truth.tracks
    assert beeps(source, workdir / "sound.mp4") == pytest.approx(list(truth.beeps), abs=0.02)
    said = [f for f in describe_source(source, path) if f.state == "warn"]
    assert not truth.says or any(truth.says in f"{f.topic} {f.found}" for f in said)
    return source


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", transport.KINDS, ids=lambda kind: kind.file)
def test_a_kind_of_stream_is_read_right(kind, seed: int, tmp_path: Path):
    path = tmp_path / kind.file
    truth = kind.make(path, random.Random(seed))
    if truth.refused:
        with pytest.raises(SourceUnusable, match=truth.refused):
            plan_source(path, tmp_path, replace(SourceChoices(), **truth.options))
    else:
        check(path, truth, tmp_path)


def refusal(path: Path, workdir: Path, **options: int) -> str:
    with pytest.raises(SourceUnusable) as refused:
        plan_guarded(path, workdir, replace(SourceChoices(), **options))
    return str(refused.value)


def test_a_file_that_changes_its_codec_is_cut_as_the_error_says(tmp_path: Path):
    path = tmp_path / "codecs.ts"
    transport.make_codec_change(path, random.Random(0))
    said = refusal(path, tmp_path)
    found = re.search(r"(head -c \d+ IN > FIRST) and (tail -c \+\d+ IN > SECOND)", said)
    assert found, said
    for command in found.groups():
        subprocess.run(command.replace("IN", str(path)), shell=True, cwd=tmp_path, check=True)
    sources = [plan_source(tmp_path / name, tmp_path) for name in ("FIRST", "SECOND")]
    assert [source.frames for source in sources] == [30, 40]
    assert [flashes(source) for source in sources] == [[0.4], [0.4]]


def test_a_programme_that_is_not_there_names_those_that_are(tmp_path: Path):
    path = tmp_path / "programmes.ts"
    transport.make_programmes(path, random.Random(0))
    count = len(survey(path).tables.numbers)
    named = ", ".join(str(n) for n in range(1, count + 1))
    assert f"it has no programme 9; give --program one of those with pictures ({named})" in refusal(
        path, tmp_path, program=9
    )
    for number in range(1, count + 1):
        source = plan_guarded(path, tmp_path, SourceChoices(program=number))
        assert source.copied.transport is not None
        assert source.copied.transport.programs == (number,)
        assert number not in source.copied.transport.others


def test_programmes_of_one_file_have_keys_of_their_own(tmp_path: Path):
    path = tmp_path / "programmes.ts"
    transport.make_programmes(path, random.Random(0))
    one, two = (plan_source(path, tmp_path, SourceChoices(program=n)) for n in (1, 2))
    assert one.graph_id != two.graph_id
    assert one.copied.identity != two.copied.identity


def test_a_scrambled_programme_names_a_clear_one(tmp_path: Path):
    path = tmp_path / "programmes.ts"
    transport.make_programmes(path, random.Random(1))
    number = next(n for n, pid in picture_pids(path) if n)
    pid = dict(picture_pids(path))[number]
    path.write_bytes(transport.scrambled(path.read_bytes(), pid))
    said = refusal(path, tmp_path, program=number)
    (other,) = re.findall(r"--program (\d+) is not", said)
    assert plan_source(path, tmp_path, SourceChoices(program=int(other))).frames
    # Without a choice, the first programme that can be seen is taken, and said.
    assert plan_source(path, tmp_path).copied.transport.programs == (int(other),)


def picture_pids(path: Path) -> list[tuple[int, int]]:
    maps = survey(path).tables.maps
    streams = [(n, s) for n, placed in maps.items() for s in placed[0].map.streams]
    return [(n, s.pid) for n, s in streams if s.kind == "video"]


def test_a_program_number_is_refused_outside_transport_streams(tmp_path: Path, tiny_title: Path):
    assert "leave the option out" in refusal(tiny_title, tmp_path, program=1)


def test_pictures_that_lack_what_they_depend_on_are_left_out_after_a_jump(tmp_path: Path):
    path = tmp_path / "jump.ts"
    truth = transport.make_jump(path, random.Random(4))
    starts = survey(path).starts
    pictures = starts[starts.pid == 256]
    second = int(np.flatnonzero(np.abs(np.diff(pictures.dts)) > 900_000)[0]) + 1
    entries = np.flatnonzero(pictures.random_access)
    missed = int(entries[entries > second][0]) - second
    # The first picture of the second recording is missing, and with it the first group.
    data = path.read_bytes()
    begin, end = int(pictures.row[second]) * 188, int(pictures.row[second + 1]) * 188
    path.write_bytes(data[:begin] + data[end:])
    source = plan_source(path, tmp_path)
    facts = source.copied.transport
    assert facts is not None
    assert truth.frames is not None
    assert (facts.dropped, source.frames) == (missed - 1, truth.frames - missed)
    assert len(list(small_frames(source))) == source.frames
    assert any("before the first whole one" in f.found for f in describe_source(source, path))


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
def test_a_clock_that_jumps_in_a_file_is_closed_as_the_error_says(suffix: str, tmp_path: Path):
    parts = []
    for number, start in enumerate((0, 3600)):
        part = tmp_path / f"{number}.ts"
        inputs = ["-f", "lavfi", "-i", flashing("96x64", 25, 1.6, (0.4,))]
        inputs += ["-f", "lavfi", "-i", beeping(1.6, (0.4,))]
        ff(*inputs, *X264, "-c:a", "mp2", "-output_ts_offset", start, part)
        parts.append(part.read_bytes())
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(parts))
    path = tmp_path / f"gap.{suffix}"
    ff("-copyts", "-dts_delta_threshold", 10**6, "-i", joined, "-map", 0, "-c", "copy", path)
    said = refusal(path, tmp_path)
    assert re.search(r"jumps ahead by 3598\.\d{3} s at 1\.560 s", said), said
    (command,) = re.findall(r"ffmpeg (.*) OUT.mkv", said)
    ff(
        *[str(path) if part == "IN" else part for part in shlex.split(command)],
        tmp_path / "OUT.mkv",
    )
    source = plan_source(tmp_path / "OUT.mkv", tmp_path)
    assert (source.frames, flashes(source)) == (80, [0.4, 2.0])
    assert beeps(source, tmp_path / "sound.mp4") == pytest.approx([0.4, 2.0], abs=0.02)


def test_a_picture_that_stands_for_long_is_no_jump_while_sound_goes_on(tmp_path: Path):
    path = tmp_path / "lecture.mkv"
    slides = "testsrc2=size=96x64:rate=1/70:duration=210"
    ff("-f", "lavfi", "-i", slides, "-f", "lavfi", "-i", "sine=d=210", *X264, "-c:a", "mp2", path)
    source = plan_source(path, tmp_path)
    (said,) = [f for f in describe_source(source, path) if "stands" in f.found]
    assert said.found == "one picture stands for 70.000 s from 0.000 s"


def test_an_ordinary_stream_is_read_as_it_is(awkward_clip, tmp_path: Path):
    source = plan_source(awkward_clip("opengop.ts"), tmp_path)
    assert source.copied == NO_CHANGES
    assert source.path == str(awkward_clip("opengop.ts"))


# -- pure parts --------------------------------------------------------------------------------


def test_times_between_known_ones():
    assert interpolated([0, None, None, 9000, None], [3600, 1800, 3600, 3600, 3600]) == [
        0,
        3600,
        5400,
        9000,
        12600,
    ]
    # Durations that headers do not state, and one time that is wrong.
    assert interpolated([None, 3600, None, 10800, 2000, 18000], [0] * 6) == [
        0,
        3600,
        7200,
        10800,
        14400,
        18000,
    ]
    # Pictures that are missing: the last one before them stands.
    assert interpolated([0, None, 7200, None, 100_800, 104_400, 108_000], [0] * 7) == [
        0,
        3600,
        7200,
        10800,
        100_800,
        104_400,
        108_000,
    ]


def test_a_time_of_the_picture_after_is_told_from_one_of_a_picture():
    # The fourth one has the time of the second one, which lacks it.
    times: list[int | None] = [0, None, 7200, 3600, 14_400, None, 21_600]
    assert credible(times, [3600] * 7) == [0, None, 7200, None, 14_400, None, 21_600]
    assert interpolated(credible(times, [3600] * 7), [0] * 7) == [n * 3600 for n in range(7)]
    # Without B-frames the times rise all the same.
    times = [0, 3600, 10_800, None, 14_400, 18_000]
    assert credible(times, [3600] * 6) == [0, 3600, None, None, 14_400, 18_000]
    # Pictures that are missing, and one that is late for itself.
    for kept in ([0, 3600, 90_000, 93_600, 97_200], [0, 3600, 10_000, 10_800, 14_400]):
        assert credible(kept, [3600] * 5) == kept


@pytest.mark.parametrize("name", ["single.vob", "dvd.vob"])
def test_pictures_that_share_a_packet_keep_their_places(name: str, tmp_path: Path):
    """The packet of a keyframe's sequence header ends before its picture header."""
    path = tmp_path / name
    ff(
        *("-f", "lavfi", "-i", flashing("352x288", 25, 5, (0.4, 3.0))),
        *("-f", "lavfi", "-i", beeping(5.25, (0.4, 3.0)), "-c:v", "mpeg2video", "-q:v", 4),
        *("-g", 12, "-bf", 2, "-c:a", "ac3", "-f", "dvd" if "dvd" in name else "vob", path),
    )
    source = plan_source(path, tmp_path)
    assert (source.frame_rate, source.index.frames) == (25, 125)
    assert set(np.diff(source.index.pts)) == {source.index.time_base.denominator // 25}
    assert flashes(source) == [0.4, 3.0]


def units(*lists: tuple[int, list[int]]) -> Units:
    """Return coded units of streams in the order given, all shown when they are decoded."""
    stream = np.concatenate([np.full(len(times), number) for number, times in lists])
    time = np.concatenate([np.array(times) for _, times in lists])
    return Units(stream, time, time, [0.0, 0.0])


def frames(start: int, count: int) -> list[int]:
    return [(start + 3600 * n) % (1 << 33) for n in range(count)]


def test_a_clock_that_wraps_does_not_jump():
    wrapping = units((0, frames((1 << 33) - 7200, 10)), (1, frames((1 << 33) - 7200, 10)))
    assert find_epochs(wrapping, 0).tolist() == [0] * 20


def test_pictures_that_stop_while_sound_goes_on_are_no_jump():
    parts = [(0, frames(0, 10)), (1, frames(0, 10))]
    for second in range(20):
        parts.append((1, frames(36_000 + 90_000 * second, 25)))
    parts += [(0, frames(1_800_000, 10)), (1, frames(1_836_000, 10))]
    assert set(find_epochs(units(*parts), 0).tolist()) == {0}


def test_streams_that_jump_together_go_on_without_a_gap():
    both = units(
        (0, frames(0, 10)),
        (1, frames(0, 10)),
        (0, frames(9_000_000, 10)),
        (1, frames(9_000_000, 10)),
    )
    of_unit = find_epochs(both, 0)
    first, second = place_epochs(both, of_unit, 0)
    assert of_unit.tolist() == [0] * 20 + [1] * 20
    assert (first.offset, first.jump) == (0, 0)
    assert second.jump == 9_000_000 - 36_000
    assert second.offset == -second.jump


def stream(pid: int, kind: int, language: bytes = b"") -> Elementary:
    descriptor = bytes([0x0A, 4]) + language + b"\0" if language else b""
    return Elementary(pid, kind, descriptor)


def programme(*streams: Elementary) -> ProgrammeMap:
    return ProgrammeMap(1, streams[0].pid, b"", streams)


def test_streams_are_followed_by_language_then_pid_then_place():
    h264, mp2 = 0x1B, 0x03
    course = follow(
        [
            programme(stream(256, h264), stream(257, mp2, b"eng"), stream(258, mp2, b"fra")),
            programme(stream(256, h264), stream(257, mp2, b"fra"), stream(258, mp2, b"eng")),
            programme(stream(600, h264), stream(258, mp2, b"eng"), stream(601, mp2, b"deu")),
        ]
    )
    assert isinstance(course, Course)
    assert course.lane_of == (
        {256: 0, 257: 1, 258: 2},
        {256: 0, 257: 2, 258: 1},
        {600: 0, 258: 1, 601: 3},
    )
    assert (course.changes, course.late) == (2, True)
    assert [lane.pid for lane in course.lanes] == [256, 257, 258, 601]


def test_another_codec_is_a_change():
    change = follow([programme(stream(256, 0x1B)), programme(stream(256, 0x24))])
    assert change == CodecChange(1, "video", "H.264", "HEVC")


def test_tables_are_read_as_they_are_written():
    written = programme(stream(256, 0x1B), *(stream(300 + n, 0x03, b"eng") for n in range(60)))
    packets = table_packets(written, 0x1000)
    assert len(packets) % 188 == 0
    reader = SectionReader()
    sections = []
    for at in range(188, len(packets), 188):
        begins = bool(packets[at + 1] & 0x40)
        sections += reader.feed(packets[at + 4 : at + 188], begins)
    assert [read_map(section) for section in sections] == [written]
    damaged = bytearray(packets)
    damaged[188 + 50] ^= 1
    assert SectionReader().feed(bytes(damaged[192:376]), True) == []
