"""A store behind a URL, on a server that speaks S3 over HTTP."""

from __future__ import annotations

import hashlib
import itertools
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cluster.store import Blob, objects, open_store, remote
from cluster.store.keys import key
from cluster.store.objects import Objects
from cluster.store.remote import RemoteStore
from encoder.errors import BadInput, StoreUnusable
from tests.s3_material import S3Server, s3

__all__ = ["s3"]

NUMBERS = itertools.count()


@pytest.fixture
def url(s3: S3Server) -> str:
    return s3.bucket(f"bucket-{next(NUMBERS)}") + "/some/folder"


def opened(url: str, tmp_path: Path, name: str = "one", limit: int | None = None) -> RemoteStore:
    return RemoteStore(url, tmp_path / f"cache-{name}", limit)


KEY = key("test", 1, name="a")


def publish(store: RemoteStore, content: bytes, identity: str = KEY) -> Blob:
    blob = store.put_blob(content)
    store.publish(identity, {"size": len(content)}, {"it": blob}, stage="test", version=1)
    return blob


def test_what_one_machine_publishes_another_finds(url: str, tmp_path: Path) -> None:
    one, two = opened(url, tmp_path), opened(url, tmp_path, "two")
    assert two.get(KEY) is None
    blob = publish(one, b"media" * 1000)
    record = two.get(KEY)
    assert record is not None
    assert record.blobs == {"it": blob}
    assert record.value == {"size": 5000}
    assert two.path(blob).read_bytes() == b"media" * 1000
    assert isinstance(open_store(url), RemoteStore)
    assert repr(pickle.loads(pickle.dumps(open_store(url)))) == repr(open_store(url))


def test_the_first_record_stands(url: str, tmp_path: Path) -> None:
    one, two = opened(url, tmp_path), opened(url, tmp_path, "two")
    first = one.publish(KEY, "first", stage="test", version=1)
    assert two.publish(KEY, "second", stage="test", version=1) == first


def test_writers_at_once_leave_one_record(url: str, tmp_path: Path) -> None:
    stores = [opened(url, tmp_path, str(number)) for number in range(4)]
    threads = [
        threading.Thread(target=publish, args=(store, f"{n}".encode() * 99, KEY))
        for n, store in enumerate(stores)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    fresh = opened(url, tmp_path, "fresh")
    record = fresh.get(KEY)
    assert record is not None
    assert hashlib.sha256(fresh.path(record.blobs["it"]).read_bytes()).hexdigest() == (
        record.blobs["it"].sha256
    )


@pytest.mark.parametrize("damage", ["truncated", "changed", "gone"])
def test_a_damaged_object_is_never_served_and_can_be_made_again(
    url: str, tmp_path: Path, damage: str
) -> None:
    one = opened(url, tmp_path)
    blob = publish(one, b"media" * 1000)
    name = f"blobs/{blob.sha256[:2]}/{blob.sha256}"
    if damage == "gone":
        one.objects.delete(name)
    else:
        one.objects.replace(name, b"m" * (5000 if damage == "changed" else 100))
    two = opened(url, tmp_path, "two")
    record = two.get(KEY)
    assert (record is None) is (damage != "changed")  # of equal size: found when it is read
    if record is not None:
        assert not two.intact(record)
    assert two.find(blob) is None
    with pytest.raises(StoreUnusable, match=r"lost the blob .* make it again"):
        two.path(blob)
    assert opened(url, tmp_path, "three").get(KEY) is None
    assert publish(two, b"media" * 1000) == blob
    assert opened(url, tmp_path, "four").path(blob).read_bytes() == b"media" * 1000


def test_a_damaged_record_is_written_again(url: str, tmp_path: Path) -> None:
    one = opened(url, tmp_path)
    publish(one, b"media")
    name = f"records/{KEY[:2]}/{KEY}.json"
    content = one.objects.read(name)
    assert content is not None
    one.objects.replace(name, content[:-10])
    two = opened(url, tmp_path, "two")
    assert two.get(KEY) is None
    publish(two, b"media")
    assert one.objects.read(name) == content


def test_the_cache_stays_within_its_limit(url: str, tmp_path: Path) -> None:
    """Eviction spares blobs that are in use; evicted ones are fetched again."""
    one = opened(url, tmp_path)
    blobs = [one.put_blob(bytes([n]) * 100_000) for n in range(30)]
    small = opened(url, tmp_path, "small", limit=500_000)
    for blob in blobs:
        assert small.path(blob).stat().st_size == 100_000
    held = [small.path(blob) for blob in blobs[:6]]
    small.evict()
    assert all(path.exists() for path in held)  # the last that were handed out
    small.close()
    assert small.evict() <= 500_000
    assert len(list((tmp_path / "cache-small" / "blobs").glob("*/*"))) == 5
    assert small.path(blobs[3]).read_bytes() == bytes([3]) * 100_000
    kept = small.keep(blobs[4], tmp_path)
    small.close()
    small.limit_bytes = 0
    assert small.evict() == 0
    assert kept.read_bytes() == bytes([4]) * 100_000


def test_an_upload_in_parts_that_is_killed_is_not_there(
    s3: S3Server, url: str, tmp_path: Path
) -> None:
    big = tmp_path / "big"
    big.write_bytes(os.urandom(24 * 2**20))
    program = (
        "import sys, pathlib\n"
        "from cluster.store import objects\n"
        "objects.PART_BYTES = 5 * 2**20\n"
        "import s3fs.core\n"
        "from cluster.store.remote import RemoteStore\n"
        "store = RemoteStore(sys.argv[1], pathlib.Path(sys.argv[2]))\n"
        "put = store.objects.filesystem.put_file\n"
        "store.objects.filesystem.put_file = lambda a, b: put(a, b, chunksize=5 * 2**20,"
        " max_concurrency=1)\n"
        "print('ready', flush=True)\n"
        "store.put_blob(pathlib.Path(sys.argv[3]))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, url, str(tmp_path / "cache-killed"), str(big)],
        stdout=subprocess.PIPE,
        text=True,
    )
    one = opened(url, tmp_path)
    bucket = one.objects.base.partition("/")[0]

    def uploads() -> list[object]:
        answer = one.objects.filesystem.call_s3("list_multipart_uploads", Bucket=bucket)
        found: list[object] = answer.get("Uploads", [])
        return found

    deadline = time.monotonic() + 100
    while not uploads() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(uploads()) == 1
    content = big.read_bytes()
    blob = Blob(hashlib.sha256(content).hexdigest(), len(content))
    assert one.find(blob) is None
    assert list(one.objects.list("blobs")) == []
    assert one.put_blob(big) == blob
    assert opened(url, tmp_path, "two").path(blob).read_bytes() == content
    # moto says of every upload that it began in 2010; one that began later is somebody's.
    assert one.objects.abort_uploads(0) == 0
    assert one.objects.abort_uploads(time.time()) == 1
    assert uploads() == []


def test_claims_exclude_machines_and_end_with_their_holder(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "LEASE_SECONDS", 2.0)
    monkeypatch.setattr(remote, "POLL_SECONDS", 0.1)
    one, two = opened(url, tmp_path), opened(url, tmp_path, "two")
    told: list[str] = []

    def wait() -> None:
        with two.claim(KEY):
            told.append("two")

    with one.claim(KEY):
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(4.0)  # twice the lease: it is renewed
        told.append("one")
    thread.join()
    assert told == ["one", "two"]
    assert list(one.objects.list("locks")) == []

    assert one.objects.create(f"locks/{KEY}.0", b"somebody who was killed")
    started = time.monotonic()
    wait()
    assert time.monotonic() - started >= 2.0
    assert list(one.objects.list("locks")) == []


def test_a_server_that_is_away_is_one_line_and_worth_another_try(
    s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cluster.execution.tasks import worth_retrying

    url = s3.bucket("away")
    monkeypatch.setattr(objects, "ATTEMPTS", 1)
    objects.filesystem.cache_clear()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(StoreUnusable, match="make it reachable") as said:
        opened(url, tmp_path).get(KEY)
    assert "\n" not in str(said.value)
    assert worth_retrying(said.value)
    objects.filesystem.cache_clear()


def test_what_is_no_store_is_said() -> None:
    with pytest.raises(BadInput, match="s3://bucket/folder"):
        Objects("nonsense://x")


def test_a_bucket_that_is_not_there_is_said(s3: S3Server, tmp_path: Path) -> None:
    store = opened("s3://no-such-bucket/x", tmp_path)
    with pytest.raises(StoreUnusable) as said:
        store.put_blob(b"x")
    assert "check its name" in str(said.value)
