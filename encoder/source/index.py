"""The frame index of a source: when each frame is shown, and where decoding has to start.

Seeking by time lands on wrong frames in common files (half a frame early in open-GOP HEVC, on
the next keyframe in MPEG-TS). One demux pass, which decodes nothing, therefore lists the
presentation timestamp (PTS) of every frame in order, and the PTS and DTS of every keyframe. Readers
look up a frame's number here and never guess. :mod:`encoder.source.timeline.constant_rate` then
places those frames on the title's canonical constant frame rate.

Everything that is shown is a frame. Not frames are: packets that an edit list discards, VP8's
invisible references, MPEG-4's pictures that are not coded, Camtasia's that have not changed, second
fields in packets of their own, pictures before the first keyframe, and a torn packet at the end of
a truncated file with all that would be shown after it. A packet in the middle that does not decode
is reported by the analysis pass (:mod:`encoder.analysis.frames`), which compares the decoded frames
with this index and refuses the source.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from operator import itemgetter
from typing import Any

import av
import av.container
import av.error
import numpy as np

from encoder.arrays import Int64
from encoder.errors import SourceUnusable
from encoder.source.captions import caption_data
from encoder.source.captions.collecting import Beside, CaptionData
from encoder.source.coded import h264, mpeg4
from encoder.source.coded.unpacking import unpacked
from encoder.source.opening.container import opened, packets_of
from encoder.source.opening.streams import video_stream

_LONG_SECONDS = 0.5  # time in which pictures are reordered, at most


@dataclass(frozen=True, slots=True, eq=False)
class FrameIndex:
    """Frames of one video stream in presentation order, and its keyframes."""

    time_base: Fraction
    """Seconds per tick of all timestamps in the index."""
    pts: Int64
    """(frames,) presentation timestamps in ticks, ascending."""
    keyframe_pts: Int64
    """(keyframes,) presentation timestamps of the keyframes in ticks, ascending."""
    keyframe_dts: Int64
    """(keyframes,) decoding timestamps of the same keyframes in ticks."""
    last_duration: int
    """Ticks for which the last frame is shown."""
    packet_bytes: int
    """Coded bytes of the stream's packets."""
    captions: tuple[CaptionData, ...] = ()
    """Caption data that becomes captions of the title."""
    styled: frozenset[int] = frozenset()
    """Indices in the file of the subtitle streams that may be more than plain text."""

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.pts)

    @property
    def duration_seconds(self) -> Fraction:
        """Seconds from the start of the first frame to the end of the last one."""
        return (int(self.pts[-1] - self.pts[0]) + self.last_duration) * self.time_base

    @property
    def start_seconds(self) -> Fraction:
        """Presentation time of the first frame on the file's clock."""
        return int(self.pts[0]) * self.time_base

    @property
    def bitrate(self) -> int:
        """Bitrate of the coded video in bit/s, from its packets."""
        return round(8 * self.packet_bytes / self.duration_seconds)

    @property
    def steady_rate(self) -> Fraction | None:
        """Frames per second where frames are evenly spaced to a tick, else None."""
        steps = np.diff(self.pts)
        if len(steps) == 0 or steps.min() < 1 or np.ptp(steps) > 1:
            return None
        return len(steps) / (int(steps.sum()) * self.time_base)

    def keyframe_for(self, frame: int) -> int:
        """Return the number of the last keyframe that is shown not after ``frame``."""
        position = np.searchsorted(self.keyframe_pts, self.pts[frame], side="right") - 1
        return max(0, int(position))


@dataclass(frozen=True, slots=True)
class _Packet:
    pts: int | None
    dts: int | None
    duration: int
    key: bool
    shown: bool
    held: bool
    """True where the packet only says that the picture before is shown on."""
    corrupt: bool
    size: int


_NEVER_ZEROS = (
    *("h264", "hevc", "vvc", "av1", "vp8", "vp9", "mpeg1video", "mpeg2video", "mpeg4", "h263"),
    *("msmpeg4v3", "wmv3", "vc1", "theora", "prores", "dnxhd", "mjpeg", "ffv1", "cfhd"),
)
"""Codecs of which no picture consists of zeros."""
_LEAST_ZEROS = 64


def is_torn(packet: av.Packet[Any]) -> bool:
    """Return True for a packet that the demuxer marks as incomplete, or that was never written.

    A download may allocate its file in full: what has not come yet are zeros.
    """
    if packet.is_corrupt:
        return True
    if packet.size < _LEAST_ZEROS or any(memoryview(packet)[:_LEAST_ZEROS]):
        return False
    context = getattr(packet.stream, "codec_context", None)
    if context is None or context.codec.canonical_name not in _NEVER_ZEROS:
        return False
    return not any(bytes(packet))


def index_frames(path: str | os.PathLike[str]) -> FrameIndex:
    """List the frames of the video stream of ``path`` in one demux pass.

    Raises:
        SourceUnusable: the source cannot be read, has no frames, no keyframe, or frames without
            timestamps (see :mod:`encoder.source.timestamps`).
    """
    time_base, packets, beside = _packets(path)
    if any(packet.pts is None and packet.shown for packet in packets):
        raise SourceUnusable(
            f"cannot index {path}: its frames have no timestamps; remux it into MP4 or Matroska"
        )
    if packets and not packets[-1].corrupt and _last_is_torn(path, packets):
        packets[-1] = replace(packets[-1], corrupt=True)
    index = _index(path, time_base, packets)
    return replace(index, captions=beside.captions(), styled=beside.styled)


# Containers that do not state the size of a packet: a torn last packet looks like a short one.
_UNSIZED_DEMUXERS = ("mpegts", "mpeg")


def _last_is_torn(path: str | os.PathLike[str], packets: list[_Packet]) -> bool:
    """Return True where a strict decoder, started at a keyframe, fails on the last packet."""
    keys = [p.dts for p in packets if p.key and p.dts is not None]
    last = packets[-1]
    if not keys or last.pts is None:
        return False
    with opened(path) as container:
        if container.format.name not in _UNSIZED_DEMUXERS:
            return False
        stream = video_stream(container, path)
        stream.codec_context.options = {"err_detect": "explode"}
        stream.thread_count = 1
        # Two keyframes back: the last packet may be a leading picture of the last keyframe.
        container.seek(keys[max(0, len(keys) - 2)], stream=stream)
        shown: set[int | None] = set()
        for packet in packets_of(container, stream):
            try:
                shown.update(frame.pts for frame in packet.decode())
            except av.error.FFmpegError:
                if packet.size and packet.dts == last.dts:
                    return True
        return last.pts not in shown


@dataclass(frozen=True, slots=True)
class Demuxed:
    """A packet of a video stream, with facts that only its coded headers state."""

    packet: av.Packet[Any]
    key: bool
    """True where decoding can start at the packet."""
    completes: bool
    """True for the second field of the frame that the packet before began: not a frame."""
    coded: bool = True
    """False where the packet only says that the picture before is shown on: not a frame."""


# Codecs of which only decoding from the start is right: ffmpeg's encoders of QuickTime Video and
# Graphics mark pictures as keyframes that are none; its decoder of Dirac loses pictures by a seek.
# Camtasia marks every picture of a recording as a keyframe.
_UNSEEKABLE = ("rpza", "smc", "dirac", "tscc")
# In Camtasia's recordings a packet of two bytes, the end of a bitmap, says that nothing changed.
_UNCHANGED_BYTES = {"tscc": 2}


def demuxed(
    container: av.container.InputContainer, stream: av.VideoStream, beside: Beside | None = None
) -> Iterator[Demuxed]:
    """Yield the packets of a video stream that are not empty, in the order of the file.

    ``beside`` is given the packets of its streams.
    """
    context = stream.codec_context
    codec = context.codec.canonical_name
    plain, begun = codec != "h264", False
    time_bits = mpeg4.time_bits(context.extradata or b"")
    length, sequence = h264.length_size(context.extradata), h264.sequence_of(context.extradata)
    fields = sequence is not None and sequence.fields
    alone: h264.Slice | None = None
    packets = packets_of(container, stream, *(beside.streams if beside else ()))
    for packet in unpacked(packets, stream):
        if beside and packet.stream_index != stream.index:
            beside.take(packet)
            continue
        if packet.size == 0:
            continue  # the flush packet, or a frame dropped by an AVI writer
        key = packet.is_keyframe
        if codec == "mpeg4":
            time_bits = mpeg4.time_bits(bytes(packet)) or time_bits
            coded = mpeg4.coded(bytes(packet), time_bits)
            yield Demuxed(packet, key and coded, completes=False, coded=coded)
            continue
        if codec in _UNSEEKABLE:
            coded = packet.size > _UNCHANGED_BYTES.get(codec, 0)
            yield Demuxed(packet, key and not begun, completes=False, coded=coded)
            begun = begun or key
            continue
        if plain or not (key or fields):
            yield Demuxed(packet, key, completes=False)
            continue
        # In streams with periodic intra refresh, demuxers mark P pictures with a recovery point as
        # keyframes. Those are complete only a second later: decoding from one gives the right
        # number of frames with wrong pixels.
        head = h264.first_slice(bytes(packet), length, sequence)
        key = key and head is not None and head.intra
        completes = h264.completes(alone, head)
        alone = None if completes else head
        yield Demuxed(packet, key, completes)


def _packets(path: str | os.PathLike[str]) -> tuple[Fraction, list[_Packet], Beside]:
    with opened(path) as container:
        stream = video_stream(container, path)
        codec = stream.codec_context.codec.canonical_name
        packets: list[_Packet] = []
        beside = Beside(container, stream)
        for each in demuxed(container, stream, beside):
            packet = each.packet
            if codec in caption_data.CODECS:
                # A second field may lack a time; it follows the first field's captions.
                time = packets[-1].pts if each.completes else packet.pts
                beside.in_pictures.add_picture(codec, time, bytes(packet))
            if each.completes:
                first = packets[-1]
                packets[-1] = replace(
                    first,
                    duration=2 * first.duration,
                    corrupt=first.corrupt or is_torn(packet),
                    size=first.size + packet.size,
                )
                continue
            # Bit 4 of a VP8 frame's first byte is show_frame (RFC 6386, 9.1).
            invisible = codec == "vp8" and not bytes(packet)[0] & 0x10
            shown = each.coded and not (packet.is_discard or invisible)
            times = packet.pts, packet.dts, packet.duration or 0
            held = not each.coded and not packet.is_discard
            packets.append(_Packet(*times, each.key, shown, held, is_torn(packet), packet.size))
        return Fraction(stream.time_base or 0), packets, beside


def _check_clock(
    path: str | os.PathLike[str], time_base: Fraction, keyframes: Sequence[int]
) -> None:
    """Check that time advances between keyframes; where recordings were joined it may not."""
    for before, now in pairwise(keyframes):
        if now < before:
            raise SourceUnusable(
                f"cannot use {path}: its clock jumps back from {float(before * time_base):.3f} s "
                f"to {float(now * time_base):.3f} s, as where recordings were joined; remux it to "
                "one clock first, for example with ffmpeg -i IN -map 0 -c copy OUT.ts"
            )


def _drop_torn(packets: list[_Packet]) -> float:
    """Remove torn packets at the end; return the PTS from which nothing is shown, or infinity."""
    torn_from = math.inf
    while packets and packets[-1].corrupt:
        pts = packets.pop().pts
        torn_from = torn_from if pts is None else min(torn_from, pts)
    return torn_from


def _keyframes(packets: list[_Packet]) -> list[tuple[int, int]]:
    """Return presentation and decoding time of each keyframe from which frames can be read."""
    return [
        (p.pts, p.pts if p.dts is None else p.dts) for p in packets if p.key and p.pts is not None
    ]


def _index(path: str | os.PathLike[str], time_base: Fraction, packets: list[_Packet]) -> FrameIndex:
    """Index the frames among ``packets``; torn packets at the end are removed from the list."""
    torn_from = _drop_torn(packets)
    keyframes = _keyframes(packets)
    if not keyframes:
        raise SourceUnusable(
            f"cannot index {path}: no keyframe in {len(packets)} packets; the file is damaged, "
            "copy it again or transcode it"
        )
    _check_clock(path, time_base, [pts for pts, _ in keyframes])
    first = keyframes[0][0]
    shown = sorted(
        (p.pts, p.duration)
        for p in packets
        if p.shown and p.pts is not None and p.pts >= first and p.pts < torn_from
    )
    if not shown:
        raise SourceUnusable(
            f"cannot index {path}: none of its {len(packets)} packets is shown; the file is "
            "damaged, copy it again or transcode it"
        )
    pts = np.array([time for time, _ in shown], dtype=np.int64)
    keyframes.sort(key=itemgetter(0))
    usual = int(np.median(np.diff(pts))) if len(pts) > 1 else 0
    held = [p.pts + p.duration - shown[-1][0] for p in packets if p.held and p.pts is not None]
    return FrameIndex(
        time_base=time_base,
        pts=pts,
        keyframe_pts=np.array([time for time, _ in keyframes], dtype=np.int64),
        keyframe_dts=np.array([dts for _, dts in keyframes], dtype=np.int64),
        last_duration=max(_last_duration(shown, usual, time_base), *held, 0),
        packet_bytes=sum(p.size for p in packets),
    )


def _last_duration(shown: Sequence[tuple[int, int]], usual: int, time_base: Fraction) -> int:
    """Return the ticks for which the last of ``shown``, pairs of PTS and duration, is shown.

    MP4 stores the time until the next picture is *decoded*: a last picture that stands for long has
    its duration at the packet that is decoded last, which may be that of a B-frame before it.
    """
    last, duration = shown[-1]
    duration = max(1, duration or usual)
    latest = max(time + lasts for time, lasts in shown) - last
    return latest if (latest - duration) * time_base > _LONG_SECONDS else duration
