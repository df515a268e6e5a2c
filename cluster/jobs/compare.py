"""``ladder compare``: measure the baselines on the same title and state the three claims.

The fixed ladder and the best per-title CRF ladder are encoded as a customer would, each rung in
one process, with the recipe and the quality models of the ladder that they are compared with, and
their bits are counted as a package's are: media fragments, without init segments and sound.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from cluster import events
from cluster.execution.executor import DaskExecutor, Executor, Task
from cluster.package.comparison import ComparedRung, Comparison, compare_codecs
from cluster.package.package import Package
from cluster.stages.baselines import MeasuredRung, RungWork, find_rung, measure_rung
from cluster.stages.measurer import Measurer
from cluster.stages.title import Title
from cluster.store import Store, open_store
from encoder.baseline import FixedRung
from encoder.errors import FrameMismatch, ShotladderError
from encoder.media import OperatingPoint, Size
from ladder.baselines import fixed_rungs, per_title_crf_rungs
from ladder.bdrate import RatePoint
from ladder.claims import state_claims
from ladder.document import Quality
from ladder.title_curves import TitleCurves
from vmaf.models import PUBLISHED, name_for
from vmaf.pool import pool_scores


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """What is asked of a comparison."""

    directory: Path
    """A package."""
    source: Path | None = None
    """The title's source; by default where the run found it."""
    store: Path | str | None = None
    workers: int | None = None
    scheduler: str | None = None
    others: tuple[Path, ...] = ()
    """Packages of the same title, for instance with other codecs, to be compared with this one."""


def compare_ladder(
    options: CompareOptions, on_event: events.Listener, executor: Executor | None = None
) -> Comparison:
    """Measure what is missing and compare.

    Raises:
        BadInput: the folder holds no package, or the source is missing or another one.
        ToolFailed, StoreUnusable: a measurement failed; what was finished is kept.
    """
    package = Package.open(options.directory)
    ladder, recipe = package.ladder, package.recipe
    codecs = compare_codecs(package, [Package.open(other) for other in options.others])
    published = [name_for(model, hdr=ladder.title.hdr is not None) for model in PUBLISHED]
    models = tuple(dict.fromkeys((ladder.quality_model, *published)))
    with (
        contextlib.closing(open_store(options.store)) as store,
        store.scratch() as workdir,
    ):
        title = package.open_as_title(workdir, options.source)
        owned = executor is None
        running = executor or DaskExecutor(workers=options.workers, scheduler=options.scheduler)
        try:
            ours = _ours(package, Measurer(title, models, store, running, on_event))
            fixed = [
                FixedRung(recipe, rung.size.width, rung.size.height, rung.rate)
                for rung in fixed_rungs(ladder.title.width, ladder.title.height)
            ]
            curves = package.curves()
            per_title = [
                OperatingPoint(recipe, *rung.size, rung.crf)
                for rung in per_title_crf_rungs(curves, [rung.bitrate for rung in package.rungs()])
            ]
            measured = _measure([*fixed, *per_title], title, models, store, running, on_event)
        finally:
            if owned:
                running.close()
    rows = [_row(rung, package.seconds) for rung in measured]
    others = rows[: len(fixed)], rows[len(fixed) :]
    return Comparison(
        title=ladder.title.source,
        quality_model=ladder.quality_model,
        ours=tuple(ours),
        fixed=tuple(others[0]),
        per_title=tuple(others[1]),
        claims={
            model: state_claims(
                _points(ours, model), _points(others[0], model), _points(others[1], model)
            )
            for model in models
        },
        search=ladder.search.mode,
        bounds=_bounds(package, curves),
        codecs=codecs,
    )


def _ours(package: Package, measurer: Measurer) -> list[ComparedRung]:
    # The baselines are made with the first codec, and are compared with what is made with it.
    own = package.rungs()
    rungs = [package.requests(rung) for rung in own]
    measurer.measure(sorted({request for rung in rungs for request in rung}), "ours")
    compared = []
    for rung, requests in zip(own, rungs, strict=True):
        encodes = [measurer.encode(request) for request in requests]
        if [made.num_bytes for made in encodes] != [segment.bytes for segment in rung.segments]:
            raise FrameMismatch(
                f"rung {rung.name} of the package is not what this ffmpeg encodes; "
                "run the title again, then compare"
            )
        compared.append(
            ComparedRung(
                name=rung.name,
                width=rung.width,
                height=rung.height,
                bitrate=rung.bitrate,
                quality={
                    model: Quality(
                        **pool_scores(
                            [score for e in encodes for score in e.scores[model]]
                        ).as_dict()
                    )
                    for model in measurer.models
                },
            )
        )
    return compared


def _bounds(package: Package, curves: TitleCurves) -> tuple[str, ...]:
    """What the per-title ladder could not be chosen from, because nobody measured it."""
    search = package.ladder.search
    if search.mode == "exhaustive":
        return ()
    every = {cell.size for cell in package.cells(package.recipe).values()}
    spans: dict[Size, tuple[float, float]] = {}
    for size, of_shots in curves.curves.items():
        ends = [[point.crf for point in curve.points()] for curve in of_shots]
        low, high = max(map(min, ends)), min(map(max, ends))
        if low <= high:
            spans[size] = low, high
    seen = [f"{size.height}p at CRF {low:g} to {high:g}" for size, (low, high) in spans.items()]
    unseen = sorted(size.height for size in every - spans.keys())
    return (
        f"the per-title ladder is the best of {', '.join(seen) or 'nothing'}, by curves through "
        f"what the {search.mode} search measured of all shots ({search.encodes} encodes; the full "
        f"grid has {search.grid_encodes})"
        + (f", without {', '.join(f'{height}p' for height in unseen)}" if unseen else "")
        + "; a better one may exist, so claim 2 may be too good; a ladder made with "
        "`--search exhaustive` is compared with the best of the whole grid",
    )


def _measure(
    rungs: Sequence[FixedRung | OperatingPoint],
    title: Title,
    models: tuple[str, ...],
    store: Store,
    executor: Executor,
    on_event: events.Listener,
) -> list[MeasuredRung]:
    keyframes = tuple(sorted({f for shot in title.shots for f in (shot.start, *shot.cuts)}))
    works = [RungWork(title.source, rung, keyframes, models, store.place) for rung in rungs]
    missing = [n for n, work in enumerate(works) if find_rung(store, work) is None]
    cached = len(works) - len(missing)
    on_event(events.StagePlanned("baselines", len(works), cached, unit="rungs"))
    done, spent, expected = cached, 0.0, sum(works[n].cost for n in missing)
    tasks = [
        Task(str(n), measure_rung, (works[n],), works[n].cost, f"baseline {_name(rungs[n])}")
        for n in missing
    ]
    failures: list[ShotladderError] = []
    for outcome in executor.run(tasks):
        if isinstance(outcome.error, ShotladderError):
            failures.append(outcome.error)
            continue
        if outcome.error is not None:
            raise outcome.error
        done += 1
        spent += works[int(outcome.task_id)].cost
        on_event(events.StageProgress("baselines", done, len(works), cached, spent / expected))
    if failures:
        raise failures[0]
    found = [find_rung(store, work) for work in works]
    return [rung for rung in found if rung is not None]


def _name(rung: FixedRung | OperatingPoint) -> str:
    if isinstance(rung, FixedRung):
        return f"{rung.height}p {rung.bitrate / 1000:.0f}k"
    return f"{rung.height}p CRF {rung.crf:g}"


def _row(measured: MeasuredRung, seconds: Fraction) -> ComparedRung:
    return ComparedRung(
        name=_name(measured.rung),
        width=measured.rung.width,
        height=measured.rung.height,
        bitrate=float(8 * measured.media_bytes / seconds),
        quality={
            model: Quality(**pool_scores(scores).as_dict())
            for model, scores in measured.scores.items()
        },
    )


def _points(rungs: Sequence[ComparedRung], model: str) -> list[RatePoint]:
    return [RatePoint(rung.bitrate, rung.quality[model].mean) for rung in rungs]
