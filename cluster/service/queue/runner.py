"""A runner takes jobs from the table and runs each in a process of its own.

A runner also has one slot for estimates alone, which so never wait behind a film.

A runner holds a file lock under its name, which the kernel releases when it dies: other runners see
at once that its jobs are free. A slot of a runner is a thread with a process that runs many jobs,
since starting Python and loading the libraries takes longer than a small job. The process is
replaced when it has died, when a job had to be stopped, and after some number of jobs.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import multiprocessing
import os
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path
from typing import Any

import structlog

from cluster import events
from cluster.execution.security import SharedScheduler
from cluster.service.documents import Failure, Kind, Outcome
from cluster.service.library.library import Library
from cluster.service.queue.jobs import Jobs
from cluster.service.queue.leases import LeasedJob, Leases
from cluster.service.queue.progress import WholeProgress
from cluster.service.queue.work import (
    ContentKnown,
    Ended,
    Perform,
    Work,
    count_codecs,
    perform,
    serve,
)
from encoder.errors import LeaseLost, StoreUnusable

logging.getLogger(__name__).addHandler(logging.NullHandler())
log = structlog.stdlib.get_logger(__name__)

IDLE_SECONDS = 0.5
"""Interval of polling for jobs of other processes; jobs of this process wake the runner."""
HEARTBEAT_SECONDS = 1.0
STOP_SECONDS = 10.0
"""Time for a terminated process to unwind before it is killed."""
JOBS_PER_PROCESS = 200
SWEEP_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerOptions:
    """How jobs are run."""

    slots: int = 1
    """Number of jobs that run at the same time; 0 if another process runs them."""
    workers: int | None = None
    """Worker processes of one job on this machine; None for one per core."""
    scheduler: str | SharedScheduler | None = None
    """A Dask scheduler, or only its address, to run jobs on its workers instead."""
    weights: Path | None = None
    """Weights of the complexity model instead of the packaged ones."""
    embedding: str | None = None
    """``MODULE:FUNCTION`` of what makes the embeddings of stills instead of the classical ones."""
    nudity: bool = False
    """True to score the nudity of stills."""
    performing: Perform = perform
    """Function that runs a job."""


@dataclass(slots=True)
class _Slot:
    number: int
    kind: Kind = "run"
    """Kind of the jobs that the slot takes."""
    job: LeasedJob | None = None
    preempted: bool = False
    """True once a job of higher priority needs this slot."""
    process: multiprocessing.process.BaseProcess | None = None
    pipe: connection.Connection | None = None
    jobs_run: int = 0
    """Number of jobs that the present process has run."""


class Runner:
    """Runs jobs from :meth:`start` to :meth:`stop`."""

    def __init__(
        self, jobs: Jobs, leases: Leases, library: Library, options: RunnerOptions
    ) -> None:
        self._jobs = jobs
        self._leases = leases
        self._library = library
        self._options = options
        self.name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._slots = [_Slot(number) for number in range(options.slots)]
        self._lanes = [*self._slots, _Slot(options.slots, "plan")]
        self._threads: list[threading.Thread] = []
        self._locks = contextlib.ExitStack()

    def start(self) -> None:
        """Start taking jobs."""
        self._locks.enter_context(runner_lock(self._library.root, self.name))
        for slot in self._lanes:
            self._threads.append(
                threading.Thread(target=self._run_jobs, args=(slot,), name=f"slot-{slot.number}")
            )
        self._threads.append(threading.Thread(target=self._maintain, name="maintain"))
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Look for queued jobs now."""
        self._woken.set()

    def stop(self) -> None:
        """Give running jobs back to the queue and end the threads."""
        self._stopping.set()
        self._woken.set()
        for thread in self._threads:
            thread.join()
        self._locks.close()

    # -- threads -------------------------------------------------------------------------------

    def _maintain(self) -> None:
        """Requeue lost jobs, preempt, and remove expired files, until the runner stops."""
        swept = 0.0
        with _errors_logged("sweeping"), self._library.files.locked():
            self._library.drop_unpublished()
        while True:
            with _errors_logged("maintaining"):
                if self._leases.requeue_lost(self._is_alive):
                    self._woken.set()
                self._preempt()
                if not swept or time.monotonic() - swept > SWEEP_SECONDS:
                    swept = time.monotonic()
                    self._sweep_work_folders()
                    self._library.sweep()
                    self._jobs.drop_expired_keys()
            if self._stopping.wait(IDLE_SECONDS):
                return

    def _run_jobs(self, slot: _Slot) -> None:
        """Claim and run jobs in a slot, until the runner stops."""
        while not self._stopping.is_set():
            with _errors_logged("claiming"):
                slot.job = self._leases.claim(self.name, kind=slot.kind)
            if slot.job is None:
                self._woken.wait(IDLE_SECONDS)
                self._woken.clear()
                continue
            try:
                with _errors_logged("running", job=slot.job.id), contextlib.suppress(LeaseLost):
                    self._run(slot, slot.job)
            finally:
                slot.job, slot.preempted = None, False
        self._discard_process(slot)

    def _preempt(self) -> None:
        """Preempt the running job of lowest priority if all slots are busy and a higher waits."""
        running = [(slot.job.priority, slot) for slot in self._slots if slot.job is not None]
        if len(running) < len(self._slots) or any(slot.preempted for slot in self._slots):
            return
        waiting = self._leases.highest_queued_priority()
        if waiting is None:
            return
        lowest, slot = min(running, key=lambda entry: entry[0])
        if waiting > lowest:
            slot.preempted = True

    def _is_alive(self, name: str) -> bool:
        """Return whether a runner may be alive. One on another machine has its lock there, and
        those of one database may have other folders: their heartbeats tell, or end."""
        if name == self.name:
            return True
        alive = runner_is_alive(self._library.root, name)
        return not self._library.database.backend.local if alive is None else alive

    # -- one job -------------------------------------------------------------------------------

    def _run(self, slot: _Slot, job: LeasedJob) -> None:
        log.info("job started", job=job.id, title=job.title, kind=job.kind)
        folder = self._library.root / "work" / _folder_name(job.id, job.lease)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._copy_replaced_artwork(job, folder / "out")
        work = Work(
            kind=job.kind,
            source=job.source,
            content_sha256=job.content_sha256,
            options=job.options,
            out=folder / "out",
            inbox=folder / "source",
            stores=self._library.root / "stores",
            workers=self._options.workers,
            scheduler=self._options.scheduler,
            weights=self._options.weights,
            embedding=self._options.embedding,
            nudity=self._options.nudity,
        )
        try:
            self._follow(slot, job, work)
        except LeaseLost as lost:  # or cancelled just now, in which case the lease still holds
            self._discard_process(slot)
            log.info("job not finished by this runner", job=job.id, detail=lost.message)
            self._end_cancelled(slot, job)
        except BaseException:
            self._discard_process(slot)
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _copy_replaced_artwork(self, job: LeasedJob, out: Path) -> None:
        """Copy the artwork documents that the run replaces to where it looks for them: stills keep
        their names from one delivery of a title to the next."""
        current = self._library.current(job.title)
        if job.kind != "run" or current is None or current.version is None:
            return
        replaced = self._library.files.folder(current.package)
        if (replaced / "artwork.json").exists():
            out.mkdir()
            for name in ("ladder.json", "artwork.json"):
                shutil.copyfile(replaced / name, out / name)

    def _follow(self, slot: _Slot, job: LeasedJob, work: Work) -> None:
        """Have the slot's process run a job, and act on its answers until the job ends."""
        pipe = self._live_process(slot)
        unrecorded: list[dict[str, Any]] = []
        whole = WholeProgress(job.kind, job.share, codecs=count_codecs(job.options))
        try:
            pipe.send(work)
        except OSError:
            self._process_died(slot, job)
            return
        last_heartbeat = time.monotonic()
        while True:
            try:
                message = pipe.recv() if pipe.poll(0.2) else None
            except (EOFError, OSError):
                self._process_died(slot, job)
                return
            match message:
                case ContentKnown(sha256):
                    if not self._go_on(job, sha256, pipe):
                        return
                case Ended():
                    self._leases.heartbeat(job, unrecorded, whole.at(time.monotonic()))
                    slot.jobs_run += 1
                    self._end(job, work, message)
                    return
                case None:
                    pass
                case _:
                    unrecorded.append(events.document(message))
                    whole.update(unrecorded[-1], time.monotonic())
            if self._stopping.is_set() or slot.preempted:
                self._discard_process(slot)
                self._leases.release(job, "preempted" if slot.preempted else "service stopped")
                log.info("job given back", job=job.id)
                return
            if time.monotonic() - last_heartbeat > HEARTBEAT_SECONDS:
                last_heartbeat = time.monotonic()
                recorded, unrecorded = unrecorded, []
                if self._leases.heartbeat(job, recorded, whole.at(last_heartbeat)):
                    self._end_cancelled(slot, job)
                    return

    def _end_cancelled(self, slot: _Slot, job: LeasedJob) -> None:
        self._discard_process(slot)
        self._leases.release(job, "cancelled")
        self._library.sweep_stores([self._leases.content_sha256(job) or ""])
        log.info("job cancelled", job=job.id)

    def _go_on(self, job: LeasedJob, sha256: str, pipe: connection.Connection) -> bool:
        """Tell the process whether to run the job: not if another job has or makes its package."""
        package, other = self._leases.record_content(job, sha256)
        if package is not None:
            with self._library.files.locked():
                if self._library.is_whole(package):
                    pipe.send(False)
                    pipe.recv()
                    self._publish(job, package, {"merged_with": other})
                    return False
        elif other is not None:
            pipe.send(False)
            pipe.recv()
            log.info("job waits for another job of equal content", job=job.id, other=other)
            return False
        pipe.send(True)
        return True

    def _end(self, job: LeasedJob, work: Work, ended: Ended) -> None:
        if ended.failure is not None:
            failure = Failure.model_validate(events.document(ended.failure))
            self._leases.fail(job, failure)
            log.warning("job failed", job=job.id, error=failure.error, message=failure.message)
            return
        result = dict(ended.result or {})
        if job.kind == "plan":
            self._leases.succeed(job, lambda session, row: result)
            return
        with self._library.files.locked():
            package = self._library.files.admit(work.out)
            try:
                self._publish(job, package, result)
            except BaseException:  # for example, a takedown has cancelled the job
                self._library.drop_unpublished([package])
                raise

    def _publish(self, job: LeasedJob, package: str, result: Mapping[str, Any]) -> None:
        """End a job by making its package the title's current version."""

        def publish(session: Any, row: Any) -> Mapping[str, Any]:
            version = self._library.publish(session, row, package)
            return Outcome.model_validate({**result, **version}).model_dump(mode="json")

        self._leases.succeed(job, publish)
        self._library.refresh()
        log.info("job succeeded", job=job.id, title=job.title, package=package)

    def _process_died(self, slot: _Slot, job: LeasedJob) -> None:
        cause = "no process"
        if slot.process is not None:
            slot.process.join(STOP_SECONDS)
            cause = f"exit status {slot.process.exitcode}"
        self._discard_process(slot)
        log.warning("process of the job died", job=job.id, cause=cause)
        self._leases.record_crash(job, cause)

    # -- processes -----------------------------------------------------------------------------

    def _live_process(self, slot: _Slot) -> connection.Connection:
        """Return the pipe to the slot's process; start one if there is none or it is worn out."""
        if slot.jobs_run >= JOBS_PER_PROCESS:
            self._discard_process(slot)
        if slot.pipe is None or slot.process is None or not slot.process.is_alive():
            self._discard_process(slot)
            # Spawned, since forking a process with threads is unsafe.
            context = multiprocessing.get_context("spawn")
            slot.pipe, theirs = context.Pipe()
            slot.process = context.Process(
                target=serve, args=(theirs, self._options.performing), name=f"job-{slot.number}"
            )
            slot.process.start()
            theirs.close()
        return slot.pipe

    def _discard_process(self, slot: _Slot) -> None:
        """End a slot's process, whatever it is doing."""
        process, pipe = slot.process, slot.pipe
        slot.process = slot.pipe = None
        slot.jobs_run = 0
        if process is not None:
            process.terminate()
            if pipe is not None:
                pipe.close()
            process.join(STOP_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()

    def _sweep_work_folders(self) -> None:
        """Remove the folders of attempts that have ended."""
        folders = list((self._library.root / "work").iterdir())  # before asking which are active
        active = {_folder_name(job_id, lease) for job_id, lease in self._leases.active()}
        for folder in folders:
            if folder.name not in active:
                shutil.rmtree(folder, ignore_errors=True)


def _folder_name(job_id: str, lease: str) -> str:
    return f"{job_id}-{lease[:8]}"


@contextlib.contextmanager
def runner_lock(root: Path, name: str) -> Iterator[None]:
    """Hold the lock that shows other runners that this one is alive."""
    path = root / "runners" / f"{name}.lock"
    path.parent.mkdir(exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def runner_is_alive(root: Path, name: str) -> bool | None:
    """Return whether the runner ``name`` still holds its lock; None where there is no such lock."""
    path = root / "runners" / f"{name}.lock"
    try:
        with path.open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return None
    path.unlink(missing_ok=True)
    return False


@contextlib.contextmanager
def _errors_logged(activity: str, **facts: Any) -> Iterator[None]:
    """Log an error in the block, so that it ends the block but not the thread."""
    try:
        yield
    except LeaseLost as error:
        log.warning("lease lost", doing=activity, detail=error.message, **facts)
    except StoreUnusable as error:  # no defect of ours; the job is queued again when its lease ends
        log.warning("tables unusable", doing=activity, detail=error.message, **facts)
        time.sleep(1.0)
    except Exception:
        log.exception("error", doing=activity, **facts)
        time.sleep(1.0)
