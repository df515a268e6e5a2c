"""Holes in the middle of Matroska files: places where the chain of elements is broken.

An unfinished download that was allocated in full and a bad disk leave zeros or other data there,
which libavformat skips without an error. Only identities and sizes of elements are read, so that a
file of 100 GB costs a read per cluster, and the data of a hole.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import BinaryIO

_SEGMENT, _INFO, _CLUSTER = 0x18538067, 0x1549A966, 0x1F43B675
_TIMESTAMP_SCALE, _TIMESTAMP, _SIMPLE_BLOCK = 0x2AD7B1, 0xE7, 0xA3
_ANYWHERE = (0xEC, 0xBF)  # Void, CRC-32
_TOP = (
    *(_INFO, _CLUSTER, 0x114D9B74, 0x1654AE6B, 0x1C53BB6B, 0x1941A469, 0x1043A770, 0x1254C367),
    *(0x1B538667, 0x1A45DFA3, _SEGMENT),
)
"""Elements of a segment (and its signature), and those that begin another file behind it."""
_IN_CLUSTER = (_TIMESTAMP, 0xA7, 0xAB, _SIMPLE_BLOCK, 0xA0, 0xAF, 0x5854)
_MOST_BLOCKS = 200_000
"""Blocks that are looked at; behind them, only holes that reach the end of a cluster are found."""
_CLUSTER_HEAD_BYTES = 64
"""Bytes of a cluster in which its time stands."""
_HEADER_BYTES = 12
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Hole:
    """A place in which a Matroska file holds no elements."""

    start: int
    """Place of its first byte in the file."""
    end: int
    """Place of the next element of the segment."""
    begin_seconds: Fraction
    """Time of what lies before it."""
    end_seconds: Fraction | None
    """Time of the next cluster, None where none comes."""


@dataclass(frozen=True, slots=True)
class _Element:
    identity: int
    body: int
    end: int | None
    """Place behind it, None for an unknown size."""


def find_holes(file: BinaryIO) -> tuple[Hole, ...]:
    """Return the holes of an open Matroska file, in order; none of a file of another kind.

    What a file ends with is not judged: the end of a recording may be torn.
    """
    return tuple(_Walk(file).holes())


class _Walk:
    """A walk along the elements of a segment."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, os.SEEK_END)
        self._blocks = 0
        self._scale = Fraction(1, 1000)
        self._cluster = self._time = Fraction(0)

    def holes(self) -> Iterator[Hole]:
        head = self._element(0)
        if head is None or head.identity != 0x1A45DFA3 or head.end is None:
            return
        segment = self._element(head.end)
        while segment is not None and segment.identity in _ANYWHERE and segment.end is not None:
            segment = self._element(segment.end)
        if segment is None or segment.identity != _SEGMENT:
            return
        at, end = segment.body, min(segment.end or self._size, self._size)
        while at < end:
            broken, following = self._pass(at, end)
            if broken is None:
                if following is None:
                    return
                at = following
                continue
            before, found = self._time, self._next(max(broken, following or 0), end)
            if found is None:
                return
            after = self._time_of_next(found, end)
            yield Hole(broken, found, before, after)
            at = found

    def _pass(self, at: int, end: int) -> tuple[int | None, int | None]:
        """Return where the chain breaks at or in the element at a place, and where the next
        element is expected; None for both where the walk ends.
        """
        element = self._element(at)
        if at + _HEADER_BYTES > end:
            return None, None
        if element is None or not self._known(element, end, _TOP):
            return at, None
        if element.identity in (0x1A45DFA3, _SEGMENT) or (element.end or 0) > end:
            return None, None
        if element.identity == _INFO and element.end is not None:
            self._read_scale(element)
        if element.identity == _CLUSTER:
            return self._pass_cluster(element, end)
        return None, element.end

    def _pass_cluster(self, cluster: _Element, end: int) -> tuple[int | None, int | None]:
        at, inner_end = cluster.body, cluster.end or end
        while at < inner_end:
            if self._blocks >= _MOST_BLOCKS and at > cluster.body + _CLUSTER_HEAD_BYTES:
                break
            inner = self._element(at)
            if inner is not None and cluster.end is None and inner.identity in _TOP:
                return None, at
            if cluster.end is None and at + _HEADER_BYTES > end:
                return None, None
            if inner is None or not self._known(inner, inner_end, _IN_CLUSTER):
                return at, cluster.end
            if inner.end is None or inner.end > inner_end:
                return (None, None) if cluster.end is None else (at, cluster.end)
            self._blocks += 1
            self._read_time(inner)
            at = inner.end
        return None, cluster.end

    def _known(self, element: _Element, end: int, known: tuple[int, ...]) -> bool:
        """Return True for an element of these, or one of a later standard that another follows."""
        if element.identity in known or element.identity in _ANYWHERE:
            return True
        if element.end is None or element.end > end:
            return False
        following = self._element(element.end)
        return element.end == end or (
            following is not None and following.identity in (*known, *_ANYWHERE, *_TOP)
        )

    def _next(self, at: int, end: int) -> int | None:
        """Return the place of the first element of the segment at or behind a place."""
        marks = [identity.to_bytes(4, "big") for identity in _TOP[:-3]]
        while at < end:
            self._file.seek(at)
            block = self._file.read(min(_BLOCK_BYTES, end - at))
            if len(block) < 4:
                return None
            if any(block):
                places = (place for mark in marks for place in _places(block, mark))
                for place in sorted(places):
                    element = self._element(at + place)
                    if element is not None and self._leads_on(element, end):
                        return at + place
            at += len(block) - 3
        return None

    def _leads_on(self, element: _Element, end: int) -> bool:
        if element.end is None or element.end >= end:
            return element.identity == _CLUSTER or element.end == end
        # What follows may be the next hole.
        return element.body < element.end

    def _time_of_next(self, at: int, end: int) -> Fraction | None:
        element = self._element(at)
        if element is None or element.identity != _CLUSTER:
            return None
        for _ in range(4):
            element = self._element(element.body if element.identity == _CLUSTER else at)
            if element is None or element.end is None or element.end > end:
                return None
            if element.identity == _TIMESTAMP:
                self._read_time(element)
                return self._time
            at = element.end
        return None

    def _read_scale(self, info: _Element) -> None:
        at = info.body
        while info.end is not None and at < info.end:
            element = self._element(at)
            if element is None or element.end is None:
                return
            if element.identity == _TIMESTAMP_SCALE:
                self._scale = Fraction(self._integer(element), 10**9)
            at = element.end

    def _read_time(self, element: _Element) -> None:
        if element.identity == _TIMESTAMP:
            self._cluster = self._time = self._integer(element) * self._scale
        elif element.identity == _SIMPLE_BLOCK:
            self._file.seek(element.body)
            head = self._file.read(_HEADER_BYTES)
            length = 9 - head[0].bit_length() if head and head[0] else 1
            offset = int.from_bytes(head[length : length + 2], "big", signed=True)
            self._time = max(self._time, self._cluster + offset * self._scale)

    def _integer(self, element: _Element) -> int:
        self._file.seek(element.body)
        return int.from_bytes(self._file.read(min(8, (element.end or 0) - element.body)), "big")

    def _element(self, at: int) -> _Element | None:
        """Return the element whose header is at a place, None where there can be none."""
        self._file.seek(at)
        header = self._file.read(_HEADER_BYTES)
        length = 9 - header[0].bit_length() if header and header[0] else 5
        if length > 4 or len(header) <= length or not header[length]:
            return None
        size_length = 9 - header[length].bit_length()
        body = length + size_length
        if len(header) < body:
            return None
        content = int.from_bytes(header[length:body], "big") & ((1 << 7 * size_length) - 1)
        unknown = content == (1 << 7 * size_length) - 1
        identity = int.from_bytes(header[:length], "big")
        return _Element(identity, at + body, None if unknown else at + body + content)


def _places(block: bytes, mark: bytes) -> Iterator[int]:
    place = block.find(mark)
    while place >= 0:
        yield place
        place = block.find(mark, place + 1)
