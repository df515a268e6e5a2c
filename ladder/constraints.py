"""Rate constraints as upper bounds on the bits of runs of shots.

Peak rate, VBV and the source's own rate are all limits on the bits that the shots ``[first, end)``
take together. So the allocation knows only two kinds of cap: single windows, and the leaky bucket,
which stands for all windows at once without listing them. As every cap is an upper bound, the
cheapest choice of every shot is the most feasible one: if it breaks a cap, nothing can keep that
cap. This makes :class:`InfeasibleResult` exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from encoder.arrays import Float64
from ladder.choices import ShotChoices

BIT_TOLERANCE = 1e-3
"""Bits by which a sum may exceed its cap: far below one bit, far above rounding in long sums."""


@dataclass(frozen=True, slots=True)
class WindowCap:
    """A limit on the bits that the shots ``[first_shot, end_shot)`` take together."""

    first_shot: int
    end_shot: int
    bits: float
    why: str
    """Name of the constraint for people."""

    def __post_init__(self) -> None:
        if not 0 <= self.first_shot < self.end_shot:
            raise ValueError(f"a window holds shots, got [{self.first_shot}, {self.end_shot})")


@dataclass(frozen=True, slots=True)
class LeakyBucket:
    """A limit on every run of shots: ``rate`` x its duration + ``buffer_bits``."""

    durations: tuple[float, ...]
    """Duration of each shot in seconds."""
    rate: float
    """Rate in bit/s at which the bucket drains."""
    buffer_bits: float
    """Bits that the bucket holds."""
    why: str = "VBV"


Cap = WindowCap | LeakyBucket


@dataclass(frozen=True, slots=True)
class InfeasibleResult:
    """The reason for which no allocation exists; a result, not an error."""

    constraint: str
    """Name of the constraint: ``budget``, ``peak rate``, ``VBV``, ``worst shot`` or ``source
    rate``."""
    detail: str
    """One line for people: where it fails, what was asked, what the cheapest choices need."""
    shortfall: float
    """Amount that is missing: bits for rates, points of quality for the worst-shot floor."""
    shots: tuple[int, int] | None = None
    """Shots ``[first, end)`` where it fails; None for the whole title."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A window whose shots take more than they may."""

    cap: WindowCap
    bits: float
    """Bits that the shots take."""

    @property
    def excess(self) -> float:
        """Bits above the cap."""
        return self.bits - self.cap.bits

    def as_infeasible(self) -> InfeasibleResult:
        """Return the reason for infeasibility, for a violation by the cheapest choices."""
        cap = self.cap
        detail = (
            f"{cap.why}: shots {cap.first_shot} to {cap.end_shot - 1} may take "
            f"{cap.bits:.0f} bits together and need at least {self.bits:.0f}"
        )
        return InfeasibleResult(cap.why, detail, self.excess, (cap.first_shot, cap.end_shot))


def hls_windows(
    durations: Sequence[Fraction], target_duration: int | Fraction
) -> list[tuple[int, int]]:
    """Return the runs ``[first, end)`` of segments that last 0.5 to 1.5 target durations.

    These are the windows over which RFC 8216bis (section 4.4.6.2, BANDWIDTH) defines the peak
    segment bit rate.
    """
    # In whole ticks of a common timescale: exact, and much faster than sums of fractions.
    half = Fraction(target_duration) / 2
    timescale = math.lcm(half.denominator, *(d.denominator for d in durations))
    ticks = [int(duration * timescale) for duration in durations]
    shortest, longest = int(half * timescale), int(half * timescale) * 3
    windows = []
    for first in range(len(ticks)):
        length = 0
        for end in range(first + 1, len(ticks) + 1):
            length += ticks[end - 1]
            if length > longest:
                break
            if length >= shortest:
                windows.append((first, end))
    return windows


def peak_rate_caps(
    durations: Sequence[Fraction],
    target_duration: int | Fraction,
    bits_per_second: float,
    why: str = "peak rate",
) -> tuple[WindowCap, ...]:
    """Return caps that keep the peak segment bit rate of HLS at or below ``bits_per_second``.

    Raises:
        ValueError: a shot is longer than the target duration allows a segment to be.
    """
    longest = max(durations)
    if longest > target_duration:
        raise ValueError(f"a shot of {float(longest):g} s is over the target {target_duration} s")
    starts = np.concatenate(([0.0], np.cumsum([float(d) for d in durations])))
    return tuple(
        WindowCap(
            first, end, math.floor(bits_per_second * (starts[end] - starts[first]) + 1e-6), why
        )
        for first, end in hls_windows(durations, target_duration)
    )


def leaky_bucket_caps(
    durations: Sequence[Fraction], rate: float, buffer_bits: float, why: str = "VBV"
) -> tuple[LeakyBucket]:
    """Return the cap of a buffer of ``buffer_bits`` that is filled at ``rate`` bit/s.

    It holds over all runs of whole shots: a decoder that starts any shot with a full buffer does
    not run dry.
    """
    return (LeakyBucket(tuple(float(d) for d in durations), rate, buffer_bits, why),)


def whole_title_cap(shots: int, bits: float, why: str) -> WindowCap:
    """Return the cap at ``bits`` for all shots together."""
    return WindowCap(0, shots, bits, why)


def worst_shot_floor(
    shots: Sequence[ShotChoices], quality: float
) -> tuple[ShotChoices, ...] | InfeasibleResult:
    """Return the shots without their choices of less than ``quality``.

    The result is infeasible when a shot has no choice left; it names the worst of those shots.
    """
    best = [max(choice.quality for choice in shot.candidates) for shot in shots]
    worst = min(range(len(shots)), key=best.__getitem__)
    if best[worst] < quality:
        detail = f"worst shot: shot {worst} reaches {best[worst]:.2f}, the floor is {quality:g}"
        return InfeasibleResult("worst shot", detail, quality - best[worst], (worst, worst + 1))
    return tuple(
        ShotChoices(shot.frames, tuple(c for c in shot.candidates if c.quality >= quality))
        for shot in shots
    )


class CapSet:
    """All caps of one allocation, packed for fast checks; immutable once built."""

    def __init__(self, caps: Sequence[Cap], shots: int) -> None:
        self.shots = shots
        self.windows = tuple(cap for cap in caps if isinstance(cap, WindowCap))
        self.buckets = tuple(cap for cap in caps if isinstance(cap, LeakyBucket))
        for window in self.windows:
            if window.end_shot > shots:
                raise ValueError(f"{window} is outside of {shots} shots")
        for bucket in self.buckets:
            if len(bucket.durations) != shots:
                raise ValueError(f"{len(bucket.durations)} durations for {shots} shots")
        self._first = np.array([w.first_shot for w in self.windows], dtype=np.intp)
        self._end = np.array([w.end_shot for w in self.windows], dtype=np.intp)
        self._cap = np.array([w.bits for w in self.windows], dtype=np.float64)
        # Every (window, shot in it) pair, sorted by shot, for a minimum per shot.
        lengths = self._end - self._first
        of_window = np.repeat(np.arange(len(self.windows)), lengths)
        offset = np.arange(len(of_window)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        of_shot = self._first[of_window] + offset
        order = np.argsort(of_shot, kind="stable")
        self._pair_window = of_window[order]
        self._pair_shots, self._pair_starts = np.unique(of_shot[order], return_index=True)

    def violations(self, bits: Float64) -> list[Violation]:
        """Return violated windows that do not overlap, worst first by their share over the cap.

        ``bits`` are those of each shot, shape ``[shots]``. The result is empty exactly when every
        cap holds.
        """
        violated = self._violated_windows(bits)
        for bucket in self.buckets:
            violated += _violated_runs(bucket, bits)
        violated.sort(key=lambda v: (-v.excess / max(v.cap.bits, 1.0), v.cap.first_shot))
        taken = np.zeros(self.shots, dtype=bool)
        apart = []
        for violation in violated:
            run = slice(violation.cap.first_shot, violation.cap.end_shot)
            if not taken[run].any():
                taken[run] = True
                apart.append(violation)
        return apart

    def _violated_windows(self, bits: Float64) -> list[Violation]:
        if not self.windows:
            return []
        sums = np.concatenate(([0.0], np.cumsum(bits)))
        used = sums[self._end] - sums[self._first]
        broken = np.flatnonzero(used > self._cap + BIT_TOLERANCE)
        return [Violation(self.windows[w], float(used[w])) for w in broken.tolist()]

    def headroom(self, bits: Float64) -> Float64:
        """Return the bits that each shot alone could add before a cap breaks, shape ``[shots]``.

        Infinite where no cap applies; negative inside a violated window.
        """
        room = np.full(self.shots, np.inf)
        if self.windows:
            sums = np.concatenate(([0.0], np.cumsum(bits)))
            slack = self._cap - (sums[self._end] - sums[self._first])
            least = np.minimum.reduceat(slack[self._pair_window], self._pair_starts)
            room[self._pair_shots] = least
        for bucket in self.buckets:
            level = _bucket_level(bucket, bits)
            highest_after = np.maximum.accumulate(level[:0:-1])[::-1]
            lowest_before = np.minimum.accumulate(level[:-1])
            room = np.minimum(room, bucket.buffer_bits - (highest_after - lowest_before))
        return room + BIT_TOLERANCE


def _bucket_level(bucket: LeakyBucket, bits: Float64) -> Float64:
    """Return the bits above those that the rate delivered since the start, ``[shots + 1]``."""
    return np.concatenate(([0.0], np.cumsum(bits - bucket.rate * np.array(bucket.durations))))


def _violated_runs(bucket: LeakyBucket, bits: Float64) -> list[Violation]:
    """Return the worst run of shots, then the worst runs left and right of it, and so on."""
    level = _bucket_level(bucket, bits)
    runs = []
    pending = [(0, len(bits))]
    while pending:
        low, high = pending.pop()
        if low >= high:
            continue
        part = level[low : high + 1]
        rise = part[1:] - np.minimum.accumulate(part[:-1])
        end = low + 1 + int(np.argmax(rise))
        if rise[end - low - 1] <= bucket.buffer_bits + BIT_TOLERANCE:
            continue
        first = low + int(np.argmin(level[low:end]))
        seconds = float(np.sum(np.array(bucket.durations[first:end])))
        cap = WindowCap(first, end, bucket.rate * seconds + bucket.buffer_bits, bucket.why)
        runs.append(Violation(cap, float(np.sum(bits[first:end]))))
        pending += [(low, first), (end, high)]
    return runs
