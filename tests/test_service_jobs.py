"""The table of jobs: leases, turns, and what may never happen, under a clock of our own."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cluster.service.database import Base, Database
from cluster.service.documents import Failure, Submission
from cluster.service.queue.jobs import MOST_WEBHOOKS, Jobs
from cluster.service.queue.leases import Claimed
from cluster.service.sources import Found
from encoder.errors import Busy, Conflict, LeaseLost, StoreUnusable


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def found(name: str, stamp: str = "1") -> Found:
    return Found(f"file:///m/{name}", 10, stamp)


def asked(name: str, **more: Any) -> Submission:
    return Submission(source=f"/m/{name}", external_id=name, **more)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def jobs(tmp_path: Path, clock: Clock) -> Jobs:
    return Jobs(Database(tmp_path / "jobs.db"), clock=clock, lease_seconds=10, most_queued=50)


def claimed(jobs: Jobs, owner: str = "me") -> Claimed:
    job = jobs.claim(owner)
    assert job is not None
    return job


def test_turns_go_by_priority_then_deadline_then_age(jobs: Jobs) -> None:
    soon, later = "2030-01-01T00:00:00Z", "2031-01-01T00:00:00Z"
    for name, more in (
        ("old", {}), ("low", {"priority": -1}), ("later", {"deadline": later}),
        ("soon", {"deadline": soon}), ("high", {"priority": 5}), ("young", {}),
    ):  # fmt: skip
        jobs.submit(asked(name, **more), found(name), "me")
    turns = [claimed(jobs).title for _ in range(6)]
    assert turns == ["high", "soon", "later", "old", "young", "low"]
    assert jobs.claim("me") is None


def test_who_lost_the_lease_is_not_heard(jobs: Jobs, clock: Clock) -> None:
    jobs.submit(asked("a"), found("a"), "me")
    first = claimed(jobs)
    clock.now += 9
    assert not jobs.beat(first)
    clock.now += 9
    assert jobs.reap(lambda owner: True) == 0  # the heartbeat moved it on
    clock.now += 2
    assert jobs.reap(lambda owner: True) == 1
    second = claimed(jobs, "other")
    assert second.lease != first.lease
    published = []

    def publish(session: Any, row: Any) -> Mapping[str, Any]:
        published.append(row.id)
        return {"version": 1, "package": "p"}

    for late in (
        lambda: jobs.beat(first),
        lambda: jobs.succeed(first, publish),
        lambda: jobs.fail(first, Failure(error="E", message="m")),
        lambda: jobs.release(first, "r"),
        lambda: jobs.crashed(first, "h"),
        lambda: jobs.learn_content(first, "0" * 64),
    ):
        with pytest.raises(LeaseLost):
            late()
    assert published == []
    assert jobs.succeed(second, publish).state == "succeeded"
    assert published == [second.id]


def test_a_dead_runners_jobs_are_free_at_once(jobs: Jobs) -> None:
    jobs.submit(asked("a"), found("a"), "me")
    claimed(jobs, "dead")
    assert jobs.reap(lambda owner: owner != "dead") == 1
    assert claimed(jobs, "living").title == "a"


def test_a_job_that_kills_its_runners_is_given_up(jobs: Jobs) -> None:
    job, _ = jobs.submit(asked("a"), found("a"), "me")
    for _ in range(40):
        if jobs.claim("x") is None:
            break
        jobs.reap(lambda owner: False)
    ended = jobs.get(job.id)
    assert ended.state == "failed"
    assert ended.failure is not None
    assert "retry" in ended.failure.message


def test_equal_content_waits_for_who_makes_it(jobs: Jobs) -> None:
    for name in ("a", "b", "c"):
        jobs.submit(asked(name), found(name), "me")
    a, b = claimed(jobs), claimed(jobs)
    assert jobs.learn_content(a, "1" * 64) == (None, None)
    assert jobs.learn_content(b, "1" * 64) == (None, a.id)
    c = claimed(jobs)  # b waits, c does not
    assert c.title == "c"
    assert jobs.claim("me") is None
    jobs.succeed(a, lambda session, row: {"version": 1, "package": "pp"})
    again = claimed(jobs)
    assert again.title == "b"
    assert jobs.learn_content(again, "1" * 64) == ("pp", a.id)
    assert jobs.learn_content(c, "2" * 64) == (None, None)


def test_who_waits_for_a_failure_runs_itself(jobs: Jobs) -> None:
    for name in ("a", "b"):
        jobs.submit(asked(name), found(name), "me")
    a, b = claimed(jobs), claimed(jobs)
    jobs.learn_content(a, "1" * 64)
    jobs.learn_content(b, "1" * 64)
    jobs.fail(a, Failure(error="E", message="m"))
    again = claimed(jobs)
    assert jobs.learn_content(again, "1" * 64) == (None, None)


def test_who_waits_lends_its_priority(jobs: Jobs) -> None:
    jobs.submit(asked("a", priority=-5), found("a"), "me")
    a = claimed(jobs)
    jobs.learn_content(a, "1" * 64)
    jobs.submit(asked("b", priority=9), found("b"), "me")
    assert jobs.learn_content(claimed(jobs), "1" * 64) == (None, a.id)
    jobs.submit(asked("c", priority=3), found("c"), "me")
    jobs.release(a, "preempted")
    assert [claimed(jobs).title for _ in range(2)] == ["a", "c"]


def test_who_asks_again_is_heard(jobs: Jobs) -> None:
    hooks = [f"https://hooks.example/{number}" for number in range(20)]
    later, soon = "2031-01-01T00:00:00Z", "2030-01-01T00:00:00Z"
    jobs.submit(asked("a", webhook=hooks[0], deadline=later), found("a"), "me")
    again, merged = jobs.submit(
        asked("a", webhook=hooks[1], deadline=soon, priority=4), found("a"), "you"
    )
    assert merged
    assert again.webhooks == hooks[:2]
    assert (again.priority, again.deadline) == (4, datetime(2030, 1, 1, tzinfo=UTC))
    jobs.submit(asked("a", webhook=hooks[1], deadline=later), found("a"), "you")
    job = claimed(jobs)
    jobs.succeed(job, lambda session, row: {"version": 1, "package": "p"})
    assert owed(jobs) == hooks[:2]
    jobs.submit(asked("a", webhook=hooks[2]), found("a"), "they")  # which has ended by now
    assert owed(jobs) == hooks[:3]
    for hook in hooks[:MOST_WEBHOOKS]:
        jobs.submit(asked("a", webhook=hook), found("a"), "me")
    with pytest.raises(Conflict, match="webhooks"):
        jobs.submit(asked("a", webhook=hooks[-1]), found("a"), "me")


def owed(jobs: Jobs) -> list[str]:
    with sqlite3.connect(jobs.database.path) as tables:
        return [row[0] for row in tables.execute("select url from deliveries order by id")]


def test_tables_that_cannot_be_used_are_said_so(tmp_path: Path) -> None:
    database = Database(tmp_path / "jobs.db")
    with sqlite3.connect(tmp_path / "jobs.db") as tables:
        tables.execute("drop table deliveries")
        tables.execute("drop table jobs")
    with pytest.raises(StoreUnusable, match="cannot be used now"):
        Jobs(database).submit(asked("a"), found("a"), "me")
    database.close()


def test_a_full_queue_says_so(jobs: Jobs) -> None:
    for number in range(50):
        jobs.submit(asked(f"t{number}"), found(f"t{number}"), "me")
    with pytest.raises(Busy, match="later"):
        jobs.submit(asked("more"), found("more"), "me")
    assert jobs.submit(asked("t3"), found("t3"), "me")[1]  # what is there can be asked for


def test_keys_belong_to_who_used_them(jobs: Jobs, clock: Clock) -> None:
    one, _ = jobs.submit(asked("a"), found("a"), "ann", "k")
    two, _ = jobs.submit(asked("b"), found("b"), "bob", "k")
    assert one.id != two.id
    with pytest.raises(Conflict):
        jobs.submit(asked("b"), found("b"), "ann", "k")
    clock.now += 8 * 86400
    jobs.submit(asked("b"), found("b"), "ann", "k")
    jobs.forget_keys()
    assert jobs.submitted(asked("b"), "ann", "k") is not None
    with sqlite3.connect(jobs.database.path) as tables:
        assert tables.execute("select key from idempotency").fetchall() == [("ann:k",)]


def test_the_tables_are_those_of_the_migrations(tmp_path: Path) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    database = Database(tmp_path / "new.db")
    with database._engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        mode = connection.exec_driver_sql("pragma journal_mode").scalar()
    assert mode == "wal"
    Database(tmp_path / "new.db").close()  # and again changes nothing
    with sqlite3.connect(tmp_path / "new.db") as tables:
        assert tables.execute("select count(*) from alembic_version").fetchone() == (1,)


class Life(RuleBasedStateMachine):
    """Anything in any order: what was promised holds."""

    @initialize(folder=st.uuids())
    def begin(self, folder: object) -> None:
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.clock = Clock()
        self.jobs = Jobs(
            Database(Path(self.folder.name) / "jobs.db"), clock=self.clock, lease_seconds=10
        )
        self.held: list[Claimed] = []
        self.promised: set[str] = set()
        self.succeeded: dict[str, int] = {}

    def teardown(self) -> None:
        self.jobs.database.close()
        self.folder.cleanup()

    @rule(name=st.sampled_from("abcd"), stamp=st.sampled_from("12"), priority=st.integers(-1, 1))
    def submit(self, name: str, stamp: str, priority: int) -> None:
        job, _ = self.jobs.submit(asked(name, priority=priority), found(name, stamp), "me")
        self.promised.add(job.id)

    @rule(owner=st.sampled_from(["x", "y"]))
    def claim(self, owner: str) -> None:
        job = self.jobs.claim(owner)
        if job is not None:
            self.held.append(job)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), what=st.sampled_from(["succeed", "fail", "release", "crash", "beat",
                                                "learn"]))  # fmt: skip
    def speak(self, data: st.DataObject, what: str) -> None:
        job = data.draw(st.sampled_from(self.held))
        try:
            if what == "succeed":
                self.jobs.succeed(job, lambda session, row: {"version": 1, "package": row.title})
                self.succeeded[job.id] = self.succeeded.get(job.id, 0) + 1
            elif what == "fail":
                self.jobs.fail(job, Failure(error="E", message="m"))
            elif what == "release":
                self.jobs.release(job, "r")
            elif what == "crash":
                self.jobs.crashed(job, "h")
            elif what == "learn":
                self.jobs.learn_content(job, job.title * 64)
            else:
                self.jobs.beat(job, [{"type": "stage_progress", "stage": "s", "done": 1, "total": 2,
                                      "cached": 0}])  # fmt: skip
        except LeaseLost:
            pass

    @precondition(lambda self: self.promised)
    @rule(data=st.data(), what=st.sampled_from(["cancel", "retry"]))
    def ask(self, data: st.DataObject, what: str) -> None:
        job_id = data.draw(st.sampled_from(sorted(self.promised)))
        with contextlib.suppress(Conflict):
            getattr(self.jobs, what)(job_id)

    @rule(seconds=st.sampled_from([1, 11]), dead=st.sampled_from(["", "x", "xy"]))
    def time_passes(self, seconds: int, dead: str) -> None:
        self.clock.now += seconds
        self.jobs.reap(lambda owner: owner not in dead)

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        if not hasattr(self, "jobs"):
            return
        with sqlite3.connect(self.jobs.database.path) as tables:
            rows = tables.execute(
                "select id, state, owner, lease, identity, title, source_stamp from jobs"
            ).fetchall()
        assert {row[0] for row in rows} == self.promised
        standing = [row for row in rows if row[1] in ("queued", "running", "succeeded")]
        assert len({(row[5], row[6]) for row in standing}) == len(standing)
        for job_id, state, owner, lease, identity, _, _ in rows:
            assert (state == "running") == (owner is not None) == (lease is not None)
            assert (identity is not None) == (state in ("queued", "running", "succeeded"))
            assert self.succeeded.get(job_id, 0) == (state == "succeeded")


Life.TestCase.settings = settings(max_examples=10, stateful_step_count=25, deadline=None)
TestLife = Life.TestCase
