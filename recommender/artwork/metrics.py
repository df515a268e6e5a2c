"""Measures of one still: pure functions on planes of pixels.

Luma has 8 bits in limited range (16 is black, 235 white). A *small* plane comes from the analysis
pass (320 pixels on the longer side). A *detail* plane is luma at up to 960 pixels, because focus
and letters do not survive averaging. All measures are cheap enough for several stills per second.

Sources: blur by re-blurring, Crete et al., "The blur effect: perception and estimation with a new
no-reference perceptual blur metric" (HVEI 2007); colourfulness after Hasler and Suesstrunk (2003);
noise by Immerkaer's mask (:func:`encoder.analysis.feature_maths.noise`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from encoder.arrays import AnyArray, Float32, UInt8

DETAIL_SIDE: Final = 960
"""Longer side in pixels of the plane that focus and letters are read from."""

BLACK, WHITE = 16, 235
_BLOCK = 16
_SHARPEST_BLOCKS = 0.25
_FLAT_GRADIENT = 4.0
_CLIP_LOW, _CLIP_HIGH = 17, 234


@dataclass(frozen=True, slots=True)
class Focus:
    """Sharpness and blur of a still where it is sharpest."""

    sharpness: float
    """Mean gradient of the sharpest quarter of the blocks, levels per pixel."""
    blur: float
    """How little those blocks lose when they are blurred once more, 0 to 1."""
    motion_blur: float
    """Difference between the blur along rows and along columns, 0 to 1. Motion blur has a
    direction, a loss of focus has none."""


def detail_plane(luma: AnyArray, gain: float = 1.0, offset: float = 0.0) -> UInt8:
    """Return stored luma as 8-bit limited range, averaged down to :data:`DETAIL_SIDE`."""
    height, width = luma.shape
    scale = min(1.0, DETAIL_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(luma, size, interpolation=cv2.INTER_AREA)
    if (gain, offset) == (1.0, 0.0) and small.dtype == np.uint8:
        return np.ascontiguousarray(small, dtype=np.uint8)
    levels = small.astype(np.float32) * np.float32(gain) + np.float32(offset)
    return np.asarray(np.clip(np.rint(levels), 0, 255), np.uint8)


def focus(detail: UInt8) -> Focus:
    """Measure sharpness and blur of the sharpest quarter of ``detail``.

    Only a quarter counts, because a face in front of a soft background is sharp enough.
    """
    if min(detail.shape) < 2 * _BLOCK:
        large = cv2.resize(detail, None, fx=4, fy=4, interpolation=cv2.INTER_LINEAR)
        detail = np.asarray(large, np.uint8)
    gradients, losses = [], []
    for axis in (0, 1):
        kernel = (1, 9) if axis == 0 else (9, 1)
        blurred = np.asarray(cv2.blur(detail, kernel), np.uint8)
        change, change_blurred = _steps(detail, axis), _steps(blurred, axis)
        gradients.append(_block_means(change))
        losses.append(_block_means(cv2.subtract(change, change_blurred)))
    height = min(part.shape[0] for part in gradients)
    width = min(part.shape[1] for part in gradients)
    across, down = (part[:height, :width].ravel() for part in (gradients[1], gradients[0]))
    lost_across, lost_down = (part[:height, :width].ravel() for part in (losses[1], losses[0]))
    energy = across + down
    count = max(1, int(len(energy) * _SHARPEST_BLOCKS))
    best = np.argpartition(energy, len(energy) - count)[-count:]
    sharpness = float(energy[best].mean())
    blurs = [
        1.0 - float(lost[best].sum()) / total if (total := float(change[best].sum())) > 0 else 1.0
        for change, lost in ((across, lost_across), (down, lost_down))
    ]
    total = float(energy[best].sum())
    lost = float((lost_across + lost_down)[best].sum())
    return Focus(sharpness, 1.0 - lost / total if total > 0 else 1.0, abs(blurs[0] - blurs[1]))


def _steps(plane: UInt8, axis: int) -> UInt8:
    first, second = (plane[:-1], plane[1:]) if axis == 0 else (plane[:, :-1], plane[:, 1:])
    return np.asarray(cv2.absdiff(first, second), np.uint8)


def _block_means(plane: AnyArray, block: int = _BLOCK) -> Float32:
    height, width = (max(1, side // block) for side in plane.shape)
    inside = plane[: height * block, : width * block]
    if min(inside.shape) < block or inside.dtype != np.uint8:
        whole = inside.astype(np.float32)
        shrunk = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)
        return np.asarray(shrunk, np.float32)
    corners = np.asarray(cv2.integral(inside), np.int32)[::block, ::block]
    sums = corners[1:, 1:] - corners[1:, :-1] - corners[:-1, 1:] + corners[:-1, :-1]
    return (sums / block**2).astype(np.float32)


def levels(luma: UInt8) -> dict[str, float]:
    """Measure exposure, contrast, clipping and entropy of a luma plane.

    ``exposure`` is the mean from 0 (black) to 1 (white). ``contrast`` is the span of the middle
    90 % of the levels and ``bright`` the upper end of that span, both in the same unit.
    ``clipped`` is the share of pixels at either end of the scale, ``entropy`` that of the
    histogram of levels in bits.
    """
    histogram = cv2.calcHist([luma], [0], None, [256], [0, 256]).ravel()
    share = histogram / luma.size
    cumulative = share.cumsum()
    low, high = (int(np.searchsorted(cumulative, at)) for at in (0.05, 0.95))
    used = share[share > 0]
    span = WHITE - BLACK
    return {
        "exposure": (float((share * np.arange(256)).sum()) - BLACK) / span,
        "contrast": (high - low) / span,
        "bright": (high - BLACK) / span,
        "clipped": float(share[: _CLIP_LOW + 1].sum() + share[_CLIP_HIGH:].sum()),
        "entropy": float(-(used * np.log2(used)).sum()),
    }


def gradient_map(luma: UInt8, block: int = 8) -> Float32:
    """Return the mean gradient of each block of ``luma``, levels per pixel."""
    across = cv2.absdiff(luma[:, 1:], luma[:, :-1])[:-1]
    down = cv2.absdiff(luma[1:], luma[:-1])[:, :-1]
    return _block_means(across.astype(np.uint16) + down, block)


def uniform_share(gradients: Float32) -> float:
    """Return the share of the blocks of :func:`gradient_map` that show nothing."""
    return float((gradients < 1.0).mean())


def title_space(gradients: Float32) -> tuple[float, str]:
    """Return the share of quiet blocks on the side with most room for a title, and that side.

    The sides are the left and right 40 % and the upper and lower third.
    """
    height, width = gradients.shape
    side, third = max(1, round(0.4 * width)), max(1, round(height / 3))
    parts = {
        "left": gradients[:, :side],
        "right": gradients[:, -side:],
        "top": gradients[:third],
        "bottom": gradients[-third:],
    }
    shares = {name: float((part < _FLAT_GRADIENT).mean()) for name, part in parts.items()}
    best = max(shares, key=lambda name: shares[name])
    return shares[best], best


def bars(luma: UInt8) -> tuple[int, int, int, int]:
    """Count the black lines at (top, bottom, left, right) of a plane, at most a third each."""
    counts = []
    black = (luma <= BLACK + 8).view(np.uint8)
    for axis in (1, 0):
        # A line is black if 98 % of its pixels are.
        share = cv2.reduce(black, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel()
        dark = share > int(0.98 * (luma.shape[axis] - 1))
        for series in (dark, dark[::-1]):
            shown = np.flatnonzero(~series)
            counts.append(int(min(shown[0] if len(shown) else 0, len(series) // 3)))
    top, bottom, left, right = counts
    return top, bottom, left, right
