"""What is measured of stills: known pictures, known answers."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from encoder.analysis.feature_maths import colourfulness
from encoder.analysis.frames import feed, small_frames
from encoder.source.planning import plan_source
from recommender.artwork import letters, metrics, saliency
from recommender.artwork.descriptors import (
    EMBEDDING_SIZE,
    distances,
    embedding,
    hash_distance,
    perceptual_hash,
)
from recommender.artwork.sampling import MAX_STILLS, StillSampler
from recommender.artwork.scrub import COLUMNS, MAX_THUMBNAILS, ROWS, ScrubSampler
from recommender.artwork.stills import MEASURES, Stills
from tests.artwork_material import RATE, SIZE, make_title, natural, scene, small
from tests.artwork_measures import Picture, card, mix


def luma(picture: Picture) -> np.ndarray:
    return small(0, picture).luma


def sampled(pictures: list[Picture]) -> Stills:
    sampler = StillSampler(RATE, len(pictures))
    feed((small(number, picture) for number, picture in enumerate(pictures)), sampler)
    return sampler.stills()


# -- measures of one picture -------------------------------------------------------------------


def test_blur_rises_and_sharpness_falls_as_a_picture_is_blurred() -> None:
    picture = luma(natural(1, (960, 540)))
    found = [metrics.focus(picture)]
    found += [metrics.focus(cv2.GaussianBlur(picture, (0, 0), s)) for s in (1, 2, 4, 8)]
    assert all(a.blur < b.blur for a, b in pairwise(found))
    assert all(a.sharpness > b.sharpness for a, b in pairwise(found))
    assert all(0 <= each.blur <= 1 for each in found)
    smeared = metrics.focus(cv2.blur(picture, (25, 1)))
    assert smeared.motion_blur > 4 * max(each.motion_blur for each in found)


def test_a_sharp_subject_before_a_soft_ground_is_sharp() -> None:
    picture = luma(natural(2, (960, 540)))
    soft = cv2.GaussianBlur(picture, (0, 0), 8)
    portrait = soft.copy()
    portrait[100:440, 300:660] = picture[100:440, 300:660]
    assert metrics.focus(portrait).blur < metrics.focus(picture).blur + 0.05
    assert metrics.focus(soft).blur > metrics.focus(picture).blur + 0.2


@pytest.mark.parametrize("ink", [(235, 16), (16, 200), (220, 90)])
def test_letters_are_text(ink: tuple[int, int]) -> None:
    page = np.full((540, 960), ink[1], np.uint8)
    for number, line in enumerate(("Directed by", "SOMEBODY ELSE", "with a cast of thousands")):
        place = (200, 150 + 90 * number)
        cv2.putText(page, line, place, cv2.FONT_HERSHEY_DUPLEX, 1.6, ink[0], 2, cv2.LINE_AA)
    assert letters.text_likelihood(page) > 0.45


def test_pictures_tiles_and_noise_are_not_text() -> None:
    rng = np.random.default_rng(3)
    tiles = np.full((540, 960), 40, np.uint8)
    tiles[::24] = tiles[:, ::24] = 220
    noise = rng.integers(16, 235, (540, 960)).astype(np.uint8)
    grass = cv2.GaussianBlur(noise, (0, 0), 1.5, sigmaY=6)
    grass = cv2.normalize(grass, None, 16, 235, cv2.NORM_MINMAX).astype(np.uint8)
    for picture in (tiles, noise, grass, *(luma(natural(seed, (960, 540))) for seed in range(4))):
        assert letters.text_likelihood(picture) < 0.15


def test_levels_have_known_values() -> None:
    ramp = np.tile(np.linspace(16, 235, 220).round().astype(np.uint8), (40, 1))
    found = metrics.levels(ramp)
    assert found["exposure"] == pytest.approx(0.5, abs=0.01)
    assert found["contrast"] == pytest.approx(0.9, abs=0.02)
    assert found["entropy"] == pytest.approx(np.log2(220), abs=0.1)
    assert found["clipped"] < 0.03
    black = metrics.levels(np.full((40, 60), 16, np.uint8))
    assert (black["exposure"], black["bright"], black["entropy"]) == (0, 0, 0)
    assert black["clipped"] == 1
    assert colourfulness(np.full((3, 20, 20), 128, np.uint8)) == 0


def test_saliency_and_focal_point_find_the_thing() -> None:
    for x, y in ((0.25, 0.4), (0.7, 0.55), (0.5, 0.35)):
        picture = np.full((180, 320, 3), (120, 110, 100), np.uint8)
        picture = cv2.add(picture, np.asarray(natural(4) // 16, np.uint8))
        cv2.circle(picture, (int(320 * x), int(180 * y)), 18, (30, 40, 220), -1, cv2.LINE_AA)
        attention = saliency.saliency_map(small(0, np.asarray(picture, np.uint8)).yuv)
        assert attention.min() >= 0
        assert attention.max() <= 1
        found = saliency.focal_point(attention)
        assert np.hypot(found[0] - x, found[1] - y) < 0.1


def test_room_for_a_title_is_where_nothing_is() -> None:
    picture = luma(natural(5))
    picture[:, 190:] = 90
    share, side = metrics.title_space(metrics.gradient_map(picture))
    assert side == "right"
    assert share > 0.9


def test_bars_are_counted() -> None:
    picture = luma(natural(6))
    picture[:20] = picture[-24:] = 16
    picture[:, :6] = 17
    assert metrics.bars(picture) == (20, 24, 6, 0)


# -- descriptors -------------------------------------------------------------------------------


def test_hash_and_embedding_survive_coding_and_scaling_but_not_another_scene() -> None:
    for seed in range(5):
        picture, other = natural(seed, (640, 360)), natural(seed + 50, (640, 360))
        coded = cv2.imdecode(
            cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_COLOR
        )
        smaller = cv2.resize(picture, (320, 180), interpolation=cv2.INTER_AREA)
        brighter = cv2.convertScaleAbs(picture, alpha=1.0, beta=12)
        mine = perceptual_hash(luma(picture))
        vector = embedding(small(0, picture).yuv)
        assert vector.shape == (EMBEDDING_SIZE,)
        for version in (coded, smaller, brighter):
            again = np.asarray(version, np.uint8)
            assert hash_distance(mine, perceptual_hash(luma(again))) <= 6
            far = distances(vector, embedding(small(0, again).yuv)[None])
            assert far[0] < 0.15
        assert hash_distance(mine, perceptual_hash(luma(other))) > 14
        assert distances(vector, embedding(small(0, other).yuv)[None])[0] > 0.2


# -- the analyser ------------------------------------------------------------------------------


def test_one_still_of_every_third_of_a_second_the_sharpest_of_it() -> None:
    pictures = scene(1, 24, speed=0.2)
    soft = [cv2.GaussianBlur(p, (0, 0), 3) if n % 4 - 1 else p for n, p in enumerate(pictures)]
    found = sampled([np.asarray(p, np.uint8) for p in soft])
    assert found.frames.tolist() == list(range(1, 24, 4))
    assert found.measures.shape == (6, len(MEASURES))
    assert np.isfinite(found.measures).all()


def test_dissolves_and_fades_are_blends_and_pans_are_not() -> None:
    one, two = scene(1, 36, speed=1.5), scene(9, 36, speed=1.0)
    steps = np.linspace(1, 0, 12)
    middle = [mix(a, b, float(s)) for a, b, s in zip(one[24:], two[:12], steps, strict=True)]
    found = sampled([*one[:24], *middle, *two[12:]])
    blend = dict(zip(found.frames.tolist(), found.measure("blend").tolist(), strict=True))
    assert min(value for frame, value in blend.items() if 26 <= frame < 34) > 0.45
    assert max(value for frame, value in blend.items() if frame < 18 or frame >= 42) < 0.4
    for speed in (0.5, 2.0, 4.0):
        assert sampled(scene(3, 36, speed)).measure("blend").max() < 0.45
    black = np.zeros_like(one[0])
    fade = [mix(one[0], black, float(s)) for s in np.linspace(1, 0, 12)]
    faded = sampled([*one[:12], *fade, *[black] * 12])
    inside = (faded.frames > 14) & (faded.frames < 21)
    assert faded.measure("blend")[inside].min() > 0.45


def test_a_camera_that_adapts_to_the_light_makes_no_transition() -> None:
    """A third less light over a second and a half, but one picture all the time; a fade differs."""
    light = np.concatenate([np.ones(9), np.linspace(1, 0.68, 18), np.full(9, 0.68)])
    picture = natural(4)
    shown = [np.asarray(cv2.convertScaleAbs(picture, alpha=float(a)), np.uint8) for a in light]
    assert sampled(shown).measure("blend").max() < 0.45


def test_the_middle_of_a_blink_is_full_of_unrest() -> None:
    """At 30 frames a second: eyes close and open within a third of a second, twice."""
    face = cv2.GaussianBlur(natural(3), (0, 0), 6)
    blink = [0.4, 0.7, *[1.0] * 6, 0.7, 0.4]  # as long as one run of the sampler
    lids = [*[0.0] * 10, *blink, *[0.0] * 20, *blink, *[0.0] * 10]
    pictures = []
    for shut in lids:
        picture = np.asarray(face.copy(), np.uint8)
        for x in (130, 190):
            cv2.circle(picture, (x, 80), 14, (140, 160, 200), -1, cv2.LINE_AA)
            cv2.circle(picture, (x, 80), round(12 * (1 - shut)), (20, 20, 20), -1, cv2.LINE_AA)
        pictures.append(picture)
    sampler = StillSampler(Fraction(30), len(pictures))
    feed((small(number, picture) for number, picture in enumerate(pictures)), sampler)
    found = sampler.stills()
    unrest = {int(n): float(v) for n, v in zip(found.frames, found.measure("unrest"), strict=True)}
    blinking = [value for number, value in unrest.items() if lids[number] > 0]
    awake = [
        value for number, value in unrest.items() if not any(lids[max(0, number - 4) : number + 5])
    ]
    assert blinking
    assert awake
    assert min(blinking) > 10 + max(awake)


def test_distance_to_a_cut() -> None:
    found = sampled([*scene(1, 18), *scene(2, 18)])
    looked = round(RATE / 2)
    for frame, distance in zip(found.frames, found.measure("cut_distance"), strict=True):
        away = frame - 18 if frame >= 18 else 17 - frame
        assert distance == min(away, looked)


def test_stills_are_the_same_from_the_store_as_from_the_sampler(tmp_path: Path) -> None:
    found = sampled([*scene(1, 12), *scene(2, 12)])
    np.savez(tmp_path / "kept.npz", allow_pickle=False, **found.arrays())
    with np.load(tmp_path / "kept.npz", allow_pickle=False) as arrays:
        again = Stills.of_arrays(arrays)
    for name, array in found.arrays().items():
        assert np.array_equal(array, again.arrays()[name]), name
    assert np.array_equal(found.embeddings, again.embeddings)


def test_what_is_kept_does_not_grow_with_the_title() -> None:
    """A title of a day has no more stills than one of three hours."""
    day = 24 * 3600 * int(RATE)
    sampler = StillSampler(RATE, day)
    assert day / sampler.frames_per_still <= MAX_STILLS
    assert StillSampler(RATE, 7200).frames_per_still == 4
    for number, picture in enumerate(scene(1, 120)):
        sampler.push(small(number, picture))
        assert len(sampler.recent) <= 2 * sampler.look_frames + 1
        assert len(sampler.pending) <= 4


def test_letters_and_cuts_of_a_real_file_are_measured(tmp_path: Path) -> None:
    title = make_title(tmp_path / "title.mp4", range(2))
    source = plan_source(title, tmp_path)
    sampler = StillSampler.of(source)
    assert feed(small_frames(source), sampler) == 48
    found = sampler.stills()
    assert len(found) == 12
    assert found.measure("cut_distance").min() <= 3
    assert found.measure("text").max() < 0.3
    assert letters.text_likelihood(luma(card(*SIZE, ["A FILM BY", "SOMEBODY"]))) > 0.2


# -- the scrub track ---------------------------------------------------------------------------


@pytest.mark.parametrize(("frames", "count"), [(1, 1), (12, 1), (13, 2), (60, 5), (300, 25)])
def test_scrub_pictures_cover_the_title(frames: int, count: int) -> None:
    scrub = ScrubSampler(RATE, frames, *SIZE, None)
    grey = [np.full((SIZE[1], SIZE[0], 3), 40 + 8 * n, np.uint8) for n in range(25)]
    feed((small(n, grey[n // 12]) for n in range(frames)), scrub)
    track = scrub.track()
    assert track.count == count
    text = track.webvtt(RATE, frames, tuple(f"s{n}.jpg" for n in range(len(track.sheets))))
    cues = text.split("\n\n")
    assert cues[0] == "WEBVTT"
    assert len(cues) == 1 + count
    times = [cue.splitlines()[0].split(" --> ") for cue in cues[1:]]
    assert times[0][0] == "00:00:00.000"
    assert all(before[1] == after[0] for before, after in pairwise(times))
    last = f"{frames / 12:06.3f}"
    assert times[-1][1].endswith(last)
    sheet = cv2.imdecode(np.frombuffer(track.sheets[0], np.uint8), cv2.IMREAD_GRAYSCALE)
    assert sheet is not None
    assert sheet.shape == (-(-count // COLUMNS) * track.height, COLUMNS * track.width)
    for number in range(count):
        row, column = divmod(number, COLUMNS)
        tile = sheet[row * track.height :, column * track.width :][: track.height, : track.width]
        assert abs(float(tile.mean()) - (40 + 8 * number)) < 4


def test_scrub_tracks_of_long_titles_have_wider_steps() -> None:
    frames = 3 * 3600 * 12
    scrub = ScrubSampler(RATE, frames, *SIZE, None)
    assert frames / scrub.step <= MAX_THUMBNAILS
    assert COLUMNS * ROWS * 6 == MAX_THUMBNAILS
