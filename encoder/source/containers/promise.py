"""What the structure of a file promises: how long the file is, and how long its content lasts.

Containers state sizes and durations in front of what they hold, so a file of which the end is
missing can be told from a short one. Transport and program streams, raw streams and recordings that
were never closed promise nothing. Nothing here decodes: only headers are read.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

_HEAD_BYTES = 65_536
_MOST_ELEMENTS = 1_000
_MOST_BOXES = 1_000_000
"""Fragments of a day at ten a second."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What a file states about its own length; None where it states nothing."""

    size_bytes: int | None = None
    """Bytes that the file must have to hold everything that its structure announces."""
    seconds: Fraction | None = None
    """Duration that the header states."""
    inside: str = ""
    """Name of the element within which the file ends, such as ``mdat``; empty where it ends with
    one, or where that cannot be told."""
    unmeasured: bool = False
    """True for containers that state no length: Ogg, GIF, transport and program streams."""


def read_promise(file: BinaryIO) -> Promise:
    """Return what the headers of an open file promise. Damaged headers promise nothing."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    try:
        if head[:4] == b"\x1a\x45\xdf\xa3":
            return _matroska(file)
        if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
            return _avi(file, size)
        if head[:3] == b"FLV":
            return _flv(head)
        if head[:16] == _ASF:
            return _asf(head)
        if head[4:8] in _FIRST_BOXES:
            return _mp4(file, size)
        if head[:4] == b"DKIF":
            return _ivf(file, size, head)
        if head[:4] == b"OggS":
            return _ogg(file, size)
        if head[:4] == b"GIF8":
            return _gif(file, size)
        return _transport(head, size)
    except (struct.error, ZeroDivisionError, OverflowError, ValueError):
        return Promise()
    return Promise()


# -- MP4 and QuickTime -------------------------------------------------------------------------

_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"styp", b"moof", b"sidx")
_MEDIA_BOXES = ("moov", "moof", "mdat")


@dataclass(frozen=True, slots=True)
class Box:
    """A box of an MP4 or QuickTime file."""

    kind: str
    """Four characters that name its kind."""
    start: int
    """Place of its header in the file, bytes."""
    body: int
    """Place of its content."""
    end: int
    """Place behind it, which may be beyond the end of the file."""


def boxes(file: BinaryIO, start: int, end: int) -> Iterator[Box]:
    """Yield the boxes between two places of a file; what follows the last whole header is left."""
    for _ in range(_MOST_BOXES):
        file.seek(start)
        header = file.read(16)
        if start + 8 > end or len(header) < 8:
            return
        length, kind = struct.unpack(">I4s", header[:8])
        body = start + 8
        if length == 1 and len(header) == 16:
            length, body = struct.unpack(">Q", header[8:])[0], start + 16
        elif length == 0:
            length = end - start
        if length < body - start or not all(0x20 <= sign < 0x7F or sign == 0xA9 for sign in kind):
            return
        yield Box(kind.decode("latin-1"), start, body, start + length)
        start += length


def lacks_index(file: BinaryIO) -> bool:
    """Return True for an MP4 or QuickTime file without a complete index (``moov``)."""
    size = file.seek(0, os.SEEK_END)
    found = list(boxes(file, 0, size))
    if not found or found[0].kind.encode("latin-1") not in _FIRST_BOXES:
        return False
    return not any(box.kind == "moov" and box.end <= size for box in found)


def torn_fragment(file: BinaryIO) -> int | None:
    """Return the place of the fragment within whose header (``moof``) an MP4 file ends, else None.

    libav refuses such a file.
    """
    size = file.seek(0, os.SEEK_END)
    return next((b.start for b in boxes(file, 0, size) if b.kind == "moof" and b.end > size), None)


def brand(head: bytes) -> str:
    """Return the major brand of an ISO file from its first bytes, empty for another file."""
    return head[8:12].decode("latin-1") if head[4:8] == b"ftyp" else ""


def _mp4(file: BinaryIO, size: int) -> Promise:
    reach, inside = 0, ""
    seconds: Fraction | None = None
    for box in boxes(file, 0, size):
        if box.kind == "moov" and box.end <= size:
            seconds = _fragments_seconds(file, box)
        if box.kind == "sidx" and box.end <= size:
            reach = max(reach, _indexed_end(file, box))
        if box.end > size and box.kind in _MEDIA_BOXES:
            reach, inside = max(reach, box.end), box.kind
    return Promise(reach or None, seconds, inside)


def _fragments_seconds(file: BinaryIO, moov: Box) -> Fraction | None:
    """Return the duration of all fragments (``mehd``), which a closed recording states."""
    scale = 0
    for box in boxes(file, moov.body, moov.end):
        file.seek(box.body)
        if box.kind == "mvhd":
            content = file.read(32)
            scale = struct.unpack_from(">I", content, 20 if content[0] == 1 else 12)[0]
        if box.kind == "mvex":
            for inner in boxes(file, box.body, box.end):
                if inner.kind == "mehd":
                    file.seek(inner.body)
                    content = file.read(12)
                    wide = content[0] == 1
                    duration = struct.unpack_from(">Q" if wide else ">I", content, 4)[0]
                    return Fraction(duration, scale) or None
    return None


def _indexed_end(file: BinaryIO, sidx: Box) -> int:
    """Return where the segments of a segment index end."""
    file.seek(sidx.body)
    content = file.read(sidx.end - sidx.body)
    wide = content[0] == 1
    at = 28 if wide else 20
    first = struct.unpack_from(">Q" if wide else ">I", content, 20 if wide else 16)[0]
    count = struct.unpack_from(">H", content, at + 2)[0]
    sizes = (struct.unpack_from(">I", content, at + 4 + 12 * n)[0] for n in range(count))
    return int(sidx.end + first + sum(word & 0x7FFFFFFF for word in sizes))


# -- Matroska ----------------------------------------------------------------------------------

_SEGMENT, _INFO, _CLUSTER = 0x18538067, 0x1549A966, 0x1F43B675
_TIMESTAMP_SCALE, _DURATION = 0x2AD7B1, 0x4489


def _number(file: BinaryIO, *, marked: bool) -> int | None:
    """Read an EBML number; None for an unknown size or the end. ``marked`` keeps the length bit."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    length = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(length - 1), "big")
    if marked:
        return value
    value &= (1 << 7 * length) - 1
    return None if value == (1 << 7 * length) - 1 else value


def _elements(file: BinaryIO, end: int | None) -> Iterator[tuple[int, int | None]]:
    """Yield the identity and the size of each element, with the file at its content."""
    for _ in range(_MOST_ELEMENTS):
        if end is not None and file.tell() >= end:
            return
        identity = _number(file, marked=True)
        if identity is None:
            return
        length = _number(file, marked=False)
        start = file.tell()
        yield identity, length
        if length is None:
            return
        file.seek(start + length)


def _matroska(file: BinaryIO) -> Promise:
    file.seek(0)
    for identity, length in _elements(file, None):
        if identity != _SEGMENT:
            continue
        end = None if length is None else file.tell() + length
        for inner, inner_length in _elements(file, end):
            if inner == _CLUSTER:
                break
            if inner == _INFO and inner_length is not None:
                return Promise(end, _matroska_seconds(file, file.tell() + inner_length))
        return Promise(end)
    return Promise()


def _matroska_seconds(file: BinaryIO, end: int) -> Fraction | None:
    scale, duration = 1_000_000, 0.0
    for identity, length in _elements(file, end):
        content = file.read(min(length or 0, 8))
        if identity == _TIMESTAMP_SCALE:
            scale = int.from_bytes(content, "big")
        if identity == _DURATION:
            duration = struct.unpack(">f" if len(content) == 4 else ">d", content)[0]
    return Fraction(duration) * scale / 10**9 if duration > 0 else None


# -- AVI, FLV, ASF -----------------------------------------------------------------------------


def _avi(file: BinaryIO, size: int) -> Promise:
    """Follow the RIFF chunks, of which files over 1 GB have several (OpenDML)."""
    file.seek(0)
    seconds = _avi_seconds(file.read(_HEAD_BYTES))
    start = 0
    while start + 12 <= size:
        file.seek(start)
        mark, length, form = struct.unpack("<4sI4s", file.read(12))
        if mark != b"RIFF" or form not in (b"AVI ", b"AVIX"):
            break
        start += 8 + length + length % 2
        if start > size:
            return Promise(start, seconds, inside="RIFF")
        if not length:
            return Promise()  # never closed
    return Promise(seconds=seconds)


def _avi_seconds(head: bytes) -> Fraction | None:
    """Return the duration of the first video stream, by its header (``strh``)."""
    at = head.find(b"vids")
    if at < 8 or head[at - 8 : at - 4] != b"strh":
        return None
    scale, rate, _, length = struct.unpack_from("<4I", head, at + 20)
    return Fraction(length * scale, rate) or None


def _flv(head: bytes) -> Promise:
    def stated(name: bytes) -> float:
        at = head.find(struct.pack(">H", len(name)) + name + b"\0")
        return struct.unpack_from(">d", head, at + len(name) + 3)[0] if at >= 0 else 0.0

    seconds, size = stated(b"duration"), stated(b"filesize")
    return Promise(
        int(size) if 0 < size < 2**53 else None, Fraction(seconds) if seconds > 0 else None
    )


_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_ASF_BROADCAST = 1


def _asf(head: bytes) -> Promise:
    at = head.find(_ASF_FILE)
    if at < 0:
        return Promise()
    size, _, _, play, _, preroll, flags = struct.unpack_from("<6QI", head, at + 40)
    if flags & _ASF_BROADCAST:
        return Promise()  # the other fields mean nothing then
    seconds = Fraction(play, 10**7) - Fraction(preroll, 1000)
    return Promise(size or None, seconds if seconds > 0 else None)


# -- IVF, and containers that state no length --------------------------------------------------

_PACKET_SIZES = (188, 192, 204)
"""Sizes of the packets of a transport stream: plain, with a time in front, with parity behind."""
_SYNC = 0x47
_LEAST_PACKETS = 5
_PACK = b"\0\0\1\xba"


def _ivf(file: BinaryIO, size: int, head: bytes) -> Promise:
    rate, scale, frames = struct.unpack_from("<3I", head, 16)
    seconds = Fraction(frames * scale, rate) or None
    start = struct.unpack_from("<H", head, 6)[0]
    while start + 12 <= size:
        file.seek(start)
        start += 12 + struct.unpack("<I", file.read(4))[0]
    return Promise(start, seconds, "frame") if start > size else Promise(seconds=seconds)


def _ogg(file: BinaryIO, size: int) -> Promise:
    """Return whether a stream lacks its last page; Ogg states no duration."""
    file.seek(max(0, size - _HEAD_BYTES))
    tail = file.read()
    page = tail.rfind(b"OggS")
    closed = page >= 0 and len(tail) > page + 5 and tail[page + 5] & 4
    return Promise(inside="" if closed else "page", unmeasured=True)


def _gif(file: BinaryIO, size: int) -> Promise:
    file.seek(max(0, size - 16))
    return Promise(inside="" if b";" in file.read() else "picture", unmeasured=True)


def _transport(head: bytes, size: int) -> Promise:
    """Return whether a transport stream ends within a packet; program streams are known as such."""
    for length in _PACKET_SIZES:
        for first in range(length):
            marks = head[first : first + 64 * length : length]
            if len(marks) >= _LEAST_PACKETS and set(marks) == {_SYNC}:
                start = first - 4 if length == 192 else first
                torn = (size - start) % length
                return Promise(inside="transport packet" if torn else "", unmeasured=True)
    return Promise(unmeasured=head[:4] == _PACK)
