"""BlurHash: a picture as some 30 characters, which clients draw until the picture has arrived.

Source: the description of the algorithm and of its encoding by Wolt,
https://github.com/woltapp/blurhash/blob/master/Algorithm.md. Nothing of its code is used.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from encoder.arrays import Float64, UInt8

_DIGITS: Final = (
    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%*+,-.:;=?@[]^_{|}~"
)
_MOST, _FEWER = 4, 3
_SIDE = 32


def blurhash(bgr: UInt8) -> str:
    """Return the BlurHash of a picture (height, width, 3): 4 components along its longer side, 3
    along the other."""
    height, width = bgr.shape[:2]
    across, down = (_MOST, _FEWER) if width >= height else (_FEWER, _MOST)
    scale = _SIDE / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(bgr, size, interpolation=cv2.INTER_AREA)
    factors = _factors(_linear(np.asarray(small, np.uint8)[..., ::-1]), across, down)
    average, others = factors[0], factors[1:]
    largest = float(np.abs(others).max())
    step = int(max(0, min(82, np.floor(largest * 166 - 0.5))))
    scaled = others / ((step + 1) / 166)
    levels = np.clip(np.floor(np.sign(scaled) * np.sqrt(np.abs(scaled)) * 9 + 9.5), 0, 18)
    parts = [_base83((across - 1) + 9 * (down - 1), 1), _base83(step, 1)]
    red, green, blue = (_srgb(float(value)) for value in average)
    parts.append(_base83(red << 16 | green << 8 | blue, 4))
    parts += [_base83(int(r) * 361 + int(g) * 19 + int(b), 2) for r, g, b in levels]
    return "".join(parts)


def _factors(linear: Float64, across: int, down: int) -> Float64:
    """Return the factors of the cosines, row by row, (across * down, 3)."""
    height, width = linear.shape[:2]
    # At the middles of the pixels, where a plain colour has no other factor than its average. The
    # description takes their corners, which is the same to half a pixel of a picture of 32.
    rows = np.cos(np.pi * np.outer(np.arange(down), np.arange(height) + 0.5) / height)
    columns = np.cos(np.pi * np.outer(np.arange(across), np.arange(width) + 0.5) / width)
    # Rounded, since the last bits of sums differ between kinds of CPU.
    sums = np.einsum("jy,ix,yxc->jic", rows, columns, linear) / (width * height)
    sums *= 2.0
    sums[0, 0] /= 2.0
    return np.asarray(np.round(sums.reshape(-1, 3), 9), np.float64)


def _linear(rgb: UInt8) -> Float64:
    share = rgb / 255.0
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return np.asarray(linear, np.float64)


def _srgb(linear: float) -> int:
    value = min(1.0, max(0.0, linear))
    share = 12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055
    return int(share * 255 + 0.5)


def _base83(value: int, length: int) -> str:
    return "".join(_DIGITS[value // 83**place % 83] for place in reversed(range(length)))
