"""Calls about jobs and the notifications of their end."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Callable, Generator, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx

from cluster.service.client.answers import (
    EventLines,
    error_of,
    path_part,
    unintelligible,
    validated,
)
from cluster.service.client.connection import Connection
from cluster.service.client.patience import UNAVAILABLE, Attempts, now_seconds
from cluster.service.client.steps import (
    RETRIED_ERRORS,
    Give,
    Listen,
    NextLine,
    Pause,
    Step,
    Steps,
    Values,
)
from cluster.service.documents import (
    EPOCH_HEADER,
    JOB_ID_PATTERN,
    TERMINAL,
    TITLE_PATTERN,
    Delivery,
    DeliveryPage,
    DeliveryState,
    Job,
    JobPage,
    Kind,
    State,
    Submission,
    Submitted,
)
from cluster.service.options import JobOptions
from encoder.errors import NotThere
from encoder.names import shown

_LOOK_SECONDS = 0.2
"""Pause between two looks at a job that is waited for."""

_S = TypeVar("_S")
_Event = tuple[int, dict[str, Any]]


class JobCalls(Connection):
    """Calls about jobs, as steps."""

    def submit(
        self,
        source: str | os.PathLike[str],
        *,
        external_id: str | None = None,
        options: JobOptions | None = None,
        kind: Kind = "run",
        priority: int = 0,
        deadline: datetime | None = None,
        webhook: str | None = None,
        force: bool = False,
        idempotency_key: str | None = None,
    ) -> Steps[Submitted]:
        """Submit a title and return its job, which may have existed already (``merged``).

        ``force`` makes the title anew, for example with a new release of the service, where a
        package of the same source and options exists.
        """
        source = os.fspath(source)
        if shown(source) != source:  # JSON cannot hold such a path, but a URI can
            source = Path(source).absolute().as_uri()
        with validated():
            submission = Submission(
                source=source,
                external_id=external_id,
                # Options of an answer may be of a newer release: none of them may get lost.
                options=JobOptions.model_validate((options or JobOptions()).model_dump()),
                kind=kind,
                priority=priority,
                deadline=deadline,
                webhook=webhook,
                force=force,
            )
        key = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        return (yield from self.post(Submitted, "/v1/jobs", submission, headers=key))

    def job(self, job_id: str) -> Steps[Job]:
        """Return a job and its present state."""
        return (yield from self.get(Job, _path(job_id)))

    def jobs(
        self,
        *,
        state: State | None = None,
        title: str | None = None,
        external_id: str | None = None,
        limit: int | None = None,
    ) -> Values[Job]:
        """Give jobs, newest first: all of them, or at most ``limit``."""
        filters = {"state": state, "title": title, "external_id": external_id}
        return self.each(JobPage, "/v1/jobs", filters, lambda page: page.jobs, limit=limit)

    def find_job(self, name: str) -> Steps[Job]:
        """Return the job with this id, or else the newest job of the title of this name.

        Raises:
            NotThere: there is neither.
        """
        if re.fullmatch(JOB_ID_PATTERN, name):
            try:
                return (yield from self.job(name))
            except NotThere:
                pass
        if re.fullmatch(TITLE_PATTERN, name):
            page = yield from self.get(JobPage, "/v1/jobs", {"title": name, "limit": 1})
            if page.jobs:
                return page.jobs[0]
        raise NotThere(
            f"there is no job {shown(name)}, and no title of that name has a job; "
            "`shotladder jobs` lists the jobs",
            reason="no_such_job",
        )

    def cancel(self, job_id: str) -> Steps[Job]:
        """Cancel a job; a running job is ``cancelled`` only some seconds later."""
        return (yield from self.post(Job, f"{_path(job_id)}/cancel"))

    def retry(self, job_id: str) -> Steps[Job]:
        """Queue a failed or cancelled job again."""
        return (yield from self.post(Job, f"{_path(job_id)}/retry"))

    def events(self, job_id: str, after: int = 0) -> Values[_Event]:
        """Give numbered events of a job until it has ended, across restarts of the service.

        All of them come again, with other numbers, if the tables of the service were restored from
        a backup meanwhile.
        """
        return self._follow(job_id, after, lambda *event: [Give(event)])

    def _follow(
        self, job_id: str, after: int, told: Callable[[int, dict[str, Any]], Iterable[_S]]
    ) -> Generator[Step | _S, Any, None]:
        """Follow a job until it has ended; each event is told, and what that returns are steps."""
        path = _path(job_id)
        yield from self.get(Job, path)  # a wrong id or URL is no reason to wait for a day
        attempts = Attempts(self.wait_patience_seconds)
        last_type, ended, epoch = "", False, ""
        while True:
            pause: float | None = None
            try:
                headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
                headers |= {EPOCH_HEADER: epoch} if epoch else {}
                answer: httpx.Response = yield Listen(f"{path}/events", headers)
                if answer.status_code == 200:
                    epoch, events = answer.headers.get(EPOCH_HEADER, ""), EventLines()
                    try:
                        while (line := (yield NextLine())) is not None:
                            try:
                                event = events.take(line)
                            except (ValueError, RecursionError) as error:
                                raise unintelligible(answer, str(error)) from error
                            if event is not None:
                                after, last_type = event[0], event[1]["type"]
                                yield from told(*event)
                    finally:  # the service answered until now
                        attempts = Attempts(self.wait_patience_seconds)
                else:
                    again = answer.status_code in UNAVAILABLE
                    pause = attempts.pause_seconds(answer) if again else None
                    if pause is None:
                        raise error_of(answer)
            except RETRIED_ERRORS as error:
                pause = attempts.pause_seconds()
                if pause is None:
                    raise self.no_answer(error) from error
            else:
                if ended:
                    return
                job = yield from self._waited_for(path)
                ended = job.state in TERMINAL
                if ended and last_type in TERMINAL:
                    return
                if ended:  # while the stream was interrupted: its last events are still to come
                    continue
            yield Pause(_LOOK_SECONDS if pause is None else pause)

    def _waited_for(self, path: str) -> Steps[Job]:
        patience = self.wait_patience_seconds
        return (yield from self.get(Job, path, patience_seconds=patience))

    def wait(
        self,
        job_id: str,
        *,
        timeout_seconds: float | None = None,
        on_event: Callable[[dict[str, Any]], None] | None = None,
    ) -> Steps[Job]:
        """Wait until a job has ended, in whatever state.

        ``on_event`` is called with each event of the job, unless there is a ``timeout_seconds``.

        Raises:
            TimeoutError: the job has not ended within ``timeout_seconds``.
        """
        path = _path(job_id)
        if timeout_seconds is None:

            def told(number: int, body: dict[str, Any]) -> Iterable[Step]:
                if on_event is not None:
                    on_event(body)
                return ()

            yield from self._follow(job_id, 0, told)
            return (yield from self._waited_for(path))
        until = now_seconds() + timeout_seconds
        job = yield from self.job(job_id)
        while job.state not in TERMINAL:
            if now_seconds() > until:
                raise TimeoutError(f"{job_id} is {job.state} after {timeout_seconds:g} s")
            yield Pause(_LOOK_SECONDS)
            patience = max(until - now_seconds(), self.patience_seconds)
            patience = min(self.wait_patience_seconds, patience)
            job = yield from self.get(Job, path, patience_seconds=patience)
        return job

    def deliveries(
        self,
        *,
        state: DeliveryState | None = None,
        job_id: str | None = None,
        limit: int | None = None,
    ) -> Values[Delivery]:
        """Give webhook deliveries, newest first; ``given_up`` ones await you."""
        filters = {"state": state, "job": job_id}
        return self.each(
            DeliveryPage, "/v1/deliveries", filters, lambda page: page.deliveries, limit=limit
        )

    def resend(self, delivery: int) -> Steps[Delivery]:
        """Send a webhook delivery again, from the first attempt on."""
        return (yield from self.post(Delivery, f"/v1/deliveries/{delivery}/resend"))


def _path(job_id: str) -> str:
    return f"/v1/jobs/{path_part(job_id)}"
