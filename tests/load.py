"""Reads under load: an open loop on loopback against a service with a large library.

``python -m tests.load [--titles N] [--films N] [--rate R] [--media R] [--batches R] [--seconds S]
[--attack beside|only|none]`` prints tables. Requests are sent when their time has come, whether or
not earlier ones were answered, over as many connections as that takes, and a request's time begins
when it should have been sent. Of documents, 80 % are artwork lists (30 kB, half of the requests
take gzip), 15 % ``prefetch/start`` and 5 % conditional requests answered 304, over titles drawn at
random. Ranges of media (64 kB) and batches of 100 titles come beside them, at rates of their own;
whole manifests come after them. The same load is then measured again beside :mod:`tests.attack`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import psutil
import uvloop
from sqlalchemy import insert

from cluster.service.database import ChangeRow, Database, TitleRow, VersionRow
from cluster.service.library.bundle import package_entries, stills_name, write_bundle
from recommender.prefetch.build import build_prefetch
from tests.attack import Attack, arguments_of
from tests.postgres import database_url
from tests.service_material import ROOT, ServiceProcess, written_artwork, written_package

Draw = Callable[[], tuple[str, bytes, int]]
"""Gives a request's kind, its bytes and the status that is right."""

VARIANTS = 32
"""Different bundles of short titles; each title has a file of its own all the same."""
SHORT_SHOTS, FILM_SHOTS = 30, 1800
RUNGS = 7
POOL = 38
"""Stills of a title of 30 shots."""
ASPECT, STILLS = "16:9", 28
"""Number of stills that a request asks for, about 30 kB."""
SEGMENTS, SEGMENT_BYTES, RANGE_BYTES = 200, 1 << 20, 1 << 16
BATCH_TITLES, BATCH_STILLS = 100, 8
LAST_SECONDS = 30
"""Time for answers after the last request."""
DOCUMENTS = ("artwork", "artwork, gzip", "prefetch/start", "304")


def build_library(data: Path, titles: int, films: int, url: str | None = None) -> list[str]:
    """Publish ``titles`` titles, ``films`` of them of film length, without running jobs; the tables
    are in a file, or in the database ``url``."""
    templates = [_template(data, f"short-{n}", SHORT_SHOTS) for n in range(min(VARIANTS, titles))]
    films_of = [_template(data, f"film-{n}", FILM_SHOTS) for n in range(min(2, films))]
    names, now = [], time.time()
    rows = []
    for number in range(titles):
        film = number < films
        template = films_of[number % len(films_of)] if film else templates[number % len(templates)]
        package = hashlib.sha256(f"package {number}".encode()).hexdigest()[:32]
        target = data / "bundles" / package[:2] / f"{package}.bundle"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(template, target)
        names.append(f"title-{number:06d}")
        rows.append({"version": 1, "package": package})
    titled = [{"name": name, "updated": now, "documents": "prefetch,artwork"} for name in names]
    versions = [{"title": name, "content_sha256": "", "published": now} for name in names]
    database = Database(url or data / "service.db")
    with database.writing() as session:
        for table, more in ((TitleRow, titled), (VersionRow, versions)):
            pairs = zip(rows, more, strict=True)
            session.execute(insert(table), [{**row, **fields} for row, fields in pairs])
        session.add(ChangeRow(kind="published", title=names[0], at=now, **rows[0]))
    database.close()
    return names


def _template(data: Path, seed: str, shots: int) -> Path:
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder)
        ladder, written = written_package(seed, shots=shots, rungs=RUNGS, sizes=200_000)
        (there / "ladder.json").write_text(ladder.to_json())
        prefetch = build_prefetch(ladder, written)
        (there / "prefetch.json").write_text(prefetch.to_json())
        pool = written_artwork(seed, ladder, stills=POOL)
        (there / "artwork.json").write_text(pool.to_json())
        entries, _ = package_entries(there, "0" * 32)
    path = data / "templates" / seed
    # Entries that no request of this test reads would be most of the library's size.
    read = (stills_name(ASPECT), "prefetch", "start/")
    entries = {name: content for name, content in entries.items() if name.startswith(read)}
    write_bundle(path, entries, [rung.throughput for rung in prefetch.startup])
    return path


@dataclass(slots=True)
class Result:
    """Measurements of one kind of request."""

    seconds: list[float] = field(default_factory=list)
    errors: int = 0
    bytes: int = 0


class _Connection(asyncio.Protocol):
    """Keep-alive HTTP/1.1, one request at a time; as little work as can be."""

    def __init__(self, idle: deque[_Connection]) -> None:
        self._idle = idle
        self._buffer = bytearray()
        self._wanted = -1
        self._done: Callable[[int, int], None] | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def ask(self, request: bytes, done: Callable[[int, int], None]) -> None:
        assert self.transport is not None
        self._done = done
        self.transport.write(request)

    def close(self) -> None:
        assert self.transport is not None
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._wanted < 0:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._buffer[:end]).lower()
            at = head.find(b"content-length: ")
            length = int(head[at + 16 :].split(b"\r", 1)[0]) if at >= 0 else 0
            self._wanted = end + 4 + length
        if len(self._buffer) >= self._wanted:
            status, size = int(self._buffer[9:12]), self._wanted
            done, self._done = self._done, None
            self._buffer.clear()
            self._wanted = -1
            self._idle.append(self)
            if done is not None:
                done(status, size)

    def connection_lost(self, error: Exception | None) -> None:
        if self._done is not None:
            self._done(0, 0)
        if self in self._idle:
            self._idle.remove(self)


async def drive(
    port: int, rate: float, seconds: float, draw: Draw
) -> tuple[dict[str, Result], float]:
    """Send ``rate`` requests a second for ``seconds``.

    ``draw`` gives a request's kind, its bytes and the status that is right.

    Returns:
        Results by kind, and how late the generator itself was at most, in seconds.
    """
    loop = asyncio.get_running_loop()
    idle: deque[_Connection] = deque()
    connections: list[_Connection] = []
    results: dict[str, Result] = {}
    pending, late = 0, 0.0
    finished = asyncio.Event()

    async def connect() -> _Connection:
        _, protocol = await loop.create_connection(lambda: _Connection(idle), "127.0.0.1", port)
        connections.append(protocol)
        return protocol

    for one in await asyncio.gather(*(connect() for _ in range(32))):
        idle.append(one)
    clock = time.perf_counter  # uvloop's own counts milliseconds
    began = clock() + 0.1
    for number in range(max(1, int(rate * seconds))):
        due = began + number / rate
        if (wait := due - clock()) > 0:
            await asyncio.sleep(wait)
        else:
            await asyncio.sleep(0)
        late = max(late, clock() - due)
        kind, request, right = draw()
        result = results.setdefault(kind, Result())

        def done(
            status: int, size: int, due: float = due, right: int = right, result: Result = result
        ) -> None:
            nonlocal pending
            result.seconds.append(clock() - due)
            result.errors += status != right
            result.bytes += size
            pending -= 1
            if not pending:
                finished.set()

        pending += 1
        finished.clear()
        if not idle:
            idle.append(await connect())
        idle.popleft().ask(request, done)
    if pending:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(finished.wait(), LAST_SECONDS)
    for connection in connections:  # an unanswered request is an error
        connection.close()
    await asyncio.sleep(0.1)
    return results, late


def _list_path(name: str) -> str:
    return f"/v1/titles/{name}/artwork?aspect={ASPECT}&k={STILLS}"


def build_media(data: Path) -> list[str]:
    """Add segments to a library; return their names."""
    names = []
    for number in range(SEGMENTS):
        digest = hashlib.sha256(f"segment {number}".encode()).hexdigest()
        path = data / "media" / digest[:2] / f"{digest}.m4s"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_bytes(random.Random(number).randbytes(SEGMENT_BYTES))
        names.append(digest)
    return names


def mixed(port: int, names: list[str], seed: int) -> Draw:
    """The mix of a home page. Entity tags for the 304s are asked for first."""
    import httpx

    choose = random.Random(seed)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        known = [
            (name, client.get(_list_path(name)).headers["etag"])
            for name in choose.sample(names, min(200, len(names)))
        ]

    def draw() -> tuple[str, bytes, int]:
        lot = choose.random()
        name = choose.choice(names)
        if lot < 0.80:
            packed = choose.random() < 0.5
            coding = "Accept-Encoding: gzip\r\n" if packed else ""
            kind = "artwork, gzip" if packed else "artwork"
            return kind, _request(_list_path(name), coding), 200
        if lot < 0.95:
            kbps = choose.choice((400, 900, 2500, 6000, 20000))
            path = f"/v1/titles/{name}/prefetch/start?seconds=4&kbps={kbps}"
            return "prefetch/start", _request(path), 200
        name, etag = choose.choice(known)
        return "304", _request(_list_path(name), f"If-None-Match: {etag}\r\n"), 304

    return draw


def ranges(segments: list[str], seed: int) -> Draw:
    """Ranges of media."""
    choose = random.Random(seed)

    def draw() -> tuple[str, bytes, int]:
        begin = choose.randrange(SEGMENT_BYTES - RANGE_BYTES)
        path = f"/v1/media/{choose.choice(segments)}"
        asked = f"Range: bytes={begin}-{begin + RANGE_BYTES - 1}\r\n"
        return "media range", _request(path, asked), 206

    return draw


def batches(names: list[str], seed: int) -> Draw:
    """Batches of start documents and of stills, in turn by lot."""
    choose = random.Random(seed)

    def draw() -> tuple[str, bytes, int]:
        titles = choose.sample(names, min(BATCH_TITLES, len(names)))
        if choose.random() < 0.5:
            body = json.dumps({"titles": titles, "kbps": 3000, "seconds": 4})
            return "batch of starts", _request("/v1/prefetch:batch", body=body), 200
        stills = {"aspect": ASPECT, "k": BATCH_STILLS}
        body = json.dumps({"titles": titles, **stills})
        return "batch of stills", _request("/v1/artwork:batch", body=body), 200

    return draw


def together(streams: Sequence[tuple[float, Draw]], seed: int) -> Draw:
    """Requests of several kinds by lot, each in proportion to its rate."""
    choose = random.Random(seed)
    rates, draws = zip(*streams, strict=True)

    def draw() -> tuple[str, bytes, int]:
        (one,) = choose.choices(draws, rates)
        drawn: tuple[str, bytes, int] = one()
        return drawn

    return draw


def manifests(names: list[str], seed: int) -> Draw:
    """Whole manifests, gzip taken."""
    choose = random.Random(seed)

    def draw() -> tuple[str, bytes, int]:
        name = choose.choice(names)
        return "manifest", _request(f"/v1/titles/{name}/prefetch", "Accept-Encoding: gzip\r\n"), 200

    return draw


def _request(path: str, more: str = "", *, body: str = "") -> bytes:
    if body:
        more += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    method = "POST" if body else "GET"
    return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{more}\r\n{body}".encode()


def measure(
    running: ServiceProcess,
    rate: float,
    seconds: float,
    draw: Draw,
) -> dict[str, float]:
    """One run, printed as a table; the numbers of all kinds together, and of documents."""
    assert running.process is not None
    port = int(running.url.rpartition(":")[2])
    before, own = _cpu_seconds(running.process.pid), time.process_time()
    results, late = uvloop.run(drive(port, rate, seconds, draw))
    spent = _cpu_seconds(running.process.pid) - before
    own = time.process_time() - own
    every = _sum_of(list(results.values())).seconds
    cpu = spent / len(every)
    errors = sum(result.errors for result in results.values())
    documents = _sum_of([result for kind, result in results.items() if kind in DOCUMENTS])
    rows = [*sorted(results.items())]
    if documents.seconds:
        rows.append(("all documents", documents))
    rows.append(("all", _sum_of(list(results.values()))))
    print(f"{'kind':16} {'requests':>8} {'errors':>6} {'kB each':>8} {'p50 ms':>7} {'p90':>7} "
          f"{'p99':>7} {'p99.9':>7} {'max':>7}")  # fmt: skip
    for kind, result in rows:
        ranked = sorted(result.seconds)
        at = [1000 * ranked[min(int(q * len(ranked)), len(ranked) - 1)]
              for q in (0.5, 0.9, 0.99, 0.999, 1)]  # fmt: skip
        each = result.bytes / len(ranked) / 1000
        print(f"{kind:16} {len(ranked):8} {result.errors:6} {each:8.1f} "
              + " ".join(f"{value:7.2f}" for value in at))  # fmt: skip
    print(f"{rate:g} requests/s for {seconds:g} s: the service took {1e6 * cpu:.0f} us of CPU, "
          f"{100 * cpu * rate:.0f} % of a core")  # fmt: skip
    print(f"the generator took {1e6 * own / len(every):.0f} us a request and was at most "
          f"{1000 * late:.1f} ms late")  # fmt: skip
    return {
        "requests": len(every),
        "errors": errors,
        "p50": _quantile(every, 0.5),
        "p99": _quantile(every, 0.99),
        "documents_p50": _quantile(documents.seconds, 0.5),
        "documents_p99": _quantile(documents.seconds, 0.99),
        "cpu": cpu,
    }


def _cpu_seconds(pid: int) -> float:
    """CPU seconds of a service so far, over all its processes."""
    first = psutil.Process(pid)
    times = [process.cpu_times() for process in (first, *first.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def _sum_of(results: Sequence[Result]) -> Result:
    seconds = [second for result in results for second in result.seconds]
    return Result(seconds, sum(one.errors for one in results), sum(one.bytes for one in results))


def _quantile(seconds: Sequence[float], share: float) -> float:
    ranked = sorted(seconds)
    return ranked[min(int(share * len(ranked)), len(ranked) - 1)] if ranked else float("nan")


@contextlib.contextmanager
def attacked(
    running: ServiceProcess, attack: Attack, seconds: float, slow_port: int
) -> Iterator[None]:
    """Attack a service from another process while the block runs; print what was done."""
    with running.client() as client:
        source = running.source("followed.json", seconds=3 * seconds + 60)
        job = client.submit(source, external_id="followed").id
        words = [sys.executable, "-m", "tests.attack", running.url, running.token, job, "--seconds",
                 str(seconds), "--slow-port", str(slow_port), *arguments_of(attack)]  # fmt: skip
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
            assert process.stdout is not None
            ready = process.stdout.readline()
            assert ready.startswith("ready"), ready
            print(f"open when it begins: {ready.removeprefix('ready').strip()}")
            yield
            done = process.stdout.read()
        assert process.returncode == 0
        print(f"the attack did: {done.strip()}")
        client.cancel(job)
        client.wait(job)


def free_port() -> int:
    """Return a TCP port that nobody has."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--titles", type=int, default=50_000)
    options.add_argument("--films", type=int, default=100)
    options.add_argument("--rate", type=float, default=500)
    options.add_argument("--media", type=float, default=200, help="ranges of media a second")
    options.add_argument("--batches", type=float, default=20, help="batches of 100 a second")
    options.add_argument("--seconds", type=float, default=30)
    options.add_argument("--processes", type=int, default=1, help="that answer requests")
    options.add_argument("--attack", choices=("beside", "only", "none"), default="beside",
                         help="measure with and without attack, or only one of them")  # fmt: skip
    for name in ("headers", "connections", "listeners", "sources"):
        options.add_argument(f"--{name}", type=int, default=getattr(Attack(), name))
    options.add_argument("--keep", type=Path, help="folder to keep the library in")
    options.add_argument("--postgres", action="store_true", help="keep the tables in PostgreSQL")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary, database_url(asked.postgres) as url:
        run(asked, asked.keep or Path(temporary), url)


def run(
    asked: argparse.Namespace, folder: Path, url: str | None = None
) -> dict[str, dict[str, float]]:
    """Build the library if it is not there, measure, print; the numbers of each measurement. The
    tables are in a file, or in the new database ``url``."""
    folder.mkdir(exist_ok=True)
    slow_port = free_port()
    running = ServiceProcess(
        folder,
        slots=1,
        processes=asked.processes,
        source_urls=[f"http://127.0.0.1:{slow_port}/masters/"],
        database=url,
    )
    names = [f"title-{number:06d}" for number in range(asked.titles)]
    if url is not None or not (folder / "data" / "service.db").exists():
        began = time.monotonic()
        build_library(folder / "data", asked.titles, asked.films, url)
        print(f"{asked.titles} titles, {asked.films} films of {FILM_SHOTS} shots, made in "
              f"{time.monotonic() - began:.0f} s")  # fmt: skip
    segments = build_media(folder / "data")
    began = time.monotonic()
    running.start()
    measured: dict[str, dict[str, float]] = {}
    try:
        print(f"service started in {time.monotonic() - began:.1f} s")
        port = int(running.url.rpartition(":")[2])
        assert running.process is not None
        memory = psutil.Process(running.process.pid).memory_info().rss
        print(f"memory {memory / 1e6:.0f} MB")
        streams = [(asked.rate, mixed(port, names, 1)), (asked.media, ranges(segments, 4)),
                   (asked.batches, batches(names, 5))]  # fmt: skip
        draw = together([(rate, one) for rate, one in streams if rate], 6)
        rate = asked.rate + asked.media + asked.batches
        if asked.attack != "only":
            print("\nwithout attack")
            measured["without"] = measure(running, rate, asked.seconds, draw)
        if asked.attack != "none":
            attack = Attack(headers=asked.headers, connections=asked.connections,
                            listeners=asked.listeners, sources=asked.sources)  # fmt: skip
            print(f"\nunder attack: {attack.headers} header without an end, {attack.connections} "
                  f"idle connections, {attack.listeners} listeners, {attack.sources} sources on "
                  "slow servers")  # fmt: skip
            with attacked(running, attack, asked.seconds + 5, slow_port):
                measured["attacked"] = measure(running, rate, asked.seconds, draw)
        if measured:
            print(f"\n{'':15} {'requests':>8} {'errors':>6} {'documents p50 ms':>17} {'p99':>8} "
                  f"{'all p50':>8} {'p99':>8}")  # fmt: skip
            for name, one in measured.items():
                at = [1000 * one[key] for key in ("documents_p50", "documents_p99", "p50", "p99")]
                print(f"{name:15} {one['requests']:8.0f} {one['errors']:6.0f} {at[0]:17.2f} "
                      f"{at[1]:8.2f} {at[2]:8.2f} {at[3]:8.2f}")  # fmt: skip
        if asked.attack != "only":
            print("\nwhole manifests, titles of 30 shots")
            measure(running, asked.rate / 5, asked.seconds / 3, manifests(names[asked.films :], 2))
            print(f"\nwhole manifests, films of {FILM_SHOTS} shots")
            measure(running, asked.rate / 25, asked.seconds / 3, manifests(names[: asked.films], 3))
    finally:
        running.stop()
    return measured


if __name__ == "__main__":
    main()
