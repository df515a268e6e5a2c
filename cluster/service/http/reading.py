"""The reading path: what was stored is what is sent.

A request is answered from the titles in memory and one read of a bundle, before any framework is
involved: :class:`Front` stands before the application and hands on what it does not know. The
application has the same routes for its OpenAPI document, and answers them by the same
:meth:`Reader.answer`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import structlog

from cluster.service.documents import DEFAULT_ASPECT, MOST_IN_BATCH, ArtworkBatch, StartBatch
from cluster.service.http.auth import Tokens
from cluster.service.http.problems import MEDIA_TYPE, problem, status_of
from cluster.service.http.queries import ArtworkQuery, StartQuery
from cluster.service.library.bundle import Bundle, Form
from cluster.service.library.files import DOCUMENTS
from cluster.service.library.library import Library, unknown
from cluster.service.metrics import Metrics

log = structlog.stdlib.get_logger(__name__)

Headers = list[tuple[bytes, bytes]]
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

MOST_BODY_BYTES = 65_536
BODY_SECONDS = 15.0
FRESH_SECONDS = 5
"""For how long a reader's cache need not ask again what a title's documents are."""
HTML_POLICY = b"sandbox allow-scripts"
"""A report draws, but is not of this service's origin: it tells what others have named."""
_PREFIX = "/v1/titles/"

Choose = Callable[[Bundle], Form | None]


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer."""

    route: str
    """For metrics."""
    status: int
    headers: Headers
    body: bytes


class Reader:
    """Answers reads of titles' documents."""

    def __init__(self, library: Library, tokens: Tokens) -> None:
        self._library = library
        self._tokens = tokens
        scope = b"private" if tokens.readers else b"public"
        self._cache: Final = (b"cache-control", scope + b", max-age=%d" % FRESH_SECONDS)

    def answer(
        self, path: str, query: bytes, headers: Sequence[tuple[bytes, bytes]]
    ) -> Reply | None:
        """The answer to a GET; None if ``path`` is none of ours."""
        if not path.startswith(_PREFIX):
            return None
        title, _, what = path[len(_PREFIX) :].partition("/")
        if what not in DOCUMENTS and what != "prefetch/start":
            return None
        coding = none_match = authorization = None
        for header, value in headers:
            if header == b"accept-encoding":
                coding = value
            elif header == b"if-none-match":
                none_match = value
            elif header == b"authorization":
                authorization = value
        if self._tokens.readers and self._tokens.reader(authorization) is None:
            return unauthorized(what)
        try:
            choose = _choice(what, query)
        except ValueError as bad:
            return failure(what, 422, str(bad))
        current = self._library.current(title)
        if current is None or current.version is None:
            error = unknown(title, withdrawn=current is not None)
            return failure(what, status_of(error), error.message, error.context["reason"])
        try:
            bundle = self._library.files.bundles.get(current.package)
        except FileNotFoundError:  # withdrawn by another process an instant ago
            error = unknown(title, withdrawn=True)
            return failure(what, 410, error.message, "withdrawn")
        form = choose(bundle)
        if form is None:
            return failure(
                what,
                404,
                f"{title} has no {what}; GET /v1/titles/{title} lists what it has",
                f"no_{what}",
            )
        return self._send(what, bundle, form, coding, none_match)

    def batch(
        self, titles: Sequence[str], choose: Choose
    ) -> tuple[list[tuple[str, bytes]], list[str]]:
        """Return the chosen document of each title that has one, and the titles that have none."""
        found, missing = [], []
        for title in dict.fromkeys(titles[:MOST_IN_BATCH]):
            current = self._library.current(title)
            form = None
            if current is not None and current.version is not None:
                try:
                    bundle = self._library.files.bundles.get(current.package)
                    form = choose(bundle)
                except FileNotFoundError:
                    pass
            if form is None:
                missing.append(title)
            else:
                found.append((title, bundle.body(form)))
        return found, missing

    def _send(
        self,
        route: str,
        bundle: Bundle,
        form: Form,
        coding: bytes | None,
        none_match: bytes | None,
    ) -> Reply:
        packed = form.gzip if coding is not None and takes_gzip(coding) else None
        etag = b'"%s-gz"' % form.etag if packed else b'"%s"' % form.etag
        headers = [(b"etag", etag), self._cache, (b"vary", b"accept-encoding")]
        if none_match is not None and matches(none_match, form.etag):
            return Reply(route, 304, headers, b"")
        body = bundle.body(form, packed=packed is not None)
        headers.append((b"content-type", form.media_type))
        if form.media_type.startswith(b"text/html"):
            headers.append((b"content-security-policy", HTML_POLICY))
        headers.append((b"content-length", b"%d" % len(body)))
        if packed:
            headers.append((b"content-encoding", b"gzip"))
        return Reply(route, 200, headers, body)


@lru_cache(maxsize=256)
def takes_gzip(accept_encoding: bytes) -> bool:
    """Whether a client that sent this ``Accept-Encoding`` takes gzip."""
    weights: dict[bytes, float] = {}
    for part in accept_encoding.lower().split(b","):
        coding, _, parameter = part.partition(b";")
        weight = 1.0
        if parameter.strip().startswith(b"q="):
            try:
                weight = float(parameter.strip()[2:])
            except ValueError:
                weight = 0.0
        weights[coding.strip()] = weight
    return weights.get(b"gzip", weights.get(b"*", 0.0)) > 0


def matches(none_match: bytes, etag: bytes) -> bool:
    """Whether an ``If-None-Match`` header names ``etag``, in whatever coding."""
    if none_match.strip() == b"*":
        return True
    for part in none_match.split(b","):
        given = part.strip().removeprefix(b"W/").strip(b'"').removesuffix(b"-gz")
        if given == etag:
            return True
    return False


def failure(route: str, status: int, detail: str, reason: str | None = None) -> Reply:
    """A problem as a reply."""
    body = problem(status, detail, reason)
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    return Reply(route, status, headers, body)


def unauthorized(route: str) -> Reply:
    """What is answered to who may not read."""
    reply = failure(
        route, 401, "a token is needed: send it as `Authorization: Bearer TOKEN`", "no_token"
    )
    reply.headers.append((b"www-authenticate", b"Bearer"))
    return reply


def start_choice(query: StartQuery | StartBatch) -> Choose:
    """Choose what to pull first, for a throughput and a number of seconds."""
    return lambda bundle: bundle.form(bundle.start(query.seconds, 1000 * query.kbps))


def stills_choice(query: ArtworkQuery | ArtworkBatch) -> Choose:
    """Choose the best stills of one shape."""
    aspect, diverse = query.aspect or DEFAULT_ASPECT, bool(query.diverse)
    return lambda bundle: bundle.artwork(aspect, query.k, diverse)


def _choice(document: str, query: bytes) -> Choose:
    """Parse the query of a document and return what chooses its form in a bundle.

    Raises:
        ValueError: the query is invalid.
    """
    if document == "prefetch/start":
        return start_choice(StartQuery.parse(query))
    if document == "artwork":
        asked = ArtworkQuery.parse(query)
        if asked.model_fields_set:
            return stills_choice(asked)
    return lambda bundle: bundle.form(document)


class Front:
    """Stands before the application: answers reads, bounds bodies, counts and times requests."""

    def __init__(self, app: Application, reader: Reader, metrics: Metrics) -> None:
        self._app = app
        self._reader = reader
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        method = scope["method"]
        if method in ("GET", "HEAD"):
            reply = self._answer(scope)
            if reply is not None:
                await send(
                    {
                        "type": "http.response.start",
                        "status": reply.status,
                        "headers": reply.headers,
                    }
                )
                body = b"" if method == "HEAD" else reply.body
                await send({"type": "http.response.body", "body": body})
                self._metrics.observe(reply.route, reply.status, time.perf_counter() - started)
                return
        elif not await self._bounded(scope, receive, send):
            return
        await self._counted(scope, scope.pop("bounded", receive), send, started)

    def _answer(self, scope: Scope) -> Reply | None:
        try:
            return self._reader.answer(scope["path"], scope["query_string"], scope["headers"])
        except Exception:
            log.exception("a read failed", path=scope["path"])
            return failure(
                "failed", 500, "this is a defect of the service, or of its disk; its log says more"
            )

    async def _bounded(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Read a body of bounded size in bounded time; False if it was refused."""
        body = b""
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return False
                    body += message.get("body", b"")
                    if len(body) > MOST_BODY_BYTES:
                        await self._refuse(
                            send, 413, f"a request may have {MOST_BODY_BYTES} bytes; send less"
                        )
                        return False
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            await self._refuse(send, 408, f"the request took longer than {BODY_SECONDS:g} s")
            return False
        given = False

        async def replay() -> Message:
            nonlocal given
            if not given:
                given = True
                return {"type": "http.request", "body": body, "more_body": False}
            return await receive()

        scope["bounded"] = replay
        return True

    async def _refuse(self, send: Send, status: int, detail: str) -> None:
        reply = failure("refused", status, detail)
        headers = [*reply.headers, (b"connection", b"close")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})
        self._metrics.observe("refused", status, 0.0)

    async def _counted(self, scope: Scope, receive: Receive, send: Send, started: float) -> None:
        status = 500

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.observe(route, status, time.perf_counter() - started)
