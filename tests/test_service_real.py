"""The real main job behind the service: what is read is what `shotladder run` makes."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import replace
from pathlib import Path

import httpx
import psutil

from cluster.package.documents import read_prefetch
from cluster.service.options import JobOptions
from fixtures.clips import make
from tests.cli_material import called, shell
from tests.running import SHORT, contents, run_inline
from tests.service_material import service

TITLE = replace(SHORT, width=320, height=180, audio=True)
"""One shot of 1 s."""


def test_a_title_from_submission_to_playback_across_a_kill(tmp_path: Path) -> None:
    with service(tmp_path / "s", stub=False, slots=1) as one:
        source = make(TITLE, one.sources / "film.mp4")
        url = {"SHOTLADDER_URL": one.url, "SHOTLADDER_TOKEN": one.token}
        line = ("submit", source, "--external-id", "film-1", "--preset", "ultrafast",
                "--search", "exhaustive", "--recipe-check", "never")  # fmt: skip
        ended = called(*line, **url)
        assert ended.returncode == 0, ended.stderr
        job_id = ended.stdout.strip()
        with one.client() as client, contextlib.closing(client.events(job_id)) as events:
            for _, body in events:  # in the middle of the encodes
                if body["type"] == "stage_progress" and body["stage"].startswith("encode"):
                    break
        assert one.process is not None
        children = psutil.Process(one.process.pid).children(recursive=True)
        one.kill()
        assert psutil.wait_procs(children, timeout=20)[1] == []
        one.start()
        ended = shell(*line, "--wait", "--json", **url)
        assert ended.returncode == 0, ended.stderr
        done = json.loads(ended.stdout.splitlines()[-1])["result"]["job"]
        assert (done["id"], done["state"], done["attempts"]) == (job_id, "succeeded", 2)

        run_inline(source, tmp_path / "direct", tmp_path / "store", search="exhaustive")
        package = one.data / "packages" / done["result"]["package"][:2] / done["result"]["package"]
        assert contents(package) == contents(tmp_path / "direct")
        with one.client() as client:
            assert client.artwork("film-1").face_model is not None
            direct = read_prefetch(tmp_path / "direct")
            assert client.prefetch("film-1") == direct.model_copy(update={"external_id": "film-1"})
            page = httpx.get(f"{one.url}/v1/titles/film-1/report")
            assert page.status_code == 200
            assert "film.mp4" in page.text
            assert str(tmp_path) not in page.text  # no place of this machine
            # A plan of the same costs nothing: everything is in the store.
            options = JobOptions(preset="ultrafast", search="exhaustive", recipe_check="never")
            plan = client.wait(client.submit(source, kind="plan", options=options).id)
            assert plan.result is not None
            assert plan.result.plan is not None
            assert plan.result.plan["cached_encodes"] == plan.result.plan["encodes"] > 0
        shown = called("status", job_id, **url)
        assert "succeeded" in shown.stdout
        assert job_id in called("jobs", "--state", "succeeded", **url).stdout

        # What a user gets wrong is one line, and another status.
        broken = one.sources / "broken.mp4"
        broken.write_bytes(b"this is not a video" * 50)
        ended = called("submit", broken, "--wait", **url)
        assert ended.returncode == 2
        assert "not a supported kind of video" in ended.stderr.splitlines()[-1]
        ended = called("submit", "/etc/passwd", **url)
        assert ended.returncode == 2
        assert "not under a folder" in ended.stderr
        assert ended.stderr.count("\n") == 1
        ended = called("submit", source, SHOTLADDER_URL=one.url, SHOTLADDER_TOKEN="")
        assert "SHOTLADDER_TOKEN" in ended.stderr
        assert called("withdraw", "film-1", "--yes", **url).returncode == 0
        assert called("withdraw", "film-1", "--yes", **url).returncode == 2
        assert list((one.data / "packages").glob("*/*")) == []
        until = time.monotonic() + 5
        while list((one.data / "stores").iterdir()) and time.monotonic() < until:
            time.sleep(0.1)
        left = [path.name for path in (one.data / "stores").iterdir()]
        assert len(left) <= 1  # the broken file's: its job may be retried
