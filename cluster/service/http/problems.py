"""Error responses: ``application/problem+json`` (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from cluster.service.documents import Problem
from cluster.service.redaction import without_secrets
from cluster.service.wording import complaint, field_of, first_complaint
from encoder.errors import BadInput, Busy, Conflict, NotThere, ShotladderError, StoreUnusable

MEDIA_TYPE = "application/problem+json"
UNKNOWN_PARAMETER = "unknown_parameter"
"""Kind of the problem of a query that has a parameter which its path does not know."""
TOKEN_NEEDED = "a token is needed: send it as `Authorization: Bearer TOKEN`"
_PROBLEMS = {
    400: ("bad-request", "Bad request"),
    401: ("who-are-you", "Authentication required"),
    403: ("not-allowed", "Not allowed"),
    404: ("not-there", "Not found"),
    405: ("method-not-allowed", "Method not allowed"),
    408: ("too-slow", "Request took too long"),
    409: ("conflict", "Conflict"),
    410: ("gone", "Gone"),
    413: ("too-large", "Request too large"),
    416: ("no-such-range", "Range not satisfiable"),
    421: ("no-such-host", "Unknown host"),
    422: ("cannot-be-done-as-asked", "Invalid request"),
    429: ("too-many", "Too many at once"),
    431: ("head-too-large", "Request head too large"),
    500: ("a-defect-of-the-service", "Defect of the service"),
    503: ("not-now", "Temporarily unavailable"),
}
"""Kind and title of the problem for each status. Clients compare kinds, so they never change."""


_FORBIDDEN = (
    "source_not_allowed", "webhook_not_allowed", "scope_missing", "signature_invalid",
    "signature_expired", "not_signed_here",
)  # fmt: skip


def problem(status: int, detail: str, reason: str | None = None, **more: Any) -> bytes:
    """Return a problem document with the fields ``more`` as bytes.

    ``reason`` is the kind of problem, for programs; by default the kind of the status.
    """
    kind, title = _PROBLEMS.get(status, ("problem", "Problem"))
    if reason is not None:
        kind = reason.replace(" ", "-").replace("_", "-")
    kind = f"urn:shotladder:problem:{kind}"
    document = Problem(type=kind, title=title, status=status, detail=detail, **more)
    return document.model_dump_json(exclude_none=True).encode()


def response(
    status: int,
    detail: str,
    reason: str | None = None,
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> Response:
    """Return a problem document as a response; see :func:`problem`."""
    return Response(
        problem(status, detail, reason, **more), status, dict(headers or {}), MEDIA_TYPE
    )


def status_of(error: ShotladderError) -> int:
    """Return the HTTP status for an error."""
    reason = error.context.get("reason")
    match error:
        case NotThere():
            return 410 if reason == "withdrawn" else 404
        case Conflict():
            return 409
        case BadInput():
            if reason == UNKNOWN_PARAMETER:
                return 400
            return 403 if reason in _FORBIDDEN else 422
        case Busy() | StoreUnusable():
            return 503
    return 500


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the problem responses of an operation, for its OpenAPI document.

    Where a token can be missing (401), it can also be one that does not allow the request (403).
    """
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {
        status: {"description": _PROBLEMS[status][1], "content": content}
        for status in sorted({*statuses, *((403,) if 401 in statuses else ())})
    }


def answer_errors(app: FastAPI) -> None:
    """Answer every error of the application with a problem document."""

    @app.exception_handler(ShotladderError)
    async def known_error(request: Request, error: ShotladderError) -> Response:
        status = status_of(error)
        headers = {"Retry-After": "30"} if status == 503 else {}
        detail = without_secrets(error.message)
        return response(status, detail, error.context.get("reason"), headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        found = error.errors()
        errors = [{"field": field_of(one), "message": complaint(one)} for one in found]
        return response(422, first_complaint(found), errors=errors)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> Response:
        path = request.scope["path"]
        details = {
            404: f"there is nothing at {path}; see /openapi.json for all paths",
            405: f"{path} does not support {request.method}; see the Allow header",
            400: "the body is not JSON; send a body as described in /openapi.json",
        }
        detail = details.get(error.status_code, str(error.detail))
        headers = dict(error.headers or {})
        if error.status_code == 405:  # Starlette lists only the methods of the first route
            headers["Allow"] = ", ".join(sorted(_methods(request)))
        return response(error.status_code, detail, headers=headers)

    @app.exception_handler(Exception)
    async def defect(request: Request, error: Exception) -> Response:
        return response(500, "this is a defect of the service; please report it, with its log")


def _methods(request: Request) -> set[str]:
    """Return the methods that the path of a request supports, by the OpenAPI document."""
    methods: set[str] = set()
    for path, operations in request.app.openapi()["paths"].items():
        pattern, _, _ = compile_path(path.replace("{path}", "{path:path}"))
        if pattern.match(request.scope["path"]):
            methods |= {method.upper() for method in operations}
    return methods | ({"HEAD"} if "GET" in methods else set())
