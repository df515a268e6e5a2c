"""One way from a stage to the store: a result is made once, and kept with all of its parts."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from cluster.stages.stage import Made, find_or_make, publish, require
from cluster.store import Record, Store, key
from encoder.errors import StoreUnusable

KEY = key("count", 1, number=7)


def find(store: Store, calls: list[Path], made: Made | None = None) -> Record:
    def make(scratch: Path) -> Made:
        calls.append(scratch)
        return made or Made({"number": len(calls)})

    return find_or_make(store, KEY, make, stage="count", version=1, title="0123456789abcdef")


def test_a_result_is_made_once(tmp_path: Path) -> None:
    store, calls = Store(tmp_path / "store"), list[Path]()
    first, again = find(store, calls), find(Store(tmp_path / "store"), calls)
    assert first == again == store.get(KEY)
    assert (first.value, first.stage, first.version) == ({"number": 1}, "count", 1)
    assert first.title == "0123456789abcdef"
    assert len(calls) == 1
    assert not calls[0].exists()


def test_who_wants_the_same_at_the_same_time_waits_for_it(tmp_path: Path) -> None:
    place, calls = tmp_path / "store", list[Path]()
    began, may_end = threading.Event(), threading.Event()

    def slow(scratch: Path) -> Made:
        calls.append(scratch)
        began.set()
        assert may_end.wait(30)
        return Made("slow")

    def run() -> None:
        find_or_make(Store(place), KEY, slow, stage="count", version=1)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert began.wait(30)
    may_end.set()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


def test_parts_are_bytes_files_or_blobs(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    there = store.put_blob(b"there already")

    def make(scratch: Path) -> Made:
        (scratch / "file").write_bytes(b"a file")
        blobs = {"bytes": b"some bytes", "file": scratch / "file", "blob": there}
        return Made(blobs=blobs, cpu_seconds={"other": 1.5})

    record = find_or_make(store, KEY, make, stage="count", version=1)
    parts = {name: store.path(blob).read_bytes() for name, blob in record.blobs.items()}
    assert parts == {"bytes": b"some bytes", "file": b"a file", "blob": b"there already"}
    assert record.cpu_seconds == {"other": 1.5}


def test_a_failure_keeps_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")

    def fail(scratch: Path) -> Made:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        find_or_make(store, KEY, fail, stage="count", version=1)
    assert store.get(KEY) is None
    assert find(store, []).value == {"number": 1}


def test_the_first_result_stands(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    first = find(store, [])
    assert publish(store, KEY, Made("another"), stage="count", version=1) == first


def test_a_lost_record_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    record = find(store, [])
    assert require(store, KEY, "a number") == record
    next((tmp_path / "store" / "records").rglob("*.json")).unlink()
    with pytest.raises(StoreUnusable, match="lost a number while it was in use; run the same"):
        require(store, KEY, "a number")
