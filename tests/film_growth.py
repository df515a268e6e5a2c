"""How the cost of a title grows with its length: titles of 2, 20 and 120 minutes, really run.

``python -m tests.film FOLDER --minutes 2 20 120`` calls this. Titles are generated: shots of 4 to 6
seconds, each a texture of its own that moves over noise of its own, with sound. Every title that
has no figures yet is made, run by the command from an empty store and kept under FOLDER; the same
command goes on where it stopped, and says of a title whose run was continued that its CPU is not
the whole.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import psutil

from encoder.arrays import UInt8
from encoder.ffmpeg import Command, run
from tests.bench import COMMAND, MEBIBYTE, REPOSITORY

WIDTH, HEIGHT, RATE = 128, 72, 12
SHOT_SECONDS = (4.0, 6.0)
FAST = ("--preset", "veryfast", "--recipe-check", "never", "--measure-every", "3",
        "--qualities", "85")  # fmt: skip
LOOK_SECONDS = 1.0
DOCUMENTS = ("ladder.json", "measurements.json", "prefetch.json", "artwork.json", "report.html",
             "run.json", "master.m3u8", "manifest.mpd")  # fmt: skip


def make_title(folder: Path, minutes: float, seed: int = 1) -> Path:
    """The title of so many minutes; what is there already is not made again."""
    title = folder / f"generated-{minutes:g}min.mkv"
    if title.exists():
        return title
    frames = round(60 * minutes * RATE)
    pictures = folder / "pictures.part.mkv"
    with av.open(str(pictures), "w", format="matroska") as container:
        stream = container.add_stream("libx264", RATE, options={"preset": "veryfast", "crf": "10"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for planes in _pictures(frames, np.random.default_rng(seed)):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(planes, "yuv420p")))
        container.mux(stream.encode())
    part = title.with_suffix(".part.mkv")
    sound = f"sine=frequency=220:beep_factor=4:duration={60 * minutes}"
    run(
        Command.of(
            [
                *("-v", "error", "-y", "-i", pictures, "-f", "lavfi", "-i", sound),
                *("-c:v", "copy", "-c:a", "aac", "-b:a", "96k", "-f", "matroska", part),
            ]
        ),
        timeout_seconds=3600,
    )  # fmt: skip
    pictures.unlink()
    part.replace(title)
    return title


def _pictures(frames: int, chance: np.random.Generator) -> Iterator[UInt8]:
    """Frames as (height * 3 / 2, width) planes, shot after shot."""
    left = frames
    while left > 0:
        length = min(left, round(RATE * chance.uniform(*SHOT_SECONDS)))
        yield from _shot(length, chance)
        left -= length


def _shot(length: int, chance: np.random.Generator) -> Iterator[UInt8]:
    grain, cells = chance.uniform(0, 6), int(chance.integers(3, 24))
    coarse = chance.uniform(30, 220, (cells, cells)).astype(np.float32)
    texture = cv2.resize(coarse, (3 * WIDTH, 3 * HEIGHT), interpolation=cv2.INTER_CUBIC)
    x, y = (float(chance.uniform(side / 2, 1.5 * side)) for side in (WIDTH, HEIGHT))
    across, down = chance.normal(0, 0.8, 2)
    chroma = np.full((HEIGHT // 2, WIDTH), 128, np.uint8)
    chroma[:, : WIDTH // 2] = chance.integers(90, 166)
    chroma[:, WIDTH // 2 :] = chance.integers(90, 166)
    noise = chance.normal(0, grain, (4, HEIGHT, WIDTH))
    for number in range(length):
        x = min(max(x + across, WIDTH / 2), 2.5 * WIDTH - 1)
        y = min(max(y + down, HEIGHT / 2), 2.5 * HEIGHT - 1)
        luma = cv2.getRectSubPix(texture, (WIDTH, HEIGHT), (x, y)) + noise[number % 4]
        yield np.vstack([np.clip(luma, 16, 235).astype(np.uint8), chroma])


def run_title(title: Path, folder: Path, workers: int) -> dict[str, Any]:
    """Run a title by the command; return what it took."""
    place = folder / title.stem
    continued = (place / "store").exists()
    place.mkdir(exist_ok=True)
    words = ["run", title, "--out", place / "package", "--store", place / "store", *FAST]
    words += ["--workers", workers, "--json"]
    started = time.monotonic()
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=REPOSITORY,
        )
        watched = psutil.Process(process.pid)
        peaks, done = dict[str, int](), threading.Event()
        watcher = threading.Thread(target=_watch_peaks, args=(watched, peaks, done))
        watcher.start()
        assert process.stdout is not None
        stages, rounds = _by_stage(process.stdout, watched)
        code = process.wait()
        done.set()
        watcher.join()
    if code:
        sys.exit((place / "log").read_text()[-2000:])
    package = place / "package"
    document = json.loads((package / "run.json").read_bytes())
    ladder = json.loads((package / "ladder.json").read_bytes())
    frames = ladder["title"]["frames"]
    return {
        "title": title.stem,
        "continued": continued,
        "frames": frames,
        "shots": len(ladder["rungs"][0]["segments"]),
        "rungs": len(ladder["rungs"]),
        "encodes": document["encoded_now"],
        "wall_seconds": round(time.monotonic() - started, 1),
        "peak_mib": {kind: round(size / MEBIBYTE, 1) for kind, size in peaks.items()},
        "cpu_ms_per_frame": {
            name: round(1e3 * seconds / frames, 4) for name, seconds in stages.items()
        },
        "cpu_seconds": document["cpu_seconds"],
        "document_bytes": {name: (package / name).stat().st_size for name in DOCUMENTS},
        "package_files": sum(1 for one in package.rglob("*") if one.is_file()),
        "store_bytes": sum(one.stat().st_size for one in (place / "store").rglob("*.json")),
        "search_rounds": rounds,
    }


def _by_stage(lines: Any, process: psutil.Process) -> tuple[dict[str, float], int]:
    """CPU seconds of the process tree by stage and after it, and the number of rounds."""
    stages: dict[str, float] = {}
    stage, before, rounds = "opening", 0.0, 0
    for line in lines:
        event = json.loads(line)
        if event["type"] not in ("stage_planned", "stage_progress", "done", "error"):
            continue
        try:
            now = _cpu_seconds(process)
        except psutil.Error:
            break
        name = re.sub(r" \d+$", "", stage)  # rounds of encodes together
        stages[name] = stages.get(name, 0.0) + now - before
        rounds += event["type"] == "stage_planned" and event["stage"].startswith("encode ")
        before = now
        if event["type"] == "stage_planned":
            stage = event["stage"]
        elif event["type"] == "stage_progress" and event["done"] >= event["total"]:
            stage = f"after {event['stage']}"
    return {name: seconds for name, seconds in stages.items() if seconds > 0}, rounds


def _watch_peaks(process: psutil.Process, peaks: dict[str, int], done: threading.Event) -> None:
    """Note the largest resident memory that the kernel counted of any process of each kind."""
    while not done.wait(LOOK_SECONDS):
        try:
            family = [process, *process.children(recursive=True)]
        except psutil.Error:
            return
        for one in family:
            try:
                status = Path(f"/proc/{one.pid}/status").read_text()
                words = " ".join(one.cmdline())
            except (OSError, psutil.Error):
                continue
            found = next((ln for ln in status.splitlines() if ln.startswith("VmHWM:")), "")
            if found:
                kind = _kind(one.pid == process.pid, words)
                peaks[kind] = max(peaks.get(kind, 0), 1024 * int(found.split()[1]))


def _kind(is_command: bool, words: str) -> str:
    if is_command:
        return "command"
    if "libvmaf" in words:
        return "ffmpeg, scoring"
    if "ffmpeg" in words:
        return "ffmpeg, encoding" if "libx264" in words else "ffmpeg, other"
    return "probing" if "encoder.source.sandbox" in words else "worker"


def _cpu_seconds(process: psutil.Process) -> float:
    total = 0.0
    for one in (process, *process.children(recursive=True)):
        try:
            times = one.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system + times.children_user + times.children_system
    return total


def growth(folder: Path, minutes: Sequence[float], workers: int) -> list[dict[str, Any]]:
    """Run titles of all lengths that have no figures yet; return the figures of all."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for each in minutes:
        facts = folder / f"facts-{each:g}min.json"
        if not facts.exists():
            measured = run_title(make_title(folder, each), folder, workers)
            facts.write_text(json.dumps(measured, indent=1) + "\n")
        found.append(json.loads(facts.read_text()))
    return found


def table(found: Sequence[dict[str, Any]]) -> str:
    """The figures of all lengths side by side, as Markdown."""
    rows: list[tuple[str, list[object]]] = [("frames", [one["frames"] for one in found])]
    rows += [
        (name, [one[name] for one in found])
        for name in ("shots", "rungs", "encodes", "search_rounds")
    ]
    for group, unit in (
        ("peak_mib", "peak MiB"),
        ("cpu_ms_per_frame", "CPU ms per frame"),
        ("document_bytes", "bytes"),
    ):
        names = dict.fromkeys(name for one in found for name in one[group])
        rows += [(f"{unit}: {name}", [one[group].get(name, "") for one in found]) for name in names]
    heads = [f"{one['frames'] / RATE / 60:g} min" for one in found]
    lines = [f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(map(str, values))} |" for name, values in rows]
    return "\n".join(lines)
