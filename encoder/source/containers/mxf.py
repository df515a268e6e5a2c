"""Rules of an MXF file that libavformat does not follow: several items, and pre-charge."""

from __future__ import annotations

import os
from pathlib import Path

from encoder.errors import SourceUnusable

DEMUXER = "mxf"
"""Name of the demuxer."""

_HEADER_BYTES = 1 << 20
_PATTERN = bytes.fromhex("060e2b340401")  # a label; versions and the category follow
_PATTERN_TAIL = bytes.fromhex("0d010201")
_SINGLE_ITEM, _ATOM = 1, 0x10
_ORIGIN = b"\x4b\x02\x00\x08"
_MOST_ORIGIN = 1000


def check_pattern(path: str | os.PathLike[str]) -> None:
    """Check that a file plays one item from its beginning to its end (OP1a, OP1b, OP-Atom).

    Raises:
        SourceUnusable: it is a play list or an edit.
    """
    items = pattern_items(_header(path))
    if items not in (None, _SINGLE_ITEM, _ATOM):
        raise SourceUnusable(
            f"cannot use {path}: it is MXF with several items (OP{items}), whose order and cuts "
            "are not followed; export it as OP1a"
        )


def precharge(path: str | os.PathLike[str]) -> int:
    """Return the number of pictures before the one at which the file asks to begin.

    libavformat gives them all.
    """
    return first_origin(_header(path))


def _header(path: str | os.PathLike[str]) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(_HEADER_BYTES)


def pattern_items(header: bytes) -> int | None:
    """Return the item complexity of the operational pattern: 1 for a single item."""
    at = header.find(_PATTERN)
    while at >= 0:
        label = header[at : at + 16]
        if label[8:12] == _PATTERN_TAIL:
            return label[12]
        at = header.find(_PATTERN, at + 1)
    return None


def first_origin(header: bytes) -> int:
    """Return the largest origin of a track in the header's metadata, in edit units."""
    largest, at = 0, header.find(_ORIGIN)
    while at >= 0:
        value = int.from_bytes(header[at + 4 : at + 12], "big")
        if 0 < value <= _MOST_ORIGIN:
            largest = max(largest, value)
        at = header.find(_ORIGIN, at + 1)
    return largest
