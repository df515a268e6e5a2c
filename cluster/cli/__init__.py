"""The command line: thin commands over library functions, and views that draw what they return.

stdout is data, stderr is progress and errors. :func:`main` is the only place that turns an
exception into an exit status.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

TRACEBACK_VARIABLE = "SHOTLADDER_TRACEBACK"
"""Set to show where an error of ours was raised."""

OK, FAILED, MISTAKE, INTERRUPTED, BROKEN_PIPE, TERMINATED = 0, 1, 2, 130, 141, 143


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; the exit status: 0 only for success, 2 for a user's mistake, 1 else."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    from cluster.cli.progress import reporter

    stopped: list[int] = []
    try:
        # Known before the line is parsed, so that a line that does not parse is answered alike.
        with _stoppable(stopped), reporter(as_json="--json" in given) as on_event:
            return _dispatch(given, on_event)
    except BrokenPipeError:
        # Whoever read us has gone. Python would complain when it flushes stdout at its end.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return TERMINATED if signal.SIGTERM in stopped else INTERRUPTED
    except Exception as error:
        _explain(error)
        return _status(error)


def _dispatch(given: list[str], on_event: Any) -> int:
    from typer.exceptions import TyperException

    from cluster.cli.app import app
    from encoder.errors import BadInput

    try:
        status = app(
            given or ["--help"], prog_name="shotladder", standalone_mode=False, obj=on_event
        )
    except TyperException as error:
        command = _command_path(error)
        said = " ".join(error.format_message().split()).rstrip(".")
        raise BadInput(f"{said}; `{command} --help` tells more") from error
    if status == INTERRUPTED:  # what Typer makes of Ctrl-C
        raise KeyboardInterrupt
    sys.stdout.flush()
    return status if isinstance(status, int) else OK


def _command_path(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return context.command_path if context is not None else "shotladder"


def _status(error: Exception) -> int:
    from encoder.errors import BadInput

    return MISTAKE if isinstance(error, BadInput) else FAILED


def _explain(error: Exception) -> None:
    """The traceback where it was asked for. A defect's has been shown."""
    from encoder.errors import ShotladderError

    if os.environ.get(TRACEBACK_VARIABLE) and isinstance(error, ShotladderError):
        traceback.print_exception(error)


@contextlib.contextmanager
def _stoppable(stopped: list[int]) -> Iterator[None]:
    """SIGTERM unwinds as Ctrl-C does. Signals taken are in ``stopped``."""

    def stop(signum: int, frame: FrameType | None) -> None:
        stopped.append(signum)
        raise KeyboardInterrupt

    before = {}
    with contextlib.suppress(ValueError):  # not in the main thread: not ours to handle
        before = {one: signal.signal(one, stop) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
