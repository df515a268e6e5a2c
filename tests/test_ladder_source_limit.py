"""The limit that a source sets, on examples that can be worked out by hand."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from ladder.source_limit import RELATIVE_BITS, SourceVideo, allowance_bits

HOUR = SourceVideo(
    bits=3600 * 5_000_000,
    codec="h264",
    keyframes=900,
    pixels=1920 * 1080,
    frames=3600 * 25,
    seconds=3600.0,
)


def test_a_source_of_the_same_codec_and_keyframes_allows_its_own_bits() -> None:
    assert allowance_bits(HOUR, "x264", 900, 145_000) == 0
    assert allowance_bits(HOUR, "svtav1", 900, 145_000) == 0  # needs less, but is not held to it
    older = dataclasses.replace(HOUR, codec="mpeg2video")
    assert allowance_bits(older, "x264", 900, 145_000) == 0


def test_a_source_of_a_better_codec_allows_what_the_rungs_codec_needs() -> None:
    better = dataclasses.replace(HOUR, codec="hevc")
    assert allowance_bits(better, "x264", 900, 145_000) == round(HOUR.bits / 0.6) - HOUR.bits
    assert allowance_bits(better, "x265", 900, 145_000) == 0
    assert allowance_bits(better, "svtav1", 900, 145_000) == 0


def test_keyframes_that_the_source_lacks_are_allowed_for() -> None:
    assert allowance_bits(HOUR, "x264", 1000, 145_000) == 100 * 1920 * 1080
    assert allowance_bits(HOUR, "x265", 1000, 145_000) == round(100 * 1920 * 1080 * 0.6)


def test_a_still_picture_is_allowed_a_rung_that_looks_good() -> None:
    still = dataclasses.replace(HOUR, bits=400_000, keyframes=1)
    floor = round(0.02 * 1920 * 1080 * 3600 * 25)
    assert allowance_bits(still, "x264", 1, 145_000) == floor - still.bits
    small = dataclasses.replace(still, pixels=64 * 64)
    assert allowance_bits(small, "x264", 1, 145_000) == 3600 * 145_000 - still.bits


@given(
    st.integers(0, 10**9),
    st.sampled_from(sorted(RELATIVE_BITS)),
    st.sampled_from(["x264", "x265", "svtav1", "vp9"]),
    st.integers(1, 500),
    st.integers(1, 500),
)
def test_more_source_bits_never_allow_less(
    bits: int, source_codec: str, codec: str, own: int, ladder: int
) -> None:
    less = SourceVideo(bits, source_codec, own, 640 * 360, 2500, 100.0)
    more = dataclasses.replace(less, bits=bits + 1000)
    limit = bits + allowance_bits(less, codec, ladder, 145_000)
    assert limit >= max(bits, 14_500_000)
    assert more.bits + allowance_bits(more, codec, ladder, 145_000) >= limit
