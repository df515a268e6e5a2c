"""Routes of jobs."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated

import structlog
from anyio.to_thread import run_sync
from fastapi import APIRouter, Header, Path, Query, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from cluster.service.documents import (
    EPOCH_HEADER,
    MAX_PAGE_SIZE,
    Job,
    JobPage,
    State,
    Submission,
    Submitted,
    TitleName,
)
from cluster.service.http.auth import Client
from cluster.service.http.connections import PUSH
from cluster.service.http.context import (
    AnyReader,
    CurrentFollowers,
    CurrentLimiters,
    CurrentService,
    Limiters,
    Mount,
    Root,
    Service,
    Submitter,
)
from cluster.service.http.following import EventStream
from cluster.service.http.problems import documented
from cluster.service.queue.jobs import Accepted
from cluster.service.queue.work import check_asked
from cluster.service.sources import SourceFile, find_source
from cluster.service.web import is_url
from encoder.errors import Busy

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
log = structlog.stdlib.get_logger(__name__)

JobId = Annotated[str, Path(examples=["job-0123456789abcdef0123"])]
IdempotencyKey = Annotated[
    str | None,
    Header(
        description="Names this submission: requests with the same key return the same job.",
        pattern=r"^[\x21-\x7e]{1,128}$",
    ),
]
LOOK_WAIT_SECONDS = 10.0
"""Time for which a submission waits while too many sources are looked at."""


@router.post(
    "",
    status_code=202,
    responses=documented(400, 401, 403, 409, 413, 422, 503),
    summary="Submit a title",
)
async def submit(
    submission: Submission,
    service: CurrentService,
    client: Submitter,
    limiters: CurrentLimiters,
    root: Root,
    mount: Mount,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> Submitted:
    """Return a job for a source, before the source is read. Submissions of the same source (by URI,
    size and modification time or ETag) with the same title and options are merged into one job, if
    that job waits, runs, or has made the title's current version.
    """
    accepted: Accepted | None = None
    if idempotency_key is not None:
        earlier = service.jobs.find_submitted
        find = partial(earlier, submission, client.name, idempotency_key)
        accepted = await run_sync(find, limiter=limiters.submissions)
    if accepted is None:
        if submission.webhook is not None:
            service.webhooks.check(submission.webhook)
        source = await _find_source(submission.source, service, limiters)
        queue = partial(_queue, service, submission, source, client, idempotency_key, root)
        accepted = await run_sync(queue, limiter=limiters.submissions)
    show = partial(_shown, accepted.job, client, service, root)
    job = await run_sync(show, limiter=limiters.submissions)
    response.headers["Location"] = f"{mount}/v1/jobs/{job.id}"
    return Submitted(**job.model_dump(), merged=accepted.merged, earlier=accepted.earlier)


async def _find_source(source: str, service: Service, limiters: Limiters) -> SourceFile:
    """Look up a source, among a limited number of others of its kind."""
    limiter = limiters.urls if is_url(source) else limiters.files
    try:
        async with asyncio.timeout(LOOK_WAIT_SECONDS):
            await limiter.acquire()
    except TimeoutError:
        raise Busy("too many sources do not answer; submit the title later") from None
    try:
        return await find_source(source, service.sources, limiters.file_threads)
    finally:
        limiter.release()


def _queue(
    service: Service,
    submission: Submission,
    source: SourceFile,
    client: Client,
    key: str | None,
    root: str,
) -> Accepted:
    check_asked(submission.options)
    accepted = service.jobs.submit(submission, source, client.name, key, root=root)
    job, merged = accepted.job, accepted.merged
    log.info("submitted", job=job.id, title=job.title, actor=client.name, merged=merged)
    return accepted


@router.get("", responses=documented(401, 422), summary="List jobs, newest first")
def page(
    service: CurrentService,
    client: AnyReader,
    root: Root,
    state: State | None = None,
    title: TitleName | None = None,
    external_id: TitleName | None = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE_SIZE)] = 50,
    cursor: Annotated[str | None, Query(pattern=r"^[0-9]{1,18}$")] = None,
) -> JobPage:
    """Jobs by state, title or external id. Pass ``next`` as ``cursor`` to get the next page."""
    jobs, following = service.jobs.page(
        limit, cursor, state=state, title=title, external_id=external_id
    )
    return JobPage(jobs=[_shown(job, client, service, root) for job in jobs], next=following)


@router.get("/{job_id}", responses=documented(401, 404, 422), summary="Get a job")
def get(job_id: JobId, service: CurrentService, client: AnyReader, root: Root) -> Job:
    """The job and its present state."""
    return _shown(service.jobs.get(job_id), client, service, root)


def _shown(job: Job, client: Client, service: Service, root: str) -> Job:
    """Return a job as a client may see it that asks under ``root``; its URLs are for readers."""
    if not service.tokens.reads_need_token or client.may("read"):
        job = job.model_copy(update={"urls": service.playable.of_job(job, root)})
    return job if client.may("submit") else job.for_readers()


_CHANGE = documented(400, 401, 404, 409, 413, 422)


@router.post("/{job_id}/cancel", status_code=202, responses=_CHANGE, summary="Cancel a job")
def cancel(job_id: JobId, service: CurrentService, client: Submitter) -> Job:
    """Cancel a job: at once if it is queued, within seconds if it runs."""
    job = service.jobs.cancel(job_id)
    log.warning("cancelled", job=job.id, title=job.title, actor=client.name)
    return job


@router.post("/{job_id}/retry", status_code=202, responses=_CHANGE, summary="Retry a job")
def retry(job_id: JobId, service: CurrentService, client: Submitter) -> Job:
    """Queue a failed or cancelled job again. It resumes from what was finished before."""
    job = service.jobs.retry(job_id)
    log.warning("retried", job=job.id, title=job.title, actor=client.name)
    return job


@router.get(
    "/{job_id}/events",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Server-sent events, as listed in `docs/service.md`.",
            "content": {"text/event-stream": {}},
        },
        **documented(401, 404, 422, 503),
    },
    summary="Follow a job",
)
async def follow(
    job_id: JobId,
    followers: CurrentFollowers,
    _: AnyReader,
    last_event_id: Annotated[
        str, Header(description="Id of the last event that the client has got.")
    ] = "",
    shotladder_epoch: Annotated[
        str, Header(description="The header of that name in the answer that had this id.")
    ] = "",
) -> StreamingResponse:
    """All events of the job, past and future, until it has ended. A client that reconnects sends
    the last id that it has got. If the tables were restored from a backup since, all events come
    again.
    """
    valid = last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 19
    after = int(last_event_id) if valid else 0
    return _EventResponse(await followers.follow(job_id, after, shotladder_epoch or None))


class _EventResponse(StreamingResponse):
    """A stream of events, whose place is given back however the response ends."""

    def __init__(self, stream: EventStream) -> None:
        self._stream = stream
        headers = {
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
            EPOCH_HEADER: stream.epoch,
        }
        super().__init__(stream, media_type="text/event-stream", headers=headers)

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._stream.push = scope.get("extensions", {}).get(PUSH)
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._stream.close()
