"""Faults on a cluster: the package is that of an undisturbed run, and no encode is repeated."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster.jobs.run import RunResult
from encoder.source.planning import plan_source
from fixtures.clips import make
from tests.cluster_material import (
    DoomedFfmpeg,
    Site,
    command,
    ffmpegs,
    kill_tree,
    loaded,
    site,
    until,
)
from tests.running import SMALL, contents, records, run_inline
from tests.s3_material import s3_server

pytestmark = pytest.mark.timeout(2400)

ASKED = (
    *("--preset", "ultrafast", "--heights", "60", "--search", "sparse"),
    *("--recipe-check", "never", "--json"),
)
TITLE = replace(SMALL, scenes=SMALL.scenes[:2], width=160, height=90)


@dataclass(frozen=True)
class Undisturbed:
    source: Path
    out: Path
    store: Path
    result: RunResult

    @property
    def encodes(self) -> int:
        encoded: int = self.result.run["encoded_now"]
        return encoded


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    source = make(TITLE, folder / "title.mp4")
    out, store = folder / "out", folder / "store"
    result = run_inline(source, out, store, heights=(60,), search="sparse")
    return Undisturbed(source, out, store, result)


class Round:
    """A run on a cluster of two workers, which a test disturbs."""

    def __init__(self, undisturbed: Undisturbed, folder: Path, made: Site) -> None:
        self.undisturbed, self.folder, self.site = undisturbed, folder, made
        self.out, self.store = folder / "place" / "out", folder / "store"
        self.kept: dict[str, tuple[int, int]] = {}
        self.client = self.start()

    def start(self) -> subprocess.Popen[str]:
        words = ["run", self.undisturbed.source, "--out", self.out, "--store", self.store]
        return command(*words, "--scheduler", self.site.address, *ASKED)

    def encoding(self) -> list[psutil.Process]:
        return ffmpegs(self.site.processes)

    def wait_until_encoding(self, least: int = 5) -> psutil.Process:
        """Return an ffmpeg at work, once some encodes are finished."""

        def ready() -> bool:
            if self.client.poll() is not None:
                said, complaints = self.client.communicate()
                raise AssertionError(said[-1000:] + complaints[-1000:])
            return self.encoded() >= least and bool(self.encoding())

        until(ready, 200)
        self.kept = records(self.store, "encode")
        assert len(self.kept) >= least
        found = self.encoding()
        return found[0] if found else self.wait_until_encoding(least)

    def encoded(self) -> int:
        return len(records(self.store, "encode")) if self.store.exists() else 0

    def finish(self) -> dict[str, Any]:
        said, complaints = self.client.communicate(timeout=280 * loaded())
        assert self.client.returncode == 0, said[-1500:] + complaints[-1500:]
        run: dict[str, Any] = json.loads(said.splitlines()[-1])["result"]["run"]
        assert contents(self.out) == contents(self.undisturbed.out)
        now = records(self.store, "encode")
        assert now.keys() == records(self.undisturbed.store, "encode").keys()
        assert now.items() >= self.kept.items()  # nothing finished was written again
        print(f"{len(self.kept)} of {len(now)} encodes were finished at the fault; none again")
        return run


@pytest.fixture(scope="module")
def doomed(tmp_path_factory: pytest.TempPathFactory) -> DoomedFfmpeg:
    """Return the ffmpeg that the workers use."""
    return DoomedFfmpeg(tmp_path_factory.mktemp("ffmpeg"))


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory, doomed: DoomedFfmpeg) -> Iterator[Site]:
    """Yield a scheduler and two workers; each test repairs what it breaks."""
    with site(tmp_path_factory.mktemp("machines"), workers=0) as made:
        for _ in range(2):
            start_worker(made, doomed)
        yield made


def start_worker(made: Site, doomed: DoomedFfmpeg, patience: float = 0.01) -> None:
    """Start a worker that lets an ffmpeg hang for 6 s on an idle machine; encodes take 0.2 s."""
    factor = str(patience * loaded())
    made.start_worker(SHOTLADDER_PATIENCE=factor, SHOTLADDER_FFMPEG=str(doomed.path))


@contextlib.contextmanager
def begun(undisturbed: Undisturbed, folder: Path, machines: Site) -> Iterator[Round]:
    round_ = Round(undisturbed, folder, machines)
    try:
        yield round_
    finally:
        kill_tree(round_.client)


@pytest.fixture
def disturbed(undisturbed: Undisturbed, tmp_path: Path, machines: Site) -> Iterator[Round]:
    with begun(undisturbed, tmp_path, machines) as round_:
        yield round_


def worker_of(round_: Round, ffmpeg: psutil.Process) -> subprocess.Popen[str]:
    """Return the worker command that started this ffmpeg."""
    parents = {one.pid for one in ffmpeg.parents()}
    return next(process for process in round_.site.processes if process.pid in parents)


def test_kill_9_of_a_worker_in_an_encode(disturbed: Round, doomed: DoomedFfmpeg) -> None:
    """The command dies with all its children, as when its machine loses power."""
    victim = worker_of(disturbed, disturbed.wait_until_encoding())
    kill_tree(victim)
    disturbed.site.processes.remove(victim)
    start_worker(disturbed.site, doomed)
    run = disturbed.finish()
    assert run["encoded_now"] <= disturbed.undisturbed.encodes


def test_kill_9_of_the_scheduler(disturbed: Round) -> None:
    disturbed.wait_until_encoding()
    kill_tree(disturbed.site.scheduler)
    disturbed.site.processes.remove(disturbed.site.scheduler)
    time.sleep(1)
    disturbed.site.scheduler = disturbed.site.start_scheduler()
    disturbed.finish()


def test_kill_9_of_the_client(disturbed: Round) -> None:
    disturbed.wait_until_encoding()
    kill_tree(disturbed.client)
    disturbed.client = disturbed.start()
    run = disturbed.finish()
    assert run["encoded_now"] <= disturbed.undisturbed.encodes - len(disturbed.kept)


def test_a_slow_worker(disturbed: Round) -> None:
    """The worker is stopped for 20 of every 21 parts of the time."""
    slow = worker_of(disturbed, disturbed.wait_until_encoding())
    ended = threading.Event()

    def hinder() -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            while not ended.is_set():
                family = psutil.Process(slow.pid).children(recursive=True)
                for number, seconds in ((signal.SIGSTOP, 1.0), (signal.SIGCONT, 0.05)):
                    for one in family:
                        with contextlib.suppress(psutil.NoSuchProcess):
                            one.send_signal(number)
                    time.sleep(seconds)

    thread = threading.Thread(target=hinder)
    thread.start()
    try:
        run = disturbed.finish()
    finally:
        ended.set()
        thread.join()
    assert run["encoded_now"] <= disturbed.undisturbed.encodes


def test_a_hung_ffmpeg(undisturbed: Undisturbed, tmp_path: Path, doomed: DoomedFfmpeg) -> None:
    """An ffmpeg stops for ever, as on a dead network disk: it is killed and run again.

    Its workers wait for less long than those of the other tests, as no worker is slow here.
    """
    with site(tmp_path / "site", workers=0) as made:
        for _ in range(2):
            start_worker(made, doomed, patience=0.0035)
        with begun(undisturbed, tmp_path, made) as disturbed:
            victim = disturbed.wait_until_encoding()
            victim.send_signal(signal.SIGSTOP)
            disturbed.finish()
            assert not victim.is_running()


def test_a_poison_shot_is_named_and_the_others_are_kept(
    undisturbed: Undisturbed, tmp_path: Path, machines: Site, doomed: DoomedFfmpeg
) -> None:
    """Every ffmpeg that encodes the second shot is killed, but only in the first run."""
    poisoned = undisturbed.result.ladder.rungs[0].segments[1]
    index = plan_source(undisturbed.source, tmp_path).index
    with contextlib.ExitStack() as stack:
        with doomed.killed(f"start_pts={int(index.pts[poisoned.start_frame])}", "libx264"):
            disturbed = stack.enter_context(begun(undisturbed, tmp_path, machines))
            said, _ = disturbed.client.communicate(timeout=280 * loaded())
        assert disturbed.client.returncode == 1
        failure = json.loads(said.splitlines()[-1])
        assert f"frames {poisoned.start_frame} to {poisoned.end_frame}" in failure["message"]
        assert "run the same command again" in failure["message"]
        assert doomed.kills >= 3
        assert not disturbed.out.exists()
        kept = disturbed.kept = records(disturbed.store, "encode")
        # All that the round asked for of the other one; the search cannot go on from there.
        lines = [json.loads(line) for line in said.splitlines()]
        others = next(line["wanted"] for line in lines if line["type"] == "round") // 2
        assert len(kept) == others > 0
        disturbed.client = disturbed.start()
        assert disturbed.finish()["encoded_now"] == undisturbed.encodes - others


def mounted(folder: Path, size: str) -> bool:
    folder.mkdir(parents=True, exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    return subprocess.run(words, capture_output=True).returncode == 0


def test_a_full_disk(undisturbed: Undisturbed, tmp_path: Path, machines: Site) -> None:
    """The store's disk fills up during the run; the second run has space."""
    disk = tmp_path / "disk"
    if not mounted(disk, "64m"):
        pytest.skip("a small disk of our own takes root")
    round_ = Round(undisturbed, disk, machines)
    try:
        round_.wait_until_encoding()
        filler = disk / "filler"
        with contextlib.suppress(OSError), filler.open("wb") as file:
            while True:
                file.write(b"x" * 65536)
                file.flush()
        said, complaints = round_.client.communicate(timeout=280 * loaded())
        assert round_.client.returncode == 1, said + complaints
        failure = json.loads(said.splitlines()[-1])
        assert "\n" not in failure["message"]
        assert "space" in failure["message"] or "full" in failure["message"]
        round_.kept = records(round_.store, "encode")
        filler.unlink()
        round_.client = round_.start()
        run = round_.finish()
        assert run["encoded_now"] == undisturbed.encodes - len(round_.kept)
    finally:
        kill_tree(round_.client)
        subprocess.run(["umount", "-l", str(disk)], capture_output=True)


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[str, str, Callable[[bool], None]]]:
    """Yield this host's address, the name of a second host, and a switch for the wire between."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces take root and iproute2")
    name = f"shot{os.getpid()}"
    ours, theirs = f"va{os.getpid()}", f"vb{os.getpid()}"
    subnet = f"10.{77 + os.getpid() % 100}.{os.getpid() % 250}"

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    try:
        ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr!r}")
    try:
        ip("link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", name)
        ip("addr", "add", f"{subnet}.1/24", "dev", ours)
        ip("link", "set", ours, "up")
        ip("-n", name, "addr", "add", f"{subnet}.2/24", "dev", theirs)
        ip("-n", name, "link", "set", theirs, "up")
        ip("-n", name, "link", "set", "lo", "up")
        yield f"{subnet}.1", name, lambda on: ip("link", "set", ours, "up" if on else "down")
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True)
        subprocess.run(["ip", "link", "del", ours], capture_output=True)


def test_a_worker_is_cut_off_and_comes_back(undisturbed: Undisturbed, tmp_path: Path) -> None:
    """The wire between two hosts with an S3 store is pulled out during an encode."""
    pytest.importorskip("moto.server", reason="moto is not installed")
    with two_hosts() as (address, name, wire), contextlib.ExitStack() as stack:
        (tmp_path / "s3").mkdir()
        server = stack.enter_context(s3_server(tmp_path / "s3", address))
        url = server.bucket("cut") + "/store"
        made = stack.enter_context(site(tmp_path / "site", workers=0, host=address))
        caches = {"SHOTLADDER_CACHE": str(tmp_path / "far"), **server.environment}
        far = made.start_worker(prefix=("ip", "netns", "exec", name), **caches)
        caches["SHOTLADDER_CACHE"] = str(tmp_path / "near")
        words = ["run", undisturbed.source, "--out", tmp_path / "out", "--store", url]
        client = command(*words, "--scheduler", made.address, *ASKED, **caches)
        stack.callback(kill_tree, client)
        until(lambda: ffmpegs([far]) or client.poll() is not None, 200)
        assert client.poll() is None
        wire(False)
        made.start_worker(**caches)
        time.sleep(8)  # longer than the time to live that the scheduler grants
        wire(True)
        said, complaints = client.communicate(timeout=280 * loaded())
        assert client.returncode == 0, said[-1500:] + complaints[-1500:]
        assert contents(tmp_path / "out") == contents(undisturbed.out)
        run = json.loads(said.splitlines()[-1])["result"]["run"]
        assert run["encoded_now"] <= undisturbed.encodes
