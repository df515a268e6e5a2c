"""The runners' side of the job table: claim, heartbeat, finish.

A runner holds a **lease** on the job that it runs: a token that every later call about the job must
present, and an expiry that heartbeats move on. A runner that has died (the kernel has released its
lock) or has fallen silent loses its leases: its jobs are queued again and resume from the store.
Whether it is silent is told by its heartbeats, which move the expiry, and by the watching runner's
own steady clock: a step of the wall clock ends no lease.
Later calls under a lost lease change nothing and raise :class:`~encoder.errors.LeaseLost`.

The first stage of a job computes the digest of its source. If another job has made a package of
equal bytes and options, the later job takes that package; if another job is making it, the later
job waits for the earlier.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

from pydantic import ValidationError
from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session, aliased

from cluster.service.database import JobRow
from cluster.service.documents import Failure, Job, Kind
from cluster.service.options import JobOptions
from cluster.service.queue.progress import TYPE, Whole
from cluster.service.queue.table import JobTable, digest, meant, package_of, whole_of
from cluster.service.sources import SourceFile
from encoder.errors import LeaseLost

LEASE_SECONDS = 20.0
MAX_CRASHES = 3
"""Deaths of a job's own process after which the job itself counts as faulty."""
MAX_LOST = 20
"""Lost leases of one job after which the job may be what kills its runners."""


def _next_job(kind: Kind) -> Select[JobRow]:
    """Return the query of the next job of a kind, by priority, deadline and age."""
    followed = aliased(JobRow)
    waits_for_another = (
        select(followed.number)
        .where(followed.number == JobRow.follows, followed.state.in_(("queued", "running")))
        .exists()
    )
    return (
        select(JobRow)
        .where(JobRow.state == "queued", JobRow.kind == kind, ~waits_for_another)
        .order_by(JobRow.priority.desc(), JobRow.deadline.asc().nulls_last(), JobRow.number.asc())
        .limit(1)
    )


_NEXT: Final = {kind: _next_job(kind) for kind in get_args(Kind)}
"""Built once: idle runners ask every fraction of a second, and to build takes ten times as long."""


@dataclass(frozen=True, slots=True)
class LeasedJob:
    """A job that this runner may run until the lease ends."""

    number: int
    id: str
    title: str
    kind: str
    source: SourceFile
    """The source as it was submitted."""
    options: JobOptions
    content_sha256: str | None
    """Digest of the source, where an earlier attempt has computed it."""
    lease: str
    """Token of this attempt."""
    priority: int
    share: float = 0.0
    """Part of the whole job that earlier attempts have come to."""


class Leases:
    """The job table as runners use it. Every method is one transaction.

    Methods that take a :class:`LeasedJob` raise :class:`~encoder.errors.LeaseLost`, and change
    nothing, where its lease is lost.
    """

    def __init__(
        self,
        table: JobTable,
        *,
        lease_seconds: float = LEASE_SECONDS,
        steady_clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._table = table
        self._lease_seconds = lease_seconds
        self._steady_clock = steady_clock
        self._watched: dict[int, tuple[tuple[str | None, float | None], float]] = {}
        """Lease and expiry of each running job, and when they were first seen to be these."""

    def claim(self, owner: str, *, kind: Kind = "run") -> LeasedJob | None:
        """Lease the next job of a kind to ``owner``, by priority, deadline and age; None if none
        waits."""
        next_job = _NEXT[kind]
        with self._table.database.reading() as session:  # most often no job waits
            if session.scalar(next_job) is None:
                return None
        now = self._table.clock()
        with self._table.database.writing() as session:
            row = session.scalar(next_job)
            if row is None:
                return None
            row.state, row.owner, row.lease = "running", owner, secrets.token_hex(16)
            row.lease_until = now + self._lease_seconds
            row.attempts += 1
            row.started = row.started or now
            row.follows = None
            try:
                options = JobOptions.model_validate(row.options)
            except ValidationError as error:  # of a newer release, before this one was put back
                self._table.fail(session, row, _unknown_options(error))
                return None
            self._table.record_event(session, row, {"type": "running", "attempt": row.attempts})
            return LeasedJob(
                number=row.number,
                id=row.id,
                title=row.title,
                kind=row.kind,
                source=SourceFile(row.source, row.source_size, row.source_stamp),
                options=options,
                content_sha256=row.content_sha256,
                lease=row.lease,
                priority=row.priority,
                share=(whole_of(row) or {"share": 0.0})["share"],
            )

    def heartbeat(
        self,
        job: LeasedJob,
        events: Sequence[Mapping[str, Any]] = (),
        whole: Whole | None = None,
    ) -> bool:
        """Extend the lease, record events and the progress of the whole job; return whether the job
        should be cancelled."""
        with self._leased(job) as (session, row):
            row.lease_until = self._table.clock() + self._lease_seconds
            for body in _last_progress_of_each_stage(events):
                self._table.record_event(session, row, dict(body))
                if body["type"] == "stage_progress":
                    told = whole_of(row)
                    row.progress = {**body, "at": self._table.clock(), "whole": told}
            if whole is not None:
                self._record_whole(session, row, whole)
            return row.cancel_requested

    def _record_whole(self, session: Session, row: JobRow, whole: Whole) -> None:
        before = whole_of(row)
        told = {"share": round(whole.share, 4), "remaining_seconds": whole.remaining_seconds}
        if whole.remaining_seconds is not None:
            told["remaining_seconds"] = round(whole.remaining_seconds, 1)
        row.progress = {**(row.progress or {}), "whole": {**told, "at": self._table.clock()}}
        if before is None or before["share"] != told["share"]:
            self._table.record_event(session, row, {"type": TYPE, **told})

    def content_sha256(self, job: LeasedJob) -> str | None:
        """Return the digest of the job's source, if it has been recorded. Needs no lease."""
        with self._table.database.reading() as session:
            return session.get_one(JobRow, job.number).content_sha256

    def active(self) -> list[tuple[str, str]]:
        """Return id and lease of each running job."""
        with self._table.database.reading() as session:
            running = select(JobRow.id, JobRow.lease).where(JobRow.state == "running")
            return [(row[0], row[1] or "") for row in session.execute(running)]

    def highest_queued_priority(self) -> int | None:
        """Return the highest priority of the queued runs; None if none waits for a runner."""
        with self._table.database.reading() as session:
            return session.scalar(
                select(func.max(JobRow.priority)).where(
                    JobRow.state == "queued", JobRow.kind == "run", JobRow.follows.is_(None)
                )
            )

    def record_content(self, job: LeasedJob, sha256: str) -> tuple[str | None, str | None]:
        """Record the digest of the job's source, and look for another job of equal content.

        Returns:
            Package and id of a job that has succeeded with equal bytes and options; or None and the
            id of a running one, in which case this job was queued to follow it and its lease ended;
            or None and None, in which case this job has to run.

        Raises:
            LeaseLost: as always, or the job was cancelled.
        """
        with self._leased(job) as (session, row):
            if row.cancel_requested:
                raise LeaseLost(f"{job.id} was cancelled")
            row.content_sha256 = sha256
            row.content = digest([row.kind, sha256, meant(row.options)])
            if row.kind != "run" or row.forced:
                return None, None
            others = session.scalars(
                select(JobRow)
                .where(
                    JobRow.content == row.content,
                    JobRow.number != row.number,
                    JobRow.state.in_(("running", "succeeded")),
                )
                .order_by(JobRow.number)
            ).all()
            for other in reversed(others):  # older packages are more likely to be removed
                package = package_of(other)
                if package is not None:
                    return package, other.id
            for other in others:
                # A job follows only jobs that recorded the content before it: there is no circle.
                if other.state == "running":
                    self._table.requeue(session, row, "follows")
                    row.follows = other.number
                    other.priority = max(other.priority, row.priority)  # it now works for both
                    return None, other.id
            return None, None

    def succeed(
        self, job: LeasedJob, publish: Callable[[Session, JobRow], Mapping[str, Any]]
    ) -> Job:
        """End a job with the result of ``publish``, in one transaction.

        Raises:
            LeaseLost: as always, or the job was cancelled; nothing was published.
        """
        with self._leased(job) as (session, row):
            if row.cancel_requested:
                raise LeaseLost(f"{job.id} was cancelled")
            row.result = dict(publish(session, row))
            self._table.finish(session, row, "succeeded")
            return self._table.document(row)

    def fail(self, job: LeasedJob, failure: Failure) -> Job:
        """End a job with an error."""
        with self._leased(job) as (session, row):
            self._table.fail(session, row, failure)
            return self._table.document(row)

    def record_crash(self, job: LeasedJob, cause: str) -> None:
        """Queue a job again whose own process died, or fail it after :data:`MAX_CRASHES`."""
        with self._leased(job) as (session, row):
            row.crashes += 1
            failure = None
            if row.crashes >= MAX_CRASHES:
                message = (
                    f"the job's process died {row.crashes} times ({cause}); "
                    "check that the machine has enough memory, then retry the job"
                )
                failure = Failure(error="WorkerDied", message=message)
            self._give_up(session, row, cause, failure)

    def release(self, job: LeasedJob, reason: str) -> None:
        """Give a job up: queue it again, or end it if it was cancelled."""
        with self._leased(job) as (session, row):
            self._give_up(session, row, reason)
        self._table.on_queued()

    def requeue_lost(self, is_alive: Callable[[str], bool]) -> int:
        """Queue the jobs again whose runner is dead or silent; return how many.

        A runner is silent if calls of this method have seen no heartbeat for the time of a lease.
        ``is_alive`` tells from a runner's name whether its process lives.
        """
        with self._table.database.reading() as session:
            columns = select(JobRow.number, JobRow.owner, JobRow.lease, JobRow.lease_until)
            running = session.execute(columns.where(JobRow.state == "running")).all()
        now = self._steady_clock()
        before, self._watched = self._watched, {}
        lost = []
        alive: dict[str, bool] = {}  # a dead runner is seen once: its lock is removed then
        for number, owner, lease, until in running:
            if owner is not None and owner not in alive:
                alive[owner] = is_alive(owner)
            state, since = before.get(number, ((None, None), now))
            self._watched[number] = (lease, until), since if state == (lease, until) else now
            silent = now - self._watched[number][1] >= self._lease_seconds
            if silent or owner is None or not alive[owner]:
                lost.append((number, lease))
        return sum(self._requeue_if_leased(number, lease) for number, lease in lost)

    def _requeue_if_leased(self, number: int, lease: str | None) -> bool:
        """Queue a job again, or fail it after :data:`MAX_LOST`, unless its lease has changed."""
        with self._table.database.writing() as session:
            row = session.get_one(JobRow, number)
            if row.state != "running" or row.lease != lease:
                return False
            row.lost += 1
            failure = None
            if row.lost >= MAX_LOST:
                message = (
                    f"the job lost its runner {row.lost} times; "
                    "check what the job does to the machine, then retry the job"
                )
                failure = Failure(error="RunnerLost", message=message)
            self._give_up(session, row, "runner lost", failure)
            return True

    def _give_up(
        self, session: Session, row: JobRow, reason: str, failure: Failure | None = None
    ) -> None:
        """End a job that was cancelled, or that failed; queue any other again."""
        if row.cancel_requested:
            self._table.finish(session, row, "cancelled")
        elif failure is not None:
            self._table.fail(session, row, failure)
        else:
            self._table.requeue(session, row, reason)

    @contextlib.contextmanager
    def _leased(self, job: LeasedJob) -> Iterator[tuple[Session, JobRow]]:
        """Open a transaction on the row of a job that this runner still holds."""
        with self._table.database.writing() as session:
            row = session.get_one(JobRow, job.number)
            if row.state != "running" or row.lease != job.lease:
                raise LeaseLost(f"{job.id} is {row.state} under another lease")
            yield session, row


def _unknown_options(error: ValidationError) -> Failure:
    """Return why a job whose options this release does not take has failed."""
    first = error.errors(include_url=False)[0]
    return Failure(
        error="BadInput",
        message=f"this release does not take the job's options ({first['msg']}); install the "
        "release that the job was submitted to and retry the job",
    )


def _last_progress_of_each_stage(
    events: Sequence[Mapping[str, Any]],
) -> Iterator[Mapping[str, Any]]:
    """Yield events in order, without progress that later progress of the same stage replaces."""
    stages: set[str] = set()
    kept = []
    for body in reversed(events):
        if body["type"] == "stage_progress":
            if body["stage"] in stages:
                continue
            stages.add(body["stage"])
        kept.append(body)
    yield from reversed(kept)
