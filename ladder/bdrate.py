"""Bjontegaard delta rate: how many percent more bits the test needs for the same quality.

Convention: G. Bjontegaard, VCEG-M33 (2001) and VCEG-AI11 (2008), with the piecewise interpolation
of JCTVC-L1100 and JVET-AC0187. The log10 of the rate is a function of quality; BD-rate is the mean
difference over the range of quality that both curves reach. It is negative where the test needs
fewer bits. Interpolation is PCHIP by default, Akima (J. ACM 17, 1970) as an alternative; values
equal those of the ``bjontegaard`` package with these methods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from encoder.arrays import Float64
from ladder.curves import pchip, pchip_slopes
from ladder.hull import pareto

Method = Literal["pchip", "akima"]


class RatePoint(NamedTuple):
    """Rate and quality of one encode of a title."""

    rate: float
    """Rate in bit/s, or bits: BD-rate depends on ratios only."""
    quality: float
    """Mean quality."""


@dataclass(frozen=True, slots=True)
class BdRate:
    """A BD-rate and the range of quality that it holds for."""

    percent: float
    """Bits that the test needs over the anchor in percent; negative for fewer bits."""
    low: float
    """Lowest quality that both curves reach."""
    high: float
    """Highest quality that both curves reach."""
    overlap: float
    """Share of the range that both curves together cover, 0 to 1."""
    anchor: tuple[float, float]
    """Lowest and highest quality of the anchor."""
    test: tuple[float, float]
    """Lowest and highest quality of the test."""

    @property
    def share_of_anchor(self) -> float:
        """Share of the anchor's range of quality that the BD-rate is about, 0 to 1; 1 where the
        anchor is a single point."""
        low, high = self.anchor
        return (self.high - self.low) / (high - low) if high > low else 1.0


@dataclass(frozen=True, slots=True)
class NoOverlap:
    """The reason for there being no BD-rate: the curves share no range of quality."""

    anchor: tuple[float, float]
    """Lowest and highest quality of the anchor."""
    test: tuple[float, float]
    """Lowest and highest quality of the test."""

    def __str__(self) -> str:
        ranges = " and ".join(f"{low:.2f} to {high:.2f}" for low, high in (self.anchor, self.test))
        return f"no common quality range: {ranges}"


def monotone(points: Iterable[RatePoint]) -> tuple[RatePoint, ...]:
    """Return the points whose quality no cheaper point reaches, by ascending rate.

    Real ladders have rungs that nobody would choose; BD-rate is defined without them.
    """
    listed = list(points)
    kept = pareto([p.rate for p in listed], [p.quality for p in listed])
    return tuple(listed[i] for i in kept)


def bd_rate(
    anchor: Sequence[RatePoint], test: Sequence[RatePoint], method: Method = "pchip"
) -> BdRate | NoOverlap:
    """Return the BD-rate of ``test`` against ``anchor``, over the quality that both reach.

    Raises:
        ValueError: a curve has fewer than two points, or its quality does not rise with rate
            (:func:`monotone` removes the points that nobody would choose).
    """
    quality_a, log_a = _axes(anchor, "anchor")
    quality_t, log_t = _axes(test, "test")
    low, high = max(quality_a[0], quality_t[0]), min(quality_a[-1], quality_t[-1])
    if low >= high:
        return NoOverlap(_range(quality_a), _range(quality_t))
    slopes_of = _SLOPES[method]
    area_a = _integral(quality_a, log_a, slopes_of(quality_a, log_a), low, high)
    area_t = _integral(quality_t, log_t, slopes_of(quality_t, log_t), low, high)
    whole = max(quality_a[-1], quality_t[-1]) - min(quality_a[0], quality_t[0])
    return BdRate(
        percent=float((10 ** ((area_t - area_a) / (high - low)) - 1) * 100),
        low=float(low),
        high=float(high),
        overlap=float((high - low) / whole),
        anchor=_range(quality_a),
        test=_range(quality_t),
    )


def rate_at(curve: Sequence[RatePoint], quality: float) -> float | None:
    """Return the rate in bit/s that a curve needs for a quality, interpolated like BD-rate; None
    where the curve does not reach it.

    Raises:
        ValueError: as :func:`bd_rate` does.
    """
    qualities, logs = _axes(curve, "curve")
    if not qualities[0] <= quality <= qualities[-1]:
        return None
    return float(10 ** pchip(qualities, logs, np.array([quality]))[0])


def _range(quality: Float64) -> tuple[float, float]:
    return float(quality[0]), float(quality[-1])


def _axes(points: Sequence[RatePoint], name: str) -> tuple[Float64, Float64]:
    ordered = sorted(points)
    rates = np.array([p.rate for p in ordered], dtype=np.float64)
    quality = np.array([p.quality for p in ordered], dtype=np.float64)
    if len(ordered) < 2 or rates[0] <= 0:
        raise ValueError(f"the {name} needs two points or more with rates over 0, got {ordered}")
    if np.any(np.diff(quality) <= 0) or np.any(np.diff(rates) <= 0):
        raise ValueError(f"the {name}'s quality does not rise with rate: {ordered}")
    return quality, np.log10(rates)


def akima_slopes(x: Float64, y: Float64) -> Float64:
    """Return Akima's derivatives at the knots; two points give a line.

    Where the weights vanish the neighbouring secants are averaged, as in
    ``scipy.interpolate.Akima1DInterpolator``.
    """
    if len(x) == 2:
        return np.full(2, (y[1] - y[0]) / (x[1] - x[0]))
    secants = np.empty(len(x) + 3)
    secants[2:-2] = np.diff(y) / np.diff(x)
    secants[1] = 2 * secants[2] - secants[3]
    secants[0] = 2 * secants[1] - secants[2]
    secants[-2] = 2 * secants[-3] - secants[-4]
    secants[-1] = 2 * secants[-2] - secants[-3]
    change = np.abs(np.diff(secants))
    right, left = change[2:], change[:-2]
    total = right + left
    flat = total <= 1e-9 * total.max()
    weighted = right * secants[1:-2] + left * secants[2:-1]
    return np.where(flat, (secants[3:] + secants[:-3]) / 2, weighted / np.where(flat, 1.0, total))


_SLOPES: Mapping[Method, Callable[[Float64, Float64], Float64]] = {
    "pchip": pchip_slopes,
    "akima": akima_slopes,
}


def _integral(x: Float64, y: Float64, slopes: Float64, low: float, high: float) -> float:
    """Return the exact integral of the cubic Hermite spline over ``[low, high]``."""
    h = np.diff(x)
    from_t = (np.clip(low, x[:-1], x[1:]) - x[:-1]) / h
    to_t = (np.clip(high, x[:-1], x[1:]) - x[:-1]) / h

    def antiderivative(t: Float64) -> Float64:
        t2, t3, t4 = t**2, t**3, t**4
        value: Float64 = (
            y[:-1] * (t4 / 2 - t3 + t)
            + y[1:] * (t3 - t4 / 2)
            + h * slopes[:-1] * (t4 / 4 - 2 * t3 / 3 + t2 / 2)
            + h * slopes[1:] * (t4 / 4 - t3 / 3)
        )
        return value

    return float(np.sum(h * (antiderivative(to_t) - antiderivative(from_t))))
