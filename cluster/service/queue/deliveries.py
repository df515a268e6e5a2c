"""The table of webhook notifications: which are due, which are under way, and what became of them.

A service **claims** a delivery before it sends it, so that several services on one folder do not
send it at the same time. A claim that was not kept, since its service died, ends by itself. No
receiver gets more than a few deliveries at the same time: one that does not answer keeps none of
the places of the others.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, select

from cluster.service.database import Database, DeliveryRow, JobRow, moment
from cluster.service.documents import Delivery, DeliveryState, Job, TitleUrls
from cluster.service.queue.jobs import cursor_number
from cluster.service.queue.table import job_document
from encoder.errors import NotThere

ATTEMPTS = 10
FIRST_DELAY_SECONDS = 2.0
MAX_DELAY_SECONDS = 4 * 3600.0
CLAIM_SECONDS = 60.0
"""Time after which a claim has ended, well above that of an attempt."""
PER_RECEIVER = 4
"""Deliveries to one receiver that may be under way at the same time."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that this service may send once."""

    number: int
    url: str
    receiver: str
    claim: str
    """Token of this attempt."""
    job: dict[str, Any]


class Deliveries:
    """The table of deliveries. Every method is one transaction."""

    def __init__(
        self,
        database: Database,
        *,
        clock: Callable[[], float] = time.time,
        first_delay_seconds: float = FIRST_DELAY_SECONDS,
        urls: Callable[[Job, str | None], TitleUrls | None] = lambda job, root: None,
    ) -> None:
        """Take what deliveries need; ``urls`` returns where a job's version is played, for the URL
        under which the job was submitted."""
        self._database = database
        self._clock = clock
        self._first_delay = first_delay_seconds
        self._urls = urls

    def claim(self, limit: int, under_way: Mapping[str, int]) -> list[Claimed]:
        """Claim up to ``limit`` due deliveries, the longest due first.

        ``under_way`` is the number of deliveries that the caller sends now, by receiver.
        """
        now = self._clock()
        due = (
            select(DeliveryRow)
            .where(DeliveryRow.state == "waiting", DeliveryRow.next_at <= now)
            .order_by(DeliveryRow.next_at, DeliveryRow.id)
            .limit(1)
        )
        busy = Counter(under_way)
        with self._database.reading() as session:  # most often none is due
            if session.scalar(_to_others(due, busy)) is None:
                return []
        found: list[tuple[DeliveryRow, Job, str | None]] = []
        with self._database.writing() as session:
            while len(found) < limit:
                row = session.scalar(_to_others(due, busy))
                if row is None:
                    break
                row.claim, row.next_at = secrets.token_hex(8), now + CLAIM_SECONDS
                busy[row.receiver] += 1
                job = session.get_one(JobRow, row.job)
                found.append((row, job_document(job, now), job.root))
        return [self._claimed(*one) for one in found]

    def _claimed(self, row: DeliveryRow, job: Job, root: str | None) -> Claimed:
        shown = job.for_readers().model_copy(update={"urls": self._urls(job, root)})
        body = shown.model_dump(mode="json")
        return Claimed(row.id, row.url, row.receiver, row.claim or "", body)

    def record(self, delivery: Claimed, answer: str) -> DeliveryState | None:
        """Record the answer to a delivery; return its state, or None if its claim had ended."""
        now = self._clock()
        with self._database.writing() as session:
            row = session.get_one(DeliveryRow, delivery.number)
            if row.claim != delivery.claim:
                return None
            delay = min(self._first_delay * 4**row.attempts, MAX_DELAY_SECONDS)
            row.claim, row.answer, row.tried, row.next_at = None, answer, now, now + delay
            row.attempts += 1
            state: DeliveryState = "waiting"
            if answer.startswith("2"):
                state = "delivered"
            elif row.attempts >= ATTEMPTS:
                state = "given_up"
            row.state = state
            return state

    def page(
        self,
        limit: int,
        cursor: str | None = None,
        *,
        state: DeliveryState | None = None,
        job: str | None = None,
    ) -> tuple[list[Delivery], str | None]:
        """Return a page of deliveries, newest first, and the cursor of the next page."""
        query = _documents().order_by(DeliveryRow.id.desc()).limit(limit + 1)
        if state is not None:
            query = query.where(DeliveryRow.state == state)
        if job is not None:
            query = query.where(JobRow.id == job)
        if cursor is not None:
            query = query.where(DeliveryRow.id < cursor_number(cursor))
        with self._database.reading() as session:
            rows = [_document(row, job_id) for row, job_id in session.execute(query)]
        return rows[:limit], str(rows[limit - 1].id) if len(rows) > limit else None

    def resend(self, number: int) -> Delivery:
        """Send a delivery again from the first attempt on, unless it is being sent just now.

        Raises:
            NotThere: there is no such delivery.
        """
        now = self._clock()
        with self._database.writing() as session:
            found = session.execute(_documents().where(DeliveryRow.id == number)).first()
            if found is None:
                raise NotThere(
                    f"there is no delivery {number}; GET /v1/deliveries lists them",
                    reason="no_such_delivery",
                )
            row, job_id = found
            if row.claim is None or row.next_at <= now:
                row.state, row.attempts, row.next_at, row.claim = "waiting", 0, now, None
            return _document(row, job_id)

    def counts(self) -> dict[str, int]:
        """Return the number of deliveries in each state."""
        with self._database.reading() as session:
            query = select(DeliveryRow.state, func.count()).group_by(DeliveryRow.state)
            return {row[0]: row[1] for row in session.execute(query)}


def _to_others(due: Select[DeliveryRow], busy: Counter[str]) -> Select[DeliveryRow]:
    full = [receiver for receiver, count in busy.items() if count >= PER_RECEIVER]
    return due.where(DeliveryRow.receiver.not_in(full)) if full else due


def _documents() -> Select[DeliveryRow, str]:
    return select(DeliveryRow, JobRow.id).join(JobRow, JobRow.number == DeliveryRow.job)


def _document(row: DeliveryRow, job_id: str) -> Delivery:
    return Delivery.model_validate(
        {
            "id": row.id,
            "job": job_id,
            "url": row.url,
            "state": row.state,
            "attempts": row.attempts,
            "tried_at": None if row.tried is None else moment(row.tried),
            "next_at": moment(row.next_at) if row.state == "waiting" else None,
            "answer": row.answer,
        }
    )
