"""How those who run jobs speak about them.

Whoever runs a job holds a **lease** on it: a token that every later word about the job must bear,
and a time until which it is good, which heartbeats move on. A runner that died (the kernel has let
go of its lock) or fell silent loses its leases; the job is queued again and goes on from the
store. What the loser still says is not heard.

Equal bytes under another name are found in the first stage, by **content**: the later job waits
for the earlier and takes its package.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session, aliased

from cluster.service.database import Database, JobRow
from cluster.service.documents import Failure, Job, JobOptions
from cluster.service.queue.transitions import digest, document, end, requeue, tell
from cluster.service.sources import Found
from encoder.errors import LeaseLost

LEASE_SECONDS = 20.0
MOST_CRASHES = 3
"""Of a job's own process: then it is the job that is ill."""
MOST_LOST = 20
"""Leases of one job that ran out: then it may be what kills its runners."""
_ACTIVE = ("queued", "running")


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job that is ours to run until the lease ends."""

    number: int
    id: str
    title: str
    kind: str
    source: Found
    """As it was when it was submitted."""
    options: JobOptions
    content_sha256: str | None
    lease: str
    priority: int


class Leases:
    """The jobs of a service, for those who run them. Every method is one transaction."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], float] = time.time,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self.database = database
        self.clock = clock
        self.lease_seconds = lease_seconds
        self.on_queued: Callable[[], None] = lambda: None
        """Called after a job was queued: a runner in this process need not wait for its turn."""

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
            tell(session, row, {"type": "running", "attempt": row.attempts}, self.clock())
            return Claimed(
                number=row.number,
                id=row.id,
                title=row.title,
                kind=row.kind,
                source=Found(row.source, row.source_size, row.source_stamp),
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
                tell(session, row, dict(body), self.clock())
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
            row.content = digest([row.kind, sha256, row.options])
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
                    requeue(session, row, "follows", self.clock())
                    row.follows = one.number
                    one.priority = max(one.priority, row.priority)  # it works for both now
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
            end(session, row, "succeeded", self.clock())
            return document(row, self.clock())

    def fail(self, job: Claimed, failure: Failure) -> Job:
        """End a job with an error.

        Raises:
            LeaseLost: it is not ours any more.
        """
        with self.database.writing() as session:
            row = self.leased(session, job)
            row.failure = failure.model_dump(mode="json")
            end(session, row, "failed", self.clock())
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
                end(session, row, "cancelled", self.clock())
            elif row.crashes >= MOST_CRASHES:
                row.failure = Failure(
                    error="WorkerDied",
                    message=f"the process that ran it died {row.crashes} times ({how}); "
                    "look for lack of memory, then retry the job",
                ).model_dump(mode="json")
                end(session, row, "failed", self.clock())
            else:
                requeue(session, row, how, self.clock())

    def release(self, job: Claimed, reason: str) -> None:
        """Give a job back: to the queue, or to its end if it was cancelled.

        Raises:
            LeaseLost: it is not ours any more.
        """
        with self.database.writing() as session:
            row = self.leased(session, job)
            if row.cancel_requested:
                end(session, row, "cancelled", self.clock())
            else:
                requeue(session, row, reason, self.clock())
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
                    end(session, row, "cancelled", self.clock())
                elif row.lost >= MOST_LOST:
                    row.failure = Failure(
                        error="RunnerLost",
                        message=f"its runner was lost {row.lost} times; "
                        "look what it does to the machine, then retry the job",
                    ).model_dump(mode="json")
                    end(session, row, "failed", self.clock())
                else:
                    requeue(session, row, "runner lost", self.clock())
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
