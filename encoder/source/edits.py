"""Edit lists of MP4 and MOV that play several parts of a track one after the other.

libavformat demuxes the parts in their order, each from a keyframe before it; what only leads to a
part, or follows it, is marked as discarded. It ignores the rates of edits. Text it moves: the first
sample that begins in a part is taken for the beginning of the part, and what began before is lost.
So text is read without edits, and placed by them here.
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


def safe_keyframes(
    keyframes: Sequence[tuple[int, int, bool]], decoding_times: Sequence[int | None]
) -> list[tuple[int, int]]:
    """Return the keyframes from which frames can be read in a file of several parts.

    A seek searches decoding times, which go back where a part begins. A keyframe is safe where no
    time after it is as low; the first one always is.

    Args:
        keyframes: presentation time, number of the packet, and whether it is shown.
        decoding_times: decoding time of every packet, in the order of the file.

    Returns:
        Presentation and decoding time of each keyframe.
    """
    lowest: list[float] = [float("inf")] * (len(decoding_times) + 1)
    for number in reversed(range(len(decoding_times))):
        time = decoding_times[number]
        lowest[number] = lowest[number + 1] if time is None else min(time, lowest[number + 1])
    safe = []
    for place, (pts, number, shown) in enumerate(keyframes):
        dts = decoding_times[number]
        dts = pts if dts is None else dts
        if place == 0 or (shown and lowest[number + 1] > dts):
            safe.append((pts, dts))
    return safe


@dataclass(frozen=True, slots=True)
class Edit:
    """A part of a track's media that is played."""

    seconds: Fraction
    """Duration of the part in the presentation."""
    rate: Fraction
    """Speed of the part."""


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
        box = _track(movie, track)
        header = mp4.find(movie, "mdia/mdhd", box.body, box.end)
        offset = header.body + (20 if movie[header.body] else 12)
        (ticks,) = struct.unpack_from(">I", movie, offset)
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
    try:
        return tuple(
            Edit(seconds, rate) for seconds, start, rate in _edits(movie, track) if start >= 0
        )
    except (ValueError, IndexError, ZeroDivisionError, struct.error):
        return ()  # no edit list, or a damaged one, which the demuxer reports


def _track(movie: bytes, track: int) -> mp4.Box:
    header = mp4.find(movie, "moov")
    return [box for box in mp4.walk(movie, header.body, header.end) if box.kind == "trak"][track]


def _edits(movie: bytes, track: int) -> list[tuple[Fraction, int, Fraction]]:
    """Return the duration in seconds, the start in ticks of the media, negative for an empty edit,
    and the speed of every edit of a track.
    """
    times, box = mp4.find(movie, "moov/mvhd"), _track(movie, track)
    (ticks,) = struct.unpack_from(">I", movie, times.body + (20 if movie[times.body] else 12))
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
