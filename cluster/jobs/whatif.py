"""What another set of rungs, constraint, profile or policy would give, with no new encode.

A ladder that was searched exhaustively is asked through its measured points, with what lies between
two of them interpolated. One that was predicted is asked through the prediction that its run
started from, corrected by everything that was measured since. Every answer says how many of its
encodes exist.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from cluster.execution.executor import InlineExecutor
from cluster.jobs.compare import source_of
from cluster.package.inspect import frame_rate, read_ladder, read_measurements
from cluster.stages.prediction import packaged_weights, predict_title
from cluster.stages.title import find_title, open_title
from cluster.store import open_store
from encoder.errors import BadInput, Infeasible, ShotladderError
from encoder.media import OperatingPoint, Shot, Size
from encoder.recipes import by_name
from ladder.bdrate import BdRate, NoOverlap, RatePoint, bd_rate, monotone
from ladder.claims import MEDIANS, ViewersClaim, viewers_claim
from ladder.complexity.prediction import correct
from ladder.constraints import InfeasibleResult
from ladder.curves import MeasuredCurve, Measurement
from ladder.document import Ladder, Measurements, Rung
from ladder.profiles import Profile, load_profile, rung_sizes
from ladder.rungs import (
    CostOfLocked,
    LadderPlan,
    Policy,
    RungCost,
    RungPlan,
    TitleCurves,
    cost_of_sizes,
    solve,
)

Basis = Literal["measured", "predicted"]


@dataclass(frozen=True, slots=True)
class WhatIfOptions:
    """What is asked; None is as the ladder was made."""

    directory: Path
    profile: str | None = None
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
    ladder = read_ladder(options.directory)
    known = read_measurements(options.directory)
    profile, asked = _profile(options, ladder)
    title, basis, notes = _curves(options, ladder, known, profile)
    policy = options.policy or ladder.policy
    plan = _solve(options, ladder, profile, title, policy)
    if isinstance(plan, InfeasibleResult):
        raise Infeasible(
            f"no ladder keeps the constraint {plan.constraint!r}: {_own(plan.detail, options)}",
            shortfall=plan.shortfall,
            shots=plan.shots,
        )
    exists = {
        (cell.shot, OperatingPoint(by_name(ladder.recipe), cell.width, cell.height, cell.crf))
        for cell in known.of_recipe(ladder.recipe)
    }
    own = [rung for rung in ladder.rungs if rung.codec == ladder.codec]
    delivered = tuple(
        RatePoint(rung.bitrate, rung.quality[ladder.quality_model].mean) for rung in own
    )
    rungs = tuple(_rung(rung, exists, basis, options) for rung in plan.rungs)
    points = [RatePoint(rung.rate, rung.quality) for rung in rungs]
    before = _unchanged(options, ladder, known, title, basis) if asked else None
    unchanged = tuple(before.rate_points) if before is not None else ()
    against = unchanged or delivered
    curves = monotone(against), monotone(points)
    cost = _cost_of_sizes(title, own) if policy == "mixed" else None
    return WhatIf(
        title=ladder.title.source,
        quality_model=ladder.quality_model,
        basis=basis,
        predictor=known.weights if basis == "predicted" else None,
        asked=asked,
        policy=policy,
        unchanged=unchanged,
        changes=before is None or before.points != plan.points,
        shots=len(title.shots),
        rungs=rungs,
        delivered=delivered,
        delivered_names=tuple(rung.name for rung in own),
        new_encodes=len(plan.points - exists),
        bd_rate=bd_rate(curves[0], curves[1]) if min(map(len, curves)) > 1 else None,
        viewers=tuple(viewers_claim(points, against, median) for median in MEDIANS),
        locked_cost=cost.rungs if cost else (),
        locked_bd_rate=getattr(cost and cost.bd_rate, "percent", None),
        notes=(*notes, *(_own(note, options) for note in plan.notes)),
    )


def _solve(
    options: WhatIfOptions, ladder: Ladder, profile: Profile, title: TitleCurves, policy: Policy
) -> LadderPlan | InfeasibleResult:
    bits = _source_bits(options, ladder, profile)
    if options.max_rate is not None:
        profile = replace(profile, source_cap=True)
    return solve(replace(title, source_bits=bits), profile, policy)


def _unchanged(
    options: WhatIfOptions, ladder: Ladder, known: Measurements, title: TitleCurves, basis: Basis
) -> LadderPlan | None:
    """The ladder with nothing changed, on curves of the same kind; None where there are none."""
    plain = WhatIfOptions(
        options.directory,
        source=options.source,
        store=options.store,
        measured_only=options.measured_only,
    )
    profile, _ = _profile(plain, ladder)
    if options.heights or options.profile:
        title, kind, _ = _curves(plain, ladder, known, profile)
        if kind != basis:
            return None
    plan = _solve(plain, ladder, profile, title, ladder.policy)
    return plan if isinstance(plan, LadderPlan) else None


def _profile(options: WhatIfOptions, ladder: Ladder) -> tuple[Profile, dict[str, Any]]:
    profile = load_profile(options.profile or ladder.profile)
    changes: dict[str, Any] = {}
    if options.rates:
        changes["rates"] = tuple(sorted(options.rates))
    for name in ("peak_ratio", "vbv_seconds", "floor", "jnd"):
        value = getattr(options, name)
        if value is not None:
            changes[name] = value if name == "jnd" else value or None
    asked = {
        **({"profile": options.profile} if options.profile else {}),
        **({"policy": options.policy} if options.policy else {}),
        **({"heights": list(options.heights)} if options.heights else {}),
        **{name: list(v) if isinstance(v, tuple) else v for name, v in changes.items()},
        **({"max_rate": options.max_rate} if options.max_rate is not None else {}),
    }
    return replace(profile, **changes), asked


def _source_bits(options: WhatIfOptions, ladder: Ladder, profile: Profile) -> int | None:
    seconds = ladder.title.frames / frame_rate(ladder)
    own = round(ladder.title.source_bitrate * seconds) if profile.source_cap else None
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
    exists: set[tuple[int, OperatingPoint]],
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
    options: WhatIfOptions, ladder: Ladder, known: Measurements, profile: Profile
) -> tuple[TitleCurves, Basis, tuple[str, ...]]:
    if known.weights is None or options.measured_only:
        title, notes = _measured(options, ladder, known, profile)
        return title, "measured", notes
    try:
        return _predicted(options, ladder, known, profile), "predicted", ()
    except ShotladderError as error:
        if isinstance(error, BadInput) and options.source is not None:
            raise
        title, notes = _measured(options, ladder, known, profile)
        why = (
            f"the prediction is not to be had ({error.message}): answered from the measured points "
            "alone, which lie near what was delivered"
        )
        return title, "measured", (why, *notes)


def _shots(known: Measurements) -> tuple[Shot, ...]:
    return tuple(Shot(row.start_frame, row.end_frame, tuple(row.cuts)) for row in known.shots)


def _measured(
    options: WhatIfOptions, ladder: Ladder, known: Measurements, profile: Profile
) -> tuple[TitleCurves, tuple[str, ...]]:
    """Curves through what was measured, at the sizes where every shot was."""
    shots = _shots(known)
    cells: dict[Size, dict[int, dict[float, Measurement]]] = {}
    for cell in known.of_recipe(ladder.recipe):
        by_shot = cells.setdefault(cell.size, {})
        by_shot.setdefault(cell.shot, {})[cell.crf] = Measurement(8 * cell.bytes, cell.quality)
    whole = {size for size, by_shot in cells.items() if len(by_shot) == len(shots)}
    wanted = set(_sizes(options, ladder, profile)) if options.heights else whole
    notes = []
    if missing := sorted(wanted - whole):
        said = ", ".join(f"{size.width}x{size.height}" for size in missing)
        notes.append(f"left out, as not every shot was measured there: {said}")
    sizes = wanted & whole
    if not sizes:
        said = ", ".join(f"{size.width}x{size.height}" for size in sorted(whole)) or "none"
        raise BadInput(f"no size asked for was measured in every shot; there are {said}")
    title = TitleCurves(
        frame_rate=frame_rate(ladder),
        recipe=by_name(ladder.recipe),
        shots=shots,
        curves={
            size: tuple(
                MeasuredCurve(shot.frames, cells[size][number]) for number, shot in enumerate(shots)
            )
            for size in sizes
        },
    )
    return title, tuple(notes)


def _predicted(
    options: WhatIfOptions, ladder: Ladder, known: Measurements, profile: Profile
) -> TitleCurves:
    """The prediction that the run started from, corrected by all that was measured.

    Raises:
        BadInput: the source or the weights are not those of the run.
    """
    path = options.source or source_of(options.directory)
    sizes = _sizes(options, ladder, profile)
    grid = profile.crf_grid[ladder.codec]
    quiet = InlineExecutor()
    with (
        contextlib.closing(open_store(options.store)) as store,
        store.scratch() as workdir,
    ):
        source = open_title(path, workdir, tone_map=ladder.title.tone_mapped is not None)
        if source.sha256 != ladder.title.sha256:
            raise BadInput(f"{path} is not the source that {options.directory} was made from")
        title = find_title(path, source, store, quiet, lambda event: None)
        if title.shots != _shots(known):
            raise BadInput("the title's shots are found otherwise by this version")
        prediction = predict_title(
            *(title, sizes, by_name(ladder.recipe), ladder.quality_model, (grid[0], grid[-1])),
            *(_weights(options, ladder.codec), store, quiet),
        )
    if prediction.model != known.weights:
        raise BadInput(
            f"the weights here ({prediction.model}) are not those of the run ({known.weights})"
        )
    measured = {
        (
            cell.shot,
            OperatingPoint(by_name(ladder.recipe), cell.width, cell.height, cell.crf),
        ): Measurement(8 * cell.bytes, cell.quality)
        for cell in known.of_recipe(ladder.recipe)
    }
    return TitleCurves(
        frame_rate=Fraction(ladder.title.frame_rate),
        recipe=by_name(ladder.recipe),
        shots=title.shots,
        curves=correct(prediction, title.shots, measured).curves(),
    )


def _sizes(options: WhatIfOptions, ladder: Ladder, profile: Profile) -> tuple[Size, ...]:
    heights = options.heights or _asked_heights(options.directory) or profile.heights
    return rung_sizes(ladder.title.width, ladder.title.height, heights)


def _asked_heights(directory: Path) -> tuple[int, ...] | None:
    return tuple(_options(directory).get("heights") or ()) or None


def _weights(options: WhatIfOptions, codec: str) -> Path:
    named = _options(options.directory).get("weights")
    return Path(named) if named else packaged_weights(codec)


def _options(directory: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError, KeyError):
        return dict(json.loads((directory / "run.json").read_bytes())["options"])
    return {}
