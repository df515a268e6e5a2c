"""The documents that a run writes beside the media: what was chosen, measured and spent."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from cluster.jobs.clock import Clock
from cluster.jobs.damage_findings import damage_document
from cluster.jobs.recipe_check import CheckedRecipes
from cluster.jobs.request import LadderRequest
from cluster.jobs.setup import CodecSetup
from cluster.jobs.solve import SolvedCodec
from cluster.package.assemble import ChosenRung, document_rungs
from cluster.stages.analysis import known_damage
from cluster.stages.measurer import Measurer
from cluster.stages.title import Title
from cluster.stages.tracks import HeardSound, heard_in_title
from encoder import ffmpeg
from encoder.media import Request
from encoder.names import shown
from encoder.package import layout
from encoder.package.sound_choices import SoundChoices
from encoder.recipes import Recipe
from ladder.bdrate import BdRate, RatePoint
from ladder.claims import bd_claim
from ladder.complexity.drift import Miss, miss_document
from ladder.curves import Measurement
from ladder.document import (
    Cell,
    CodecFacts,
    CueFacts,
    Ladder,
    LockedCost,
    Measurements,
    RecipeCheck,
    SearchFacts,
    ShotRow,
    Sound,
    SoundLoudness,
)
from ladder.locked_cost import cost_of_locked
from ladder.search.predict import CHECKED


def ladder_document(
    title: Title,
    solved: Sequence[SolvedCodec],
    codecs: Sequence[CodecFacts],
    checks: Sequence[RecipeCheck],
    rungs: Sequence[ChosenRung],
    written: layout.WrittenPackage,
    measured: Mapping[Request, Measurement],
    sound: Sequence[Sound] | None = None,
) -> Ladder:
    """Return ``ladder.json``. ``solved`` and ``codecs`` are in one order, the first codec first."""
    first, several = solved[0], len(solved) > 1
    setup, plan = first.setup, first.plan
    delivered = {request for one in rungs for request in one.requests}
    return Ladder(
        title=title.facts(audio=written.audio is not None),
        policy=plan.policy,
        profile=setup.profile.name,
        codec=setup.recipe.codec,
        recipe=setup.recipe.name,
        codecs=list(codecs) if several else [],
        tool=ffmpeg.version(),
        quality_model=setup.quality_model,
        search=codecs[0].search.model_copy(
            update={
                "encodes": len(measured),
                "delivered_encodes": len(delivered),
                "grid_encodes": sum(codec.search.grid_encodes for codec in codecs),
            }
        ),
        recipe_checks=list(checks) or None,
        locked_cost=_locked_cost(first),
        constraints=list(_constraints(solved, rungs)),
        rungs=document_rungs(rungs, written),
        sound=None if sound is None else list(sound),
        cues=[
            CueFacts(id=cue.id, start_frame=cue.frame, end_frame=cue.end_frame)
            for cue in title.cues
        ]
        or None,
    )


def sound_documents(
    choices: SoundChoices, heard: Sequence[HeardSound], written: layout.WrittenPackage
) -> list[Sound] | None:
    """Describe the tracks of sound; None where nobody decided anything about them.

    The tracks that were written are the sounds in which something was heard, in their order.
    """
    if choices.is_default:
        return None
    audible = [one for one in heard if one.media is not None]
    return [
        Sound(
            name=track.name,
            codec=choices.codec,
            codecs=track.codecs,
            channels=track.channels,
            bitrate=choices.bit_rate(surround=one.surround),
            language=track.language,
            loudness=SoundLoudness(**one.facts.loudness.document()) if one.facts.loudness else None,
        )
        for one, track in zip(audible, written.sounds, strict=True)
    ]


def _constraints(solved: Sequence[SolvedCodec], rungs: Sequence[ChosenRung]) -> Iterator[str]:
    """Yield what limited the ladder, and each rung that is delivered, by its name."""
    names = {tuple(rung.requests): rung.name for rung in rungs}
    for one in solved:
        of = f"{one.codec}: " if len(solved) > 1 else ""
        yield from (f"{of}{note}" for note in one.plan.notes)
        for rung, requests in zip(one.plan.rungs, one.requests, strict=True):
            if (name := names.get(tuple(requests))) is not None:
                yield from (f"{name}: {note}" for note in rung.notes)


def _locked_cost(solved: SolvedCodec) -> LockedCost | None:
    """Return what one size per rung costs; None where sizes are free per shot."""
    if solved.plan.policy != "locked":
        return None
    cost = cost_of_locked(solved.done.title, solved.plan)
    return LockedCost(
        bd_rate_percent=getattr(cost.bd_rate, "percent", None),
        basis="predicted" if solved.setup.prediction else "measured",
    )


def codec_facts(
    solved: SolvedCodec,
    delivered: Sequence[Request],
    dropped: Sequence[str],
    ladder: Sequence[RatePoint],
    anchor: Sequence[RatePoint],
) -> CodecFacts:
    """Return what ``ladder.json`` says of one codec.

    Args:
        solved: ladder of the codec.
        delivered: encodes of all codecs in the package.
        dropped: names of the codec's rungs that are not in the package.
        ladder: measured rungs of the codec, the dropped ones too.
        anchor: measured rungs of the first codec.
    """
    setup, recipe = solved.setup, solved.setup.recipe
    claim = bd_claim(anchor, ladder)
    return CodecFacts(
        codec=recipe.codec,
        recipe=recipe.name,
        search=SearchFacts(
            mode=setup.search.name,
            weights=setup.prediction.model if setup.prediction else None,
            encodes=len(solved.measured),
            delivered_encodes=sum(point.recipe == recipe for _, point in delivered),
            grid_encodes=setup.grid_encodes,
        ),
        rungs=len(solved.plan.rungs),
        dropped=list(dropped),
        bd_rate_percent={
            setup.quality_model: round(claim.percent, 4) if isinstance(claim, BdRate) else None
        },
    )


def measurements_document(
    title: Title, solved: Sequence[SolvedCodec], measured: Mapping[Request, Measurement]
) -> Measurements:
    """Return ``measurements.json``: every operating point that was measured, and why."""
    setups = {one.setup.recipe: one.setup for one in solved}
    reasons = {request: why for one in solved for request, why in one.reasons.items()}
    # Cells of a recipe that was refused are the check's, as are those that were given to a search.
    checked = {request for one in solved for request in one.setup.sample}
    checked |= {request for request in measured if request[1].recipe not in setups}
    first = solved[0].setup
    return Measurements(
        title_id=title.id,
        recipe=first.recipe.name,
        quality_model=first.quality_model,
        weights=first.prediction.model if first.prediction else None,
        shots=[
            ShotRow(start_frame=shot.start, end_frame=shot.end, cuts=list(shot.cuts))
            for shot in title.shots
        ],
        cells=[
            _cell(
                title,
                setups.get(request[1].recipe),
                request,
                encode,
                reasons.get(request, CHECKED if request in checked else None),
            )
            for request, encode in sorted(measured.items(), key=lambda item: item[0])
        ],
    )


def _cell(
    title: Title,
    setup: CodecSetup | None,
    request: Request,
    measured: Measurement,
    reason: str | None,
) -> Cell:
    """Return a row; ``setup`` is None for a recipe that only the check of recipes encoded."""
    shot, point = request
    prediction = setup.prediction if setup else None
    expected = prediction.expected(shot, point) if prediction else None
    frames = title.shots[shot].frames
    return Cell(
        shot=shot,
        width=point.width,
        height=point.height,
        crf=point.crf,
        recipe=point.recipe.name,
        bytes=measured.bits // 8,
        quality=round(measured.quality, 4),
        predicted_bytes=round(expected.bits_per_frame * frames / 8) if expected else None,
        predicted_quality=round(expected.quality, 4) if expected else None,
        reason=reason,
    )


def run_document(
    request: LadderRequest,
    solved: Sequence[SolvedCodec],
    checked: CheckedRecipes,
    measurer: Measurer,
    missed: Mapping[Recipe, Miss],
    verify_cpu_seconds: float,
    clock: Clock,
) -> dict[str, Any]:
    """Return ``run.json``: what the run cost, where it ran, and with which versions."""
    options, costs = request.options, measurer.costs
    ffmpeg_cpu_seconds = costs.encode_cpu_seconds + costs.vmaf_cpu_seconds
    # On a cluster of somebody else's, what workers do beside running ffmpeg is not seen here.
    seen_here = verify_cpu_seconds + (ffmpeg_cpu_seconds if options.scheduler is None else 0.0)
    document = {
        "schema": "shotladder/run/1",
        "title": measurer.title.id,
        "source": shown(options.source.resolve()),
        "options": options.document(),
        "encoded_now": costs.encoded,
        "scored_now": costs.scored,
        "cpu_seconds": {
            "encode": round(costs.encode_cpu_seconds, 3),
            "vmaf": round(costs.vmaf_cpu_seconds, 3),
            "verify": round(verify_cpu_seconds, 3),
            "other": round(max(0.0, clock.cpu_seconds() - seen_here), 3),
        },
        # Measured against predicted, before any correction.
        "missed": _missed(missed, solved[0]),
        "wall_seconds": round(clock.wall_seconds(), 3),
        "workers": measurer.executor.slots,
        "versions": {
            "shotladder": version("shotladder"),
            "ffmpeg": ffmpeg.version(),
            "python": platform.python_version(),
        },
        "host": {"system": platform.system(), "machine": platform.machine()},
    }
    title = measurer.title
    damage = known_damage(title.source, measurer.store)
    if damaged := damage_document(damage, heard_in_title(title, measurer.store, request.sound)):
        document["damage"] = damaged
    if allowances := {
        one.codec: one.setup.allowance_bits for one in solved if one.setup.allowance_bits
    }:
        document["source_allowance_bits"] = allowances
    if checked.checks:
        document["recipe_check"] = {
            "encoded_now": checked.costs.encoded,
            "scored_now": checked.costs.scored,
            "cpu_seconds": {
                "encode": round(checked.costs.encode_cpu_seconds, 3),
                "vmaf": round(checked.costs.vmaf_cpu_seconds, 3),
            },
        }
    if len(solved) > 1:
        document["codecs"] = {
            one.codec: {
                "encoded_now": one.costs.encoded,
                "encode_cpu_seconds": round(one.costs.encode_cpu_seconds, 3),
                "missed": _missed(missed, one),
            }
            for one in solved
        }
    return document


def _missed(missed: Mapping[Recipe, Miss], solved: SolvedCodec) -> dict[str, Any] | None:
    """Return the error of a codec's prediction; None if it was not predicted."""
    found = missed.get(solved.setup.recipe)
    return _rounded(miss_document(found)) if found else None


def _rounded(numbers: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: [round(each, 4) for each in value] if isinstance(value, tuple) else round(value, 4)
        for name, value in numbers.items()
    }
