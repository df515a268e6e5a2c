"""Make sure that operating points are encoded and measured: what is there is used, the rest run.

Requests are grouped into :class:`~cluster.stages.encodes.ShotWork`: points of one size of one shot
share a decode, up to a bound on the memory of one process. Those are collated into units, the
tasks. A piece of a unit that failed and may pass is run again alone, and so is every piece of a
unit whose worker died: in the end exactly what is at fault is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

from cluster import events
from cluster.execution import metrics
from cluster.execution.executor import Executor
from cluster.execution.tasks import Outcome, Task, worth_retrying
from cluster.stages.encodes import (
    Measured,
    MeasuredEncode,
    ShotWork,
    WorkDone,
    collect,
    encode_key,
    score_key,
)
from cluster.stages.pieces import bring, number_of
from cluster.stages.stage import lost
from cluster.stages.title import Title
from cluster.stages.title_record import describe
from cluster.stages.units import Result, Unit, collated, perform_unit
from cluster.store import Store
from encoder.errors import BadInput, ShotladderError, WorkerLost
from encoder.media import OperatingPoint, Request

MAX_GROUP_PIXELS = 12_000_000
"""Sum of frame sizes of the points that one process encodes and scores together. Measured: nine
1080p points (18.7 million) took 3.3 GB, mostly encoders' lookahead and frames in queues."""
MAX_SCORED_PIXELS = 36_000_000
"""The same for scoring, where every encode is as large as the title: nine at 1080p (18.7 million)
took 1.1 GB."""


@dataclass
class Costs:
    """What was made in this run, and what that took."""

    encoded: int = 0
    scored: int = 0
    encode_cpu_seconds: float = 0.0
    vmaf_cpu_seconds: float = 0.0

    def since(self, before: Costs) -> Costs:
        """What came after ``before``."""
        return Costs(
            self.encoded - before.encoded,
            self.scored - before.scored,
            self.encode_cpu_seconds - before.encode_cpu_seconds,
            self.vmaf_cpu_seconds - before.vmaf_cpu_seconds,
        )


@dataclass
class Measurer:
    """Measures operating points of a title, on an executor, through the store."""

    title: Title
    models: tuple[str, ...]
    store: Store
    executor: Executor
    on_event: events.Listener
    costs: Costs = field(default_factory=Costs)
    known: dict[Request, Measured] = field(default_factory=dict)
    rounds: int = 0
    """Rounds of measurements so far, over all codecs."""

    def measure(self, requests: Sequence[Request], stage: str) -> None:
        """Have all ``requests`` in :attr:`known`.

        What failed does not keep the rest from being finished; then the first error is raised,
        with the shot's name.

        Raises:
            ShotladderError: some of the work failed for good.
        """
        self._prepare(requests)
        missing = [request for request in requests if not self._look_up(request)]
        total, cached = len(requests), len(requests) - len(missing)
        metrics.CACHED.inc(cached)
        self.on_event(events.StagePlanned(stage, total, cached, unit="encodes"))
        works = list(self._grouped(missing))
        expected = sum(work.cost for _, work in works)
        done, spent = cached, 0.0
        failures: list[tuple[str, ShotladderError]] = []
        pending = list(self._tasks(works))
        while pending:
            again: list[Task] = []
            units = {task.id: task for task in pending}
            for outcome in self.executor.run(pending):
                task = units[outcome.task_id]
                metrics.BUSY.labels(outcome.worker).inc(outcome.seconds)
                unit: Unit = task.arguments[0]
                for at, result in enumerate(_results(outcome, unit)):
                    if isinstance(result, Exception):
                        if len(unit.works) > 1 and _may_pass(result):
                            metrics.RETRIES.labels("part of a unit").inc()
                            again.append(self._alone(task, at, result))
                            continue
                        if not isinstance(result, ShotladderError):
                            raise result
                        label = _part(unit, at).label
                        failures.append((label, result))
                        self.on_event(events.Warned(f"{label}: {result}"))
                        continue
                    self._add(result)
                    shot, work = works[self._place(task, at)]
                    for point in work.points:
                        self._look_up((shot, point))
                    done += len(work.points)
                    spent += work.cost
                self.on_event(events.StageProgress(stage, done, total, cached, spent / expected))
            pending = again
        if failures:
            raise _failed(failures)

    def _tasks(self, works: Sequence[tuple[int, ShotWork]]) -> Iterator[Task]:
        """Units of ``works``; a task's id names the positions of its pieces of work."""
        if not works:
            return
        title = describe(self.title.source, self.store)
        pieces = [work for _, work in works]
        brought = bring(self.title, self.store, self.on_event) if self.store.remote else ()
        lies = [number_of(brought, work.shot) if brought else 0 for work in pieces]
        for positions in collated(pieces, self.executor.slots, lies):
            unit = Unit(
                store=self.store.place,
                title=title,
                source=self.title.reference.path,
                models=self.models,
                works=tuple((pieces[at].shot, pieces[at].points) for at in positions),
                piece=brought[lies[positions[0]]] if brought else None,
            )
            yield Task(
                id=",".join(map(str, positions)),
                function=perform_unit,
                arguments=(unit,),
                cost=sum(pieces[at].cost for at in positions),
                label=unit.label,
                divisible=len(positions) > 1,
            )

    @staticmethod
    def _place(task: Task, at: int) -> int:
        return int(task.id.split(",")[at])

    def _alone(self, task: Task, at: int, error: Exception) -> Task:
        """One piece of work of a unit as a task of its own, after it failed."""
        unit = _part(task.arguments[0], at)
        return Task(
            id=str(self._place(task, at)),
            function=perform_unit,
            arguments=(unit,),
            cost=task.cost / len(task.arguments[0].works),
            label=unit.label,
            # Whose fault it was that a worker died is not known of any piece of the unit.
            tried=0 if isinstance(error, WorkerLost) else 1,
        )

    def _add(self, made: WorkDone) -> None:
        metrics.ENCODES.inc(made.encoded)
        metrics.SCORES.inc(made.scored)
        metrics.BYTES.inc(made.encoded_bytes)
        metrics.CPU_SECONDS.labels("encode").inc(made.encode_cpu_seconds)
        metrics.CPU_SECONDS.labels("vmaf").inc(made.vmaf_cpu_seconds)
        self.costs.encoded += made.encoded
        self.costs.scored += made.scored
        self.costs.encode_cpu_seconds += made.encode_cpu_seconds
        self.costs.vmaf_cpu_seconds += made.vmaf_cpu_seconds

    def keys(self, also: Sequence[str] = ()) -> Iterator[str]:
        """Of the records of all that is known, and of its scores by other models."""
        for shot, point in self.known:
            of = self.title.source, self.title.shots[shot], point
            yield encode_key(*of)
            for model in (*self.models, *also):
                yield score_key(*of, model)

    def encode(self, request: Request) -> MeasuredEncode:
        """One of :attr:`known` with all its frames.

        Raises:
            StoreUnusable: the store has lost it since.
        """
        found = self._collect(request)
        if found is None:
            raise lost(self.store.place, "an encode")
        return found

    def _look_up(self, request: Request) -> bool:
        if request not in self.known:
            found = self._collect(request)
            if found is None:
                return False
            self.known[request] = found.summary()
        return True

    def _prepare(self, requests: Sequence[Request]) -> None:
        """Many records at once, where a store answers one by one slowly."""
        title, unknown = self.title, [one for one in requests if one not in self.known]
        if self.store.remote and unknown:
            self.store.warm(
                key
                for shot, point in unknown
                for key in (
                    encode_key(title.source, title.shots[shot], point),
                    *(
                        score_key(title.source, title.shots[shot], point, model)
                        for model in self.models
                    ),
                )
            )

    def secure(self, requests: Sequence[Request], stage: str) -> None:
        """Have all that will be delivered whole: what a store lost or spoilt is made again.

        Raises:
            ShotladderError: some of the work failed for good.
        """
        found = {request: self._collect(request) for request in requests}
        self.store.warm(
            blobs=[blob for made in found.values() if made for blob in (made.media, made.init)]
        )
        for request, made in found.items():
            if made is None or not all(map(self.store.find, (made.media, made.init))):
                del self.known[request]
        if any(request not in self.known for request in requests):
            self.measure(requests, stage)

    def _collect(self, request: Request) -> MeasuredEncode | None:
        shot, point = request
        return collect(self.store, self.title.source, self.title.shots[shot], point, self.models)

    def _grouped(self, requests: Sequence[Request]) -> Iterator[tuple[int, ShotWork]]:
        def size(request: Request) -> tuple[int, int, int]:
            shot, point = request
            return shot, point.width, point.height

        for (shot, width, height), group in groupby(sorted(requests, key=_order), key=size):
            points = [point for _, point in group]
            display = self.title.reference.width * self.title.reference.height
            most = max(1, min(MAX_GROUP_PIXELS // (width * height), MAX_SCORED_PIXELS // display))
            count = -(-len(points) // most)
            for first in range(count):
                yield (
                    shot,
                    ShotWork(
                        title=self.title.source,
                        shot=self.title.shots[shot],
                        points=tuple(points[first::count]),
                        models=self.models,
                        store=self.store.place,
                    ),
                )


def _order(request: Request) -> tuple[int, OperatingPoint]:
    return request


def _results(outcome: Outcome, unit: Unit) -> Sequence[Result]:
    if outcome.error is not None:
        return [outcome.error] * len(unit.works)
    results: Sequence[Result] = outcome.result
    return results


def _part(unit: Unit, at: int) -> Unit:
    return replace(unit, works=unit.works[at : at + 1])


def _may_pass(error: Exception) -> bool:
    return isinstance(error, WorkerLost) or worth_retrying(error)


def _failed(failures: Sequence[tuple[str, ShotladderError]]) -> ShotladderError:
    label, error = failures[0]
    others = f" (and {len(failures) - 1} more pieces of work)" if len(failures) > 1 else ""
    if isinstance(error, BadInput):
        return error
    return type(error)(
        f"{label}: {error.message}{others}; everything else is kept, run the same command again",
        **error.context,
    )
