"""Byte ranges of files, as RFC 9110 (section 14) has servers read them."""

from __future__ import annotations

import re

MAX_RANGES = 16
"""Limit of ranges in a request; with more of them the whole file is answered."""
_MAX_HEADER_BYTES = 1_000
_SET = re.compile(rb"bytes=(.*)", re.IGNORECASE | re.DOTALL)
_RANGE = re.compile(rb"(\d{1,30})-(\d{0,30})|-(\d{1,30})")

Ranges = list[tuple[int, int]]
"""Begin and end of each, in bytes; the end is not a part of it."""


def parse_ranges(header: bytes, size: int) -> Ranges | None:
    """Return the parts of a file of ``size`` bytes that a ``Range`` header asks for.

    They are in the order in which they were asked for, unless some overlap: those are joined, and
    the parts are in the order of the file. None says to answer with the whole file, which is right
    for another unit, for a header that is not valid, and for too many ranges. An empty list says
    that no range has a byte of the file.
    """
    found = _SET.fullmatch(header.strip(b" \t"))
    if found is None or len(header) > _MAX_HEADER_BYTES:
        return None
    texts = [text for text in (part.strip(b" \t") for part in found[1].split(b",")) if text]
    if not texts or len(texts) > MAX_RANGES:
        return None
    ranges = []
    for text in texts:
        one = _RANGE.fullmatch(text)
        if one is None:
            return None
        if one[3] is not None:  # the last bytes
            begin, end = max(size - int(one[3]), 0), size
            if size == 0 and int(one[3]):
                return None  # all bytes of an empty file, which no Content-Range can name
        else:
            begin = int(one[1])
            if one[2] and int(one[2]) < begin:
                return None
            end = min(int(one[2]) + 1, size) if one[2] else size
        if begin < end:
            ranges.append((begin, end))
    return _joined(ranges)


def _joined(ranges: Ranges) -> Ranges:
    """Return ranges without overlaps."""
    ordered = sorted(ranges)
    joined: Ranges = []
    for begin, end in ordered:
        if joined and begin <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((begin, end))
    return ranges if len(joined) == len(ranges) else joined
