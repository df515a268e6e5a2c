"""The canonical timeline of a title: its source frames at a constant frame rate. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from encoder.arrays import Int64
from encoder.source.index import FrameIndex

DEFAULT_RATE = Fraction(25)
"""Frames per second of a title with one frame, and of a raw stream that states no rate."""

# fmt: off
STANDARD_RATES = tuple(map(Fraction, (
    "5", "6", "15/2", "8", "10", "12", "25/2", "15", "20", "441/20", "24000/1001", "24", "25",
    "30000/1001", "30", "48", "50", "60000/1001", "60", "100", "120000/1001", "120",
)))
# fmt: on
"""Rates that an unclear timeline is matched with, frames per second."""

MAX_RATE = Fraction(120)
"""Highest canonical rate, frames per second."""
MIN_RATE = Fraction(5)
"""Lowest canonical rate, frames per second. A source of fewer frames (a slide show, a screen that
is still most of the time) repeats them: shots of a second, seeking and players need some frames."""

# Quantile of the steps between frames that sets a variable rate: 9 of 10 frames get a place of
# their own on the canonical timeline, and bursts of a few closer frames do not set its rate.
_STEP_QUANTILE = 0.1
_MAX_DENOMINATOR = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """A canonical timeline: frames at a constant rate from time 0."""

    frame_rate: Fraction
    frames: int
    """Number of canonical frames."""
    source_of: Int64 | None
    """(frames,) number of the source frame that each canonical frame shows; None where canonical
    and source frames have the same numbers."""

    def source_frame(self, frame: int) -> int:
        """Return the number of the source frame that canonical ``frame`` shows."""
        return frame if self.source_of is None else int(self.source_of[frame])

    @property
    def constant(self) -> bool:
        """True where the source already has the constant rate."""
        return self.source_of is None

    @property
    def duration_seconds(self) -> Fraction:
        """Duration of the title."""
        return self.frames / self.frame_rate


def plan_timeline(index: FrameIndex, likely: tuple[Fraction | None, ...] = ()) -> Timeline:
    """Place the frames of a source on a timeline of constant rate; headers claim ``likely`` rates.

    Timestamps are rounded to ticks (to milliseconds in Matroska and FLV), so a rate fits when no
    frame is further than one tick from its place. Of several fitting rates the nearest wins, likely
    ones first; the measured rate is used only where no known rate fits. Frames that jitter but keep
    one place each still count as constant. Otherwise the rate is that of the closest frames (1 in
    10 may be closer), a standard rate where one fits, and canonical frame ``n`` shows the last
    source frame with ``round((pts - pts[0]) * rate) <= n``, as ffmpeg's ``fps`` filter does.
    """
    ticks = index.pts - index.pts[0]
    claims = tuple(Fraction(rate) for rate in likely if rate and _in_limits(rate))
    rate = _fitting_rate(ticks, index.time_base, claims)
    if rate is None:
        rate = _closest_rate(ticks, index, claims)
    places = _places(ticks, index.time_base * rate)
    if np.array_equal(places, np.arange(len(places))):
        return Timeline(rate, len(places), None)
    end = _places(np.array([ticks[-1] + index.last_duration]), index.time_base * rate)[0]
    frames = max(int(places[-1]) + 1, int(end))
    source_of = np.searchsorted(places, np.arange(frames), side="right") - 1
    return Timeline(rate, frames, source_of.astype(np.int64))


def _places(ticks: Int64, rate_per_tick: Fraction) -> Int64:
    """Return the canonical frame number of each time: rounded to nearest, halves up."""
    over, under = rate_per_tick.numerator, rate_per_tick.denominator
    if len(ticks) and int(ticks[-1]) * over * 2 + under >= 2**63:
        exact = [(2 * int(t) * over + under) // (2 * under) for t in ticks]
        return np.array(exact, dtype=np.int64)
    return (2 * ticks * over + under) // (2 * under)


def _fitting_rate(
    ticks: Int64, time_base: Fraction, claims: tuple[Fraction, ...]
) -> Fraction | None:
    if len(ticks) < 2 or ticks[-1] <= 0:
        return claims[0] if claims else DEFAULT_RATE
    measured = (len(ticks) - 1) / (int(ticks[-1]) * time_base)
    exact = measured.limit_denominator(_MAX_DENOMINATOR)
    known = dict.fromkeys((*claims, *STANDARD_RATES))
    near = [
        rate for rate in (*known, exact) if _in_limits(rate) and abs(rate / measured - 1) < 0.01
    ]
    numbers = np.arange(len(ticks))
    off = {rate: ticks - numbers * float(1 / (rate * time_base)) for rate in near}
    worst = {rate: round(float(np.abs(errors).max()), 3) for rate, errors in off.items()}
    drift = {rate: round(float(np.ptp(errors)), 3) for rate, errors in off.items()}
    # Sorting is stable: of equals, claims come first. The measured rate comes last, because the
    # rounded ticks of a second of 60000/1001 fit 598618/9987 better.
    listed = sorted((rate for rate in near if rate in known), key=worst.__getitem__)
    for rate in (*listed, *(rate for rate in near if rate not in known)):
        if worst[rate] <= 1:
            return rate
    # Frames that jitter in a pattern (3:2 pulldown) are equally far off at every rate: the rate
    # with the least drift is right.
    for rate in sorted(listed, key=drift.__getitem__):
        if np.array_equal(_places(ticks, time_base * rate), numbers):
            return rate
    return None


def _in_limits(rate: Fraction) -> bool:
    return MIN_RATE <= rate <= MAX_RATE


def _closest_rate(ticks: Int64, index: FrameIndex, claims: tuple[Fraction, ...]) -> Fraction:
    steps = np.diff(ticks)
    steps = steps[steps > 0]
    if len(steps) == 0:
        return DEFAULT_RATE
    step = float(np.quantile(steps, _STEP_QUANTILE)) * float(index.time_base)
    typical = float(np.mean(steps[steps <= 1.5 * np.quantile(steps, _STEP_QUANTILE)]))
    rate = min(max(1 / (typical * float(index.time_base)), float(MIN_RATE)), float(MAX_RATE))
    # Error of the mean step from rounding to ticks, plus a little for a clock that drifts.
    tolerance = 0.005 + 0.5 * float(index.time_base) / step
    near = [
        (abs(float(known) / rate - 1), order, known)
        for order, known in enumerate((*claims, *STANDARD_RATES))
        if abs(float(known) / rate - 1) <= tolerance
    ]
    return min(near)[2] if near else Fraction(rate).limit_denominator(1001)
