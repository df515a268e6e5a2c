"""When the pictures of a stream are shown, where its container does not say so for each."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import av.container
import av.error

from encoder.errors import SourceUnusable
from encoder.source.coded import mpeg4
from encoder.source.index import demuxed, is_torn
from encoder.source.opening.container import opened
from encoder.source.opening.streams import video_stream
from encoder.source.timeline.constant_rate import DEFAULT_RATE
from encoder.source.timestamps.jumps import Moves
from encoder.source.timestamps.sparse import credible, interpolated


@dataclass(frozen=True, slots=True)
class Presentation:
    """When every packet of a source's video stream is shown and decoded."""

    codec: str
    """ffmpeg's canonical name of the codec."""
    sound: bool
    """True where the source has audio streams, which are copied along."""
    start_seconds: Fraction
    """Time of the first picture on the source's clock; it is 0 on the copy's."""
    time_base: Fraction
    """Seconds per tick of :attr:`pts` and :attr:`dts`."""
    pts: dict[int, int]
    """Presentation time by number of the packet."""
    dts: dict[int, int]
    """Decoding time by number of the packet."""
    placed: int = 0
    """Pictures that state no time, among others that do."""
    lost: int = 0
    """Pictures that do not decode, and are left out."""
    frame_ticks: int = 1
    """Least time between two pictures in ticks, for containers that store a duration."""
    moves: Moves | None = None
    """What makes the source's clock go on, where it jumps; :attr:`pts` are moved already."""


def presentation(source: Path, *, sparse: bool = False, moves: Moves | None = None) -> Presentation:
    """Find when every packet of a source's video stream is shown, by decoding it once.

    Only the decoder knows the order of the pictures for every codec (libavcodec's ``dts2pts`` lost
    pictures of open-GOP HEVC). Streams with decoding times only (AVI, ASF) show their pictures at
    those times, in order; others run at the rate that their bitstream states, or at
    :data:`~encoder.source.timeline.constant_rate.DEFAULT_RATE`.

    Args:
        source: the file.
        sparse: True where some pictures state a presentation time, between which the others lie.
        moves: what makes the clock of such a source go on, where it jumps.

    Raises:
        SourceUnusable: the source cannot be read, or pictures in its middle do not decode.
    """
    durations = _durations(source) if sparse else []
    with opened(source, as_stored=sparse) as container:
        stream = video_stream(container, source)
        codec = stream.codec_context.codec.canonical_name
        decoded = _decode(container, stream)
        lost = _lost(source, decoded, sparse)
        if sparse:
            decoded.durations.extend(durations)
            if moves is not None:
                decoded.pts[:] = [
                    None if time is None else moves.moved(stream.index, number, time)
                    for number, time in enumerate(decoded.pts)
                ]
            start, time_base, clock, placed = _sparse_clock(
                decoded, Fraction(stream.time_base or 1)
            )
        else:
            start, time_base, clock = _clock(decoded, stream.time_base)
            placed = 0
        pts = {packet: clock[place] for place, packet in enumerate(decoded.order)}
        dts = dict(zip(sorted(decoded.order), clock, strict=True))
        # Decoding runs ahead of showing by the largest displacement of a picture.
        delay = max(dts[packet] - pts[packet] for packet in decoded.order)
        dts = {packet: time - delay for packet, time in dts.items()}
        if decoded.second_fields:  # a second field comes half a frame after the first
            time_base /= 2
            pts, dts = ({number: 2 * time for number, time in t.items()} for t in (pts, dts))
            for number in decoded.second_fields & {number + 1 for number in pts}:
                pts[number], dts[number] = pts[number - 1] + 1, dts[number - 1] + 1
        steps = [now - before for before, now in pairwise(clock) if now > before]
        ticks = min(steps, default=1) * (2 if decoded.second_fields else 1)
        sound = bool(container.streams.audio)
        return Presentation(codec, sound, start, time_base, pts, dts, placed, lost, ticks, moves)


@dataclass(frozen=True, slots=True)
class _Decoded:
    """What decoding a stream once shows about its packets."""

    dts: list[int | None]
    """Decoding time of each packet, in ticks of the stream."""
    pts: list[int | None]
    """Presentation time that each packet states, in ticks of the stream."""
    order: list[int]
    """Number of the packet that each picture came from, in order of presentation."""
    second_fields: set[int]
    """Numbers of the packets that complete the frame of the packet before."""
    repeats: set[int]
    """Numbers of the packets that only say that the picture before is shown on."""
    rate: Fraction | None
    """Frames per second that the bitstream states."""
    durations: list[int]
    """What headers say of how long each packet is shown, in ticks of the stream."""


def _decode(container: av.container.InputContainer, stream: av.VideoStream) -> _Decoded:
    # A separate decoder: libavformat's own states 25 fps for every raw stream.
    decoder = av.CodecContext.create(stream.codec_context.codec.name, "r")
    assert isinstance(decoder, av.VideoCodecContext)
    decoder.extradata = mpeg4.unpacked_headers(stream.codec_context.extradata)
    decoder.thread_count = 1
    dts: list[int | None] = []
    pts: list[int | None] = []
    order: list[int] = []
    second_fields: set[int] = set()
    repeats: set[int] = set()

    def numbers(packet: av.Packet[av.VideoStream] | None) -> Iterator[int]:
        with contextlib.suppress(av.error.InvalidDataError):  # counted as lost
            yield from (f.pts for f in decoder.decode(packet) if f.pts is not None)

    whole = 0
    for number, each in enumerate(demuxed(container, stream)):
        if not is_torn(each.packet):
            whole = number + 1
        dts.append(each.packet.dts)
        pts.append(each.packet.pts)
        if each.completes:
            second_fields.add(number)
        if not each.coded:
            repeats.add(number)
        # The decoder passes the number on to the picture that it makes of the packet.
        each.packet.pts = each.packet.dts = number
        order.extend(numbers(each.packet))
    order.extend(numbers(None))
    # What a truncated file ends with is no picture.
    order = [number for number in order if number < whole]
    dts, pts = dts[:whole], pts[:whole]
    return _Decoded(dts, pts, order, second_fields, repeats, decoder.framerate, [])


_MOST_LOST = 0.1  # share of pictures that may not decode where the others have times


def _lost(source: Path, decoded: _Decoded, sparse: bool) -> int:
    """Return the number of pictures in the middle that do not decode.

    Raises:
        SourceUnusable: there are such pictures, and no times to tell where the others belong.
    """
    # Pictures before the first one that decodes are leading pictures of an open GOP.
    packets = len(decoded.dts)
    expected = range(min(decoded.order, default=0), packets)
    missing = set(expected) - set(decoded.order) - decoded.second_fields - decoded.repeats
    missing.discard(packets - 1)  # may be torn, where a raw stream was cut
    if not packets:
        raise SourceUnusable(
            f"cannot use {source}: none of its pictures is complete; copy it again"
        )
    if not decoded.order or len(missing) > (_MOST_LOST * packets if sparse else 0):
        raise SourceUnusable(
            f"cannot place the frames of {source} in time: {len(missing) or packets} of its "
            f"{packets} pictures do not decode; remux it into MP4 or Matroska"
        )
    return len(missing)


def _durations(source: Path) -> list[int]:
    """Return how long each packet is shown, as libavformat reckons from its headers."""
    with opened(source) as container:
        stream = video_stream(container, source)
        return [each.packet.duration or 0 for each in demuxed(container, stream)]


def _sparse_clock(
    decoded: _Decoded, time_base: Fraction
) -> tuple[Fraction, Fraction, list[int], int]:
    """Return what :func:`_clock` does, and the number of pictures that state no time."""
    durations = list(decoded.durations)
    for number in decoded.second_fields:
        durations[number - 1] += durations[number]
    shown = [durations[number] for number in decoded.order]
    stated = credible([decoded.pts[number] for number in decoded.order], shown)
    times = interpolated(stated, shown)
    # Rounding must not put two pictures on one tick.
    for place in range(1, len(times)):
        times[place] = max(times[place], times[place - 1] + 1)
    placed = sum(time is None for time in stated)
    return times[0] * time_base, time_base, [time - times[0] for time in times], placed


def _clock(
    decoded: _Decoded, stream_time_base: Fraction | None
) -> tuple[Fraction, Fraction, list[int]]:
    """Return the start in seconds, seconds per tick, and a time for each picture in order."""
    shown = set(decoded.order)
    times = [dts for number, dts in enumerate(decoded.dts) if number in shown and dts is not None]
    if len(times) == len(decoded.order) and stream_time_base:
        time_base = Fraction(stream_time_base)
        first = min(times)
        return first * time_base, time_base, sorted(time - first for time in times)
    time_base = 1 / Fraction(decoded.rate or DEFAULT_RATE)
    return Fraction(0), time_base, list(range(len(decoded.order)))
