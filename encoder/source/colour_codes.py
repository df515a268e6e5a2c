"""Colour code points of ITU-T H.273 under ffmpeg's names.

A decoded picture states its colours as numbers. The tables here leave out 2 (unspecified) and
whatever ffmpeg has no name for: such a picture counts as silent about that property.
"""

from __future__ import annotations

from typing import Literal

import av

ColorRange = Literal["limited", "full"]
"""Range of levels: 16 to 235, or 0 to 255, in 8 bit."""

_PRIMARIES = {
    1: "bt709",
    4: "bt470m",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "film",
    9: "bt2020",
    10: "smpte428",
    11: "smpte431",
    12: "smpte432",
    22: "jedec-p22",
}
_TRANSFERS = {
    1: "bt709",
    4: "gamma22",
    5: "gamma28",
    6: "smpte170m",
    7: "smpte240m",
    8: "linear",
    9: "log100",
    10: "log316",
    11: "iec61966-2-4",
    12: "bt1361e",
    13: "iec61966-2-1",
    14: "bt2020-10",
    15: "bt2020-12",
    16: "smpte2084",
    17: "smpte428",
    18: "arib-std-b67",
}
_MATRICES = {
    0: "gbr",
    1: "bt709",
    4: "fcc",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "ycgco",
    9: "bt2020nc",
    10: "bt2020c",
    14: "ictcp",
}
_RANGES: dict[int, ColorRange] = {1: "limited", 2: "full"}

UNSUPPORTED_MATRICES = {
    8: "ycgco",
    10: "bt2020c",
    11: "smpte2085",
    12: "chroma-derived-nc",
    13: "chroma-derived-c",
    14: "ictcp",
    15: "ipt-c2",
    16: "ycgco-re",
    17: "ycgco-ro",
}
"""Matrices that ffmpeg's scalers do not convert and players do not expect."""
UNSUPPORTED_TRANSFERS = {9: "log100", 10: "log316"}
"""Transfers that ffmpeg's scalers do not convert and players do not expect."""


def color_primaries(frame: av.VideoFrame) -> str | None:
    """Return ffmpeg's name of a decoded picture's primaries, None when unspecified."""
    return _PRIMARIES.get(int(frame.color_primaries))


def color_transfer(frame: av.VideoFrame) -> str | None:
    """Return ffmpeg's name of a decoded picture's transfer, None when unspecified."""
    return _TRANSFERS.get(int(frame.color_trc))


def color_matrix(frame: av.VideoFrame) -> str | None:
    """Return ffmpeg's name of a decoded picture's matrix, None when unspecified."""
    return _MATRICES.get(int(frame.colorspace))


def color_range(frame: av.VideoFrame) -> ColorRange | None:
    """Return the range of a decoded picture's levels, None when unspecified."""
    if frame.format.name.startswith("yuvj"):
        return "full"
    return _RANGES.get(int(frame.color_range))
