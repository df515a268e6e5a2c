"""Rate and quality of one shot at one size, as functions of CRF.

Provenance is in the type: a :class:`MeasuredCurve` is made of encodes that exist and were
scored, and each of its :class:`Candidate` values says whether it is one of them or lies between
two. Curves that a model predicts are another type with the same :class:`Curve` interface, so
that a predicted number cannot pass for a measured one.

Interpolation is PCHIP (Fritsch and Butland, "A method for constructing local monotone piecewise
cubic interpolants", SIAM J. Sci. Stat. Comput. 5, 1984; end slopes as in Moler, "Numerical
Computing with MATLAB", 3.6) of log(bits) and of quality over CRF. It passes through every
measured point, stays within the range of the two points around it, and so follows real
measurements where they are not monotone instead of smoothing them; nothing is extrapolated.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from encoder.arrays import Float64

CRF_STEP = 0.5
"""Spacing of the operating points that every search chooses from."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One encode of a shot, measured."""

    bits: int
    """Size of the whole encode."""
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
    """Of the shot's encode in total; whole when ``measured``."""
    quality: float
    """Mean over the shot's frames."""
    measured: bool
    """Whether this very point was encoded and scored."""


class Curve(Protocol):
    """What allocation needs of a curve, whether measured or predicted."""

    @property
    def frames(self) -> int:
        """Frames of the shot."""
        ...

    def points(self, step: float = CRF_STEP) -> tuple[Candidate, ...]:
        """Candidates by ascending CRF."""
        ...


@dataclass(frozen=True, slots=True)
class MeasuredCurve:
    """Measured points of one shot at one size, and what lies between them."""

    frames: int
    measurements: Mapping[float, Measurement]
    """By CRF; at least one."""

    def __post_init__(self) -> None:
        if self.frames <= 0:
            raise ValueError(f"a shot has frames, got {self.frames}")
        if not self.measurements:
            raise ValueError("a measured curve needs at least one measurement")

    def points(self, step: float = CRF_STEP) -> tuple[Candidate, ...]:
        """Every measured point, and every multiple of ``step`` between the outermost two.

        One measurement gives that point only; two are joined by a straight line (in log bits).
        """
        known = sorted(self.measurements.items())
        crfs = np.array([crf for crf, _ in known])
        first, last = math.ceil(crfs[0] / step), math.floor(crfs[-1] / step)
        asked = sorted({*crfs.tolist(), *(k * step for k in range(first, last + 1))})
        axes = np.array([(math.log(m.bits), m.quality) for _, m in known]).T
        log_bits, quality = (pchip(crfs, axis, np.array(asked)).tolist() for axis in axes)
        between = {
            crf: Candidate(crf, math.exp(log), score, False)
            for crf, log, score in zip(asked, log_bits, quality, strict=True)
        }
        for crf, exact in known:
            between[crf] = Candidate(crf, float(exact.bits), exact.quality, True)
        return tuple(between.values())


@dataclass(frozen=True, slots=True)
class MeasuredPoints:
    """Measured points of one shot at one size, with nothing between them."""

    frames: int
    measurements: Mapping[float, Measurement]
    """By CRF; at least one."""

    def points(self, step: float = CRF_STEP) -> tuple[Candidate, ...]:
        """The measurements by ascending CRF, whatever ``step``."""
        known = sorted(self.measurements.items())
        return tuple(Candidate(crf, float(m.bits), m.quality, True) for crf, m in known)


def pchip_slopes(x: Float64, y: Float64) -> Float64:
    """Derivatives at the knots of the shape-preserving cubic through ``(x, y)``.

    ``x`` strictly ascending, shape ``[n]``; returns shape ``[n]``. The same as
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
    """Value at ``at`` (within ``[x[0], x[-1]]``) of the shape-preserving cubic through (x, y)."""
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
