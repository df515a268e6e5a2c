"""Real scores of tiny encodes: aligned, in context, and the same by shots as by rungs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from encoder.encode import encode_shot
from encoder.errors import BadInput, FrameMismatch, StoreUnusable, ToolFailed
from encoder.ffmpeg import Command, run
from encoder.media import OperatingPoint, Shot
from encoder.recipes import by_name
from encoder.source.planning import plan_source
from encoder.source.reference import ReferenceSource
from fixtures.clips import MANDELBROT, TEST_CARD, Recipe, Scene, make
from vmaf.graph import Context, Distorted, viewing_size
from vmaf.measure import Scores, measure, parse_log, read_log
from vmaf.models import (
    PUBLISHED,
    V0_NEG,
    V1,
    V1_HIGH_FRAME_RATE,
    check,
    default_model,
    similar_models,
)
from vmaf.pool import pool_scores

MODELS = (V1, *PUBLISHED)
CLIP = Recipe((Scene(TEST_CARD, 20), Scene(MANDELBROT, 40)), 320, 180)
SIZE = (320, 180)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ReferenceSource:
    folder = tmp_path_factory.mktemp("vmaf")
    return plan_source(make(CLIP, folder / "clip.mp4"), folder)


def encoded(source: ReferenceSource, shots: list[Shot], crf: float, folder: Path) -> list[bytes]:
    point = OperatingPoint(by_name("x264-veryfast"), *SIZE, crf)
    media, init = [], b""
    for shot in shots:
        (encode,), _ = encode_shot(source, shot, [point], folder)
        init = encode.init_path.read_bytes()
        media.append(encode.media_path.read_bytes())
    return [init, *media]


def scored(source: ReferenceSource, start: int, end: int, data: bytes, folder: Path) -> Scores:
    path = folder / f"{start}-{end}.mp4"
    path.write_bytes(data)
    (scores,), _ = measure(source, start, end, [Distorted(path, *SIZE)], MODELS, folder)
    return scores


def test_shots_score_as_the_whole_rung_does(source: ReferenceSource, tmp_path: Path) -> None:
    # An 8-frame shot, a split inside a take, a cut, and a shot at each end of the title.
    shots = [Shot(0, 20), Shot(20, 28), Shot(28, 41), Shot(41, 60)]
    init, *media = encoded(source, shots, 34, tmp_path)
    whole = scored(source, 0, 60, init + b"".join(media), tmp_path)
    for shot, part in zip(shots, media, strict=True):
        alone = scored(source, shot.start, shot.end, init + part, tmp_path)
        assert alone.frame_hashes == whole.frame_hashes[shot.start : shot.end]
        for model in MODELS:
            assert alone.by_model[model] == pytest.approx(
                whole.by_model[model][shot.start : shot.end], abs=1e-3
            )


def test_an_independent_measurement_agrees(source: ReferenceSource, tmp_path: Path) -> None:
    """Both sides decoded to raw files by other commands, compared by a plain libvmaf call."""
    init, media = encoded(source, [Shot(0, 60)], 30, tmp_path)
    ours = scored(source, 0, 60, init + media, tmp_path)
    encode, log = tmp_path / "whole.mp4", tmp_path / "log.json"
    encode.write_bytes(init + media)
    cambi = r"\:cambi.enc_width=320\:cambi.enc_height=180\:cambi.enc_bitdepth=8"
    models = "|".join(
        rf"version={model}\:name={model}" + (cambi if model == V1 else "") for model in MODELS
    )
    for path, raw in ((Path(source.path), "ref.yuv"), (encode, "dis.yuv")):
        # Without passthrough ffmpeg repeats the first frame to fill the reorder delay.
        options = ["-fps_mode", "passthrough", "-pix_fmt", "yuv420p", tmp_path / raw]
        run(Command.of(["-v", "error", "-y", "-i", path, *options]))
        assert (tmp_path / raw).stat().st_size == 60 * 320 * 180 * 3 // 2
    raw_input = ["-f", "rawvideo", "-s", "320x180", "-i"]
    graph = (
        "[0:v]format=yuv420p10le[d];[1:v]format=yuv420p10le[r];[d][r]libvmaf="
        f"model='{models}':log_fmt=json:log_path={log}"
    )
    run(
        Command.of(
            [
                *(
                    "-v",
                    "error",
                    *raw_input,
                    tmp_path / "dis.yuv",
                    *raw_input,
                    tmp_path / "ref.yuv",
                ),
                *("-lavfi", graph, "-f", "null", "-"),
            ]
        )
    )
    frames = json.loads(log.read_text())["frames"]
    for model in MODELS:
        theirs = sum(frame["metrics"][model] for frame in frames) / len(frames)
        assert pool_scores(ours.by_model[model]).mean == pytest.approx(theirs, abs=0.01)


def test_quality_falls_with_crf_and_with_size(source: ReferenceSource, tmp_path: Path) -> None:
    points = [OperatingPoint(by_name("x264-veryfast"), *SIZE, crf) for crf in (20, 34, 48)]
    points.append(OperatingPoint(by_name("x264-veryfast"), 160, 90, 20))
    encodes, _ = encode_shot(source, Shot(20, 40), points, tmp_path)
    distorted = []
    for number, encode in enumerate(encodes):
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(encode.init_path.read_bytes() + encode.media_path.read_bytes())
        distorted.append(Distorted(path, encode.point.width, encode.point.height))
    scores, cpu_seconds = measure(source, 20, 40, distorted, [V1], tmp_path)
    best, middle, worst, small = (pool_scores(one.by_model[V1]).mean for one in scores)
    assert best > middle > worst
    assert best > small
    assert cpu_seconds > 0


def test_too_few_frames_are_refused(source: ReferenceSource, tmp_path: Path) -> None:
    init, media = encoded(source, [Shot(20, 40)], 30, tmp_path)
    with pytest.raises(FrameMismatch):
        scored(source, 20, 44, init + media, tmp_path)


def test_parse_log_drops_context_and_counts() -> None:
    log = {"frames": [{"frameNum": n, "metrics": {"m": float(n)}} for n in range(9)]}
    assert parse_log(log, ["m"], Context(4, 2), 3) == {"m": (4.0, 5.0, 6.0)}
    with pytest.raises(FrameMismatch, match="9 frames instead of 10"):
        parse_log(log, ["m"], Context(4, 2), 4)


def test_a_truncated_log_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """libvmaf does not report a log that it could not write."""
    (log := tmp_path / "vmaf.json").write_text('{"frames": [{"frameNum": 0')
    with pytest.raises(ToolFailed, match="missing or truncated"):
        read_log(log)
    monkeypatch.setattr("vmaf.measure.FULL_DISK_BYTES", 1 << 62)
    with pytest.raises(StoreUnusable, match=r"disk of .* is full"):
        read_log(log)


def test_context_is_bounded_by_the_title() -> None:
    assert Context.of(0, 8, 100) == Context(0, 4)
    assert Context.of(2, 98, 100) == Context(2, 2)


def test_small_titles_are_magnified(tiny_title: Path, tmp_path: Path) -> None:
    tiny = plan_source(tiny_title, tmp_path)
    assert viewing_size(tiny) == (384, 216)


def test_pool_is_libvmafs() -> None:
    pooled = pool_scores([10.0, 20.0, 40.0, 80.0])
    assert pooled.mean == 37.5
    assert pooled.harmonic_mean == pytest.approx(4 / (1 / 11 + 1 / 21 + 1 / 41 + 1 / 81) - 1)
    assert pooled.min == 10.0
    assert pooled.p5 == pytest.approx(11.5)
    with pytest.raises(ValueError, match="no scores"):
        pool_scores([])


def test_models_by_height_and_rate() -> None:
    assert default_model(1080, 24) == V1
    assert default_model(1080, 60) == V1_HIGH_FRAME_RATE
    assert default_model(2160, 24) == "vmaf_v1.0.16_1d5h_2160"


def test_similar_models_are_the_same_for_sdr_then_usual_rates_then_the_usual_distance() -> None:
    assert similar_models(V1) == ()
    assert similar_models(f"{V1_HIGH_FRAME_RATE}+mobius1000") == (V1_HIGH_FRAME_RATE, V1)
    assert similar_models("vmaf_v1.0.16_hfr_1d5h_2160") == ("vmaf_v1.0.16_1d5h_2160", V1)
    assert similar_models(V0_NEG) == ("vmaf_v0.6.1", V1)
    assert check(V0_NEG) == V0_NEG
    with pytest.raises(BadInput, match="unknown quality model 'vmaf'"):
        check("vmaf")
