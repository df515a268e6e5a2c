"""The job table: leases, the order of jobs, and invariants, under a clock of the test."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from cluster.jobs.request import LadderRequest
from cluster.service.backends import KIND, Sqlite
from cluster.service.database import Base, Database, JobRow, TitleRow, VersionRow
from cluster.service.documents import Failure, Job, Submission
from cluster.service.options import JobOptions
from cluster.service.queue.jobs import MAX_WEBHOOKS, Jobs
from cluster.service.queue.leases import LeasedJob, Leases
from cluster.service.queue.table import JobTable, digest
from cluster.service.queue.work import Work, check_asked, perform, run_options
from cluster.service.sources import SourceFile
from encoder.errors import BadInput, Busy, Conflict, LeaseLost, StoreUnusable
from ladder.profiles import Profile, load_profile, profile_document
from tests.conftest import NewDatabase
from tests.postgres import sql
from tests.running import quick_profile
from tests.service_material import AllKept


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def source(name: str, stamp: str = "1") -> SourceFile:
    return SourceFile(f"file:///m/{name}", 10, stamp)


def asked(name: str, **more: Any) -> Submission:
    return Submission(source=f"/m/{name}", external_id=name, **more)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def table(new_database: NewDatabase, clock: Clock) -> Iterator[JobTable]:
    database = Database(new_database("jobs"))
    yield JobTable(database, clock=clock)
    database.close()


@pytest.fixture
def sqlite_path(table: JobTable) -> Path:
    """The file of tables that an earlier release may have made."""
    if not isinstance(table.database.backend, Sqlite):
        pytest.skip("earlier releases had SQLite alone")
    return table.database.backend.path


@pytest.fixture
def jobs(table: JobTable) -> Jobs:
    return Jobs(table, AllKept(), max_queued=50)


@pytest.fixture
def leases(table: JobTable, clock: Clock) -> Leases:
    return Leases(table, lease_seconds=10, steady_clock=clock)


def publish(session: Session, row: JobRow, package: str | None = None) -> dict[str, Any]:
    """Make what a job has made the current version of its title, as the library does."""
    made = package or f"package-of-{row.title}-{row.source_stamp}"
    number = row.number
    title = session.get(TitleRow, row.title)
    if title is None:
        title = TitleRow(name=row.title, updated=0, documents="")
        session.add(title)
        session.flush()
    title.version, title.package = number, made
    session.add(
        VersionRow(
            title=row.title, version=number, package=made, content_sha256="", job=number,
            published=0,
        )
    )  # fmt: skip
    return {"version": number, "package": made}


def claimed(leases: Leases, owner: str = "me") -> LeasedJob:
    job = leases.claim(owner)
    assert job is not None
    return job


def test_turns_go_by_priority_then_deadline_then_age(jobs: Jobs, leases: Leases) -> None:
    soon, later = "2030-01-01T00:00:00Z", "2031-01-01T00:00:00Z"
    for name, more in (
        ("old", {}), ("low", {"priority": -1}), ("later", {"deadline": later}),
        ("soon", {"deadline": soon}), ("high", {"priority": 5}), ("young", {}),
    ):  # fmt: skip
        jobs.submit(asked(name, **more), source(name), "me")
    turns = [claimed(leases).title for _ in range(6)]
    assert turns == ["high", "soon", "later", "old", "young", "low"]
    assert leases.claim("me") is None


def test_calls_under_a_lost_lease_change_nothing(jobs: Jobs, leases: Leases, clock: Clock) -> None:
    jobs.submit(asked("a"), source("a"), "me")
    first = claimed(leases)
    clock.now += 9
    assert not leases.heartbeat(first)
    clock.now += 9
    assert leases.requeue_lost(lambda owner: True) == 0  # the heartbeat extended the lease
    clock.now += 9
    assert leases.requeue_lost(lambda owner: True) == 0  # which is watched since then
    clock.now += 2
    assert leases.requeue_lost(lambda owner: True) == 1
    second = claimed(leases, "other")
    assert second.lease != first.lease
    published = []

    def publish(session: Any, row: Any) -> Mapping[str, Any]:
        published.append(row.id)
        return {"version": 1, "package": "p"}

    for late in (
        lambda: leases.heartbeat(first),
        lambda: leases.succeed(first, publish),
        lambda: leases.fail(first, Failure(error="E", message="m")),
        lambda: leases.release(first, "r"),
        lambda: leases.record_crash(first, "h"),
        lambda: leases.record_content(first, "0" * 64),
    ):
        with pytest.raises(LeaseLost):
            late()
    assert published == []
    assert leases.succeed(second, publish).state == "succeeded"
    assert published == [second.id]


@pytest.mark.parametrize("step", [6 * 3600.0, -6 * 3600.0])
def test_a_step_of_the_clock_reaps_no_living_runner(
    table: JobTable, jobs: Jobs, leases: Leases, clock: Clock, step: float
) -> None:
    wall = Clock()
    table.clock = wall  # the wall clock, apart from the steady one
    jobs.submit(asked("a"), source("a"), "me")
    job = claimed(leases)
    watching = Leases(table, lease_seconds=10, steady_clock=clock)  # of another process

    def beats(seconds: int) -> None:
        for _ in range(seconds):
            wall.now += 1
            clock.now += 1
            assert not leases.heartbeat(job)
            for one in (leases, watching):
                assert one.requeue_lost(lambda owner: True) == 0

    beats(15)
    wall.now += step
    for one in (leases, watching):  # before the next heartbeat
        assert one.requeue_lost(lambda owner: True) == 0
    beats(15)
    assert jobs.get(job.id).attempts == 1
    clock.now += 9
    for one in (leases, watching):
        assert one.requeue_lost(lambda owner: True) == 0
    clock.now += 2  # and one that has fallen silent is noticed as before
    wall.now += step
    assert watching.requeue_lost(lambda owner: True) + leases.requeue_lost(lambda owner: True) == 1


def test_a_dead_runners_jobs_are_free_at_once(jobs: Jobs, leases: Leases) -> None:
    jobs.submit(asked("a"), source("a"), "me")
    claimed(leases, "dead")
    assert leases.requeue_lost(lambda owner: owner != "dead") == 1
    assert claimed(leases, "living").title == "a"


def test_a_job_that_kills_its_runners_is_given_up(jobs: Jobs, leases: Leases) -> None:
    job = jobs.submit(asked("a"), source("a"), "me").job
    for _ in range(40):
        if leases.claim("x") is None:
            break
        leases.requeue_lost(lambda owner: False)
    ended = jobs.get(job.id)
    assert ended.state == "failed"
    assert ended.failure is not None
    assert "retry" in ended.failure.message


def test_equal_content_waits_for_the_job_that_makes_it(jobs: Jobs, leases: Leases) -> None:
    for name in ("a", "b", "c"):
        jobs.submit(asked(name), source(name), "me")
    a, b = claimed(leases), claimed(leases)
    assert leases.record_content(a, "1" * 64) == (None, None)
    assert leases.record_content(b, "1" * 64) == (None, a.id)
    c = claimed(leases)  # b waits, c does not
    assert c.title == "c"
    assert leases.claim("me") is None
    leases.succeed(a, lambda session, row: {"version": 1, "package": "pp"})
    again = claimed(leases)
    assert again.title == "b"
    assert leases.record_content(again, "1" * 64) == ("pp", a.id)
    assert leases.record_content(c, "2" * 64) == (None, None)


def test_a_job_that_waited_for_a_failed_one_runs_itself(jobs: Jobs, leases: Leases) -> None:
    for name in ("a", "b"):
        jobs.submit(asked(name), source(name), "me")
    a, b = claimed(leases), claimed(leases)
    leases.record_content(a, "1" * 64)
    leases.record_content(b, "1" * 64)
    leases.fail(a, Failure(error="E", message="m"))
    again = claimed(leases)
    assert leases.record_content(again, "1" * 64) == (None, None)


def test_a_waiting_job_lends_its_priority(jobs: Jobs, leases: Leases) -> None:
    jobs.submit(asked("a", priority=-5), source("a"), "me")
    a = claimed(leases)
    leases.record_content(a, "1" * 64)
    jobs.submit(asked("b", priority=9), source("b"), "me")
    assert leases.record_content(claimed(leases), "1" * 64) == (None, a.id)
    jobs.submit(asked("c", priority=3), source("c"), "me")
    leases.release(a, "preempted")
    assert [claimed(leases).title for _ in range(2)] == ["a", "c"]


def test_a_merged_submission_adds_its_urgency_and_its_webhook(
    table: JobTable, jobs: Jobs, leases: Leases
) -> None:
    hooks = [f"https://hooks.example/{number}" for number in range(20)]
    later, soon = "2031-01-01T00:00:00Z", "2030-01-01T00:00:00Z"
    jobs.submit(asked("a", webhook=hooks[0], deadline=later), source("a"), "me")
    again, merged, _ = jobs.submit(
        asked("a", webhook=hooks[1], deadline=soon, priority=4), source("a"), "you"
    )
    assert merged
    assert again.webhooks == hooks[:2]
    assert (again.priority, again.deadline) == (4, datetime(2030, 1, 1, tzinfo=UTC))
    jobs.submit(asked("a", webhook=hooks[1], deadline=later), source("a"), "you")
    job = claimed(leases)
    leases.succeed(job, publish)
    assert enqueued_webhooks(table) == hooks[:2]
    jobs.submit(asked("a", webhook=hooks[2]), source("a"), "they")  # which has ended by now
    assert enqueued_webhooks(table) == hooks[:3]
    for hook in hooks[:MAX_WEBHOOKS]:
        jobs.submit(asked("a", webhook=hook), source("a"), "me")
    with pytest.raises(Conflict, match="webhooks"):
        jobs.submit(asked("a", webhook=hooks[-1]), source("a"), "me")


def test_a_delivery_that_comes_again_after_another_is_a_new_version(
    jobs: Jobs, leases: Leases
) -> None:
    first, *_ = jobs.submit(asked("a"), source("a", "1"), "me")
    leases.record_content(c1 := claimed(leases), "1" * 64)
    leases.succeed(c1, publish)
    assert jobs.submit(asked("a"), source("a", "1"), "me").job.id == first.id
    jobs.submit(asked("a"), source("a", "2"), "me")
    leases.succeed(claimed(leases), publish)
    again, merged, earlier = jobs.submit(asked("a"), source("a", "1"), "me")
    assert (again.id == first.id, merged) == (False, False)
    assert earlier is not None
    assert (earlier.job, earlier.version, earlier.kept) == (first.id, 1, True)
    assert jobs.submit(asked("a"), source("a", "1"), "me")[:2] == (again, True)
    c1_again = claimed(leases)
    assert leases.record_content(c1_again, "1" * 64) == ("package-of-a-1", first.id)
    leases.succeed(c1_again, lambda session, row: publish(session, row, "package-of-a-1"))
    assert jobs.submit(asked("a"), source("a", "1"), "me").job.id == again.id
    assert jobs.submit(asked("a"), source("a", "2"), "me").earlier is not None


def test_a_delivery_that_comes_again_while_another_is_on_its_way_is_the_last(
    jobs: Jobs, leases: Leases
) -> None:
    jobs.submit(asked("a"), source("a", "1"), "me")
    running = claimed(leases)
    jobs.submit(asked("a"), source("a", "2"), "me")
    again, merged, earlier = jobs.submit(asked("a"), source("a", "1"), "me")
    assert (again.id == running.id, merged) == (False, False)
    assert earlier is not None
    assert (earlier.job, earlier.version) == (running.id, None)
    leases.succeed(running, publish)
    leases.succeed(claimed(leases), publish)
    assert claimed(leases).id == again.id


def test_a_job_that_is_being_cancelled_takes_in_no_submission(jobs: Jobs, leases: Leases) -> None:
    jobs.submit(asked("a"), source("a"), "me")
    cancelled = claimed(leases)
    jobs.cancel(cancelled.id)
    again, merged, _ = jobs.submit(asked("a"), source("a"), "me")
    assert not merged
    leases.release(cancelled, "cancelled")
    assert jobs.get(again.id).state == "queued"


def test_a_package_that_lacks_files_is_made_again(
    jobs: Jobs, leases: Leases, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *_ = jobs.submit(asked("a"), source("a"), "me")
    leases.succeed(claimed(leases), publish)
    monkeypatch.setattr(AllKept, "is_whole", lambda self, package: False)
    monkeypatch.setattr(AllKept, "has_store", lambda self, content_sha256: False)
    again, merged, earlier = jobs.submit(asked("a"), source("a"), "me")
    assert (again.id == first.id, merged) == (False, False)
    assert earlier is not None
    assert not earlier.kept


def test_a_forced_submission_is_made_anew(jobs: Jobs, leases: Leases) -> None:
    first, *_ = jobs.submit(asked("a"), source("a"), "me")
    waiting, merged, _ = jobs.submit(asked("a", force=True), source("a"), "me")
    assert (waiting.id, merged) == (first.id, True)  # and is forced now
    job = claimed(leases)
    leases.record_content(job, "1" * 64)
    leases.succeed(job, publish)
    assert jobs.submit(asked("a"), source("a"), "me").merged
    forced, merged, earlier = jobs.submit(asked("a", force=True), source("a"), "me")
    assert (forced.id == first.id, merged) == (False, False)
    assert earlier is not None
    assert earlier.job == first.id
    job = claimed(leases)
    assert leases.record_content(job, "1" * 64) == (None, None)
    assert jobs.submit(asked("a", force=True), source("a"), "me").job.id == forced.id


def test_who_does_not_force_sends_what_earlier_services_know() -> None:
    assert "force" not in asked("a").model_dump()
    assert asked("a", force=True).model_dump()["force"]


def enqueued_webhooks(table: JobTable) -> list[str]:
    return [url for (url,) in sql(table.database, "select url from deliveries order by id")]


def test_unusable_tables_are_an_error_with_a_remedy(tmp_path: Path) -> None:
    database = Database(tmp_path / "jobs.db")
    with sqlite3.connect(tmp_path / "jobs.db") as tables:
        tables.execute("drop table deliveries")
        tables.execute("drop table jobs")
    with pytest.raises(StoreUnusable, match="cannot be used now"):
        Jobs(JobTable(database), AllKept()).submit(asked("a"), source("a"), "me")
    database.close()


def test_a_full_queue_refuses_new_jobs(jobs: Jobs) -> None:
    for number in range(50):
        jobs.submit(asked(f"t{number}"), source(f"t{number}"), "me")
    with pytest.raises(Busy, match="later"):
        jobs.submit(asked("more"), source("more"), "me")
    assert jobs.submit(asked("t3"), source("t3"), "me")[1]  # which is queued already


def test_keys_belong_to_the_client_that_used_them(
    table: JobTable, jobs: Jobs, clock: Clock
) -> None:
    one, *_ = jobs.submit(asked("a"), source("a"), "ann", "k")
    two, *_ = jobs.submit(asked("b"), source("b"), "bob", "k")
    assert one.id != two.id
    with pytest.raises(Conflict):
        jobs.submit(asked("b"), source("b"), "ann", "k")
    clock.now += 8 * 86400
    jobs.submit(asked("b"), source("b"), "ann", "k")
    jobs.drop_expired_keys()
    assert jobs.find_submitted(asked("b"), "ann", "k") is not None
    assert sql(table.database, "select key from idempotency") == [("ann:k",)]


def progress_of(done: int) -> dict[str, Any]:
    return {"type": "stage_progress", "stage": "s", "done": done, "total": 9, "cached": 0}


def test_a_number_of_an_event_is_never_given_out_again(jobs: Jobs, leases: Leases) -> None:
    jobs.submit(asked("a"), source("a"), "me")
    job = claimed(leases)
    seen, numbers = 0, []
    for done in range(5):
        leases.heartbeat(job, [progress_of(done)])
        events = jobs.events_after(job.id, seen).events
        assert [body.get("done") for _, body in events][-1:] == [done]  # or it is lost to listeners
        seen = events[-1][0]
        numbers.append(seen)
    assert numbers == sorted(set(numbers))


def test_events_of_an_earlier_release_keep_their_numbers(
    sqlite_path: Path, table: JobTable, jobs: Jobs, leases: Leases
) -> None:
    job, *_ = jobs.submit(asked("a"), source("a"), "me")
    lease = claimed(leases)
    for done in range(3):
        leases.heartbeat(lease, [progress_of(done)])
    before = jobs.events_after(job.id, 0).events
    downgrade(table.database, "v0001_jobs_and_titles")
    database = Database(sqlite_path)
    after = JobTable(database)
    assert Jobs(after, AllKept()).events_after(job.id, 0).events == before
    with contextlib.closing(sqlite3.connect(sqlite_path)) as tables:
        ((sql,),) = tables.execute("select sql from sqlite_master where name = 'events'")
        assert "AUTOINCREMENT" in sql
        ((last,),) = tables.execute("select seq from sqlite_sequence where name = 'events'")
        assert last == before[-1][0]
    database.close()


def test_the_tables_are_those_of_the_migrations(new_database: NewDatabase) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    database = Database(new_database("new"))
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        if database.backend.local:
            assert connection.exec_driver_sql("pragma journal_mode").scalar() == "wal"
    Database(new_database("new")).close()  # and again changes nothing
    assert sql(database, "select count(*) from alembic_version") == [(1,)]
    downgrade(database, "base")
    database.close()
    Database(new_database("new")).close()


class Life(RuleBasedStateMachine):
    """Any calls in any order: the invariants hold."""

    @initialize(folder=st.uuids())
    def begin(self, folder: object) -> None:
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.clock = Clock()
        self.database = Database(Path(self.folder.name) / "jobs.db")
        table = JobTable(self.database, clock=self.clock)
        self.jobs = Jobs(table, AllKept())
        self.leases = Leases(table, lease_seconds=10, steady_clock=self.clock)
        self.held: list[LeasedJob] = []
        self.promised: set[str] = set()
        self.succeeded: dict[str, int] = {}

    def teardown(self) -> None:
        self.database.close()
        self.folder.cleanup()

    @rule(name=st.sampled_from("abcd"), stamp=st.sampled_from("12"), priority=st.integers(-1, 1))
    def submit(self, name: str, stamp: str, priority: int) -> None:
        job, *_ = self.jobs.submit(asked(name, priority=priority), source(name, stamp), "me")
        self.promised.add(job.id)

    @rule(owner=st.sampled_from(["x", "y"]))
    def claim(self, owner: str) -> None:
        job = self.leases.claim(owner)
        if job is not None:
            self.held.append(job)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), what=st.sampled_from(["succeed", "fail", "release", "crash", "beat",
                                                "learn"]))  # fmt: skip
    def speak(self, data: st.DataObject, what: str) -> None:
        job = data.draw(st.sampled_from(self.held))
        try:
            if what == "succeed":
                self.leases.succeed(job, publish)
                self.succeeded[job.id] = self.succeeded.get(job.id, 0) + 1
            elif what == "fail":
                self.leases.fail(job, Failure(error="E", message="m"))
            elif what == "release":
                self.leases.release(job, "r")
            elif what == "crash":
                self.leases.record_crash(job, "h")
            elif what == "learn":
                self.leases.record_content(job, job.title * 64)
            else:
                progress = {"type": "stage_progress", "stage": "s", "done": 1, "total": 2}
                self.leases.heartbeat(job, [progress | {"cached": 0}])
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
        self.leases.requeue_lost(lambda owner: owner not in dead)

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        if not hasattr(self, "jobs"):
            return
        rows = sql(
            self.database,
            "select id, state, owner, lease, identity, title, source_stamp, number, "
            "cancel_requested from jobs",
        )
        assert {row[0] for row in rows} == self.promised
        identified = {(row[5], row[6]): row[7] for row in rows if row[4] is not None}
        assert len(identified) == sum(row[4] is not None for row in rows)
        for job_id, state, owner, lease, identity, title, _, number, cancelled in rows:
            assert (state == "running") == (owner is not None) == (lease is not None)
            if identity is not None:
                assert state in ("queued", "running", "succeeded")
            elif state in ("queued", "running", "succeeded") and not cancelled:
                # The same delivery was submitted again after another one.
                assert any(row[5] == title and row[7] > number for row in rows)
            assert self.succeeded.get(job_id, 0) == (state == "succeeded")


Life.TestCase.settings = settings(max_examples=10, stateful_step_count=25, deadline=None)
TestLife = Life.TestCase


# -- options -----------------------------------------------------------------------------------


def identity_of(table: JobTable, job: Job) -> str:
    found = sql(table.database, "select identity from jobs where id = :id", id=job.id)
    return str(found[0][0])


DEFAULTS_GIVEN = {name: getattr(JobOptions(), name) for name in JobOptions.model_fields}


def stored(table: JobTable, job: Job) -> dict[str, Any]:
    with table.database.reading() as session:
        return session.scalars(select(JobRow.options).where(JobRow.id == job.id)).one()


OPTIONS_0_1 = {"codec": "x264", "preset": "medium"}
"""Options that every client of release 0.1 sends, unless told otherwise."""


def test_the_identity_of_a_job_is_what_it_was(jobs: Jobs, table: JobTable) -> None:
    """A digest of the submission: clients that submit again after an update get the same job."""
    own = {"profile": profile_document(quick_profile()), **OPTIONS_0_1}
    job, *_ = jobs.submit(asked("a.mp4", options=own), source("a.mp4"), "me")
    identity = "1ed514ea8331f02f8d3d44900436b3d7f48ffe1bde5d59a3ba4e636b33b38717"
    assert identity_of(table, job) == identity


def test_a_built_in_profile_of_another_release_is_another_job(
    jobs: Jobs, table: JobTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, *_ = jobs.submit(asked("a.mp4"), source("a.mp4"), "me")
    same, merged, _ = jobs.submit(
        asked("a.mp4", options={"profile": "default"}), source("a.mp4"), "me"
    )
    assert (same.id, merged) == (job.id, True)
    changed = replace(load_profile(), jnd=5.0)
    monkeypatch.setattr("cluster.service.queue.table.load_profile", lambda name: changed)
    later, merged, _ = jobs.submit(asked("a.mp4"), source("a.mp4"), "me")
    assert (later.id == job.id, merged) == (False, False)


def test_a_retried_job_is_what_its_submission_asks_for_again(jobs: Jobs, leases: Leases) -> None:
    job, *_ = jobs.submit(asked("a.mp4"), source("a.mp4"), "me")
    leases.fail(claimed(leases), Failure(error="E", message="m"))
    jobs.retry(job.id)
    again, merged, _ = jobs.submit(asked("a.mp4"), source("a.mp4"), "me")
    assert (again.id, merged) == (job.id, True)


def test_what_was_not_asked_for_is_not_sent() -> None:
    """Services and clients of release 0.1 read no null as a codec or a preset."""
    assert not {"codec", "preset"} & JobOptions().model_dump(mode="json").keys()
    asked_for = JobOptions(codec="vp9", preset="fast")
    assert JobOptions.model_validate_json(asked_for.model_dump_json()) == asked_for
    assert json.loads(asked_for.model_dump_json())["codec"] == "vp9"


def downgrade(database: Database, revision: str) -> None:
    """Give the tables the form that they had in an earlier release."""
    from alembic import command
    from alembic.config import Config

    settings = Config()
    settings.set_main_option("script_location", "cluster/service/migrations")
    with database.engine.execution_options(**{KIND: "migrate"}).connect() as connection:
        settings.attributes["connection"] = connection
        command.downgrade(settings, revision)
        connection.commit()


# -- jobs of release 0.1 -----------------------------------------------------------------------


@pytest.fixture
def of_0_1(
    sqlite_path: Path, table: JobTable, jobs: Jobs, clock: Clock
) -> Iterator[tuple[Jobs, dict[str, str]]]:
    """Jobs as release 0.1 left them, in tables that this release opens: by name, their ids."""
    own = profile_document(replace(load_profile("archive-0.1"), name="quick"))
    profiles = {"a": "default", "b": "archive", "c": own}
    ids = {name: jobs.submit(asked(name), source(name), "me")[0].id for name in profiles}
    with contextlib.closing(sqlite3.connect(sqlite_path)) as tables:
        for name, profile in profiles.items():
            options = {"profile": profile, **OPTIONS_0_1, "search": None, "heights": None}
            document = json.dumps({**options, "also": []})
            tables.execute("update jobs set options = ? where id = ?", (document, ids[name]))
        tables.commit()
    downgrade(table.database, "v0001_jobs_and_titles")
    database = Database(sqlite_path)
    yield Jobs(JobTable(database, clock=clock), AllKept()), ids
    database.close()


def test_a_job_of_release_0_1_makes_what_it_asked_for(
    of_0_1: tuple[Jobs, dict[str, str]],
) -> None:
    jobs, ids = of_0_1
    for name, profile, cap in (("a", "default-0.1", True), ("b", "archive-0.1", False)):
        options = jobs.get(ids[name]).options
        assert options.profile == profile
        request = LadderRequest.of(run_options(options, Path("a.mp4"), Path("out")))
        assert [str(recipe) for recipe in request.recipes] == ["x264-medium"]
        assert request.profile.source_cap == cap
    own = jobs.get(ids["c"]).options
    check_asked(own)  # although a built-in profile has the name now
    assert isinstance(own.profile, dict)
    assert own.profile == profile_document(replace(load_profile("archive-0.1"), name="quick-0.1"))


def test_a_job_of_release_0_1_can_be_retried_and_asked_for(
    of_0_1: tuple[Jobs, dict[str, str]],
) -> None:
    jobs, ids = of_0_1
    jobs.cancel(ids["a"])
    assert jobs.retry(ids["a"]).state == "queued"
    options = {"profile": "default-0.1", **OPTIONS_0_1}
    same, merged, _ = jobs.submit(asked("a", options=options), source("a"), "me")
    assert (same.id, merged) == (ids["a"], True)
    assert not jobs.submit(asked("a"), source("a"), "me")[1]


def test_a_package_of_release_0_1_is_none_of_this_release(
    sqlite_path: Path, jobs: Jobs, leases: Leases
) -> None:
    """The same words and the same bytes do not mean the same package."""
    old, *_ = jobs.submit(asked("a", options=OPTIONS_0_1), source("a"), "me")
    work = claimed(leases)
    leases.record_content(work, "1" * 64)
    leases.succeed(work, lambda session, row: {"version": 1, "package": "pp"})
    with contextlib.closing(sqlite3.connect(sqlite_path)) as tables:
        ((options,),) = tables.execute("select options from jobs")
        content = digest(["run", "1" * 64, json.loads(options)])  # as release 0.1 made it
        tables.execute("update jobs set content = ?, identity = ?", (content, "0" * 64))
        tables.commit()
    new, merged, _ = jobs.submit(asked("a", options=OPTIONS_0_1), source("a"), "me")
    assert (new.id == old.id, merged) == (False, False)
    assert leases.record_content(claimed(leases), "1" * 64) == (None, None)


def test_a_profile_travels_as_content() -> None:
    content = profile_document(quick_profile())
    options = JobOptions.model_validate({"profile": content, "heights": [180], "preset": "fast"})
    run = run_options(options, Path("a.mp4"), Path("out"))
    assert (run.profile, run.heights, run.preset) == (quick_profile(), (180,), "fast")
    check_asked(options)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"name": "mine"}, "key 'heights' is missing"),
        ({**profile_document(quick_profile()), "rungs": 3}, "unknown key 'rungs'"),
        ({**profile_document(load_profile()), "jnd": 3.0}, "give it another name"),
        ({"jnd": 3.0}, "a name"),
    ],
)
def test_content_that_is_no_profile_is_refused(content: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        check_asked(JobOptions(profile=content))


def test_equal_profiles_are_one_job(jobs: Jobs) -> None:
    content = profile_document(quick_profile())
    first, *_ = jobs.submit(asked("a.mp4", options={"profile": content}), source("a.mp4"), "me")
    same = {**content, "jnd": int(content["jnd"])}
    second, merged, _ = jobs.submit(
        asked("a.mp4", options={"profile": same}), source("a.mp4"), "me"
    )
    assert merged
    assert second.id == first.id


def test_a_job_may_ask_for_several_codecs() -> None:
    check_asked(JobOptions(codec="x264,svtav1"))
    with pytest.raises(ValueError, match="codec"):
        JobOptions(codec="x264,,svtav1")


# -- what a job takes --------------------------------------------------------------------------


def submitted_document(jobs: Jobs, **options: Any) -> dict[str, Any]:
    job, *_ = jobs.submit(asked("a.mp4", options=options), source("a.mp4"), "me")
    return job.options.model_dump(mode="json")


def test_a_job_takes_every_value_that_a_run_takes(jobs: Jobs) -> None:
    """Several codecs, rungs, caps, histograms of throughputs, audio: all reach the run."""
    own = {
        "name": "ours", "based_on": "auto", "codecs": ["x264", "svtav1"], "rung_count": [2, 5],
        "throughputs": [[1e6, 0.25], [8e6, 0.75]], "device_lines": [[720, 0.5]], "peak_ratio": 1.5,
        "source_cap": False, "max_quality": 95, "recipes": {"x264": "fast+ref=2"},
    }  # fmt: skip
    options = JobOptions.model_validate(
        {
            "profile": own, "codec": "x264,vp9", "preset": "fast", "search": "sparse",
            "heights": [360, 720], "policy": "locked", "also": ["ssim"], "recipe_check": "never",
            "tone_map": True, "tail": "cut", "program": 3, "accept_truncated": True,
            "audio_layout": "1+2", "measure_every": 5,
        }
    )  # fmt: skip
    check_asked(options)
    run = run_options(options, Path("a.mp4"), Path("out"))
    assert isinstance(run.profile, Profile)
    assert run.profile.throughputs == ((1e6, 0.25), (8e6, 0.75))
    assert run.profile.recipes["x264"] == "fast+ref=2"
    assert run.profile.recipes["svtav1"] == load_profile("auto").recipes["svtav1"]
    for name in JobOptions.model_fields.keys() - {"profile"}:
        given = getattr(options, name)
        assert getattr(run, name) == (tuple(given) if isinstance(given, list) else given), name


def test_a_profile_over_another_is_the_same_job_as_its_whole_content(jobs: Jobs) -> None:
    short = {"name": "ours", "based_on": "archive", "saturation": 1}
    whole = profile_document(replace(load_profile("archive"), name="ours", saturation=1.0))
    job, *_ = jobs.submit(asked("a.mp4", options={"profile": short}), source("a.mp4"), "me")
    assert job.options.profile == whole
    again = jobs.submit(asked("a.mp4", options={"profile": whole}), source("a.mp4"), "me")
    assert (again.job.id, again.merged) == (job.id, True)


def test_keys_of_the_spacing_are_not_lost_over_a_placed_profile() -> None:
    options = JobOptions(profile={"name": "fine", "based_on": "default", "jnd": 3})
    profile = run_options(options, Path("a"), Path("out")).profile
    assert isinstance(profile, Profile)
    assert (profile.placement, profile.jnd) == ("spacing", 3)


@pytest.mark.parametrize("name", sorted(set(DEFAULTS_GIVEN) - {"profile", "codec", "preset"}))
def test_a_default_that_is_stated_changes_no_identity(
    jobs: Jobs, table: JobTable, name: str
) -> None:
    job, *_ = jobs.submit(asked("a.mp4", options=OPTIONS_0_1), source("a.mp4"), "me")
    options = {**OPTIONS_0_1, name: DEFAULTS_GIVEN[name]}
    same, merged, _ = jobs.submit(asked("a.mp4", options=options), source("a.mp4"), "me")
    assert (same.id, merged) == (job.id, True)
    assert set(stored(table, job)) <= {"profile", "search", "heights", "also", *OPTIONS_0_1}


def test_a_key_of_an_earlier_release_is_known(jobs: Jobs, table: JobTable) -> None:
    """An ingest job that is repeated over an update of the service gets its job."""
    job, *_ = jobs.submit(asked("a.mp4", options=OPTIONS_0_1), source("a.mp4"), "me", "key-1")
    of_0_1 = {
        "source": "/m/a.mp4", "external_id": "a.mp4", "kind": "run", "priority": 0,
        "deadline": None, "webhook": None,
        "options": {**OPTIONS_0_1, "profile": "default", "search": None, "heights": None,
                    "also": []},
    }  # fmt: skip
    ((request,),) = sql(table.database, "select request from idempotency")
    assert request == digest(of_0_1)
    again = jobs.submit(asked("a.mp4", options=OPTIONS_0_1), source("a.mp4"), "me", "key-1")
    assert (again.job.id, again.merged) == (job.id, True)


def test_a_client_of_release_0_1_reads_the_options_of_such_a_job(jobs: Jobs) -> None:
    """It refuses any option that it does not know."""
    told = submitted_document(jobs, **OPTIONS_0_1)
    assert told.keys() == {"profile", "search", "heights", "also", *OPTIONS_0_1}


def test_options_in_answers_that_a_client_does_not_know_are_kept(jobs: Jobs) -> None:
    job, *_ = jobs.submit(asked("a.mp4"), source("a.mp4"), "me")
    answer = job.model_dump(mode="json")
    answer["options"] |= {"tail": "loop", "film_grain": {"strength": 8}}
    read = Job.model_validate_json(json.dumps(answer))
    assert read.options.tail == "loop"
    assert read.options.model_extra == {"film_grain": {"strength": 8}}
    with pytest.raises(ValidationError, match="there is no option 'film_grain'"):
        JobOptions.model_validate(read.options.model_dump())


def test_options_of_a_newer_release_fail_their_job_and_no_other(
    jobs: Jobs, leases: Leases, table: JobTable
) -> None:
    newer, *_ = jobs.submit(asked("a"), source("a"), "me")
    jobs.submit(asked("b"), source("b"), "me")
    document = json.dumps({"film_grain": 8, "also": []})
    sql(table.database, "update jobs set options = :new where id = :id", new=document, id=newer.id)
    assert leases.claim("me") is None
    assert claimed(leases).title == "b"
    failure = jobs.get(newer.id).failure
    assert failure is not None
    assert "there is no option 'film_grain'" in failure.message


def test_weights_are_the_operator_s(tmp_path: Path) -> None:
    work = Work(
        kind="plan", source=source("a.mp4"), content_sha256=None, options=JobOptions(),
        out=tmp_path / "out", inbox=tmp_path, stores=tmp_path, workers=1, scheduler=None,
        weights=tmp_path / "none.safetensors",
    )  # fmt: skip
    with pytest.raises(BadInput, match=r"no weights at .*/none\.safetensors"):
        perform(work, tmp_path / "a.mp4", tmp_path / "store", lambda event: None)
