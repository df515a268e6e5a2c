"""Several processes answer for one service: they agree at once, and are started again."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from cluster.service.backends import PostgresWatch
from cluster.service.database import ChangeRow, Database
from tests.conftest import NewDatabase
from tests.postgres import Server
from tests.service_material import ServiceProcess, service

PROCESSES = 3


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with service(tmp_path_factory.mktemp("processes"), slots=1, processes=PROCESSES) as one:
        yield one


def answering(running: ServiceProcess) -> list[psutil.Process]:
    """Processes that answer requests: those that have the service's socket, but for the first."""
    assert running.process is not None
    port = int(running.url.rpartition(":")[2])
    found = []
    for process in psutil.Process(running.process.pid).children():
        threads = process.num_threads()
        listens = any(
            one.status == psutil.CONN_LISTEN and one.laddr.port == port
            for one in process.net_connections("tcp")
        )
        if listens and threads:
            found.append(process)
    return found


def fresh(url: str, **more: str) -> httpx.Response:
    """Read over a connection of its own, which any of the processes may take."""
    with httpx.Client(verify=False, headers={"Connection": "close", **more}) as http:
        return http.get(url)


def test_what_one_process_tells_all_of_them_know(running: ServiceProcess) -> None:
    with running.client() as client:
        for number in range(4):
            name = f"film-{number}"
            client.wait(client.submit(running.source(f"{name}.json"), external_id=name).id)
            url = f"{running.url}/v1/titles/{name}/ladder"
            assert [fresh(url).status_code for _ in range(12)] == [200] * 12
            client.withdraw(name)
            assert [fresh(url).status_code for _ in range(12)] == [410] * 12


def test_they_count_their_requests_together(running: ServiceProcess) -> None:
    def counted() -> float:
        text = fresh(f"{running.url}/metrics").text
        found = re.search(
            r'shotladder_requests_total\{route="/healthz",status="200"\} ([0-9.]+)', text
        )
        return float(found[1]) if found else 0.0

    before = counted()
    for _ in range(40):
        assert fresh(f"{running.url}/healthz").status_code == 200
    assert counted() == before + 40
    assert "shotladder_titles 0.0" in fresh(f"{running.url}/metrics").text


def test_one_that_dies_is_started_again_and_the_others_go_on(running: ServiceProcess) -> None:
    first = {process.pid for process in answering(running)}
    assert len(first) == PROCESSES
    killed = min(first)
    os.kill(killed, signal.SIGKILL)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        assert fresh(f"{running.url}/healthz").status_code == 200
        now = {process.pid for process in answering(running)}
        if len(now) == PROCESSES and killed not in now:
            break
        time.sleep(0.2)
    else:
        raise AssertionError(f"{now} answer after {killed} of {first} died")
    assert '"event": "a process died"' in running.log()


def test_all_of_them_end_with_the_first(tmp_path: Path) -> None:
    for stopping in ("stop", "kill"):
        with service(tmp_path / stopping, slots=0, processes=2) as one:
            processes = answering(one)
            assert len(processes) == 2
            if stopping == "stop":
                assert one.stop() == 0
            else:
                one.kill()
            _, alive = psutil.wait_procs(processes, timeout=20)
            assert alive == []


def test_a_watch_tells_of_commits_of_others(
    new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PostgresWatch, "WATCH_SECONDS", 0.0)
    database = Database(new_database("service"))
    watch = database.watch()
    assert watch.new_sequence() == 0
    with database.writing() as session:
        session.add(ChangeRow(kind="published", title="film", at=0.0))
        session.flush()
        assert not watch.new_sequence()  # which others cannot read yet
    assert watch.new_sequence() == 1
    if database.backend.local:
        assert watch.new_sequence() is None
    watch.close()
    database.close()


def test_a_watch_on_a_server_does_not_ask_all_the_time(postgres_server: Server) -> None:
    database, now = Database(postgres_server.new_database()), 100.0
    watch = PostgresWatch(database.engine, clock=lambda: now)
    assert watch.new_sequence() == 0
    assert watch.new_sequence() is None
    now += 2 * PostgresWatch.WATCH_SECONDS
    assert watch.new_sequence() == 0
    database.close()
