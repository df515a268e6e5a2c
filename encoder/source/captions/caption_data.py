"""Find caption data (CEA-608 and CEA-708) in coded pictures and in ancillary data. Pure.

Broadcasters put captions into the pictures' user data, as triplets of a type and two bytes (ANSI/
SCTE 128 and ATSC A/53, marked ``GA94``). DVDs and cable systems have forms of their own. Files of
cameras and servers may hold the same triplets in packets of ancillary data (SMPTE 334 and 436).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

CODECS = ("h264", "hevc", "mpeg2video", "mpeg1video", "av1", "vc1", "wmv3")
"""Video codecs whose pictures may carry captions, by ffmpeg's canonical names."""

FIELD_1, FIELD_2, DTVCC_DATA, DTVCC_START = range(4)
"""Types of a triplet: CEA-608 in the first or second field; the middle or the start of a packet
of CEA-708."""

_A53 = b"GA94\x03"
_DVD = b"CC\x01\xf8"
_SCTE_20 = (b"\x03\x01", b"\x03\x81")
_USER_DATA = b"\0\0\1\xb2"
_PICTURE = b"\0\0\1\0"
_EXTENSION = b"\0\0\1\xb5"
_ESCAPED = ("h264", "hevc")
_A53_BYTES = 160  # more than 31 triplets and the bytes that prevent start codes take


@dataclass(frozen=True, slots=True)
class Triplet:
    """Two bytes of captions."""

    kind: int
    """:data:`FIELD_1` to :data:`DTVCC_START`."""
    first: int
    second: int
    frames_later: int = 0
    """Frames at 30000/1001 fps by which it is due after the picture that carries it."""


def in_picture(codec: str, packet: bytes) -> Iterator[Triplet]:
    """Yield the triplets that a coded picture carries, in order.

    ``codec`` is one of :data:`CODECS`.
    """
    at = packet.find(_A53)
    while at >= 0:
        body = packet[at + len(_A53) : at + len(_A53) + _A53_BYTES]
        if codec in _ESCAPED:
            body = body.replace(b"\0\0\3", b"\0\0")
        yield from a53(body)
        at = packet.find(_A53, at + len(_A53))
    if codec in ("mpeg2video", "mpeg1video"):
        yield from _in_user_data(packet)


def a53(data: bytes) -> Iterator[Triplet]:
    """Yield the valid triplets of ``cc_data`` (ATSC A/53 part 4, 6.2.3), which begins ``data``."""
    if len(data) < 2 or not data[0] & 0x40:
        return
    yield from triplets(data[2 : 2 + 3 * (data[0] & 0x1F)])


def triplets(data: bytes) -> Iterator[Triplet]:
    """Yield the valid ones among triplets that follow each other."""
    for at in range(0, len(data) - 2, 3):
        if data[at] & 4:
            yield Triplet(data[at] & 3, data[at + 1], data[at + 2])


def _in_user_data(packet: bytes) -> Iterator[Triplet]:
    """Yield the triplets of DVDs and of SCTE 20."""
    at = packet.find(_USER_DATA)
    while at >= 0:
        start = at + len(_USER_DATA)
        at = packet.find(_USER_DATA, start)
        if packet.startswith(_DVD, start):
            yield from _dvd(packet[start + len(_DVD) :])
        elif packet.startswith(_SCTE_20, start):
            yield from _scte_20(packet[start + 2 : start + 2 + 128], _bottom_first(packet))


def _dvd(data: bytes) -> Iterator[Triplet]:
    """Yield the captions of a whole group of pictures, one pair of each field per frame.

    The count in the data is often wrong, and the fields may all be marked as odd: they alternate.
    """
    field = FIELD_1 if data and data[0] & 0x80 else FIELD_2
    number, at = 0, 1
    while at + 3 <= len(data) and data[at] & 0xFE == 0xFE:
        yield Triplet(field, data[at + 1], data[at + 2], number // 2)
        field = FIELD_1 + FIELD_2 - field
        number, at = number + 1, at + 3


def _scte_20(data: bytes, swapped: bool) -> Iterator[Triplet]:
    """Yield the captions of ANSI/SCTE 20, whose bytes begin with their least significant bit."""
    bits = int.from_bytes(data, "big")
    left = 8 * len(data)

    def take(width: int) -> int:
        nonlocal left
        left -= width
        return bits >> left & (1 << width) - 1 if left >= 0 else 0

    for _ in range(take(5)):
        take(2)
        field = take(2)
        take(5)
        first, second = (int(f"{take(8):08b}"[::-1], 2) for _ in range(2))
        take(1)
        if left < 0:
            return
        if field:
            later = (field == 2) != swapped
            yield Triplet(FIELD_2 if later else FIELD_1, first, second)


def _bottom_first(packet: bytes) -> bool:
    """Return True for an interlaced picture of MPEG-2 whose bottom field is shown first."""
    at = packet.find(_EXTENSION)
    while at >= 0:
        body = packet[at + 4 : at + 9]
        if len(body) == 5 and body[0] >> 4 == 8:
            return not body[3] & 0x80 and not body[4] & 0x80
        at = packet.find(_EXTENSION, at + 4)
    return False


def shown_before(packet: bytes) -> int:
    """Return how many pictures of its group are shown before a picture of MPEG-2 (its temporal
    reference), 0 when unknown.

    The captions of a DVD are due from the first picture that is shown.
    """
    at = packet.find(_PICTURE)
    if at < 0 or at + 6 > len(packet):
        return 0
    return packet[at + 4] << 2 | packet[at + 5] >> 6


def has_dvd(packet: bytes) -> bool:
    """Return True where a picture of MPEG-2 carries captions as DVDs do."""
    return _USER_DATA + _DVD in packet


def caption_distribution_packet(data: bytes) -> Iterator[Triplet]:
    """Yield the triplets of a caption distribution packet (SMPTE 334-2), which begins ``data``."""
    if len(data) < 7 or data[:2] != b"\x96\x69":
        return
    at = 7
    if data[4] & 0x80 and data[at : at + 1] == b"\x71":
        at += 5
    if data[4] & 0x40 and data[at : at + 1] == b"\x72":
        yield from triplets(data[at + 2 : at + 2 + 3 * (data[at + 1] & 0x1F)])


def ancillary(data: bytes) -> Iterator[Triplet]:
    """Yield the triplets in the ancillary data of one frame of MXF (SMPTE 436, 8 bit coding)."""
    at = 2
    for _ in range(int.from_bytes(data[:2], "big")):
        head = data[at : at + 14]
        if len(head) < 14:
            return
        size = int.from_bytes(head[6:10], "big") * int.from_bytes(head[10:14], "big")
        payload = data[at + 14 : at + 14 + size]
        at += 14 + size
        if len(payload) < 4 or head[3] not in _EIGHT_BIT:
            continue
        words = payload[3 : 3 + payload[2]]
        if payload[:2] == b"\x61\x01":
            yield from caption_distribution_packet(words)
        elif payload[:2] == b"\x61\x02" and len(words) >= 3:
            yield Triplet(FIELD_1 if words[0] & 0x80 else FIELD_2, words[1], words[2])


_EIGHT_BIT = (4, 5, 6, 10, 11, 12)  # payload sample codings of SMPTE 436 with a byte per word


def in_track(packet: bytes) -> Iterator[Triplet]:
    """Yield the triplets of a packet of a QuickTime caption track, as ffmpeg reads it."""
    if packet[4:8] == b"ccdp":
        yield from caption_distribution_packet(packet[8:])
    elif packet[:2] == b"\x96\x69":
        yield from caption_distribution_packet(packet)
    else:
        yield from triplets(packet)
