"""What all drawers of events share: words, durations, the pace of a stage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from cluster.events import (
    Done,
    Event,
    Failed,
    Noted,
    Round,
    StagePlanned,
    StageProgress,
    Started,
    Warned,
    WorkPlanned,
)

Clock = Callable[[], float]
STDERR_LINES = 8
"""Number of lines shown from the end of a failed command's stderr; the JSON has more."""


class Drawer:
    """Something that shows events."""

    def draw(self, event: Event) -> None:
        """Show one event."""
        raise NotImplementedError

    def close(self) -> None:
        """Leave the terminal as it was: nothing to do for drawers that only write lines."""


def describe(event: Event) -> str:
    """Return the event as text: one line, several for a failed command, empty for ``done``.

    Drawers with a clock add durations. File names and messages of ffmpeg may contain control
    characters that a terminal would obey, so every character that cannot be printed is replaced.
    """
    return "".join(
        sign if sign.isprintable() or sign in "\n\t" else "\N{REPLACEMENT CHARACTER}"
        for sign in _described(event)
    )


def _described(event: Event) -> str:
    match event:
        case Started():
            return f"shotladder {event.version}: {event.command} {event.source}"
        case StagePlanned():
            cached = f", {event.cached} of them cached" if event.cached else ""
            return f"{event.stage}: {event.total} {event.unit or 'to do'}{cached}"
        case StageProgress():
            cached = f" ({event.cached} cached)" if event.cached else ""
            return f"{event.stage}: {event.done}/{event.total}{cached}"
        case WorkPlanned():
            return f"about {duration(sum(event.seconds.values()))} for the rest"
        case Round():
            reason = f" ({event.reason})" if event.reason else ""
            return f"round {event.number}: {event.wanted} encodes to measure{reason}"
        case Warned():
            return f"warning: {event.message}"
        case Noted():
            return event.message
        case Failed():
            return "\n".join([f"error: {event.message}", *_reproduction(event)])
        case Done():
            return ""


def duration(seconds: float) -> str:
    """Format a duration for people: ``4 s``, ``3:05``, ``1:02:03``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@dataclass(slots=True)
class Pace:
    """Speed of a stage, from which the time left follows. All times come from the same clock."""

    started: float
    """Time at which the stage started."""
    share: float = 0.0
    """Share of the work done at the last update, 0 to 1."""
    updated: float = 0.0
    """Time of the last update."""

    def update(self, share: float, now: float) -> None:
        """Record that ``share`` of the work (0 to 1) was done at ``now``."""
        self.share, self.updated = share, now

    def left(self, now: float) -> float | None:
        """Return the seconds left if the rest goes as fast as before; None while unknown."""
        if self.share >= 1:
            return 0.0
        if self.share <= 0:
            return None
        left = (self.updated - self.started) * (1 - self.share) / self.share
        return max(0.0, left - (now - self.updated))


def _reproduction(event: Failed) -> list[str]:
    """Return how to reproduce a failure: the command, then the end of its stderr or traceback."""
    lines = []
    if "command" in event.context:
        lines.append(f"  command: {event.context['command']}")
    for text in str(event.context.get("stderr", "")).splitlines()[-STDERR_LINES:]:
        lines.append(f"  | {text}")
    for text in str(event.context.get("traceback", "")).splitlines():
        lines.append(f"  | {text}")
    return lines
