"""Expected plays of each title today, with their uncertainty: a Gamma-Poisson model per title.

The plays of a day are Poisson; their expectation has a Gamma distribution. Its prior is the
operator's forecast, or what titles had on average. Plays of past days correct it. A day counts the
less the longer ago it is (``decay``), and the less the more plays it had, because what changes from
day to day is more than chance (``overdispersion``, as in a negative binomial). Where forecasts of
those days are known too, plays are compared with them: an old forecast that was too high says
something about today's (``trust``). The discounting is that of West and Harrison (Bayesian
Forecasting and Dynamic Models, 1997, chapter 10).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.stats import nbinom

from encoder.arrays import Float64, Mask
from encoder.errors import BadInput

BAND: Final = 0.8
"""Probability of the band that is compared with what came."""
MIN_LAUNCHES: Final = 3
"""Launches in a log from which their mean says what a launch has."""


@dataclass(frozen=True, slots=True)
class ForecastModel:
    """How quickly the past is forgotten. The defaults predicted simulated catalogues best.

    Raises:
        BadInput: a parameter is out of its range.
    """

    decay: float = 0.5
    """Weight of a day against the day after it."""
    overdispersion: float = 0.4
    """Variance from day to day beyond Poisson, as a share of the squared expectation."""
    trust: float = 0.5
    """How far changes of the operator's forecast from day to day are believed, 0 to 1."""
    shape: float = 1.6
    """Shape of the prior around the operator's forecast; 1.6 for one that is wrong by two."""

    def __post_init__(self) -> None:
        fine = 0 < self.decay < 1 and 0 <= self.trust <= 1
        if not fine or self.overdispersion < 0 or not self.shape > 0:
            raise BadInput(
                "a forecast takes a decay between 0 and 1, a trust from 0 to 1, an overdispersion "
                f"of 0 or more and a positive shape; got {self}"
            )


@dataclass(frozen=True, slots=True, eq=False)
class PlaysForecast:
    """Distribution of each title's expected plays: Gamma, with one shape and rate per title."""

    shape: Float64
    rate: Float64

    @property
    def mean(self) -> Float64:
        """Expected plays per title."""
        return np.asarray(self.shape / self.rate)

    def band(self, probability: float = BAND) -> tuple[Float64, Float64]:
        """Return the least and most plays per title, between which they lie that probably."""
        tail, success = (1 - probability) / 2, self.rate / (self.rate + 1)
        low, high = (nbinom.ppf(at, self.shape, success) for at in (tail, 1 - tail))
        return np.asarray(low, np.float64), np.asarray(high, np.float64)

    def inside(self, plays: Float64, probability: float = BAND) -> Float64:
        """Return per title how far its plays are inside the band, 0 to 1.

        Plays are whole numbers, so the band's ends lie within a number's probability: such a
        number is inside in part. The mean over titles is ``probability`` if the forecast is right.
        """
        tail, success = (1 - probability) / 2, self.rate / (self.rate + 1)
        below, reached = (nbinom.cdf(plays - less, self.shape, success) for less in (1, 0))
        width = np.minimum(reached, 1 - tail) - np.maximum(below, tail)
        return np.asarray(np.clip(width / np.maximum(reached - below, 1e-300), 0.0, 1.0))


def forecast_plays(
    plays: Float64,
    today: Float64 | None = None,
    before: Float64 | None = None,
    model: ForecastModel | None = None,
) -> PlaysForecast:
    """Return today's forecast of each title.

    Args:
        plays: Past days x titles, the last is yesterday; nan where a title was not released.
        today: The operator's forecast of today's plays by title; nan where there is none.
        before: His forecasts of the past days, shaped as ``plays``; nan where there was none.
        model: How quickly the past is forgotten.

    Raises:
        ValueError: the shapes do not fit.
    """
    model = model or ForecastModel()
    days, titles = plays.shape
    given = np.full(titles, np.nan) if today is None else np.maximum(today, 1e-6)
    past = np.full(plays.shape, np.nan) if before is None else np.maximum(before, 1e-6)
    if given.shape != (titles,) or past.shape != plays.shape:
        raise ValueError("forecasts and plays have to be of the same days and titles")
    known = ~np.isnan(plays)
    shape, mean = _prior(plays, known)
    shape = np.where(np.isnan(given), shape, model.shape)
    mean = np.where(np.isnan(given), mean, given)
    weight = model.decay ** np.arange(days, 0, -1)[:, None] * known
    exposure = np.ones(plays.shape)
    compared = ~np.isnan(past) & ~np.isnan(given)
    ratio = np.where(compared, past, 1.0) / np.where(compared, given, 1.0)
    exposure = np.where(compared, ratio**model.trust, exposure)
    counted = (weight * np.where(known, plays, 0.0)).sum(0)
    exposed = (weight * exposure).sum(0)
    pilot = (shape + counted) / (shape / mean + exposed)
    evidence = 1 / (1 + model.overdispersion * pilot)
    return PlaysForecast(shape + evidence * counted, shape / mean + evidence * exposed)


def coverage(forecast: PlaysForecast, plays: Float64, least: float = 1.0) -> tuple[float, int]:
    """Return the share of titles inside the 80 % band, and how many titles were compared.

    Args:
        forecast: made before the day.
        plays: of the day, by title; nan for titles that were not released.
        least: expected plays from which a title is compared; others are inside any band.
    """
    compared = ~np.isnan(plays) & (forecast.mean >= least)
    if not compared.any():
        return math.nan, 0
    few = PlaysForecast(forecast.shape[compared], forecast.rate[compared])
    return float(few.inside(plays[compared]).mean()), int(compared.sum())


def _prior(plays: Float64, known: Mask) -> tuple[Float64, Float64]:
    """Return shape and mean of the prior of titles without an operator's forecast.

    A title without a past has what launches had on their first day; the others are drawn from the
    distribution of all titles' plays.
    """
    titles = plays.shape[1]
    old_shape, old_mean = _moments(plays[known])
    before = np.vstack([np.ones((1, titles), np.bool_), known[:-1].cumsum(0) > 0])[: len(known)]
    first = known & ~before
    launches = plays[first]  # of titles that had no plays on the log's first day
    new = known.sum(0) == 0
    new_shape, new_mean = (
        _moments(launches) if len(launches) >= MIN_LAUNCHES else (old_shape, old_mean)
    )
    return np.where(new, new_shape, old_shape), np.where(new, new_mean, old_mean)


def _moments(plays: Float64) -> tuple[float, float]:
    """Return shape and mean of a Gamma whose Poisson has the mean and variance of ``plays``."""
    if not len(plays):
        return 1.0, 1.0
    mean = max(float(plays.mean()), 1e-3)
    beyond = float(plays.var()) - mean
    return min(max(mean * mean / beyond if beyond > 0 else 10.0, 0.02), 10.0), mean
