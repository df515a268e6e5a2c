"""How tasks are run: here, one after another, or on Dask, many at once.

An executor takes tasks and yields their outcomes as they come. It decides where and when, never
what: a failed task is an outcome like any other, and the others go on. Tasks are functions of
values, can be run again, keep what they make in the store and return little.

Timeouts and limits of :class:`DaskExecutor`, all in seconds:

======================================  ====  ==================================================
a scheduler answers (``--scheduler``)     10  else :class:`~encoder.errors.BadInput`
a scheduler that was lost comes back      60  else :class:`~encoder.errors.ShotladderError`
no worker at all                         300  else :class:`~encoder.errors.ShotladderError`
only workers that are refused             10  else :class:`~encoder.errors.BadInput`
a worker is silent                        60  its task is given to another (Dask's worker-ttl)
a connection is silent                    30  it counts as lost (Dask's tcp timeout)
idle workers end when closed               5  then they are killed; busy ones are killed at once
======================================  ====  ==================================================

Workers say that they live every half second, up to 5 s where they are many (Dask's heartbeat).
A scheduler of ours allows no failures of its own: a task whose worker died comes back at once, and
:mod:`cluster.execution.dispatch` decides. There is no limit on a task: what can hang is a process,
and :func:`encoder.ffmpeg.run` limits it. Dask's own network protocol is not encrypted or
authenticated here. The local cluster listens on 127.0.0.1 only; a shared machine whose users do not
trust one another needs Dask's TLS settings.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Protocol, Self

from cluster.execution.dispatch import Dispatch, SchedulerLost
from cluster.execution.fingerprint import own_fingerprint
from cluster.execution.pool import OwnWorkers, SharedWorkers, WorkerPool
from cluster.execution.tasks import RETRIES, Outcome, Task, perform, worth_retrying
from encoder.errors import BadInput, ShotladderError

# Dask is imported where it is used (it takes half a second), and most of it has no types: its
# objects are Any here.

SCHEDULER_SECONDS = 10.0
SCHEDULER_BACK_SECONDS = 60.0
WORKER_TTL_SECONDS = 60.0
SILENCE_SECONDS = 30.0
CLOSE_SECONDS = 5.0

__all__ = [
    "DaskExecutor",
    "Executor",
    "InlineExecutor",
    "Outcome",
    "Task",
    "connect",
    "settings",
    "usable_cores",
    "worth_retrying",
]


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
            attempts = 1 + task.tried
            outcome = perform(task)
            while attempts <= self._retries and worth_retrying(outcome.error, attempts):
                attempts += 1
                outcome = perform(task)
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
        priority: int = 0,
        warn: Callable[[str], None] = lambda message: None,
        tell: Callable[[str], None] = lambda message: None,
    ) -> None:
        """``workers`` processes on this machine (default: its cores), or those of ``scheduler``.

        Of several executors on one scheduler, that of higher ``priority`` is served first; those
        of equal priority take turns. ``warn`` is told what the user should know of the cluster.

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
        self._priority = priority
        self._warn = warn
        self._tell = tell
        self._stack = contextlib.ExitStack()
        self._client: Any = None
        self._cluster: Any = None
        self._pool: WorkerPool | None = None
        self._dispatch: Dispatch | None = None
        self._abandoned = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def slots(self) -> int:
        """How many tasks run at once: the cluster's cores now, at least 1. Joins a scheduler."""
        if self._scheduler is not None:
            self.start()
        if self._pool is not None:
            return max(1, self._pool.slots())
        return max(1, self._workers or (1 if self._scheduler else usable_cores()))

    @property
    def dashboard_link(self) -> str | None:
        """Where Dask's dashboard is, if the cluster runs and has one."""
        if self._client is None:
            return None
        if self._scheduler is not None:
            services = self._client.sync(self._client.scheduler.identity)["services"]
            return str(self._client.dashboard_link) if "dashboard" in services else None
        return str(self._client.dashboard_link) if self._dashboard else None

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

        if self._scheduler is not None:
            own_fingerprint()  # raises here, with its own message, where there is no ffmpeg
        local_cluster: Any = distributed.LocalCluster
        self._stack.enter_context(silence_logging_cmgr(logging.CRITICAL))
        try:
            if self._scheduler is None:
                with settings():
                    self._cluster = local_cluster(
                        n_workers=self._workers or usable_cores(),
                        threads_per_worker=1,
                        processes=True,
                        # Dask sees only Python's memory, and the work is in ffmpeg's.
                        memory_limit=0,
                        silence_logs=logging.CRITICAL,
                        dashboard_address="127.0.0.1:0",
                        scheduler_kwargs={"dashboard": self._dashboard},
                        preload=["cluster.execution.executor"],
                    )
                self._client = _joined(self._cluster)
                self._pool = OwnWorkers(self._client)
            else:
                self._client = _joined(self._scheduler)
                self._pool = SharedWorkers(self._client)
                if link := self.dashboard_link:
                    self._tell(f"the cluster's dashboard is at {link}")
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
        while waiting:
            self.start()
            assert self._pool is not None
            self._dispatch = dispatch = Dispatch(
                self._client,
                waiting,
                self._retries,
                self._pool,
                warn=self._warn,
                priority=self._priority,
            )
            try:
                yield from dispatch.outcomes()
                return
            except SchedulerLost as lost:
                if self._scheduler is None:
                    raise
                waiting = dispatch.left()
                self._rejoin(lost)
            finally:
                self._abandoned |= dispatch.abandon()

    def _rejoin(self, lost: SchedulerLost) -> None:
        """Wait for a scheduler that may be started again at its address."""
        self._warn(
            f"the Dask scheduler at {self._scheduler} was lost; waiting "
            f"{SCHEDULER_BACK_SECONDS:g} s for it to come back"
        )
        deadline = time.monotonic() + SCHEDULER_BACK_SECONDS
        self.close()
        while self._client is None:
            try:
                self.start()
            except BadInput:
                if time.monotonic() > deadline:
                    raise lost from None
                time.sleep(1)

    def close(self) -> None:
        """As :meth:`Executor.close`."""
        if self._dispatch is not None:  # its iterator may not have been closed
            self._abandoned |= self._dispatch.abandon()
            self._dispatch = None
        client, cluster = self._client, self._cluster
        self._client = self._cluster = self._pool = None
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


@contextlib.contextmanager
def connect(
    executor: Executor | None = None,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    priority: int = 0,
    warn: Callable[[str], None] = lambda message: None,
    tell: Callable[[str], None] = lambda message: None,
) -> Iterator[Executor]:
    """Yield ``executor``, or else a :class:`DaskExecutor` that is closed at the end of the block.

    Raises:
        BadInput: as :class:`DaskExecutor`.
    """
    if executor is not None:
        yield executor
        return
    with DaskExecutor(
        workers=workers, scheduler=scheduler, priority=priority, warn=warn, tell=tell
    ) as started:
        yield started


def usable_cores() -> int:
    """Cores that this process may use: affinity and container limits count."""
    from dask.system import CPU_COUNT

    return int(CPU_COUNT)


def dask_setup(worker: object) -> None:
    """Dask calls this in each local worker as it starts (the worker's ``preload``)."""
    # Ctrl-C in a terminal goes to every process of the group; the command decides for its
    # workers, which would otherwise print a traceback each.
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGINT, signal.SIG_IGN)


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


def settings(*, worker_ttl: float = WORKER_TTL_SECONDS) -> Any:
    """Dask's configuration for the schedulers and workers that we start; workers inherit it."""
    import dask

    return dask.config.set(
        {
            # A task whose worker died comes back to its dispatch, which knows whom to blame.
            "distributed.scheduler.allowed-failures": 0,
            "distributed.scheduler.worker-ttl": f"{worker_ttl:g}s",
            # A local cluster gives a worker up whose next process is not there in this time, and
            # has one less for good. On a busy machine, or where one dies after another, it is not.
            "distributed.deploy.lost-worker-timeout": "1 day",
            "distributed.comm.timeouts.tcp": f"{SILENCE_SECONDS:g}s",
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
