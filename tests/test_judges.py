"""XPSNR and SSIM: what the filters get, the same by shots as by rungs, and what documents show."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from encoder.encode import encode_shot
from encoder.errors import FrameMismatch, StoreUnusable
from encoder.ffmpeg import Command, run
from encoder.media import OperatingPoint, Shot
from encoder.recipes import by_name
from encoder.source.planning import plan_source
from encoder.source.reference import ReferenceSource
from fixtures.clips import MANDELBROT, TEST_CARD, Recipe, Scene, make
from vmaf.graph import Distorted
from vmaf.judges import MAX_DECIBELS, parse_stats
from vmaf.measure import measure
from vmaf.models import JUDGES, V0, check, name_for, similar_models
from vmaf.pool import pool_scores

SIZE = (336, 188)  # rows of 336 samples of 10 bit are padded in memory
SMALL = (170, 96)


@pytest.fixture(scope="module", params=[Fraction(24), Fraction(60000, 1001)], ids=str)
def source(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> ReferenceSource:
    """A title at a rate at which XPSNR compares with one frame before, and one with two."""
    folder = tmp_path_factory.mktemp("judges")
    clip = Recipe((Scene(TEST_CARD, 12), Scene(MANDELBROT, 28)), *SIZE, request.param)
    return plan_source(make(clip, folder / "clip.mp4"), folder)


def encoded(
    source: ReferenceSource, shots: list[Shot], point: OperatingPoint, folder: Path
) -> tuple[bytes, list[bytes]]:
    media, init = [], b""
    for shot in shots:
        (encode,), _ = encode_shot(source, shot, [point], folder)
        init = encode.init_path.read_bytes()
        media.append(encode.media_path.read_bytes())
    return init, media


def scored(
    source: ReferenceSource,
    start: int,
    end: int,
    data: bytes,
    folder: Path,
    models: tuple[str, ...] = JUDGES,
    point: OperatingPoint | None = None,
) -> dict[str, tuple[float, ...]]:
    path = folder / f"{start}-{end}.mp4"
    path.write_bytes(data)
    width, height, depth = (
        (point.width, point.height, point.recipe.bit_depth) if point else (*SMALL, 8)
    )
    encode = Distorted(path, width, height, depth)
    (scores,), _ = measure(source, start, end, [encode], models, folder)
    return scores.by_model


@pytest.fixture(scope="module")
def whole(
    source: ReferenceSource, tmp_path_factory: pytest.TempPathFactory
) -> tuple[bytes, list[bytes], dict[str, tuple[float, ...]]]:
    folder = tmp_path_factory.mktemp("whole")
    point = OperatingPoint(by_name("x264-veryfast"), *SMALL, 30)
    init, media = encoded(source, SHOTS, point, folder)
    return init, media, scored(source, 0, 40, init + b"".join(media), folder)


# A cut at 12; the others lie inside a take.
SHOTS = [Shot(0, 12), Shot(12, 18), Shot(18, 31), Shot(31, 40)]


def test_shots_score_as_the_whole_rung_does(source, whole, tmp_path: Path) -> None:
    init, media, rung = whole
    for shot, part in zip(SHOTS, media, strict=True):
        alone = scored(source, shot.start, shot.end, init + part, tmp_path)
        for judge in JUDGES:
            assert alone[judge] == pytest.approx(rung[judge][shot.start : shot.end], abs=1e-4)


def test_a_score_is_the_same_beside_vmaf_and_another_judge(source, whole, tmp_path: Path) -> None:
    init, media, rung = whole
    data = init + b"".join(media)
    together = scored(source, 0, 40, data, tmp_path, ("ssim", V0, "xpsnr"))
    assert list(together) == [V0, "ssim", "xpsnr"]
    assert {judge: together[judge] for judge in JUDGES} == rung
    assert scored(source, 0, 40, data, tmp_path, ("xpsnr",)) == {"xpsnr": rung["xpsnr"]}
    assert scored(source, 0, 40, data, tmp_path, (V0,)) == {V0: together[V0]}


def test_plain_filters_on_raw_files_agree(source, whole, tmp_path: Path) -> None:
    """The original first, at 8 bit and at the title's rate, without our graph's clocks."""
    init, media, rung = whole
    (tmp_path / "rung.mp4").write_bytes(init + b"".join(media))
    scaled = f"scale={SIZE[0]}:{SIZE[1]}:flags=bicubic,format=yuv420p10le,scale=sws_dither=none"
    raw_input = []
    for name, path in (("ref.yuv", source.path), ("dis.yuv", tmp_path / "rung.mp4")):
        passed = ["-fps_mode", "passthrough", "-pix_fmt", "yuv420p", tmp_path / name]
        run(Command.of(["-v", "error", "-y", "-i", path, "-vf", scaled, *passed]))
        rate = str(source.frame_rate)
        size = "x".join(map(str, SIZE))
        raw_input += ["-f", "rawvideo", "-framerate", rate, "-s", size, "-i", tmp_path / name]
    for judge in JUDGES:
        graph = f"[0:v][1:v]{judge}=stats_file={tmp_path / judge}:threads=1"
        run(Command.of(["-v", "error", *raw_input, "-lavfi", graph, "-f", "null", "-"]))
        assert parse_stats((tmp_path / judge).read_text(), judge) == rung[judge]


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> ReferenceSource:
    """A title of 10 bit."""
    folder = tmp_path_factory.mktemp("deep")
    graph = "mandelbrot=size=336x188:rate=24,trim=end_frame=10,format=yuv420p10le"
    lossless = ["-c:v", "libx264", "-qp", "0", "-y", folder / "deep.mp4"]
    run(Command.of(["-v", "error", "-filter_complex", graph, *lossless]))
    return plan_source(folder / "deep.mp4", folder)


def test_ten_bit_rows_that_are_padded_are_compared_right(
    deep: ReferenceSource, tmp_path: Path
) -> None:
    """ffmpeg's xpsnr takes padded rows of 10 bit for unpadded ones and finds two other pictures."""
    graph = "[0:v]split[a][b];[a][b]xpsnr=stats_file=" + str(tmp_path / "wrong")
    run(Command.of(["-v", "error", "-i", deep.path, "-lavfi", graph, "-f", "null", "-"]))
    assert max(parse_stats((tmp_path / "wrong").read_text(), "xpsnr")) < 20  # of equal frames

    point = OperatingPoint(by_name("x265-ultrafast"), *SIZE, 20)
    init, (media,) = encoded(deep, [Shot(0, 10)], point, tmp_path)
    scores = scored(deep, 0, 10, init + media, tmp_path, point=point)
    assert min(scores["xpsnr"]) > 30
    assert min(scores["ssim"]) > 10


def test_equal_frames_score_the_most(deep: ReferenceSource, tmp_path: Path) -> None:
    encode = Distorted(Path(deep.path), *SIZE, 10)
    (scores,), _ = measure(deep, 0, 10, [encode], JUDGES, tmp_path)
    assert scores.by_model == dict.fromkeys(JUDGES, (MAX_DECIBELS,) * 10)
    pooled = pool_scores(scores.by_model["xpsnr"])
    assert pooled.mean == pooled.min == MAX_DECIBELS
    assert pooled.harmonic_mean == pytest.approx(MAX_DECIBELS)


def test_a_single_frame_is_scored(deep: ReferenceSource, tmp_path: Path) -> None:
    point = OperatingPoint(by_name("x264-ultrafast"), *SIZE, 30)
    init, (media,) = encoded(deep, [Shot(3, 4)], point, tmp_path)
    scores = scored(deep, 3, 4, init + media, tmp_path, point=point)
    assert all(len(scores[judge]) == 1 and scores[judge][0] > 10 for judge in JUDGES)


def test_planes_are_weighted_and_decibels_bounded() -> None:
    lines = (
        "n:    1  XPSNR y: 40.0000  XPSNR u: 48.0000  XPSNR v: 32.0000\n"
        "n:    2  XPSNR y: inf  XPSNR u: inf  XPSNR v: 70.0000\n"
        "n:    3  XPSNR y: -7.5000  XPSNR u: 8.0000  XPSNR v: inf\n"
        "\nXPSNR average, 3 frames  y: 40.0000  u: 48.0000  v: 32.0000  (minimum: 32.0000)\n"
    )
    assert parse_stats(lines, "xpsnr") == (40.0, 60.0, 8.5)
    lines = (
        "n:1 Y:0.990000 U:0.980000 V:0.980000 All:0.986667 (18.750612)\n"
        "n:2 Y:1.000000 U:1.000000 V:1.000000 All:1.000000 (inf)\n"
        "n:3 Y:-0.100000 U:0.000000 V:0.000000 All:-0.066667 (-0.280287)\n"
    )
    assert parse_stats(lines, "ssim") == (18.750612, 60.0, 0.0)


def test_too_few_frames_are_refused(
    deep: ReferenceSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = OperatingPoint(by_name("x264-ultrafast"), *SIZE, 30)
    init, (media,) = encoded(deep, [Shot(0, 7)], point, tmp_path)
    with pytest.raises(FrameMismatch, match=r"xpsnr compared 8 frames instead of 10 \(9 plus 0\+1"):
        scored(deep, 0, 9, init + media, tmp_path, ("xpsnr",))
    monkeypatch.setattr("vmaf.measure.FULL_DISK_BYTES", 1 << 62)
    with pytest.raises(StoreUnusable, match=r"ffmpeg's xpsnr could not .* disk of .* is full"):
        scored(deep, 0, 9, init + media, tmp_path, ("xpsnr",))


def test_judges_are_quality_models_that_nothing_resembles() -> None:
    for judge in JUDGES:
        assert check(judge) == judge
        assert similar_models(judge) == ()
        assert name_for(judge, hdr=True) == f"{judge}+mobius1000"
