"""Telling others that a job has ended: signed, at least once, and only whom the owner allows.

A target's host is on the allow-list, its addresses are public ones (unless private ones are
allowed), and the connection goes to the address that was looked at, so that a name cannot point
elsewhere the second time it is asked. Redirects are not followed.

The signature is ``Shotladder-Signature: t=SECONDS,v1=HEX``: HMAC-SHA256 by the shared secret over
``SECONDS.BODY``. A receiver answers 2xx within ten seconds or is asked again, later and later, for
a day. A delivery has an id that stays the same: a receiver that sees it again has seen it before.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import hmac
import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import structlog
from sqlalchemy import select

from cluster.service.database import Database, DeliveryRow, JobRow
from cluster.service.queue.transitions import document
from encoder.errors import BadInput

ATTEMPTS = 10
FIRST_DELAY_SECONDS = 2.0
MOST_DELAY_SECONDS = 4 * 3600.0
TIMEOUT_SECONDS = 10.0
"""For all of a delivery; a receiver that dribbles gets no more."""
AT_ONCE = 50
"""Deliveries under way at the same time: a slow receiver holds up few others."""
IDLE_SECONDS = 0.5
SIGNATURE = "Shotladder-Signature"
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_TUNNELS = tuple(map(ipaddress.ip_network, ("2002::/16", "2001::/32", "64:ff9b:1::/48")))
"""IPv6 networks whose addresses stand for IPv4 ones that nobody looks at."""

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WebhookPolicy:
    """Who may be told."""

    hosts: tuple[str, ...] = ()
    """Names, with ``:PORT`` where it is not the scheme's. ``*.example.com`` is any name below."""
    private: bool = False
    """Whether private and local addresses are allowed."""
    secret: bytes = b""

    def check(self, url: str) -> None:
        """See that a target may be told.

        Raises:
            BadInput: it may not.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            parts, host, port = urlsplit(""), None, None
        if parts.scheme not in ("http", "https") or not host or parts.username is not None:
            raise BadInput(
                f"webhook {url!r} is not an http(s) URL without a user name",
                reason="webhook_not_allowed",
            )
        named = host if port is None else f"{host}:{port}"
        if not any(_is(named, allowed) for allowed in self.hosts):
            raise BadInput(
                f"webhook host {named} is not one that this service tells; "
                "have its owner add --webhook-host",
                reason="webhook_not_allowed",
            )
        if not self.secret:
            raise BadInput(
                "this service has no webhook secret; have its owner give one",
                reason="webhook_not_allowed",
            )

    def addresses(self, host: str, port: int) -> list[str]:
        """Addresses of ``host``, all of which may be connected to.

        Raises:
            BadInput: it has none, or a private one.
        """
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise BadInput(f"webhook host {host} has no address ({error})") from error
        addresses = [str(entry[4][0]) for entry in found]
        for one in addresses:
            if not self.private and not _public(one):
                raise BadInput(f"webhook host {host} is at {one}, which is not a public address")
        return addresses


@dataclass(frozen=True, slots=True)
class _Due:
    """A delivery to try."""

    number: int
    url: str
    attempts: int
    """Before this one."""
    job: dict[str, Any]


class Webhooks:
    """Delivers what is due, from a thread of its own."""

    def __init__(
        self,
        database: Database,
        policy: WebhookPolicy,
        *,
        clock: Callable[[], float] = time.time,
        first_delay_seconds: float = FIRST_DELAY_SECONDS,
    ) -> None:
        self._database = database
        self._policy = policy
        self._clock = clock
        self._first_delay = first_delay_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="webhooks", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; what is due is delivered by the next service."""
        self._stopping.set()
        self._thread.join(TIMEOUT_SECONDS + 1)

    def deliver_due(self) -> int:
        """Try everything that is due, once; how many were tried."""
        with self._database.reading() as session:
            rows = session.execute(
                select(DeliveryRow, JobRow)
                .join(JobRow, JobRow.number == DeliveryRow.job)
                .where(DeliveryRow.state == "waiting", DeliveryRow.next_at <= self._clock())
                .order_by(DeliveryRow.next_at)
                .limit(AT_ONCE)
            )
            due = [
                _Due(
                    row.id,
                    row.url,
                    row.attempts,
                    document(job, self._clock()).model_dump(mode="json"),
                )
                for row, job in rows
            ]
        if due:
            for one, said in zip(due, asyncio.run(self._tell_all(due)), strict=True):
                self._note(one, said)
        return len(due)

    def _note(self, one: _Due, said: str) -> None:
        delivered = said.startswith("2")
        with self._database.writing() as session:
            row = session.get_one(DeliveryRow, one.number)
            row.attempts, row.said = one.attempts + 1, said
            row.next_at = self._clock() + min(
                self._first_delay * 4**one.attempts, MOST_DELAY_SECONDS
            )
            if delivered:
                row.state = "delivered"
            elif row.attempts >= ATTEMPTS:
                row.state = "given_up"
        level = log.info if delivered else log.warning
        level(
            "webhook",
            job=one.job["id"],
            delivery=one.number,
            attempt=one.attempts + 1,
            said=said,
        )

    @functools.cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()

    async def _tell_all(self, due: Sequence[_Due]) -> list[str]:
        async with httpx.AsyncClient(
            verify=self._tls,
            timeout=TIMEOUT_SECONDS,
            follow_redirects=False,
            trust_env=False,
            # A connection is for one name: it was looked up, and shown to TLS, for this delivery.
            limits=httpx.Limits(max_keepalive_connections=0),
        ) as http:
            return await asyncio.gather(*(self._tell(http, one) for one in due))

    async def _tell(self, http: httpx.AsyncClient, one: _Due) -> str:
        """Deliver; the status answered, or why there is none."""
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                return await self._post(http, one)
        except TimeoutError:
            return f"no answer within {TIMEOUT_SECONDS:g} s"
        except BadInput as error:
            return error.message
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            return f"{type(error).__name__}: {error}"

    async def _post(self, http: httpx.AsyncClient, one: _Due) -> str:
        self._policy.check(one.url)  # the owner may have changed the list since
        parts = urlsplit(one.url)
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        body = json.dumps({"delivery": one.number, "job": one.job}, separators=(",", ":")).encode()
        headers = {
            "Host": parts.netloc,
            "Content-Type": "application/json",
            SIGNATURE: sign(self._policy.secret, int(self._clock()), body),
        }
        failed: httpx.ConnectError | None = None
        for address in await asyncio.to_thread(self._policy.addresses, host, port):
            bracketed = f"[{address}]" if ":" in address else address
            target = httpx.URL(one.url).copy_with(host=bracketed, port=port)
            try:
                async with http.stream(
                    "POST",
                    target,
                    content=body,
                    headers=headers,
                    extensions={"sni_hostname": host},
                ) as answer:  # whose body nobody reads, however long it is
                    return f"{answer.status_code} {answer.reason_phrase}"
            except httpx.ConnectError as error:
                failed = error
        raise failed or httpx.ConnectError("no address")

    def _loop(self) -> None:
        while not self._stopping.wait(IDLE_SECONDS):
            try:
                while self.deliver_due() and not self._stopping.is_set():
                    pass
            except Exception:
                log.exception("webhooks")
                self._stopping.wait(5.0)


def sign(secret: bytes, seconds: int, body: bytes) -> str:
    """The signature of a delivery made at ``seconds`` since the epoch."""
    digest = hmac.new(secret, b"%d." % seconds + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={digest}"


def verify(
    secret: bytes, signature: str, body: bytes, *, now: float, tolerance: float = 300
) -> bool:
    """For receivers: whether a delivery is ours and was sent less than ``tolerance`` s ago."""
    fields = dict(part.split("=", 1) for part in signature.split(",") if "=" in part)
    stamp = fields.get("t", "")
    if not stamp.isdigit() or abs(now - int(stamp)) > tolerance:
        return False
    return hmac.compare_digest(sign(secret, int(stamp), body), signature)


def _is(host: str, allowed: str) -> bool:
    host, allowed = host.lower(), allowed.lower()
    if allowed.startswith("*."):
        return host.endswith(allowed[1:])
    return host == allowed


def _public(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if any(ip in network for network in _TUNNELS):
            return False
        inside = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else ip.ipv4_mapped
        ip = inside or ip
    return ip.is_global and not ip.is_multicast
