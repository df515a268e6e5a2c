"""Both clients: their patience, under a clock of the test, with a service that is away for a while,
and that they are the same but for waiting.
"""

from __future__ import annotations

import asyncio
import email.utils
import http.server
import inspect
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from cluster.service.client import AsyncClient, Client, clients, patience
from cluster.service.client.connection import Connection
from cluster.service.options import StatedOptions
from encoder.errors import BadInput, Busy, NotThere, ServiceUnusable
from tests.service_material import service as running_service

JOB = "job-0123456789abcdef0123"


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    async def sleep_async(self, seconds: float) -> None:
        self.now += seconds


class Service(http.server.ThreadingHTTPServer):
    """One job, which ends while the service is away from ``down`` to ``up``."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.clock = clock
        self.down, self.up = 0.0, 0.0
        self.says: int | None = None
        """Status that a proxy answers while the service is away; None if nobody answers."""
        self.retry_after: str | None = None
        """What the proxy says of when to come back."""
        self.asked: list[tuple[float, str]] = []

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
        service.asked.append((service.clock.now, self.path))
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
        service = self.server
        assert isinstance(service, Service)
        if status == service.says and service.retry_after is not None:
            self.send_header("Retry-After", service.retry_after)
        self.end_headers()
        self.wfile.write(body)

    def date_time_string(self, timestamp: float | None = None) -> str:
        """The service's clock: another one than the client's."""
        service = self.server
        assert isinstance(service, Service)
        return email.utils.formatdate(86400 + service.clock.now, usegmt=True)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    clock = Clock()
    monkeypatch.setattr(patience, "time", SimpleNamespace(monotonic=clock.monotonic))
    monkeypatch.setattr(clients, "time", SimpleNamespace(sleep=clock.sleep))
    monkeypatch.setattr(clients, "anyio", SimpleNamespace(sleep=clock.sleep_async))
    with Service(clock) as one:
        thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield one
        one.shutdown()
        thread.join()


Ask = Callable[..., Any]


def ask_blocking(url: str, name: str, *asked: Any, settings: Any = None, **more: Any) -> Any:
    with Client(url, **settings or {}) as client:
        answer = getattr(client, name)(*asked, **more)
        return list(answer) if inspect.isgenerator(answer) else answer


def ask_awaiting(url: str, name: str, *asked: Any, settings: Any = None, **more: Any) -> Any:
    async def go() -> Any:
        async with AsyncClient(url, **settings or {}) as client:
            answer = getattr(client, name)(*asked, **more)
            if inspect.isasyncgen(answer):
                return [one async for one in answer]
            return await answer

    return asyncio.run(go())


@pytest.fixture(params=[ask_blocking, ask_awaiting], ids=["blocking", "awaiting"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Ask by one client and by the other."""
    chosen: Ask = request.param
    return chosen


@pytest.mark.parametrize("says", [None, 502, 503])
@pytest.mark.parametrize("timeout_seconds", [None, 86400])
def test_waiting_outlasts_a_service_that_is_away_for_minutes(
    service: Service, ask: Ask, says: int | None, timeout_seconds: float | None
) -> None:
    day = 86400.0
    service.says, service.down, service.up = says, 2 * day, 2 * day + 150
    if timeout_seconds is not None:
        service.down, service.up = 5.0, 155.0
    told: list[str] = []
    hear = {"on_event": lambda body: told.append(body["type"])}
    done = ask(service.url, "wait", JOB, timeout_seconds=timeout_seconds, **hear)
    assert done.state == "succeeded"
    assert service.clock.now >= service.up
    if timeout_seconds is None:
        assert told == ["queued", "running", "succeeded"]


def test_events_go_on_after_the_service_was_away(service: Service, ask: Ask) -> None:
    service.down, service.up = 10.0, 160.0
    events = ask(service.url, "events", JOB)
    told = [(number, body["type"]) for number, body in events]
    assert told == [(1, "queued"), (2, "running"), (3, "succeeded")]


def test_waiting_ends_when_the_service_stays_away(service: Service, ask: Ask) -> None:
    service.down, service.up = 10.0, 1e9
    with pytest.raises(ServiceUnusable):
        ask(service.url, "wait", JOB, settings={"wait_patience_seconds": 100})
    assert 90 < service.clock.now < 120
    with pytest.raises(ServiceUnusable):
        ask(service.url, "wait", JOB)  # nothing tells that there is a service with such a job
    assert service.clock.now < 200


def test_a_wrong_id_is_an_error_at_once(service: Service, ask: Ask) -> None:
    with pytest.raises(NotThere):
        ask(service.url, "wait", "job-of-another-service")
    assert service.clock.now == 0


READS: list[tuple[str, list[Any], dict[str, Any]]] = [
    ("ladder", ["film"], {}),
    ("start", ["film"], {"kbps": 3000}),
    ("starts", [["film"]], {"kbps": 3000}),
    ("artworks", [["film"]], {}),
    ("title", ["film"], {}),
    ("titles", [], {}),
    ("snapshot", [], {}),
    ("changes", [], {}),
]


@pytest.mark.parametrize(("says", "error"), [(None, ServiceUnusable), (503, Busy)])
def test_reads_are_not_waited_for_as_jobs_are(
    service: Service, ask: Ask, says: int | None, error: type[Exception]
) -> None:
    service.says, service.up = says, 1e9
    for name, asked, more in READS:
        began = service.clock.now
        with pytest.raises(error):
            ask(service.url, name, *asked, **more)
        assert service.clock.now - began <= patience.READ_PATIENCE_SECONDS
    began = service.clock.now
    with pytest.raises(error):
        ask(service.url, "submit", "/m/film.mp4")
    assert service.clock.now - began > 0.9 * patience.PATIENCE_SECONDS


# -- Retry-After -------------------------------------------------------------------------------


@pytest.mark.parametrize("says", [429, 503])
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_the_service_is_asked_again_when_it_said(
    service: Service, ask: Ask, says: int, form: str
) -> None:
    """A date is by the service's clock, which here is decades behind the client's."""
    service.says, service.up = says, 20.0
    service.retry_after = "20"
    if form == "date":
        service.retry_after = email.utils.formatdate(86400 + 20, usegmt=True)
    assert ask(service.url, "job", JOB).state == "succeeded"
    assert [at for at, _ in service.asked] == [0, 20]


def test_a_job_is_followed_again_when_the_service_said(service: Service, ask: Ask) -> None:
    service.says, service.retry_after, service.down, service.up = 503, "200", 10.0, 210.0
    assert ask(service.url, "wait", JOB).state == "succeeded"
    assert not [at for at, _ in service.asked if 10 < at < 210]


def test_who_may_come_back_too_late_is_told_at_once(service: Service, ask: Ask) -> None:
    service.says, service.retry_after, service.up = 503, "30", 1e9
    with pytest.raises(Busy) as refused:
        ask(service.url, "ladder", "film")
    assert refused.value.context["retry_after_seconds"] == 30
    assert (service.clock.now, len(service.asked)) == (0, 1)


@pytest.mark.parametrize("text", ["", "soon", "-5", "1e3", "Thu, 99 Foo 2030 00:00:00 GMT"])
def test_what_says_nothing_is_no_time_to_come_back(text: str) -> None:
    answer = httpx.Response(503, headers={"Retry-After": text})
    assert patience.retry_after_seconds(answer) is None


def test_times_to_come_back() -> None:
    def told(text: str, **more: str) -> float | None:
        answer = httpx.Response(503, headers={"Retry-After": text, **more})
        return patience.retry_after_seconds(answer)

    date, before = "Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:27:30 GMT"
    assert told("120") == 120
    assert told(date) == 0  # long ago
    assert told(date, Date=before) == 30
    assert told("Wednesday, 21-Oct-15 07:28:00 GMT", Date=before) == 30
    assert told("9" * 400) == 999_999_999


def test_a_read_does_not_hang_with_its_service(ask: Ask) -> None:
    """Which takes the request and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began = time.monotonic()
        with pytest.raises(ServiceUnusable, match="ReadTimeout"):
            ask(url, "ladder", "film", settings={"read_patience_seconds": 0.2})
        assert time.monotonic() - began < 20


# -- what is no answer of a service --------------------------------------------------------------


class Stranger(http.server.BaseHTTPRequestHandler):
    """A proxy, or another server, that answers in the service's place."""

    said: tuple[int, dict[str, str], bytes] = 200, {}, b""
    job: bytes | None = None
    """What is answered for the job, unlike its events."""

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, headers, body = self.said
        if self.job is not None and not self.path.endswith("/events"):
            headers, body = {}, self.job
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_DELETE = do_GET  # noqa: N815 - the names that http.server calls

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Stranger, "job", None)
    monkeypatch.setattr(Stranger, "said", Stranger.said)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as one:
        thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{one.server_address[1]}"
        one.shutdown()
        thread.join()


IMPATIENT = {"patience_seconds": 0, "read_patience_seconds": 0}


@pytest.mark.parametrize(
    "said",
    [
        (200, {"Content-Type": "text/html"}, b"<html>log in</html>"),
        (200, {"ETag": '"1"'}, b"{}"),
        (200, {}, b""),
        (200, {}, b"\xff"),
        (200, {"Content-Encoding": "gzip"}, b"not gzip"),
        (304, {}, b""),
        (302, {"Location": "http://elsewhere/"}, b""),
        (500, {}, b"[" * 100_000),
    ],
)
def test_what_is_no_answer_of_a_service_is_an_error_in_one_line(
    stranger: str, ask: Ask, said: tuple[int, dict[str, str], bytes]
) -> None:
    Stranger.said = said
    for name, *asked in (
        ("title", "a"), ("ladder", "a"), ("holds",), ("audit", "a"), ("jobs",), ("snapshot",),
        ("wait", JOB), ("submit", "/m"), ("withdraw", "a"),
    ):  # fmt: skip
        with pytest.raises(ServiceUnusable) as raised:
            ask(stranger, name, *asked, settings=IMPATIENT)
        assert "\n" not in raised.value.message
        assert len(raised.value.message) < 500


@pytest.mark.parametrize("event", ["id: x", "data: nothing", "data: {}", "data: []", "data: 5"])
def test_events_of_something_else_are_an_error(
    stranger: str, service: Service, ask: Ask, event: str
) -> None:
    Stranger.said = 200, {"Content-Type": "text/event-stream"}, f"{event}\n\n".encode()
    Stranger.job = json.dumps(service.job()).encode()
    with pytest.raises(ServiceUnusable, match="no answer of a service"):
        ask(stranger, "events", JOB, settings=IMPATIENT)


@pytest.mark.parametrize("token", ["0123456789abcdef\n", "a b", "\r", "é"])
def test_a_token_that_cannot_be_sent_is_told_at_once(ask: Ask, token: str) -> None:
    with pytest.raises(BadInput, match="SHOTLADDER_TOKEN"):
        ask("http://127.0.0.1:1", "title", "a", settings={"token": token})


def test_a_name_that_cannot_be_sent(ask: Ask) -> None:
    with pytest.raises(BadInput, match="check it"):
        ask("http://127.0.0.1:1", "title", "\udcff", settings=IMPATIENT)


# -- the two are one ---------------------------------------------------------------------------


def asked_for(kind: type) -> dict[str, Any]:
    """What can be asked of a service, with its parameters."""
    own = {*dir(Connection), "close", "aclose", "returned", "given"}
    return {
        name: list(inspect.signature(value).parameters)[1:]
        for name, value in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_") and name not in own
    }


def test_both_clients_do_the_same() -> None:
    calls = asked_for(clients.Calls)
    assert len(calls) > 25
    assert asked_for(Client) == asked_for(AsyncClient) == calls
    for name in calls:
        assert getattr(Client, name).__doc__ == getattr(AsyncClient, name).__doc__


def test_options_of_an_answer_are_not_lost_on_the_way_back(service: Service, ask: Ask) -> None:
    """Those that a newer service has told of and this release cannot send."""
    options = StatedOptions.model_validate({"preset": "fast", "film_grain": 8})
    with pytest.raises(BadInput, match="there is no option 'film_grain'"):
        ask(service.url, "submit", "/m/film.mp4", options=options)
    assert not service.asked


def test_the_documented_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parent.parent / "docs" / "python.md").read_text("utf-8")
    section = page.partition("## A service")[2].partition("\n## ")[0]
    examples = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    assert len(examples) == 2
    with running_service(tmp_path, slots=1) as one:
        monkeypatch.setenv("SHOTLADDER_URL", one.url)
        monkeypatch.setenv("SHOTLADDER_TOKEN", one.token)
        for number, example in enumerate(examples):
            source = one.source(f"film-{number}.json")
            code = example.replace('"/media/film.mp4"', repr(str(source)))
            exec(compile(code, f"example {number}", "exec"), {"__name__": "__main__"})
    said = capsys.readouterr().out
    assert said.count("succeeded") == 2
    assert said.count("init.mp4") >= 2
