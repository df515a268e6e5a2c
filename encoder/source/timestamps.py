"""Timestamps for sources that have none, or none that can be trusted.

Raw streams, and AVI or ASF with B-frames, are copied (not encoded) into a container that says when
each picture is shown, because everything else here finds frames by their time.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Literal

import av
import av.container

from encoder.errors import SourceUnusable, StoreUnusable
from encoder.source.index import demuxed
from encoder.source.probe import is_decodable, opened, video_stream
from encoder.source.timeline import DEFAULT_RATE

_TELLING_PACKETS = 500
_RAW_DEMUXERS = ("h264", "hevc", "mpegvideo", "m4v", "obu", "av1", "mjpeg")


def needs_timestamps(path: str | os.PathLike[str]) -> bool:
    """Whether frames of the source lack presentation timestamps that can be trusted.

    Raw streams have none: libavformat makes some up, and cannot seek by them. AVI and ASF hold
    decoding times, which come out as presentation times of H.264 with B-frames.
    """
    with opened(path) as container:
        stream = video_stream(container, path)
        form = container.format.name
        if form in _RAW_DEMUXERS or (form in ("avi", "asf") and stream.codec_context.has_b_frames):
            return True
        packets = islice(demuxed(container, stream), _TELLING_PACKETS)
        return any(each.packet.pts is None and not each.completes for each in packets)


def ensure_timestamps(source: str | os.PathLike[str], workdir: str | os.PathLike[str]) -> Path:
    """``source`` itself, or a copy of it in ``workdir`` that has timestamps.

    Coded pictures and sounds are copied, not encoded. Which picture is shown when is learnt by
    decoding once: the decoder is the only one that knows for every codec (libavcodec's
    ``dts2pts`` lost pictures of open-GOP HEVC). Streams with decoding times only (AVI, ASF) show
    their pictures at those times, in order; others run at the rate that their bitstream states,
    or at :data:`~encoder.source.timeline.DEFAULT_RATE`.

    Raises:
        SourceUnusable: it cannot be read, or pictures in its middle do not decode.
        StoreUnusable: the copy cannot be written.
    """
    source = Path(source)
    if not needs_timestamps(source):
        return source
    plan = _presentation(source)
    suffix: Literal["mp4", "mkv"] = "mp4" if plan.codec in _MP4_CODECS and not plan.sound else "mkv"
    made = timed_path(source, workdir, suffix)
    partial = made.with_name(f"{made.stem}.{os.getpid()}.{suffix}")
    try:
        _remux(source, partial, plan)
        partial.replace(made)
    finally:
        partial.unlink(missing_ok=True)
    return made


def timed_path(
    source: Path, workdir: str | os.PathLike[str], suffix: Literal["mp4", "mkv"]
) -> Path:
    """Return where :func:`ensure_timestamps` puts its copy of ``source``."""
    return Path(workdir) / f"{source.name}.timed.{suffix}"


_MP4_CODECS = ("h264", "hevc", "mpeg4", "mpeg2video", "av1")


@dataclass(frozen=True, slots=True)
class _Presentation:
    codec: str
    sound: bool
    """Whether there are audio streams, which come along."""
    start_seconds: Fraction
    """When the first picture is shown on the source's clock; on the copy's it is 0."""
    time_base: Fraction
    pts: dict[int, int]
    """Presentation time by number of the packet."""
    dts: dict[int, int]


def _presentation(source: Path) -> _Presentation:
    with opened(source) as container:
        stream = video_stream(container, source)
        codec = stream.codec_context.codec.canonical_name
        # A decoder of our own: libavformat's states 25 fps for every raw stream.
        decoder = av.CodecContext.create(stream.codec_context.codec.name, "r")
        assert isinstance(decoder, av.VideoCodecContext)
        decoder.extradata = stream.codec_context.extradata
        decoder.thread_count = 1
        times: list[int | None] = []
        order: list[int] = []
        halves: set[int] = set()
        for each in demuxed(container, stream):
            times.append(each.packet.dts)
            number = len(times) - 1
            if each.completes:
                halves.add(number)
            each.packet.pts = each.packet.dts = number
            order.extend(f.pts for f in decoder.decode(each.packet) if f.pts is not None)
        order.extend(f.pts for f in decoder.decode(None) if f.pts is not None)
        # Pictures before the first one that decodes are leading pictures of an open GOP.
        missing = set(range(min(order, default=0), len(times))) - set(order) - halves
        if not order or missing:
            raise SourceUnusable(
                f"cannot place the frames of {source}: {len(missing) or len(times)} of its "
                f"{len(times)} pictures do not decode; remux it into MP4 or Matroska"
            )
        shown = set(order)
        known = [time for packet, time in enumerate(times) if packet in shown and time is not None]
        start = Fraction(0)
        if len(known) == len(order) and stream.time_base:
            time_base = Fraction(stream.time_base)
            clock = sorted(time - min(known) for time in known)
            start = min(known) * time_base
        else:
            time_base = 1 / Fraction(decoder.framerate or DEFAULT_RATE)
            clock = list(range(len(order)))
        pts = {packet: clock[place] for place, packet in enumerate(order)}
        decoded = dict(zip(sorted(order), clock, strict=True))
        # Decoding runs ahead of showing by the largest displacement of a picture.
        delay = max(decoded[packet] - pts[packet] for packet in order)
        dts = {packet: time - delay for packet, time in decoded.items()}
        if halves:  # a second field comes half a frame after the first
            time_base /= 2
            pts, dts = ({number: 2 * time for number, time in t.items()} for t in (pts, dts))
            for number in halves & {number + 1 for number in pts}:
                pts[number], dts[number] = pts[number - 1] + 1, dts[number - 1] + 1
        return _Presentation(codec, bool(container.streams.audio), start, time_base, pts, dts)


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
        raise StoreUnusable(f"cannot write {made}: {error.strerror}") from error
