"""What a source is, from its headers and its first decoded frame.

:func:`probe` opens the file with the protocol and format allow-lists of
:data:`encoder.ffmpeg.SOURCE_OPTIONS` and returns a frozen :class:`SourceInfo`. Numbers that
containers merely claim carry ``_from_header`` in their names; trustworthy frame counts, durations
and bitrates come from :mod:`encoder.source.index`.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import av.container
import av.error
import av.stream
import av.video
from av.sidedata.sidedata import SideData

from encoder.errors import SourceUnusable
from encoder.ffmpeg import PATIENT_OPTIONS, SOURCE_OPTIONS
from encoder.source import address, mxf, single_picture, sniff
from encoder.source.audio_streams import AudioStream, audio_streams, is_not_default, language_of
from encoder.source.colour_codes import (
    UNSUPPORTED_MATRICES,
    UNSUPPORTED_TRANSFERS,
    ColorRange,
    color_matrix,
    color_primaries,
    color_range,
    color_transfer,
)
from encoder.source.cropping import Crop, read_crop, vbi_lines, whole_chroma
from encoder.source.dolby_vision import DolbyVision, guessed, read_dolby_vision, record_of_stream
from encoder.source.edits import TextPart, read_edits, read_text_parts
from encoder.source.hdr_metadata import NO_METADATA, MasteringDisplay, StaticMetadata
from encoder.source.later import later
from encoder.source.promise import lacks_index, torn_fragment
from encoder.source.reading import SourceFile, read_failed, reading
from encoder.source.tonemap import TAGS, Transfer

MAX_PIXELS = 8192 * 8192
"""Largest coded picture that is opened: a forged header must not exhaust the machine."""

TEXT_SUBTITLES = frozenset({"subrip", "mov_text", "ass", "webvtt", "text"})
"""Subtitle codecs that hold text, by ffmpeg's canonical names."""

MIN_SIDE = 16
"""Shortest side of a picture, pixels."""
MAX_RATIO = 16
"""Largest ratio of the long side of a picture to its short side."""

FIRST_FRAME_PACKETS = 500
"""Number of packets that may pass before the first picture is decoded."""

# A stored aspect within this of square is rounding by the muxer, not an intention.
_SQUARE_TOLERANCE = Fraction(1, 100)
_MAX_ASPECT = 10

_HDR: dict[str | None, Transfer] = {name: transfer for transfer, name in TAGS.items()}

FieldOrder = Literal["unknown", "progressive", "tt", "bb", "tb", "bt"]
"""ffmpeg's names: which field is coded first (t or b), then which is shown first."""
_FIELD_ORDERS: tuple[FieldOrder, ...] = ("unknown", "progressive", "tt", "bb", "tb", "bt")

_TURNS = ("clock", "cclock", "clock_flip", "cclock_flip")
ORIENTATION_FILTERS = frozenset(("hflip", "vflip", *(f"transpose={turn}" for turn in _TURNS)))
"""Filters that :attr:`SourceInfo.orientation` may name."""

MOV = "mov,mp4,m4a,3gp,3g2,mj2"
"""Name of the demuxer of MP4 and MOV."""
_PICTURE_CODECS = ("mjpeg", "png", "bmp", "gif", "webp", "tiff")

# Codecs whose standards take levels for limited where nothing is stated (H.264 and HEVC: E.2.1,
# video_full_range_flag). Others hold grey as pictures do, from 0 to 255.
_LIMITED_CODECS = ("h264", "hevc", "vvc", "av1", "vp9", "mpeg2video")

# Containers other than MP4 that have a record of Dolby Vision, and codecs that it is made of.
_DOLBY_VISION_DEMUXERS = ("matroska", "mpegts")
_DOLBY_VISION_CODECS = ("hevc", "h264", "av1")

_AS_STORED = {"fflags": "+nofillin"}
_UNEDITED = {"ignore_editlist": "1"}

PathLike = str | os.PathLike[str]
"""Path of a file."""


@dataclass(frozen=True, slots=True)
class SubtitleStream:
    """One subtitle stream of a source."""

    index: int
    """Index of the stream in the file."""
    codec: str
    """ffmpeg's canonical name of the codec, for example ``subrip``, ``mov_text`` or ``ass``."""
    language: str | None
    """Language tag as written in the file, None without one."""
    forced: bool
    """True where the stream translates only what is foreign to the title's own language."""
    hearing_impaired: bool
    """True where the stream is marked for the hard of hearing."""
    styled: bool = later(False)
    """True where the text may have places, drawings or effects
    (:mod:`encoder.source.subtitle_marks`)."""
    parts: tuple[TextPart, ...] = later(())
    """Parts of the stream's media that are played, by which its text is placed; none where
    libavformat places it."""

    @property
    def text(self) -> bool:
        """True where the stream holds text, which becomes WebVTT; pictures of text cannot."""
        return self.codec in TEXT_SUBTITLES


@dataclass(frozen=True, slots=True)
class UnreadStream:
    """An audio or subtitle stream that ffmpeg cannot decode."""

    index: int
    """Index of the stream in the file."""
    kind: str
    """Kind of stream, ``audio`` or ``subtitle``."""
    language: str | None
    """Language tag as written in the file, None without one."""


@dataclass(frozen=True, slots=True)
class Run:
    """Source frames ``[start, end)`` that are deinterlaced."""

    start: int
    end: int
    parity: Literal["auto", "tff", "bff"]
    """Which field is first, top or bottom; ``auto`` where each picture says so."""


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """A source with one video stream, as its headers and its first frame describe it."""

    path: str
    """Absolute path of the file."""
    container: str
    """Name of the demuxer, for example ``mov,mp4,m4a,3gp,3g2,mj2``."""
    stream_index: int
    """Index in the file of the video stream that is used."""
    codec: str
    """ffmpeg's canonical name of the video codec."""
    width: int
    """Width of the decoded picture before rotation, in stored pixels."""
    height: int
    """Height of the decoded picture before rotation, in stored pixels."""
    sample_aspect: Fraction
    """Width over height of a stored pixel; 1 when the source does not state it."""
    orientation: tuple[str, ...]
    """Filters that turn the decoded picture upright, for example ``("transpose=clock",)``."""
    pix_fmt: str
    """ffmpeg's name of the decoded pixel format."""
    bit_depth: int
    """Bits of the deepest component."""
    chroma: str
    """``420``, ``422``, ``444``, ``411``, ``gray`` or ``rgb``."""
    color_range: ColorRange | None
    """Range of levels, None when unspecified."""
    color_primaries: str | None
    """ffmpeg's name of the primaries, None when unspecified."""
    color_transfer: str | None
    """ffmpeg's name of the transfer characteristic, None when unspecified."""
    color_matrix: str | None
    """ffmpeg's name of the matrix, None when unspecified."""
    field_order: FieldOrder
    """Field order that the stream's headers state."""
    first_frame_interlaced: bool
    """True where the decoder marked the first picture as interlaced."""
    time_base: Fraction | None
    """Seconds per tick of the stream's timestamps."""
    base_rate_from_header: Fraction | None
    """ffmpeg's ``r_frame_rate``, a guess."""
    average_rate_from_header: Fraction | None
    """Frames per second by ffmpeg's ``avg_frame_rate``."""
    rate_from_bitstream: Fraction | None
    """Frames per second that the coded stream itself states (H.264/HEVC VUI)."""
    duration_seconds_from_header: Fraction | None
    """Duration that the stream or else the container claims."""
    frames_from_header: int
    """Number of frames that the container claims; 0 when it does not."""
    audio: tuple[AudioStream, ...]
    """Audio streams, those marked as default first."""
    subtitles: tuple[SubtitleStream, ...] = ()
    """Subtitle streams, as text or as pictures."""
    other_video: int = 0
    """Number of video streams that are ignored; attached pictures do not count."""
    unread: tuple[UnreadStream, ...] = ()
    """Audio and subtitle streams that cannot be decoded."""
    dolby_vision: DolbyVision | None = None
    """Dolby Vision enhancement that the container announces; only the base layer is read."""
    scan_corrected: Literal["progressive", "interlaced"] | None = None
    """Scan that the pictures show (:mod:`encoder.source.scan`), None where the flags agree."""
    static_metadata: StaticMetadata = NO_METADATA
    """HDR metadata for displays, which encodes carry on."""
    crop: Crop | None = later(None)
    """Part of the stored picture that is not shown, None where all of it is."""
    edits: int = later(0)
    """Number of parts of the track that an edit list plays, 0 where it plays one or has no list."""
    precharge: int = later(0)
    """Pictures of an MXF file before the one at which it asks to begin; they are frames."""
    stereo: str | None = later(None)
    """How the pictures hold the views of both eyes, in words; None for a flat picture."""
    stated_twice: bool = later(False)
    """True where container and bitstream both state an orientation or a 3D packing."""
    interlaced_runs: tuple[Run, ...] = later(())
    """Where a source that is interlaced in parts is deinterlaced, in order; empty where all
    pictures are alike, or where only flags that vary from picture to picture tell."""
    flags_contradicted: int = later(0)
    """Number of pictures in or outside :attr:`interlaced_runs` against their flags."""

    @property
    def shown_width(self) -> int:
        """Width of the shown part of the picture before rotation, in stored pixels."""
        return self.width - (self.crop.left + self.crop.right if self.crop else 0)

    @property
    def shown_height(self) -> int:
        """Height of the shown part of the picture before rotation, in stored pixels."""
        return self.height - (self.crop.top + self.crop.bottom if self.crop else 0)

    @property
    def hdr(self) -> Transfer | None:
        """High dynamic range transfer of the source, None for standard range."""
        return _HDR.get(self.color_transfer)

    @property
    def interlaced(self) -> bool:
        """True where the source has to be deinterlaced."""
        return (
            self.first_frame_interlaced
            or self.field_order in ("tt", "bb", "tb", "bt")
            or bool(self.interlaced_runs)
        )

    @property
    def rgb(self) -> bool:
        """True where the source is coded as RGB."""
        return self.chroma == "rgb"

    @property
    def limited_grey(self) -> bool:
        """True where the source has no chroma and limited levels, untagged ones by their codec.

        ffmpeg's scaler takes every grey format for full range, whatever its frames say.
        """
        stated = self.color_range or ("limited" if self.codec in _LIMITED_CODECS else "full")
        return self.chroma == "gray" and stated == "limited"

    @property
    def quarter_turned(self) -> bool:
        """True where turning the picture upright swaps width and height."""
        return any(name.startswith("transpose") for name in self.orientation)

    @property
    def square_size(self) -> tuple[int, int]:
        """(width, height) before rotation, in square pixels; odd only where stored so."""
        return square_pixels(self.shown_width, self.shown_height, self.sample_aspect)

    @property
    def display_width(self) -> int:
        """Upright width in square pixels, even: the size at which quality is measured."""
        return _even(self.square_size[1 if self.quarter_turned else 0])

    @property
    def display_height(self) -> int:
        """Upright height in square pixels, even."""
        return _even(self.square_size[0 if self.quarter_turned else 1])


def square_pixels(width: int, height: int, sample_aspect: Fraction) -> tuple[int, int]:
    """Return the size in square pixels that loses no resolution: pixels are only ever stretched.

    Stretched sides come out even; an aspect within 1 % of square, or absurd, counts as square.
    """
    if abs(sample_aspect - 1) <= _SQUARE_TOLERANCE:
        return width, height
    if sample_aspect > 1:
        return nearest_even(width * sample_aspect), height
    return width, nearest_even(height / sample_aspect)


def _even(size: int) -> int:
    return size - size % 2


def nearest_even(size: Fraction | float) -> int:
    """Return the even number nearest ``size``, at least 2."""
    return max(2, 2 * round(size / 2))


def orientation_filters(matrix: tuple[int, ...]) -> tuple[str, ...]:
    """Return the filters for a display matrix (nine 32-bit integers), as ffmpeg's autorotate does.

    Angles other than quarter turns are ignored: cameras are not held so.
    """
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    if a == 0 and d == 0 and b and c:
        if b > 0 and c > 0:
            return ("transpose=cclock_flip",)
        if b < 0 and c < 0:
            return ("transpose=clock_flip",)
        return ("transpose=clock",) if b > 0 else ("transpose=cclock",)
    return tuple(name for name, sign in (("hflip", a), ("vflip", d)) if sign < 0 and not (b or c))


# -- opening -----------------------------------------------------------------------------------


@contextlib.contextmanager
def opened(
    path: PathLike, *, patient: bool = False, as_stored: bool = False, unedited: bool = False
) -> Iterator[av.container.InputContainer]:
    """Open a source for reading under the allow-lists.

    Args:
        path: the file.
        patient: True to find streams that begin late.
        as_stored: True to get only the times that the file states, none that libavformat derives.
        unedited: True to get all media of MP4 and MOV at its own times, without the edit lists.

    Raises:
        SourceUnusable: the path is missing, not a file, unreadable or of an unsupported kind; also
            for any libav error inside the ``with`` block.
        ReadFailed: the disk or the network failed while the source was read, also where libav
            went on after it.
    """
    given = Path(path)
    source = file_of(given)
    with reading(given), contextlib.closing(source):
        try:
            more = PATIENT_OPTIONS if patient else {}
            more = more | (_AS_STORED if as_stored else {}) | (_UNEDITED if unedited else {})
            with _container(source, given, more) as container:
                yield container
        except (OSError, av.error.FFmpegError) as error:
            if source.failure is not None:
                raise read_failed(given, source.failure) from error
            if not isinstance(error, av.error.FFmpegError):
                raise
            raise SourceUnusable(
                f"cannot read {given}: the data is damaged ({error.strerror}); copy it again, or "
                "remux what can be read, for example with ffmpeg -i IN -map 0 -c copy OUT.mkv"
            ) from error
        if source.failure is not None:
            raise read_failed(given, source.failure)


def file_of(path: PathLike) -> SourceFile:
    """Open the file of a source for reading its bytes.

    Raises:
        SourceUnusable: the path is missing, not a file, or empty, or may not be read.
        ReadFailed: the disk or the network failed.
    """
    given = Path(path)
    if not given.exists():
        raise SourceUnusable(f"cannot read {address.missing(str(path))}")
    if given.is_dir():
        raise SourceUnusable(f"cannot read {given}: it is a directory; name one video file")
    if not given.is_file():
        raise SourceUnusable(f"cannot read {given}: not a regular file; name one video file")
    if given.stat().st_size == 0:
        raise SourceUnusable(f"cannot read {given}: the file is empty; copy it again")
    try:
        return SourceFile(given)
    except PermissionError as error:
        raise _no_permission(given) from error
    except OSError as error:
        raise read_failed(given, error) from error


def packets_of(
    container: av.container.InputContainer, *streams: av.stream.Stream
) -> Iterator[av.Packet[Any]]:
    """Yield the packets of a file, of all streams or of some, across holes in transport streams.

    Where a transport stream has no packet for 64 kB, its demuxer asks to be called again.
    """
    while True:
        try:
            yield from container.demux(*streams)
        except av.error.BlockingIOError:
            continue
        return


def _container(
    source: SourceFile, given: Path, more: Mapping[str, str]
) -> av.container.InputContainer:
    try:
        return av.open(
            source,
            mode="r",
            options={**SOURCE_OPTIONS, **more},
            metadata_errors="replace",
        )
    except av.error.FFmpegError as error:
        if source.failure is not None:
            raise
        raise _open_error(given, error) from error


def _open_error(given: Path, error: av.error.FFmpegError) -> SourceUnusable:
    with reading(given), given.open("rb") as file:
        kind = sniff.kind(file.read(sniff.HEAD_BYTES))
        unfinished = lacks_index(file)
        torn = torn_fragment(file)
    if kind is None and unfinished:
        return SourceUnusable(
            f"cannot use {given}: it is an MP4 or MOV file without its index (moov box), whose "
            "end is missing or was never written; copy it again, or repair the recording with a "
            "tool such as untrunc"
        )
    if torn:
        return SourceUnusable(
            f"cannot use {given}: it is not complete (it ends within the header of a fragment); "
            f"copy it again, or cut the torn fragment off with head -c {torn} IN > OUT.mp4"
        )
    if kind in sniff.ANIMATIONS:
        return SourceUnusable(
            f"cannot use {given}: it is {kind}, which is not supported; convert it first, for "
            "example with ffmpeg -i IN -c:v ffv1 OUT.mkv"
        )
    return SourceUnusable(
        f"cannot read {given}: not a supported kind of video ({kind or error.strerror}); "
        "give an MP4, MOV, MKV, WebM, MPEG-TS, AVI or raw H.264/HEVC file"
    )


def _no_permission(given: Path) -> SourceUnusable:
    return SourceUnusable(f"cannot read {given}: permission denied; change its permissions")


def video_stream(container: av.container.InputContainer, path: PathLike) -> av.video.VideoStream:
    """Return the one video stream that is used: the default one, otherwise the first.

    Attached pictures do not count; a stream in a still picture codec is used only where there is
    no other.

    Raises:
        SourceUnusable: there is no video stream, or no decoder for it.
    """
    for stream in sorted(_films(container), key=_preference):
        # PyAV types codec_context as always there; it is None for a codec without a decoder.
        if not has_decoder(stream):
            raise SourceUnusable(
                f"cannot decode {path}: no decoder for the codec of its video stream "
                f"{stream.index}; transcode it to a common codec first"
            )
        return stream
    kinds = ", ".join(sorted({s.type for s in container.streams})) or "no streams"
    raise SourceUnusable(
        f"cannot use {path}: it has no video stream (it has: {kinds}); name a video file"
    )


def _films(container: av.container.InputContainer) -> list[av.video.VideoStream]:
    attached = av.stream.Disposition.attached_pic
    return [each for each in container.streams.video if not each.disposition & attached]


def _preference(stream: av.video.VideoStream) -> tuple[bool, bool, int]:
    """Sort key that puts the title's stream first: a cover may precede it, marked as default."""
    still = has_decoder(stream) and stream.codec_context.codec.canonical_name in _PICTURE_CODECS
    return still, is_not_default(stream), stream.index


# -- probing -----------------------------------------------------------------------------------


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
        _check_shape(path, frame, crop)
        _check_colours(path, frame)
        _check_coding(path, stream, frame, dolby_vision)
        context = stream.codec_context
        field_order = context.field_order
        return SourceInfo(
            path=str(Path(path).resolve()),
            container=container.format.name,
            stream_index=stream.index,
            codec=context.codec.canonical_name,
            width=frame.width,
            height=frame.height,
            sample_aspect=_aspect(stream.sample_aspect_ratio or context.sample_aspect_ratio),
            orientation=orientation(frame) or (),
            pix_fmt=frame.format.name,
            bit_depth=max(component.bits for component in frame.format.components),
            chroma=_chroma(frame),
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
            subtitles=_subtitles(container, path),
            other_video=len(_films(container)) - 1,
            unread=tuple(
                UnreadStream(s.index, s.type, language_of(s))
                for s in container.streams
                if s.type in ("audio", "subtitle") and not is_decodable(s)
            ),
            dolby_vision=dolby_vision,
            static_metadata=_static_metadata(frame),
            crop=crop,
            edits=len(edits) if len(edits) > 1 else 0,
            precharge=mxf.precharge(path) if container.format.name == mxf.DEMUXER else 0,
            stereo=_stereo(frame),
            stated_twice=_stated_twice(frame),
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


def _aspect(stored: Fraction | None) -> Fraction:
    if not stored or not Fraction(1, _MAX_ASPECT) <= stored <= _MAX_ASPECT:
        return Fraction(1)
    return Fraction(stored)


def orientation(frame: av.VideoFrame) -> tuple[str, ...] | None:
    """Return the filters that turn a decoded picture upright, None where it states nothing."""
    matrix = _side_data(frame, "DISPLAYMATRIX")
    return orientation_filters(struct.unpack("=9i", matrix[:36])) if matrix else None


def _side_data(frame: av.VideoFrame, name: str) -> bytes | None:
    """Return the first side data of a name: the container's, where the bitstream has some too."""
    return next((bytes(data) for data in _all(frame) if data.type.name == name), None)


def _all(frame: av.VideoFrame) -> list[SideData]:
    found: Any = frame.side_data  # of another type than PyAV declares
    return [found[number] for number in range(len(found))]


def _stated_twice(frame: av.VideoFrame) -> bool:
    names = [data.type.name for data in _all(frame)]
    return any(names.count(name) > 1 for name in ("DISPLAYMATRIX", "STEREO3D"))


_PACKINGS = {
    1: "side by side",
    2: "one above the other",
    3: "in alternate frames",
    4: "as a checkerboard",
    5: "side by side, as a quincunx",
    6: "in alternate lines",
    7: "in alternate columns",
    8: "in one of several views",
}


def _stereo(frame: av.VideoFrame) -> str | None:
    packing = _side_data(frame, "STEREO3D")
    return _PACKINGS.get(struct.unpack("=i", packing[:4])[0]) if packing else None


def _crop(
    path: PathLike, container: str, stream: av.video.VideoStream, frame: av.VideoFrame
) -> Crop | None:
    left, right, top, bottom = read_crop(path, container, stream.index)
    if left + right >= frame.width or top + bottom >= frame.height:
        left = right = top = bottom = 0  # meant for other pictures than these
    codec = stream.codec_context.codec.canonical_name
    top = max(top, vbi_lines(codec, frame.width, frame.height))
    return whole_chroma((left, right, top, bottom), frame.width, frame.height, _chroma(frame))


def _static_metadata(frame: av.VideoFrame) -> StaticMetadata:
    display, light = None, None
    data = frame.side_data.get("MASTERING_DISPLAY_METADATA")
    if isinstance(data, SideData):
        display = MasteringDisplay.of(bytes(data))
    data = frame.side_data.get("CONTENT_LIGHT_LEVEL")
    if isinstance(data, SideData):
        brightest, average = struct.unpack("=2I", bytes(data)[:8])
        light = (brightest, average) if brightest or average else None
    return StaticMetadata(display, light)


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


def _chroma(frame: av.VideoFrame) -> str:
    layout = frame.format
    if layout.is_rgb or layout.has_palette:
        return "rgb"
    if len(layout.components) < 3:
        return "gray"
    across = layout.width // max(1, layout.chroma_width())
    down = layout.height // max(1, layout.chroma_height())
    return {(1, 1): "444", (2, 1): "422", (2, 2): "420", (4, 1): "411"}.get((across, down), "420")


def _duration(
    container: av.container.InputContainer, stream: av.video.VideoStream
) -> Fraction | None:
    if stream.duration is not None and stream.time_base:
        return stream.duration * stream.time_base
    if container.duration is not None:
        return Fraction(container.duration, 1_000_000)
    return None


def has_decoder(stream: av.stream.Stream) -> bool:
    """Return True where ffmpeg can decode the stream; PyAV has no codec context otherwise."""
    return getattr(stream, "codec_context", None) is not None


def is_decodable(stream: av.stream.Stream) -> bool:
    """Return True where there is a decoder and, for audio, something to decode.

    A transport stream may announce audio that never comes.
    """
    if not has_decoder(stream) or not isinstance(stream, av.AudioStream):
        return has_decoder(stream)
    return stream.codec_context.channels > 0 and stream.codec_context.sample_rate > 0


def _subtitles(
    container: av.container.InputContainer, path: PathLike
) -> tuple[SubtitleStream, ...]:
    streams = [_subtitle(s) for s in container.streams.subtitles if has_decoder(s)]
    texts = [s.index for s in streams if s.text] if container.format.name == MOV else []
    parts = read_text_parts(path, texts)
    return tuple(replace(s, parts=parts.get(s.index, ())) for s in streams)


def _subtitle(stream: Any) -> SubtitleStream:
    disposition = stream.disposition
    return SubtitleStream(
        index=stream.index,
        codec=stream.codec_context.codec.canonical_name,
        language=language_of(stream),
        forced=bool(disposition & av.stream.Disposition.forced),
        hearing_impaired=bool(disposition & av.stream.Disposition.hearing_impaired),
    )


# -- what is refused ---------------------------------------------------------------------------


def _check_shape(path: PathLike, frame: av.VideoFrame, crop: Crop | None) -> None:
    width, height = frame.width, frame.height
    if crop is not None:
        width, height = width - crop.left - crop.right, height - crop.top - crop.bottom
    short, long = sorted((width, height))
    if short < MIN_SIDE or long > MAX_RATIO * short:
        raise SourceUnusable(
            f"cannot use {path}: pictures of {width}x{height} are too "
            f"{'small' if short < MIN_SIDE else 'long'} for a ladder; give pictures of at least "
            f"{MIN_SIDE} pixels a side, one side at most {MAX_RATIO} times the other"
        )


def _check_colours(path: PathLike, frame: av.VideoFrame) -> None:
    unsupported = []
    if matrix := UNSUPPORTED_MATRICES.get(int(frame.colorspace)):
        wide = color_primaries(frame) == "bt2020"
        unsupported.append(("matrix", matrix, "bt2020nc" if wide else "bt709"))
    if transfer := UNSUPPORTED_TRANSFERS.get(int(frame.color_trc)):
        unsupported.append(("transfer", transfer, "bt709"))
    if unsupported:
        stated = " and ".join(f"{name} {value}" for name, value, _ in unsupported)
        wanted = ":".join(f"{name}={value}" for name, _, value in unsupported)
        raise SourceUnusable(
            f"cannot use {path}: its colours are coded with {stated}, which is not supported; "
            f"convert it first, for example with ffmpeg -i IN -vf zscale={wanted} -c:v ffv1 OUT.mkv"
        )


def _check_coding(
    path: PathLike,
    stream: av.video.VideoStream,
    frame: av.VideoFrame,
    dolby_vision: DolbyVision | None,
) -> None:
    codec = stream.codec_context.codec.canonical_name
    if dolby_vision is not None and not dolby_vision.viewable:
        raise SourceUnusable(
            f"cannot use {path}: it is Dolby Vision profile {dolby_vision.profile}, whose base "
            "layer is not viewable without its enhancement; give a standard dynamic range master"
        )
    if codec == "jpeg2000":
        raise SourceUnusable(
            f"cannot use {path}: its video is JPEG 2000, which cannot be read frame by frame "
            "exactly; transcode it first, for example with "
            "ffmpeg -i IN -c:v prores_ks -profile:v 3 -c:a copy OUT.mov"
        )
    if codec == "hevc" and frame.interlaced_frame:
        raise SourceUnusable(
            f"cannot use {path}: each of its HEVC pictures is a single field, and fields are not "
            "woven into frames; weave them first, for example with ffmpeg -i IN -vf "
            "weave=first_field=top -c:v ffv1 -c:a copy OUT.mkv"
        )
