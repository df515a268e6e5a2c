"""``ladder compare``: measure the baselines on the same title, and state the three claims.

The baselines are encoded as a customer would, each rung in one process, and do not depend on how
the package was searched. The fixed ladder does not follow the package either: it is always plain
x264 at ``medium`` (x265 for a title of high dynamic range). The per-title CRF ladder is made twice,
by the package's own recipe and by that plain one, so that what the recipe saves is not taken for
what the choice by shots saves. Bits are counted as in a package: media fragments, without init
segments and sound.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from cluster import events
from cluster.execution.executor import Executor, connect
from cluster.execution.security import SharedScheduler
from cluster.jobs.baselines import Baselines, find_per_title
from cluster.package.assemble import encodes_quality
from cluster.package.comparison import (
    ComparedLadder,
    ComparedRung,
    Comparison,
    compare_codecs,
    compared_parts,
)
from cluster.package.own_ladder import OwnLadder, read_own_ladder
from cluster.package.package import Package
from cluster.package.receipts import Receipts, receipts_of
from cluster.stages.baselines import RungWork
from cluster.stages.measurer import Measurer
from cluster.stages.quarantine import reading
from cluster.store import open_store
from encoder.baseline import FixedRung, plain_medium
from encoder.errors import BadInput, FrameMismatch
from encoder.media import OperatingPoint, Request, Size
from encoder.names import shown
from encoder.recipes import Recipe
from ladder.audience import SHARES
from ladder.baselines import fixed_rungs
from ladder.bdrate import RatePoint
from ladder.document import Rung
from ladder.payback import Prices
from ladder.per_title import Hint, PerTitleSearch, hint_for, target_rates
from vmaf import models as quality_models


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
    scheduler: str | SharedScheduler | None = None
    """A running Dask scheduler, or only its address, instead of local workers."""
    others: tuple[Path, ...] = ()
    """Folders of other packages of the same title, for example of other codecs, whose BD-rate
    against this package is stated."""
    also: tuple[str, ...] = ()
    """Further quality models to state the claims by."""
    shares: Mapping[str, float] = field(default_factory=lambda: dict(SHARES))
    """Share of each class of viewers (:mod:`ladder.audience`), summing to 1."""
    prices: Prices = field(default_factory=Prices)
    """Prices of egress and CPU, for when the package has paid."""
    baseline: Path | None = None
    """A CSV file with the rates and sizes of the user's own ladder, or the folder of a package of
    the same title, in place of the fixed ladder."""


def compare_ladder(
    options: CompareOptions, on_event: events.Listener, executor: Executor | None = None
) -> Comparison:
    """Encode and score the baselines, as far as the store does not have them, and compare.

    What is missing and about how much CPU time it takes is said by an event before it begins.

    Raises:
        BadInput: the folder holds no package, the source is missing or another one, or a quality
            model is unknown.
        FrameMismatch: the package is not what this ffmpeg encodes.
        ToolFailed, StoreUnusable: a measurement failed; what was finished is kept.
    """
    package = Package.open(options.directory)
    before = _before(options.baseline, package, on_event)
    codecs = compare_codecs(package, [Package.open(other) for other in options.others])
    models = _models(package, options.also)
    judges = tuple(filter(quality_models.is_judge, models))
    rungs = {recipe: package.rungs(recipe) for recipe in package.recipes if package.rungs(recipe)}
    plain = plain_medium(hdr=package.ladder.title.hdr is not None)
    searches = per_title_searches(package, rungs, plain)
    with (
        contextlib.closing(open_store(options.store)) as store,
        store.scratch() as workdir,
    ):
        title = package.open_as_title(workdir, options.source)
        with (
            connect(executor, workers=options.workers, scheduler=options.scheduler) as running,
            reading(store, title.source) as store,
        ):
            measurer = Measurer(title, models, store, running, on_event)
            baselines = Baselines(title, store, running, on_event)
            own = before if isinstance(before, OwnLadder) else None
            fixed_points = [] if isinstance(before, Package) else _fixed_points(package, plain, own)
            delivered = [package, *([before] if isinstance(before, Package) else [])]
            _say_cost(measurer, delivered, baselines, fixed_points, searches)
            ours = _ours(package, rungs, measurer)
            baselines.make(fixed_points, models)
            per_title = find_per_title(baselines, searches, package.quality_model)
            baselines.make([point for points in per_title.values() for point in points], models)
            if isinstance(before, Package):
                fixed = _delivered(before, measurer)
            else:
                fixed = baselines.ladder(plain, fixed_points, models)
            found = {
                recipe: baselines.ladder(recipe, points, models)
                for recipe, points in per_title.items()
            }
    return Comparison(
        title=package.ladder.title.source,
        quality_model=package.quality_model,
        judges=judges,
        parts=compared_parts(
            {recipe.codec: (ladder, found[recipe]) for recipe, ladder in ours.items()},
            fixed,
            found[plain],
            models,
            judges,
        ),
        fixed=fixed,
        plain_per_title=found[plain],
        search=package.ladder.search.mode,
        codecs=codecs,
        receipts=_receipts(package, ours, fixed, models, options),
        baseline=_name(before),
    )


def _before(
    baseline: Path | None, package: Package, on_event: events.Listener
) -> OwnLadder | Package | None:
    """Return the user's own ladder; None where the fixed one is compared with.

    Raises:
        BadInput: there is none at the path, or it is of another title.
    """
    if baseline is None:
        return None
    if not baseline.is_dir():
        title = package.ladder.title
        own = read_own_ladder(baseline, title.width, title.height)
        if own.left_out:
            on_event(
                events.Warned(
                    f"{own.name}: {'; '.join(own.left_out)}: larger than the title, which has "
                    f"{title.width}x{title.height}, so left out"
                )
            )
        return own
    other = Package.open(baseline)
    compare_codecs(package, [other])  # of the same title
    if other.shots != package.shots:
        raise BadInput(
            f"{baseline} is cut at other shots than {package.directory}; run it again, or give its "
            "rates and sizes as a CSV file"
        )
    return other


def _name(before: OwnLadder | Package | None) -> str | None:
    if before is None:
        return None
    return before.name if isinstance(before, OwnLadder) else shown(before.directory.name)


def _receipts(
    package: Package,
    ours: Mapping[Recipe, ComparedLadder],
    fixed: ComparedLadder,
    models: Sequence[str],
    options: CompareOptions,
) -> Receipts:
    return receipts_of(
        {
            model: {recipe.codec: ladder.points(model) for recipe, ladder in ours.items()}
            for model in models
        },
        {model: fixed.points(model) for model in models},
        seconds=float(package.seconds),
        cpu_seconds=package.cpu_seconds,
        shares=options.shares,
        prices=options.prices,
    )


def _models(package: Package, also: Sequence[str]) -> tuple[str, ...]:
    """Return the package's quality model, the judges, and further models.

    Raises:
        BadInput: a model is unknown.
    """
    asked = [*quality_models.JUDGES, *map(quality_models.check, also)]
    named = [quality_models.beside(package.quality_model, name) for name in asked]
    return tuple(dict.fromkeys((package.quality_model, *named)))


# -- what is to be measured --------------------------------------------------------------------


def _fixed_points(package: Package, plain: Recipe, own: OwnLadder | None = None) -> list[FixedRung]:
    codec: Literal["x264", "x265"] = "x265" if plain.codec == "x265" else "x264"
    title = package.ladder.title
    return [
        FixedRung(codec, rung.size.width, rung.size.height, rung.rate)
        for rung in (own.rungs if own else fixed_rungs(title.width, title.height))
    ]


def per_title_searches(
    package: Package, rungs: Mapping[Recipe, Sequence[Rung]], plain: Recipe
) -> list[PerTitleSearch]:
    """Return the searches for the per-title CRF ladders of each recipe and of the plain one.

    They begin at what the package delivers: sizes and CRFs of its rungs, at their rates.
    """
    sizes = _sizes(package)
    searches = {
        recipe: PerTitleSearch(
            recipe,
            sizes,
            target_rates([rung.bitrate for rung in listed]),
            tuple(_hint(package, rung, recipe) for rung in listed),
        )
        for recipe, listed in rungs.items()
    }
    # The plain ladder begins at the rungs of its own codec, if there are any.
    nearest = next((recipe for recipe in rungs if recipe.codec == plain.codec), next(iter(rungs)))
    model = package.quality_model
    searches[plain] = PerTitleSearch(
        plain,
        sizes,
        target_rates([rung.bitrate for rung in rungs[nearest]]),
        tuple(_hint(package, rung, plain) for rung in rungs[nearest]),
        reach=max(rung.quality[model].mean for listed in rungs.values() for rung in listed),
    )
    return list(searches.values())


def _hint(package: Package, rung: Rung, recipe: Recipe) -> Hint:
    frames = [segment.end_frame - segment.start_frame for segment in rung.segments]
    crfs = [segment.crf for segment in rung.segments]
    mean = sum(n * crf for n, crf in zip(frames, crfs, strict=True)) / sum(frames)
    size = Size(rung.width, rung.height)
    return hint_for(recipe, package.recipe_of(rung), size, mean, rung.bitrate)


def _sizes(package: Package) -> tuple[Size, ...]:
    """Return the sizes that the package's rungs could have, smallest first."""
    title = package.ladder.title
    sizes = {segment.size for rung in package.ladder.rungs for segment in rung.segments}
    sizes |= {cell.size for cell in package.measurements.cells}
    # The profile of a package without run.json may be unknown; it was measured at these sizes.
    with contextlib.suppress(BadInput):
        named = tuple(package.options.get("heights") or ())
        sizes |= set(package.profile.sizes(title.width, title.height, named))
    return tuple(sorted(sizes, key=lambda size: (size.width * size.height, size)))


def _say_cost(
    measurer: Measurer,
    packages: Sequence[Package],
    baselines: Baselines,
    fixed: Sequence[FixedRung],
    searches: Sequence[PerTitleSearch],
) -> None:
    """Say what is missing in the store, and about how much CPU time it takes."""
    works = baselines.missing(fixed, measurer.models)
    for search in searches:
        works += _missing(search, baselines, measurer.models)
    package = packages[0]
    requests = {request for one in packages for request in _requests(one, one.ladder.rungs)}
    unscored = measurer.missing(sorted(requests))
    baselines.expected_cost = sum(work.cost for work in works)
    size = package.ladder.title.width, package.ladder.title.height
    scoring = sum(
        quality_models.typical_cpu_seconds(model, *size, measurer.title.shots[shot].frames)
        for shot, _ in unscored
        for model in measurer.models
    )
    if works:
        minutes = (baselines.expected_cost + scoring) / 60
        measurer.on_event(
            events.Noted(
                f"the baselines take about {len(works)} encodes of the whole title, and everything "
                f"about {minutes:.{1 if minutes < 10 else 0}f} minutes of CPU time"
            )
        )


def _missing(search: PerTitleSearch, baselines: Baselines, models: Sequence[str]) -> list[RungWork]:
    """Return about what a search still has to encode; nothing where the store has it all."""
    known: dict[OperatingPoint, RatePoint] = {}
    while wanted := search.wanted(known):
        if baselines.missing(wanted, models[:1]):
            return baselines.missing(search.expected(), models)
        known |= {point: baselines.rate_point(point, models[0]) for point in wanted}
    return []


# -- what was measured -------------------------------------------------------------------------


def _requests(package: Package, rungs: Sequence[Rung]) -> list[Request]:
    return sorted({request for rung in rungs for request in package.requests(rung)})


def _ours(
    package: Package, rungs: Mapping[Recipe, Sequence[Rung]], measurer: Measurer
) -> dict[Recipe, ComparedLadder]:
    """Score the package's rungs by all models.

    Raises:
        FrameMismatch: the package is not what this ffmpeg encodes.
    """
    measurer.measure(_requests(package, package.ladder.rungs), "ours")
    return {
        recipe: ComparedLadder(
            recipe.name, tuple(_our_rung(package, rung, measurer) for rung in listed)
        )
        for recipe, listed in rungs.items()
    }


def _delivered(package: Package, measurer: Measurer) -> ComparedLadder:
    """Score the rungs of another package by all models.

    Raises:
        FrameMismatch: the package is not what this ffmpeg encodes.
    """
    measurer.measure(_requests(package, package.ladder.rungs), "baseline package")
    rungs = sorted(package.ladder.rungs, key=lambda rung: rung.bitrate)
    recipes = ", ".join(str(recipe) for recipe in package.recipes)
    return ComparedLadder(recipes, tuple(_our_rung(package, rung, measurer) for rung in rungs))


def _our_rung(package: Package, rung: Rung, measurer: Measurer) -> ComparedRung:
    encodes = [measurer.measured_encode(request) for request in package.requests(rung)]
    if [encode.num_bytes for encode in encodes] != [seg.bytes for seg in rung.segments]:
        raise FrameMismatch(
            f"rung {rung.name} of the package is not what this ffmpeg encodes; "
            "run the title again, then compare"
        )
    return ComparedRung(
        name=rung.name,
        width=rung.width,
        height=rung.height,
        bitrate=rung.bitrate,
        quality={model: encodes_quality(encodes, model) for model in measurer.models},
    )
