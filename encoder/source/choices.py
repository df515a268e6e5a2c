"""What a user decides about a source, where the source itself leaves a choice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from encoder.errors import BadInput
from encoder.source.sound.layout import parse_layout

Tail = Literal["hold", "cut"]
"""What happens where sound and pictures do not begin or end together."""
TAILS: tuple[Tail, ...] = ("hold", "cut")


@dataclass(frozen=True, slots=True)
class SourceChoices:
    """How to read a source that can be read in several ways. The defaults suit most sources."""

    tail: Tail = "hold"
    """``hold``: the first and the last picture stand for as long as sound precedes or follows them.
    ``cut``: sound is cut at the pictures."""
    program: int | None = None
    """Number of the programme of a transport stream; None is the first that has pictures."""
    accept_truncated: bool = False
    """True where a file that holds less than its header promises is taken as it is."""
    audio_layout: str | None = None
    """Sounds of the title (:mod:`encoder.source.sound.layout`); None takes every track, and joins
    discrete channels by rule."""

    def check(self) -> None:
        """Check the values, of which a source has not been asked yet.

        Raises:
            BadInput: a value cannot be right for any source.
        """
        if self.tail not in TAILS:
            raise BadInput(f"no tail {self.tail!r}; choose one of {', '.join(TAILS)}")
        number = self.program
        if number is not None and (
            isinstance(number, bool) or not isinstance(number, int) or not 0 < number < 1 << 16
        ):
            raise BadInput(f"no programme {number!r}; give its number, 1 to 65535")
        if not isinstance(self.accept_truncated, bool):
            raise BadInput(f"accept_truncated is {self.accept_truncated!r}; give True or False")
        if self.audio_layout is not None:
            parse_layout(self.audio_layout)

    @classmethod
    def from_document(cls, options: Mapping[str, Any]) -> SourceChoices:
        """Return the choices among a run's options; what they lack has its default."""
        return cls(**{f.name: options[f.name] for f in fields(cls) if f.name in options})


DEFAULT_CHOICES = SourceChoices()
"""Choices of a user who made none."""
