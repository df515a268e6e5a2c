"""What a rung is wanted for: where it should lie, and what it has to keep."""

from __future__ import annotations

import math
from dataclasses import dataclass

Wish = tuple[str, float]
"""What a user listed: ``rate`` (bit/s), ``quality`` or ``height`` (lines), and its value; ``end``
stands for all that is listed beyond the end of the ladder."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Where a rung is wanted, and what for."""

    rate: float
    """Rate in bit/s."""
    least_quality: float = -math.inf
    """Quality that its viewers have to get."""
    most_rate: float = math.inf
    """Rate in bit/s that those viewers afford."""
    lines: tuple[float, float] = (0, math.inf)
    """Fewest and most lines that its size may have."""
    wish: Wish | None = None
    """What it was listed by; None where rungs are placed or spaced."""
