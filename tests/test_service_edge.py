"""The edge of the service: other origins, mounts, HEAD, ranges, queries, errors of all kinds."""

from __future__ import annotations

import email
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from cluster.cli import main
from cluster.service.http.mounting import parse_mount
from cluster.service.http.origins import check_origins
from cluster.service.http.ranges import parse_ranges
from encoder.errors import BadInput
from tests.service_material import ServiceProcess, service

PLAYERS = "https://play.example"
MOUNT = "/ladders"


@dataclass
class Edge:
    """A service that is mounted, behind a proxy, with players elsewhere; with one title."""

    one: ServiceProcess
    http: httpx.Client
    stranger: httpx.Client
    """A client that is not the trusted proxy."""
    title: dict[str, Any] = field(default_factory=dict)
    job: str = ""

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.http.get(self.one.url + path, headers=headers)

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.one.token}"}

    def paths(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every path with a GET, with values for its parameters, and its operation."""
        values = {
            "{job_id}": self.job, "{title}": "film", "{sha256}": self.segment["sha256"],
            "{package}": self.title["package"], "{path}": "master.m3u8",
            "{signature}": self.get("/v1/titles/film/signed").json()["base"].split("/")[-2],
        }  # fmt: skip
        for path, operations in self.get("/openapi.json").json()["paths"].items():
            if "get" in operations:
                for name, value in values.items():
                    path = path.replace(name, value)
                yield path, operations["get"]

    @property
    def segment(self) -> dict[str, Any]:
        prefetch = self.get("/v1/titles/film/prefetch").json()
        segment: dict[str, Any] = prefetch["rungs"][0]["segments"][0]
        return segment


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    elsewhere = httpx.HTTPTransport(local_address="127.0.0.2", verify=False)
    with (
        service(
            tmp_path_factory.mktemp("edge"), slots=1, cors_origins=[PLAYERS], root_path=MOUNT,
            trusted_proxies=["127.0.0.1"], limits={"head_bytes": 4000},
        ) as one,
        one.client() as client,
        httpx.Client(verify=False) as http,
        httpx.Client(transport=elsewhere) as stranger,
    ):  # fmt: skip
        made = Edge(one, http, stranger)
        made.job = client.submit(one.source("film.json", artwork="a"), external_id="film").id
        assert client.wait(made.job, timeout_seconds=120).state == "succeeded"
        made.title = made.get("/v1/titles/film").json()
        yield made


def problem(answer: httpx.Response, status: int, kind: str | None = None) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    said = answer.json()
    assert said["status"] == status
    if kind is not None:
        assert said["type"] == f"urn:shotladder:problem:{kind}"
    detail: str = said["detail"]
    return detail


# -- other origins -----------------------------------------------------------------------------


def test_players_of_another_origin_read(edge: Edge) -> None:
    files = f"/v1/packages/{edge.title['package']}/"
    asked = {
        "Origin": PLAYERS, "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "range, authorization, last-event-id, shotladder-epoch",
    }  # fmt: skip
    preflight = edge.http.options(f"{edge.one.url}{files}master.m3u8", headers=asked)
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == PLAYERS
    allowed = preflight.headers["access-control-allow-headers"].lower()
    assert "range" in allowed
    assert "authorization" in allowed
    for path in (f"{files}master.m3u8", "/v1/titles/film/prefetch", "/v1/titles", f"{files}no"):
        answer = edge.get(path, Origin=PLAYERS)
        assert answer.headers["access-control-allow-origin"] == PLAYERS, path
        exposed = answer.headers["access-control-expose-headers"]
        assert {"ETag", "Content-Range", "Shotladder-Epoch"} <= set(exposed.split(", "))
        assert "origin" in answer.headers["vary"].lower()
        assert "access-control-allow-credentials" not in answer.headers
        for origin in ({}, {"Origin": "https://elsewhere.example"}):
            other = edge.get(path, **origin)
            assert "access-control-allow-origin" not in other.headers
            assert "origin" in other.headers["vary"].lower()  # or a cache would mix them up
    refused = edge.http.options(
        f"{edge.one.url}/v1/titles", headers=asked | {"Origin": "https://elsewhere.example"}
    )
    assert "--cors-origin" in problem(refused, 400, "cors-refused")
    for name, value in (("Method", "DELETE"), ("Headers", "x-other")):
        header = {f"Access-Control-Request-{name}": value}
        refused = edge.http.options(f"{edge.one.url}/v1/titles", headers=asked | header)
        assert "GET, HEAD or POST" in problem(refused, 400, "cors-refused")
    assert problem(edge.http.options(f"{edge.one.url}/v1/titles"), 405)


@pytest.mark.parametrize("origin", ["play.example", "https://a.example/x", "null", "ftp://a", ""])
def test_origins_that_are_none(origin: str) -> None:
    with pytest.raises(BadInput, match="is not an origin"):
        check_origins([origin])
    assert check_origins(["https://Play.example:8443/", "*"]) == ("https://play.example:8443", "*")


# -- mounts ------------------------------------------------------------------------------------


def test_answers_begin_with_the_path_at_which_the_service_is_mounted(edge: Edge) -> None:
    files = f"/v1/packages/{edge.title['package']}/"
    for path, headers, mount in (
        (f"{MOUNT}/v1", {}, MOUNT),  # a proxy that passes the path on
        ("/v1", {}, MOUNT),  # one that takes the mount off
        ("/v1", {"X-Forwarded-Prefix": "/a/b/"}, "/a/b"),
        ("/a/b/v1", {"X-Forwarded-Prefix": "/a/b"}, "/a/b"),
        ("/v1", {"X-Forwarded-Prefix": ""}, ""),
    ):
        base = f"{mount}{files}"
        assert edge.get(f"{path}/titles/film", **headers).json()["base"] == base
        assert edge.get(f"{path}/titles", **headers).json()["titles"][0]["base"] == base
        start = edge.get(f"{path}/titles/film/prefetch/start?kbps=1", **headers)
        assert start.json()["base"] == base
        batch = {"titles": ["film"], "kbps": 1}
        answer = edge.http.post(f"{edge.one.url}{path}/prefetch:batch", json=batch, headers=headers)
        assert answer.json()["titles"]["film"] == start.json()
        signed = edge.get(f"{path}/titles/film/signed", **headers).json()
        assert signed["hls"].startswith(f"{mount}/v1/signed/film.1.")
        assert edge.get(signed["hls"], **headers).status_code == 200
        assert edge.get(base + "master.m3u8", **headers).status_code == 200
        document = edge.get(f"{path.removesuffix('/v1')}/openapi.json", **headers).json()
        assert document.get("servers", [{"url": ""}])[0]["url"] == mount
        submitted = edge.http.post(
            f"{edge.one.url}{path}/jobs", headers=headers | edge.bearer,
            json={"source": str(edge.one.sources / "film.json"), "external_id": "film"},
        )  # fmt: skip
        assert submitted.headers["location"] == f"{mount}/v1/jobs/{edge.job}"
    assert "/no" in problem(edge.get("/no/v1/titles"), 404)


def test_only_a_trusted_proxy_names_the_mount(edge: Edge) -> None:
    url = f"{edge.one.url}/v1/titles/film"
    named = {"X-Forwarded-Prefix": "/evil"}
    assert edge.stranger.get(url, headers=named).json()["base"].startswith(f"{MOUNT}/v1/")
    for bad in ("//evil.example", "/a/../b", "/a b", "x", '/"><script>', "/" + "a" * 300):
        answer = edge.get("/v1/titles/film", **{"X-Forwarded-Prefix": bad})
        assert "X-Forwarded-Prefix" in problem(answer, 400), bad


def test_mounts_that_are_none(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert parse_mount("/a/b.c/") == "/a/b.c"
    assert parse_mount("/") == parse_mount("") == ""
    for line, says in (
        (("--root-path", "ladders"), "--root-path ladders is not a plain path"),
        (("--root-path", "/v1/x"), "begins as the service's own paths do"),
        (("--cors-origin", "play.example"), "--cors-origin play.example is not an origin"),
    ):
        assert main(["serve", "--data", str(tmp_path), *line]) == 2
        assert says in capsys.readouterr().err


# -- HEAD and queries --------------------------------------------------------------------------


def test_head_is_answered_wherever_get_is(edge: Edge) -> None:
    seen = 0
    for path, operation in edge.paths():
        needs_token = {"writing": []} in operation.get("security", [])
        headers = edge.bearer if needs_token else {}
        query = "?title=film" if path == "/v1/audit" else ""
        query = "?kbps=1" if path.endswith("/start") else query
        query = "?action_id=0123456789abcdef" if path.endswith(":similar") else query
        url = edge.one.url + path + query
        got, head = edge.http.get(url, headers=headers), edge.http.head(url, headers=headers)
        assert (head.status_code, head.content) == (got.status_code, b""), path
        assert head.headers["content-type"] == got.headers["content-type"]
        assert got.status_code in (200, 404), path  # the stub makes no report
        seen += 1
    assert seen > 15
    missing = edge.http.head(f"{edge.one.url}/v1/titles/nobody")
    assert (missing.status_code, missing.content) == (404, b"")
    assert edge.http.head(f"{edge.one.url}/v1/prefetch:batch").status_code == 405
    allow = edge.http.put(f"{edge.one.url}/v1/titles").headers["allow"]
    assert allow == "GET, HEAD"


def test_head_of_a_stream_ends(edge: Edge) -> None:
    with edge.one.client() as client:
        job = client.submit(edge.one.source("slow.json", seconds=60)).id
        head = edge.http.head(f"{edge.one.url}/v1/jobs/{job}/events", timeout=20)
        assert head.headers["content-type"].startswith("text/event-stream")
        client.cancel(job)


def test_parameters_that_a_path_does_not_know(edge: Edge) -> None:
    for path, operation in edge.paths():
        headers = edge.bearer if {"writing": []} in operation.get("security", []) else {}
        answer = edge.http.get(f"{edge.one.url}{path}?no_such=1", headers=headers)
        if path.startswith(("/v1/media/", "/v1/packages/", "/v1/signed/")):
            assert answer.status_code == 200  # players and caches put theirs there
            continue
        detail = problem(answer, 400, "unknown-parameter")
        assert "'no_such'" in detail
        for parameter in operation.get("parameters", ()):
            assert parameter["in"] != "query" or f"`{parameter['name']}`" in detail, path
    batch = {"titles": ["film"], "kbps": 1}
    answer = edge.http.post(f"{edge.one.url}/v1/prefetch:batch?k=1", json=batch)
    assert "leave the query out" in problem(answer, 400, "unknown-parameter")
    assert "`kbps`" in problem(edge.get("/v1/titles/film/prefetch/start?kbp=1"), 400)
    assert "`aspect`" in problem(edge.get("/v1/titles/film/artwork?k=2&aspekt=1:1"), 400)
    assert problem(edge.get("/v1/titles/film/prefetch/start?kbps=x"), 422)


# -- ranges ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "ranges"),
    [
        ("bytes=0-4", [(0, 5)]), ("bytes=5-", [(5, 10)]), ("BYTES=0-4", [(0, 5)]),
        ("bytes=0-99999999999999999999", [(0, 10)]), ("bytes=9-9", [(9, 10)]),
        ("bytes=-3", [(7, 10)]), ("bytes=-99", [(0, 10)]), ("bytes=-0", []),
        ("bytes=10-", []), ("bytes=10-20", []), ("bytes=10-20,30-", []),
        ("bytes=0-1,4-5", [(0, 2), (4, 6)]), ("bytes=4-5,0-1", [(4, 6), (0, 2)]),
        ("bytes=0-1 , ,\t4-5,", [(0, 2), (4, 6)]), ("bytes=0-3,2-5,8-", [(0, 6), (8, 10)]),
        ("bytes=0-4,5-9", [(0, 10)]), ("bytes=0-1,99-", [(0, 2)]),
        ("bytes=-1,0-0", [(9, 10), (0, 1)]),
        ("bytes=5-4", None), ("bytes=0-1,5-4", None), ("bytes=", None), ("bytes=,", None),
        ("bytes=-", None), ("bytes", None), ("bytes=a-b", None), ("bytes=--1", None),
        ("bytes=1.0-2", None), ("bytes =0-1", None), ("items=0-4", None), ("", None),
        ("bytes=" + ",".join(f"{n}-{n}" for n in range(0, 200, 2)), None),
        ("bytes=" + "0-0," * 400, None), ("bytes=١-٢", None),
    ],
)  # fmt: skip
def test_ranges_as_the_standard_has_them(header: str, ranges: list[tuple[int, int]] | None) -> None:
    assert parse_ranges(header.encode(), 10) == ranges


def test_ranges_of_an_empty_file() -> None:
    assert parse_ranges(b"bytes=-5", 0) is None
    assert parse_ranges(b"bytes=-0", 0) == parse_ranges(b"bytes=0-", 0) == []


def test_ranges_over_http(edge: Edge) -> None:
    url = f"/v1/media/{edge.segment['sha256']}"
    whole = edge.get(url)
    size, etag = len(whole.content), whole.headers["etag"]
    assert size > 20
    for header, (begin, end) in {
        "bytes=-7": (size - 7, size), f"bytes=3-{size + 900}": (3, size), "bytes=-9999": (0, size),
    }.items():  # fmt: skip
        part = edge.get(url, Range=header)
        assert (part.status_code, part.content) == (206, whole.content[begin:end]), header
        assert part.headers["content-range"] == f"bytes {begin}-{end - 1}/{size}"
    many = edge.get(url, Range="bytes=0-3,10-12,-2")
    assert many.status_code == 206
    assert "content-range" not in many.headers
    kind = many.headers["content-type"]
    assert kind.startswith("multipart/byteranges; boundary=")
    message = email.message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n" + many.content)
    parts = message.get_payload()
    assert isinstance(parts, list)
    wanted = ((0, 4), (10, 13), (size - 2, size))
    for part_of, (begin, end) in zip(parts, wanted, strict=True):
        assert not isinstance(part_of, str)
        assert part_of.get_payload(decode=True) == whole.content[begin:end]
        assert part_of["content-range"] == f"bytes {begin}-{end - 1}/{size}"
        assert part_of["content-type"] == whole.headers["content-type"]
    beyond = edge.get(url, Range=f"bytes={size}-")
    assert f"{size} bytes" in problem(beyond, 416, "no-such-range")
    assert beyond.headers["content-range"] == f"bytes */{size}"
    for header in ("bytes=5-2", "lines=1-2", "bytes=x", "bytes=0-1,y"):
        assert edge.get(url, Range=header).status_code == 200, header
    twice = edge.http.get(
        edge.one.url + url, headers=[("Range", "bytes=0-1"), ("Range", "bytes=2-3")]
    )
    assert twice.status_code == 200
    head = edge.http.head(edge.one.url + url, headers={"Range": "bytes=0-1"})
    assert (head.status_code, int(head.headers["content-length"])) == (200, size)
    for condition, status in (
        (etag, 206), (f"W/{etag}", 200), ('"other"', 200),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 200),
    ):  # fmt: skip
        part = edge.get(url, Range="bytes=0-1", **{"If-Range": condition})
        assert part.status_code == status, condition
    same = edge.get(url, Range="bytes=0-1", **{"If-None-Match": etag})
    assert same.status_code == 304


# -- errors ------------------------------------------------------------------------------------


def raw(edge: Edge, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the first answer to bytes that no HTTP client would send."""
    host, _, port = edge.one.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(request)
        received = b""
        while b"\r\n\r\n" not in received and (more := connection.recv(65536)):
            received += more
        head, _, body = received.partition(b"\r\n\r\n")
        line, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (one.split(": ", 1) for one in lines)}
        while len(body) < int(headers.get("content-length", 0)):
            body += connection.recv(65536)
    return int(line.split()[1]), headers, body


HOST = b"Host: localhost\r\n"
LONG = b"/v1/packages/" + b"0" * 32 + b"/video/" + b"%C3%A9" * 190
WRONG: list[tuple[bytes, bytes, int]] = [
    (b"GET /nothing HTTP/1.1", HOST + b"\r\n", 404),
    (b"GET /v1/media/xyz HTTP/1.1", HOST + b"\r\n", 422),
    (b"GET " + LONG + b" HTTP/1.1", HOST + b"\r\n", 404),
    (b"GET /v1/signed//x HTTP/1.1", HOST + b"\r\n", 403),
    (b"PATCH /v1/titles HTTP/1.1", HOST + b"\r\n", 405),
    (b"OPTIONS * HTTP/1.1", HOST + b"\r\n", 404),
    (b"TRACE / HTTP/1.1", HOST + b"\r\n", 405),
    (b"GET / HTTP/1.1", b"\r\n", 400),
    (b"GET / HTTP/1.1", b"Host: evil.example\r\n\r\n", 421),
    (b"BREW / HTTP/1.1", HOST + b"\r\n", 400),
    (b"GET / HTTP/9.9", HOST + b"\r\n", 400),
    (b"PRI * HTTP/2.0", b"\r\nSM\r\n\r\n", 400),
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"", 400),  # TLS
    (b"GET / HTTP/1.1", HOST + b"bad header\r\n\r\n", 400),
    (b"GET / HTTP/1.1", HOST + b"X: " + b"x" * 5000 + b"\r\n\r\n", 431),
    (b"POST /v1/jobs HTTP/1.1", HOST + b"Content-Length: -1\r\n\r\n", 400),
    (b"POST /v1/jobs HTTP/1.1", HOST + b"Content-Length: 70000\r\n\r\n" + b" " * 70000, 413),
    (b"POST /v1/jobs HTTP/1.1", HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    (b"POST /v1/prefetch:batch HTTP/1.1", HOST + b"Content-Length: 1\r\n\r\n{", 422),
]


@pytest.mark.parametrize(("line", "rest", "status"), WRONG)
def test_every_error_is_a_problem_document(
    edge: Edge, line: bytes, rest: bytes, status: int
) -> None:
    found, headers, body = raw(edge, line + b"\r\n" + rest)
    assert found == status, body
    assert headers["content-type"] == "application/problem+json"
    said = json.loads(body)
    assert said["status"] == status
    assert said["type"].startswith("urn:shotladder:problem:")
    assert said["detail"]


def test_a_defect_below_the_framework_is_a_problem_document(edge: Edge) -> None:
    package = edge.title["package"]
    loop = edge.one.data / "packages" / package[:2] / package / "audio" / "loop.m4s"
    loop.symlink_to("loop.m4s")
    assert problem(edge.get(f"/v1/packages/{package}/audio/loop.m4s"), 404)
    bundle = next(edge.one.data.glob(f"bundles/*/{package}.bundle"))
    whole = bundle.read_bytes()
    with bundle.open("r+b") as file:
        file.truncate(len(whole) // 2)  # a damaged disk
        for path in ("report", "prefetch/start?kbps=1", "artwork?k=1", "ladder", "prefetch"):
            answer = edge.get(f"/v1/titles/film/{path}")
            if answer.status_code not in (200, 404):  # what lies in the other half
                assert "see the log" in problem(answer, 500)
                break
        else:
            pytest.fail("the second half of the bundle holds nothing")
        file.write(whole)
    assert edge.get("/v1/titles/film/prefetch/start?kbps=1").status_code == 200
