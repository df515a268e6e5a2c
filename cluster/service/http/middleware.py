"""ASGI middleware in front of the application: reads, limits on request bodies, metrics."""

from __future__ import annotations

import asyncio
import time

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.service.http.connections import PeerCounts, too_many
from cluster.service.http.hosts import AllowedHosts
from cluster.service.http.reading import Reader, Reply, failure
from cluster.service.logs import SparseLog
from cluster.service.metrics import Metrics

log = structlog.stdlib.get_logger(__name__)

MAX_BODY_BYTES = 65_536
BODY_SECONDS = 15.0
"""Time within which a request's body must have arrived."""


class FrontMiddleware:
    """Answers reads of documents, limits request bodies, counts and times all requests."""

    def __init__(
        self,
        app: ASGIApp,
        reader: Reader,
        metrics: Metrics,
        *,
        hosts: AllowedHosts | None = None,
        peer_requests: int | None = None,
    ) -> None:
        """Take what answers.

        Args:
            app: the application.
            reader: answers reads of documents.
            metrics: counts requests.
            hosts: names under which the service answers; None for all.
            peer_requests: limit of one peer's requests at one time, where peers come through
                proxies and connections say nothing of them.
        """
        self._app = app
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
            reply = self._read(scope)
            if reply is not None:
                await _send_reply(send, reply, with_body=method == "GET")
                self._observe(scope, reply.route, reply.status, time.perf_counter() - started)
                return
        else:
            buffered = await self._buffer_body(receive, send)
            if buffered is None:
                return
            receive = buffered
        await self._run_app(scope, receive, send, started)

    def _read(self, scope: Scope) -> Reply | None:
        try:
            return self._reader.answer(scope["path"], scope["query_string"], scope["headers"])
        except Exception:
            log.exception("a read failed", path=scope["path"])
            return failure(
                "failed",
                500,
                "the service failed to answer because of a defect or of its disk; "
                "see the log of the service",
            )

    async def _buffer_body(self, receive: Receive, send: Send) -> Receive | None:
        """Receive a body of limited size in limited time; None if the request was refused."""
        body = b""
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
        replayed = False

        async def replay() -> Message:
            nonlocal replayed
            if not replayed:
                replayed = True
                return {"type": "http.request", "body": body, "more_body": False}
            return await receive()

        return replay

    async def _refuse(self, send: Send, reply: Reply) -> None:
        reply.headers.append((b"connection", b"close"))
        await _send_reply(send, reply)
        self._metrics.observe("refused", reply.status, 0.0)

    async def _run_app(self, scope: Scope, receive: Receive, send: Send, started: float) -> None:
        status = 500

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


async def _send_reply(send: Send, reply: Reply, *, with_body: bool = True) -> None:
    await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
    await send({"type": "http.response.body", "body": reply.body if with_body else b""})
