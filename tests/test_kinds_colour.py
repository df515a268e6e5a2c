"""Sources whose colours users report as wrong: Dolby Vision, monochrome, colours without tags."""

from __future__ import annotations

import random
from pathlib import Path

import av
import numpy as np
import pytest

from cluster.jobs.source_findings import describe_source
from encoder import mp4
from encoder.analysis.frames import small_frames
from encoder.errors import SourceUnusable
from encoder.mp4 import Colour
from encoder.package.layout import VIDEO_BRAND
from encoder.source.coded.h264 import units
from encoder.source.colour.codes import coded, completed
from encoder.source.colour.dolby_vision import DolbyVision, guessed, printed_record
from encoder.source.planning import plan_source
from fixtures.kinds import Truth, colour, ff
from tests.colour_material import rung
from tests.reading_material import luma


@pytest.fixture
def chance() -> random.Random:
    return random.Random(0)


# -- Dolby Vision ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("record.mkv", colour.make_dolby_vision_record),
        ("record.ts", colour.make_dolby_vision_record),
        ("units.hevc", colour.make_dolby_vision_units),
        ("units.ts", colour.make_dolby_vision_units),
    ],
)
def test_profile_5_is_refused_wherever_it_is_stated(name, make, tmp_path: Path, chance):
    truth: Truth = make(tmp_path / name, chance)
    with pytest.raises(SourceUnusable, match=truth.refused):
        plan_source(tmp_path / name, tmp_path)


def test_a_viewable_base_layer_outside_mp4_is_taken_and_said(tmp_path: Path, chance):
    path = tmp_path / "base.mkv"
    truth = colour.make_dolby_vision_over_base(path, chance)
    source = plan_source(path, tmp_path)
    assert source.frames == truth.frames
    assert source.info.dolby_vision == DolbyVision(8, 2)
    (said,) = [f for f in describe_source(source, path) if f.topic == "Dolby Vision"]
    assert said.found == "profile 8 over a complete base layer"
    assert said.state == "warn"


def test_the_record_that_ffmpeg_prints_is_read():
    printed = (
        "      DOVI configuration record: version: 1.0, profile: {}, level: 6, rpu flag: 1, "
        "el flag: 0, bl flag: 1, compatibility id: {}, compression: 0\n"
    )
    assert printed_record("Stream #0:0: Video: hevc\n") is None
    # Only the end of the output is kept: the last record is that of the mapped stream.
    both = printed.format(8, 1) + printed.format(5, 0)
    assert printed_record(both) == DolbyVision(5, 0)


@pytest.mark.parametrize(
    ("header", "codec", "transfer", "expected"),
    [
        ((0, 1, 12, 0, 1), "hevc", None, DolbyVision(5, 0)),
        ((0, 1, 12, 0, 1), "av1", None, DolbyVision(10, 0)),
        ((0, 0, 12, 0, 1), "hevc", None, None),
        ((1, 0, 12, 0, 1), "hevc", "smpte2084", DolbyVision(8, 1)),
        ((1, 0, 12, 0, 1), "hevc", "arib-std-b67", DolbyVision(8, 4)),
        ((1, 0, 12, 0, 1), "av1", "bt709", DolbyVision(10, 2)),
        ((1, 0, 12, 1, 0), "hevc", "smpte2084", DolbyVision(7, 6)),
        ((1, 0, 14, 1, 0), "hevc", "smpte2084", DolbyVision(4, 2)),
    ],
)
def test_coded_pictures_imply_a_profile(header, codec, transfer, expected):
    profile, full, depth, resampled, no_residual = header
    rpu = bytes([2, 0, 18, 0, profile, 1, 0, 0, 23, 1, full, 10, 10, depth, 0, resampled])
    assert (
        guessed(
            (48).to_bytes(8, "little") + bytes(40) + rpu + bytes([no_residual, 0]), codec, transfer
        )
        == expected
    )


# -- monochrome --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("make", [colour.make_limited_grey, colour.make_full_grey])
def test_grey_keeps_its_black_and_white(make, seed: int, tmp_path: Path):
    path = tmp_path / "grey.mkv"
    truth: Truth = make(path, random.Random(seed))
    source = plan_source(path, tmp_path)
    assert source.frames == truth.frames
    deep = source.pix_fmt == "yuv420p10le"
    row = luma(source, 0)[source.height // 2]
    ends = np.array([row[: source.width // 8].mean(), row[-source.width // 8 :].mean()])
    np.testing.assert_allclose(ends / (4 if deep else 1), [16, 235], atol=1.5)
    first = next(small_frames(source))
    middle = first.luma[first.luma.shape[0] // 2]
    np.testing.assert_allclose([middle[2], middle[-3]], [16, 235], atol=2)


# -- colours without tags ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stated", "height", "expected"),
    [
        ((None, None, None), 720, (1, 1, 1)),
        ((None, None, None), 719, (6, 6, 6)),
        ((None, None, None), 576, (5, 6, 5)),
        ((None, None, None), 480, (6, 6, 6)),
        ((None, None, "bt709"), 360, (1, 1, 1)),
        (("bt709", None, None), 360, (1, 1, 1)),
        (("bt470bg", None, None), 1080, (5, 6, 5)),
        ((None, "iec61966-2-1", None), 1080, (1, 13, 1)),
        ((None, None, "smpte170m"), 1080, (6, 6, 6)),
        (("smpte170m", "bt709", "bt470bg"), 360, (6, 1, 5)),
        (("bt2020", None, None), 2160, (9, 14, 9)),
        ((None, None, "gbr"), 1080, (1, 1, 1)),
    ],
)
def test_unstated_colours_are_those_that_players_take(stated, height: int, expected):
    found = coded(*completed(*stated, height))
    assert found == Colour(*expected, full=False)


def _stated(path: Path) -> tuple[set[tuple[int, int, int]], Colour | None]:
    """Primaries, transfer and matrix of decoded pictures, and those of the container."""
    with av.open(str(path)) as container:
        pictures = list(container.decode(video=0))
    init, _ = mp4.split_fragmented(path.read_bytes())
    stated = {(int(p.color_primaries), int(p.color_trc), int(p.colorspace)) for p in pictures}
    return stated, mp4.codec_configuration(init).colour


@pytest.mark.parametrize("codec", ["x264", "x265", "svtav1", "vp9"])
def test_every_rung_states_the_colours_of_the_source(codec: str, tmp_path: Path):
    path = tmp_path / "clip.mp4"
    graph = f"testsrc2=size=1280x720:rate=25,format=yuv420p,{colour.UNTAGGED}"
    ff("-f", "lavfi", "-i", graph, "-frames:v", 3, "-c:v", "ffv1", path.with_suffix(".mkv"))
    source = plan_source(path.with_suffix(".mkv"), tmp_path)
    for size in ((1280, 720), (320, 180)):
        whole = rung(source, codec, size, tmp_path)
        assert _stated(whole) == ({(1, 1, 1)}, Colour(1, 1, 1, full=False))


def test_a_matrix_alone_decides_the_rest(tmp_path: Path):
    path = tmp_path / "clip.mp4"
    colour.make_partly_tagged(path, random.Random(0))
    source = plan_source(path, tmp_path)
    assert [source.color_primaries, source.color_matrix].count("bt709") == 1
    whole = rung(source, "x264", (320, 180), tmp_path)
    assert _stated(whole) == ({(1, 1, 1)}, Colour(1, 1, 1, full=False))


def test_parameter_sets_are_not_in_the_media(tmp_path: Path):
    """Packaging rewrites those of the init segment: the media must have none that contradict."""
    source = plan_source(_tagged(tmp_path), tmp_path)
    for codec, types, shift in (("x264", {7, 8}, 0), ("x265", {32, 33, 34}, 1)):
        rung(source, codec, (160, 96), tmp_path)
        media = (tmp_path / f"{codec}-96" / "package" / "video" / "v" / "00000.m4s").read_bytes()
        init = (tmp_path / f"{codec}-96" / "package" / "video" / "v" / "init.mp4").read_bytes()
        for sample in mp4.sample_table(init, media):
            data = media[sample.offset : sample.offset + sample.size]
            assert {unit[0] >> shift & (0x1F, 0x3F)[shift] for unit in units(data, 4)}.isdisjoint(
                types
            )


def test_the_init_of_a_tagged_title_stays_as_its_encoder_wrote_it(tmp_path: Path):
    source = plan_source(_tagged(tmp_path), tmp_path)
    rung(source, "x264", (160, 96), tmp_path)
    written = (tmp_path / "x264-96" / "package" / "video" / "v" / "init.mp4").read_bytes()
    (encoded,) = (tmp_path / "x264-96").glob("*.init")
    assert written == mp4.cmaf_header(encoded.read_bytes(), VIDEO_BRAND)


def _tagged(folder: Path) -> Path:
    path = folder / "tagged.mp4"
    tags = ("-color_primaries", "bt709", "-color_trc", "bt709", "-colorspace", "bt709")
    stated = "setparams=colorspace=bt709:color_primaries=bt709:color_trc=bt709"
    graph = f"testsrc2=size=160x96:rate=25,format=yuv420p,{stated}"
    ff("-f", "lavfi", "-i", graph, "-frames:v", 5, "-c:v", "libx264", *tags, path)
    return path
