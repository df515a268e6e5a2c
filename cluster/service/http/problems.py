"""What is answered when something cannot be done: ``application/problem+json`` (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from cluster.service.documents import Problem
from encoder.errors import BadInput, Busy, Conflict, NotThere, ShotladderError, StoreUnusable

MEDIA_TYPE = "application/problem+json"
_TITLES = {
    400: "Bad request",
    401: "Who are you?",
    403: "Not allowed",
    404: "Not there",
    405: "Method not allowed",
    408: "Too slow",
    409: "Conflict",
    410: "Gone",
    413: "Too large",
    416: "No such range",
    422: "Cannot be done as asked",
    500: "A defect of the service",
    503: "Not now",
}


def problem(status: int, detail: str, reason: str | None = None, **more: Any) -> bytes:
    """The document, as bytes.

    Args:
        status: of HTTP.
        detail: what was asked, what was found, what to do.
        reason: names the kind of problem for programs; by default that of the status.
    """
    title = _TITLES.get(status, "Problem")
    kind = (reason or title.lower().rstrip("?")).replace(" ", "-").replace("_", "-")
    return (
        Problem(
            type=f"urn:shotladder:problem:{kind}", title=title, status=status, detail=detail, **more
        )
        .model_dump_json(exclude_none=True)
        .encode()
    )


def response(
    status: int,
    detail: str,
    reason: str | None = None,
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> Response:
    """The document, as a response."""
    return Response(
        problem(status, detail, reason, **more), status, dict(headers or {}), MEDIA_TYPE
    )


def status_of(error: ShotladderError) -> int:
    """Status that says what kind of error it is."""
    reason = error.context.get("reason")
    match error:
        case NotThere():
            return 410 if reason == "withdrawn" else 404
        case Conflict():
            return 409
        case BadInput():
            return 403 if reason in ("source_not_allowed", "webhook_not_allowed") else 422
        case Busy() | StoreUnusable():
            return 503
    return 500


DOCUMENTED: dict[int | str, dict[str, Any]] = {
    status: {"description": _TITLES[status], "content": {MEDIA_TYPE: {"schema": {
        "$ref": "#/components/schemas/Problem"}}}}
    for status in _TITLES
}  # fmt: skip


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Problems that an operation answers with, for its OpenAPI document."""
    return {status: DOCUMENTED[status] for status in statuses}


def answer_errors(app: FastAPI) -> None:
    """Have every error answered as a problem."""

    @app.exception_handler(ShotladderError)
    async def ours(request: Request, error: ShotladderError) -> Response:
        status = status_of(error)
        headers = {"Retry-After": "30"} if status == 503 else {}
        return response(status, error.message, error.context.get("reason"), headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        errors = [
            {"field": ".".join(str(part) for part in one["loc"]), "message": one["msg"]}
            for one in error.errors()
        ]
        first = errors[0]
        detail = f"{first['field']}: {first['message']}; /openapi.json says what is taken"
        return response(422, detail, errors=errors)

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> Response:
        details = {
            404: f"there is nothing at {request.url.path}; /openapi.json says what there is",
            405: f"{request.method} is not for {request.url.path}; see the Allow header",
            400: "the body is not JSON; send what /openapi.json describes",
        }
        detail = details.get(error.status_code, str(error.detail))
        headers = dict(error.headers or {})
        if error.status_code == 405:  # Starlette names those of the first route alone
            headers["Allow"] = ", ".join(sorted(_methods(request)))
        return response(error.status_code, detail, headers=headers)

    @app.exception_handler(Exception)
    async def defect(request: Request, error: Exception) -> Response:
        return response(500, "this is a defect of the service, please report it; its log says more")


def _methods(request: Request) -> set[str]:
    """Methods that the path of a request takes, by the OpenAPI document."""
    found: set[str] = set()
    for path, operations in request.app.openapi()["paths"].items():
        pattern, _, _ = compile_path(path.replace("{path}", "{path:path}"))
        if pattern.match(request.url.path):
            found |= {method.upper() for method in operations}
    return found
