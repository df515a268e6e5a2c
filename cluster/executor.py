"""How tasks are run: here, one after another, or on Dask, many at once.

An executor takes tasks and yields their outcomes as they come. It decides where and when, never
what: a failed task is an outcome like any other, and the others go on. Tasks are functions of
values, can be run again, keep what they make in the store and return little.

Timeouts and limits of :class:`DaskExecutor`, all in seconds:

======================================  ====  ==================================================
a scheduler answers (``--scheduler``)     10  else :class:`~encoder.errors.BadInput`
no worker at all                          60  else :class:`~encoder.errors.ShotladderError`
a worker is silent                       300  its task is given to another (Dask's worker-ttl)
a connection is silent                    30  it counts as lost (Dask's tcp timeout)
idle workers end when closed               5  then they are killed; busy ones are killed at once
======================================  ====  ==================================================

There is none on a task: what can hang is a process, and :func:`encoder.ffmpeg.run` limits it.
Dask's own network protocol is not encrypted or authenticated here. The local cluster listens on
127.0.0.1 only; a shared machine whose users do not trust one another needs Dask's TLS settings.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import queue
import signal
import socket
import threading
import time
import traceback
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self

from encoder.errors import BadInput, ShotladderError, ToolFailed, ToolTimedOut

# Dask is imported where it is used (it takes half a second), and most of it has no types: its
# objects are Any here.

SCHEDULER_SECONDS = 10.0
NO_WORKER_SECONDS = 60.0
CLOSE_SECONDS = 5.0
COUNT_SECONDS = 1.0
"""How often a cluster's threads are counted: workers may come and go."""
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


class Executor(Protocol):
    """Runs tasks."""

    @property
    def slots(self) -> int:
        """How many tasks run at once."""

    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """Yield the outcome of each task as it ends. Closing the iterator abandons the rest."""

    def close(self) -> None:
        """End what the executor started. Tasks still running are killed, not waited for."""


class InlineExecutor:
    """Runs tasks in this process, one after another, in their order."""

    slots = 1

    def __init__(self, *, retries: int = RETRIES) -> None:
        self._retries = retries

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """As :meth:`Executor.run`."""
        for task in tasks:
            attempts = 1
            outcome = _perform(task)
            while attempts <= self._retries and worth_retrying(outcome.error):
                attempts += 1
                outcome = _perform(task)
            yield replace(outcome, attempts=attempts)

    def close(self) -> None:
        """Nothing to end."""


class DaskExecutor:
    """Runs tasks on a Dask cluster: one of this machine's own, or the one at ``scheduler``.

    The local cluster has one process with one thread per core, so that a task has a core and a
    crash takes one task. It starts with the first task, takes about a second, and stays until
    :meth:`close`. Its workers and what they started die with this process, however it dies.

    Exactly as many tasks are handed to Dask as it has threads: each goes to an idle worker, the
    longest first, and a worker that dies has only its own task to be blamed on. A task whose
    worker died is run again on another one; when ``retries`` more have died, it fails and the
    error names it.
    """

    def __init__(
        self,
        *,
        workers: int | None = None,
        scheduler: str | None = None,
        retries: int = RETRIES,
        dashboard: bool = False,
    ) -> None:
        """``workers`` processes on this machine (default: its cores), or those of ``scheduler``.

        Raises:
            BadInput: both are given, or ``workers`` is not positive.
        """
        if workers is not None and scheduler is not None:
            raise BadInput(
                f"asked for {workers} workers and for the scheduler {scheduler}, which has its "
                "own; leave one out"
            )
        if workers is not None and workers < 1:
            raise BadInput(f"asked for {workers} workers; 1 or more can work")
        self._workers = workers
        self._scheduler = scheduler
        self._retries = retries
        self._dashboard = dashboard
        self._stack = contextlib.ExitStack()
        self._client: Any = None
        self._cluster: Any = None
        self._dispatch: _Dispatch | None = None
        self._abandoned = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def slots(self) -> int:
        """How many tasks run at once: the cluster's threads now, at least 1."""
        if self._client is not None:
            return max(1, _threads(self._client))
        return max(1, self._workers or (1 if self._scheduler else usable_cores()))

    @property
    def dashboard_link(self) -> str | None:
        """Where Dask's dashboard is, if it was asked for and the cluster runs."""
        if not self._dashboard or self._client is None:
            return None
        return str(self._client.dashboard_link)

    def start(self) -> None:
        """Start or join the cluster now instead of with the first task.

        Raises:
            BadInput: no scheduler answers at the address.
            ShotladderError: the cluster of this machine did not start.
        """
        if self._client is not None:
            return
        import distributed
        from distributed.utils import silence_logging_cmgr

        local_cluster: Any = distributed.LocalCluster
        self._stack.enter_context(silence_logging_cmgr(logging.CRITICAL))
        try:
            if self._scheduler is None:
                with _settings(self._retries):
                    self._cluster = local_cluster(
                        n_workers=self._workers or usable_cores(),
                        threads_per_worker=1,
                        processes=True,
                        # Dask sees only Python's memory, and the work is in ffmpeg's.
                        memory_limit=0,
                        silence_logs=logging.CRITICAL,
                        dashboard_address="127.0.0.1:0",
                        scheduler_kwargs={"dashboard": self._dashboard},
                        preload=["cluster.executor"],
                    )
                self._client = _joined(self._cluster)
            else:
                self._client = _joined(self._scheduler)
        except Exception as error:
            self.close()
            if self._scheduler is None:
                raise ShotladderError(
                    f"the Dask cluster of this machine did not start ({type(error).__name__}: "
                    f"{error}); run the same command again, or with fewer workers"
                ) from error
            raise BadInput(
                f"no Dask scheduler answers at {self._scheduler} within "
                f"{SCHEDULER_SECONDS:g} s; start one, or leave the scheduler out to use this "
                "machine",
                scheduler=self._scheduler,
                cause=str(error),
            ) from error

    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """As :meth:`Executor.run`.

        Raises:
            BadInput: no scheduler answers.
            ShotladderError: the cluster was lost, or has had no worker for a minute.
        """
        waiting = sorted(tasks, key=lambda task: -task.cost)
        if not waiting:
            return
        self.start()
        self._dispatch = dispatch = _Dispatch(self._client, waiting, self._retries)
        try:
            yield from dispatch.outcomes()
        finally:
            self._abandoned |= dispatch.abandon()

    def close(self) -> None:
        """As :meth:`Executor.close`."""
        if self._dispatch is not None:  # its iterator may not have been closed
            self._abandoned |= self._dispatch.abandon()
            self._dispatch = None
        client, cluster = self._client, self._cluster
        self._client = self._cluster = None
        if cluster is not None and self._abandoned:
            _kill_workers(cluster)
        if client is not None:
            with contextlib.suppress(TimeoutError):
                client.close(timeout=CLOSE_SECONDS)
        if cluster is not None:
            try:
                cluster.close(timeout=CLOSE_SECONDS)
            except TimeoutError:  # on a busy machine; what was made stands all the same
                _kill_workers(cluster)
        self._abandoned = False
        self._stack.close()


def usable_cores() -> int:
    """Cores that this process may use: affinity and container limits count."""
    from dask.system import CPU_COUNT

    return int(CPU_COUNT)


def worth_retrying(error: Exception | None) -> bool:
    """Whether a task that failed with ``error`` may succeed if it is run again.

    A process can be killed and a network can fail; the same input, a full disk and a defect stay
    what they are, and a limit of an hour is not waited for three times.
    """
    if isinstance(error, ShotladderError):
        return isinstance(error, ToolFailed) and not isinstance(error, ToolTimedOut)
    return isinstance(error, OSError | MemoryError)


def dask_setup(worker: object) -> None:
    """Dask calls this in each local worker as it starts (the worker's ``preload``)."""
    # Ctrl-C in a terminal goes to every process of the group; the command decides for its
    # workers, which would otherwise print a traceback each.
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _perform(task: Task) -> Outcome:
    """Run a task, here and now; its error is part of what is returned."""
    started = time.perf_counter()
    result, failure = None, None
    try:
        result = task.function(*task.arguments)
    except Exception as error:
        failure = _portable(error)
    return Outcome(
        task.id,
        result,
        failure,
        seconds=time.perf_counter() - started,
        worker=f"{socket.gethostname()}:{os.getpid()}",
    )


def _portable(error: Exception) -> Exception:
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


class _Dispatch:
    """One call of ``run``: hands tasks to Dask from a thread of its own.

    In a thread, so that workers do not idle while the caller is busy with an outcome.
    """

    def __init__(self, client: Any, waiting: Iterable[Task], retries: int) -> None:
        self._client = client
        self._waiting = deque((task, 1) for task in waiting)
        self._running: dict[str, tuple[Task, int, Any]] = {}
        self._retries = retries
        self._ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[Outcome | Exception | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._main, name="dispatch", daemon=True)

    def outcomes(self) -> Iterator[Outcome]:
        self._thread.start()
        while (item := self._outcomes.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item

    def abandon(self) -> bool:
        """Stop. True if tasks may still be running."""
        self._stop.set()
        self._ended.put(None)
        if self._thread.is_alive():
            self._thread.join(CLOSE_SECONDS)
        if not self._running:
            return False
        self._waiting.clear()
        with contextlib.suppress(Exception):  # the cluster may be gone, and then so are they
            self._client.cancel([future for _, _, future in self._running.values()])
        return True

    def _main(self) -> None:
        try:
            self._loop()
        except Exception as error:
            self._outcomes.put(
                error
                if isinstance(error, ShotladderError)
                else ShotladderError(
                    f"the Dask cluster was lost ({type(error).__name__}: {error}); what was "
                    "finished is in the store, run the same command again"
                )
            )
        else:
            self._outcomes.put(None)

    def _loop(self) -> None:
        alone_since: float | None = None
        slots, counted = 0, -COUNT_SECONDS
        while (self._waiting or self._running) and not self._stop.is_set():
            if self._client.status in ("closing", "closed"):
                raise ShotladderError(
                    "the Dask scheduler was lost; what was finished is in the store, run the "
                    "same command again"
                )
            if (now := time.monotonic()) - counted >= COUNT_SECONDS:
                slots, counted = _threads(self._client), now
                alone_since = None if slots else (alone_since or now)
            if alone_since is not None and now - alone_since > NO_WORKER_SECONDS:
                raise ShotladderError(
                    f"the Dask cluster has had no worker for {NO_WORKER_SECONDS:g} s; start "
                    "some, what was finished is in the store"
                )
            self._fill(slots)
            with contextlib.suppress(queue.Empty):
                future = self._ended.get(timeout=COUNT_SECONDS)
                if future is not None:
                    # Its place is filled before its result is looked at: Dask holds messages
                    # back for 10 ms after another one, and looking sends some.
                    task, attempt, _ = self._running.pop(future.key)
                    self._fill(slots)
                    self._settle(task, attempt, future)

    def _fill(self, slots: int) -> None:
        while self._waiting and len(self._running) < slots:
            self._submit(*self._waiting.popleft())

    def _submit(self, task: Task, attempt: int) -> None:
        name = getattr(task.function, "__name__", "task")
        future = self._client.submit(
            _perform, task, key=f"{name}-{uuid.uuid4().hex}", pure=False, retries=0
        )
        self._running[future.key] = (task, attempt, future)
        future.add_done_callback(self._ended.put)

    def _settle(self, task: Task, attempt: int, future: Any) -> None:
        from distributed import CancelledError
        from distributed.scheduler import KilledWorker

        lost = False
        try:
            outcome: Outcome = future.result()
        except KilledWorker as error:
            outcome = Outcome(
                task.id,
                error=ShotladderError(
                    f"{task.label or task.id}: each worker that ran it died, the last one "
                    f"{error.last_worker.address}; look for what kills them (out of memory?)",
                    task=task.id,
                ),
            )
        except CancelledError as error:  # not by us: the connection to the scheduler was lost
            lost = True
            outcome = Outcome(
                task.id,
                error=ShotladderError(
                    f"{task.label or task.id}: the Dask scheduler was lost while it ran",
                    task=task.id,
                    cause=str(error),
                ),
            )
        except Exception as error:
            outcome = Outcome(task.id, error=error)
        if attempt <= self._retries and (lost or worth_retrying(outcome.error)):
            self._waiting.appendleft((task, attempt + 1))
        else:
            self._outcomes.put(replace(outcome, attempts=attempt))


def _joined(cluster: Any) -> Any:
    """A client of a local cluster or of the scheduler at an address."""
    from distributed import Client

    kind: Any = Client
    client = kind.__new__(kind)
    try:
        client.__init__(cluster, timeout=SCHEDULER_SECONDS, set_as_default=False)
    except BaseException:
        # Left to the garbage collector, a client that could not connect closes itself at any
        # moment. In the middle of another one's start both would wait for one lock, for ever.
        with contextlib.suppress(Exception):
            client.close(timeout=CLOSE_SECONDS)
        raise
    return client


def _threads(client: Any) -> int:
    """Threads of all workers of the cluster now; 0 while its scheduler cannot be reached."""
    try:
        return sum(client.nthreads().values())
    except OSError:
        return 0


def _settings(retries: int) -> Any:
    """Dask's configuration for the local cluster; workers inherit it."""
    import dask

    return dask.config.set(
        {
            "distributed.scheduler.allowed-failures": retries,
            "distributed.scheduler.worker-ttl": "300s",
            "distributed.comm.timeouts.tcp": "30s",
            "distributed.worker.profile.enabled": False,
            "distributed.diagnostics.nvml": False,
            # Every process looked at itself 50 times a second: 7 % of a core with two workers.
            "distributed.admin.tick.interval": "1s",
            "distributed.admin.system-monitor.interval": "10s",
            "distributed.admin.system-monitor.gil.enabled": False,
            # A task has one core: libraries that start threads by themselves start none.
            "distributed.nanny.pre-spawn-environ": {
                "MALLOC_TRIM_THRESHOLD_": 65536,
                "OMP_NUM_THREADS": 1,
                "MKL_NUM_THREADS": 1,
                "OPENBLAS_NUM_THREADS": 1,
                "OPENCV_FOR_THREADS_NUM": 1,
            },
        }
    )


def _kill_workers(cluster: Any) -> None:
    """Kill the worker processes now; their children go with them, their tasks are abandoned."""
    for nanny in cluster.workers.values():
        process = nanny.pid
        nanny.close_gracefully()  # it says so to the nanny only: start no other worker
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
