"""Crops: inside the picture, of the right shape, around what one looks at, never enlarged."""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recommender.artwork import crops, metrics
from recommender.artwork.build import WIDTHS, rendition_sizes
from recommender.artwork.colour import dominant_colours
from recommender.artwork.crops import ASPECTS, Box, Point
from recommender.artwork.faces import Face
from tests.artwork_material import natural, small

places = st.floats(0.02, 0.98)


def attention_at(x: float, y: float, width: int = 64, height: int = 36) -> np.ndarray:
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    far = ((columns + 0.5) / width - x) ** 2 + ((rows + 0.5) / height - y) ** 2
    return np.exp(-far / 0.01).astype(np.float32)


@given(
    st.integers(40, 2100),
    st.integers(40, 1300),
    st.sampled_from(list(ASPECTS)),
    places,
    places,
    st.integers(0, 30),
    st.integers(0, 30),
)
@settings(max_examples=120, deadline=None)
def test_a_crop_is_the_largest_of_its_shape_and_in_the_picture(
    width: int, height: int, aspect: str, x: float, y: float, left: int, top: int
) -> None:
    area = Box(left, top, width, height)
    found = crops.crop(area, ASPECTS[aspect], attention_at(x, y), Point(x, y))
    assert left <= found.x
    assert found.x + found.width <= left + width
    assert top <= found.y
    assert found.y + found.height <= top + height
    assert found.width % 2 == found.height % 2 == 0
    # To the even pixel.
    assert abs(found.width - found.height * float(ASPECTS[aspect])) <= 2 * max(
        1.0, float(ASPECTS[aspect])
    )
    assert found.width >= width - 2 or found.height >= height - 2


@pytest.mark.parametrize("aspect", ASPECTS)
@pytest.mark.parametrize("x", [0.1, 0.35, 0.5, 0.8])
def test_what_one_looks_at_is_in_every_crop(aspect: str, x: float) -> None:
    area = Box(0, 0, 1920, 1080)
    found = crops.crop(area, ASPECTS[aspect], attention_at(x, 0.5), Point(x, 0.5))
    assert found.x <= x * 1920 <= found.x + found.width
    middle = (found.x + found.width / 2) / 1920
    free = 1 - found.width / 1920
    wanted = min(max(x, found.width / 3840), 1 - found.width / 3840)
    assert abs(middle - wanted) <= 0.08 + free / 40


def test_a_face_is_not_cut() -> None:
    area = Box(0, 0, 1280, 720)
    for at in np.linspace(0.02, 0.8, 14):
        face = Face(float(at), 0.3, 0.15, 0.4, 0.9)
        focus = crops.focal_point(attention_at(0.5, 0.5), [face])
        assert focus.x == pytest.approx(at + 0.075)
        for aspect in ("2:3", "1:1"):
            found = crops.crop(area, ASPECTS[aspect], attention_at(0.5, 0.5), focus, [face])
            assert found.x <= face.x * 1280 + 1
            assert (face.x + face.width) * 1280 - 1 <= found.x + found.width


@given(st.sampled_from(list(ASPECTS)), st.integers(2, 4000))
@settings(max_examples=80, deadline=None)
def test_renditions_are_never_enlarged(aspect: str, width: int) -> None:
    box = Box(0, 0, width, max(2, round(width / ASPECTS[aspect])))
    sizes = rendition_sizes(aspect, box)
    assert sizes[0][0] == min(width, WIDTHS[aspect][0])
    assert all(w <= box.width and h <= box.height for w, h in sizes)
    assert sorted(sizes, reverse=True) == sizes
    assert len(set(sizes)) == len(sizes)


# -- bars --------------------------------------------------------------------------------------


def with_bars(seed: int, top: int, side: int, size: tuple[int, int] = (640, 360)) -> np.ndarray:
    picture = natural(seed, size)
    if top:
        picture[:top] = picture[-top:] = 2
    if side:
        picture[:, :side] = picture[:, -side:] = 2
    return np.asarray(cv2.GaussianBlur(picture, (3, 3), 0), np.uint8)


@pytest.mark.parametrize(("top", "side"), [(0, 0), (46, 0), (45, 0), (0, 80), (24, 30)])
def test_bars_are_cut_off_to_the_pixel(top: int, side: int) -> None:
    pictures = [with_bars(seed, top, side) for seed in range(6)]
    lumas = [
        small(0, np.asarray(cv2.resize(p, (320, 180), interpolation=cv2.INTER_AREA), np.uint8)).luma
        for p in pictures
    ]
    shares = np.array(
        [np.array(metrics.bars(luma)) / (180, 180, 320, 320) for luma in lumas], np.float32
    )
    area = crops.picture_area(640, 360, shares, np.full(6, 0.8, np.float32), pictures[:4])
    assert top <= area.y <= top + 4 * bool(top)
    assert side <= area.x <= side + 4 * bool(side)
    assert 360 - 2 * top - 8 * bool(top) <= area.height <= 360 - 2 * top
    assert 640 - 2 * side - 8 * bool(side) <= area.width <= 640 - 2 * side
    for picture in pictures:
        assert area.of(picture).max(axis=2).max(axis=1).min() > 30 or not top


def test_dark_scenes_are_no_bars() -> None:
    bars = np.zeros((20, 4), np.float32)
    bars[:5, 0] = 0.3  # night skies
    assert crops.picture_area(640, 360, bars, np.full(20, 0.8)) == Box(0, 0, 640, 360)
    dark = np.full((20, 4), 0.3, np.float32)
    assert crops.picture_area(640, 360, dark, np.full(20, 0.05)) == Box(0, 0, 640, 360)


# -- colours and faces -------------------------------------------------------------------------


def test_dominant_colours_are_those_of_the_picture() -> None:
    picture = np.zeros((90, 160, 3), np.uint8)
    picture[:, :80] = (200, 60, 20)
    picture[:, 80:128] = (20, 30, 220)
    picture[:, 128:] = (240, 240, 240)
    found = dominant_colours(picture)
    assert found == dominant_colours(picture)
    assert [round(colour.share, 1) for colour in found[:3]] == [0.5, 0.3, 0.2]
    for colour, bgr in zip(found, ((200, 60, 20), (20, 30, 220), (240, 240, 240)), strict=False):
        rgb = [int(colour.hex[at : at + 2], 16) for at in (1, 3, 5)]
        assert np.abs(np.array(rgb[::-1]) - bgr).max() < 14
    assert sum(colour.share for colour in found) == pytest.approx(1, abs=1e-3)
    assert len(dominant_colours(np.full((20, 20, 3), 90, np.uint8))) == 1


faces_ = st.builds(
    Face,
    st.floats(-0.05, 0.7),
    st.floats(-0.05, 0.7),
    st.floats(0.05, 0.35),
    st.floats(0.05, 0.35),
    st.just(0.9),
)


@given(faces_, st.integers(0, 60), st.integers(0, 60), st.integers(20, 200), st.integers(20, 200))
@settings(max_examples=60, deadline=None)
def test_what_a_window_keeps_of_a_face_is_counted_in_pixels(
    face: Face, x: int, y: int, width: int, height: int
) -> None:
    area = Box(8, 4, 240, 160)
    window = Box(area.x + x, area.y + y, min(width, 240 - x), min(height, 160 - y))
    fine = 4
    marked = np.zeros((fine * 170, fine * 260), bool)
    left, top = area.x + face.x * area.width, area.y + face.y * area.height
    right, bottom = left + face.width * area.width, top + face.height * area.height
    left, top = max(left, area.x), max(top, area.y)
    right, bottom = min(right, area.x + area.width), min(bottom, area.y + area.height)
    marked[round(fine * top) : round(fine * bottom), round(fine * left) : round(fine * right)] = (
        True
    )
    inside = marked[
        fine * window.y : fine * (window.y + window.height),
        fine * window.x : fine * (window.x + window.width),
    ]
    share = inside.sum() / max(1, marked.sum())
    assert crops.seen_share(face, window, area) == pytest.approx(share, abs=0.06)


def test_of_two_faces_that_do_not_fit_the_larger_is_whole() -> None:
    area = Box(0, 0, 1280, 720)
    faces = [Face(0.68, 0.2, 0.2, 0.4, 0.9), Face(0.05, 0.2, 0.18, 0.36, 0.9)]
    focus = crops.focal_point(attention_at(0.2, 0.4), faces)
    assert focus.x > 0.5
    for aspect in ("2:3", "9:16", "1:1"):
        found = crops.crop(area, ASPECTS[aspect], attention_at(0.2, 0.4), focus, faces)
        assert crops.keeps_faces(found, area, faces)
        assert crops.kept_share(found, area, attention_at(0.2, 0.4), faces) > 0.4


def test_a_crop_that_cannot_hold_a_face_says_so() -> None:
    area, face = Box(0, 0, 720, 1280), Face(0.1, 0.2, 0.8, 0.5, 0.9)
    focus = crops.focal_point(attention_at(0.5, 0.5), [face])
    wide = crops.crop(area, ASPECTS["21:9"], attention_at(0.5, 0.5), focus, [face])
    assert crops.keeps_faces(wide, area, [face]) is False
    assert crops.keeps_faces(area, area, [face]) is True
    assert crops.keeps_faces(wide, area, []) is None
    assert crops.kept_share(area, area, attention_at(0.5, 0.5), []) == 1.0


def test_aspects_are_what_their_names_say() -> None:
    for name, aspect in ASPECTS.items():
        across, down = name.split(":")
        assert aspect == Fraction(int(across), int(down))
