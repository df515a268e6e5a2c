"""Dependencies that the routes share: the service, and who sent the request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException

from cluster.service.http.auth import Client, Scope, Tokens, scope_missing
from cluster.service.http.problems import TOKEN_NEEDED
from cluster.service.http.reading import Reader
from cluster.service.library.library import Library
from cluster.service.metrics import Metrics
from cluster.service.queue.jobs import Jobs
from cluster.service.queue.webhooks import WebhookPolicy
from cluster.service.sources import SourcePolicy
from encoder.errors import BadInput


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of a service."""

    jobs: Jobs
    library: Library
    tokens: Tokens
    reader: Reader
    metrics: Metrics
    webhooks: WebhookPolicy
    sources: SourcePolicy
    streams: dict[str, int] = field(default_factory=lambda: {"open": 0})
    """Number of open event streams, under ``open``."""


READING = "reading"
"""Name of the security scheme of reads; the owner decides whether reads need a token."""
_writing = HTTPBearer(
    scheme_name="writing", auto_error=False, description="A token with the scope of the request."
)
_reading = HTTPBearer(
    scheme_name=READING, auto_error=False, description="A token with the scope `read`."
)
_WriteCredentials = Annotated[HTTPAuthorizationCredentials | None, Security(_writing)]
_ReadCredentials = Annotated[HTTPAuthorizationCredentials | None, Security(_reading)]


def service_of(request: Request) -> Service:
    """Return the service that got a request."""
    service: Service = request.app.state.service
    return service


def submitter(request: Request, _: _WriteCredentials = None) -> Client:
    """Return the client, which must be allowed to submit."""
    return _authenticate(request, "submit")


def withdrawer(request: Request, _: _WriteCredentials = None) -> Client:
    """Return the client, which must be allowed to withdraw."""
    return _authenticate(request, "withdraw")


def reader(request: Request, _: _ReadCredentials = None) -> Client:
    """Return the client, which must be allowed to read."""
    return _authenticate(request, "read")


def _authenticate(request: Request, scope: Scope) -> Client:
    header = request.headers.get("authorization")
    tokens = service_of(request).tokens
    client = tokens.client(header.encode("latin-1") if header is not None else None)
    if scope == "read" and not tokens.reads_need_token:
        return client or tokens.anybody
    if client is None or client is tokens.anybody:
        raise HTTPException(401, TOKEN_NEEDED, {"WWW-Authenticate": "Bearer"})
    if not client.may(scope):
        raise BadInput(scope_missing(client, scope), reason="scope_missing")
    return client


CurrentService = Annotated[Service, Depends(service_of)]
Submitter = Annotated[Client, Depends(submitter)]
Withdrawer = Annotated[Client, Depends(withdrawer)]
AnyReader = Annotated[Client, Depends(reader)]
