from __future__ import annotations

import contextlib
import errno
import json
import multiprocessing
import os
import pickle
import random
import resource
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.store import Blob, Record, Store
from cluster.store.files import file_sha256
from cluster.store.keys import key
from encoder.errors import StoreUnusable

KEY = key("encode", 1, crf=23)
OTHER = key("encode", 1, crf=24)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


def publish(store: Store, wanted: str = KEY, content: bytes = b"bits") -> Record:
    blob = store.put_blob(content)
    return store.publish(
        wanted,
        {"bytes": len(content)},
        {"encode": blob},
        {"encode": 1.5},
        stage="encode",
        version=1,
    )


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def blob_file(root: Path) -> Path:
    (found,) = files(root / "blobs")
    return found


def in_child(function: Callable[..., Any], *arguments: Any) -> multiprocessing.Process:
    process = multiprocessing.get_context("fork").Process(target=function, args=arguments)
    process.start()
    return process


def check_sound(root: Path) -> int:
    """Check that everything visible in the store is whole; return the number of records."""
    store = Store(root)
    assert files(root / "temporary") == []
    assert [path.name for path in files(root / "locks") if path.name != "repair"] == []
    for path in files(root / "blobs"):
        assert file_sha256(path) == path.name
    records = files(root / "records")
    for path in records:
        assert store.get(path.stem) is not None
    return len(records)


# -- what it is for ----------------------------------------------------------------------------


def test_what_is_published_is_found_by_another_store(root: Path) -> None:
    published = publish(Store(root))
    found = Store(root).get(KEY)
    assert found == published
    assert found is not None
    assert (found.key, found.stage, found.version) == (KEY, "encode", 1)
    assert found.value == {"bytes": 4}
    assert found.cpu_seconds == {"encode": 1.5}
    assert found.created_by.startswith("shotladder ")
    assert Store(root).path(found.blobs["encode"]).read_bytes() == b"bits"
    assert Store(root).get(OTHER) is None


def test_a_record_is_the_same_published_and_read(root: Path) -> None:
    store = Store(root)
    value = {"tuple": (1, 2.5, "é"), "none": None, "tenth": 0.1}
    assert store.publish(KEY, value, stage="s", version=1) == store.get(KEY)


def test_a_value_that_is_not_json_is_refused_and_leaves_nothing(root: Path) -> None:
    store = Store(root)
    with pytest.raises(TypeError):
        store.publish(KEY, Path("clip"), stage="s", version=1)
    with pytest.raises(ValueError, match="JSON"):
        store.publish(KEY, float("nan"), stage="s", version=1)
    assert files(root / "records") == files(root / "temporary") == []


@pytest.mark.parametrize("bad", ["", "../../etc/passwd", KEY.upper(), KEY + "\n", KEY[:-1]])
def test_keys_and_digests_are_no_paths(root: Path, bad: str) -> None:
    store = Store(root)
    with pytest.raises(ValueError, match="64 hexadecimal"):
        store.get(bad)
    with pytest.raises(ValueError, match="64 hexadecimal"), store.claim(bad):
        pass
    with pytest.raises(ValueError, match="64 hexadecimal"):
        Blob(bad, 1)


def test_blobs_come_from_bytes_copies_and_moves(root: Path, tmp_path: Path) -> None:
    store = Store(root)
    outside = tmp_path / "outside"
    outside.write_bytes(b"x" * 3_000_000)
    copied = store.put_blob(outside)
    assert outside.exists()
    assert copied == Blob(file_sha256(outside), 3_000_000)
    assert store.put_blob(b"x" * 3_000_000) == copied
    with store.scratch() as scratch:
        (scratch / "made").write_bytes(b"y")
        moved = store.put_blob(scratch / "made", move=True)
        assert not (scratch / "made").exists()
    assert store.path(moved).read_bytes() == b"y"
    assert len(files(root / "blobs")) == 2
    with pytest.raises(FileNotFoundError):
        store.put_blob(tmp_path / "missing")


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no second file system to move from")
def test_a_move_from_another_file_system_copies(root: Path, tmp_path: Path) -> None:
    far = Path("/dev/shm") / f"shotladder-{os.getpid()}"
    far.write_bytes(b"far")
    if far.stat().st_dev == tmp_path.stat().st_dev:
        far.unlink()
        pytest.skip("/dev/shm is the same file system")
    store = Store(root)
    assert store.path(store.put_blob(far, move=True)).read_bytes() == b"far"
    assert not far.exists()


def test_the_first_record_stands(root: Path) -> None:
    store = Store(root)
    store.publish(KEY, "first", stage="s", version=1)
    assert store.publish(KEY, "second", stage="s", version=1).value == "first"
    found = store.get(KEY)
    assert found is not None
    assert found.value == "first"


def test_a_store_crosses_processes_as_its_place(root: Path) -> None:
    store = Store(root)
    publish(store)
    copy = pickle.loads(pickle.dumps(store))
    assert copy.get(KEY) == store.get(KEY)
    # The verified blobs of a process are kept between tasks.
    assert pickle.loads(pickle.dumps(store)) is copy


def test_scratch_is_on_the_same_file_system_and_goes(root: Path) -> None:
    with Store(root).scratch() as scratch:
        assert scratch.stat().st_dev == root.stat().st_dev
        (scratch / "deep").mkdir()
        (scratch / "deep" / "file").write_bytes(b"x")
    assert not scratch.exists()
    with contextlib.suppress(RuntimeError), Store(root).scratch() as scratch:
        raise RuntimeError
    assert not scratch.exists()


def test_a_store_leaves_no_folder_when_it_goes(root: Path) -> None:
    store = Store(root)
    publish(store)
    assert list((root / "temporary").iterdir()) != []
    del store
    assert list((root / "temporary").iterdir()) == []


# -- damage ------------------------------------------------------------------------------------


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def extend(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


def remove(path: Path) -> None:
    path.unlink()


DAMAGES = [truncate, flip_a_bit, empty, extend, remove]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_blob_is_never_served_and_made_again(
    root: Path, damage: Callable[[Path], None]
) -> None:
    record = publish(Store(root), content=b"bits" * 100)
    damage(blob_file(root))
    store = Store(root)
    assert store.get(KEY) is None
    assert files(root / "blobs") == []
    with pytest.raises(StoreUnusable, match="run the same command again"):
        store.path(record.blobs["encode"])
    again = publish(store, content=b"bits" * 100)
    assert store.path(again.blobs["encode"]).read_bytes() == b"bits" * 100
    assert Store(root).get(KEY) == again


def test_damage_is_noticed_by_the_process_that_has_verified(root: Path) -> None:
    store = Store(root)
    publish(store)
    assert store.get(KEY) is not None
    flip_a_bit(blob_file(root))
    assert store.get(KEY) is None


def test_a_made_again_blob_may_differ_and_the_record_follows(root: Path) -> None:
    store = Store(root)
    publish(store, content=b"one")
    blob_file(root).unlink()
    again = publish(store, content=b"two")
    assert Store(root).get(KEY) == again
    assert store.path(again.blobs["encode"]).read_bytes() == b"two"


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_is_never_served_and_made_again(
    root: Path, damage: Callable[[Path], None]
) -> None:
    store = Store(root)
    published = publish(store)
    (path,) = files(root / "records")
    damage(path)
    assert Store(root).get(KEY) is None
    assert publish(store) == published
    assert Store(root).get(KEY) == published


def test_every_flipped_bit_of_a_record_is_noticed(root: Path) -> None:
    store = Store(root)
    store.publish(KEY, {"vmaf": 93.25}, stage="s", version=1)
    (path,) = files(root / "records")
    whole = path.read_bytes()
    for place in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            assert store.get(KEY) is None, damaged


def test_a_record_in_another_ones_place_is_not_served(root: Path) -> None:
    store = Store(root)
    publish(store)
    (path,) = files(root / "records")
    stranger = root / "records" / OTHER[:2] / f"{OTHER}.json"
    stranger.parent.mkdir(exist_ok=True)
    stranger.write_bytes(path.read_bytes())
    assert store.get(OTHER) is None


def test_a_record_needs_its_blobs(root: Path) -> None:
    store = Store(root)
    with pytest.raises(StoreUnusable, match="lost the blob"):
        store.publish(KEY, None, {"encode": Blob("0" * 64, 3)}, stage="s", version=1)
    assert files(root / "records") == []


# -- processes ---------------------------------------------------------------------------------


def _publish_for_ever(root: Path, seed: int) -> None:
    store, source = Store(root), random.Random(seed)
    for number in range(10**6):
        wanted = key("s", 1, seed=seed, number=number)
        with store.claim(wanted), store.scratch() as scratch:
            (scratch / "made").write_bytes(source.randbytes(300_000))
            blobs = {
                "moved": store.put_blob(scratch / "made", move=True),
                "bytes": store.put_blob(source.randbytes(300_000)),
            }
            store.publish(wanted, number, blobs, stage="s", version=1)


def test_a_writer_killed_at_any_moment_leaves_only_whole_things(root: Path) -> None:
    source = random.Random(1)
    records = 0
    for seed in range(20):
        before = len(files(root / "records")) if root.exists() else 0
        writer = in_child(_publish_for_ever, root, seed)
        deadline = time.monotonic() + 60
        while len(files(root / "records")) == before and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(source.uniform(0, 0.02))
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        assert writer.exitcode == -signal.SIGKILL
        records = check_sound(root)
    assert records >= 20


def test_the_living_are_not_swept(root: Path) -> None:
    store = Store(root)
    with store.scratch() as scratch, store.claim(KEY):
        (scratch / "file").write_bytes(b"in progress")
        sweeper = in_child(Store, root)
        sweeper.join()
        assert sweeper.exitcode == 0
        assert (scratch / "file").read_bytes() == b"in progress"
        assert (root / "locks" / KEY).exists()
    # A forked child that ends does not take its parent's folder along.
    with store.scratch() as scratch:
        assert scratch.exists()


def _publish_all(root: Path, keys: list[str], barrier: Any, answers: Any) -> None:
    store = Store(root)
    barrier.wait()
    for wanted in keys:
        blobs = {"same": store.put_blob(wanted.encode()), "own": store.put_blob(os.urandom(99))}
        record = store.publish(wanted, os.getpid(), blobs, stage="s", version=1)
        answers.put((wanted, record.value, record.blobs["own"].sha256))


def test_processes_that_publish_the_same_keys_agree(root: Path) -> None:
    keys = [key("s", 1, number=number) for number in range(25)]
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(4), context.Queue()
    writers = [in_child(_publish_all, root, keys, barrier, answers) for _ in range(4)]
    given = [answers.get(timeout=60) for _ in range(4 * len(keys))]
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert len(set(given)) == len(keys)
    assert check_sound(root) == len(keys)
    store = Store(root)
    for wanted, value, own in set(given):
        record = store.get(wanted)
        assert record is not None
        assert (record.value, record.blobs["own"].sha256) == (value, own)


def _make_once(root: Path, keys: list[str], log: Path) -> None:
    store = Store(root)
    for wanted in keys:
        with store.claim(wanted):
            if store.get(wanted) is None:
                with log.open("a") as file:
                    file.write(wanted + "\n")
                time.sleep(0.001)
                store.publish(wanted, None, stage="s", version=1)


def test_under_a_claim_nothing_is_made_twice(root: Path, tmp_path: Path) -> None:
    keys = [key("s", 1, number=number) for number in range(60)]
    log = tmp_path / "log"
    workers = [in_child(_make_once, root, keys, log) for _ in range(5)]
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert Counter(log.read_text().split()) == Counter(keys)
    check_sound(root)


def _hammer(root: Path, shared: Path, rounds: int) -> None:
    store = Store(root)
    for _ in range(rounds):
        with store.claim(KEY):
            shared.write_text(str(int(shared.read_text()) + 1))


def test_a_claim_is_held_by_one_while_its_file_comes_and_goes(root: Path, tmp_path: Path) -> None:
    shared = tmp_path / "count"
    shared.write_text("0")
    workers = [in_child(_hammer, root, shared, 300) for _ in range(4)]
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert shared.read_text() == "1200"
    assert not (root / "locks" / KEY).exists()


def test_a_claim_excludes_threads_too(root: Path) -> None:
    store, inside = Store(root), []

    def work() -> None:
        with store.claim(KEY, OTHER):
            inside.append(1)
            time.sleep(0.01)
            assert inside == [1]
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert inside == []


def _hold(root: Path, ready: Any) -> None:
    with Store(root).claim(KEY):
        ready.set()
        time.sleep(60)


def test_the_claim_of_a_killed_process_ends_with_it(root: Path) -> None:
    ready = multiprocessing.get_context("fork").Event()
    holder = in_child(_hold, root, ready)
    assert ready.wait(60)
    got = threading.Event()

    def wait() -> None:
        with Store(root).claim(KEY):
            got.set()

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert not got.wait(0.2)
    assert holder.pid is not None
    os.kill(holder.pid, signal.SIGKILL)
    assert got.wait(30)
    waiter.join()
    holder.join()


# -- a disk that will not ----------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mounted = tmp_path / "small"
    mounted.mkdir()
    asked = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(mounted)]
    try:
        subprocess.run(asked, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small file system is not permitted here")
    yield mounted
    # Lazily: a file that a failed test left open must not leave the file system behind.
    subprocess.run(["umount", "--lazy", str(mounted)], check=True)


def one_line(error: pytest.ExceptionInfo[StoreUnusable]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def test_a_full_disk_is_one_line_and_the_store_lives_on(small_disk: Path) -> None:
    store = Store(small_disk / "store")
    publish(store)
    ballast = small_disk / "ballast"
    with contextlib.suppress(OSError):
        ballast.write_bytes(bytes(2 << 20))
    with pytest.raises(StoreUnusable) as error:
        publish(store, OTHER, b"x" * 100_000)
    assert "No space left on device" in one_line(error)
    assert "free some space" in one_line(error)
    with pytest.raises(StoreUnusable), store.scratch() as scratch:
        (scratch / "more").write_bytes(b"x" * 100_000)
    assert store.get(KEY) is not None
    assert store.get(OTHER) is None
    ballast.unlink()
    assert publish(store, OTHER, b"x" * 100_000) == store.get(OTHER)
    store.close()
    assert check_sound(small_disk / "store") == 2


def _publish_limited(root: Path, answers: Any) -> None:
    store = Store(root)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
    try:
        publish(store, OTHER, b"x" * 100_000)
    except StoreUnusable as error:
        answers.put((str(error), error.context["errno"]))
    publish(store, KEY, b"x" * 10_000)
    answers.put(store.get(OTHER))


def test_a_write_cut_short_shows_nothing(root: Path) -> None:
    answers = multiprocessing.get_context("fork").Queue()
    child = in_child(_publish_limited, root, answers)
    message, number = answers.get(timeout=60)
    assert number == errno.EFBIG
    assert "\n" not in message
    assert answers.get(timeout=60) is None
    child.join()
    assert check_sound(root) == 1


def _publish_as_nobody(root: Path, answers: Any) -> None:
    if os.geteuid() == 0:
        os.setgroups([])
        os.setegid(65534)
        os.seteuid(65534)
    try:
        store = Store(root)
        publish(store, OTHER)
    except StoreUnusable as error:
        answers.put(str(error))
    else:
        answers.put("no error")


def test_a_store_that_may_not_be_written_is_one_line() -> None:
    # Not below tmp_path, which only its owner may enter.
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "store"
        publish(Store(root))
        folders = [Path(place), root, *(path for path in root.rglob("*") if path.is_dir())]
        for folder in folders:
            folder.chmod(0o555)
        answers = multiprocessing.get_context("fork").Queue()
        child = in_child(_publish_as_nobody, root, answers)
        message = answers.get(timeout=60)
        child.join()
        for folder in folders:
            folder.chmod(0o755)
        assert "Permission denied" in message
        assert "\n" not in message
        assert publish(Store(root)) == Store(root).get(KEY)


def test_a_file_in_the_stores_place_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(StoreUnusable) as error:
        Store(tmp_path / "file")
    assert str(tmp_path / "file") in one_line(error)


def test_records_are_json_for_people(root: Path) -> None:
    publish(Store(root))
    (path,) = files(root / "records")
    document = json.loads(path.read_text())
    assert document["stage"] == "encode"
    assert document["blobs"]["encode"]["size"] == 4
    assert path.stat().st_mode & 0o777 == blob_file(root).stat().st_mode & 0o777 == 0o644
