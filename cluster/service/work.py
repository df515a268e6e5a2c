"""What a job's own process does: one job after another, told and telling through a pipe.

The process dies with its runner, however that dies, and takes its Dask workers and their ffmpegs
along. What it has finished is in the store, from which the job goes on elsewhere.
"""

from __future__ import annotations

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
from cluster.service.documents import JobOptions
from encoder.errors import BadInput, SourceUnusable


@dataclass(frozen=True, slots=True)
class Work:
    """A job, as its process is told."""

    kind: str
    source: Path
    source_size: int
    source_stamp: str
    content_sha256: str | None
    """Where it is known from an earlier attempt."""
    options: JobOptions
    out: Path
    """Folder for the package: new, or with the documents of the package that it replaces."""
    stores: Path
    """Folder with one store per content."""
    workers: int | None
    scheduler: str | None


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

    def __call__(self, work: Work, store: Path, report: events.Report) -> Mapping[str, Any]:
        """Fill ``work.out`` (for a run), or estimate; what ``run.json`` or the plan says."""


def perform(work: Work, store: Path, report: events.Report) -> Mapping[str, Any]:
    """The real thing: :func:`cluster.job.run_title` or :func:`cluster.estimate.plan_run`.

    Raises:
        ShotladderError: as they do.
    """
    from cluster.setup import RunOptions

    asked = work.options
    options = RunOptions(
        source=work.source,
        out=work.out,
        codec=asked.codec,
        preset=asked.preset,
        profile=asked.profile,
        heights=tuple(asked.heights) if asked.heights else None,
        also=tuple(asked.also),
        store=store,
        workers=work.workers,
        scheduler=work.scheduler,
    )
    if asked.search is not None:
        options = replace(options, search=asked.search)
    if work.kind == "plan":
        from cluster.estimate import plan_run

        return {"plan": asdict(plan_run(options, report))}
    from cluster.job import run_title

    return {"run": run_title(options, report).run}


def check_unchanged(work: Work) -> None:
    """See that the source is the one that was submitted.

    Raises:
        SourceUnusable: it is not.
    """
    if work.source.resolve() != work.source:  # a folder on the way is a link by now
        raise SourceUnusable(f"{work.source} leads elsewhere by now; submit it again")
    try:
        status = work.source.stat()
    except OSError as error:
        raise SourceUnusable(
            f"{work.source} cannot be read any more ({error.strerror}); "
            "put it back and retry the job"
        ) from error
    if (status.st_size, str(status.st_mtime_ns)) != (work.source_size, work.source_stamp):
        raise SourceUnusable(
            f"{work.source} has changed since it was submitted; submit it again, as a new version"
        )


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
    def report(event: events.Event) -> None:
        pipe.send(event)

    try:
        check_unchanged(work)
        sha256 = work.content_sha256
        if sha256 is None:
            sha256 = _digest(work.source, work.source_size, report)
        pipe.send(Content(sha256))
        if not pipe.recv():
            return Ended()
        check_unchanged(work)
        result = performing(work, work.stores / sha256, report)
        _settle(work.out)
        return Ended(result=result)
    except OSError as error:
        return Ended(failure=events.Failed.of(_as_ours(error)))
    except Exception as error:
        return Ended(failure=events.Failed.of(error))


def _digest(path: Path, size: int, report: events.Report) -> str:
    """Digest of the source, with progress in MB."""
    import hashlib

    digest, done, told = hashlib.sha256(), 0, time.monotonic()
    report(events.StagePlanned("digest", size // 1_000_000, unit="MB"))
    with path.open("rb") as file:
        while chunk := file.read(1 << 22):
            digest.update(chunk)
            done += len(chunk)
            if time.monotonic() - told > 0.5:
                told = time.monotonic()
                report(events.StageProgress("digest", done // 1_000_000, size // 1_000_000))
    report(events.StageProgress("digest", size // 1_000_000, size // 1_000_000))
    return digest.hexdigest()


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
