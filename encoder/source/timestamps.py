"""Timestamps for sources that have none, or none that can be trusted.

Raw streams, and AVI or ASF with B-frames, are copied (not encoded) into a container that states
when each picture is shown, because all other modules find frames by their time.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import av.container

from encoder.errors import SourceUnusable, StoreUnusable
from encoder.source.index import demuxed
from encoder.source.probe import is_decodable, opened, video_stream
from encoder.source.timeline import DEFAULT_RATE

_EXAMINED_PACKETS = 500
TIMED_SUFFIXES = ("mp4", "mkv")
"""Suffixes that :func:`timed_path` is given."""
_RAW_DEMUXERS = ("h264", "hevc", "mpegvideo", "m4v", "obu", "av1", "mjpeg")


def needs_timestamps(path: str | os.PathLike[str]) -> bool:
    """Return True where frames of the source lack trustworthy presentation timestamps.

    Raw streams have none: libavformat invents some, and cannot seek by them. AVI and ASF hold
    decoding times, which libavformat returns as presentation times even with B-frames.
    """
    with opened(path) as container:
        stream = video_stream(container, path)
        form = container.format.name
        if form in _RAW_DEMUXERS or (form in ("avi", "asf") and stream.codec_context.has_b_frames):
            return True
        packets = islice(demuxed(container, stream), _EXAMINED_PACKETS)
        return any(each.packet.pts is None and not each.completes for each in packets)


def ensure_timestamps(source: str | os.PathLike[str], workdir: str | os.PathLike[str]) -> Path:
    """Return ``source`` itself, or a copy of it in ``workdir`` that has timestamps.

    Coded video and audio are copied, not encoded. The order of the pictures is found by decoding
    them once: only the decoder knows it for every codec (libavcodec's ``dts2pts`` lost pictures of
    open-GOP HEVC). Streams with decoding times only (AVI, ASF) show their pictures at those times,
    in order; others run at the rate that their bitstream states, or at
    :data:`~encoder.source.timeline.DEFAULT_RATE`.

    Raises:
        SourceUnusable: the source cannot be read, or pictures in its middle do not decode.
        StoreUnusable: the copy cannot be written.
    """
    source = Path(source)
    if not needs_timestamps(source):
        return source
    plan = _presentation(source)
    suffix = "mp4" if plan.codec in _MP4_CODECS and not plan.sound else "mkv"
    made = timed_path(source, workdir, suffix)
    partial = made.with_name(f"{made.stem}.{os.getpid()}.{suffix}")
    try:
        _remux(source, partial, plan)
        partial.replace(made)
    finally:
        partial.unlink(missing_ok=True)
    return made


def timed_path(source: Path, workdir: str | os.PathLike[str], suffix: str) -> Path:
    """Return where :func:`ensure_timestamps` puts its copy of ``source``."""
    return Path(workdir) / f"{source.name}.timed.{suffix}"


_MP4_CODECS = ("h264", "hevc", "mpeg4", "mpeg2video", "av1")


@dataclass(frozen=True, slots=True)
class _Presentation:
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


def _presentation(source: Path) -> _Presentation:
    with opened(source) as container:
        stream = video_stream(container, source)
        codec = stream.codec_context.codec.canonical_name
        decoded = _decode(container, stream)
        # Pictures before the first one that decodes are leading pictures of an open GOP.
        expected = range(min(decoded.order, default=0), len(decoded.dts))
        missing = set(expected) - set(decoded.order) - decoded.second_fields
        if not decoded.order or missing:
            packets = len(decoded.dts)
            raise SourceUnusable(
                f"cannot place the frames of {source} in time: {len(missing) or packets} of its "
                f"{packets} pictures do not decode; remux it into MP4 or Matroska"
            )
        start, time_base, clock = _clock(decoded, stream.time_base)
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
        return _Presentation(codec, bool(container.streams.audio), start, time_base, pts, dts)


@dataclass(frozen=True, slots=True)
class _Decoded:
    """What decoding a stream once shows about its packets."""

    dts: list[int | None]
    """Decoding time of each packet, in ticks of the stream."""
    order: list[int]
    """Number of the packet that each picture came from, in order of presentation."""
    second_fields: set[int]
    """Numbers of the packets that complete the frame of the packet before."""
    rate: Fraction | None
    """Frames per second that the bitstream states."""


def _decode(container: av.container.InputContainer, stream: av.VideoStream) -> _Decoded:
    # A separate decoder: libavformat's own states 25 fps for every raw stream.
    decoder = av.CodecContext.create(stream.codec_context.codec.name, "r")
    assert isinstance(decoder, av.VideoCodecContext)
    decoder.extradata = stream.codec_context.extradata
    decoder.thread_count = 1
    dts: list[int | None] = []
    order: list[int] = []
    second_fields: set[int] = set()
    for number, each in enumerate(demuxed(container, stream)):
        dts.append(each.packet.dts)
        if each.completes:
            second_fields.add(number)
        # The decoder passes the number on to the picture that it makes of the packet.
        each.packet.pts = each.packet.dts = number
        order.extend(f.pts for f in decoder.decode(each.packet) if f.pts is not None)
    order.extend(f.pts for f in decoder.decode(None) if f.pts is not None)
    return _Decoded(dts, order, second_fields, decoder.framerate)


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


def _remux(source: Path, made: Path, plan: _Presentation) -> None:
    with opened(source) as container:
        stream = video_stream(container, source)
        sounds = [each for each in container.streams.audio if is_decodable(each)]
        with _written(made) as output:
            target = output.add_stream_from_template(stream, opaque=plan.codec == "av1")
            target.time_base = plan.time_base
            copies = {each.index: output.add_stream_from_template(each) for each in sounds}
            number = -1
            for packet in container.demux(stream, *sounds):
                if not packet.size:
                    continue
                if packet.stream_index != stream.index:
                    if packet.pts is None or packet.dts is None:
                        continue
                    shift = round(plan.start_seconds / packet.time_base)
                    packet.pts -= shift
                    packet.dts -= shift
                    packet.stream = copies[packet.stream_index]
                    output.mux(packet)
                    continue
                number += 1
                if number in plan.pts:
                    packet.stream = target
                    packet.time_base = plan.time_base
                    packet.pts = plan.pts[number]
                    packet.dts = plan.dts[number]
                    output.mux(packet)


@contextlib.contextmanager
def _written(made: Path) -> Iterator[av.container.OutputContainer]:
    try:
        with av.open(str(made), "w") as output:
            yield output
    except OSError as error:
        raise StoreUnusable(
            f"cannot write {made}: {error.strerror}; free disk space or check its permissions"
        ) from error
