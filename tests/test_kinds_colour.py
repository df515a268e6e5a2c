"""Sources whose colours users report as wrong: Dolby Vision, monochrome, colours without tags."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from cluster.jobs.source_findings import describe_source
from encoder.analysis.frames import small_frames
from encoder.errors import SourceUnusable
from encoder.source.dolby_vision import DolbyVision, guessed, printed_record
from encoder.source.reference import plan_source
from fixtures.kinds import Truth, colour
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
