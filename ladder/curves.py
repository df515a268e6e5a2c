"""Rate and quality of one shot at one size, as functions of CRF.

Provenance is in the type. A :class:`MeasuredCurve` is made of encodes that exist and were scored;
each of its :class:`Candidate` values says whether it is one of them or lies between two. Curves
that a model predicts are another type with the same :class:`Curve` interface, so that a predicted
number cannot pass for a measured one.

Interpolation is PCHIP (Fritsch and Butland, "A method for constructing local monotone piecewise
cubic interpolants", SIAM J. Sci. Stat. Comput. 5, 1984; end slopes as in Moler, "Numerical
Computing with MATLAB", 3.6) of log(bits) and of quality over CRF. It passes through every
measured point and stays within the range of the two points around it. So it follows measurements
that are not monotone instead of smoothing them, and nothing is extrapolated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from encoder.arrays import Float64

CRF_STEP = 0.5
"""Spacing of the CRFs that every search chooses from."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """The measured size and quality of one encode of a shot."""

    bits: int
    """Bits of the whole encode."""
    quality: float
    """Mean score over the shot's frames; higher is better."""

    def __post_init__(self) -> None:
        if self.bits <= 0:
            raise ValueError(f"an encode has bits, got {self.bits}")
        if not math.isfinite(self.quality):
            raise ValueError(f"quality is finite, got {self.quality}")


class Candidate(NamedTuple):
    """A point of a curve that a shot could be encoded at."""

    crf: float
    bits: float
    """Bits of the shot's whole encode; a whole number when ``measured``."""
    quality: float
    """Mean quality over the shot's frames."""
    measured: bool
    """True where exactly this point was encoded and scored."""


class Curve(Protocol):
    """What allocation needs of a curve, whether measured or predicted."""

    @property
    def frames(self) -> int:
        """Number of frames of the shot."""
        ...

    def points(self, step: float = CRF_STEP) -> tuple[Candidate, ...]:
        """Return candidates by ascending CRF."""
        ...


@dataclass(frozen=True, slots=True)
class MeasuredCurve:
    """Measured points of one shot at one size, interpolated between them."""

    frames: int
    """Number of frames of the shot."""
    measurements: Mapping[float, Measurement]
    """Measurements by CRF; at least one."""

    def __post_init__(self) -> None:
        if self.frames <= 0:
            raise ValueError(f"a shot has frames, got {self.frames}")
        if not self.measurements:
            raise ValueError("a measured curve needs at least one measurement")

    def points(self, step: float = CRF_STEP) -> tuple[Candidate, ...]:
        """Return every measured point and every multiple of ``step`` between the outermost two.

        A single measurement gives that point only. Two are joined by a straight line in log bits.
        """
        measured = sorted(self.measurements.items())
        knots = np.array([crf for crf, _ in measured])
        first, last = math.ceil(knots[0] / step), math.floor(knots[-1] / step)
        crfs = sorted({*knots.tolist(), *(k * step for k in range(first, last + 1))})
        axes = np.array([(math.log(m.bits), m.quality) for _, m in measured]).T
        log_bits, quality = (pchip(knots, axis, np.array(crfs)).tolist() for axis in axes)
        candidates = {
            crf: Candidate(crf, math.exp(log), score, False)
            for crf, log, score in zip(crfs, log_bits, quality, strict=True)
        }
        for crf, exact in measured:
            candidates[crf] = Candidate(crf, float(exact.bits), exact.quality, True)
        return tuple(candidates.values())


@dataclass(frozen=True, slots=True)
class MeasuredPoints:
    """Measured points of one shot at one size, with nothing between them."""

    frames: int
    """Number of frames of the shot."""
    measurements: Mapping[float, Measurement]
    """Measurements by CRF; at least one."""

    def points(self, step: float = CRF_STEP) -> tuple[Candidate, ...]:
        """Return the measurements by ascending CRF, whatever ``step``."""
        measured = sorted(self.measurements.items())
        return tuple(Candidate(crf, float(m.bits), m.quality, True) for crf, m in measured)


def pchip_slopes(x: Float64, y: Float64) -> Float64:
    """Return the derivatives at the knots of the shape-preserving cubic through ``(x, y)``.

    ``x`` is strictly ascending; all have the shape ``[n]``. Equal to
    ``scipy.interpolate.PchipInterpolator``.
    """
    if len(x) < 3:
        secant = (y[-1] - y[0]) / (x[-1] - x[0]) if len(x) == 2 else 0.0
        return np.full(len(x), secant)
    h = np.diff(x)
    delta = np.diff(y) / h
    slopes = np.zeros(len(x))
    same_sign = delta[:-1] * delta[1:] > 0
    w1, w2 = 2 * h[1:] + h[:-1], h[1:] + 2 * h[:-1]
    left = np.where(same_sign, delta[:-1], 1.0)
    right = np.where(same_sign, delta[1:], 1.0)
    slopes[1:-1] = np.where(same_sign, (w1 + w2) * left * right / (w1 * right + w2 * left), 0.0)
    slopes[0] = _end_slope(h[0], h[1], delta[0], delta[1])
    slopes[-1] = _end_slope(h[-1], h[-2], delta[-1], delta[-2])
    return slopes


def _end_slope(h0: float, h1: float, delta0: float, delta1: float) -> float:
    slope = ((2 * h0 + h1) * delta0 - h0 * delta1) / (h0 + h1)
    if slope * delta0 <= 0:
        return 0.0
    if delta0 * delta1 <= 0 and abs(slope) > 3 * abs(delta0):
        return 3 * delta0
    return slope


def pchip(x: Float64, y: Float64, at: Float64) -> Float64:
    """Return the values of the shape-preserving cubic through ``(x, y)`` at ``at``.

    ``at`` lies within ``[x[0], x[-1]]``.
    """
    if len(x) == 1:
        return np.full(len(at), y[0])
    slopes = pchip_slopes(x, y)
    left = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(x) - 2)
    h = x[left + 1] - x[left]
    t = (at - x[left]) / h
    return np.asarray(
        y[left] * (1 + 2 * t) * (1 - t) ** 2
        + y[left + 1] * t * t * (3 - 2 * t)
        + h * (slopes[left] * t * (1 - t) ** 2 + slopes[left + 1] * t * t * (t - 1))
    )
