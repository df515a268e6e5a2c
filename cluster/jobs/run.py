"""The main job: a title in, a verified package out.

:func:`run_title` is the whole pipeline on a page, in the order of the data. It never prints;
progress goes to ``on_event`` as :mod:`cluster.events`. Everything made on the way is in the store,
so a run that is killed at any moment continues when it is started again.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import events
from cluster.execution.executor import Executor, call_with_retries, connect
from cluster.jobs.clock import Clock
from cluster.jobs.damage_findings import describe_damage
from cluster.jobs.deliver import deliver, further_models
from cluster.jobs.history import recorded
from cluster.jobs.recipe_check import check_recipes
from cluster.jobs.request import LadderRequest, RunOptions
from cluster.jobs.setup import set_up
from cluster.jobs.solve import solve
from cluster.jobs.sound_findings import describe_heard
from cluster.jobs.source_findings import describe_source
from cluster.jobs.text_findings import describe_texts
from cluster.package.publish import check_output
from cluster.stages.analysis import features_key, find_title, known_damage, shots_key
from cluster.stages.measurer import Measurer
from cluster.stages.quarantine import reading
from cluster.stages.texts import texts_in_title
from cluster.stages.title import Title, TitleSource, open_title
from cluster.stages.tracks import audio_tracks, heard_in_title, subtitle_tracks
from cluster.store import Store, open_store
from cluster.store.manifests import Manifest
from cluster.store.place import store_place
from ladder.document import Ladder


@dataclass(frozen=True, slots=True)
class RunResult:
    """A finished run."""

    ladder: Ladder
    out: Path
    """Folder of the package."""
    run: dict[str, Any]
    """Content of ``run.json``. That file, and the report, which shows it, are all that differs
    between two runs of the same title."""
    manifest: Manifest
    """What the store remembers of the run."""


def run_title(
    options: RunOptions, on_event: events.Listener, executor: Executor | None = None
) -> RunResult:
    """Make a package at ``options.out`` from the title at ``options.source``.

    Raises:
        BadInput: an option cannot be satisfied; nothing was written to ``options.out``.
        Infeasible: no ladder satisfies the profile's constraints.
        ToolFailed, VerificationFailed, StoreUnusable: the run failed; what was finished is kept.
    """
    clock = Clock()
    request = LadderRequest.of(options)
    request.check_encoders()
    place = store_place(options.store)
    check_output(options.out, keep=[options.source, *([place] if isinstance(place, Path) else [])])
    with (
        contextlib.closing(open_store(place)) as store,
        store.scratch() as workdir,
    ):
        source = open_title(
            options.source, workdir, tone_map=options.tone_map, choices=options.source_choices
        )
        request = request.for_source(source.reference)
        with (
            recorded(options, source, store) as record,
            reading(store, source) as store,
            connect(
                executor,
                workers=options.workers,
                scheduler=options.scheduler,
                priority=options.priority,
                on_event=on_event,
            ) as running,
        ):
            _warn_of_source(source, options.source, on_event)
            title = find_title(options.source, source, store, running, on_event)
            for finding in describe_damage(title.reference, known_damage(title.source, store)):
                on_event(events.Warned(finding.sentence))
            _prepare_audio_and_subtitles(title, store, on_event)
            setups = set_up(request, title, store, running, on_event)
            models = (setups[0].quality_model,)
            measurer = Measurer(title, models, store, running, on_event)
            checked = check_recipes(request, setups, measurer)
            solved = [solve(setup, measurer) for setup in checked.setups]
            ladder, run = deliver(request, solved, checked, measurer, clock)
            record.keys.update(measurer.record_keys(further_models(request, measurer)))
            record.keys.update(checked.record_keys)
            record.keys.update([shots_key(title.source), features_key(title.source)])
            record.finish(options.out, len(ladder.rungs), run)
    return RunResult(ladder, options.out, run, record.manifest)


def _warn_of_source(source: TitleSource, path: Path, on_event: events.Listener) -> None:
    for finding in describe_source(source.reference, path):
        if finding.state == "warn":
            on_event(events.Warned(finding.sentence))


def _prepare_audio_and_subtitles(title: Title, store: Store, on_event: events.Listener) -> None:
    """Make the audio and subtitle tracks, which stay in the store: a stream that does not decode
    ends the run before anything is encoded.
    """
    info = title.reference.info
    streams = len(info.audio) + sum(stream.text for stream in info.subtitles)
    streams += len(title.reference.captions)
    if streams:
        with events.stage(on_event, "sound and text", streams, unit="streams"):
            for make in (audio_tracks, subtitle_tracks):
                call_with_retries(make, title, store)
        heard = describe_heard(title.reference, heard_in_title(title, store), encoded=True)
        for finding in (*heard, *describe_texts(texts_in_title(title, store))):
            on_event(events.Warned(finding.sentence))
