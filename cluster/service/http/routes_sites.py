"""The route that plans what a site holds."""

from __future__ import annotations

from fastapi import APIRouter

from cluster.service.fill_documents import (
    ExpectedPlays,
    FillAnswer,
    FillRequest,
    PlannedSiteFile,
)
from cluster.service.http.context import CurrentService, Filler
from cluster.service.http.problems import documented
from cluster.service.sites import SHARE, SiteDay, SitePlan
from encoder.arrays import Index
from recommender.caching import Goal, Objective
from recommender.sites.filling import FillRules

router = APIRouter(prefix="/v1", tags=["sites"])


@router.post(
    "/prefetch:fill",
    responses=documented(400, 401, 409, 413, 422),
    summary="Plan what a site holds",
)
def fill(request: FillRequest, service: CurrentService, _: Filler) -> FillAnswer:
    """The files that a site is to add, to admit and to remove on a day. The plan is remembered, so
    that the next one goes on from it; the same day is planned again as if for the first time.
    """
    objective = Objective(request.objective)
    weight = 1.0 if objective is Objective.STARTS else request.start_weight
    rules = FillRules(
        Goal(objective, weight, request.start_seconds),
        share=SHARE if request.share is None else request.share,
        fill_price=request.fill_price,
        budget_bytes=request.fill_bytes,
    )
    day = SiteDay(
        *(request.site, request.day, request.capacity_bytes, request.expected, request.played),
        request.held,
    )
    plan = service.sites.plan(day, rules, follow=request.share is None)
    return _answer(request, plan)


def _answer(request: FillRequest, plan: SitePlan) -> FillAnswer:
    planned, known = plan.planned, plan.known

    def listed(files: Index) -> list[PlannedSiteFile]:
        return [
            PlannedSiteFile(
                sha256=known.demand[at].sha256,
                bytes=known.demand[at].bytes,
                title=known.name_of(int(known.files.title[at])),
                uri=known.demand[at].uri,
            )
            for at in files.tolist()
        ]

    mean, (low, high) = planned.forecast.mean, planned.forecast.band()
    inside, compared = plan.calibration
    return FillAnswer(
        site=planned.name,
        day=request.day,
        share=planned.share,
        followed_days=planned.followed_days,
        add=listed(planned.files.ahead),
        admit=listed(planned.files.admit),
        remove=plan.removed,
        add_bytes=planned.bytes_of(planned.files.ahead),
        admit_bytes=planned.bytes_of(planned.files.admit),
        over_budget_bytes=planned.files.over_budget,
        titles={
            name: ExpectedPlays(
                plays=round(float(mean[at]), 3), low=float(low[at]), high=float(high[at])
            )
            for name, at in known.names.items()
        },
        inside_band=round(inside, 4) if compared else None,
        missing=plan.missing,
    )
