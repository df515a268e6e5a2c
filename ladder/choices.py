"""The ways to encode each shot: the input of every allocation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from encoder.media import OperatingPoint

Policy = Literal["locked", "mixed"]
"""Rule for the sizes of a rung's shots: all equal, or each as it is best."""
POLICIES: tuple[Policy, ...] = get_args(Policy)


class Choice(NamedTuple):
    """One way to encode a shot."""

    bits: float
    """Bits of the whole shot."""
    quality: float
    """Mean quality over the shot's frames."""
    point: OperatingPoint
    """Operating point that gives these bits and this quality."""


@dataclass(frozen=True, slots=True)
class ShotChoices:
    """The ways to encode one shot, in any order."""

    frames: int
    """Number of frames of the shot."""
    candidates: tuple[Choice, ...]
    """Possible choices; at least one."""

    def __post_init__(self) -> None:
        if self.frames <= 0 or not self.candidates:
            raise ValueError("a shot has frames and at least one candidate")
