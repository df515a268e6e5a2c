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
import hashlib
import hmac
import ipaddress
import json
import socket
import ssl
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
import structlog

from cluster.service.queue.deliveries import Claimed, Deliveries
from encoder.errors import BadInput

TIMEOUT_SECONDS = 10.0
"""Limit of a whole delivery, also for a receiver that sends its answer byte by byte."""
CONCURRENT_DELIVERIES = 100
"""Places for deliveries; :data:`.deliveries.PER_RECEIVER` of them at most for one receiver."""
IDLE_SECONDS = 0.5
RETRY_SECONDS = 5.0
"""Pause after the tables could not be used."""
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


class Webhooks:
    """Delivers notifications when they are due, from a thread of its own."""

    def __init__(self, deliveries: Deliveries, policy: WebhookPolicy) -> None:
        self._deliveries = deliveries
        self._policy = policy
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
        self._lookups = ThreadPoolExecutor(CONCURRENT_DELIVERIES, "webhook-lookup")

    def start(self) -> None:
        """Start delivering."""
        self._thread.start()

    def stop(self) -> None:
        """Stop delivering. What is still due is delivered by the next service."""
        self._stopping.set()
        self._thread.join(TIMEOUT_SECONDS + 1)
        self._lookups.shutdown(wait=False, cancel_futures=True)

    def _run(self) -> None:
        asyncio.run(self._deliver_until_stopped())

    async def _deliver_until_stopped(self) -> None:
        """Keep deliveries under way, each of which takes and frees a place of its own."""
        under_way: dict[asyncio.Task[None], str] = {}
        async with httpx.AsyncClient(
            verify=ssl.create_default_context(),
            timeout=TIMEOUT_SECONDS,
            follow_redirects=False,
            trust_env=False,
            # Each connection belongs to the host name that was checked, and sent to TLS, for it.
            limits=httpx.Limits(max_keepalive_connections=0),
        ) as http:
            while not self._stopping.is_set():
                places = CONCURRENT_DELIVERIES - len(under_way)
                for delivery in await self._claim(places, Counter(under_way.values())):
                    task = asyncio.create_task(self._attempt(http, delivery))
                    under_way[task] = delivery.receiver
                    task.add_done_callback(under_way.pop)
                if under_way:
                    await asyncio.wait(
                        under_way, timeout=IDLE_SECONDS, return_when=asyncio.FIRST_COMPLETED
                    )
                else:
                    await asyncio.sleep(IDLE_SECONDS)
            if under_way:
                await asyncio.wait(under_way, timeout=TIMEOUT_SECONDS)

    async def _claim(self, places: int, under_way: Counter[str]) -> list[Claimed]:
        if not places:
            return []
        try:
            return await asyncio.to_thread(self._deliveries.claim, places, under_way)
        except Exception:  # the tables are busy, or the disk is full
            log.exception("no webhook can be claimed")
            await asyncio.sleep(RETRY_SECONDS)
            return []

    async def _attempt(self, http: httpx.AsyncClient, delivery: Claimed) -> None:
        """Deliver once and record the answer. The place is free when this returns."""
        lookups: list[asyncio.Future[list[str]]] = []
        answer = await self._deliver(http, delivery, lookups)
        state = "its claim ends by itself"
        try:
            recorded = await asyncio.to_thread(self._deliveries.record, delivery, answer)
            state = recorded or "claimed by another service meanwhile"
        except Exception:
            log.exception("the answer to a webhook cannot be recorded")
        level = log.info if state == "delivered" else log.warning
        level(
            "webhook",
            job=delivery.job["id"],
            delivery=delivery.number,
            answer=answer,
            state=state,
        )
        if lookups:  # a lookup that hangs cannot be stopped, and keeps its thread
            await asyncio.wait(lookups)

    async def _deliver(
        self,
        http: httpx.AsyncClient,
        delivery: Claimed,
        lookups: list[asyncio.Future[list[str]]],
    ) -> str:
        """Deliver; return the status line of the answer, or why there is none.

        Lookups of addresses that are begun are added to ``lookups``.
        """
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                return await self._post(http, delivery, lookups)
        except TimeoutError:
            return f"no answer within {TIMEOUT_SECONDS:g} s"
        except BadInput as error:
            return error.message
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            return f"{type(error).__name__}: {error}"

    async def _post(
        self,
        http: httpx.AsyncClient,
        delivery: Claimed,
        lookups: list[asyncio.Future[list[str]]],
    ) -> str:
        self._policy.check(delivery.url)  # the allow-list may have changed since submission
        parts = urlsplit(delivery.url)
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        message = {"delivery": delivery.number, "job": delivery.job}
        body = json.dumps(message, separators=(",", ":")).encode()
        headers = {
            "Host": parts.netloc,
            "Content-Type": "application/json",
            SIGNATURE: sign(self._policy.secret, int(time.time()), body),
        }
        failed: httpx.ConnectError | None = None
        lookup = asyncio.get_running_loop().run_in_executor(
            self._lookups, self._policy.addresses, host, port
        )
        lookup.add_done_callback(lambda done: done.cancelled() or done.exception())
        lookups.append(lookup)
        for address in await asyncio.shield(lookup):
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
