"""Answer what other rungs, constraints, a profile or a policy would give, without any new encode.

A ladder of the exhaustive or the sparse search is solved again on its measured points, with
interpolation between them. A predicted ladder is solved again on the prediction that its run
started from, corrected by everything that was measured since. Every rung of an answer says how many
of its encodes exist.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from cluster.execution.executor import InlineExecutor
from cluster.jobs.command import run_command
from cluster.jobs.options import LadderLimits, as_lists, asked_limits
from cluster.jobs.request import LadderOptions
from cluster.package.package import Package
from cluster.stages.analysis import find_title
from cluster.stages.prediction import packaged_weights, predict_title
from cluster.stages.quarantine import reading
from cluster.store import open_store
from encoder.errors import BadInput, Infeasible, ShotladderError
from encoder.media import Request, Size
from ladder.adjustments import DIVIDING, LISTING, SPREADING, adjusted
from ladder.bdrate import BdRate, NoOverlap, RatePoint
from ladder.choices import Policy
from ladder.claims import ViewersClaim, audience_claim, bd_claim
from ladder.complexity.prediction import correct
from ladder.constraints import InfeasibleResult
from ladder.document import Rung
from ladder.locked_cost import CostOfLocked, RungCost, cost_of_sizes
from ladder.profiles import PLACEMENTS, Profile, as_profile
from ladder.rungs import LadderPlan, RungPlan, merged, reference_ladder, solve
from ladder.title_curves import TitleCurves
from ladder.viewers import MEDIANS, Audience, LogNormal, Offer

Basis = Literal["measured", "predicted"]


@dataclass(frozen=True, slots=True)
class WhatIfOptions(LadderLimits):
    """A question about a ladder; options that are None stay as the ladder was made."""

    directory: Path
    """Folder of the package."""
    profile: str | Path | Profile | None = None
    """Name of a built-in profile, path of a TOML file, or a profile."""
    policy: Policy | None = None
    """``locked`` or ``mixed``."""
    heights: tuple[int, ...] | None = None
    """Rung heights."""
    add: tuple[float, ...] = ()
    """Rates in bit/s of rungs to add to the ladder as it is."""
    remove: tuple[str, ...] = ()
    """Names of delivered rungs to leave out of the ladder as it is."""
    source: Path | None = None
    """Path of the source; None is where the run found it. Only a predicted ladder needs it."""
    store: Path | str | None = None
    """Folder or URL of the store; None is the default store."""
    measured_only: bool = False
    """True answers from measured points even where there is a prediction."""


@dataclass(frozen=True, slots=True)
class WhatIfRung:
    """A rung of the answer."""

    size: Size
    rate: float
    """Average rate in bit/s."""
    quality: float
    """Mean quality."""
    worst_shot: float
    """Lowest mean quality of a shot."""
    existing: int
    """Number of shots whose encode exists and was measured."""
    basis: Literal["measured", "interpolated", "predicted"]
    """``measured`` where all encodes exist; otherwise how the numbers of the others were found."""
    notes: tuple[str, ...]
    """What limits the rung, in words."""


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The answer to a question about a ladder."""

    title: str
    """File name of the source."""
    quality_model: str
    """Quality model that the ladder was made by."""
    basis: Basis
    """Curves that the answer was solved on: ``measured`` and interpolated, or ``predicted`` and
    corrected by measurements."""
    predictor: str | None
    """Identity of the weights behind predicted curves."""
    asked: Mapping[str, Any]
    """Options of the question, by name."""
    policy: Policy
    shots: int
    """Number of shots in the title."""
    rungs: tuple[WhatIfRung, ...]
    """Ladder that the question would give, lowest rate first."""
    unchanged: tuple[RatePoint, ...]
    """Ladder without the changes asked for, solved on the same curves, so that only those changes
    separate the two. It may differ from the delivered ladder, because a run keeps rungs while it
    learns. () where no change was asked for, or no such ladder can be solved."""
    changes: bool
    """True where the changes asked for change any encode of the ladder."""
    delivered: tuple[RatePoint, ...]
    """Measured rate (bit/s) and quality of the delivered rungs."""
    delivered_names: tuple[str, ...]
    """Names of the delivered rungs."""
    new_encodes: int
    """Number of encodes that a run would have to add to deliver the rungs."""
    bd_rate: BdRate | NoOverlap | None
    """BD-rate against ``unchanged``, or against ``delivered`` where that is (); None where a ladder
    has too few rungs."""
    viewers: tuple[ViewersClaim, ...]
    """What each population of viewers would receive, against the same ladder (called fixed
    there)."""
    before: tuple[ViewersClaim, ...]
    """What they receive from that ladder, against the reference ladder as it is predicted on the
    same curves."""
    after: tuple[ViewersClaim, ...]
    """What they would receive from the answer, against the predicted reference ladder."""
    locked_cost: tuple[RungCost, ...]
    """What the size of each delivered rung costs at its rate; () unless the policy is ``mixed``."""
    locked_bd_rate: float | None
    """Percent of bits that the sizes cost over all rungs; ``locked_cost`` in ``ladder.json``."""
    notes: tuple[str, ...]
    """What limits the ladder and the answer, in words."""
    commands: tuple[str, ...]
    """Commands for a shell that make the ladder; () where no run can, or nothing would change."""


def what_if(options: WhatIfOptions) -> WhatIf:
    """Solve a ladder again under other options, from what is already known about the title.

    Raises:
        BadInput: the folder holds no package, or an option cannot be satisfied.
        Infeasible: no ladder satisfies the constraints.
    """
    package = Package.open(options.directory)
    ladder = package.ladder
    profile, asked = _profile(options, package)
    title, basis, notes = _curves(options, package, profile)
    title = replace(title, display=_display(package))
    policy = options.policy or ladder.policy
    plan = _solve(options, package, profile, title, policy)
    if isinstance(plan, InfeasibleResult):
        raise Infeasible(
            f"no ladder keeps the constraint {plan.constraint!r}: {plan.detail}",
            shortfall=plan.shortfall,
            shots=plan.shots,
        )
    existing = package.points(package.recipe).keys()
    rungs = tuple(_rung(rung, existing, basis, options) for rung in plan.rungs)
    points = [RatePoint(rung.rate, rung.quality) for rung in rungs]
    unchanged = _unchanged(options, package, title, basis) if asked else None
    delivered = tuple(package.rate_points(package.quality_model))
    anchor = tuple(unchanged.rate_points) if unchanged is not None else delivered
    cost = _cost_of_sizes(title, package.rungs()) if policy == "mixed" else None
    audiences = _audiences(options, profile)
    reference = reference_ladder(title, profile)
    after = [Offer(rung.rate, rung.quality, min(rung.size)) for rung in rungs]
    before = (
        _offers(package)
        if unchanged is None
        else [Offer(rung.rate, rung.quality, min(rung.size)) for rung in unchanged.rungs]
    )
    return WhatIf(
        title=ladder.title.source,
        quality_model=ladder.quality_model,
        basis=basis,
        predictor=package.measurements.weights if basis == "predicted" else None,
        asked=asked,
        policy=policy,
        shots=len(title.shots),
        rungs=rungs,
        unchanged=anchor if unchanged is not None else (),
        changes=unchanged is None or unchanged.points != plan.points,
        delivered=delivered,
        delivered_names=tuple(rung.name for rung in package.rungs()),
        new_encodes=len(plan.points - existing),
        bd_rate=bd_claim(anchor, points),
        viewers=tuple(audience_claim(after, before, each) for each in audiences),
        before=tuple(audience_claim(before, reference, each) for each in audiences),
        after=tuple(audience_claim(after, reference, each) for each in audiences),
        locked_cost=cost.rungs if cost else (),
        locked_bd_rate=getattr(cost and cost.bd_rate, "percent", None),
        notes=(*notes, *plan.notes),
        commands=_commands(options, package) if policy == "locked" else (),
    )


def _commands(options: WhatIfOptions, package: Package) -> tuple[str, ...]:
    """Return the commands that make the ladder of the answer: the package's own options, and those
    that were asked for."""
    if not package.options:
        return ()
    before = LadderOptions.from_document(package.options)
    changes = asked_limits(options)
    if options.add or options.remove:
        changes["rates"] = _edited_rates(options, package)
    if options.heights:
        changes["heights"] = options.heights
    elif options.rung_heights:
        changes["heights"] = None
    if changes.keys() & set(LISTING):
        changes = {**dict.fromkeys(LISTING, ()), **dict.fromkeys(SPREADING), **changes}
    elif "placement" in changes:
        changes = {**dict.fromkeys(LISTING, ()), **changes}
    asked = replace(before, **changes)
    commands = []
    named: str | Path
    if isinstance(options.profile, str | Path):
        named = options.profile
    else:
        profile = options.profile or before.profile
        named = profile if isinstance(profile, str) else f"{as_profile(profile).name}.toml"
        if options.profile is None and not isinstance(profile, str):
            commands.append(f"shotladder profiles {shlex.quote(str(package.directory))} > {named}")
    source = options.source or Path(package.source_path)
    words = run_command(asked, named, source, _free(package.directory))
    return (*commands, shlex.join(words))


def _free(directory: Path) -> Path:
    """Return a folder beside a package that does not exist yet."""
    number = 2
    while (free := directory.parent / f"{directory.name}-{number}").exists():
        number += 1
    return free


def _audiences(options: WhatIfOptions, profile: Profile) -> tuple[Audience, ...]:
    """Return the populations to answer for: those asked for, or the usual ones."""
    if options.viewers and profile.throughputs:
        return (profile.audience,)
    medians = profile.viewers if options.viewers else MEDIANS
    return tuple(Audience(LogNormal(median), profile.device_lines) for median in medians)


def _offers(package: Package) -> list[Offer]:
    """Return the delivered rungs as players see them."""
    points = package.rate_points(package.quality_model)
    return [
        Offer(point.rate, point.quality, min(rung.width, rung.height))
        for point, rung in zip(points, package.rungs(), strict=True)
    ]


def _solve(
    options: WhatIfOptions, package: Package, profile: Profile, title: TitleCurves, policy: Policy
) -> LadderPlan | InfeasibleResult:
    limited = replace(
        title,
        source_bits=round(package.ladder.title.source_bitrate * package.seconds),
        allowance_bits=package.source_allowance(title.recipe.codec),
    )
    plan = solve(limited, profile, policy)
    return plan if isinstance(plan, InfeasibleResult) else merged(limited, profile, plan)


def _unchanged(
    options: WhatIfOptions, package: Package, title: TitleCurves, basis: Basis
) -> LadderPlan | None:
    """Return the ladder without the changes asked for, on curves of the same kind; None where it
    cannot be solved on them.
    """
    plain = WhatIfOptions(
        options.directory,
        source=options.source,
        store=options.store,
        measured_only=options.measured_only,
    )
    profile, _ = _profile(plain, package)
    if options.add or options.remove:
        profile = replace(profile, rates=_delivered_rates(package))
    if options.heights or options.rung_heights or options.profile:
        title, plain_basis, _ = _curves(plain, package, profile)
        title = replace(title, display=_display(package))
        if plain_basis != basis:
            return None
    plan = _solve(plain, package, profile, title, package.ladder.policy)
    return plan if isinstance(plan, LadderPlan) else None


def _profile(options: WhatIfOptions, package: Package) -> tuple[Profile, dict[str, Any]]:
    """Return the profile that the options give, and the options that were asked for, by name."""
    limits = asked_limits(options)
    if options.add or options.remove:
        limits["rates"] = _edited_rates(options, package)
    profile = package.profile
    if options.profile:
        profile = adjusted(as_profile(options.profile), package.options)
    asked = {
        **({"profile": profile.name} if options.profile else {}),
        **({"policy": options.policy} if options.policy else {}),
        **({"heights": list(options.heights)} if options.heights else {}),
        **{name: as_lists(value) for name, value in limits.items()},
    }
    if limits.get("placement") not in (None, *PLACEMENTS):
        raise BadInput(
            f"no placement {options.placement!r:.40}; choose one of {', '.join(PLACEMENTS)}"
        )
    if (options.policy or package.ladder.policy) != "locked" and (
        bound := [name for name in ("rung_heights", "size_limits", "native_top") if name in limits]
    ):
        raise BadInput(
            f"{bound[0]} limits the one size of a rung, and under the policy mixed a rung has "
            "several; leave one of them out"
        )
    new = adjusted(profile, limits)
    if any(getattr(new, name) != getattr(package.profile, name) for name in DIVIDING):
        commands = " and then ".join(f"`{each}`" for each in _commands(options, package))
        raise BadInput(
            f"other segments are other encodes, so nothing in {package.directory} says what they "
            f"would be; with --plan at its end, {commands or '`shotladder run`'} says what they "
            "would cost"
        )
    return new, asked


def _display(package: Package) -> Size:
    return Size(package.ladder.title.width, package.ladder.title.height)


def _delivered_rates(package: Package) -> tuple[float, ...]:
    return tuple(rung.bitrate for rung in package.rungs())


def _edited_rates(options: WhatIfOptions, package: Package) -> tuple[float, ...]:
    """Return the delivered rungs' rates with some added and some removed.

    Raises:
        BadInput: a rung to remove does not exist, or none is left.
    """
    names = {rung.name: rung.bitrate for rung in package.rungs()}
    if unknown := [name for name in options.remove if name not in names]:
        raise BadInput(f"no rung is called {unknown[0]!r}; choose one of {', '.join(names)}")
    kept = [rate for name, rate in names.items() if name not in options.remove]
    if not (rates := (*kept, *options.add)):
        raise BadInput("removing all rungs leaves no ladder; keep or add at least one")
    return rates


def _rung(
    rung: RungPlan, existing: Set[Request], basis: Basis, options: WhatIfOptions
) -> WhatIfRung:
    count = sum((shot, choice.point) in existing for shot, choice in enumerate(rung.choices))
    inexact: Literal["interpolated", "predicted"] = (
        "interpolated" if basis == "measured" else "predicted"
    )
    return WhatIfRung(
        size=rung.size,
        rate=rung.rate,
        quality=rung.quality,
        worst_shot=min(choice.quality for choice in rung.choices),
        existing=count,
        basis="measured" if count == len(rung.choices) else inexact,
        notes=rung.notes,
    )


def _cost_of_sizes(title: TitleCurves, rungs: Sequence[Rung]) -> CostOfLocked | None:
    """Return what the delivered rungs' sizes cost, on the same curves as the answer; None where a
    rung has several sizes, or one without a curve.
    """
    sizes = []
    for rung in rungs:
        in_rung = {segment.size for segment in rung.segments}
        if len(in_rung) != 1 or not in_rung <= set(title.sizes):
            return None
        sizes.append((in_rung.pop(), 8 * sum(segment.bytes for segment in rung.segments)))
    return cost_of_sizes(title, sizes)


# -- curves ------------------------------------------------------------------------------------


def _curves(
    options: WhatIfOptions, package: Package, profile: Profile
) -> tuple[TitleCurves, Basis, tuple[str, ...]]:
    """Return the curves to solve on, their basis, and notes about them."""
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
    """Return the curves through measured points at the sizes asked for, and notes about them."""
    curves = package.curves()
    measured = set(curves.sizes)
    named = options.heights or options.rung_heights
    asked = set(_sizes(options, package, profile)) if named else measured
    sizes, missing = asked & measured, sorted(asked - measured)
    if not sizes:
        raise BadInput(
            f"no size asked for was measured in every shot of {package.directory}; "
            f"measured sizes: {_listed(sorted(measured)) or 'none'}"
        )
    kept = {size: by_shot for size, by_shot in curves.curves.items() if size in sizes}
    notes = [f"sizes left out because not every shot was measured: {_listed(missing)}"]
    return replace(curves, curves=kept), tuple(notes if missing else ())


def _listed(sizes: Sequence[Size]) -> str:
    return ", ".join(f"{size.width}x{size.height}" for size in sizes)


def _predicted(options: WhatIfOptions, package: Package, profile: Profile) -> TitleCurves:
    """Return the prediction that the run started from, corrected by everything measured since.

    Raises:
        BadInput: the source or the weights are not those of the run.
    """
    recipe, measurements = package.recipe, package.measurements
    grid = profile.crf_grid[recipe.codec]
    executor = InlineExecutor()
    with (
        contextlib.closing(open_store(options.store)) as store,
        store.scratch() as workdir,
    ):
        source = package.open_source(workdir, options.source)
        path = Path(source.reference.named)
        with reading(store, source) as store:
            title = find_title(path, source, store, executor, lambda event: None)
            if title.shots != package.shots:
                raise BadInput(
                    f"this version detects different shots in {path}; run the title again"
                )
            prediction = predict_title(
                title,
                _sizes(options, package, profile),
                recipe,
                package.quality_model,
                (grid[0], grid[-1]),
                _weights(package),
                store,
                executor,
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
    named = options.heights
    if not named and not options.rung_heights:
        named = tuple(package.options.get("heights") or ())
    return profile.sizes(package.ladder.title.width, package.ladder.title.height, named)


def _weights(package: Package) -> Path:
    path = package.options.get("weights")
    return Path(path) if path else packaged_weights()
