"""Webhooks: signed notifications that a job has ended, at least once, to allowed hosts only.

The host of a webhook must be on the allow-list and all its addresses must be public, unless private
ones are allowed. The connection goes to the address that was checked, so that a second DNS answer
cannot redirect it. HTTP redirects are not followed.

The header ``Shotladder-Signature: t=SECONDS,v1=HEX`` holds the HMAC-SHA256 of ``SECONDS.BODY``
under the shared secret. A receiver that does not answer 2xx within ten seconds gets the
notification again, at growing intervals, for a day. ``delivery`` in the body stays the same in all
attempts, so that a receiver can drop duplicates.
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
from cluster.service.queue.table import job_document
from encoder.errors import BadInput

ATTEMPTS = 10
FIRST_DELAY_SECONDS = 2.0
MAX_DELAY_SECONDS = 4 * 3600.0
TIMEOUT_SECONDS = 10.0
"""Limit of a whole delivery, also for a receiver that sends its answer byte by byte."""
CONCURRENT_DELIVERIES = 50
"""So many that a slow receiver delays few others."""
IDLE_SECONDS = 0.5
SIGNATURE = "Shotladder-Signature"
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_TUNNELS = tuple(map(ipaddress.ip_network, ("2002::/16", "2001::/32", "64:ff9b:1::/48")))
"""IPv6 networks whose addresses lead to IPv4 addresses that would go unchecked."""

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WebhookPolicy:
    """Which webhooks the owner of the service allows."""

    hosts: tuple[str, ...] = ()
    """Allowed host names, with ``:PORT`` unless it is the scheme's default port. ``*.example.com``
    allows every name below that domain."""
    private: bool = False
    """True to allow private and local addresses."""
    secret: bytes = b""
    """Secret shared with the receivers, for signatures."""

    def check(self, url: str) -> None:
        """Check that ``url`` is allowed.

        Raises:
            BadInput: it is not.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            parts, host, port = urlsplit(""), None, None
        if parts.scheme not in ("http", "https") or not host or parts.username is not None:
            raise BadInput(
                f"webhook {url!r} is not an http(s) URL, or has a user name; "
                "give it as https://host/path",
                reason="webhook_not_allowed",
            )
        named = host if port is None else f"{host}:{port}"
        if not any(_matches(named, allowed) for allowed in self.hosts):
            raise BadInput(
                f"webhook host {named} is not on the allow-list of this service; "
                "ask its owner to add --webhook-host",
                reason="webhook_not_allowed",
            )
        if not self.secret:
            raise BadInput(
                "webhooks are off, since this service has no webhook secret; "
                "ask its owner to give --webhook-secret",
                reason="webhook_not_allowed",
            )

    def addresses(self, host: str, port: int) -> list[str]:
        """Resolve ``host`` to addresses, all of which are allowed.

        Raises:
            BadInput: the host has no address, or one that is not public.
        """
        try:
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise BadInput(
                f"webhook host {host} has no address ({error}); check its name"
            ) from error
        addresses = [str(answer[4][0]) for answer in answers]
        for address in addresses:
            if not self.private and not _public(address):
                raise BadInput(
                    f"webhook host {host} is at {address}, which is not a public address; "
                    "ask the owner of the service for --webhook-private"
                )
        return addresses


@dataclass(frozen=True, slots=True)
class _Delivery:
    """A notification that is due."""

    number: int
    url: str
    attempts: int
    """Number of earlier attempts."""
    job: dict[str, Any]


class Webhooks:
    """Delivers notifications when they are due, from a thread of its own."""

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
        """Start delivering."""
        self._thread.start()

    def stop(self) -> None:
        """Stop delivering. What is still due is delivered by the next service."""
        self._stopping.set()
        self._thread.join(TIMEOUT_SECONDS + 1)

    def deliver_due(self) -> int:
        """Try every due delivery once; return how many were tried."""
        with self._database.reading() as session:
            rows = session.execute(
                select(DeliveryRow, JobRow)
                .join(JobRow, JobRow.number == DeliveryRow.job)
                .where(DeliveryRow.state == "waiting", DeliveryRow.next_at <= self._clock())
                .order_by(DeliveryRow.next_at)
                .limit(CONCURRENT_DELIVERIES)
            )
            due = [
                _Delivery(
                    row.id,
                    row.url,
                    row.attempts,
                    job_document(job, self._clock()).for_readers().model_dump(mode="json"),
                )
                for row, job in rows
            ]
        if due:
            for delivery, answer in zip(due, asyncio.run(self._deliver_all(due)), strict=True):
                self._record(delivery, answer)
        return len(due)

    def _record(self, delivery: _Delivery, answer: str) -> None:
        delivered = answer.startswith("2")
        with self._database.writing() as session:
            row = session.get_one(DeliveryRow, delivery.number)
            row.attempts, row.answer = delivery.attempts + 1, answer
            row.next_at = self._clock() + min(
                self._first_delay * 4**delivery.attempts, MAX_DELAY_SECONDS
            )
            if delivered:
                row.state = "delivered"
            elif row.attempts >= ATTEMPTS:
                row.state = "given_up"
        level = log.info if delivered else log.warning
        level(
            "webhook",
            job=delivery.job["id"],
            delivery=delivery.number,
            attempt=delivery.attempts + 1,
            answer=answer,
        )

    @functools.cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()

    async def _deliver_all(self, due: Sequence[_Delivery]) -> list[str]:
        async with httpx.AsyncClient(
            verify=self._tls,
            timeout=TIMEOUT_SECONDS,
            follow_redirects=False,
            trust_env=False,
            # Each connection belongs to the host name that was checked, and sent to TLS, for it.
            limits=httpx.Limits(max_keepalive_connections=0),
        ) as http:
            return await asyncio.gather(*(self._deliver(http, delivery) for delivery in due))

    async def _deliver(self, http: httpx.AsyncClient, delivery: _Delivery) -> str:
        """Deliver; return the status line of the answer, or why there is none."""
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                return await self._post(http, delivery)
        except TimeoutError:
            return f"no answer within {TIMEOUT_SECONDS:g} s"
        except BadInput as error:
            return error.message
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            return f"{type(error).__name__}: {error}"

    async def _post(self, http: httpx.AsyncClient, delivery: _Delivery) -> str:
        self._policy.check(delivery.url)  # the allow-list may have changed since submission
        parts = urlsplit(delivery.url)
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        message = {"delivery": delivery.number, "job": delivery.job}
        body = json.dumps(message, separators=(",", ":")).encode()
        headers = {
            "Host": parts.netloc,
            "Content-Type": "application/json",
            SIGNATURE: sign(self._policy.secret, int(self._clock()), body),
        }
        failed: httpx.ConnectError | None = None
        for address in await asyncio.to_thread(self._policy.addresses, host, port):
            bracketed = f"[{address}]" if ":" in address else address
            target = httpx.URL(delivery.url).copy_with(host=bracketed, port=port)
            try:
                async with http.stream(
                    "POST", target, content=body, headers=headers, extensions={"sni_hostname": host}
                ) as answer:  # its body is not read, however long it is
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
                log.exception("webhook delivery failed")
                self._stopping.wait(5.0)


def sign(secret: bytes, seconds: int, body: bytes) -> str:
    """Return the signature of a delivery made at ``seconds`` since the epoch."""
    digest = hmac.new(secret, b"%d." % seconds + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={digest}"


def verify(
    secret: bytes, signature: str, body: bytes, *, now: float, tolerance: float = 300
) -> bool:
    """Return whether a delivery is genuine and at most ``tolerance`` seconds old, for receivers."""
    fields = dict(part.split("=", 1) for part in signature.split(",") if "=" in part)
    stamp = fields.get("t", "")
    if not stamp.isdigit() or abs(now - int(stamp)) > tolerance:
        return False
    return hmac.compare_digest(sign(secret, int(stamp), body), signature)


def _matches(host: str, allowed: str) -> bool:
    host, allowed = host.lower(), allowed.lower()
    if allowed.startswith("*."):
        return host.endswith(allowed[1:])
    return host == allowed


def _public(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if any(ip in network for network in _TUNNELS):
            return False
        mapped = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else ip.ipv4_mapped
        ip = mapped or ip
    return ip.is_global and not ip.is_multicast
