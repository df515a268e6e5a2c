"""Hashes of frames, read through the canonical graph or by a straight decode."""

from __future__ import annotations

from pathlib import Path

import ffmpeg
import numpy as np

from encoder.arrays import AnyArray
from encoder.ffmpeg import Command, run
from encoder.source import reference
from encoder.source.reference import GLOBAL_ARGUMENTS, ReferenceSource, open_reference

HASH = ("-f", "framehash", "-hash", "murmur3", "pipe:")


def hashes(command: list[str]) -> list[tuple[int, str]]:
    """(timestamp in ticks of one frame, hash) of every frame that a command gives."""
    lines = run(Command.of(command), timeout_seconds=120).stdout.decode().splitlines()
    rows = [line.split(",") for line in lines if not line.startswith("#")]
    return [(int(row[2]), row[5].strip()) for row in rows]


def read(source: ReferenceSource, start: int, end: int) -> list[str]:
    """Hashes of frames [start, end) through the canonical graph."""
    node = open_reference(source, start, end)
    built = ffmpeg.output(node, "pipe:", f="framehash", hash="murmur3", fps_mode="passthrough")
    found = hashes(["-v", "error", *GLOBAL_ARGUMENTS, *built.get_args()])
    assert [time for time, _ in found] == list(range(end - start))
    return [digest for _, digest in found]


def luma(source: ReferenceSource, frame: int) -> AnyArray:
    """Luma of one canonical frame, (height, width)."""
    node = open_reference(source, frame, frame + 1)
    built = ffmpeg.output(node, "pipe:", f="rawvideo", fps_mode="passthrough")
    read = run(
        Command.of(["-v", "error", *GLOBAL_ARGUMENTS, *built.get_args()]), timeout_seconds=60
    )
    depth = np.uint8 if source.pix_fmt == "yuv420p" else np.uint16
    planes = np.frombuffer(read.stdout, depth)
    return planes[: source.width * source.height].reshape(source.height, source.width)


def straight(path: Path, source: ReferenceSource) -> list[str]:
    """Hashes of all source frames, decoded from the start of the file that was given to us.

    The same pixels, but no index, no seeking, no trimming, no timestamps.
    """
    chain = [
        "=".join([name, ":".join(f"{key}={value}" for key, value in arguments.items())])
        for name, arguments in reference.pixel_filters(source)
    ]
    if source.info.interlaced:
        chain.insert(0, "bwdif=mode=send_frame:deint=interlaced")
    after = ["-fps_mode", "passthrough", *HASH]
    select = ["-map", f"0:{source.info.stream_index}", "-vf", ",".join(chain)]
    return [
        digest
        for _, digest in hashes(
            ["-v", "error", "-noautorotate", "-threads", "2", "-i", str(path), *select, *after]
        )
    ]
