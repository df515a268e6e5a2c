"""Tasks, their outcomes, and which failures are worth a retry."""

from __future__ import annotations

import os
import pickle
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from encoder.errors import (
    ReadFailed,
    ShotladderError,
    SourceChanged,
    StoreUnusable,
    ToolFailed,
    ToolTimedOut,
)

RETRIES = 2
"""Number of times that a task is run again after a failure that may not come again."""


@dataclass(frozen=True, slots=True)
class Task:
    """A function call for an executor to run."""

    id: str
    """Name of the task, unique within a call of :meth:`Executor.run`."""
    function: Callable[..., Any]
    """Function of a module (it is pickled by name) that is safe to run more than once."""
    arguments: tuple[Any, ...] = ()
    """Arguments of the function: small values, with files as places in the store."""
    cost: float = 1.0
    """Expected duration compared with other tasks, in any unit; the longest go first."""
    label: str = ""
    """Description for people, used in errors."""
    tried: int = 0
    """Number of earlier attempts, which count against the retries."""
    divisible: bool = False
    """Whether the caller can split the task; if so, it is told of the first death of a worker."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a task: exactly one of a result or an error."""

    task_id: str
    """Name of the task."""
    result: Any = None
    """Return value of the function."""
    error: Exception | None = None
    """Error from :mod:`encoder.errors`; any other is a defect and has its traceback as a note."""
    seconds: float = 0.0
    """Wall time of the last attempt, measured by its worker; 0 if the worker died."""
    worker: str = ""
    """``host:process`` of the last attempt; empty if the worker died."""
    attempts: int = 1
    """Number of attempts that count against the retries, with the last one."""


def worth_retrying(error: Exception | None, attempt: int = 1) -> bool:
    """Return whether a task that failed with ``error`` may succeed if it is run again.

    A killed process and a failed network may not come again; bad input, a full disk and a defect
    will. A process that hung is tried a second time, but not a third: its limit may be an hour.
    """
    if isinstance(error, ToolTimedOut):
        return attempt < 2
    if isinstance(error, StoreUnusable | SourceChanged):  # a network error; a touched source
        return bool(error.context.get("passing"))
    if isinstance(error, ShotladderError):
        return isinstance(error, ToolFailed | ReadFailed)
    return isinstance(error, OSError | MemoryError)


def perform(task: Task) -> Outcome:
    """Run a task in this process and return its outcome; an error is part of the outcome."""
    started = time.perf_counter()
    result, failure = None, None
    try:
        result = task.function(*task.arguments)
    except Exception as error:
        failure = portable(error)
    seconds = time.perf_counter() - started
    return Outcome(task.id, result, failure, seconds, f"{socket.gethostname()}:{os.getpid()}")


def portable(error: Exception) -> Exception:
    """Return ``error`` in a form that pickles, with its traceback as a note if it is a defect."""
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
