"""``sweep``: measure many operating points of many titles into one table, for training.

A sweep uses the stages and the store of a run. It therefore resumes where it was stopped, and
neither a sweep nor a run repeats an encode of the other. The table
(:mod:`cluster.training.table`) gets the rows of a title as soon as the title is done.

Titles are the given files and, on request, new content made from them (:mod:`encoder.augment`).
Cells are the profile's full grid, which ``evaluate`` needs, or a sample spread over it, from which
a model learns more per encode.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster import events
from cluster.execution.executor import Executor, InlineExecutor, Task, connect
from cluster.execution.security import SharedScheduler
from cluster.stages.analysis import find_features, find_shots
from cluster.stages.augment import make_augmented
from cluster.stages.measurer import Measurer
from cluster.stages.quarantine import reading
from cluster.stages.title import Title, open_title
from cluster.store import Store, open_store
from cluster.training.catalog import group_of, read_groups
from cluster.training.rows import TrainingTitle, check_standard_range
from cluster.training.table import add_rows, read_table
from encoder import augment
from encoder.encode import check_tuning
from encoder.errors import BadInput, ShotladderError, SourceChanged, StoreUnusable
from encoder.media import Request
from encoder.recipes import Recipe
from ladder.profiles import Profile, as_profile
from ladder.sampling import sparse_sample
from ladder.search.steps import TitleShape, full_grid
from vmaf import models


@dataclass(frozen=True, slots=True)
class SweepOptions:
    """Options of ``sweep``."""

    files: tuple[Path, ...]
    table: Path
    cells: int | None = None
    """Number of cells per shot, spread over sizes and CRFs; the full grid if None."""
    seed: int = 0
    """Random seed for choosing cells and the frames of augmentations."""
    catalog: Path | None = None
    """CSV file with the columns ``file`` (file name) and ``group``."""
    augmentations: tuple[str, ...] = ()
    """Names of the :data:`encoder.augment.AUGMENTATIONS` to make of each file."""
    originals: bool = True
    """Whether the files themselves are swept."""
    augmented_seconds: float = 8.0
    """Maximum duration of an augmentation."""
    codec: str | None = None
    """Codec; the profile's first if None."""
    preset: str | None = None
    """Encoder preset; that of the profile's recipe if None."""
    profile: str | Path | Profile = "default"
    heights: tuple[int, ...] | None = None
    """Rung heights instead of the profile's."""
    also: tuple[str, ...] = ()
    """Further quality models beside each title's own."""
    store: Path | str | None = None
    workers: int | None = None
    scheduler: str | SharedScheduler | None = None

    @property
    def recipe(self) -> Recipe:
        """Recipe of the encodes.

        Raises:
            BadInput: the codec, the preset or the profile is unknown.
        """
        profile = as_profile(self.profile)
        return profile.recipe(self.codec or profile.codecs[0], self.preset)


@dataclass(frozen=True, slots=True)
class SweptTitle:
    """What was measured of a title, or in a plan, what would be."""

    source: str
    """File name of the source."""
    augmentation: str
    """Name of the augmentation; empty for the file itself."""
    group: str
    shots: int
    """Number of shots."""
    cells: int
    """Number of cells planned for the title."""
    cached: int
    """How many of the cells the store already had."""
    cpu_seconds: float
    """CPU seconds spent on the other cells. In a plan this is an estimate, good to a factor of
    two."""


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What a sweep has done, or in a plan, what it would do."""

    titles: tuple[SweptTitle, ...]
    skipped: Mapping[str, str]
    """Why titles cannot be swept, by name of the title."""
    rows: int
    """Number of rows in the table."""


@dataclass(frozen=True, slots=True)
class _TitleRequest:
    """A file, or an augmentation of it, before it is opened."""

    file: Path
    augmentation: str
    group: str

    @property
    def name(self) -> str:
        return f"{self.file.name}+{self.augmentation}" if self.augmentation else self.file.name


def sweep(
    options: SweepOptions, on_event: events.Listener, executor: Executor | None = None
) -> SweepResult:
    """Measure what the store lacks, and update the table title by title.

    A title that cannot be used is left out with a warning. If a title fails, its measured cells
    are still added to the table, and the other titles are still swept.

    Raises:
        BadInput: an option makes no sense, or the file of the table is not a table.
        StoreUnusable: the store is full; what was measured is in the table.
        ShotladderError: some titles failed.
    """
    requests = _title_requests(options)
    count = _row_count(options.table)
    store = open_store(options.store)
    swept: list[SweptTitle] = []
    skipped: dict[str, str] = {}
    failures: dict[str, ShotladderError] = {}
    with (
        connect(executor, workers=options.workers, scheduler=options.scheduler) as running,
        store.scratch() as workdir,
    ):
        for name, title in _analyse(options, requests, store, workdir, running, on_event):
            if isinstance(title, TrainingTitle):
                try:
                    with reading(store, title.source) as quarantine:
                        measurer = _measurer(options, name, title, quarantine, running, on_event)
                        cells = _cells(options, title)
                        result, error = _measure(title, measurer, cells)
                except SourceChanged as changed:
                    skipped[name] = changed.message
                    on_event(events.Warned(f"{name} is left out: {changed.message}"))
                    continue
                swept.append(result)
                measured = [cell for cell in cells if cell in measurer.known]
                count = add_rows(options.table, title.measured_rows(measurer, measured))
            else:
                error = title
            if isinstance(error, StoreUnusable):
                raise error
            if isinstance(error, BadInput):
                skipped[name] = error.message
            elif error is not None:
                failures[name] = error
            if error is not None:
                on_event(events.Warned(f"{name} is left out: {error.message}"))
    if failures:
        raise _failed(failures, options.table)
    return SweepResult(tuple(swept), skipped, count)


def plan_sweep(
    options: SweepOptions, on_event: events.Listener, executor: Executor | None = None
) -> SweepResult:
    """Return what :func:`sweep` would measure and its cost. Titles are analysed for it.

    Raises:
        BadInput: see :func:`sweep`.
    """
    requests = _title_requests(options)
    count = _row_count(options.table)
    store = open_store(options.store)
    running = executor or InlineExecutor()
    planned: list[SweptTitle] = []
    skipped: dict[str, str] = {}
    with store.scratch() as workdir:
        for name, title in _analyse(options, requests, store, workdir, running, on_event):
            if isinstance(title, ShotladderError):
                skipped[name] = title.message
                continue
            with reading(store, title.source) as quarantine:
                measurer = _measurer(options, name, title, quarantine, running, on_event)
                cells = _cells(options, title)
                missing = measurer.missing(cells)
            cost = sum(work.cost for _, work in measurer.groups(missing))
            planned.append(_swept(title, len(cells), len(cells) - len(missing), cost))
    return SweepResult(tuple(planned), skipped, count)


def _row_count(table: Path) -> int:
    return len(read_table(table)) if table.exists() else 0


def _failed(failures: Mapping[str, ShotladderError], table: Path) -> ShotladderError:
    name, first = next(iter(failures.items()))
    others = f" (and {len(failures) - 1} more titles)" if len(failures) > 1 else ""
    return type(first)(
        f"{name}: {first.message}{others}; everything else is in {table}", **first.context
    )


# -- titles ------------------------------------------------------------------------------------


def _title_requests(options: SweepOptions) -> list[_TitleRequest]:
    """Check the options and return the titles to sweep, file by file."""
    if options.recipe.tuning:
        check_tuning(options.recipe)
    for model in options.also:
        models.check(model)
    for name in options.augmentations:
        augment.augmentation(name)
    if options.cells is not None and options.cells < 1:
        raise BadInput(f"asked for {options.cells} cells a shot; ask for 1 or more")
    if options.augmented_seconds <= 0:
        raise BadInput(
            f"asked for augmentations of {options.augmented_seconds:g} s; ask for more than 0"
        )
    groups = read_groups(options.catalog)
    missing = [str(file) for file in options.files if not file.is_file()]
    if missing:
        raise BadInput(f"no such file: {', '.join(missing)}")
    variants = [*([""] if options.originals else []), *dict.fromkeys(options.augmentations)]
    if not options.files or not variants:
        raise BadInput("nothing to sweep: name files, and keep them or augment them")
    return [
        _TitleRequest(file, variant, group_of(file, groups))
        for file in dict.fromkeys(options.files)
        for variant in variants
    ]


def _analyse(
    options: SweepOptions,
    requests: Sequence[_TitleRequest],
    store: Store,
    workdir: Path,
    executor: Executor,
    on_event: events.Listener,
) -> Iterator[tuple[str, TrainingTitle | ShotladderError]]:
    """Yield the name of every title, and the title, analysed, or why it cannot be.

    The titles of one file are analysed together, so that the table grows soon.
    """
    by_file: dict[Path, list[_TitleRequest]] = {}
    for request in requests:
        by_file.setdefault(request.file, []).append(request)
    for number, (file, titles) in enumerate(by_file.items()):
        folder = workdir / str(number)
        tasks = [
            Task(
                id=str(index),
                function=analyse_title,
                arguments=(
                    *(file, title.augmentation, title.group),
                    *(options.augmented_seconds, options.seed),
                    *(store.place, str(folder / str(index))),
                ),
                label=title.name,
            )
            for index, title in enumerate(titles)
        ]
        stage = f"analyse {file.name}"
        on_event(events.StagePlanned(stage, len(tasks), unit="titles"))
        analysed: dict[str, TrainingTitle | ShotladderError] = {}
        for outcome in executor.run(tasks):
            error = outcome.error
            if error is not None and not isinstance(error, ShotladderError):
                raise error
            analysed[outcome.task_id] = outcome.result if error is None else error
            on_event(events.StageProgress(stage, len(analysed), len(tasks)))
        for index, title in enumerate(titles):
            yield title.name, analysed[str(index)]


def analyse_title(
    file: Path,
    augmentation: str,
    group: str,
    seconds: float,
    seed: int,
    place: str,
    workdir: str,
) -> TrainingTitle:
    """Open a file, make the augmentation if one is named, and analyse it. Runs on any worker.

    Raises:
        BadInput: the file, or this augmentation of it, cannot be used.
        ToolFailed, StoreUnusable: the augmentation could not be made.
    """
    folder = Path(workdir)
    folder.mkdir(parents=True, exist_ok=True)
    source = open_title(file, folder)
    check_standard_range(file, source)
    if augmentation:
        with reading(open_store(place), source) as store:
            path = make_augmented(source, augmentation, seconds, seed, store)
        source = open_title(path, folder)
    shots = find_shots(source, place)
    features = find_features(source, place)
    return TrainingTitle(group, file.name, augmentation, source, shots, features)


# -- cells -------------------------------------------------------------------------------------


def _measurer(
    options: SweepOptions,
    name: str,
    title: TrainingTitle,
    store: Store,
    executor: Executor,
    on_event: events.Listener,
) -> Measurer:
    own_model = models.title_model(title.source.reference)
    return Measurer(
        Title(name, title.source, title.shots),
        tuple(dict.fromkeys((own_model, *options.also))),
        store,
        executor,
        on_event,
    )


def _cells(options: SweepOptions, title: TrainingTitle) -> tuple[Request, ...]:
    """Return the cells to measure: the full grid or a sample of it."""
    reference, profile = title.source.reference, as_profile(options.profile)
    shape = TitleShape(
        shots=title.shots,
        frame_rate=reference.frame_rate,
        sizes=profile.sizes(reference.width, reference.height, options.heights),
        recipe=options.recipe,
    )
    if options.cells is None:
        return full_grid(shape, profile)
    seed = f"{options.seed}/{title.source.sha256}"
    return sparse_sample(shape, profile, options.cells, seed)


def _measure(
    title: TrainingTitle, measurer: Measurer, cells: Sequence[Request]
) -> tuple[SweptTitle, ShotladderError | None]:
    """Measure the cells of a title; return what was measured, and the error if some failed."""
    error = None
    try:
        measurer.measure(cells, stage=measurer.title.name)
    except ShotladderError as raised:
        error = raised
    costs = measurer.costs
    measured_now = max(costs.encoded, costs.scored // len(measurer.models))
    swept = _swept(
        title,
        cells=len(cells),
        cached=max(0, len(measurer.known) - measured_now),
        cpu_seconds=costs.encode_cpu_seconds + costs.vmaf_cpu_seconds,
    )
    return swept, error


def _swept(title: TrainingTitle, cells: int, cached: int, cpu_seconds: float) -> SweptTitle:
    return SweptTitle(
        source=title.file,
        augmentation=title.augmentation,
        group=title.group,
        shots=len(title.shots),
        cells=cells,
        cached=cached,
        cpu_seconds=round(cpu_seconds, 3),
    )
