"""Draws what a run reports: a live display, plain lines, or NDJSON.

Drawing only: nothing here knows how anything is run. :func:`reporter` picks the one that suits::

    with reporter(as_json=False) as report:
        report(Started("run", source, version))
        ...

The block's exception, if any, is reported as the ``error`` event and goes on to the caller, who
sets the exit status and prints nothing more.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TextColumn
from rich.progress import Task as Row
from rich.text import Text

from cluster.events import (
    Done,
    Event,
    Failed,
    Listener,
    Noted,
    Round,
    StagePlanned,
    StageProgress,
    Started,
    Warned,
    line,
)

Clock = Callable[[], float]
PLAIN_SECONDS = 10.0
"""How often plain lines tell of a stage's progress."""
STDERR_LINES = 8
"""How much of a failed ffmpeg's last words is shown; all that was kept is in the JSON."""


class Drawer(Protocol):
    """Shows events."""

    def draw(self, event: Event) -> None:
        """Show one event."""

    def close(self) -> None:
        """Leave the terminal as it was."""


@contextlib.contextmanager
def reporter(
    *,
    as_json: bool = False,
    quiet: bool = False,
    stdout: TextIO | None = None,
    stderr: TextIO | None = None,
) -> Iterator[Listener]:
    """Where to send events: NDJSON on stdout, a live display on a terminal, plain lines else.

    ``quiet`` leaves only warnings and errors. An exception that leaves the block is drawn as its
    ``error`` event and raised again. Nothing is drawn after a ``done`` or ``error``.
    """
    out, err = stdout or sys.stdout, stderr or sys.stderr
    drawer: Drawer
    if as_json:
        drawer = JsonLines(out)
    elif err.isatty() and not quiet:
        drawer = LiveDisplay(Console(file=err))
    else:
        drawer = PlainLines(err, quiet=quiet)
    ended = False

    def on_event(event: Event) -> None:
        nonlocal ended
        if not ended:
            ended = isinstance(event, Done | Failed)
            drawer.draw(event)

    try:
        yield on_event
    except BrokenPipeError:
        raise  # whoever read us has gone; there is nobody to tell
    except BaseException as error:
        # Typer and argparse end commands by these; what they mean has been said already.
        if not isinstance(error, SystemExit | GeneratorExit):
            on_event(Failed.of(error))
        raise
    finally:
        drawer.close()


class JsonLines:
    """One JSON object a line."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def draw(self, event: Event) -> None:
        """As :meth:`Drawer.draw`."""
        # One write, so that lines stay whole, and flushed, so that they come as things happen.
        self._out.write(line(event) + "\n")
        self._out.flush()

    def close(self) -> None:
        """Nothing to restore."""


class PlainLines:
    """Lines for logs: a stage's beginning and end, and every few seconds how far it is."""

    def __init__(self, err: TextIO, *, quiet: bool = False, clock: Clock = time.monotonic) -> None:
        self._err = err
        self._quiet = quiet
        self._clock = clock
        self._paces: dict[str, Pace] = {}
        self._told: dict[str, float] = {}

    def draw(self, event: Event) -> None:
        """As :meth:`Drawer.draw`."""
        if self._quiet and not isinstance(event, Warned | Failed):
            return
        now = self._clock()
        text = describe(event)
        if isinstance(event, StagePlanned):
            self._paces.setdefault(event.stage, Pace(now))
            self._told[event.stage] = now
        elif isinstance(event, StageProgress):
            pace = self._paces.setdefault(event.stage, Pace(now))
            pace.update(event.work_share, now)
            ended = event.done >= event.total
            if not ended and now - self._told.get(event.stage, now) < PLAIN_SECONDS:
                self._told.setdefault(event.stage, now)
                return
            self._told[event.stage] = now
            left = pace.left(now)
            if ended:
                text += f" in {duration(now - pace.started)}"
            elif left is not None:
                text += f", about {duration(left)} left"
        if text:
            self._err.write(text + "\n")
            self._err.flush()

    def close(self) -> None:
        """Nothing to restore."""


class LiveDisplay:
    """A bar per stage: done and to do, cached, time left. For terminals."""

    def __init__(self, console: Console, *, clock: Clock = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._rows: dict[str, TaskID] = {}
        self._paces: dict[str, Pace] = {}
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}", markup=False),
            TextColumn("{task.fields[cached]}", style="dim"),
            _Left(self._paces, clock),
            console=console,
            refresh_per_second=4,
        )

    def draw(self, event: Event) -> None:
        """As :meth:`Drawer.draw`."""
        match event:
            case StagePlanned():
                self._row(event.stage, event.total, event.cached, event.cached, event.unit)
            case StageProgress():
                self._row(event.stage, event.total, event.done, event.cached)
                self._paces[event.stage].update(event.work_share, self._clock())
            case Failed():
                self._progress.stop()
                self._print(event, "bold red")
            case Done():
                self._progress.stop()
            case _:
                self._print(event, "yellow" if isinstance(event, Warned) else "")

    def close(self) -> None:
        """As :meth:`Drawer.close`."""
        self._progress.stop()

    def _row(self, stage: str, total: int, done: int, cached: int, unit: str | None = None) -> None:
        if stage not in self._rows:
            self._paces[stage] = Pace(self._clock())
            self._rows[stage] = self._progress.add_task(
                stage, total=total, unit="", cached="", stage=stage
            )
            self._progress.start()
        row = self._rows[stage]
        self._progress.update(
            row, total=total, completed=done, cached=f"{cached} cached" if cached else ""
        )
        if unit is not None:
            self._progress.update(row, unit=unit)

    def _print(self, event: Event, style: str) -> None:
        self._console.print(Text(describe(event), style=style), highlight=False, soft_wrap=True)


def describe(event: Event) -> str:
    """The event in words; one line but for an ffmpeg's failure; empty if there is nothing to say.

    What depends on time is added by those who have a clock. Names of files, and what ffmpeg says of
    them, may hold what a terminal obeys: nothing of that is left.
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
    """A duration for people: ``4 s``, ``3:05``, ``1:02:03``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@dataclass(slots=True)
class Pace:
    """How fast a stage goes, and so how long it will take. Times are of any one clock."""

    started: float
    share: float = 0.0
    seen: float = 0.0

    def update(self, share: float, now: float) -> None:
        """``share`` of the work (0 to 1) was done at ``now``."""
        self.share, self.seen = share, now

    def left(self, now: float) -> float | None:
        """Seconds left, if the rest goes as the work so far; None while that is unknown."""
        if self.share >= 1:
            return 0.0
        if self.share <= 0:
            return None
        left = (self.seen - self.started) * (1 - self.share) / self.share
        return max(0.0, left - (now - self.seen))


class _Left(ProgressColumn):
    max_refresh = 0.5

    def __init__(self, paces: dict[str, Pace], clock: Clock) -> None:
        super().__init__()
        self._paces = paces
        self._clock = clock

    def render(self, task: Row) -> Text:
        pace, now = self._paces[task.fields["stage"]], self._clock()
        if task.total is not None and task.completed >= task.total:
            return Text(f"in {duration(pace.seen - pace.started)}" if pace.seen else "")
        left = pace.left(now)
        return Text("" if left is None else f"{duration(left)} left", style="cyan")


def _reproduction(event: Failed) -> list[str]:
    """How to see it fail again: the command and its last words."""
    lines = []
    if "command" in event.context:
        lines.append(f"  command: {event.context['command']}")
    for words in str(event.context.get("stderr", "")).splitlines()[-STDERR_LINES:]:
        lines.append(f"  | {words}")
    for words in str(event.context.get("traceback", "")).splitlines():
        lines.append(f"  | {words}")
    return lines
