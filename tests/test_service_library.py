"""Published titles on disk: versions, grace, shared bytes, takedowns, under a clock of our own."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.service.backends import Sqlite
from cluster.service.database import Database
from cluster.service.documents import Failure, Submission
from cluster.service.library.library import Library
from cluster.service.queue.jobs import Jobs
from cluster.service.queue.leases import Leases
from cluster.service.queue.table import JobTable
from cluster.service.sources import SourceFile
from encoder.errors import Conflict, LeaseLost, NotThere
from tests.conftest import NewDatabase
from tests.service_material import write_package

GRACE = 100.0


class Shelf:
    """Jobs and a library, without processes."""

    def __init__(self, folder: Path, place: Path | str | None = None) -> None:
        self.now = 1_000_000.0
        self.database = Database(place or folder / "service.db")
        table = JobTable(self.database, clock=lambda: self.now)
        self.library = Library(self.database, folder, grace_seconds=GRACE, clock=lambda: self.now)
        self.jobs, self.leases = Jobs(table, self.library), Leases(table)
        self.folder = folder
        self._count = 0

    def begin(self, title: str, seed: str) -> tuple[str, object]:
        self._count += 1
        source = SourceFile(f"file:///m/{seed}", 1, str(self._count))
        self.jobs.submit(Submission(source="/m", external_id=title), source, "ann")
        job = self.leases.claim("me")
        assert job is not None
        return seed, job

    def finish(self, begun: tuple[str, object], **more: Any) -> str:
        seed, job = begun
        sha = hashlib.sha256(seed.encode()).hexdigest()
        self.leases.record_content(job, sha)  # type: ignore[arg-type]
        (self.folder / "stores" / sha).mkdir(exist_ok=True)
        out = self.folder / "work" / "out"
        shutil.rmtree(out, ignore_errors=True)
        write_package(out, seed, **more)
        with self.library.files.locked():
            package = self.library.files.admit(out)
            self.leases.succeed(
                job,  # type: ignore[arg-type]
                lambda session, row: self.library.publish(session, row, package),
            )
        self.library.refresh()
        return package

    def publish(self, title: str, seed: str, **more: Any) -> str:
        return self.finish(self.begin(title, seed), **more)

    def files(self) -> set[str]:
        return {
            str(path.relative_to(self.folder))
            for name in ("packages", "bundles", "media", "stores")
            for path in (self.folder / name).rglob("*")
            if path.is_file() or path.parent.name == "stores"
        }


@pytest.fixture
def shelf(tmp_path: Path, new_database: NewDatabase) -> Iterator[Shelf]:
    one = Shelf(tmp_path, new_database("service"))
    yield one
    one.database.close()


@pytest.fixture
def path(shelf: Shelf) -> Path:
    """The file of the tables, which a backup puts back."""
    if not isinstance(shelf.database.backend, Sqlite):
        pytest.skip("a file is put back")
    return shelf.database.backend.path


def test_files_of_a_replaced_version_go_after_the_grace_period(shelf: Shelf) -> None:
    old = shelf.publish("film", "one")
    before = shelf.files()
    shelf.now += 10
    new = shelf.publish("film", "two")
    assert shelf.library.sweep() == 0
    assert before < shelf.files()
    shelf.now += GRACE - 1
    assert shelf.library.sweep() == 0
    shelf.now += 2
    assert shelf.library.sweep() == 1
    assert shelf.library.sweep() == 0
    assert not any(old in name for name in shelf.files())
    assert not before & shelf.files()
    assert any(new in name for name in shelf.files())
    assert shelf.library.was_published(old)
    current = shelf.library.current("film")
    assert current is not None
    assert (current.version, current.package) == (2, new)


def test_bytes_that_two_titles_share_stay_for_the_other(shelf: Shelf) -> None:
    package = shelf.publish("one", "same")
    assert shelf.publish("two", "same") == package
    before = shelf.files()
    shelf.library.withdraw("one", "ann", shelf.jobs.request_cancel)
    assert shelf.files() == before
    assert shelf.library.current("two") is not None
    shelf.library.withdraw("two", "ann", shelf.jobs.request_cancel)
    assert shelf.files() == set()


def test_a_segment_that_two_packages_share_is_one_file(shelf: Shelf) -> None:
    """Another artwork makes another package of the same media."""
    one = shelf.publish("one", "same", artwork="one")
    two = shelf.publish("two", "same", artwork="two")
    assert one != two
    segment = "video/v1-180p/00000.m4s"
    first, second = (shelf.library.files.folder(package) / segment for package in (one, two))
    assert first.samefile(second)
    digest = hashlib.sha256(first.read_bytes()).hexdigest()
    shelf.library.withdraw("one", "ann", shelf.jobs.request_cancel)
    assert not first.exists()
    path = shelf.library.files.media(digest)
    assert path is not None
    assert path.read_bytes() == second.read_bytes()
    shelf.library.withdraw("two", "ann", shelf.jobs.request_cancel)
    assert shelf.library.files.media(digest) is None


def test_an_older_delivery_that_ends_later_never_becomes_current(shelf: Shelf) -> None:
    older, newer = shelf.begin("film", "older"), shelf.begin("film", "newer")
    package = shelf.finish(newer)
    shelf.finish(older)
    current = shelf.library.current("film")
    assert current is not None
    assert current.package == package
    assert [change.kind for change in shelf.library.changes(0, 9).changes] == ["published"]
    versions = shelf.library.title("film").versions
    assert [(version.version, version.retired_at is None) for version in versions] == [
        (2, False), (1, True)
    ]  # fmt: skip


def test_an_earlier_cut_comes_again_and_stays_whole(shelf: Shelf) -> None:
    first = shelf.publish("film", "one")
    shelf.publish("film", "two")
    assert shelf.publish("film", "one") == first
    detail = shelf.library.title("film")
    assert (detail.version, detail.package) == (3, first)
    shelf.now += GRACE + 1
    assert shelf.library.sweep() == 2
    assert shelf.library.is_whole(first)
    assert shelf.library.has_store(hashlib.sha256(b"one").hexdigest())
    assert not shelf.library.has_store(hashlib.sha256(b"two").hexdigest())
    versions = shelf.library.title("film").versions
    assert [(version.version, version.current, version.readable) for version in versions] == [
        (3, True, True), (2, False, False), (1, False, False)
    ]  # fmt: skip


def test_an_earlier_version_is_made_current_again(shelf: Shelf) -> None:
    first, second = shelf.publish("film", "one"), shelf.publish("film", "two")
    late = shelf.begin("film", "late")
    shelf.now += 10
    detail = shelf.library.rollback("film", 1, "ann")
    assert (detail.version, detail.package) == (1, first)
    current = shelf.library.current("film")
    assert current is not None
    assert current.package == first
    assert [change.kind for change in shelf.library.changes(1, 9).changes] == ["replaced"] * 2
    assert shelf.library.audit("film")[-1].action == "rolled back"
    assert shelf.library.rollback("film", 1, "ann") == detail  # which changes nothing
    assert len(shelf.library.changes(0, 9).changes) == 3
    shelf.now += GRACE + 1
    assert shelf.library.sweep() == 1
    assert shelf.library.is_whole(first)
    assert not shelf.library.is_whole(second)
    with pytest.raises(Conflict, match="no longer kept"):
        shelf.library.rollback("film", 2, "ann")
    with pytest.raises(NotThere, match="no version 7"):
        shelf.library.rollback("film", 7, "ann")
    with pytest.raises(NotThere, match="no title"):
        shelf.library.rollback("nobody", 1, "ann")
    shelf.finish(late)
    assert shelf.library.title("film").version == 3


def test_an_older_delivery_that_ends_after_a_rollback_never_becomes_current(shelf: Shelf) -> None:
    first = shelf.publish("film", "one")
    older, newer = shelf.begin("film", "older"), shelf.begin("film", "newer")
    shelf.finish(newer)
    shelf.library.rollback("film", 1, "ann")
    shelf.finish(older)
    assert shelf.library.title("film").package == first


def test_a_sweep_leaves_what_a_rollback_has_made_current_meanwhile(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = shelf.publish("film", "one")
    shelf.publish("film", "two")
    shelf.now += GRACE + 1
    locked = shelf.library.files.locked

    @contextlib.contextmanager
    def locked_late() -> Iterator[None]:
        monkeypatch.setattr(shelf.library.files, "locked", locked)
        shelf.library.rollback("film", 1, "ann")
        with locked():
            yield

    monkeypatch.setattr(shelf.library.files, "locked", locked_late)
    shelf.library.sweep()
    assert shelf.library.is_whole(first)


@pytest.mark.parametrize("damage", ["truncated", "removed", "media", "document", "bundle"])
def test_a_package_that_lacks_files_is_made_whole_by_the_next_delivery(
    shelf: Shelf, damage: str
) -> None:
    package = shelf.publish("film", "one")
    files = shelf.library.files
    segment = files.folder(package) / "video/v1-180p/00000.m4s"
    media = files.media(hashlib.sha256(segment.read_bytes()).hexdigest())
    assert media is not None
    if damage == "truncated":
        segment.write_bytes(b"")
    elif damage == "document":
        (files.folder(package) / "master.m3u8").write_text("")
    else:
        {"removed": segment, "media": media, "bundle": files.bundles.path(package)}[damage].unlink()
    assert not shelf.library.is_whole(package)
    if damage == "document":  # its digest is another package's
        return
    assert shelf.publish("film", "one") == package
    assert shelf.library.is_whole(package)
    assert shelf.library.title("film").version == 1


def backup(shelf: Shelf, path: Path) -> bytes:
    shelf.database.close()
    with sqlite3.connect(path) as tables:
        return tables.serialize()


def restored(shelf: Shelf, path: Path, tables: bytes) -> Library:
    """The library of a service that was started again after its tables were restored."""
    shelf.database.close()
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.write_bytes(tables)
    return Library(Database(path), shelf.folder, clock=lambda: shelf.now)


def test_consumers_of_the_feed_notice_that_the_tables_were_restored(
    shelf: Shelf, path: Path
) -> None:
    shelf.publish("film", "one")
    saved = backup(shelf, path)
    shelf.publish("film", "two")
    before = shelf.library.changes(0, 9)
    assert shelf.library.changes(before.next, 9, before.epoch).epoch == before.epoch
    began_again = Library(shelf.database, shelf.folder)
    assert began_again.changes(before.next, 9, before.epoch).changes == []  # it was only stopped
    library = restored(shelf, path, saved)
    for epoch in (before.epoch, None):
        with pytest.raises(Conflict, match="GET /v1/titles") as refused:
            library.changes(before.next, 9, epoch)
        assert refused.value.context["reason"] == "resync"
    snapshot = library.titles(9)
    assert snapshot.epoch != before.epoch
    assert library.changes(snapshot.sequence, 9, snapshot.epoch).changes == []
    with pytest.raises(Conflict):  # the number exists, but counts another change
        library.changes(1, 9, before.epoch)
    library.database.close()


def test_tables_that_were_restored_elsewhere_are_in_another_epoch(
    shelf: Shelf, path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    shelf.publish("film", "one")
    epoch = shelf.library.changes(0, 9).epoch
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "service.db").write_bytes(backup(shelf, path))
    other = Library(Database(elsewhere / "service.db"), elsewhere)
    assert other.changes(0, 9).epoch != epoch
    other.database.close()


def test_tables_that_are_restored_under_a_service_are_noticed(shelf: Shelf, path: Path) -> None:
    shelf.publish("film", "one")
    with sqlite3.connect(path) as tables:
        saved = sqlite3.connect(":memory:")
        tables.backup(saved)
    shelf.publish("film", "two")
    shelf.publish("more", "more")
    before = shelf.library.changes(0, 9)
    with sqlite3.connect(path) as tables:
        saved.backup(tables)
    saved.close()
    shelf.library.refresh()
    assert shelf.library.current("more") is None
    current = shelf.library.current("film")
    assert current is not None
    assert current.version == 1
    assert shelf.library.changes(0, 9).epoch != before.epoch


def test_changes_say_what_changed(shelf: Shelf) -> None:
    shelf.publish("film", "one", artwork="one")
    shelf.publish("film", "one", artwork="two")
    shelf.publish("film", "two")
    shelf.library.rollback("film", 1, "ann")
    shelf.library.withdraw("film", "ann", shelf.jobs.request_cancel)
    changes = shelf.library.changes(0, 9).changes
    everything = ["ladder", "prefetch", "artwork"]
    assert [(change.kind, change.changed) for change in changes] == [
        ("published", everything),
        ("replaced", ["artwork"]),
        ("replaced", everything),
        ("replaced", everything),
        ("withdrawn", everything),
    ]


def test_a_snapshot_says_at_which_number_it_was_read(shelf: Shelf) -> None:
    assert shelf.library.titles(9).sequence == 0
    for name in ("a", "b", "c"):
        shelf.publish(name, name)
    first = shelf.library.titles(2)
    shelf.publish("b", "b2")
    second = shelf.library.titles(2, first.next)
    assert (first.sequence, second.sequence, first.epoch) == (3, 4, second.epoch)
    (missed,) = shelf.library.changes(first.sequence, 9, first.epoch).changes
    assert (missed.title, missed.version) == ("b", 2)


def test_what_a_change_tells_of_can_be_read(shelf: Shelf) -> None:
    other = Library(shelf.database, shelf.folder, grace_seconds=GRACE)
    package = shelf.publish("film", "one")
    assert other.changes(0, 9).changes[0].package == package
    current = other.current("film")
    assert current is not None
    assert current.package == package


def test_the_same_package_again_is_the_same_version(shelf: Shelf) -> None:
    assert shelf.publish("film", "one") == shelf.publish("film", "one")
    assert len(shelf.library.title("film").versions) == 1
    assert len(shelf.library.changes(0, 9).changes) == 1


def test_another_process_sees_what_is_published_and_withdrawn(shelf: Shelf) -> None:
    other = Library(shelf.database, shelf.folder, grace_seconds=GRACE)
    package = shelf.publish("film", "one")
    assert other.current("film") is None
    other.refresh()
    current = other.current("film")
    assert current is not None
    assert other.files.bundles.get(package).entry("ladder") is not None
    assert other.files.bundles.get(package).entry("report") is None
    shelf.library.withdraw("film", "ann", shelf.jobs.request_cancel)
    other.refresh()
    current = other.current("film")
    assert current is not None
    assert current.version is None
    with pytest.raises(NotThere, match="withdrawn"):
        other.title("film")
    with pytest.raises(NotThere, match="no title"):
        other.title("nobody")


def test_a_takedown_cancels_what_is_not_published_yet(shelf: Shelf) -> None:
    begun = shelf.begin("film", "one")
    line = shelf.library.withdraw("film", "ann", shelf.jobs.request_cancel)
    assert (line.action, len(line.detail["cancelled"])) == ("withdrawn", 1)
    with pytest.raises(LeaseLost, match="cancelled"):
        shelf.finish(begun)
    assert shelf.library.current("film") is None
    assert shelf.library.changes(0, 9).changes == []
    with pytest.raises(NotThere, match="no title"):
        shelf.library.withdraw("nobody", "ann", shelf.jobs.request_cancel)


def test_a_held_name_takes_no_jobs_until_it_is_released(shelf: Shelf) -> None:
    asked = Submission(source="/m", external_id="film")
    source = SourceFile("file:///m/one", 1, "1")
    failed = shelf.jobs.submit(asked, source, "ann", "key").job
    lease = shelf.leases.claim("me")
    assert lease is not None
    shelf.leases.fail(lease, Failure(error="E", message="m"))
    line = shelf.library.withdraw("film", "ann", shelf.jobs.request_cancel, hold=True)
    assert (line.action, line.detail["held"]) == ("held", True)
    for again in (
        lambda: shelf.jobs.submit(asked, source, "ann"),
        lambda: shelf.jobs.find_submitted(asked, "ann", "key"),
        lambda: shelf.jobs.retry(failed.id),
    ):
        with pytest.raises(Conflict, match="`shotladder release film`") as refused:
            again()
        assert refused.value.context["reason"] == "title_held"
    plan = asked.model_copy(update={"kind": "plan"})
    assert shelf.jobs.submit(plan, source, "ann").job.state == "queued"  # it publishes nothing
    shelf.library.withdraw("film", "ann", shelf.jobs.request_cancel)
    assert [hold.title for hold in shelf.library.holds()] == ["film"]
    shelf.library.release("film", "bob")
    assert shelf.library.holds() == []
    with pytest.raises(NotThere, match="not held"):
        shelf.library.release("film", "bob")
    assert shelf.jobs.retry(failed.id).state == "queued"
    actions = [line.action for line in shelf.library.audit("film")]
    assert actions == ["held", "withdrawn", "released"]


def test_a_takedown_that_was_cut_off_is_finished_by_the_next_sweep(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.publish("film", "one")

    def killed() -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shelf.library, "sweep", killed)
        with pytest.raises(KeyboardInterrupt):
            shelf.library.withdraw("film", "ann", shelf.jobs.request_cancel)
    again = Library(shelf.database, shelf.folder, grace_seconds=GRACE, clock=lambda: shelf.now)
    assert again.sweep() == 1
    assert shelf.files() == set()


def test_a_package_that_was_never_published_is_dropped(shelf: Shelf) -> None:
    kept = shelf.publish("kept", "kept")
    before = shelf.files()
    out = shelf.folder / "work" / "out"
    write_package(out, "one")
    package = shelf.library.files.admit(out)
    assert before < shelf.files()
    assert shelf.library.drop_unpublished([kept]) == 0
    assert shelf.library.drop_unpublished() == 1
    assert not shelf.library.files.folder(package).exists()
    assert shelf.files() == before


def test_a_package_without_its_row_is_taken_in_again(shelf: Shelf) -> None:
    """Killed between the files and the transaction: the next attempt makes the same package."""
    begun = shelf.begin("film", "one")
    out = shelf.folder / "work" / "out"
    write_package(out, "one")
    package = shelf.library.files.admit(out)
    shelf.library.files.bundles.path(package).unlink()
    assert shelf.finish(begun) == package
    assert shelf.library.files.bundles.get(package).entry("start/4/0") is not None
