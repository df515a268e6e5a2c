"""Connections of the service: who gets a port, and what a stranger's connections may cost."""

from __future__ import annotations

import contextlib
import json
import resource
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cluster.service.http.connections import peer_of
from tests.service_material import COMMAND, ROOT, STOP_SECONDS, ServiceProcess, service


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def test_of_two_services_started_at_once_on_one_port_one_says_that_it_cannot(
    tmp_path: Path,
) -> None:
    port = free_port()
    started = [
        subprocess.Popen(
            [sys.executable, *COMMAND, "serve", "--data", str(tmp_path / name), "--jobs", "0",
             "--port", str(port)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        )
        for name in ("one", "two")
    ]  # fmt: skip
    try:
        # A service that has the port prints its URL; one that has not closes its output.
        urls = [process.stdout.readline() for process in started if process.stdout is not None]
        assert sorted(urls) == ["", f"http://127.0.0.1:{port}\n"]
        assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200
        loser = started[urls.index("")]
        assert loser.wait(STOP_SECONDS) == 2
        assert loser.stderr is not None
        (line,) = loser.stderr.read().splitlines()
        assert f"cannot listen at 127.0.0.1:{port}" in line
        assert "give another --port" in line
    finally:
        for process in started:
            process.terminate()
            process.communicate(timeout=STOP_SECONDS)


def test_the_url_is_printed_when_connections_are_taken(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, *COMMAND, "serve", "--data", str(tmp_path / "one"), "--jobs", "0",
         "--port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline().rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), 5) as one:
            one.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            ready, _, _ = select.select([one], [], [], 5)
            assert ready
            assert one.recv(100).startswith(b"HTTP/1.1 200")
    finally:
        process.terminate()
        process.communicate(timeout=STOP_SECONDS)


class Connection:
    """A connection to a service, on which a test says and hears bytes."""

    def __init__(self, running: ServiceProcess, source: str = "127.0.0.1") -> None:
        port = int(running.url.rpartition(":")[2])
        self.socket = socket.create_connection(("127.0.0.1", port), 10, (source, 0))

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def say(self, data: bytes) -> None:
        self.socket.sendall(data)

    def ask(self, path: str, *headers: str) -> None:
        lines = [f"GET {path} HTTP/1.1", "Host: localhost", *headers, "", ""]
        self.say("\r\n".join(lines).encode())

    def hear(self) -> bytes:
        """Everything that comes until the service closes the connection."""
        heard = b""
        with contextlib.suppress(ConnectionResetError):
            while data := self.socket.recv(65536):
                heard += data
        return heard

    def problem(self) -> tuple[int, dict[str, str], str]:
        """Status, headers and detail of the problem that the service ends the connection with."""
        head, _, body = self.hear().partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (li.partition(": ") for li in lines)}
        assert headers["content-type"] == "application/problem+json"
        assert headers["connection"] == "close"
        document = json.loads(body)
        status = int(first.split()[1])
        assert document["status"] == status
        return status, headers, document["detail"]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with service(tmp_path_factory.mktemp("service"), slots=1) as one:
        yield one


@pytest.mark.parametrize(
    ("begin", "more", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\nX: ", b"x" * 1000, 431),
        (b"GET /", b"x" * 1000, 431),
        (b"GET /healthz HTTP/1.1\r\n", b"X: x\r\n" * 100, 431),
        (b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
         b"1\r\nx\r\n0\r\nX: ", b"x" * 50_000, 413),
        (b"nonsense\r\n\r\n", b"", 400),
    ],
)  # fmt: skip
def test_what_has_no_end_is_bounded_before_it_is_parsed(
    running: ServiceProcess, begin: bytes, more: bytes, status: int
) -> None:
    with Connection(running) as one:
        one.say(begin)
        with contextlib.suppress(OSError):  # until the service has had enough
            for _ in range(93_000_000 // (len(more) or 93_000_000)):
                one.say(more)
                if select.select([one.socket], [], [], 0)[0]:
                    break
            else:
                assert not more, "the service took everything"
        assert one.problem()[0] == status


def test_what_comes_after_a_refusal_is_not_read_without_end(running: ServiceProcess) -> None:
    sent, until = 0, time.monotonic() + 10
    with Connection(running) as one:
        one.say(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ")
        one.socket.setblocking(False)
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            while time.monotonic() < until:
                if select.select([], [one.socket], [], 0.1)[1]:
                    sent += one.socket.send(b"x" * 65_536)
    assert time.monotonic() < until
    # What the sockets hold on both sides, beside what the service reads.
    assert sent < 30_000_000


def test_requests_that_wait_on_one_connection_are_bounded(running: ServiceProcess) -> None:
    request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with Connection(running) as one:
        one.say(5 * request + request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert one.hear().count(b"HTTP/1.1 200") == 6
    with Connection(running) as one:
        with contextlib.suppress(OSError):
            one.say(5000 * request)
        assert one.hear().count(b"HTTP/1.1 200") < 5000


def test_a_head_of_the_usual_size_fits(running: ServiceProcess) -> None:
    with Connection(running) as one:
        one.ask("/healthz", "X: " + "x" * 16_000, "Connection: close")
        assert one.hear().startswith(b"HTTP/1.1 200")


def test_a_peer_has_so_many_connections_and_others_are_served(running: ServiceProcess) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    try:
        with contextlib.ExitStack() as idle:
            for _ in range(1000):
                idle.enter_context(Connection(running))
            with Connection(running) as one:
                one.ask("/healthz")
                status, headers, detail = one.problem()
            assert (status, headers["retry-after"]) == (429, "5")
            assert detail.startswith("127.0.0.1 has 1000 connections already")
            with Connection(running, "127.0.0.2") as other:
                other.ask("/healthz", "Connection: close")
                assert other.hear().startswith(b"HTTP/1.1 200")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert 'shotladder_requests_total{route="refused",status="429"}' in (
        httpx.get(f"{running.url}/metrics").text
    )


def test_connections_that_only_wait_make_place(tmp_path: Path) -> None:
    limits = {"connections": 20}
    with service(tmp_path / "s", limits=limits, slots=0) as one, contextlib.ExitStack() as idle:
        waiting = [idle.enter_context(Connection(one)) for _ in range(60)]
        for connection in waiting[::2]:
            with contextlib.suppress(OSError):
                connection.say(b"GET /healthz HTTP/1.1\r\nX: ")
        assert httpx.get(f"{one.url}/healthz").status_code == 200
        assert waiting[0].hear() == b""  # the one that had waited longest


def test_who_has_many_connections_closes_only_his_own(tmp_path: Path) -> None:
    with (
        service(tmp_path / "s", limits={"connections": 20}, slots=0) as one,
        contextlib.ExitStack() as open_ones,
    ):
        kept = [open_ones.enter_context(Connection(one, "127.0.0.3")) for _ in range(3)]
        for connection in kept:
            connection.ask("/healthz")
            heard = b""
            while not heard.endswith(b'{"status":"ok"}'):
                heard += connection.socket.recv(65_536)
        greedy = [open_ones.enter_context(Connection(one, "127.0.0.4")) for _ in range(60)]
        for connection in greedy[17:]:
            connection.say(b"GET /healthz HTTP/1.1\r\n")
        assert greedy[-1].problem()[0] == 503
        for connection in kept:
            connection.ask("/healthz", "Connection: close")
            assert connection.hear().startswith(b"HTTP/1.1 200")
        with Connection(one, "127.0.0.5") as other:
            other.ask("/healthz", "Connection: close")
            assert other.hear().startswith(b"HTTP/1.1 200")


def test_a_head_must_arrive_in_time_and_a_client_must_read(tmp_path: Path) -> None:
    limits = {"head_seconds": 0.6, "request_seconds": 1.2, "stalled_seconds": 0.6}
    with service(tmp_path / "s", limits=limits, slots=1) as one, one.client() as client:
        with Connection(one) as slow, Connection(one) as body, Connection(one) as silent:
            slow.say(b"GET /healthz HTTP/1.1\r\n")
            body.say(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n1")
            status, _, detail = slow.problem()
            assert status == 408
            assert "headers took over 0.6 s" in detail
            assert silent.hear() == b""
            assert body.hear().startswith(b"HTTP/1.1 200")  # answered, and yet closed
        done = client.wait(client.submit(one.source("a.json"), external_id="a").id)
        assert done.result is not None
        package = str(done.result.package)
        big = one.data / "packages" / package[:2] / package / "video" / "big.m4s"
        big.write_bytes(bytes(40_000_000))
        with Connection(one) as reader:
            reader.ask(f"/v1/packages/{package}/video/big.m4s")
            time.sleep(2)
            assert len(reader.hear()) < 40_000_000


def test_behind_a_proxy_a_peer_is_who_the_proxy_says(tmp_path: Path) -> None:
    with (
        service(
            tmp_path / "s", limits={"peer_connections": 3}, trusted_proxies=["127.0.0.0/30"]
        ) as one,
        one.client() as client,
        contextlib.ExitStack() as streams,
    ):
        job = client.submit(one.source("long.json", seconds=20)).id
        path = f"/v1/jobs/{job}/events"

        def ask(forwarded: str, path: str = "/healthz", source: str = "127.0.0.1") -> Connection:
            connection = streams.enter_context(Connection(one, source))
            connection.ask(path, f"X-Forwarded-For: {forwarded}")
            return connection

        for _ in range(3):
            assert ask("9.9.9.9, 203.0.113.7", path).socket.recv(15) == b"HTTP/1.1 200 OK"
        refused = ask("1.2.3.4, 203.0.113.7")  # the rest is what the client says
        status, headers, detail = refused.problem()
        assert (status, headers["retry-after"]) == (429, "5")
        assert detail.startswith("203.0.113.7 has 3 requests")
        assert ask("203.0.113.8").socket.recv(15) == b"HTTP/1.1 200 OK"
        for number in range(3):  # no proxy, so it cannot say that it is many
            answer = ask(f"203.0.113.{number}", source="127.0.0.9").socket.recv(15)
            assert answer == b"HTTP/1.1 200 OK"
        assert ask("203.0.113.99", source="127.0.0.9").problem()[0] == 429


def test_a_proxy_is_an_address_or_a_network(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, *COMMAND, "serve", "--data", str(tmp_path / "s"), "--trusted-proxy",
         "proxy.example"],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert "--trusted-proxy proxy.example is not an IP address or network" in line


@pytest.mark.parametrize(
    ("host", "peer"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("unix", "unix"),
    ],
)
def test_whom_an_address_counts_for(host: str, peer: str) -> None:
    assert peer_of(host) == peer
