"""Routes of webhook deliveries, for those who may submit: the URLs may contain secrets."""

from __future__ import annotations

from typing import Annotated

import structlog
from fastapi import APIRouter, Path, Query

from cluster.service.documents import (
    JOB_ID_PATTERN,
    MAX_PAGE_SIZE,
    Delivery,
    DeliveryPage,
    DeliveryState,
)
from cluster.service.http.context import CurrentService, Submitter
from cluster.service.http.problems import documented

router = APIRouter(prefix="/v1/deliveries", tags=["jobs"])
log = structlog.stdlib.get_logger(__name__)


@router.get("", responses=documented(401, 422), summary="List webhook deliveries, newest first")
def page(
    service: CurrentService,
    _: Submitter,
    state: DeliveryState | None = None,
    job: Annotated[str | None, Query(pattern=JOB_ID_PATTERN)] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE_SIZE)] = 50,
    cursor: Annotated[str | None, Query(pattern=r"^[0-9]{1,18}$")] = None,
) -> DeliveryPage:
    """Deliveries by state (``given_up`` after the last attempt) or job. Pass ``next`` as ``cursor``
    to get the next page.
    """
    deliveries, following = service.deliveries.page(limit, cursor, state=state, job=job)
    return DeliveryPage(deliveries=deliveries, next=following)


@router.post(
    "/{delivery}/resend",
    status_code=202,
    responses=documented(400, 401, 404, 413, 422),
    summary="Send a webhook delivery again",
)
def resend(
    delivery: Annotated[int, Path(ge=1, le=2**62)], service: CurrentService, client: Submitter
) -> Delivery:
    """Send a delivery again from the first attempt on, whatever became of it."""
    queued = service.deliveries.resend(delivery)
    log.info("resend", delivery=delivery, job=queued.job, actor=client.name)
    return queued
