"""Encode and score operating points, reusing what the store already has.

Requests are grouped into :class:`~cluster.stages.encodes.ShotWork`: points of one shot share the
decoded reference (:mod:`cluster.stages.grouping`). Units, the tasks, are batches of such work. Work
that failed in a unit and may succeed is run again alone, and so is all work of a unit whose worker
died, so that in the end the error names exactly the shot at fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from cluster import events
from cluster.execution import metrics
from cluster.execution.executor import Executor
from cluster.execution.tasks import Outcome, Task, worth_retrying
from cluster.stages.encodes import (
    Costs,
    MeasuredEncode,
    ShotWork,
    encode_key,
    expected_cost,
    find_encode,
    score_key,
)
from cluster.stages.grouping import group_points
from cluster.stages.pieces import piece_index, store_pieces
from cluster.stages.quarantine import confirm_when_due
from cluster.stages.stage import lost
from cluster.stages.title import Title
from cluster.stages.title_record import store_title
from cluster.stages.units import Unit, WorkResult, batches, perform_unit
from cluster.store import Store
from encoder.errors import BadInput, ShotladderError, WorkerLost
from encoder.media import Request
from encoder.recipes import Recipe
from ladder.curves import Measurement


@dataclass
class Measurer:
    """Measures operating points of a title, on an executor, through the store."""

    title: Title
    models: tuple[str, ...]
    """Quality models that every encode is scored by. Measurements state the quality by the
    first."""
    store: Store
    executor: Executor
    on_event: events.Listener
    costs: Costs = field(default_factory=Costs)
    """Costs of everything that was encoded and scored so far."""
    known: dict[Request, Measurement] = field(default_factory=dict)
    """All measurements so far, by shot and operating point."""
    rounds: int = 0
    """Number of rounds of measurements so far, over all codecs."""

    def measure(self, requests: Sequence[Request], stage: str) -> None:
        """Add the measurements of all ``requests`` to :attr:`known`.

        A failure does not keep the rest from being finished; afterwards the first error is
        raised, with the name of its shot.

        Raises:
            ShotladderError: some of the work failed for good.
        """
        missing = self.missing(requests)
        total, cached = len(requests), len(requests) - len(missing)
        metrics.CACHED.inc(cached)
        self.on_event(events.StagePlanned(stage, total, cached, unit="encodes"))
        works = list(self.groups(missing))
        expected = sum(work.cost for _, work in works)
        done, spent = cached, 0.0
        failures: list[tuple[str, ShotladderError]] = []
        pending = list(self._tasks(works))
        while pending:
            retries: list[Task] = []
            tasks = {task.id: task for task in pending}
            for outcome in self.executor.run(pending):
                task = tasks[outcome.task_id]
                unit: Unit = task.arguments[0]
                metrics.BUSY.labels(outcome.worker).inc(outcome.seconds)
                for index, result in enumerate(_results(outcome, unit)):
                    if isinstance(result, Costs):
                        self._add_costs(result)
                        shot, work = works[_position(task, index)]
                        for point in work.points:
                            self._look_up((shot, point))
                        done += len(work.points)
                        spent += work.cost
                    elif len(unit.works) > 1 and _may_succeed(result):
                        metrics.RETRIES.labels("part of a unit").inc()
                        retries.append(_alone(task, index, result))
                    elif isinstance(result, ShotladderError):
                        label = _part(unit, index).label
                        failures.append((label, result))
                        self.on_event(events.Warned(f"{label}: {result}"))
                    else:
                        raise result
                self.on_event(events.StageProgress(stage, done, total, cached, spent / expected))
            pending = retries
        confirm_when_due(self.store)
        if failures:
            raise _failed(failures)

    def missing(self, requests: Sequence[Request]) -> list[Request]:
        """Return the requests that the store lacks; measurements of the others become known."""
        self._preload_records(requests)
        return [request for request in requests if not self._look_up(request)]

    def measurements(self, recipe: Recipe) -> dict[Request, Measurement]:
        """Return all measurements of one recipe."""
        return {
            (shot, point): measurement
            for (shot, point), measurement in self.known.items()
            if point.recipe == recipe
        }

    def record_keys(self, also: Sequence[str] = ()) -> Iterator[str]:
        """Yield the keys of the records of all measurements.

        ``also`` names further quality models whose scores are included.
        """
        for shot, point in self.known:
            encode = self.title.source, self.title.shots[shot], point
            yield encode_key(*encode)
            for model in (*self.models, *also):
                yield score_key(*encode, model)

    def measured_encode(self, request: Request) -> MeasuredEncode:
        """Return a measured encode with a score for each frame.

        Raises:
            StoreUnusable: the store has lost the encode.
        """
        encode = self._find(request)
        if encode is None:
            raise lost(self.store.place, "an encode")
        return encode

    def ensure_intact(self, requests: Sequence[Request], stage: str) -> None:
        """Make again what the store has lost or damaged of the encodes that will be delivered.

        Raises:
            ShotladderError: some of the work failed for good.
        """
        encodes = {request: self._find(request) for request in requests}
        stored = [encode for encode in encodes.values() if encode]
        self.store.preload(blobs=[blob for each in stored for blob in (each.media, each.init)])
        for request, encode in encodes.items():
            if encode is None or not all(map(self.store.find, (encode.media, encode.init))):
                del self.known[request]
        if any(request not in self.known for request in requests):
            self.measure(requests, stage)

    def _preload_records(self, requests: Sequence[Request]) -> None:
        """Read many records at once, where the store is slow to answer for each one."""
        unknown = [request for request in requests if request not in self.known]
        if self.store.remote and unknown:
            source, shots = self.title.source, self.title.shots
            self.store.preload(
                key
                for shot, point in unknown
                for key in (
                    encode_key(source, shots[shot], point),
                    *(score_key(source, shots[shot], point, model) for model in self.models),
                )
            )

    def _look_up(self, request: Request) -> bool:
        """Add a stored measurement to :attr:`known`; return whether there is one."""
        if request not in self.known:
            encode = self._find(request)
            if encode is None:
                return False
            self.known[request] = encode.measurement(self.models[0])
        return True

    def _find(self, request: Request) -> MeasuredEncode | None:
        shot, point = request
        return find_encode(
            self.store, self.title.source, self.title.shots[shot], point, self.models
        )

    def groups(self, requests: Sequence[Request]) -> Iterator[tuple[int, ShotWork]]:
        """Yield the number of a shot and the points of it that one process measures, in turn."""
        source, shots = self.title.source, self.title.shots
        display_pixels = source.reference.width * source.reference.height

        def cost(request: Request) -> float:
            shot, point = request
            return expected_cost(source, shots[shot], point, self.models)

        for shot, points in group_points(requests, display_pixels, self.executor.slots, cost):
            yield shot, ShotWork(source, shots[shot], points, self.models, self.store.place)

    def _tasks(self, shot_works: Sequence[tuple[int, ShotWork]]) -> Iterator[Task]:
        """Yield units as tasks; the id of a task lists the positions of its work."""
        if not shot_works:
            return
        works = [work for _, work in shot_works]
        title = store_title(self.title.source, self.store)
        remote = self.store.remote
        pieces = store_pieces(self.title, self.store, self.on_event) if remote else ()
        piece_of = [piece_index(pieces, work.shot) if pieces else 0 for work in works]
        for positions in batches(works, self.executor.slots, piece_of):
            unit = Unit(
                store=self.store.place,
                title=title,
                source=self.title.reference.path,
                models=self.models,
                works=tuple((works[at].shot, works[at].points) for at in positions),
                piece=pieces[piece_of[positions[0]]] if pieces else None,
                stamp=self.title.source.stamp,
                watched=self.title.source.watched,
            )
            yield Task(
                id=",".join(map(str, positions)),
                function=perform_unit,
                arguments=(unit,),
                cost=sum(works[at].cost for at in positions),
                label=unit.label,
                divisible=len(positions) > 1,
            )

    def _add_costs(self, costs: Costs) -> None:
        metrics.ENCODES.inc(costs.encoded)
        metrics.SCORES.inc(costs.scored)
        metrics.BYTES.inc(costs.encoded_bytes)
        metrics.CPU_SECONDS.labels("encode").inc(costs.encode_cpu_seconds)
        metrics.CPU_SECONDS.labels("vmaf").inc(costs.vmaf_cpu_seconds)
        self.costs += costs


def _position(task: Task, index: int) -> int:
    """Return the position, among all work of the round, of one piece of work of a task."""
    return int(task.id.split(",")[index])


def _alone(task: Task, index: int, error: Exception) -> Task:
    """Return one piece of work of a unit as a task of its own, after it failed."""
    unit = _part(task.arguments[0], index)
    return Task(
        id=str(_position(task, index)),
        function=perform_unit,
        arguments=(unit,),
        cost=task.cost / len(task.arguments[0].works),
        label=unit.label,
        # A worker's death does not tell which piece of work caused it, so none is blamed.
        tried=0 if isinstance(error, WorkerLost) else 1,
    )


def _results(outcome: Outcome, unit: Unit) -> Sequence[WorkResult]:
    if outcome.error is not None:
        return [outcome.error] * len(unit.works)
    results: Sequence[WorkResult] = outcome.result
    return results


def _part(unit: Unit, index: int) -> Unit:
    return replace(unit, works=unit.works[index : index + 1])


def _may_succeed(error: Exception) -> bool:
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
