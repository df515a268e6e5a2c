"""Telling others that a job has ended: signed, at least once, and only whom the owner allows.

A target's host is on the allow-list, its addresses are public ones (unless private ones are
allowed), and the connection goes to the address that was looked at, so that a name cannot point
elsewhere the second time it is asked. Redirects are not followed.

The signature is ``Shotladder-Signature: t=SECONDS,v1=HEX``: HMAC-SHA256 by the shared secret over
``SECONDS.BODY``. A receiver answers 2xx within ten seconds or is asked again, later and later, for
a day. A delivery has an id that stays the same: a receiver that sees it again has seen it before.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import ipaddress
import json
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import structlog
from sqlalchemy import select

from cluster.service.database import Database, DeliveryRow, JobRow
from cluster.service.jobs import document
from encoder.errors import BadInput

ATTEMPTS = 10
FIRST_DELAY_SECONDS = 2.0
MOST_DELAY_SECONDS = 4 * 3600.0
TIMEOUT_SECONDS = 10.0
AT_ONCE = 8
"""Receivers that are told at the same time: a slow one holds up few others."""
IDLE_SECONDS = 0.5
SIGNATURE = "Shotladder-Signature"

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

    def address(self, host: str, port: int) -> str:
        """An address of ``host`` that may be connected to.

        Raises:
            BadInput: it has none, or one that is private.
        """
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise BadInput(f"webhook host {host} has no address ({error})") from error
        addresses = [str(entry[4][0]) for entry in found]
        for one in addresses:
            if not self.private and not _public(one):
                raise BadInput(f"webhook host {host} is at {one}, which is not a public address")
        return addresses[0]


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
        self._http.close()

    def deliver_due(self) -> int:
        """Try everything that is due, once; how many were tried."""
        with self._database.reading() as session:
            due = list(
                session.execute(
                    select(DeliveryRow, JobRow)
                    .join(JobRow, JobRow.number == DeliveryRow.job)
                    .where(DeliveryRow.state == "waiting", DeliveryRow.next_at <= self._clock())
                    .order_by(DeliveryRow.next_at)
                    .limit(50)
                )
            )
            work = [
                (
                    row.id,
                    row.url,
                    row.attempts,
                    document(job, self._clock()).model_dump(mode="json"),
                )
                for row, job in due
            ]
        if not work:
            return 0
        with ThreadPoolExecutor(AT_ONCE) as pool:
            answers = list(pool.map(lambda one: self._tell(one[0], one[1], one[3]), work))
        for (number, _, attempts, job), said in zip(work, answers, strict=True):
            delivered = said.startswith("2")
            with self._database.writing() as session:
                row = session.get_one(DeliveryRow, number)
                row.attempts, row.said = attempts + 1, said
                delay = min(self._first_delay * 4**attempts, MOST_DELAY_SECONDS)
                row.next_at = self._clock() + delay
                if delivered:
                    row.state = "delivered"
                elif row.attempts >= ATTEMPTS:
                    row.state = "given_up"
            level = log.info if delivered else log.warning
            level("webhook", job=job["id"], delivery=number, attempt=attempts + 1, said=said)
        return len(work)

    @functools.cached_property
    def _http(self) -> httpx.Client:
        return httpx.Client(follow_redirects=False, timeout=TIMEOUT_SECONDS, trust_env=False)

    def _tell(self, number: int, url: str, job: dict[str, Any]) -> str:
        body = json.dumps({"delivery": number, "job": job}, separators=(",", ":")).encode()
        seconds = int(self._clock())
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            self._policy.check(url)  # the owner may have changed the list since
            address = self._policy.address(host, port)
            bracketed = f"[{address}]" if ":" in address else address
            target = httpx.URL(url).copy_with(host=bracketed, port=port)
            with httpx.Client(
                follow_redirects=False, timeout=TIMEOUT_SECONDS, trust_env=False
            ) as to:
                answer = to.post(
                    target,
                    content=body,
                    headers={
                        "Host": parts.netloc,
                        "Content-Type": "application/json",
                        SIGNATURE: sign(self._policy.secret, seconds, body),
                    },
                    extensions={"sni_hostname": host},
                )
            return f"{answer.status_code} {answer.reason_phrase}"
        except BadInput as error:
            return error.message
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            return f"{type(error).__name__}: {error}"

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
    mapped = getattr(ip, "ipv4_mapped", None)
    return (mapped or ip).is_global and not ip.is_multicast
