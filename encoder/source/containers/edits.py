"""Edit lists of MP4 and MOV that play several parts of a track one after the other.

libavformat demuxes the parts in their order, each from a keyframe before it; what only leads to a
part, or follows it, is marked as discarded. Where B-frames meet a border it loses or doubles
pictures, so :mod:`encoder.source.timestamps.edited` applies such lists itself. libavformat ignores
the rates of edits. Text it moves: the first sample that begins in a part is taken for the beginning
of the part, and what began before is lost. So text is read without edits, and placed by them here.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from encoder import mp4
from encoder.errors import SourceUnusable

_MOST_BYTES = 256 << 20
_NORMAL_RATE = 0x10000


@dataclass(frozen=True, slots=True)
class Edit:
    """A part of a track's media that is played."""

    seconds: Fraction
    """Duration of the part in the presentation."""
    rate: Fraction
    """Speed of the part."""
    media_seconds: Fraction | None = None
    """Time in the media at which the part begins, None where nothing is played meanwhile."""


@dataclass(frozen=True, slots=True)
class TextPart:
    """A part of a text track's media that is played; all seconds."""

    start: Fraction
    """Where the part begins in the media."""
    seconds: Fraction | None
    """Duration of the part, None to the end of the media."""
    at: Fraction
    """Where the part begins in the presentation."""


def read_text_parts(
    path: str | os.PathLike[str], streams: Sequence[int]
) -> dict[int, tuple[TextPart, ...]]:
    """Return the parts of each text track of an MP4 or MOV file; none at all where libavformat
    places the text of all tracks right, as where each plays its media from the beginning.
    """
    movie = movie_header(path) if streams else b""
    found = {stream: text_parts_of(movie, stream) for stream in streams}
    plain = all(len(parts) == 1 and parts[0].start <= 0 for parts in found.values())
    return {} if plain else found


def text_parts_of(movie: bytes, track: int) -> tuple[TextPart, ...]:
    """Return the parts of a track: the whole media where it has no edit list."""
    parts, at = [], Fraction(0)
    try:
        ticks = _media_timescale(movie, track)
        for seconds, start, _ in _edits(movie, track):
            if start >= 0:
                parts.append(TextPart(Fraction(start, ticks), seconds or None, at))
            at += seconds
    except (ValueError, IndexError, ZeroDivisionError, struct.error):
        parts = []
    return tuple(parts) or (TextPart(Fraction(0), None, Fraction(0)),)


def read_edits(path: str | os.PathLike[str], stream_index: int) -> tuple[Edit, ...]:
    """Return the edits of a track that play something; none where it has no edit list.

    Raises:
        SourceUnusable: an edit plays faster or slower, or stands still.
    """
    found = edits_of(movie_header(path), stream_index)
    for edit in found:
        if edit.rate != 1:
            raise SourceUnusable(
                f"cannot use {path}: an edit of its edit list plays at {float(edit.rate):g} times "
                "the speed, which is not supported; export the title again with its edits applied"
            )
    return found


def movie_header(path: str | os.PathLike[str]) -> bytes:
    """Return the ``moov`` box of an MP4 or MOV file, empty where it has none of a usual size."""
    with Path(path).open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        at = 0
        while at + 8 <= end:
            file.seek(at)
            head = file.read(16)
            size, kind = struct.unpack_from(">I4s", head)
            if size == 1 and len(head) == 16:
                (size,) = struct.unpack_from(">Q", head, 8)
            size = size or end - at
            if kind == b"moov" and size <= _MOST_BYTES:
                file.seek(at)
                return file.read(size)
            if size < 8:
                break
            at += size
    return b""


def edits_of(movie: bytes, track: int) -> tuple[Edit, ...]:
    """Return the edits of a track, without those that are empty."""
    return tuple(edit for edit in edit_list(movie, track) if edit.media_seconds is not None)


def edit_list(movie: bytes, track: int) -> tuple[Edit, ...]:
    """Return the edits of a track in their order, also those that are empty."""
    try:
        ticks = _media_timescale(movie, track)
        return tuple(
            Edit(seconds, rate, Fraction(start, ticks) if start >= 0 else None)
            for seconds, start, rate in _edits(movie, track)
        )
    except (ValueError, IndexError, ZeroDivisionError, struct.error):
        return ()  # no edit list, or a damaged one, which the demuxer reports


def movie_timescale(movie: bytes) -> int:
    """Return the ticks per second in which durations of edits are stored, 1 where none is."""
    try:
        return max(1, _timescale(movie, mp4.find(movie, "moov/mvhd")))
    except (ValueError, IndexError, struct.error):
        return 1


def _track(movie: bytes, track: int) -> mp4.Box:
    header = mp4.find(movie, "moov")
    return [box for box in mp4.walk(movie, header.body, header.end) if box.kind == "trak"][track]


def _timescale(movie: bytes, header: mp4.Box) -> int:
    """Return the ticks per second that an ``mvhd`` or ``mdhd`` box states."""
    return int(struct.unpack_from(">I", movie, header.body + (20 if movie[header.body] else 12))[0])


def _media_timescale(movie: bytes, track: int) -> int:
    box = _track(movie, track)
    return _timescale(movie, mp4.find(movie, "mdia/mdhd", box.body, box.end))


def _edits(movie: bytes, track: int) -> list[tuple[Fraction, int, Fraction]]:
    """Return the duration in seconds, the start in ticks of the media, negative for an empty edit,
    and the speed of every edit of a track.
    """
    ticks, box = _timescale(movie, mp4.find(movie, "moov/mvhd")), _track(movie, track)
    edits = mp4.find(movie, "edts/elst", box.body, box.end)
    (count,) = struct.unpack_from(">I", movie, edits.body + 4)
    layout = struct.Struct(">QqI" if movie[edits.body] == 1 else ">IiI")
    found = [
        layout.unpack_from(movie, edits.body + 8 + number * layout.size)
        for number in range(min(count, (edits.end - edits.body) // layout.size))
    ]
    return [
        (Fraction(duration, ticks), start, Fraction(rate, _NORMAL_RATE))
        for duration, start, rate in found
    ]
