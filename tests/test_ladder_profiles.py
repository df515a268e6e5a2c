"""Profiles and the sizes of rungs."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoder.errors import BadInput
from ladder.profiles import (
    Size,
    aspect_error,
    load_profile,
    profile_from,
    profile_names,
    rung_sizes,
)

HEIGHTS = load_profile().heights


def test_the_default_profile_says_what_the_design_says() -> None:
    profile = load_profile()
    assert profile.crf_grid["x264"] == tuple(float(crf) for crf in range(14, 47, 4))
    assert (profile.jnd, profile.max_rate_ratio, profile.peak_ratio) == (6, 2, 2)
    assert (profile.vbv_seconds, profile.floor, profile.source_cap) == (None, None, True)
    assert HEIGHTS == (234, 360, 432, 540, 720, 1080, 1440, 2160)


@pytest.mark.parametrize("name", profile_names())
def test_every_profile_loads_and_has_nine_half_step_crfs_per_codec(name: str) -> None:
    profile = load_profile(name)
    for grid in profile.crf_grid.values():
        assert len(grid) == 9
        assert all(crf * 2 == int(crf * 2) for crf in grid)


def test_other_profiles_change_the_default() -> None:
    assert load_profile("constrained").vbv_seconds == 2
    assert load_profile("constrained").jnd == load_profile().jnd


def test_an_unknown_profile_names_those_there_are() -> None:
    with pytest.raises(BadInput, match="'nope'; there are default"):
        load_profile("nope")


def test_a_profile_with_wrong_keys_or_numbers_is_refused() -> None:
    good = {
        field.name: 0 if (value := getattr(load_profile(), field.name)) is None else value
        for field in dataclasses.fields(load_profile())
        if field.name != "name"
    }
    assert dataclasses.replace(load_profile(), name="x") == profile_from("x", good)
    with pytest.raises(BadInput, match=r"\['bogus'\]"):
        profile_from("x", {**good, "bogus": 1})
    with pytest.raises(BadInput, match="first_rate ascends"):
        profile_from("x", {**good, "first_rate": [2, 1]})
    with pytest.raises(BadInput, match="rates and first_rate are positive"):
        profile_from("x", {**good, "rates": [0, 1]})
    with pytest.raises(BadInput, match="under 1"):
        profile_from("x", {**good, "peak_ratio": 0.5})
    with pytest.raises(BadInput, match="needs a peak_ratio"):
        profile_from("x", {**good, "peak_ratio": 0, "vbv_seconds": 1})


@pytest.mark.parametrize(
    ("display", "heights"),
    [
        ((1920, 1080), [234, 360, 432, 540, 720, 1080]),
        ((1920, 1088), [234, 360, 432, 540, 720, 1088]),
        ((3840, 2160), [234, 360, 432, 540, 720, 1080, 1440, 2160]),
        ((854, 480), [234, 360, 432, 480]),
        ((720, 576), [234, 360, 432, 576]),
        ((1920, 800), [234, 360, 432, 540, 720, 800]),
        ((160, 90), [90]),
        ((161, 91), [90]),
    ],
)
def test_heights(display: tuple[int, int], heights: list[int]) -> None:
    assert [size.height for size in rung_sizes(*display, HEIGHTS)] == heights


def test_portrait_is_landscape_turned() -> None:
    upright = rung_sizes(1080, 1920, HEIGHTS)
    assert upright == tuple(Size(h, w) for w, h in rung_sizes(1920, 1080, HEIGHTS))
    assert upright[0] == Size(234, 416)


@settings(deadline=None)
@given(st.integers(2, 5000), st.integers(2, 5000))
def test_sizes_are_even_rise_and_keep_the_shape(width: int, height: int) -> None:
    sizes = rung_sizes(width, height, HEIGHTS)
    assert all(side % 2 == 0 and side > 0 for size in sizes for side in size)
    assert list(sizes) == sorted(sizes, key=min)
    assert min(sizes[-1]) == min(width, height) & ~1
    for size in sizes:
        # The long side is within one pixel of exact, unless that is not 2 pixels.
        short, long = min(size), max(size)
        exact = short * max(width, height) / min(width, height)
        assert abs(long - exact) <= 1
    assert aspect_error(Size(width, height), width, height) == pytest.approx(0)


def test_aspect_error_is_signed() -> None:
    assert aspect_error(Size(416, 234), 1920, 1080) == 0
    assert aspect_error(Size(640, 432), 1920, 1080) == pytest.approx(-0.1667, abs=1e-4)
