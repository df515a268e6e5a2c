"""Attempts of a job and how they ended, as its events tell."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import object_session

from cluster.service.database import EventRow, JobRow, moment
from cluster.service.documents import TERMINAL, Attempt

_TELLING = ("running", "queued", *sorted(TERMINAL))


def attempts_of(row: JobRow, now: float) -> list[Attempt]:
    """Return the attempts of a job, oldest first; the row is in a session."""
    session = object_session(row)
    if row.attempts == 0 or session is None:
        return []
    told = session.execute(
        select(EventRow.type, EventRow.at, EventRow.body)
        .where(EventRow.job == row.number, EventRow.type.in_(_TELLING))
        .order_by(EventRow.id)
    )
    attempts: list[Attempt] = []
    for kind, at, body in told:
        if kind == "running":
            attempts.append(_attempt(body["attempt"], at, None, now))
        elif attempts and attempts[-1].ended is None:
            began = attempts[-1].started_at.timestamp()
            ended = str(body.get("reason", kind))
            attempts[-1] = _attempt(attempts[-1].number, began, ended, at)
    return attempts


def _attempt(number: int, began: float, ended: str | None, until: float) -> Attempt:
    return Attempt(
        number=number,
        started_at=moment(began),
        ended_at=None if ended is None else moment(until),
        seconds=round(max(until - began, 0.0), 3),  # the clock may have been set back
        ended=ended,
    )
