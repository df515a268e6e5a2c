"""A title opened for a job: its source, its store and its workers, closed after the job."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from cluster import events
from cluster.execution.executor import Executor, call_with_retries, connect
from cluster.jobs.damage_findings import describe_damage
from cluster.jobs.request import LadderRequest, RunOptions
from cluster.jobs.sound_findings import describe_heard, describe_languages, describe_loudness
from cluster.jobs.source_findings import describe_excerpt, describe_source
from cluster.jobs.text_findings import describe_texts
from cluster.stages.analysis import analysis_cpu_seconds, find_title, known_damage
from cluster.stages.digests import noting
from cluster.stages.quarantine import reading
from cluster.stages.texts import texts_in_title
from cluster.stages.title import Title, TitleSource, open_title
from cluster.stages.tracks import audio_tracks, heard_in_title, subtitle_tracks
from cluster.store import Store, open_store
from encoder.package.sound_choices import SoundChoices

_Record = TypeVar("_Record")


@dataclass(frozen=True, slots=True)
class OpenedTitle(Generic[_Record]):
    """A title whose shots are known and whose sound and text are made, and what works on it."""

    request: LadderRequest
    """The request, for the dynamic range of the source."""
    title: Title
    store: Store
    executor: Executor
    record: _Record
    """What keeps the job's manifest."""
    analysis_seconds: float = 0.0
    """CPU seconds that finding the shots took now; 0 where the store had them."""


@contextlib.contextmanager
def opened_title(
    request: LadderRequest,
    place: Path | str,
    recorded: Callable[[RunOptions, TitleSource, Store], AbstractContextManager[_Record]],
    on_event: events.Listener,
    executor: Executor | None = None,
) -> Iterator[OpenedTitle[_Record]]:
    """Open the source of a request and find its shots; say what is wrong with it.

    Args:
        request: what is asked for.
        place: folder or URL of the store.
        recorded: keeps a manifest of the job.
        on_event: is told of the progress.
        executor: runs the work; None starts one as the options say.

    Raises:
        BadInput, SourceUnusable: the source cannot be used.
        ToolFailed, StoreUnusable: what has to be made of it cannot be made.
    """
    options = request.options
    with contextlib.closing(open_store(place)) as store, store.scratch() as workdir:
        source = open_title(
            options.source,
            workdir,
            tone_map=options.tone_map,
            choices=options.source_choices,
            part=options.part,
            digest=noting(store),
            segmentation=request.segmentation,
        )
        request = request.for_source(source.reference)
        if source.excerpt is not None:
            on_event(events.Noted(describe_excerpt(options.source, source.excerpt)))
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
            for finding in describe_source(source.reference, options.source):
                if finding.state == "warn":
                    on_event(events.Warned(finding.sentence))
            before = analysis_cpu_seconds(source, store)
            title = find_title(options.source, source, store, running, on_event)
            spent = analysis_cpu_seconds(source, store) - before
            for finding in describe_damage(title.reference, known_damage(title.source, store)):
                on_event(events.Warned(finding.sentence))
            _prepare_audio_and_subtitles(title, store, request.sound, on_event)
            yield OpenedTitle(request, title, store, running, record, spent)


def _prepare_audio_and_subtitles(
    title: Title, store: Store, sound: SoundChoices, on_event: events.Listener
) -> None:
    """Make the audio and subtitle tracks, which stay in the store: a stream that does not decode
    ends the run before anything is encoded.
    """
    info = title.reference.info
    streams = len(info.audio) + sum(stream.text for stream in info.subtitles)
    streams += len(title.reference.captions)
    for finding in describe_languages(title.reference, sound):
        on_event(events.Warned(finding.sentence))
    if streams:
        with events.stage(on_event, "sound and text", streams, unit="streams"):
            call_with_retries(audio_tracks, title, store, sound)
            call_with_retries(subtitle_tracks, title, store)
        found = heard_in_title(title, store, sound)
        for note in describe_loudness(title.reference, found):
            on_event(events.Noted(note))
        heard = describe_heard(title.reference, found, encoded=True)
        for finding in (*heard, *describe_texts(texts_in_title(title, store))):
            on_event(events.Warned(finding.sentence))
