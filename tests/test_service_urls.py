"""Jobs, titles and webhooks name absolute URLs that can be opened as they are."""

from __future__ import annotations

import http.server
import json
import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from typing_extensions import override

from cluster.service.documents import TitleUrls
from cluster.service.serving import ServiceOptions, serve
from encoder.errors import BadInput
from tests.cli_material import called
from tests.service_material import service

READER = "0123456789abcdef"


class Receiver(http.server.ThreadingHTTPServer):
    """Keeps the bodies of webhooks."""

    def __init__(self) -> None:
        self.bodies: queue.Queue[dict[str, Any]] = queue.Queue()
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.server.bodies.put(json.loads(self.rfile.read(length)))
        self.send_response(204)
        self.end_headers()

    @override
    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as one:
        thread = threading.Thread(target=one.serve_forever)
        thread.start()
        yield one
        one.shutdown()
        thread.join()


def opened(urls: TitleUrls, begin: str) -> None:
    """All of the files are there for a client without a token."""
    assert urls.hls.endswith("/master.m3u8")
    assert urls.dash.endswith("/manifest.mpd")
    assert urls.report is None  # the stub writes none
    for url in (urls.hls, urls.player, urls.poster):
        assert url is not None
        assert url.startswith(begin)
    assert httpx.get(urls.hls).text == "#EXTM3U\n"
    assert urls.poster is not None
    assert httpx.get(urls.poster).headers["content-type"] == "image/jpeg"
    assert "text/html" in httpx.get(urls.player).headers["content-type"]


def test_urls_of_an_open_service(tmp_path: Path, receiver: Receiver) -> None:
    port = receiver.server_address[1]
    more = {"webhook_hosts": [f"127.0.0.1:{port}"]}
    with service(tmp_path / "s", slots=1, **more) as one, one.client() as client:
        source = one.source("film.json", artwork="film")
        hook = f"http://127.0.0.1:{port}/hook"
        submitted = client.submit(source, external_id="film", webhook=hook)
        assert submitted.urls is None
        job = client.wait(submitted.id)
        assert job.urls is not None
        opened(job.urls, f"{one.url}/v1/")
        assert job.urls.expires_at is None
        assert client.title("film").urls == job.urls
        assert [title.urls for title in client.titles()] == [job.urls]
        told = receiver.bodies.get(timeout=60)["job"]
        assert TitleUrls.model_validate(told["urls"]) == job.urls
        # By the name under which a client asks:
        other = httpx.get(f"{one.url}/v1/titles/film", headers={"Host": "ladders.localhost:99"})
        assert other.json()["urls"]["hls"].startswith("http://ladders.localhost:99/v1/packages/")
        shown = called("status", "film", SHOTLADDER_URL=one.url, SHOTLADDER_TOKEN=one.token)
        assert job.urls.hls in shown.stdout.replace("\n", "").replace(" ", "")
        client.withdraw("film")
        assert client.job(job.id).urls is None


def test_urls_are_signed_where_reading_needs_a_token(tmp_path: Path, receiver: Receiver) -> None:
    (tmp_path / "readers").write_text(f"shelf {READER}\n")
    port = receiver.server_address[1]
    more = {"webhook_hosts": [f"127.0.0.1:{port}"], "read_tokens": str(tmp_path / "readers"),
            "public_url": "https://ladders.example.com/tv/"}  # fmt: skip
    with service(tmp_path / "s", slots=1, **more) as one, one.client() as client:
        source = one.source("film.json", artwork="film")
        job = client.submit(source, external_id="film", webhook=f"http://127.0.0.1:{port}/hook")
        told = receiver.bodies.get(timeout=60)["job"]["urls"]
        urls = client.job(job.id).urls
        assert urls is not None
        for one_of_them in (urls, TitleUrls.model_validate(told)):
            assert one_of_them.expires_at is not None
            assert one_of_them.hls.startswith("https://ladders.example.com/tv/v1/signed/film.1.")
            assert one_of_them.player == "https://ladders.example.com/tv/v1/titles/film/player"
            for url in (one_of_them.hls, one_of_them.poster):  # as the proxy passes it on
                path = urlsplit(str(url)).path.removeprefix("/tv")
                assert httpx.get(one.url + path).status_code == 200
        tokens = one.data / "tokens"
        tokens.write_text(tokens.read_text() + f"ingest2 {READER}-write submit\n")
        writer = {"Authorization": f"Bearer {READER}-write"}
        for _ in range(100):
            again = httpx.post(f"{one.url}/v1/jobs", headers=writer,
                               json={"source": str(source), "external_id": "film"})  # fmt: skip
            if again.status_code == 202:
                break
            threading.Event().wait(0.1)
        assert again.json()["merged"]
        assert again.json()["urls"] is None  # who may not read gets no signed URL


def test_a_public_url_is_one(tmp_path: Path) -> None:
    for url in ("ladders.example.com", "ftp://x", "https://a@b/", "https://x/?q", "https://"):
        with pytest.raises(BadInput, match="--public-url"):
            serve(ServiceOptions(data=tmp_path, public_url=url), lambda url, tokens: None)
