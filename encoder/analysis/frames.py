"""The analysis pass: one decode of a title feeds all analysers.

:func:`small_frames` yields the title's canonical frames as small pictures, one at a time;
:func:`feed` pushes them to analysers (shot detection, features, stills), which open no files. The
pass also checks the index: every frame that :mod:`encoder.source.index` lists must come out of the
decoder, in order, or the source is refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import av
import av.error
import av.filter
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation

from encoder.analysis.damage import DamageCounter
from encoder.arrays import UInt8
from encoder.errors import SourceUnusable
from encoder.source.colour.codes import color_matrix, color_range
from encoder.source.colour.tonemap import tone_map_small
from encoder.source.index import is_torn
from encoder.source.opening.container import opened, packets_of
from encoder.source.probing.picture import orientation
from encoder.source.probing.source_info import SourceInfo
from encoder.source.reference import ReferenceSource

SMALL_SIDE = 320
"""Pixels of the longer side of a small frame."""


@dataclass(frozen=True, slots=True, eq=False)
class SmallFrame:
    """A canonical frame, averaged down and upright."""

    number: int
    """Frame number on the canonical timeline."""
    yuv: UInt8
    """(3, height, width) limited range, 8 bit, no chroma subsampling; tone-mapped for a high
    dynamic range title."""
    picture: av.VideoFrame
    """The decoded frame as stored (not upright, not converted), for an analyser that needs it
    larger. Do not keep it: the decoder has a small pool of frames."""

    @property
    def luma(self) -> UInt8:
        """Luma (height, width): 16 is black, 235 white."""
        luma: UInt8 = self.yuv[0]
        return luma

    def bgr(self) -> UInt8:
        """Return (height, width, 3) full range, BT.601: for comparing, not for measuring."""
        return np.asarray(cv2.transform(cv2.merge(list(self.yuv)), _YUV_TO_BGR), np.uint8)


@dataclass(slots=True)
class Seen:
    """How the pictures of a decode are stored, which must be the same all through a title."""

    stored: tuple[str, str, str] | None = None
    """Names of pixel format, range and matrix."""
    aspect: Fraction | None = None
    """Shape of the pixels."""


_AHEAD = 64  # pictures that a decoder reads ahead of the one it returns, at most

_MATRIX = np.array(
    [[1.1644, 2.0172, 0.0], [1.1644, -0.3918, -0.8130], [1.1644, 0.0, 1.5960]], np.float32
)
# (3, 4): gains and offsets.
_YUV_TO_BGR = np.column_stack([_MATRIX, -_MATRIX @ np.array([16, 128, 128], np.float32)])


class Analyser(Protocol):
    """A consumer of frames, which come in order; it is asked for its result after the last."""

    def push(self, frame: SmallFrame) -> None:
        """Take the next frame."""


def feed(frames: Iterable[SmallFrame], *analysers: Analyser) -> int:
    """Push every frame to every analyser.

    Returns:
        Number of frames.
    """
    count = 0
    for frame in frames:
        for analyser in analysers:
            analyser.push(frame)
        count += 1
    return count


def small_size(width: int, height: int) -> tuple[int, int]:
    """Return the (width, height) of a picture's small frame, never larger than the picture."""
    scale = min(Fraction(1), Fraction(SMALL_SIDE, max(width, height)))
    return max(1, round(width * scale)), max(1, round(height * scale))


def small_frames(
    source: ReferenceSource,
    threads: int = 2,
    damage: DamageCounter | None = None,
    span: tuple[int, int] | None = None,
    seen: Seen | None = None,
) -> Iterator[SmallFrame]:
    """Decode the title once and yield its canonical frames, small, holding one frame in memory.

    Where the canonical timeline repeats a source frame, the same pixels are yielded again.
    ``damage`` is told what the decoder conceals. With a ``span``, canonical frames ``[start, end)``
    are yielded, decoded from the last keyframe that is shown not after the first of them. ``seen``
    is told how the pictures are stored.

    Raises:
        SourceUnusable: a frame of the index does not decode, or the picture changes its size.
        ValueError: the span is empty or outside of the title.
    """
    start, end = span or (0, source.frames)
    if not 0 <= start < end <= source.frames:
        raise ValueError(f"frames [{start}, {end}) are not within [0, {source.frames}]")
    width, height = small_size(source.width, source.height)
    hdr = source.info.hdr
    if source.info.quarter_turned:
        width, height = height, width
    source_of = source.timeline.source_of
    number = start
    first, stop = 0, source.index.frames
    if span is not None:
        first, stop = (source.timeline.source_frame(at) for at in (start, end - 1))
        stop += 1
    for position, picture in enumerate(
        _decoded(source, threads, damage, first, stop, seen or Seen()), first
    ):
        last = position
        if source_of is not None:
            last = int(np.searchsorted(source_of, position, side="right")) - 1
        if number > last:
            continue  # of several source frames within one canonical frame, the last is shown
        try:
            small = picture.reformat(
                width=width,
                height=height,
                format="yuv444p16le" if hdr else "yuv444p",
                interpolation=Interpolation.AREA,
                dst_colorspace=Colorspace.ITU709 if source.info.rgb else None,
                # swscale takes grey for full range: that way limited levels stay as they are.
                dst_color_range=(ColorRange.JPEG if source.info.limited_grey else ColorRange.MPEG),
                threads=1,
            )
        except av.error.FFmpegError as error:
            raise SourceUnusable(
                f"cannot use {source.named}: its pictures ({source.info.pix_fmt}, matrix "
                f"{source.info.color_matrix or 'unnamed'}) cannot be converted ({error.strerror}); "
                "transcode it first"
            ) from error
        levels = small.to_ndarray()
        yuv = tone_map_small(levels, hdr) if hdr else levels.astype(np.uint8, copy=False)
        yuv = _upright(yuv, source.info.orientation)
        while number <= last and number < end:
            yield SmallFrame(number, yuv, picture)
            number += 1


def _decoded(
    source: ReferenceSource,
    threads: int,
    damage: DamageCounter | None,
    first: int,
    stop: int,
    seen: Seen,
) -> Iterator[av.VideoFrame]:
    """Yield exactly the frames ``[first, stop)`` of the index, in order."""
    pts = source.index.pts[:stop]
    expected = first
    other: Fraction | None = None
    foreign = 0
    crop = _cropper(source.info) if source.info.crop else None
    for picture, aspect in _pictures(source, threads, damage, first):
        if expected == len(pts):
            break  # past the span, or a picture from a torn packet at the end
        if picture.pts is None or picture.pts < pts[expected]:
            continue  # before the first keyframe
        if picture.pts > pts[expected]:
            raise _missing(source, expected)
        if (picture.width, picture.height) != (source.info.width, source.info.height):
            raise _changes(
                source,
                expected,
                f"changes from {source.info.width}x{source.info.height} to "
                f"{picture.width}x{picture.height}",
            )
        stored = _stored(picture)
        seen.stored = seen.stored or stored
        for name, before, now in zip(
            ("pixels", "range", "matrix"), seen.stored, stored, strict=True
        ):
            if before != now:
                raise _changes(source, expected, f"changes its {name} from {before} to {now}")
        turned = orientation(picture)
        if turned is not None and turned != source.info.orientation:
            before, now = (" and ".join(one) or "none" for one in (source.info.orientation, turned))
            raise _changes(source, expected, f"changes its orientation from {before} to {now}")
        # The aspect is that of the packet read last, which is ahead of the picture: where the size
        # changes too, the check above should report the size.
        seen.aspect = seen.aspect or aspect
        if aspect != seen.aspect:
            other, foreign = aspect, foreign + 1
        if foreign > _AHEAD:
            break
        if damage is not None:
            damage.picture(picture, _seconds(source, picture.pts))
        yield picture if crop is None else crop(picture)
        expected += 1
    if other is not None:
        what = f"changes the shape of its pixels from {seen.aspect} to {other}"
        raise _changes(source, max(0, expected - foreign), what)
    if expected < len(pts):
        raise _missing(source, expected)


def _cropper(info: SourceInfo) -> Callable[[av.VideoFrame], av.VideoFrame]:
    """Return a function that crops decoded pictures, without copying them."""
    assert info.crop is not None
    box = (info.shown_width, info.shown_height, info.crop.left, info.crop.top)
    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add_buffer(
            width=info.width,
            height=info.height,
            format=av.VideoFormat(info.pix_fmt),
            time_base=info.time_base or Fraction(1),
        ),
        graph.add("crop", ":".join(map(str, box))),
        graph.add("buffersink"),
    ).configure()

    def crop(picture: av.VideoFrame) -> av.VideoFrame:
        graph.vpush(picture)
        return graph.vpull()

    return crop


def _stored(picture: av.VideoFrame) -> tuple[str, str, str]:
    """Return how a picture is stored, which must not change: one graph converts all pictures."""
    return (
        picture.format.name,
        color_range(picture) or "unnamed",
        color_matrix(picture) or "unnamed",
    )


def _changes(source: ReferenceSource, frame: int, what: str) -> SourceUnusable:
    return SourceUnusable(
        f"cannot use {source.named}: its picture {what} at frame {frame}; split it there",
        frame=frame,
    )


def _missing(source: ReferenceSource, frame: int) -> SourceUnusable:
    seconds = float(
        (int(source.index.pts[frame]) - int(source.index.pts[0])) * source.index.time_base
    )
    return SourceUnusable(
        f"cannot use {source.named}: frame {frame} of {source.index.frames} (at {seconds:.3f} s) "
        "does not decode; the file is damaged there, copy it again or cut it",
        frame=frame,
        seconds=seconds,
    )


def _seconds(source: ReferenceSource, pts: int) -> float:
    """Return the time of a picture on the title's clock."""
    return float(pts * source.index.time_base - source.start_seconds)


def _may_end_torn(source: ReferenceSource) -> bool:
    """Return True for recordings, which end wherever the recorder was stopped."""
    return source.info.container in ("mpegts", "mpeg") or source.copied.transport is not None


def _pictures(
    source: ReferenceSource, threads: int, damage: DamageCounter | None, first: int
) -> Iterator[tuple[av.VideoFrame, Fraction]]:
    """Yield every decoded picture from the keyframe of frame ``first`` on, and the pixel aspect
    that the decoder has at that time.
    """
    keyframe = source.index.keyframe_for(first)
    with contextlib.ExitStack() as stack:
        container = stack.enter_context(opened(source.path))
        stream = container.streams[source.info.stream_index]
        assert isinstance(stream, av.video.VideoStream)
        stream.thread_type = "AUTO"
        stream.thread_count = threads
        if damage is not None:
            stack.enter_context(damage.listening(stream.codec_context))
        if keyframe > 0:
            # By its decoding time, which every demuxer finds (docs/design.md).
            container.seek(int(source.index.keyframe_dts[keyframe]), stream=stream)
        torn: list[av.Packet[av.VideoStream]] = []
        for packet in packets_of(container, stream):
            if is_torn(packet):
                torn.append(packet)
                continue
            # Torn packets at the very end are held back: they are not in the index, and a decoder
            # with several threads would lose good frames to them.
            for each in [*torn, packet] if packet.size else [packet]:
                try:
                    pictures = each.decode()
                except av.error.FFmpegError:
                    pictures = []  # _decoded reports the missing frame
                if damage is not None:
                    seconds = None if each.pts is None else _seconds(source, each.pts)
                    early = seconds is None or each.pts < source.index.pts[first]
                    damage.packet(seconds, early=early and each.size > 0)
                    if each.size == 0 and _may_end_torn(source):
                        damage.forget_last()
                for picture in pictures:
                    yield picture, stream.codec_context.sample_aspect_ratio or Fraction(1)
            torn.clear()


def _upright(yuv: UInt8, orientation: tuple[str, ...]) -> UInt8:
    for step in orientation:
        if step == "hflip":
            yuv = yuv[:, :, ::-1]
        elif step == "vflip":
            yuv = yuv[:, ::-1, :]
        else:
            yuv = yuv.transpose(0, 2, 1)
            if step in ("transpose=clock", "transpose=clock_flip"):
                yuv = yuv[:, :, ::-1]
            if step in ("transpose=cclock", "transpose=clock_flip"):
                yuv = yuv[:, ::-1, :]
    return np.ascontiguousarray(yuv)
