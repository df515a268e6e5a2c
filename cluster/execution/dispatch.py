"""One call of :meth:`DaskExecutor.run`: hands tasks to Dask and settles what comes back.

A task is only blamed for the death of its worker when it had begun (workers of somebody's cluster
say so, on a topic of the client), not when it waited on one that another title's task took down.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from cluster.execution import metrics
from cluster.execution.pool import WorkerPool, announced, begun_on, listen_again
from cluster.execution.tasks import Outcome, Task, perform, worth_retrying
from encoder.errors import BadInput, ShotladderError, WorkerLost

COUNT_SECONDS = 1.0
"""How often a cluster's workers are counted: they may come and go."""
NO_WORKER_SECONDS = 300.0
"""Adaptive clusters take minutes to start a machine."""
REFUSED_SECONDS = 10.0
"""A cluster that only has workers of another identity is given up sooner."""
UNBLAMED_DEATHS = 20
"""How often a task may be on a worker that dies before it began there."""
STOP_SECONDS = 5.0


class SchedulerLost(ShotladderError):
    """The connection to the scheduler is gone. What has no outcome yet has to be run again."""


class Dispatch:
    """Hands tasks to Dask from a thread of its own.

    In a thread, so that workers do not idle while the caller is busy with an outcome.
    """

    def __init__(
        self,
        client: Any,
        waiting: Iterable[Task],
        retries: int,
        pool: WorkerPool,
        *,
        warn: Callable[[str], None],
        priority: int = 0,
    ) -> None:
        self._client = client
        self._waiting = deque((task, 1 + task.tried) for task in waiting)
        self._running: dict[str, tuple[Task, int, Any]] = {}
        self._retries = retries
        self._pool = pool
        self._warn = warn
        self._priority = priority
        self._topic, self._begun = begun_on(client)
        self._unblamed: dict[str, int] = {}
        self._ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[Outcome | str | Exception | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._main, name="dispatch", daemon=True)

    def outcomes(self) -> Iterator[Outcome]:
        """The outcome of each task as it ends.

        Raises:
            SchedulerLost: :meth:`left` says what has no outcome.
            ShotladderError: there is no worker.
        """
        self._thread.start()
        while (item := self._outcomes.get()) is not None:
            if isinstance(item, Exception):
                raise item
            if isinstance(item, str):
                self._warn(item)
                continue
            yield item

    def left(self) -> list[Task]:
        """After :class:`SchedulerLost`: what has no outcome."""
        unfinished = [*self._waiting, *((task, tried) for task, tried, _ in self._running.values())]
        return [replace(task, tried=attempt - 1) for task, attempt in unfinished]

    def abandon(self) -> bool:
        """Stop. True if tasks may still be running."""
        self._stop.set()
        self._ended.put(None)
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)
        if not self._running:
            return False
        self._waiting.clear()
        with contextlib.suppress(Exception):  # the cluster may be gone, and then so are they
            self._client.cancel([future for _, _, future in self._running.values()])
        return True

    # -- the thread ----------------------------------------------------------------------------

    def _main(self) -> None:
        try:
            self._loop()
        except Exception as error:
            self._outcomes.put(
                error
                if isinstance(error, ShotladderError)
                else SchedulerLost(
                    f"the Dask cluster was lost ({type(error).__name__}: {error}); what was "
                    "finished is in the store, run the same command again"
                )
            )
        else:
            metrics.QUEUE.set(0)
            self._outcomes.put(None)

    def _loop(self) -> None:
        alone_since: float | None = None
        slots, counted = 0, -COUNT_SECONDS
        while (self._waiting or self._running) and not self._stop.is_set():
            if self._client.status in ("closing", "closed"):
                raise SchedulerLost(
                    "the Dask scheduler was lost; what was finished is in the store, run the "
                    "same command again"
                )
            if (now := time.monotonic()) - counted >= COUNT_SECONDS:
                before, slots, counted = slots, self._pool.slots(), now
                metrics.SLOTS.set(slots)
                for news in self._pool.refused():
                    self._outcomes.put(news)
                if slots and not before and alone_since is not None:
                    self._recall()
                alone_since = None if slots else (alone_since or now)
            if alone_since is not None:
                self._check_alone(now - alone_since)
            metrics.QUEUE.set(len(self._waiting) + len(self._running))
            # One waits where there is no worker: that is what makes adaptive clusters grow.
            wanted = max(self._pool.depth - 1, slots * self._pool.depth)
            self._fill(wanted)
            with contextlib.suppress(queue.Empty):
                future = self._ended.get(timeout=COUNT_SECONDS)
                if future is not None and future.key in self._running:
                    # Its place is filled before its result is looked at: Dask holds messages
                    # back for 10 ms after another one, and looking sends some.
                    task, attempt, _ = self._running.pop(future.key)
                    self._fill(wanted)
                    self._settle(task, attempt, future)

    def _check_alone(self, seconds: float) -> None:
        why = self._pool.refusal_summary
        if why and seconds > REFUSED_SECONDS:
            raise BadInput(
                f"no worker of the Dask cluster can be used: {why}; start workers with this "
                "release's `shotladder worker`"
            )
        if seconds > NO_WORKER_SECONDS:
            raise ShotladderError(
                f"the Dask cluster has had no worker for {NO_WORKER_SECONDS:g} s; start some, "
                "what was finished is in the store"
            )

    def _recall(self) -> None:
        """What waits for a worker and was not given to those that came: they offered too late."""
        try:
            given = {key for keys in self._client.processing().values() for key in keys}
        except OSError:
            return
        for name, (task, attempt, future) in list(self._running.items()):
            if name not in given and future.status == "pending":
                del self._running[name]
                self._waiting.appendleft((task, attempt))
                self._client.cancel([future])

    def _fill(self, wanted: int) -> None:
        while self._waiting and len(self._running) < wanted:
            self._submit(*self._waiting.popleft())

    def _submit(self, task: Task, attempt: int) -> None:
        name = f"{getattr(task.function, '__name__', 'task')}-{uuid.uuid4().hex}"
        alone = self._pool.depth == 1
        future = self._client.submit(
            *((perform, task) if alone else (announced, task, self._topic, name)),
            key=name,
            pure=False,
            retries=0,
            priority=self._priority,
            **self._pool.submit_kwargs,
        )
        self._running[future.key] = (task, attempt, future)
        future.add_done_callback(self._ended.put)

    def _settle(self, task: Task, attempt: int, future: Any) -> None:
        from distributed import CancelledError
        from distributed.scheduler import KilledWorker

        lost, died = False, False
        # Nothing waits on a worker where each is handed one task.
        begun = self._pool.depth == 1 or future.key in self._begun
        self._begun.discard(future.key)
        try:
            outcome: Outcome = future.result()
        except KilledWorker as error:
            died = True
            outcome = Outcome(
                task.id,
                error=WorkerLost(
                    f"{task.label or task.id}: each worker that ran it died, the last one "
                    f"{error.last_worker.address}; look for what kills them (out of memory?)",
                    task=task.id,
                ),
            )
        except CancelledError as error:  # not by us: the connection to the scheduler was lost
            lost = True
            outcome = Outcome(
                task.id,
                error=SchedulerLost(
                    f"{task.label or task.id}: the Dask scheduler was lost while it ran",
                    task=task.id,
                    cause=str(error),
                ),
            )
        except Exception as error:
            outcome = Outcome(task.id, error=error)
        if lost:
            metrics.RETRIES.labels("scheduler lost").inc()
            self._waiting.appendleft((task, attempt))
            with contextlib.suppress(Exception):  # a scheduler that came back knows no topic
                listen_again(self._client)
        elif died and self._again(task, attempt, begun):
            metrics.RETRIES.labels("worker died").inc()
        elif attempt <= self._retries and worth_retrying(outcome.error, attempt):
            metrics.RETRIES.labels(type(outcome.error).__name__).inc()
            self._waiting.appendleft((task, attempt + 1))
        else:
            self._outcomes.put(replace(outcome, attempts=attempt))

    def _again(self, task: Task, attempt: int, begun: bool) -> bool:
        """Whether a task whose worker died goes to another one."""
        if not begun:
            deaths = self._unblamed[task.id] = self._unblamed.get(task.id, 0) + 1
            if deaths <= UNBLAMED_DEATHS:
                self._waiting.appendleft((task, attempt))
                return True
        if attempt <= self._retries and not task.divisible:
            self._waiting.appendleft((task, attempt + 1))
            return True
        return False
