"""Webhooks: which hosts are allowed, how deliveries are signed and repeated."""

from __future__ import annotations

import contextlib
import http.server
import json
import secrets
import socket
import socketserver
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from cluster.service.database import Database
from cluster.service.documents import Submission
from cluster.service.queue import webhooks
from cluster.service.queue.deliveries import ATTEMPTS, CLAIM_SECONDS, PER_RECEIVER, Deliveries
from cluster.service.queue.jobs import Jobs
from cluster.service.queue.table import JobTable
from cluster.service.queue.webhooks import WebhookPolicy, sign, verify
from cluster.service.sources import SourceFile
from encoder.errors import BadInput, NotThere
from tests.service_material import SECRET, AllKept, service


class Receiver(http.server.ThreadingHTTPServer):
    """Keeps the deliveries that it gets; answers with the given statuses, then with 204."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.told: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: list[int] = []
        self.port = self.server_address[1]


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Receiver)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.told.append((self.path, dict(self.headers), body))
        status = self.server.answers.pop(0) if self.server.answers else 204
        self.send_response(status)
        if status == 302:
            self.send_header("Location", f"http://127.0.0.1:{self.server.port}/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_job_that_ended_is_told_signed_and_again_after_an_error(
    tmp_path: Path, receiver: Receiver
) -> None:
    host = f"127.0.0.1:{receiver.port}"
    with service(tmp_path / "s", webhook_hosts=[host]) as one, one.client() as client:
        receiver.answers = [302]
        good = client.submit(one.source("a.json"), webhook=f"http://{host}/hook?x=1")
        bad = client.submit(one.source("b.json", fail="no"), webhook=f"http://{host}/hook")
        client.wait(good.id)
        client.wait(bad.id)
        until = time.monotonic() + 20
        while len(receiver.told) < 3 and time.monotonic() < until:
            time.sleep(0.1)
        with pytest.raises(BadInput, match="not on the allow-list"):
            client.submit(one.source("c.json"), webhook="http://127.0.0.1:1/x")
    assert len(receiver.told) == 3
    assert all(path.startswith("/hook") for path, _, _ in receiver.told)  # no redirect followed
    states = {}
    for _, headers, body in receiver.told:
        assert verify(SECRET, headers["Shotladder-Signature"], body, now=time.time())
        assert not verify(b"another secret", headers["Shotladder-Signature"], body, now=time.time())
        assert not verify(SECRET, headers["Shotladder-Signature"], body + b" ", now=time.time())
        assert headers["Host"] == host
        said = json.loads(body)
        states.setdefault(said["job"]["id"], []).append((said["delivery"], said["job"]["state"]))
    assert {state for told in states.values() for _, state in told} == {"succeeded", "failed"}
    assert len({number for told in states.values() for number, _ in told}) == 2


@pytest.mark.parametrize(
    ("url", "fine"),
    [
        ("https://hooks.example/x", True),
        ("https://hooks.example:8443/x", False),
        ("https://a.wild.example/", True),
        ("https://wild.example/", False),
        ("https://evilwild.example/", False),
        ("https://hooks.example.evil.example/", False),
        ("https://user@hooks.example/", False),
        ("ftp://hooks.example/", False),
        ("file:///etc/passwd", False),
        ("//hooks.example/", False),
        ("https://hooks.example:x/", False),
        ("http://[::1/", False),
    ],
)
def test_the_allow_list(url: str, fine: bool) -> None:
    policy = WebhookPolicy(("hooks.example", "*.wild.example"), secret=SECRET)
    if fine:
        policy.check(url)
    else:
        with pytest.raises(BadInput):
            policy.check(url)


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254", "0.0.0.0", "::1",
     "fe80::1", "fc00::1", "::ffff:127.0.0.1", "100.64.0.1", "224.0.0.1", "localhost",
     "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2001:0:7f00:1::"],
)  # fmt: skip
def test_private_addresses_are_refused(address: str) -> None:
    with pytest.raises(BadInput, match="not a public address"):
        WebhookPolicy(("*",), secret=SECRET).addresses(address, 80)
    assert WebhookPolicy(("*",), private=True, secret=SECRET).addresses(address, 80)


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:4700::1111", "64:ff9b::5db8:d70e"])
def test_public_addresses_are_not(address: str) -> None:
    assert WebhookPolicy(("*",), secret=SECRET).addresses(address, 80) == [address]


@pytest.mark.parametrize(
    ("said", "note"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 4096, "200 OK"),  # and more without an end
        (b"HTTP/1.1 2", "no answer within 1 s"),
        (b"HTTP/1.1 200 OK\r\nX: y", "no answer within 1 s"),
    ],
)
def test_a_receiver_that_does_not_end_holds_up_nobody(
    said: bytes, note: str, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "TIMEOUT_SECONDS", 1.0)

    class Dribbler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            with contextlib.suppress(OSError):
                self.request.sendall(said)
                while True:
                    time.sleep(0.1)
                    self.request.sendall(said[-1:])

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Dribbler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever).start()
        host = f"127.0.0.1:{server.server_address[1]}"
        enqueue(database, f"http://{host}/")
        began = time.monotonic()
        with delivering(database, host) as deliveries:
            until(lambda: deliveries.page(9)[0][0].answer is not None)
        assert time.monotonic() - began < 30
        server.shutdown()
    (done,), _ = deliveries.page(9)
    assert done.answer == note
    assert done.state == ("delivered" if note.startswith("2") else "waiting")


# -- several services and receivers ------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    one = Database(tmp_path / "jobs.db")
    yield one
    one.close()


def enqueue(database: Database, *urls: str, clock: Callable[[], float] = time.time) -> list[str]:
    """One job that has ended for each webhook; return the jobs' ids."""
    jobs = Jobs(JobTable(database, clock=clock), AllKept())
    ids = []
    for url in urls:
        name = secrets.token_hex(4)
        asked = Submission(source=f"/m/{name}", external_id=name, webhook=url)
        job, *_ = jobs.submit(asked, SourceFile(f"file:///m/{name}", 1, "1"), "me")
        jobs.cancel(job.id)
        ids.append(job.id)
    return ids


@contextlib.contextmanager
def delivering(database: Database, *hosts: str, services: int = 1) -> Iterator[Deliveries]:
    """Services that deliver webhooks while the block runs."""
    deliveries = Deliveries(database)
    policy = WebhookPolicy(hosts, private=True, secret=SECRET)
    running = [webhooks.Webhooks(deliveries, policy) for _ in range(services)]
    for one in running:
        one.start()
    yield deliveries
    for one in running:
        one.stop()


def until(condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.02)


def test_two_services_send_every_webhook_once(database: Database, receiver: Receiver) -> None:
    host = f"127.0.0.1:{receiver.port}"
    enqueue(database, *[f"http://{host}/{number}" for number in range(30)])
    with delivering(database, host, services=2) as deliveries:
        until(lambda: deliveries.counts().get("delivered") == 30)
    assert sorted(path for path, _, _ in receiver.told) == sorted(f"/{n}" for n in range(30))


def test_a_claim_is_for_one_service_and_ends(database: Database) -> None:
    clock = Clock()
    enqueue(database, "https://hooks.example/", clock=clock)
    one, two = Deliveries(database, clock=clock), Deliveries(database, clock=clock)
    (claimed,) = one.claim(9, {})
    assert two.claim(9, {}) == []
    assert one.resend(claimed.number).attempts == 0  # it is being sent just now
    assert two.claim(9, {}) == []
    clock.now += CLAIM_SECONDS
    (taken_over,) = two.claim(9, {})
    assert taken_over.number == claimed.number
    assert one.record(claimed, "500 no") is None  # which counts no attempt twice
    assert two.record(taken_over, "204 No Content") == "delivered"
    assert one.page(9)[0][0].attempts == 1


def test_a_receiver_has_a_few_places_only(database: Database) -> None:
    hung = [f"https://hung.example/{number}" for number in range(20)]
    enqueue(database, *hung, "https://hooks.example/")
    deliveries = Deliveries(database)
    receivers = Counter(one.receiver for one in deliveries.claim(50, {}))
    assert receivers == {"hung.example": PER_RECEIVER, "hooks.example": 1}
    assert deliveries.claim(50, receivers) == []
    assert len(deliveries.claim(2, {})) == 2


@pytest.mark.parametrize("hangs", ["answer", "lookup"])
def test_a_receiver_that_hangs_holds_up_no_other(
    hangs: str, database: Database, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go, lookup = threading.Event(), socket.getaddrinfo

    def hung_lookup(host: str, *rest: Any, **more: Any) -> Any:
        if host == "hung.example":
            let_go.wait(30)
            raise OSError("no such host")
        return lookup(host, *rest, **more)

    monkeypatch.setattr(webhooks, "TIMEOUT_SECONDS", 2.0)
    monkeypatch.setattr(socket, "getaddrinfo", hung_lookup)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        hung = f"127.0.0.1:{silent.getsockname()[1]}" if hangs == "answer" else "hung.example"
        good = f"127.0.0.1:{receiver.port}"
        enqueue(database, *[f"http://{hung}/{number}" for number in range(60)])
        enqueue(database, f"http://{good}/")
        with delivering(database, hung, good) as deliveries:
            until(lambda: bool(receiver.told))
            tried = [one for one in deliveries.page(99)[0] if one.attempts and hung in one.url]
            assert len(tried) <= 12  # the good receiver did not have to wait for all of them
            let_go.set()


def test_a_delivery_that_was_given_up_is_listed_and_sent_again(database: Database) -> None:
    clock = Clock()
    job, _ = enqueue(database, "https://a.example/?key=1", "https://b.example/", clock=clock)
    deliveries = Deliveries(database, clock=clock)
    while not deliveries.counts().get("given_up"):
        clock.now += 4 * 3600
        for claimed in deliveries.claim(9, {}):
            answer = "500 Oh" if claimed.receiver == "a.example" else "200 OK"
            deliveries.record(claimed, answer)
    (given_up,), following = deliveries.page(9, state="given_up")
    assert (given_up.job, given_up.attempts, given_up.answer) == (job, ATTEMPTS, "500 Oh")
    assert (given_up.next_at, following) == (None, None)
    assert deliveries.claim(9, {}) == []
    again = deliveries.resend(given_up.id)
    assert (again.state, again.attempts) == ("waiting", 0)
    (claimed,) = deliveries.claim(9, {})
    assert deliveries.record(claimed, "200 OK") == "delivered"
    assert len(deliveries.page(9, job=job)[0]) == 1
    first, cursor = deliveries.page(1)
    assert [one.id for one in first + deliveries.page(1, cursor)[0]] == [2, 1]
    with pytest.raises(NotThere, match="no delivery 77"):
        deliveries.resend(77)


def test_deliveries_over_http(tmp_path: Path, receiver: Receiver) -> None:
    host = f"127.0.0.1:{receiver.port}"
    with service(tmp_path / "s", webhook_hosts=[host]) as one, one.client() as client:
        job = client.submit(one.source("a.json"), webhook=f"http://{host}/hook")
        client.wait(job.id)
        until(lambda: [d.state for d in client.deliveries(job_id=job.id)] == ["delivered"])
        (delivery,) = client.deliveries(state="delivered")
        assert client.resend(delivery.id).state == "waiting"
        until(lambda: len(receiver.told) == 2)
        assert list(client.deliveries(state="given_up")) == []
        with pytest.raises(NotThere):
            client.resend(99)
        answer = httpx.get(f"{one.url}/v1/deliveries", trust_env=False, verify=False)
        assert answer.status_code == 401  # URLs of webhooks may contain secrets


def test_a_signature_is_for_a_time() -> None:
    signature = sign(SECRET, 1000, b"body")
    assert verify(SECRET, signature, b"body", now=1200)
    assert not verify(SECRET, signature, b"body", now=1400)
    assert not verify(SECRET, signature.replace("t=1000", "t=1399"), b"body", now=1400)
    assert not verify(SECRET, "nonsense", b"body", now=1000)
    assert ATTEMPTS > 5
