"""Draw the events of a run as a live display, as plain lines or as NDJSON.

This module only draws; it does not know how anything runs. :func:`reporter` picks the drawer::

    with reporter(as_json=False) as on_event:
        on_event(Started("run", source, version))
        ...

An exception that leaves the block is drawn as the ``error`` event and raised again. The caller
then sets the exit status and prints nothing more.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TextColumn
from rich.progress import Task as Row
from rich.text import Text
from typing_extensions import override

from cluster.cli.drawing import Clock, Drawer, Pace, describe, duration
from cluster.events import (
    Done,
    Event,
    Failed,
    Listener,
    StagePlanned,
    StageProgress,
    Warned,
    line,
)

PLAIN_SECONDS = 10.0
"""Seconds between two plain lines about the progress of one stage."""


@contextlib.contextmanager
def reporter(
    *,
    as_json: bool = False,
    quiet: bool = False,
    verbose: bool = False,
    stdout: TextIO | None = None,
    stderr: TextIO | None = None,
) -> Iterator[Listener]:
    """Yield the listener to send events to.

    It writes NDJSON to stdout, or draws on stderr: on a terminal one line for the whole command, or
    with ``verbose`` a bar for each stage; plain lines elsewhere. With ``quiet`` it draws only
    warnings and errors. An exception that leaves the block
    is drawn as its ``error`` event and raised again. Nothing is drawn after ``done`` or ``error``.
    """
    out, err = stdout or sys.stdout, stderr or sys.stderr
    drawer: Drawer
    if as_json:
        drawer = JsonLines(out)
    elif err.isatty() and not quiet:
        from cluster.cli.one_line import OneLine

        kind = LiveDisplay if verbose else OneLine
        drawer = kind(Console(file=err))
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
        raise  # the reader of stdout is gone, so there is nobody to tell
    except BaseException as error:
        # Typer and argparse end a command with these, after they have printed their message.
        if not isinstance(error, SystemExit | GeneratorExit):
            on_event(Failed.of(error))
        raise
    finally:
        drawer.close()


class JsonLines(Drawer):
    """Writes one JSON object per line."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    @override
    def draw(self, event: Event) -> None:
        # One write keeps the line whole; the flush makes it arrive when the event happens.
        self._out.write(line(event) + "\n")
        self._out.flush()


class PlainLines(Drawer):
    """Writes lines for logs: start and end of each stage, and its progress every few seconds."""

    def __init__(self, err: TextIO, *, quiet: bool = False, clock: Clock = time.monotonic) -> None:
        self._err = err
        self._quiet = quiet
        self._clock = clock
        self._paces: dict[str, Pace] = {}
        self._last_line: dict[str, float] = {}

    @override
    def draw(self, event: Event) -> None:
        if self._quiet and not isinstance(event, Warned | Failed):
            return
        now = self._clock()
        text = describe(event)
        if isinstance(event, StagePlanned):
            self._paces.setdefault(event.stage, Pace(now))
            self._last_line[event.stage] = now
        elif isinstance(event, StageProgress):
            pace = self._paces.setdefault(event.stage, Pace(now))
            pace.update(event.work_share, now)
            ended = event.done >= event.total
            if not ended and now - self._last_line.get(event.stage, now) < PLAIN_SECONDS:
                self._last_line.setdefault(event.stage, now)
                return
            self._last_line[event.stage] = now
            left = pace.left(now)
            if ended:
                text += f" in {duration(now - pace.started)}"
            elif left is not None:
                text += f", about {duration(left)} left"
        if text:
            self._err.write(text + "\n")
            self._err.flush()


class LiveDisplay(Drawer):
    """Draws one bar per stage on a terminal: done, total, cached, time left."""

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
            _TimeLeft(self._paces, clock),
            console=console,
            refresh_per_second=4,
        )

    @override
    def draw(self, event: Event) -> None:
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

    @override
    def close(self) -> None:
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


class _TimeLeft(ProgressColumn):
    max_refresh = 0.5

    def __init__(self, paces: dict[str, Pace], clock: Clock) -> None:
        super().__init__()
        self._paces = paces
        self._clock = clock

    @override
    def render(self, task: Row) -> Text:
        pace, now = self._paces[task.fields["stage"]], self._clock()
        if task.total is not None and task.completed >= task.total:
            return Text(f"in {duration(pace.updated - pace.started)}" if pace.updated else "")
        left = pace.left(now)
        return Text("" if left is None else f"{duration(left)} left", style="cyan")
