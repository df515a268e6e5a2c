"""MP4 and MOV files whose edit list plays several parts."""

from __future__ import annotations

import re
import shlex
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from cluster.jobs.source_findings import examine_source
from encoder.errors import SourceUnusable
from encoder.ffmpeg import Command, run
from encoder.source import pieces
from encoder.source.containers.edits import Edit
from encoder.source.planning import plan_source
from encoder.source.reference import ReferenceSource
from encoder.source.sandbox import plan_guarded
from encoder.source.timestamps import edited
from encoder.source.timestamps.edit_plan import Stretch, plan_parts, plan_stretches
from fixtures.kinds import X264, ff, old
from tests.reading_material import HASH, hashes, read

CLIP = "testsrc2=size=64x48:rate=25:duration=4"
SOUND = ("-f", "lavfi", "-i", "aevalsrc='0.5*sin(2*PI*(200+100*t)*t)':s=48000:d=4")
Parts = list[tuple[int | None, int]]
IN_ORDER: Parts = [(3, 14), (20, 31), (77, 11)]
REORDERED: Parts = [(61, 22), (7, 19), (61, 22), (40, 1)]
APART: Parts = [(5, 20), (None, 9), (33, 20)]


def make(path: Path, parts: Parts, *codec: object, sound: tuple[object, ...] = ()) -> Path:
    """Write four seconds of which these parts, first frame and number of frames, are played."""
    plain = path.with_name(f"plain{path.suffix}")
    ff("-f", "lavfi", "-i", CLIP, *(SOUND if sound else ()), *(codec or X264), *sound, plain)
    rate = Fraction(25)
    played = [(None if begin is None else begin / rate, n / rate) for begin, n in parts]
    path.write_bytes(old.with_edits(plain.read_bytes(), played))
    return path


def truth(path: Path, parts: Parts) -> list[str]:
    """Hashes of the pictures that are played, cut by hand from a decode of all media."""
    every = ["-v", "error", "-ignore_editlist", "1", "-i", str(path), "-map", "0:v:0"]
    found = [digest for _, digest in hashes([*every, "-fps_mode", "passthrough", *HASH])]
    shown: list[str] = []
    for begin, frames in parts:
        shown += shown[-1:] * frames if begin is None else found[begin : begin + frames]
    return shown


def check(source: ReferenceSource, expected: list[str], folder: Path) -> None:
    assert (source.frames, source.frame_rate) == (len(expected), 25)
    assert read(source, 0, source.frames) == expected
    for start in range(0, source.frames - 2, 5):
        assert read(source, start, start + 2) == expected[start : start + 2], start
    for piece, file in pieces.cut(source, [(10, 20), (20, source.frames)], folder):
        moved = pieces.reading(source, piece, file)
        assert read(moved, piece.start, piece.end) == expected[piece.start : piece.end], piece


@pytest.mark.parametrize("parts", [IN_ORDER, REORDERED, APART], ids=["order", "reordered", "apart"])
@pytest.mark.parametrize("gop", [(25, 2), (250, 3), (5, 0)], ids=str)
def test_every_picture_of_every_part_is_a_frame(tmp_path, parts: Parts, gop: tuple[int, int]):
    path = make(tmp_path / "e.mp4", parts, *X264, "-g", gop[0], "-bf", gop[1])
    check(plan_guarded(path, tmp_path), truth(path, parts), tmp_path)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("hevc.mp4", ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none")),
        ("mpeg4.mp4", ("-c:v", "mpeg4", "-bf", "2", "-g", "24")),
        ("prores.mov", ("-c:v", "prores_ks", "-profile:v", "0")),
        ("full.mov", ("-c:v", "mjpeg", "-pix_fmt", "yuvj422p")),
        ("ten.mp4", (*X264, "-pix_fmt", "yuv422p10le")),
    ],
)
def test_parts_of_other_codecs(tmp_path, name: str, codec: tuple[str, ...]):
    path = make(tmp_path / name, REORDERED, *codec)
    source = plan_guarded(path, tmp_path)
    # The graph converts formats, so the same graph reads all media, without edits, for comparison.
    data = (tmp_path / f"plain{path.suffix}").read_bytes()
    (tmp_path / f"all{path.suffix}").write_bytes(old.with_edits(data, [(0.0, 4.0)]))
    whole = plan_guarded(tmp_path / f"all{path.suffix}", tmp_path)
    assert whole.copied.edits is None
    every = read(whole, 0, 100)
    expected = [every[frame] for begin, n in REORDERED for frame in range(begin, begin + n)]
    assert read(source, 0, source.frames) == expected
    assert source.info.bit_depth == whole.info.bit_depth
    assert source.info.color_range == whole.info.color_range


def samples(path: Path | str, **options: str) -> np.ndarray:
    """All samples of the first channel, without those that encoders add before."""
    with av.open(str(path), options=options) as container:
        frames = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    return np.concatenate(frames)


@pytest.mark.parametrize("parts", [IN_ORDER, REORDERED], ids=["order", "reordered"])
@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
def test_sound_is_cut_to_the_sample(tmp_path, parts: Parts, codec: str):
    path = make(tmp_path / "e.mov", parts, sound=("-c:a", codec))
    source = plan_guarded(path, tmp_path)
    whole = samples(tmp_path / "plain.mov")
    expected = np.concatenate([whole[1920 * b : 1920 * (b + n)] for b, n in parts if b is not None])
    found = samples(source.path)
    assert len(found) == len(expected)
    assert np.abs(found.astype(float) - expected).max() <= (0 if codec != "aac" else 2e-4)
    assert source.info.audio[0].codec == codec
    assert source.info.audio[0].start_seconds == 0


def test_nothing_between_parts_is_silence_and_a_picture_that_stands(tmp_path):
    path = make(tmp_path / "e.mov", APART, sound=("-c:a", "pcm_s16le"))
    found = samples(plan_guarded(path, tmp_path).path)
    whole = samples(tmp_path / "plain.mov")
    quiet = np.zeros(9 * 1920, found.dtype)
    parts = (whole[5 * 1920 : 25 * 1920], quiet, whole[33 * 1920 : 53 * 1920])
    assert np.array_equal(found, np.concatenate(parts))


def test_the_edits_are_said_and_the_source_is_named(tmp_path):
    path = make(tmp_path / "e.mp4", IN_ORDER)
    found = {one.topic: one for one in examine_source(path)}
    assert found["file"].found.startswith("mov, h264, 2.240 s")
    assert found["edits"].found == "the edit list plays 3 parts"
    assert found["edits"].state == "ok"
    edits = plan_guarded(path, tmp_path).copied.edits
    assert edits is not None
    assert (edits.parts, edits.codec, edits.captions) == (3, "h264", False)


def test_a_list_of_one_part_is_read_as_it_is(tmp_path):
    path = make(tmp_path / "e.mp4", [(5, 40)])
    source = plan_guarded(path, tmp_path)
    assert source.path == str(path)
    assert source.copied.edits is None
    assert list(tmp_path.glob("*.timed.*")) == []


def test_a_long_title_is_refused_with_a_command_that_applies_its_list(tmp_path, monkeypatch):
    path = make(tmp_path / "e.mp4", REORDERED, sound=("-c:a", "aac"))
    monkeypatch.setattr(edited, "MOST_PIXELS", 64 * 48 * 20)
    monkeypatch.setattr(edited, "PIXELS_PER_BYTE", 0)
    with pytest.raises(SourceUnusable, match=r"plays 4 parts with 64 frames.* up to 20") as refused:
        plan_source(path, tmp_path)
    command = re.search(r"ffmpeg (-ignore.*OUT\.mkv)", refused.value.message)
    assert command is not None
    words = {"IN": str(path), "OUT.mkv": str(tmp_path / "out.mkv")}
    arguments = [words.get(word, word) for word in shlex.split(command[1])]
    run(Command.of(["-v", "error", *arguments]), timeout_seconds=60)
    source = plan_guarded(tmp_path / "out.mkv", tmp_path)
    assert read(source, 0, source.frames) == truth(path, REORDERED)
    whole, heard = samples(tmp_path / "plain.mp4"), samples(tmp_path / "out.mkv") / 2.0**31
    expected = np.concatenate([whole[1920 * b : 1920 * (b + n)] for b, n in REORDERED])
    assert len(heard) == len(expected)
    assert np.abs(heard - expected).max() < 1e-3


def test_an_edit_at_another_speed_is_refused(tmp_path):
    path, plain = tmp_path / "fast.mp4", tmp_path / "plain.mp4"
    ff("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=25:duration=1", *SOUND, "-t", 1, plain)
    path.write_bytes(old.with_edits(plain.read_bytes(), [(0.0, 0.5)], rate=0.5))
    with pytest.raises(SourceUnusable, match=r"plays at 0\.5 times the speed.*export the title"):
        plan_guarded(path, tmp_path)


def test_too_many_edits_are_refused(tmp_path):
    path = make(tmp_path / "e.mp4", [(0, 1)] * (edited.MOST_EDITS + 1))
    with pytest.raises(SourceUnusable, match="over 1000 parts is not supported; export"):
        plan_guarded(path, tmp_path)


def test_an_edit_list_of_days_is_refused(tmp_path):
    path = make(
        tmp_path / "e.mp4", [(0, 9), *[(None, 25 * 20_000)] * 5, (20, 9)], sound=("-c:a", "aac")
    )
    with pytest.raises(SourceUnusable, match="its edit list lasts more than 24 h; cut it"):
        plan_guarded(path, tmp_path)


ONE = Fraction(1)


def test_edits_rounded_to_milliseconds_play_the_pictures_that_they_mean():
    # 29.97 fps: 10 pictures are 333.67 ms, which a list may store as 333 or 334.
    pictures = [(1001 * n, 1001) for n in range(100)]
    tick = Fraction(1, 30000)
    for milliseconds in (333, 334):
        edits = [
            Edit(Fraction(milliseconds, 1000), ONE, Fraction(1001 * 7, 30000)),
            Edit(Fraction(milliseconds, 1000), ONE, Fraction(1001 * 40, 30000)),
        ]
        parts, end = plan_parts(edits, pictures, [0, 1001 * 30], tick, tick)
        assert [list(part.times) for part in parts] == [
            [1001 * n for n in range(7, 17)],
            [1001 * n for n in range(40, 50)],
        ]
        assert [part.keyframe for part in parts] == [0, 1]
        assert list(parts[1].times.values()) == [1001 * n for n in range(10, 20)]
        assert end == 1001 * 20


def test_parts_that_begin_within_pictures_are_at_the_nearest_place():
    pictures = [(2 * n, 2) for n in range(100)]
    spans = ((7, 40), (61, 31), (14, 19))  # from the middle of a picture, to the middle, both
    edits = [Edit(Fraction(seconds), ONE, Fraction(start)) for start, seconds in spans]
    parts, end = plan_parts(edits, pictures, [0], ONE, ONE)
    assert [(next(iter(part.times)) // 2, len(part.times)) for part in parts] == [
        *((3, 20), (30, 16), (7, 9))
    ]
    assert [time for part in parts for time in part.times.values()] == list(range(0, 90, 2))
    assert end == 90


def test_a_picture_that_stands_for_long_is_played_from_its_middle():
    pictures = [(0, 10), (10, 500), (510, 10)]
    edits = [Edit(Fraction(6), ONE, Fraction(4)), Edit(Fraction(20), ONE, Fraction(50))]
    parts, end = plan_parts(edits, pictures, [0], Fraction(1), Fraction(1))
    assert [part.times for part in parts] == [{0: 0}, {10: 6}]
    assert end == 26


def test_stretches_of_sound_do_not_drift():
    third = Fraction(1, 3)
    edits = [Edit(third, ONE, Fraction(2)), Edit(third, ONE), Edit(third, ONE, Fraction(0))]
    assert plan_stretches(edits, 44_100) == [
        Stretch(0, 14_700, 88_200),
        Stretch(14_700, 29_400, None),
        Stretch(29_400, 44_100, 0),
    ]
    assert [s.end for s in plan_stretches([Edit(Fraction(1, 7), ONE, ONE)] * 7, 100)] == [
        *(14, 29, 43, 57, 71, 86, 100)
    ]
