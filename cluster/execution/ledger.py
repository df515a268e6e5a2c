"""What to do next with the tasks of one run: a pure state machine, with no threads, Dask or clock.

:class:`cluster.execution.dispatch.Dispatch` reports what happened on the cluster and carries out
the instructions that it gets. The rules are here: a task is only blamed for the death of its worker
if the task had begun, and not if it waited on a worker that another title's task took down.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

from cluster.execution.tasks import Outcome, Task, worth_retrying
from encoder.errors import BadInput, ShotladderError, WorkerLost

UNBLAMED_DEATHS = 20
"""How often a task may be on a worker that dies before the task begins, without being blamed."""
REFUSED_SECONDS = 10.0
"""Time after which a cluster is given up that only has workers with another fingerprint."""
NO_WORKER_SECONDS = 300.0
"""Time after which a cluster without workers is given up; adaptive ones take minutes to start a
machine."""


@dataclass(frozen=True, slots=True)
class Submit:
    """Hand the task to the cluster under this name."""

    name: str
    """Name of the attempt, unique on the cluster."""
    task: Task


@dataclass(frozen=True, slots=True)
class Deliver:
    """Give the outcome to the caller: its task has ended."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Retry:
    """Count a retry: the task waits again."""

    reason: str
    """Cause of the retry, for the metrics."""


@dataclass(frozen=True, slots=True)
class Recall:
    """Take back the attempts that no worker has been given; the workers offered their cores late.

    The scheduler keeps such attempts for a worker that could take them when they were submitted.
    """


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Raise the error: the cluster cannot run the tasks."""

    error: ShotladderError


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One attempt of a task."""

    task: Task
    number: int
    """Number of the attempt, from 1; at most one more than the retries."""


class Ledger:
    """The tasks of one run: waiting, running, or ended on the cluster and not yet judged.

    Args:
        tasks: the tasks, in the order in which they are to be submitted.
        retries: how often a task is run again after a failure that may not come again.
        run: name of the run, unique on the cluster.
    """

    def __init__(self, tasks: Iterable[Task], *, retries: int, run: str) -> None:
        self._waiting = deque(_Attempt(task, 1 + task.tried) for task in tasks)
        self._running: dict[str, _Attempt] = {}
        self._ended: dict[str, _Attempt] = {}
        self._retries = retries
        self._run = run
        self._submitted = 0
        self._unblamed: dict[str, int] = {}
        self._without_workers_since: float | None = None

    def __len__(self) -> int:
        """Number of tasks without an outcome."""
        return len(self._waiting) + len(self._running) + len(self._ended)

    def running(self) -> list[str]:
        """Return the names of the attempts that are on the cluster."""
        return list(self._running)

    def left(self) -> list[Task]:
        """Return the tasks without an outcome, with the attempts that count against each."""
        attempts = [*self._waiting, *self._running.values(), *self._ended.values()]
        return [replace(attempt.task, tried=attempt.number - 1) for attempt in attempts]

    # -- instructions --------------------------------------------------------------------------

    def submit(self, limit: int) -> list[Submit]:
        """Return what to submit so that up to ``limit`` attempts are on the cluster."""
        submissions = []
        while self._waiting and len(self._running) < limit:
            attempt = self._waiting.popleft()
            kind = getattr(attempt.task.function, "__name__", "task")
            name = f"{kind}-{self._run}-{self._submitted}"
            self._submitted += 1
            self._running[name] = attempt
            submissions.append(Submit(name, attempt.task))
        return submissions

    def count(self, slots: int, refusals: str, now: float) -> Recall | GiveUp | None:
        """Note how many tasks the cluster can run at once.

        Args:
            slots: cores of the workers that may be used.
            refusals: why workers are refused; empty if none is.
            now: any clock's time in seconds.
        """
        since = self._without_workers_since
        if slots:
            self._without_workers_since = None
            return None if since is None else Recall()
        since = self._without_workers_since = now if since is None else since
        if refusals and now - since > REFUSED_SECONDS:
            return GiveUp(
                BadInput(
                    f"no worker of the Dask cluster can be used: {refusals}; start workers with "
                    "this release's `shotladder worker`"
                )
            )
        if now - since > NO_WORKER_SECONDS:
            return GiveUp(
                ShotladderError(
                    f"the Dask cluster has had no worker for {NO_WORKER_SECONDS:g} s; start some "
                    "and run the same command again, what was finished is in the store"
                )
            )
        return None

    # -- events --------------------------------------------------------------------------------

    def ended(self, name: str) -> bool:
        """Note that an attempt has left the cluster, before it is known how it ended.

        Its place may be filled at once. One of :meth:`finished`, :meth:`died` and
        :meth:`scheduler_lost` must follow.

        Returns:
            False if the attempt is not on the cluster, because it was recalled.
        """
        if name not in self._running:
            return False
        self._ended[name] = self._running.pop(name)
        return True

    def finished(self, name: str, result: Outcome | Exception) -> Deliver | Retry:
        """Judge an attempt that ended with an outcome, or whose outcome could not be fetched."""
        attempt = self._ended.pop(name)
        outcome = result if isinstance(result, Outcome) else Outcome(attempt.task.id, error=result)
        if attempt.number <= self._retries and worth_retrying(outcome.error, attempt.number):
            return self._again(attempt, type(outcome.error).__name__, counts=True)
        return Deliver(replace(outcome, attempts=attempt.number))

    def died(self, name: str, worker: str, *, begun: bool) -> Deliver | Retry:
        """Judge an attempt whose worker died; ``begun`` tells whether the task had begun there."""
        attempt = self._ended.pop(name)
        task = attempt.task
        if not begun:
            deaths = self._unblamed[task.id] = self._unblamed.get(task.id, 0) + 1
            if deaths <= UNBLAMED_DEATHS:
                return self._again(attempt, "worker died", counts=False)
        if attempt.number <= self._retries and not task.divisible:
            return self._again(attempt, "worker died", counts=True)
        error = WorkerLost(
            f"{task.label or task.id}: each worker that ran it died, the last one {worker}; "
            "look for what kills them (out of memory?)",
            task=task.id,
        )
        return Deliver(Outcome(task.id, error=error, attempts=attempt.number))

    def scheduler_lost(self, name: str) -> Retry:
        """Judge an attempt whose scheduler was lost; the task is not to blame."""
        return self._again(self._ended.pop(name), "scheduler lost", counts=False)

    def recalled(self, names: Iterable[str]) -> None:
        """Note that these attempts were taken back from the cluster; their tasks wait again."""
        for name in reversed(list(names)):
            self._waiting.appendleft(self._running.pop(name))

    def _again(self, attempt: _Attempt, reason: str, *, counts: bool) -> Retry:
        number = attempt.number + 1 if counts else attempt.number
        self._waiting.appendleft(_Attempt(attempt.task, number))
        return Retry(reason)
