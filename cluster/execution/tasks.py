"""Tasks and their outcomes: what executors run, where ever that is."""

from __future__ import annotations

import os
import pickle
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from encoder.errors import ShotladderError, StoreUnusable, ToolFailed, ToolTimedOut

RETRIES = 2
"""How often a task is run again after a failure that may not come again."""


@dataclass(frozen=True, slots=True)
class Task:
    """One piece of work."""

    id: str
    """Unique within a call of :meth:`Executor.run`."""
    function: Callable[..., Any]
    """A function of a module (it is pickled by name), safe to run more than once."""
    arguments: tuple[Any, ...] = ()
    """Small values; files go by their place in the store."""
    cost: float = 1.0
    """How long it will take compared with the others, in any unit: the longest go first."""
    label: str = ""
    """What it is, for people: named in errors."""
    tried: int = 0
    """How often it was started before, which counts against its retries."""
    divisible: bool = False
    """Whether the caller can make smaller ones of it: then the first death of a worker is told."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task ended: exactly one of a result or an error."""

    task_id: str
    result: Any = None
    error: Exception | None = None
    """One of :mod:`encoder.errors`; anything else is a defect, with its traceback as a note."""
    seconds: float = 0.0
    """Wall time of the last attempt, where it ran; 0 if its worker died."""
    worker: str = ""
    """``host:process`` that ran it last; empty if its worker died."""
    attempts: int = 1
    """How often it was started, as far as this executor knows."""


def worth_retrying(error: Exception | None, attempt: int = 1) -> bool:
    """Whether a task that failed with ``error`` may succeed if it is run again.

    A process can be killed and a network can fail; the same input, a full disk and a defect stay
    what they are. What hung is tried a second time, but a limit of an hour is not waited for three
    times.
    """
    if isinstance(error, ToolTimedOut):
        return attempt < 2
    if isinstance(error, StoreUnusable):  # a network comes back
        return bool(error.context.get("passing"))
    if isinstance(error, ShotladderError):
        return isinstance(error, ToolFailed)
    return isinstance(error, OSError | MemoryError)


def perform(task: Task) -> Outcome:
    """Run a task, here and now; its error is part of what is returned."""
    started = time.perf_counter()
    result, failure = None, None
    try:
        result = task.function(*task.arguments)
    except Exception as error:
        failure = portable(error)
    return Outcome(
        task.id,
        result,
        failure,
        seconds=time.perf_counter() - started,
        worker=here(),
    )


def here() -> str:
    """``host:process`` of this process."""
    return f"{socket.gethostname()}:{os.getpid()}"


def portable(error: Exception) -> Exception:
    """``error`` as it can cross a process boundary, with its traceback if it is a defect."""
    if not isinstance(error, ShotladderError):
        error.add_note("".join(traceback.format_exception(error)).rstrip())
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        stand_in = ShotladderError(f"{type(error).__name__}: {error}")
        for note in getattr(error, "__notes__", ()):
            stand_in.add_note(note)
        return stand_in
    return error.with_traceback(None)
