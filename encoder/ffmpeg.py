"""The one seam to ffmpeg: find it, describe a call as a value, run it.

No other module starts a process. A :class:`Command` is built by pure functions elsewhere (with
``ffmpeg-python`` or by hand) and can be compared, printed and tested without media;
:func:`run` executes one and either returns what it cost or raises
:class:`~encoder.errors.ToolFailed` with the shell-quoted command and the end of stderr.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import resource
import shlex
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from encoder.errors import StoreUnusable, ToolFailed, ToolTimedOut

ENVIRONMENT_VARIABLE = "SHOTLADDER_FFMPEG"
"""Names an ffmpeg to use instead of the one that ``imageio-ffmpeg`` ships."""

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


def patience(frames: int) -> float:
    """Seconds after which a process that has ``frames`` frames to make or to score has hung.

    Generous: a frame of 2160p takes less than a second even on a machine that does other work.
    """
    return 600.0 + 2.0 * frames


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
) -> Completed:
    """Run ffmpeg to its end, with ``stdin`` fed from a thread if given.

    The calling thread must live as long as the call: the kernel kills the child when it dies.

    Raises:
        ToolTimedOut: the limit passed; the process was killed.
        StoreUnusable: it failed because the disk is full.
        ToolFailed: it ended with any other status than 0.
    """
    arguments = [*_launcher(), binary(), "-nostdin", *command.arguments]
    if stdin is not None:
        arguments.remove("-nostdin")
    started = time.monotonic()
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            cwd=cwd,
        )
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
        if process.returncode != 0:
            raise _failure(command, process.returncode, tail, expired.is_set(), timeout_seconds)
        stdout.seek(0)
        return Completed(
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            wall_seconds=time.monotonic() - started,
            peak_memory_bytes=usage.ru_maxrss * 1024,
            stdout=stdout.read(),
            stderr=tail,
        )


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
    command: Command, returncode: int, stderr: str, expired: bool, timeout_seconds: float
) -> ToolFailed | StoreUnusable:
    context = {"command": command.shell(), "returncode": returncode, "stderr": stderr}
    if expired:
        return ToolTimedOut(
            f"ffmpeg did not end within {timeout_seconds:g} s and was killed", **context
        )
    if "No space left on device" in stderr:
        return StoreUnusable("ffmpeg could not write its output: the disk is full", **context)
    if returncode < 0:
        return ToolFailed(f"ffmpeg was killed by signal {-returncode}", **context)
    return ToolFailed(f"ffmpeg failed: {_cause(stderr)}", **context)


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
