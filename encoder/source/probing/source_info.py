"""The description of a source: frozen values, and what follows from them. Pure.

Numbers that containers merely claim carry ``_from_header`` in their names; trustworthy frame
counts, durations and bitrates come from :mod:`encoder.source.index`.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from encoder.source.colour.codes import ColorRange
from encoder.source.colour.dolby_vision import DolbyVision
from encoder.source.colour.hdr_metadata import NO_METADATA, StaticMetadata
from encoder.source.colour.tonemap import TAGS, Transfer
from encoder.source.containers.cropping import Crop
from encoder.source.later import later
from encoder.source.probing.audio_streams import AudioStream
from encoder.source.probing.geometry import even, square_pixels
from encoder.source.probing.subtitle_streams import SubtitleStream

FieldOrder = Literal["unknown", "progressive", "tt", "bb", "tb", "bt"]
"""ffmpeg's names: which field is coded first (t or b), then which is shown first."""

_HDR: dict[str | None, Transfer] = {name: transfer for transfer, name in TAGS.items()}

# Codecs whose standards take levels for limited where nothing is stated (H.264 and HEVC: E.2.1,
# video_full_range_flag). Others hold grey as pictures do, from 0 to 255.
_LIMITED_CODECS = ("h264", "hevc", "vvc", "av1", "vp9", "mpeg2video")


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
    """Scan that the pictures show (:mod:`encoder.source.scan.correction`), None where the flags
    agree."""
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
        return even(self.square_size[1 if self.quarter_turned else 0])

    @property
    def display_height(self) -> int:
        """Upright height in square pixels, even."""
        return even(self.square_size[0 if self.quarter_turned else 1])
