"""Progress of a whole job, from the events of its stages, under a clock of the test."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.service.queue.progress import MAX_RUNNING_SHARE, WholeProgress


def planned(stage: str, total: int, cached: int = 0) -> dict[str, Any]:
    return {"type": "stage_planned", "stage": stage, "total": total, "cached": cached}


def reached(stage: str, done: int, total: int, cached: int = 0) -> dict[str, Any]:
    return {"type": "stage_progress", "stage": stage, "done": done, "total": total,
            "cached": cached}  # fmt: skip


def stage(name: str, total: int, cached: int = 0) -> Iterator[dict[str, Any]]:
    yield planned(name, total, cached)
    for done in range(cached + 1, total + 1):
        yield reached(name, done, total, cached)


def run(*rounds: int) -> list[dict[str, Any]]:
    """The events of a run whose search has rounds of so many encodes."""
    encodes = [event for n, size in enumerate(rounds, 1) for event in stage(f"encode {n}", size)]
    return [
        *stage("digest", 10), *stage("shots", 40), *stage("sound and text", 1),
        *stage("recipe check", 12), *encodes, *stage("artwork", 1), *stage("package", 4),
        *stage("verify", 4),
    ]  # fmt: skip


NAMES = st.sampled_from(["fetch", "digest", "shots", "recipe check", "encode 1", "encode 2",
                         "encode 3", "package", "verify", "of a later release"])  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(NAMES, st.integers(0, 20), st.integers(0, 20))), st.integers(1, 3))
def test_the_share_never_falls_whatever_the_run_reports(
    told: list[tuple[str, int, int]], codecs: int
) -> None:
    share = 0.25
    progress = WholeProgress("run", share, codecs=codecs)
    for now, (name, done, more) in enumerate(told):
        progress.update(planned(name, done + more), now)
        progress.update(reached(name, done, done + more), now)
        whole = progress.at(now)
        assert share <= whole.share <= MAX_RUNNING_SHARE
        assert whole.remaining_seconds is None or whole.remaining_seconds >= 0
        share = whole.share


def test_a_run_moves_from_its_first_stage_to_its_last() -> None:
    progress = WholeProgress("run")
    shares = []
    for now, event in enumerate(run(100, 30, 10)):
        progress.update(event, now)
        shares.append(progress.at(now).share)
    assert shares == sorted(shares)
    assert shares[0] < 0.05
    assert shares[-1] > 0.99
    assert max(b - a for a, b in pairwise(shares)) < 0.15


def test_the_time_left_is_unknown_first_and_then_about_right() -> None:
    told = run(100, 30, 10)
    progress, late = WholeProgress("run"), []
    for now, event in enumerate(told):
        progress.update(event, now)
        left = progress.at(now).remaining_seconds
        if not str(event["stage"]).startswith("encode"):
            assert left is None or now > 60
        elif event["type"] == "stage_progress" and event["done"] > 20:
            assert left is not None
            late.append(left / (len(told) - now))
    assert late
    assert min(late) > 0.7
    assert max(late) < 1.5


def test_a_plan_of_the_work_makes_the_time_left_right_from_a_third_on() -> None:
    """Encodes of a second, and stages around them that take as long as all encodes."""
    before, rounds, after = 60, (50, 30, 20), 100
    told = [
        *stage("shots", before),
        {"type": "work_planned", "seconds": {"encode": 100.0, "verify": 100.0}, "encodes": 100},
        *[event for n, size in enumerate(rounds, 1) for event in stage(f"encode {n}", size)],
        *stage("verify", after),
    ]
    progress = WholeProgress("run")
    for now, event in enumerate(told):
        progress.update(event, now)
        left = progress.at(now).remaining_seconds
        if now > len(told) / 3 and event.get("done", 0) > 5 and len(told) - now > 20:
            assert left is not None
            assert 0.7 < left / (len(told) - now) < 1.3, (now, event)


def test_further_codecs_are_expected_from_the_beginning() -> None:
    one, two = WholeProgress("run", codecs=1), WholeProgress("run", codecs=2)
    for event in run(100)[:120]:
        one.update(event, 0)
        two.update(event, 0)
    assert two.at(0).share < one.at(0).share


def test_an_estimate_has_a_share_and_a_time_left_too() -> None:
    progress = WholeProgress("plan")
    for now, event in enumerate([*stage("digest", 10), *list(stage("shots", 40))[:21]]):
        progress.update(event, now)
    whole = progress.at(31)
    assert 0.4 < whole.share < 0.6
    assert whole.remaining_seconds is not None
    assert 15 < whole.remaining_seconds < 35
