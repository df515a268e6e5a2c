"""What a run is expected to cost: a model of CPU time, corrected by what earlier runs took. Pure.

Constants were measured on titles of the training corpora; ``tests.plan_check`` compares plans with
runs of others, and docs/measured.md has the comparison. What no constant can know is how fast a
machine is, and how a population of titles differs from those: :func:`correction` learns that from
earlier runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

UNSEEN_DEVIATION = 0.35
"""Standard deviation of the logarithm of actual over expected cost where no run is known."""
SEEN_DEVIATION = 0.2
"""The same for another title on the same machine, before its runs tell better."""
SEEN_WEIGHT = 2.0
"""Number of runs for which :data:`SEEN_DEVIATION` counts."""
LEVEL_WEIGHT = 0.3
"""Number of runs for which the model counts, when runs correct it."""
RANGE_DEVIATIONS = 1.28
"""Half width of a range in standard deviations: four of five runs are within."""
MOST_RUNS = 20
"""Number of the latest runs that a correction follows."""


@dataclass(frozen=True, slots=True)
class Range:
    """An expected number and where it lies in four of five cases."""

    expected: float
    low: float
    high: float

    def times(self, factor: float) -> Range:
        """Return the range multiplied by a positive number."""
        return Range(self.expected * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True, slots=True)
class Correction:
    """How the model is off, by earlier runs."""

    factor: float = 1.0
    """Factor on what the model expects."""
    deviation: float = UNSEEN_DEVIATION
    """Standard deviation of the logarithm of actual over corrected cost."""
    runs: int = 0
    """Number of runs that it follows from."""


def correction(ratios: Sequence[float]) -> Correction:
    """Return the correction from the ratios of actual to expected cost, the latest run last."""
    logs = [math.log(ratio) for ratio in ratios[-MOST_RUNS:] if ratio > 0]
    if not logs:
        return Correction()
    level = sum(logs) / (len(logs) + LEVEL_WEIGHT)
    squares = SEEN_WEIGHT * SEEN_DEVIATION**2 + sum((each - level) ** 2 for each in logs)
    variance = squares / (SEEN_WEIGHT + len(logs)) * (1 + 1 / len(logs))
    return Correction(math.exp(level), math.sqrt(variance), len(logs))


def corrected(
    expected: Mapping[str, float], corrections: Mapping[str, Correction]
) -> dict[str, float]:
    """Return the expected costs by name, each with its correction; others stay as they are."""
    return {
        name: value * corrections.get(name, Correction()).factor for name, value in expected.items()
    }


def range_of(
    parts: Mapping[str, float], deviations: Mapping[str, float], sample_deviation: float = 0.0
) -> Range:
    """Return the range of a sum whose parts are off together.

    Args:
        parts: Expected parts.
        deviations: Standard deviation of each part's logarithm; of a part that is not named it is
            :data:`SEEN_DEVIATION`.
        sample_deviation: Standard deviation of the sum's logarithm because only a sample of the
            title was looked at.
    """
    total = sum(parts.values())
    if total <= 0:
        return Range(0.0, 0.0, 0.0)
    spread = sum(parts[name] * deviations.get(name, SEEN_DEVIATION) for name in parts) / total
    factor = math.exp(RANGE_DEVIATIONS * math.hypot(spread, sample_deviation))
    return Range(total, total / factor, total * factor)


def sample_deviation(costs: Sequence[float], weights: Sequence[float]) -> float:
    """Return the standard deviation of the logarithm of a mean that is taken over a sample.

    Args:
        costs: Cost of each part of the sample.
        weights: Frames of each part.
    """
    count, total, size = len(costs), sum(costs), sum(weights)
    if count < 2 or total <= 0:
        return 0.0
    mean = total / size
    squares = sum((cost - mean * weight) ** 2 for cost, weight in zip(costs, weights, strict=True))
    return math.sqrt(squares * count / (count - 1)) / total


def wall_seconds(shared: float, alone: float, cores: int) -> float:
    """Return the duration of a run whose work is shared by cores but for a part that is not.

    At the ends of rounds some cores have nothing to do: 3 % of the time, and more where there are
    many cores for the work.
    """
    return shared / cores * 1.03 + alone + math.log2(cores) * 2.0
