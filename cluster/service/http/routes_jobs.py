"""Jobs over HTTP."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

import anyio.to_thread
import structlog
from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from cluster.service.documents import (
    MOST_IN_PAGE,
    TERMINAL,
    Job,
    JobPage,
    State,
    Submission,
    Submitted,
    TitleName,
)
from cluster.service.http.context import Parts, ReaderName, Service, Writer
from cluster.service.http.problems import documented
from cluster.service.queue.jobs import Filters
from cluster.service.queue.work import check_asked
from cluster.service.sources import find_source
from encoder.errors import Busy

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
log = structlog.stdlib.get_logger(__name__)

JobId = Annotated[str, Path(pattern=r"^job-[0-9a-f]{20}$", examples=["job-0123456789abcdef0123"])]
IdempotencyKey = Annotated[
    str | None,
    Header(
        description="Names this submission: sent again with the same key it gives the same job.",
        pattern=r"^[\x21-\x7e]{1,128}$",
    ),
]
FOLLOW_SECONDS = 0.3
MOST_STREAMS = 500
KEEP_ALIVE_SECONDS = 15.0


@router.post(
    "",
    status_code=202,
    response_model=Submitted,
    responses=documented(400, 401, 403, 409, 413, 422, 503),
    summary="Submit a title",
)
def submit(
    asked: Submission,
    service: Parts,
    actor: Writer,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> Submitted:
    """A job for a source, before the source is read. The same source (by place, size and
    modification time) with the same title and options is the same job.
    """
    if idempotency_key is not None:
        before = service.jobs.submitted(asked, actor, idempotency_key)
        if before is not None:
            response.headers["Location"] = f"/v1/jobs/{before.id}"
            return Submitted(**before.model_dump(), merged=True)
    if asked.webhook is not None:
        service.webhooks.check(asked.webhook)
    source = find_source(asked.source, service.sources)
    check_asked(asked.options)
    job, merged = service.jobs.submit(asked, source, actor, idempotency_key)
    response.headers["Location"] = f"/v1/jobs/{job.id}"
    log.info("submitted", job=job.id, title=job.title, actor=actor, merged=merged)
    return Submitted(**job.model_dump(), merged=merged)


@router.get(
    "", response_model=JobPage, responses=documented(401, 422), summary="List jobs, newest first"
)
def page(
    service: Parts,
    _: ReaderName,
    state: State | None = None,
    title: TitleName | None = None,
    external_id: TitleName | None = None,
    limit: Annotated[int, Query(ge=1, le=MOST_IN_PAGE)] = 50,
    cursor: Annotated[str | None, Query(pattern=r"^[0-9]{1,18}$")] = None,
) -> JobPage:
    """Jobs by state, title or external id. ``next`` is the cursor of the page that follows."""
    jobs, following = service.jobs.page(Filters(state, title, external_id), limit, cursor)
    return JobPage(jobs=jobs, next=following)


@router.get("/{job_id}", response_model=Job, responses=documented(401, 404, 422), summary="One job")
def get(job_id: JobId, service: Parts, _: ReaderName) -> Job:
    """A job as it is now."""
    return service.jobs.get(job_id)


@router.post(
    "/{job_id}/cancel",
    status_code=202,
    response_model=Job,
    responses=documented(400, 401, 404, 409, 413, 422),
    summary="Cancel a job",
)
def cancel(job_id: JobId, service: Parts, actor: Writer) -> Job:
    """Stop a job: at once when it is queued, within seconds when it runs."""
    job = service.jobs.cancel(job_id)
    log.info("cancel", job=job.id, actor=actor)
    return job


@router.post(
    "/{job_id}/retry",
    status_code=202,
    response_model=Job,
    responses=documented(400, 401, 404, 409, 413, 422),
    summary="Retry a job",
)
def retry(job_id: JobId, service: Parts, actor: Writer) -> Job:
    """Queue a job that failed or was cancelled again. It goes on from what it had finished."""
    job = service.jobs.retry(job_id)
    log.info("retry", job=job.id, actor=actor)
    return job


@router.get(
    "/{job_id}/events",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "Server-sent events; `docs/service.md` lists them.",
            "content": {"text/event-stream": {}},
        },
        **documented(401, 404, 422, 503),
    },
    summary="Follow a job",
)
async def follow(
    request: Request,
    job_id: JobId,
    service: Parts,
    _: ReaderName,
    last_event_id: Annotated[str, Header(description="The last event that was seen.")] = "",
) -> StreamingResponse:
    """What the job has reported and reports, until it has ended. A client that was cut off sends
    the last id that it saw.
    """
    if service.streams["open"] >= MOST_STREAMS:
        raise Busy(f"{MOST_STREAMS} clients follow events already; poll GET /v1/jobs/ID instead")
    seen = last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 19
    after = int(last_event_id) if seen else 0
    first = await anyio.to_thread.run_sync(service.jobs.events_after, job_id, after)
    return StreamingResponse(
        _stream(request, service, job_id, after, first),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _stream(
    request: Request,
    service: Service,
    job_id: str,
    after: int,
    found: tuple[list[tuple[int, dict[str, Any]]], Job],
) -> AsyncIterator[bytes]:
    service.streams["open"] += 1
    try:
        silent = 0.0
        while True:
            events, job = found
            for after, body in events:
                text = json.dumps(body, ensure_ascii=False)
                yield f"id: {after}\nevent: {body['type']}\ndata: {text}\n\n".encode()
            if job.state in TERMINAL:
                return
            silent = 0.0 if events else silent + FOLLOW_SECONDS
            if silent > KEEP_ALIVE_SECONDS:
                silent = 0.0
                yield b": still here\n\n"
            await anyio.sleep(FOLLOW_SECONDS)
            if await request.is_disconnected():
                return
            found = await anyio.to_thread.run_sync(service.jobs.events_after, job_id, after)
    finally:
        service.streams["open"] -= 1
