"""A member put in front of a stored JSON object, without encoding the object anew.

Titles of equal content share one package and its stored answers, so what a title is called is put
in when an answer is sent. The gzip bodies of bundles begin with a stored block that holds ``{`` and
nothing else: that block is replaced by one that holds ``{`` and the member, and the checksum is
moved along. Bodies by earlier releases do not begin so, and have to be encoded anew.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from functools import lru_cache
from typing import Final

GZIP_HEADER: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
GZIP_TRAILER: Final = struct.Struct("<II")
"""CRC-32 of the text, and its length."""
_STORED = struct.Struct("<BHH")
_POLYNOMIAL = 0xEDB88320
_OBJECT = b"{"
_LEVEL = 4
"""Level of what is encoded while somebody waits."""


def stored_block(text: bytes, *, last: bool = False) -> bytes:
    """Return a deflate block that holds ``text`` as it is, up to 65,535 bytes."""
    return _STORED.pack(last, len(text), 0xFFFF ^ len(text)) + text


OPENING: Final = GZIP_HEADER + stored_block(_OBJECT)
"""First bytes of the gzip body of a JSON object in which a member can be put."""


def gzip_object(text: bytes) -> bytes:
    """Encode the text of a JSON object so that a member can be put in front."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = packer.compress(text[len(_OBJECT) :]) + packer.flush()
    return OPENING + packed + GZIP_TRAILER.pack(zlib.crc32(text), len(text))


def with_member(text: bytes, member: bytes) -> bytes:
    """Return a JSON object of one member or more with another in front, ``"name":value``."""
    return _OBJECT + member + b"," + text[len(_OBJECT) :]


def gzip_with_member(packed: bytes, member: bytes) -> bytes:
    """Return the gzip body of a JSON object with another member in front."""
    if not packed.startswith(OPENING):
        return gzip.compress(with_member(gzip.decompress(packed), member), _LEVEL, mtime=0)
    head = _OBJECT + member + b","
    crc32, length = GZIP_TRAILER.unpack(packed[-GZIP_TRAILER.size :])
    crc32 ^= _moved(zlib.crc32(_OBJECT) ^ zlib.crc32(head), length - len(_OBJECT))
    trailer = GZIP_TRAILER.pack(crc32, length + len(head) - len(_OBJECT))
    body = packed[len(OPENING) : -GZIP_TRAILER.size]
    return GZIP_HEADER + stored_block(head) + body + trailer


@lru_cache(maxsize=16_384)
def _moved(crc32: int, count: int) -> int:
    """Return the CRC-32 of what is followed by ``count`` bytes, as a part of the CRC-32 of both.

    As ``crc32_combine`` of zlib does it, which Python does not offer.
    """
    return _product(_power(8 * count), crc32)


def _product(a: int, b: int) -> int:
    """Multiply two polynomials modulo that of CRC-32, whose highest power is the lowest bit."""
    product, bit = 0, 1 << 31
    while a:
        if a & bit:
            product ^= b
            a ^= bit
        bit >>= 1
        b = (b >> 1) ^ _POLYNOMIAL if b & 1 else b >> 1
    return product


def _power(exponent: int) -> int:
    """Return x to an exponent, modulo the polynomial of CRC-32."""
    power, number = 1 << 31, 0
    while exponent:
        if exponent & 1:
            power = _product(_square(number), power)
        exponent >>= 1
        number += 1
    return power


@lru_cache(maxsize=64)
def _square(number: int) -> int:
    """Return x squared ``number`` times."""
    if number == 0:
        return 1 << 30
    return _product(_square(number - 1), _square(number - 1))
