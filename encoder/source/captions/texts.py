"""Text beside pictures that a copy retimes: subtitles and captions that stay in the given file.

A copy holds pictures and sound only, since its container may not hold the text as it is. The text
is read from the given file, on the clock of that file.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from fractions import Fraction

import av.error

from encoder.source.captions.collecting import Beside, CaptionData
from encoder.source.opening.container import opened
from encoder.source.opening.streams import video_stream
from encoder.source.probing.source_info import SourceInfo


@dataclass(frozen=True, slots=True, eq=False)
class TextsBeside:
    """What a file holds besides pictures and sound."""

    styled: frozenset[int] = frozenset()
    """Indices in the file of the subtitles that may be more than plain text."""
    captions: tuple[CaptionData, ...] = ()
    """Captions of tracks or ancillary data, on the file's clock."""


def read_texts(path: str | os.PathLike[str]) -> TextsBeside:
    """Look through the subtitles, caption tracks and ancillary data of a file.

    Raises:
        SourceUnusable: the file cannot be read.
    """
    with opened(path) as container:
        beside = Beside(container, video_stream(container, path))
        if not beside.streams:
            return TextsBeside()
        with contextlib.suppress(av.error.FFmpegError):  # where a truncated file ends
            for packet in container.demux(*beside.streams):
                beside.take(packet)
    return TextsBeside(beside.styled, beside.captions())


def with_styles(info: SourceInfo, styled: frozenset[int]) -> SourceInfo:
    """Return the source with the subtitles marked that may be more than plain text."""
    marked = (replace(s, styled=True) if s.index in styled else s for s in info.subtitles)
    return replace(info, subtitles=tuple(marked))


def captions_of_copy(
    in_copy: tuple[CaptionData, ...], beside: tuple[CaptionData, ...], shift_seconds: Fraction
) -> tuple[CaptionData, ...]:
    """Return the captions of a title whose pictures are in a copy, on the clock of the copy.

    As in any source, tracks come before pictures, and those before ancillary data.

    Args:
        in_copy: captions of the pictures.
        beside: captions beside the pictures, on the clock of the given file.
        shift_seconds: what to add to the clock of the given file.
    """
    moved = tuple(
        replace(data, pts=data.pts + round(shift_seconds / data.time_base)) for data in beside
    )
    tracks = tuple(data for data in moved if data.origin == "track")
    return tracks or in_copy or moved
