"""Headers of H.264 pictures, for facts that demuxers do not report: intra or not, frame or field.

Pure. Only the first slice header of a packet is parsed. Numbers in brackets are clauses of ITU-T
H.264.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from encoder.source.coded.bits import Bits

_SLICES = (1, 2, 5)
_SEQUENCE = 7
_INTRA = (2, 4)  # values of slice_type, modulo 5: I and SI
_HEADER_BYTES = 32  # more than a slice header takes up to its field parity
_SEQUENCE_BYTES = 1024  # more than a parameter set takes, matrices included
_PROFILES_WITH_CHROMA = (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135)


@dataclass(frozen=True, slots=True)
class Sequence:
    """The fields of a sequence parameter set (7.3.2.1.1) that slice headers depend on."""

    frame_num_bits: int
    """Bits of ``frame_num`` in slice headers."""
    separate_planes: bool
    """True where slice headers name their colour plane."""
    fields: bool
    """True where pictures may be single fields."""
    mixed_blocks: bool = False
    """True where the blocks of a frame may be of fields (``mb_adaptive_frame_field_flag``)."""


@dataclass(frozen=True, slots=True)
class Slice:
    """The fields of a slice header (7.3.3) that tell frames and keyframes apart."""

    intra: bool
    """True for an I or SI slice."""
    idr: bool
    """True for a slice of an IDR picture."""
    frame_num: int
    """``frame_num``, equal in both fields of a frame; 0 when unknown."""
    field: int | None
    """0 for a top field, 1 for a bottom field, None for a frame."""


def _payload(data: bytes) -> Bits:
    """Return the bits of a raw byte sequence payload, without the bytes that keep start codes out
    of it.
    """
    return Bits(data.replace(b"\0\0\3", b"\0\0"))


def length_size(extradata: bytes | None) -> int:
    """Return the size of the length before each unit; 0 where start codes separate units."""
    if not extradata or len(extradata) < 7 or extradata[0] != 1:
        return 0
    return (extradata[4] & 3) + 1


def sequence_of(extradata: bytes | None) -> Sequence | None:
    """Return the first sequence parameter set in a stream's extradata, None without one.

    Extradata is an ``avcC`` record, or units after start codes.
    """
    if not extradata:
        return None
    if length_size(extradata):
        # The first set follows six bytes of the record, after its length.
        size = int.from_bytes(extradata[6:8], "big")
        candidates = [extradata[8 : 8 + size]] if extradata[5] & 0x1F else []
    else:
        candidates = list(units(extradata, 0))
    sets = (unit for unit in candidates if len(unit) > 4 and unit[0] & 0x1F == _SEQUENCE)
    data = next(sets, None)
    return None if data is None else _sequence(_payload(data[1:_SEQUENCE_BYTES]))


def _sequence(bits: Bits) -> Sequence:
    profile = bits.fixed(8)
    bits.fixed(16)
    bits.golomb()
    separate = False
    if profile in _PROFILES_WITH_CHROMA:
        chroma = bits.golomb()
        if chroma == 3:
            separate = bool(bits.fixed(1))
        bits.golomb()
        bits.golomb()
        bits.fixed(1)
        if bits.fixed(1):
            for number in range(12 if chroma == 3 else 8):
                if bits.fixed(1):
                    _skip_scaling_list(bits, 16 if number < 6 else 64)
    frame_num_bits = min(16, bits.golomb() + 4)
    order = bits.golomb()
    if order == 0:
        bits.golomb()
    elif order == 1:
        bits.fixed(1)
        bits.golomb()
        bits.golomb()
        for _ in range(min(255, bits.golomb())):
            bits.golomb()
    bits.golomb()
    bits.fixed(1)
    bits.golomb()
    bits.golomb()
    fields = not bits.fixed(1)
    return Sequence(frame_num_bits, separate, fields, mixed_blocks=fields and bool(bits.fixed(1)))


def _skip_scaling_list(bits: Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last


def units(packet: bytes, length_bytes: int) -> Iterator[bytes]:
    """Yield the NAL units of a packet or of extradata, each from its header on."""
    position = 0
    while position + 4 < len(packet):
        if length_bytes:
            size = int.from_bytes(packet[position : position + length_bytes], "big")
            start = position + length_bytes
            position = start + size
            yield packet[start:position]
        else:
            start = packet.find(b"\0\0\1", position) + 3
            if start < 3:
                return
            position = packet.find(b"\0\0\1", start)
            if position < 0:
                position = len(packet)
            yield packet[start:position]


def first_slice(packet: bytes, length_bytes: int, sequence: Sequence | None) -> Slice | None:
    """Return the header of a packet's first slice, None without one.

    Without a ``sequence`` only :attr:`Slice.intra` and :attr:`Slice.idr` are known.
    """
    for unit in units(packet, length_bytes):
        if not unit or unit[0] & 0x1F not in _SLICES:
            continue
        bits = _payload(unit[1 : 1 + _HEADER_BYTES])
        bits.golomb()  # first_mb_in_slice
        intra = bits.golomb() % 5 in _INTRA
        idr = unit[0] & 0x1F == 5
        if sequence is None:
            return Slice(intra, idr, 0, None)
        bits.golomb()
        if sequence.separate_planes:
            bits.fixed(2)
        frame_num = bits.fixed(sequence.frame_num_bits)
        field = bits.fixed(1) if sequence.fields and bits.fixed(1) else None
        return Slice(intra, idr, frame_num, field)
    return None


def completes(first: Slice | None, second: Slice | None) -> bool:
    """Return True where ``second`` is the other field of the frame that ``first`` began.

    Each field may come in a packet of its own; a decoder makes one frame of both, shown at the
    time of the first.
    """
    return (
        first is not None
        and second is not None
        and first.field is not None
        and second.field == 1 - first.field
        and second.frame_num == first.frame_num
        and not second.idr
    )
