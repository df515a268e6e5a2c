"""The sizes of rungs: plain as in release 0.1, and fitted to whole blocks."""

from __future__ import annotations

import dataclasses
from fractions import Fraction
from typing import get_args

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from encoder.media import Size
from encoder.recipes import BLOCK, CODECS
from ladder.profiles import load_profile
from ladder.sizes import Fit, aspect_error, padding, rung_sizes

HEIGHTS = load_profile("default-0.1").heights

DISPLAYS = st.one_of(
    st.tuples(st.integers(2, 5000), st.integers(2, 5000)),
    st.sampled_from([(1920, 1080), (1920, 804), (1440, 1080), (720, 720), (1080, 1920)]),
)
"""Display sizes of any shape, and of usual ones."""


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
@given(DISPLAYS)
def test_plain_sizes_are_even_rise_and_keep_the_shape(display: tuple[int, int]) -> None:
    sizes = rung_sizes(*display, HEIGHTS)
    assert all(side % 2 == 0 and side > 0 for size in sizes for side in size)
    assert list(sizes) == sorted(sizes, key=min)
    assert min(sizes[-1]) == min(display) & ~1
    for size in sizes:
        # The long side is within one pixel of exact, unless that is not 2 pixels.
        exact = min(size) * max(display) / min(display)
        assert abs(max(size) - exact) <= 1
    assert aspect_error(Size(*display), *display) == pytest.approx(0)


def test_aspect_error_is_signed() -> None:
    assert aspect_error(Size(416, 234), 1920, 1080) == 0
    assert aspect_error(Size(640, 432), 1920, 1080) == pytest.approx(-0.1667, abs=1e-4)


@pytest.mark.parametrize(
    ("size", "block", "percent"),
    [
        ((1920, 1080), 16, 0.74),
        ((1920, 1080), 8, 0.0),
        ((416, 234), 16, 2.56),
        ((640, 360), 16, 2.22),
        ((640, 360), 8, 0.0),
        ((854, 480), 16, 1.17),
        ((854, 480), 8, 0.23),
        ((512, 288), 16, 0.0),
    ],
)
def test_padding_is_what_is_coded_beside_the_picture(
    size: tuple[int, int], block: int, percent: float
) -> None:
    assert 100 * padding(Size(*size), block) == pytest.approx(percent, abs=0.005)


def test_every_codec_has_its_blocks() -> None:
    assert set(BLOCK) == set(CODECS)
    # Sizes are fitted to the largest, so those that pad nothing pad nothing in any codec.
    assert all(BLOCK["x264"] % block == 0 for block in BLOCK.values())


@pytest.mark.parametrize(
    ("display", "wanted", "sizes"),
    [
        # Without padding at 16:9 exactly, and nearly.
        ((3840, 2160), (144, 288, 432, 576, 720), "256x144 512x288 768x432 1024x576 1280x720"),
        ((3840, 2160), (208, 224, 272, 354, 480), "368x208 400x224 480x272 624x352 848x480"),
        # Of exactly 16:9 with 0.7 % of padding, which is left alone.
        ((3840, 2160), (540, 1080), "960x540 1920x1080"),
        ((1920, 804), (288, 432), "688x288 1024x432"),
        ((1440, 1080), (234, 288, 360), "320x240 384x288 494x368"),
        ((1080, 1080), (234, 360, 1000), "240x240 352x352"),
        ((1080, 1920), (224, 352), "224x400 352x624"),
        ((961, 541), (288, 440), "512x288 768x432"),
        # Two heights become one size.
        ((3840, 2160), (428, 432, 436), "768x432"),
        # Too small for another size of the same shape.
        ((160, 90), (24, 48), "42x24 86x48"),
    ],
)
def test_fitted_sizes(display: tuple[int, int], wanted: tuple[int, ...], sizes: str) -> None:
    found = rung_sizes(*display, wanted, "size")
    assert " ".join(f"{size.width}x{size.height}" for size in found[:-1]) == sizes
    assert found[-1] == rung_sizes(*display, ())[0]


def least_padding(display: tuple[int, int], wanted: int, lines: int) -> Fraction | None:
    """By looking at every even size within ``lines`` of a height; None where none is allowed."""
    shape = Fraction(max(display), min(display))
    found = []
    for short in range(2, wanted + lines + 1, 2):
        for long in range(short, 2 * round(short * shape) + 1, 2):
            error = Fraction(long, short) / shape
            if abs(short - wanted) <= lines and max(error, 1 / error) <= Fraction(101, 100):
                coded = -(-short // 16) * -(-long // 16) * 256
                found.append(Fraction(coded, short * long) - 1)
    return min(found, default=None)


@settings(deadline=None, max_examples=60)
@given(
    st.tuples(st.integers(120, 900), st.integers(120, 900)),
    st.integers(5, 200),
    st.sampled_from(get_args(Fit)[1:]),
)
def test_no_allowed_size_pads_less(display: tuple[int, int], half: int, fit: Fit) -> None:
    wanted = 2 * half
    if min(display) < 1.1 * wanted:
        return
    plain, size = (rung_sizes(*display, (wanted,), each)[0] for each in ("off", fit))
    least = least_padding(display, wanted, 0 if fit == "width" else min(8, wanted // 20))
    exact = plain.width * display[1] == plain.height * display[0]
    if padding(plain) == 0 or (exact and padding(plain) < 0.01) or least is None:
        assert size == plain
    else:
        assert padding(size) == pytest.approx(float(least))


@example((724, 725), [656], "size")
@example((725, 724), [658], "width")
@example((724, 725), [658], "width")
@settings(deadline=None)
@given(DISPLAYS, st.lists(st.integers(2, 2200), max_size=8), st.sampled_from(get_args(Fit)[1:]))
def test_fitted_sizes_are_even_and_near_and_never_over_the_source(
    display: tuple[int, int], heights: list[int], fit: Fit
) -> None:
    plain = rung_sizes(*display, heights)
    sizes = rung_sizes(*display, heights, fit)
    assert sizes[-1] == plain[-1]
    assert [min(size) for size in sizes] == sorted({min(size) for size in sizes})
    for size in sizes[:-1]:
        assert all(side % 2 == 0 and side > 0 for side in size)
        assert all(side <= own for side, own in zip(size, plain[-1], strict=True))
        assert (size.width > size.height) <= (display[0] >= display[1])
        was = min(plain, key=lambda each: abs(min(each) - min(size)))
        assert abs(min(size) - min(was)) <= (8 if fit == "size" else 0)
        assert size in plain or abs(aspect_error(size, *display)) <= 0.0101
    if fit == "width":
        assert [min(size) for size in sizes] == [min(size) for size in plain]


def test_a_profile_says_whether_sizes_are_fitted() -> None:
    offered = load_profile().sizes
    assert load_profile().fit_sizes
    assert offered(1920, 1080, (352, 360)) == (Size(624, 352), Size(640, 360), Size(1920, 1080))
    plain = dataclasses.replace(load_profile(), name="x", fit_sizes=False)
    assert plain.sizes(1920, 1080, (352,))[0] == Size(626, 352)
    fitted = dataclasses.replace(load_profile(), name="x", heights=(360,))
    assert fitted.sizes(1920, 1080)[0] == Size(624, 352)


@pytest.mark.parametrize("name", ["default", "constrained", "replace-fixed", "archive"])
def test_profiles_of_release_01_have_the_sizes_that_they_had(name: str) -> None:
    profile = load_profile(f"{name}-0.1")
    for display in [(1920, 1080), (854, 480), (1080, 1920), (1921, 803)]:
        assert profile.sizes(*display) == rung_sizes(*display, HEIGHTS)
        assert profile.sizes(*display, (352, 361)) == rung_sizes(*display, (352, 361))
