"""A package is published whole or not at all, and files of the user are never touched."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.package import publish
from cluster.package.publish import STAGING, check_output, publishing
from encoder.errors import OutputUnwritable, StoreUnusable
from fixtures.clips import make
from tests.running import SHORT, contents, quick_profile, run_inline


def fill(folder: Path, text: str = "new") -> None:
    (folder / "ladder.json").write_text(text)
    (folder / "video").mkdir()
    (folder / "video" / "00000.m4s").write_text(text)


def publish_text(out: Path, text: str = "new") -> None:
    with publishing(out) as folder:
        fill(folder, text)


def text_of(out: Path) -> str:
    parts = {(out / name).read_text() for name in ("ladder.json", "video/00000.m4s")}
    assert len(parts) == 1
    return parts.pop()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# -- the folder ends up whole ------------------------------------------------------------------


def test_a_new_folder_with_new_parents(tmp_path: Path) -> None:
    publish_text(tmp_path / "a" / "b")
    assert text_of(tmp_path / "a" / "b") == "new"
    assert names(tmp_path / "a") == ["b"]
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o755


def test_an_empty_folder_and_an_older_package_are_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    publish_text(out, "first")
    assert text_of(out) == "first"
    publish_text(out, "second")
    assert text_of(out) == "second"
    assert names(tmp_path) == ["out"]


def test_nothing_is_visible_before_the_end(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with publishing(out) as folder:
        fill(folder)
        assert not out.exists()
        assert folder.parent == tmp_path
    assert text_of(out) == "new"


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    out = tmp_path / "out"
    publish_text(out, "old")

    def fail() -> None:
        with publishing(out) as folder:
            fill(folder)
            raise ValueError("in the middle")

    with pytest.raises(ValueError, match="in the middle"):
        fail()
    assert text_of(out) == "old"
    assert names(tmp_path) == ["out"]


def test_readers_always_find_a_whole_package(tmp_path: Path) -> None:
    """While a package is replaced again and again, it is never missing."""
    out = tmp_path / "out"
    publish_text(out, "0")
    done = threading.Event()
    missing = []

    def watch() -> None:
        while not done.is_set():
            if not (out / "ladder.json").exists():
                missing.append(time.monotonic())

    watcher = threading.Thread(target=watch)
    watcher.start()
    for number in range(1, 60):
        publish_text(out, str(number))
    done.set()
    watcher.join()
    assert missing == []
    assert text_of(out) == "59"


def publish_often(out: Path, name: str, times: int) -> None:
    for number in range(times):
        publish_text(out, f"{name}{number}")


def test_a_crowd_on_one_folder(tmp_path: Path) -> None:
    """All runs succeed, one of them last, and none removes another's staging folder."""
    context = multiprocessing.get_context("fork")
    crowd = [
        context.Process(target=publish_often, args=(tmp_path / "out", name, 40)) for name in "abcd"
    ]
    for one in crowd:
        one.start()
    for one in crowd:
        one.join()
    assert [one.exitcode for one in crowd] == [0, 0, 0, 0]
    assert re.fullmatch("[abcd]39", text_of(tmp_path / "out"))
    assert names(tmp_path) == ["out"]


def test_removed_before_it_was_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For an instant, the staging folder of a living run has no lock."""
    real, swept = fcntl.flock, []

    def flock(descriptor: int, operation: int) -> None:
        if operation == fcntl.LOCK_EX and not swept:
            swept.append(descriptor)
            publish.remove_abandoned(tmp_path)
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    publish_text(tmp_path / "out")
    assert swept
    assert text_of(tmp_path / "out") == "new"
    assert names(tmp_path) == ["out"]


def test_another_run_was_first(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with publishing(out) as folder:
        fill(folder, "slow")
        publish_text(out, "quick")
        assert text_of(out) == "quick"
    assert text_of(out) == "slow"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("number", [errno.ENOSYS, None])
def test_without_an_exchange_in_one_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int | None
) -> None:
    class Library:
        def __init__(self, *_: object, **__: object) -> None:
            if number is not None:
                self.renameat2 = lambda *_: -1

    monkeypatch.setattr(publish.ctypes, "CDLL", Library)
    monkeypatch.setattr(publish.ctypes, "get_errno", lambda: number)
    publish_text(tmp_path / "out", "first")
    publish_text(tmp_path / "out", "second")
    assert text_of(tmp_path / "out") == "second"
    assert names(tmp_path) == ["out"]


# -- leftovers ---------------------------------------------------------------------------------


def die_in_the_middle(out: Path) -> None:
    with publishing(out) as folder:
        fill(folder)
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("name", ["out", "out [1]*", "ö" * 120])
def test_the_next_run_removes_what_a_killed_run_left(tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    process = multiprocessing.get_context("fork").Process(target=die_in_the_middle, args=(out,))
    process.start()
    process.join()
    (left,) = names(tmp_path)
    assert left.startswith(STAGING)
    publish_text(out)
    assert names(tmp_path) == [name]


def test_the_staging_folder_of_a_living_run_stays(tmp_path: Path) -> None:
    with publishing(tmp_path / "one") as folder:
        fill(folder, "one")
        publish_text(tmp_path / "two", "two")
        assert folder.exists()
    assert (text_of(tmp_path / "one"), text_of(tmp_path / "two")) == ("one", "two")
    assert names(tmp_path) == ["one", "two"]


# -- files of the user stay --------------------------------------------------------------------


def refused(out: Path, match: str, keep: tuple[Path, ...] = ()) -> None:
    with pytest.raises(OutputUnwritable, match=match) as caught:
        check_output(out, keep)
    assert "\n" not in str(caught.value)


def test_a_folder_with_other_files(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.doc").write_text("years of work")
    refused(out, r"files that are not a package of shotladder \(thesis.doc\); name an empty")
    (out / "thesis.doc").rename(tmp_path / "thesis.doc")
    publish_text(out)
    check_output(out)
    # A file that the user put into a package would be removed with it.
    (tmp_path / "thesis.doc").rename(out / "thesis.doc")
    refused(out, "thesis.doc")
    assert (out / "thesis.doc").read_text() == "years of work"


def test_files_that_came_during_the_run(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def run() -> None:
        with publishing(out) as folder:
            fill(folder)
            out.mkdir()
            (out / "thesis.doc").write_text("years of work")

    with pytest.raises(OutputUnwritable, match=r"thesis\.doc"):
        run()
    assert names(out) == ["thesis.doc"]
    assert names(tmp_path) == ["out"]


def test_a_file_a_pipe_and_a_link_to_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("file", "pipe", "link"):
        refused(tmp_path / name, f"{name} is not a folder")
    refused(tmp_path / "file" / "out", "cannot be written")
    refused(tmp_path / ("long" * 100), "File name too long")
    assert names(tmp_path) == ["file", "link", "pipe"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for text in ("first", "second"):
        publish_text(tmp_path / "link", text)
        assert (tmp_path / "link").readlink() == Path("real")
        assert text_of(tmp_path / "real") == text
        assert names(tmp_path) == ["link", "real"]


def test_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here" / "video").mkdir(parents=True)
    (tmp_path / "here" / "ladder.json").touch()
    monkeypatch.chdir(tmp_path / "here" / "video")
    refused(tmp_path / "here", "is the working folder")
    refused(Path(), "is the working folder")
    publish_text(Path("../../there"))
    assert text_of(tmp_path / "there") == "new"


def test_what_the_run_needs_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    refused(out, "store lies in", keep=(tmp_path / "clip.mp4", out / "store"))
    publish_text(out)
    refused(out, "00000.m4s lies in", keep=(out / "video" / "00000.m4s",))
    check_output(out, keep=(tmp_path / "out.mp4", tmp_path / "store"))


# -- places that cannot be written -------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    mounted = tmp_path / "small"
    mounted.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", str(mounted)], capture_output=True
    )
    if done.returncode:
        pytest.skip("mounting a small file system is not permitted here")
    yield mounted
    subprocess.run(["umount", str(mounted)], check=True)


def test_a_mount_point_is_named_at_once(small_disk: Path) -> None:
    refused(small_disk, "is a mount point.*name a folder inside it")
    publish_text(small_disk / "out")
    assert text_of(small_disk / "out") == "new"


def test_a_read_only_disk(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    refused(small_disk / "out", "Read-only file system")
    refused(small_disk / "a" / "out", "Read-only file system")


def as_nobody(folder: Path) -> None:
    os.setgid(65534)
    os.setuid(65534)
    refused(folder / "out", "Permission denied")
    refused(folder / "a" / "out", "Permission denied")


def test_a_folder_of_another_user() -> None:
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are for root only
        Path(folder).chmod(0o755)
        process = multiprocessing.get_context("fork").Process(
            target=as_nobody, args=(Path(folder),)
        )
        process.start()
        process.join()
        assert process.exitcode == 0
        assert names(Path(folder)) == []


def test_a_full_disk_and_then_another_one(small_disk: Path, tmp_path: Path) -> None:
    """The run fails at its last step with one line; the next one encodes nothing."""
    profile, store = quick_profile(), tmp_path / "store"
    title = make(SHORT, tmp_path / "title.mp4")
    publish_text(small_disk / "out", "old")
    with pytest.raises(
        OutputUnwritable, match=r"No space left on device.*encodes are kept"
    ) as said:
        run_inline(title, small_disk / "out", store, profile=profile)
    assert "\n" not in str(said.value)
    assert STAGING not in str(said.value)
    assert text_of(small_disk / "out") == "old"
    assert names(small_disk) == ["out"]
    done = run_inline(title, tmp_path / "out", store, profile=profile)
    assert done.run["encoded_now"] == done.run["scored_now"] == 0
    elsewhere = run_inline(title, tmp_path / "other", tmp_path / "store2", profile=profile)
    assert elsewhere.run["encoded_now"] > 0
    assert contents(tmp_path / "other") == contents(tmp_path / "out")


def test_an_error_of_the_store_is_not_one_of_the_output(tmp_path: Path) -> None:
    def run() -> None:
        with publishing(tmp_path / "out"):
            raise StoreUnusable("the store cannot be read")

    with pytest.raises(StoreUnusable):
        run()
    assert names(tmp_path) == []
