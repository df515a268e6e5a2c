"""The client's patience, under a clock of the test, with a service that is away for a while."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from cluster.service import client as client_module
from cluster.service.client import Client
from encoder.errors import Busy, NotThere, ServiceUnusable

JOB = "job-0123456789abcdef0123"


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Service(http.server.ThreadingHTTPServer):
    """One job, which ends while the service is away from ``down`` to ``up``."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.clock = clock
        self.down, self.up = 0.0, 0.0
        self.says: int | None = None
        """Status that a proxy answers while the service is away; None if nobody answers."""
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def job(self) -> dict[str, object]:
        ended = self.clock.now >= self.up
        return {
            "id": JOB, "title": "film", "kind": "run", "state": "succeeded" if ended else "running",
            "source": "file:///m", "external_id": None, "options": {}, "priority": 0,
            "deadline": None, "late": False, "webhooks": [], "submitted_by": "me",
            "created_at": "2030-01-01T00:00:00Z", "started_at": None, "finished_at": None,
            "attempts": 1, "cancel_requested": False, "progress": None, "result": None,
            "failure": None,
        }  # fmt: skip


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def do_GET(self) -> None:
        service = self.server
        assert isinstance(service, Service)
        service.asked.append(self.path)
        if service.down <= service.clock.now < service.up:
            if service.says is not None:
                self.answer(service.says, b"the proxy has no words")
            return  # without an answer, the connection is closed
        if not self.path.startswith(f"/v1/jobs/{JOB}"):
            self.answer(404, b"{}")
        elif self.path.endswith("/events"):
            last = int(self.headers["Last-Event-ID"])
            kinds = ["queued", "running", *(["succeeded"] if service.clock.now else [])]
            events = [
                f"id: {number}\ndata: {json.dumps({'type': kind})}\n\n"
                for number, kind in enumerate(kinds, 1)
                if number > last
            ]
            service.clock.now = max(service.clock.now, service.down)  # while the stream lasted
            self.answer(200, "".join(events).encode())
        else:
            self.answer(200, json.dumps(service.job()).encode())

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    clock = Clock()
    passing = SimpleNamespace(monotonic=clock.monotonic, sleep=clock.sleep)
    monkeypatch.setattr(client_module, "time", passing)
    with Service(clock) as one:
        thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield one
        one.shutdown()
        thread.join()


@pytest.mark.parametrize("says", [None, 502, 503])
@pytest.mark.parametrize("timeout_seconds", [None, 86400])
def test_waiting_outlasts_a_service_that_is_away_for_minutes(
    service: Service, says: int | None, timeout_seconds: float | None
) -> None:
    day = 86400.0
    service.says, service.down, service.up = says, 2 * day, 2 * day + 150
    if timeout_seconds is not None:
        service.down, service.up = 5.0, 155.0
    told = []
    with Client(service.url) as client:
        done = client.wait(
            JOB, timeout_seconds=timeout_seconds, on_event=lambda body: told.append(body["type"])
        )
    assert done.state == "succeeded"
    assert service.clock.now >= service.up
    if timeout_seconds is None:
        assert told == ["queued", "running", "succeeded"]


def test_waiting_ends_when_the_service_stays_away(service: Service) -> None:
    service.down, service.up = 10.0, 1e9
    with Client(service.url, wait_patience_seconds=100) as client, pytest.raises(ServiceUnusable):
        client.wait(JOB)
    assert 90 < service.clock.now < 120
    with Client(service.url) as client, pytest.raises(ServiceUnusable):
        client.wait(JOB)  # nothing tells that there is a service with such a job
    assert service.clock.now < 200


def test_a_wrong_id_is_an_error_at_once(service: Service) -> None:
    with Client(service.url) as client, pytest.raises(NotThere):
        client.wait("job-of-another-service")
    assert service.clock.now == 0


@pytest.mark.parametrize(("says", "error"), [(None, ServiceUnusable), (503, Busy)])
def test_documents_are_not_waited_for_as_jobs_are(
    service: Service, says: int | None, error: type[Exception]
) -> None:
    service.says, service.up = says, 1e9
    with Client(service.url) as client:
        for read in (
            lambda: client.ladder("film"),
            lambda: client.start("film", kbps=3000),
            lambda: client.starts(["film"], kbps=3000),
            lambda: client.artworks(["film"]),
        ):
            began = service.clock.now
            with pytest.raises(error):
                read()
            assert service.clock.now - began <= client_module.READ_PATIENCE_SECONDS
