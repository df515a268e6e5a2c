"""Colour code points of ITU-T H.273 under ffmpeg's names.

A decoded picture states its colours as numbers. The tables here leave out 2 (unspecified) and
whatever ffmpeg has no name for: such a picture counts as silent about that property.
"""

from __future__ import annotations

from typing import Literal

import av

from encoder.mp4 import Colour

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


# -- what is not stated ------------------------------------------------------------------------

# Browsers go by the coded height: Firefox's DefaultColorSpace (dom/media/VideoUtils.h) is
# `aSize.height < 720 ? BT601 : BT709`, Chromium does the same. mpv and HandBrake take pictures of
# 1280 columns and fewer lines for BT.709 as well.
_HD_LINES = 720
_625_LINES = (288, 576)
# Colours that go together: primaries, transfer and matrix. The transfer function of BT.601 is that
# of BT.709.
_HD = ("bt709", "bt709", "bt709")
_SD_625 = ("bt470bg", "smpte170m", "bt470bg")
_SD_525 = ("smpte170m", "smpte170m", "smpte170m")
_WIDE = ("bt2020", "bt2020-10", "bt2020nc")
_FAMILIES = {
    **dict.fromkeys(("bt709", "smpte431", "smpte432"), _HD),
    **dict.fromkeys(("bt470bg",), _SD_625),
    **dict.fromkeys(("smpte170m", "fcc", "bt470m"), _SD_525),
    "smpte240m": ("smpte240m", "smpte240m", "smpte240m"),
    "bt2020": _WIDE,
    "bt2020nc": _WIDE,
}


def usual_colours(height: int) -> tuple[str, str, str]:
    """Return primaries, transfer and matrix that players take for untagged pictures of ``height``
    coded lines.
    """
    if height >= _HD_LINES:
        return _HD
    return _SD_625 if height in _625_LINES else _SD_525


def completed(
    primaries: str | None, transfer: str | None, matrix: str | None, height: int
) -> tuple[str, str, str]:
    """Return primaries, transfer and matrix of which any may be unstated: as stated, or as they go
    with what is stated (the matrix, else the primaries), or as for untagged pictures.
    """
    matrix = None if matrix == "gbr" else matrix  # no matrix of Y'CbCr
    family = _FAMILIES.get(matrix or "") or _FAMILIES.get(primaries or "") or usual_colours(height)
    return primaries or family[0], transfer or family[1], matrix or family[2]


def coded(primaries: str, transfer: str, matrix: str) -> Colour:
    """Return code points of limited range for ffmpeg's names.

    Raises:
        ValueError: a name is unknown.
    """
    codes = []
    for table, stated in ((_PRIMARIES, primaries), (_TRANSFERS, transfer), (_MATRICES, matrix)):
        code = {name: code for code, name in table.items()}.get(stated)
        if code is None:
            raise ValueError(f"no code point for {stated!r}")
        codes.append(code)
    return Colour(codes[0], codes[1], codes[2], full=False)
