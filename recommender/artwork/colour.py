"""Colours of stills: limited-range YCbCr to full-range sRGB, and the dominant colours."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from encoder.arrays import Float32, Int64, UInt8
from encoder.source.colour.codes import usual_colours

# Kr and Kb as in ITU-T H.273.
_LUMA_WEIGHTS = {
    "bt709": (0.2126, 0.0722),
    "smpte170m": (0.299, 0.114),
    "bt470bg": (0.299, 0.114),
    "fcc": (0.30, 0.11),
    "smpte240m": (0.212, 0.087),
    "bt2020nc": (0.2627, 0.0593),
}
# Centres nearer than this in Lab are one colour.
_SAME_COLOUR = 12


def matrix_of(named: str | None, height: int) -> str:
    """Return the matrix that players use: the named one, or else that for this height."""
    if named in _LUMA_WEIGHTS:
        return str(named)
    return usual_colours(height)[2]


def yuv_to_bgr(matrix: str) -> Float32:
    """Return (3, 4) gains and offsets from limited-range (Y, Cb, Cr) to full-range (B, G, R)."""
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


def bgr_of_small(yuv: UInt8, matrix: str | None, height: int) -> UInt8:
    """Convert a small frame (3, h, w) of a title of ``height`` lines to BGR (h, w, 3)."""
    gains = yuv_to_bgr(matrix_of(matrix, height))
    return np.asarray(cv2.transform(cv2.merge(list(yuv)), gains), np.uint8)


@dataclass(frozen=True, slots=True)
class Colour:
    """A colour that covers much of a still."""

    hex: str
    """The colour as ``#rrggbb``."""
    share: float
    """Share of the pixels that have it, 0 to 1."""


def dominant_colours(picture: UInt8, count: int = 5) -> tuple[Colour, ...]:
    """Return up to ``count`` colours of BGR (h, w, 3), the most frequent first."""
    small = cv2.resize(picture, (48, 27), interpolation=cv2.INTER_AREA)
    points = cv2.cvtColor(small, cv2.COLOR_BGR2LAB).reshape(-1, 3).astype(np.float32)
    # k-means starts at quantiles instead of random points: the same picture has the same colours.
    order = points[np.argsort(points @ np.array([1.0, 0.3, 0.3]), kind="stable")]
    centres = order[np.linspace(0, len(order) - 1, 2 * count + 1).astype(int)[1::2]].copy()
    labels = _nearest(points, centres)
    for _ in range(12):
        for number in range(count):
            if (labels == number).any():
                centres[number] = points[labels == number].mean(axis=0)
        before, labels = labels, _nearest(points, centres)
        if np.array_equal(before, labels):
            break
    shares = np.bincount(labels, minlength=count) / len(points)
    merged: list[tuple[float, Float32]] = []
    for number in np.argsort(-shares, kind="stable"):
        share, centre = float(shares[number]), centres[number]
        if share <= 0:
            continue
        for at, (other_share, other) in enumerate(merged):
            if np.linalg.norm(other - centre) < _SAME_COLOUR:
                merged[at] = (other_share + share, other)
                break
        else:
            merged.append((share, centre))
    merged.sort(key=lambda colour: -colour[0])
    lab = np.array([[centre for _, centre in merged]]).round().clip(0, 255).astype(np.uint8)
    colours = cv2.cvtColor(lab, cv2.COLOR_LAB2BGR)[0]
    return tuple(
        Colour(f"#{int(r):02x}{int(g):02x}{int(b):02x}", round(share, 4))
        for (share, _), (b, g, r) in zip(merged, colours, strict=True)
    )


def _nearest(points: Float32, centres: Float32) -> Int64:
    """Return the index of the centre that is nearest to each point, (n,)."""
    squares = sum(np.square(points[:, axis, None] - centres[:, axis]) for axis in range(3))
    return np.asarray(np.asarray(squares, np.float32).argmin(axis=1), np.int64)
