"""Sources on web servers: which are read, how they are told apart, and what may go wrong."""

from __future__ import annotations

import asyncio
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.service import web
from cluster.service.sources import SourceFile, SourcePolicy, find_source, local_path
from encoder.errors import BadInput, SourceUnusable
from tests.service_material import service


def find(source: str, policy: SourcePolicy) -> SourceFile:
    return asyncio.run(find_source(source, policy))


class Origin(http.server.ThreadingHTTPServer):
    """One file, with what a test wants to go wrong."""

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = content
        self.etag: str | None = '"one"'
        self.modified: str | None = None
        self.redirect = ""
        self.signed_for_get = ""
        """Query without which GET is refused, and with which HEAD is."""
        self.breaks = 0
        """How many answers end in the middle."""
        self.asked: list[tuple[str, str | None]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Origin

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        origin = self.server
        wanted = self.headers["Range"]
        origin.asked.append((self.command, wanted))
        if origin.signed_for_get:
            allowed = self.path.endswith(f"?{origin.signed_for_get}") and body
            if not allowed:
                self.send_response(403)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
        if origin.redirect or not self.path.startswith("/masters/"):
            self.send_response(302 if origin.redirect else 404)
            self.send_header("Location", origin.redirect)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        begin, end = 0, len(origin.content)
        if wanted:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            begin, end = int(first), int(last) + 1 if last else end
        part = origin.content[begin:end]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(part)))
        if wanted:
            whole = len(origin.content)
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{whole}")
        for name, value in (("ETag", origin.etag), ("Last-Modified", origin.modified)):
            if value is not None:
                self.send_header(name, value)
        self.end_headers()
        if body and origin.breaks:
            origin.breaks -= 1
            self.wfile.write(part[: len(part) // 2])
            self.close_connection = True
        elif body:
            self.wfile.write(part)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def origin() -> Iterator[Origin]:
    with Origin(bytes(range(256)) * 4000) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("url", "fine"),
    [
        ("https://media.example/masters/a.mp4", True),
        ("https://MEDIA.example:443/masters/b/a.mp4?signature=x", True),
        ("https://media.example/masters/a%20b.mp4", True),
        ("https://media.example/other/a.mp4", False),
        ("https://media.example/masters", False),
        ("https://media.example/masters/", False),
        ("https://media.example/masters/../a.mp4", False),
        ("https://media.example/masters/%2e%2e/a.mp4", False),
        ("https://media.example/masters//a.mp4", False),
        ("https://media.example/masters/..\\a.mp4", False),
        ("http://media.example/masters/a.mp4", False),
        ("https://media.example:8443/masters/a.mp4", False),
        ("https://media.example.evil.example/masters/a.mp4", False),
        ("https://media.example@evil.example/masters/a.mp4", False),
        ("https://user@media.example/masters/a.mp4", False),
        ("https://media.example:x/masters/a.mp4", False),
        ("https://[::1/masters/a.mp4", False),
    ],
)
def test_only_what_lies_below_is_read(url: str, fine: bool) -> None:
    assert web.is_below(url, "https://media.example/masters/") == fine
    if not fine:
        with pytest.raises(BadInput, match="not under a folder or URL"):
            find(url, SourcePolicy((), ("https://media.example/masters/",)))


@pytest.mark.parametrize(
    "url",
    ["https://media.example", "https://media.example/a", "/a/", "ftp://media.example/",
     "https:///a/", "https://[x/", "https://u@media.example/", "https://media.example/?a=/"],
)  # fmt: skip
def test_what_is_not_a_folder_of_a_server(url: str) -> None:
    with pytest.raises(BadInput, match="--source-url"):
        web.check_url_prefix(url)


def test_a_delivery_is_told_from_the_next(origin: Origin) -> None:
    allowed = SourcePolicy((), (f"{origin.url}/masters/",))
    url = f"{origin.url}/masters/film.mp4"
    found = find(url, allowed)
    assert (found.uri, found.size, found.stamp) == (url, len(origin.content), '"one"')
    assert local_path(url) is None
    assert [method for method, _ in origin.asked] == ["HEAD"]  # nothing is read
    origin.etag, origin.modified = None, "Mon, 23 Nov 2026 10:00:00 GMT"
    assert find(url, allowed).stamp == origin.modified
    origin.modified = None
    with pytest.raises(SourceUnusable, match="ETag"):
        find(url, allowed)
    origin.content = b""
    with pytest.raises(SourceUnusable, match="above 0"):
        find(url, allowed)
    origin.redirect = "http://169.254.169.254/latest"
    with pytest.raises(SourceUnusable, match="answers 302"):
        find(url, allowed)
    with pytest.raises(SourceUnusable, match="submit it once it is there"):
        find("http://127.0.0.1:1/a", SourcePolicy((), ("http://127.0.0.1:1/",)))


def test_a_lost_connection_goes_on_where_it_was(origin: Origin, tmp_path: Path) -> None:
    origin.breaks = 2
    told: list[int] = []
    size = len(origin.content)
    path = web.fetch(f"{origin.url}/masters/a%2Fb?x=1", size, '"one"', tmp_path, told.append)
    assert path.read_bytes() == origin.content
    assert path.parent == tmp_path
    assert told[-1] == size
    assert [wanted for _, wanted in origin.asked] == [
        None, f"bytes={size // 2}-", f"bytes={size - size // 4}-"
    ]  # fmt: skip


def test_what_is_fetched_is_what_was_submitted(origin: Origin, tmp_path: Path) -> None:
    url, size = f"{origin.url}/masters/a.mp4", len(origin.content)

    def fetch(size: int = size, stamp: str = '"one"', url: str = url) -> Path:
        return web.fetch(url, size, stamp, tmp_path, lambda done: None)

    with pytest.raises(SourceUnusable, match="has changed"):
        fetch(stamp='"another"')
    with pytest.raises(SourceUnusable, match="has changed"):
        fetch(size=size - 1)
    with pytest.raises(SourceUnusable, match="answers 404"):
        fetch(url=f"{origin.url}/gone")
    origin.redirect = url
    with pytest.raises(SourceUnusable, match="answers 302"):
        fetch()


def test_a_job_reads_from_a_web_server(origin: Origin, tmp_path: Path) -> None:
    origin.content = b'{"name": "from the web"}'
    urls = [f"{origin.url}/masters/"]
    with service(tmp_path / "s", source_urls=urls) as one, one.client() as client:
        job = client.submit(f"{origin.url}/masters/film.json", external_id="film")
        done = client.wait(job.id)
        assert done.state == "succeeded", done
        assert one.ledger() == ["film.json"]
        again = client.submit(f"{origin.url}/masters/film.json", external_id="film")
        assert (again.id, again.merged) == (job.id, True)
        origin.etag = '"two"'  # delivered again, with the same bytes: nothing is made twice
        third = client.wait(client.submit(f"{origin.url}/masters/film.json", external_id="film").id)
        assert third.id != job.id
        assert third.result is not None
        assert third.result.merged_with == job.id
        assert one.ledger() == ["film.json"]
        assert list((one.data / "work").iterdir()) == []


def test_a_url_that_was_signed_for_get_is_looked_at_by_one_byte(origin: Origin) -> None:
    origin.signed_for_get = "signature=5ecret"
    allowed = SourcePolicy((), (f"{origin.url}/masters/",))
    url = f"{origin.url}/masters/film.mp4?signature=5ecret"
    found = find(url, allowed)
    assert (found.uri, found.size, found.stamp) == (url, len(origin.content), '"one"')
    assert origin.asked == [("HEAD", None), ("GET", "bytes=0-0")]
    with pytest.raises(SourceUnusable, match=r"film.mp4\?\.\.\. answers 403") as refused:
        find(url + "x", allowed)
    assert "5ecret" not in refused.value.message
