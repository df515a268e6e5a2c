from __future__ import annotations

import os
import pickle
from fractions import Fraction
from pathlib import Path

import pytest

from encoder.errors import SourceUnusable
from encoder.ffmpeg import Command, run
from encoder.source.probing.geometry import orientation_filters, square_pixels
from encoder.source.probing.probe import probe


def ffmpeg(*arguments: str | Path) -> None:
    run(Command.of(["-v", "error", "-y", *arguments]), timeout_seconds=60)


def test_a_plain_title(tiny_title: Path):
    info = probe(tiny_title)
    assert (info.codec, info.width, info.height) == ("h264", 192, 108)
    assert (info.display_width, info.display_height) == (192, 108)
    assert (info.pix_fmt, info.bit_depth, info.chroma) == ("yuv420p", 8, "420")
    assert info.container == "mov,mp4,m4a,3gp,3g2,mj2"
    assert info.base_rate_from_header == 24
    assert info.frames_from_header == 72
    assert not info.interlaced
    assert info.hdr is None
    assert info.orientation == ()
    (audio,) = info.audio
    assert (audio.codec, audio.channels, audio.sample_rate) == ("aac", 2, 48000)
    assert audio.start_seconds == 0
    assert pickle.loads(pickle.dumps(info)) == info


@pytest.mark.parametrize(
    ("file", "facts"),
    [
        ("upright.mp4", {"orientation": ("transpose=cclock",), "width": 160, "display_width": 96}),
        ("anamorphic.mp4", {"sample_aspect": Fraction(64, 45), "display_width": 228}),
        ("interlaced.mp4", {"interlaced": True, "field_order": "tt"}),
        ("interlaced.ts", {"interlaced": True, "field_order": "bb"}),
        ("odd.mkv", {"rgb": True, "width": 161, "display_width": 160, "display_height": 96}),
        ("deep.mkv", {"bit_depth": 10, "chroma": "422", "color_range": "full"}),
        ("raw.264", {"rate_from_bitstream": Fraction(24000, 1001), "container": "h264"}),
    ],
)
def test_awkward_sources(awkward_clip, file, facts):
    info = probe(awkward_clip(file))
    assert {name: getattr(info, name) for name in facts} == facts


@pytest.mark.parametrize(
    ("transfer", "hdr"), [("smpte2084", "pq"), ("arib-std-b67", "hlg"), ("bt709", None)]
)
def test_high_dynamic_range_is_detected(tmp_path: Path, transfer, hdr):
    clip = tmp_path / "hdr.mkv"
    tags = ["-color_primaries", "bt2020", "-color_trc", transfer, "-colorspace", "bt2020nc"]
    params = f"setparams=color_primaries=bt2020:color_trc={transfer}:colorspace=bt2020nc"
    ffmpeg(
        *["-f", "lavfi", "-i", "testsrc2=size=64x48:duration=0.2", "-vf", params],
        *["-pix_fmt", "yuv420p10le", "-c:v", "ffv1", *tags, clip],
    )
    info = probe(clip)
    assert info.hdr == hdr
    assert (info.color_primaries, info.color_transfer, info.color_matrix) == (
        "bt2020",
        transfer,
        "bt2020nc",
    )


def test_a_cover_picture_is_not_the_video(tmp_path: Path, tiny_title: Path):
    cover, clip = tmp_path / "cover.png", tmp_path / "covered.mp4"
    ffmpeg("-f", "lavfi", "-i", "color=red:size=64x64", "-frames:v", "1", cover)
    ffmpeg(
        *["-i", cover, "-i", tiny_title, "-map", "0:v", "-map", "1:v", "-c", "copy"],
        *["-disposition:v:0", "attached_pic", clip],
    )
    info = probe(clip)
    assert info.codec == "h264"
    assert info.width == 192


def audio_only(folder: Path) -> Path:
    ffmpeg("-f", "lavfi", "-i", "sine=duration=0.2", folder / "sound.m4a")
    return folder / "sound.m4a"


def cover_only(folder: Path) -> Path:
    ffmpeg("-f", "lavfi", "-i", "color=red:size=64x64", "-frames:v", "1", folder / "cover.png")
    ffmpeg(
        *["-f", "lavfi", "-i", "sine=duration=0.2", "-i", folder / "cover.png"],
        *["-map", "0", "-map", "1", "-c:v", "copy", "-disposition:v:0", "attached_pic"],
        folder / "song.mp3",
    )
    return folder / "song.mp3"


def written(name: str, content: bytes):
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return write


def playlist_in_disguise(folder: Path) -> Path:
    secret = folder / "secret.ts"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=64x48:duration=0.2", "-c:v", "mpeg2video", secret)
    text = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{secret}\n#EXT-X-ENDLIST\n"
    return written("clip.mp4", text.encode())(folder)


def concat_in_disguise(folder: Path) -> Path:
    ffmpeg("-f", "lavfi", "-i", "testsrc2=size=64x48:duration=0.2", folder / "secret.mp4")
    return written("clip.mp4", b"ffconcat version 1.0\nfile secret.mp4\n")(folder)


def headers_only(folder: Path) -> Path:
    ffmpeg(
        *["-f", "lavfi", "-i", "testsrc2=size=64x48:duration=0.2", "-c:v", "libx264"],
        *["-movflags", "+faststart", folder / "whole.mp4"],
    )
    whole = (folder / "whole.mp4").read_bytes()
    return written("headers.mp4", whole[: whole.index(b"mdat") + 4])(folder)


def unreadable(folder: Path) -> Path:
    path = written("locked.mp4", b"x")(folder)
    path.chmod(0)
    return path


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda folder: folder / "none.mp4", "no such file"),
        (lambda folder: folder, "it is a directory"),
        (lambda folder: Path("/dev/null"), "not a regular file"),
        (written("empty.mp4", b""), "the file is empty"),
        (written("text.mp4", b"not a film\n" * 100), "not a supported kind of video"),
        (playlist_in_disguise, "not a supported kind of video"),
        (concat_in_disguise, "not a supported kind of video"),
        (audio_only, "no video stream (it has: audio)"),
        (cover_only, "no video stream"),
        (headers_only, "no picture could be decoded"),
    ],
)
def test_bad_sources_are_one_clear_line(tmp_path: Path, build, said):
    path = build(tmp_path)
    with pytest.raises(SourceUnusable) as caught:
        probe(path)
    assert said in caught.value.message
    assert path.name in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_source_without_permission(tmp_path: Path):
    with pytest.raises(SourceUnusable, match="permission"):
        probe(unreadable(tmp_path))


def test_an_unknown_codec_names_itself(tmp_path: Path, tiny_title: Path):
    strange = tmp_path / "strange.mp4"
    strange.write_bytes(tiny_title.read_bytes().replace(b"avc1", b"zzz1"))
    with pytest.raises(SourceUnusable, match="no decoder"):
        probe(strange)


@pytest.mark.parametrize(
    ("matrix", "filters"),
    [
        ((65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30), ()),
        ((0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30), ("transpose=clock",)),
        ((0, -65536, 0, 65536, 0, 0, 0, 0, 1 << 30), ("transpose=cclock",)),
        ((-65536, 0, 0, 0, -65536, 0, 0, 0, 1 << 30), ("hflip", "vflip")),
        ((65536, 0, 0, 0, -65536, 0, 0, 0, 1 << 30), ("vflip",)),
        ((0, -65536, 0, -65536, 0, 0, 0, 0, 1 << 30), ("transpose=clock_flip",)),
        ((0, 65536, 0, 65536, 0, 0, 0, 0, 1 << 30), ("transpose=cclock_flip",)),
    ],
)
def test_orientation(matrix, filters):
    assert orientation_filters(matrix) == filters


@pytest.mark.parametrize(
    ("stored", "aspect", "square"),
    [
        ((720, 576), Fraction(64, 45), (1024, 576)),
        ((720, 480), Fraction(8, 9), (720, 540)),
        ((800, 332), Fraction(399, 400), (800, 332)),
        ((1268, 961), Fraction(1), (1268, 961)),
    ],
)
def test_square_pixels_lose_no_resolution(stored, aspect, square):
    assert square_pixels(*stored, aspect) == square
