"""Describe a source by its headers and its first decoded frame.

:func:`probe` opens the file, decodes one picture, refuses what cannot be right, and returns a
frozen :class:`~encoder.source.probing.source_info.SourceInfo`.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import av.container
import av.error
import av.video
from av.sidedata.sidedata import SideData

from encoder.errors import SourceUnusable
from encoder.source.colour.codes import color_matrix, color_primaries, color_range, color_transfer
from encoder.source.colour.dolby_vision import (
    DolbyVision,
    guessed,
    read_dolby_vision,
    record_of_stream,
)
from encoder.source.containers import mxf
from encoder.source.containers.cropping import Crop, read_crop, vbi_lines, whole_chroma
from encoder.source.containers.edits import read_edits
from encoder.source.opening.container import MOV, opened, packets_of
from encoder.source.opening.reading import PathLike
from encoder.source.opening.streams import films, is_decodable, language_of, video_stream
from encoder.source.probing import single_picture
from encoder.source.probing.audio_streams import audio_streams
from encoder.source.probing.geometry import pixel_aspect
from encoder.source.probing.picture import (
    chroma_sampling,
    orientation,
    stated_twice,
    static_metadata,
    stereo_packing,
)
from encoder.source.probing.refusals import check_coding, check_colours, check_shape
from encoder.source.probing.source_info import FieldOrder, SourceInfo, UnreadStream
from encoder.source.probing.subtitle_streams import subtitle_streams

MAX_PIXELS = 8192 * 8192
"""Largest coded picture that is opened: a forged header must not exhaust the machine."""

FIRST_FRAME_PACKETS = 500
"""Number of packets that may pass before the first picture is decoded."""

_FIELD_ORDERS: tuple[FieldOrder, ...] = ("unknown", "progressive", "tt", "bb", "tb", "bt")

# Containers other than MP4 that have a record of Dolby Vision, and codecs that it is made of.
_DOLBY_VISION_DEMUXERS = ("matroska", "mpegts")
_DOLBY_VISION_CODECS = ("hevc", "h264", "av1")


def probe(path: PathLike) -> SourceInfo:
    """Open a source, decode its first frame and describe it.

    Raises:
        SourceUnusable: the source cannot be read, holds no video, gives no picture, or is of a
            kind that is refused.
    """
    info = _probe(path)
    if any(stream.kind == "audio" for stream in info.unread):
        # The stream may only begin late.
        late = _probe(path, patient=True)
        return replace(info, audio=late.audio, unread=late.unread)
    return info


def _probe(path: PathLike, *, patient: bool = False) -> SourceInfo:
    with opened(path, patient=patient) as container:
        single_picture.check_file(path)
        stream = video_stream(container, path)
        frame = _first_frame(container, stream, path)
        dolby_vision = _dolby_vision(container, stream, frame, path)
        if container.format.name == mxf.DEMUXER:
            mxf.check_pattern(path)
        edits = read_edits(path, stream.index) if container.format.name == MOV else ()
        crop = _crop(path, container.format.name, stream, frame)
        check_shape(path, frame, crop)
        check_colours(path, frame)
        check_coding(path, stream, frame, dolby_vision)
        context = stream.codec_context
        field_order = context.field_order
        return SourceInfo(
            path=str(Path(path).resolve()),
            container=container.format.name,
            stream_index=stream.index,
            codec=context.codec.canonical_name,
            width=frame.width,
            height=frame.height,
            sample_aspect=pixel_aspect(stream.sample_aspect_ratio or context.sample_aspect_ratio),
            orientation=orientation(frame) or (),
            pix_fmt=frame.format.name,
            bit_depth=max(component.bits for component in frame.format.components),
            chroma=chroma_sampling(frame),
            color_range=color_range(frame),
            color_primaries=color_primaries(frame),
            color_transfer=color_transfer(frame),
            color_matrix=color_matrix(frame),
            field_order=_FIELD_ORDERS[field_order] if field_order in range(6) else "unknown",
            first_frame_interlaced=frame.interlaced_frame,
            time_base=stream.time_base,
            base_rate_from_header=stream.base_rate,
            average_rate_from_header=stream.average_rate,
            rate_from_bitstream=context.framerate or None,
            duration_seconds_from_header=_duration(container, stream),
            frames_from_header=stream.frames,
            audio=audio_streams([s for s in container.streams.audio if is_decodable(s)]),
            subtitles=subtitle_streams(container, path),
            other_video=len(films(container)) - 1,
            unread=tuple(
                UnreadStream(s.index, s.type, language_of(s))
                for s in container.streams
                if s.type in ("audio", "subtitle") and not is_decodable(s)
            ),
            dolby_vision=dolby_vision,
            static_metadata=static_metadata(frame),
            crop=crop,
            edits=len(edits) if len(edits) > 1 else 0,
            precharge=mxf.precharge(path) if container.format.name == mxf.DEMUXER else 0,
            stereo=stereo_packing(frame),
            stated_twice=stated_twice(frame),
        )


def _first_frame(
    container: av.container.InputContainer, stream: av.video.VideoStream, path: PathLike
) -> av.VideoFrame:
    context = stream.codec_context
    if context.width * context.height > MAX_PIXELS:
        raise SourceUnusable(
            f"cannot use {path}: pictures of {context.width}x{context.height} exceed "
            f"{MAX_PIXELS} pixels; scale it down"
        )
    # The stream may contradict its container: the decoder refuses larger pictures as well.
    context.options = {"max_pixels": str(MAX_PIXELS)}
    stream.thread_count = 1  # frame threads would need several packets for the first picture
    for number, packet in enumerate(packets_of(container, stream)):
        if packet.has_sidedata("encryption_info"):
            raise SourceUnusable(
                f"cannot use {path}: it is encrypted (DRM); give a copy that is not"
            )
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            frames = []  # a stream cut at a non-keyframe starts like this
        for frame in frames:
            return frame
        if number > FIRST_FRAME_PACKETS:
            break
    raise SourceUnusable(
        f"cannot use {path}: no picture could be decoded from its {context.name} stream, which "
        "is empty or damaged; copy it again"
    )


def _crop(
    path: PathLike, container: str, stream: av.video.VideoStream, frame: av.VideoFrame
) -> Crop | None:
    left, right, top, bottom = read_crop(path, container, stream.index)
    if left + right >= frame.width or top + bottom >= frame.height:
        left = right = top = bottom = 0  # meant for other pictures than these
    codec = stream.codec_context.codec.canonical_name
    top = max(top, vbi_lines(codec, frame.width, frame.height))
    return whole_chroma(
        (left, right, top, bottom), frame.width, frame.height, chroma_sampling(frame)
    )


def _dolby_vision(
    container: av.container.InputContainer,
    stream: av.video.VideoStream,
    frame: av.VideoFrame,
    path: PathLike,
) -> DolbyVision | None:
    """Return the configuration that the container states, or else the coded pictures."""
    context = stream.codec_context
    codec = context.codec.canonical_name
    stated = read_dolby_vision(path, context.codec_tag)
    if stated is None and codec in _DOLBY_VISION_CODECS:
        if any(name in container.format.name for name in _DOLBY_VISION_DEMUXERS):
            stated = record_of_stream(path, stream.index)
        data = frame.side_data.get("DOVI_METADATA")
        if stated is None and isinstance(data, SideData):
            stated = guessed(bytes(data), codec, color_transfer(frame))
    return stated


def _duration(
    container: av.container.InputContainer, stream: av.video.VideoStream
) -> Fraction | None:
    if stream.duration is not None and stream.time_base:
        return stream.duration * stream.time_base
    if container.duration is not None:
        return Fraction(container.duration, 1_000_000)
    return None
