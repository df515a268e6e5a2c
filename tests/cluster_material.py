"""A cluster of real processes on loopback, for the tests that kill them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil

from encoder import ffmpeg

REPOSITORY = Path(__file__).parent.parent
COMMAND = "import sys; from cluster.cli import main; sys.exit(main())"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def command(
    *words: object, prefix: Sequence[str] = (), log: Path | None = None, **environment: str
) -> subprocess.Popen[str]:
    """Start `shotladder WORDS` in a process group of its own."""
    with contextlib.ExitStack() as stack:
        err = stack.enter_context(log.open("a")) if log else subprocess.PIPE
        return subprocess.Popen(
            [*prefix, sys.executable, "-c", COMMAND, *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=err,
            text=True,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **environment},
            start_new_session=True,
        )


class Site:
    """A scheduler and workers, each a command of its own."""

    def __init__(self, folder: Path, worker_ttl: float = 5.0, host: str = "127.0.0.1") -> None:
        self.folder = folder
        self.host = host
        self.port = free_port()
        self.worker_ttl = worker_ttl
        self.processes: list[subprocess.Popen[str]] = []
        self.scheduler = self.start_scheduler()

    @property
    def address(self) -> str:
        return f"tcp://{self.host}:{self.port}"

    def start_scheduler(self) -> subprocess.Popen[str]:
        words = ("scheduler", "--host", self.host, "--port", self.port)
        return self._start(*words, "--worker-ttl", self.worker_ttl)

    def start_worker(
        self, cores: int = 1, prefix: Sequence[str] = (), **environment: str
    ) -> subprocess.Popen[str]:
        scratch = self.folder / "dask-scratch"
        words = ("worker", self.address, "--cores", cores, "--scratch", scratch)
        return self._start(*words, prefix=prefix, **environment)

    def listens(self) -> bool:
        with socket.socket() as one:
            return one.connect_ex((self.host, self.port)) == 0

    def _start(
        self, *words: object, prefix: Sequence[str] = (), **environment: str
    ) -> subprocess.Popen[str]:
        log = self.folder / "cluster.log"
        process = command(*words, prefix=prefix, log=log, **environment)
        self.processes.append(process)
        return process

    def close(self) -> None:
        for process in self.processes:
            kill_tree(process)


@contextlib.contextmanager
def site(folder: Path, workers: int = 2, **options: float) -> Iterator[Site]:
    folder.mkdir(parents=True, exist_ok=True)
    made = Site(folder, **options)  # type: ignore[arg-type]
    try:
        until(made.listens, 120)
        for _ in range(workers):
            made.start_worker()
        yield made
    finally:
        made.close()


def tree(process: subprocess.Popen[str]) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(process.pid).children(recursive=True)
    return []


def kill_tree(process: subprocess.Popen[str]) -> None:
    """Kill a process and all its descendants at once, as when a machine dies."""
    family = tree(process)
    for one in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGKILL)
    process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def ffmpegs(processes: Sequence[subprocess.Popen[str]], *words: str) -> list[psutil.Process]:
    """Return the ffmpegs that these processes run and whose command has all words."""
    found = []
    for process in processes:
        for child in tree(process):
            with contextlib.suppress(psutil.NoSuchProcess):
                line = " ".join(child.cmdline())
                if "-filter_complex" in line and all(word in line for word in words):
                    found.append(child)
    return found


class DoomedFfmpeg:
    """An ffmpeg that dies by SIGKILL where its command has certain words, and else runs as usual.

    It has the real ffmpeg's size and version text, so keys and fingerprints are the same.
    """

    def __init__(self, folder: Path) -> None:
        real = ffmpeg.binary()
        self._folder = folder
        self.path = folder / "ffmpeg"
        # With a pipe to read it dies at once, otherwise after it has written its output.
        self.path.write_text(
            f"""#!/bin/sh
if [ -e "{folder}/words" ]; then
    doomed=yes
    while IFS= read -r word; do
        case "$*" in *"$word"*) ;; *) doomed= ;; esac
    done < "{folder}/words"
    number=0
    while [ $doomed ] && [ $number -lt $(cat "{folder}/times") ]; do
        number=$((number + 1))
        if (set -C; : > "{folder}/killed-$number") 2> /dev/null; then
            case "$*" in *pipe:0*) ;; *) "{real}" "$@" ;; esac
            kill -KILL $$
        fi
    done
fi
exec "{real}" "$@"
"""
        )
        os.truncate(self.path, Path(real).stat().st_size)
        self.path.chmod(0o755)

    @contextlib.contextmanager
    def killed(self, *words: str, times: int = 1000) -> Iterator[None]:
        """Inside the block, kill the first ``times`` ffmpegs whose command has all ``words``."""
        (self._folder / "times").write_text(str(times))
        (self._folder / "words").write_text("".join(f"{word}\n" for word in words))
        try:
            yield
        finally:
            (self._folder / "words").unlink()

    @property
    def kills(self) -> int:
        """Number of ffmpegs killed so far."""
        return len(list(self._folder.glob("killed-*")))


def loaded() -> float:
    """Return how much slower this machine is than an idle one; waiting times are scaled by it."""
    return min(20.0, max(1.0, 4 * os.getloadavg()[0] / (os.cpu_count() or 1)))


def until(happened: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds * loaded()
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


# -- tasks: here, as schedulers and workers have to find them by name ---------------------------


def work(log: Path, name: str, seconds: float = 0.0) -> tuple[str, int]:
    with log.open("a") as file:
        file.write(f"{name}\n")
    time.sleep(seconds)
    return name, os.getpid()


def poison(log: Path) -> None:
    work(log, "poison")
    time.sleep(0.3)
    os.kill(os.getpid(), signal.SIGKILL)
