"""A catalogue on a cluster whose stages only take time: where does the control plane end?

``python -m tests.simulate [--titles 10,100,1000] [--shots 1500] [--cores 64] [--seconds 900]``

Real: scheduler, worker, dispatch, units, store, job table. Stubs: a unit sleeps for a thousandth of
its expected CPU seconds and publishes one record. Titles are submitted to the job table and leased
from it; each runs in a thread of this process, a bounded number at once, as jobs do in a service.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import pickle
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from cluster.execution.dispatch import Dispatch
from cluster.execution.executor import DaskExecutor
from cluster.execution.fingerprint import own_fingerprint
from cluster.execution.pool import SharedWorkers
from cluster.execution.tasks import Task
from cluster.service.database import Database
from cluster.service.documents import Submission
from cluster.service.queue.jobs import Jobs
from cluster.service.queue.leases import Leases
from cluster.service.queue.table import JobTable
from cluster.service.sources import SourceFile
from cluster.stages.units import UNIT_CPU_SECONDS
from cluster.store import Store
from cluster.store.keys import key
from tests.cluster_material import REPOSITORY, Site, kill_tree, until
from tests.service_material import AllKept

SCALE = 1000
BEAT_SECONDS = 2.0
SHOT_CPU_SECONDS = 20.0
"""Of a shot of 4 s at 1080p with its delivered rungs, roughly: what `run --plan` says."""


def stub(place: str, title: str, unit: int, seconds: float) -> int:
    """A unit that takes time and leaves a record. Runs on a worker."""
    time.sleep(seconds)
    store = _store(place)
    identity = key("simulated", 1, title=title, unit=unit)
    if store.get(identity) is None:
        store.publish(identity, unit, stage="simulated", version=1, title=title)
    return unit


@functools.cache
def _store(place: str) -> Store:
    return Store(place)


def units_of(title: str, shots: int, place: str) -> list[Task]:
    """The units that `batches` makes of so many shots."""
    cpu = shots * SHOT_CPU_SECONDS
    count = max(1, round(cpu / UNIT_CPU_SECONDS))
    seconds = cpu / count / SCALE
    return [
        Task(str(number), stub, (place, title, number, seconds), cost=seconds)
        for number in range(count)
    ]


def simulate(site: Site, folder: Path, titles: int, shots: int, at_once: int, limit: float) -> Any:
    """One catalogue.

    Returns:
        A row of the table.
    """
    place = str(folder / f"store-{titles}")
    Store(place)
    table = folder / f"jobs-{titles}" / "jobs.db"
    database = Database(table)
    job_table = JobTable(database)
    jobs, leases = Jobs(job_table, AllKept()), Leases(job_table, lease_seconds=2 * limit)
    began = time.monotonic()
    for number in range(titles):
        asked = Submission(source=f"file:///titles/{number}.mp4", external_id=f"title-{number}")
        jobs.submit(asked, SourceFile(asked.source, 1, str(number)), "simulation")
    submitting = time.monotonic() - began
    scheduler = psutil.Process(site.scheduler.pid)
    own = psutil.Process()
    before, own_before = scheduler.cpu_times(), own.cpu_times()
    memory = scheduler.memory_info().rss
    began = time.monotonic()
    done = 0
    lock = threading.Lock()
    with DaskExecutor(scheduler=site.address) as executor:
        executor.start()
        client = executor.client

        def run(runner: int) -> int:
            nonlocal done
            ended = 0
            while (job := leases.claim(f"runner-{runner}")) is not None:
                tasks = units_of(f"{job.number:016x}", shots, place)
                dispatch = Dispatch(client, tasks, 2, SharedWorkers(client), print)
                told = time.monotonic()
                for at, outcome in enumerate(dispatch.outcomes(), 1):
                    assert outcome.error is None, outcome
                    with lock:
                        done += 1
                    if (now := time.monotonic()) - told > BEAT_SECONDS:
                        told = now
                        progress = {"type": "stage_progress", "stage": "encode", "done": at}
                        progress |= {"total": len(tasks), "share": at / len(tasks)}
                        leases.heartbeat(job, [progress])
                    if now - began > limit:
                        dispatch.abandon()
                        return ended
                leases.succeed(job, lambda session, row, units=at: {"units": units})
                ended += 1
            return ended

        with ThreadPoolExecutor(at_once) as pool:
            finished = sum(pool.map(run, range(at_once)))
    wall = time.monotonic() - began
    database.close()  # what was written beside the table goes into it
    after, own_after = scheduler.cpu_times(), own.cpu_times()
    one = units_of("0" * 16, shots, place)[0]
    return {
        "titles": titles,
        "finished": finished,
        "tasks": done,
        "seconds": round(wall, 1),
        "tasks_per_second": round(done / wall, 1),
        "scheduler_cpu_ms_per_task": round(
            1000 * (after.user + after.system - before.user - before.system) / max(1, done), 3
        ),
        "client_cpu_ms_per_task": round(
            1000
            * (own_after.user + own_after.system - own_before.user - own_before.system)
            / max(1, done),
            3,
        ),
        "task_bytes": len(pickle.dumps(one)),
        "scheduler_bytes_per_task": round((scheduler.memory_info().rss - memory) / max(1, done)),
        "scheduler_mb": round(scheduler.memory_info().rss / 1e6),
        "submitted_per_second": round(titles / submitting),
        "job_table_bytes_per_job": round(
            sum(path.stat().st_size for path in table.parent.iterdir()) / titles
        ),
        "store_records": sum(1 for _ in Path(place, "records").rglob("*.json")),
    }


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--titles", default="10,100,1000")
    options.add_argument("--shots", type=int, default=1500)
    options.add_argument("--cores", type=int, default=64)
    options.add_argument("--at-once", type=int, default=8)
    options.add_argument("--seconds", type=float, default=900)
    asked = options.parse_args()
    until_end = time.monotonic() + asked.seconds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        site = Site(folder, worker_ttl=300)
        try:
            until(site.listens, 60)
            words = ["-m", "dask", "worker", site.address, "--nthreads", str(asked.cores)]
            words += ["--no-nanny", "--no-dashboard", "--local-directory", str(folder)]
            words += ["--resources", f"{own_fingerprint().ticket}={asked.cores}"]
            import subprocess
            import sys

            site.processes.append(
                subprocess.Popen(
                    [sys.executable, *words],
                    env={
                        **os.environ,
                        "PYTHONPATH": str(REPOSITORY),
                        "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
                    },
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
            )
            for titles in map(int, asked.titles.split(",")):
                left = until_end - time.monotonic()
                if left <= 0:
                    break
                row = simulate(site, folder, titles, asked.shots, asked.at_once, left)
                print(json.dumps(row), flush=True)
        finally:
            for process in site.processes:
                kill_tree(process)


if __name__ == "__main__":
    # Workers find stubs by the name of this module, which is another one's there.
    from tests.simulate import main as named

    named()
