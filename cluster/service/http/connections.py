"""Connections, from the first byte to the application: how many, how long, how large.

What a stranger sends is bounded before it is parsed. A connection that keeps others out, because
all places are taken, is the one that has waited longest for a request. Refusals are problem
documents, as all errors are.
"""

from __future__ import annotations

import asyncio
import ipaddress
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, cast

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from cluster.service.http.reading import Reply, failure
from encoder.errors import BadInput

RETRY_SECONDS = 5
"""Time after which a client that was refused may try again."""
LINGER_SECONDS = 1.0
"""Time for which a refused client may read why; what it still sends is dropped."""
LINGER_BYTES = 1 << 18
"""Bytes that are dropped at most; the rest is not read."""
MAX_LINGERING = 1024
"""Limit of refused connections that are told why."""

MAX_LOOKED_AT, MAX_EXPIRED = 500, 25
"""Limits of connections that are looked at, and closed since their time is over, at once."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PUSH = "shotladder.push"
"""ASGI extension of a request: a :data:`Push` for a body that has begun."""
Push = Callable[[bytes], int | None]
"""Sends a part of a body at once, past the application's middleware, and returns how many bytes of
the connection wait for the client; None, and nothing sent, where the body cannot take it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """What connections may cost."""

    connections: int = 4_000
    """Limit of open connections. Above it, those that wait for a request are closed for new ones of
    peers that have fewer: of the peer that has most waiting, the one that has waited longest."""
    peer_connections: int = 1_000
    """Limit of open connections of one peer; behind a proxy, of its requests at one time."""
    head_bytes: int = 16_384
    """Limit of a request's line and headers."""
    request_bytes: int = 524_288
    """Limit of a whole request, with what a chunked body has around its bytes."""
    pipelined: int = 100
    """Limit of requests that wait on one connection for the answer to the one before them."""
    head_seconds: float = 10.0
    """Time within which a head must arrive, from the connection or from its first byte."""
    request_seconds: float = 30.0
    """Time within which a whole request must arrive."""
    idle_seconds: int = 30
    """Time for which a connection may wait for its next request."""
    stalled_seconds: float = 60.0
    """Time within which a client must take some of the bytes that wait for it."""


def parse_networks(addresses: Sequence[str]) -> tuple[Network, ...]:
    """Return addresses and networks of trusted proxies.

    Raises:
        BadInput: one of them is neither.
    """
    networks = []
    for address in addresses:
        try:
            networks.append(ipaddress.ip_network(address))
        except ValueError as error:
            raise BadInput(
                f"--trusted-proxy {address} is not an IP address or network ({error}); "
                "give it as 10.0.0.1 or 10.0.0.0/24"
            ) from error
    return tuple(networks)


@lru_cache(maxsize=4096)
def peer_of(host: str) -> str:
    """Return whom an address counts for: itself, or the /64 network that an IPv6 host has."""
    address = _address(host)
    if address is None:
        return host[:64]
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return an address, as IPv4 where IPv6 only wraps that; None for what is no address."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


class PeerCounts:
    """Number of things that each peer has, up to a limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._counts: Counter[str] = Counter()

    def enter(self, host: str) -> bool:
        """Count one more thing of a peer; False, and nothing counted, if it has its limit."""
        peer = peer_of(host)
        if self._counts[peer] >= self._limit:
            return False
        self._counts[peer] += 1
        return True

    def share(self, host: str) -> float:
        """Return what a peer has, as a share of what all would have if each had as many."""
        total = self._counts.total()
        return self._counts[peer_of(host)] * len(self._counts) / total if total else 0.0

    def leave(self, host: str) -> None:
        """Count one thing of a peer less."""
        peer = peer_of(host)
        self._counts[peer] -= 1
        if self._counts[peer] <= 0:
            del self._counts[peer]


def too_many(host: str, limit: int, things: str) -> Reply:
    """Return the refusal of a peer that has too many connections or requests."""
    return failure(
        "refused",
        429,
        f"{peer_of(host)} has {limit} {things} already; close some, or try again later",
        retry_seconds=RETRY_SECONDS,
    )


class Connections:
    """The open connections of a service."""

    def __init__(
        self,
        limits: ConnectionLimits,
        proxies: Sequence[Network] = (),
        on_refused: Callable[[int], None] = lambda status: None,
    ) -> None:
        self.limits = limits
        self._waiting: dict[str, dict[BoundedProtocol, None]] = {}
        """Connections that wait for a request by peer, the longest wait first."""
        self.opened: set[BoundedProtocol] = set()
        self._unlooked: list[BoundedProtocol] = []
        """Connections that :meth:`expire` has still to look at in this round."""
        self.lingering = 0
        """Number of refused connections that are still open."""
        self.on_refused = on_refused
        self._proxies = proxies
        self._peers = PeerCounts(limits.peer_connections)

    def protocol(self, **uvicorns: Any) -> BoundedProtocol:
        """Return the protocol of a new connection; what uvicorn calls for each."""
        return BoundedProtocol(self, **uvicorns)

    def admit(self, connection: BoundedProtocol, host: str) -> Reply | None:
        """Count a new connection; return its refusal if there is no place for it."""
        place = self._place_for(host) if len(self.opened) >= self.limits.connections else None
        if isinstance(place, Reply):
            return place
        if not self.is_proxy(host) and not self._peers.enter(host):
            return too_many(host, self.limits.peer_connections, "connections")
        if place is not None:
            place.drop()
        self.opened.add(connection)
        self.waits(connection, host)
        return None

    def _place_for(self, host: str) -> BoundedProtocol | Reply:
        """Return the connection that a new one may have the place of, or the new one's refusal.

        Peers that have more than others give the place, and get none of others: who opens
        connection after connection closes only his own.
        """
        if self.is_proxy(host) or self._peers.share(host) <= 1:
            most = max(self._waiting.values(), key=len, default=None)
            if most:
                return next(iter(most))
        detail = f"all {self.limits.connections} connections are in use; try again later"
        return failure("refused", 503, detail, retry_seconds=RETRY_SECONDS)

    def waits(self, connection: BoundedProtocol, host: str) -> None:
        """Note that a connection waits for a request, and may be closed for another one."""
        self._waiting.setdefault(peer_of(host), {})[connection] = None

    def works(self, connection: BoundedProtocol, host: str) -> None:
        """Note that a connection waits no longer."""
        waiting = self._waiting.get(peer_of(host), {})
        waiting.pop(connection, None)
        if not waiting:
            self._waiting.pop(peer_of(host), None)

    def forget(self, connection: BoundedProtocol, host: str) -> None:
        """Count a connection less that was admitted, if it still counts."""
        self.works(connection, host)
        if connection in self.opened:
            self.opened.remove(connection)
            if not self.is_proxy(host):
                self._peers.leave(host)

    def expire(self, now: float) -> None:
        """Look at the next of the connections, and close those whose time is over at ``now``, by
        the clock of the event loop.

        A call looks at few and closes fewer, since their clients come again: thousands that were
        opened together would keep all others waiting whenever their time is over.
        """
        closed = 0
        for _ in range(MAX_LOOKED_AT):
            if not self._unlooked:
                self._unlooked = list(self.opened)
            if not self._unlooked or closed == MAX_EXPIRED:
                return
            closed += self._unlooked.pop().expire(now)

    def is_proxy(self, host: str) -> bool:
        """Return whether an address is that of a trusted proxy."""
        if not self._proxies:
            return False
        address = _address(host)
        return address is not None and any(address in network for network in self._proxies)


class BoundedProtocol(HttpToolsProtocol):
    """HTTP/1.1 of one connection, with limits of bytes and of time."""

    def __init__(self, connections: Connections, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self._connections = connections
        self._host = ""
        self._refusal: Reply | None = None
        """Answer to whatever this connection sends."""
        self._refused = False
        """True once that was sent."""
        self._lingered_bytes = 0
        """Bytes that came after it."""
        self._in_head = True
        """True where the next byte is part of a head."""
        self._head_bytes = 0
        self._begun = False
        """True while a part of a request has arrived, and not all of it."""
        self._request_bytes = 0
        self._waiting_since: float | None = self.loop.time()
        """When the connection, or the request that is arriving, began."""
        self._unsent = 0
        """Bytes that waited for the client to take them, when that was last looked at."""
        self._unsent_since = 0.0

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._host = self.client[0] if self.client else ""
        self._refusal = self._connections.admit(self, self._host)
        if self._refusal is not None:
            if self._connections.lingering >= MAX_LINGERING:
                transport.abort()
            self._connections.lingering += 1
            self.loop.call_later(LINGER_SECONDS, transport.abort)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self._refusal is not None:
            self._connections.lingering -= 1
        self._connections.forget(self, self._host)
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        if self._refusal is not None:
            self._send_refusal(self._refusal)
            self._linger(len(data))
            return
        limits = self._connections.limits
        while data and not self.transport.is_closing():
            part, data = data, b""
            if self._in_head:
                room = limits.head_bytes - self._head_bytes
                part, data = part[:room], part[room:]
                self._head_bytes += len(part)
            self._request_bytes += len(part)
            super().data_received(part)
            if self._refusal is not None:
                return
            if len(self.pipeline) > limits.pipelined:
                self.transport.abort()
                return
            if self._in_head and self._head_bytes >= limits.head_bytes:
                self._refuse(431, f"a request's line and headers are over {limits.head_bytes} "
                             "bytes; send fewer or shorter headers")  # fmt: skip
                return
            if self._request_bytes > limits.request_bytes:
                detail = f"a request is over {limits.request_bytes} bytes; send less"
                self._refuse(413, detail)
                return
        if self._begun or self._head_bytes:
            if self._waiting_since is None:
                self._waiting_since = self.loop.time()
        else:
            self._waiting_since = None

    @override
    def on_message_begin(self) -> None:
        self._begun = True
        super().on_message_begin()

    @override
    def on_headers_complete(self) -> None:
        self._in_head, self._head_bytes = False, 0
        self._connections.works(self, self._host)
        super().on_headers_complete()
        push: Push = partial(self._push, weakref.ref(self.cycle))
        self.scope.setdefault("extensions", {})[PUSH] = cast(Any, push)

    def _push(self, of: weakref.ref[RequestResponseCycle], data: bytes) -> int | None:
        """Send a part of the body of a response; see :data:`Push`."""
        cycle = of()
        if cycle is None:
            return None
        running = cycle.response_started and not (cycle.response_complete or cycle.disconnected)
        if not (running and cycle.chunked_encoding) or self.transport.is_closing():
            return None
        if data:  # an empty chunk would end the body
            self.transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        return self.transport.get_write_buffer_size()

    @override
    def on_message_complete(self) -> None:
        self._in_head, self._begun = True, False
        self._head_bytes = self._request_bytes = 0
        super().on_message_complete()

    @override
    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self._connections.waits(self, self._host)

    @override
    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "the request is not HTTP/1.1; use an HTTP client")

    def drop(self) -> None:
        """Close the connection, whose place another one needs."""
        self._connections.forget(self, self._host)
        self.transport.abort()

    def expire(self, now: float) -> bool:
        """Close the connection if its time is over; return whether it was."""
        if self._refusal is not None or self.transport.is_closing():
            return False
        limits = self._connections.limits
        unsent = self.transport.get_write_buffer_size()
        if unsent and unsent == self._unsent:
            if now - self._unsent_since > limits.stalled_seconds:
                self.transport.abort()
                return True
        else:
            self._unsent, self._unsent_since = unsent, now
        if self._waiting_since is None:
            return False
        waited = now - self._waiting_since
        if not self._begun and not self._head_bytes:
            if waited <= limits.head_seconds:
                return False
            self.transport.close()  # nothing has ever come
        elif self._in_head and waited > limits.head_seconds:
            detail = f"a request's headers took over {limits.head_seconds:g} s; send them faster"
            self._refuse(408, detail)
        elif waited > limits.request_seconds:
            detail = f"a request took over {limits.request_seconds:g} s to arrive; send it faster"
            self._refuse(408, detail)
        else:
            return False
        return True

    def _refuse(self, status: int, detail: str) -> None:
        """Answer, take nothing more from this connection, and close it soon."""
        self._refusal = failure("refused", status, detail)
        self._connections.forget(self, self._host)
        self._connections.lingering += 1
        running = self.cycle is not None and not self.cycle.response_complete
        if running and (self.cycle.response_started or self.pipeline):
            self.transport.abort()  # another answer has begun, and cannot be finished
            return
        if running:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.flow.resume_reading()
        self._send_refusal(self._refusal)
        self.loop.call_later(LINGER_SECONDS, self.transport.abort)

    def _linger(self, received: int) -> None:
        """Read what a client still sends after its refusal, but not without end: what is not read
        holds the client up, not the service."""
        self._lingered_bytes += received
        if self._lingered_bytes > LINGER_BYTES and not self.transport.is_closing():
            self.transport.pause_reading()

    def _send_refusal(self, reply: Reply) -> None:
        """Send a refusal once. The connection is not closed at once, which would take back what
        the client has not read."""
        if self._refused:
            return
        self._refused = True
        self._connections.on_refused(reply.status)
        headers = [*self.server_state.default_headers, *reply.headers, (b"connection", b"close")]
        lines = [b"%s: %s\r\n" % header for header in headers]
        self.transport.write(b"".join([STATUS_LINE[reply.status], *lines, b"\r\n", reply.body]))
        cast(Any, self.transport).write_eof()
