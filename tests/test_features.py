from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from encoder.analysis import features
from encoder.analysis.feature_maths import surviving
from encoder.analysis.features import (
    FEATURE_NAMES,
    KEPT,
    MEASURES,
    SCALE_FACTORS,
    SEEN,
    STATISTICS,
    TEMPORAL,
    FeatureExtractor,
    ShotFeatures,
    is_measured,
)
from encoder.analysis.frames import SmallFrame, feed, small_frames
from encoder.arrays import AnyArray, Float32, Float64, UInt8
from encoder.ffmpeg import Command, run
from encoder.media import Shot
from encoder.source.planning import plan_source

EVERY_FRAME = Fraction(features.SAMPLES_PER_SECOND)
"""A frame rate at which each frame is measured."""
WIDTH, HEIGHT = 320, 180

Picture = UInt8


def frame(number: int, luma: Picture, chroma: tuple[int, int] = (128, 128)) -> SmallFrame:
    """A frame whose decoded picture is ``luma``, and whose small frame is that averaged down."""
    small = luma
    if luma.shape[1] > WIDTH:
        averaged = cv2.resize(luma, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
        small = np.asarray(averaged, np.uint8)
    planes = [small, *(np.full_like(small, level) for level in chroma)]
    return SmallFrame(
        number, np.stack(planes), av.VideoFrame.from_ndarray(np.ascontiguousarray(luma), "gray")
    )


def frames(pictures: Iterable[Picture]) -> list[SmallFrame]:
    return [frame(number, picture) for number, picture in enumerate(pictures)]


def of_shot(pushed: Iterable[SmallFrame], shot: Shot | None = None) -> dict[str, float]:
    """Features of a title in which each frame is measured; of all of it unless told."""
    extractor = FeatureExtractor(EVERY_FRAME)
    count = feed(pushed, extractor)
    (found,) = extractor.shots([shot or Shot(0, count)])
    return dict(found.as_dict())


def flat(level: int, count: int = 4) -> list[SmallFrame]:
    return frames([np.full((HEIGHT, WIDTH), level, np.uint8)] * count)


def wallpaper(seed: int, width: int = 500, height: int = 240) -> Picture:
    """A still, larger than a frame, with detail of a few pixels."""
    grain = np.random.default_rng(seed).normal(128, 60, (height, width)).astype(np.float32)
    return np.clip(cv2.GaussianBlur(grain, (0, 0), 2.0) * 3 - 256, 16, 235).astype(np.uint8)


def panned(speed: int, count: int = 10) -> list[SmallFrame]:
    """The camera moves ``speed`` pixels a frame to the right over a still."""
    still = wallpaper(1)
    return frames(
        [still[20 : 20 + HEIGHT, speed * n : speed * n + WIDTH].copy() for n in range(count)]
    )


def noisy(sigma: float, count: int = 4, width: int = 640, height: int = 360) -> list[SmallFrame]:
    rng = np.random.default_rng(3)
    return frames(
        np.clip(np.rint(rng.normal(128, sigma, (height, width))), 0, 255).astype(np.uint8)
        for _ in range(count)
    )


# -- values known by construction --------------------------------------------------------------


def test_a_flat_picture_has_nothing_but_its_level() -> None:
    found = of_shot(flat(90))
    assert found["luma_mean"] == 90
    assert found["flat_share_mean"] == found["flat_fine_mean"] == found["still_share_mean"] == 1
    # Scaling takes nothing where there is nothing.
    assert {found[f"{name}_mean"] for name in (*KEPT, *SEEN)} == {1}
    alone = {"luma", "flat_share", "flat_fine", "still_share", *KEPT, *SEEN}
    others = {name for name in MEASURES if name not in alone}
    # 8x8 cosines of a constant leave 1e-6 of rounding.
    assert {n for n in others for how in STATISTICS if abs(found[f"{n}_{how}"]) > 1e-4} == set()


def test_black_is_dark_and_empty() -> None:
    found = of_shot(flat(16))
    assert (found["luma_p90"], found["dark_share_p10"]) == (16, 1)
    assert found["noise_fine_mean"] == found["motion_mean"] == found["colourfulness_mean"] == 0


def test_noise_is_recovered_at_every_scale_of_it() -> None:
    found = [of_shot(noisy(sigma)) for sigma in (1, 2, 4, 8)]
    for sigma, features_ in zip((1, 2, 4, 8), found, strict=True):
        assert features_["noise_fine_mean"] == pytest.approx(sigma, rel=0.25)
        assert features_["noise_temporal_mean"] == pytest.approx(sigma, rel=0.15)
    for name in ("noise_mid_mean", "texture_fine_mean", "residual_mean", "sharpness_mean"):
        values = [features_[name] for features_ in found]
        # White noise has the same spectrum at every strength: sharpness says what, not how much.
        if name == "sharpness_mean":
            assert values == pytest.approx([values[0]] * 4, abs=0.05)
        else:
            assert values == sorted(values)
            assert values[3] > 3 * values[0]


def test_noise_is_not_seen_in_ramps_edges_and_clipped_levels() -> None:
    ramp = np.tile(np.linspace(30, 220, 640).astype(np.float32), (360, 1))
    ramp[180:] += 10
    assert of_shot(frames([ramp.astype(np.uint8)] * 2))["noise_fine_mean"] < 0.5
    white = [picture.luma for picture in noisy(4, width=WIDTH, height=HEIGHT)]
    clipped = [np.maximum(luma, 235) for luma in white]
    assert of_shot(frames(clipped))["noise_fine_mean"] == 0


@pytest.mark.parametrize("speed", [1, 3, 6])
def test_a_pan_moves_as_fast_as_it_does(speed: int) -> None:
    found = of_shot(panned(speed))
    assert found["motion_p50"] == pytest.approx(100 * speed / WIDTH, rel=0.1)
    assert found["coherence_p50"] > 0.95
    # The camera alone moves: what is left beside it is what enters at the border.
    assert found["motion_local_p50"] < 0.3 * found["motion_p50"]
    assert found["residual_p50"] < 0.35 * found["difference_p50"]
    assert found["residual_mid_p50"] < 0.5 * found["texture_mid_p50"]
    assert found["still_share_p50"] < 0.1


def test_what_moves_apart_is_not_coherent() -> None:
    still = wallpaper(2)

    def both_ways(n: int) -> Picture:
        upper = still[:90, 60 + 3 * n : 60 + 3 * n + WIDTH]
        lower = still[100:190, 90 - 3 * n : 90 - 3 * n + WIDTH]
        return np.ascontiguousarray(np.vstack([upper, lower]))

    apart, pan = of_shot(frames(map(both_ways, range(10)))), of_shot(panned(3))
    assert apart["motion_p50"] == pytest.approx(pan["motion_p50"], rel=0.25)
    assert apart["coherence_p50"] < 0.2


def test_new_content_in_every_frame_is_intra() -> None:
    found = of_shot(frames([wallpaper(seed)[:HEIGHT, :WIDTH].copy() for seed in range(6)]))
    still = of_shot(frames([wallpaper(0)[:HEIGHT, :WIDTH].copy()] * 6))
    assert found["residual_mid_mean"] > 0.5 * found["texture_mid_mean"]
    assert found["intra_share_mean"] > 0.2
    assert still["intra_share_mean"] == still["residual_mid_mean"] == still["difference_mean"] == 0
    assert still["texture_mid_mean"] == pytest.approx(found["texture_mid_mean"], rel=0.1)


def test_texture_is_where_its_scale_is() -> None:
    row = np.arange(640)
    fine = np.where(row // 2 % 2, 140, 100).astype(np.uint8)
    broad = np.where(row // 16 % 2, 140, 100).astype(np.uint8)
    narrow, wide = (of_shot(frames([np.tile(line, (360, 1))] * 2)) for line in (fine, broad))
    # Lines of two pixels are gone in a picture of a quarter of the width, and all high frequency.
    assert narrow["texture_fine_mean"] > 2 * wide["texture_fine_mean"]
    assert narrow["texture_coarse_mean"] < 0.5 * wide["texture_coarse_mean"]
    assert narrow["sharpness_mean"] > 2 * wide["sharpness_mean"]


# -- what scaling takes ------------------------------------------------------------------------


def survivors(pushed: Iterable[SmallFrame]) -> tuple[list[float], list[float]]:
    """Means of kept and of seen, by factor."""
    found = of_shot(pushed)
    return [found[f"{name}_mean"] for name in KEPT], [found[f"{name}_mean"] for name in SEEN]


def cloud(width: int, height: int, seed: int = 7) -> Picture:
    """As much contrast at every scale, as photographs have: amplitude falls with frequency."""
    rng = np.random.default_rng(seed)
    across, down = np.fft.rfftfreq(width), np.fft.fftfreq(height)
    frequency = np.hypot(across, down[:, None])
    frequency[0, 0] = np.inf
    waves = np.fft.rfft2(rng.normal(0, 1, (height, width))) / frequency
    field = np.fft.irfft2(waves, (height, width))
    levels: Picture = np.clip(128 + 30 * field / field.std(), 16, 235).astype(np.uint8)
    return levels


def windows_of(picture: Picture) -> Float32:
    """(down, across, 64, 64) of a picture that is whole windows."""
    height, width = picture.shape
    tiles = picture.reshape(height // 64, 64, width // 64, 64).swapaxes(1, 2)
    return np.ascontiguousarray(tiles).astype(np.float32)


def test_names_say_the_factors() -> None:
    assert [f"kept_{round(100 * factor)}" for factor in SCALE_FACTORS] == list(KEPT)
    assert [f"seen_{round(100 * factor)}" for factor in SCALE_FACTORS] == list(SEEN)
    assert KEPT[0] == "kept_133"
    assert SEEN[-1] == "seen_533"
    assert all((64 / factor).is_integer() for factor in SCALE_FACTORS)


def test_soft_pictures_survive_and_noise_does_not() -> None:
    white = [picture.luma for picture in noisy(20, 2, WIDTH, HEIGHT)]
    blurred = [cv2.GaussianBlur(luma.astype(np.float32), (0, 0), 4) for luma in white]
    # As strong as the noise was, so that rounding to levels adds none.
    soft = [128 + 20 * (luma - luma.mean()) / luma.std() for luma in blurred]
    kept_soft, seen_soft = survivors(frames([luma.astype(np.uint8) for luma in soft]))
    kept_white, seen_white = survivors(frames(white))
    assert min(*kept_soft[:2], *seen_soft[:2]) > 0.95
    assert max(kept_white[1], seen_white[1]) < 0.4
    assert max(kept_white[-1], seen_white[-1]) < 0.1


def test_smaller_keeps_less() -> None:
    for seed in range(3):
        for values in survivors(frames([cloud(640, 360, seed)])):
            assert all(more > less + 0.01 for more, less in pairwise(values))
            assert 1 > values[0] > values[-1] > 0.1


def test_an_enlarged_picture_loses_nothing_by_going_back() -> None:
    """A title that was scaled up has no detail that a rung of its true size would lack."""
    true = cloud(640, 360)
    enlarged = cv2.resize(true, (1280, 720), interpolation=cv2.INTER_CUBIC)
    kept, seen = survivors(frames([enlarged.astype(np.uint8)]))
    kept_true, _ = survivors(frames([true]))
    assert min(kept[1], seen[1]) > 0.8 > 0.65 > kept_true[1]


def test_what_nobody_sees_is_not_missed() -> None:
    """Faint grain is lost as surely as strong grain, but the loss shows less."""
    (kept, seen), (kept_strong, seen_strong) = (survivors(noisy(sigma)) for sigma in (1, 12))
    assert kept == pytest.approx(kept_strong, abs=0.06)
    assert min(seen) > 0.8 > 0.6 > max(seen_strong[1:])


def test_windows_do_not_see_each_other() -> None:
    """They lie side by side for scaling; what counts is as if each had been scaled alone."""
    four = windows_of(np.hstack([cloud(128, 128, 1), np.full((128, 128), 235, np.uint8)]))
    four[:, 2] = windows_of(noisy(40, 1, 64, 128)[0].luma)[:, 0]
    seen = np.array(surviving(four, SCALE_FACTORS))[len(KEPT) :]
    alone = [
        surviving(four[y : y + 1, x : x + 1], SCALE_FACTORS) for y in range(2) for x in range(4)
    ]
    assert seen == pytest.approx(np.mean(alone, axis=0)[len(KEPT) :], abs=1e-5)


def test_scaling_is_measured_as_defined() -> None:
    """Against the plain formula, pixel by pixel, where one window is the whole picture."""
    picture = cloud(64, 64).astype(np.float32)

    def gradient(of: AnyArray) -> Float64:
        smooth, slope = np.array([1, 2, 1]) / 4, np.array([1, 0, -1]) / 2
        rows = np.apply_along_axis(np.convolve, 1, of, slope, "same")
        columns = np.apply_along_axis(np.convolve, 0, of, slope, "same")
        return np.stack(
            [
                np.apply_along_axis(np.convolve, 0, rows, smooth, "same"),
                np.apply_along_axis(np.convolve, 1, columns, smooth, "same"),
            ]
        )[:, 9:54, 9:54]

    def blocks(of: Float64) -> Float64:
        means: Float64 = of.reshape(5, 9, 5, 9).mean(axis=(1, 3))
        return means

    expected_kept, expected_seen = [], []
    there = gradient(picture)
    for factor in SCALE_FACTORS:
        side = round(64 / factor)
        small = cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA)
        again = cv2.resize(small, (64, 64), interpolation=cv2.INTER_CUBIC)
        product, square = (gradient(again) * there).sum(axis=0), (there**2).sum(axis=0)
        expected_kept.append(product.sum() / square.sum())
        local = (np.maximum(blocks(product), 0) + 2) / (blocks(square) + 2)
        expected_seen.append(np.minimum(local, 1.5).mean())
    found = surviving(picture[None, None], SCALE_FACTORS)
    assert found == pytest.approx(expected_kept + expected_seen, abs=2e-3)


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (64, 18), (322, 18), (90, 300), (63, 65)])
def test_small_pictures_have_what_survives(size: tuple[int, int]) -> None:
    kept, seen = survivors(frames([cloud(*size)] if min(size) > 1 else [np.full(size, 50, "u1")]))
    assert all(0 < value <= 1.2 for value in (*kept, *seen))
    assert kept[0] >= kept[1] >= kept[-1]


def test_a_small_picture_is_like_a_large_one_of_the_same_content() -> None:
    """Continued by reflection, it has no edge that scaling would take."""
    large = cloud(640, 360)
    whole, _ = survivors(frames([large]))
    parts = [large[y : y + 40, x : x + 40].copy() for y in (0, 160, 320) for x in (0, 200, 500)]
    part, _ = survivors(frames(parts))
    assert part == pytest.approx(whole, abs=0.08)


def test_colour_counts_as_colour() -> None:
    grey = np.full((HEIGHT, WIDTH), 100, np.uint8)
    pushed = [frame(n, grey, (128 + 10 * n, 128)) for n in range(3)]
    found = of_shot(pushed)
    assert found["colourfulness_mean"] == pytest.approx(0.3 * 10)
    assert found["chroma_change_mean"] == pytest.approx(10)
    assert found["luma_change_mean"] == found["difference_mean"] == 0


def test_a_change_of_light_is_not_noise_and_not_motion() -> None:
    still = wallpaper(4)[:HEIGHT, :WIDTH] // 2 + 40
    found = of_shot(frames([(still + 4 * n).astype(np.uint8) for n in range(5)]))
    assert found["luma_change_mean"] == pytest.approx(4)
    assert found["noise_temporal_mean"] < 0.1
    assert found["motion_mean"] < 0.2


def test_what_scaling_takes_does_not_depend_on_what_came_before() -> None:
    extractor = FeatureExtractor(EVERY_FRAME)
    still = cloud(640, 360)
    feed([*noisy(30, 3), *(frame(3 + n, still) for n in range(3))], extractor)
    (after,) = extractor.shots([Shot(3, 6)])
    alone = of_shot(frames([still]))
    for name in (*KEPT, *SEEN):
        assert after.as_dict()[f"{name}_mean"] == alone[f"{name}_mean"]


# -- shots -------------------------------------------------------------------------------------


def test_a_cut_does_not_leak_into_either_shot() -> None:
    one, other = wallpaper(5)[:HEIGHT, :WIDTH], wallpaper(6)[:HEIGHT, :WIDTH] // 3
    pushed = frames([one.copy()] * 6 + [other.copy()] * 6)
    extractor = FeatureExtractor(EVERY_FRAME)
    feed(pushed, extractor)
    whole, left, *parts = extractor.shots(
        [Shot(0, 12), Shot(0, 12, cuts=(6,)), Shot(0, 6), Shot(6, 12)]
    )
    temporal = [f"{name}_{how}" for name in TEMPORAL for how in STATISTICS]
    still = {f"still_share_{how}" for how in STATISTICS}
    assert whole.as_dict()["difference_p90"] == 0  # one frame of eleven
    assert whole.as_dict()["difference_mean"] > 1
    for shot in (left, *parts):
        found = shot.as_dict()
        assert {name for name in temporal if found[name] != 0} == still
    assert parts[0].as_dict()["luma_mean"] > 2 * parts[1].as_dict()["luma_mean"]


def test_every_shot_has_a_vector_of_the_same_length() -> None:
    extractor = FeatureExtractor(EVERY_FRAME)
    feed(panned(3), extractor)
    found = extractor.shots([Shot(0, 1), Shot(1, 2), Shot(2, 10)])
    assert {len(shot.values) for shot in found} == {len(FEATURE_NAMES)}
    for short in found[:2]:
        assert short.as_dict()["motion_mean"] == 0
        assert short.as_dict()["texture_mid_mean"] > 1
        assert short.as_dict()["texture_mid_p10"] == short.as_dict()["texture_mid_p90"]


def test_a_shot_between_measured_frames_looks_like_the_nearest() -> None:
    extractor = FeatureExtractor(8 * EVERY_FRAME)
    pushed = [np.full((HEIGHT, WIDTH), 40 + 2 * n, np.uint8) for n in range(32)]
    feed(frames(pushed), extractor)
    numbers, _ = extractor.measured()
    assert numbers.tolist() == [0, 12, 17, 30]
    before, between, first = extractor.shots([Shot(14, 16), Shot(13, 14), Shot(0, 12)])
    assert before.as_dict()["luma_mean"] == 40 + 2 * 12
    assert between.as_dict()["luma_mean"] == 40 + 2 * 12
    assert first.as_dict()["luma_mean"] == 40


def test_frames_are_measured_out_of_step_with_repeats() -> None:
    for step in (1, 2, 3, 4, 6, 8, 15):
        found = [n for n in range(60 * step * step) if is_measured(n, step)]
        assert len(found) == 60 * step
        for cadence in (2, 3, 4, 5, 6):
            met = np.bincount([n % cadence for n in found], minlength=cadence)
            assert met.min() * cadence > 0.7 * len(found), (step, cadence)


def test_no_frames_have_no_features() -> None:
    with pytest.raises(ValueError, match="at least one"):
        FeatureExtractor(Fraction(25)).shots([Shot(0, 1)])


def test_a_vector_is_complete_and_finite() -> None:
    with pytest.raises(ValueError, match="features expected, got 3"):
        ShotFeatures((1.0, 2.0, 3.0))
    with pytest.raises(ValueError, match="finite"):
        ShotFeatures((math.nan,) * len(FEATURE_NAMES))
    assert len(set(FEATURE_NAMES)) == len(FEATURE_NAMES) == len(MEASURES) * len(STATISTICS)


# -- one stream, in any order of its making -----------------------------------------------------


def test_in_pieces_as_in_one() -> None:
    pushed = panned(3, 14)
    whole, pieces = FeatureExtractor(2 * EVERY_FRAME), FeatureExtractor(2 * EVERY_FRAME)
    feed(pushed, whole)
    rest: Iterator[SmallFrame] = iter(pushed)
    for size in (1, 4, 2, 7):
        feed(islice(rest, size), pieces)
        pieces.measured()  # looking changes nothing
    shots = [Shot(0, 6), Shot(6, 14)]
    assert whole.shots(shots) == pieces.shots(shots)


def test_what_was_seen_before_does_not_matter() -> None:
    """Optical flow keeps buffers; a shot's features must not know the title it is in."""
    fresh, used = FeatureExtractor(EVERY_FRAME), FeatureExtractor(EVERY_FRAME)
    feed(panned(3, 8), fresh)
    before = noisy(20, 3, WIDTH, HEIGHT)
    after = [frame(3 + moved.number, moved.luma.copy()) for moved in panned(3, 8)]
    feed([*before, *after], used)
    assert fresh.shots([Shot(0, 8)]) == used.shots([Shot(3, 11)])


def test_the_number_of_threads_does_not_matter() -> None:
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(4)
        many = of_shot(panned(2, 4))
    finally:
        cv2.setNumThreads(before)
    assert many == of_shot(panned(2, 4))


def test_only_scalars_are_kept() -> None:
    """Memory of the extractor grows by one row of numbers per measured frame, and no picture."""
    extractor = FeatureExtractor(EVERY_FRAME)
    feed(flat(50, 40), extractor)
    _, rows = extractor.measured()
    assert rows.shape == (40, len(MEASURES))
    assert rows.dtype == np.float32
    held = [value for value in vars(extractor).values() if isinstance(value, np.ndarray)]
    assert sum(array.size for array in held) <= 3 * WIDTH * HEIGHT + 48 * 32 * 32


# -- pictures of any kind ----------------------------------------------------------------------

# Pale, so that noise is not clipped in RGB.
CLIP = (
    "testsrc2=size=352x288:rate=8:duration=1,format=yuv420p,"
    "lutyuv=y=val*0.5+50:u=128+(val-128)*0.2:v=128+(val-128)*0.2,noise=alls=20:allf=t:all_seed=5"
)


def from_file(path: Path, workdir: Path) -> dict[str, float]:
    source = plan_source(path, workdir)
    extractor = FeatureExtractor.of(source)
    feed(small_frames(source), extractor)
    (found,) = extractor.shots([Shot(0, source.frames)])
    return dict(found.as_dict())


def clip(path: Path, *output: str, picture: str = CLIP) -> Path:
    arguments = ["-v", "error", "-f", "lavfi", "-i", picture, *output]
    run(Command.of([*arguments, "-c:v", "ffv1", "-threads", "1", str(path)]))
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    folder = tmp_path_factory.mktemp("plain")
    return from_file(clip(folder / "plain.mkv", "-pix_fmt", "yuv420p"), folder)


@pytest.mark.parametrize(
    "output",
    [
        ("-vf", "format=yuv420p10le"),
        ("-vf", "scale=out_range=full,format=yuv420p", "-color_range", "full"),
        ("-vf", "scale=out_range=full,format=yuv420p10le", "-color_range", "full"),
        ("-vf", "scale=out_color_matrix=bt709,format=bgr0"),
        ("-vf", "format=yuv444p"),
    ],
    ids=["10 bit", "full range", "10 bit full range", "RGB", "4:4:4"],
)
def test_how_levels_are_stored_does_not_matter(
    output: tuple[str, ...], plain: dict[str, float], tmp_path: Path
) -> None:
    found = from_file(clip(tmp_path / "clip.mkv", *output), tmp_path)
    same = ("texture_fine", "noise_fine", "noise_temporal", "luma", "texture_mid", "residual")
    for name in (*same, *KEPT, *SEEN):
        close = 0.15 if "bgr0" in output[1] else 0.06  # RGB: 601 and 709 differ in luma
        assert found[f"{name}_mean"] == pytest.approx(plain[f"{name}_mean"], rel=close), name


@pytest.mark.parametrize("size", ["16x16", "64x18", "322x22", "90x300", "38x38", "20x320"])
def test_tiny_and_narrow_pictures(size: str, tmp_path: Path) -> None:
    picture = f"testsrc2=size={size}:rate=8:duration=0.5"
    found = from_file(clip(tmp_path / "clip.mkv", "-pix_fmt", "yuv420p", picture=picture), tmp_path)
    assert found["texture_mid_mean"] > 0
    assert found["texture_fine_mean"] > 0


def test_interlaced_pictures_are_read_by_field(tmp_path: Path) -> None:
    """Combing between fields is not detail."""
    pan = "gradients=size=640x360:rate=16:duration=1:speed=0.9:seed=2:n=4"
    fields = clip(
        tmp_path / "fields.mkv",
        *("-vf", "interlace=lowpass=off,setfield=tff", "-flags", "+ildct+ilme"),
        *("-pix_fmt", "yuv420p", "-field_order", "tt"),
        picture=pan,
    )
    source = plan_source(fields, tmp_path)
    assert source.info.interlaced
    found = from_file(fields, tmp_path)
    combed = FeatureExtractor(source.frame_rate)
    feed(small_frames(source), combed)
    (wrong,) = combed.shots([Shot(0, source.frames)])
    assert found["texture_fine_mean"] < 0.7 * wrong.as_dict()["texture_fine_mean"]


def test_real_clips_tell_themselves_apart(corpus: Path, tmp_path: Path) -> None:
    """What people say of these clips is what the numbers say."""

    def start(name: str, seconds: float = 1.0) -> dict[str, float]:
        source = plan_source(corpus / name, tmp_path)
        extractor = FeatureExtractor.of(source)
        count = feed(islice(small_frames(source), round(seconds * source.frame_rate)), extractor)
        return dict(extractor.shots([Shot(0, count)])[0].as_dict())

    street = start("openh264_street_1080p.264")
    screen = start("openh264_pdfscroll_1024x768.264")
    traffic = start("intel_car_432p.mp4", 2.0)
    night = start("earth_night_270p.mp4")
    assert screen["flat_fine_mean"] > 0.4 > street["flat_fine_mean"]
    assert traffic["still_share_mean"] > 2 * street["still_share_mean"]
    assert night["dark_share_mean"] > 0.7 > street["dark_share_mean"]
    assert street["residual_mean"] > 3 * traffic["residual_mean"]


def test_every_measure_is_documented() -> None:
    page = (Path(__file__).parent.parent / "docs" / "features.md").read_text()
    assert [name for name in MEASURES if f"`{name}`" not in page] == []
    assert f"{len(MEASURES)} measures, {len(FEATURE_NAMES)} numbers" in page
    assert f"(now {features.FEATURES_VERSION})" in page
