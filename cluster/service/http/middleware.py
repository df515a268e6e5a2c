"""ASGI middleware in front of the application: reads, decisions, limits on request bodies,
metrics."""

from __future__ import annotations

import asyncio
import time
from functools import partial

import anyio
import structlog
from anyio.to_thread import run_sync
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.service.http.connections import PeerCounts, too_many
from cluster.service.http.deciding import DECISIONS, Desk
from cluster.service.http.files import FileReader
from cluster.service.http.hosts import AllowedHosts
from cluster.service.http.mounting import mount_of
from cluster.service.http.reading import (
    Reader,
    Reply,
    failure,
    is_batch,
    parse_batch,
    send_reply,
)
from cluster.service.http.turns import Turns
from cluster.service.library.cached import Cold
from cluster.service.logs import SparseLog
from cluster.service.metrics import Metrics

log = structlog.stdlib.get_logger(__name__)

MAX_BODY_BYTES = 65_536
BODY_SECONDS = 15.0
"""Time within which a request's body must have arrived."""


class FrontMiddleware:
    """Answers reads of documents and requests for decisions; limits bodies, counts and times
    all requests."""

    def __init__(
        self,
        app: ASGIApp,
        reader: Reader,
        metrics: Metrics,
        *,
        desk: Desk | None = None,
        hosts: AllowedHosts | None = None,
        peer_requests: int | None = None,
    ) -> None:
        """Take what answers.

        Args:
            app: the application.
            reader: answers reads of documents.
            metrics: counts requests.
            desk: answers requests for decisions; None to leave them to the application.
            hosts: names under which the service answers; None for all.
            peer_requests: limit of one peer's requests at one time, where peers come through
                proxies and connections say nothing of them.
        """
        self._app = app
        self._files = FileReader(reader)
        self._cold = anyio.CapacityLimiter(16)
        self._desk = desk
        self._deciding = anyio.CapacityLimiter(16)
        self._turns = Turns()
        self._hosts = hosts
        self._unallowed = SparseLog(log)
        self._reader = reader
        self._metrics = metrics
        self._peer_requests = peer_requests
        self._peers = None if peer_requests is None else PeerCounts(peer_requests)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def send_noting_begin(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._admit(scope, receive, send_noting_begin)
        except Exception:
            if begun:
                raise
            await self._refuse(send, _failed(scope))

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["http_version"] == "1.1" and not any(
            name == b"host" for name, _ in scope["headers"]
        ):
            detail = "the request has no Host header, which HTTP/1.1 needs; use an HTTP client"
            await self._refuse(send, failure("refused", 400, detail))
            return
        host = self._unknown_host(scope)
        if host is not None:
            detail = (
                f"this service does not answer as {host!r}; "
                "ask its owner to add the name with --allowed-host"
            )
            await self._refuse(send, failure("refused", 421, detail))
            return
        if self._peers is None or scope["client"] is None:
            await self._answer(scope, receive, send)
            return
        peer = scope["client"][0]
        if not self._peers.enter(peer):
            await self._refuse(send, too_many(peer, self._peer_requests or 0, "requests"))
            return
        try:
            await self._answer(scope, receive, send)
        finally:
            self._peers.leave(peer)

    def _unknown_host(self, scope: Scope) -> str | None:
        """Return the ``Host`` of a request if the service does not answer under that name."""
        if self._hosts is None:
            return None
        for name, value in scope["headers"]:
            if name == b"host" and not self._hosts.allows(value):
                host: str = value.decode("latin-1")
                return host
        return None

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        method = scope["method"]
        if method in ("GET", "HEAD"):
            reply = await self._read(scope)
            if reply is not None:
                await send_reply(send, reply, with_body=method == "GET")
                self._observe(scope, reply.route, reply.status, time.perf_counter() - started)
                return
            answered = await self._files.answer(scope, receive, send)
            if answered is not None:
                self._observe(scope, *answered, time.perf_counter() - started)
                return
        else:
            body = await self._buffer_body(receive, send)
            if body is None:
                return
            if method == "POST" and not scope["query_string"]:
                reply = await self._posted(scope, body)
                if reply is not None:
                    await send_reply(send, reply)
                    self._observe(scope, reply.route, reply.status, time.perf_counter() - started)
                    return
            receive = _replaying(body, receive)
        if method == "HEAD":
            await self._run_head(scope, receive, send, started)
        else:
            await self._run_app(scope, receive, send, started)

    async def _read(self, scope: Scope) -> Reply | None:
        """Answer a read of a document: at once from memory, or in a thread from the disk."""
        asked = scope["path"], scope["query_string"], scope["headers"]
        mount = mount_of(scope)
        try:
            try:
                return self._reader.answer(*asked, mount=mount, wait=False)
            except Cold:
                read = partial(self._reader.answer, *asked, mount=mount)
                return await run_sync(read, limiter=self._cold)
        except Exception:
            return _failed(scope)

    async def _posted(self, scope: Scope, body: bytes) -> Reply | None:
        """Answer what is asked for by POST; None to leave it to the application."""
        if is_batch(scope["path"]):
            return await self._read_batch(scope, body)
        if scope["path"] != DECISIONS or self._desk is None:
            return None
        try:
            decide = partial(self._desk.answer, scope["headers"], body, mount_of(scope))
            return await run_sync(decide, limiter=self._deciding)
        except Exception:
            return _failed(scope)

    async def _read_batch(self, scope: Scope, body: bytes) -> Reply | None:
        """Answer a batch of documents in a thread; None if the application has to say what is
        wrong with it."""
        path, headers = scope["path"], scope["headers"]
        refused = self._reader.refusal(path, dict(headers).get(b"authorization"))
        if refused is not None:
            return refused
        batch = parse_batch(path, headers, body)
        if batch is None:
            return None
        try:
            read = partial(self._reader.batch, path, batch, mount_of(scope))
            return await run_sync(read, limiter=self._cold)
        except Exception:
            return _failed(scope)

    async def _buffer_body(self, receive: Receive, send: Send) -> bytes | None:
        """Receive a body of limited size in limited time; None if the request was refused."""
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    body += message.get("body", b"")
                    if len(body) > MAX_BODY_BYTES:
                        detail = f"the request's body is over {MAX_BODY_BYTES} bytes; send less"
                        await self._refuse(send, failure("refused", 413, detail))
                        return None
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            detail = f"the request's body took over {BODY_SECONDS:g} s to arrive; send it faster"
            await self._refuse(send, failure("refused", 408, detail))
            return None
        return bytes(body)

    async def _refuse(self, send: Send, reply: Reply) -> None:
        reply.headers.append((b"connection", b"close"))
        await send_reply(send, reply)
        self._metrics.observe("refused", reply.status, 0.0)

    async def _run_head(self, scope: Scope, receive: Receive, send: Send, started: float) -> None:
        """Answer with the head that a GET would have, and end the application with it: the body may
        be a stream without an end."""
        answered = asyncio.Event()

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b""})
                answered.set()

        got = self._run_app({**scope, "method": "GET"}, receive, send_head, started)
        running = asyncio.create_task(got)
        ended = asyncio.create_task(answered.wait())
        try:
            await asyncio.wait((running, ended), return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                await running  # raises what it raised
        finally:
            for task in (running, ended):
                task.cancel()
            await asyncio.gather(running, ended, return_exceptions=True)

    async def _run_app(self, scope: Scope, receive: Receive, send: Send, started: float) -> None:
        status = 500
        await self._turns.take()  # the application takes ten times as long as a document

        async def send_noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_noting_status)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._observe(scope, route, status, time.perf_counter() - started)

    def _observe(self, scope: Scope, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered; log one that was not allowed."""
        self._metrics.observe(route, status, seconds)
        if status in (401, 403):
            self._unallowed.warning(
                "not allowed",
                status=status,
                method=scope["method"],
                path=scope["path"][:200],
                peer=scope["client"][0] if scope["client"] else None,
            )


def _failed(scope: Scope) -> Reply:
    """Log the error that is being handled, and return the reply about it."""
    log.exception("a read failed", path=scope["path"])
    return failure(
        "failed",
        500,
        "the service failed to answer because of a defect or of its disk; "
        "see the log of the service",
    )


def _replaying(body: bytes, receive: Receive) -> Receive:
    """Return what the application receives from, after its request's body was received."""
    replayed = False

    async def replay() -> Message:
        nonlocal replayed
        if not replayed:
            replayed = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replay
