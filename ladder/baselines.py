"""The fixed ladder: the rates and sizes of the Apple HLS authoring table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from encoder.media import Size
from ladder.sizes import NATIVE_MARGIN, size_within

APPLE_HLS_H264 = (
    (145_000, 234),
    (365_000, 360),
    (730_000, 432),
    (1_100_000, 432),
    (2_000_000, 540),
    (3_000_000, 720),
    (4_500_000, 720),
    (6_000_000, 1080),
    (7_800_000, 1080),
)
"""Average video rate in bit/s and 16:9 height of the H.264 rungs in Apple's "HTTP Live Streaming
(HLS) authoring specification for Apple devices"."""


@dataclass(frozen=True, slots=True)
class FixedRung:
    """One rung of the fixed ladder, to be encoded in two passes at its rate."""

    rate: int
    """Rate in bit/s."""
    size: Size


def fixed_rungs(
    display_width: int,
    display_height: int,
    table: Sequence[tuple[float, int]] = APPLE_HLS_H264,
) -> tuple[FixedRung, ...]:
    """Return the fixed ladder of a table for a title of this display size, from the lowest rate.

    Each listed height stands for a 16:9 frame, upright for portrait titles, that the title has to
    fit into. Rungs that would enlarge the title are dropped, unless its own size is within 10 % of
    the listed one; then its own size is used. A title that is smaller than all of them keeps the
    lowest rung, at its own size.
    """
    rungs: list[FixedRung] = []
    for rate, height in table:
        size, scale = size_within(display_width, display_height, height)
        if scale < NATIVE_MARGIN or not rungs:
            rungs.append(FixedRung(round(rate), size))
    return tuple(rungs)
