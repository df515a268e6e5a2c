"""The process that runs jobs, one after another: orders and answers go through a pipe.

The process dies with its runner, however the runner dies, and takes its Dask workers and their
ffmpegs along. Finished encodes are in the store, from which the job resumes elsewhere.
"""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from multiprocessing import connection, parent_process
from pathlib import Path
from typing import Any

from cluster import events
from cluster.execution.security import SharedScheduler
from cluster.jobs.options import as_tuples
from cluster.jobs.request import LadderRequest, RunOptions
from cluster.service import web
from cluster.service.options import JobOptions
from cluster.service.sources import SourceFile, check_unchanged, local_path
from cluster.store.files import fsync_tree
from encoder.errors import BadInput, SourceChanged
from ladder.profiles import load_profile, profile_from_document


@dataclass(frozen=True, slots=True)
class Work:
    """A job, as the process that runs it gets it."""

    kind: str
    source: SourceFile
    content_sha256: str | None
    """Digest of the source, where an earlier attempt has computed it."""
    options: JobOptions
    out: Path
    """Folder for the package: missing, or with documents of the package that it will replace."""
    inbox: Path
    """Folder for a source that has to be fetched."""
    stores: Path
    """Folder with one store per source digest."""
    workers: int | None
    scheduler: str | SharedScheduler | None
    weights: Path | None = None
    embedding: str | None = None
    nudity: bool = False


@dataclass(frozen=True, slots=True)
class ContentKnown:
    """Answer: the digest of the source is known. The process waits for True to go on."""

    sha256: str


@dataclass(frozen=True, slots=True)
class Ended:
    """Answer: the job has ended, with a result, with a failure, or because it was not to go on."""

    result: Mapping[str, Any] | None = None
    failure: events.Failed | None = None


Perform = Callable[[Work, Path, Path, events.Listener], Mapping[str, Any]]
"""Runs a job as :func:`perform` does; goes to another process by its name."""


def perform(work: Work, source: Path, store: Path, on_event: events.Listener) -> Mapping[str, Any]:
    """Run the job by :func:`cluster.jobs.run.run_title`, which fills ``work.out``, and return
    ``run`` (``run.json``); or return ``plan`` by :func:`cluster.jobs.estimate.plan_run`.
    """
    options = replace(
        run_options(work.options, source, work.out),
        store=store,
        workers=work.workers,
        scheduler=work.scheduler,
        weights=work.weights,
        embedding=work.embedding,
        nudity=work.nudity,
    )
    if work.kind == "plan":
        from cluster.jobs.estimate import plan_run

        return {"plan": asdict(plan_run(options, on_event))}
    from cluster.jobs.run import run_title

    return {"run": run_title(options, on_event).run}


def run_options(asked: JobOptions, source: Path, out: Path) -> RunOptions:
    """Convert the options of a job to those of a run; both have the same names.

    Raises:
        BadInput: the content of the profile is not that of a profile.
    """
    named = {name: value for name, value in asked if value is not None}
    if not isinstance(asked.profile, str):
        named["profile"] = profile_from_document(asked.profile)
    lists = {name: as_tuples(value) for name, value in named.items() if isinstance(value, list)}
    return RunOptions(source=source, out=out, **{**named, **lists})


def check_asked(asked: JobOptions) -> None:
    """Check that the codec, preset, profile, search and models of a job exist.

    Raises:
        BadInput: one of them does not.
    """
    LadderRequest.of(run_options(asked, Path(), Path()))


def count_codecs(asked: JobOptions) -> int:
    """Return the number of codecs that a job's ladder may have."""
    if asked.codec is not None:
        return len(asked.codec.split(","))
    profile = asked.profile
    known = load_profile(profile) if isinstance(profile, str) else profile_from_document(profile)
    return len(known.codecs)


def serve(pipe: connection.Connection, performing: Perform) -> None:
    """Run what comes through ``pipe`` until it closes; the main function of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the service, which then ends us
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    threading.Thread(target=die_with_parent, name="die-with-parent", daemon=True).start()
    os.nice(5)  # on a shared machine reads come first
    try:
        while True:
            pipe.send(_run(pipe.recv(), pipe, performing))
    except (EOFError, OSError, KeyboardInterrupt):
        return


def _run(work: Work, pipe: connection.Connection, performing: Perform) -> Ended:
    try:
        check_unchanged(work.source)
        sha256, source = work.content_sha256, local_path(work.source.uri)
        if sha256 is None:
            source = source or _fetch(work, pipe.send)
            sha256 = _digest(source, work.source.size, pipe.send)
        pipe.send(ContentKnown(sha256))
        if not pipe.recv():
            return Ended()
        source = source or _fetch(work, pipe.send)
        result = performing(work, source, work.stores / sha256, pipe.send)
        check_unchanged(work.source)
        if work.out.exists():  # a plan makes none
            fsync_tree(work.out)
        return Ended(result=result)
    except OSError as error:
        return Ended(failure=events.Failed.of(_as_bad_input(error)))
    except SourceChanged as error:
        return Ended(failure=events.Failed.of(_to_submit_again(error)))
    except Exception as error:
        return Ended(failure=events.Failed.of(error))


def _fetch(work: Work, on_event: events.Listener) -> Path:
    source = work.source
    progress = _ByteProgress("fetch", source.size, on_event)
    return web.fetch(source.uri, source.size, source.stamp, work.inbox, progress)


def _digest(path: Path, size: int, on_event: events.Listener) -> str:
    digest, done = hashlib.sha256(), 0
    progress = _ByteProgress("digest", size, on_event)
    with path.open("rb") as file:
        while chunk := file.read(1 << 22):
            digest.update(chunk)
            done += len(chunk)
            progress(done)
    progress(size)
    return digest.hexdigest()


class _ByteProgress:
    """Reports a stage over a source's bytes, in megabytes, at most twice a second."""

    def __init__(self, stage: str, size: int, on_event: events.Listener) -> None:
        self._stage, self._size, self._on_event = stage, size, on_event
        self._reported = time.monotonic()
        on_event(events.StagePlanned(stage, size // 1_000_000, unit="MB"))

    def __call__(self, done: int) -> None:
        if done >= self._size or time.monotonic() - self._reported > 0.5:
            self._reported = time.monotonic()
            self._on_event(
                events.StageProgress(self._stage, done // 1_000_000, self._size // 1_000_000)
            )


def _to_submit_again(error: SourceChanged) -> SourceChanged:
    """Return the error with what helps here: the job stands for the delivery that is gone."""
    cause = error.context.get("cause", error.message)
    remedy = "submit the file again when it is complete, as a new version of the title"
    return SourceChanged(f"{cause}; {remedy}", **error.context)


def _as_bad_input(error: OSError) -> Exception:
    if error.filename is not None:
        return BadInput(f"{error.filename}: {error.strerror}; correct this and retry the job")
    return error


def die_with_parent() -> None:
    """Wait until the process that started this one has died, and kill this one."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)
