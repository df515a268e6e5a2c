"""Where every frame of a source is: its place in time, and where decoding has to start.

Seeking by time lands on wrong frames in common files (half a frame early in open-GOP HEVC, on
the next keyframe in MPEG-TS). So one demux pass, which decodes nothing, lists the presentation
timestamp (PTS) of every frame in order, and every keyframe with PTS and DTS; readers look a
frame's number up here and never guess. :mod:`encoder.source.timeline` then lays those frames on the
title's canonical constant frame rate.

What counts as a frame: everything that is shown. Packets that an edit list discards, VP8's
invisible references, second fields in packets of their own, pictures that come before the first
keyframe, and a torn packet at the end of a truncated file (with all that would be shown after it)
are not frames. A packet in the middle that does not decode is found by the analysis pass
(:mod:`encoder.analysis.frames`), which compares what it decodes with this index and refuses the
source.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise

import av
import av.container
import av.error
import numpy as np

from encoder.arrays import Int64
from encoder.errors import SourceUnusable
from encoder.source import h264
from encoder.source.probe import opened, video_stream

Ticks = Int64


@dataclass(frozen=True, slots=True, eq=False)
class FrameIndex:
    """The frames of one video stream in presentation order, and its keyframes."""

    time_base: Fraction
    """Seconds per tick of all timestamps here."""
    pts: Ticks
    """(frames,) presentation timestamps in ticks, ascending."""
    keyframe_pts: Ticks
    """(keyframes,) ascending."""
    keyframe_dts: Ticks
    """(keyframes,) decoding timestamps of the same keyframes, in ticks."""
    last_duration: int
    """Ticks for which the last frame is shown."""
    packet_bytes: int
    """Coded bytes of the stream's packets."""

    @property
    def frames(self) -> int:
        """Number of frames that are shown."""
        return len(self.pts)

    @property
    def duration_seconds(self) -> Fraction:
        """From the first frame's start to the last one's end."""
        return (int(self.pts[-1] - self.pts[0]) + self.last_duration) * self.time_base

    @property
    def start_seconds(self) -> Fraction:
        """Presentation time of the first frame on the file's clock."""
        return int(self.pts[0]) * self.time_base

    @property
    def bitrate(self) -> int:
        """Bit/s of the coded video, from its packets."""
        return round(8 * self.packet_bytes / self.duration_seconds)

    @property
    def steady_rate(self) -> Fraction | None:
        """Frames per second where every frame follows after the same time, to a tick."""
        steps = np.diff(self.pts)
        if len(steps) == 0 or steps.min() < 1 or np.ptp(steps) > 1:
            return None
        return len(steps) / (int(steps.sum()) * self.time_base)

    def keyframe_for(self, frame: int) -> int:
        """Position in ``keyframe_pts`` of the last keyframe shown not after ``frame``."""
        found = np.searchsorted(self.keyframe_pts, self.pts[frame], side="right") - 1
        return max(0, int(found))


@dataclass(frozen=True, slots=True)
class _Packet:
    pts: int | None
    dts: int | None
    duration: int
    key: bool
    shown: bool
    corrupt: bool
    size: int


def index_frames(path: str | os.PathLike[str]) -> FrameIndex:
    """List the frames of the video stream of ``path`` in one demux pass.

    Raises:
        SourceUnusable: it cannot be read, has no frames, no keyframe, or frames without
            timestamps (see :mod:`encoder.source.timestamps`).
    """
    time_base, packets = _packets(path)
    if any(packet.pts is None and packet.shown for packet in packets):
        raise SourceUnusable(
            f"cannot index {path}: its frames have no timestamps; remux it into MP4 or Matroska"
        )
    if packets and not packets[-1].corrupt and _last_is_torn(path, packets):
        packets[-1] = replace(packets[-1], corrupt=True)
    return _index(path, time_base, packets)


# Containers that do not say how long a packet is: a torn last one looks like a short one.
_UNSIZED_DEMUXERS = ("mpegts", "mpeg")


def _last_is_torn(path: str | os.PathLike[str], packets: list[_Packet]) -> bool:
    """Whether the last packet fails a decoder that forgives nothing, from the keyframe before."""
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
        for packet in container.demux(stream):
            try:
                shown.update(frame.pts for frame in packet.decode())
            except av.error.FFmpegError:
                if packet.size and packet.dts == last.dts:
                    return True
        return last.pts not in shown


@dataclass(frozen=True, slots=True)
class Demuxed:
    """A packet of a video stream, and what only its own headers say."""

    packet: av.Packet[av.VideoStream]
    key: bool
    """Whether decoding can start here."""
    completes: bool
    """Whether it is the second field of the frame that the packet before began: not a frame."""


def demuxed(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[Demuxed]:
    """The packets of a video stream that hold something, in the order of the file."""
    context = stream.codec_context
    plain = context.codec.canonical_name != "h264"
    length, sequence = h264.length_size(context.extradata), h264.sequence_of(context.extradata)
    fields = sequence is not None and sequence.fields
    alone: h264.Slice | None = None
    for packet in container.demux(stream):
        if packet.size == 0:
            continue  # the flush packet, or a frame dropped by an AVI writer
        key = packet.is_keyframe
        if plain or not (key or fields):
            yield Demuxed(packet, key, completes=False)
            continue
        # Streams with periodic intra refresh have no other pictures that demuxers mark as keyframes
        # but P pictures with a recovery point, which are whole only a second later: decoding from
        # one gives wrong pixels and the right count.
        head = h264.first_slice(bytes(packet), length, sequence)
        key = key and head is not None and head.intra
        completes = h264.completes(alone, head)
        alone = None if completes else head
        yield Demuxed(packet, key, completes)


def _packets(path: str | os.PathLike[str]) -> tuple[Fraction, list[_Packet]]:
    with opened(path) as container:
        stream = video_stream(container, path)
        vp8 = stream.codec_context.codec.canonical_name == "vp8"
        packets: list[_Packet] = []
        try:
            for each in demuxed(container, stream):
                packet = each.packet
                if each.completes:
                    first = packets[-1]
                    packets[-1] = replace(
                        first,
                        duration=2 * first.duration,
                        corrupt=first.corrupt or packet.is_corrupt,
                        size=first.size + packet.size,
                    )
                    continue
                # Bit 4 of a VP8 frame's first byte is show_frame (RFC 6386, 9.1).
                invisible = vp8 and not bytes(packet)[0] & 0x10
                packets.append(
                    _Packet(
                        packet.pts,
                        packet.dts,
                        packet.duration or 0,
                        each.key,
                        not (packet.is_discard or invisible),
                        packet.is_corrupt,
                        packet.size,
                    )
                )
        except av.error.FFmpegError:
            # A file cut short ends like this. What came before is whole; the analysis pass
            # decodes every frame of it.
            pass
        return Fraction(stream.time_base or 0), packets


def _check_clock(
    path: str | os.PathLike[str], time_base: Fraction, keyframes: Sequence[int]
) -> None:
    """See that time goes on from keyframe to keyframe, in the order of the file.

    Raises:
        SourceUnusable: it jumps back, as where recordings were joined byte by byte.
    """
    for before, now in pairwise(keyframes):
        if now < before:
            raise SourceUnusable(
                f"cannot use {path}: its clock jumps back from {float(before * time_base):.3f} s "
                f"to {float(now * time_base):.3f} s, as where recordings were joined; give it one "
                "clock first, for example with ffmpeg -i IN -map 0 -c copy OUT.ts"
            )


def _index(path: str | os.PathLike[str], time_base: Fraction, packets: list[_Packet]) -> FrameIndex:
    limit = None
    while packets and packets[-1].corrupt:
        torn = packets.pop().pts
        limit = torn if limit is None or (torn is not None and torn < limit) else limit
    keys = [p for p in packets if p.key and p.pts is not None]
    if not keys:
        raise SourceUnusable(f"cannot index {path}: no keyframe in {len(packets)} packets")
    _check_clock(path, time_base, [p.pts or 0 for p in keys])
    first = keys[0].pts
    assert first is not None
    shown = [
        (p.pts, p.duration)
        for p in packets
        if p.shown and p.pts is not None and p.pts >= first and (limit is None or p.pts < limit)
    ]
    if not shown:
        raise SourceUnusable(f"cannot index {path}: none of its {len(packets)} packets is shown")
    shown.sort()
    pts = np.array([time for time, _ in shown], dtype=np.int64)
    keys.sort(key=lambda p: p.pts or 0)
    usual = int(np.median(np.diff(pts))) if len(pts) > 1 else 0
    return FrameIndex(
        time_base=time_base,
        pts=pts,
        keyframe_pts=np.array([p.pts for p in keys], dtype=np.int64),
        keyframe_dts=np.array([p.pts if p.dts is None else p.dts for p in keys], dtype=np.int64),
        last_duration=max(1, shown[-1][1] or usual),
        packet_bytes=sum(p.size for p in packets),
    )
