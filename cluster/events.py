"""What a run reports, as values. Running makes them, drawing (:mod:`cluster.cli.progress`) shows
them.

As NDJSON, one object a line, these hold: ``type`` is the first field; the first line is
``started``; a stage's ``stage_planned`` comes before its ``stage_progress``; the last line is
``done`` or ``error``, and there is exactly one of the two.
"""

from __future__ import annotations

import dataclasses
import json
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from encoder.errors import ShotladderError


@dataclass(frozen=True, slots=True)
class Started:
    """A command begins."""

    type: ClassVar[str] = "started"
    command: str
    """``run``, ``compare``, ``verify``..."""
    source: str
    """What it works on, as the user named it."""
    version: str
    """Release of the tool."""


@dataclass(frozen=True, slots=True)
class StagePlanned:
    """It is known how much a stage has to do. May be repeated when that changes."""

    type: ClassVar[str] = "stage_planned"
    stage: str
    total: int
    """Things to do, those that the store has already included."""
    cached: int = 0
    """How many of them the store has already."""
    unit: str = ""
    """What the things are, in the plural: ``encodes``."""


@dataclass(frozen=True, slots=True)
class StageProgress:
    """A stage got further."""

    type: ClassVar[str] = "stage_progress"
    stage: str
    done: int
    """Things done, cached ones included; ``total`` when the stage has ended."""
    total: int
    cached: int = 0
    share: float | None = None
    """Part of the work to do that is done, 0 to 1 (cached things are no work), if things differ
    in cost; else it is taken from the counts."""

    @property
    def work_share(self) -> float:
        """Part of the work to do that is done, 0 to 1."""
        if self.share is not None:
            return self.share
        to_do = self.total - self.cached
        return (self.done - self.cached) / to_do if to_do > 0 else 1.0


@dataclass(frozen=True, slots=True)
class Round:
    """The search has decided what to measure next."""

    type: ClassVar[str] = "round"
    number: int
    """From 1."""
    wanted: int
    """Encodes to measure in this round."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Warned:
    """Something that the user should know and that does not stop the run."""

    type: ClassVar[str] = "warning"
    message: str
    """One line."""
    context: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Noted:
    """Something worth knowing, such as where a cluster's dashboard is."""

    type: ClassVar[str] = "note"
    message: str
    """One line."""


@dataclass(frozen=True, slots=True)
class Done:
    """The command has succeeded. Last."""

    type: ClassVar[str] = "done"
    result: Mapping[str, Any] = field(default_factory=dict)
    """What came out: JSON."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The command has failed. Last."""

    type: ClassVar[str] = "error"
    error: str
    """Its class, one of :mod:`encoder.errors`, ``Interrupted`` or ``Defect``."""
    message: str
    """One line: what was asked, what was found, what to do."""
    context: Mapping[str, Any] = field(default_factory=dict)
    """Facts: for a failed ffmpeg the ``command``, ``returncode`` and end of ``stderr``, for a
    defect the ``traceback``."""

    @classmethod
    def of(cls, error: BaseException) -> Failed:
        """The event for an exception that ends a command."""
        if isinstance(error, ShotladderError):
            return cls(type(error).__name__, _one_line(error.message), error.context)
        if isinstance(error, KeyboardInterrupt):
            return cls("Interrupted", "interrupted; the same command goes on from here")
        cause = f"{type(error).__name__}: {error}"
        return cls(
            "Defect",
            f"this is a defect of shotladder, please report it: {_one_line(cause)}",
            {"traceback": "".join(traceback.format_exception(error))},
        )


Event = Started | StagePlanned | StageProgress | Round | Warned | Noted | Done | Failed
Listener = Callable[[Event], None]
"""Where a run sends its events. Must return quickly, and is called from one thread."""


def document(event: Event) -> dict[str, Any]:
    """The event as JSON, ``type`` first. What is not JSON in a context becomes a string."""
    fields = {one.name: getattr(event, one.name) for one in dataclasses.fields(event)}
    if fields.get("share", 0) is None:
        del fields["share"]
    plain: dict[str, Any] = json.loads(json.dumps(fields, default=_plain))
    return {"type": event.type} | plain


def line(event: Event) -> str:
    """The event as one line of NDJSON, without the line's end."""
    return json.dumps(document(event), ensure_ascii=False)


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else str(value)


def _one_line(text: str) -> str:
    return " ".join(text.split())
