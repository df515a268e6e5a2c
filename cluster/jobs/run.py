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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version as distribution_version
from pathlib import Path
from typing import Any, TypeVar

from cluster import events
from cluster.execution.executor import DaskExecutor, Executor, InlineExecutor, Task
from cluster.jobs.doctor import describe_source
from cluster.jobs.history import options_document, recorded
from cluster.jobs.options import RunOptions, check_options, codecs_of
from cluster.jobs.setup import (
    Setup,
    check_depth,
    check_encoders,
    forbidden,
    known_to_search,
    set_up,
)
from cluster.package import report as report_page
from cluster.package.artwork_files import previous_artwork, write_artwork
from cluster.package.assemble import (
    ChosenRung,
    document_rungs,
    measurements,
    predicted_quality,
    rung_names,
    verify_directory,
    write_media,
)
from cluster.package.package import Package
from cluster.package.publish import check_output, publishing
from cluster.stages.analysis import features_key, find_title, shots_key
from cluster.stages.artwork import check_face_model, find_artwork
from cluster.stages.encodes import Costs
from cluster.stages.measurer import Measurer
from cluster.stages.title import Title, open_title
from cluster.stages.tracks import audio_tracks, subtitle_tracks
from cluster.store import Store, open_store
from cluster.store.keys import canonical_json
from cluster.store.manifests import Manifest
from cluster.store.place import store_place
from cluster.training.feedback import learn_from
from encoder import ffmpeg
from encoder.errors import ShotladderError
from encoder.media import Request
from ladder.bdrate import BdRate, RatePoint
from ladder.claims import bd_claim
from ladder.codecs import kept_rungs
from ladder.complexity.drift import Miss, miss_document
from ladder.constraints import InfeasibleResult
from ladder.document import CodecFacts, Ladder, LockedCost, SearchFacts
from ladder.locked_cost import cost_of_locked
from ladder.search.steps import Done
from recommender.prefetch.build import build_prefetch
from vmaf import models

_T = TypeVar("_T")

MOST_REASONS = 4
"""That a round gives at once; with many shots there can be hundreds."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run left."""

    ladder: Ladder
    out: Path
    run: dict[str, Any]
    """``run.json``: what it cost, where and with what; it and the report, which shows it, are all
    that differs from run to run."""
    manifest: Manifest | None = None
    """What the store remembers of the run."""


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
    options: RunOptions, on_event: events.Listener, executor: Executor | None = None
) -> RunResult:
    """Make ``options.out`` from ``options.source``.

    Raises:
        BadInput: something asked for cannot be done; nothing was written to ``out``.
        Infeasible: no ladder satisfies the profile's constraints.
        ToolFailed, VerificationFailed, StoreUnusable: the run failed; what was finished is kept.
    """
    clock = _Clock()
    check_options(options)
    check_encoders(options)
    check_face_model(options.face_model)
    place = store_place(options.store)
    check_output(options.out, keep=[options.source, *([place] if isinstance(place, Path) else [])])
    with (
        contextlib.closing(open_store(place)) as store,
        store.scratch() as workdir,
        contextlib.ExitStack() as stack,
    ):
        source = open_title(options.source, workdir, tone_map=options.tone_map)
        check_depth(options, source.reference)
        record = stack.enter_context(recorded(options, source, store))
        for finding in describe_source(source.reference, options.source):
            if finding.state == "warn":
                on_event(events.Warned(f"{finding.topic}: {finding.found}: {finding.then}"))
        owned = executor is None
        running = executor or DaskExecutor(
            workers=options.workers,
            scheduler=options.scheduler,
            priority=options.priority,
            warn=lambda message: on_event(events.Warned(message)),
            tell=lambda message: on_event(events.Noted(message)),
        )
        try:
            title = find_title(options.source, source, store, running, on_event)
            _hear_and_read(title, store, on_event)
            setups = [
                set_up(options, title, store, running, on_event, codec)
                for codec in codecs_of(options)
            ]
            measurer = Measurer(title, (setups[0].model,), store, running, on_event)
            found = [_solve(setup, measurer) for setup in setups]
            done = _deliver(options, found, measurer, clock)
            record.note(measurer.keys(_named(options.also, title)))
            record.note([shots_key(title.source), features_key(title.source)])
            record.finish(options.out, len(done.ladder.rungs), done.run)
            return replace(done, manifest=record.manifest)
        finally:
            if owned:
                running.close()


def _hear_and_read(title: Title, store: Store, on_event: events.Listener) -> None:
    """Make sound and subtitles, which stay in the store: what does not decode is said before
    anything is encoded.

    Raises:
        SourceUnusable: a stream does not decode.
    """
    info = title.reference.info
    streams = len(info.audio) + sum(stream.text for stream in info.subtitles)
    if streams:
        on_event(events.StagePlanned("sound and text", streams, unit="streams"))
        for make in (audio_tracks, subtitle_tracks):
            _here(make, title, store)
        on_event(events.StageProgress("sound and text", streams, streams))


@dataclass(frozen=True, slots=True)
class _Solved:
    """One codec's ladder, all of it measured."""

    setup: Setup
    done: Done
    reasons: Mapping[Request, str]
    """Why each point was asked for."""
    measured: frozenset[Request]
    costs: Costs
    """Of this codec's measurements alone."""

    @property
    def requests(self) -> list[list[Request]]:
        """By rung, then by shot."""
        return [
            [(shot, choice.point) for shot, choice in enumerate(rung.choices)]
            for rung in self.done.plan.rungs
        ]


def _solve(setup: Setup, measurer: Measurer) -> _Solved:
    """Measure what the search asks for until it is done.

    Raises:
        Infeasible: the constraints cannot be kept.
    """
    reasons: dict[Request, str] = {}
    known_before, costs_before = set(measurer.known), replace(measurer.costs)
    while True:
        step = setup.search.step(known_to_search(setup, measurer.known))
        if isinstance(step, Done):
            return _Solved(
                setup,
                step,
                reasons,
                frozenset(measurer.known.keys() - known_before),
                measurer.costs.since(costs_before),
            )
        if isinstance(step, InfeasibleResult):
            raise forbidden(step)
        measurer.rounds += 1
        reasons |= step.reasons
        why = _in_short(step.reasons.values())
        measurer.on_event(events.Round(measurer.rounds, len(step.requests), why))
        measurer.measure(step.requests, stage=f"encode {measurer.rounds}")


def _in_short(reasons: Iterable[str]) -> str:
    """Some of the reasons, for one line; ``measurements.json`` has them all."""
    different = list(dict.fromkeys(reasons))
    shown = different[:MOST_REASONS]
    more = len(different) - len(shown)
    return "; ".join([*shown, *([f"and {more} more like these"] if more else [])])


def _deliver(
    options: RunOptions, found: Sequence[_Solved], measurer: Measurer, clock: _Clock
) -> RunResult:
    first, several = found[0], len(found) > 1
    setup, title, store, on_event = first.setup, measurer.title, measurer.store, measurer.on_event
    plan = first.done.plan
    ladders = {one.setup.recipe.codec: _points(one, measurer) for one in found}
    kept = kept_rungs(ladders)
    chosen = [
        (one, own, number)
        for one, own in zip(found, _names(found), strict=True)
        for number in kept[one.setup.recipe.codec]
    ]
    delivered = sorted({r for one, _, number in chosen for r in one.requests[number]})
    grid = measurer.known
    artwork = find_artwork(title, store, measurer.executor, on_event, options.face_model)
    missed = learn_from(setup, measurer, on_event)
    if options.also:
        measurer = Measurer(
            title,
            tuple(dict.fromkeys((setup.model, *_named(options.also, title)))),
            store,
            measurer.executor,
            on_event,
            measurer.costs,
        )
        measurer.measure(delivered, stage="also")
    measurer.secure(delivered, stage="again")
    rungs = [
        ChosenRung(
            name=own[number],
            recipe=one.setup.recipe,
            slope=one.done.plan.rungs[number].slope,
            predicted_quality=predicted_quality(
                one.setup.prediction, title.shots, one.requests[number]
            ),
            encodes=tuple(measurer.encode(request) for request in one.requests[number]),
        )
        for one, own, number in chosen
    ]
    on_event(events.StagePlanned("package", len(rungs), unit="rungs"))
    heard = _here(audio_tracks, title, store)
    read = _here(subtitle_tracks, title, store)
    cost = cost_of_locked(first.done.title, plan) if plan.policy == "locked" else None
    facts = [_search_facts(one, delivered) for one in found]
    with publishing(options.out) as directory:
        written = write_media(title, rungs, heard, read, store, directory)
        ladder = Ladder(
            title=title.facts(audio=bool(heard)),
            policy=plan.policy,
            profile=setup.profile.name,
            codec=setup.recipe.codec,
            recipe=setup.recipe.name,
            codecs=[
                CodecFacts(
                    codec=one.setup.recipe.codec,
                    recipe=one.setup.recipe.name,
                    search=fact,
                    rungs=len(own),
                    dropped=[
                        name
                        for number, name in enumerate(own)
                        if number not in kept[one.setup.recipe.codec]
                    ],
                    bd_rate_percent={
                        setup.model: _bd_percent(
                            ladders[setup.recipe.codec], ladders[one.setup.recipe.codec]
                        )
                    },
                )
                for one, fact, own in zip(found, facts, _names(found), strict=True)
            ]
            if several
            else [],
            tool=ffmpeg.version(),
            quality_model=setup.model,
            search=facts[0].model_copy(
                update={
                    "encodes": len(grid),
                    "delivered_encodes": len(delivered),
                    "grid_encodes": sum(fact.grid_encodes for fact in facts),
                }
            ),
            locked_cost=LockedCost(
                bd_rate_percent=getattr(cost.bd_rate, "percent", None),
                basis="predicted" if setup.prediction else "measured",
            )
            if cost is not None
            else None,
            constraints=[
                f"{one.setup.recipe.codec}: {note}" if several else note
                for one in found
                for note in (
                    *one.done.plan.notes,
                    *(note for rung in one.done.plan.rungs for note in rung.notes),
                )
            ],
            rungs=document_rungs(rungs, written),
        )
        on_event(events.StageProgress("package", len(rungs), len(rungs)))
        on_event(events.StagePlanned("verify", len(rungs), unit="rungs"))
        verified = _here(verify_directory, directory, ladder.rungs, ladder.frame_rate)
        on_event(events.StageProgress("verify", len(rungs), len(rungs)))
        (directory / "ladder.json").write_text(ladder.to_json())
        reasons = {request: why for one in found for request, why in one.reasons.items()}
        write_artwork(artwork, store, directory, previous_artwork(options.out))
        (directory / "measurements.json").write_text(
            measurements(title, grid, [one.setup for one in found], reasons).to_json()
        )
        (directory / "prefetch.json").write_text(build_prefetch(ladder, written).to_json())
        page = _report(directory, measurer)
        run = _run_document(options, ladder, measurer, missed, verified.cpu_seconds, clock)
        if several:
            run["codecs"] = {
                one.setup.recipe.codec: {
                    "encoded_now": one.costs.encoded,
                    "encode_cpu_seconds": round(one.costs.encode_cpu_seconds, 3),
                }
                for one in found
            }
        (directory / "run.json").write_bytes(canonical_json(run) + b"\n")
        if page is not None:
            text = report_page.render({**page, "run": report_page.shown_run(run)})
            (directory / report_page.NAME).write_text(text, encoding="utf-8")
    return RunResult(ladder=ladder, out=options.out, run=run)


def _report(directory: Path, measurer: Measurer) -> dict[str, Any] | None:
    """What the title's page shows; a package is whole without one."""
    options = report_page.ReportOptions(directory)
    try:
        return report_page.collect(
            *(options, Package.open(directory), measurer.on_event),
            measurer.title.reference,
        )
    except ShotladderError as error:
        measurer.on_event(events.Warned(f"no {report_page.NAME}: {error.message}"))
        return None


def _named(also: Iterable[str], title: Title) -> list[str]:
    """Further models as they are called on this title."""
    return [models.name_for(name, hdr=title.reference.hdr is not None) for name in also]


def _search_facts(one: _Solved, delivered: Sequence[Request]) -> SearchFacts:
    setup, recipe = one.setup, one.setup.recipe
    return SearchFacts(
        mode=setup.search.name,
        weights=setup.prediction.model if setup.prediction else None,
        encodes=len(one.measured),
        delivered_encodes=sum(point.recipe == recipe for _, point in delivered),
        grid_encodes=len(setup.sizes)
        * len(setup.title.shots)
        * len(setup.profile.crf_grid[recipe.codec]),
    )


def _points(one: _Solved, measurer: Measurer) -> list[RatePoint]:
    """Measured rate and quality of every rung of one codec's own ladder."""
    frames = [shot.frames for shot in measurer.title.shots]
    seconds = float(sum(frames) / measurer.title.reference.frame_rate)
    points = []
    for requests in one.requests:
        made = [measurer.known[request] for request in requests]
        quality = sum(
            count * each.mean_quality[one.setup.model]
            for count, each in zip(frames, made, strict=True)
        ) / sum(frames)
        points.append(RatePoint(sum(each.bits for each in made) / seconds, quality))
    return points


def _bd_percent(anchor: Sequence[RatePoint], test: Sequence[RatePoint]) -> float | None:
    """BD-rate of a codec's own ladder against the first codec's; 0 of the first itself."""
    claim = bd_claim(anchor, test)
    return round(claim.percent, 4) if isinstance(claim, BdRate) else None


def _names(found: Sequence[_Solved]) -> list[list[str]]:
    """Of every rung of every codec, also of those that are dropped."""
    return [
        rung_names(
            [rung.size.height for rung in one.done.plan.rungs],
            one.setup.recipe.codec if len(found) > 1 else None,
        )
        for one in found
    ]


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
        "options": options_document(options),
        "encoded_now": costs.encoded,
        "scored_now": costs.scored,
        "cpu_seconds": {
            "encode": round(costs.encode_cpu_seconds, 3),
            "vmaf": round(costs.vmaf_cpu_seconds, 3),
            "verify": round(verify_cpu, 3),
            "other": round(max(0.0, clock.cpu_seconds() - here), 3),
        },
        # Measured against predicted, before any correction.
        "missed": {name: _rounded(value) for name, value in miss_document(missed).items()}
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
