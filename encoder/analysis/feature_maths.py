"""Pixel mathematics behind the features: texture, detail, noise and motion of pictures.

Pure functions of arrays, without names or versions; :mod:`encoder.analysis.features` decides which
of these numbers are measured, in which order. Levels are those of 8-bit limited range (16 is
black, 235 white) in ``float32``. Any change of a number here is a new
:data:`encoder.analysis.features.FEATURES_VERSION`.

Sources: texture is that of VCA (Menon et al., "VCA: Video Complexity Analyzer", MMSys 2022),
noise that of Immerkaer ("Fast Noise Variance Estimation", CVIU 1996), motion the dense inverse
search of Kroeger et al. (ECCV 2016), colourfulness follows Hasler and Suesstrunk ("Measuring
Colourfulness in Natural Images", 2003), the pooling of lost detail Li et al. ("Image Quality
Assessment by Separately Evaluating Detail Losses and Additive Impairments", IEEE TMM 2011).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from encoder.arrays import AnyArray, Float32, Float64, Int64, UInt8

_BLOCK = 8
_WINDOW = 32
_WINDOWS_ACROSS, _WINDOWS_DOWN = 8, 6
_DETAIL_WINDOW = 64  # divided by each scale factor a whole number
_DETAIL_ACROSS, _DETAIL_DOWN = 6, 4
_DETAIL_BLOCK, _DETAIL_BLOCKS = 9, 5
# The part of a window that is eight pixels from the next window: cubic enlargement by 16/3 reaches
# no further. The gradient needs one pixel more on each side than the blocks have.
_DETAIL_MIDDLE = (8, _DETAIL_BLOCKS * _DETAIL_BLOCK + 2)
# Level differences, per pixel, on the 8-bit scale.
_FLAT_TEXTURE = 0.5
_UNIFORM_TEXTURE = 0.1  # one pixel off by one level makes 0.12
_STILL_DIFFERENCE = 1.0
_DARK_LEVEL = 48
_EDGE_GRADIENT = 16.0
_SOBEL_GAIN = 8
_CLIPPED = (20.0, 230.0)
# Squared levels per pixel: what masks a loss, and what counts as no detail at all.
_MASKING = 2.0
_LEAST_DETAIL = 0.01
_MOST_SEEN = 1.5
_NOISE_QUANTILE = 0.2
_NOISE_MASK = np.outer((1, -2, 1), (1, -2, 1)).astype(np.float32)
_STILLEST_QUANTILE = 0.25
_LEAST_FLOW_SIDE = 12
# Pixels of the flow picture: motion under this is no motion, and has no direction.
_LEAST_MOTION = 0.1


# -- texture -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Texture:
    """DCT texture of 8x8 blocks per pixel, each of shape (blocks,)."""

    energy: Float32
    """Absolute AC coefficients weighted as in VCA: low frequencies up to e times the highest."""
    plain: Float32
    """Mean absolute AC coefficient."""
    high: Float32
    """Part of ``plain`` in the upper half of frequencies."""


def _cosines() -> Float32:
    """Return the orthonormal DCT-II, (frequency, place)."""
    place = np.arange(_BLOCK)
    rows = np.cos(np.pi * (place + 0.5) * place[:, None] / _BLOCK) * math.sqrt(2 / _BLOCK)
    rows[0] /= math.sqrt(2)
    return rows.astype(np.float32)


def _weights() -> Float32:
    """Return (coefficients, 3): VCA's weights, one for all AC, one for the upper half."""
    order = np.arange(1, _BLOCK + 1)
    product = np.outer(order, order) / _BLOCK**2
    vca = np.exp(np.abs(product**2 - 1))
    plain = np.ones((_BLOCK, _BLOCK))
    high = np.add.outer(order, order) - 2 >= _BLOCK - 1
    table = np.stack([vca, plain, high], axis=-1)
    table[0, 0] = 0
    return (table.reshape(-1, 3) / _BLOCK**2).astype(np.float32)


_COSINES = _cosines()
_WEIGHTS = _weights()


def _texture(plane: Float32) -> Texture:
    return _textures(plane[None])


def _textures(planes: Float32) -> Texture:
    """Return the texture of (planes, height, width): the blocks of all planes in order.

    Rows and columns that do not fill a block at the lower and right edges are ignored.
    """
    _, height, width = planes.shape
    short = (max(0, _BLOCK - height), max(0, _BLOCK - width))
    if any(short):
        planes = np.pad(planes, ((0, 0), (0, short[0]), (0, short[1])), mode="edge")
        _, height, width = planes.shape
    down, across = height // _BLOCK, width // _BLOCK
    whole = np.ascontiguousarray(planes[:, : down * _BLOCK, : across * _BLOCK])
    # Two large products with a transposition between them: half the time of one per block.
    by_row = (whole.reshape(-1, _BLOCK) @ _COSINES.T).reshape(-1, _BLOCK, across * _BLOCK)
    turned = np.ascontiguousarray(by_row.swapaxes(1, 2)).reshape(-1, _BLOCK)
    coefficients = np.abs(turned @ _COSINES.T).reshape(-1, _BLOCK**2)
    energy, plain, high = (coefficients @ _WEIGHTS).T
    return Texture(energy, plain, high)


# -- one small frame ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class SmallPicture:
    """A small frame with the arrays that spatial and temporal measures share."""

    yuv: UInt8
    """(3, height, width) planes."""
    luma: Float32
    half: UInt8
    """Luma at half size."""
    mid: Texture
    coarse: Texture
    """Texture of the luma at half size."""

    @classmethod
    def of(cls, yuv: UInt8) -> Self:
        """Prepare the planes (3, height, width) of a small frame."""
        luma, half = _floats(yuv[0]), _half(yuv[0])
        return cls(yuv, luma, half, _texture(luma), _texture(_floats(half)))


def spatial_measures(picture: SmallPicture, windows: Float32) -> tuple[float, ...]:
    """Measure one frame: :data:`encoder.analysis.features.SPATIAL` without KEPT and SEEN.

    ``windows`` (windows, height, width) of the decoded luma give the ``*_fine`` measures.
    """
    luma, mid, coarse = picture.yuv[0], picture.mid, picture.coarse
    pixels = luma.size
    chroma = [_texture(_floats(_half(plane))).energy.mean() for plane in picture.yuv[1:]]
    fine = _textures(windows)
    gradient = sum(
        np.abs(cv2.Sobel(luma, cv2.CV_16S, *direction)) for direction in ((1, 0), (0, 1))
    )
    mean, deviation = cv2.meanStdDev(luma)
    total = float(fine.plain.sum())
    return (
        float(fine.energy.mean()),
        float(mid.energy.mean()),
        float(coarse.energy.mean()),
        quantile(mid.energy, 0.9),
        float(sum(chroma)),
        float(fine.high.sum()) / total if total > _UNIFORM_TEXTURE else 0.0,
        float(np.mean(gradient)) / _SOBEL_GAIN,
        np.count_nonzero(gradient > _EDGE_GRADIENT * _SOBEL_GAIN) / pixels,
        noise(windows),
        noise(picture.luma[None]),
        float(mean[0, 0]),
        float(deviation[0, 0]),
        colourfulness(picture.yuv),
        float((mid.plain < _FLAT_TEXTURE).mean()),
        float((fine.plain < _UNIFORM_TEXTURE).mean()),
        np.count_nonzero(luma < _DARK_LEVEL) / pixels,
    )


def colourfulness(yuv: UInt8) -> float:
    """Return the spread of chroma plus 0.3 of its distance from grey, in levels."""
    variance = square = 0.0
    for plane in yuv[1:]:
        mean, deviation = cv2.meanStdDev(plane)
        variance += float(deviation[0, 0]) ** 2
        square += (float(mean[0, 0]) - 128) ** 2
    return math.sqrt(variance) + 0.3 * math.sqrt(square)


def noise(planes: Float32) -> float:
    """Return the standard deviation of noise in levels, seen in the flattest fifth of the blocks.

    It comes out a little under the truth, and as 0 where all is black or white. Immerkaer's mask
    (a second difference both ways, blind to ramps and straight edges) is averaged over blocks of
    6x6 pixels of ``planes`` (planes, height, width).
    """
    size = 6
    count, height, width = planes.shape
    if min(height, width) < size + 2:
        return 0.0
    stacked = planes.reshape(count * height, width)
    mask = cv2.filter2D(stacked, cv2.CV_32F, _NOISE_MASK)
    down, across = (height - 2) // size, (width - 2) // size

    def means(values: AnyArray) -> Float32:
        # Only the inside of a window: at its border the mask has seen the next window.
        inside = values.reshape(count, height, width)[:, 1 : 1 + down * size, 1 : 1 + across * size]
        inside = np.ascontiguousarray(inside).reshape(count * down * size, across * size)
        by_block = cv2.resize(inside, (across, count * down), interpolation=cv2.INTER_AREA)
        return np.asarray(by_block, dtype=np.float32).ravel()

    level = means(stacked)
    shown = means(np.abs(mask))[(level > _CLIPPED[0]) & (level < _CLIPPED[1])]
    if not len(shown):
        return 0.0
    return math.sqrt(math.pi / 2) / 6 * quantile(shown, _NOISE_QUANTILE)


# -- detail that survives scaling --------------------------------------------------------------


def surviving(windows: Float32, factors: Sequence[float]) -> tuple[float, ...]:
    """Return the shares of detail that survive scaling: *kept* at each factor, then *seen*.

    Detail is the gradient. The surviving part is its product with the gradient of the same windows
    averaged down and enlarged again (cubic), over its own square. *Kept* is that ratio over all
    windows; *seen* is its mean over blocks of 9x9 pixels, with masking by the little detail that
    every block is assumed to have, as Li et al. pool detail loss. Windows are
    (down, across, 64, 64), and 64 over each factor is a whole number.
    """
    down, across, size, _ = windows.shape
    grid = (down, across)
    mosaic = np.ascontiguousarray(windows.swapaxes(1, 2)).reshape(down * size, across * size)
    x, y = _gradient(_middles(mosaic, grid, *_DETAIL_MIDDLE))
    original = _block_detail(x * x + y * y, grid)
    scaled = {size: mosaic}
    kept, seen = [], []
    for factor in factors:
        side = round(size / factor)
        # Where sides divide, average an average: the same numbers for less time.
        larger = scaled[min((made for made in scaled if made % side == 0), default=size)]
        small = cv2.resize(larger, (across * side, down * side), interpolation=cv2.INTER_AREA)
        scaled[side] = np.asarray(small, np.float32)
        enlarged = cv2.resize(small, mosaic.shape[::-1], interpolation=cv2.INTER_CUBIC)
        left_x, left_y = _gradient(_middles(np.asarray(enlarged), grid, *_DETAIL_MIDDLE))
        left_x *= x
        left_y *= y
        left_x += left_y
        left = _block_detail(left_x, grid)
        kept.append(float((left.mean() + _LEAST_DETAIL) / (original.mean() + _LEAST_DETAIL)))
        local = (np.maximum(left, 0) + _MASKING) / (original + _MASKING)
        seen.append(float(np.minimum(local, _MOST_SEEN).mean()))
    return (*kept, *seen)


def _middles(mosaic: Float32, grid: tuple[int, int], border: int, count: int) -> Float32:
    """Cut ``count`` x ``count`` pixels out of each window of a mosaic, as a smaller mosaic.

    ``grid`` is the number of windows (down, across), ``border`` the pixels that are left out at the
    upper and left side of each.
    """
    down, across = grid
    height, width = mosaic.shape[0] // down, mosaic.shape[1] // across
    middle = slice(border, border + count)
    windows = mosaic.reshape(down, height, across, width)[:, middle, :, middle]
    return np.ascontiguousarray(windows).reshape(down * count, across * count)


def _block_detail(detail: Float32, grid: tuple[int, int]) -> Float32:
    """Return the means over blocks of a mosaic, without the outermost pixels of each window."""
    counted = _middles(detail, grid, 1, _DETAIL_BLOCKS * _DETAIL_BLOCK)
    blocks = (grid[1] * _DETAIL_BLOCKS, grid[0] * _DETAIL_BLOCKS)
    return np.asarray(cv2.resize(counted, blocks, interpolation=cv2.INTER_AREA), np.float32)


def _gradient(plane: Float32) -> tuple[Float32, Float32]:
    """Return the gradient across and down, in levels per pixel."""
    across, down = (
        np.asarray(cv2.Sobel(plane, cv2.CV_32F, *direction, scale=1 / _SOBEL_GAIN), np.float32)
        for direction in ((1, 0), (0, 1))
    )
    return across, down


# -- a frame and the one before ----------------------------------------------------------------


def temporal_noise(windows: Float32, before: Float32) -> float:
    """Return the standard deviation of change in the stillest quarter of the windows, per frame."""
    change = windows - before
    change -= change.mean(axis=(1, 2), keepdims=True)
    deviation = np.abs(change).mean(axis=(1, 2)) * math.sqrt(math.pi / 2)
    return quantile(deviation, _STILLEST_QUANTILE) / math.sqrt(2)


class MotionMeter:
    """Measures a small frame against the one before it, with motion compensation.

    Not thread-safe, and sets OpenCV to one thread for the process: optical flow is cut into one
    stripe per thread, and its result would depend on the machine.
    """

    def __init__(self) -> None:
        self._search: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        # Down to full resolution (of the half-size picture), with patches further apart: on five
        # clips the residual falls to 0.55 to 0.8 of the preset's for 1 ms a pair.
        self._search.setFinestScale(0)
        self._search.setPatchSize(8)
        self._search.setPatchStride(6)
        self._search.setGradientDescentIterations(8)
        self._search.setVariationalRefinementIterations(0)
        self._shape: tuple[int, ...] = ()
        self._grid: tuple[Float32, Float32] | None = None
        self._affine: Float64 | None = None

    def measure(self, picture: SmallPicture, before: UInt8) -> tuple[float, ...]:
        """Return :data:`encoder.analysis.features.TEMPORAL` without the noise."""
        luma, old = picture.yuv[0], before[0]
        old_half = _half(old)
        flow = self._backward(picture.half, old_half)
        residual = picture.luma - self._warped(old, flow)
        difference = cv2.absdiff(luma, old)
        intra, inter = picture.mid.energy, _texture(residual).energy
        coarse, inter_coarse = picture.coarse.energy, _texture(_half(residual)).energy
        old_coarse = _texture(_floats(old_half)).energy
        return (
            _mean_difference(luma, old),
            cv2.norm(residual, cv2.NORM_L1) / residual.size,
            float(np.minimum(intra, inter).mean()),
            float(np.minimum(coarse, inter_coarse).mean()),
            float(np.abs(coarse - old_coarse).mean()),
            float(((picture.mid.plain > _FLAT_TEXTURE) & (inter > intra)).mean()),
            float((_block_means(difference) < _STILL_DIFFERENCE).mean()),
            *self._motion(flow),
            abs(cv2.mean(luma)[0] - cv2.mean(old)[0]),
            sum(_mean_difference(picture.yuv[plane], before[plane]) for plane in (1, 2)),
        )

    def _backward(self, half: UInt8, old_half: UInt8) -> Float32:
        """Return (height, width, 2): from where each pixel of the half-size picture came."""
        if min(half.shape) < _LEAST_FLOW_SIDE:
            return np.zeros((*half.shape, 2), np.float32)
        if cv2.getNumThreads() != 1:
            cv2.setNumThreads(1)
        flow: Float32 = self._search.calc(half, old_half, None)
        return flow

    def _warped(self, old: UInt8, flow: Float32) -> Float32:
        height, width = old.shape
        if self._shape != old.shape:
            across, down = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
            x, y = np.meshgrid(across, down)
            self._shape, self._grid = old.shape, (x, y)
            self._affine = None
        assert self._grid is not None
        large = cv2.resize(flow, (width, height), interpolation=cv2.INTER_LINEAR)
        scale = np.float32(width / flow.shape[1]), np.float32(height / flow.shape[0])
        warped = cv2.remap(
            _floats(old),
            self._grid[0] + scale[0] * large[..., 0],
            self._grid[1] + scale[1] * large[..., 1],
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REPLICATE,
        )
        return np.asarray(warped, dtype=np.float32)

    def _motion(self, flow: Float32) -> tuple[float, float, float, float]:
        """Return the length of the motion, its 90 % quantile, its length without the camera's
        motion, all in % of the longer side per frame; and its coherence."""
        vectors = flow[2::4, 2::4] if min(flow.shape[:2]) > 4 else flow
        if self._affine is None or len(self._affine) != vectors.shape[0] * vectors.shape[1]:
            down, across = np.indices(vectors.shape[:2], dtype=np.float64).reshape(2, -1)
            # An orthonormal basis of affine fields: pans, zooms and turns of the camera.
            self._affine = np.linalg.qr(np.column_stack([np.ones_like(down), down, across]))[0]
        moved = vectors.reshape(-1, 2).astype(np.float64)
        length = np.hypot(moved[:, 0], moved[:, 1])
        camera = self._affine @ (self._affine.T @ moved)
        local = np.hypot(*(moved - camera).T)
        percent = 100 / max(flow.shape[:2])
        mean = float(length.mean())
        return (
            percent * mean,
            percent * quantile(length.astype(np.float32), 0.9),
            percent * float(local.mean()),
            float(np.hypot(*moved.mean(axis=0))) / mean if mean > _LEAST_MOTION else 0.0,
        )


def quantile(values: AnyArray, share: float) -> float:
    """Return the value at ``share`` of the sorted values, without interpolation.

    It avoids the cost of :func:`numpy.quantile`.
    """
    at = int(share * (len(values) - 1))
    return float(np.partition(values, at)[at])


def _mean_difference(one: UInt8, other: UInt8) -> float:
    return cv2.norm(one, other, cv2.NORM_L1) / one.size


def _floats(plane: AnyArray) -> Float32:
    return plane.astype(np.float32)


def _half(plane: AnyArray) -> AnyArray:
    height, width = plane.shape
    size = (max(1, (width + 1) // 2), max(1, (height + 1) // 2))
    half: AnyArray = cv2.resize(plane, size, interpolation=cv2.INTER_AREA)
    return half


def _block_means(plane: UInt8) -> Float32:
    """Return the mean of each 8x8 block, as :func:`_texture` cuts them."""
    height, width = (max(_BLOCK, side // _BLOCK * _BLOCK) for side in plane.shape)
    size = (width // _BLOCK, height // _BLOCK)
    means = cv2.resize(_floats(plane[:height, :width]), size, interpolation=cv2.INTER_AREA)
    return np.asarray(means, dtype=np.float32)


# -- the picture as stored ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class StoredLuma:
    """Luma of a decoded picture as stored, and how to turn it into 8-bit limited range."""

    plane: AnyArray
    """(height, width) stored samples."""
    scale: float
    """Factor on a stored sample."""
    offset: float
    """Level added to a scaled sample."""

    @classmethod
    def of(cls, picture: av.VideoFrame, full_range: bool, interlaced: bool) -> Self:
        """Take the luma of a picture, or the luma of one field of an interlaced picture."""
        layout = picture.format
        bits = layout.components[0].bits
        plain = layout.name.startswith(("yuv4", "yuvj4", "yuva4", "gray", "nv12", "nv16"))
        if not plain or layout.is_big_endian or bits > 16 or picture.planes[0].line_size <= 0:
            picture = picture.reformat(
                format="yuv444p",
                dst_colorspace=Colorspace.ITU709 if layout.is_rgb else None,
                dst_color_range=ColorRange.MPEG,
                threads=1,
            )
            full_range, bits = False, 8
        stored = picture.planes[0]
        kind: np.dtype[Any] = np.dtype(np.uint8 if bits <= 8 else "<u2")
        plane = np.frombuffer(memoryview(stored), kind).reshape(
            -1, stored.line_size // kind.itemsize
        )
        scale, offset = 0.5 ** (bits - 8), 0.0
        if full_range:
            scale, offset = scale * 219 / 255, 16
        plane = plane[: stored.height, : stored.width]
        return cls(plane[::2] if interlaced else plane, scale, offset)

    def fine_windows(self) -> Float32:
        """Return (windows, 32, 32), up to 8x6 windows."""
        return self._windows(_WINDOW, _WINDOWS_DOWN, _WINDOWS_ACROSS).reshape(-1, _WINDOW, _WINDOW)

    def detail_windows(self) -> Float32:
        """Return (down, across, 64, 64), up to 6x4 windows."""
        return self._windows(_DETAIL_WINDOW, _DETAIL_DOWN, _DETAIL_ACROSS)

    def _windows(self, size: int, most_down: int, most_across: int) -> Float32:
        """Return (down, across, size, size) evenly spread.

        A picture smaller than a window is continued by reflection.
        """
        plane = self.plane
        short = [(0, max(0, size - side)) for side in plane.shape]
        if any(after for _, after in short):
            plane = np.pad(plane, short, mode="reflect")
        down, across = (
            _starts(side, size, most)
            for side, most in zip(plane.shape, (most_down, most_across), strict=True)
        )
        views = np.lib.stride_tricks.sliding_window_view(plane, (size, size))
        windows = views[down[:, None], across].astype(np.float32)
        if (self.scale, self.offset) != (1, 0):
            windows *= np.float32(self.scale)
            windows += np.float32(self.offset)
        return windows


def _starts(side: int, size: int, most: int) -> Int64:
    count = min(most, side // size)
    return (2 * np.arange(count) + 1) * side // (2 * count) - size // 2
