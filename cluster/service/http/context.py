"""Dependencies that the routes share: the service, and who sent the request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException

from cluster.service.http.auth import Tokens
from cluster.service.http.problems import TOKEN_NEEDED
from cluster.service.http.reading import Reader
from cluster.service.library.library import Library
from cluster.service.metrics import Metrics
from cluster.service.queue.jobs import Jobs
from cluster.service.queue.webhooks import WebhookPolicy
from cluster.service.sources import SourcePolicy


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
    scheme_name="writing", auto_error=False, description="A token that may write."
)
_reading = HTTPBearer(
    scheme_name=READING, auto_error=False, description="A token that may read or write."
)
_WriteCredentials = Annotated[HTTPAuthorizationCredentials | None, Security(_writing)]
_ReadCredentials = Annotated[HTTPAuthorizationCredentials | None, Security(_reading)]


def service_of(request: Request) -> Service:
    """Return the service that got a request."""
    service: Service = request.app.state.service
    return service


def writer(request: Request, _: _WriteCredentials = None) -> str:
    """Return the name of the client, which must have a token that may write."""
    return _authenticate(request, service_of(request).tokens.writer)


def reader(request: Request, _: _ReadCredentials = None) -> str:
    """Return the name of the client, which must have a token that may read, if reads need one."""
    return _authenticate(request, service_of(request).tokens.reader)


def _authenticate(request: Request, name_of: Callable[[bytes | None], str | None]) -> str:
    header = request.headers.get("authorization")
    name = name_of(header.encode("latin-1") if header is not None else None)
    if name is None:
        raise HTTPException(401, TOKEN_NEEDED, {"WWW-Authenticate": "Bearer"})
    return name


CurrentService = Annotated[Service, Depends(service_of)]
WriterName = Annotated[str, Depends(writer)]
ReaderName = Annotated[str, Depends(reader)]
