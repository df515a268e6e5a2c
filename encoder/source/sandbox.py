"""Read an untrusted file in a process of its own: what a crafted one does ends with that process.

Demuxers and decoders are large programs in C, and whoever sends a file chooses what they do. The
first look at a source (headers, every packet, the first picture) therefore happens in a child with
limits of memory, CPU time and output; a crash, a hang or a flood in there is one line here.

The child is ours and is sent nothing but names and paths. What it answers is a pickle, of which no
more is believed than it can be: a plan of a source or an error of ours, and nothing else is loaded.
"""

from __future__ import annotations

import io
import pickle
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from encoder import errors
from encoder.errors import ShotladderError, SourceUnusable, ToolFailed, ToolTimedOut
from encoder.ffmpeg import Limits, run_python
from encoder.source.hdr_metadata import MasteringDisplay, StaticMetadata
from encoder.source.index import FrameIndex
from encoder.source.probe import AudioStream, DolbyVision, SourceInfo, SubtitleStream, UnreadStream
from encoder.source.reference import ReferenceSource, plan_source
from encoder.source.timeline import Timeline

MEMORY_BYTES = 6 << 30
"""Of address space: a picture of the largest size that is taken, several times over."""
OUTPUT_BYTES = 64 << 30
"""A remuxed copy is about as large as its source."""
LEAST_SECONDS = 300.0
BYTES_PER_SECOND = 2_000_000
"""Slowest reading that still counts as progress: a demux pass does a hundred times as much."""


def plan_guarded(path: Path, workdir: Path) -> ReferenceSource:
    """:func:`encoder.source.reference.plan_source` in a process of its own.

    Raises:
        SourceUnusable: it cannot be read, or not by us; also if reading it crashed the reader, or
            took more memory or time than a file may.
    """
    timeout_seconds = LEAST_SECONDS
    if path.is_file():
        timeout_seconds += path.stat().st_size / BYTES_PER_SECOND
    limits = Limits(
        memory_bytes=MEMORY_BYTES,
        cpu_seconds=int(timeout_seconds),
        output_bytes=OUTPUT_BYTES,
    )
    request = pickle.dumps((str(path), str(workdir)))
    try:
        answer = run_python(
            "encoder.source.sandbox", request, timeout_seconds=timeout_seconds, limits=limits
        )
    except ToolTimedOut as error:
        raise SourceUnusable(
            f"cannot use {path}: reading it takes more than {timeout_seconds:.0f} s; "
            "it is damaged, or made to keep readers busy"
        ) from error
    except ToolFailed as error:
        raise SourceUnusable(
            f"cannot use {path}: it makes its reader fail ({error.message}); it is damaged, or "
            "made to do harm",
            **error.context,
        ) from error
    try:
        result = _Answers(io.BytesIO(answer)).load()
    except Exception as error:
        raise SourceUnusable(
            f"cannot use {path}: it makes its reader answer what it should not ({error}); it is "
            "made to do harm"
        ) from error
    if isinstance(result, ShotladderError):
        raise result
    assert isinstance(result, ReferenceSource)
    return result


class _Answers(pickle.Unpickler):
    """Loads plans and errors: a reader that a file took over could answer with anything."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ANSWERED:
            raise pickle.UnpicklingError(f"{module}.{name}")
        return super().find_class(module, name)


def _is_ours(each: object) -> bool:
    return isinstance(each, type) and issubclass(each, ShotladderError)


_ANSWERED = frozenset(
    (kind.__module__, kind.__qualname__)
    for kind in (
        *(ReferenceSource, SourceInfo, FrameIndex, Timeline, Fraction),
        *(AudioStream, SubtitleStream, UnreadStream, DolbyVision),
        *(StaticMetadata, MasteringDisplay),
        *(np.ndarray, np.dtype),
        *(each for each in vars(errors).values() if _is_ours(each)),
    )
) | {
    ("encoder.errors", "_rebuild"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"),
}


def _answer() -> int:
    path, workdir = pickle.load(sys.stdin.buffer)
    result: ReferenceSource | ShotladderError
    try:
        result = plan_source(path, workdir)
    except ShotladderError as error:
        result = error
    except MemoryError:
        result = SourceUnusable(
            f"cannot use {path}: reading it takes more than {MEMORY_BYTES >> 30} GiB of memory; "
            "it is damaged, or made to exhaust readers"
        )
    sys.stdout.buffer.write(pickle.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(_answer())
