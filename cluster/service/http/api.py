"""The application: routes, problems, health and numbers; :class:`Front` before it."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, FastAPI, Response

from cluster.jobs.options import choices
from cluster.service.documents import Health, Problem, Readiness
from cluster.service.http import routes_jobs, routes_titles
from cluster.service.http.context import READING, Parts, Service
from cluster.service.http.problems import answer_errors, documented
from cluster.service.http.reading import Front

_ABOUT = """Per-shot encoding ladders: submit titles, read ladders, prefetch manifests and artwork.

Errors are `application/problem+json`; `detail` says what to do. Documents have an `ETag`: ask again
with `If-None-Match`. Tokens go into `Authorization: Bearer TOKEN`."""

watching = APIRouter(tags=["operation"])


@watching.get("/healthz", response_model=Health, summary="Does the process work?")
async def healthy() -> Health:
    """That it answers."""
    return Health(status="ok")


@watching.get(
    "/readyz", response_model=Readiness, responses=documented(503), summary="Can it take work?"
)
def ready(service: Parts) -> Readiness:
    """That its tables can be read; how much it has to do."""
    counts = service.jobs.counts()
    return Readiness(status="ok", queued=counts.get("queued", 0), running=counts.get("running", 0))


@watching.get(
    "/metrics",
    response_class=Response,
    responses={200: {"description": "Prometheus' text format.", "content": {"text/plain": {}}}},
    summary="Numbers for Prometheus",
)
def metrics(service: Parts) -> Response:
    """Requests by route, jobs by state, titles."""
    return Response(service.metrics.text(), media_type="text/plain; version=1.0.0; charset=utf-8")


def build(service: Service) -> tuple[FastAPI, Front]:
    """The application, and what serves it."""
    app = FastAPI(
        title="shotladder",
        version=version("shotladder"),
        description=_ABOUT,
        docs_url=None,  # its page would load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.service = service
    answer_errors(app)
    for router in (routes_jobs.router, routes_titles.router, watching):
        app.include_router(router)
    document = _openapi(app, bool(service.tokens.readers))  # now: it takes long
    app.openapi = lambda: document  # type: ignore[method-assign] # FastAPI's way to extend it
    return app, Front(app, service.reader, service.metrics)


def _openapi(app: FastAPI, reads_need_tokens: bool) -> dict[str, Any]:
    """With the problem's schema, which no route returns as its own, and what options may be."""
    made = app.openapi()
    schemas = made.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    asked = schemas["JobOptions"]["properties"]
    for name, known in choices().items():  # which this release takes; a client may be of another
        part = asked[name].get("items") or asked[name].get("anyOf", [asked[name]])[0]
        part["enum"] = list(known)
    for path in made["paths"].values():
        for operation in path.values():
            problem = operation.get("responses", {}).get("422", {}).get("content", {})
            problem.pop("application/json", None)  # FastAPI's own, which we do not send
            if not reads_need_tokens and operation.get("security") == [{READING: []}]:
                del operation["security"]
                operation["responses"].pop("401", None)
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    return made
