"""Kills of the service while many clients submit: no job may be lost, none doubled.

``python -m tests.chaos [--submissions N] [--clients N] [--kills N] [--real N]`` prints the counts
and fails when they are wrong. Jobs are stubs of milliseconds but for a few titles of a second that
the main job really encodes; ``tests/test_service_real.py`` looks at what comes out of one.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cluster.service.options import JobOptions
from fixtures.clips import LIFE, Recipe, Scene, make
from tests.service_material import ServiceProcess, service

FAST = JobOptions(preset="ultrafast")


def storm(
    folder: Path, submissions: int, clients: int, kills: int, *, real: int = 0, slots: int = 2
) -> dict[str, Any]:
    """Submit from ``clients`` threads, each title twice by different ones, while the service is
    killed and started again ``kills`` times; then wait until all has ended. ``real`` titles are
    videos.

    Returns:
        What was counted: by the clients, in the tables, and in the ledger of starts.
    """
    began = time.monotonic()
    with service(folder, slots=slots, grace=3600) as running:
        sources = {}
        for number in range(submissions // 2):
            name = f"title-{number:04d}"
            sources[name] = (
                make(_clip(number), running.sources / f"{name}.mp4")
                if number < real
                else running.source(f"{name}.json", seconds=0.005)
            )
        names = list(sources)
        work = [name for name in names for _ in range(2)]
        random.Random(1).shuffle(work)
        answers: list[tuple[str, str, bool]] = []
        lock = threading.Lock()
        going = threading.Event()

        def client(mine: list[str]) -> None:
            with running.client(patience_seconds=300, timeout_seconds=20) as own:
                for name in mine:
                    job = own.submit(sources[name], external_id=name, options=FAST)
                    with lock:
                        answers.append((name, job.id, job.merged))

        def killer() -> int:
            done = 0
            while done < kills:
                share = (done + 1) / (kills + 1)
                while len(answers) < share * submissions * 0.9 and not going.is_set():
                    time.sleep(0.02)
                running.kill()
                running.start()
                done += 1
            return done

        with ThreadPoolExecutor(clients + 1) as pool:
            killing = pool.submit(killer)
            futures = [pool.submit(client, work[n::clients]) for n in range(clients)]
            for future in futures:
                future.result()
            going.set()
            killed = killing.result()
        ids = {job_id for _, job_id, _ in answers}
        # Kills while jobs run, after all has been submitted, are part of it.
        with running.client(patience_seconds=300) as own:
            late = 0
            while True:
                states = Counter(job.state for job in own.jobs())
                left = states["queued"] + states["running"]
                if not left:
                    break
                if late < min(kills, 2) and left < len(ids) * (0.6 - 0.3 * late):
                    running.kill()
                    running.start()
                    late += 1
                time.sleep(0.3)
            published = {title.title for title in own.titles()}
            changes, since = [], 0
            while True:
                page = own.changes(since)
                changes += page.changes
                since = page.next
                if not page.more:
                    break
        counted = _tables(running)
        ledger = Counter(running.ledger())
        videos = [path.name for path in sources.values() if path.suffix == ".mp4"]
        return {
            "submissions": submissions,
            "clients": clients,
            "kills": killed + late,
            "answered": len(answers),
            "titles": len(names),
            "jobs_promised": len(ids),
            "jobs_in_table": counted["jobs"],
            "states": dict(states),
            "titles_published": len(published),
            "publications": len(changes),
            "versions": counted["versions"],
            "lost": len(ids - counted["ids"]) + len(set(names) - published),
            "doubled": counted["jobs"] - len(names) + len(changes) - len(names),
            "packages_on_disk": len(list(running.data.glob("packages/*/*"))),
            "started_again_after_a_kill": sum(ledger.values()) - len(ledger),
            "videos": len(videos),
            "videos_started_again": sum(ledger[name] - 1 for name in videos),
            "wall_seconds": round(time.monotonic() - began, 1),
        }


def _clip(number: int) -> Recipe:
    """A title of one shot of 1 s, unlike the others."""
    picture = LIFE.replace("seed=7", f"seed={100 + number}")
    return Recipe((Scene(picture, 24),), width=320, height=180)


def _tables(running: ServiceProcess) -> dict[str, Any]:
    with sqlite3.connect(running.data / "service.db") as tables:
        ids = {row[0] for row in tables.execute("select id from jobs")}
        versions = tables.execute("select count(*) from versions").fetchone()[0]
    return {"ids": ids, "jobs": len(ids), "versions": versions}


def check(counted: dict[str, Any]) -> None:
    """Nothing lost, nothing doubled."""
    titles = counted["titles"]
    assert counted["answered"] == counted["submissions"]
    for name in ("jobs_promised", "jobs_in_table", "titles_published", "publications", "versions",
                 "packages_on_disk"):  # fmt: skip
        assert counted[name] == titles, (name, counted)
    assert counted["states"] == {"succeeded": titles}
    assert counted["lost"] == counted["doubled"] == 0


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--submissions", type=int, default=1000)
    options.add_argument("--clients", type=int, default=50)
    options.add_argument("--kills", type=int, default=8)
    options.add_argument("--real", type=int, default=4)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        counted = storm(
            Path(folder) / "s", asked.submissions, asked.clients, asked.kills, real=asked.real
        )
    print(json.dumps(counted, indent=1))
    check(counted)


if __name__ == "__main__":
    main()
