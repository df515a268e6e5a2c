"""What a job's own process does: one job after another, told and telling through a pipe.

The process dies with its runner, however that dies, and takes its Dask workers and their ffmpegs
along. What it has finished is in the store, from which the job goes on elsewhere.
"""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from multiprocessing import connection, parent_process
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from cluster import events
from cluster.jobs.options import RunOptions, check_options
from cluster.service import web
from cluster.service.documents import JobOptions
from cluster.service.sources import Found, check_unchanged, path_of
from encoder.errors import BadInput


@dataclass(frozen=True, slots=True)
class Work:
    """A job, as its process is told."""

    kind: str
    source: Found
    content_sha256: str | None
    """Where it is known from an earlier attempt."""
    options: JobOptions
    out: Path
    """Folder for the package: new, or with the documents of the package that it replaces."""
    inbox: Path
    """Folder for a source that has to be fetched."""
    stores: Path
    """Folder with one store per content."""
    workers: int | None
    scheduler: str | None
    face_model: Path | None = None


@dataclass(frozen=True, slots=True)
class Content:
    """The source's bytes are known. The process waits to be told whether to go on."""

    sha256: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The job has ended: with a result, with a failure, or because it was told not to go on."""

    result: Mapping[str, Any] | None = None
    failure: events.Failed | None = None


class Perform(Protocol):
    """What runs a job. A function of a module, as it goes to another process by name."""

    def __call__(
        self, work: Work, source: Path, store: Path, on_event: events.Listener
    ) -> Mapping[str, Any]:
        """Fill ``work.out`` (for a run), or estimate; what ``run.json`` or the plan says."""


def perform(work: Work, source: Path, store: Path, on_event: events.Listener) -> Mapping[str, Any]:
    """The real thing: :func:`cluster.jobs.run.run_title` or :func:`cluster.jobs.estimate.plan_run`.

    Raises:
        ShotladderError: as they do.
    """
    options = replace(
        run_options(work.options, source, work.out),
        store=store,
        workers=work.workers,
        scheduler=work.scheduler,
        face_model=work.face_model,
    )
    if work.kind == "plan":
        from cluster.jobs.estimate import plan_run

        return {"plan": asdict(plan_run(options, on_event))}
    from cluster.jobs.run import run_title

    return {"run": run_title(options, on_event).run}


def run_options(asked: JobOptions, source: Path, out: Path) -> RunOptions:
    """What is asked of a job, as it is asked of a run."""
    options = RunOptions(
        source=source,
        out=out,
        codec=asked.codec,
        preset=asked.preset,
        profile=asked.profile,
        heights=tuple(asked.heights) if asked.heights else None,
        also=tuple(asked.also),
        tone_map=asked.tone_map,
    )
    return options if asked.search is None else replace(options, search=asked.search)


def check_asked(asked: JobOptions) -> None:
    """See that what is asked for exists, before there is a job for it.

    Raises:
        BadInput: something does not.
    """
    check_options(run_options(asked, Path(), Path()))


def serve(pipe: connection.Connection, performing: Perform) -> None:
    """Main function of the process: do what comes through ``pipe`` until it closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the service's to answer
    signal.signal(signal.SIGTERM, _unwind)
    threading.Thread(target=_die_with_parent, name="die-with-parent", daemon=True).start()
    os.nice(5)  # reading comes first on a shared machine
    try:
        while True:
            pipe.send(_do(pipe.recv(), pipe, performing))
    except (EOFError, OSError, KeyboardInterrupt):
        return


def _do(work: Work, pipe: connection.Connection, performing: Perform) -> Ended:
    def on_event(event: events.Event) -> None:
        pipe.send(event)

    try:
        check_unchanged(work.source)
        sha256, source = work.content_sha256, path_of(work.source.uri)
        if sha256 is None:
            source = source or _fetch(work, on_event)
            sha256 = _digest(source, work.source.size, on_event)
        pipe.send(Content(sha256))
        if not pipe.recv():
            return Ended()
        result = performing(work, source or _fetch(work, on_event), work.stores / sha256, on_event)
        check_unchanged(work.source)
        _settle(work.out)
        return Ended(result=result)
    except OSError as error:
        return Ended(failure=events.Failed.of(_as_ours(error)))
    except Exception as error:
        return Ended(failure=events.Failed.of(error))


def _fetch(work: Work, on_event: events.Listener) -> Path:
    found = work.source
    counted = _Megabytes("fetch", found.size, on_event)
    return web.fetch(found.uri, found.size, found.stamp, work.inbox, counted)


def _digest(path: Path, size: int, on_event: events.Listener) -> str:
    digest, done = hashlib.sha256(), 0
    counted = _Megabytes("digest", size, on_event)
    with path.open("rb") as file:
        while chunk := file.read(1 << 22):
            digest.update(chunk)
            done += len(chunk)
            counted(done)
    counted(size)
    return digest.hexdigest()


class _Megabytes:
    """A stage that goes through a source's bytes, told twice a second."""

    def __init__(self, stage: str, size: int, on_event: events.Listener) -> None:
        self._stage, self._size, self._report = stage, size, on_event
        self._told = time.monotonic()
        on_event(events.StagePlanned(stage, size // 1_000_000, unit="MB"))

    def __call__(self, done: int) -> None:
        if done >= self._size or time.monotonic() - self._told > 0.5:
            self._told = time.monotonic()
            self._report(
                events.StageProgress(self._stage, done // 1_000_000, self._size // 1_000_000)
            )


def _settle(folder: Path) -> None:
    """Have a package on the disk, not only in the system's memory: what is published stays, also
    through a loss of power.
    """
    for place, _, files in os.walk(folder):
        for name in [*files, "."]:
            descriptor = os.open(os.path.join(place, name), os.O_RDONLY)  # noqa: PTH118 - of many
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _as_ours(error: OSError) -> Exception:
    if error.filename is not None:
        return BadInput(f"{error.filename}: {error.strerror}; put it right and retry the job")
    return error


def _unwind(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)
