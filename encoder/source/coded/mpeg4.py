"""Pictures in packets of MPEG-4 part 2: how many there are, and which are coded at all. Pure.

DivX and XviD *pack* a B-frame into the packet of the picture that it depends on, and send a picture
that is not coded (N-VOP) in its place. N-VOPs also stand for pictures that equal the one before.
"""

from __future__ import annotations

import re

from encoder.source.coded.bits import Bits

_VOP = b"\0\0\1\xb6"
_LAYER = re.compile(rb"\x00\x00\x01[\x20-\x2f]")
_PACKED = re.compile(rb"(\x00\x00\x01\xb2DivX\d+(?:b|Build)\d+)p")
_LAYER_BYTES = 64
_HEADER_BYTES = 32
_VBV_BITS = 79
_EXTENDED_ASPECT = 15


def pictures(packet: bytes) -> int:
    """Return the number of pictures (VOPs) in a packet; over 1 where B-frames are packed."""
    return packet.count(_VOP)


def unpacked_headers(extradata: bytes | None) -> bytes | None:
    """Return a stream's headers without the mark that makes decoders expect packed pictures, and
    skip pictures of a few bytes.
    """
    return _PACKED.sub(b"\\1\0", extradata) if extradata else extradata


def time_bits(data: bytes) -> int | None:
    """Return the size of a picture's time increment in bits, as the last video object layer in the
    data defines it; None without one.
    """
    layers = list(_LAYER.finditer(data))
    if not layers:
        return None
    bits = Bits(data[layers[-1].end() : layers[-1].end() + _LAYER_BYTES])
    bits.fixed(9)  # random_accessible_vol, video_object_type_indication
    if bits.fixed(1):  # is_object_layer_identifier
        bits.fixed(7)
    if bits.fixed(4) == _EXTENDED_ASPECT:
        bits.fixed(16)
    if bits.fixed(1):  # vol_control_parameters
        bits.fixed(3)
        if bits.fixed(1):  # vbv_parameters
            bits.fixed(_VBV_BITS)
    bits.fixed(3)  # video_object_layer_shape, marker
    resolution = bits.fixed(16)
    return max(1, (resolution - 1).bit_length())


def coded(packet: bytes, time_bits: int | None) -> bool:
    """Return False where the first picture of a packet is not coded: the one before is shown on.

    Args:
        packet: a packet of the stream.
        time_bits: see :func:`time_bits`; None where it is not known.
    """
    start = packet.find(_VOP)
    if start < 0 or time_bits is None:
        return True
    bits = Bits(packet[start + 4 : start + 4 + _HEADER_BYTES])
    bits.fixed(2)  # vop_coding_type
    for _ in range(8 * _HEADER_BYTES):  # modulo_time_base
        if not bits.fixed(1):
            break
    bits.fixed(1 + time_bits + 1)
    return bool(bits.fixed(1))
