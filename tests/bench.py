"""Where the CPU goes, how much memory that takes, and what Dask and the store cost.

``python -m tests.bench [FILE]`` (or ``make bench``) runs the main job on FILE, or on the demo
title, from an empty store, and prints tables; :mod:`tests.score_cost` says where the CPU of a score
goes. Wall times mean something on an idle machine only;
CPU seconds and their ratios hold on a busy one, roughly.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from cluster.execution.executor import DaskExecutor
from cluster.jobs.request import LadderRequest, RunOptions
from cluster.jobs.setup import set_up
from cluster.stages.analysis import find_shots
from cluster.stages.encodes import ShotWork, encode_key
from cluster.stages.measurer import Measurer
from cluster.stages.title import Title, open_title
from cluster.store import Store
from cluster.store.files import file_sha256
from encoder import ffmpeg
from encoder.encode import encode_command
from encoder.media import OperatingPoint, Request
from encoder.recipes import by_name
from fixtures.clips import DEMO, make
from ladder.search.steps import Measure
from tests.score_cost import show_score_costs
from vmaf.graph import Distorted, score_command

REPOSITORY = Path(__file__).parent.parent
COMMAND = "import sys; from cluster.cli import main; sys.exit(main())"
PROFILE = "default-0.1"
"""Recipes without tunings, as in what docs/measured.md compares with."""
SAMPLE_SECONDS = 0.02
MEBIBYTE = 2**20


# -- one run -----------------------------------------------------------------------------------


@dataclass
class Memory:
    """Resident memory of a process and its descendants, by looking often."""

    process: psutil.Process
    largest: dict[str, int] = field(default_factory=dict)
    """Most bytes of any one process, by what it is."""
    together: int = 0
    """Most bytes of all at one time. What processes share is counted for each of them."""
    done: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        while not self.done.wait(SAMPLE_SECONDS):
            total = 0
            for one in self._family():
                try:
                    size, kind = one.memory_info().rss, self._kind(one)
                except psutil.Error:
                    continue
                total += size
                self.largest[kind] = max(self.largest.get(kind, 0), size)
            self.together = max(self.together, total)

    def _family(self) -> list[psutil.Process]:
        try:
            return [self.process, *self.process.children(recursive=True)]
        except psutil.Error:
            return []

    def _kind(self, one: psutil.Process) -> str:
        if one.pid == self.process.pid:
            return "command"
        return "ffmpeg" if "ffmpeg" in one.name() else "worker"


@dataclass(frozen=True)
class Run:
    """What a run cost, as seen from outside."""

    document: dict[str, Any]
    ladder: dict[str, Any]
    cpu_seconds: float
    """Of the command and of everything that it started."""
    wall_seconds: float
    memory: Memory


def run_command(source: Path, folder: Path, preset: str, workers: int) -> Run:
    """``shotladder run`` from an empty store."""
    words = ["run", source, "--out", folder / "out", "--store", folder / "store"]
    words += ["--profile", PROFILE, "--preset", preset, "--workers", workers, "--json"]
    folder.mkdir()
    started = time.monotonic()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, *map(str, words)],
            stdout=log,
            stderr=log,
            cwd=REPOSITORY,
        )
        memory = Memory(psutil.Process(process.pid))
        watcher = threading.Thread(target=memory.watch)
        watcher.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        memory.done.set()
        watcher.join()
    if process.returncode:
        sys.exit((folder / "log").read_text()[-2000:])
    return Run(
        document=json.loads((folder / "out" / "run.json").read_bytes()),
        ladder=json.loads((folder / "out" / "ladder.json").read_bytes()),
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        wall_seconds=wall,
        memory=memory,
    )


def delivered_cpu_seconds(run: Run, source: Path, folder: Path, preset: str) -> float:
    """What the encodes in the package cost: of a process that made several, each an equal part."""
    store = Store(folder / "store")
    with store.scratch() as scratch:
        opened = open_title(source, scratch)
    shots = find_shots(opened, str(store.root))
    keys = {
        encode_key(
            opened,
            shots[segment["shot"]],
            OperatingPoint(
                by_name(f"x264-{preset}"), segment["width"], segment["height"], segment["crf"]
            ),
        )
        for rung in run.ladder["rungs"]
        for segment in rung["segments"]
    }
    found = [store.get(key) for key in keys]
    return sum(record.cpu_seconds["encode"] for record in found if record is not None)


def show_run(run: Run, delivered: float) -> None:
    """The tables of CPU and memory."""
    spent = dict(run.document["cpu_seconds"])
    spent["other"] = run.cpu_seconds - sum(spent[n] for n in ("encode", "vmaf", "verify"))
    print(f"{'':10}{'CPU s':>10}{'share':>9}")
    for name in ("encode", "vmaf", "verify", "other"):
        print(f"{name:10}{spent[name]:10.1f}{spent[name] / run.cpu_seconds:9.1%}")
    print(f"{'all':10}{run.cpu_seconds:10.1f}{1:9.1%}")
    print(
        f"\nverify over delivered encodes: {spent['verify'] / delivered:.1%} "
        f"({spent['verify']:.2f} of {delivered:.2f} CPU s; under 10 % is the aim)"
    )
    outside = (spent["other"] + spent["verify"]) / run.cpu_seconds
    print(f"outside encoding and VMAF: {outside:.1%} (under 5 % is the aim)")
    encodes = run.document["encoded_now"]
    print(
        f"{encodes} encodes in {run.wall_seconds:.0f} s: {60 * encodes / run.wall_seconds:.0f} a "
        f"minute, {run.cpu_seconds / encodes:.2f} CPU s each"
    )


def show_memory(runs: dict[str, Run]) -> None:
    """Peaks of several runs side by side."""
    kinds = ("ffmpeg", "worker", "command")
    print(f"{'peak MiB':16}" + "".join(f"{kind:>10}" for kind in (*kinds, "together")))
    for name, run in runs.items():
        peaks = [run.memory.largest.get(kind, 0) for kind in kinds] + [run.memory.together]
        print(f"{name:16}" + "".join(f"{peak / MEBIBYTE:10.0f}" for peak in peaks))


# -- workers against plain processes -----------------------------------------------------------


@dataclass(frozen=True)
class Spent:
    wall_seconds: float
    cpu_seconds: float


def measured(work: Callable[[], None], family: Callable[[], float]) -> Spent:
    """Wall and CPU seconds of ``work``, CPU by a counter."""
    wall, cpu = time.monotonic(), family()
    work()
    return Spent(time.monotonic() - wall, family() - cpu)


def tree_cpu_seconds() -> float:
    """Of this process, its living descendants, and those that have ended."""
    own = psutil.Process()
    total = 0.0
    for one in (own, *own.children(recursive=True)):
        times = one.cpu_times()
        total += times.user + times.system + times.children_user + times.children_system
    return total


def by_workers(
    title: Title,
    requests: Sequence[Request],
    model: str,
    executor: DaskExecutor,
    store: Store,
) -> float:
    """As the job does it; CPU seconds of the ffmpegs."""
    measurer = Measurer(title, (model,), store, executor, lambda event: None)
    measurer.measure(requests, "grid")
    assert measurer.costs.encoded == len(requests)
    return measurer.costs.encode_cpu_seconds + measurer.costs.vmaf_cpu_seconds


def by_processes(works: Sequence[ShotWork], processes: int, folder: Path) -> None:
    """The same commands of ffmpeg, so many at a time, in the same order, and nothing else."""
    waiting: queue.SimpleQueue[tuple[int, ShotWork]] = queue.SimpleQueue()
    for item in enumerate(works):
        waiting.put(item)

    def one_after_the_other() -> None:
        while True:
            try:
                number, work = waiting.get_nowait()
            except queue.Empty:
                return
            reference, shot = work.title.reference, work.shot
            paths = [folder / f"{number}-{n}.mp4" for n in range(len(work.points))]
            ffmpeg.run(encode_command(reference, shot, work.points, paths))
            encodes = [
                Distorted(path, point.width, point.height)
                for path, point in zip(paths, work.points, strict=True)
            ]
            logs = [path.with_suffix(".json") for path in paths]
            hashes = [path.with_suffix(".txt") for path in paths]
            ffmpeg.run(
                score_command(reference, shot.start, shot.end, encodes, work.models, logs, hashes)
            )

    threads = [threading.Thread(target=one_after_the_other) for _ in range(processes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def compare_throughput(source: Path, folder: Path, preset: str, workers: int, rounds: int) -> None:
    """The grid of a title by workers and by plain processes, alternating."""
    store = Store(folder / "shots")
    with store.scratch() as scratch, DaskExecutor(workers=workers) as executor:
        opened = open_title(source, scratch)
        title = Title(source.name, opened, find_shots(opened, str(store.root)))
        asked = RunOptions(
            source, folder / "none", search="exhaustive", profile=PROFILE, preset=preset
        )
        (setup,) = set_up(LadderRequest.of(asked), title, store, executor, lambda event: None)
        step = setup.search.step(setup.known({}))
        assert isinstance(step, Measure)
        planner = Measurer(title, (setup.quality_model,), store, executor, lambda event: None)
        works = [work for _, work in planner.groups(step.requests)]
        works.sort(key=lambda work: -work.cost)
        began = time.monotonic()
        executor.start()
        start_seconds = time.monotonic() - began
        spent: dict[str, list[Spent]] = {"workers": [], "processes": []}
        in_ffmpeg: list[float] = []

        def workers_turn(turn: int) -> None:
            fresh = Store(folder / f"store-{turn}")
            in_ffmpeg.append(by_workers(title, step.requests, setup.model, executor, fresh))

        def processes_turn(turn: int) -> None:
            own = folder / f"plain-{turn}"
            own.mkdir()
            by_processes(works, workers, own)

        turns = {"workers": workers_turn, "processes": processes_turn}
        order = ["workers", "processes", "processes", "workers"] * rounds or ["workers"]
        for turn, name in enumerate(order):
            spent[name].append(measured(lambda: turns[name](turn), tree_cpu_seconds))  # noqa: B023
    busy = sum(one.cpu_seconds for one in spent["workers"])
    print(
        f"of {busy:.1f} CPU s of command and workers {1 - sum(in_ffmpeg) / busy:.2%} were outside "
        "ffmpeg (under 5 % is the aim)"
    )
    if not rounds:
        return
    print(
        f"{len(step.requests)} encodes and scores in {len(works)} pieces, {2 * rounds} times each"
    )
    print(f"{'':24}{'wall s':>10}{'CPU s':>10}{'encodes/min':>13}")
    sums = {}
    for name, turns_spent in spent.items():
        wall = sum(one.wall_seconds for one in turns_spent)
        cpu = sum(one.cpu_seconds for one in turns_spent)
        sums[name] = wall, cpu
        rate = 60 * len(step.requests) * len(turns_spent) / wall
        print(f"{workers} {name:22}{wall:10.1f}{cpu:10.1f}{rate:13.0f}")
    (ours, our_cpu), (plain, plain_cpu) = sums["workers"], sums["processes"]
    print(
        f"throughput of workers over processes: {plain / ours:.3f} by wall (0.95 is the aim), "
        f"{plain_cpu / our_cpu:.3f} by CPU; the cluster starts in {start_seconds:.1f} s, once"
    )


# -- all of it ---------------------------------------------------------------------------------


def twice(source: Path, path: Path) -> Path:
    """The source, and then the source again."""
    arguments = ["-v", "error", "-y", "-stream_loop", 1, "-i", source, "-c", "copy", path]
    ffmpeg.run(ffmpeg.Command.of(arguments))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, help="a title; by default the demo's")
    parser.add_argument("--preset", default="medium")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--rounds",
        type=int,
        default=1,
        help="of the comparison of throughput; 0: the workers once, alone",
    )
    parts = ("cpu", "throughput", "runs", "scores")
    parser.add_argument("--only", choices=parts, help="one part of it")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="shotladder-bench-") as name:
        folder = Path(name)
        source = asked.file or make(DEMO, folder / "demo.mp4")
        load = os.getloadavg()[0]
        print(
            f"{source.name} ({file_sha256(source)[:8]}), preset {asked.preset}, {asked.workers} "
            f"workers on {len(os.sched_getaffinity(0))} cores, load {load:.1f} before"
        )
        if asked.only not in ("throughput", "scores"):
            titles = {"the title": source}
            if asked.only != "cpu":
                titles["twice as long"] = twice(source, folder / f"twice{source.suffix}")
            runs = {}
            for label, title in titles.items():
                print(f"\n# a run from an empty store: {label}\n", flush=True)
                own = folder / label
                runs[label] = run_command(title, own, asked.preset, asked.workers)
                show_run(runs[label], delivered_cpu_seconds(runs[label], title, own, asked.preset))
            print("\n# memory\n")
            show_memory(runs)
        if asked.only in (None, "throughput"):
            print("\n# workers with Dask and the store, against plain processes\n", flush=True)
            compare_throughput(source, folder, asked.preset, asked.workers, asked.rounds)
        if asked.only in (None, "scores"):
            print("\n# where the CPU of a score goes\n", flush=True)
            show_score_costs([source])


if __name__ == "__main__":
    main()
