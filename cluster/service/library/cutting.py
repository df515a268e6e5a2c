"""A list of which the first ``k`` entries can be sent without making them anew, in either coding.

Its text is ``head``, the entries with commas between them, ``]}``: what ends after entry ``k``
needs ``]}`` behind it. Its gzip form ends every entry on a byte (a sync flush), so that what ends
there needs one more block, which holds ``]}`` as it is, and gzip's check of the whole, which is
kept::

    table    per entry, 12 bytes: end in the text, end in the gzip form, CRC-32 of text and ``]}``
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

CLOSE = b"]}"
RECORD_BYTES = 12
_RECORD = struct.Struct("<III")
_CHECK = struct.Struct("<II")
_GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_LAST_BLOCK = struct.pack("<BHH", 1, len(CLOSE), 0xFFFF ^ len(CLOSE)) + CLOSE
"""Deflate's last block, stored, after a byte's end."""


@dataclass(frozen=True, slots=True)
class Cuttable:
    """The whole list in both codings, and where it can be cut."""

    plain: bytes
    gzip: bytes
    table: bytes
    """Of one entry or more, one record each."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a list ends, and what is sent behind it."""

    plain: int
    """Bytes of the text."""
    gzip: int
    """Bytes of the gzip form."""
    gzip_close: bytes


def cuttable(head: bytes, entries: Sequence[bytes]) -> Cuttable:
    """A list that ends in ``]}``.

    Args:
        head: what is before the first entry.
        entries: one at least.
    """
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    plain, packed, table = bytearray(head), bytearray(_GZIP_HEAD + packer.compress(head)), b""
    for number, entry in enumerate(entries):
        part = b"," + entry if number else entry
        plain += part
        packed += packer.compress(part) + packer.flush(zlib.Z_SYNC_FLUSH)
        table += _RECORD.pack(len(plain), len(packed), zlib.crc32(plain + CLOSE))
    whole = cut_at(table[-RECORD_BYTES:])
    return Cuttable(bytes(plain) + CLOSE, bytes(packed) + whole.gzip_close, table)


def cut_at(record: bytes) -> Cut:
    """The cut that a record of the table says."""
    plain, packed, check = _RECORD.unpack(record)
    return Cut(plain, packed, _LAST_BLOCK + _CHECK.pack(check, plain + len(CLOSE)))
