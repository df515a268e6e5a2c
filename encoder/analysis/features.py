"""Features: one vector per shot, from the same decode that finds the shots.

:class:`FeatureExtractor` is an analyser of :mod:`encoder.analysis.frames`. It measures some frames
(about four a second), each with the frame before it, and keeps a row of numbers for each of them;
when the shots are known it reduces the rows of a shot to :data:`FEATURE_NAMES`: for every measure
its mean and its 10, 50 and 90 % quantiles. Memory is one small frame, 48 small windows, and
:data:`MEASURES` x 4 bytes for each measured frame: 5 MB for two hours.

The first frame of a shot, and a cut left inside one, have no temporal measures: what differs
there is another scene. A shot without any measured frame takes the spatial measures of the
nearest one; one without any measured pair of frames has temporal measures of 0.

Small luma (320 pixels on the longer side) carries most measures. Grain and sharpness do not
survive that averaging, so ``*_fine`` measures read windows of the decoded picture itself, as
stored; so do ``kept_*`` and ``seen_*``, which say what scaling alone would take from it. Levels
are always those of 8-bit limited range (16 is black, 235 white).
``docs/features.md`` says what each measure is; the texture is that of VCA (Menon et al., "VCA:
Video Complexity Analyzer", MMSys 2022), noise that of Immerkaer ("Fast Noise Variance
Estimation", CVIU 1996), motion the dense inverse search of Kroeger et al. (ECCV 2016),
colourfulness after Hasler and Suesstrunk ("Measuring Colourfulness in Natural Images", 2003).
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, Self

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from encoder.analysis.frames import Plane, SmallFrame
from encoder.arrays import AnyArray, Float32, Float64, Int64
from encoder.media import Shot
from encoder.source.reference import ReferenceSource

FEATURES_VERSION: Final = 2
"""Raise it when any number of any vector changes. Weights, tables and stored vectors carry it,
and what was trained on one version refuses another."""

SCALE_FACTORS: Final = (4 / 3, 2.0, 8 / 3, 4.0, 16 / 3)
"""How many times smaller each side is made, and enlarged again, for :data:`KEPT` and
:data:`SEEN`."""

KEPT: Final = tuple(f"kept_{round(100 * factor)}" for factor in SCALE_FACTORS)
SEEN: Final = tuple(f"seen_{round(100 * factor)}" for factor in SCALE_FACTORS)
"""Measures of what survives each of :data:`SCALE_FACTORS`, in their order."""

SPATIAL: Final = (
    "texture_fine",
    "texture_mid",
    "texture_coarse",
    "texture_peak",
    "texture_chroma",
    "sharpness",
    "edges",
    "edge_share",
    "noise_fine",
    "noise_mid",
    "luma",
    "contrast",
    "colourfulness",
    "flat_share",
    "flat_fine",
    "dark_share",
    *KEPT,
    *SEEN,
)
"""Measures of one frame."""

TEMPORAL: Final = (
    "difference",
    "residual",
    "residual_mid",
    "residual_coarse",
    "texture_change",
    "intra_share",
    "still_share",
    "motion",
    "motion_peak",
    "motion_local",
    "coherence",
    "luma_change",
    "chroma_change",
    "noise_temporal",
)
"""Measures of a frame against the one before it."""

MEASURES: Final = SPATIAL + TEMPORAL
STATISTICS: Final = ("mean", "p10", "p50", "p90")
FEATURE_NAMES: Final = tuple(f"{name}_{how}" for name in MEASURES for how in STATISTICS)
"""The order of every vector."""

SAMPLES_PER_SECOND: Final = 4

_GOLDEN = 2654435769  # 2**32 times the golden ratio's fraction
_BLOCK = 8
_WINDOW = 32
_WINDOWS_ACROSS, _WINDOWS_DOWN = 8, 6
_DETAIL_WINDOW = 64  # over each of SCALE_FACTORS a whole number
_DETAIL_ACROSS, _DETAIL_DOWN = 6, 4
_DETAIL_BLOCK, _DETAIL_BLOCKS = 9, 5
# What lies eight pixels from the next window: cubic enlargement by 16/3 reaches no further. The
# gradient needs a pixel more on each side than the blocks have.
_DETAIL_MIDDLE = (8, _DETAIL_BLOCKS * _DETAIL_BLOCK + 2)
# Level differences, per pixel, on the 8-bit scale.
_FLAT_TEXTURE = 0.5
_UNIFORM_TEXTURE = 0.1  # one pixel off by one level makes 0.12
_STILL_DIFFERENCE = 1.0
_DARK_LEVEL = 48
_EDGE_GRADIENT = 16.0
_SOBEL_GAIN = 8
_CLIPPED = (20.0, 230.0)
# Squared levels per pixel: what hides a loss, and what is no detail at all.
_MASKING = 2.0
_LEAST_DETAIL = 0.01
_MOST_SEEN = 1.5
_NOISE_QUANTILE = 0.2
_NOISE_MASK = np.outer((1, -2, 1), (1, -2, 1)).astype(np.float32)
_STILLEST_QUANTILE = 0.25
_LEAST_FLOW_SIDE = 12
# Pixels of the flow picture: motion under this is no motion, and has no direction.
_LEAST_MOTION = 0.1


@dataclass(frozen=True, slots=True)
class ShotFeatures:
    """The features of one shot."""

    values: tuple[float, ...]
    """In the order of :data:`FEATURE_NAMES`, finite."""
    version: int = FEATURES_VERSION
    """Of the code that made them."""

    def __post_init__(self) -> None:
        if self.version == FEATURES_VERSION and len(self.values) != len(FEATURE_NAMES):
            raise ValueError(f"{len(FEATURE_NAMES)} features expected, got {len(self.values)}")
        if not all(map(math.isfinite, self.values)):
            raise ValueError("features are finite numbers")

    def as_dict(self) -> Mapping[str, float]:
        """Values by name; only for vectors of this version."""
        return dict(zip(FEATURE_NAMES, self.values, strict=True))


class FeatureExtractor:
    """Analyser: eats small frames, gives the features of shots over them.

    Not thread-safe, and sets OpenCV to one thread for the process: optical flow is cut into one
    stripe per thread, and its result would depend on the machine.
    """

    def __init__(
        self, frame_rate: Fraction, *, full_range: bool = False, interlaced: bool = False
    ) -> None:
        """Of a title of ``frame_rate`` frames per second, whose decoded pictures may use the
        full range of levels, and may hold two fields."""
        self._step = max(1, round(frame_rate / SAMPLES_PER_SECOND))
        self._full_range = full_range
        self._interlaced = interlaced
        self._numbers = array("q")
        self._rows = array("f")
        self._previous: Plane | None = None
        self._previous_windows: Float32 | None = None
        self._flow = _Flow()

    @classmethod
    def of(cls, source: ReferenceSource) -> Self:
        """For the frames of a planned source."""
        info = source.info
        return cls(
            source.frame_rate,
            full_range=info.color_range == "full",
            interlaced=info.interlaced,
        )

    def push(self, frame: SmallFrame) -> None:
        """Take the next frame."""
        measured, wanted_next = (is_measured(frame.number + n, self._step) for n in (0, 1))
        windows = None
        if measured or wanted_next:
            stored = StoredLuma.of(frame.picture, self._full_range, self._interlaced)
            windows = stored.fine_windows()
            if measured:
                picture = _Picture.of(frame.yuv)
                self._numbers.append(frame.number)
                self._rows.extend(_spatial(picture, windows))
                self._rows.extend(surviving(stored.detail_windows()))
                self._rows.extend(self._temporal(picture, windows))
        self._previous = frame.yuv
        self._previous_windows = windows

    def measured(self) -> tuple[Int64, Float32]:
        """Numbers of the frames measured so far, and a row of :data:`MEASURES` for each."""
        rows = np.frombuffer(self._rows, dtype=np.float32) if self._rows else np.zeros(0)
        return (
            np.array(self._numbers, dtype=np.int64),
            rows.reshape(-1, len(MEASURES)).astype(np.float32),
        )

    def shots(self, shots: Sequence[Shot]) -> tuple[ShotFeatures, ...]:
        """One vector per shot.

        Raises:
            ValueError: no frame has been pushed.
        """
        numbers, rows = self.measured()
        return tuple(reduce_shot(numbers, rows, shot) for shot in shots)

    def _temporal(self, picture: _Picture, windows: Float32) -> tuple[float, ...]:
        if self._previous is None or self._previous_windows is None:
            return (0.0,) * len(TEMPORAL)
        return (
            *self._flow.measure(picture, self._previous),
            _temporal_noise(windows, self._previous_windows),
        )


def is_measured(number: int, step: int) -> bool:
    """Whether frame ``number`` is measured: one in each run of ``step``, where the multiples of
    the golden ratio fall; the title's first is.

    Animation repeats frames in twos and threes and telecine in fives: even steps would meet only
    repeats, or only changes.
    """
    run, place = divmod(number, step)
    return place == (run * _GOLDEN % 2**32) * step >> 32


def reduce_shot(numbers: Int64, rows: Float32, shot: Shot) -> ShotFeatures:
    """Features of ``shot`` from measured frames (``numbers`` ascending, ``rows`` of them)."""
    if not len(numbers):
        raise ValueError("features need at least one measured frame")
    first, last = (int(at) for at in np.searchsorted(numbers, (shot.start, shot.end)))
    within = slice(first, last)
    spatial, temporal = rows[within, : len(SPATIAL)], rows[within, len(SPATIAL) :]
    temporal = temporal[~np.isin(numbers[within], (0, shot.start, *shot.cuts))]
    if not len(spatial):
        nearest = int(np.argmin(np.abs(numbers - shot.start)))
        spatial = rows[nearest : nearest + 1, : len(SPATIAL)]
    if not len(temporal):
        temporal = np.zeros((1, len(TEMPORAL)), np.float32)
    values = np.concatenate([_statistics(spatial), _statistics(temporal)])
    return ShotFeatures(tuple(values.astype(np.float32).ravel().tolist()))


def _statistics(rows: Float32) -> Float64:
    """(measures, statistics) of (frames, measures)."""
    table = rows.astype(np.float64)
    return np.column_stack([table.mean(axis=0), *np.quantile(table, (0.1, 0.5, 0.9), axis=0)])


# -- one frame ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Texture:
    """DCT texture of 8x8 blocks, each (blocks,), per pixel."""

    energy: Float32
    """Weighted as in VCA: absolute AC coefficients, low frequencies up to e times the highest."""
    plain: Float32
    """Mean absolute AC coefficient."""
    high: Float32
    """The part of ``plain`` in the upper half of frequencies."""


def _cosines() -> Float32:
    """Orthonormal DCT-II, (frequency, place)."""
    place = np.arange(_BLOCK)
    rows = np.cos(np.pi * (place + 0.5) * place[:, None] / _BLOCK) * math.sqrt(2 / _BLOCK)
    rows[0] /= math.sqrt(2)
    return rows.astype(np.float32)


def _weights() -> Float32:
    """(coefficients, 3): VCA's weights, one for all AC, one for the upper half."""
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


def _texture(plane: Float32) -> _Texture:
    """Texture of one plane (height, width); what is left of whole blocks at its right and lower
    edges does not count."""
    return _textures(plane[None])


def _textures(planes: Float32) -> _Texture:
    """Texture of (planes, height, width), all blocks of all of them in order."""
    _, height, width = planes.shape
    short = (max(0, _BLOCK - height), max(0, _BLOCK - width))
    if any(short):
        planes = np.pad(planes, ((0, 0), (0, short[0]), (0, short[1])), mode="edge")
        _, height, width = planes.shape
    down, across = height // _BLOCK, width // _BLOCK
    whole = np.ascontiguousarray(planes[:, : down * _BLOCK, : across * _BLOCK])
    # Two large products, the picture turned between them: half the time of one per block.
    by_row = (whole.reshape(-1, _BLOCK) @ _COSINES.T).reshape(-1, _BLOCK, across * _BLOCK)
    turned = np.ascontiguousarray(by_row.swapaxes(1, 2)).reshape(-1, _BLOCK)
    coefficients = np.abs(turned @ _COSINES.T).reshape(-1, _BLOCK**2)
    energy, plain, high = (coefficients @ _WEIGHTS).T
    return _Texture(energy, plain, high)


@dataclass(frozen=True, slots=True, eq=False)
class _Picture:
    """A small frame with what both kinds of measures need of it."""

    yuv: Plane
    luma: Float32
    half: Plane
    """Luma at half size."""
    mid: _Texture
    coarse: _Texture
    """Of ``half``."""

    @classmethod
    def of(cls, yuv: Plane) -> Self:
        luma, half = _floats(yuv[0]), _half(yuv[0])
        return cls(yuv, luma, half, _texture(luma), _texture(_floats(half)))


def _spatial(picture: _Picture, windows: Float32) -> tuple[float, ...]:
    """All of :data:`SPATIAL` but :data:`KEPT` and :data:`SEEN`."""
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
        _quantile(mid.energy, 0.9),
        float(sum(chroma)),
        float(fine.high.sum()) / total if total > _UNIFORM_TEXTURE else 0.0,
        float(np.mean(gradient)) / _SOBEL_GAIN,
        np.count_nonzero(gradient > _EDGE_GRADIENT * _SOBEL_GAIN) / pixels,
        noise(windows),
        noise(picture.luma[None]),
        float(mean[0, 0]),
        float(deviation[0, 0]),
        _colourfulness(picture.yuv),
        float((mid.plain < _FLAT_TEXTURE).mean()),
        float((fine.plain < _UNIFORM_TEXTURE).mean()),
        np.count_nonzero(luma < _DARK_LEVEL) / pixels,
    )


def _colourfulness(yuv: Plane) -> float:
    variance = square = 0.0
    for plane in yuv[1:]:
        mean, deviation = cv2.meanStdDev(plane)
        variance += float(deviation[0, 0]) ** 2
        square += (float(mean[0, 0]) - 128) ** 2
    return math.sqrt(variance) + 0.3 * math.sqrt(square)


def surviving(windows: Float32) -> tuple[float, ...]:
    """:data:`KEPT` and :data:`SEEN` of (down, across, 64, 64) windows.

    Detail is the gradient; what survives of it is its product with the gradient of the same
    windows averaged down and enlarged again (cubic), over its own square. *Kept* is that over all
    windows; *seen* is the mean over blocks of 9x9 pixels, with masking by the little that every
    block is taken to have, as detail loss is pooled by Li et al. ("Image Quality Assessment by
    Separately Evaluating Detail Losses and Additive Impairments", IEEE TMM 2011).
    """
    down, across, size, _ = windows.shape
    grid = (down, across)
    mosaic = np.ascontiguousarray(windows.swapaxes(1, 2)).reshape(down * size, across * size)
    x, y = _gradient(_middles(mosaic, grid, *_DETAIL_MIDDLE))
    there = _block_detail(x * x + y * y, grid)
    scaled = {size: mosaic}
    kept, seen = [], []
    for factor in SCALE_FACTORS:
        side = round(size / factor)
        # Averages of averages, where sides divide: the same numbers for less.
        larger = scaled[min((made for made in scaled if made % side == 0), default=size)]
        small = cv2.resize(larger, (across * side, down * side), interpolation=cv2.INTER_AREA)
        scaled[side] = np.asarray(small, np.float32)
        again = cv2.resize(small, mosaic.shape[::-1], interpolation=cv2.INTER_CUBIC)
        left_x, left_y = _gradient(_middles(np.asarray(again), grid, *_DETAIL_MIDDLE))
        left_x *= x
        left_y *= y
        left_x += left_y
        left = _block_detail(left_x, grid)
        kept.append(float((left.mean() + _LEAST_DETAIL) / (there.mean() + _LEAST_DETAIL)))
        local = (np.maximum(left, 0) + _MASKING) / (there + _MASKING)
        seen.append(float(np.minimum(local, _MOST_SEEN).mean()))
    return (*kept, *seen)


def _middles(mosaic: Float32, grid: tuple[int, int], border: int, count: int) -> Float32:
    """The mosaic of ``count`` x ``count`` pixels of each window of a mosaic of (down, across)
    windows, ``border`` pixels from its upper left corner."""
    down, across = grid
    height, width = mosaic.shape[0] // down, mosaic.shape[1] // across
    middle = slice(border, border + count)
    windows = mosaic.reshape(down, height, across, width)[:, middle, :, middle]
    return np.ascontiguousarray(windows).reshape(down * count, across * count)


def _block_detail(detail: Float32, grid: tuple[int, int]) -> Float32:
    """Means over the blocks of the windows of a mosaic whose outermost pixels do not count."""
    counted = _middles(detail, grid, 1, _DETAIL_BLOCKS * _DETAIL_BLOCK)
    blocks = (grid[1] * _DETAIL_BLOCKS, grid[0] * _DETAIL_BLOCKS)
    return np.asarray(cv2.resize(counted, blocks, interpolation=cv2.INTER_AREA), np.float32)


def _gradient(plane: Float32) -> tuple[Float32, Float32]:
    """Across and down, in levels per pixel."""
    across, down = (
        np.asarray(cv2.Sobel(plane, cv2.CV_32F, *direction, scale=1 / _SOBEL_GAIN), np.float32)
        for direction in ((1, 0), (0, 1))
    )
    return across, down


def noise(planes: Float32) -> float:
    """Standard deviation of noise in levels, as the flattest fifth of (planes, height, width)
    show it: a little under the truth, and 0 where all is black or white.

    Immerkaer's mask (a second difference both ways, blind to ramps and straight edges) on blocks
    of 6x6 pixels.
    """
    size = 6
    count, height, width = planes.shape
    if min(height, width) < size + 2:
        return 0.0
    stacked = planes.reshape(count * height, width)
    mask = cv2.filter2D(stacked, cv2.CV_32F, _NOISE_MASK)
    down, across = (height - 2) // size, (width - 2) // size

    def means(values: AnyArray) -> Float32:
        # Inside a window only: at its border the mask has seen another one.
        inside = values.reshape(count, height, width)[:, 1 : 1 + down * size, 1 : 1 + across * size]
        inside = np.ascontiguousarray(inside).reshape(count * down * size, across * size)
        by_block = cv2.resize(inside, (across, count * down), interpolation=cv2.INTER_AREA)
        return np.asarray(by_block, dtype=np.float32).ravel()

    level = means(stacked)
    shown = means(np.abs(mask))[(level > _CLIPPED[0]) & (level < _CLIPPED[1])]
    if not len(shown):
        return 0.0
    return math.sqrt(math.pi / 2) / 6 * _quantile(shown, _NOISE_QUANTILE)


def _quantile(values: Float32, share: float) -> float:
    """The value at ``share`` of the sorted values, without interpolation (and without the cost of
    :func:`numpy.quantile`)."""
    at = int(share * (len(values) - 1))
    return float(np.partition(values, at)[at])


# -- a frame and the one before ----------------------------------------------------------------


def _temporal_noise(windows: Float32, before: Float32) -> float:
    """Standard deviation of what changes in the stillest quarter of the windows, per frame."""
    change = windows - before
    change -= change.mean(axis=(1, 2), keepdims=True)
    deviation = np.abs(change).mean(axis=(1, 2)) * math.sqrt(math.pi / 2)
    return _quantile(deviation, _STILLEST_QUANTILE) / math.sqrt(2)


class _Flow:
    """Measures a small frame against the one before, with motion compensation."""

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

    def measure(self, picture: _Picture, before: Plane) -> tuple[float, ...]:
        """All of :data:`TEMPORAL` but the noise."""
        luma, old = picture.yuv[0], before[0]
        old_half = _half(old)
        flow = self._backward(picture.half, old_half)
        residual = picture.luma - self._warped(old, flow)
        difference = cv2.absdiff(luma, old)
        intra, inter = picture.mid.energy, _texture(residual).energy
        coarse, inter_coarse = picture.coarse.energy, _texture(_half(residual)).energy
        old_coarse = _texture(_floats(old_half)).energy
        return (
            _distance(luma, old),
            cv2.norm(residual, cv2.NORM_L1) / residual.size,
            float(np.minimum(intra, inter).mean()),
            float(np.minimum(coarse, inter_coarse).mean()),
            float(np.abs(coarse - old_coarse).mean()),
            float(((picture.mid.plain > _FLAT_TEXTURE) & (inter > intra)).mean()),
            float((_block_means(difference) < _STILL_DIFFERENCE).mean()),
            *self._motion(flow),
            abs(cv2.mean(luma)[0] - cv2.mean(old)[0]),
            sum(_distance(picture.yuv[plane], before[plane]) for plane in (1, 2)),
        )

    def _backward(self, half: Plane, old_half: Plane) -> Float32:
        """(height, width, 2) pixels of the half-size picture: where each came from."""
        if min(half.shape) < _LEAST_FLOW_SIDE:
            return np.zeros((*half.shape, 2), np.float32)
        if cv2.getNumThreads() != 1:
            cv2.setNumThreads(1)
        flow: Float32 = self._search.calc(half, old_half, None)
        return flow

    def _warped(self, old: Plane, flow: Float32) -> Float32:
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
        """Size, its 90 % quantile, size beside the camera's, all in % of the longer side per
        frame; and coherence."""
        vectors = flow[2::4, 2::4] if min(flow.shape[:2]) > 4 else flow
        if self._affine is None or len(self._affine) != vectors.shape[0] * vectors.shape[1]:
            down, across = np.indices(vectors.shape[:2], dtype=np.float64).reshape(2, -1)
            # An orthonormal basis of affine fields: what pans, zooms and turns make.
            self._affine = np.linalg.qr(np.column_stack([np.ones_like(down), down, across]))[0]
        moved = vectors.reshape(-1, 2).astype(np.float64)
        size = np.hypot(moved[:, 0], moved[:, 1])
        camera = self._affine @ (self._affine.T @ moved)
        beside = np.hypot(*(moved - camera).T)
        percent = 100 / max(flow.shape[:2])
        mean = float(size.mean())
        return (
            percent * mean,
            percent * _quantile(size.astype(np.float32), 0.9),
            percent * float(beside.mean()),
            float(np.hypot(*moved.mean(axis=0))) / mean if mean > _LEAST_MOTION else 0.0,
        )


def _distance(one: Plane, other: Plane) -> float:
    """Mean absolute difference."""
    return cv2.norm(one, other, cv2.NORM_L1) / one.size


def _floats(plane: AnyArray) -> Float32:
    return plane.astype(np.float32)


def _half(plane: AnyArray) -> AnyArray:
    height, width = plane.shape
    size = (max(1, (width + 1) // 2), max(1, (height + 1) // 2))
    half: AnyArray = cv2.resize(plane, size, interpolation=cv2.INTER_AREA)
    return half


def _block_means(plane: Plane) -> Float32:
    """Mean of each 8x8 block, as :func:`_texture` cuts them."""
    height, width = (max(_BLOCK, side // _BLOCK * _BLOCK) for side in plane.shape)
    size = (width // _BLOCK, height // _BLOCK)
    means = cv2.resize(_floats(plane[:height, :width]), size, interpolation=cv2.INTER_AREA)
    return np.asarray(means, dtype=np.float32)


# -- the picture as stored ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class StoredLuma:
    """Luma of a decoded picture, with what makes its levels those of 8-bit limited range."""

    plane: AnyArray
    scale: float
    offset: float

    @classmethod
    def of(cls, picture: av.VideoFrame, full_range: bool, interlaced: bool) -> Self:
        """Of interlaced pictures one field."""
        plane, scale, offset = _stored_luma(picture, full_range)
        return cls(plane[::2] if interlaced else plane, scale, offset)

    def fine_windows(self) -> Float32:
        """(windows, 32, 32), up to 8x6 of them."""
        return self._windows(_WINDOW, _WINDOWS_DOWN, _WINDOWS_ACROSS).reshape(-1, _WINDOW, _WINDOW)

    def detail_windows(self) -> Float32:
        """(down, across, 64, 64), up to 6x4 of them."""
        return self._windows(_DETAIL_WINDOW, _DETAIL_DOWN, _DETAIL_ACROSS)

    def _windows(self, size: int, most_down: int, most_across: int) -> Float32:
        """(down, across, size, size) evenly spread; what is smaller than a window is continued
        by reflection."""
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


def _stored_luma(picture: av.VideoFrame, full_range: bool) -> tuple[AnyArray, float, float]:
    """The luma plane as decoded, and how its levels become those of 8-bit limited range."""
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
    plane = np.frombuffer(memoryview(stored), kind).reshape(-1, stored.line_size // kind.itemsize)
    scale, offset = 0.5 ** (bits - 8), 0.0
    if full_range:
        scale, offset = scale * 219 / 255, 16
    return plane[: stored.height, : stored.width], scale, offset
