"""The main job: a title in, a verified package out.

:func:`run_title` is the whole pipeline in the order of the data: title, shots, measurements as
the search asks for them, rungs, package, verification, documents. It never prints; progress goes
to ``report`` as :mod:`cluster.events`. Everything made on the way is in the store, so a run that
is killed at any moment continues when it is started again.
"""

from __future__ import annotations

import contextlib
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import Any, TypeVar

from cluster import events
from cluster.deliver import (
    ChosenRung,
    document_rungs,
    measurements,
    rung_names,
    sound,
    verify_directory,
    write_media,
)
from cluster.executor import DaskExecutor, Executor, InlineExecutor, Task
from cluster.keys import canonical_json
from cluster.measuring import Measurer, Request
from cluster.publish import check_output, publishing
from cluster.stages import Measured, collect
from cluster.store import Store
from cluster.title import Title, find_shots, open_title
from encoder import ffmpeg
from encoder.errors import BadInput, Infeasible
from encoder.media import OperatingPoint
from encoder.recipes import Recipe, recipe, typical_cpu_seconds
from encoder.reference import ReferenceSource
from ladder.constraints import InfeasibleResult
from ladder.curves import Measurement
from ladder.document import Ladder, LockedCost, SearchFacts
from ladder.profiles import Profile, Size, load_profile, rung_sizes
from ladder.rungs import Policy, cost_of_locked
from ladder.search import Done, ExhaustiveSearch, Known, Measure, Search, TitleShape
from vmaf import models

_T = TypeVar("_T")

STORE_VARIABLE = "SHOTLADDER_STORE"
"""Where the store is, unless a run says otherwise."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What is asked of a run."""

    source: Path
    out: Path
    search: str = "exhaustive"
    codec: str = "x264"
    preset: str = "medium"
    profile: str = "default"
    heights: tuple[int, ...] | None = None
    """Rung heights instead of the profile's."""
    policy: Policy = "locked"
    store: Path | None = None
    workers: int | None = None
    """Local workers; the machine's cores by default."""
    scheduler: str | None = None
    """Address of a running Dask scheduler instead of local workers."""
    also: tuple[str, ...] = ()
    """Quality models measured on delivered segments beside the title's own."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run left."""

    ladder: Ladder
    out: Path
    run: dict[str, Any]
    """``run.json``: what it cost, where and with what; the only document that differs from run
    to run."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run would cost, before it is done. Rough: within a factor of two or so."""

    title: str
    frames: int
    shots: int
    sizes: tuple[Size, ...]
    grid_encodes: int
    delivered_encodes: int
    """At most: rungs times shots."""
    cached_encodes: int
    """Of the grid, already in the store."""
    cpu_hours: dict[str, float]
    """``encode`` and ``vmaf``, without what is cached."""
    store_bytes: int
    wall_seconds: float
    """On ``workers`` workers."""
    workers: int


@dataclass(frozen=True, slots=True)
class _Setup:
    """Options, checked and resolved against a title."""

    recipe: Recipe
    profile: Profile
    sizes: tuple[Size, ...]
    model: str
    search: Search
    policy: Policy
    title: Title


@dataclass
class _Clock:
    """CPU seconds of this process and all it started, and wall seconds, since a run began."""

    started: float = field(default_factory=time.monotonic)
    cpu: float = field(default_factory=lambda: _tree_cpu())

    def cpu_seconds(self) -> float:
        return _tree_cpu() - self.cpu

    def wall_seconds(self) -> float:
        return time.monotonic() - self.started


def _tree_cpu() -> float:
    """CPU seconds so far of this process, of its living descendants and of all that have ended."""
    import psutil

    own = psutil.Process()
    total = 0.0
    for process in (own, *own.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def default_store() -> Path:
    """``SHOTLADDER_STORE``, or a folder in the user's cache."""
    if set_by_user := os.environ.get(STORE_VARIABLE):
        return Path(set_by_user)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "shotladder" / "store"


def run_title(
    options: RunOptions, report: events.Report, executor: Executor | None = None
) -> RunResult:
    """Make ``options.out`` from ``options.source``.

    Raises:
        BadInput: something asked for cannot be done; nothing was written to ``out``.
        Infeasible: no ladder satisfies the profile's constraints.
        ToolFailed, VerificationFailed, StoreUnusable: the run failed; what was finished is kept.
    """
    clock = _Clock()
    _check_options(options)
    place = options.store or default_store()
    check_output(options.out, keep=(options.source, place))
    with contextlib.closing(Store(place)) as store, store.scratch() as workdir:
        source = open_title(options.source, workdir)
        owned = executor is None
        running = executor or DaskExecutor(workers=options.workers, scheduler=options.scheduler)
        try:
            title = _title(options, source, store, running, report)
            setup = _set_up(options, title)
            measurer = Measurer(title, (setup.model,), store, running, report)
            found = _search(setup, measurer)
            return _deliver(options, setup, found, measurer, clock)
        finally:
            if owned:
                running.close()


def plan_run(
    options: RunOptions, report: events.Report, executor: Executor | None = None
) -> Estimate:
    """What :func:`run_title` would cost. Only the title's shots are found (and kept) for it.

    Raises:
        BadInput: as :func:`run_title`.
    """
    _check_options(options)
    workers = options.workers or len(os.sched_getaffinity(0))
    with (
        contextlib.closing(Store(options.store or default_store())) as store,
        store.scratch() as workdir,
    ):
        source = open_title(options.source, workdir)
        title = _title(options, source, store, executor or InlineExecutor(), report)
        setup = _set_up(options, title)
        step = setup.search.step(_known(setup, {}))
        requests = step.requests if isinstance(step, Measure) else ()
        missing = [
            (shot, point)
            for shot, point in requests
            if collect(store, source, title.shots[shot], point, (setup.model,)) is None
        ]
        reference = title.reference
        encode_seconds = sum(
            typical_cpu_seconds(p.recipe, p.width, p.height, title.shots[s].frames, p.crf)
            for s, p in missing
        )
        vmaf_seconds = sum(
            models.typical_cpu_seconds(
                setup.model, reference.width, reference.height, title.shots[s].frames
            )
            for s, _ in missing
        )
        rungs = _most_rungs(setup.profile)
        return Estimate(
            title=title.name,
            frames=reference.frames,
            shots=len(title.shots),
            sizes=setup.sizes,
            grid_encodes=len(requests),
            delivered_encodes=rungs * len(title.shots),
            cached_encodes=len(requests) - len(missing),
            cpu_hours={"encode": encode_seconds / 3600, "vmaf": vmaf_seconds / 3600},
            store_bytes=round(sum(_typical_bytes(p, title.shots[s].frames) for s, p in missing)),
            wall_seconds=(encode_seconds + vmaf_seconds) / workers,
            workers=workers,
        )


def _check_options(options: RunOptions) -> None:
    recipe(options.codec, options.preset)
    load_profile(options.profile)
    if options.search not in SEARCHES:
        raise BadInput(f"no search {options.search!r}; choose one of {', '.join(SEARCHES)}")
    if options.policy != "locked":
        raise BadInput(
            f"policy {options.policy!r} cannot be packaged yet; use 'locked' "
            "(ladder.json says what that costs against 'mixed')"
        )
    for model in options.also:
        models.check(model)


def _title(
    options: RunOptions,
    source: Any,
    store: Store,
    executor: Executor,
    report: events.Report,
) -> Title:
    frames = source.reference.frames
    report(events.StagePlanned("shots", frames, unit="frames"))
    task = Task(id="shots", function=find_shots, arguments=(source, str(store.root)), label="shots")
    (outcome,) = executor.run([task])
    if outcome.error is not None:
        raise outcome.error
    report(events.StageProgress("shots", frames, frames))
    return Title(name=options.source.name, source=source, shots=outcome.result)


def _set_up(options: RunOptions, title: Title) -> _Setup:
    profile = load_profile(options.profile)
    reference: ReferenceSource = title.reference
    sizes = rung_sizes(reference.width, reference.height, options.heights or profile.heights)
    if not sizes:
        raise BadInput(
            f"none of the heights asked for fits a source of {reference.width}x{reference.height}"
        )
    chosen = recipe(options.codec, options.preset)
    return _Setup(
        recipe=chosen,
        profile=profile,
        sizes=sizes,
        model=models.default_model(min(reference.width, reference.height), reference.frame_rate),
        search=SEARCHES[options.search](),
        policy=options.policy,
        title=title,
    )


SEARCHES: Mapping[str, Callable[[], Search]] = {"exhaustive": ExhaustiveSearch}
"""By the name that ``--search`` takes."""


def _known(setup: _Setup, found: Mapping[Request, Measured]) -> Known:
    title = setup.title
    return Known(
        title=TitleShape(
            shots=title.shots,
            frame_rate=title.reference.frame_rate,
            sizes=setup.sizes,
            recipe=setup.recipe.name,
            codec=setup.recipe.codec,
            source_bits=8 * title.reference.index.packet_bytes,
        ),
        profile=setup.profile,
        policy=setup.policy,
        measurements={
            request: Measurement(made.bits, made.mean_quality[setup.model])
            for request, made in found.items()
        },
    )


def _search(setup: _Setup, measurer: Measurer) -> Done:
    """Measure what the search asks for until it is done.

    Raises:
        Infeasible: the constraints cannot be kept.
    """
    number = 0
    while True:
        step = setup.search.step(_known(setup, measurer.known))
        if isinstance(step, Done):
            return step
        if isinstance(step, InfeasibleResult):
            raise Infeasible(
                f"no ladder keeps the constraint {step.constraint!r}: {step.detail}",
                shortfall=step.shortfall,
                shots=step.shots,
            )
        number += 1
        measurer.report(events.Round(number, len(step.requests)))
        measurer.measure(step.requests, stage=f"encode {number}")


def _deliver(
    options: RunOptions, setup: _Setup, found: Done, measurer: Measurer, clock: _Clock
) -> RunResult:
    title, store, report, plan = setup.title, measurer.store, measurer.report, found.plan
    chosen_requests: list[list[Request]] = [
        [(shot, choice.point) for shot, choice in enumerate(rung.choices)] for rung in plan.rungs
    ]
    delivered = sorted({request for rung in chosen_requests for request in rung})
    grid = measurer.known
    if options.also:
        measurer = Measurer(
            title,
            tuple(dict.fromkeys((setup.model, *options.also))),
            store,
            measurer.executor,
            report,
            measurer.costs,
        )
        measurer.measure(delivered, stage="also")
    names = rung_names([rung.size.height for rung in plan.rungs])
    rungs = [
        ChosenRung(
            name=name,
            slope=rung.slope,
            predicted_quality=None,
            encodes=tuple(measurer.encode(request) for request in requests),
        )
        for name, rung, requests in zip(names, plan.rungs, chosen_requests, strict=True)
    ]
    report(events.StagePlanned("package", len(rungs), unit="rungs"))
    track = _here(sound, title, store)
    cost = cost_of_locked(found.title, plan) if plan.policy == "locked" else None
    with publishing(options.out) as directory:
        written = write_media(title, rungs, track, store, directory)
        ladder = Ladder(
            title=title.facts(audio=track is not None),
            policy=plan.policy,
            profile=setup.profile.name,
            codec=setup.recipe.codec,
            recipe=setup.recipe.name,
            tool=ffmpeg.version(),
            quality_model=setup.model,
            search=SearchFacts(
                mode=options.search,
                encodes=len(grid),
                delivered_encodes=len(delivered),
                grid_encodes=len(setup.sizes)
                * len(title.shots)
                * len(setup.profile.crf_grid[setup.recipe.codec]),
            ),
            locked_cost=LockedCost(
                bd_rate_percent=getattr(cost.bd_rate, "percent", None), basis="measured"
            )
            if cost is not None
            else None,
            constraints=[*plan.notes, *(note for rung in plan.rungs for note in rung.notes)],
            rungs=document_rungs(rungs, written, setup.recipe.codec),
        )
        report(events.StageProgress("package", len(rungs), len(rungs)))
        report(events.StagePlanned("verify", len(rungs), unit="rungs"))
        verified = _here(verify_directory, directory, ladder.rungs, ladder.title.frame_rate)
        report(events.StageProgress("verify", len(rungs), len(rungs)))
        (directory / "ladder.json").write_text(ladder.to_json())
        (directory / "measurements.json").write_text(
            measurements(title, grid, setup.recipe.name, setup.model).to_json()
        )
        run = _run_document(options, ladder, measurer, verified.cpu_seconds, clock)
        (directory / "run.json").write_bytes(canonical_json(run) + b"\n")
    return RunResult(ladder=ladder, out=options.out, run=run)


def _here(function: Callable[..., _T], *arguments: Any) -> _T:
    """Call in this process, again where an executor would: when ffmpeg is killed, say."""
    (outcome,) = InlineExecutor().run([Task(function.__name__, function, arguments)])
    if outcome.error is not None:
        raise outcome.error
    result: _T = outcome.result
    return result


def _run_document(
    options: RunOptions, ladder: Ladder, measurer: Measurer, verify_cpu: float, clock: _Clock
) -> dict[str, Any]:
    costs = measurer.costs
    ffmpeg_cpu = costs.encode_cpu_seconds + costs.vmaf_cpu_seconds
    # On a cluster of somebody else's, what workers do beside running ffmpeg is not seen here.
    here = verify_cpu + (ffmpeg_cpu if options.scheduler is None else 0.0)
    return {
        "schema": "shotladder/run/1",
        "title": ladder.title.id,
        "source": str(options.source.resolve()),
        "options": {
            "search": options.search,
            "codec": options.codec,
            "preset": options.preset,
            "profile": options.profile,
            "heights": list(options.heights) if options.heights else None,
            "policy": options.policy,
            "also": list(options.also),
        },
        "encoded_now": costs.encoded,
        "scored_now": costs.scored,
        "cpu_seconds": {
            "encode": round(costs.encode_cpu_seconds, 3),
            "vmaf": round(costs.vmaf_cpu_seconds, 3),
            "verify": round(verify_cpu, 3),
            "other": round(max(0.0, clock.cpu_seconds() - here), 3),
        },
        "wall_seconds": round(clock.wall_seconds(), 3),
        "workers": measurer.executor.slots,
        "versions": {
            "shotladder": distribution_version("shotladder"),
            "ffmpeg": ffmpeg.version(),
            "python": platform.python_version(),
        },
        "host": {"system": platform.system(), "machine": platform.machine()},
    }


def _most_rungs(profile: Profile) -> int:
    return 2 + int((profile.max_quality - profile.min_quality) / profile.jnd)


def _typical_bytes(point: OperatingPoint, frames: int) -> float:
    """Natural video at x264 medium: about 0.1 bit a pixel at CRF 24, halved every 5.5 steps."""
    return 0.1 * 2 ** ((24 - point.crf) / 5.5) * point.width * point.height * frames / 8
