"""What was known on each day of a log: plays and forecasts before it, and how right these were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from encoder.arrays import Float64, Mask
from recommender.sites.forecast import ForecastModel, PlaysForecast, coverage, forecast_plays
from recommender.sites.sessions import Plays, day_of


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """Plays of days x titles, and the operator's forecasts of them; nan where there was none."""

    first_day: int
    plays: Float64
    """nan where a title was not released."""
    forecasts: Float64
    """One day more than ``plays``: the last row is today's."""
    released: Mask
    """Of the same days: True where a title was released by then."""
    model: ForecastModel

    @property
    def days(self) -> int:
        """Number of days with plays."""
        return len(self.plays)

    def before(self, day: int) -> PlaysForecast:
        """Return the forecast of a day, 0 to ``days``, from what was known before it; titles that
        are not released by then have hardly any plays."""
        past, given = self.plays[:day], self.forecasts[:day]
        forecast = forecast_plays(past, self.forecasts[day], given, self.model)
        return PlaysForecast(np.where(self.released[day], forecast.shape, 1e-9), forecast.rate)

    def calibration(self) -> tuple[float, int]:
        """Return the share of days and titles whose plays lay inside the 80 % band, and how many
        were compared: those with at least one expected play. The first day counts only if the
        operator had a forecast of it."""
        warm_days = int(bool(np.isnan(self.forecasts[0]).all()))
        compared = [
            coverage(self.before(day), self.plays[day]) for day in range(warm_days, self.days)
        ]
        count = sum(number for _, number in compared)
        inside = sum(share * number for share, number in compared if number)
        return (inside / count if count else float("nan")), count


def history_of(
    plays: Plays,
    titles: int,
    *,
    last_day: int,
    day_starts: float,
    forecasts: Mapping[int, Float64] | None = None,
    releases: Mapping[int, int] | None = None,
    model: ForecastModel | None = None,
) -> History:
    """Return the history of a log, whose last day is taken to be whole.

    Args:
        plays: of one site.
        titles: number of titles.
        last_day: number of the log's last day.
        day_starts: hour at which a day begins.
        forecasts: the operator's expected plays per title, by number of the day.
        releases: number of the day of each title's release; others were there from the beginning.
        model: how quickly the past is forgotten.
    """
    day = day_of(plays.time, day_starts)
    first = int(day.min())
    counts = plays.per_day(titles, first, last_day - first + 1, day_starts)
    released = np.ones((len(counts) + 1, titles), np.bool_)
    for title, release in (releases or {}).items():
        released[: max(release - first, 0), title] = False
    counts[~released[:-1] & (counts == 0)] = np.nan  # plays before the release show that it was
    given = np.full((len(counts) + 1, titles), np.nan)
    for number, values in (forecasts or {}).items():
        if 0 <= number - first < len(given):
            given[number - first] = values
    return History(first, counts, given, released, model or ForecastModel())


def unplayed(titles: int, forecast: Float64) -> History:
    """Return the history of a site of which only a forecast of today is known; a title without
    one has no plays."""
    given = np.nan_to_num(forecast)[None]
    return History(0, np.zeros((0, titles)), given, given > 0, ForecastModel())
