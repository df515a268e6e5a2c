"""Dependencies that the routes share: the service, and who sent the request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import anyio
from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException

from cluster.service.decisions.keeping import Decisions
from cluster.service.http.auth import Client, Scope, Tokens, scope_missing
from cluster.service.http.following import Followers
from cluster.service.http.mounting import mount_of
from cluster.service.http.problems import TOKEN_NEEDED
from cluster.service.http.reading import Reader
from cluster.service.library.library import Library
from cluster.service.library.playable import Playable
from cluster.service.library.similar import SimilarPictures
from cluster.service.metrics import Metrics
from cluster.service.queue.deliveries import Deliveries
from cluster.service.queue.jobs import Jobs
from cluster.service.queue.webhooks import WebhookPolicy
from cluster.service.sites import SitePlans
from cluster.service.sources import SourcePolicy
from cluster.service.writable import Writable
from encoder.errors import BadInput


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of a service."""

    jobs: Jobs
    library: Library
    tokens: Tokens
    reader: Reader
    metrics: Metrics
    deliveries: Deliveries
    webhooks: WebhookPolicy
    sources: SourcePolicy
    writable: Writable
    playable: Playable
    decisions: Decisions
    sites: SitePlans
    similar: SimilarPictures


@dataclass(frozen=True, slots=True)
class Limiters:
    """How much work of each kind goes on at once, so that one kind does not hold up another.

    What the tables answer has the framework's own limiter.
    """

    urls: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(128))
    """Looks at sources on web servers, which need no thread."""
    files: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(8))
    """Looks at sources that are files, whose file system may hang."""
    file_threads: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(8))
    """Threads of those looks."""
    submissions: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(8))
    """Submissions that are being written to the tables."""


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


def limiters_of(request: Request) -> Limiters:
    """Return the limiters of the service that got a request."""
    limiters: Limiters = request.app.state.limiters
    return limiters


def followers_of(request: Request) -> Followers:
    """Return the listeners of the service that got a request."""
    followers: Followers = request.app.state.followers
    return followers


def submitter(request: Request, _: _WriteCredentials = None) -> Client:
    """Return the client, which must be allowed to submit."""
    return _authenticate(request, "submit")


def withdrawer(request: Request, _: _WriteCredentials = None) -> Client:
    """Return the client, which must be allowed to withdraw."""
    return _authenticate(request, "withdraw")


def decider(request: Request, _: _WriteCredentials = None) -> Client:
    """Return the client, which must be allowed to ask which artwork is shown."""
    return _authenticate(request, "decide")


def reporter(request: Request, _: _WriteCredentials = None) -> Client:
    """Return the client, which must be allowed to report outcomes."""
    return _authenticate(request, "report")


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


def root(request: Request) -> str:
    """Return the URL under which the client asks the service, without a slash at its end."""
    return f"{request.url.scheme}://{request.url.netloc}{mount_of(request.scope)}"


def mount(request: Request) -> str:
    """Return the path below which the client asks."""
    return mount_of(request.scope)


Root = Annotated[str, Depends(root)]
Mount = Annotated[str, Depends(mount)]
CurrentLimiters = Annotated[Limiters, Depends(limiters_of)]
CurrentFollowers = Annotated[Followers, Depends(followers_of)]
CurrentService = Annotated[Service, Depends(service_of)]
Submitter = Annotated[Client, Depends(submitter)]
Withdrawer = Annotated[Client, Depends(withdrawer)]


def filler(request: Request, _: _WriteCredentials = None) -> Client:
    """Return the client, which must be allowed to plan what sites hold."""
    return _authenticate(request, "fill")


def editor(request: Request, _: _WriteCredentials = None) -> Client:
    """Return the client, which must be allowed to ban and pin pictures."""
    return _authenticate(request, "edit")


Editor = Annotated[Client, Depends(editor)]
Decider = Annotated[Client, Depends(decider)]
Reporter = Annotated[Client, Depends(reporter)]
Filler = Annotated[Client, Depends(filler)]
AnyReader = Annotated[Client, Depends(reader)]
