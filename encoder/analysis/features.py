"""Features: one vector per shot, from the same decode that detects the shots.

:class:`FeatureExtractor` is an analyser of :mod:`encoder.analysis.frames`. It measures some frames
(about four a second), each together with the frame before it, and keeps a row of numbers for each
of them. Once the shots are known it reduces the rows of a shot to :data:`FEATURE_NAMES`: the mean
and the 10, 50 and 90 % quantiles of every measure. Memory is one small frame, 48 small windows,
and 4 bytes x :data:`MEASURES` for each measured frame: 5 MB for two hours.

The first frame of a shot, and a cut left inside a shot, have no temporal measures: they differ
from the frame before because the scene is another. A shot without any measured frame takes the
spatial measures of the nearest one; a shot without any measured pair of frames has temporal
measures of 0.

Small luma (320 pixels on the longer side) carries most measures. Grain and sharpness do not
survive that averaging, so the ``*_fine`` measures read windows of the decoded picture as stored;
so do ``kept_*`` and ``seen_*``, which state how much detail scaling alone would take away.
``docs/features.md`` explains every measure, :mod:`encoder.analysis.feature_maths` computes them.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final, Self

import numpy as np

from encoder.analysis.feature_maths import (
    MotionMeter,
    SmallPicture,
    StoredLuma,
    spatial_measures,
    surviving,
    temporal_noise,
)
from encoder.analysis.frames import SmallFrame
from encoder.arrays import Float32, Float64, Int64, UInt8
from encoder.media import Shot
from encoder.source.reference import ReferenceSource

FEATURES_VERSION: Final = 2
"""Raise it when any number of any vector changes. Weights, tables and stored vectors carry it,
and a model trained on one version refuses vectors of another."""

SCALE_FACTORS: Final = (4 / 3, 2.0, 8 / 3, 4.0, 16 / 3)
"""Factors by which each side is made smaller, and enlarged again, for :data:`KEPT` and
:data:`SEEN`."""

KEPT: Final = tuple(f"kept_{round(100 * factor)}" for factor in SCALE_FACTORS)
"""Share of detail that survives each of :data:`SCALE_FACTORS`, in their order."""
SEEN: Final = tuple(f"seen_{round(100 * factor)}" for factor in SCALE_FACTORS)
"""Share of detail that survives, pooled by blocks with masking, in the same order."""

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
"""Columns of the row that is kept for each measured frame."""
STATISTICS: Final = ("mean", "p10", "p50", "p90")
"""Statistics of each measure over the measured frames of a shot."""
FEATURE_NAMES: Final = tuple(f"{name}_{how}" for name in MEASURES for how in STATISTICS)
"""Names of a vector's values, in order."""

SAMPLES_PER_SECOND: Final = 4
"""Frames that are measured in each second, about."""

_GOLDEN = 2654435769  # 2**32 times the golden ratio's fraction


@dataclass(frozen=True, slots=True)
class ShotFeatures:
    """The features of one shot."""

    values: tuple[float, ...]
    """Finite values in the order of :data:`FEATURE_NAMES`."""
    version: int = FEATURES_VERSION
    """:data:`FEATURES_VERSION` of the code that made the values."""

    def __post_init__(self) -> None:
        if self.version == FEATURES_VERSION and len(self.values) != len(FEATURE_NAMES):
            raise ValueError(f"{len(FEATURE_NAMES)} features expected, got {len(self.values)}")
        if not all(map(math.isfinite, self.values)):
            raise ValueError("features must be finite numbers")

    def as_dict(self) -> Mapping[str, float]:
        """Return the values by name; only for vectors of the current version."""
        return dict(zip(FEATURE_NAMES, self.values, strict=True))


class FeatureExtractor:
    """Analyser that takes small frames and returns the features of shots.

    Not thread-safe, and sets OpenCV to one thread for the process
    (:class:`~encoder.analysis.feature_maths.MotionMeter`).
    """

    def __init__(
        self, frame_rate: Fraction, *, full_range: bool = False, interlaced: bool = False
    ) -> None:
        """Prepare for a title; decoded pictures may hold two fields if ``interlaced``."""
        self._step = max(1, round(frame_rate / SAMPLES_PER_SECOND))
        self._full_range = full_range
        self._interlaced = interlaced
        self._numbers = array("q")
        self._rows = array("f")
        self._previous: UInt8 | None = None
        self._previous_windows: Float32 | None = None
        self._motion = MotionMeter()

    @classmethod
    def of(cls, source: ReferenceSource) -> Self:
        """Return an extractor for the frames of a planned source."""
        info = source.info
        return cls(
            source.frame_rate,
            full_range=info.color_range == "full",
            interlaced=info.interlaced,
        )

    def push(self, frame: SmallFrame) -> None:
        """Take the next frame."""
        measured, next_measured = (is_measured(frame.number + n, self._step) for n in (0, 1))
        windows = None
        if measured or next_measured:
            stored = StoredLuma.of(frame.picture, self._full_range, self._interlaced)
            windows = stored.fine_windows()
            if measured:
                picture = SmallPicture.of(frame.yuv)
                self._numbers.append(frame.number)
                self._rows.extend(spatial_measures(picture, windows))
                self._rows.extend(surviving(stored.detail_windows(), SCALE_FACTORS))
                self._rows.extend(self._temporal(picture, windows))
        self._previous = frame.yuv
        self._previous_windows = windows

    def measured(self) -> tuple[Int64, Float32]:
        """Return the numbers of the measured frames, and a row of :data:`MEASURES` for each."""
        rows = np.frombuffer(self._rows, dtype=np.float32) if self._rows else np.zeros(0)
        return (
            np.array(self._numbers, dtype=np.int64),
            rows.reshape(-1, len(MEASURES)).astype(np.float32),
        )

    def shots(self, shots: Sequence[Shot]) -> tuple[ShotFeatures, ...]:
        """Return one vector per shot."""
        numbers, rows = self.measured()
        return tuple(reduce_shot(numbers, rows, shot) for shot in shots)

    def _temporal(self, picture: SmallPicture, windows: Float32) -> tuple[float, ...]:
        if self._previous is None or self._previous_windows is None:
            return (0.0,) * len(TEMPORAL)
        return (
            *self._motion.measure(picture, self._previous),
            temporal_noise(windows, self._previous_windows),
        )


def is_measured(number: int, step: int) -> bool:
    """Return True where frame ``number`` is measured: one frame in each run of ``step``.

    The frame within a run follows the multiples of the golden ratio, and frame 0 is measured.
    Animation repeats frames in twos and threes and telecine in fives: even steps would meet only
    repeats, or only changes.
    """
    run, place = divmod(number, step)
    return place == (run * _GOLDEN % 2**32) * step >> 32


def reduce_shot(numbers: Int64, rows: Float32, shot: Shot) -> ShotFeatures:
    """Reduce the rows of measured frames (frames, measures) to the features of a shot.

    ``numbers`` are the frames' numbers, ascending; the shot may hold none of them.
    """
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
    """Return (measures, statistics) of (frames, measures)."""
    table = rows.astype(np.float64)
    return np.column_stack([table.mean(axis=0), *np.quantile(table, (0.1, 0.5, 0.9), axis=0)])
