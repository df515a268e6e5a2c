"""The main job: a title in, a verified package out.

:func:`run_title` is the whole pipeline in the order of the data: title, shots, measurements as
the search asks for them, rungs, package, verification, documents. It never prints; progress goes
to ``report`` as :mod:`cluster.events`. Everything made on the way is in the store, so a run that
is killed at any moment continues when it is started again.
"""

from __future__ import annotations

import contextlib
import platform
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import Any, TypeVar

from cluster import events
from cluster.artwork import artwork_before, check_face_model, find_artwork, write_artwork
from cluster.deliver import (
    ChosenRung,
    document_rungs,
    measurements,
    predicted_quality,
    rung_names,
    sound,
    verify_directory,
    write_media,
)
from cluster.executor import DaskExecutor, Executor, InlineExecutor, Task
from cluster.keys import canonical_json
from cluster.labels import learn_from
from cluster.measuring import Measurer, Request
from cluster.options import RunOptions, check_options
from cluster.publish import check_output, publishing
from cluster.setup import Setup, default_store, forbidden, known_to_search, set_up
from cluster.store import Store
from cluster.title import find_title, open_title
from encoder import ffmpeg
from ladder.constraints import InfeasibleResult
from ladder.document import Ladder, LockedCost, SearchFacts
from ladder.drift import Miss
from ladder.rungs import cost_of_locked
from ladder.search import Done
from recommender.prefetch import build_prefetch

_T = TypeVar("_T")

MOST_REASONS = 4
"""That a round gives at once; with many shots there can be hundreds."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run left."""

    ladder: Ladder
    out: Path
    run: dict[str, Any]
    """``run.json``: what it cost, where and with what; the only document that differs from run
    to run."""


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
    check_options(options)
    check_face_model(options.face_model)
    place = options.store or default_store()
    check_output(options.out, keep=(options.source, place))
    with contextlib.closing(Store(place)) as store, store.scratch() as workdir:
        source = open_title(options.source, workdir)
        owned = executor is None
        running = executor or DaskExecutor(workers=options.workers, scheduler=options.scheduler)
        try:
            title = find_title(options.source, source, store, running, report)
            setup = set_up(options, title, store, running, report)
            measurer = Measurer(title, (setup.model,), store, running, report)
            found, reasons = _search(setup, measurer)
            return _deliver(options, setup, found, reasons, measurer, clock)
        finally:
            if owned:
                running.close()


def _search(setup: Setup, measurer: Measurer) -> tuple[Done, dict[Request, str]]:
    """Measure what the search asks for until it is done; and why each was asked for.

    Raises:
        Infeasible: the constraints cannot be kept.
    """
    number = 0
    reasons: dict[Request, str] = {}
    while True:
        step = setup.search.step(known_to_search(setup, measurer.known))
        if isinstance(step, Done):
            return step, reasons
        if isinstance(step, InfeasibleResult):
            raise forbidden(step)
        number += 1
        reasons |= step.reasons
        measurer.report(events.Round(number, len(step.requests), _in_short(step.reasons.values())))
        measurer.measure(step.requests, stage=f"encode {number}")


def _in_short(reasons: Iterable[str]) -> str:
    """Some of the reasons, for one line; ``measurements.json`` has them all."""
    different = list(dict.fromkeys(reasons))
    shown = different[:MOST_REASONS]
    more = len(different) - len(shown)
    return "; ".join([*shown, *([f"and {more} more like these"] if more else [])])


def _deliver(
    options: RunOptions,
    setup: Setup,
    found: Done,
    reasons: Mapping[Request, str],
    measurer: Measurer,
    clock: _Clock,
) -> RunResult:
    title, store, report, plan = setup.title, measurer.store, measurer.report, found.plan
    chosen_requests: list[list[Request]] = [
        [(shot, choice.point) for shot, choice in enumerate(rung.choices)] for rung in plan.rungs
    ]
    delivered = sorted({request for rung in chosen_requests for request in rung})
    grid = measurer.known
    artwork = find_artwork(title, store, measurer.executor, report, options.face_model)
    missed = learn_from(setup, measurer, report)
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
            predicted_quality=predicted_quality(setup.prediction, title.shots, requests),
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
                mode=setup.search.name,
                weights=setup.prediction.model if setup.prediction else None,
                encodes=len(grid),
                delivered_encodes=len(delivered),
                grid_encodes=len(setup.sizes)
                * len(title.shots)
                * len(setup.profile.crf_grid[setup.recipe.codec]),
            ),
            locked_cost=LockedCost(
                bd_rate_percent=getattr(cost.bd_rate, "percent", None),
                basis="predicted" if setup.prediction else "measured",
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
        write_artwork(artwork, store, directory, artwork_before(options.out))
        (directory / "measurements.json").write_text(
            measurements(title, grid, setup, reasons).to_json()
        )
        (directory / "prefetch.json").write_text(build_prefetch(ladder, written).to_json())
        run = _run_document(options, ladder, measurer, missed, verified.cpu_seconds, clock)
        (directory / "run.json").write_bytes(canonical_json(run) + b"\n")
    return RunResult(ladder=ladder, out=options.out, run=run)


def _here(function: Callable[..., _T], *arguments: Any) -> _T:
    """Call in this process, again where an executor would: when ffmpeg is killed, say."""
    (outcome,) = InlineExecutor().run([Task(function.__name__, function, arguments)])
    if outcome.error is not None:
        raise outcome.error
    result: _T = outcome.result
    return result


def _rounded(value: float | tuple[float, ...]) -> float | list[float]:
    return [round(one, 4) for one in value] if isinstance(value, tuple) else round(value, 4)


def _run_document(
    options: RunOptions,
    ladder: Ladder,
    measurer: Measurer,
    missed: Miss | None,
    verify_cpu: float,
    clock: _Clock,
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
            "face_model": str(options.face_model.resolve()) if options.face_model else None,
            "weights": str(options.weights.resolve()) if options.weights else None,
        },
        "encoded_now": costs.encoded,
        "scored_now": costs.scored,
        "cpu_seconds": {
            "encode": round(costs.encode_cpu_seconds, 3),
            "vmaf": round(costs.vmaf_cpu_seconds, 3),
            "verify": round(verify_cpu, 3),
            "other": round(max(0.0, clock.cpu_seconds() - here), 3),
        },
        # Measured against predicted, before any correction.
        "missed": {name: _rounded(value) for name, value in asdict(missed).items()}
        if missed
        else None,
        "wall_seconds": round(clock.wall_seconds(), 3),
        "workers": measurer.executor.slots,
        "versions": {
            "shotladder": distribution_version("shotladder"),
            "ffmpeg": ffmpeg.version(),
            "python": platform.python_version(),
        },
        "host": {"system": platform.system(), "machine": platform.machine()},
    }
