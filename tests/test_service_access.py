"""The access log: every request, no secret, and files that are rotated."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from cluster.service.http import access
from cluster.service.http.access import AccessLog
from encoder.errors import BadInput
from tests.service_material import service

READER = "0123456789abcdef-reader"


def lines(path: Path, count: int) -> list[dict[str, Any]]:
    """The entries of a log, once there are so many."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        found = path.read_text().splitlines() if path.exists() else []
        if len(found) >= count:
            return [json.loads(line) for line in found]
        time.sleep(0.05)
    raise AssertionError(f"{path} has not {count} lines")


def test_requests_are_noted_without_secrets(tmp_path: Path) -> None:
    (tmp_path / "readers").write_text(f"shelf {READER}\n")
    path = tmp_path / "access.log"
    more = {"read_tokens": str(tmp_path / "readers"), "access_log": str(path)}
    with service(tmp_path / "s", slots=1, **more) as one, one.client() as client:
        job = client.submit(one.source("film.json"), external_id="film")
        client.wait(job.id)
        hls = client.title("film").urls
        assert hls is not None
        bearer = {"Authorization": f"Bearer {READER}", "User-Agent": "tv/1"}
        with httpx.Client(base_url=one.url, headers=bearer) as http:
            while lines(path, 3)[-1]["path"] != "/v1/titles/film":  # what came before is all noted
                time.sleep(0.05)
            noted = len(lines(path, 3))
            size = len(http.get("/v1/titles/film/ladder").content)
            http.get(hls.hls, headers={"Authorization": ""})
            http.get("/healthz?api_key=hidden-value&limit=3")
            http.head("/v1/titles/film/ladder")
            http.get("/v1/titles/nobody", headers={"Authorization": "Bearer wrong-wrong-wrong"})
            http.post("/v1/jobs", json={"source": "https://me:hidden-value@host/x"})
            found = lines(path, noted + 6)[noted:]
        assert [(one["method"], one["status"], one["client"]) for one in found] == [
            ("GET", 200, "shelf"), ("GET", 200, None), ("GET", 400, "shelf"),
            ("HEAD", 200, "shelf"), ("GET", 401, None), ("POST", 403, "shelf"),
        ]  # fmt: skip
        first = found[0]
        assert (first["path"], first["query"], first["agent"]) == (
            "/v1/titles/film/ladder", "", "tv/1",
        )  # fmt: skip
        assert first["peer"] == "127.0.0.1"
        assert 0 < first["bytes"] <= size
        assert 0 < first["ms"] < 60_000
        assert found[1]["path"].startswith("/v1/signed/film.1.")
        assert found[1]["path"].endswith(".../master.m3u8")
        assert found[2]["query"] == "api_key=...&limit=3"
        assert found[3]["bytes"] == 0
        segment = hls.hls.split("/")[-2]
        signature = segment.rpartition(".")[2]
        for place in (f"/v1//signed/{segment}/x", f"/{segment.upper()}", f"/{'x' * 440}/{segment}"):
            httpx.get(one.url + place)
        httpx.get(f"{one.url}/v1/titles", params={"title": f"/v1/signed/{segment}/"})
        lines(path, noted + 10)
        text = path.read_text()
        assert signature[:8] not in text.lower()
        for secret in (READER, one.token, "wrong-wrong-wrong", "hidden-value", signature):
            assert secret not in text
        path.rename(tmp_path / "access.log.1")  # as logrotate does
        httpx.get(f"{one.url}/healthz")
        (rotated,) = lines(path, 1)
        assert rotated["path"] == "/healthz"
        httpx.get(f"{one.url}/readyz")
        one.stop()  # what waits is written at the end
        assert lines(path, 2)[-1]["path"] == "/readyz"


def test_what_cannot_be_written_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "MAX_WAITING", 3)
    path = tmp_path / "access.log"
    log = AccessLog(str(path))
    for number in range(5):
        log.add({"number": number})
    log.start()
    lines(path, 3)
    log.add({"number": 5})
    log.stop()
    assert [entry["number"] for entry in lines(path, 4)] == [0, 1, 2, 5]
    assert lines(path, 4)[-1]["left_out_before"] == 2
    with pytest.raises(BadInput, match="--access-log"):
        AccessLog(str(tmp_path / "nowhere" / "access.log"))
