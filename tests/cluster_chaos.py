"""Seeded random faults on a cluster of real processes: nothing may be lost or made twice.

``python -m tests.cluster_chaos [--rounds N] [--first N] [--seed N] [--round N]`` prints a table of
the faults. A round is one run of a title of 2 s with a store of its own; its fault and the time of
the fault are drawn from the seed and the round's number, so ``--round N`` repeats a round.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from cluster.execution.executor import DaskExecutor
from cluster.jobs.request import RunOptions
from cluster.jobs.run import run_title
from cluster.store import Store
from encoder.errors import ShotladderError
from fixtures.clips import make
from tests.cluster_material import Site, command, ffmpegs, kill_tree, loaded, site, tree
from tests.running import SMALL, contents, records, run_inline

HEIGHTS = (60,)
TITLE = replace(SMALL, scenes=SMALL.scenes[:2], width=160, height=90)
ASKED = (
    *("--preset", "ultrafast", "--heights", "60", "--search", "sparse"),
    *("--recipe-check", "never", "--json"),
)


@dataclass
class Counted:
    """The result of a round."""

    fault: str
    after: float
    happened: bool = False
    finished_before: int = 0
    encoded: int = 0
    repeated: int = 0
    identical: bool = False
    seconds: float = 0.0
    error: str = ""


@dataclass
class Chaos:
    """A cluster, a title, and the package and encodes of an undisturbed run."""

    folder: Path
    site: Site
    source: Path
    expected: dict[str, str]
    keys: set[str]
    encodes: int
    seed: int
    ended: threading.Event = field(default_factory=threading.Event)
    """Set when the round's run is over."""

    def round(self, number: int) -> Counted:
        """Run the title once, with one fault."""
        chance = random.Random(f"{self.seed}/{number}")
        name = chance.choice(sorted(FAULTS))
        counted = Counted(name, chance.random())
        folder = self.folder / f"round-{number}"
        store, out = folder / "store", folder / "out"
        began = time.monotonic()
        kept: dict[str, tuple[int, int]] = {}

        def disturb() -> None:
            wanted = round(counted.after * self.encodes)
            deadline = time.monotonic() + 120 * loaded()
            while time.monotonic() < deadline and not done.is_set():
                if store.exists() and len(records(store)) >= wanted:
                    kept.update(records(store, "encode"))
                    counted.happened = FAULTS[name](self, chance, store)
                    return
                time.sleep(0.005)

        done = self.ended = threading.Event()
        thread = threading.Thread(target=disturb)
        try:
            if name == "client":
                self._with_client(store, out, counted, kept)
            else:
                thread.start()
                self._run(store, out)
        except (ShotladderError, AssertionError) as error:
            counted.error = str(error)
        done.set()
        if thread.ident is not None:
            thread.join()
        now = records(store, "encode")
        spoilt = 1 if name == "store" else 0
        counted.finished_before = len(kept)
        counted.encoded = len(now)
        counted.repeated = max(0, sum(now.get(key) != was for key, was in kept.items()) - spoilt)
        counted.identical = out.exists() and contents(out) == self.expected
        # What was spoilt is made again where the package needs it, and may stay spoilt elsewhere.
        if set(now) - self.keys or len(self.keys - set(now)) > spoilt:
            counted.error = counted.error or "other encodes than undisturbed"
        counted.seconds = time.monotonic() - began
        shutil.rmtree(folder, ignore_errors=True)
        return counted

    def _run(self, store: Path, out: Path) -> None:
        options = RunOptions(
            self.source,
            out,
            preset="ultrafast",
            store=store,
            heights=HEIGHTS,
            search="sparse",
            recipe_check="never",
            scheduler=self.site.address,
        )
        # What hung the first time is told, and the same command goes on.
        for attempt in (1, 2, 3):
            try:
                run_title(options, lambda event: None)
                return
            except ShotladderError:
                if attempt == 3:
                    raise

    def _with_client(
        self, store: Path, out: Path, counted: Counted, kept: dict[str, tuple[int, int]]
    ) -> None:
        words = ("run", self.source, "--out", out, "--store", store)
        process = command(*words, "--scheduler", self.site.address, *ASKED)
        wanted = round(counted.after * self.encodes)
        while process.poll() is None and not (store.exists() and len(records(store)) >= wanted):
            time.sleep(0.005)
        counted.happened = process.poll() is None
        kill_tree(process)
        if store.exists():
            kept.update(records(store, "encode"))
        self._run(store, out)


def _random_ffmpeg(chaos: Chaos, chance: random.Random) -> psutil.Process | None:
    deadline = time.monotonic() + 20 * loaded()
    while time.monotonic() < deadline and not chaos.ended.is_set():
        if found := ffmpegs(chaos.site.processes):
            return chance.choice(found)
        time.sleep(0.002)
    return None


def kill_ffmpeg(chaos: Chaos, chance: random.Random, store: Path) -> bool:
    """Kill an ffmpeg."""
    victim = _random_ffmpeg(chaos, chance)
    with contextlib.suppress(psutil.NoSuchProcess):
        if victim is not None:
            victim.kill()
            return True
    return False


def stop_ffmpeg(chaos: Chaos, chance: random.Random, store: Path) -> bool:
    """Stop an ffmpeg, which then hangs."""
    victim = _random_ffmpeg(chaos, chance)
    with contextlib.suppress(psutil.NoSuchProcess):
        if victim is not None:
            victim.send_signal(signal.SIGSTOP)
            return True
    return False


def kill_process(chaos: Chaos, chance: random.Random, store: Path) -> bool:
    """Kill the process of a worker; its nanny starts another."""
    workers = [p for p in chaos.site.processes if p is not chaos.site.scheduler]
    children = [
        child for p in workers for child in tree(p) if "spawn_main" in " ".join(_words(child))
    ]
    if not children:
        return False
    with contextlib.suppress(psutil.NoSuchProcess):
        chance.choice(children).kill()
        return True
    return False


def kill_worker(chaos: Chaos, chance: random.Random, store: Path) -> bool:
    """Kill a worker command, and start another."""
    workers = [p for p in chaos.site.processes if p is not chaos.site.scheduler]
    victim = chance.choice(workers)
    kill_tree(victim)
    chaos.site.processes.remove(victim)
    chaos.site.start_worker(SHOTLADDER_PATIENCE=str(0.005 * loaded()))
    return True


def kill_scheduler(chaos: Chaos, chance: random.Random, store: Path) -> bool:
    """Kill the scheduler, and start it again."""
    kill_tree(chaos.site.scheduler)
    chaos.site.processes.remove(chaos.site.scheduler)
    time.sleep(chance.random())
    chaos.site.scheduler = chaos.site.start_scheduler()
    return True


def spoil_store(chaos: Chaos, chance: random.Random, store: Path) -> bool:
    """Change or truncate an encode in the store."""
    made = Store(store)
    for key in records(store, "encode"):
        record = made.get(key)
        if record is None:
            continue
        name = record.blobs["media"].sha256
        path = store / "blobs" / name[:2] / name
        with contextlib.suppress(OSError):
            if chance.random() < 0.5:
                os.truncate(path, path.stat().st_size // 2)
            else:
                content = bytearray(path.read_bytes())
                content[len(content) // 2] ^= 0x55
                path.write_bytes(content)
            return True
    return False


def nothing(chaos: Chaos, chance: random.Random, store: Path) -> bool:
    """Do nothing: the round itself kills the client."""
    return True


FAULTS: dict[str, Callable[[Chaos, random.Random, Path], bool]] = {
    "ffmpeg killed": kill_ffmpeg,
    "ffmpeg hung": stop_ffmpeg,
    "worker process": kill_process,
    "worker machine": kill_worker,
    "scheduler": kill_scheduler,
    "client": nothing,
    "store": spoil_store,
}


def _words(process: psutil.Process) -> list[str]:
    with contextlib.suppress(psutil.NoSuchProcess):
        words: list[str] = process.cmdline()
        return words
    return []


def chaos_rounds(
    folder: Path, numbers: range, seed: int, tell: Callable[[int, Counted], None]
) -> list[Counted]:
    """Run the rounds with these numbers."""
    source = make(TITLE, folder / "title.mp4")
    run_inline(source, folder / "out", folder / "store", heights=HEIGHTS, search="sparse")
    expected, keys = contents(folder / "out"), set(records(folder / "store", "encode"))
    everything = len(records(folder / "store"))
    found = []
    with site(folder / "site", workers=0) as made:
        for _ in range(2):
            made.start_worker(SHOTLADDER_PATIENCE=str(0.005 * loaded()))
        with DaskExecutor(scheduler=made.address) as executor:
            executor.start()
        chaos = Chaos(folder, made, source, expected, keys, everything, seed)
        for number in numbers:
            counted = chaos.round(number)
            tell(number, counted)
            found.append(counted)
    return found


def check(found: list[Counted]) -> None:
    """Check that nothing was lost or made twice."""
    for counted in found:
        assert not counted.error, counted
        assert counted.identical, counted
        assert counted.repeated == 0, counted


def table(found: list[Counted]) -> list[dict[str, Any]]:
    """Return a row for each fault."""
    rows = []
    for name in sorted({counted.fault for counted in found}):
        of = [counted for counted in found if counted.fault == name]
        rows.append(
            {
                "fault": name,
                "rounds": len(of),
                "happened": sum(one.happened for one in of),
                "identical": sum(one.identical for one in of),
                "repeated": sum(one.repeated for one in of),
                "errors": sum(bool(one.error) for one in of),
                "mean_seconds": round(sum(one.seconds for one in of) / len(of), 1),
            }
        )
    return rows


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--rounds", type=int, default=200)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--first", type=int, default=0, help="number of the first round")
    options.add_argument("--round", type=int, default=None, help="run only this round")
    options.add_argument("--seconds", type=float, default=1e9, help="stop after so many seconds")
    asked = options.parse_args()
    began = time.monotonic()
    numbers = range(asked.first, asked.first + asked.rounds)
    if asked.round is not None:
        numbers = range(asked.round, asked.round + 1)
    found: list[Counted] = []

    class EnoughError(Exception):
        pass

    def tell(number: int, counted: Counted) -> None:
        found.append(counted)
        print(number, counted, flush=True)
        if time.monotonic() - began > asked.seconds:
            raise EnoughError

    with tempfile.TemporaryDirectory() as folder, contextlib.suppress(EnoughError):
        chaos_rounds(Path(folder), numbers, asked.seed, tell)
    for row in table(found):
        print(json.dumps(row))
    print(json.dumps({"rounds": len(found), "seconds": round(time.monotonic() - began)}))
    check(found)


if __name__ == "__main__":
    main()
