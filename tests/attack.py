"""Strangers and careless clients at work on a service, for ``tests.load``.

``python -m tests.attack URL TOKEN JOB --seconds S`` runs in a process of its own, prints ``ready``
once everything is under way, and in the end what it did, as JSON. All at once:

- a header without an end, again as soon as the connection is cut;
- idle connections from several addresses, opened again when they are cut;
- listeners of one job's events;
- submissions of a source whose server sends its answer a byte at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import resource
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import uvloop

PEER_CONNECTIONS = 900
"""Idle connections from one address, under the limit of the service, which is per address."""
CHUNK = b"x" * 65_536
REOPEN_SECONDS = 0.2
READY_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """How hard to attack."""

    headers: int = 1
    """Headers without an end at one time."""
    connections: int = 4_000
    """Idle connections."""
    listeners: int = 500
    """Listeners of events."""
    sources: int = 45
    """Submissions at one time of sources on slow servers."""


class _Attacker:
    def __init__(self, url: str, token: str, job: str, attack: Attack, slow_port: int) -> None:
        parts = urlsplit(url)
        self._host, self._port = str(parts.hostname), parts.port or 80
        self._token, self._job, self._attack, self._slow_port = token, job, attack, slow_port
        self.counts: Counter[str] = Counter()
        self.open: Counter[str] = Counter()
        """What is open now, by kind."""

    async def run(self, seconds: float) -> None:
        """Attack for some seconds once everything is under way."""
        slow = await asyncio.start_server(self._drip, "127.0.0.1", self._slow_port, backlog=512)
        wanted = {"idle": self._attack.connections, "listening": self._attack.listeners,
                  "submitting": self._attack.sources}  # fmt: skip
        tasks = [
            *(self._for_ever(self._endless_header) for _ in range(self._attack.headers)),
            *(self._for_ever(self._idle, f"127.0.1.{1 + n // PEER_CONNECTIONS}")
              for n in range(self._attack.connections)),
            *(self._for_ever(self._listen) for _ in range(self._attack.listeners)),
            *(self._for_ever(self._submit) for _ in range(self._attack.sources)),
        ]  # fmt: skip
        async with slow:
            running = [asyncio.create_task(one) for one in tasks]
            began = time.monotonic()
            while any(self.open[kind] < 0.95 * count for kind, count in wanted.items()):
                if time.monotonic() - began > READY_SECONDS:
                    break  # the counts tell what the service did not let in
                await asyncio.sleep(0.1)
            print("ready", json.dumps(self.open), flush=True)
            await asyncio.sleep(seconds)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _for_ever(self, act: Callable[..., Awaitable[None]], *arguments: str) -> None:
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await act(*arguments)
            await asyncio.sleep(REOPEN_SECONDS)

    @contextlib.asynccontextmanager
    async def _connected(
        self, kind: str, source: str = "127.0.0.2", *, counts: bool = True
    ) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection(
            self._host, self._port, local_addr=(source, 0)
        )
        self.counts[f"{kind}: connections"] += 1
        try:
            with self._open(kind) if counts else contextlib.nullcontext():
                yield reader, writer
        finally:
            writer.transport.abort()

    @contextlib.contextmanager
    def _open(self, kind: str) -> Iterator[None]:
        self.open[kind] += 1
        try:
            yield
        finally:
            self.open[kind] -= 1

    async def _endless_header(self) -> None:
        async with self._connected("header") as (_, writer):
            writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
            while not writer.transport.is_closing():
                writer.write(CHUNK)
                await writer.drain()
                self.counts["header: MB sent"] += 1 / 16
                await asyncio.sleep(0)

    async def _idle(self, source: str) -> None:
        async with self._connected("idle", source) as (reader, _):
            heard = await reader.read(65_536)
            if heard:
                self.counts[f"idle: answered {heard[9:12].decode()}"] += 1

    async def _listen(self) -> None:
        async with self._connected("listening", "127.0.2.1", counts=False) as (reader, writer):
            writer.write(self._request("GET", f"/v1/jobs/{self._job}/events"))
            status = (await reader.readline())[9:12].decode()
            if status != "200":
                self.counts[f"listening: answered {status}"] += 1
                return
            with self._open("listening"):  # not before its answer has begun
                await self._hear(reader)

    async def _hear(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            self.counts["listening: events heard"] += line.startswith(b"event: ")

    async def _submit(self) -> None:
        url = f"http://127.0.0.1:{self._slow_port}/masters/film.mp4"
        async with self._connected("submitting", "127.0.2.2") as (reader, writer):
            writer.write(self._request("POST", "/v1/jobs", json.dumps({"source": url})))
            status = (await reader.readline())[9:12].decode()
            self.counts[f"submitting: answered {status}"] += 1

    async def _drip(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer as a server of sources that never comes to an end."""
        with contextlib.suppress(OSError, asyncio.CancelledError):
            writer.write(b"HTTP/1.1 200 OK\r\nX: ")
            while not writer.transport.is_closing():
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.1)

    def _request(self, method: str, path: str, body: str = "") -> bytes:
        lines = [
            f"{method} {path} HTTP/1.1",
            "Host: localhost",
            "Content-Type: application/json",
            f"Authorization: Bearer {self._token}",
            f"Content-Length: {len(body)}",
            "",
            body,
        ]
        return "\r\n".join(lines).encode()


def arguments_of(attack: Attack) -> list[str]:
    """The words of a command line for an attack."""
    named = {"--headers": attack.headers, "--connections": attack.connections,
             "--listeners": attack.listeners, "--sources": attack.sources}  # fmt: skip
    return [str(word) for word in itertools.chain(*named.items())]


def main() -> None:
    options = argparse.ArgumentParser()
    for name in ("url", "token", "job"):
        options.add_argument(name)
    options.add_argument("--seconds", type=float, default=30)
    options.add_argument("--slow-port", type=int, required=True)
    for name in ("headers", "connections", "listeners", "sources"):
        options.add_argument(f"--{name}", type=int, default=getattr(Attack(), name))
    asked = options.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    attack = Attack(headers=asked.headers, connections=asked.connections,
                    listeners=asked.listeners, sources=asked.sources)  # fmt: skip
    attacker = _Attacker(asked.url, asked.token, asked.job, attack, asked.slow_port)
    uvloop.run(attacker.run(asked.seconds))
    print(json.dumps({name: round(count, 1) for name, count in sorted(attacker.counts.items())}))


if __name__ == "__main__":
    main()
