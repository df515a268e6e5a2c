"""From the title's limited-range YCbCr to the full-range sRGB that pictures are stored in."""

from __future__ import annotations

import cv2
import numpy as np

from encoder.analysis.frames import Plane
from encoder.arrays import Float32

# Kr, Kb of ITU-T H.273.
_LUMA_WEIGHTS = {
    "bt709": (0.2126, 0.0722),
    "smpte170m": (0.299, 0.114),
    "bt470bg": (0.299, 0.114),
    "fcc": (0.30, 0.11),
    "smpte240m": (0.212, 0.087),
    "bt2020nc": (0.2627, 0.0593),
}
_HD_LINES = 720


def matrix_of(named: str | None, height: int) -> str:
    """The matrix that players use: the one named, else that of pictures of this height."""
    if named in _LUMA_WEIGHTS:
        return str(named)
    return "bt709" if height >= _HD_LINES else "smpte170m"


def yuv_to_bgr(matrix: str) -> Float32:
    """(3, 4) gains and offsets from limited-range (Y, Cb, Cr) to full-range (B, G, R)."""
    red, blue = _LUMA_WEIGHTS[matrix]
    green = 1 - red - blue
    chroma = 255 / 112
    gains = np.array(
        [
            [255 / 219, chroma * (1 - blue), 0.0],
            [
                255 / 219,
                -chroma * blue * (1 - blue) / green,
                -chroma * red * (1 - red) / green,
            ],
            [255 / 219, 0.0, chroma * (1 - red)],
        ]
    )
    offsets = -gains @ np.array([16, 128, 128])
    return np.column_stack([gains, offsets]).astype(np.float32)


def bgr_of_small(yuv: Plane, matrix: str | None, height: int) -> Plane:
    """(h, w, 3) of a small frame (3, h, w) of a title of ``height`` lines."""
    gains = yuv_to_bgr(matrix_of(matrix, height))
    return np.asarray(cv2.transform(cv2.merge(list(yuv)), gains), np.uint8)
