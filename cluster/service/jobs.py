"""The table of jobs: what happens to a job, and when.

::

                 +--------- lost, stopped, preempted ----------+
                 v                                             |
    submit -> queued -------- claim ------------------------> running -> succeeded
                 |  ^                                          |   |
                 |  +--- retry --- failed <--------------------+   |
                 v  |                                              v
              cancelled <------------------------------------------+

Whoever runs a job holds a **lease** on it: a token that every later word about the job must bear,
and a time until which it is good, which heartbeats move on. A runner that died (the kernel has let
go of its lock) or fell silent loses its leases; the job is queued again and goes on from the
store. What the loser still says is not heard.

A job is told from others by its **identity** (title, source place, size, modification time,
options): asking for the same twice gives the same job. Equal bytes under another name are found
in the first stage, by **content**: the later job waits for the earlier and takes its package.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session, aliased

from cluster.keys import canonical_json
from cluster.service.database import Database, DeliveryRow, EventRow, IdempotencyRow, JobRow
from cluster.service.documents import (
    Failure,
    Job,
    JobOptions,
    Outcome,
    Progress,
    State,
    Submission,
)
from cluster.service.sources import Found, path_of
from encoder.errors import BadInput, Busy, Conflict, LeaseLost, NotThere

LEASE_SECONDS = 20.0
MOST_CRASHES = 3
"""Of a job's own process: then it is the job that is ill."""
MOST_LOST = 20
"""Leases of one job that ran out: then it may be what kills its runners."""
IDEMPOTENCY_SECONDS = 7 * 86400.0
_ACTIVE = ("queued", "running")


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job that is ours to run until the lease ends."""

    number: int
    id: str
    title: str
    kind: str
    path: Path
    source_size: int
    source_stamp: str
    options: JobOptions
    content_sha256: str | None
    lease: str
    priority: int


@dataclass(frozen=True, slots=True)
class Filters:
    """Which jobs to list."""

    state: State | None = None
    title: str | None = None
    external_id: str | None = None


class Jobs:
    """The jobs of a service. Every method is one transaction."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], float] = time.time,
        most_queued: int = 100_000,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self.database = database
        self.clock = clock
        self._most_queued = most_queued
        self.lease_seconds = lease_seconds
        self.on_queued: Callable[[], None] = lambda: None
        """Called after a job was queued: a runner in this process need not wait for its turn."""

    # -- asking --------------------------------------------------------------------------------

    def submit(
        self, asked: Submission, source: Found, actor: str, key: str | None = None
    ) -> tuple[Job, bool]:
        """A job for what is asked: a new one, or the one that was asked for before.

        Returns:
            The job, and whether it was there already.

        Raises:
            Conflict: ``key`` was used for something else.
            Busy: too many jobs are queued.
        """
        title = asked.external_id or derived_name(source.uri)
        options = asked.options.model_dump(mode="json")
        identity = _digest([asked.kind, title, source.uri, source.size, source.stamp, options])
        now = self.clock()
        with self.database.writing() as session:
            if key is not None:
                before = _used_before(session, asked, actor, key, now)
                if before is not None:  # by a request that was under way with this one
                    return document(before, now), True
            row = session.scalar(select(JobRow).where(JobRow.identity == identity))
            merged = row is not None
            if row is None:
                queued = session.scalar(
                    select(func.count()).select_from(JobRow).where(JobRow.state == "queued")
                )
                if queued is not None and queued >= self._most_queued:
                    raise Busy(f"{queued} jobs are queued, which is all that fit; submit it later")
                row = JobRow(
                    id=f"job-{secrets.token_hex(10)}",
                    title=title,
                    external_id=asked.external_id,
                    kind=asked.kind,
                    state="queued",
                    source=source.uri,
                    source_size=source.size,
                    source_stamp=source.stamp,
                    options=options,
                    priority=asked.priority,
                    deadline=asked.deadline.timestamp() if asked.deadline else None,
                    webhook=asked.webhook,
                    submitted_by=actor,
                    created=now,
                    attempts=0,
                    crashes=0,
                    lost=0,
                    cancel_requested=False,
                    identity=identity,
                )
                session.add(row)
                session.flush()
            elif row.state == "queued" and asked.priority > row.priority:
                row.priority = asked.priority  # who asks again more urgently is heard
            if key is not None:
                session.merge(
                    IdempotencyRow(
                        key=f"{actor}:{key}", request=_request(asked), job=row.number, at=now
                    )
                )
            made = document(row, now)
        self.on_queued()
        return made, merged

    def submitted(self, asked: Submission, actor: str, key: str) -> Job | None:
        """The job that this submission gave when it was sent with ``key`` before, if it was: also
        when its source is no longer there.

        Raises:
            Conflict: ``key`` was used for something else.
        """
        now = self.clock()
        with self.database.reading() as session:
            row = _used_before(session, asked, actor, key, now)
            return None if row is None else document(row, now)

    def get(self, job_id: str) -> Job:
        """A job.

        Raises:
            NotThere: there is none.
        """
        with self.database.reading() as session:
            return document(_found(session, job_id), self.clock())

    def page(
        self, filters: Filters, limit: int, cursor: str | None = None
    ) -> tuple[list[Job], str | None]:
        """Jobs, newest first, and the cursor of the next page."""
        query = select(JobRow).order_by(JobRow.number.desc()).limit(limit + 1)
        for column, wanted in (
            (JobRow.state, filters.state),
            (JobRow.title, filters.title),
            (JobRow.external_id, filters.external_id),
        ):
            if wanted is not None:
                query = query.where(column == wanted)
        if cursor is not None:
            query = query.where(JobRow.number < _position(cursor))
        with self.database.reading() as session:
            rows = list(session.scalars(query))
            now = self.clock()
            more = str(rows[limit - 1].number) if len(rows) > limit else None
            return [document(row, now) for row in rows[:limit]], more

    def counts(self) -> dict[str, int]:
        """How many jobs are in each state."""
        with self.database.reading() as session:
            rows = session.execute(select(JobRow.state, func.count()).group_by(JobRow.state))
            return {row[0]: row[1] for row in rows}

    def events_after(self, job_id: str, after: int) -> tuple[list[tuple[int, dict[str, Any]]], Job]:
        """Events of a job with numbers above ``after``, in order; and the job as it is then.

        Raises:
            NotThere: there is no such job.
        """
        with self.database.reading() as session:
            row = _found(session, job_id)
            events = session.scalars(
                select(EventRow)
                .where(EventRow.job == row.number, EventRow.id > after)
                .order_by(EventRow.id)
            )
            return [(one.id, one.body) for one in events], document(row, self.clock())

    # -- changing ------------------------------------------------------------------------------

    def cancel(self, job_id: str) -> Job:
        """Stop a job: at once when it waits, soon when it runs. What it has finished is kept.

        Raises:
            NotThere: there is none.
            Conflict: it has ended already, otherwise than by being cancelled.
        """
        with self.database.writing() as session:
            row = _found(session, job_id)
            if row.state in ("succeeded", "failed"):
                raise Conflict(
                    f"{job_id} has {row.state} already; there is nothing to cancel",
                    reason="job_ended",
                )
            self.request_cancel(session, row)
            return document(row, self.clock())

    def request_cancel(self, session: Session, row: JobRow) -> None:
        """Part of a transaction: as :meth:`cancel`, of a job that has not ended."""
        if row.state == "queued":
            self._end(session, row, "cancelled")
        elif row.state == "running":
            row.cancel_requested = True

    def retry(self, job_id: str) -> Job:
        """Queue a job that failed or was cancelled again; it goes on from what it has finished.

        Raises:
            NotThere: there is none.
            Conflict: it has not ended, has succeeded, or another job does the same by now.
        """
        with self.database.writing() as session:
            row = _found(session, job_id)
            if row.state not in ("failed", "cancelled"):
                raise Conflict(
                    f"{job_id} is {row.state}; only jobs that failed or were cancelled are retried",
                    reason="job_not_ended",
                )
            identity = _digest(
                [row.kind, row.title, row.source, row.source_size, row.source_stamp, row.options]
            )
            other = session.scalar(select(JobRow).where(JobRow.identity == identity))
            if other is not None:
                raise Conflict(
                    f"{other.id} does the same and is {other.state}; follow that one",
                    reason="job_exists",
                    job=other.id,
                )
            row.state, row.identity, row.cancel_requested = "queued", identity, False
            row.crashes = row.lost = 0
            row.finished = row.failure = row.result = row.progress = row.follows = None
            self._tell(session, row, {"type": "queued", "reason": "retry"})
            made = document(row, self.clock())
        self.on_queued()
        return made

    # -- running -------------------------------------------------------------------------------

    def claim(self, owner: str) -> Claimed | None:
        """The next job in turn, now leased to ``owner``: by priority, deadline and age."""
        other = aliased(JobRow)
        waits = (
            select(other.number)
            .where(other.number == JobRow.follows, other.state.in_(_ACTIVE))
            .exists()
        )
        turn = (
            select(JobRow)
            .where(JobRow.state == "queued", ~waits)
            .order_by(
                JobRow.priority.desc(), JobRow.deadline.asc().nulls_last(), JobRow.number.asc()
            )
            .limit(1)
        )
        with self.database.reading() as session:  # most often there is nothing to write
            if session.scalar(turn) is None:
                return None
        now = self.clock()
        with self.database.writing() as session:
            row = session.scalar(turn)
            if row is None:
                return None
            row.state, row.owner, row.lease = "running", owner, secrets.token_hex(16)
            row.lease_until = now + self.lease_seconds
            row.attempts += 1
            row.started = row.started or now
            row.follows = None
            self._tell(session, row, {"type": "running", "attempt": row.attempts})
            return Claimed(
                number=row.number,
                id=row.id,
                title=row.title,
                kind=row.kind,
                path=path_of(row.source),
                source_size=row.source_size,
                source_stamp=row.source_stamp,
                options=JobOptions.model_validate(row.options),
                content_sha256=row.content_sha256,
                lease=row.lease,
                priority=row.priority,
            )

    def beat(self, job: Claimed, events: Sequence[Mapping[str, Any]] = ()) -> bool:
        """Move the lease on and keep what was reported. True if the job should be stopped.

        Raises:
            LeaseLost: it is not ours any more.
        """
        with self.database.writing() as session:
            row = self.leased(session, job)
            row.lease_until = self.clock() + self.lease_seconds
            for body in _last_of_each_stage(events):
                self._tell(session, row, dict(body))
                if body["type"] == "stage_progress":
                    row.progress = {**body, "at": self.clock()}
            return row.cancel_requested

    def content_of(self, job: Claimed) -> str | None:
        """Digest of the job's source, once it is known."""
        with self.database.reading() as session:
            return session.get_one(JobRow, job.number).content_sha256

    def leases(self) -> list[tuple[str, str]]:
        """Ids and leases of the jobs that run."""
        with self.database.reading() as session:
            running = select(JobRow.id, JobRow.lease).where(JobRow.state == "running")
            return [(row[0], row[1] or "") for row in session.execute(running)]

    def most_urgent(self) -> int | None:
        """Priority of the job whose turn is next; None when none waits."""
        with self.database.reading() as session:
            return session.scalar(
                select(func.max(JobRow.priority)).where(
                    JobRow.state == "queued", JobRow.follows.is_(None)
                )
            )

    def learn_content(self, job: Claimed, sha256: str) -> tuple[str | None, str | None]:
        """Note what the source's bytes are; look who has, or makes, the same package.

        Returns:
            The package of a job that succeeded with equal bytes and options, and its id; or no
            package and the id of one that runs: this job is then queued to follow it, and no
            longer ours; or nothing: run it.

        Raises:
            LeaseLost: it is not ours any more.
        """
        with self.database.writing() as session:
            row = self.leased(session, job)
            if row.cancel_requested:
                raise LeaseLost(f"{job.id} was cancelled")
            row.content_sha256 = sha256
            row.content = _digest([row.kind, sha256, row.options])
            if row.kind != "run":
                return None, None
            same = list(
                session.scalars(
                    select(JobRow)
                    .where(
                        JobRow.content == row.content,
                        JobRow.number != row.number,
                        JobRow.identity.is_not(None),
                        JobRow.state.in_(("running", "succeeded")),
                    )
                    .order_by(JobRow.number)
                )
            )
            for one in same:
                if one.state == "succeeded" and one.result and one.result.get("package"):
                    return str(one.result["package"]), one.id
            for one in same:
                # The one that learnt it first has no other to wait for: no two wait for each other.
                if one.state == "running":
                    self._requeue(session, row, "follows")
                    row.follows = one.number
                    return None, one.id
            return None, None

    def succeed(self, job: Claimed, publish: Callable[[Session, JobRow], Mapping[str, Any]]) -> Job:
        """End a job with what ``publish`` does and returns, in one transaction.

        Raises:
            LeaseLost: it is not ours any more, or was cancelled; nothing was published.
        """
        with self.database.writing() as session:
            row = self.leased(session, job)
            if row.cancel_requested:
                raise LeaseLost(f"{job.id} was cancelled")
            row.result = dict(publish(session, row))
            self._end(session, row, "succeeded")
            return document(row, self.clock())

    def fail(self, job: Claimed, failure: Failure) -> Job:
        """End a job with an error.

        Raises:
            LeaseLost: it is not ours any more.
        """
        with self.database.writing() as session:
            row = self.leased(session, job)
            row.failure = failure.model_dump(mode="json")
            self._end(session, row, "failed")
            return document(row, self.clock())

    def crashed(self, job: Claimed, how: str) -> None:
        """The job's own process died: queue it again, or fail it when that happens every time.

        Raises:
            LeaseLost: it is not ours any more.
        """
        with self.database.writing() as session:
            row = self.leased(session, job)
            row.crashes += 1
            if row.cancel_requested:
                self._end(session, row, "cancelled")
            elif row.crashes >= MOST_CRASHES:
                row.failure = Failure(
                    error="WorkerDied",
                    message=f"the process that ran it died {row.crashes} times ({how}); "
                    "look for lack of memory, then retry the job",
                ).model_dump(mode="json")
                self._end(session, row, "failed")
            else:
                self._requeue(session, row, how)

    def release(self, job: Claimed, reason: str) -> None:
        """Give a job back: to the queue, or to its end if it was cancelled.

        Raises:
            LeaseLost: it is not ours any more.
        """
        with self.database.writing() as session:
            row = self.leased(session, job)
            if row.cancel_requested:
                self._end(session, row, "cancelled")
            else:
                self._requeue(session, row, reason)
        self.on_queued()

    def reap(self, is_alive: Callable[[str], bool]) -> int:
        """Queue again what runners have left: those that are dead, and those that are silent.

        Args:
            is_alive: of a runner, by its name.

        Returns:
            How many jobs.
        """
        with self.database.reading() as session:
            running = list(
                session.execute(
                    select(JobRow.number, JobRow.owner, JobRow.lease, JobRow.lease_until).where(
                        JobRow.state == "running"
                    )
                )
            )
        now = self.clock()
        left = [
            (number, lease)
            for number, owner, lease, until in running
            if owner is None or until is None or until < now or not is_alive(owner)
        ]
        reaped = 0
        for number, lease in left:
            with self.database.writing() as session:
                row = session.get_one(JobRow, number)
                if row.state != "running" or row.lease != lease:
                    continue
                reaped += 1
                row.lost += 1
                if row.cancel_requested:
                    self._end(session, row, "cancelled")
                elif row.lost >= MOST_LOST:
                    row.failure = Failure(
                        error="RunnerLost",
                        message=f"its runner was lost {row.lost} times; "
                        "look what it does to the machine, then retry the job",
                    ).model_dump(mode="json")
                    self._end(session, row, "failed")
                else:
                    self._requeue(session, row, "runner lost")
        return reaped

    def leased(self, session: Session, job: Claimed) -> JobRow:
        """Part of a transaction: the job's row, if it is still ours.

        Raises:
            LeaseLost: it is not.
        """
        row = session.get_one(JobRow, job.number)
        if row.state != "running" or row.lease != job.lease:
            raise LeaseLost(f"{job.id} is {row.state} by another lease")
        return row

    # -- inside a transaction ------------------------------------------------------------------

    def _requeue(self, session: Session, row: JobRow, reason: str) -> None:
        row.state = "queued"
        row.owner = row.lease = row.lease_until = None
        self._tell(session, row, {"type": "queued", "reason": reason})

    def _end(self, session: Session, row: JobRow, state: State) -> None:
        now = self.clock()
        row.state, row.finished = state, now
        row.owner = row.lease = row.lease_until = row.follows = None
        if state != "succeeded":
            row.identity = None
        body: dict[str, Any] = {"type": state}
        if row.failure is not None and state == "failed":
            body |= {"error": row.failure["error"], "message": row.failure["message"]}
        self._tell(session, row, body)
        if row.webhook is not None:
            session.add(
                DeliveryRow(
                    job=row.number, url=row.webhook, state="waiting", attempts=0, next_at=now
                )
            )

    def _tell(self, session: Session, row: JobRow, body: dict[str, Any]) -> None:
        stage = body.get("stage") if body["type"] == "stage_progress" else None
        if stage is not None:  # only the last of a stage is of use to who comes later
            session.execute(
                delete(EventRow).where(EventRow.job == row.number, EventRow.stage == stage)
            )
        session.add(
            EventRow(job=row.number, type=body["type"], stage=stage, at=self.clock(), body=body)
        )


def derived_name(uri: str) -> str:
    """Name of a title whose submission gave none: of its source's place."""
    return "t-" + hashlib.sha256(uri.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def document(row: JobRow, now: float) -> Job:
    """A row as it is shown."""
    ended = row.finished if row.state == "succeeded" and row.finished is not None else now
    progress = None
    if row.progress is not None and row.state == "running":
        said = row.progress
        to_do = said["total"] - said["cached"]
        share = said.get("share")
        if share is None:
            share = (said["done"] - said["cached"]) / to_do if to_do > 0 else 1.0
        progress = Progress(
            stage=said["stage"],
            done=said["done"],
            total=said["total"],
            share=min(max(share, 0.0), 1.0),
            at=moment(said["at"]),
        )
    return Job(
        id=row.id,
        title=row.title,
        kind=row.kind,
        state=row.state,
        source=row.source,
        external_id=row.external_id,
        options=JobOptions.model_validate(row.options),
        priority=row.priority,
        deadline=None if row.deadline is None else moment(row.deadline),
        late=row.deadline is not None and ended > row.deadline,
        webhook=row.webhook,
        submitted_by=row.submitted_by,
        created_at=moment(row.created),
        started_at=None if row.started is None else moment(row.started),
        finished_at=None if row.finished is None else moment(row.finished),
        attempts=row.attempts,
        cancel_requested=row.cancel_requested,
        progress=progress,
        result=None if row.result is None else Outcome.model_validate(row.result),
        failure=None if row.failure is None else Failure.model_validate(row.failure),
    )


def moment(seconds: float) -> datetime:
    """Seconds since the epoch as a time."""
    return datetime.fromtimestamp(seconds, UTC)


def _found(session: Session, job_id: str) -> JobRow:
    row = session.scalar(select(JobRow).where(JobRow.id == job_id))
    if row is None:
        raise NotThere(f"there is no job {job_id!r}; GET /v1/jobs lists them", reason="no_such_job")
    return row


def _used_before(
    session: Session, asked: Submission, actor: str, key: str, now: float
) -> JobRow | None:
    used = session.get(IdempotencyRow, f"{actor}:{key}")
    if used is None or now - used.at >= IDEMPOTENCY_SECONDS:
        return None
    if used.request != _request(asked):
        raise Conflict(
            f"Idempotency-Key {key!r} was used for another submission; "
            "use a new key for a new submission",
            reason="idempotency_key_reused",
        )
    return session.get_one(JobRow, used.job)


def _request(asked: Submission) -> str:
    return _digest(asked.model_dump(mode="json"))


def _position(cursor: str) -> int:
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > 18:
        raise BadInput(f"{cursor!r} is no cursor; take `next` of the page before")
    return int(cursor)


def _digest(value: Any) -> str:
    return hashlib.sha256(canonical_json(value)).hexdigest()


def _last_of_each_stage(events: Sequence[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """Events without progress that later progress of the same stage replaces."""
    seen: set[str] = set()
    kept = []
    for body in reversed(events):
        if body["type"] == "stage_progress":
            if body["stage"] in seen:
                continue
            seen.add(body["stage"])
        kept.append(body)
    yield from reversed(kept)
