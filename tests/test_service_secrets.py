"""What the service keeps to itself: secrets in URLs; scopes of tokens; names of hosts."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cluster.service.http.auth import read_tokens
from cluster.service.http.hosts import AllowedHosts
from cluster.service.redaction import origin_of, without_secrets
from encoder.errors import BadInput
from tests.service_material import ServiceProcess, service
from tests.test_service_sources import Origin, origin
from tests.test_service_webhooks import Receiver, receiver

__all__ = ["origin", "receiver"]  # fixtures
SIGNATURE, HOOK = "5ignature-of-the-source", "hook-5ecret"
EVERYTHING = "ingest 0123456789abcdef"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("https://a.example/f.mp4?X-Sig=s3 is gone", "https://a.example/f.mp4?... is gone"),
        ("see https://a.example/f?s=1; retry", "see https://a.example/f?...; retry"),
        ("(https://a.example/f?s=1)", "(https://a.example/f?...)"),
        ("'https://u:p@a.example/f#s'", "'https://a.example/f#...'"),
        ("s3://key:secret@bucket/f and http://b.example/?x", "s3://bucket/f and http://b.example/?..."),
        ("HTTPS://a.example?s", "HTTPS://a.example?..."),
        ("https://a.example/f, twice: https://b.example/g", "https://a.example/f, twice: https://b.example/g"),
        ("what? no URL", "what? no URL"),
    ],
)  # fmt: skip
def test_what_is_cut_out_of_texts(text: str, cut: str) -> None:
    assert without_secrets(text) == cut
    assert without_secrets({"a": [text, 1, None]}) == {"a": [cut, 1, None]}


def test_a_webhook_is_shown_by_its_host() -> None:
    assert origin_of("https://u:p@hooks.example:8/T0/B0/s3?x=1") == "https://hooks.example:8/..."
    assert origin_of("http://[::1/") == "..."


def test_secrets_in_urls_are_for_those_who_submit(
    origin: Origin, receiver: Receiver, tmp_path: Path
) -> None:
    origin.content = b'{"name": "signed"}'
    origin.signed_for_get = f"X-Signature={SIGNATURE}"
    host = f"127.0.0.1:{receiver.port}"
    source = f"{origin.url}/masters/film.json?{origin.signed_for_get}"
    hook = f"http://{host}/services/{HOOK}?key={HOOK}"
    with (
        service(
            tmp_path / "s", slots=0, webhook_hosts=[host], source_urls=[f"{origin.url}/masters/"]
        ) as one,
        one.client() as client,
    ):
        job = client.submit(source, external_id="film", webhook=hook)
        assert (client.job(job.id).source, client.job(job.id).webhooks) == (source, [hook])
        shown = httpx.get(f"{one.url}/v1/jobs/{job.id}").json()
        assert shown["source"] == f"{origin.url}/masters/film.json?..."
        assert shown["webhooks"] == [f"http://{host}/..."]
        origin.etag = '"two"'  # the job will fail, and say so with the name of its source
        one.stop()
        one.slots = 1
        one.start()
        assert client_state(one, job.id) == "failed"
        heard = [
            httpx.get(f"{one.url}{path}").text
            for path in (f"/v1/jobs/{job.id}", "/v1/jobs", f"/v1/jobs/{job.id}/events")
        ]
        until = time.monotonic() + 20
        while not receiver.told and time.monotonic() < until:
            time.sleep(0.1)
        ((_, _, told),) = receiver.told
        refused = httpx.post(
            f"{one.url}/v1/jobs", json={"source": source + "x"}, headers=bearer(one.token)
        )
        assert refused.status_code == 422
        for text in (*heard, told.decode(), refused.text, one.log()):
            assert "film.json?..." in text
            assert SIGNATURE not in text
            assert HOOK not in text


def client_state(one: ServiceProcess, job_id: str) -> str:
    with one.client() as client:
        return client.wait(job_id, timeout_seconds=60).state


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    folder = tmp_path_factory.mktemp("service")
    (folder / "data").mkdir()
    (folder / "data" / "tokens").write_text(
        f"{EVERYTHING}\nsubmits 1111111111111111 submit\ntakes 2222222222222222 withdraw,read\n"
    )
    (folder / "readers").write_text("shelf 3333333333333333\ncounts 4444444444444444 report\n")
    with service(
        folder, slots=0, read_tokens=str(folder / "readers"), allowed_hosts=["*.ladders.example"],
        host="0.0.0.0",
    ) as one:  # fmt: skip
        yield one


def status(one: ServiceProcess, token: str, method: str, path: str) -> int:
    asked = {"source": str(one.source("x.json"))} if method == "POST" else None
    answer = httpx.request(method, one.url + path, json=asked, headers=bearer(token))
    if answer.status_code in (401, 403):
        assert answer.headers["content-type"] == "application/problem+json"
    if answer.status_code == 403:
        assert answer.json()["type"] == "urn:shotladder:problem:scope-missing"
    return answer.status_code


@pytest.mark.parametrize(
    ("token", "submits", "withdraws", "reads"),
    [
        ("0123456789abcdef", 202, 404, 200),
        ("1111111111111111", 202, 403, 403),
        ("2222222222222222", 403, 404, 200),
        ("3333333333333333", 403, 403, 200),
        ("4444444444444444", 403, 403, 403),
        ("5555555555555555", 401, 401, 401),
    ],
)
def test_a_token_allows_what_its_scopes_say(
    running: ServiceProcess, token: str, submits: int, withdraws: int, reads: int
) -> None:
    assert status(running, token, "POST", "/v1/jobs") == submits
    assert status(running, token, "DELETE", "/v1/titles/nobody") == withdraws
    assert status(running, token, "GET", "/v1/jobs") == reads
    ladder = status(running, token, "GET", "/v1/titles/nobody/ladder")
    assert ladder == (404 if reads == 200 else reads)


def test_tokens_are_read_again_when_their_file_has_changed(running: ServiceProcess) -> None:
    tokens = running.data / "tokens"
    old = tokens.read_text()

    def becomes(token: str, wanted: int) -> None:
        until = time.monotonic() + 20
        while status(running, token, "POST", "/v1/jobs") != wanted:
            assert time.monotonic() < until
            time.sleep(0.1)

    tokens.write_text(old + "new 6666666666666666 submit\n")
    becomes("6666666666666666", 202)
    tokens.write_text("this is not a file of tokens\n")
    until = time.monotonic() + 20
    while "not reloaded" not in running.log() and time.monotonic() < until:
        time.sleep(0.1)
    assert status(running, "6666666666666666", "POST", "/v1/jobs") == 202
    tokens.write_text(old)
    becomes("6666666666666666", 401)
    assert status(running, "0123456789abcdef", "POST", "/v1/jobs") == 202


@pytest.mark.parametrize("scopes", ["submit,admin", "all", "submit,,read", ","])
def test_scopes_that_do_not_exist(scopes: str, tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(f"name 0123456789abcdef {scopes}\n")
    with pytest.raises(BadInput, match="line 1 has scopes that do not exist"):
        read_tokens(tmp_path / "tokens", default=("read",))


def test_refusals_cancels_and_retries_are_in_the_log(running: ServiceProcess) -> None:
    with running.client() as client:
        job = client.submit(running.source("audited.json"), external_id="audited")
        client.cancel(job.id)
        client.retry(job.id)
        client.cancel(job.id)
    status(running, "5555555555555555", "GET", "/v1/changes")
    status(running, "3333333333333333", "POST", "/v1/jobs")
    lines = [json.loads(line) for line in running.log().splitlines()]
    told = [line["event"] for line in lines if line.get("job") == job.id]
    assert told == ["submitted", "cancelled", "retried", "cancelled"]
    assert all(line["actor"] == "ingest" for line in lines if line.get("job") == job.id)
    refused = [
        (line["status"], line["method"], line["path"], line["peer"])
        for line in lines
        if line["event"] == "not allowed"
    ]
    assert (401, "GET", "/v1/changes", "127.0.0.1") in refused
    assert (403, "POST", "/v1/jobs", "127.0.0.1") in refused


def test_pages_of_other_sites_are_not_answered(running: ServiceProcess) -> None:
    for host, answer in (("evil.example:8480", 421), ("localhost.evil.example", 421),
                         ("localhost:1", 200), ("10.0.0.7:8480", 200), ("[::1]:8480", 200),
                         (socket.gethostname(), 200), ("a.ladders.example", 200),
                         ("ladders.example", 421)):  # fmt: skip
        for path in ("/healthz", "/v1/titles/nobody/ladder"):
            got = httpx.get(
                running.url + path, headers={"Host": host, **bearer("3333333333333333")}
            )
            assert (got.status_code == 421) == (answer == 421), host
            if answer == 421:
                assert got.headers["content-type"] == "application/problem+json"
                assert "--allowed-host" in got.json()["detail"]


@pytest.mark.parametrize("name", ["http://a.example", "a.example:80", "a/b", "*a", "", "*."])
def test_what_is_not_the_name_of_a_host(name: str) -> None:
    with pytest.raises(BadInput, match="--allowed-host"):
        AllowedHosts([name])
    assert AllowedHosts(["*"]).allows(b"anything.example:1")


def test_a_service_that_everybody_can_read_says_so(running: ServiceProcess, tmp_path: Path) -> None:
    assert "can read all titles" not in running.log()  # its reads need a token
    with service(tmp_path / "open", slots=0, host="0.0.0.0") as one:
        (line,) = [line for line in one.log().splitlines() if "can read" in line]
    assert "everybody who reaches 0.0.0.0 can read all titles and jobs" in json.loads(line)["event"]
    with service(tmp_path / "local", slots=0) as one:
        assert "can read all titles" not in one.log()
