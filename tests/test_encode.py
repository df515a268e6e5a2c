"""Real encodes of a tiny title: exact frames, exact places, one init for all CRFs."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from encoder import mp4
from encoder.encode import encode_command, encode_shot, frame_list
from encoder.errors import BadInput
from encoder.media import OperatingPoint, Shot
from encoder.recipes import by_name, recipe
from encoder.source.planning import plan_source
from encoder.source.reference import ReferenceSource

FAST = "x264-ultrafast"


def point(height: int, crf: float, name: str = FAST) -> OperatingPoint:
    width = {108: 192, 54: 96}[height]
    return OperatingPoint(by_name(name), width, height, crf)


@pytest.fixture(scope="module")
def source(tiny_title: Path, tmp_path_factory: pytest.TempPathFactory) -> ReferenceSource:
    return plan_source(tiny_title, tmp_path_factory.mktemp("work"))


def test_all_points_of_a_shot_in_one_process(source: ReferenceSource, tmp_path: Path) -> None:
    shot = Shot(24, 48)
    points = [point(108, 20), point(54, 30), point(108, 40.5), point(54, 20)]
    encodes, cpu_seconds = encode_shot(source, shot, points, tmp_path)
    assert [encode.point for encode in encodes] == points
    assert cpu_seconds > 0
    for encode in encodes:
        init, media = encode.init_path.read_bytes(), encode.media_path.read_bytes()
        samples = mp4.sample_table(init, media)
        assert len(media) == encode.num_bytes
        assert len(samples) == 24
        assert [sample.is_sync for sample in samples] == [True] + [False] * 23
        configuration = mp4.codec_configuration(init)
        assert (configuration.width, configuration.height) == (
            encode.point.width,
            encode.point.height,
        )
    sizes = {encode.point: encode.num_bytes for encode in encodes}
    assert sizes[point(108, 20)] > sizes[point(108, 40.5)]


def test_one_codec_configuration_over_the_whole_crf_range(
    source: ReferenceSource, tmp_path: Path
) -> None:
    points = [point(108, crf, "x264-medium") for crf in (4, 14, 18, 23.5, 30, 38, 46, 51)]
    encodes, _ = encode_shot(source, Shot(0, 10), points, tmp_path)
    assert len({encode.codec_sha256 for encode in encodes}) == 1


def test_same_bits_alone_and_in_company(source: ReferenceSource, tmp_path: Path) -> None:
    shot, wanted = Shot(10, 40, (24,)), point(108, 28, "x264-medium")
    (alone,), _ = encode_shot(source, shot, [wanted], tmp_path)
    alone_bits = alone.media_path.read_bytes()
    company, _ = encode_shot(source, shot, [point(54, 20), wanted, point(108, 18)], tmp_path)
    assert company[1].media_path.read_bytes() == alone_bits


def test_a_cut_inside_a_shot_gets_an_idr(source: ReferenceSource, tmp_path: Path) -> None:
    (encode,), _ = encode_shot(source, Shot(10, 72, (24, 48)), [point(108, 30)], tmp_path)
    samples = mp4.sample_table(encode.init_path.read_bytes(), encode.media_path.read_bytes())
    ticks = mp4.timescale_for(source.frame_rate) / source.frame_rate
    keys = [sample.composition_time / ticks for sample in samples if sample.is_sync]
    assert keys == [10, 24, 48]


@pytest.mark.parametrize("rate", ["24", "25", "30", "60", "12.5", "24000/1001", "30000/1001"])
def test_frames_lie_on_the_timeline_at_every_rate(
    source: ReferenceSource, tmp_path: Path, rate: str
) -> None:
    # The index says where frames are read; the rate only where they are put.
    timeline = replace(source.timeline, frame_rate=Fraction(rate))
    shifted = replace(source, timeline=timeline)
    (encode,), _ = encode_shot(shifted, Shot(41, 72), [point(54, 30)], tmp_path)
    samples = mp4.sample_table(encode.init_path.read_bytes(), encode.media_path.read_bytes())
    timescale = mp4.timescale_for(Fraction(rate))
    presented = sorted(Fraction(sample.composition_time, timescale) for sample in samples)
    assert presented == [frame / Fraction(rate) for frame in range(41, 72)]


def test_the_command_is_a_value_without_threads_or_metadata(source: ReferenceSource) -> None:
    command = encode_command(source, Shot(0, 24), [point(108, 30)], [Path("out.mp4")])
    assert command == encode_command(source, Shot(0, 24), [point(108, 30)], [Path("out.mp4")])
    words = command.arguments
    assert words[words.index("-crf") + 1] == "30"
    assert words[words.index("-x264-params") + 1] == (
        "keyint=infinite:scenecut=0:open-gop=0:stitchable=1"
    )
    assert "-protocol_whitelist" in words[: words.index("-i")]


def test_frame_list_is_a_balanced_sum() -> None:
    assert frame_list([7]) == "expr:eq(n,7)"
    assert frame_list([1, 2, 3]) == "expr:((eq(n,1)+eq(n,2))+eq(n,3))"
    depth = deepest = 0
    for letter in frame_list(range(1024)):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        deepest = max(deepest, depth)
    assert (depth, deepest) == (0, 11)


def test_recipes_by_name() -> None:
    assert by_name("x264-slow") == recipe("x264", "slow")
    with pytest.raises(BadInput, match="no preset 'warp'"):
        recipe("x264", "warp")
    with pytest.raises(BadInput, match="no recipe for codec 'mpeg2'"):
        recipe("mpeg2", "medium")
    with pytest.raises(ValueError, match="outside 4 to 51"):
        by_name(FAST).arguments(52)
