"""The one seam to ffmpeg: find it, describe a call as a value, run it under limits.

No other module starts a process. A :class:`Command` is built by pure functions elsewhere (with
``ffmpeg-python`` or by hand) and can be compared, printed and tested without media;
:func:`run` executes one and either returns what it cost or raises
:class:`~encoder.errors.ToolFailed` with the shell-quoted command and the end of stderr.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from encoder.errors import BadInput, StoreUnusable, ToolFailed, ToolTimedOut

ENVIRONMENT_VARIABLE = "SHOTLADDER_FFMPEG"
"""Names an ffmpeg to use instead of the one that ``imageio-ffmpeg`` ships."""

PATIENCE_VARIABLE = "SHOTLADDER_PATIENCE"
"""Factor on how long processes may take before they count as hung: more for slow machines."""

STDERR_TAIL_BYTES = 8_192
DEFAULT_TIMEOUT_SECONDS = 3_600.0

# What untrusted inputs may be. Playlists, scripts and devices are not on the list: "concat",
# "hls" or "image2" would let a file that poses as video name other files or URLs to read.
ALLOWED_PROTOCOLS = "file,pipe"
ALLOWED_DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2",
    "matroska,webm",
    "mpegts",
    "mpeg",
    "mpegvideo",
    "avi",
    "flv",
    "asf",
    "ogg",
    "nut",
    "gif",
    "yuv4mpegpipe",
    "h264",
    "hevc",
    "av1",
    "obu",
    "ivf",
    "m4v",
    "mjpeg",
    "dv",
    "rm",
    "wav",
    "mp3",
    "aac",
    "flac",
)
SOURCE_OPTIONS = {
    "protocol_whitelist": ALLOWED_PROTOCOLS,
    "format_whitelist": ",".join(ALLOWED_DEMUXERS),
}
"""Options for every open of a source, by ffmpeg's command line and by PyAV alike."""

PATIENT_OPTIONS = {"analyzeduration": "60000000", "probesize": "100000000"}
"""Beside them for who wants sound that begins late in a transport stream: microseconds and bytes
that are looked at before a stream counts as empty, instead of 5 s and 5 MB."""


def patience(frames: int) -> float:
    """Seconds after which a process that has ``frames`` frames to make or to score has hung.

    Generous: a frame of 2160p takes less than a second even on a machine that does other work.
    """
    return float(os.environ.get(PATIENCE_VARIABLE) or 1) * (600.0 + 2.0 * frames)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a child process may take at most; the kernel sees to it."""

    memory_bytes: int
    """Of address space, which is about twice what an encoder touches."""
    cpu_seconds: int
    output_bytes: int
    """Of each file that it writes, stdout included."""

    def apply(self, pid: int) -> None:
        """Set them on a process that was just started; a process that has ended needs none."""
        for what, most in (
            (resource.RLIMIT_AS, self.memory_bytes),
            (resource.RLIMIT_CPU, self.cpu_seconds),
            (resource.RLIMIT_FSIZE, self.output_bytes),
            (resource.RLIMIT_CORE, 0),
        ):
            with contextlib.suppress(ProcessLookupError):
                _, hard = resource.prlimit(pid, what)
                # A second more before the kill: SIGXCPU, which comes first, says what happened.
                last = most + (what == resource.RLIMIT_CPU)
                if hard != resource.RLIM_INFINITY:
                    most, last = min(most, hard), min(last, hard)
                resource.prlimit(pid, what, (most, last))


MEMORY_VARIABLE = "SHOTLADDER_FFMPEG_MEMORY"
"""GiB of address space that one child process may take, instead of :data:`MEMORY_GIB`."""
MEMORY_GIB = 24
"""Nine x264 encoders of 1080p take 3.3 GB and three times as much address space."""
OUTPUT_BYTES = 64 << 30


def default_limits(timeout_seconds: float) -> Limits:
    """Limits of a process that is killed after ``timeout_seconds`` of wall time.

    Raises:
        BadInput: :data:`MEMORY_VARIABLE` is not a number of GiB.
    """
    set_by_user = os.environ.get(MEMORY_VARIABLE)
    try:
        gib = float(set_by_user) if set_by_user else MEMORY_GIB
        if not gib > 0:
            raise ValueError
    except ValueError:
        raise BadInput(
            f"{MEMORY_VARIABLE}={set_by_user} is not a number of GiB over 0; unset it"
        ) from None
    cores = len(os.sched_getaffinity(0))
    return Limits(
        memory_bytes=int(gib * (1 << 30)),
        cpu_seconds=math.ceil(timeout_seconds * cores),
        output_bytes=OUTPUT_BYTES,
    )


@dataclass(frozen=True, slots=True)
class Command:
    """One call of ffmpeg, without the binary's path."""

    arguments: tuple[str, ...]

    @classmethod
    def of(cls, arguments: Iterable[str | os.PathLike[str] | int]) -> Command:
        """Build from anything that turns into strings."""
        return cls(tuple(str(argument) for argument in arguments))

    def shell(self) -> str:
        """The command as one could paste it into a shell."""
        return shlex.join(["ffmpeg", *self.arguments])


@dataclass(frozen=True, slots=True)
class Completed:
    """What a finished command cost and said."""

    cpu_seconds: float
    """User plus system time of the process."""
    wall_seconds: float
    peak_memory_bytes: int
    stdout: bytes
    stderr: str
    """The last :data:`STDERR_TAIL_BYTES` of stderr."""


@functools.cache
def binary() -> str:
    """Path of the ffmpeg to use.

    Raises:
        ToolFailed: there is none.
    """
    override = os.environ.get(ENVIRONMENT_VARIABLE)
    if override:
        found = shutil.which(override)
        if found is None:
            raise ToolFailed(
                f"{ENVIRONMENT_VARIABLE}={override} is not an executable; "
                "unset it to use the bundled ffmpeg"
            )
        return found
    import imageio_ffmpeg

    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise ToolFailed(
            f"no ffmpeg found ({error}); reinstall imageio-ffmpeg or set {ENVIRONMENT_VARIABLE}"
        ) from error


@functools.cache
def version() -> str:
    """Identity of the tool for cache keys: its version line and a digest of its build.

    Two builds of the same release may carry different x264s, so the configuration and the
    binary's size count as well; its path does not.
    """
    out = run(Command(("-hide_banner", "-version")), timeout_seconds=30).stdout.decode()
    size = Path(binary()).stat().st_size
    digest = hashlib.sha256(f"{out}{size}".encode()).hexdigest()[:12]
    return f"{out.split()[2]}+{digest}"


@functools.cache
def _launcher() -> tuple[str, ...]:
    """What makes the kernel kill ffmpeg when the thread that started it dies (kill -9 included).

    ``setpriv`` is part of util-linux, which every Debian has. A ``preexec_fn`` would do the same
    but runs Python between fork and exec, where a Ctrl-C can be lost with logging's lock held.
    """
    setpriv = shutil.which("setpriv")
    return (setpriv, "--pdeathsig", "KILL", "--") if setpriv else ()


def run(
    command: Command,
    *,
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
    stdin: Iterable[bytes] | None = None,
    cwd: str | os.PathLike[str] | None = None,
    limits: Limits | None = None,
) -> Completed:
    """Run ffmpeg to its end, with ``stdin`` fed from a thread if given.

    It runs under ``limits``, by default :func:`default_limits`. The calling thread must live as
    long as the call: the kernel kills the child when it dies.

    Raises:
        ToolTimedOut: a limit of time passed; the process was killed.
        StoreUnusable: it failed because the disk is full.
        ToolFailed: it ended with any other status than 0.
    """
    program = (binary(), *(() if stdin is not None else ("-nostdin",)))
    ended = _execute(
        (*program, *command.arguments),
        timeout_seconds,
        stdin,
        cwd,
        limits or default_limits(timeout_seconds),
    )
    if ended.returncode != 0:
        raise _failure(command.shell(), "ffmpeg", ended, timeout_seconds)
    return ended.completed


@dataclass(frozen=True, slots=True)
class _Ended:
    returncode: int
    expired: bool
    """Whether it was killed for the time on the clock that it took."""
    spent: bool
    """Whether it took all the CPU time that it may; ffmpeg catches the signal and just ends."""
    completed: Completed


def _execute(
    arguments: Sequence[str],
    timeout_seconds: float,
    stdin: Iterable[bytes] | None,
    cwd: str | os.PathLike[str] | None,
    limits: Limits,
    *,
    environment: Mapping[str, str] | None = None,
    most_bytes: int = -1,
) -> _Ended:
    """Run a program to its end, whatever that is."""
    started = time.monotonic()
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            [*_launcher(), *arguments],
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            cwd=cwd,
            # SVT-AV1 describes itself on stderr otherwise, where causes of failures are looked for.
            env={**os.environ, "SVT_LOG": "1", **(environment or {})},
        )
        limits.apply(process.pid)
        feeder = _feed(process, stdin) if stdin is not None else None
        expired = threading.Event()

        def kill() -> None:
            expired.set()
            process.kill()

        timer = threading.Timer(timeout_seconds, kill)
        timer.daemon = True
        timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        if feeder is not None:
            feeder.join()
        size = stderr.seek(0, os.SEEK_END)
        stderr.seek(max(0, size - STDERR_TAIL_BYTES))
        tail = stderr.read().decode(errors="replace")
        stdout.seek(0)
        return _Ended(
            process.returncode,
            expired.is_set(),
            usage.ru_utime + usage.ru_stime >= limits.cpu_seconds,
            Completed(
                cpu_seconds=usage.ru_utime + usage.ru_stime,
                wall_seconds=time.monotonic() - started,
                peak_memory_bytes=usage.ru_maxrss * 1024,
                # Of a process that failed nothing is used.
                stdout=stdout.read(most_bytes) if process.returncode == 0 else b"",
                stderr=tail,
            ),
        )


def run_python(
    module: str,
    request: bytes,
    *,
    timeout_seconds: float,
    limits: Limits,
    most_bytes: int = -1,
) -> bytes:
    """Run ``python -m module`` with ``request`` on stdin, and return what it wrote to stdout.

    For work on untrusted data that must not take this process down with it: see
    :mod:`encoder.source.sandbox`.

    Args:
        module: Name of the module to run.
        request: Bytes for its stdin.
        timeout_seconds: Wall time after which it is killed.
        limits: Limits that the kernel enforces.
        most_bytes: Bytes of stdout that are read at most; -1 for all.

    Raises:
        ToolTimedOut: a limit of time passed.
        ToolFailed: it crashed, or ended with any other status than 0.
    """
    root = str(Path(__file__).resolve().parent.parent)
    paths = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    ended = _execute(
        (sys.executable, "-m", module),
        timeout_seconds,
        [request],
        None,
        limits,
        environment={"PYTHONPATH": paths},
        most_bytes=most_bytes,
    )
    if ended.returncode != 0:
        raise _failure(f"python -m {module}", "the reader", ended, timeout_seconds)
    return ended.completed.stdout


def children_cpu_seconds() -> float:
    """User plus system time of all finished children of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _feed(process: subprocess.Popen[bytes], chunks: Iterable[bytes]) -> threading.Thread:
    def write() -> None:
        assert process.stdin is not None
        # A broken pipe: ffmpeg ended early, and its status says why.
        try:
            with contextlib.suppress(BrokenPipeError):
                for chunk in chunks:
                    process.stdin.write(chunk)
        finally:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()

    thread = threading.Thread(target=write, name="ffmpeg-stdin", daemon=True)
    thread.start()
    return thread


def _failure(
    command: str, name: str, ended: _Ended, timeout_seconds: float
) -> ToolFailed | StoreUnusable:
    returncode, stderr = ended.returncode, ended.completed.stderr
    context = {"command": command, "returncode": returncode, "stderr": stderr}
    if ended.expired:
        return ToolTimedOut(
            f"{name} did not end within {timeout_seconds:g} s and was killed", **context
        )
    if ended.spent or returncode == -signal.SIGXCPU:
        return ToolTimedOut(f"{name} used more CPU time than it may and was killed", **context)
    if returncode == -signal.SIGXFSZ or "File too large" in stderr:
        # Not a kill to be tried again: it would write as much the next time.
        return ToolFailed(
            f"{name} wrote more than it may and was killed", **{**context, "returncode": 1}
        )
    if "No space left on device" in stderr:
        return StoreUnusable(f"{name} could not write its output: the disk is full", **context)
    if returncode < 0:
        return ToolFailed(f"{name} was killed by signal {-returncode}", **context)
    return ToolFailed(f"{name} failed: {_cause(stderr)}", **context)


def does_not_decode(error: ToolFailed) -> bool:
    """Whether ffmpeg gave up because most of what it was given does not decode."""
    return "Decode error rate" in str(error.context.get("stderr"))


def _cause(stderr: str) -> str:
    """The line of stderr that most likely names the cause: the first error of the last burst."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"


def lacking(capabilities: Sequence[str]) -> tuple[str, ...]:
    """Which of ``capabilities`` (names of encoders or filters) this ffmpeg lacks."""
    listed = (
        run(Command(("-hide_banner", "-encoders")), timeout_seconds=30).stdout
        + run(Command(("-hide_banner", "-filters")), timeout_seconds=30).stdout
    ).decode()
    words = set(listed.split())
    return tuple(name for name in capabilities if name not in words)
