"""What is measured of one still: pure functions on planes.

Luma is limited range (16 is black, 235 white) in planes of 8 bit. *Small* is what the analysis
pass gives (320 pixels on the longer side), *detail* is luma at up to 960 pixels, because focus and
letters do not survive averaging. All are cheap enough for several stills a second.

Sources: blur by re-blurring, Crete et al., "The blur effect: perception and estimation with a new
no-reference perceptual blur metric" (HVEI 2007); saliency by the spectral residual, Hou and Zhang
(CVPR 2007), together with distance of colour, Achanta et al., "Frequency-tuned salient region
detection" (CVPR 2009) and Cheng et al., "Global contrast based salient region detection" (CVPR
2011); colourfulness after Hasler and Suesstrunk (2003); noise by Immerkaer's
mask (:func:`encoder.analysis.feature_maths.noise`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from encoder.analysis.frames import Plane
from encoder.arrays import AnyArray, Float32, UInt8

DETAIL_SIDE: Final = 960
"""Pixels of the longer side of the plane that focus and letters are read from."""

BLACK, WHITE = 16, 235
_BLOCK = 16
_SHARPEST_BLOCKS = 0.25
_SALIENCY_SIDE = 64
_FLAT_GRADIENT = 4.0
_CLIP_LOW, _CLIP_HIGH = 17, 234


@dataclass(frozen=True, slots=True)
class Focus:
    """How sharp a still is where it is sharpest."""

    sharpness: float
    """Mean gradient of the sharpest quarter of its blocks, levels per pixel."""
    blur: float
    """0 to 1: how little is lost by blurring those blocks once more."""
    motion_blur: float
    """Difference between the blur along rows and along columns, 0 to 1: smearing has a
    direction, being out of focus has none."""


def detail_plane(luma: AnyArray, gain: float = 1.0, offset: float = 0.0) -> Plane:
    """Stored luma as 8 bit limited range, averaged down to :data:`DETAIL_SIDE`; never larger."""
    height, width = luma.shape
    scale = min(1.0, DETAIL_SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(luma, size, interpolation=cv2.INTER_AREA)
    if (gain, offset) == (1.0, 0.0) and small.dtype == np.uint8:
        return np.ascontiguousarray(small, dtype=np.uint8)
    levels = small.astype(np.float32) * np.float32(gain) + np.float32(offset)
    return np.asarray(np.clip(np.rint(levels), 0, 255), np.uint8)


def focus(detail: Plane) -> Focus:
    """Sharpness and blur of the sharpest quarter of ``detail``.

    Only a quarter counts, because a face before a soft background is as sharp as it should be.
    """
    if min(detail.shape) < 2 * _BLOCK:
        large = cv2.resize(detail, None, fx=4, fy=4, interpolation=cv2.INTER_LINEAR)
        detail = np.asarray(large, np.uint8)
    parts = []
    gradients = []
    for axis in (0, 1):
        kernel = (1, 9) if axis == 0 else (9, 1)
        blurred = np.asarray(cv2.blur(detail, kernel), np.uint8)
        change, change_blurred = _steps(detail, axis), _steps(blurred, axis)
        gradients.append(_block_means(change))
        parts.append(_block_means(cv2.subtract(change, change_blurred)))
    height = min(part.shape[0] for part in gradients)
    width = min(part.shape[1] for part in gradients)
    across, down = (part[:height, :width].ravel() for part in (gradients[1], gradients[0]))
    lost_across, lost_down = (part[:height, :width].ravel() for part in (parts[1], parts[0]))
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


def _steps(plane: Plane, axis: int) -> Plane:
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


def levels(luma: Plane) -> dict[str, float]:
    """Exposure, contrast, clipping and entropy of a luma plane.

    ``exposure`` is the mean from 0 (black) to 1 (white), ``contrast`` the span of the middle 90 %
    of the levels and ``bright`` its upper end, both in the same unit; ``clipped`` is the share of
    pixels at either end of the scale, ``entropy`` bits of the histogram of levels.
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


def colourfulness(yuv: Plane) -> float:
    """Spread of chroma plus 0.3 of its distance from grey, in levels."""
    variance = square = 0.0
    for plane in yuv[1:]:
        mean, deviation = cv2.meanStdDev(plane)
        variance += float(deviation[0, 0]) ** 2
        square += (float(mean[0, 0]) - 128) ** 2
    return math.sqrt(variance) + 0.3 * math.sqrt(square)


def gradient_map(luma: Plane, block: int = 8) -> Float32:
    """Mean gradient of each block of ``luma``, levels per pixel."""
    across = cv2.absdiff(luma[:, 1:], luma[:, :-1])[:-1]
    down = cv2.absdiff(luma[1:], luma[:-1])[:, :-1]
    return _block_means(across.astype(np.uint16) + down, block)


def uniform_share(gradients: Float32) -> float:
    """Share of the blocks of :func:`gradient_map` in which nothing is to be seen."""
    return float((gradients < 1.0).mean())


def title_space(gradients: Float32) -> tuple[float, str]:
    """The side with most room for a title: the share of quiet blocks there, and which it is.

    Sides are the left and right 40 % and the upper and lower third.
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


def saliency(yuv: Plane) -> Float32:
    """Where one looks: (h, w) at most 64 on the longer side, 0 to 1, of (3, height, width).

    The spectral residual finds what stands out of the texture, distance of colour (to the mean,
    and to all other colours) what stands out of the palette; people look at the middle of
    pictures, and cameramen put things there.
    """
    _, height, width = yuv.shape
    scale = min(1.0, _SALIENCY_SIDE / max(height, width))
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
    found = 2 * stands_out + _unit(np.asarray(distance, np.float32))
    found = (found + _unit(np.asarray(rare, np.float32))) * (0.42 + 0.75 * centre)
    return _unit(np.asarray(found, np.float32))


def _rarity(planes: Sequence[AnyArray]) -> Float32:
    """Of each pixel the mean distance of its colour to those of all others, colours in bins."""
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
    """(x, y) in 0 to 1: the centre of the mass around the strongest part of a saliency map."""
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


def composition(luma: Plane, attention: Float32) -> dict[str, float]:
    """``thirds``: how near the focal point is to a crossing of the thirds, 1 on it. ``subject``:
    how much of the attention is in one place. ``symmetry``: likeness of left and right."""
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


def text_likelihood(detail: Plane) -> float:
    """0 to 1: how much of the picture is lines of letters; from about 0.45 they cannot be missed.

    Ink (strokes much brighter or much darker than what is around them) falls into pieces; pieces
    of letters' shape that stand in a row with others of like height, like level and small gaps
    are a line. Texture has strokes too, but seldom five in a row. Read at two sizes, because
    strokes of large titles are wider than the gaps of small ones.
    """
    found = 0.0
    for side in _TEXT_SIDES:
        scale = min(1.0, side / max(detail.shape))
        small = cv2.resize(detail, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        plane = np.asarray(small, np.uint8)
        for operation in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT):
            ink = cv2.morphologyEx(plane, operation, np.ones((_PEN, _PEN), np.uint8))
            found += _lines_of_letters(plane, np.asarray(ink > _INK, np.uint8))
    return min(1.0, found)


_TEXT_SIDES = (480, 160)
_PEN = 11
_INK = 45
_MOST_PIECES = 250
_LETTERS_OF_A_LINE = 5
_LETTERS_OF_A_CARD = 40
_LETTERS_OF_A_LOGO = 10
_AREA_OF_A_CARD = 0.05


def _lines_of_letters(plane: Plane, ink: UInt8) -> float:
    """Text of one polarity at one size."""
    # A plane of 480 by 480 has fewer pieces than a label of 16 bits can tell apart.
    found = cv2.connectedComponentsWithStats(ink, connectivity=8, ltype=cv2.CV_16U)
    boxes = found[2]
    x, y, w, h, area = (boxes[1:, column].astype(np.float32) for column in range(5))
    shaped = (h >= 5) & (h <= 0.25 * len(plane)) & (w <= 2.5 * h) & (w >= 0.08 * h)
    shaped &= (area >= 0.15 * w * h) & (area >= 6)
    pieces = np.flatnonzero(shaped)
    if len(pieces) < _LETTERS_OF_A_LINE:
        return 0.0
    if len(pieces) > _MOST_PIECES:
        pieces = np.sort(pieces[np.argsort(area[pieces])[::-1][:_MOST_PIECES]])
    x, y, w, h = x[pieces], y[pieces], w[pieces], h[pieces]
    fill = area[pieces] / (w * h)
    inked = np.maximum(1e-6, _means_in(ink, x, y, w, h))
    level = np.asarray(_means_in(plane * ink, x, y, w, h) / inked, np.float32)
    tall = np.maximum(h[:, None], h)
    gap = x - (x + w)[:, None]
    overlap = np.minimum((y + h)[:, None], y + h) - np.maximum(y[:, None], y)
    near = (gap > -0.2 * tall) & (gap < 0.9 * tall) & (x[:, None] < x)
    alike = (overlap > 0.6 * np.minimum(h[:, None], h)) & (tall < 2.2 * np.minimum(h[:, None], h))
    alike &= np.abs(level[:, None] - level) < 22
    following = np.where(near & alike, gap, np.inf)
    following_at = following.argmin(axis=1)
    has = np.isfinite(following.min(axis=1))
    letters, covered = 0, 0.0
    begins = np.ones(len(x), bool)
    begins[following_at[has]] = False
    for first in np.flatnonzero(begins & has):
        line = [int(first)]
        while has[line[-1]] and len(line) < 200:
            line.append(int(following_at[line[-1]]))
        if len(line) < _LETTERS_OF_A_LINE:
            continue
        heights, bottoms = h[line], (y + h)[line]
        height = float(heights.mean())
        even = float(np.median(np.abs(bottoms - np.median(bottoms)))) < 0.12 * height
        # Tiles and grids stand in rows as well, but are all alike, or solid.
        alphabet = float(fill[line].mean()) < 0.82 and float(w[line].std()) > 0.07 * height
        alphabet &= float(heights.std()) < 0.3 * height and float(level[line].std()) < 12
        if not (even and alphabet):
            continue
        if not _is_on_ground(plane, ink, level[line], x[line], y[line], w[line], h[line]):
            continue
        letters += len(line)
        covered += height * float(x[line[-1]] + w[line[-1]] - x[line[0]])
    size = min(covered / (_AREA_OF_A_CARD * plane.size), letters / _LETTERS_OF_A_LOGO)
    return max(letters / _LETTERS_OF_A_CARD, size)


def _means_in(plane: AnyArray, x: Float32, y: Float32, w: Float32, h: Float32) -> Float32:
    """Mean of a plane in each of many boxes."""
    sums = cv2.integral(plane.astype(np.uint8))
    left, top, right, bottom = (v.astype(np.int64) for v in (x, y, x + w, y + h))
    inside = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    return (inside / (w * h)).astype(np.float32)


def _is_on_ground(
    plane: Plane, ink: Plane, level: Float32, x: Float32, y: Float32, w: Float32, h: Float32
) -> bool:
    """Whether what is between the letters of a line has one level, far from that of the ink."""
    rows = slice(int(y.min()), int((y + h).max()))
    columns = slice(int(x.min()), int((x + w).max()))
    ground = plane[rows, columns][cv2.dilate(ink[rows, columns], np.ones((3, 3), np.uint8)) == 0]
    if ground.size < 12:
        return False
    middle = float(np.median(ground))
    contrast = abs(float(level.mean()) - middle)
    return contrast > 45 and float(np.abs(ground - middle).mean()) < 0.16 * contrast


def bars(luma: Plane) -> tuple[int, int, int, int]:
    """Black rows and columns at (top, bottom, left, right) of a plane; at most a third each."""
    found = []
    black = (luma <= BLACK + 8).view(np.uint8)
    for axis in (1, 0):
        # Rows (columns) whose level at 0.98 is black: so many of their pixels are.
        share = cv2.reduce(black, axis, cv2.REDUCE_SUM, dtype=cv2.CV_32S).ravel()
        dark = share > int(0.98 * (luma.shape[axis] - 1))
        for series in (dark, dark[::-1]):
            shown = np.flatnonzero(~series)
            found.append(int(min(shown[0] if len(shown) else 0, len(series) // 3)))
    return found[0], found[1], found[2], found[3]
