"""Many clients at once, slow disks and slow servers: one kind of work does not hold up another."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from cluster.service import web
from cluster.service.http.auth import Tokens, token
from cluster.service.http.following import EventStream, Followers
from cluster.service.http.middleware import FrontMiddleware
from cluster.service.http.reading import Reader
from cluster.service.library import bundle
from cluster.service.library.cached import Cold
from cluster.service.metrics import Metrics
from cluster.service.queue.deliveries import Deliveries
from cluster.service.sources import SourcePolicy, find_source
from encoder.errors import Busy, NotThere, SourceUnusable
from tests.service_material import ServiceProcess, service
from tests.test_service_library import Shelf

LISTENERS = 500


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with service(
        tmp_path_factory.mktemp("service"), slots=0, source_urls=["http://127.0.0.1:9/masters/"]
    ) as one:
        yield one


@contextlib.contextmanager
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def fastest(url: str, times: int = 10) -> float:
    """Seconds of the fastest of some reads, which a busy machine slows down least."""
    taken = []
    with httpx.Client() as http:
        for _ in range(times):
            began = time.perf_counter()
            assert http.get(url, timeout=60).status_code == 200
            taken.append(time.perf_counter() - began)
    return min(taken)


def test_listeners_do_not_slow_down_reads_of_jobs(running: ServiceProcess) -> None:
    with running.client() as client, many_files(), contextlib.ExitStack() as streams:
        job = client.submit(running.source("followed.json"), external_id="followed").id
        alone = fastest(f"{running.url}/v1/jobs/{job}")
        listeners = []
        for _ in range(LISTENERS):
            address = "127.0.0.1", int(running.url.rpartition(":")[2])
            listener = streams.enter_context(socket.create_connection(address, 60))
            listener.sendall(b"GET /v1/jobs/%s/events HTTP/1.1\r\nHost: localhost\r\n"
                             b"Connection: close\r\n\r\n" % job.encode())  # fmt: skip
            listeners.append(listener)
        for listener in listeners:
            assert listener.recv(15) == b"HTTP/1.1 200 OK"
        assert fastest(f"{running.url}/v1/jobs/{job}") < 10 * alone + 0.1
        assert httpx.get(f"{running.url}/v1/jobs/{job}/events").status_code == 503
        client.cancel(job)
        for listener in listeners:  # and all of them hear how it ended
            heard = b""
            while data := listener.recv(65536):
                heard += data
            assert heard.count(b"event: cancelled") == 1
        assert "cancelled" in httpx.get(f"{running.url}/v1/jobs/{job}/events").text


class TalkativeJobs:
    """Jobs whose events are numbers that grow with time; counts the looks at its tables."""

    def __init__(self, jobs: Any) -> None:
        self._jobs = jobs
        self.looks = 0

    def last_event(self) -> int:
        last: int = self._jobs.last_event()
        return last

    def all_events_after(self, after: int) -> Any:
        self.looks += 1
        return self._jobs.all_events_after(after)

    def events_after(self, job_id: str, after: int, epoch: str | None) -> Any:
        return self._jobs.events_after(job_id, after, epoch)


def test_all_listeners_share_one_look_and_miss_nothing(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    names = [f"film-{number}" for number in range(3)]
    for name in names:
        shelf.begin(name, name)
    ids = {job.title: job.id for job in shelf.jobs.page(10)[0]}
    jobs = TalkativeJobs(shelf.jobs)
    followers = Followers(jobs, poll_seconds=0.05)  # type: ignore[arg-type]

    async def listen(name: str, after: int) -> list[str]:
        heard = []
        async for message in await followers.follow(ids[name], after):
            heard.append(message.decode().split("\n")[1].removeprefix("event: "))
        return heard

    async def follow() -> list[list[str]]:
        listening = [asyncio.create_task(listen(name, 0)) for name in names for _ in range(50)]
        await asyncio.sleep(0.3)
        await asyncio.to_thread(end)
        ended = await asyncio.wait_for(asyncio.gather(*listening), 30)
        return [*ended, await listen(names[0], 0), await listen(names[0], 10**9)]

    def end() -> None:
        for name in names:
            shelf.jobs.cancel(ids[name])
        shelf.leases.requeue_lost(lambda owner: False)

    began = time.monotonic()
    *ended, again, of_another_history = asyncio.run(follow())
    assert ended == [["running", "cancelled"]] * 150
    assert again == ["running", "cancelled"]
    assert of_another_history == ["running", "cancelled"]  # no event has that number yet
    assert jobs.looks <= (time.monotonic() - began) / 0.05 + 2
    shelf.database.close()


def test_a_place_is_taken_when_a_listener_comes_and_freed_when_it_leaves(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.begin("film", "film")
    job = shelf.jobs.page(1)[0][0].id
    followers = Followers(shelf.jobs, max_streams=3)

    async def come_and_go() -> None:
        streams = await asyncio.gather(*(followers.follow(job, 0) for _ in range(3)))
        with pytest.raises(Busy, match="all 3 event streams"):  # none of them was read yet
            await followers.follow(job, 0)
        streams[0].close()
        streams[0].close()
        (await followers.follow(job, 0)).close()
        with pytest.raises(NotThere):
            await followers.follow("job-00000000000000000000", 0)
        (await followers.follow(job, 0)).close()
        followers.close()
        heard = [[message async for message in stream] for stream in streams[1:]]
        assert [len(messages) for messages in heard] == [1, 1]  # and they end
        with pytest.raises(Busy, match="stopping"):
            await followers.follow(job, 0)

    asyncio.run(asyncio.wait_for(come_and_go(), 30))
    shelf.database.close()


def test_listeners_of_restored_tables_hear_everything_again(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.begin("film", "film")
    job = shelf.jobs.page(1)[0][0].id
    path = tmp_path / "service.db"
    with (
        contextlib.closing(sqlite3.connect(path)) as live,
        contextlib.closing(sqlite3.connect(tmp_path / "backup")) as backup,
    ):
        live.backup(backup)
    for _ in range(5):
        shelf.leases.requeue_lost(lambda owner: False)
        assert shelf.leases.claim("me")
    followers = Followers(shelf.jobs, poll_seconds=0.02)

    def restore() -> None:
        with (
            contextlib.closing(sqlite3.connect(tmp_path / "backup")) as backup,
            contextlib.closing(sqlite3.connect(path, timeout=10)) as live,
        ):
            backup.backup(live)

    async def follow() -> tuple[list[int], list[int]]:
        stream = await followers.follow(job, 0)
        before: list[int] = []
        after: list[int] = []
        async for message in stream:
            number = int(message.split(b"\n")[0].removeprefix(b"id: "))
            (after if after or (before and number <= before[-1]) else before).append(number)
            if len(before) == 11 and not after:
                await asyncio.sleep(0.1)
                await asyncio.to_thread(restore)
            if after == [1]:
                await asyncio.to_thread(shelf.jobs.cancel, job)
                await asyncio.to_thread(shelf.leases.requeue_lost, lambda owner: False)
        stream.close()
        again = await followers.follow(job, 11)  # comes back with a number from before
        heard = [message async for message in again]
        again.close()
        assert len(heard) == len(after)
        other = await followers.follow(job, 1, "0123456789abcdef")  # with one of another epoch
        assert len([message async for message in other]) == len(after)
        return before, after

    before, after = asyncio.run(asyncio.wait_for(follow(), 30))
    assert before == list(range(1, 12))
    assert after[0] == 1
    assert len(after) == 2
    shelf.database.close()


def test_an_idle_listener_is_told_at_once_and_in_order(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    shelf.begin("film", "film")
    job = shelf.jobs.page(1)[0][0].id
    followers = Followers(shelf.jobs, poll_seconds=0.02)
    heard: list[bytes] = []
    iterated: list[bytes] = []
    answers: dict[str, int | None] = {"unsent": 0}

    def numbers() -> list[int]:
        lines = b"".join(heard).decode().splitlines()
        return [int(line.removeprefix("id: ")) for line in lines if line.startswith("id: ")]

    def push(text: bytes) -> int | None:
        if answers["unsent"] is not None:
            heard.append(text)
        return answers["unsent"]

    def more(times: int) -> None:
        for _ in range(times):
            shelf.leases.requeue_lost(lambda owner: False)
            assert shelf.leases.claim("me")

    async def listen(stream: EventStream) -> None:
        async for text in stream:
            heard.append(text)
            iterated.append(text)

    async def until(condition: Callable[[], bool]) -> None:
        while not condition():
            await asyncio.sleep(0.01)

    async def follow() -> None:
        stream = await followers.follow(job, 0)
        stream.push = push
        listening = asyncio.create_task(listen(stream))
        await until(lambda: len(iterated) > 0)
        first = len(iterated)  # what the job had told before is not pushed
        await asyncio.to_thread(more, 3)
        await until(lambda: numbers() == list(range(1, 8)))
        assert len(iterated) == first
        answers["unsent"] = None  # a body that does not take it is told by the iteration
        await asyncio.to_thread(more, 3)
        await until(lambda: numbers() == list(range(1, 14)))
        assert len(iterated) > first
        answers["unsent"] = 1 << 20  # a client that does not read is cut off
        await asyncio.to_thread(more, 1)
        await listening
        stream.close()

    asyncio.run(asyncio.wait_for(follow(), 30))
    assert numbers()[:14] == list(range(1, 15))
    shelf.database.close()


class SlowServers:
    """Accepts connections and sends its answers a byte at a time, without an end."""

    def __init__(self) -> None:
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}/masters/film.mp4"
        self._connections: list[socket.socket] = []
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._accept), threading.Thread(target=self._say)]

    def __enter__(self) -> SlowServers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        for thread in self._threads:
            thread.join()
        for connection in self._connections:
            connection.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listening.accept()
                connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                self._connections.append(connection)

    def _say(self) -> None:
        while not self._ended.wait(0.1):
            for connection in tuple(self._connections):
                with contextlib.suppress(OSError):
                    connection.sendall(b"x")


def test_a_look_at_a_source_has_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "LOOKUP_TIMEOUT_SECONDS", 0.5)
    with SlowServers() as slow:
        allowed = SourcePolicy((), (slow.url.rpartition("/")[0] + "/",))
        began = time.monotonic()
        with pytest.raises(SourceUnusable, match=r"no whole answer within 0.5 s"):
            asyncio.run(find_source(slow.url, allowed))
        assert time.monotonic() - began < 5


def test_slow_source_servers_hold_up_nothing_else(tmp_path: Path) -> None:
    with SlowServers() as slow:
        urls = [slow.url.rpartition("/")[0] + "/"]
        with (
            service(tmp_path / "s", source_urls=urls, slots=0) as one,
            ThreadPoolExecutor(45) as many,
            httpx.Client(timeout=60) as http,
        ):
            bearer = {"Authorization": f"Bearer {one.token}"}
            asked = {"source": slow.url}

            def submit(number: int) -> int:
                url = f"{one.url}/v1/jobs"
                return httpx.post(url, json=asked, headers=bearer, timeout=120).status_code

            answers = [many.submit(submit, number) for number in range(45)]
            time.sleep(1)
            media = f"/v1/media/{'0' * 64}"
            assert http.get(one.url + "/readyz").status_code == 200
            assert http.get(one.url + media).status_code == 404
            other = http.post(
                f"{one.url}/v1/jobs", json={"source": str(one.source("a.json"))}, headers=bearer
            )
            assert other.status_code == 202
            assert {answer.result() for answer in answers} == {422}  # and none waits for ever


# -- reading from a slow disk ------------------------------------------------------------------


async def forbidden(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError(f"{scope['path']} came to the framework")


def front(shelf: Shelf, *, readers: bool = False) -> FrontMiddleware:
    """What answers before the framework, and nothing behind it."""
    tokens = Tokens([token("ann", "0123456789abcdef")], reads_need_token=readers)
    metrics = Metrics(shelf.jobs, shelf.library, Deliveries(shelf.database))
    return FrontMiddleware(forbidden, Reader(shelf.library, tokens), metrics)


def client_of(answering: FrontMiddleware) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=answering)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


def test_reads_come_to_no_framework(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    package = shelf.publish("film", "film", artwork="film")
    segment = next((shelf.library.files.folder(package) / "video").rglob("*.m4s"))
    name = segment.relative_to(shelf.library.files.folder(package)).as_posix()

    async def ask() -> None:
        async with client_of(front(shelf)) as http:
            media = await http.get(f"/v1/packages/{package}/{name}")
            assert media.content == segment.read_bytes()
            assert (await http.get(f"/v1/media/{'0' * 64}")).status_code == 404
            starts = await http.post("/v1/prefetch:batch", json={"titles": ["film"], "kbps": 1})
            assert starts.json()["titles"]["film"]["version_of"] == package
            assert starts.headers["cache-control"] == "no-store"
            other = await http.get(
                f"/v1/packages/{package}/{name}", headers={"Authorization": "Basic x"}
            )
            assert other.status_code == 200  # reads are open, whatever else is sent
            stills = await http.post("/v1/artwork:batch", json={"titles": ["film", "x"], "k": 2})
            assert stills.json()["missing"] == ["x"]
        async with client_of(front(shelf, readers=True)) as http:
            for path in (f"/v1/packages/{package}/{name}", f"/v1/media/{'0' * 64}"):
                assert (await http.get(path)).status_code == 401
            asked = {"titles": ["film"], "kbps": 1}
            assert (await http.post("/v1/prefetch:batch", json=asked)).status_code == 401

    asyncio.run(ask())
    shelf.database.close()


def test_what_is_not_in_memory_is_not_read_without_waiting(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    package = shelf.publish("film", "film")
    bundles = shelf.library.files.bundles
    path = bundles.path(package)
    opened = bundles.get(package)
    assert bundles.get(package, wait=False) is opened
    entry = opened.entry("ladder")
    assert entry is not None

    def read() -> None:
        opened.body(entry, wait=False)

    def open_anew() -> None:
        bundles.forget()
        bundles.get(package, wait=False)

    for act in (read, open_anew):
        for _ in range(100):  # the kernel drops what it can at the moment
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            try:
                act()
            except Cold:
                break
            time.sleep(0.05)
        else:
            pytest.fail("what was dropped from memory was read without waiting")
    with pytest.raises(FileNotFoundError):
        bundles.get("0" * 32)
    read_again = bundles.get(package).body(entry)
    assert read_again == (shelf.library.files.folder(package) / "ladder.json").read_bytes()
    open_anew()  # it is in memory now
    shelf.database.close()


def test_no_disk_is_read_where_others_are_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Shelf(tmp_path)
    names = [f"film-{number}" for number in range(4)]
    for name in names:
        shelf.publish(name, name, artwork=name)
    shelf.library.files.bundles.forget()
    pread, readers = os.pread, []

    def slow(*asked: int) -> bytes:
        readers.append(threading.current_thread())
        return pread(*asked)

    def cold(*asked: Any) -> int:
        raise BlockingIOError

    monkeypatch.setattr(bundle.os, "pread", slow)
    monkeypatch.setattr(bundle.os, "preadv", cold)

    async def ask() -> None:
        async with client_of(front(shelf)) as http:
            answers = await asyncio.gather(
                http.get(f"/v1/titles/{names[0]}/ladder"),
                http.get(f"/v1/titles/{names[1]}/artwork?k=2"),
                http.post("/v1/prefetch:batch", json={"titles": names, "kbps": 1}),
                http.post("/v1/artwork:batch", json={"titles": names}),
            )
        assert [answer.status_code for answer in answers] == [200] * 4

    asyncio.run(ask())
    assert len(readers) >= 10
    assert threading.main_thread() not in readers  # where the event loop runs
    shelf.database.close()


# -- files -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "status", "part"),
    [
        ("bytes=0-0", 206, slice(0, 1)),
        ("bytes=4-9", 206, slice(4, 10)),
        ("bytes=4-", 206, slice(4, None)),
        ("bytes=-4", 206, slice(-4, None)),
        ("bytes=-99999999", 206, slice(0, None)),
        ("bytes=4-99999999", 206, slice(4, None)),
        ("BYTES=4-9", 206, slice(4, 10)),
        ("bytes = 4 - 9", 200, slice(0, None)),
        ("bytes=3000000-", 416, slice(0, 0)),
        ("bytes=-0", 416, slice(0, 0)),
        ("bytes=9-4", 200, slice(0, None)),
        ("bytes=-", 200, slice(0, None)),
        ("chars=0-1", 200, slice(0, None)),
        ("bytes=" + "9" * 5000 + "-", 200, slice(0, None)),
    ],
)
def test_ranges(asked: str, status: int, part: slice, tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    package = shelf.publish("film", "film")
    content = bytes(range(256)) * 11_000  # more than is sent at once
    (shelf.library.files.folder(package) / "video" / "big.m4s").write_bytes(content)

    async def ask() -> None:
        async with client_of(front(shelf)) as http:
            path = f"/v1/packages/{package}/video/big.m4s"
            answer = await http.get(path, headers={"Range": asked})
            assert answer.status_code == status
            if status == 416:
                assert answer.headers["content-range"] == f"bytes */{len(content)}"
                assert answer.headers["content-type"] == "application/problem+json"
                return
            assert answer.content == content[part]
            assert int(answer.headers["content-length"]) == len(answer.content)
            head = await http.head(path, headers={"Range": asked})
            assert (head.status_code, head.content) == (200, b"")  # ranges are of GET alone
            assert int(head.headers["content-length"]) == len(content)
            etag = answer.headers["etag"]
            same = await http.get(path, headers={"Range": asked, "If-Range": etag})
            assert same.status_code == status
            other = await http.get(path, headers={"Range": asked, "If-Range": '"other"'})
            assert (other.status_code, other.content) == (200, content)
            known = await http.get(path, headers={"Range": asked, "If-None-Match": etag})
            assert (known.status_code, known.content) == (304, b"")

    asyncio.run(ask())
    shelf.database.close()
