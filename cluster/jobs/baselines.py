"""Make the ladders that a package is compared with, as far as the store does not have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cluster import events
from cluster.execution.executor import Executor, Task
from cluster.package.assemble import pooled_quality
from cluster.package.comparison import ComparedLadder, ComparedRung
from cluster.stages.baselines import MeasuredRung, RungWork, find_rung, measure_rung
from cluster.stages.stage import lost
from cluster.stages.title import Title
from cluster.store import Store
from encoder.baseline import FixedRung
from encoder.errors import ShotladderError
from encoder.media import OperatingPoint
from encoder.recipes import Recipe
from ladder.bdrate import RatePoint
from ladder.per_title import PerTitleSearch

BaselineRung = FixedRung | OperatingPoint
"""A whole-title encode: at a bitrate, or at a CRF."""

STAGE = "baselines"
"""Name of the stage in events."""


@dataclass
class Baselines:
    """Encodes and scores whole rungs of a title, on an executor, through the store."""

    title: Title
    store: Store
    executor: Executor
    on_event: events.Listener
    expected_cost: float = 0.0
    """CPU seconds that everything is expected to take, for the progress."""
    _seen: set[tuple[BaselineRung, tuple[str, ...]]] = field(default_factory=set)
    _total: int = 0
    _cached: int = 0
    _done: int = 0
    _spent: float = 0.0

    def works(self, rungs: Sequence[BaselineRung], models: Sequence[str]) -> list[RungWork]:
        """Return what there is to do for rungs with scores by ``models``."""
        keyframes = tuple(
            sorted({frame for shot in self.title.shots for frame in (shot.start, *shot.cuts)})
        )
        return [
            RungWork(self.title.source, rung, keyframes, tuple(models), self.store.place)
            for rung in rungs
        ]

    def missing(self, rungs: Sequence[BaselineRung], models: Sequence[str]) -> list[RungWork]:
        """Return the part of the work that the store does not have."""
        return [work for work in self.works(rungs, models) if find_rung(self.store, work) is None]

    def make(self, rungs: Sequence[BaselineRung], models: Sequence[str]) -> None:
        """Encode and score rungs by ``models``, as far as the store does not have them.

        Raises:
            ShotladderError: a rung failed; the others were finished.
        """
        new = [rung for rung in dict.fromkeys(rungs) if (rung, tuple(models)) not in self._seen]
        self._seen.update((rung, tuple(models)) for rung in new)
        works = self.missing(new, models)
        self._total += len(new)
        self._cached += len(new) - len(works)
        self._done += len(new) - len(works)
        self.on_event(events.StagePlanned(STAGE, self._total, self._cached, unit="encodes"))
        tasks = [
            Task(str(number), measure_rung, (work,), work.cost, f"baseline {name_of(work.rung)}")
            for number, work in enumerate(works)
        ]
        failures: list[ShotladderError] = []
        for outcome in self.executor.run(tasks):
            if isinstance(outcome.error, ShotladderError):
                failures.append(outcome.error)
                continue
            if outcome.error is not None:
                raise outcome.error
            self._done += 1
            self._spent += works[int(outcome.task_id)].cost
            share = min(1.0, self._spent / max(self.expected_cost, self._spent))
            progress = self._done, self._total, self._cached, share
            self.on_event(events.StageProgress(STAGE, *progress))
        if failures:
            raise failures[0]

    def measured(self, rung: BaselineRung, models: Sequence[str]) -> MeasuredRung:
        """Return a rung that was made, with its scores.

        Raises:
            StoreUnusable: the store has lost it.
        """
        (work,) = self.works([rung], models)
        found = find_rung(self.store, work)
        if found is None:
            raise lost(self.store.place, "a baseline")
        return found

    def ladder(
        self, recipe: Recipe, rungs: Sequence[BaselineRung], models: Sequence[str]
    ) -> ComparedLadder:
        """Return rungs that were made as a measured ladder."""
        return ComparedLadder(
            recipe.name, tuple(self._compared(self.measured(rung, models)) for rung in rungs)
        )

    def _compared(self, measured: MeasuredRung) -> ComparedRung:
        return ComparedRung(
            name=name_of(measured.rung),
            width=measured.rung.width,
            height=measured.rung.height,
            bitrate=self._bitrate(measured),
            quality={model: pooled_quality(scores) for model, scores in measured.scores.items()},
        )

    def _bitrate(self, measured: MeasuredRung) -> float:
        reference = self.title.reference
        return float(8 * measured.media_bytes * reference.frame_rate / reference.frames)

    def rate_point(self, rung: BaselineRung, model: str) -> RatePoint:
        """Return rate (bit/s) and mean quality of a rung that was made."""
        measured = self.measured(rung, [model])
        return RatePoint(self._bitrate(measured), pooled_quality(measured.scores[model]).mean)


def name_of(rung: BaselineRung) -> str:
    """Return the name of a baseline's rung for people, such as ``360p 365k``."""
    if isinstance(rung, FixedRung):
        return f"{rung.height}p {rung.bitrate / 1000:.0f}k"
    return f"{rung.height}p CRF {rung.crf:g}"


def find_per_title(
    baselines: Baselines, searches: Sequence[PerTitleSearch], model: str
) -> Mapping[Recipe, tuple[OperatingPoint, ...]]:
    """Make what each search wants, the rounds of all searches together; return their ladders.

    Raises:
        ShotladderError: an encode failed; the others of its round were finished.
    """
    known: dict[Recipe, dict[OperatingPoint, RatePoint]] = {one.recipe: {} for one in searches}
    while wanted := [point for one in searches for point in one.wanted(known[one.recipe])]:
        baselines.make(wanted, [model])
        for point in wanted:
            known[point.recipe][point] = baselines.rate_point(point, model)
    return {one.recipe: one.ladder(known[one.recipe]) for one in searches}
