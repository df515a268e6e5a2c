"""Executors run tasks: in this process, one after another, or on Dask, many at once.

An executor takes tasks and yields their outcomes as they come. It decides where and when tasks run,
never what they do: a failed task is an outcome like any other, and the other tasks go on. Tasks are
functions of values, can be run again, put their results in the store and return little.

Timeouts and limits of :class:`DaskExecutor`, all in seconds:

======================================  ====  ==================================================
a scheduler answers (``--scheduler``)     10  then :class:`~encoder.errors.BadInput`
a lost scheduler comes back               60  then :class:`~encoder.errors.ShotladderError`
the cluster has no worker                300  then :class:`~encoder.errors.ShotladderError`
the cluster refuses all its workers       10  then :class:`~encoder.errors.BadInput`
a worker is silent                        60  then its task goes to another (Dask's worker-ttl)
a connection is silent                    30  then it counts as lost (Dask's tcp timeout)
idle workers end at ``close()``            5  then they are killed; busy ones are killed at once
======================================  ====  ==================================================

Workers send a heartbeat every half second, or up to every 5 s where there are many of them. The
schedulers started here retry nothing themselves: a task whose worker died comes back at once, and
:mod:`cluster.execution.ledger` decides. Tasks have no time limit: only processes can hang, and
:func:`encoder.ffmpeg.run` limits those. The local cluster listens on 127.0.0.1 only, and takes
connections only from itself (:mod:`cluster.execution.security`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Protocol, Self, TypeVar

from typing_extensions import override

from cluster import events
from cluster.execution.dispatch import Dispatch, SchedulerLost
from cluster.execution.fingerprint import own_fingerprint
from cluster.execution.pool import SharedWorkers, WorkerPool
from cluster.execution.security import SharedScheduler, one_time_security
from cluster.execution.tasks import RETRIES, Outcome, Task, perform, worth_retrying
from encoder.errors import BadInput, ShotladderError

# Dask is imported where it is used, which takes half a second. Most of it has no types: its objects
# are Any here.

_T = TypeVar("_T")

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
    "SharedScheduler",
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
        """Number of tasks that run at once."""

    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """Yield the outcome of each task as it ends. Closing the iterator abandons the rest.

        Raises:
            BadInput: no scheduler answers, or it only has workers with another fingerprint.
            ShotladderError: the cluster was lost, or has had no worker for minutes.
        """


class InlineExecutor(Executor):
    """Runs tasks in this process, one after another, in their order."""

    slots = 1

    def __init__(self, *, retries: int = RETRIES) -> None:
        self._retries = retries

    @override
    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        for task in tasks:
            attempts = 1 + task.tried
            outcome = perform(task)
            while attempts <= self._retries and worth_retrying(outcome.error, attempts):
                attempts += 1
                outcome = perform(task)
            yield replace(outcome, attempts=attempts)


class DaskExecutor(Executor):
    """Runs tasks on a Dask cluster: one of this machine's own, or the one at ``scheduler``.

    The local cluster has one process with one thread for each core, so that a task has a core and a
    crash loses one task. It starts with the first task, takes about a second, and stays until
    :meth:`close`. Its workers and their children die with this process, however it dies.

    Exactly as many tasks are handed to the local cluster as it has threads: each goes to an idle
    worker, the longest first, and a worker that dies had only one task, which is to blame. A task
    whose worker died is run again on another one; when ``retries`` more workers have died, the task
    fails and the error names it.
    """

    def __init__(
        self,
        *,
        workers: int | None = None,
        scheduler: str | SharedScheduler | None = None,
        retries: int = RETRIES,
        dashboard: bool = False,
        priority: int = 0,
        on_event: events.Listener = lambda event: None,
    ) -> None:
        """Prepare the executor; nothing starts before the first task.

        Args:
            workers: processes to start on this machine, by default one for each core.
            scheduler: running scheduler whose workers to use instead, or only its address.
            retries: how often a task is run again after a failure that may not come again.
            dashboard: whether a local cluster serves Dask's dashboard.
            priority: among executors on one scheduler, the higher is served first; those of equal
                priority take turns.
            on_event: receives warnings and notes about the cluster.

        Raises:
            BadInput: both ``workers`` and ``scheduler`` are given, or ``workers`` is not positive.
        """
        if workers is not None and scheduler is not None:
            raise BadInput(
                f"asked for {workers} workers and for the scheduler {scheduler}, which has its "
                "own; leave one out"
            )
        if workers is not None and workers < 1:
            raise BadInput(f"asked for {workers} workers; 1 or more can work")
        self._workers = workers
        self._scheduler = SharedScheduler(scheduler) if isinstance(scheduler, str) else scheduler
        self._retries = retries
        self._dashboard = dashboard
        self._priority = priority
        self._on_event = on_event
        self._stack = contextlib.ExitStack()
        self.client: Any = None
        """Dask's client; None while no cluster is connected."""
        self.local_cluster: Any = None
        """Dask's cluster on this machine; None before the start and with a scheduler."""
        self._pool: WorkerPool | None = None
        self._dispatch: Dispatch | None = None
        self._abandoned = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    @override
    def slots(self) -> int:
        # This joins the scheduler, if there is one.
        if self._scheduler is not None:
            self.start()
        if self._pool is not None:
            return max(1, self._pool.slots())
        return max(1, self._workers or (1 if self._scheduler else usable_cores()))

    @property
    def dashboard_link(self) -> str | None:
        """URL of Dask's dashboard; None if the cluster has none or is not running."""
        if self.client is None:
            return None
        services = self.client.sync(self.client.scheduler.identity)["services"]
        return str(self.client.dashboard_link) if "dashboard" in services else None

    def start(self) -> None:
        """Start or join the cluster now instead of with the first task.

        Raises:
            BadInput: no scheduler answers at the address.
            ShotladderError: the cluster of this machine did not start.
        """
        if self.client is not None:
            return
        import distributed
        from distributed.utils import silence_logging_cmgr

        if self._scheduler is not None:
            self._scheduler.check()
            own_fingerprint()  # raises here, with its own message, where there is no ffmpeg
        start_cluster: Any = distributed.LocalCluster
        self._stack.enter_context(silence_logging_cmgr(logging.CRITICAL))
        try:
            if self._scheduler is None:
                with settings():
                    self.local_cluster = start_cluster(
                        n_workers=self._workers or usable_cores(),
                        threads_per_worker=1,
                        processes=True,
                        # Dask sees only Python's memory, and the work is in ffmpeg's.
                        memory_limit=0,
                        security=one_time_security(),
                        silence_logs=logging.CRITICAL,
                        dashboard_address="127.0.0.1:0",
                        scheduler_kwargs={"dashboard": self._dashboard},
                        preload=["cluster.execution.executor"],
                    )
                self.client = _joined(self.local_cluster)
                self._pool = WorkerPool(self.client)
            else:
                self.client = _joined(self._scheduler.address, self._scheduler.security())
                self._pool = SharedWorkers(self.client)
                if link := self.dashboard_link:
                    self._on_event(events.Noted(f"the cluster's dashboard is at {link}"))
        except Exception as error:
            self.close()
            if self._scheduler is None:
                raise ShotladderError(
                    f"the Dask cluster of this machine did not start ({type(error).__name__}: "
                    f"{error}); run the same command again, or with fewer workers. A Python script "
                    'has to make its calls under `if __name__ == "__main__":`, since each worker '
                    "imports the script"
                ) from error
            raise BadInput(
                f"no Dask scheduler answers at {self._scheduler} within "
                f"{SCHEDULER_SECONDS:g} s{self._scheduler.hint}; start one, or leave the scheduler "
                "out to use this machine",
                scheduler=self._scheduler.address,
                cause=str(error),
            ) from error

    @override
    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        waiting = sorted(tasks, key=lambda task: -task.cost)
        while waiting:
            self.start()
            assert self._pool is not None
            self._dispatch = dispatch = Dispatch(
                self.client, waiting, self._retries, self._pool, self._on_event, self._priority
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
        """Wait until a scheduler is started again at the same address."""
        self._on_event(
            events.Warned(
                f"the Dask scheduler at {self._scheduler} was lost; waiting "
                f"{SCHEDULER_BACK_SECONDS:g} s for it to come back"
            )
        )
        deadline = time.monotonic() + SCHEDULER_BACK_SECONDS
        self.close()
        while self.client is None:
            try:
                self.start()
            except BadInput:
                if time.monotonic() > deadline:
                    raise lost from None
                time.sleep(1)

    def close(self) -> None:
        """End what the executor started. Running tasks are killed, not waited for."""
        if self._dispatch is not None:  # its iterator may not have been closed
            self._abandoned |= self._dispatch.abandon()
            self._dispatch = None
        client, cluster = self.client, self.local_cluster
        self.client = self.local_cluster = self._pool = None
        if cluster is not None and self._abandoned:
            _kill_workers(cluster)
        if client is not None:
            with contextlib.suppress(TimeoutError):
                client.close(timeout=CLOSE_SECONDS)
        if cluster is not None:
            try:
                cluster.close(timeout=CLOSE_SECONDS)
            except TimeoutError:  # on a busy machine; the outcomes stand all the same
                _kill_workers(cluster)
        self._abandoned = False
        self._stack.close()


def connect(
    executor: Executor | None = None,
    *,
    workers: int | None = None,
    scheduler: str | SharedScheduler | None = None,
    priority: int = 0,
    on_event: events.Listener = lambda event: None,
) -> contextlib.AbstractContextManager[Executor]:
    """Return a context of ``executor``, or of a new :class:`DaskExecutor`, which its end closes."""
    if executor is not None:
        return contextlib.nullcontext(executor)
    return DaskExecutor(workers=workers, scheduler=scheduler, priority=priority, on_event=on_event)


def call_with_retries(function: Callable[..., _T], *arguments: Any) -> _T:
    """Call a function in this process, again where an executor would: when ffmpeg was killed.

    The error of the last attempt is raised.
    """
    (outcome,) = InlineExecutor().run([Task(function.__name__, function, arguments)])
    if outcome.error is not None:
        raise outcome.error
    result: _T = outcome.result
    return result


def usable_cores() -> int:
    """Return how many cores this process may use; affinity and container limits count."""
    from dask.system import CPU_COUNT

    return int(CPU_COUNT)


def dask_setup(worker: object) -> None:
    """Make a local worker ignore Ctrl-C. Dask calls this as the worker's ``preload``."""
    # Ctrl-C in a terminal goes to every process of the group. The command ends its workers itself;
    # each of them would otherwise print a traceback.
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _joined(cluster: Any, security: Any = None) -> Any:
    """Return a client of a local cluster or of the scheduler at an address.

    A local cluster brings its certificates.
    """
    from distributed import Client

    kind: Any = Client
    client = kind.__new__(kind)
    try:
        client.__init__(cluster, timeout=SCHEDULER_SECONDS, security=security, set_as_default=False)
    except BaseException:
        # The garbage collector would close a client that could not connect at any moment. If that
        # were during the start of another client, both would wait for one lock for ever.
        with contextlib.suppress(Exception):
            client.close(timeout=CLOSE_SECONDS)
        raise
    return client


def settings(*, worker_ttl: float = WORKER_TTL_SECONDS) -> Any:
    """Return a context with Dask's configuration for the schedulers and workers started in it."""
    import dask

    return dask.config.set(
        {
            # A task whose worker died comes back at once; the ledger knows which task to blame.
            "distributed.scheduler.allowed-failures": 0,
            "distributed.scheduler.worker-ttl": f"{worker_ttl:g}s",
            # A local cluster loses a worker for good if its next process does not start within
            # this time, as happens on a busy machine and when one process after another dies.
            "distributed.deploy.lost-worker-timeout": "1 day",
            "distributed.comm.timeouts.tcp": f"{SILENCE_SECONDS:g}s",
            "distributed.worker.profile.enabled": False,
            "distributed.diagnostics.nvml": False,
            # By default every process measures itself 50 times a second, which took 7 % of a core
            # with two workers.
            "distributed.admin.tick.interval": "1s",
            "distributed.admin.system-monitor.interval": "10s",
            "distributed.admin.system-monitor.gil.enabled": False,
            # A task has one core, so libraries must not start threads of their own.
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
    """Kill the worker processes now; their children die with them, their tasks are abandoned."""
    for nanny in cluster.workers.values():
        process = nanny.pid
        nanny.close_gracefully()  # tells only the nanny, which then starts no other worker
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
