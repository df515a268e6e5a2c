"""What examining a source or a machine found, for people to read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "bad"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was examined."""

    topic: str
    """Name of what was examined, such as ``memory`` or ``subtitles``."""
    found: str
    """What was found."""
    then: str = ""
    """What a run will do about it, or what the user can do; empty where nothing follows."""
    state: State = "ok"
    """``bad`` where a run cannot work, ``warn`` where the user should know."""

    @property
    def sentence(self) -> str:
        """The finding in one line."""
        return f"{self.topic}: {self.found}: {self.then}"
