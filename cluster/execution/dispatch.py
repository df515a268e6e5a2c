"""The thread that feeds Dask from a ledger, for one call of :meth:`DaskExecutor.run`."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

from cluster import events
from cluster.execution import metrics
from cluster.execution.ledger import Deliver, GiveUp, Ledger, Recall, Retry
from cluster.execution.pool import WorkerPool, announced, begun_on, listen_again
from cluster.execution.tasks import Outcome, Task, perform
from encoder.errors import ShotladderError

COUNT_SECONDS = 1.0
"""Interval at which a cluster's workers are counted, since they may come and go."""
STOP_SECONDS = 5.0


class SchedulerLost(ShotladderError):
    """The connection to the scheduler is gone; tasks without an outcome have to be run again."""


class Dispatch:
    """Hands tasks to Dask from a thread, so that workers do not idle while the caller is busy.

    :class:`cluster.execution.ledger.Ledger` decides; this class asks Dask and tells it.
    """

    def __init__(
        self,
        client: Any,
        tasks: Iterable[Task],
        retries: int,
        pool: WorkerPool,
        on_event: events.Listener,
        priority: int = 0,
    ) -> None:
        self._client = client
        self._ledger = Ledger(tasks, retries=retries, run=uuid.uuid4().hex)
        self._futures: dict[str, Any] = {}
        self._pool = pool
        self._on_event = on_event
        self._priority = priority
        self._topic, self._begun = begun_on(client)
        self._ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[Outcome | events.Warned | Exception | None] = (
            queue.SimpleQueue()
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._main, name="dispatch", daemon=True)

    def outcomes(self) -> Iterator[Outcome]:
        """Yield the outcome of each task as it ends.

        Raises:
            SchedulerLost: :meth:`left` returns the tasks without an outcome.
            ShotladderError: there is no worker.
        """
        self._thread.start()
        while (item := self._outcomes.get()) is not None:
            if isinstance(item, Exception):
                raise item
            if isinstance(item, Outcome):
                yield item
            else:
                self._on_event(item)

    def left(self) -> list[Task]:
        """Return the tasks without an outcome, after :class:`SchedulerLost`."""
        return self._ledger.left()

    def abandon(self) -> bool:
        """Stop; return True if tasks may still be running."""
        self._stop.set()
        self._ended.put(None)
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)
        if not self._futures:
            return False
        with contextlib.suppress(Exception):  # the cluster may be gone, and its tasks with it
            self._client.cancel(list(self._futures.values()))
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
        limit, counted = 0, -COUNT_SECONDS
        while len(self._ledger) and not self._stop.is_set():
            if self._client.status in ("closing", "closed"):
                raise SchedulerLost(
                    "the Dask scheduler was lost; what was finished is in the store, run the "
                    "same command again"
                )
            if (now := time.monotonic()) - counted >= COUNT_SECONDS:
                limit, counted = self._count(now), now
            metrics.QUEUE.set(len(self._ledger))
            self._submit(limit)
            with contextlib.suppress(queue.Empty):
                future = self._ended.get(timeout=COUNT_SECONDS)
                if future is not None and self._ledger.ended(future.key):
                    # The place is filled before the result is looked at: Dask holds messages
                    # back for 10 ms after another one, and looking sends some.
                    del self._futures[future.key]
                    self._submit(limit)
                    self._settle(future)

    def _count(self, now: float) -> int:
        """Count the workers; return how many attempts should be on the cluster."""
        slots = self._pool.slots()
        metrics.SLOTS.set(slots)
        for refusal in self._pool.refused():
            self._outcomes.put(events.Warned(refusal))
        self._carry_out(self._ledger.count(slots, self._pool.refusal_summary, now))
        # On a shared cluster one task waits even without a worker: that makes adaptive ones grow.
        return max(self._pool.depth - 1, slots * self._pool.depth)

    def _submit(self, limit: int) -> None:
        if self._stop.is_set():
            return
        for submission in self._ledger.submit(limit):
            name, task = submission.name, submission.task
            alone = self._pool.depth == 1
            future = self._client.submit(
                *((perform, task) if alone else (announced, task, self._topic, name)),
                key=name,
                pure=False,
                retries=0,
                priority=self._priority,
                **self._pool.submit_kwargs,
            )
            self._futures[name] = future
            future.add_done_callback(self._ended.put)

    def _settle(self, future: Any) -> None:
        """Report to the ledger how an attempt ended, and carry out what it says."""
        from distributed import CancelledError
        from distributed.scheduler import KilledWorker

        name = future.key
        # Where each core is handed one task, every task on a worker has begun.
        begun = self._pool.depth == 1 or name in self._begun
        self._begun.discard(name)
        instruction: Deliver | Retry
        try:
            outcome = future.result()
        except KilledWorker as error:
            instruction = self._ledger.died(name, str(error.last_worker.address), begun=begun)
        except CancelledError:  # nobody here cancelled it: the connection to the scheduler was lost
            instruction = self._ledger.scheduler_lost(name)
            with contextlib.suppress(Exception):
                listen_again(self._client)
        except Exception as error:
            instruction = self._ledger.finished(name, error)
        else:
            instruction = self._ledger.finished(name, outcome)
        self._carry_out(instruction)

    def _carry_out(self, instruction: Deliver | Retry | Recall | GiveUp | None) -> None:
        match instruction:
            case Deliver(outcome):
                self._outcomes.put(outcome)
            case Retry(reason):
                metrics.RETRIES.labels(reason).inc()
            case Recall():
                self._recall()
            case GiveUp(error):
                raise error

    def _recall(self) -> None:
        running = self._ledger.running()
        try:
            # Not `processing()`: a submission may still be on its way to the scheduler, and would
            # be recalled and run twice.
            states = self._client.sync(self._client.scheduler.get_task_status, keys=running)
        except OSError:
            return
        names = [
            name
            for name in running
            if states[name] == "no-worker" and self._futures[name].status == "pending"
        ]
        self._ledger.recalled(names)
        if futures := [self._futures.pop(name) for name in names]:
            self._client.cancel(futures)
