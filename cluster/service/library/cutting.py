"""JSON lists whose first ``k`` entries can be sent without encoding them anew, plain or as gzip.

The text of a list is a head, the entries joined by commas, and ``]}``: a list that is cut after
entry ``k`` needs only ``]}`` after it. In the gzip body every entry ends on a byte boundary (a sync
flush), so that a list cut there needs one more deflate block, which stores ``]}``, and the gzip
trailer. What the trailer needs is kept in a table::

    per entry, 12 bytes: its end in the text, its end in the gzip body, CRC-32 of text and ``]}``
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from cluster.service.library.splicing import GZIP_TRAILER, OPENING, stored_block

CLOSING = b"]}"
RECORD_BYTES = 12
_RECORD = struct.Struct("<III")
_LAST_BLOCK = stored_block(CLOSING, last=True)
"""Last block of a deflate stream, stored, for a stream that ends on a byte boundary."""


@dataclass(frozen=True, slots=True)
class CuttableList:
    """A whole list in both codings, and its cut table."""

    plain: bytes
    gzip: bytes
    table: bytes
    """Records of :data:`RECORD_BYTES`, one per entry."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a list is cut, and what has to be sent after the cut."""

    plain_bytes: int
    """Length of the text up to the cut; :data:`CLOSING` follows."""
    gzip_bytes: int
    """Length of the gzip body up to the cut."""
    gzip_suffix: bytes
    """Bytes to send after the gzip body."""


def cuttable_list(head: bytes, entries: Sequence[bytes]) -> CuttableList:
    """Encode a list of one entry or more, whose text begins with ``head``: a ``{`` and more."""
    packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    plain, packed, table = bytearray(head), bytearray(OPENING + packer.compress(head[1:])), b""
    for number, entry in enumerate(entries):
        part = b"," + entry if number else entry
        plain += part
        packed += packer.compress(part) + packer.flush(zlib.Z_SYNC_FLUSH)
        table += _RECORD.pack(len(plain), len(packed), zlib.crc32(plain + CLOSING))
    last = cut_at(table[-RECORD_BYTES:])
    return CuttableList(bytes(plain) + CLOSING, bytes(packed) + last.gzip_suffix, table)


def cut_at(record: bytes) -> Cut:
    """Return the cut that a record of the table describes."""
    plain_bytes, gzip_bytes, crc32 = _RECORD.unpack(record)
    trailer = GZIP_TRAILER.pack(crc32, plain_bytes + len(CLOSING))
    return Cut(plain_bytes, gzip_bytes, _LAST_BLOCK + trailer)
