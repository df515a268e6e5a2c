"""``ladder compare``: measure the baselines on the same title and state the three claims.

The fixed ladder and the best per-title CRF ladder are encoded as a customer would, each rung in
one process, with the recipe and the quality models of the ladder that they are compared with, and
their bits are counted as a package's are: media fragments, without init segments and sound.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from cluster import events
from cluster.execution.executor import DaskExecutor, Executor, Task
from cluster.package.inspect import read_ladder, read_measurements
from cluster.stages.baselines import MeasuredRung, RungWork, collect_rung, measure_rung
from cluster.stages.measurer import Measurer
from cluster.stages.title import Title, open_title
from cluster.store import Store, open_store
from encoder.baseline import FixedRung
from encoder.errors import BadInput, FrameMismatch, ShotladderError
from encoder.media import OperatingPoint, Request, Shot, Size
from encoder.recipes import by_name
from ladder.baselines import fixed_rungs, per_title_crf_rungs
from ladder.bdrate import BdRate, RatePoint
from ladder.claims import Claims, bd_claim, state_claims
from ladder.curves import MeasuredCurve, Measurement
from ladder.document import Ladder, Measurements, Quality
from ladder.rungs import TitleCurves
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


@dataclass(frozen=True, slots=True)
class ComparedRung:
    """A rung of one of the ladders, measured."""

    name: str
    width: int
    height: int
    bitrate: float
    """Bit/s."""
    quality: Mapping[str, Quality]
    """By model."""


@dataclass(frozen=True, slots=True)
class CodecComparison:
    """One codec's whole ladder against another's, on the same title and measured rungs."""

    anchor: str
    """Recipe."""
    test: str
    """Recipe."""
    percent: float | None
    """BD-rate; negative: the test needs fewer bits. None: no common range of quality."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The claims, with what they are made of."""

    title: str
    quality_model: str
    ours: tuple[ComparedRung, ...]
    fixed: tuple[ComparedRung, ...]
    per_title: tuple[ComparedRung, ...]
    claims: Mapping[str, Claims]
    """By model."""
    search: str
    """That ours was found by: ``predict``, ``sparse`` or ``exhaustive``."""
    bounds: tuple[str, ...] = ()
    """In words: what keeps a baseline from being the best of its kind, so that a claim against it
    may say too much for ours. The fixed ladder is never bounded."""

    codecs: tuple[CodecComparison, ...] = ()
    """By the ladder's own quality model: of a ladder of several codecs each against the first,
    and of other packages that were named."""

    @property
    def exhaustive(self) -> bool:
        """Whether the ladder is itself what the exhaustive search reaches: the limit."""
        return self.search == "exhaustive"


def compare_ladder(
    options: CompareOptions, on_event: events.Listener, executor: Executor | None = None
) -> Comparison:
    """Measure what is missing and compare.

    Raises:
        BadInput: the folder holds no package, or the source is missing or another one.
        ToolFailed, StoreUnusable: a measurement failed; what was finished is kept.
    """
    ladder = read_ladder(options.directory)
    known = read_measurements(options.directory)
    codecs = compare_codecs(ladder, [(other, read_ladder(other)) for other in options.others])
    path = options.source or source_of(options.directory)
    published = [name_for(model, hdr=ladder.title.hdr is not None) for model in PUBLISHED]
    models = tuple(dict.fromkeys((ladder.quality_model, *published)))
    with (
        contextlib.closing(open_store(options.store)) as store,
        store.scratch() as workdir,
    ):
        source = open_title(path, workdir, tone_map=ladder.title.tone_mapped is not None)
        if source.sha256 != ladder.title.sha256:
            raise BadInput(
                f"{path} is not the source that {options.directory} was made from "
                "(its content differs); name the right one with --source"
            )
        title = Title(
            name=ladder.title.source,
            source=source,
            shots=tuple(
                Shot(row.start_frame, row.end_frame, tuple(row.cuts)) for row in known.shots
            ),
        )
        owned = executor is None
        running = executor or DaskExecutor(workers=options.workers, scheduler=options.scheduler)
        try:
            ours = _ours(ladder, Measurer(title, models, store, running, on_event))
            fixed = [
                FixedRung(by_name(ladder.recipe), rung.size.width, rung.size.height, rung.rate)
                for rung in fixed_rungs(ladder.title.width, ladder.title.height)
            ]
            curves = _curves(ladder, known)
            per_title = [
                OperatingPoint(by_name(ladder.recipe), rung.size.width, rung.size.height, rung.crf)
                for rung in per_title_crf_rungs(
                    curves, [rung.bitrate for rung in ladder.rungs if rung.codec == ladder.codec]
                )
            ]
            measured = _measure([*fixed, *per_title], title, models, store, running, on_event)
        finally:
            if owned:
                running.close()
    seconds = ladder.title.frames / Fraction(ladder.title.frame_rate)
    rows = [_row(rung, seconds) for rung in measured]
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
        bounds=_bounds(ladder, known, curves),
        codecs=codecs,
    )


def compare_codecs(
    ladder: Ladder, others: Sequence[tuple[Path, Ladder]]
) -> tuple[CodecComparison, ...]:
    """BD-rate of each other codec's ladder, by the quality model of ``ladder``. Reads no media.

    Raises:
        BadInput: another package is of another title, or was measured by another model.
    """
    model = ladder.quality_model
    found = [
        CodecComparison(ladder.recipe, one.recipe, one.bd_rate_percent[model])
        for one in ladder.codecs[1:]
    ]
    anchor = _rungs_of(ladder, model)
    for path, other in others:
        if other.title.sha256 != ladder.title.sha256 or other.title.frames != ladder.title.frames:
            raise BadInput(f"{path} is a package of {other.title.source}, another title")
        if any(model not in rung.quality for rung in other.rungs):
            raise BadInput(f"{path} was not measured by {model}; run it again with --also {model}")
        claim = bd_claim(anchor, _rungs_of(other, model))
        percent = claim.percent if isinstance(claim, BdRate) else None
        found.append(CodecComparison(ladder.recipe, other.recipe, percent))
    return tuple(found)


def _rungs_of(ladder: Ladder, model: str) -> list[RatePoint]:
    """Rungs of a ladder's first codec."""
    return [
        RatePoint(rung.bitrate, rung.quality[model].mean)
        for rung in ladder.rungs
        if rung.codec == ladder.codec
    ]


def source_of(directory: Path) -> Path:
    """Where the run that made a package found its source.

    Raises:
        BadInput: ``run.json`` does not say.
    """
    try:
        return Path(json.loads((directory / "run.json").read_bytes())["source"])
    except (OSError, ValueError, KeyError, TypeError):
        raise BadInput(
            f"{directory / 'run.json'} does not say where the source is; name it with --source"
        ) from None


def _ours(ladder: Ladder, measurer: Measurer) -> list[ComparedRung]:
    # The baselines are made with the first codec, and are compared with what is made with it.
    own = [rung for rung in ladder.rungs if rung.codec == ladder.codec]
    rungs: list[list[Request]] = [
        [
            (
                s.shot,
                OperatingPoint(by_name(rung.recipe or ladder.recipe), s.width, s.height, s.crf),
            )
            for s in rung.segments
        ]
        for rung in own
    ]
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


def _curves(ladder: Ladder, known: Measurements) -> TitleCurves:
    """The curves through what was measured, at the sizes where every shot was."""
    cells: dict[Size, dict[int, dict[float, Measurement]]] = {}
    for cell in known.cells:
        if cell.recipe not in (None, ladder.recipe):
            continue
        by_shot = cells.setdefault(cell.size, {})
        by_shot.setdefault(cell.shot, {})[cell.crf] = Measurement(8 * cell.bytes, cell.quality)
    shots = tuple(Shot(row.start_frame, row.end_frame, tuple(row.cuts)) for row in known.shots)
    return TitleCurves(
        frame_rate=Fraction(ladder.title.frame_rate),
        recipe=by_name(ladder.recipe),
        shots=shots,
        curves={
            size: tuple(
                MeasuredCurve(shot.frames, by_shot[number]) for number, shot in enumerate(shots)
            )
            for size, by_shot in cells.items()
            if len(by_shot) == len(shots)
        },
    )


def _bounds(ladder: Ladder, known: Measurements, curves: TitleCurves) -> tuple[str, ...]:
    """What the per-title ladder could not be chosen from, because nobody measured it."""
    search = ladder.search
    if search.mode == "exhaustive":
        return ()
    own = [cell for cell in known.cells if cell.recipe in (None, ladder.recipe)]
    every = {cell.size for cell in own}
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
    missing = [n for n, work in enumerate(works) if collect_rung(store, work) is None]
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
    found = [collect_rung(store, work) for work in works]
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
