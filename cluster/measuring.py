"""Make sure that operating points are encoded and measured: what is there is used, the rest run.

Requests are grouped into :class:`~cluster.stages.ShotWork`: points of one size of one shot share
a decode, up to a bound on the memory of one process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from cluster import events
from cluster.executor import Executor, Task
from cluster.stages import Measured, MeasuredEncode, ShotWork, collect, encode_and_score
from cluster.store import Store
from cluster.title import Title
from encoder.errors import BadInput, ShotladderError, StoreUnusable
from encoder.media import OperatingPoint

MAX_GROUP_PIXELS = 12_000_000
"""Sum of frame sizes of the points that one process encodes and scores together. Measured: nine
1080p points (18.7 million) took 3.3 GB, mostly encoders' lookahead and frames in queues."""
MAX_SCORED_PIXELS = 36_000_000
"""The same for scoring, where every encode is as large as the title: nine at 1080p (18.7 million)
took 1.1 GB."""

Request = tuple[int, OperatingPoint]
"""A shot's number and an operating point."""


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
    report: events.Report
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
        missing = [request for request in requests if not self._look_up(request)]
        total, cached = len(requests), len(requests) - len(missing)
        self.report(events.StagePlanned(stage, total, cached, unit="encodes"))
        works = list(self._grouped(missing))
        tasks = [
            Task(
                id=str(number),
                function=encode_and_score,
                arguments=(work,),
                cost=work.cost,
                label=f"frames {work.shot.start} to {work.shot.end} at {work.points[0].height}p",
            )
            for number, (_, work) in enumerate(works)
        ]
        failures: list[tuple[str, ShotladderError]] = []
        done, spent, expected = cached, 0.0, sum(task.cost for task in tasks)
        for outcome in self.executor.run(tasks):
            shot, work = works[int(outcome.task_id)]
            if outcome.error is not None:
                if not isinstance(outcome.error, ShotladderError):
                    raise outcome.error
                failures.append((tasks[int(outcome.task_id)].label, outcome.error))
                self.report(events.Warned(f"{tasks[int(outcome.task_id)].label}: {outcome.error}"))
                continue
            self.costs.encoded += outcome.result.encoded
            self.costs.scored += outcome.result.scored
            self.costs.encode_cpu_seconds += outcome.result.encode_cpu_seconds
            self.costs.vmaf_cpu_seconds += outcome.result.vmaf_cpu_seconds
            for point in work.points:
                self._look_up((shot, point))
            done += len(work.points)
            spent += work.cost
            self.report(events.StageProgress(stage, done, total, cached, spent / expected))
        if failures:
            raise _failed(failures)

    def encode(self, request: Request) -> MeasuredEncode:
        """One of :attr:`known` with all its frames.

        Raises:
            StoreUnusable: the store has lost it since.
        """
        found = self._collect(request)
        if found is None:
            raise StoreUnusable(
                f"the store at {self.store.root} lost an encode while it was in use; "
                "run the same command again, it will be made again"
            )
        return found

    def _look_up(self, request: Request) -> bool:
        if request not in self.known:
            found = self._collect(request)
            if found is None:
                return False
            self.known[request] = found.summary()
        return True

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
                        store=str(self.store.root),
                    ),
                )


def _order(request: Request) -> tuple[int, OperatingPoint]:
    return request


def _failed(failures: Sequence[tuple[str, ShotladderError]]) -> ShotladderError:
    label, error = failures[0]
    others = f" (and {len(failures) - 1} more pieces of work)" if len(failures) > 1 else ""
    if isinstance(error, BadInput):
        return error
    return type(error)(
        f"{label}: {error.message}{others}; everything else is kept, run the same command again",
        **error.context,
    )
