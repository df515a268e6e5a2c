"""Sound in step with the picture: a beep and a flash at one instant of the source."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from encoder import mp4
from encoder.errors import ToolFailed
from encoder.ffmpeg import Command, run
from encoder.package.audio import encode_audio, segment_audio
from encoder.package.audio_commands import Part, Sound, audio_command
from encoder.package.write import write_package
from tests.package_media import RATE, onset, samples, title

SECONDS = Fraction(3)
EVENT = Fraction(1)
"""Seconds after the first video frame at which the picture flashes and the beep begins."""

# Source timestamps of the first video frame and of the first audio sample, container, codec.
SOURCES = {
    "together": (0.0, 0.0, "mkv", "flac"),
    "sound-later": (0.0, 0.4, "mkv", "flac"),
    "sound-earlier": (0.48, 0.0, "mkv", "flac"),
    "aac-in-mp4": (0.0, 0.0, "mp4", "aac"),
    "aac-in-mp4-later": (0.0, 0.25, "mp4", "aac"),
    "transport-stream": (0.0, 0.1, "ts", "aac"),
}


def make_source(path: Path, video_start: float, audio_start: float, codec: str) -> None:
    """White at EVENT after the first frame, 1 kHz from the same instant on, for 0.2 s each."""
    flash = f"between(t,{float(EVENT)},{float(EVENT) + 0.2})"
    beep = video_start + float(EVENT) - audio_start
    graph = (
        f"color=black:size=64x64:rate=25:duration=3,"
        f"drawbox=color=white:t=fill:enable='{flash}',setpts=PTS+{video_start}/TB[v];"
        f"aevalsrc='0.5*sin(2*PI*1000*(t-{beep}))*between(t,{beep},{beep + 0.2})':s=44100:d=4,"
        f"asetpts=PTS+{audio_start}/TB[a]"
    )
    run(
        Command.of(
            [
                *("-v", "error", "-filter_complex", graph, "-map", "[v]", "-map", "[a]"),
                *("-c:v", "libx264", "-preset", "ultrafast", "-c:a", codec, "-b:a", "192k"),
                *("-copyts", path),
            ]
        )
    )


def flash_and_first(path: Path) -> tuple[Fraction, Fraction]:
    """Source time of the first white frame and of the first frame."""
    first: Fraction | None = None
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            assert frame.pts is not None
            assert frame.time_base is not None
            time = frame.pts * frame.time_base
            first = time if first is None else first
            if frame.to_ndarray(format="gray").mean() > 128:
                return time, first
    raise AssertionError("no flash")


@pytest.mark.parametrize("name", SOURCES)
def test_beep_and_flash_stay_together(name: str, tmp_path: Path) -> None:
    video_start, audio_start, container, codec = SOURCES[name]
    source = tmp_path / f"source.{container}"
    make_source(source, video_start, audio_start, codec)
    flash, first = flash_and_first(source)
    assert flash - first == pytest.approx(float(EVENT), abs=0.002)  # the source is as meant
    made = encode_audio(source, 1, tmp_path / "a.mp4", first_video_pts=first, duration=SECONDS)
    assert made is not None
    package, _ = title(((0, 36), (36, 72)), {90: (30, 30)}, frame_rate=Fraction(24))
    track = segment_audio(made.read_bytes(), package.boundaries)
    write_package(replace(package, audio=track), tmp_path / "out")
    for entry in ("audio/media.m3u8", "master.m3u8", "manifest.mpd"):
        sound = samples(tmp_path / "out" / entry, "-map", "0:a:0")
        assert onset(sound) == pytest.approx(float(EVENT), abs=0.005)
        # The title's length, and what fills the last AAC frame. ffmpeg's DASH demuxer (alone)
        # applies the edit list anew in every segment and so mutes its first AAC frame.
        muted = 1024 * (len(track.segments) - 1) if entry == "manifest.mpd" else 0
        assert len(sound) + muted >= SECONDS * RATE
        assert len(sound) - SECONDS * RATE < 1024
        assert np.abs(sound[: int(0.95 * RATE)]).max() < 0.01  # padded with silence, not noise


def test_without_its_edit_list_sound_would_be_late(tmp_path: Path) -> None:
    """The reason for the edit list; should this ever fail, the encoder has changed."""
    source = tmp_path / "source.mkv"
    make_source(source, 0.0, 0.0, "flac")
    made = encode_audio(
        source, 1, tmp_path / "a.mp4", first_video_pts=Fraction(0), duration=SECONDS
    )
    assert made is not None
    data = made.read_bytes()
    assert mp4.edit_media_time(mp4.split_fragmented(data)[0]) == 1024
    (tmp_path / "plain.mp4").write_bytes(data.replace(b"edts", b"free"))
    late = onset(samples(tmp_path / "plain.mp4")) - onset(samples(made))
    assert late == pytest.approx(1024 / RATE, abs=0.001)


def test_a_hole_in_the_sound_is_filled(tmp_path: Path) -> None:
    source = tmp_path / "source.mkv"
    graph = "sine=f=1000:d=3,aselect='not(between(t,0.5,1.5))'"
    run(Command.of(["-v", "error", "-f", "lavfi", "-i", graph, "-c:a", "pcm_s16le", source]))
    made = encode_audio(
        source, 0, tmp_path / "a.mp4", first_video_pts=Fraction(0), duration=SECONDS
    )
    assert made is not None
    sound = np.abs(samples(made))
    assert sound[int(0.6 * RATE) : int(1.4 * RATE)].max() < 0.01
    assert sound[int(1.6 * RATE) : int(2.9 * RATE)].max() > 0.05


@pytest.mark.parametrize(
    ("make", "index"),
    [
        (("-f", "lavfi", "-i", "anullsrc=d=1"), 0),
        (("-f", "lavfi", "-i", "color=size=64x64:d=1", "-c:v", "libx264"), None),
    ],
    ids=["silence", "no audio"],
)
def test_nothing_to_hear_is_none(make: tuple[str, ...], index: int | None, tmp_path: Path) -> None:
    source = tmp_path / "source.mkv"
    run(Command.of(["-v", "error", *make, source]))
    out = tmp_path / "a.mp4"
    found = encode_audio(source, index, out, first_video_pts=Fraction(0), duration=Fraction(1))
    assert found is None
    assert not out.exists()


@pytest.mark.parametrize("stored", ["s16", "s32", "fltp"])
@pytest.mark.parametrize(("layout", "gain"), [("mono", 1), ("stereo", 1), ("5.1", 0.7071)])
def test_sound_is_mixed_to_stereo_at_one_level(
    layout: str, gain: float, stored: str, tmp_path: Path
) -> None:
    """A tone in the middle: of one, two or six channels, stored in whatever format."""
    source = tmp_path / "source.mkv"
    tone = "0.5*sin(2*PI*500*t)"
    channels = {"mono": tone, "stereo": f"{tone}|{tone}", "5.1": f"0|0|{tone}|0|0|0"}[layout]
    codec = {"s16": "pcm_s16le", "s32": "pcm_s32le", "fltp": "pcm_f32le"}[stored]
    graph = f"aevalsrc='{channels}':c={layout}:s=48000:d=1"
    run(Command.of(["-v", "error", "-f", "lavfi", "-i", graph, "-c:a", codec, source]))
    made = encode_audio(
        source,
        0,
        tmp_path / "a.mp4",
        first_video_pts=Fraction(0),
        duration=Fraction(1),
        channels=channels.count("|") + 1,
    )
    assert made is not None
    found = mp4.audio_configuration(mp4.split_fragmented(made.read_bytes())[0])
    assert (found.channels, found.sample_rate, found.codecs) == (2, 48000, "mp4a.40.2")
    middle = samples(made)[RATE // 4 : RATE * 3 // 4]
    assert np.abs(middle).max() == pytest.approx(0.5 * gain, rel=0.05)


def test_a_stream_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    source = tmp_path / "source.wav"
    run(Command.of(["-v", "error", "-f", "lavfi", "-i", "sine=d=1", source]))
    out = tmp_path / "a.mp4"
    with pytest.raises(ToolFailed):
        encode_audio(source, 7, out, first_video_pts=Fraction(0), duration=Fraction(1))


def test_a_playlist_in_disguise_is_not_opened(tmp_path: Path) -> None:
    secret = tmp_path / "secret.wav"
    run(Command.of(["-v", "error", "-f", "lavfi", "-i", "sine=d=1", secret]))
    source = tmp_path / "source.mp4"
    source.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n")
    out = tmp_path / "a.mp4"
    with pytest.raises(ToolFailed):
        encode_audio(source, 0, out, first_video_pts=Fraction(0), duration=Fraction(1))


def test_boundaries_closer_than_an_audio_frame_share_a_segment(tmp_path: Path) -> None:
    source = tmp_path / "source.wav"
    run(Command.of(["-v", "error", "-f", "lavfi", "-i", "sine=d=2", source]))
    made = encode_audio(
        source, 0, tmp_path / "a.mp4", first_video_pts=Fraction(0), duration=Fraction(2)
    )
    assert made is not None
    data = made.read_bytes()
    boundaries = [Fraction(1, 1000), Fraction(1), Fraction(1001, 1000), Fraction(2)]
    track = segment_audio(data, boundaries, 'de"x')
    assert [one.start for one in track.segments] == [0, Fraction(47 * 1024, RATE)]
    assert sum(one.duration for one in track.segments) == 2
    assert track.language is None  # not a language tag, and not to be written into a playlist
    # Cut apart and put together again, it is the sound that was encoded.
    init, media = mp4.split_fragmented(data)
    payload = b"".join(media[s.offset :][: s.size] for s in mp4.sample_table(init, media))
    joined = b"".join(
        one.media[s.offset :][: s.size]
        for one in track.segments
        for s in mp4.sample_table(track.init, one.media)
    )
    assert joined == payload


def test_the_call_is_a_value() -> None:
    command = audio_command(
        Sound((Part(Path("in.ts"), 2),)), Path("out.mp4"),
        first_video_pts=Fraction(126000, 90000), duration=Fraction(1001, 24),
    )  # fmt: skip
    shell = command.shell()
    assert "asetpts=PTS-(7/5)/TB," in shell
    assert "aresample=48000:async=1:first_pts=0:osf=fltp:ochl=stereo" in shell
    assert "atrim=end_sample=2002000" in shell
    assert "-protocol_whitelist file,pipe" in shell
    assert shell.index("-format_whitelist") < shell.index("-i in.ts")
