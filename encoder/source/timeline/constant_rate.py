"""The canonical timeline of a title: its source frames at a constant frame rate. Pure."""

from __future__ import annotations

import math
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
"""Highest canonical rate, frames per second. Of a source with a faster constant rate, every second
frame is shown (or every third, and so on), so that motion stays even."""
MIN_RATE = Fraction(5)
"""Lowest canonical rate, frames per second. A source of fewer frames (a slide show, a screen that
is still most of the time) repeats them: shots of a second, seeking and players need some frames."""
MAX_TERM = 1_000_000
"""Largest numerator and denominator of a rate that is measured, or claimed by a header."""
MAX_SHIFT_SECONDS = Fraction(1, 20)
"""Furthest that a frame is moved in time to get a place of its own, seconds."""
MAX_MOVED = 1000
"""Most frames that are moved: the filter graph names each one."""
UNHEARD_SECONDS = Fraction(1, 50)
"""Sound that may be lost where frames begin or end with it, seconds: half a frame at 25 fps."""

# Quantile of the steps between frames that sets a variable rate: 9 of 10 frames get a place of
# their own on the canonical timeline, and bursts of a few closer frames do not set its rate.
_STEP_QUANTILE = 0.1
_MAX_DENOMINATOR = 10_000
_NTSC = Fraction(1000, 1001)
_FASTEST = 16 * MAX_RATE  # above it, timestamps are not believed
# Where frames are lost at every rate, a higher rate has to save more than this share of them.
_WORTH = 0.001
# Mean shift that makes up for a rate twice as high, and that is allowed to the rate that the coded
# stream states: film and video mixed stays at 29.97 fps.
_DOUBLING_SECONDS = 0.0055
_STATED_SECONDS = 0.003
# Share of frames, roughly, that have to lie alike within their places to set the phase; and the
# largest phase, in frames: ffmpeg rounds half a place before 0 away from 0.
_CONCENTRATED = 0.5
_LARGEST_PHASE = 0.49


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """A canonical timeline: frames at a constant rate from time 0."""

    frame_rate: Fraction
    frames: int
    """Number of canonical frames."""
    source_of: Int64 | None
    """(frames,) number of the source frame that each canonical frame shows; None where canonical
    and source frames have the same numbers."""
    head: int = 0
    """Number of canonical frames before the first picture, which show it already."""
    phase_seconds: Fraction = Fraction(0)
    """Seconds that are added to the times of source frames before they are rounded to places."""
    moved: int = 0
    """Number of source frames that are shown beside the place to which their time is rounded,
    because another frame is shown there."""

    def source_frame(self, frame: int) -> int:
        """Return the number of the source frame that canonical ``frame`` shows."""
        return frame if self.source_of is None else int(self.source_of[frame])

    def first_shown(self, frame: int) -> int:
        """Return the first canonical frame that shows a source frame, or the one after it."""
        return frame if self.source_of is None else int(np.searchsorted(self.source_of, frame))

    @property
    def constant(self) -> bool:
        """True where the source already has the constant rate."""
        return self.source_of is None

    @property
    def duration_seconds(self) -> Fraction:
        """Duration of the title."""
        return self.frames / self.frame_rate


@dataclass(frozen=True, slots=True)
class Hold:
    """How long the first and the last picture stand beyond their own time."""

    before_seconds: Fraction = Fraction(0)
    """Seconds before the first picture that the title begins with it."""
    until_seconds: Fraction = Fraction(0)
    """Seconds from the first picture's time to the end of the title; 0 or anything earlier than
    the end of the pictures adds nothing."""


NO_HOLD = Hold()
"""The title begins with its first picture and ends with its last one."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """What a canonical timeline does to the frames of its source, between its held ends."""

    repeated: int
    """Canonical frames that show the same source frame as the one before."""
    lost: int
    """Source frames that are never shown."""
    shift_seconds: Fraction
    """Largest difference between a shown frame's time in the source and on the timeline."""


def conversion(timeline: Timeline, index: FrameIndex) -> Conversion:
    """Count what ``timeline`` repeats, loses and shifts of the frames of ``index``."""
    if timeline.source_of is None:
        shown, places = np.arange(index.frames), np.arange(index.frames)
        repeated = 0
    else:
        inside = timeline.source_of[timeline.head :]
        shown, places = np.unique(inside, return_index=True)
        repeated = int(places[-1]) + 1 - len(shown)
    ticks = (index.pts[shown] - index.pts[0]).astype(object)
    tick = Fraction(index.time_base)
    if len(ticks) > 10_000:  # numbers to show to people
        off = np.abs(places / float(timeline.frame_rate) - ticks.astype(float) * float(tick))
        shift = Fraction(float(off.max())).limit_denominator(1_000_000)
    else:
        shift = max(
            abs(int(place) / timeline.frame_rate - time * tick)
            for place, time in zip(places, ticks, strict=True)
        )
    return Conversion(repeated, index.frames - len(shown), shift)


def plan_timeline(
    index: FrameIndex, likely: tuple[Fraction | None, ...] = (), hold: Hold = NO_HOLD
) -> Timeline:
    """Place the frames of a source on a timeline of constant rate; headers claim ``likely`` rates,
    the coded stream the first of them.

    Timestamps are rounded to ticks (to milliseconds in Matroska and FLV), so a rate fits when no
    frame is further than one tick from its place. Of several fitting rates the nearest wins, likely
    ones first; the measured rate is used only where no known rate fits. Frames that jitter but keep
    one place each still count as constant. Of a constant rate above :data:`MAX_RATE`, every second
    frame is taken, or every third and so on.

    Otherwise the rate is that of the closest frames (1 in 10 may be closer), a standard rate where
    one fits, and canonical frame ``n`` shows the last source frame with
    ``round((pts - pts[0]) * rate) <= n``, as ffmpeg's ``fps`` filter does. Where two frames have
    one place at that rate, one of them moves to a free place beside it; where there is none, the
    rate is another one, at which no frame is lost (:func:`_lossless`).

    ``hold`` adds canonical frames that show the first picture before its time, and the last one
    beyond its own.
    """
    ticks = index.pts - index.pts[0]
    claims = tuple(Fraction(rate).limit_denominator(MAX_TERM) for rate in likely if rate)
    rate = _fitting_rate(ticks, index.time_base, claims)
    every, phase, moved = 1, 0, 0
    if rate is not None and rate > _FASTEST:
        rate = None
    if rate is not None and rate > MAX_RATE:
        every = math.ceil(rate / MAX_RATE)
        rate /= every
        # Frames half-way between two places must all be rounded alike.
        phase = 0 if every % 2 else int(1 / (2 * every * rate * index.time_base))
        places = _places(ticks + phase, index.time_base * rate)
    elif rate is not None:
        places = _places(ticks, index.time_base * rate)
    else:
        rate, places, moved, phase = _lossless(
            ticks, index, tuple(filter(_in_limits, claims)), likely[0] if likely else None
        )
    constant = every == 1 and np.array_equal(places, np.arange(len(places)))
    end = _places(np.array([ticks[-1] + index.last_duration]), index.time_base * rate)[0]
    frames = len(places) if constant else max(int(places[-1]) + 1, int(end))
    if every > 1:
        frames = max(1, int(end))
    head = max(0, math.ceil((hold.before_seconds - UNHEARD_SECONDS) * rate))
    held = math.ceil((hold.until_seconds - UNHEARD_SECONDS) * rate)
    if constant and not head and held <= frames:
        return Timeline(rate, frames, None)
    frames = head + max(frames, held)
    source_of = np.searchsorted(places, np.arange(frames) - head, side="right") - 1
    source_of[:head] = source_of[head]
    return Timeline(rate, frames, source_of.astype(np.int64), head, phase * index.time_base, moved)


def place_of(ticks: int, rate_per_tick: Fraction) -> int:
    """Return the canonical frame number of a time: rounded to nearest, halves up."""
    over, under = rate_per_tick.numerator, rate_per_tick.denominator
    return (2 * ticks * over + under) // (2 * under)


def tick_of(place: int, rate_per_tick: Fraction) -> int:
    """Return the time in ticks that is nearest to a canonical frame."""
    return place_of(place, 1 / rate_per_tick)


def _places(ticks: Int64, rate_per_tick: Fraction) -> Int64:
    """Return :func:`place_of` of each time."""
    over, under = rate_per_tick.numerator, rate_per_tick.denominator
    if len(ticks) and int(ticks[-1]) * over * 2 + under >= 2**63:
        return np.array([place_of(int(t), rate_per_tick) for t in ticks], dtype=np.int64)
    return (2 * ticks * over + under) // (2 * under)


def _fitting_rate(
    ticks: Int64, time_base: Fraction, claims: tuple[Fraction, ...]
) -> Fraction | None:
    """Return the constant rate of the frames, which may exceed the limit; None without one."""
    if len(ticks) < 2 or ticks[-1] <= 0:
        return next(filter(_in_limits, claims), DEFAULT_RATE)
    measured = (len(ticks) - 1) / (int(ticks[-1]) * time_base)
    exact = measured.limit_denominator(_MAX_DENOMINATOR)
    known = dict.fromkeys((*claims, *STANDARD_RATES))
    if measured > MAX_RATE:  # of displays and fast cameras
        known |= dict.fromkeys((Fraction(round(measured)), round(measured * 1001 / 1000) * _NTSC))
    near = [
        rate for rate in (*known, exact) if rate >= MIN_RATE and abs(rate / measured - 1) < 0.01
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
    # A rate that no one chose, from a clock so fine that the first measure is not exact enough.
    finer = measured.limit_denominator(MAX_TERM)
    errors = ticks - numbers * float(1 / (finer * time_base))
    return finer if finer >= MIN_RATE and np.abs(errors).max() <= 1 else None


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


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A rate for frames that are unevenly spaced."""

    rate: Fraction
    places: Int64
    """(frames,) canonical frame of each source frame, counted from 0."""
    moved: int
    """Frames that moved to a place of their own."""
    lost: int
    """Frames that share their place with a later frame."""
    shift: float
    """Mean difference between a frame's time and its place, beyond one of all frames, seconds."""
    phase: int
    """Ticks that were added to all times before they were rounded."""

    def cost(self, stated: Fraction | None) -> float:
        """Return the mean shift in seconds, plus a price for the rate."""
        price = _DOUBLING_SECONDS * math.log2(self.rate)
        return self.shift + price - (_STATED_SECONDS if self.rate == stated else 0)


def _lossless(
    ticks: Int64, index: FrameIndex, claims: tuple[Fraction, ...], stated: Fraction | None
) -> tuple[Fraction, Int64, int, int]:
    """Return the rate of frames that are unevenly spaced, their places, how many were moved, and
    the ticks that were added to all times before they were rounded.

    It is the rate of the closest frames if it loses none. Otherwise it is, of the rates that lose
    no frame, the one with the best balance of small shifts and a low rate. Where all rates lose
    frames, it is chosen among those that lose hardly more than the best.
    """
    closest = _candidate(ticks, index.time_base, _closest_rate(ticks, index, claims))
    if not closest.lost and not closest.moved:
        return closest.rate, closest.places, 0, 0
    known = dict.fromkeys((*claims, *STANDARD_RATES, *_short_steps(ticks, index.time_base)))
    others = [
        _candidate(ticks, index.time_base, rate, _phase(ticks, index.time_base, rate))
        for rate in known
        if _in_limits(rate)
    ]
    least = min(each.lost for each in (closest, *others))
    allowed = 0 if least == 0 else least + _WORTH * len(ticks)
    fitting = [each for each in (closest, *others) if each.lost <= allowed]
    best = min(fitting, key=lambda each: round(each.cost(stated), 6))
    return best.rate, best.places, best.moved, best.phase


def _phase(ticks: Int64, time_base: Fraction, rate: Fraction) -> int:
    """Return the ticks that bring most frames into the middle of their places; 0 without need.

    Where the first frame, or the first few, came at another moment of the clock than the rest, the
    rest might lie on the border between two places.
    """
    turns = ticks * float(time_base * rate)
    mean = np.exp(2j * np.pi * turns).mean()
    phase = -float(np.angle(mean)) / (2 * np.pi)
    if abs(mean) < _CONCENTRATED or not 0.1 < abs(phase) < _LARGEST_PHASE:
        return 0
    return round(phase / float(time_base * rate))


def _short_steps(ticks: Int64, time_base: Fraction) -> tuple[Fraction, ...]:
    """Return the rates of the commonest steps between frames."""
    steps, counts = np.unique(np.diff(ticks), return_counts=True)
    order = np.argsort(-counts, kind="stable")[:8]
    return tuple(
        (1 / (int(steps[at]) * time_base)).limit_denominator(MAX_TERM)
        for at in order
        if steps[at] > 0
    )


def _candidate(ticks: Int64, time_base: Fraction, rate: Fraction, phase: int = 0) -> _Candidate:
    times = ticks + phase
    rounded = _places(times, time_base * rate)
    if rounded[0] != 0:
        phase, times, rounded = 0, ticks, _places(ticks, time_base * rate)
    lost = len(rounded) - len(np.unique(rounded))
    places, moved = rounded, 0
    if lost and (spread := _spread(times, rounded, time_base, rate, phase)) is not None:
        places, moved = spread, int((spread != rounded).sum())
        lost = len(places) - len(np.unique(places))
    errors = places / float(rate) - times * float(time_base)
    shift = float(np.abs(errors - np.median(errors)).mean())
    return _Candidate(rate, places, moved, lost, shift, phase)


def _spread(
    ticks: Int64, rounded: Int64, time_base: Fraction, rate: Fraction, phase: int
) -> Int64 | None:
    """Give each time a place of its own, one beside the rounded one at most; None if impossible.

    ``phase`` ticks were added to all times, which counts as a move.
    Frames of one time stay at one place: no filter tells them apart. The places are those with the
    smallest largest move: the isotonic fit, in the maximum norm, of place minus number.
    """
    times, inverse = np.unique(ticks, return_inverse=True)
    place = _places(times, time_base * rate)
    numbers = np.arange(len(times))
    above = np.maximum.accumulate(place - numbers)
    below = np.minimum.accumulate((place - numbers)[::-1])[::-1]
    spread = -(-(above + below) // 2) + numbers
    moved = np.flatnonzero(spread != place)
    if not len(moved) or len(moved) > MAX_MOVED or spread[0] < 0:
        return None
    if np.abs(spread - place).max() > 1:
        return None
    for at in moved:
        exact = int(spread[at]) / rate
        if abs(exact - (int(times[at]) - phase) * time_base) > MAX_SHIFT_SECONDS:
            return None
        if place_of(tick_of(int(spread[at]), time_base * rate), time_base * rate) != spread[at]:
            return None  # ticks are too coarse
    result: Int64 = spread[inverse]
    return result
