"""What a cache's objectives rank by: expected requests per play against sessions one by one."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cluster.cli import main
from encoder.errors import BadInput
from recommender.caching import Goal, Objective, plan_cache
from recommender.prefetch.build import STALL_FREE_SECONDS, build_prefetch
from recommender.prefetch.demand import file_demand, ranked_by
from recommender.prefetch.document import START_SECONDS, Prefetch
from tests.service_material import write_package, written_package


def built(**more: int | bool) -> Prefetch:
    return build_prefetch(*written_package("demand", **more))  # type: ignore[arg-type]


def test_the_start_is_as_long_as_the_startup_table_looks() -> None:
    assert START_SECONDS[-1] == STALL_FREE_SECONDS


@pytest.mark.parametrize("sound", [True, False])
def test_expected_requests_are_those_of_sessions(sound: bool) -> None:
    """A client that plays by the table, many times over."""
    prefetch = built(shots=12, rungs=4, sound=sound, sizes=100_000)
    population, rng, sessions = prefetch.population, np.random.default_rng(4), 5_000
    audio = prefetch.audio.bitrate if prefetch.audio else 0
    asked: Counter[str] = Counter()
    for throughput, watched in zip(
        population.median_throughput * np.exp(population.sigma * rng.normal(size=sessions)),
        rng.exponential(population.half_life_seconds / np.log(2), sessions),
        strict=True,
    ):
        rungs = {rung.name: rung for rung in prefetch.rungs}
        affordable = [r for r in prefetch.rungs
                      if (r.bitrate + audio) / population.affordable <= throughput]  # fmt: skip
        later = affordable[-1] if affordable else prefetch.rungs[0]
        first = rungs[prefetch.startup_rung(throughput)]
        uris = set()
        for number, shot in enumerate(prefetch.boundaries):
            if shot.start_seconds <= watched:
                rung = first if shot.start_seconds < 16 else later
                uris |= {rung.init.uri, rung.segments[number].uri}
        if prefetch.audio:
            uris.add(prefetch.audio.init.uri)
            uris |= {p.uri for p in prefetch.audio.segments if p.start_seconds <= watched}
        asked.update(uris)
    files = file_demand(prefetch)
    assert len({file.uri for file in files}) == len(files) == (12 + 1) * (4 + sound)
    for file in files:
        assert asked[file.uri] / sessions == pytest.approx(file.requests, abs=0.03), file.uri
    assert sum(file.requests > 0.05 for file in files if "/00000" in file.uri) > 1 + sound


def test_objectives_rank_by_what_they_say() -> None:
    prefetch = built(shots=9, rungs=3)
    demand = {file.uri: file for file in file_demand(prefetch)}

    def order(*goal: object) -> list[str]:
        return [file.uri for file in ranked_by(prefetch, Goal(*goal))]  # type: ignore[arg-type]

    def falls(uris: list[str], key: str) -> bool:
        values = [eval(key, {"f": demand[uri]}) for uri in uris]
        return values == sorted(values, reverse=True)

    assert falls(order(Objective.OFFLOAD), "f.requests")
    assert falls(order(Objective.HITS), "f.requests / f.bytes")
    starts = order(Objective.STARTS)
    assert falls(starts, "f.requests / f.bytes")
    assert {demand[uri].start_seconds < 16 for uri in starts} == {True}
    weighted = order(Objective.OFFLOAD, 8.0, 5.0)
    assert falls(weighted, "f.requests * (8 if f.start_seconds < 5 else 1)")
    assert weighted != order(Objective.OFFLOAD)
    assert ranked_by(prefetch, Goal(Objective.QUALITY)) == list(prefetch.ranked_files())


def test_net_of_fill_leaves_out_what_is_hardly_asked_for() -> None:
    """A file that is pulled into the cache and asked for once has saved nothing."""
    prefetch, goal = built(shots=9, rungs=3), Goal(Objective.OFFLOAD_NET)
    files = {"a": ranked_by(prefetch, goal)}
    for plays in (0.5, 1.5, 4.0):
        planned = {f.uri for f in plan_cache(files, {"a": plays}, None, goal.least_density)}
        assert planned == {f.uri for f in file_demand(prefetch) if plays * f.requests > 1}
    gross = Goal(Objective.OFFLOAD)
    whole = list(plan_cache({"a": ranked_by(prefetch, gross)}, {"a": 1.5}, None))
    assert len(whole) > len(list(plan_cache(files, {"a": 1.5}, None, goal.least_density)))


def test_wrong_goals() -> None:
    for wrong in ((Objective.QUALITY, 2.0), (Objective.STARTS, 2.0), (Objective.HITS, 0.0),
                  (Objective.HITS, float("inf")), (Objective.HITS, 1.0, -1.0)):  # fmt: skip
        with pytest.raises(BadInput):
            Goal(*wrong)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_package(tmp_path / "one", "one")

    def files(*options: str) -> list[dict[str, object]]:
        assert main(["prefetch", "plan", str(tmp_path / "one"), *options, "--json"]) == 0
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        return lines[:-1]

    for objective in Objective:
        assert files("--objective", objective) or objective is Objective.OFFLOAD_NET
    popular = ("--objective", "offload-net", "--popularity", f"{tmp_path / 'one'}=100")
    assert all(float(file["density"]) > 1 for file in files(*popular))  # type: ignore[arg-type]
    assert len(files(*popular)) > len(files("--objective", "offload-net"))
    assert files("--objective", "offload", "--start-weight", "8", "--start-seconds", "3") != files(
        "--objective", "offload"
    )
    assert main(["prefetch", "plan", str(tmp_path / "one"), "--objective", "hits"]) == 0
    assert "requests/MB" in capsys.readouterr().out
    assert main(["prefetch", "plan", str(tmp_path / "one"), "--objective", "most"]) == 2
    assert "offload-net, hits" in capsys.readouterr().err
    assert main(["prefetch", "plan", str(tmp_path / "one"), "--start-weight", "8"]) == 2
    assert "has no start weight" in capsys.readouterr().err
