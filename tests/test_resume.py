"""Real kills: the same command run again gives the same bytes and repeats no encode."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster.jobs.run import RunResult
from cluster.package.publish import STAGING
from cluster.store import Store
from encoder import ffmpeg
from encoder.errors import ToolFailed
from tests.cluster_material import DoomedFfmpeg
from tests.running import SMALL_HEIGHTS, SmallRun, contents, records, run_inline

REPOSITORY = Path(__file__).parent.parent
COMMAND = "import sys; from cluster.cli import main; sys.exit(main())"


@pytest.fixture(scope="module")
def undisturbed(small_run: SmallRun) -> SmallRun:
    """The run that all others are compared with."""
    return small_run


def start(source: Path, out: Path, store: Path, workers: int = 2) -> subprocess.Popen[str]:
    """Start the command as a user does, in a process group of its own."""
    words = ["run", str(source), "--out", str(out), "--store", str(store), "--preset", "ultrafast"]
    words += ["--heights", "90", "--recipe-check", "never", "--workers", str(workers), "--json"]
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        start_new_session=True,
    )


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for a command that must succeed; return the ``run`` of its last line."""
    said, complaints = process.communicate(timeout=240)
    assert process.returncode == 0, said[-2000:] + complaints[-2000:]
    last = json.loads(said.splitlines()[-1])
    assert last["type"] == "done"
    run: dict[str, Any] = last["result"]["run"]
    return run


def wait_for(
    process: subprocess.Popen[str], happened: Callable[[], bool], seconds: float = 120
) -> bool:
    """Wait until ``happened`` or the process has ended; tell which."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if happened():
            return True
        if process.poll() is not None:
            return False
        time.sleep(0.005)
    raise AssertionError("it neither happened nor ended")


def children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(process.pid).children(recursive=True)
    return []


def survivors(processes: Sequence[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Return those that still run after a while. A zombie does not."""
    deadline = time.monotonic() + seconds
    alive = list(processes)
    while alive and time.monotonic() < deadline:
        time.sleep(0.02)
        alive = [one for one in alive if _runs(one)]
    return alive


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def check_left_clean(out: Path, store: Path) -> None:
    """Check that nothing of the killed runs is left over."""
    assert [path.name for path in out.parent.iterdir() if path.name.startswith(STAGING)] == []
    Store(store).close()  # opening sweeps what the last to die left
    assert [*(store / "temporary").iterdir()] == []
    assert [path.name for path in (store / "locks").iterdir() if path.name != "repair"] == []


# -- the command -------------------------------------------------------------------------------


def test_the_command_is_killed_again_and_again(undisturbed: SmallRun, tmp_path: Path) -> None:
    chance = random.Random(2)
    out, store = tmp_path / "place" / "out", tmp_path / "store"
    kept: dict[str, tuple[int, int]] = {}
    kills = 0

    def made(number: int) -> bool:
        return len(records(store)) >= number

    def staged() -> bool:
        return out.parent.exists() and any(out.parent.glob(f"{STAGING}*"))

    moments: list[tuple[Callable[[], bool], float]] = [(lambda: True, 3.0)]  # while it starts
    most = len(records(undisturbed.store))
    for number in chance.sample(range(1, most), 2):  # while it predicts, encodes or scores
        moments.append((functools.partial(made, number), 0.5))
    moments.append((staged, 0.05))  # while it writes or verifies the package
    for moment, seconds in moments:
        process = start(undisturbed.source, out, store)
        happened = wait_for(process, moment)
        time.sleep(chance.random() * seconds)
        family = children(process)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += happened
        assert survivors(family, 15) == []
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()
        now = records(store)
        assert now.items() >= kept.items()
        kept = now
        assert not out.exists() or contents(out) == contents(undisturbed.out)
    assert kills == len(moments)

    encoded_before = len(records(store, "encode"))
    run = finish(start(undisturbed.source, out, store))
    assert contents(out) == contents(undisturbed.out)
    ended = records(store)
    assert ended.items() >= kept.items()
    assert ended.keys() == records(undisturbed.store).keys()
    assert run["encoded_now"] == len(records(store, "encode")) - encoded_before
    check_left_clean(out, store)


def test_workers_are_killed(undisturbed: SmallRun, tmp_path: Path) -> None:
    out, store = tmp_path / "out", tmp_path / "store"
    process = start(undisturbed.source, out, store)
    killed: set[int] = set()

    def kill_a_worker() -> bool:
        """Kill the parent of an ffmpeg at work, if there is one."""
        for child in children(process):
            with contextlib.suppress(psutil.NoSuchProcess):
                if "-filter_complex" in child.cmdline() and (worker := child.parent()) is not None:
                    if worker.pid == process.pid or worker.pid in killed:
                        continue
                    worker.kill()
                    killed.add(worker.pid)
                    return True
        return False

    for _ in range(2):
        assert wait_for(process, kill_a_worker)
    run = finish(process)
    assert len(killed) == 2
    assert contents(out) == contents(undisturbed.out)
    assert 0 < run["encoded_now"] <= undisturbed.result.run["encoded_now"]
    assert records(store).keys() == records(undisturbed.store).keys()
    check_left_clean(out, store)


def test_runs_at_the_same_time(undisturbed: SmallRun, tmp_path: Path) -> None:
    """Three runs on one store, two of them into one folder."""
    store = tmp_path / "store"
    outs = [tmp_path / "one", tmp_path / "two", tmp_path / "two"]
    runs = [finish(one) for one in [start(undisturbed.source, out, store, 1) for out in outs]]
    for out in outs:
        assert contents(out) == contents(undisturbed.out)
        check_left_clean(out, store)
    assert records(store).keys() == records(undisturbed.store).keys()
    assert sum(run["encoded_now"] for run in runs) == len(records(store, "encode"))
    assert sum(run["scored_now"] for run in runs) == len(records(store, "score"))


# -- the store ---------------------------------------------------------------------------------


def delivered_media(undisturbed: SmallRun) -> list[str]:
    """Return the names of two different blobs that are segments of the package."""
    opened = Store(undisturbed.store)
    sizes = {segment.bytes for rung in undisturbed.result.ladder.rungs for segment in rung.segments}
    found = []
    for key in records(undisturbed.store, "encode"):
        record = opened.get(key)
        if record is not None and record.blobs["media"].size in sizes:
            found.append(record.blobs["media"].sha256)
    return sorted(found)[:2]


def test_damage_in_the_store_is_made_good(undisturbed: SmallRun, tmp_path: Path) -> None:
    store = tmp_path / "store"
    shutil.copytree(undisturbed.store, store)
    changed, shortened = (
        store / "blobs" / name[:2] / name for name in delivered_media(undisturbed)
    )
    bits = bytearray(changed.read_bytes())
    bits[len(bits) // 2] ^= 1
    changed.write_bytes(bits)
    os.truncate(shortened, shortened.stat().st_size - 100)
    lost = next(iter(records(store, "score")))
    score = store / "records" / lost[:2] / f"{lost}.json"
    score.write_bytes(score.read_bytes()[:-10])

    made = run_inline(undisturbed.source, tmp_path / "out", store, heights=SMALL_HEIGHTS)
    assert (made.run["encoded_now"], made.run["scored_now"]) == (2, 1)
    assert contents(tmp_path / "out") == contents(undisturbed.out)
    for path in (changed, shortened):
        assert path.read_bytes() == (undisturbed.store / path.relative_to(store)).read_bytes()
    scores, before = Store(store).get(lost), Store(undisturbed.store).get(lost)
    assert scores is not None
    assert before is not None
    assert scores.value == before.value


# -- ffmpeg ------------------------------------------------------------------------------------


@pytest.fixture
def doomed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DoomedFfmpeg]:
    """Yield the ffmpeg that this process uses."""
    (tmp_path / "ffmpeg").mkdir()
    doomed = DoomedFfmpeg(tmp_path / "ffmpeg")
    monkeypatch.setenv("SHOTLADDER_FFMPEG", str(doomed.path))
    ffmpeg.binary.cache_clear()
    yield doomed
    ffmpeg.binary.cache_clear()


@pytest.mark.parametrize(
    "words",
    [("libx264", "-filter_complex"), ("libvmaf",), ("volumedetect",), ("pipe:0", "framehash")],
    ids=["encoding", "scoring", "sound", "verifying"],
)
def test_an_ffmpeg_that_is_killed_is_started_again(
    undisturbed: SmallRun, tmp_path: Path, doomed: DoomedFfmpeg, words: tuple[str, ...]
) -> None:
    store = tmp_path / "store"
    shutil.copytree(undisturbed.store, store)
    for stage in ("audio", "encode", "score"):
        lost = next(iter(records(store, stage)))
        (store / "records" / lost[:2] / f"{lost}.json").unlink()
    with doomed.killed(*words, times=1):
        run_inline(undisturbed.source, tmp_path / "out", store, heights=SMALL_HEIGHTS)
    assert doomed.kills == 1
    assert contents(tmp_path / "out") == contents(undisturbed.out)


def test_ffmpegs_that_are_all_killed_are_one_clear_error(
    undisturbed: SmallRun, tmp_path: Path, doomed: DoomedFfmpeg
) -> None:
    out, store = tmp_path / "out", tmp_path / "store"

    def run() -> RunResult:
        return run_inline(undisturbed.source, out, store, heights=SMALL_HEIGHTS)

    with (
        doomed.killed("libvmaf"),
        pytest.raises(ToolFailed, match=r"killed by signal 9.*run the same command again") as said,
    ):
        run()
    assert "\n" not in str(said.value)
    assert "libvmaf" in said.value.context["command"]
    others = re.search(r"and (\d+) more pieces of work", str(said.value))
    assert others is not None
    works = 1 + int(others[1])  # of the first round: points of a shot each, tried three times
    assert doomed.kills == 3 * works
    assert not out.exists()
    kept = records(store, "encode")
    assert len(kept) >= works
    assert records(store, "score") == {}
    made = run()
    assert records(store, "encode").items() >= kept.items()
    assert made.run["encoded_now"] == undisturbed.result.run["encoded_now"] - len(kept)
    assert contents(out) == contents(undisturbed.out)
    check_left_clean(out, store)
