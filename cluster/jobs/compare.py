"""``ladder compare``: measure the baselines on the same title, and state the three claims.

The fixed ladder and the best per-title CRF ladder are encoded as a customer would: each rung in
one process. Recipe and quality models are those of the ladder that they are compared with, and
bits are counted as in a package: media fragments, without init segments and sound.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from cluster import events
from cluster.execution.executor import Executor, Task, connect
from cluster.package.assemble import encodes_quality, pooled_quality
from cluster.package.comparison import ComparedRung, Comparison, compare_codecs
from cluster.package.package import Package
from cluster.stages.baselines import MeasuredRung, RungWork, find_rung, measure_rung
from cluster.stages.measurer import Measurer
from cluster.stages.quarantine import reading
from cluster.stages.title import Title
from cluster.store import Store, open_store
from encoder.baseline import FixedRung
from encoder.errors import FrameMismatch, ShotladderError
from encoder.media import OperatingPoint, Size
from ladder.baselines import fixed_rungs, per_title_crf_rungs
from ladder.bdrate import RatePoint
from ladder.claims import state_claims
from ladder.title_curves import TitleCurves
from vmaf.models import PUBLISHED, name_for


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """Options of a comparison."""

    directory: Path
    """Folder of the package."""
    source: Path | None = None
    """Path of the source; None is where the run found it."""
    store: Path | str | None = None
    """Folder or URL of the store; None is the default store."""
    workers: int | None = None
    """Number of local worker processes; None is one per core."""
    scheduler: str | None = None
    """Address of a running Dask scheduler, instead of local workers."""
    others: tuple[Path, ...] = ()
    """Folders of other packages of the same title, for example of other codecs, whose BD-rate
    against this package is stated."""


def compare_ladder(
    options: CompareOptions, on_event: events.Listener, executor: Executor | None = None
) -> Comparison:
    """Encode and score the baselines, as far as the store does not have them, and compare.

    Raises:
        BadInput: the folder holds no package, or the source is missing or another one.
        FrameMismatch: the package is not what this ffmpeg encodes.
        ToolFailed, StoreUnusable: a measurement failed; what was finished is kept.
    """
    package = Package.open(options.directory)
    ladder, recipe = package.ladder, package.recipe
    codecs = compare_codecs(package, [Package.open(other) for other in options.others])
    published = [name_for(model, hdr=ladder.title.hdr is not None) for model in PUBLISHED]
    models = tuple(dict.fromkeys((ladder.quality_model, *published)))
    fixed_points = [
        FixedRung(recipe, rung.size.width, rung.size.height, rung.rate)
        for rung in fixed_rungs(ladder.title.width, ladder.title.height)
    ]
    with (
        contextlib.closing(open_store(options.store)) as store,
        store.scratch() as workdir,
    ):
        title = package.open_as_title(workdir, options.source)
        with (
            connect(executor, workers=options.workers, scheduler=options.scheduler) as running,
            reading(store, title.source) as store,
        ):
            ours = _ours(package, Measurer(title, models, store, running, on_event))
            curves = package.curves()
            per_title_points = [
                OperatingPoint(recipe, *rung.size, rung.crf)
                for rung in per_title_crf_rungs(curves, [rung.bitrate for rung in package.rungs()])
            ]
            baselines = _measure(
                [*fixed_points, *per_title_points], title, models, store, running, on_event
            )
    rungs = [_baseline(rung, package.seconds) for rung in baselines]
    fixed, per_title = rungs[: len(fixed_points)], rungs[len(fixed_points) :]
    return Comparison(
        title=ladder.title.source,
        quality_model=ladder.quality_model,
        ours=tuple(ours),
        fixed=tuple(fixed),
        per_title=tuple(per_title),
        claims={
            model: state_claims(
                _points(ours, model), _points(fixed, model), _points(per_title, model)
            )
            for model in models
        },
        search=ladder.search.mode,
        bounds=tuple(_bounds(package, curves)),
        codecs=codecs,
    )


def _ours(package: Package, measurer: Measurer) -> list[ComparedRung]:
    """Score the rungs of the package's first codec by all models.

    Raises:
        FrameMismatch: the package is not what this ffmpeg encodes.
    """
    # The baselines are made with the first codec, so its rungs alone are compared with them.
    rungs = [(rung, package.requests(rung)) for rung in package.rungs()]
    measurer.measure(sorted({request for _, requests in rungs for request in requests}), "ours")
    compared = []
    for rung, requests in rungs:
        encodes = [measurer.measured_encode(request) for request in requests]
        if [encode.num_bytes for encode in encodes] != [seg.bytes for seg in rung.segments]:
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
                quality={model: encodes_quality(encodes, model) for model in measurer.models},
            )
        )
    return compared


def _bounds(package: Package, curves: TitleCurves) -> Iterable[str]:
    """Say what the per-title ladder was chosen from, where that was not the whole grid."""
    search = package.ladder.search
    if search.mode == "exhaustive":
        return
    spans: dict[Size, tuple[float, float]] = {}
    for size, by_shot in curves.curves.items():
        crfs = [[point.crf for point in curve.points()] for curve in by_shot]
        low, high = max(map(min, crfs)), min(map(max, crfs))
        if low <= high:
            spans[size] = low, high
    measured = {cell.size for cell in package.cells(package.recipe).values()}
    missing = sorted(size.height for size in measured - spans.keys())
    covered = [f"{size.height}p at CRF {low:g} to {high:g}" for size, (low, high) in spans.items()]
    yield (
        f"the per-title ladder is the best of {', '.join(covered) or 'nothing'}, on curves through "
        f"what the {search.mode} search measured of all shots ({search.encodes} encodes; the full "
        f"grid has {search.grid_encodes})"
        + (f", without {', '.join(f'{height}p' for height in missing)}" if missing else "")
        + "; a better one may exist, so claim 2 may be too favourable; make the ladder with "
        "`--search exhaustive` to compare it with the best of the whole grid"
    )


def _measure(
    rungs: Sequence[FixedRung | OperatingPoint],
    title: Title,
    models: tuple[str, ...],
    store: Store,
    executor: Executor,
    on_event: events.Listener,
) -> list[MeasuredRung]:
    """Encode and score baseline rungs, as far as the store does not have them.

    Raises:
        ShotladderError: a rung failed; the others were finished.
    """
    keyframes = tuple(sorted({f for shot in title.shots for f in (shot.start, *shot.cuts)}))
    works = [RungWork(title.source, rung, keyframes, models, store.place) for rung in rungs]
    missing = [number for number, work in enumerate(works) if find_rung(store, work) is None]
    spent, expected = 0.0, sum(works[number].cost for number in missing)
    tasks = [
        Task(str(n), measure_rung, (works[n],), works[n].cost, f"baseline {_name(rungs[n])}")
        for n in missing
    ]
    failures: list[ShotladderError] = []
    cached = len(works) - len(missing)
    with events.stage(on_event, "baselines", len(works), unit="rungs", cached=cached) as progress:
        for outcome in executor.run(tasks):
            if isinstance(outcome.error, ShotladderError):
                failures.append(outcome.error)
                continue
            if outcome.error is not None:
                raise outcome.error
            spent += works[int(outcome.task_id)].cost
            progress.advance(share=spent / expected)
        if failures:
            raise failures[0]
    measured = [find_rung(store, work) for work in works]
    return [rung for rung in measured if rung is not None]


def _name(rung: FixedRung | OperatingPoint) -> str:
    if isinstance(rung, FixedRung):
        return f"{rung.height}p {rung.bitrate / 1000:.0f}k"
    return f"{rung.height}p CRF {rung.crf:g}"


def _baseline(measured: MeasuredRung, seconds: Fraction) -> ComparedRung:
    return ComparedRung(
        name=_name(measured.rung),
        width=measured.rung.width,
        height=measured.rung.height,
        bitrate=float(8 * measured.media_bytes / seconds),
        quality={model: pooled_quality(scores) for model, scores in measured.scores.items()},
    )


def _points(rungs: Sequence[ComparedRung], model: str) -> list[RatePoint]:
    return [RatePoint(rung.bitrate, rung.quality[model].mean) for rung in rungs]
