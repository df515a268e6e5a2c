"""The job table: the transitions of a job's row, and the row as clients see it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import delete
from sqlalchemy.orm import Session

from cluster.service.database import Database, DeliveryRow, EventRow, JobRow, moment
from cluster.service.documents import (
    Completion,
    Failure,
    Job,
    Outcome,
    Progress,
    State,
)
from cluster.service.options import StatedOptions
from cluster.service.queue import progress
from cluster.service.queue.history import attempts_of
from cluster.service.redaction import without_secrets
from cluster.store.keys import canonical_json
from ladder.profiles import load_profile, profile_names, profile_sha256


class JobTable:
    """The job table and its clock, shared by :class:`.jobs.Jobs` and :class:`.leases.Leases`.

    Methods that take a session are steps of the caller's transaction.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self.database = database
        self.clock = clock
        self.on_queued: Callable[[], None] = lambda: None
        """Called after a job was queued, to wake a runner in this process."""

    def requeue(self, session: Session, row: JobRow, reason: str) -> None:
        """Take a job from its runner and queue it again."""
        row.state = "queued"
        row.owner = row.lease = row.lease_until = None
        self.record_event(session, row, {"type": "queued", "reason": reason})

    def finish(self, session: Session, row: JobRow, state: State) -> None:
        """End a job in one of the terminal states and enqueue its webhooks."""
        row.state, row.finished = state, self.clock()
        row.owner = row.lease = row.lease_until = row.follows = None
        if state != "succeeded":
            row.identity = None
        body: dict[str, Any] = {"type": state}
        if row.failure is not None and state == "failed":
            body |= {"error": row.failure["error"], "message": row.failure["message"]}
        self.record_event(session, row, body)
        for url in row.webhooks:
            self.enqueue_webhook(session, row, url)

    def fail(self, session: Session, row: JobRow, failure: Failure) -> None:
        """End a job with an error."""
        row.failure = failure.model_dump(mode="json")
        self.finish(session, row, "failed")

    def enqueue_webhook(self, session: Session, row: JobRow, url: str) -> None:
        """Enqueue the notification of one webhook about a job that has ended."""
        session.add(
            DeliveryRow(
                job=row.number,
                url=url,
                receiver=urlsplit(url).netloc.lower(),
                state="waiting",
                attempts=0,
                next_at=self.clock(),
            )
        )

    def record_event(self, session: Session, row: JobRow, body: dict[str, Any]) -> None:
        """Record an event of a job; progress replaces earlier progress of the same kind."""
        stage = body.get("stage") if body["type"] == "stage_progress" else None
        stage = progress.TYPE if body["type"] == progress.TYPE else stage
        if stage is not None:
            session.execute(
                delete(EventRow).where(EventRow.job == row.number, EventRow.stage == stage)
            )
        session.add(
            EventRow(job=row.number, type=body["type"], stage=stage, at=self.clock(), body=body)
        )

    def document(self, row: JobRow) -> Job:
        """Return a job as clients see it now."""
        return job_document(row, self.clock())


def job_document(row: JobRow, now: float) -> Job:
    """Return a job as clients see it at the time ``now``; the row is in a session."""
    ended = row.finished if row.state == "succeeded" and row.finished is not None else now
    return Job(
        id=row.id,
        title=row.title,
        kind=row.kind,
        state=row.state,
        source=row.source,
        external_id=row.external_id,
        options=StatedOptions.model_validate(row.options),
        priority=row.priority,
        deadline=None if row.deadline is None else moment(row.deadline),
        late=row.deadline is not None and ended > row.deadline,
        webhooks=row.webhooks,
        submitted_by=row.submitted_by,
        created_at=moment(row.created),
        started_at=None if row.started is None else moment(row.started),
        finished_at=None if row.finished is None else moment(row.finished),
        attempts=row.attempts,
        cancel_requested=row.cancel_requested,
        attempt_list=attempts_of(row, now),
        completion=_completion(row),
        progress=_progress(row),
        result=None if row.result is None else Outcome.model_validate(row.result),
        failure=None if row.failure is None else _failure(row.failure),
    )


def _failure(stored: Mapping[str, Any]) -> Failure:
    """Return a failure without what the URLs in its texts keep to themselves."""
    return Failure.model_validate(without_secrets(stored))


def _completion(row: JobRow) -> Completion:
    """Return the progress of a whole job."""
    if row.state == "succeeded":
        return Completion(share=1.0, remaining_seconds=0.0, at=moment(row.finished or row.created))
    whole = whole_of(row)
    if whole is None:
        return Completion(share=0.0, remaining_seconds=None, at=None)
    left = whole["remaining_seconds"] if row.state == "running" else None
    return Completion(share=whole["share"], remaining_seconds=left, at=moment(whole["at"]))


def whole_of(row: JobRow) -> dict[str, Any] | None:
    """Return share, time left and time of the progress of a whole job, as they were recorded."""
    whole: dict[str, Any] | None = (row.progress or {}).get("whole")
    return whole


def _progress(row: JobRow) -> Progress | None:
    body = row.progress
    if body is None or row.state != "running" or "stage" not in body:
        return None
    return Progress(
        stage=body["stage"],
        done=body["done"],
        total=body["total"],
        share=progress.stage_share(body),
        at=moment(body["at"]),
    )


def package_of(row: JobRow) -> str | None:
    """Return the package that a job has made; None if it made none."""
    package = (row.result or {}).get("package")
    return None if package is None else str(package)


def digest(value: Any) -> str:
    """Return the SHA-256 of a JSON value in canonical form."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def meant(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a job, with the digest of a profile that they name.

    Jobs with equal options mean the same work only if they mean the same profile, and the built-in
    profiles of another release may be others.
    """
    profile = options.get("profile")
    if not isinstance(profile, str) or profile not in profile_names():
        return dict(options)
    return {**options, "profile_sha256": profile_sha256(load_profile(profile))}
