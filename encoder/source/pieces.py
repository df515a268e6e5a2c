"""Pieces of a source: runs of its coded frames in files of their own, for remote workers.

A piece begins with the last keyframe shown not after its first frame and ends with the packet, in
decoding order, that completes its last frame: past the next keyframe of an open GOP, whose leading
pictures are shown before it. Neighbouring pieces therefore overlap by a few pictures. Timestamps
are the source's in the same ticks, shifted so that decoding begins at 0.

Every piece is checked: its index shows whether the container rounded a time, and its first frames
are decoded to see whether the container changed how they are read. If so, the next container is
tried; the last resort is a copy of the whole source.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import ffmpeg
import numpy as np

from encoder.errors import SourceUnusable, StoreUnusable, ToolFailed
from encoder.ffmpeg import Command, run
from encoder.source.index import FrameIndex, demuxed, index_frames
from encoder.source.opening.container import opened
from encoder.source.opening.streams import video_stream
from encoder.source.reference import GLOBAL_ARGUMENTS, ReferenceSource, open_reference

CONTEXT_FRAMES = 8
"""Canonical frames on each side of a piece that it contains as well: scoring reads 4 of them,
deinterlacing 1."""

COMPARED_FRAMES = 3
"""Frames of each piece that are decoded and compared with the source's."""

_MOV = "mov,mp4,m4a,3gp,3g2,mj2"
_MKV = "matroska,webm"
# Muxer, and the demuxer that reads its files.
_CONTAINERS = (("mp4", _MOV), ("mov", _MOV), ("matroska", _MKV), ("nut", "nut"))


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of canonical frames of a title in a file of its own."""

    start: int
    """First canonical frame that can be read from the piece."""
    end: int
    """One past the last canonical frame that can be read."""
    container: str
    """Demuxer of the file; empty for a copy of the whole source."""
    shift: int
    """Ticks of the source that were subtracted from all timestamps."""


def cut(
    source: ReferenceSource, ranges: Sequence[tuple[int, int]], directory: Path
) -> Iterator[tuple[Piece, Path]]:
    """Copy canonical frames ``[start, end)`` of each range, with context, into a file each.

    The caller may remove each file as soon as it has it. The source is read once, if the first
    container fits.

    Raises:
        SourceUnusable: the source cannot be read.
        StoreUnusable: a file cannot be written.
    """
    remaining = list(ranges)
    for muxer, demuxer in _CONTAINERS:
        refused: list[tuple[int, int]] = []
        for span, copy in zip(remaining, _copied(source, remaining, muxer, directory), strict=True):
            if copy is None:
                refused.append(span)
                continue
            path, shift = copy
            piece = Piece(*span, demuxer, shift)
            if _reads_alike(source, piece, path):
                yield piece, path
            else:
                refused.append(span)
                path.unlink(missing_ok=True)
        remaining = refused
        if not remaining:
            return
    for span in remaining:
        path = directory / f"whole-{span[0]}"
        shutil.copyfile(source.path, path)
        yield Piece(*span, "", 0), path


def reading(source: ReferenceSource, piece: Piece, path: Path) -> ReferenceSource:
    """Return the same title read from a piece of it at ``path``; frames keep their numbers.

    Raises:
        SourceUnusable: the file is not that piece.
    """
    if not piece.container:
        return replace(source, path=str(path))
    own = index_frames(path)
    factor = source.index.time_base / own.time_base
    if factor.denominator != 1:
        raise SourceUnusable(
            f"{path} is not a piece of {source.path}: its ticks differ; run the job again"
        )
    ticks = int(factor)
    return replace(
        source,
        path=str(path),
        info=replace(source.info, path=str(path), container=piece.container, stream_index=0),
        index=FrameIndex(
            time_base=own.time_base,
            pts=(source.index.pts - piece.shift) * ticks,
            keyframe_pts=own.keyframe_pts,
            keyframe_dts=own.keyframe_dts,
            last_duration=source.index.last_duration * ticks,
            packet_bytes=source.index.packet_bytes,
        ),
    )


def source_frames(source: ReferenceSource, start: int, end: int) -> tuple[int, int]:
    """Return the range of source frames that canonical ``[start, end)`` with context show."""
    first = max(0, start - CONTEXT_FRAMES)
    last = min(source.frames, end + CONTEXT_FRAMES) - 1
    timeline = source.timeline
    return (
        max(0, timeline.source_frame(first) - source.deinterlace_context),
        min(source.index.frames, timeline.source_frame(last) + 1 + source.deinterlace_context),
    )


class _Copy:
    """A piece while it is being written."""

    def __init__(self, source: ReferenceSource, span: tuple[int, int], path: Path) -> None:
        index = source.index
        first, last = source_frames(source, *span)
        self.path = path
        self.container = source.info.container
        self.begin = int(index.keyframe_pts[index.keyframe_for(first)])
        # Presentation times of the frames still to come. Packets that are never shown have times
        # as well, which do not count.
        self.missing = set(index.pts[first:last].tolist())
        self.begun = False
        self.taken = False
        """True where the packet that began the current frame was copied."""
        self.failed = False
        self.shift: int | None = None
        self.held: list[Any] = []
        """First packets, until their decoding times are known."""
        self.output: av.container.OutputContainer | None = None
        self.target: av.VideoStream | None = None

    @property
    def done(self) -> bool:
        return self.failed or (self.begun and not self.missing)

    def close(self) -> None:
        output, self.output, self.target = self.output, None, None
        if output is not None:
            try:
                output.close()
            except (av.error.FFmpegError, ValueError):
                self.failed = True


def _copied(
    source: ReferenceSource, ranges: Sequence[tuple[int, int]], muxer: str, directory: Path
) -> Iterator[tuple[Path, int] | None]:
    """Yield a file and its shift for each range, in order; None where the muxer refused."""
    copies = [_Copy(source, span, directory / f"piece-{span[0]}.{muxer}") for span in ranges]
    waiting = list(copies)
    with opened(source.path) as container:
        stream = video_stream(container, source.path)
        times: tuple[int | None, int | None] = (None, None)
        for each in demuxed(container, stream):
            packet = each.packet
            if each.completes:
                # Second fields may lack the times that a muxer needs.
                if packet.pts is None or packet.dts is None:
                    packet.pts, packet.dts = (None if t is None else t + 1 for t in times)
            else:
                while waiting and waiting[0].done:
                    yield _ended(waiting.pop(0))
            if not waiting:
                break
            times = packet.pts, packet.dts
            key = packet.is_keyframe and packet.pts is not None
            for copy in waiting:
                if not copy.begun and key and packet.pts == copy.begin:
                    _begin(copy, stream, muxer)
                    copy.begun = True
                if not each.completes:
                    copy.taken = copy.begun and not copy.done
                if copy.taken and not copy.failed:
                    _add(copy, stream, packet)
    for copy in waiting:
        # A source whose last packets are torn ends before the last piece is complete.
        yield _ended(copy)


def _ended(copy: _Copy) -> tuple[Path, int] | None:
    copy.close()
    if copy.failed or copy.shift is None:
        copy.path.unlink(missing_ok=True)
        return None
    return copy.path, copy.shift


def _begin(copy: _Copy, stream: av.VideoStream, muxer: str) -> None:
    if stream.time_base is None:
        copy.failed = True
        return
    options = {}
    if muxer in ("mp4", "mov"):
        options = {
            "video_track_timescale": str(stream.time_base.denominator),
            "use_editlist": "0",
            "movflags": "+write_colr",
        }
    try:
        copy.output = av.open(str(copy.path), "w", format=muxer, options=options)
        copy.target = copy.output.add_stream_from_template(stream, opaque=True)
        if copy.container == _MOV and muxer in ("mp4", "mov"):
            # Some decoders depend on the tag, and the muxer might choose another one.
            copy.target.codec_context.codec_tag = stream.codec_context.codec_tag
        copy.target.time_base = Fraction(stream.time_base)
    except (OSError, ValueError, av.error.FFmpegError) as error:
        _refused(copy, error)


def _add(copy: _Copy, stream: av.VideoStream, packet: Any) -> None:
    if packet.pts is None:
        copy.failed = True
        return
    copy.missing.discard(packet.pts)
    if copy.shift is None:
        # Matroska stores no decoding times, and libavformat does not derive the first ones.
        if packet.dts is None:
            copy.held.append(packet)
        if packet.dts is not None or not copy.missing:
            _release(copy, stream, packet.dts)
        if packet.dts is None:
            return
    _mux(copy, stream, packet, packet.dts)


def _release(copy: _Copy, stream: av.VideoStream, known: int | None) -> None:
    """Write the held packets with decoding times one tick apart, just before ``known``."""
    held, copy.held = copy.held, []
    times = [packet.pts + 1 for packet in held]  # no packet is decoded after it is shown
    after = min([*times, *([] if known is None else [known])])
    copy.shift = after - len(held)
    for dts, packet in enumerate(held, copy.shift):
        _mux(copy, stream, packet, dts)


def _mux(copy: _Copy, stream: av.VideoStream, packet: Any, decoded: int | None) -> None:
    if copy.output is None or copy.target is None or copy.shift is None or decoded is None:
        copy.failed = True
        return
    pts, dts = packet.pts, packet.dts
    try:
        # The packet may belong to another piece as well, so it is restored afterwards.
        packet.stream = copy.target
        packet.pts, packet.dts = pts - copy.shift, decoded - copy.shift
        copy.output.mux(packet)
    except (OSError, ValueError, av.error.FFmpegError) as error:
        _refused(copy, error)
    finally:
        packet.stream = stream
        packet.time_base = Fraction(stream.time_base or 0)
        packet.pts, packet.dts = pts, dts


_DISK = (13, 28, 30, 122)  # EACCES, ENOSPC, EROFS, EDQUOT


def _refused(copy: _Copy, error: Exception) -> None:
    """Give up a piece that the muxer refuses; a full disk is an error for all pieces."""
    number = getattr(error, "errno", None)
    if number in _DISK:
        raise StoreUnusable(
            f"cannot write {copy.path}: {os.strerror(number)}; free disk space or check permissions"
        ) from error
    copy.failed = True


def _reads_alike(source: ReferenceSource, piece: Piece, path: Path) -> bool:
    """Return True where the file has exactly the source's frames of the range, at their times, and
    the first ones decode to the same pixels.
    """
    first, last = source_frames(source, piece.start, piece.end)
    try:
        moved = reading(source, piece, path)
        own = index_frames(path).pts
    except SourceUnusable:
        return False
    expected = moved.index.pts[first:last]
    if not np.array_equal(own[(own >= expected[0]) & (own <= expected[-1])], expected):
        return False
    # A property that a container loses (a pixel format, a codec's tag) is lost for all frames, so
    # the first ones are enough.
    end = min(piece.end, piece.start + COMPARED_FRAMES)
    try:
        return _hashes(moved, piece.start, end) == _hashes(source, piece.start, end)
    except ToolFailed:
        return False


def _hashes(source: ReferenceSource, start: int, end: int) -> bytes:
    """Return the hashes of canonical frames, with their numbers."""
    node = open_reference(source, start, end)
    built = ffmpeg.output(node, "pipe:", f="framehash", hash="murmur3", fps_mode="passthrough")
    return run(Command.of(["-v", "error", *GLOBAL_ARGUMENTS, *built.get_args()])).stdout
