"""Verification says no, and says where."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from encoder import framehash, mp4
from encoder.errors import FrameMismatch, VerificationFailed
from encoder.ffmpeg import Command, run
from encoder.package.audio import encode_audio, segment_audio
from encoder.package.layout import Rendition
from encoder.package.verify import ExpectedSegment, verify_package
from encoder.package.write import write_package
from tests.package_media import encode, segment, title

RATE = Fraction(25)
SHOTS = ((0, 25), (25, 60), (60, 75))
Expected = dict[str, list[ExpectedSegment]]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Expected]:
    folder = tmp_path_factory.mktemp("original")
    package, expected = title(SHOTS, {90: (20, 40, 30), 180: (40, 20, 33)}, frame_rate=RATE, cut=40)
    tone = folder / "tone.wav"
    run(Command.of(["-v", "error", "-f", "lavfi", "-i", "sine=d=4", tone]))
    made = encode_audio(
        tone, 0, folder / "a.mp4", first_video_pts=Fraction(0), duration=package.duration
    )
    assert made is not None
    package = replace(package, audio=segment_audio(made.read_bytes(), package.boundaries))
    written = write_package(package, folder / "out")
    for track in written.video:
        expected[track.name] = [
            replace(known, sha256=one.sha256)
            for known, one in zip(expected[track.name], track.segments, strict=True)
        ]
    return folder / "out", expected


@pytest.fixture
def copy(original: tuple[Path, Expected], tmp_path: Path) -> tuple[Path, Expected]:
    """The package to damage, and what is expected of it: without digests, which find anything."""
    directory = shutil.copytree(original[0], tmp_path / "copy")
    expected = {
        rung: [replace(one, sha256=None) for one in segments]
        for rung, segments in original[1].items()
    }
    return directory, expected


def test_the_original_verifies(original: tuple[Path, Expected]) -> None:
    directory, expected = original
    assert verify_package(directory, RATE, expected).frames == 75


def flip_a_picture(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for position in range(len(data) * 2 // 3, len(data) * 2 // 3 + 40):
        data[position] ^= 0x5A
    path.write_bytes(data)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def another_crf(path: Path) -> None:
    _, media, _ = encode(25, 60, 25, frame_rate=RATE, height=180, cut=40)
    path.write_bytes(media)


def another_shot(path: Path) -> None:
    shutil.copy(path.with_name("00000.m4s"), path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (flip_a_picture, "does not decode to what was measured"),
        (another_crf, "frame 25 does not decode to what was measured"),
        (cut_short, "bytes, .* are left"),
        (empty, "0 frames instead of 35"),
        (another_shot, "25 frames instead of 35"),
        (Path.unlink, "missing"),
    ],
)
def test_a_damaged_segment_is_named(
    damage: Callable[[Path], None], message: str, copy: tuple[Path, Expected]
) -> None:
    directory, expected = copy
    damage(directory / "video/v180/00001.m4s")
    with pytest.raises(VerificationFailed, match=message) as caught:
        verify_package(directory, RATE, expected)
    context = caught.value.context
    assert context["rung"] == "v180"
    assert context["segment"] == 1
    assert context["file"] == "video/v180/00001.m4s"
    assert "v180" in caught.value.message
    assert "00001.m4s" in caught.value.message
    if "frame" in context:
        assert 25 <= context["frame"] < 60


def test_the_frame_is_named(copy: tuple[Path, Expected]) -> None:
    directory, expected = copy
    known = expected["v90"][2]
    hashes = list(known.frame_hashes)
    hashes[7] = "0" * 32
    expected["v90"][2] = replace(known, frame_hashes=tuple(hashes))
    with pytest.raises(VerificationFailed, match=r"segment 2 .* frame 67 does not") as caught:
        verify_package(directory, RATE, expected)
    assert caught.value.context["frame"] == 67


def test_a_rung_that_does_not_decode_at_all_names_its_first_bad_segment(
    copy: tuple[Path, Expected],
) -> None:
    directory, expected = copy
    for number in range(3):
        path = directory / f"video/v90/{number:05d}.m4s"
        data = path.read_bytes()
        fragments = mp4.fragments((directory / "video/v90/init.mp4").read_bytes(), data)
        blank = bytearray(data)
        for fragment in fragments:
            begin = fragment.samples[0].offset
            blank[begin : fragment.end] = bytes(fragment.end - begin)
        path.write_bytes(blank)
    with pytest.raises(VerificationFailed, match="'v90', segment 0") as caught:
        verify_package(directory, RATE, expected)
    assert caught.value.context["segment"] == 0


def test_bytes_that_decode_alike_but_are_not_those_written(
    original: tuple[Path, Expected], tmp_path: Path
) -> None:
    directory = shutil.copytree(original[0], tmp_path / "copy")
    path = directory / "video/v90/00001.m4s"
    path.write_bytes(mp4.number_fragments(path.read_bytes(), 700))
    with pytest.raises(VerificationFailed, match="not those that were written"):
        verify_package(directory, RATE, original[1])


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("video/v90/media.m3u8", "#EXTINF:1.400000", "#EXTINF:1.360000", "HLS ends it at"),
        ("video/v90/media.m3u8", "#EXTINF:1.400000,\n00001.m4s\n", "", "2 segments instead of 3"),
        ("video/v90/media.m3u8", "#EXT-X-ENDLIST\n", "", "its end"),
        ("video/v90/media.m3u8", "00001.m4s", "../../../../secret", "is outside the package"),
        ("video/v180/media.m3u8", "DURATION:2", "DURATION:9", "BANDWIDTH|TARGETDURATION"),
        ("audio/media.m3u8", "DURATION:2", "DURATION:9", "BANDWIDTH|TARGETDURATION"),
        ("video/v90/iframes.m3u8", "BYTERANGE:", "BYTERANGE:1", "does not list the key frames"),
        ("manifest.mpd", 'd="35000"', 'd="34000"', "manifest.mpd has"),
        ("manifest.mpd", 'startNumber="0"', 'startNumber="1"', "manifest.mpd has"),
        ("manifest.mpd", 'startWithSAP="1"', 'startWithSAP="2"', "startWithSAP"),
        ("manifest.mpd", 'id="v180"', 'id="v181"', "has the rungs"),
        ("manifest.mpd", "</MPD>", "", "not XML"),
        ("master.m3u8", "RESOLUTION=160x90", "RESOLUTION=160x91", "says 160x91"),
        ("master.m3u8", "FRAME-RATE=25.000", "FRAME-RATE=24.000", "FRAME-RATE=24.000"),
        ("master.m3u8", "BANDWIDTH=", "BANDWIDTH=1", "its files have"),
        ("master.m3u8", "\nvideo/v90/media.m3u8", "", "a variant without a URI"),
    ],
)  # fmt: skip
def test_a_playlist_that_does_not_tell_the_truth(
    file: str, old: str, new: str, message: str, copy: tuple[Path, Expected]
) -> None:
    directory, expected = copy
    path = directory / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(VerificationFailed, match=message):
        verify_package(directory, RATE, expected)


def test_a_rung_that_is_missing(copy: tuple[Path, Expected]) -> None:
    directory, expected = copy
    expected["v360"] = expected["v90"]
    with pytest.raises(VerificationFailed, match=r"has the rungs \['v90', 'v180'\]"):
        verify_package(directory, RATE, expected)


@pytest.mark.parametrize("damage", [cut_short, Path.unlink, another_shot])
def test_damaged_sound_is_named(
    damage: Callable[[Path], None], copy: tuple[Path, Expected]
) -> None:
    directory, expected = copy
    damage(directory / "audio/00001.m4s")
    with pytest.raises(VerificationFailed, match=r"00001\.m4s") as caught:
        verify_package(directory, RATE, expected)
    assert caught.value.context["rung"] == "audio"


def test_frames_of_sound_that_are_shorter_than_stated_are_refused(
    copy: tuple[Path, Expected],
) -> None:
    """As where 12 s of AAC are squeezed into 6 s: the sum is right, the frames are not."""
    directory, expected = copy
    path = directory / "audio/00001.m4s"
    media = path.read_bytes()
    (fragment,) = mp4.fragments((directory / "audio/init.mp4").read_bytes(), media)
    samples = fragment.samples
    media = mp4.audio_fragment(
        2,
        samples[0].decode_time,
        [sample.size for sample in samples],
        [512, 1536, *(sample.duration for sample in samples[2:])],
        b"".join(media[sample.offset : sample.offset + sample.size] for sample in samples),
    )
    path.write_bytes(media)
    with pytest.raises(VerificationFailed, match="lasts 512 ticks instead of 1024"):
        verify_package(directory, RATE, expected)


def test_keyframes_at_different_times_are_refused(tmp_path: Path) -> None:
    """A cut with an IDR in one rung only: players that switch there would show garbage."""
    package, expected = title(((0, 24), (24, 48)), {90: (30, 30), 180: (30, 30)}, cut=35)
    plain = segment(24, 48, 30, height=180)
    rung = package.renditions[1]
    uneven = Rendition(rung.name, rung.init, (rung.segments[0], plain[1]))
    expected["v180"][1] = plain[2]
    write_package(replace(package, renditions=(package.renditions[0], uneven)), tmp_path)
    with pytest.raises(VerificationFailed, match=r"keyframes at different times, first at 1\.458"):
        verify_package(tmp_path, Fraction(24), expected)


def test_frame_hashes_are_of_pixels_and_in_order() -> None:
    _, _, hashes = encode(0, 8, 30)
    assert len(hashes) == 8
    assert len(set(hashes)) == 8
    assert all(len(digest) == 32 for digest in hashes)
    _, _, again = encode(0, 8, 31)
    assert not set(hashes) & set(again)


def test_a_frame_hash_listing_is_parsed_strictly() -> None:
    line = "0,          1,          1,        1,  3110400, 38716ed8cb8d2d7b90f0d717708be3f5\n"
    header = "#format: frame checksums\n#hash: murmur3\n\n"
    assert framehash.parse(header + line * 2) == ("38716ed8cb8d2d7b90f0d717708be3f5",) * 2
    assert framehash.parse(header.encode()) == ()
    for wrong in (line[:-5], "1" + line[1:], "0, 1, 2\n", line.replace("3110400", "1, 2")):
        with pytest.raises(FrameMismatch, match="line 5"):
            framehash.parse(header + line + wrong)
