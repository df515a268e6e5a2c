"""Plan an untrusted source in a child process: a crafted file can only harm that process.

Demuxers and decoders are large programs in C, and whoever sends a file chooses their input. The
first look at a source (headers, every packet, the first picture) therefore happens in a child with
limits on memory, CPU time and output. A crash, a hang or a flood there is a one-line error here.

The child runs this module and receives only names and paths. Its answer is data that runs nothing
when it is read: a planned source (:mod:`encoder.source.reference_bytes`) or one of our errors. An
answer that is neither, or that describes a source that cannot exist, is refused.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from encoder import errors
from encoder.errors import ShotladderError, SourceUnusable, ToolFailed, ToolTimedOut
from encoder.ffmpeg import Limits, run_python
from encoder.source.choices import DEFAULT_CHOICES, SourceChoices
from encoder.source.planning import plan_source
from encoder.source.probing.geometry import ORIENTATION_FILTERS
from encoder.source.reference import ReferenceSource
from encoder.source.reference_bytes import from_bytes, located, to_bytes
from encoder.source.timestamps import TIMED_SUFFIXES, timed_path

MEMORY_BYTES = 6 << 30
"""Address space of the child: a picture of the largest accepted size, several times over."""
OUTPUT_BYTES = 64 << 30
"""Largest file that the child may write: a remuxed copy is about as large as its source."""
ANSWER_BYTES = 1 << 30
"""Largest answer that is read: three times the index of 24 hours of 120 keyframes a second."""
LEAST_SECONDS = 300.0
"""Time limit of the child for an empty file."""
BYTES_PER_SECOND = 2_000_000
"""Slowest reading that still counts as progress: a demux pass is a hundred times as fast."""

_PLAN, _ERROR = b"plan\n", b"error\n"
_ERRORS: dict[str, type[ShotladderError]] = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, ShotladderError)
}


def plan_guarded(
    path: Path, workdir: Path, choices: SourceChoices = DEFAULT_CHOICES
) -> ReferenceSource:
    """Run :func:`encoder.source.planning.plan_source` in a child process.

    Raises:
        SourceUnusable: the source cannot be read or is not supported; also if it crashed the
            child, took more memory or time than a file may, or made the child answer nonsense.
    """
    timeout_seconds = LEAST_SECONDS
    if path.is_file():
        timeout_seconds += path.stat().st_size / BYTES_PER_SECOND
    limits = Limits(
        memory_bytes=MEMORY_BYTES,
        cpu_seconds=int(timeout_seconds),
        output_bytes=OUTPUT_BYTES,
    )
    try:
        said = run_python(
            "encoder.source.sandbox",
            json.dumps([str(path), str(workdir), asdict(choices)]).encode(),
            timeout_seconds=timeout_seconds,
            limits=limits,
            most_bytes=ANSWER_BYTES,
        )
    except ToolTimedOut as error:
        raise SourceUnusable(
            f"cannot use {path}: probing it took more than {timeout_seconds:.0f} s; it is damaged "
            "or malicious, give another copy"
        ) from error
    except ToolFailed as error:
        raise SourceUnusable(
            f"cannot use {path}: probing it failed ({error.message}); it is damaged "
            "or malicious, give another copy",
            **error.context,
        ) from error
    try:
        result = _read(said, path, workdir)
    except Exception as error:
        raise SourceUnusable(
            f"cannot use {path}: the probe process returned unexpected data "
            f"({type(error).__name__}); the file may be malicious, give another copy"
        ) from error
    if isinstance(result, ShotladderError):
        raise result
    return result


def _read(said: bytes, path: Path, workdir: Path) -> ReferenceSource | ShotladderError:
    """Read what the child answered, believing nothing: any exception may be raised."""
    if said.startswith(_ERROR):
        name, message, context = json.loads(said.removeprefix(_ERROR))
        return _ERRORS[name](" ".join(message.splitlines()), **context)
    if not said.startswith(_PLAN):
        raise ValueError("neither a plan nor an error")
    reference, (timed,) = from_bytes(said.removeprefix(_PLAN), "timed")
    if not ORIENTATION_FILTERS.issuperset(reference.info.orientation):
        raise ValueError("filters that turn no picture upright")
    given = path.resolve()
    readable = given
    if timed:  # suffix of the copy with timestamps that was made
        copy = timed_path(given, workdir, timed)
        if timed not in TIMED_SUFFIXES or copy.is_symlink() or not copy.is_file():
            raise ValueError("a copy that was not made")
        readable = copy.resolve()
    return located(reference, str(readable), str(given))


def answer(request: bytes) -> bytes:
    """Return what the child says to a request of :func:`plan_guarded`."""
    path, workdir, choices = json.loads(request)
    try:
        reference = plan_source(path, workdir, SourceChoices(**choices))
    except ShotladderError as error:
        return _error(error)
    except MemoryError:
        return _error(
            SourceUnusable(
                f"cannot use {path}: probing it takes more than {MEMORY_BYTES >> 30} GiB of "
                "memory; it is damaged or malicious, give another copy"
            )
        )
    timed = "" if reference.path == reference.given else Path(reference.path).suffix[1:]
    return _PLAN + to_bytes(reference, timed=timed)


def _error(error: ShotladderError) -> bytes:
    fields: list[Any] = [type(error).__name__, error.message, error.context]
    return _ERROR + json.dumps(fields, default=str).encode()


if __name__ == "__main__":
    sys.stdout.buffer.write(answer(sys.stdin.buffer.read()))
