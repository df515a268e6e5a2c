"""B-frames that share a packet with another picture, taken apart into packets of their own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import av
from av.bitstream import BitStreamFilterContext

_FILTER = "mpeg4_unpack_bframes"


def unpacked(packets: Iterable[Any], stream: av.VideoStream) -> Iterator[Any]:
    """Yield packets, in those of an MPEG-4 ``stream`` one picture each.

    The number of packets and their decoding times stay as they are: a packed B-frame takes the
    place of the empty picture that stands for it.

    Args:
        packets: demuxed packets, perhaps of several streams.
        stream: the video stream.
    """
    if stream.codec_context.codec.canonical_name != "mpeg4":
        yield from packets
        return
    context = BitStreamFilterContext(_FILTER, stream)
    for packet in packets:
        # An empty packet would end the filter: it is the last one, or a frame that was dropped.
        if packet.size == 0 or packet.stream_index != stream.index:
            yield packet
        else:
            yield from context.filter(packet)
