"""Routes that decide which artwork is shown, and that take what became of it."""

from __future__ import annotations

import time

from fastapi import APIRouter, Response

from cluster.service.decision_documents import (
    DecisionRequest,
    DecisionRow,
    OutcomeBatch,
    OutcomesTaken,
    RefusedReport,
)
from cluster.service.decisions.reporting import Report, take
from cluster.service.http.context import CurrentService, Decider, Mount, Reporter
from cluster.service.http.deciding import decided
from cluster.service.http.problems import documented
from encoder.errors import BadInput, Conflict

router = APIRouter(prefix="/v1", tags=["decisions"])


@router.post(
    "/decisions",
    response_model=DecisionRow,
    responses=documented(400, 401, 413, 422, 503),
    summary="Decide which artwork a viewer is shown",
)
def decide(request: DecisionRequest, service: CurrentService, mount: Mount, _: Decider) -> Response:
    """One picture for each title of a row, drawn by the policy of the day with a known probability.
    The same viewer gets the same pictures all day.
    """
    return Response(
        decided(request, service.decisions, mount),
        media_type="application/json",
        headers={"Cache-Control": "private, no-store"},
    )


@router.post(
    "/outcomes",
    responses=documented(400, 401, 409, 413, 422, 503),
    summary="Report what became of decisions",
)
def report(batch: OutcomeBatch, service: CurrentService, _: Reporter) -> OutcomesTaken:
    """Reports on decisions, late, again and in any order. Those that were accepted are on disk when
    this answers. Where none of them can be taken, the answer says why: 403 for decisions that were
    not made here, 409 for what comes too late.
    """
    reports = [
        Report(
            one.decision_id,
            None if one.at is None else one.at.timestamp(),
            one.shown,
            one.seen_seconds,
            one.played,
            one.minutes,
        )
        for one in batch.outcomes
    ]
    taken = take(reports, service.decisions.ledger, service.decisions.ids, time.time())
    if not taken.accepted:
        place, reason = taken.refused[0]
        kind = BadInput if reason == "not_signed_here" else Conflict
        detail = f"no report can be taken; outcomes.{place} is refused: {_WHY[reason]}"
        raise kind(detail, reason=reason)
    refused = [RefusedReport(index=place, reason=reason) for place, reason in taken.refused]
    return OutcomesTaken(accepted=taken.accepted, refused=refused)


_WHY = {
    "not_signed_here": "its decision_id was not made by this service; send it as it was answered",
    "outside_window": "it happened before its decision or more than a day after it",
    "too_late": "its decision is more than a week old, and policies have learned without it",
}
