"""Which part of a source a user wants to look at. Pure; nothing heavy is loaded to ask."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from encoder.errors import BadInput

LEAST_SECONDS = 1.0
"""Shortest part."""


@dataclass(frozen=True, slots=True)
class ExcerptChoices:
    """Which part of a source a user wants to look at."""

    start: float | None = None
    """Seconds from the beginning; None is the beginning."""
    duration: float | None = None
    """Seconds; None is up to the end."""
    sample: float | None = None
    """Seconds of the part whose rate in the source is nearest that of the whole."""

    def check(self) -> None:
        """Check the choices, of which a source has not been asked yet.

        Raises:
            BadInput: they exclude one another, or are no times.
        """
        if self.sample is not None and (self.start, self.duration) != (None, None):
            raise BadInput("sample chooses a part itself; leave start and duration out, or sample")
        if not 0 <= (self.start or 0) < math.inf:
            raise BadInput(f"start is {self.start:g} s; give a time of the title, from 0 on")
        for name in ("duration", "sample"):
            value = getattr(self, name)
            if value is not None and not LEAST_SECONDS <= value < math.inf:
                raise BadInput(f"{name} is {value:g} s; give at least {LEAST_SECONDS:g} s")

    @property
    def whole(self) -> bool:
        """True where the whole source is wanted."""
        return self == WHOLE


WHOLE = ExcerptChoices()
"""The whole source."""


def read_seconds(text: str) -> float:
    """Read a time such as ``90``, ``2m``, ``1h30m``, ``1:30`` or ``1:02:03.5``.

    Raises:
        ValueError: the text is none.
    """
    parts: Sequence[str] = text.strip().split(":")
    if len(parts) > 1:
        seconds = 0.0
        for part in parts:
            if part.strip().startswith("-"):
                raise ValueError(f"{part!r} is negative")
            seconds = 60 * seconds + float(part)
        return seconds
    rest, seconds = text.strip().lower(), 0.0
    for unit, length in (("h", 3600), ("m", 60), ("s", 1)):
        number, found, after = rest.partition(unit)
        if found:
            seconds, rest = seconds + length * float(number), after
    return seconds + (float(rest) if rest else 0.0)
