"""Several processes that answer HTTP for one service, from one listening socket.

The process that the operator starts answers nothing itself: it runs jobs, sends webhooks, and keeps
the others going. One that dies is started again; all of them die with the first.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from typing import Any

import structlog

from cluster.service.queue.work import die_with_parent
from encoder.errors import ShotladderError

log = structlog.stdlib.get_logger(__name__)

START_SECONDS = 120.0
"""Time within which a process must take requests, also on a busy machine."""
STOP_SECONDS = 20.0
"""Time for a process to end before it is killed."""
RESTART_SECONDS = 1.0
METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Folder by which processes share their metrics, as prometheus_client reads it when imported."""

Answer = Callable[[Any, socket.socket, Callable[[], None]], None]
"""Answers requests with some options on a listening socket until SIGTERM, and calls the function
once it does; goes to another process by its name."""


@dataclass(slots=True)
class _Started:
    number: int
    process: SpawnProcess
    pipe: connection.Connection


class HttpProcesses:
    """Processes that run ``answer``."""

    def __init__(
        self, count: int, answer: Answer, options: object, listening: socket.socket
    ) -> None:
        self._count = count
        self._arguments = (answer, options, listening)
        self._started: list[_Started] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="processes", daemon=True)

    def start(self) -> None:
        """Start all of them, and return when they take requests.

        Raises:
            ShotladderError: one of them ended, or did not come up in time.
        """
        self._started = [self._start(number) for number in range(self._count)]
        for one in self._started:
            if not one.pipe.poll(START_SECONDS) or not _received(one.pipe):
                self._end()
                raise ShotladderError(
                    "a process that should answer requests did not start; see the log above"
                )
        self._thread.start()

    def stop(self) -> None:
        """End all of them, with the answers that are under way."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self._end()

    def _start(self, number: int) -> _Started:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(
            target=_run, args=(*self._arguments, theirs), name=f"http-{number}"
        )
        process.start()
        theirs.close()
        return _Started(number, process, ours)

    def _keep(self) -> None:
        """Start those again that have died, until all have to stop."""
        while not self._stopping.wait(RESTART_SECONDS):
            for at, one in enumerate(self._started):
                if not one.process.is_alive():
                    log.error("a process died", number=one.number, status=one.process.exitcode)
                    one.pipe.close()
                    one.process.close()
                    self._started[at] = self._start(one.number)

    def _end(self) -> None:
        for one in self._started:
            one.process.terminate()
        for one in self._started:
            one.process.join(STOP_SECONDS)
            if one.process.is_alive():
                one.process.kill()
                one.process.join()
            one.pipe.close()
            one.process.close()
        self._started = []


@contextlib.contextmanager
def shared_metrics() -> Iterator[None]:
    """Have the processes that are started in the block count their requests together."""
    with tempfile.TemporaryDirectory(prefix="shotladder-metrics-") as folder:
        os.environ[METRICS_VARIABLE] = folder
        try:
            yield
        finally:
            del os.environ[METRICS_VARIABLE]


def _run(
    answer: Answer, options: object, listening: socket.socket, pipe: connection.Connection
) -> None:
    from cluster.service.logs import log_as_json

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the first process
    threading.Thread(target=die_with_parent, name="die-with-parent", daemon=True).start()
    log_as_json()
    answer(options, listening, lambda: pipe.send(True))


def _received(pipe: connection.Connection) -> bool:
    try:
        return bool(pipe.recv())
    except (EOFError, OSError):
        return False
