"""Where people look in a still: a saliency map, its focal point and what follows for composition.

Sources: the spectral residual, Hou and Zhang (CVPR 2007), together with colour distance, Achanta et
al., "Frequency-tuned salient region detection" (CVPR 2009) and Cheng et al., "Global contrast based
salient region detection" (CVPR 2011).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from encoder.arrays import AnyArray, Float32, UInt8

_MAP_SIDE = 64


def saliency_map(yuv: UInt8) -> Float32:
    """Return the saliency of a picture (3, height, width), 0 to 1.

    The map (h, w) has at most 64 pixels on the longer side. The spectral residual finds what
    stands out from the texture. The distances of a colour to the mean and to all other colours
    find what stands out from the palette. The middle gets more weight, because people look there
    and cameras are pointed so.
    """
    _, height, width = yuv.shape
    scale = min(1.0, _MAP_SIDE / max(height, width))
    size = max(8, round(width * scale)), max(8, round(height * scale))
    planes = [cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in yuv]
    luma = planes[0].astype(np.float32)
    spectrum = np.fft.rfft2(luma)
    amplitude = np.log(np.abs(spectrum) + 1.0).astype(np.float32)
    residual = amplitude - cv2.blur(amplitude, (3, 3))
    phase = np.angle(spectrum)
    back = np.fft.irfft2(np.exp(residual + 1j * phase), s=luma.shape)
    around = cv2.GaussianBlur(np.square(back).astype(np.float32), (0, 0), 2.0)
    stands_out = _unit(np.asarray(around, np.float32))
    smooth = [cv2.GaussianBlur(plane.astype(np.float32), (0, 0), 1.5) for plane in planes]
    weights = (0.4, 1, 1)
    distance = np.sqrt(
        sum(w * (plane - plane.mean()) ** 2 for w, plane in zip(weights, smooth, strict=True))
    )
    rare = cv2.GaussianBlur(_rarity(planes), (0, 0), 1.5)
    rows, columns = np.mgrid[0 : size[1], 0 : size[0]].astype(np.float32)
    across, down = (columns + 0.5) / size[0] - 0.5, (rows + 0.5) / size[1] - 0.47
    centre = np.exp(-(across**2 + down**2) / 0.16)
    total = 2 * stands_out + _unit(np.asarray(distance, np.float32))
    total = (total + _unit(np.asarray(rare, np.float32))) * (0.42 + 0.75 * centre)
    return _unit(np.asarray(total, np.float32))


def _rarity(planes: Sequence[AnyArray]) -> Float32:
    """Return for each pixel the mean distance of its colour to all others, by bins of colours."""
    y, u, v = (plane.astype(np.int64) for plane in planes)
    bins = (y // 24 * 22 + u // 12) * 22 + v // 12
    counts = np.bincount(bins.ravel(), minlength=11 * 22 * 22)
    used = np.flatnonzero(counts)
    number = np.zeros(len(counts), np.int64)
    number[used] = np.arange(len(used))
    place, counts = number[bins.ravel()], counts[used]
    colours = np.stack([np.bincount(place, plane.ravel()) / counts for plane in (y, u, v)], 1)
    colours *= (0.45, 1, 1)
    squares = np.square(colours).sum(axis=1)
    apart = np.sqrt(np.maximum(0, squares[:, None] + squares - 2 * colours @ colours.T))
    rarity = (apart * counts).sum(axis=1) / counts.sum()
    return np.asarray(rarity[place].reshape(y.shape), np.float32)


def _unit(values: Float32) -> Float32:
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-6:
        return np.full_like(values, 0.5)
    return (values - low) / (high - low)


def focal_point(attention: Float32) -> tuple[float, float]:
    """Return (x, y), 0 to 1: the centre of mass around the strongest part of a saliency map."""
    height, width = attention.shape
    spread = cv2.GaussianBlur(attention, (0, 0), max(1.0, 0.08 * max(height, width)))
    _, _, _, (column, row) = cv2.minMaxLoc(spread)
    rows, columns = np.mgrid[0:height, 0:width]
    near = np.exp(-((columns - column) ** 2 + (rows - row) ** 2) / (2 * (0.15 * width) ** 2))
    mass = attention**2 * near
    total = float(mass.sum())
    if total <= 0:
        return 0.5, 0.5
    return (
        float((mass * (columns + 0.5)).sum()) / total / width,
        float((mass * (rows + 0.5)).sum()) / total / height,
    )


def composition(luma: UInt8, attention: Float32) -> dict[str, float]:
    """Measure the composition of a still, given its saliency map.

    ``thirds`` is how near the focal point is to a crossing of the thirds, 1 on the crossing.
    ``subject`` is the share of the saliency around the focal point. ``symmetry`` is the
    correlation of left and right.
    """
    x, y = focal_point(attention)
    nearest = min(math.hypot(x - a, y - b) for a in (1 / 3, 2 / 3) for b in (1 / 3, 2 / 3))
    height, width = attention.shape
    rows, columns = np.mgrid[0:height, 0:width]
    inside = np.hypot((columns + 0.5) / width - x, (rows + 0.5) / height - y) < 0.2
    total = float(attention.sum())
    half = cv2.resize(luma, (32, 18), interpolation=cv2.INTER_AREA).astype(np.float32)
    half -= half.mean()
    power = float((half * half).sum())
    return {
        "thirds": max(0.0, 1.0 - nearest / 0.47),
        "subject": float(attention[inside].sum()) / total if total > 0 else 0.0,
        "symmetry": float((half * half[:, ::-1]).sum()) / power if power > 1.0 else 0.0,
    }
