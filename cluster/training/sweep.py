"""``sweep``: measure many operating points of many titles into one table, for training.

Everything is made by the stages of the main job and kept in the same store, so a sweep that is
stopped goes on where it was, a production run's encodes are not made again, and the other way
round. The table (:mod:`cluster.training.table`) gets a title's rows when that title is done.

Titles are the given files and, on request, new content made of them (:mod:`encoder.augment`).
Cells are the profile's full grid, which the yardstick needs, or a spread sample of it, from which
a model learns more per encode. :func:`add_packages` turns finished packages into rows as well:
production measures everything that it delivers.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster import events
from cluster.execution.executor import Executor, InlineExecutor, Task, connect
from cluster.package.package import Package
from cluster.stages.analysis import extract_features, find_features, find_shots
from cluster.stages.augment import make_augmented
from cluster.stages.encodes import ShotWork, encode_key, find_encode
from cluster.stages.measurer import Measurer
from cluster.stages.title import Title, TitleSource, open_title
from cluster.store import Store, open_store
from cluster.training.table import Row, add_rows, read_table
from encoder import augment, ffmpeg
from encoder.analysis.features import ShotFeatures
from encoder.errors import BadInput, ShotladderError, StoreUnusable
from encoder.media import Request, Shot
from encoder.recipes import recipe
from ladder.profiles import Profile, as_profile, rung_sizes
from ladder.sampling import sparse_sample
from ladder.search.steps import TitleShape, full_grid
from vmaf import models
from vmaf.graph import Context


@dataclass(frozen=True, slots=True)
class SweepOptions:
    """What is asked of a sweep."""

    files: tuple[Path, ...]
    table: Path
    cells: int | None = None
    """Per shot, spread over sizes and CRFs; the full grid where None."""
    seed: int = 0
    """Of the samples, and of which frames are augmented."""
    catalog: Path | None = None
    """CSV with the columns ``file`` (file name) and ``group``."""
    augmentations: tuple[str, ...] = ()
    """Names of :data:`encoder.augment.AUGMENTATIONS` to make of each file."""
    originals: bool = True
    """Whether the files themselves are swept."""
    augmented_seconds: float = 8.0
    """Most seconds of an augmentation."""
    codec: str = "x264"
    preset: str = "medium"
    profile: str | Path | Profile = "default"
    heights: tuple[int, ...] | None = None
    """Rung heights instead of the profile's."""
    also: tuple[str, ...] = ()
    """Quality models beside each title's own."""
    store: Path | str | None = None
    workers: int | None = None
    scheduler: str | None = None


@dataclass(frozen=True, slots=True)
class SweptTitle:
    """One title of a sweep."""

    source: str
    """File name."""
    augmentation: str
    """Empty for the file itself."""
    group: str
    shots: int
    cells: int
    """Of all its shots."""
    cached: int
    """Of them, measured before."""
    cpu_seconds: float
    """What the others took to encode and score; of a plan a guess, good to a factor of two."""


@dataclass(frozen=True, slots=True)
class SweepResult:
    """What a sweep did, or of a plan what it would do."""

    titles: tuple[SweptTitle, ...]
    skipped: Mapping[str, str]
    """Titles that cannot be swept, by name, and why."""
    rows: int
    """Of the table, now."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A title of the sweep, before it is opened or made."""

    file: Path
    augmentation: str
    group: str

    @property
    def name(self) -> str:
        return f"{self.file.name}+{self.augmentation}" if self.augmentation else self.file.name


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A title and what the analysis pass said of it."""

    source: TitleSource
    shots: tuple[Shot, ...]
    features: tuple[ShotFeatures, ...]


def sweep(
    options: SweepOptions, on_event: events.Listener, executor: Executor | None = None
) -> SweepResult:
    """Measure what is missing, and bring the table up to date, title by title.

    A title that cannot be used is left out with a warning. One that fails does not keep the others
    from being swept, and what of it was measured is in the table.

    Raises:
        BadInput: an option makes no sense, or the table is not ours.
        StoreUnusable: the store is full; what was measured is in the table.
        ShotladderError: some titles failed.
    """
    wanted = _wanted(options)
    rows = len(read_table(options.table)) if options.table.exists() else 0
    store = open_store(options.store)
    swept: list[SweptTitle] = []
    skipped: dict[str, str] = {}
    failures: dict[str, ShotladderError] = {}
    with (
        connect(executor, workers=options.workers, scheduler=options.scheduler) as running,
        store.scratch() as workdir,
    ):
        for one, found in _prepare(options, wanted, store, workdir, running, on_event):
            error = found if isinstance(found, ShotladderError) else None
            if isinstance(found, _Prepared):
                measurer, requests = _planned(options, one, found, store, running, on_event)
                done, error = _measure(one, measurer, requests)
                swept.append(done)
                measured = [r for r in requests if r in measurer.known]
                rows = add_rows(options.table, _rows(one, found, measurer, measured))
            if isinstance(error, StoreUnusable):
                raise error
            if isinstance(error, BadInput):
                skipped[one.name] = error.message
            elif error is not None:
                failures[one.name] = error
            if error is not None:
                on_event(events.Warned(f"{one.name} is left out: {error.message}"))
    if failures:
        name, first = next(iter(failures.items()))
        others = f" (and {len(failures) - 1} more titles)" if len(failures) > 1 else ""
        raise type(first)(
            f"{name}: {first.message}{others}; all else is in {options.table}", **first.context
        )
    return SweepResult(tuple(swept), skipped, rows)


def plan_sweep(
    options: SweepOptions, on_event: events.Listener, executor: Executor | None = None
) -> SweepResult:
    """What :func:`sweep` would measure and take. Titles are analysed (and kept) for it.

    Raises:
        BadInput: as :func:`sweep`.
    """
    wanted = _wanted(options)
    rows = len(read_table(options.table)) if options.table.exists() else 0
    store = open_store(options.store)
    running = executor or InlineExecutor()
    planned: list[SweptTitle] = []
    skipped: dict[str, str] = {}
    with store.scratch() as workdir:
        for one, found in _prepare(options, wanted, store, workdir, running, on_event):
            if isinstance(found, ShotladderError):
                skipped[one.name] = found.message
                continue
            measurer, requests = _planned(options, one, found, store, running, on_event)
            missing = [
                (shot, point)
                for shot, point in requests
                if find_encode(store, found.source, found.shots[shot], point, measurer.models)
                is None
            ]
            cost = sum(
                ShotWork(found.source, found.shots[shot], (point,), measurer.models, "").cost
                for shot, point in missing
            )
            cached = len(requests) - len(missing)
            planned.append(_swept(one, len(found.shots), len(requests), cached, cost))
    return SweepResult(tuple(planned), skipped, rows)


def add_packages(
    directories: Sequence[Path],
    table: Path,
    on_event: events.Listener,
    *,
    catalog: Path | None = None,
    source: Path | None = None,
    store: Path | str | None = None,
) -> int:
    """Add what finished packages have measured to the table; how many rows it has then.

    Args:
        directories: What ``run`` wrote.
        table: Made if missing.
        report: Takes progress.
        catalog: CSV with the columns ``file`` and ``group``.
        source: The source, if it is not where the run found it (for one package).
        store: Where features are looked up or kept.

    Raises:
        BadInput: a folder holds no package, or its source is missing or another one.
    """
    groups = read_groups(catalog)
    opened = open_store(store)
    rows = 0
    on_event(events.StagePlanned("packages", len(directories), unit="packages"))
    for number, directory in enumerate(directories, 1):
        path = source or Package(directory).source_path
        with opened.scratch() as workdir:
            found = package_rows(directory, path, groups.get(path.name, path.stem), opened, workdir)
        rows = add_rows(table, found)
        on_event(events.StageProgress("packages", number, len(directories)))
    return rows


def package_rows(directory: Path, path: Path, group: str, store: Store, workdir: Path) -> list[Row]:
    """One package's measurements as rows: every cell of ``measurements.json``, and the further
    quality models of what was delivered. What encodes took is not written down there.

    Raises:
        BadInput: as :func:`add_packages`.
    """
    package = Package.open(directory)
    source = package.open_source(workdir, path)
    _check_standard(path, source)
    shots = package.shots
    if shots == find_shots(source, store.place):
        features = find_features(source, store.place)
    else:  # cut by another version
        features = extract_features(source, shots)
    prepared = _Prepared(source, shots, features)
    delivered = _delivered_quality(package)
    return [
        _row(
            _Wanted(path, "", group),
            prepared,
            request,
            bits=8 * cell.bytes,
            quality={**delivered.get(request, {}), package.quality_model: cell.quality},
            encode_cpu_seconds=None,
            tool=package.ladder.tool,
        )
        for request, cell in package.cells().items()
    ]


def read_groups(catalog: Path | None) -> dict[str, str]:
    """Groups by file name.

    Raises:
        BadInput: the catalogue cannot be read or lacks a column.
    """
    if catalog is None:
        return {}
    try:
        with catalog.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"the catalogue {catalog} cannot be read ({error})") from error
    if not {"file", "group"} <= set(reader.fieldnames or ()):
        raise BadInput(f"the catalogue {catalog} needs the columns file and group")
    return {row["file"]: row["group"] for row in rows if row["file"] and row["group"]}


# -- titles ------------------------------------------------------------------------------------


def _wanted(options: SweepOptions) -> list[_Wanted]:
    """The titles asked for, by file; options checked."""
    recipe(options.codec, options.preset)
    as_profile(options.profile)
    for model in options.also:
        models.check(model)
    for name in options.augmentations:
        augment.augmentation(name)
    if options.cells is not None and options.cells < 1:
        raise BadInput(f"asked for {options.cells} cells a shot; 1 or more can be measured")
    if options.augmented_seconds <= 0:
        raise BadInput(f"asked for augmentations of {options.augmented_seconds:g} s")
    groups = read_groups(options.catalog)
    missing = [str(file) for file in options.files if not file.is_file()]
    if missing:
        raise BadInput(f"no such file: {', '.join(missing)}")
    variants = [*([""] if options.originals else []), *dict.fromkeys(options.augmentations)]
    if not options.files or not variants:
        raise BadInput("nothing to sweep: name files, and keep them or augment them")
    return [
        _Wanted(file, variant, groups.get(file.name, file.stem))
        for file in dict.fromkeys(options.files)
        for variant in variants
    ]


def _prepare(
    options: SweepOptions,
    wanted: Sequence[_Wanted],
    store: Store,
    workdir: Path,
    executor: Executor,
    on_event: events.Listener,
) -> Iterator[tuple[_Wanted, _Prepared | ShotladderError]]:
    """Every title, analysed: those of one file at a time, so that the table soon grows."""
    by_file: dict[Path, list[_Wanted]] = {}
    for one in wanted:
        by_file.setdefault(one.file, []).append(one)
    for number, (file, group) in enumerate(by_file.items()):
        folder = workdir / str(number)
        tasks = [
            Task(
                id=str(place),
                function=prepare_title,
                arguments=(
                    *(file, one.augmentation, options.augmented_seconds, options.seed),
                    *(store.place, str(folder / str(place))),
                ),
                label=one.name,
            )
            for place, one in enumerate(group)
        ]
        stage = f"analyse {file.name}"
        on_event(events.StagePlanned(stage, len(tasks), unit="titles"))
        found: dict[str, _Prepared | ShotladderError] = {}
        for outcome in executor.run(tasks):
            error = outcome.error
            if error is not None and not isinstance(error, ShotladderError):
                raise error
            found[outcome.task_id] = outcome.result if error is None else error
            on_event(events.StageProgress(stage, len(found), len(tasks)))
        for place, one in enumerate(group):
            yield one, found[str(place)]


def prepare_title(
    file: Path, augmentation: str, seconds: float, seed: int, store_root: str, workdir: str
) -> _Prepared:
    """Open a file, make the augmentation of it, analyse the result. Runs on any worker.

    Raises:
        BadInput: it cannot be used, or not so.
        ToolFailed, StoreUnusable: it could not be made.
    """
    folder = Path(workdir)
    folder.mkdir(parents=True, exist_ok=True)
    source = open_title(file, folder)
    _check_standard(file, source)
    if augmentation:
        made = make_augmented(source, augmentation, seconds, seed, open_store(store_root))
        source = open_title(made, folder)
    return _Prepared(source, find_shots(source, store_root), find_features(source, store_root))


def _check_standard(path: Path, source: TitleSource) -> None:
    if source.reference.hdr is not None:
        raise BadInput(
            f"{path} is high dynamic range ({source.reference.hdr}); tables, and what is trained "
            "on them, know titles of standard range"
        )


# -- cells -------------------------------------------------------------------------------------


def _planned(
    options: SweepOptions,
    one: _Wanted,
    found: _Prepared,
    store: Store,
    executor: Executor,
    on_event: events.Listener,
) -> tuple[Measurer, tuple[Request, ...]]:
    """Who measures the title, and what."""
    reference, profile = found.source.reference, as_profile(options.profile)
    shape = TitleShape(
        shots=found.shots,
        frame_rate=reference.frame_rate,
        sizes=rung_sizes(reference.width, reference.height, options.heights or profile.heights),
        recipe=recipe(options.codec, options.preset),
    )
    requests = (
        full_grid(shape, profile)
        if options.cells is None
        else sparse_sample(shape, profile, options.cells, f"{options.seed}/{found.source.sha256}")
    )
    own = models.title_model(reference)
    title = Title(one.name, found.source, found.shots)
    wanted = tuple(dict.fromkeys((own, *options.also)))
    return Measurer(title, wanted, store, executor, on_event), requests


def _measure(
    one: _Wanted, measurer: Measurer, requests: tuple[Request, ...]
) -> tuple[SweptTitle, ShotladderError | None]:
    error = None
    try:
        measurer.measure(requests, stage=one.name)
    except ShotladderError as raised:
        error = raised
    costs = measurer.costs
    made = max(costs.encoded, costs.scored // len(measurer.models))
    done = _swept(
        one,
        shots=len(measurer.title.shots),
        cells=len(requests),
        cached=max(0, len(measurer.known) - made),
        cpu_seconds=costs.encode_cpu_seconds + costs.vmaf_cpu_seconds,
    )
    return done, error


def _swept(one: _Wanted, shots: int, cells: int, cached: int, cpu_seconds: float) -> SweptTitle:
    return SweptTitle(
        one.file.name, one.augmentation, one.group, shots, cells, cached, round(cpu_seconds, 3)
    )


def rows_of_title(group: str, features: tuple[ShotFeatures, ...], measurer: Measurer) -> list[Row]:
    """All that a job has measured of a title, as rows."""
    title = measurer.title
    return _rows(
        _Wanted(Path(title.name), "", group),
        _Prepared(title.source, title.shots, features),
        measurer,
        sorted(measurer.known),
    )


def _rows(
    one: _Wanted, found: _Prepared, measurer: Measurer, requests: Sequence[Request]
) -> list[Row]:
    rows = []
    for request in requests:
        shot, point = request
        measured = measurer.known[request]
        record = measurer.store.get(encode_key(found.source, found.shots[shot], point))
        rows.append(
            _row(
                one,
                found,
                request,
                bits=measured.bits,
                quality=measured.mean_quality,
                encode_cpu_seconds=record.cpu_seconds.get("encode") if record else None,
                tool=ffmpeg.version(),
            )
        )
    return rows


def _row(
    one: _Wanted,
    found: _Prepared,
    request: Request,
    *,
    bits: int,
    quality: Mapping[str, float],
    encode_cpu_seconds: float | None,
    tool: str,
) -> Row:
    number, point = request
    shot, features, reference = found.shots[number], found.features[number], found.source.reference
    context = Context.of(shot.start, shot.end, reference.frames)
    return Row(
        group=one.group,
        source=one.file.name,
        augmentation=one.augmentation,
        title_id=found.source.sha256[:16],
        source_sha256=found.source.sha256,
        reference=reference.graph_id,
        title_width=reference.width,
        title_height=reference.height,
        title_frames=reference.frames,
        frame_rate=reference.frame_rate,
        source_bits=8 * reference.index.packet_bytes,
        shot=number,
        start_frame=shot.start,
        end_frame=shot.end,
        cuts=shot.cuts,
        context_before=context.before,
        context_after=context.after,
        recipe=point.recipe.name,
        width=point.width,
        height=point.height,
        crf=point.crf,
        bits=bits,
        # As packages round it, so that both say the same of the same cell.
        quality={model: round(score, 4) for model, score in quality.items()},
        encode_cpu_seconds=encode_cpu_seconds,
        tool=tool,
        features_version=features.version,
        features=features.values,
    )


def _delivered_quality(package: Package) -> dict[Request, dict[str, float]]:
    """Return the quality of the delivered segments by every model that measured them."""
    return {
        request: dict(segment.quality)
        for rung in package.ladder.rungs
        for request, segment in zip(package.requests(rung), rung.segments, strict=True)
    }
