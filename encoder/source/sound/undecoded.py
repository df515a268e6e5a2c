"""Find the packets of sound that do not decode: what ffmpeg makes silence of."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import av.error

from encoder.source.opening.container import opened, packets_of


def undecoded_packets(path: Path, stream_index: int) -> tuple[tuple[Fraction, Fraction], ...]:
    """Return start and duration in seconds, on the file's clock, of packets that do not decode.

    The first and the last packet of a stream do not count: recordings begin and end within one.

    Raises:
        SourceUnusable: the file cannot be read.
    """
    failed: list[tuple[int, Fraction, Fraction]] = []
    number = 0
    with opened(path) as container:
        stream = container.streams[stream_index]
        assert isinstance(stream, av.audio.AudioStream)
        for packet in packets_of(container, stream):
            if not packet.size:
                continue
            number += 1
            try:
                packet.decode()
            except av.error.FFmpegError:
                if packet.pts is not None and packet.time_base is not None:
                    length = (packet.duration or 0) * packet.time_base
                    failed.append((number, packet.pts * packet.time_base, length))
    return tuple((start, length) for n, start, length in failed if 1 < n < number)
