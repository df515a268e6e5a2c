"""The FastAPI application, its OpenAPI document, and health and metrics."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse

from cluster.jobs.request import choices
from cluster.service.documents import Health, Problem, Readiness
from cluster.service.http import (
    routes_artwork,
    routes_decisions,
    routes_deliveries,
    routes_jobs,
    routes_sites,
    routes_titles,
)
from cluster.service.http.context import READING, CurrentService, Limiters, Service
from cluster.service.http.deciding import Desk
from cluster.service.http.following import Followers
from cluster.service.http.hosts import AllowedHosts
from cluster.service.http.middleware import FrontMiddleware
from cluster.service.http.mounting import mount_of
from cluster.service.http.pages import PAGE, page_response
from cluster.service.http.problems import UNKNOWN_PARAMETER, answer_errors, documented
from cluster.service.http.queries import UnknownParameter, check_known
from encoder.errors import BadInput

_ABOUT = """Per-shot encoding ladders: submit titles, read ladders, prefetch manifests and artwork.

Errors are `application/problem+json`; their `detail` names the remedy. Documents have an `ETag` for
`If-None-Match`. Send tokens as `Authorization: Bearer TOKEN`."""

router = APIRouter(tags=["operation"])


@router.get("/", response_class=Response, responses={200: PAGE}, summary="Page for operators")
async def operators() -> Response:
    """A page that shows jobs, titles, failures and webhooks that were given up. The page needs no
    token. Where reads need one, the page asks its user for the token.
    """
    return page_response(
        "cluster.service.http",
        "operators.html",
        policy="connect-src 'self'; img-src 'self' blob: data:",
        cache_control="no-cache",
    )


@router.get("/healthz", summary="Liveness")
async def healthy() -> Health:
    """Answers as long as the process works."""
    return Health(status="ok")


@router.get("/readyz", responses=documented(503), summary="Readiness")
def ready(service: CurrentService) -> Readiness:
    """Answers while jobs can be taken and packages published, with the number of queued and running
    jobs. Where nothing can be written, 503 tells why; documents and media can still be read.
    """
    service.writable.check()
    counts = service.jobs.counts()
    return Readiness(status="ok", queued=counts.get("queued", 0), running=counts.get("running", 0))


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"description": "Metrics in Prometheus' text format.", "content": {"text/plain": {}}}
    },
    summary="Metrics for Prometheus",
)
def metrics(service: CurrentService) -> Response:
    """Requests by route and status, jobs by state, and the number of titles."""
    return Response(service.metrics.text(), media_type="text/plain; version=1.0.0; charset=utf-8")


def build(
    service: Service, *, hosts: AllowedHosts | None = None, peer_requests: int | None = None
) -> tuple[FastAPI, FrontMiddleware]:
    """Return the application, and the middleware in front of it, which is what to serve.

    ``hosts`` and ``peer_requests`` are those of :class:`.middleware.FrontMiddleware`.
    """
    app = FastAPI(
        title="shotladder",
        version=version("shotladder"),
        description=_ABOUT,
        openapi_url=None,  # served below, since it names the path at which the service is mounted
        docs_url=None,  # that page would load scripts from other hosts
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(_known_parameters)],
    )
    app.state.service = service
    app.state.limiters = Limiters()
    app.state.followers = Followers(service.jobs)
    answer_errors(app)
    for included in (
        *(routes_jobs.router, routes_deliveries.router, routes_titles.router),
        *(routes_artwork.router, routes_decisions.router, routes_sites.router, router),
    ):
        app.include_router(included)
    document = _openapi(app, service.tokens.reads_need_token)  # built once: it takes long
    app.openapi = lambda: document  # type: ignore[method-assign] # FastAPI documents this way
    app.state.parameters = _parameters(document)
    app.add_api_route("/openapi.json", described, include_in_schema=False)
    return app, FrontMiddleware(
        app,
        service.reader,
        service.metrics,
        desk=Desk(service.decisions, service.tokens),
        hosts=hosts,
        peer_requests=peer_requests,
    )


async def described(request: Request) -> Response:
    """Return the OpenAPI document, with the path at which the service is mounted."""
    document, mount = request.app.openapi(), mount_of(request.scope)
    return JSONResponse(document | ({"servers": [{"url": mount}]} if mount else {}))


def _known_parameters(request: Request) -> None:
    """Refuse a request whose query has a parameter that its path does not know."""
    query: bytes = request.scope["query_string"]
    if query:
        path = getattr(request.scope.get("route"), "path", "")
        known = request.app.state.parameters.get((path, request.method), ())
        try:
            check_known(query, known)
        except UnknownParameter as error:
            raise BadInput(str(error), reason=UNKNOWN_PARAMETER) from error


def _parameters(document: dict[str, Any]) -> dict[tuple[str, str], tuple[str, ...]]:
    """Return the names of query parameters by path and method, by the OpenAPI document."""
    return {
        (path, method.upper()): tuple(
            parameter["name"]
            for parameter in operation.get("parameters", ())
            if parameter["in"] == "query"
        )
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }


def _openapi(app: FastAPI, reads_need_tokens: bool) -> dict[str, Any]:
    """Return the OpenAPI document, with the problem's schema and the values that options may have.

    Options are enumerated here only, since a client may be of another release than its service.
    """
    document = app.openapi()
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    options = schemas["JobOptions"]["properties"]
    for name, values in choices().items():
        schema = options[name].get("items") or options[name].get("anyOf", [options[name]])[0]
        schema["enum"] = list(values)
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"].setdefault("400", documented(400)[400])
            invalid = operation.get("responses", {}).get("422", {}).get("content", {})
            invalid.pop("application/json", None)  # FastAPI's own format, which is never sent
            if not reads_need_tokens and operation.get("security") == [{READING: []}]:
                del operation["security"]
                for status in ("401", "403"):
                    operation["responses"].pop(status, None)
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    return document
