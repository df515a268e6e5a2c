"""How long a decision for a row takes over HTTP: ``python -m tests.decision_latency``.

Serves made-up titles on loopback, promotes a policy that knows them, and asks for rows of new
viewers, one request after the other on one connection. Prints percentiles in milliseconds, beside
those of ``/healthz``, which show what the machine and the client cost, and the CPU time that the
server took for a request, which says more on a busy machine.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import numpy as np
import psutil

from cluster.policy.files import ContextScale, TrainedPolicy
from cluster.policy.place import Place
from cluster.policy.registry import Registry
from recommender.policy.effects import Block, Effects
from recommender.policy.features import FEATURES
from tests.service_material import service

CONTEXT = 12


def main() -> None:
    parser = argparse.ArgumentParser(description="Time decisions over HTTP.")
    parser.add_argument("--titles", type=int, default=20, help="titles of a row")
    parser.add_argument("--pictures", type=int, default=48, help="pictures of a title")
    parser.add_argument("--requests", type=int, default=500)
    options = parser.parse_args()
    names = [f"film-{number}" for number in range(options.titles)]
    with TemporaryDirectory() as folder, service(Path(folder), slots=2) as one:
        assert one.process is not None
        with one.client() as client:
            jobs = [
                client.submit(
                    one.source(f"{name}.json", artwork=name, stills=options.pictures),
                    external_id=name,
                )
                for name in names
            ]
            for job in jobs:
                client.wait(job.id)
        with httpx.Client(
            base_url=one.url, headers={"Authorization": f"Bearer {one.token}"}
        ) as http:
            first = decided(http, names, "warm-up")
            print(f"{len(first['decisions'])} decisions in a row, policy {first['policy']}")
            server = psutil.Process(one.process.pid)
            report("untrained", http, names, options.requests, server)
            promote(one.data, names, first)
            warm = decided(http, names, "warm-up again")
            print(f"policy {warm['policy']}")
            report("trained", http, names, options.requests, server)
            alive = [timed(lambda: http.get("/healthz")) for _ in range(options.requests)]
            show("/healthz", alive)


def decided(http: httpx.Client, names: list[str], viewer: str) -> Any:
    rng = np.random.default_rng(abs(hash(viewer)) % 2**32)
    context = {f"c{number}": float(rng.normal()) for number in range(CONTEXT)}
    answer = http.post(
        "/v1/decisions",
        json={"request_id": viewer.replace(" ", "-"), "viewer": viewer.replace(" ", "-"),
              "context": context, "titles": names},
    )  # fmt: skip
    answer.raise_for_status()
    return answer.json()


def promote(data: Path, names: list[str], first: Any) -> None:
    """Make a policy live that has effects of every picture."""
    rng = np.random.default_rng(1)
    effects = Effects.untrained(len(FEATURES), CONTEXT)
    effects.shared.mean[:] = rng.normal(size=len(effects.shared.mean)) * 0.1
    for one in first["decisions"]:
        size = CONTEXT + 1
        effects.pictures[one["action_id"]] = Block(rng.normal(size=size), np.eye(size))
    place, scale = Place.of(data), tuple(f"c{number}" for number in range(CONTEXT))
    policy = TrainedPolicy(
        effects, ContextScale(scale, (0.0,) * CONTEXT, (1.0,) * CONTEXT), None, (), 0, 0.0
    )
    policy.write(place.policies)
    Registry(place).promote(policy.name, forced=True, now=time.time() - 2 * 86400)


def report(
    label: str, http: httpx.Client, names: list[str], requests: int, server: psutil.Process
) -> None:
    before = server.cpu_times()
    show(label, [timed(lambda: decided(http, names, f"{label}-{n}")) for n in range(requests)])  # noqa: B023
    after = server.cpu_times()
    spent = after.user + after.system - before.user - before.system
    print(f"{label:12} {1000 * spent / requests:.1f} ms of the server's CPU for a request")


def timed(call: Any) -> float:
    started = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - started)


def show(label: str, times: list[float]) -> None:
    p50, p90, p99 = np.percentile(times, [50, 90, 99])
    print(f"{label:12} p50 {p50:6.1f} ms  p90 {p90:6.1f} ms  p99 {p99:6.1f} ms  of {len(times)}")


if __name__ == "__main__":
    main()
