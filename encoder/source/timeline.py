"""The title's canonical timeline: every source frame laid on a constant frame rate. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from encoder.source.index import FrameIndex, Ticks

DEFAULT_RATE = Fraction(25)
"""Frames per second of a title of one frame, and of a raw stream that states no rate."""

# fmt: off
STANDARD_RATES = tuple(map(Fraction, (
    "5", "6", "15/2", "8", "10", "12", "25/2", "15", "20", "441/20", "24000/1001", "24", "25",
    "30000/1001", "30", "48", "50", "60000/1001", "60", "100", "120000/1001", "120",
)))
# fmt: on
"""Rates that an unclear timeline is read as, where it fits one of them."""

MAX_RATE = Fraction(120)
MIN_RATE = Fraction(5)
"""A source of fewer frames (a slide show, a screen that is still most of the time) is shown at
this rate: shots of a second, seeking and players need some frames."""

# Distinct steps between frames that a variable rate is judged on: 9 of 10 frames get a place of
# their own on the canonical timeline, bursts of a few closer frames do not set its rate.
_STEP_QUANTILE = 0.1
_MAX_DENOMINATOR = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """The title's canonical timeline: ``frames`` frames at a constant rate from time 0."""

    frame_rate: Fraction
    frames: int
    source_of: Ticks | None
    """(frames,) for each canonical frame the number of the source frame that it shows; None when
    they are the same, frame by frame."""

    def source_frame(self, frame: int) -> int:
        """The source frame shown as canonical ``frame``."""
        return frame if self.source_of is None else int(self.source_of[frame])

    @property
    def constant(self) -> bool:
        """Whether the source already is at the constant rate."""
        return self.source_of is None

    @property
    def duration_seconds(self) -> Fraction:
        """Length of the title."""
        return self.frames / self.frame_rate


def plan_timeline(index: FrameIndex, likely: tuple[Fraction | None, ...] = ()) -> Timeline:
    """Lay the frames of ``index`` on a constant frame rate.

    Timestamps are rounded to ticks (to milliseconds in Matroska and FLV), so a rate fits when no
    frame is further than one tick from its place; of several the nearest wins, ``likely`` ones
    (that headers claim) first, and only where no known rate fits the measured one. Frames that
    jitter but keep one place each are still constant. Otherwise the rate is that of the closest
    frames (1 in 10 may be closer), a standard one where it fits, and canonical frame ``n`` shows
    the last source frame with
    ``round((pts - pts[0]) * rate) <= n``, as ffmpeg's ``fps`` filter does it.
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


def _places(ticks: Ticks, rate_per_tick: Fraction) -> Ticks:
    """Canonical frame number of each time: rounded to nearest, halves up."""
    over, under = rate_per_tick.numerator, rate_per_tick.denominator
    if len(ticks) and int(ticks[-1]) * over * 2 + under >= 2**63:
        exact = [(2 * int(t) * over + under) // (2 * under) for t in ticks]
        return np.array(exact, dtype=np.int64)
    return (2 * ticks * over + under) // (2 * under)


def _fitting_rate(
    ticks: Ticks, time_base: Fraction, claims: tuple[Fraction, ...]
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
    # Sorting is stable: of equals claims come first. The measured rate comes last, because over a
    # second rounded ticks fit 598618/9987 better than the 60000/1001 that they are.
    listed = sorted((rate for rate in near if rate in known), key=worst.__getitem__)
    for rate in (*listed, *(rate for rate in near if rate not in known)):
        if worst[rate] <= 1:
            return rate
    # Frames that jitter by a pattern (3:2 pulldown) are all as far off: what drifts is the rate.
    for rate in sorted(listed, key=drift.__getitem__):
        if np.array_equal(_places(ticks, time_base * rate), numbers):
            return rate
    return None


def _in_limits(rate: Fraction) -> bool:
    return MIN_RATE <= rate <= MAX_RATE


def _closest_rate(ticks: Ticks, index: FrameIndex, claims: tuple[Fraction, ...]) -> Fraction:
    steps = np.diff(ticks)
    steps = steps[steps > 0]
    if len(steps) == 0:
        return DEFAULT_RATE
    step = float(np.quantile(steps, _STEP_QUANTILE)) * float(index.time_base)
    typical = float(np.mean(steps[steps <= 1.5 * np.quantile(steps, _STEP_QUANTILE)]))
    rate = min(max(1 / (typical * float(index.time_base)), float(MIN_RATE)), float(MAX_RATE))
    # How far the mean step can be off for its ticks, plus a little for a clock that drifts.
    tolerance = 0.005 + 0.5 * float(index.time_base) / step
    near = [
        (abs(float(known) / rate - 1), order, known)
        for order, known in enumerate((*claims, *STANDARD_RATES))
        if abs(float(known) / rate - 1) <= tolerance
    ]
    return min(near)[2] if near else Fraction(rate).limit_denominator(1001)
