"""The package as players read it: by our own reader, `m3u8`, `mpegdash` and ffmpeg's demuxers."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import m3u8
import pytest
from mpegdash.parser import MPEGDASHParser

from encoder import framehash, mp4
from encoder.errors import OutputUnwritable, StoreUnusable
from encoder.ffmpeg import Command, run
from encoder.package.audio import encode_audio, segment_audio
from encoder.package.layout import TitlePackage, WrittenPackage
from encoder.package.verify import ExpectedSegment, decode_command, verify_package
from encoder.package.write import write_package
from tests.package_media import decode, encode, title

SHOTS = ((0, 24), (24, 60), (60, 72))
CUT = 45
CRFS = {90: (20, 45, 30), 180: (40, 20, 33)}
RATE = Fraction(24000, 1001)


@dataclass(frozen=True)
class Built:
    package: TitlePackage
    expected: dict[str, list[ExpectedSegment]]
    written: WrittenPackage
    directory: Path

    def hashes(self, rung: str) -> tuple[str, ...]:
        return tuple(digest for one in self.expected[rung] for digest in one.frame_hashes)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("package")
    package, expected = title(SHOTS, CRFS, frame_rate=RATE, cut=CUT)
    tone = folder / "tone.wav"
    run(Command.of(["-v", "error", "-f", "lavfi", "-i", "sine=d=4:r=44100", tone]))
    made = encode_audio(
        tone, 0, folder / "a.mp4", first_video_pts=Fraction(0), duration=package.duration
    )
    assert made is not None
    audio = segment_audio(made.read_bytes(), package.boundaries, "eng")
    package = replace(package, audio=audio)
    written = write_package(package, folder / "out")
    return Built(package, expected, written, folder / "out")


def test_the_package_verifies(built: Built) -> None:
    report = verify_package(built.directory, RATE, built.expected)
    assert (report.rungs, report.frames, report.segments) == (("v90", "v180"), 72, 3)
    assert 0 < report.cpu_seconds < 5


@pytest.mark.parametrize(
    "rate",
    ["24", "25", "30", "60", "25/2", "24000/1001", "30000/1001", "60000/1001"],
)
def test_three_crfs_under_one_init_decode_as_they_did_alone(rate: str, tmp_path: Path) -> None:
    shots = ((0, 9), (9, 21), (21, 30), (30, 42), (42, 50))
    package, expected = title(shots, {90: (15, 30, 48, 15, 48)}, frame_rate=Fraction(rate))
    written = write_package(package, tmp_path)
    report = verify_package(tmp_path, Fraction(rate), expected)  # every time exact, every frame
    assert report.frames == 50
    assert written.video[0].duration == 50 / Fraction(rate)


@pytest.mark.parametrize(
    ("codec", "codecs"),
    [("libx265", "hvc1.1.6.L"), ("libsvtav1", "av01.0.00M.08"), ("libvpx-vp9", "vp09.00.10.08")],
)
def test_other_codecs_package_and_verify_alike(codec: str, codecs: str, tmp_path: Path) -> None:
    shots = ((0, 10), (10, 20))
    package, expected = title(shots, {90: (25, 45), 180: (25, 45)}, codec=codec)
    written = write_package(package, tmp_path)
    assert written.video[0].codecs.startswith(codecs)
    assert verify_package(tmp_path, Fraction(24), expected).frames == 20


def test_the_joined_decode_is_byte_identical(built: Built, tmp_path: Path) -> None:
    """Not by hashes this time: raw pictures of the rung against those of its encodes."""

    def pictures(data: bytes) -> bytes:
        command = Command.of(
            ["-v", "error", "-f", "mp4", "-i", "pipe:0", "-fps_mode", "passthrough",
             "-f", "rawvideo", "pipe:1"]
        )  # fmt: skip
        return run(command, stdin=[data]).stdout

    track = built.written.video[0]
    files = [track.init_uri, *(segment.uri for segment in track.segments)]
    joined = pictures(b"".join((built.directory / name).read_bytes() for name in files))
    alone = []
    for (start, end), crf in zip(SHOTS, CRFS[90], strict=True):
        cut = CUT if start < CUT < end else None
        init, media, _ = encode(start, end, crf, frame_rate=RATE, height=90, cut=cut)
        alone.append(pictures(init + media))
    assert len(joined) == 72 * 160 * 90 * 3 // 2
    assert joined == b"".join(alone)


def test_sizes_and_digests_are_those_of_the_files(built: Built) -> None:
    tracks = [*built.written.video, built.written.audio]
    for track in tracks:
        assert track is not None
        init = (built.directory / track.init_uri).read_bytes()
        assert (len(init), hashlib.sha256(init).hexdigest()) == (
            track.init_size,
            track.init_sha256,
        )
        for segment in track.segments:
            data = (built.directory / segment.uri).read_bytes()
            digest = hashlib.sha256(data).hexdigest()
            assert (len(data), digest) == (segment.size, segment.sha256)


def test_fragments_are_numbered_through_a_rung(built: Built) -> None:
    for track in built.written.video:
        numbers = []
        for segment in track.segments:
            data = (built.directory / segment.uri).read_bytes()
            for box in mp4.walk(data):
                if box.kind == "moof":
                    mfhd = mp4.find(data, "mfhd", box.body, box.end)
                    numbers.append(int.from_bytes(data[mfhd.body + 4 : mfhd.end], "big"))
        assert numbers == [1, 2, 3, 4]  # one shot has a cut inside


def test_writing_again_gives_the_same_bytes(built: Built, tmp_path: Path) -> None:
    again = write_package(built.package, tmp_path)
    assert again == built.written

    def contents(folder: Path) -> dict[str, bytes]:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}

    assert contents(tmp_path) == contents(built.directory)


def test_encoding_sound_again_gives_the_same_bytes(tmp_path: Path) -> None:
    tone = tmp_path / "tone.wav"
    run(Command.of(["-v", "error", "-f", "lavfi", "-i", "sine=d=1", tone]))
    times = {"first_video_pts": Fraction(0), "duration": Fraction(1)}
    made = [encode_audio(tone, 0, tmp_path / name, **times) for name in ("1.mp4", "2.mp4")]
    assert made[0] is not None
    assert made[1] is not None
    assert made[0].read_bytes() == made[1].read_bytes()


def test_hls_by_the_m3u8_package(built: Built) -> None:
    master = m3u8.load(str(built.directory / "master.m3u8"))
    assert master.version == 7
    assert master.is_independent_segments
    assert len(master.playlists) == len(master.iframe_playlists) == 2
    targets = set()
    audio = built.written.audio
    assert audio is not None
    for variant, track in zip(master.playlists, built.written.video, strict=True):
        info = variant.stream_info
        assert info.codecs == f"{track.codecs},mp4a.40.2"
        assert info.resolution == (track.width, track.height)
        assert info.frame_rate == pytest.approx(23.976)
        files = [built.directory / segment.uri for segment in track.segments]
        bits = 8 * sum(path.stat().st_size for path in files)
        sound = 8 * sum((built.directory / s.uri).stat().st_size for s in audio.segments)
        seconds = 72 / RATE
        assert info.average_bandwidth == math.ceil(bits / seconds + sound / audio.duration)
        assert info.bandwidth >= info.average_bandwidth
        playlist = m3u8.load(str(built.directory / variant.uri))
        assert playlist.playlist_type == "vod"
        assert playlist.is_endlist
        assert playlist.is_independent_segments
        assert playlist.segment_map[0].uri == "init.mp4"
        assert [segment.uri for segment in playlist.segments] == [path.name for path in files]
        exact = [float((end - start) / RATE) for start, end in SHOTS]
        announced = [segment.duration for segment in playlist.segments]
        assert announced == pytest.approx(exact, abs=1.1e-6)
        assert sum(announced) == pytest.approx(float(seconds), abs=1.1e-6)
        targets.add(playlist.target_duration)
    for variant in master.iframe_playlists:
        playlist = m3u8.load(str(built.directory / variant.uri))
        assert playlist.is_i_frames_only
        assert len(playlist.segments) == 4
        targets.add(playlist.target_duration)
    (rendition,) = master.media
    assert (rendition.type, rendition.language, rendition.channels) == ("AUDIO", "en", "2")
    playlist = m3u8.load(str(built.directory / rendition.uri))
    targets.add(playlist.target_duration)
    assert targets == {2}  # the longest shot has 36 frames


def test_key_frames_show_by_their_byte_ranges_alone(built: Built) -> None:
    """Each range of the trick-play playlist, after the init, decodes to its shot's first frame."""
    folder = built.directory / "video" / "v180"
    playlist = m3u8.load(str(folder / "iframes.m3u8"))
    init = (folder / "init.mp4").read_bytes()
    got = []
    for segment in playlist.segments:
        length, offset = map(int, segment.byterange.split("@"))
        data = (folder / segment.uri).read_bytes()[offset : offset + length]
        done = run(decode_command(), stdin=[init, data])
        got.append(framehash.parse(done.stdout)[0])
    assert got == [built.hashes("v180")[frame] for frame in (0, 24, CUT, 60)]
    starts = [0.0]
    for segment in playlist.segments:
        starts.append(starts[-1] + segment.duration)
    wanted = [float(frame / RATE) for frame in (0, 24, CUT, 60, 72)]
    assert starts == pytest.approx(wanted, abs=2e-6)


def test_dash_by_the_mpegdash_package(built: Built) -> None:
    mpd = MPEGDASHParser.parse(str(built.directory / "manifest.mpd"))
    assert mpd.type == "static"
    assert mpd.min_buffer_time == "PT2S"
    video, audio = mpd.periods[0].adaptation_sets
    assert [str(one.start_with_sap) for one in (video, audio)] == ["1", "1"]
    template = video.segment_templates[0]
    assert template.timescale == 24000
    times = template.segment_timelines[0].Ss
    assert [s.d for s in times] == [24 * 1001, 36 * 1001, 12 * 1001]
    assert [one.id for one in video.representations] == ["v90", "v180"]
    for one, track in zip(video.representations, built.written.video, strict=True):
        assert (one.width, one.height, one.codecs) == (track.width, track.height, track.codecs)
        assert one.bandwidth >= track.average_bitrate
    assert audio.segment_templates[0].timescale == 48000
    written = built.written.audio
    assert written is not None
    total = sum(s.d * ((s.r or 0) + 1) for s in audio.segment_templates[0].segment_timelines[0].Ss)
    assert total == written.duration * 48000
    assert abs(written.duration - 72 / RATE) < Fraction(1, 48000)


@pytest.mark.parametrize("entry", ["master.m3u8", "manifest.mpd"])
def test_ffmpeg_plays_every_rung_through_both_manifests(built: Built, entry: str) -> None:
    for number, rung in enumerate(built.expected):
        played = decode(built.directory / entry, "-map", f"0:v:{number}")
        assert played == built.hashes(rung)


def test_sound_ends_at_the_audio_frame_nearest_each_boundary(built: Built) -> None:
    assert built.package.audio is not None
    ends = [one.start + one.duration for one in built.package.audio.segments]
    for end, boundary in zip(ends, built.package.boundaries, strict=True):
        assert abs(end - boundary) <= Fraction(512, 48000)


def test_one_init_is_never_shared_by_different_configurations(tmp_path: Path) -> None:
    package, _ = title(((0, 8), (8, 16)), {90: (20, 30)})
    rung = package.renditions[0]
    other = mp4.codec_configuration(encode(8, 16, 30, stitchable=0)[0]).sha256
    segments = (rung.segments[0], replace(rung.segments[1], configuration=other))
    broken = replace(package, renditions=(replace(rung, segments=segments),))
    with pytest.raises(ValueError, match=r"segment 1 of rung 'v90' .* codec configuration"):
        write_package(broken, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"start": 8}, ValueError, "decoded at tick"),
        ({"sha256": "0" * 64}, StoreUnusable, "not the"),
        ({"media": Path("gone.m4s")}, StoreUnusable, "cannot be read"),
    ],
)
def test_an_encode_that_is_not_what_it_says_is_refused(
    change: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    package, _ = title(((0, 8), (8, 16)), {90: (20, 30)})
    rung = package.renditions[0]
    first, second = rung.segments
    if "start" in change:  # the other shot's bytes
        second = replace(first, start_frame=8, end_frame=16)
    else:
        second = replace(second, **change)
    broken = replace(package, renditions=(replace(rung, segments=(first, second)),))
    with pytest.raises(error, match=message):
        write_package(broken, tmp_path)


def test_a_folder_with_a_package_is_not_written_into(built: Built) -> None:
    with pytest.raises(OutputUnwritable, match="holds a package already"):
        write_package(built.package, built.directory)
    verify_package(built.directory, RATE, built.expected)
