"""`kill -9` of the service in the middle of everything."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.chaos import check, storm
from tests.service_material import service


@pytest.mark.timeout(900)  # three processes and their jobs, which a busy machine starts slowly
def test_no_job_is_lost_and_none_doubled(tmp_path: Path) -> None:
    check(storm(tmp_path / "s", submissions=12, clients=3, kills=1, claim_seconds=12.0))


def test_a_job_goes_on_when_its_service_was_killed(tmp_path: Path) -> None:
    with service(tmp_path / "s") as one:
        with one.client() as client:
            job = client.submit(one.source("long.json", seconds=3))
            waiting = client.submit(one.source("next.json"), priority=-1)
            while client.job(job.id).state != "running":
                time.sleep(0.05)
        assert one.process is not None
        children = psutil.Process(one.process.pid).children(recursive=True)
        one.kill()
        _, alive = psutil.wait_procs(children, timeout=10)
        assert alive == []  # what the service started does not outlive it
        one.start()
        with one.client() as client:
            done = client.wait(job.id)
            assert (done.state, done.attempts) == ("succeeded", 2)
            assert client.wait(waiting.id).state == "succeeded"
            again = [body for _, body in client.events(job.id) if body["type"] == "queued"]
            assert again[-1]["reason"] == "runner lost"
        assert list((one.data / "work").iterdir()) == []


def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    with service(tmp_path / "s", slots=1) as one, one.client() as client:
        job = client.submit(one.source("long.json", seconds=2))
        while client.job(job.id).progress is None:
            time.sleep(0.05)
        assert one.process is not None
        for child in psutil.Process(one.process.pid).children():
            if "spawn_main" in " ".join(child.cmdline()):
                os.kill(child.pid, signal.SIGKILL)
        done = client.wait(job.id)
        assert (done.state, done.attempts) == ("succeeded", 2)


def test_a_stopped_service_gives_its_jobs_back(tmp_path: Path) -> None:
    with service(tmp_path / "s", slots=1) as one:
        with one.client() as client:
            job = client.submit(one.source("long.json", seconds=30))
            while client.job(job.id).state != "running":
                time.sleep(0.05)
        assert one.stop() == 0
        one.start()
        with one.client() as client:
            reasons = []
            for _, body in client.events(job.id):
                reasons.append(body.get("reason"))
                if body["type"] == "running" and body["attempt"] == 2:
                    break
            assert "service stopped" in reasons
            client.cancel(job.id)
            assert client.wait(job.id).state == "cancelled"
