"""What SQLite's one writer gave for nothing, on PostgreSQL; and a service on such a database."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from cluster.service.backends import backend_of
from cluster.service.database import ChangeRow, Database, JobRow
from cluster.service.documents import Submission
from cluster.service.queue.jobs import Jobs
from cluster.service.queue.leases import Leases
from cluster.service.queue.table import JobTable
from cluster.service.sources import SourceFile
from encoder.errors import BadInput, StoreUnusable
from tests.conftest import NewDatabase
from tests.postgres import Server, sql
from tests.service_material import AllKept, ServiceProcess, service

GIB = 1 << 30


@pytest.fixture
def database(new_database: NewDatabase) -> Iterator[Database]:
    one = Database(new_database("jobs"))
    yield one
    one.close()


def test_a_source_of_three_gibibytes_can_be_submitted(database: Database) -> None:
    jobs = Jobs(JobTable(database), AllKept())
    source = SourceFile("file:///m/a", 3 * GIB, "1")
    job, *_ = jobs.submit(Submission(source="/m/a", external_id="a"), source, "me")
    claimed = Leases(JobTable(database)).claim("me")
    assert claimed is not None
    assert (claimed.id, claimed.source.size) == (job.id, 3 * GIB)


def test_numbers_of_rows_may_be_beyond_32_bits(database: Database) -> None:
    at = 2**40
    with database.writing() as session:
        session.add(ChangeRow(sequence=at, kind="published", title="a", at=0.0))
    with database.reading() as session:
        assert session.scalar(select(ChangeRow.sequence)) == at


def test_a_reader_of_the_feed_misses_no_change_of_two_interleaved_writers(
    database: Database,
) -> None:
    """The first writer is slow to commit; the second one's change may not come before it."""
    begun, seen = threading.Event(), list[int]()

    def slow() -> None:
        with database.writing() as session:
            session.add(ChangeRow(kind="published", title="slow", at=0.0))
            session.flush()
            begun.set()
            time.sleep(0.5)

    def quick() -> None:
        begun.wait(10)
        with database.writing() as session:
            session.add(ChangeRow(kind="published", title="quick", at=0.0))

    threads = [threading.Thread(target=target) for target in (slow, quick)]
    for thread in threads:
        thread.start()
    begun.wait(10)
    while len(seen) < 2:
        with database.reading() as session:
            after = seen[-1] if seen else 0
            query = select(ChangeRow.sequence).where(ChangeRow.sequence > after)
            seen += session.scalars(query.order_by(ChangeRow.sequence)).all()
    for thread in threads:
        thread.join()
    with database.reading() as session:
        in_order = select(ChangeRow.title).order_by(ChangeRow.sequence)
        assert session.scalars(in_order).all() == ["slow", "quick"]
        assert seen == session.scalars(select(ChangeRow.sequence).order_by("sequence")).all()


def test_a_reading_session_sees_one_state(database: Database) -> None:
    with database.reading() as session:
        assert session.scalars(select(ChangeRow.title)).all() == []
        with database.writing() as other:
            other.add(ChangeRow(kind="published", title="a", at=0.0))
        assert session.scalars(select(ChangeRow.title)).all() == []


def test_two_runners_never_claim_one_job(database: Database) -> None:
    jobs, leases = Jobs(JobTable(database), AllKept()), Leases(JobTable(database))
    for name in "abcdefghij":
        source = SourceFile(f"file:///m/{name}", 1, "1")
        jobs.submit(Submission(source=f"/m/{name}", external_id=name), source, "me")
    claimed: list[str] = []

    def claim(owner: str) -> None:
        while (job := leases.claim(owner)) is not None:
            claimed.append(job.id)

    threads = [threading.Thread(target=claim, args=(f"runner-{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claimed) == len(set(claimed)) == 10


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://me:secret@host/db", "names no database that the service can use"),
        ("postgresql://me:secret@host", "names no database"),
        ("service.db", "names no database"),
        ("postgresql://me:secret@host:port/db", "names no database"),
    ],
)
def test_a_url_of_no_database_is_refused_without_its_password(url: str, said: str) -> None:
    with pytest.raises(BadInput, match=said) as refused:
        backend_of(url)
    assert "secret" not in refused.value.message


def test_a_server_that_cannot_be_reached_is_one_line(postgres_server: Server) -> None:
    place = f"postgresql://nobody:secret@/none?host={postgres_server.folder}"
    with pytest.raises(StoreUnusable, match="check that the server runs") as refused:
        Database(place)
    assert "secret" not in refused.value.message
    assert "\n" not in refused.value.message


def test_what_was_committed_is_there_after_the_server_was_started_again(
    postgres_server: Server,
) -> None:
    """Connections that were open are opened anew; meanwhile, one line says what is wrong."""
    database = Database(postgres_server.new_database())
    jobs = Jobs(JobTable(database), AllKept())
    source = SourceFile("file:///m/a", 1, "1")
    job, *_ = jobs.submit(Submission(source="/m/a", external_id="a"), source, "me")
    postgres_server.stop("fast")
    try:
        with pytest.raises(StoreUnusable, match="cannot be used now"):
            jobs.get(job.id)
        with pytest.raises(StoreUnusable):
            database.check_writable()
    finally:
        postgres_server.start()
    assert jobs.get(job.id).id == job.id
    database.check_writable()
    database.close()


def test_a_server_that_takes_no_writes_is_not_ready(postgres_server: Server) -> None:
    place = postgres_server.new_database()
    Database(place).close()
    database = Database(f"{place}%20-cdefault_transaction_read_only%3Don")
    with pytest.raises(StoreUnusable, match="read-only"):
        database.check_writable()
    with pytest.raises(StoreUnusable, match="read-only"), database.writing() as session:
        session.add(ChangeRow(kind="published", title="a", at=0.0))
    database.close()


# -- the service -------------------------------------------------------------------------------


def published(one: ServiceProcess) -> dict[str, Any]:
    with one.client() as client:
        return {title.title: title.version for title in client.titles()}


def test_a_service_on_postgresql_makes_packages_and_survives_kill(
    postgres_server: Server, tmp_path: Path
) -> None:
    url = postgres_server.new_database()
    with service(tmp_path, database=url) as one:
        with one.client() as client:
            first = client.submit(one.source("a.json"), external_id="a")
            assert client.wait(first.id).state == "succeeded"
            running = client.submit(one.source("b.json", seconds=1.0), external_id="b")
        one.kill()
        one.start()
        with one.client() as client:
            assert client.wait(running.id).state == "succeeded"
            assert [change.title for change in client.changes(0).changes] == ["a", "b"]
        assert published(one) == {"a": 1, "b": 1}
        assert not (one.data / "service.db").exists()
    database = Database(url)
    with database.reading() as session:
        assert session.scalars(select(JobRow.state)).all() == ["succeeded", "succeeded"]
    database.close()


def test_a_runner_with_another_folder_is_not_taken_for_dead(
    postgres_server: Server, tmp_path: Path
) -> None:
    """Its lock is in its own folder: its heartbeats tell that it lives."""
    url = postgres_server.new_database()
    with service(tmp_path / "here", database=url) as here, here.client() as client:
        job = client.submit(here.source("a.json", seconds=4.0), external_id="a")
        while client.job(job.id).state == "queued":
            time.sleep(0.02)
        with service(tmp_path / "there", database=url):
            assert client.wait(job.id).state == "succeeded"
    found = Database(url)
    assert sql(found, "select attempts, lost from jobs") == [(1, 0)]
    found.close()
