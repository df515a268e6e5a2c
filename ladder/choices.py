"""What each shot can be encoded as: the input of every allocation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from encoder.media import OperatingPoint


class Choice(NamedTuple):
    """One way to encode a shot."""

    bits: float
    """Of the whole shot."""
    quality: float
    """Mean over its frames."""
    point: OperatingPoint


@dataclass(frozen=True, slots=True)
class ShotChoices:
    """The ways to encode one shot, in any order."""

    frames: int
    candidates: tuple[Choice, ...]

    def __post_init__(self) -> None:
        if self.frames <= 0 or not self.candidates:
            raise ValueError("a shot has frames and at least one candidate")
