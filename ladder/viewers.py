"""What viewers do: how fast their networks are, what their devices play, which rung they choose.

The model of a viewer: the network gives one throughput, and the player plays the highest rung
whose average rate is below 0.8 of that throughput (the lowest rung when there is none). Some
devices never play pictures of more than so many lines: for them the rungs above do not exist. The
rung that a viewer plays is a step function of throughput, so shares and means are exact sums over
the steps.
"""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from encoder.arrays import Float64
from encoder.errors import BadInput

MEDIANS = (1e6, 3e6, 10e6)
"""Median throughputs in bit/s of the populations that are shown."""
SIGMA = 1.0
"""Standard deviation of the natural logarithm of throughput."""
AFFORDABLE = 0.8
"""Share of its throughput that a client uses at most."""
TOLERANCE = 0.5
"""Points of quality that a client may lose before it counts as worse off."""


class Offer(NamedTuple):
    """A rung as a player sees it."""

    rate: float
    """Average rate in bit/s."""
    quality: float
    """Mean quality."""
    lines: int = 0
    """Length in pixels of the smaller side of its pictures; 0 plays on every device."""


class Throughput(Protocol):
    """How throughput is distributed over viewers."""

    @property
    def median(self) -> float:
        """Throughput in bit/s that half of the viewers are under."""
        ...

    def below(self, throughput: float) -> float:
        """Return the share of viewers whose throughput is below ``throughput`` bit/s."""
        ...


@dataclass(frozen=True, slots=True)
class LogNormal:
    """A log-normal distribution of throughput."""

    median: float
    """Median in bit/s."""
    sigma: float = SIGMA
    """Standard deviation of the natural logarithm."""

    def below(self, throughput: float) -> float:
        """Return the share of viewers whose throughput is below ``throughput`` bit/s."""
        if throughput <= 0:
            return 0.0
        return 0.5 * math.erfc(-math.log(throughput / self.median) / (self.sigma * math.sqrt(2)))


@dataclass(frozen=True, slots=True)
class Mix:
    """Populations of equal size taken together."""

    parts: tuple[LogNormal, ...]

    @property
    def median(self) -> float:
        """Throughput in bit/s that half of the viewers are under."""
        low, high = min(p.median for p in self.parts), max(p.median for p in self.parts)
        while high > low * (1 + 1e-9):
            middle = math.sqrt(low * high)
            low, high = (middle, high) if self.below(middle) < 0.5 else (low, middle)
        return high

    def below(self, throughput: float) -> float:
        """Return the share of viewers whose throughput is below ``throughput`` bit/s."""
        return sum(part.below(throughput) for part in self.parts) / len(self.parts)


@dataclass(frozen=True, slots=True)
class Histogram:
    """Measured throughputs: the share of viewers in each bin, spread evenly over the bin."""

    bins: tuple[tuple[float, float], ...]
    """Upper end of each bin in bit/s, ascending, and its share of the viewers; shares are scaled
    to sum to 1. The first bin begins at 0.

    Raises:
        BadInput: the ends do not rise, a share is negative, or there are no viewers.
    """

    def __post_init__(self) -> None:
        ends = [end for end, _ in self.bins]
        shares = [share for _, share in self.bins]
        numbers = all(math.isfinite(value) for value in (*ends, *shares))
        rising = all(a < b for a, b in itertools.pairwise([0.0, *ends]))
        if not numbers or not rising or min(shares, default=0.0) < 0 or not sum(shares) > 0:
            raise BadInput(
                "a histogram of throughputs has bins whose upper ends in bit/s are positive and "
                "rise, with shares of viewers that are not negative and not all 0"
            )

    @property
    def median(self) -> float:
        """Throughput in bit/s that half of the viewers are under."""
        ends, reached = self._cumulative()
        return float(np.interp(0.5, reached, ends))

    def below(self, throughput: float) -> float:
        """Return the share of viewers whose throughput is below ``throughput`` bit/s."""
        ends, reached = self._cumulative()
        return float(np.interp(throughput, ends, reached))

    def _cumulative(self) -> tuple[Float64, Float64]:
        ends = np.array([0.0, *(end for end, _ in self.bins)])
        shares = np.cumsum([0.0, *(share for _, share in self.bins)])
        return ends, np.asarray(shares / shares[-1])


def histogram_from_csv(path: Path) -> Histogram:
    """Return the histogram of a CSV file.

    Each row has the upper end of a bin in bit/s and the number or share of viewers in it; a first
    row of words is skipped.

    Raises:
        BadInput: the file cannot be read, or a row is not two numbers that make sense.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise BadInput(f"the histogram {path} cannot be read ({reason})") from error
    bins = []
    for number, row in enumerate(csv.reader(io.StringIO(text)), start=1):
        if not any(cell.strip() for cell in row):
            continue
        try:
            end, share = map(float, row)
        except ValueError:
            if number == 1:
                continue
            raise BadInput(
                f"the histogram {path}, line {number}: {','.join(row)!r:.60} has to be two "
                "numbers, the upper end of a bin in bit/s and its share of viewers"
            ) from None
        bins.append((end, share))
    try:
        return Histogram(tuple(bins))
    except BadInput as error:
        raise BadInput(f"the histogram {path}: {error.message}") from error


@dataclass(frozen=True, slots=True)
class Audience:
    """Viewers of a title."""

    throughput: Throughput
    device_lines: tuple[tuple[int, float], ...] = ()
    """Lines that a device plays at most, and the share of viewers with such a device, whatever
    their throughput; the other viewers' devices play everything.

    Raises:
        BadInput: a number of lines is not positive or comes twice, or the shares exceed 1.
    """

    def __post_init__(self) -> None:
        lines = [lines for lines, _ in self.device_lines]
        shares = [share for _, share in self.device_lines]
        if min((*lines, 1)) <= 0 or len(set(lines)) != len(lines):
            raise BadInput("device caps are different positive numbers of lines")
        if min((*shares, 0.0)) < 0 or sum(shares) > 1 + 1e-9:
            raise BadInput(
                "the shares of viewers with device caps are not negative and add up to 1 at most"
            )

    @property
    def devices(self) -> tuple[tuple[float, float], ...]:
        """Lines that devices play at most (inf for everything) and their shares, summing to 1."""
        capped = sum(share for _, share in self.device_lines)
        return (*self.device_lines, (math.inf, max(0.0, 1.0 - capped)))

    def below(self, rate: float) -> float:
        """Return the share of viewers that cannot afford ``rate`` bit/s."""
        return self.throughput.below(rate / AFFORDABLE)


def population(median: float, sigma: float = SIGMA) -> Audience:
    """Return viewers with log-normal throughput and devices that play everything."""
    return Audience(LogNormal(median, sigma))


def playable(rungs: Sequence[Offer], lines: float) -> Sequence[Offer]:
    """Return the rungs that a device of so many lines plays, ascending; at least the lowest."""
    ordered = sorted(rungs)
    return [rung for rung in ordered if rung.lines <= lines] or ordered[:1]


def affordable(rungs: Sequence[Offer], rate: float) -> Sequence[Offer]:
    """Return those of ascending ``rungs`` that clients just above ``rate`` bit/s afford; at least
    the lowest."""
    return [rung for rung in rungs if rung.rate <= rate] or rungs[:1]


def playing_shares(
    rates: Sequence[float], median: float, *, sigma: float = SIGMA
) -> tuple[float, ...]:
    """Return the share of clients that play each rung, by the model of viewers.

    Args:
        rates: Rates of the rungs in bit/s, ascending, at least one.
        median: Median throughput of the clients in bit/s.
        sigma: Standard deviation of the natural logarithm of throughput.

    Returns:
        One share per rung, summing to 1. That of the lowest includes clients that cannot afford
        it.
    """
    viewers = population(median, sigma)
    below = [0.0, *(viewers.below(rate) for rate in rates[1:]), 1.0]
    return tuple(high - low for low, high in itertools.pairwise(below))
