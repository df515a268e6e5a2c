"""Webhooks: which hosts are allowed, how deliveries are signed and repeated."""

from __future__ import annotations

import contextlib
import http.server
import json
import socketserver
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from cluster.service.database import Database, DeliveryRow
from cluster.service.documents import Submission
from cluster.service.queue import webhooks
from cluster.service.queue.jobs import Jobs
from cluster.service.queue.table import JobTable
from cluster.service.queue.webhooks import WebhookPolicy, sign, verify
from cluster.service.sources import SourceFile
from encoder.errors import BadInput
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
    said: bytes, note: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "TIMEOUT_SECONDS", 1.0)
    database = Database(tmp_path / "jobs.db")
    jobs = Jobs(JobTable(database), AllKept())

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
        asked = Submission(source="/m/a", external_id="a", webhook=f"http://{host}/")
        job, *_ = jobs.submit(asked, SourceFile("file:///m/a", 1, "1"), "me")
        jobs.cancel(job.id)
        policy = WebhookPolicy((host,), private=True, secret=SECRET)
        began = time.monotonic()
        assert webhooks.Webhooks(database, policy).deliver_due() == 1
        assert time.monotonic() - began < 8
        server.shutdown()
    with database.reading() as session:
        (row,) = session.scalars(select(DeliveryRow))
        assert row.answer == note
        assert row.state == ("delivered" if note.startswith("2") else "waiting")
    database.close()


def test_a_signature_is_for_a_time() -> None:
    signature = sign(SECRET, 1000, b"body")
    assert verify(SECRET, signature, b"body", now=1200)
    assert not verify(SECRET, signature, b"body", now=1400)
    assert not verify(SECRET, signature.replace("t=1000", "t=1399"), b"body", now=1400)
    assert not verify(SECRET, "nonsense", b"body", now=1000)
    assert webhooks.ATTEMPTS > 5
