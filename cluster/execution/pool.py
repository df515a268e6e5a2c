"""Workers that a run may use: all of its own cluster, or the matching ones of a shared cluster."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import Any

from typing_extensions import override

from cluster.execution.fingerprint import Fingerprint, own_fingerprint
from cluster.execution.tasks import Outcome, Task, perform


@dataclass(slots=True)
class WorkerPool:
    """Workers that a run may use: all workers of a cluster that this process started."""

    client: Any
    depth: int = 1
    """Number of tasks handed to each core. One where a cluster has a single client; two on a
    shared cluster, where a core would otherwise begin another client's task while this client's
    next one is on its way."""

    def slots(self) -> int:
        """Return how many tasks may run at once now; 0 while the scheduler cannot be reached."""
        try:
            return sum(self.client.nthreads().values())
        except OSError:
            return 0

    def refused(self) -> list[str]:
        """Name the workers refused since the last call, with the reason for each."""
        return []

    @property
    def refusal_summary(self) -> str:
        """Reasons of all refusals, for an error; empty if no worker was refused."""
        return ""

    @property
    def submit_kwargs(self) -> dict[str, Any]:
        """Arguments of ``Client.submit`` that keep tasks on these workers."""
        return {}


@dataclass(slots=True)
class SharedWorkers(WorkerPool):
    """The workers of a shared cluster that have this process's fingerprint.

    Workers that `shotladder worker` started offer a resource named by their ticket. Other workers
    are asked for their fingerprint once, and offer the resource from then on if it matches.
    """

    depth: int = 2
    fingerprint: Fingerprint = field(default_factory=own_fingerprint)
    _refusals: dict[str, str] = field(default_factory=dict)
    """Reason by the address of a worker that was asked; empty for a worker that matches."""
    _told: set[str] = field(default_factory=set)

    @property
    @override
    def submit_kwargs(self) -> dict[str, Any]:
        return {"resources": {self.fingerprint.ticket: 1}}  # a task takes one core

    @override
    def slots(self) -> int:
        try:
            workers = self.client.sync(self.client.scheduler.identity)["workers"]
        except (OSError, AttributeError):
            return 0
        self._refusals = {
            address: why for address, why in self._refusals.items() if address in workers
        }
        total = 0
        for address, facts in workers.items():
            offered = int(facts["resources"].get(self.fingerprint.ticket, 0))
            if not offered and address not in self._refusals:
                answer = self._ask(address, facts)
                if answer is not None:  # otherwise the worker is asked again
                    offered, self._refusals[address] = answer
            total += offered
        return total

    @override
    def refused(self) -> list[str]:
        news = [
            f"the worker {address} is not used: {why}"
            for address, why in self._refusals.items()
            if why and why not in self._told
        ]
        self._told.update(why for why in self._refusals.values() if why)
        return news

    @property
    @override
    def refusal_summary(self) -> str:
        return "; ".join(dict.fromkeys(why for why in self._refusals.values() if why))

    def _ask(self, address: str, facts: Any) -> tuple[int, str] | None:
        """Ask a worker for its fingerprint; return None if the worker did not answer.

        Otherwise return the cores that the worker offers from now on, or 0 and why it is refused.
        """
        try:
            answer = self.client.run(
                introduce, self.fingerprint, workers=[address], on_error="return"
            ).get(address)
        except OSError:
            return None
        if answer is None or isinstance(answer, OSError):
            return None
        if isinstance(answer, Fingerprint):
            differences = self.fingerprint.differences(answer)
            if not differences:
                return int(facts["nthreads"]), ""
            return 0, "; ".join(differences)
        if isinstance(answer, ModuleNotFoundError | AttributeError | ImportError):
            return 0, f"it has no shotladder, or another release ({answer})"
        return 0, f"its fingerprint cannot be read ({type(answer).__name__}: {answer})"


async def introduce(client_fingerprint: Fingerprint, dask_worker: Any) -> Fingerprint:
    """Return a worker's fingerprint, and offer its cores if the client's is the same.

    Dask runs this on the worker.
    """
    fingerprint = own_fingerprint()
    if fingerprint == client_fingerprint:
        await dask_worker.set_resources(**{fingerprint.ticket: dask_worker.state.nthreads})
    return fingerprint


def announced(task: Task, topic: str, name: str) -> Outcome:
    """Run a task after announcing on ``topic`` that it begins. Dask runs this on a worker."""
    from distributed import get_worker

    worker: Any = get_worker()
    worker.log_event(topic, name)
    return perform(task)


_BEGUN: weakref.WeakKeyDictionary[Any, tuple[str, set[str]]] = weakref.WeakKeyDictionary()


def begun_on(client: Any) -> tuple[str, set[str]]:
    """Return the topic on which workers announce a client's tasks, and the names announced."""
    if client not in _BEGUN:
        # One topic for each client, as schedulers keep what was announced on each topic.
        _BEGUN[client] = f"shotladder-{client.id}", set[str]()
        listen_again(client)
    return _BEGUN[client]


def listen_again(client: Any) -> None:
    """Subscribe to the client's topic, which a restarted scheduler does not know."""
    topic, begun = _BEGUN[client]
    client.subscribe_topic(topic, lambda event: begun.add(event[1]))
