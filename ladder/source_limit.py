"""The most bits that a rung is worth, judged by the source's own video.

A rung that takes more bits than the source spends them on what the source does not hold. But the
two rates are only comparable where codecs and keyframes are: a rung of H.264 needs more bits than a
source of HEVC that looks the same, and a ladder with a keyframe in every shot needs more than a
source that has one keyframe in ten minutes. Nor does the source's rate say anything where it is
lower than any rung would sensibly be (black, a still picture, a slide show).
"""

from __future__ import annotations

from dataclasses import dataclass

RELATIVE_BITS = {
    "h264": 1.0,
    "vp9": 0.7,
    "hevc": 0.6,
    "av1": 0.5,
    "vvc": 0.45,
}
"""Bits that a codec needs for the quality of H.264, as a share of H.264's, by ffmpeg's name of the
codec. The shares are those of slow encoders (for medium presets: docs/codecs.md), because that is
how files for distribution are made. A codec that is not listed is older and needs more: its share
counts as 1, so that such a source allows a rung no less than its own rate."""

_CODEC_OF_RECIPE = {"x264": "h264", "x265": "hevc", "svtav1": "av1", "vp9": "vp9"}

KEYFRAME_BITS_PER_PIXEL = 1.0
"""Bits per pixel of a keyframe of H.264 that looks good (CRF 18 takes 0.5 to 1.5)."""

FLOOR_BITS_PER_PIXEL = 0.02
"""Bits per pixel and frame of H.264 below which a rung is cheap whatever the source is:
1,040 kbit/s for 1080p at 25 frames a second."""


@dataclass(frozen=True, slots=True)
class SourceVideo:
    """What the limit has to know of a source's video stream and of the title."""

    bits: int
    """Bits of the coded pictures."""
    codec: str
    """ffmpeg's name of the codec."""
    keyframes: int
    """Number of keyframes."""
    pixels: int
    """Pixels of the title's picture at its display size."""
    frames: int
    """Frames of the title."""
    seconds: float
    """Duration of the title."""


def allowance_bits(source: SourceVideo, codec: str, keyframes: int, lowest_rate: float) -> int:
    """Return the bits that a rung may take beyond those of the source.

    The most bits that a rung is worth are the source's, scaled by what the rung's codec needs more
    than the source's, and with :data:`KEYFRAME_BITS_PER_PIXEL` added for each keyframe that the
    ladder has more than the source. They are at least the floor of :data:`FLOOR_BITS_PER_PIXEL`,
    and at least those of ``lowest_rate``. Where codecs and keyframes are alike and the source is
    above the floor, the allowance is 0.

    Args:
        source: The source's video.
        codec: Codec of the rung, as recipes name it.
        keyframes: Number of keyframes of a rung, one per shot and one per cut inside a shot.
        lowest_rate: Lowest rate in bit/s at which the profile wants a rung.
    """
    own = RELATIVE_BITS[_CODEC_OF_RECIPE[codec]]
    scale = max(1.0, own / RELATIVE_BITS.get(source.codec, 1.0))
    more = max(0, keyframes - source.keyframes)
    limit = scale * source.bits + more * KEYFRAME_BITS_PER_PIXEL * own * source.pixels
    floor = FLOOR_BITS_PER_PIXEL * own * source.pixels * source.frames
    return max(0, round(max(limit, floor, lowest_rate * source.seconds)) - source.bits)
