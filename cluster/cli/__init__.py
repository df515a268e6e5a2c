"""The command line: thin commands over library functions, and views that draw their results.

stdout is for data, stderr for progress and errors. Only :func:`main` turns an exception into an
exit status.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import Any

from encoder.errors import BadInput, ShotladderError

GONE_OPTIONS = {
    "--face-model": "--face-model is gone: the models that find faces come with shotladder, and "
    "artwork always uses them; leave the option out",
    "--diverse": "--diverse is gone: artwork has one order, in which neighbours differ; leave the "
    "option out",
}
"""Options of earlier releases, with what takes their place."""

TRACEBACK_VARIABLE = "SHOTLADDER_TRACEBACK"
"""Environment variable that, when set, shows the traceback of an error."""

OK, FAILED, MISTAKE, INTERRUPTED, BROKEN_PIPE, TERMINATED = 0, 1, 2, 130, 141, 143


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status.

    The status is 0 only for success, 2 for a mistake of the user, and 1 for any other failure.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    _accept_all_names()
    from cluster.cli.progress import reporter

    signals: list[int] = []
    try:
        # Looked up before parsing, so that an error of parsing is reported in the same form.
        as_json, verbose = "--json" in arguments, "--verbose" in arguments
        with _stoppable(signals), reporter(as_json=as_json, verbose=verbose) as on_event:
            return _dispatch(arguments, on_event)
    except BrokenPipeError:
        # The reader of stdout is gone. Python would complain when it flushes stdout at exit.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return TERMINATED if signal.SIGTERM in signals else INTERRUPTED
    except Exception as error:
        if os.environ.get(TRACEBACK_VARIABLE) and isinstance(error, ShotladderError):
            traceback.print_exception(error)  # that of a defect was shown already
        return MISTAKE if isinstance(error, BadInput) else FAILED


def _accept_all_names() -> None:
    """Let stdout and stderr write any name: bytes that are not UTF-8 as they are, as ``ls`` does,
    and signs that the terminal's encoding lacks by their numbers.
    """

    def handle(error: UnicodeError) -> tuple[str | bytes, int]:
        try:
            return codecs.lookup_error("surrogateescape")(error)
        except UnicodeError:
            return codecs.backslashreplace_errors(error)

    codecs.register_error("names", handle)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="names")


def _dispatch(arguments: list[str], on_event: Any) -> int:
    from typer.exceptions import TyperException

    from cluster.cli.app import app

    try:
        status = app(
            arguments or ["--help"], prog_name="shotladder", standalone_mode=False, obj=on_event
        )
    except TyperException as error:
        if (gone := GONE_OPTIONS.get(getattr(error, "option_name", ""))) is not None:
            raise BadInput(gone) from error
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "shotladder"
        message = " ".join(error.format_message().split()).rstrip(".")
        raise BadInput(f"{message}; see `{command} --help`") from error
    if status == INTERRUPTED:  # Typer turns Ctrl-C into this status
        raise KeyboardInterrupt
    sys.stdout.flush()
    return status if isinstance(status, int) else OK


@contextlib.contextmanager
def _stoppable(received: list[int]) -> Iterator[None]:
    """Let SIGTERM unwind like Ctrl-C, and append the signals received to ``received``."""

    def stop(signum: int, frame: FrameType | None) -> None:
        received.append(signum)
        raise KeyboardInterrupt

    before = {}
    with contextlib.suppress(ValueError):  # only the main thread can handle signals
        before = {sent: signal.signal(sent, stop) for sent in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for sent, handler in before.items():
            signal.signal(sent, handler)
