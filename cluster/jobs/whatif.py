"""What another set of rungs, constraint, profile or policy would give, with no new encode.

A ladder that was searched exhaustively is asked through its measured points, with what lies between
two of them interpolated. One that was predicted is asked through the prediction that its run
started from, corrected by everything that was measured since. Every answer says how many of its
encodes exist.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from cluster.execution.executor import InlineExecutor
from cluster.package.package import Package
from cluster.stages.analysis import find_title
from cluster.stages.prediction import packaged_weights, predict_title
from cluster.store import open_store
from encoder.errors import BadInput, Infeasible, ShotladderError
from encoder.media import Request, Size
from ladder.bdrate import BdRate, NoOverlap, RatePoint, bd_rate, monotone
from ladder.claims import MEDIANS, ViewersClaim, viewers_claim
from ladder.complexity.prediction import correct
from ladder.constraints import InfeasibleResult
from ladder.document import Rung
from ladder.locked_cost import CostOfLocked, RungCost, cost_of_sizes
from ladder.profiles import Profile, as_profile, rung_sizes
from ladder.rungs import LadderPlan, Policy, RungPlan, solve
from ladder.title_curves import TitleCurves

Basis = Literal["measured", "predicted"]


@dataclass(frozen=True, slots=True)
class WhatIfOptions:
    """What is asked; None is as the ladder was made."""

    directory: Path
    profile: str | Path | Profile | None = None
    policy: Policy | None = None
    heights: tuple[int, ...] | None = None
    rates: tuple[float, ...] = ()
    """bit/s at which rungs are to lie."""
    max_rate: float | None = None
    """bit/s that no rung's average may pass."""
    peak_ratio: float | None = None
    vbv_seconds: float | None = None
    floor: float | None = None
    """Quality that no shot may fall under."""
    jnd: float | None = None
    source: Path | None = None
    store: Path | str | None = None
    measured_only: bool = False


@dataclass(frozen=True, slots=True)
class WhatIfRung:
    """A rung that could be."""

    size: Size
    rate: float
    """bit/s."""
    quality: float
    worst_shot: float
    """Lowest mean of a shot."""
    existing: int
    """Shots whose encode exists and was measured."""
    basis: Literal["measured", "interpolated", "predicted"]
    """Where its numbers come from: only measured encodes, or others among them."""
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WhatIf:
    """An answer."""

    title: str
    quality_model: str
    basis: Basis
    """Of the curves asked: measured with interpolation, or predicted and corrected."""
    predictor: str | None
    asked: Mapping[str, Any]
    """What differs from how the ladder was made."""
    policy: Policy
    shots: int
    rungs: tuple[WhatIfRung, ...]
    unchanged: tuple[RatePoint, ...]
    """The ladder with nothing changed, solved on the same curves: what differs from it is the doing
    of what is asked. It is not quite the one that there is, of which a run keeps rungs while it
    learns. () where nothing is asked."""
    changes: bool
    """Whether what is asked changes anything."""
    delivered: tuple[RatePoint, ...]
    """The ladder that there is: bit/s and quality of its rungs, measured."""
    delivered_names: tuple[str, ...]
    new_encodes: int
    """That it would take to make this ladder."""
    bd_rate: BdRate | NoOverlap | None
    """Against the unchanged ladder; against the one that there is where nothing is asked."""
    viewers: tuple[ViewersClaim, ...]
    """What populations would receive, against the same (called fixed there)."""
    locked_cost: tuple[RungCost, ...]
    """Under ``mixed``: what the sizes of the ladder that there is cost, at its rates."""
    locked_bd_rate: float | None
    """Percent, the same over all of them: ``locked_cost`` of ``ladder.json``."""
    notes: tuple[str, ...]


def what_if(options: WhatIfOptions) -> WhatIf:
    """Answer from what is known.

    Raises:
        BadInput: something asked for does not exist, or the package is none.
        Infeasible: no ladder keeps the constraints.
    """
    package = Package.open(options.directory)
    ladder = package.ladder
    profile, asked = _profile(options, package)
    title, basis, notes = _curves(options, package, profile)
    policy = options.policy or ladder.policy
    plan = _solve(options, package, profile, title, policy)
    if isinstance(plan, InfeasibleResult):
        raise Infeasible(
            f"no ladder keeps the constraint {plan.constraint!r}: {_own(plan.detail, options)}",
            shortfall=plan.shortfall,
            shots=plan.shots,
        )
    exists = package.points(package.recipe).keys()
    delivered = tuple(package.rate_points(package.quality_model))
    rungs = tuple(_rung(rung, exists, basis, options) for rung in plan.rungs)
    points = [RatePoint(rung.rate, rung.quality) for rung in rungs]
    before = _unchanged(options, package, title, basis) if asked else None
    unchanged = tuple(before.rate_points) if before is not None else ()
    against = unchanged or delivered
    curves = monotone(against), monotone(points)
    cost = _cost_of_sizes(title, package.rungs()) if policy == "mixed" else None
    return WhatIf(
        title=ladder.title.source,
        quality_model=ladder.quality_model,
        basis=basis,
        predictor=package.measurements.weights if basis == "predicted" else None,
        asked=asked,
        policy=policy,
        unchanged=unchanged,
        changes=before is None or before.points != plan.points,
        shots=len(title.shots),
        rungs=rungs,
        delivered=delivered,
        delivered_names=tuple(rung.name for rung in package.rungs()),
        new_encodes=len(plan.points - exists),
        bd_rate=bd_rate(curves[0], curves[1]) if min(map(len, curves)) > 1 else None,
        viewers=tuple(viewers_claim(points, against, median) for median in MEDIANS),
        locked_cost=cost.rungs if cost else (),
        locked_bd_rate=getattr(cost and cost.bd_rate, "percent", None),
        notes=(*notes, *(_own(note, options) for note in plan.notes)),
    )


def _solve(
    options: WhatIfOptions, package: Package, profile: Profile, title: TitleCurves, policy: Policy
) -> LadderPlan | InfeasibleResult:
    bits = _source_bits(options, package, profile)
    if options.max_rate is not None:
        profile = replace(profile, source_cap=True)
    return solve(replace(title, source_bits=bits), profile, policy)


def _unchanged(
    options: WhatIfOptions, package: Package, title: TitleCurves, basis: Basis
) -> LadderPlan | None:
    """The ladder with nothing changed, on curves of the same kind; None where there are none."""
    plain = WhatIfOptions(
        options.directory,
        source=options.source,
        store=options.store,
        measured_only=options.measured_only,
    )
    profile, _ = _profile(plain, package)
    if options.heights or options.profile:
        title, kind, _ = _curves(plain, package, profile)
        if kind != basis:
            return None
    solved = _solve(plain, package, profile, title, package.ladder.policy)
    return solved if isinstance(solved, LadderPlan) else None


def _profile(options: WhatIfOptions, package: Package) -> tuple[Profile, dict[str, Any]]:
    profile = as_profile(options.profile) if options.profile else package.profile
    changes: dict[str, Any] = {}
    if options.rates:
        changes["rates"] = tuple(sorted(options.rates))
    for name in ("peak_ratio", "vbv_seconds", "floor", "jnd"):
        value = getattr(options, name)
        if value is not None:
            changes[name] = value if name == "jnd" else value or None
    asked = {
        **({"profile": profile.name} if options.profile else {}),
        **({"policy": options.policy} if options.policy else {}),
        **({"heights": list(options.heights)} if options.heights else {}),
        **{name: list(v) if isinstance(v, tuple) else v for name, v in changes.items()},
        **({"max_rate": options.max_rate} if options.max_rate is not None else {}),
    }
    return replace(profile, **changes), asked


def _source_bits(options: WhatIfOptions, package: Package, profile: Profile) -> int | None:
    seconds = package.seconds
    own = round(package.ladder.title.source_bitrate * seconds) if profile.source_cap else None
    if options.max_rate is None:
        return own
    capped = int(options.max_rate * seconds)
    return capped if own is None else min(own, capped)


def _own(note: str, options: WhatIfOptions) -> str:
    """Rates are capped by one number; say whose it is."""
    if options.max_rate is None:
        return note
    return note.replace("limited to the source's", "limited to the cap of")


def _rung(
    rung: RungPlan,
    exists: Set[Request],
    basis: Basis,
    options: WhatIfOptions,
) -> WhatIfRung:
    existing = sum((shot, choice.point) in exists for shot, choice in enumerate(rung.choices))
    between: Literal["interpolated", "predicted"] = (
        "interpolated" if basis == "measured" else "predicted"
    )
    return WhatIfRung(
        size=rung.size,
        rate=rung.rate,
        quality=rung.quality,
        worst_shot=min(choice.quality for choice in rung.choices),
        existing=existing,
        basis="measured" if existing == len(rung.choices) else between,
        notes=tuple(_own(note, options) for note in rung.notes),
    )


def _cost_of_sizes(title: TitleCurves, rungs: Sequence[Rung]) -> CostOfLocked | None:
    """What the delivered rungs' sizes cost, on the same curves as the answer; None where they are
    not sizes of one rung each, or not among those that curves are known of.
    """
    sizes = []
    for rung in rungs:
        own = {segment.size for segment in rung.segments}
        if len(own) != 1 or not own <= set(title.sizes):
            return None
        sizes.append((own.pop(), 8 * sum(segment.bytes for segment in rung.segments)))
    return cost_of_sizes(title, sizes)


# -- curves ------------------------------------------------------------------------------------


def _curves(
    options: WhatIfOptions, package: Package, profile: Profile
) -> tuple[TitleCurves, Basis, tuple[str, ...]]:
    if package.measurements.weights is None or options.measured_only:
        title, notes = _measured(options, package, profile)
        return title, "measured", notes
    try:
        return _predicted(options, package, profile), "predicted", ()
    except ShotladderError as error:
        if isinstance(error, BadInput) and options.source is not None:
            raise
        title, notes = _measured(options, package, profile)
        why = (
            f"no prediction available ({error.message}); answered from measured points only, "
            "which cluster around the delivered rungs"
        )
        return title, "measured", (why, *notes)


def _measured(
    options: WhatIfOptions, package: Package, profile: Profile
) -> tuple[TitleCurves, tuple[str, ...]]:
    """Return the curves through measured points at the sizes asked for, and what they lack."""
    curves = package.curves()
    measured = set(curves.sizes)
    wanted = set(_sizes(options, package, profile)) if options.heights else measured
    notes = []
    if missing := sorted(wanted - measured):
        notes.append(f"left out, as not every shot was measured there: {_listed(missing)}")
    sizes = wanted & measured
    if not sizes:
        raise BadInput(
            f"no size asked for was measured in every shot of {package.directory}; "
            f"measured sizes: {_listed(sorted(measured)) or 'none'}"
        )
    kept = {size: of for size, of in curves.curves.items() if size in sizes}
    return replace(curves, curves=kept), tuple(notes)


def _listed(sizes: Sequence[Size]) -> str:
    return ", ".join(f"{size.width}x{size.height}" for size in sizes)


def _predicted(options: WhatIfOptions, package: Package, profile: Profile) -> TitleCurves:
    """Return the prediction that the run started from, corrected by all that was measured.

    Raises:
        BadInput: the source or the weights are not those of the run.
    """
    recipe, measurements = package.recipe, package.measurements
    grid = profile.crf_grid[recipe.codec]
    quiet = InlineExecutor()
    with (
        contextlib.closing(open_store(options.store)) as store,
        store.scratch() as workdir,
    ):
        source = package.open_source(workdir, options.source)
        title = find_title(Path(source.reference.named), source, store, quiet, lambda event: None)
        if title.shots != package.shots:
            raise BadInput(
                f"this version detects different shots in {source.reference.named}; "
                "run the title again"
            )
        prediction = predict_title(
            title,
            _sizes(options, package, profile),
            recipe,
            package.quality_model,
            (grid[0], grid[-1]),
            _weights(package),
            store,
            quiet,
        )
    if prediction.model != measurements.weights:
        raise BadInput(
            f"the weights here ({prediction.model}) are not those of the run "
            f"({measurements.weights}); run the title again"
        )
    return TitleCurves(
        frame_rate=package.frame_rate,
        recipe=recipe,
        shots=title.shots,
        curves=correct(prediction, title.shots, package.points(recipe)).curves(),
    )


def _sizes(options: WhatIfOptions, package: Package, profile: Profile) -> tuple[Size, ...]:
    heights = options.heights or tuple(package.options.get("heights") or ()) or profile.heights
    return rung_sizes(package.ladder.title.width, package.ladder.title.height, heights)


def _weights(package: Package) -> Path:
    named = package.options.get("weights")
    return Path(named) if named else packaged_weights(package.ladder.codec)
