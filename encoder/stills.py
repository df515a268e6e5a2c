"""Single frames of a source at full size, read exactly after the analysis pass chose them.

Frames come through the canonical reference, so frame n is the frame n that was encoded, scored and
analysed; frames of a high dynamic range title are tone-mapped. One process reads the frames that
follow the same keyframe.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import ffmpeg

from encoder.arrays import UInt8
from encoder.encode import frame_list
from encoder.ffmpeg import Command
from encoder.pictures import read_bgr
from encoder.source.reference import ReferenceSource, open_sdr, reading_command

MOST_AT_ONCE = 8
MOST_BYTES_AT_ONCE = 64 * 2**20
"""Limits of what one process returns, since it is in memory together: so many frames, or as many
more as fit into so many bytes."""

# Pixels that a decoder decodes in the time a process starts (60 ms): ten frames of 1080p.
_NEAR_PIXELS = 20_000_000

_SWS = "lanczos+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact"


def fetch_frames(
    source: ReferenceSource, frames: Iterable[int], matrix: str
) -> Iterator[tuple[int, UInt8]]:
    """Yield canonical frames with their numbers, in ascending order, each once.

    A picture is (height, width, 3) full range BGR, upright, at the title's display size.
    ``matrix`` is ffmpeg's name of the matrix of the title's YCbCr. The errors are those of
    :func:`group_frames` and :func:`encoder.pictures.read_bgr`.
    """
    for numbers in group_frames(source, frames):
        pictures = read_bgr(source, numbers, fetch_command(source, numbers, matrix))
        yield from zip(numbers, pictures, strict=True)


def group_frames(source: ReferenceSource, frames: Iterable[int]) -> list[tuple[int, ...]]:
    """Group frames that one process reads.

    Frames of a group follow one keyframe, or are so near each other that decoding the frames
    between them costs less than another process; and a group fits in memory.

    Raises:
        ValueError: a number is outside the title.
    """
    near = _NEAR_PIXELS / (source.width * source.height)
    most = max(MOST_AT_ONCE, MOST_BYTES_AT_ONCE // (3 * source.width * source.height))
    groups: list[tuple[int, list[int]]] = []
    for number in sorted(set(frames)):
        if not 0 <= number < source.frames:
            raise ValueError(f"frame {number} is not within [0, {source.frames})")
        keyframe = source.index.keyframe_for(source.timeline.source_frame(number))
        if groups and len(groups[-1][1]) < most:
            first, members = groups[-1]
            if first == keyframe or number - members[-1] <= near:
                members.append(number)
                continue
        groups.append((keyframe, [number]))
    return [tuple(numbers) for _, numbers in groups]


def fetch_command(source: ReferenceSource, numbers: Sequence[int], matrix: str) -> Command:
    """Build the ffmpeg call that writes frames ``numbers`` (ascending) as raw BGR to stdout."""
    first, last = numbers[0], numbers[-1]
    picture: Any = open_sdr(source, first, last + 1)
    if len(numbers) <= last - first:
        selected = frame_list([number - first for number in numbers]).removeprefix("expr:")
        picture = picture.filter("select", selected)
    picture = picture.filter(
        "scale",
        in_color_matrix=matrix,
        in_range="limited",
        out_range="full",
        flags=_SWS,
    ).filter("format", pix_fmts="bgr24")
    output = ffmpeg.output(picture, "pipe:1", f="rawvideo", fps_mode="passthrough", map_metadata=-1)
    return reading_command(output)
