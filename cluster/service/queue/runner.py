"""Takes jobs from the table and runs each in a process of its own.

A runner has a name, and a lock under that name that the kernel lets go of when it dies: so others
know at once that its jobs are free. A slot is a thread with a process that outlives its jobs, as
starting Python and loading its libraries takes longer than a small job; it is replaced when it
died, when a job had to be stopped, and now and then.
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
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing import connection
from pathlib import Path
from typing import Any

import structlog

from cluster import events
from cluster.service.documents import Failure, Outcome
from cluster.service.library.files import DOCUMENTS
from cluster.service.library.library import Library
from cluster.service.queue.jobs import Jobs
from cluster.service.queue.leases import Claimed
from cluster.service.queue.work import Content, Ended, Perform, Work, perform, serve
from encoder.errors import LeaseLost

logging.getLogger(__name__).addHandler(logging.NullHandler())
log = structlog.stdlib.get_logger(__name__)

IDLE_SECONDS = 0.5
"""Between looks for work of other processes; work of this one wakes the runner."""
BEAT_SECONDS = 1.0
STOP_SECONDS = 10.0
"""For a process to unwind when it is asked to; then it is killed."""
JOBS_PER_PROCESS = 200
SWEEP_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class RunnerOptions:
    """How jobs are run."""

    slots: int = 1
    """Jobs at once."""
    workers: int | None = None
    """Processes of one job on this machine; its cores by default."""
    scheduler: str | None = None
    """Address of a Dask scheduler instead."""
    face_model: Path | None = None
    """YuNet model (ONNX) that finds faces in artwork."""
    performing: Perform = perform


@dataclass(slots=True)
class _Slot:
    number: int
    wanted: threading.Event = field(default_factory=threading.Event)
    job: Claimed | None = None
    preempted: bool = False
    process: multiprocessing.process.BaseProcess | None = None
    pipe: connection.Connection | None = None
    done: int = 0


class Runner:
    """Runs jobs from :meth:`start` to :meth:`stop`."""

    def __init__(self, jobs: Jobs, library: Library, options: RunnerOptions) -> None:
        self.jobs = jobs
        self.library = library
        self.options = options
        self.owner = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._slots = [_Slot(number) for number in range(options.slots)]
        self._threads: list[threading.Thread] = []
        self._locks = contextlib.ExitStack()

    def start(self) -> None:
        """Begin to take jobs."""
        self._locks.enter_context(alive(self.library.root, self.owner))
        for slot in self._slots:
            self._threads.append(
                threading.Thread(target=self._serve, args=(slot,), name=f"slot-{slot.number}")
            )
        self._threads.append(threading.Thread(target=self._tend, name="tend"))
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """There may be work."""
        self._wake.set()

    def stop(self) -> None:
        """Give running jobs back to the queue and end."""
        self._stopping.set()
        self._wake.set()
        for thread in self._threads:
            thread.join()
        self._locks.close()

    # -- threads -------------------------------------------------------------------------------

    def _tend(self) -> None:
        """Frees what others left, makes way for what is urgent, sweeps what has expired."""
        swept = 0.0
        with _logged("sweeping"), self.library.files.locked():
            self.library.drop_unpublished()
        while True:
            with _logged("tending"):
                if self.jobs.reap(self._is_alive):
                    self._wake.set()
                self._preempt()
                if not swept or time.monotonic() - swept > SWEEP_SECONDS:
                    swept = time.monotonic()
                    self._sweep_work()
                    self.library.sweep()
                    self.jobs.forget_keys()
            if self._stopping.wait(IDLE_SECONDS):
                return

    def _serve(self, slot: _Slot) -> None:
        while not self._stopping.is_set():
            with _logged("claiming"):
                slot.job = self.jobs.claim(self.owner)
            if slot.job is None:
                self._wake.wait(IDLE_SECONDS)
                self._wake.clear()
                continue
            try:
                with _logged("running", job=slot.job.id), contextlib.suppress(LeaseLost):
                    self._run(slot, slot.job)
            finally:
                slot.job, slot.preempted = None, False
        self._discard(slot)

    def _preempt(self) -> None:
        """A running job of lower priority gives its place to one that waits."""
        running = [(slot.job.priority, slot) for slot in self._slots if slot.job is not None]
        if len(running) < len(self._slots) or any(slot.preempted for slot in self._slots):
            return
        urgent = self.jobs.most_urgent()
        if urgent is None:
            return
        lowest, slot = min(running, key=lambda entry: entry[0])
        if urgent > lowest:
            slot.preempted = True

    def _is_alive(self, owner: str) -> bool:
        return owner == self.owner or is_alive(self.library.root, owner)

    # -- one job -------------------------------------------------------------------------------

    def _run(self, slot: _Slot, job: Claimed) -> None:
        log.info("job started", job=job.id, title=job.title, kind=job.kind)
        folder = self.library.root / "work" / _folder_name(job.id, job.lease)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._lay_out_before(job, folder / "out")
        work = Work(
            kind=job.kind,
            source=job.source,
            content_sha256=job.content_sha256,
            options=job.options,
            out=folder / "out",
            inbox=folder / "source",
            stores=self.library.root / "stores",
            workers=self.options.workers,
            scheduler=self.options.scheduler,
            face_model=self.options.face_model,
        )
        try:
            self._follow(slot, job, work)
        except LeaseLost as lost:  # or cancelled an instant ago: then it is ours to end
            self._discard(slot)
            log.info("job not ended here", job=job.id, detail=lost.message)
            self._cancelled(slot, job)
        except BaseException:
            self._discard(slot)
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _lay_out_before(self, job: Claimed, out: Path) -> None:
        """Put what the run replaces where it looks for it: artwork keeps its names from one
        delivery of a title to the next."""
        current = self.library.current(job.title)
        if job.kind != "run" or current is None or current.version is None:
            return
        before = self.library.files.folder(current.package)
        if (before / "artwork.json").exists():
            out.mkdir()
            for name in ("ladder.json", "artwork.json"):
                shutil.copyfile(before / name, out / name)

    def _follow(self, slot: _Slot, job: Claimed, work: Work) -> None:
        pipe = self._process(slot)
        heard: list[dict[str, Any]] = []
        try:
            pipe.send(work)
        except OSError:
            self._died(slot, job)
            return
        beaten = time.monotonic()
        while True:
            try:
                said = pipe.recv() if pipe.poll(0.2) else None
            except (EOFError, OSError):
                self._died(slot, job)
                return
            match said:
                case Content(sha256):
                    if not self._go_on(slot, job, sha256, pipe):
                        return
                case Ended():
                    self.jobs.beat(job, heard)
                    slot.done += 1
                    self._end(job, work, said)
                    return
                case None:
                    pass
                case _:
                    heard.append(events.document(said))
            if self._stopping.is_set() or slot.preempted:
                self._discard(slot)
                self.jobs.release(job, "preempted" if slot.preempted else "service stopped")
                log.info("job given back", job=job.id)
                return
            if time.monotonic() - beaten > BEAT_SECONDS:
                beaten = time.monotonic()
                told, heard = heard, []
                if self.jobs.beat(job, told):
                    self._cancelled(slot, job)
                    return

    def _cancelled(self, slot: _Slot, job: Claimed) -> None:
        self._discard(slot)
        self.jobs.release(job, "cancelled")
        self.library.sweep_stores([self.jobs.content_of(job) or ""])
        log.info("job cancelled", job=job.id)

    def _go_on(self, slot: _Slot, job: Claimed, sha256: str, pipe: connection.Connection) -> bool:
        """Tell the process whether to run the job; not if somebody has the package already."""
        package, other = self.jobs.learn_content(job, sha256)
        if package is not None:
            with self.library.files.locked():
                if self.library.files.bundles.path(package).exists():
                    pipe.send(False)
                    pipe.recv()
                    self._publish(job, package, {"merged_with": other})
                    return False
        elif other is not None:
            pipe.send(False)
            pipe.recv()
            log.info("job follows another with equal content", job=job.id)
            return False
        pipe.send(True)
        return True

    def _end(self, job: Claimed, work: Work, ended: Ended) -> None:
        if ended.failure is not None:
            failed = ended.failure
            self.jobs.fail(
                job,
                Failure(
                    error=failed.error,
                    message=failed.message,
                    context=events.document(failed)["context"],
                ),
            )
            log.warning("job failed", job=job.id, error=failed.error, message=failed.message)
            return
        result = dict(ended.result or {})
        if job.kind == "plan":
            self.jobs.succeed(job, lambda session, row: result)
            return
        with self.library.files.locked():
            package, documents = self.library.files.admit(work.out)
            try:
                self._publish(job, package, result, documents)
            except BaseException:  # cancelled by a takedown, say: then nothing may stay
                self.library.drop_unpublished([package])
                raise

    def _publish(
        self,
        job: Claimed,
        package: str,
        result: Mapping[str, Any],
        documents: tuple[str, ...] | None = None,
    ) -> None:
        shown = documents
        if shown is None:
            shown = tuple(self.library.files.bundles.get(package).names())
        kept = [name for name in DOCUMENTS if name in shown]

        def publish(session: Any, row: Any) -> Mapping[str, Any]:
            facts = self.library.publish(session, row, package, kept)
            return Outcome.model_validate({**result, **facts}).model_dump(mode="json")

        self.jobs.succeed(job, publish)
        self.library.refresh()
        log.info("job succeeded", job=job.id, title=job.title, package=package)

    def _died(self, slot: _Slot, job: Claimed) -> None:
        process = slot.process
        if process is not None:
            process.join(STOP_SECONDS)
        how = f"exit status {process.exitcode}" if process is not None else "no process"
        self._discard(slot)
        log.warning("job's process died", job=job.id, how=how)
        self.jobs.crashed(job, how)

    # -- processes -----------------------------------------------------------------------------

    def _process(self, slot: _Slot) -> connection.Connection:
        if slot.done >= JOBS_PER_PROCESS:
            self._discard(slot)
        if slot.pipe is None or slot.process is None or not slot.process.is_alive():
            self._discard(slot)
            # Not forked: this process has threads.
            context = multiprocessing.get_context("spawn")
            slot.pipe, theirs = context.Pipe()
            slot.process = context.Process(
                target=serve, args=(theirs, self.options.performing), name=f"job-{slot.number}"
            )
            slot.process.start()
            theirs.close()
        return slot.pipe

    def _discard(self, slot: _Slot) -> None:
        """End a slot's process, whatever it does."""
        process, pipe = slot.process, slot.pipe
        slot.process = slot.pipe = None
        slot.done = 0
        if process is not None:
            process.terminate()
            if pipe is not None:
                pipe.close()
            process.join(STOP_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()

    def _sweep_work(self) -> None:
        """Remove what attempts left that are nobody's any more."""
        there = list((self.library.root / "work").iterdir())
        ours = {_folder_name(job_id, lease) for job_id, lease in self.jobs.leases()}
        for left in there:
            if left.name not in ours:
                shutil.rmtree(left, ignore_errors=True)


def _folder_name(job_id: str, lease: str) -> str:
    return f"{job_id}-{lease[:8]}"


@contextlib.contextmanager
def alive(root: Path, owner: str) -> Any:
    """Be known as alive by others while the block lasts."""
    path = root / "runners" / f"{owner}.lock"
    path.parent.mkdir(exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def is_alive(root: Path, owner: str) -> bool:
    """Whether a runner still holds its lock."""
    path = root / "runners" / f"{owner}.lock"
    try:
        with path.open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    path.unlink(missing_ok=True)
    return False


@contextlib.contextmanager
def _logged(doing: str, **facts: Any) -> Any:
    """An error is told in the log and ends what was done, not the thread."""
    try:
        yield
    except LeaseLost as error:
        log.warning("lease lost", doing=doing, detail=error.message, **facts)
    except Exception:
        log.exception("error", doing=doing, **facts)
        time.sleep(1.0)
