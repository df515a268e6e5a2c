"""What a set of sizes costs against all sizes that were measured.

At every quality, a set of sizes needs the rate of its best size, and the best of all sizes that
were measured needs no more. The cost of the set is the difference as a share of the latter, mean
over qualities. Curves are log(rate) over quality, interpolated as for BD-rate
(:mod:`ladder.bdrate`); nothing is extrapolated.

Judges are compared at the same rates: a judge's qualities (:func:`qualities_at`) are those that its
best size has at the rates at which the best size by VMAF has given scores.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from encoder.arrays import Float64
from encoder.media import Size
from ladder.bdrate import RatePoint, monotone
from ladder.curves import pchip

Curves = Mapping[Size, Sequence[RatePoint]]
"""Measured points of a shot, or of a title, by size."""


def cost_of_sizes(
    curves: Curves, sets: Sequence[Collection[Size]], qualities: Sequence[float]
) -> tuple[float, ...]:
    """Return how much more bits each set of sizes needs than the best of all, as a share.

    The mean is over those of ``qualities`` that every set reaches, so that sets can be compared.

    Raises:
        ValueError: no quality is reached by every set.
    """
    at = np.asarray(qualities, dtype=np.float64)
    best = _least_log_rate(curves, curves, at)
    needed = [_least_log_rate(curves, offered, at) for offered in sets]
    reached = np.all([np.isfinite(rates) for rates in (best, *needed)], axis=0)
    if not reached.any():
        raise ValueError("no quality is reached by every set of sizes")
    return tuple(float(np.mean(np.exp(rates[reached] - best[reached])) - 1) for rates in needed)


def least_rates(curves: Curves, qualities: Sequence[float]) -> tuple[float, ...]:
    """Return the rate of the best size at each quality; infinite where no size reaches it."""
    at = np.asarray(qualities, dtype=np.float64)
    return tuple(np.exp(_least_log_rate(curves, curves, at)).tolist())


def qualities_at(curves: Curves, rates: Sequence[float]) -> tuple[float, ...]:
    """Return the quality of the best size at each rate; rates that no size has are left out."""
    found = np.full(len(rates), -np.inf)
    at = np.log(np.asarray(rates, dtype=np.float64))
    for points in curves.values():
        log_rates, quality = _axes(points)
        inside = (at >= log_rates[0]) & (at <= log_rates[-1])
        found[inside] = np.maximum(found[inside], pchip(log_rates, quality, at[inside]))
    return tuple(found[np.isfinite(found)].tolist())


def _least_log_rate(curves: Curves, sizes: Collection[Size], at: Float64) -> Float64:
    least = np.full(len(at), np.inf)
    for size in sizes:
        log_rates, quality = _axes(curves[size])
        inside = (at >= quality[0]) & (at <= quality[-1])
        least[inside] = np.minimum(least[inside], pchip(quality, log_rates, at[inside]))
    return least


def _axes(points: Sequence[RatePoint]) -> tuple[Float64, Float64]:
    kept = monotone(points)
    return np.log([point.rate for point in kept]), np.array([point.quality for point in kept])
