"""Shared Dask clusters: which workers are used or refused, priorities, deaths, lost schedulers."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster import events
from cluster.execution import dispatch
from cluster.execution.executor import DaskExecutor, Outcome, SharedScheduler, Task
from cluster.execution.fingerprint import PACKAGES, Fingerprint, own_fingerprint
from encoder.errors import BadInput, WorkerLost
from tests.cluster_material import (
    REPOSITORY,
    Site,
    command,
    free_port,
    kill_tree,
    loaded,
    poison,
    site,
    tree,
    until,
    work,
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site(tmp_path_factory.mktemp("cluster")) as made:
        yield made


def tasks(log: Path, count: int, seconds: float = 0.05, prefix: str = "") -> list[Task]:
    return [
        Task(f"{prefix}{number}", work, (log, f"{prefix}{number}", seconds))
        for number in range(count)
    ]


def test_workers_of_our_own_kind_work_one_task_a_core(cluster: Site, tmp_path: Path) -> None:
    with DaskExecutor(scheduler=cluster.address) as executor:
        outcomes = list(executor.run(tasks(tmp_path / "log", 12)))
        until(lambda: executor.slots == 2)
    assert [outcome.error for outcome in outcomes] == [None] * 12
    assert len((tmp_path / "log").read_text().split()) == 12


def test_a_worker_of_other_code_is_refused_by_name(tmp_path: Path) -> None:
    """The worker's code differs in one comment."""
    other = tmp_path / "other"
    for package in PACKAGES:
        shutil.copytree(
            REPOSITORY / package, other / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    with (other / "ladder" / "curves.py").open("a") as file:
        file.write("# changed\n")
    said: list[events.Event] = []
    with site(tmp_path / "site", workers=0) as made:
        worker = subprocess.Popen(
            [
                *(sys.executable, "-c", "from cluster.cli import main; main()"),
                *("worker", made.address, "--cores", "1"),
            ],
            cwd=other,
            env={**os.environ, "PYTHONPATH": str(other)},
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            with DaskExecutor(scheduler=made.address, on_event=said.append) as executor:
                with pytest.raises(BadInput, match=r"no worker .* can be used: code is [0-9a-f]+"):
                    list(executor.run(tasks(tmp_path / "log", 1)))
                made.start_worker()  # the right one may come any time
                (outcome,) = executor.run(tasks(tmp_path / "log", 1))
            assert outcome.error is None
        finally:
            kill_tree(worker)
    warnings = [event.message for event in said if isinstance(event, events.Warned)]
    assert any("is not used: code is " in line for line in warnings)
    assert "models is" not in " ".join(warnings)  # only what differs is named


def test_workers_that_others_deploy_are_asked_and_used(tmp_path: Path) -> None:
    with site(tmp_path / "site", workers=0) as made:
        words = [sys.executable, "-m", "dask", "worker", made.address]
        words += ["--nthreads", "2", "--no-nanny", "--local-directory", str(tmp_path)]
        worker = subprocess.Popen(
            words,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            with DaskExecutor(scheduler=made.address) as executor:
                outcomes = list(executor.run(tasks(tmp_path / "log", 6)))
                assert executor.slots == 2
        finally:
            kill_tree(worker)
    assert [outcome.error for outcome in outcomes] == [None] * 6


def test_an_adaptive_cluster_grows_and_shrinks(tmp_path: Path) -> None:
    """The cluster has Dask's own settings and no worker at first: waiting tasks make it grow."""
    import distributed

    local: Any = distributed.LocalCluster
    options = {"n_workers": 0, "threads_per_worker": 1, "silence_logs": logging.CRITICAL}
    with local(dashboard_address="127.0.0.1:0", **options) as made:
        made.adapt(minimum=0, maximum=2, interval="200ms", wait_count=2, target_duration="1s")
        sizes = []
        with DaskExecutor(scheduler=made.scheduler_address) as executor:
            for outcome in executor.run(tasks(tmp_path / "log", 16, 0.5)):
                assert outcome.error is None
                sizes.append(len(made.scheduler.workers))
        assert max(sizes) == 2
        until(lambda: not made.scheduler.workers)
    assert len((tmp_path / "log").read_text().split()) == 16


def test_what_differs_is_said() -> None:
    ours = Fingerprint({"code": "aa", "ffmpeg": "9", "models": "m"})
    theirs = replace(ours, parts={"code": "aa", "ffmpeg": "8"})
    assert ours.differences(theirs) == [
        "ffmpeg is 8 there and 9 here",
        "models is missing there and m here",
    ]
    assert ours.differences(ours) == []
    assert ours.ticket != theirs.ticket
    assert own_fingerprint().ticket == own_fingerprint().ticket


def test_a_poison_task_is_named_and_takes_no_other_along(cluster: Site, tmp_path: Path) -> None:
    """Two runs share two workers; tasks of one wait on workers that the other's poison kills."""
    log = tmp_path / "log"
    found: list[Outcome] = []

    def other() -> None:
        with DaskExecutor(scheduler=cluster.address) as executor:
            found.extend(executor.run(tasks(log, 40, 0.2, "other-")))

    thread = threading.Thread(target=other)
    thread.start()
    with DaskExecutor(scheduler=cluster.address) as executor:
        mine = [Task("poison", poison, (log,), cost=9, label="shot 7 of title")]
        outcomes = {one.task_id: one for one in executor.run([*mine, *tasks(log, 20, 0.1)])}
    thread.join()
    error = outcomes["poison"].error
    assert isinstance(error, WorkerLost)
    assert "shot 7 of title" in error.message
    # A death right after the start is not blamed on the task: the worker had no time to say so.
    assert 3 <= log.read_text().split().count("poison") <= 6
    assert sum(one.error is None for one in outcomes.values()) == 20
    assert [one.error for one in found] == [None] * 40


def test_several_runs_share_fairly_and_the_urgent_goes_first(cluster: Site, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def run(prefix: str, count: int, priority: int = 0) -> None:
        with DaskExecutor(scheduler=cluster.address, priority=priority) as executor:
            assert all(one.error is None for one in executor.run(tasks(log, count, 0.8, prefix)))

    def order() -> list[str]:
        return [name[0] for name in log.read_text().split()] if log.exists() else []

    threads = [threading.Thread(target=run, args=(name, 20)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    until(lambda: {"a", "b"} <= {*order()}, 120)
    run("c", 10, priority=5)
    before = order()
    for thread in threads:
        thread.join()
    # c had the workers for itself but for what had begun, and the time that messages take.
    begun = before.index("c")
    assert before[begun:].count("a") + before[begun:].count("b") <= 8
    rest = [name for name in order() if name != "c"]
    shared = rest[max(rest.index("a"), rest.index("b")) :][:16]
    assert 4 <= shared.count("a") <= 12, rest


def test_a_worker_that_dies_and_one_that_comes(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with site(tmp_path / "site", workers=1) as made:
        worker = made.processes[-1]
        with DaskExecutor(scheduler=made.address) as executor:
            outcomes = executor.run(tasks(log, 30, 0.2))
            next(outcomes)
            kill_tree(worker)
            made.start_worker()
            rest = list(outcomes)
    assert [one.error for one in rest] == [None] * 29
    assert len(log.read_text().split()) <= 32


def test_a_scheduler_that_dies_and_comes_back(tmp_path: Path) -> None:
    log, said = tmp_path / "log", list[events.Event]()
    with (
        site(tmp_path / "site", workers=2) as made,
        DaskExecutor(scheduler=made.address, on_event=said.append) as executor,
    ):
        outcomes = executor.run(tasks(log, 20, 0.2))
        next(outcomes)
        kill_tree(made.scheduler)
        time.sleep(1.5)
        made.start_scheduler()
        rest = list(outcomes)
    assert [one.error for one in rest] == [None] * 19
    assert len(log.read_text().split()) <= 20 + 2 * 2


def test_a_scheduler_that_stays_away_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.execution.executor.SCHEDULER_BACK_SECONDS", 1.0)
    monkeypatch.setattr("cluster.execution.executor.SCHEDULER_SECONDS", 1.0)
    with (
        site(tmp_path / "site", workers=1) as made,
        DaskExecutor(scheduler=made.address) as executor,
    ):
        outcomes = executor.run(tasks(tmp_path / "log", 20, 0.2))
        next(outcomes)
        kill_tree(made.scheduler)
        with pytest.raises(dispatch.SchedulerLost, match="run the same command again"):
            list(outcomes)


def test_workers_end_when_told_and_leave_no_process(tmp_path: Path) -> None:
    with site(tmp_path / "site", workers=1) as made:
        worker = made.processes[-1]
        with DaskExecutor(scheduler=made.address) as executor:
            list(executor.run(tasks(tmp_path / "log", 1)))
        family = tree(worker)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0
        _, alive = psutil.wait_procs(family, 10)
        assert alive == []


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:8786"])
def test_a_worker_wants_an_address(address: str) -> None:
    from cluster.execution.daemons import serve_workers

    with pytest.raises(BadInput, match="looks like tcp://host:8786"):
        serve_workers(SharedScheduler(address), 1, None, None, lambda message: None)


def test_a_port_that_is_taken_is_one_line() -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", port := free_port()))
        one.listen()
        process = command("scheduler", "--port", port)
        said, complaints = process.communicate(timeout=60 * loaded())
    assert process.returncode == 2
    assert said == ""
    assert "name another" in complaints
    assert complaints.count("\n") == 1
