"""Writing a copy of a source with other times: coded data stays as it is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import av.container

from encoder.errors import StoreUnusable
from encoder.source.coded import mpeg4
from encoder.source.coded.unpacking import unpacked
from encoder.source.opening.container import opened, packets_of
from encoder.source.opening.streams import is_decodable, video_stream
from encoder.source.timestamps.presentation import Presentation


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
            for packet in unpacked(packets_of(container, stream, *sounds), stream):
                if not packet.size:  # its stream_index is 0
                    if packet.stream is not None and packet.stream.index in copies:
                        copies[packet.stream.index].add(packet)
                    continue
                if packet.stream_index != stream.index:
                    copies[packet.stream_index].add(packet)
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


_COMPENSATED_SECONDS = Fraction(1, 10)  # ffmpeg's aresample removes or fills what is longer
# Sound of discs and studios that neither Matroska nor MP4 holds: decoded, it is the same samples.
_REWRITTEN = ("pcm_dvd", "pcm_bluray", "s302m")


class _Sound:
    """A stream of sound that goes along with pictures at other times."""

    def __init__(
        self, output: av.container.OutputContainer, source: av.AudioStream, plan: Presentation
    ) -> None:
        self._output = output
        self._start = plan.start_seconds
        self._moves = plan.moves
        self._index = source.index
        self._number = -1
        self._last: int | None = None
        self._end: float | None = None
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
        if packet.size and self._moves is not None:
            self._number += 1
            for name in ("pts", "dts"):
                if (time := getattr(packet, name)) is not None:
                    setattr(packet, name, self._moves.moved(self._index, self._number, time))
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
            if self._repeats(packet):
                return
            packet.stream = self._copy
            self._output.mux(packet)

    def _repeats(self, packet: Any) -> bool:
        """Return True for a packet at a time that has passed, as where parts overlap.

        What overlaps by less than half a packet makes the sound late by as much, for which the
        next such place allows.
        """
        dts, duration = packet.dts, packet.duration or 0
        if self._last is not None and dts <= self._last:
            return True
        late = 0.0 if self._end is None or self._moves is None else self._end - dts
        if abs(late) > _COMPENSATED_SECONDS / packet.time_base:
            late = 0.0
        if late > duration / 2:
            return True
        self._last, self._end = dts, dts + late + duration
        return False


@contextlib.contextmanager
def written(
    made: Path, options: dict[str, str] | None = None
) -> Iterator[av.container.OutputContainer]:
    """Open a copy for writing, with options of its muxer.

    Raises:
        StoreUnusable: it cannot be written.
    """
    try:
        with av.open(str(made), "w", options=options or {}) as output:
            yield output
    except OSError as error:
        raise StoreUnusable(
            f"cannot write {made}: {error.strerror}; free disk space or check its permissions"
        ) from error
