"""The tables of a transport stream that say which packets belong to which programme. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from encoder.source.transport.packets import PACKET

Kind = Literal["video", "audio", "subtitle", "data"]
"""What an elementary stream is."""

_VIDEO_TYPES = {
    0x01: "MPEG-1 video",
    0x02: "MPEG-2 video",
    0x10: "MPEG-4 video",
    0x1B: "H.264",
    0x20: "H.264 (3D)",
    0x21: "JPEG 2000",
    0x24: "HEVC",
    0x33: "VVC",
    0x42: "AVS",
    0xD1: "Dirac",
    0xD2: "AVS2",
    0xD4: "AVS3",
    0xEA: "VC-1",
}
_AUDIO_TYPES = {
    0x03: "MPEG audio",
    0x04: "MPEG audio",
    0x0F: "AAC",
    0x11: "AAC (LATM)",
    0x1C: "AAC",
    0x80: "LPCM",
    0x81: "AC-3",
    0x82: "DTS",
    0x83: "TrueHD",
    0x84: "E-AC-3",
    0x85: "DTS-HD",
    0x86: "DTS-HD",
    0x87: "E-AC-3",
    0xA1: "E-AC-3",
    0xA2: "DTS-HD",
}
_SUBTITLE_TYPES = {0x90: "PGS", 0x92: "text"}
# Private data is what its descriptors, or the four letters of its registration, say.
_DESCRIBED: dict[int, tuple[Kind, str]] = {
    0x6A: ("audio", "AC-3"),
    0x7A: ("audio", "E-AC-3"),
    0x7B: ("audio", "DTS"),
    0x7C: ("audio", "AAC"),
    0x56: ("subtitle", "teletext"),
    0x59: ("subtitle", "DVB subtitles"),
}
_REGISTERED: dict[bytes, tuple[Kind, str]] = {
    b"AC-3": ("audio", "AC-3"),
    b"EAC3": ("audio", "E-AC-3"),
    b"AC-4": ("audio", "AC-4"),
    b"DTS1": ("audio", "DTS"),
    b"DTS2": ("audio", "DTS"),
    b"DTS3": ("audio", "DTS"),
    b"BSSD": ("audio", "SMPTE 302M"),
    b"Opus": ("audio", "Opus"),
    b"HEVC": ("video", "HEVC"),
    b"VC-1": ("video", "VC-1"),
    b"drac": ("video", "Dirac"),
    b"AV01": ("video", "AV1"),
}
_CONDITIONAL_ACCESS, _LANGUAGE, _REGISTRATION, _COMPONENT = 0x09, 0x0A, 0x05, 0x52
_PAT, _PMT = 0x00, 0x02
_LONGEST_SECTION = 1021


@dataclass(frozen=True, slots=True)
class Elementary:
    """One stream of a programme."""

    pid: int
    stream_type: int
    descriptors: bytes

    @property
    def kind(self) -> Kind:
        """What the stream is."""
        return self._kind_and_codec[0]

    @property
    def codec(self) -> str:
        """Name of its codec, for people and for comparison."""
        return self._kind_and_codec[1]

    @property
    def _kind_and_codec(self) -> tuple[Kind, str]:
        if name := _VIDEO_TYPES.get(self.stream_type):
            return "video", name
        if name := _AUDIO_TYPES.get(self.stream_type):
            return "audio", name
        if name := _SUBTITLE_TYPES.get(self.stream_type):
            return "subtitle", name
        for tag, content in descriptors_in(self.descriptors):
            if known := _DESCRIBED.get(tag):
                return known
            if tag == _REGISTRATION and (known := _REGISTERED.get(content[:4])):
                return known
        return "data", f"type {self.stream_type:#04x}"

    @property
    def language(self) -> bytes:
        """Language and kind of audio as coded in the descriptor; empty without one."""
        return next((c for tag, c in descriptors_in(self.descriptors) if tag == _LANGUAGE), b"")

    @property
    def component(self) -> bytes:
        """Tag by which a broadcaster names the stream; empty without one."""
        return next((c for tag, c in descriptors_in(self.descriptors) if tag == _COMPONENT), b"")


@dataclass(frozen=True, slots=True)
class ProgrammeMap:
    """The streams of a programme, as one version of its map states them."""

    number: int
    clock_pid: int
    """PID of the packets that hold the programme's clock."""
    descriptors: bytes
    streams: tuple[Elementary, ...]


def descriptors_in(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the tag and the content of each descriptor."""
    while len(data) >= 2:
        yield data[0], data[2 : 2 + data[1]]
        data = data[2 + data[1] :]


class SectionReader:
    """Joins the payloads of one PID to sections; damaged ones are left out."""

    def __init__(self) -> None:
        self._begun = b""

    def feed(self, payload: bytes, begins: bool) -> list[bytes]:
        """Return the sections that are complete with this payload, their checksums tested."""
        sections = []
        if begins:
            pointer = payload[0] if payload else 0
            sections += self._take(payload[1 : 1 + pointer])
            self._begun = b""
            payload = payload[1 + pointer :]
        elif not self._begun:
            return []
        return sections + self._take(payload)

    def _take(self, data: bytes) -> list[bytes]:
        data, self._begun = self._begun + data, b""
        sections = []
        while len(data) >= 3 and data[0] != 0xFF:
            end = 3 + ((data[1] & 0x0F) << 8 | data[2])
            if len(data) < end:
                self._begun = data
                break
            if crc32(data[:end]) == 0:
                sections.append(data[:end])
            data = data[end:]
        return sections


@dataclass(frozen=True, slots=True)
class Association:
    """A section of the table that lists programmes."""

    alone: bool
    """True where the table has no other section."""
    maps: tuple[tuple[int, int], ...]
    """Number of each programme, and the PID of its map."""


def read_association(section: bytes) -> Association | None:
    """Read a section of the programme association table, None where it is something else."""
    if len(section) < 12 or section[0] != _PAT or not section[5] & 1:
        return None
    entries = section[8:-4]
    pairs = [
        (entries[at] << 8 | entries[at + 1], (entries[at + 2] & 0x1F) << 8 | entries[at + 3])
        for at in range(0, len(entries) - 3, 4)
    ]
    return Association(section[7] == 0, tuple(pair for pair in pairs if pair[0]))


def read_map(section: bytes) -> ProgrammeMap | None:
    """Read a programme map section, None where it is something else or not yet valid."""
    if len(section) < 16 or section[0] != _PMT or not section[5] & 1:
        return None
    body, length = section[12:-4], (section[10] & 0x0F) << 8 | section[11]
    descriptors, body = body[:length], body[length:]
    streams = []
    while len(body) >= 5:
        length = (body[3] & 0x0F) << 8 | body[4]
        pid = (body[1] & 0x1F) << 8 | body[2]
        streams.append(Elementary(pid, body[0], body[5 : 5 + length]))
        body = body[5 + length :]
    clock_pid = (section[8] & 0x1F) << 8 | section[9]
    return ProgrammeMap(section[3] << 8 | section[4], clock_pid, descriptors, tuple(streams))


def table_packets(programme: ProgrammeMap, map_pid: int) -> bytes:
    """Return the packets of an association table and a map for a stream of one programme."""
    association = programme.number.to_bytes(2, "big") + (0xE000 | map_pid).to_bytes(2, "big")
    body = (0xE000 | programme.clock_pid).to_bytes(2, "big")
    body += _counted(_unencrypted(programme.descriptors))
    for stream in programme.streams:
        body += bytes([stream.stream_type]) + (0xE000 | stream.pid).to_bytes(2, "big")
        body += _counted(_unencrypted(stream.descriptors))
    return b"".join(
        [
            *_packed(0, _section(_PAT, 1, association)),
            *_packed(map_pid, _section(_PMT, programme.number, body)),
        ]
    )


def _counted(data: bytes) -> bytes:
    return (0xF000 | len(data)).to_bytes(2, "big") + data


def _unencrypted(data: bytes) -> bytes:
    return b"".join(
        bytes([tag, len(content)]) + content
        for tag, content in descriptors_in(data)
        if tag != _CONDITIONAL_ACCESS
    )


def _section(table: int, number: int, body: bytes) -> bytes:
    if len(body) + 9 > _LONGEST_SECTION:
        raise ValueError("a programme of more streams than a map can hold")
    head = bytes([table]) + (0xB000 | len(body) + 9).to_bytes(2, "big")
    section = head + number.to_bytes(2, "big") + b"\xc1\0\0" + body
    return section + crc32(section).to_bytes(4, "big")


def _packed(pid: int, section: bytes) -> Sequence[bytes]:
    """Return a section in packets; their continuity counters are those of a first appearance."""
    data, room = b"\0" + section, PACKET - 4
    parts = [data[at : at + room].ljust(room, b"\xff") for at in range(0, len(data), room)]
    heads = ((pid if number else 0x4000 | pid).to_bytes(2, "big") for number in range(len(parts)))
    return [
        b"\x47" + head + bytes([0x10 | number % 16]) + part
        for number, (head, part) in enumerate(zip(heads, parts, strict=True))
    ]


def _crc_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        value <<= 24
        for _ in range(8):
            value = (value << 1 ^ (0x04C11DB7 if value & 0x80000000 else 0)) & 0xFFFFFFFF
        table.append(value)
    return tuple(table)


_CRC = _crc_table()


def crc32(data: bytes) -> int:
    """Return the checksum that ends sections; it is 0 over a section with its own checksum."""
    value = 0xFFFFFFFF
    for byte in data:
        value = (value << 8 ^ _CRC[value >> 24 ^ byte]) & 0xFFFFFFFF
    return value
