"""Interlaced pictures of MPEG-2 and H.264 by their headers: every picture, without decoding.

A recording may turn interlaced anywhere. Other codecs state their scan where only a decoder sees
it; for those the places that :mod:`encoder.source.scan.correction` looks at have to do.
"""

from __future__ import annotations

from collections.abc import Iterator

import av
import av.container
import numpy as np

from encoder.arrays import Int64
from encoder.source.coded import h264
from encoder.source.index import FrameIndex
from encoder.source.opening.container import opened, packets_of
from encoder.source.probing.source_info import SourceInfo

_EXTENSION = b"\0\0\1\xb5"
_PICTURE_CODING = 8  # identifier of the extension
_PROGRESSIVE_FRAME = 0x80
_HEAD_BYTES = 4096  # of a packet hold the headers of its picture


def mpeg2_interlaced(head: bytes) -> bool | None:
    """Return whether the picture that begins a packet is interlaced, None without its header.

    That is ``progressive_frame`` of the picture coding extension (ITU-T H.262, 6.2.3.1) negated.
    """
    at = head.find(_EXTENSION)
    while at >= 0 and at + 9 <= len(head):
        if head[at + 4] >> 4 == _PICTURE_CODING:
            return not head[at + 8] & _PROGRESSIVE_FRAME
        at = head.find(_EXTENSION, at + 4)
    return None


def suspects(info: SourceInfo, index: FrameIndex) -> Int64:
    """Return the numbers of frames that may be interlaced by their headers, ascending.

    MPEG-2 says so of each picture. In H.264 these are pictures coded as fields, and all pictures of
    a sequence that allows blocks of fields: a decoder tells which of those are interlaced.
    """
    readers = {"mpeg2video": _mpeg2, "h264": _h264}
    if info.codec not in readers:
        return np.array([], np.int64)
    with opened(info.path) as container:
        stream = container.streams[info.stream_index]
        assert isinstance(stream, av.video.VideoStream)
        times = np.array(list(readers[info.codec](container, stream)), np.int64)
    numbers = np.searchsorted(index.pts, times)
    inside = numbers < index.frames
    numbers, times = numbers[inside], times[inside]
    return np.unique(numbers[index.pts[numbers] == times])


def _mpeg2(container: av.container.InputContainer, stream: av.video.VideoStream) -> Iterator[int]:
    for packet in packets_of(container, stream):
        if packet.pts is not None and mpeg2_interlaced(bytes(packet)[:_HEAD_BYTES]):
            yield packet.pts


def _h264(container: av.container.InputContainer, stream: av.video.VideoStream) -> Iterator[int]:
    extradata = stream.codec_context.extradata
    length = h264.length_size(extradata)
    sequence = h264.sequence_of(extradata)
    for packet in packets_of(container, stream):
        if packet.pts is None or packet.size == 0:
            continue
        if packet.is_keyframe and not length:
            # Transport streams repeat their parameter sets, which may change.
            sequence = h264.sequence_of(bytes(packet)[:_HEAD_BYTES]) or sequence
        if sequence is None or not sequence.fields:
            continue
        head = h264.first_slice(bytes(packet), length, sequence)
        if sequence.mixed_blocks or (head is not None and head.field is not None):
            yield packet.pts
