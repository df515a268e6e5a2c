"""Writing a copy of a source with other times: coded data stays as it is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import av
import av.container

from encoder.errors import StoreUnusable
from encoder.source import mpeg4
from encoder.source.probe import is_decodable, opened, video_stream
from encoder.source.timestamps.presentation import Presentation
from encoder.source.unpacking import unpacked


def remux(source: Path, made: Path, plan: Presentation) -> None:
    """Copy the pictures of ``source`` to ``made`` at their planned times, and its sound along.

    Raises:
        SourceUnusable: the source cannot be read.
        StoreUnusable: the copy cannot be written.
    """
    with opened(source, patient=plan.placed > 0) as container:
        stream = video_stream(container, source)
        sounds = [each for each in container.streams.audio if is_decodable(each)]
        with written(made) as output:
            target = output.add_stream_from_template(stream, opaque=plan.codec == "av1")
            target.time_base = plan.time_base
            if plan.codec == "mpeg4" and stream.codec_context.extradata:
                headers = mpeg4.unpacked_headers(stream.codec_context.extradata)
                target.codec_context.extradata = headers
            copies = {each.index: _Sound(output, each, plan) for each in sounds}
            number = -1
            for packet in unpacked(container.demux(stream, *sounds), stream):
                if packet.stream_index != stream.index:
                    copies[packet.stream_index].add(packet)
                    continue
                if not packet.size:
                    continue
                number += 1
                if number in plan.pts:
                    packet.stream = target
                    if packet.time_base != plan.time_base:  # a duration in another time base
                        packet.duration = plan.frame_ticks
                    packet.time_base = plan.time_base
                    packet.pts = plan.pts[number]
                    packet.dts = plan.dts[number]
                    output.mux(packet)


# Sound of discs and studios that neither Matroska nor MP4 holds: decoded, it is the same samples.
_REWRITTEN = ("pcm_dvd", "pcm_bluray", "s302m")


class _Sound:
    """A stream of sound that goes along with pictures at other times."""

    def __init__(
        self, output: av.container.OutputContainer, source: av.AudioStream, plan: Presentation
    ) -> None:
        self._output = output
        self._start = plan.start_seconds
        self._encoded: av.AudioStream | None = None
        self._copy: av.AudioStream
        context = source.codec_context
        if context.codec.canonical_name in _REWRITTEN:
            kind: Literal["pcm_s16le", "pcm_s32le"]
            kind = "pcm_s16le" if context.format.bytes == 2 else "pcm_s32le"
            self._encoded = output.add_stream(kind, context.sample_rate, layout=context.layout)
            self._copy = self._encoded
        else:
            self._copy = output.add_stream_from_template(source)
        if plan.placed and source.language:
            self._copy.metadata["language"] = source.language
            self._copy.disposition = source.disposition

    def add(self, packet: Any) -> None:
        """Write a packet; an empty one ends the stream."""
        if self._encoded is not None:
            for frame in packet.decode():
                if frame.pts is not None and frame.time_base is not None:
                    frame.pts -= round(self._start / frame.time_base)
                    self._output.mux(self._encoded.encode(frame))
            if not packet.size:
                self._output.mux(self._encoded.encode(None))
        elif packet.size and packet.pts is not None and packet.dts is not None:
            shift = round(self._start / packet.time_base)
            packet.pts -= shift
            packet.dts -= shift
            packet.stream = self._copy
            self._output.mux(packet)


@contextlib.contextmanager
def written(made: Path) -> Iterator[av.container.OutputContainer]:
    """Open a copy for writing.

    Raises:
        StoreUnusable: it cannot be written.
    """
    try:
        with av.open(str(made), "w") as output:
            yield output
    except OSError as error:
        raise StoreUnusable(
            f"cannot write {made}: {error.strerror}; free disk space or check its permissions"
        ) from error
