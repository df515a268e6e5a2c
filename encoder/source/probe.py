"""What a source is: one look at its headers and its first decoded frame.

:func:`probe` opens the file with the protocol and format allow-lists of
:data:`encoder.ffmpeg.SOURCE_OPTIONS` and returns a frozen :class:`SourceInfo`. Numbers that
containers merely claim carry ``_from_header`` in their names; frame counts, durations and
bitrates that can be trusted come from :mod:`encoder.source.index`.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
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
from encoder.source import sniff
from encoder.source.hdr_metadata import NO_METADATA, MasteringDisplay, StaticMetadata
from encoder.source.tonemap import TAGS, Transfer

MAX_PIXELS = 8192 * 8192
"""Largest coded picture that we open: a bomb of a header must not take the machine down."""

TEXT_SUBTITLES = frozenset({"subrip", "mov_text", "ass", "webvtt", "text"})
"""Codecs of subtitles that are text, by ffmpeg's canonical names."""

MIN_SIDE = 16
MAX_RATIO = 16
"""Of the long side to the short one."""

_LANGUAGE_LENGTH = 35
"""Of the longest tag that RFC 5646 expects."""

FIRST_FRAME_PACKETS = 500
"""How many packets may pass before the first picture comes out."""

# A stored aspect within this of square is rounding of the muxer's, not an intention.
_SQUARE_TOLERANCE = Fraction(1, 100)
_MAX_ASPECT = 10

# Names as ffmpeg writes them, by ITU-T H.273 code point; 2 (unspecified) is None.
_PRIMARIES = {
    1: "bt709",
    4: "bt470m",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "film",
    9: "bt2020",
    10: "smpte428",
    11: "smpte431",
    12: "smpte432",
    22: "jedec-p22",
}
_TRANSFERS = {
    1: "bt709",
    4: "gamma22",
    5: "gamma28",
    6: "smpte170m",
    7: "smpte240m",
    8: "linear",
    9: "log100",
    10: "log316",
    11: "iec61966-2-4",
    12: "bt1361e",
    13: "iec61966-2-1",
    14: "bt2020-10",
    15: "bt2020-12",
    16: "smpte2084",
    17: "smpte428",
    18: "arib-std-b67",
}
_MATRICES = {
    0: "gbr",
    1: "bt709",
    4: "fcc",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "ycgco",
    9: "bt2020nc",
    10: "bt2020c",
    14: "ictcp",
}
_RANGES: dict[int, Literal["limited", "full"]] = {1: "limited", 2: "full"}
_HDR: dict[str | None, Transfer] = {name: transfer for transfer, name in TAGS.items()}

# What no scaler here converts and no player expects; the rest of H.273 is taken as it is.
_STRANGE_MATRICES = {
    8: "ycgco",
    10: "bt2020c",
    11: "smpte2085",
    12: "chroma-derived-nc",
    13: "chroma-derived-c",
    14: "ictcp",
    15: "ipt-c2",
    16: "ycgco-re",
    17: "ycgco-ro",
}
_STRANGE_TRANSFERS = {9: "log100", 10: "log316"}

FieldOrder = Literal["unknown", "progressive", "tt", "bb", "tb", "bt"]
_FIELD_ORDERS: tuple[FieldOrder, ...] = ("unknown", "progressive", "tt", "bb", "tb", "bt")


@dataclass(frozen=True, slots=True)
class AudioStream:
    """One audio stream of a source."""

    index: int
    """Index in the file."""
    codec: str
    channels: int
    sample_rate: int
    """Hz."""
    language: str | None
    start_seconds: Fraction | None
    """Presentation time of its first sample on the file's clock; None when the file is silent
    about it."""


@dataclass(frozen=True, slots=True)
class SubtitleStream:
    """One subtitle stream of a source."""

    index: int
    """Index in the file."""
    codec: str
    """``subrip``, ``mov_text``, ``ass``, ``webvtt`` and so on; or a codec of pictures."""
    language: str | None
    forced: bool
    """Only what is foreign to the title's own language."""
    hearing_impaired: bool

    @property
    def text(self) -> bool:
        """Whether it holds text, which becomes WebVTT; pictures of text cannot."""
        return self.codec in TEXT_SUBTITLES


@dataclass(frozen=True, slots=True)
class UnreadStream:
    """A stream of sound or subtitles that nothing here decodes."""

    index: int
    """Index in the file."""
    kind: str
    """``audio`` or ``subtitle``."""
    language: str | None


@dataclass(frozen=True, slots=True)
class DolbyVision:
    """What a Dolby Vision configuration says (``dvcC``, ``dvvC``, ``dvwC``)."""

    profile: int
    compatibility: int
    """What the base layer is by itself: 0 nothing, 1 HDR10, 2 SDR, 4 HLG, 6 UHD Blu-ray HDR10."""


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """A source with one video stream, as its headers and its first frame describe it."""

    path: str
    """Absolute."""
    container: str
    """Name of the demuxer, for example ``mov,mp4,m4a,3gp,3g2,mj2``."""
    stream_index: int
    """Index in the file of the video stream that we use."""
    codec: str
    width: int
    """Of the decoded picture, before rotation, pixels as stored."""
    height: int
    sample_aspect: Fraction
    """Width over height of a stored pixel; 1 when the source does not say."""
    orientation: tuple[str, ...]
    """Filters that turn the decoded picture upright, for example ``("transpose=clock",)``."""
    pix_fmt: str
    bit_depth: int
    chroma: str
    """``420``, ``422``, ``444``, ``gray`` or ``rgb``."""
    color_range: Literal["limited", "full"] | None
    color_primaries: str | None
    """ffmpeg's name; None when unspecified. The same for the next two."""
    color_transfer: str | None
    color_matrix: str | None
    field_order: FieldOrder
    first_frame_interlaced: bool
    """Whether the decoder marked the first picture as interlaced."""
    time_base: Fraction | None
    """Seconds per tick of the stream's timestamps."""
    base_rate_from_header: Fraction | None
    """ffmpeg's ``r_frame_rate``: a guess."""
    average_rate_from_header: Fraction | None
    rate_from_bitstream: Fraction | None
    """Frames per second that the coded stream itself states (H.264/HEVC VUI)."""
    duration_seconds_from_header: Fraction | None
    frames_from_header: int
    """0 when the container does not say."""
    audio: tuple[AudioStream, ...]
    """Those that are marked default first."""
    subtitles: tuple[SubtitleStream, ...] = ()
    other_video: int = 0
    """Video streams that are not used; attached pictures do not count."""
    unread: tuple[UnreadStream, ...] = ()
    dolby_vision: DolbyVision | None = None
    """The enhancement that the container announces; nothing here reads it."""
    scan_corrected: Literal["progressive", "interlaced"] | None = None
    """What the pictures show (:mod:`encoder.source.scan`), where that is not what the flags say."""
    static_metadata: StaticMetadata = NO_METADATA
    """Of a high dynamic range title, for displays; encodes carry it on."""

    @property
    def hdr(self) -> Transfer | None:
        """The high dynamic range transfer of the source, if it has one."""
        return _HDR.get(self.color_transfer)

    @property
    def interlaced(self) -> bool:
        """Whether the source has to be deinterlaced."""
        return self.first_frame_interlaced or self.field_order in ("tt", "bb", "tb", "bt")

    @property
    def rgb(self) -> bool:
        """Whether the source is coded as RGB."""
        return self.chroma == "rgb"

    @property
    def quarter_turned(self) -> bool:
        """Whether turning the picture upright swaps width and height."""
        return any(name.startswith("transpose") for name in self.orientation)

    @property
    def square_size(self) -> tuple[int, int]:
        """(width, height) before rotation, in square pixels; may be odd only where stored so."""
        return square_pixels(self.width, self.height, self.sample_aspect)

    @property
    def display_width(self) -> int:
        """Upright, in square pixels, even: the size at which quality is measured."""
        return _even(self.square_size[1 if self.quarter_turned else 0])

    @property
    def display_height(self) -> int:
        """Upright, in square pixels, even."""
        return _even(self.square_size[0 if self.quarter_turned else 1])


def square_pixels(width: int, height: int, sample_aspect: Fraction) -> tuple[int, int]:
    """Size in square pixels that loses no resolution: the short side of the pixel is stretched.

    Stretched sides come out even; an aspect within 1 % of square, or absurd, counts as square.
    """
    if abs(sample_aspect - 1) <= _SQUARE_TOLERANCE:
        return width, height
    if sample_aspect > 1:
        return _nearest_even(width * sample_aspect), height
    return width, _nearest_even(height / sample_aspect)


def _even(size: int) -> int:
    return size - size % 2


def _nearest_even(size: Fraction) -> int:
    return max(2, 2 * round(size / 2))


def orientation_filters(matrix: tuple[int, ...]) -> tuple[str, ...]:
    """Filters for a display matrix (nine 32-bit integers), as ffmpeg's autorotate picks them.

    Angles other than quarter turns are ignored: they are not how cameras are held.
    """
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    if a == 0 and d == 0 and b and c:
        if b > 0 and c > 0:
            return ("transpose=cclock_flip",)
        if b < 0 and c < 0:
            return ("transpose=clock_flip",)
        return ("transpose=clock",) if b > 0 else ("transpose=cclock",)
    return tuple(name for name, sign in (("hflip", a), ("vflip", d)) if sign < 0 and not (b or c))


@contextlib.contextmanager
def opened(
    path: str | os.PathLike[str], *, patient: bool = False
) -> Iterator[av.container.InputContainer]:
    """The source, opened for reading under the allow-lists; ``patient`` finds late streams.

    Raises:
        SourceUnusable: it is missing, not a file, unreadable or of a kind that we do not accept;
            also for any libav error inside the ``with`` block.
    """
    asked = Path(path)
    if not asked.exists():
        raise SourceUnusable(f"cannot read {asked}: no such file; check the path")
    if asked.is_dir():
        raise SourceUnusable(f"cannot read {asked}: it is a directory; name one video file")
    if not asked.is_file():
        raise SourceUnusable(f"cannot read {asked}: not a regular file; name one video file")
    if asked.stat().st_size == 0:
        raise SourceUnusable(f"cannot read {asked}: the file is empty; copy it again")
    try:
        container = av.open(
            str(asked.resolve()),
            mode="r",
            options=SOURCE_OPTIONS | (PATIENT_OPTIONS if patient else {}),
            metadata_errors="replace",
        )
    except av.error.FFmpegError as error:
        raise _unaccepted(asked, error) from error
    except PermissionError as error:
        raise SourceUnusable(f"cannot read {asked}: permission denied") from error
    with container:
        try:
            yield container
        except av.error.FFmpegError as error:
            raise SourceUnusable(
                f"cannot read {asked}: the data is damaged ({error.strerror}); copy it again"
            ) from error


def _unaccepted(asked: Path, error: av.error.FFmpegError) -> SourceUnusable:
    if isinstance(error, PermissionError):
        return SourceUnusable(f"cannot read {asked}: permission denied")
    with asked.open("rb") as file:
        found = sniff.kind(file.read(sniff.HEAD_BYTES))
    if found == "MXF":
        return SourceUnusable(
            f"cannot use {asked}: it is MXF, whose editing rules we do not follow; rewrap it "
            "first, for example with ffmpeg -i IN.mxf -map 0 -c copy OUT.mov"
        )
    return SourceUnusable(
        f"cannot read {asked}: not a video of a kind we accept ({found or error.strerror}); "
        "give an MP4, MOV, MKV, WebM, MPEG-TS, AVI or raw H.264/HEVC file"
    )


def video_stream(
    container: av.container.InputContainer, path: str | os.PathLike[str]
) -> av.video.VideoStream:
    """The one video stream that we use: the default one, otherwise the first.

    Attached pictures do not count; a stream in a codec of pictures only where there is no other.

    Raises:
        SourceUnusable: there is none, or nothing here decodes it.
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
    raise SourceUnusable(f"cannot use {path}: it has no video stream (found: {kinds})")


_PICTURE_CODECS = ("mjpeg", "png", "bmp", "gif", "webp", "tiff")


def _films(container: av.container.InputContainer) -> list[av.video.VideoStream]:
    attached = av.stream.Disposition.attached_pic
    return [each for each in container.streams.video if not each.disposition & attached]


def _preference(stream: av.video.VideoStream) -> tuple[bool, bool, int]:
    """Smallest for the stream that is the title: a cover may come first, and be marked default."""
    known = has_decoder(stream)
    still = known and stream.codec_context.codec.canonical_name in _PICTURE_CODECS
    return still, _secondary(stream), stream.index


def probe(path: str | os.PathLike[str]) -> SourceInfo:
    """Open a source, decode its first frame, say what it is.

    Raises:
        SourceUnusable: it cannot be read, holds no video, or no picture comes out of it.
    """
    info = _probe(path)
    if any(stream.kind == "audio" for stream in info.unread):
        # It may only begin late.
        late = _probe(path, patient=True)
        return replace(info, audio=late.audio, unread=late.unread)
    return info


def _probe(path: str | os.PathLike[str], *, patient: bool = False) -> SourceInfo:
    with opened(path, patient=patient) as container:
        stream = video_stream(container, path)
        if stream.codec_context.width * stream.codec_context.height > MAX_PIXELS:
            raise SourceUnusable(
                f"cannot use {path}: pictures of {stream.codec_context.width}x"
                f"{stream.codec_context.height} are larger than we accept; scale it down"
            )
        # A stream may say otherwise than its container: the decoder refuses larger ones as well.
        stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
        frame = _first_frame(container, stream, path)
        if frame is None:
            raise SourceUnusable(
                f"cannot use {path}: no picture could be decoded from its "
                f"{stream.codec_context.name} stream; the file is empty or damaged"
            )
        context = stream.codec_context
        _check_shape(path, frame.width, frame.height)
        _check_colours(path, frame)
        dolby_vision = _dolby_vision(path, stream)
        if dolby_vision is not None and dolby_vision.compatibility == 0:
            raise SourceUnusable(
                f"cannot use {path}: it is Dolby Vision profile {dolby_vision.profile}, whose base "
                "layer means nothing without its enhancement; give a standard dynamic range master"
            )
        if context.codec.canonical_name == "jpeg2000":
            raise SourceUnusable(
                f"cannot use {path}: its video is JPEG 2000, which is not read exactly here; "
                "transcode it first, for example with ffmpeg -i IN -c:v prores_ks -profile:v 3 "
                "-c:a copy OUT.mov"
            )
        if context.codec.canonical_name == "hevc" and frame.interlaced_frame:
            raise SourceUnusable(
                f"cannot use {path}: each of its HEVC pictures is a single field, of which nothing "
                "here makes frames; weave them first, for example with ffmpeg -i IN -vf "
                "weave=first_field=top -c:v ffv1 -c:a copy OUT.mkv"
            )
        field_order = context.field_order
        return SourceInfo(
            path=str(Path(path).resolve()),
            container=container.format.name,
            stream_index=stream.index,
            codec=context.codec.canonical_name,
            width=frame.width,
            height=frame.height,
            sample_aspect=_aspect(stream.sample_aspect_ratio or context.sample_aspect_ratio),
            orientation=_orientation(frame),
            pix_fmt=frame.format.name,
            bit_depth=max(component.bits for component in frame.format.components),
            chroma=_chroma(frame),
            color_range=color_range(frame),
            color_primaries=_PRIMARIES.get(int(frame.color_primaries)),
            color_transfer=_TRANSFERS.get(int(frame.color_trc)),
            color_matrix=color_matrix(frame),
            field_order=_FIELD_ORDERS[field_order] if field_order in range(6) else "unknown",
            first_frame_interlaced=frame.interlaced_frame,
            time_base=stream.time_base,
            base_rate_from_header=stream.base_rate,
            average_rate_from_header=stream.average_rate,
            rate_from_bitstream=context.framerate or None,
            duration_seconds_from_header=_duration(container, stream),
            frames_from_header=stream.frames,
            audio=tuple(
                _audio(s) for s in sorted(container.streams.audio, key=_secondary) if is_read(s)
            ),
            subtitles=tuple(_subtitle(s) for s in container.streams.subtitles if has_decoder(s)),
            other_video=len(_films(container)) - 1,
            unread=tuple(
                UnreadStream(s.index, s.type, _language(s))
                for s in container.streams
                if s.type in ("audio", "subtitle") and not is_read(s)
            ),
            dolby_vision=dolby_vision,
            static_metadata=_static_metadata(frame),
        )


def _check_shape(path: str | os.PathLike[str], width: int, height: int) -> None:
    short, long = sorted((width, height))
    if short < MIN_SIDE or long > MAX_RATIO * short:
        raise SourceUnusable(
            f"cannot use {path}: pictures of {width}x{height} are too "
            f"{'small' if short < MIN_SIDE else 'long'} for a ladder; we take sides from "
            f"{MIN_SIDE} pixels, one up to {MAX_RATIO} times the other"
        )


def _check_colours(path: str | os.PathLike[str], frame: av.VideoFrame) -> None:
    found = []
    if matrix := _STRANGE_MATRICES.get(int(frame.colorspace)):
        wide = _PRIMARIES.get(int(frame.color_primaries)) == "bt2020"
        found.append(("matrix", matrix, "bt2020nc" if wide else "bt709"))
    if transfer := _STRANGE_TRANSFERS.get(int(frame.color_trc)):
        found.append(("transfer", transfer, "bt709"))
    if found:
        strange = " and ".join(f"{name} {value}" for name, value, _ in found)
        wanted = ":".join(f"{name}={value}" for name, _, value in found)
        raise SourceUnusable(
            f"cannot use {path}: its colours are coded with {strange}, which nothing here reads; "
            f"convert it first, for example with ffmpeg -i IN -vf zscale={wanted} -c:v ffv1 OUT.mkv"
        )


def _first_frame(
    container: av.container.InputContainer,
    stream: av.video.VideoStream,
    path: str | os.PathLike[str],
) -> av.VideoFrame | None:
    stream.thread_count = 1  # frame threads would need several packets for the first picture
    for number, packet in enumerate(container.demux(stream)):
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
    return None


def _aspect(stored: Fraction | None) -> Fraction:
    if not stored or not Fraction(1, _MAX_ASPECT) <= stored <= _MAX_ASPECT:
        return Fraction(1)
    return Fraction(stored)


def _orientation(frame: av.VideoFrame) -> tuple[str, ...]:
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(matrix, SideData):
        return ()
    return orientation_filters(struct.unpack("=9i", bytes(matrix)[:36]))


def _static_metadata(frame: av.VideoFrame) -> StaticMetadata:
    display, light = None, None
    found = frame.side_data.get("MASTERING_DISPLAY_METADATA")
    if isinstance(found, SideData):
        display = MasteringDisplay.of(bytes(found))
    found = frame.side_data.get("CONTENT_LIGHT_LEVEL")
    if isinstance(found, SideData):
        brightest, average = struct.unpack("=2I", bytes(found)[:8])
        light = (brightest, average) if brightest or average else None
    return StaticMetadata(display, light)


def color_range(frame: av.VideoFrame) -> Literal["limited", "full"] | None:
    """Of a decoded picture; None when it does not say."""
    if frame.format.name.startswith("yuvj"):
        return "full"
    return _RANGES.get(int(frame.color_range))


def color_matrix(frame: av.VideoFrame) -> str | None:
    """Of a decoded picture, ffmpeg's name; None when it does not say."""
    return _MATRICES.get(int(frame.colorspace))


def _chroma(frame: av.VideoFrame) -> str:
    layout = frame.format
    if layout.is_rgb:
        return "rgb"
    if layout.has_palette:
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
    """Whether anything here decodes the stream; PyAV has no codec context for it otherwise."""
    return getattr(stream, "codec_context", None) is not None


def _language(stream: Any) -> str | None:
    """As written in the file, which may be anything: on one line, and nothing a terminal obeys."""
    written = "".join(sign for sign in stream.language or "" if sign.isprintable())
    return written[:_LANGUAGE_LENGTH] or None


def _subtitle(stream: Any) -> SubtitleStream:
    disposition = stream.disposition
    return SubtitleStream(
        index=stream.index,
        codec=stream.codec_context.codec.canonical_name,
        language=_language(stream),
        forced=bool(disposition & av.stream.Disposition.forced),
        hearing_impaired=bool(disposition & av.stream.Disposition.hearing_impaired),
    )


_DOLBY_BOXES = (b"dvcC", b"dvvC", b"dvwC")
_DOLBY_TAGS = ("dvh1", "dvhe", "dva1", "dvav", "dav1")
_HEADER_BYTES = 1 << 20


def _dolby_vision(path: str | os.PathLike[str], stream: av.video.VideoStream) -> DolbyVision | None:
    """From the container's configuration; a stream that is only tagged is its own profile 5."""
    with Path(path).open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        for start in {0, max(0, size - _HEADER_BYTES)}:  # moov stands at either end
            file.seek(start)
            found = dolby_vision_in(file.read(_HEADER_BYTES))
            if found is not None:
                return found
    if stream.codec_context.codec_tag in _DOLBY_TAGS:
        return DolbyVision(profile=5, compatibility=0)
    return None


def dolby_vision_in(data: bytes) -> DolbyVision | None:
    """The first Dolby Vision configuration in the headers of a file."""
    for name in _DOLBY_BOXES:
        at = data.find(name)
        # A box of 24 bytes of record, not four letters that happen to stand in media data.
        if at >= 4 and len(data) >= at + 9 and data[at - 4 : at] == b"\0\0\0\x20":
            return DolbyVision(profile=data[at + 6] >> 1, compatibility=data[at + 8] >> 4)
    return None


def is_read(stream: av.stream.Stream) -> bool:
    """Whether there is a decoder and, of sound, anything for it: a transport stream may announce
    what never comes."""
    if not has_decoder(stream) or not isinstance(stream, av.AudioStream):
        return has_decoder(stream)
    return stream.codec_context.channels > 0 and stream.codec_context.sample_rate > 0


def _secondary(stream: av.stream.Stream) -> bool:
    return not stream.disposition & av.stream.Disposition.default


def _audio(stream: av.AudioStream) -> AudioStream:
    start: Fraction | None = None
    if stream.start_time is not None and stream.time_base is not None:
        start = Fraction(stream.start_time) * stream.time_base
    return AudioStream(
        index=stream.index,
        codec=stream.codec_context.codec.canonical_name,
        channels=stream.codec_context.channels,
        sample_rate=stream.codec_context.sample_rate,
        language=_language(stream),
        start_seconds=start,
    )
