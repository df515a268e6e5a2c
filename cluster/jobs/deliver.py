"""From solved ladders to a published package: choose the rungs, secure them, write, verify."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import events
from cluster.execution.executor import call_with_retries
from cluster.jobs.clock import Clock
from cluster.jobs.documents import (
    codec_facts,
    ladder_document,
    measurements_document,
    run_document,
    sound_documents,
)
from cluster.jobs.recipe_check import CheckedRecipes
from cluster.jobs.request import LadderRequest
from cluster.jobs.solve import SolvedCodec
from cluster.package import report
from cluster.package.artwork_files import previous_artwork, thumbnails_of, write_artwork
from cluster.package.assemble import ChosenRung, rung_names, verify_directory, write_media
from cluster.package.package import Package
from cluster.package.publish import publishing
from cluster.package.source_check import check_source
from cluster.stages.analysis import known_damage
from cluster.stages.artwork import find_artwork
from cluster.stages.measurer import Measurer
from cluster.stages.quarantine import confirm_title
from cluster.stages.tracks import audio_tracks, heard_in_title, subtitle_tracks
from cluster.store.keys import canonical_json
from cluster.training.feedback import save_training_rows
from encoder.errors import ShotladderError
from encoder.media import Request
from ladder.codecs import kept_rungs
from ladder.document import CodecFacts, Ladder, Rung
from recommender.prefetch.build import build_prefetch
from vmaf import models


@dataclass(frozen=True, slots=True)
class _RungChoice:
    """A rung of one codec's ladder that goes into the package."""

    codec: SolvedCodec
    number: int
    """Position in the codec's own ladder."""
    name: str
    requests: list[Request]
    """Encodes of the rung, in order of shots."""


@dataclass(frozen=True, slots=True)
class _Selection:
    """The rungs that go into the package, and what is said of every codec."""

    rungs: tuple[_RungChoice, ...]
    """Codec by codec, from the lowest rate to the highest."""
    requests: tuple[Request, ...]
    """Distinct encodes of the rungs, in order."""
    codecs: tuple[CodecFacts, ...]


def deliver(
    request: LadderRequest,
    solved: Sequence[SolvedCodec],
    checked: CheckedRecipes,
    measurer: Measurer,
    planned: Mapping[str, Any] | None,
    clock: Clock,
) -> tuple[Ladder, dict[str, Any]]:
    """Publish the solved ladders as one package at the request's output folder.

    ``planned`` is what was expected of the run, for ``run.json``.

    Returns:
        The contents of ``ladder.json`` and ``run.json``.

    Raises:
        ToolFailed, StoreUnusable: something could not be made; what was finished is kept.
        VerificationFailed: the package is not what was measured; nothing was published.
        SourceChanged: the source has changed since its digest was taken; nothing was published.
    """
    title, store, on_event = measurer.title, measurer.store, measurer.on_event
    selection = _select(solved, measurer)
    artwork = find_artwork(
        title,
        store,
        measurer.executor,
        on_event,
        embedding=request.options.embedding,
        nudity=request.options.nudity,
    )
    predictions = {one.setup.recipe: one.setup.prediction for one in solved}
    missed = save_training_rows(measurer, predictions, on_event)
    scored = _secured(request, selection, measurer)
    rungs = [_chosen(choice, scored) for choice in selection.rungs]
    with publishing(request.options.out) as directory:
        with events.stage(on_event, "package", len(rungs), unit="rungs"):
            audio = call_with_retries(audio_tracks, title, store, request.sound)
            subtitles = call_with_retries(subtitle_tracks, title, store)
            thumbnails = thumbnails_of(artwork)
            written = write_media(title, rungs, audio, subtitles, store, directory, thumbnails)
            write_artwork(artwork, store, directory, previous_artwork(request.options.out))
        heard = heard_in_title(title, store, request.sound)
        ladder = ladder_document(
            *(title, solved, selection.codecs, checked.checks, rungs, written, measurer.known),
            sound_documents(request.sound, heard, written),
        )
        with events.stage(on_event, "verify", len(rungs), unit="rungs"):
            verified = call_with_retries(
                verify_directory,
                directory,
                ladder.rungs,
                ladder.frame_rate,
                ladder.sound,
                ladder.cues,
            )
            compare_with_source(directory, ladder.rungs, measurer)
        measurements = measurements_document(title, solved, measurer.known)
        (directory / "ladder.json").write_text(ladder.to_json())
        (directory / "measurements.json").write_text(measurements.to_json())
        (directory / "prefetch.json").write_text(build_prefetch(ladder, written).to_json())
        page = _collect_report(directory, scored)
        run = run_document(request, solved, checked, scored, missed, verified.cpu_seconds, clock)
        if planned is not None:
            sizes = (encode.num_bytes for rung in rungs for encode in rung.encodes)
            run |= {"planned": dict(planned), "delivered_bytes": sum(sizes)}
        (directory / "run.json").write_bytes(canonical_json(run) + b"\n")
        if page is not None:
            text = report.render({**page, "run": report.shown_run(run)})
            (directory / report.REPORT_FILE).write_text(text, encoding="utf-8")
        confirm_title(store)
    return ladder, run


def compare_with_source(directory: Path, rungs: Sequence[Rung], measurer: Measurer) -> None:
    """Compare a package with its source, and say where a damaged one looks different.

    Raises:
        VerificationFailed: the package shows or plays something else than the source.
    """
    title = measurer.title
    found = known_damage(title.source, measurer.store)
    pictures, transport = found.pictures, found.transport
    damaged = any((pictures.pictures, pictures.errors, transport.missing, transport.marked))
    compared = check_source(
        directory, rungs, title.reference.frame_rate, title.reference, damaged=damaged
    )
    if compared.differing:
        measurer.on_event(
            events.Warned(
                f"damage: {compared.differing} shows other pictures than a straight decode of the "
                "damaged source: what decoders conceal depends on where decoding begins"
            )
        )


def further_models(request: LadderRequest, measurer: Measurer) -> list[str]:
    """Return the quality models of ``--also``, by their names for the pictures that are scored."""
    return [models.beside(measurer.models[0], name) for name in request.options.also]


def _select(solved: Sequence[SolvedCodec], measurer: Measurer) -> _Selection:
    """Drop the rungs that a rung of another codec makes useless."""
    ladders = {one.codec: one.rate_points(measurer) for one in solved}
    kept = kept_rungs(ladders)
    several = len(solved) > 1
    names = {
        one.codec: rung_names(
            [rung.size.height for rung in one.plan.rungs], one.codec if several else None
        )
        for one in solved
    }
    rungs = tuple(
        _RungChoice(one, number, names[one.codec][number], one.requests[number])
        for one in solved
        for number in kept[one.codec]
    )
    requests = tuple(sorted({request for rung in rungs for request in rung.requests}))
    codecs = tuple(
        codec_facts(
            one,
            requests,
            [name for n, name in enumerate(names[one.codec]) if n not in kept[one.codec]],
            ladders[one.codec],
            ladders[solved[0].codec],
        )
        for one in solved
    )
    return _Selection(rungs, requests, codecs)


def _secured(request: LadderRequest, selection: _Selection, measurer: Measurer) -> Measurer:
    """Score the delivered encodes by the further models too, and have the store hold them whole.

    Return a measurer that knows the delivered encodes with all their scores.
    """
    if request.options.also:
        measurer = Measurer(
            measurer.title,
            tuple(dict.fromkeys((*measurer.models, *further_models(request, measurer)))),
            measurer.store,
            measurer.executor,
            measurer.on_event,
            measurer.costs,
        )
        measurer.measure(selection.requests, stage="also")
    measurer.ensure_intact(selection.requests, stage="again")
    return measurer


def _chosen(choice: _RungChoice, measurer: Measurer) -> ChosenRung:
    setup = choice.codec.setup
    return ChosenRung(
        name=choice.name,
        recipe=setup.recipe,
        slope=choice.codec.plan.rungs[choice.number].slope,
        predicted_quality=_predicted_quality(choice),
        encodes=tuple(measurer.measured_encode(request) for request in choice.requests),
    )


def _predicted_quality(choice: _RungChoice) -> float | None:
    """Return the mean quality that was predicted for a rung's encodes before any measurement."""
    prediction = choice.codec.setup.prediction
    if prediction is None:
        return None
    expected = [prediction.expected(shot, point) for shot, point in choice.requests]
    frames = [shot.frames for shot in choice.codec.setup.title.shots]
    total = sum(n * e.quality for n, e in zip(frames, expected, strict=True) if e is not None)
    return round(total / sum(frames), 4)


def _collect_report(directory: Path, measurer: Measurer) -> dict[str, Any] | None:
    """Collect the content of the report; None, with a warning, where that fails: a package is
    whole without its report.
    """
    try:
        return report.collect(
            Package.open(directory), measurer.on_event, reference=measurer.title.reference
        )
    except ShotladderError as error:
        measurer.on_event(events.Warned(f"no {report.REPORT_FILE}: {error.message}"))
        return None
