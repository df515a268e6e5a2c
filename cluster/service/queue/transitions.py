"""What happens to a job's row, as parts of transactions; and the row as it is shown."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete
from sqlalchemy.orm import Session

from cluster.service.database import DeliveryRow, EventRow, JobRow
from cluster.service.documents import Failure, Job, JobOptions, Outcome, Progress, State
from cluster.store.keys import canonical_json


def requeue(session: Session, row: JobRow, reason: str, now: float) -> None:
    """A job is nobody's any more, and waits for its turn."""
    row.state = "queued"
    row.owner = row.lease = row.lease_until = None
    tell(session, row, {"type": "queued", "reason": reason}, now)


def end(session: Session, row: JobRow, state: State, now: float) -> None:
    """A job has ended; whoever wanted to know will be told."""
    row.state, row.finished = state, now
    row.owner = row.lease = row.lease_until = row.follows = None
    if state != "succeeded":
        row.identity = None
    body: dict[str, Any] = {"type": state}
    if row.failure is not None and state == "failed":
        body |= {"error": row.failure["error"], "message": row.failure["message"]}
    tell(session, row, body, now)
    for url in row.webhooks:
        owe(session, row, url, now)


def owe(session: Session, row: JobRow, url: str, now: float) -> None:
    """A webhook has to be told of a job."""
    session.add(DeliveryRow(job=row.number, url=url, state="waiting", attempts=0, next_at=now))


def tell(session: Session, row: JobRow, body: dict[str, Any], now: float) -> None:
    """Note an event of a job. Of a stage's progress only the last is of use to who comes later."""
    stage = body.get("stage") if body["type"] == "stage_progress" else None
    if stage is not None:
        session.execute(delete(EventRow).where(EventRow.job == row.number, EventRow.stage == stage))
    session.add(EventRow(job=row.number, type=body["type"], stage=stage, at=now, body=body))


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
        webhooks=row.webhooks,
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


def digest(value: Any) -> str:
    """Of a JSON value."""
    return hashlib.sha256(canonical_json(value)).hexdigest()
