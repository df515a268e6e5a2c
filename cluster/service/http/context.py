"""What the routes share, and who asks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException

from cluster.service.http.auth import Tokens
from cluster.service.http.reading import Reader
from cluster.service.library.library import Library
from cluster.service.metrics import Metrics
from cluster.service.queue.jobs import Jobs
from cluster.service.queue.webhooks import WebhookPolicy
from cluster.service.sources import Allowed


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of a service."""

    jobs: Jobs
    library: Library
    tokens: Tokens
    reader: Reader
    metrics: Metrics
    webhooks: WebhookPolicy
    sources: Allowed
    streams: dict[str, int] = field(default_factory=lambda: {"open": 0})
    """How many clients follow events."""


READING = "reading"
"""Name of the security scheme of reads; whether they need one is the owner's choice."""
_writing = HTTPBearer(
    scheme_name="writing", auto_error=False, description="A token of those who may write."
)
_reading = HTTPBearer(
    scheme_name=READING, auto_error=False, description="A token of those who may read or write."
)
_WriteCredentials = Annotated[HTTPAuthorizationCredentials | None, Security(_writing)]
_ReadCredentials = Annotated[HTTPAuthorizationCredentials | None, Security(_reading)]


def parts(request: Request) -> Service:
    """The service that a request came to."""
    service: Service = request.app.state.service
    return service


def writer(request: Request, _: _WriteCredentials = None) -> str:
    """Name of who writes."""
    return _known(request, parts(request).tokens.writer)


def reader(request: Request, _: _ReadCredentials = None) -> str:
    """Name of who reads."""
    return _known(request, parts(request).tokens.reader)


def _known(request: Request, who: Any) -> str:
    given = request.headers.get("authorization")
    name: str | None = who(given.encode("latin-1") if given is not None else None)
    if name is None:
        raise HTTPException(
            401,
            "a token is needed: send it as `Authorization: Bearer TOKEN`",
            {"WWW-Authenticate": "Bearer"},
        )
    return name


Parts = Annotated[Service, Depends(parts)]
Writer = Annotated[str, Depends(writer)]
ReaderName = Annotated[str, Depends(reader)]
