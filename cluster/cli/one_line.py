"""Draw a run as one line: how far the whole of it is, and when it will be done.

A stage that has ended becomes a line of its own above it; the rounds of encodes are one stage. What
:mod:`cluster.cli.progress` draws of each stage and round is shown with ``--verbose``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text
from typing_extensions import override

from cluster.cli.drawing import Clock, Drawer, Pace, describe, duration
from cluster.events import (
    Done,
    Event,
    Failed,
    Round,
    StagePlanned,
    StageProgress,
    Started,
    Warned,
    WorkPlanned,
    document,
)
from cluster.service.queue.progress import KINDS, WholeProgress

RATED = ("frames",)
"""Units of which a second's number is shown."""


@dataclass
class _Kind:
    """A stage, or all rounds of one."""

    name: str
    started: float
    unit: str = ""
    total: int = 0
    """Things to do in rounds before the last one."""
    cached: int = 0
    rounds: int = 0
    round_total: int = 0
    done: int = 0
    """Things done in the last round."""
    round_cached: int = 0

    def plan(self, event: StagePlanned) -> None:
        self.total += self.round_total
        self.cached += self.round_cached
        self.round_total, self.round_cached = event.total, event.cached
        self.done, self.unit = event.cached, event.unit or self.unit
        self.rounds += 1

    @property
    def made(self) -> int:
        """Things that were made now."""
        return self.total + self.done - self.cached - self.round_cached

    def rate(self, seconds: float) -> str:
        """Return how many things a second takes, where that is shown."""
        if self.unit not in RATED or seconds <= 0 or not self.made:
            return ""
        return f", {self.made / seconds:.0f} {self.unit}/s"

    def line(self, now: float) -> str:
        """Return the line of a stage that has ended."""
        cached = self.cached + self.round_cached
        seconds = now - self.started
        return (
            f"{self.name}: {self.total + self.done} {self.unit}".rstrip()
            + (f" in {self.rounds} rounds" if self.rounds > 1 else "")
            + (f", {cached} of them cached" if cached else "")
            + f", took {duration(seconds)}"
            + self.rate(seconds)
        )


class OneLine(Drawer):
    """Draws the whole of a command on one line of a terminal."""

    def __init__(self, console: Console, *, clock: Clock = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._whole: WholeProgress | None = None
        self._kind: _Kind | None = None
        self._pace = Pace(clock())
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[text]}", markup=False),
            console=console,
            refresh_per_second=2,
        )
        self._row = self._progress.add_task("", total=1.0, text="", visible=False)

    @override
    def draw(self, event: Event) -> None:
        now = self._clock()
        if self._whole is not None:
            self._whole.update(document(event), now)
        match event:
            case Started():
                self._whole = WholeProgress(event.command) if event.command in KINDS else None
                self._print(event)
            case StagePlanned():
                self._plan(event, now)
            case StageProgress():
                if self._kind is not None:
                    self._kind.done = event.done
                    self._pace.update(event.work_share, now)
                self._show(now, event.work_share)
            case Done() | Failed():
                self._end(now)
                self._progress.stop()
                self._print(event)
            case Round() | WorkPlanned():
                pass
            case _:
                self._print(event)

    @override
    def close(self) -> None:
        self._progress.stop()

    def _plan(self, event: StagePlanned, now: float) -> None:
        name, _, number = event.stage.rpartition(" ")
        name = name if name and number.isdigit() else event.stage
        if self._kind is None or self._kind.name != name:
            self._end(now)
            self._kind = _Kind(name, now)
        self._kind.plan(event)
        self._pace = Pace(now)
        self._show(now, 0.0)

    def _end(self, now: float) -> None:
        if self._kind is not None:
            self._write(self._kind.line(now))
            self._kind = None
            self._progress.update(self._row, visible=False)

    def _show(self, now: float, share: float) -> None:
        kind = self._kind
        if kind is None:
            return
        counts = f"{kind.total + kind.done}/{kind.total + kind.round_total} {kind.unit}".rstrip()
        text = counts + kind.rate(now - kind.started)
        whole = self._whole.at(now) if self._whole is not None else None
        if whole is not None and whole.remaining_seconds is not None:
            text = f"{whole.share:.0%}, about {duration(whole.remaining_seconds)} left ({text})"
        elif (left := self._pace.left(now)) is not None and share < 1:
            text += f", about {duration(left)} left of this stage"
        done = share if whole is None else whole.share
        self._progress.update(
            self._row, description=kind.name, completed=done, text=text, visible=True
        )
        self._progress.start()

    def _print(self, event: Event) -> None:
        style = {Warned: "yellow", Failed: "bold red"}.get(type(event), "")
        if text := describe(event):
            self._write(text, style)

    def _write(self, text: str, style: str = "") -> None:
        self._console.print(Text(text, style=style), highlight=False, soft_wrap=True)
