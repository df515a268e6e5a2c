"""Events that a command reports while it works; :mod:`cluster.cli.progress` draws them.

Written as NDJSON, one object per line, the events keep these rules: ``type`` is the first field;
the first line is ``started``; the ``stage_planned`` of a stage comes before its ``stage_progress``;
the last line is ``done`` or ``error``, and there is exactly one of the two.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from encoder.errors import ShotladderError
from encoder.names import shown, shown_in_json


@dataclass(frozen=True, slots=True)
class Started:
    """The command has begun."""

    type: ClassVar[str] = "started"
    command: str
    """Name of the command: ``run``, ``compare``, ``verify``..."""
    source: str
    """File or folder that the command works on, as the user named it."""
    version: str
    """Release of shotladder that runs."""


@dataclass(frozen=True, slots=True)
class StagePlanned:
    """The amount of work in a stage is known. The event is repeated when the amount changes."""

    type: ClassVar[str] = "stage_planned"
    stage: str
    """Name of the stage."""
    total: int
    """Number of things to do, including those that the store already has."""
    cached: int = 0
    """Number of things that the store already has."""
    unit: str = ""
    """Name of the things, in the plural: ``encodes``."""


@dataclass(frozen=True, slots=True)
class StageProgress:
    """A stage has made progress."""

    type: ClassVar[str] = "stage_progress"
    stage: str
    """Name of the stage."""
    done: int
    """Number of things done, including cached ones; ``total`` when the stage has ended."""
    total: int
    """Number of things to do, as planned."""
    cached: int = 0
    """Number of things that the store already had."""
    share: float | None = None
    """Fraction of the work that is done, 0 to 1, where the things differ in cost. Cached things are
    no work. Where the field is missing, the counts tell the fraction."""

    @property
    def work_share(self) -> float:
        """Fraction of the work that is done, 0 to 1."""
        if self.share is not None:
            return self.share
        to_do = self.total - self.cached
        return (self.done - self.cached) / to_do if to_do > 0 else 1.0


@dataclass(frozen=True, slots=True)
class WorkPlanned:
    """How long a run is expected to take, once its shots are known; its stages follow."""

    type: ClassVar[str] = "work_planned"
    seconds: Mapping[str, float]
    """Expected duration by name of the stage, without what the store already has; all rounds of
    encodes are ``encode``."""
    encodes: int
    """Number of encodes that are expected in all rounds, without cached ones."""


@dataclass(frozen=True, slots=True)
class Round:
    """The search has decided which encodes to measure next."""

    type: ClassVar[str] = "round"
    number: int
    """Number of the round, from 1."""
    wanted: int
    """Number of encodes to measure in this round."""
    reason: str = ""
    """Why the search needs them, for people."""


@dataclass(frozen=True, slots=True)
class Warned:
    """Something is wrong that the user should know; the command goes on."""

    type: ClassVar[str] = "warning"
    message: str
    """The warning in one line."""
    context: Mapping[str, Any] = field(default_factory=dict)
    """Facts about the cause."""


@dataclass(frozen=True, slots=True)
class Noted:
    """Something may interest the user, such as the address of a cluster's dashboard."""

    type: ClassVar[str] = "note"
    message: str
    """The note in one line."""


@dataclass(frozen=True, slots=True)
class Done:
    """The command has succeeded. This is the last event."""

    type: ClassVar[str] = "done"
    result: Mapping[str, Any] = field(default_factory=dict)
    """Result of the command, as JSON."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The command has failed. This is the last event."""

    type: ClassVar[str] = "error"
    error: str
    """Class of the error: one of :mod:`encoder.errors`, ``Interrupted`` or ``Defect``."""
    message: str
    """The object, the cause and the remedy in one line."""
    context: Mapping[str, Any] = field(default_factory=dict)
    """Facts about the cause: the ``command``, ``returncode`` and end of ``stderr`` of an ffmpeg
    that failed, the ``traceback`` of a defect."""

    @classmethod
    def of(cls, error: BaseException) -> Failed:
        """Return the event for an exception that ends a command."""
        if isinstance(error, ShotladderError):
            return cls(type(error).__name__, _one_line(shown(error.message)), error.context)
        if isinstance(error, KeyboardInterrupt):
            return cls("Interrupted", "stopped; run the same command again to continue")
        cause = f"{type(error).__name__}: {error}"
        return cls(
            "Defect",
            f"this is a defect of shotladder, please report it: {_one_line(shown(cause))}",
            {"traceback": "".join(traceback.format_exception(error))},
        )


Event = (
    Started | StagePlanned | StageProgress | WorkPlanned | Round | Warned | Noted | Done | Failed
)
Listener = Callable[[Event], None]
"""Function that receives the events of a command. It is called from one thread and must return
quickly."""


class Stage:
    """A stage in progress; see :func:`stage`."""

    def __init__(self, on_event: Listener, name: str, total: int, cached: int) -> None:
        self.done = cached
        """Number of things done, including cached ones."""
        self._on_event = on_event
        self._name = name
        self._total = total
        self._cached = cached

    def advance(self, count: int = 1, *, share: float | None = None) -> None:
        """Report that ``count`` more things are done.

        Args:
            count: number of things.
            share: fraction of the work done so far, where the things differ in cost.
        """
        self.done += count
        self._on_event(StageProgress(self._name, self.done, self._total, self._cached, share))


@contextlib.contextmanager
def stage(
    on_event: Listener, name: str, total: int, *, unit: str, cached: int = 0
) -> Iterator[Stage]:
    """Report a stage: its plan now, and its end when the block ends without an error.

    Args:
        on_event: receives the events.
        name: name of the stage.
        total: number of things to do, including those that the store already has.
        unit: name of the things, in the plural.
        cached: number of things that the store already has.
    """
    on_event(StagePlanned(name, total, cached, unit))
    progress = Stage(on_event, name, total, cached)
    yield progress
    if progress.done < total:
        progress.advance(total - progress.done)


def document(event: Event) -> dict[str, Any]:
    """Return the event as JSON, ``type`` first; values that are not JSON become strings."""
    fields = {each.name: getattr(event, each.name) for each in dataclasses.fields(event)}
    if fields.get("share", 0) is None:
        del fields["share"]
    text = json.dumps(fields, default=_plain, ensure_ascii=False)
    plain: dict[str, Any] = json.loads(shown_in_json(text))
    return {"type": event.type} | plain


def line(event: Event) -> str:
    """Return the event as one line of NDJSON, without the line break."""
    return json.dumps(document(event), ensure_ascii=False)


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else str(value)


def _one_line(text: str) -> str:
    return " ".join(text.split())
