"""Find ffmpeg, describe a call of it as a value, and run it under limits.

No other module starts a process. Pure functions elsewhere build a :class:`Command` (with
``ffmpeg-python`` or by hand), which can be compared, printed and tested without media.
:func:`run` executes it and returns its output and cost, or raises
:class:`~encoder.errors.ToolFailed` with the shell-quoted command and the end of stderr.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import math
import os
import re
import resource
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
from typing import IO

from encoder.errors import BadInput, ReadFailed, StoreUnusable, ToolFailed, ToolTimedOut
from encoder.names import shell_quoted

ENVIRONMENT_VARIABLE = "SHOTLADDER_FFMPEG"
"""Environment variable with the ffmpeg to use instead of the one of ``imageio-ffmpeg``."""

PATIENCE_VARIABLE = "SHOTLADDER_PATIENCE"
"""Environment variable with a factor on :func:`patience`, for slow machines."""

STDERR_TAIL_BYTES = 8_192
"""Bytes of stderr that are kept of a process."""
KEPT_LINES = 400_000
"""Most lines of stderr that are kept because they match a pattern."""
DEFAULT_TIMEOUT_SECONDS = 3_600.0
"""Wall time after which :func:`run` kills ffmpeg, unless told otherwise."""

# Untrusted inputs are limited to these. Playlists, scripts and devices are missing on purpose:
# "concat", "hls" or "image2" would let a file that poses as video name other files or URLs.
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
    "mxf",
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
"""Options for opening any source, by ffmpeg's command line and by PyAV alike."""

PATIENT_OPTIONS = {"analyzeduration": "60000000", "probesize": "100000000"}
"""Further options that find audio which begins late in a transport stream: microseconds and bytes
that are read before a stream counts as empty, instead of 5 s and 5 MB."""


def as_arguments(options: Mapping[str, str]) -> list[str]:
    """Return options as ffmpeg's command line takes them."""
    return [part for name, value in options.items() for part in (f"-{name}", value)]


def balanced_sum(terms: Sequence[str]) -> str:
    """Return an expression of the sum of at least one term.

    The sum is balanced, because ffmpeg's expression parser recurses and a long title has many
    terms.
    """
    sums = list(terms)
    while len(sums) > 1:
        sums = [
            f"({sums[i]}+{sums[i + 1]})" if i + 1 < len(sums) else sums[i]
            for i in range(0, len(sums), 2)
        ]
    return sums[0]


def patience(frames: int) -> float:
    """Return the seconds after which a process that encodes or scores ``frames`` frames has hung.

    The limit is generous: a 2160p frame takes less than a second even on a busy machine.
    """
    return float(os.environ.get(PATIENCE_VARIABLE) or 1) * (600.0 + 2.0 * frames)


@dataclass(frozen=True, slots=True)
class Limits:
    """Resources that a child process may use; the kernel enforces them."""

    memory_bytes: int
    """Bytes of address space, which is about twice the memory that an encoder touches."""
    cpu_seconds: int
    """Seconds of CPU time, user plus system."""
    output_bytes: int
    """Bytes of each file that the process writes, stdout included."""

    def apply(self, pid: int) -> None:
        """Set the limits on a process that was just started, unless it has already ended."""
        for what, most in (
            (resource.RLIMIT_AS, self.memory_bytes),
            (resource.RLIMIT_CPU, self.cpu_seconds),
            (resource.RLIMIT_FSIZE, self.output_bytes),
            (resource.RLIMIT_CORE, 0),
        ):
            with contextlib.suppress(ProcessLookupError):
                _, hard = resource.prlimit(pid, what)
                # The kill follows a second later: SIGXCPU comes first and names the cause.
                last = most + (what == resource.RLIMIT_CPU)
                if hard != resource.RLIM_INFINITY:
                    most, last = min(most, hard), min(last, hard)
                resource.prlimit(pid, what, (most, last))


MEMORY_VARIABLE = "SHOTLADDER_FFMPEG_MEMORY"
"""Environment variable with the address space of a child process in GiB."""
MEMORY_GIB = 24
"""Default of :data:`MEMORY_VARIABLE`: nine x264 encoders of 1080p take 3.3 GB of memory and three
times as much address space."""
OUTPUT_BYTES = 64 << 30
"""Bytes of each file that a child process may write by default."""


def default_limits(timeout_seconds: float) -> Limits:
    """Return the limits of a process that is killed after ``timeout_seconds`` of wall time.

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
            f"{MEMORY_VARIABLE}={set_by_user} is not a number of GiB above 0; unset it"
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
    """Command line after the binary."""

    @classmethod
    def of(cls, arguments: Iterable[str | os.PathLike[str] | int]) -> Command:
        """Build a command from anything that turns into strings."""
        return cls(tuple(str(argument) for argument in arguments))

    def shell(self) -> str:
        """Return the command quoted for a shell."""
        return " ".join(map(shell_quoted, ("ffmpeg", *self.arguments)))


@dataclass(frozen=True, slots=True)
class Completed:
    """Cost and output of a finished command."""

    cpu_seconds: float
    """User plus system time of the process."""
    wall_seconds: float
    """Time on the clock from start to end."""
    stdout: bytes
    """Everything that the process wrote to stdout."""
    stderr: str
    """The last :data:`STDERR_TAIL_BYTES` of stderr."""
    peak_bytes: int
    """Most resident memory of the process. The kernel counts the process that started it too, so
    this is never less than what that one has held."""
    kept: tuple[str, ...] = ()
    """Lines of all of stderr that :func:`run` was asked to keep."""


@functools.cache
def binary() -> str:
    """Return the path of the ffmpeg to use.

    Raises:
        ToolFailed: no ffmpeg was found.
    """
    override = os.environ.get(ENVIRONMENT_VARIABLE)
    if override:
        path = shutil.which(override)
        if path is None:
            raise ToolFailed(
                f"{ENVIRONMENT_VARIABLE}={override} is not an executable; "
                "unset it to use the bundled ffmpeg"
            )
        return path
    import imageio_ffmpeg

    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise ToolFailed(
            f"no ffmpeg found ({error}); reinstall imageio-ffmpeg or set {ENVIRONMENT_VARIABLE}"
        ) from error


def is_bundled() -> bool:
    """Return whether :func:`binary` is the ffmpeg that comes with ``imageio-ffmpeg``.

    Raises:
        ToolFailed: no ffmpeg was found.
    """
    import imageio_ffmpeg

    return Path(binary()).is_relative_to(Path(imageio_ffmpeg.__file__).parent)


@functools.cache
def version() -> str:
    """Return the identity of ffmpeg for cache keys: its release and a digest of its build.

    Two builds of the same release may contain different releases of x264, so the configuration
    and the size of the binary count as well; its path does not.
    """
    out = run(Command(("-hide_banner", "-version")), timeout_seconds=30).stdout.decode()
    size = Path(binary()).stat().st_size
    digest = hashlib.sha256(f"{out}{size}".encode()).hexdigest()[:12]
    return f"{out.split()[2]}+{digest}"


@functools.cache
def _launcher() -> tuple[str, ...]:
    """Return the prefix that has the kernel kill a child when the thread that started it dies.

    It works even for kill -9. ``setpriv`` is part of util-linux, which every Debian has. A
    ``preexec_fn`` would do the same, but it runs Python between fork and exec, where a Ctrl-C can
    be lost while the lock of ``logging`` is held.
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
    keep: re.Pattern[str] | None = None,
) -> Completed:
    """Run ffmpeg to its end; a thread feeds it the chunks of ``stdin``.

    The calling thread must live as long as the call: the kernel kills ffmpeg when it dies.
    :attr:`Completed.kept` gets the first :data:`KEPT_LINES` lines of stderr in which ``keep``
    occurs.

    Raises:
        ToolTimedOut: ffmpeg exceeded a time limit and was killed.
        StoreUnusable: ffmpeg failed because the disk is full.
        ReadFailed: the disk or the network failed while ffmpeg read its input.
        ToolFailed: ffmpeg ended with any other status than 0.
    """
    program = (binary(), *(() if stdin is not None else ("-nostdin",)), *command.arguments)
    limits = limits or default_limits(timeout_seconds)
    ended = _execute(program, timeout_seconds, stdin, cwd, limits, keep=keep)
    if _READ_FAILED.search(ended.completed.stderr):
        # ffmpeg takes such an error for the end of its input and returns 0.
        raise ReadFailed(
            "ffmpeg could not read its whole input: I/O error; the disk or the network failed, "
            "run the same command again",
            command=command.shell(),
            returncode=ended.returncode,
            stderr=ended.completed.stderr,
        )
    if ended.returncode != 0:
        raise _failure(command.shell(), "ffmpeg", ended, timeout_seconds)
    return ended.completed


_READ_FAILED = re.compile(r"Error during demuxing: (?:Input/output error|Stale file handle)")


@dataclass(frozen=True, slots=True)
class _Ended:
    returncode: int
    expired: bool
    """True where the process exceeded its wall time and was killed."""
    spent: bool
    """True where the process used up its CPU time: ffmpeg catches the signal and just ends."""
    completed: Completed


def _execute(
    arguments: Sequence[str],
    timeout_seconds: float,
    stdin: Iterable[bytes] | None,
    cwd: str | os.PathLike[str] | None,
    limits: Limits,
    environment: Mapping[str, str] | None = None,
    most_bytes: int = -1,
    keep: re.Pattern[str] | None = None,
) -> _Ended:
    started = time.monotonic()
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            [*_launcher(), *arguments],
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            cwd=cwd,
            # Otherwise SVT-AV1 describes itself on stderr, which is searched for error causes.
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
        kept = _matching(stderr, keep) if keep is not None else ()
        stdout.seek(0)
        cpu_seconds = usage.ru_utime + usage.ru_stime
        return _Ended(
            process.returncode,
            expired.is_set(),
            cpu_seconds >= limits.cpu_seconds,
            Completed(
                cpu_seconds=cpu_seconds,
                wall_seconds=time.monotonic() - started,
                # The output of a failed process is not used.
                stdout=stdout.read(most_bytes) if process.returncode == 0 else b"",
                stderr=tail,
                peak_bytes=1024 * usage.ru_maxrss,
                kept=kept,
            ),
        )


def _matching(stderr: IO[bytes], keep: re.Pattern[str]) -> tuple[str, ...]:
    stderr.seek(0)
    lines = (line.decode(errors="replace").rstrip() for line in stderr)
    return tuple(itertools.islice(filter(keep.search, lines), KEPT_LINES))


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
    :mod:`encoder.source.sandbox`. At most ``most_bytes`` of stdout are read, all of it with -1.

    Raises:
        ToolTimedOut: the process exceeded a time limit and was killed.
        ToolFailed: the process crashed or ended with any other status than 0.
    """
    root = str(Path(__file__).resolve().parent.parent)
    paths = {"PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}
    program = (sys.executable, "-m", module)
    ended = _execute(program, timeout_seconds, [request], None, limits, paths, most_bytes)
    if ended.returncode != 0:
        raise _failure(f"python -m {module}", "the child process", ended, timeout_seconds)
    return ended.completed.stdout


def run_program(
    program: str, arguments: Sequence[str], *, name: str, timeout_seconds: float
) -> Completed:
    """Run another program than ffmpeg to its end.

    Its arguments are part of errors and of the machine's list of processes, so they must hold no
    secrets.

    Args:
        program: Path of the program.
        arguments: What follows it on the command line.
        name: Name of the program in errors.
        timeout_seconds: Seconds after which it is killed.

    Raises:
        ToolTimedOut: it exceeded a time limit and was killed.
        StoreUnusable: it failed because the disk is full.
        ToolFailed: it ended with any other status than 0.
    """
    limits = default_limits(timeout_seconds)
    ended = _execute((program, *arguments), timeout_seconds, None, None, limits)
    if ended.returncode != 0:
        command = " ".join(map(shell_quoted, (name, *arguments)))
        raise _failure(command, name, ended, timeout_seconds)
    return ended.completed


def children_cpu_seconds() -> float:
    """Return the user plus system time of all children of this process that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _feed(process: subprocess.Popen[bytes], chunks: Iterable[bytes]) -> threading.Thread:
    def write() -> None:
        assert process.stdin is not None
        # A broken pipe means that ffmpeg ended early; its status tells why.
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
        return ToolTimedOut(f"{name} exceeded its limit of CPU time and was killed", **context)
    if returncode == -signal.SIGXFSZ or "File too large" in stderr:
        # Not reported as a kill, which would be retried: it would write as much again.
        return ToolFailed(
            f"{name} {_TOO_MUCH_OUTPUT} and was killed", **{**context, "returncode": 1}
        )
    if "No space left on device" in stderr:
        return StoreUnusable(f"{name} could not write its output: the disk is full", **context)
    if returncode < 0:
        return ToolFailed(f"{name} was killed by signal {-returncode}", **context)
    return ToolFailed(f"{name} failed: {_cause(stderr)}", **context)


_TOO_MUCH_OUTPUT = "exceeded its limit of output"


def wrote_too_much(error: ToolFailed) -> bool:
    """Return True where ffmpeg was killed for exceeding :attr:`Limits.output_bytes`."""
    return _TOO_MUCH_OUTPUT in error.message


def does_not_decode(error: ToolFailed) -> bool:
    """Return True where ffmpeg gave up because most of its input does not decode."""
    return "Decode error rate" in str(error.context.get("stderr"))


def _cause(stderr: str) -> str:
    """Return the line of stderr that most likely names the cause: the last one."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    return lines[-1] if lines else "it wrote nothing to stderr"


def lacking(capabilities: Sequence[str]) -> tuple[str, ...]:
    """Return the names among ``capabilities`` (encoders or filters) that this ffmpeg lacks."""
    lists = (Command(("-hide_banner", kind)) for kind in ("-encoders", "-filters"))
    words = {word for each in lists for word in run(each, timeout_seconds=30).stdout.split()}
    return tuple(name for name in capabilities if name.encode() not in words)
