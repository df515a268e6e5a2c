"""Kills of services and runners while many clients submit: nothing may be lost, nothing doubled.

``python -m tests.chaos [--submissions N] [--rounds N] [--seed S] [--clients N] [--kills N]
[--real N] [--results DIR]`` prints the counts and fails when they are wrong. The submissions are
spread over rounds, each on a folder of its own, with two services and a runner on that folder; the
seed and the number of a round say who is killed when. A round that has ended is kept in DIR, and
is not run again by the same command. Jobs are stubs of milliseconds but for a few titles of a
second that the main job really encodes; ``tests/test_service_real.py`` looks at what comes out of
one.

Every submission has a webhook of its own, at a receiver that now and then answers 503 first. A
webhook may be called again after an answer of 2xx only where the service that had claimed it was
killed before it could note the answer.
"""

from __future__ import annotations

import argparse
import contextlib
import http.server
import json
import random
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

from cluster.service.database import Database
from cluster.service.documents import JobOptions
from fixtures.clips import LIFE, Recipe, Scene, make
from tests.postgres import database_url, sql
from tests.service_material import RunnerProcess, ServiceProcess

FAST = JobOptions(preset="ultrafast")
FIRST_REFUSED = 0.1
"""Share of webhooks that their receiver answers 503 first."""
WEBHOOKS_SECONDS = 300
"""Time for the last webhooks, some of which wait until the claim of a killed service has ended."""


class Receiver:
    """Receives webhooks, and notes when each delivery came and how it was answered."""

    def __init__(self, seed: int) -> None:
        self.calls: dict[tuple[str, int], list[tuple[float, int]]] = defaultdict(list)
        """Times and answers by path and number of the delivery."""
        self._draw = random.Random(seed)
        self._lock = threading.Lock()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(receiver.note(self.path, body["delivery"]))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_: object) -> None:
                """Services that are killed reset connections."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_port}"

    def note(self, path: str, delivery: int) -> int:
        with self._lock:
            calls = self.calls[path, delivery]
            refused = not calls and self._draw.random() < FIRST_REFUSED
            calls.append((time.monotonic(), 503 if refused else 204))
            return calls[-1][1]

    def answered(self) -> set[str]:
        """Paths that were called and answered 2xx."""
        with self._lock:
            return {path for (path, _), calls in self.calls.items()
                    if any(status == 204 for _, status in calls)}  # fmt: skip

    def again(self, kills: Sequence[float]) -> tuple[int, int]:
        """How often a webhook came again after it was answered 2xx, and how many of those no kill
        in between explains."""
        again = unexplained = 0
        for calls in self.calls.values():
            good = [at for at, status in calls if status == 204]
            for before, after in pairwise(good):
                again += 1
                unexplained += not any(before - 1 <= kill <= after for kill in kills)
        return again, unexplained

    @contextlib.contextmanager
    def listening(self) -> Iterator[Receiver]:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        try:
            yield self
        finally:
            self.server.shutdown()
            self.server.server_close()


class Fleet:
    """Two services and a runner on one folder, and who of them was killed when."""

    def __init__(self, folder: Path, slots: int, seed: int, **more: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.services = [ServiceProcess(folder, slots=slots, grace=3600, **more) for _ in range(2)]
        self.all = [*self.services, RunnerProcess(folder, slots=slots, grace=3600, **more)]
        self.kills = 0
        self.kills_of_services: list[float] = []
        """When; only services call webhooks."""
        self._draw = random.Random(seed)

    @contextlib.contextmanager
    def running(self) -> Iterator[Fleet]:
        try:
            for one in self.all:
                one.start()
            yield self
        finally:
            for one in self.all:
                if one.process is not None and one.process.poll() is None:
                    one.stop()

    def kill_one(self) -> None:
        one = self._draw.choice(self.all)
        one.kill()
        self.kills += 1
        if one in self.services:
            self.kills_of_services.append(time.monotonic())
        one.start()


def storm(
    folder: Path,
    submissions: int,
    clients: int,
    kills: int,
    *,
    real: int = 0,
    slots: int = 1,
    seed: int = 1,
    **more: Any,
) -> dict[str, Any]:
    """Submit from ``clients`` threads, each title twice by different ones, while services and the
    runner are killed and started again ``kills`` times, and up to two times more while the queue
    is emptied; then wait until all has ended and all webhooks have come. ``real`` titles are
    videos.

    Returns:
        What was counted: by the clients, by the receiver, in the tables, and in the ledger of
        starts.
    """
    began = time.monotonic()
    receiver = Receiver(seed)
    fleet = Fleet(folder, slots, seed, webhook_hosts=[receiver.host], **more)
    with receiver.listening(), fleet.running():
        running = fleet.services[0]
        sources = {}
        for number in range(submissions // 2):
            name = f"title-{number:04d}"
            sources[name] = (
                make(_clip(number), running.sources / f"{name}.mp4")
                if number < real
                else running.source(f"{name}.json", seconds=0.005)
            )
        work = [(name, turn) for name in sources for turn in range(2)]
        random.Random(seed).shuffle(work)
        answers = _submitted(fleet, receiver, sources, work, clients, kills)
        ids = {job_id for _, job_id, _ in answers}
        with running.client(patience_seconds=300) as own:
            states = _emptied(fleet, own, len(ids), min(kills, 2))
            published = {title.title for title in own.titles()}
            changes = _all_changes(own)
            asked = {f"/{name}/{turn}" for name, turn in work}
            deadline = time.monotonic() + WEBHOOKS_SECONDS
            while receiver.answered() < asked and time.monotonic() < deadline:
                time.sleep(0.3)
            waiting = len(list(own.deliveries(state="waiting")))
        counted = _tables(running)
        ledger = Counter(running.ledger())
        videos = [path.name for path in sources.values() if path.suffix == ".mp4"]
        again, unexplained = receiver.again(fleet.kills_of_services)
        return {
            "submissions": submissions,
            "clients": clients,
            "kills": fleet.kills,
            "kills_of_services": len(fleet.kills_of_services),
            "answered": len(answers),
            "titles": len(sources),
            "jobs_promised": len(ids),
            "jobs_in_table": counted["jobs"],
            "states": dict(states),
            "titles_published": len(published),
            "publications": changes,
            "versions": counted["versions"],
            "lost": len(ids - counted["ids"]) + len(set(sources) - published),
            "doubled": counted["jobs"] - len(sources) + changes - len(sources),
            "packages_on_disk": len(list(running.data.glob("packages/*/*"))),
            "started_again_after_a_kill": sum(ledger.values()) - len(ledger),
            "videos": len(videos),
            "videos_started_again": sum(ledger[name] - 1 for name in videos),
            "webhooks_asked_for": len(asked),
            "webhooks_lost": len(asked - receiver.answered()),
            "webhooks_refused_first": sum(calls[0][1] == 503 for calls in receiver.calls.values()),
            "webhooks_again_after_a_kill": again - unexplained,
            "webhooks_doubled": unexplained,
            "webhooks_still_waiting": waiting,
            "wall_seconds": round(time.monotonic() - began, 1),
        }


def _submitted(
    fleet: Fleet,
    receiver: Receiver,
    sources: dict[str, Path],
    work: list[tuple[str, int]],
    clients: int,
    kills: int,
) -> list[tuple[str, str, bool]]:
    """Submit from threads, each to its own service, while processes are killed."""
    answers: list[tuple[str, str, bool]] = []
    lock = threading.Lock()
    going = threading.Event()

    def client(number: int, mine: list[tuple[str, int]]) -> None:
        service = fleet.services[number % len(fleet.services)]
        with service.client(patience_seconds=300, timeout_seconds=20) as own:
            for name, turn in mine:
                job = own.submit(
                    sources[name], external_id=name, options=FAST,
                    webhook=f"http://{receiver.host}/{name}/{turn}",
                )  # fmt: skip
                with lock:
                    answers.append((name, job.id, job.merged))

    def killer() -> None:
        for done in range(kills):
            share = (done + 1) / (kills + 1)
            while len(answers) < share * len(work) * 0.9 and not going.is_set():
                time.sleep(0.02)
            fleet.kill_one()

    with ThreadPoolExecutor(clients + 1) as pool:
        killing = pool.submit(killer)
        futures = [pool.submit(client, n, work[n::clients]) for n in range(clients)]
        for future in futures:
            future.result()
        going.set()
        killing.result()
    return answers


def _emptied(fleet: Fleet, own: Any, jobs: int, kills: int) -> Counter[str]:
    """Wait until all jobs have ended, with some kills while they run."""
    late = 0
    while True:
        states = Counter(job.state for job in own.jobs())
        left = states["queued"] + states["running"]
        if not left:
            return states
        if late < kills and left < jobs * (0.6 - 0.3 * late):
            fleet.kill_one()
            late += 1
        time.sleep(0.3)


def _all_changes(own: Any) -> int:
    """Number of changes in the feed."""
    count = since = 0
    while True:
        page = own.changes(since)
        count += len(page.changes)
        since = page.next
        if not page.more:
            return count


def _clip(number: int) -> Recipe:
    """A title of one shot of 1 s, unlike the others."""
    picture = LIFE.replace("seed=7", f"seed={100 + number}")
    return Recipe((Scene(picture, 24),), width=320, height=180)


def _tables(running: ServiceProcess) -> dict[str, Any]:
    database = Database(running.database or running.data / "service.db")
    ids = {row[0] for row in sql(database, "select id from jobs")}
    ((versions,),) = sql(database, "select count(*) from versions")
    database.close()
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
    assert counted["webhooks_asked_for"] == counted["submissions"]
    assert counted["webhooks_lost"] == counted["webhooks_doubled"] == 0, counted


def total(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The sums of what was counted in several rounds."""
    summed: Counter[str] = Counter()
    states: Counter[str] = Counter()
    for counted in rounds:
        states.update(counted["states"])
        summed.update({k: v for k, v in counted.items() if k not in ("states", "clients")})
    return {"rounds": len(rounds), **summed, "states": dict(states)}


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--submissions", type=int, default=1000, help="in all rounds together")
    options.add_argument("--rounds", type=int, default=4)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--clients", type=int, default=50)
    options.add_argument("--kills", type=int, default=4, help="in a round, while clients submit")
    options.add_argument("--real", type=int, default=1, help="videos in a round")
    options.add_argument("--postgres", action="store_true", help="keep the tables in PostgreSQL")
    options.add_argument("--results", type=Path, default=Path("out/chaos"))
    asked = options.parse_args()
    each = asked.submissions // asked.rounds // 2 * 2
    asked.results.mkdir(parents=True, exist_ok=True)
    rounds = []
    for number in range(asked.rounds):
        name = f"seed-{asked.seed}-round-{number}-of-{asked.rounds}-{each}-{asked.kills}.json"
        name = f"postgres-{name}" if asked.postgres else name
        kept = asked.results / name
        if not kept.exists():
            with tempfile.TemporaryDirectory() as folder, database_url(asked.postgres) as url:
                counted = storm(
                    Path(folder) / "s", each, asked.clients, asked.kills, real=asked.real,
                    seed=1000 * asked.seed + number, database=url,
                )  # fmt: skip
            check(counted)
            kept.write_text(json.dumps(counted, indent=1))
        rounds.append(json.loads(kept.read_text()))
        print(f"round {number}: {json.dumps(rounds[-1])}", flush=True)
    print(json.dumps(total(rounds), indent=1))


if __name__ == "__main__":
    main()
