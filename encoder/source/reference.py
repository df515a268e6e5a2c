"""The one canonical reference: what features, encodes and scores all read.

Limited range, 4:2:0, square pixels, upright, progressive, constant frame rate, colour tags kept
(PQ and HLG as well, see :attr:`ReferenceSource.hdr`): made by one graph
(:func:`open_reference`), because the same encode scored 98.61 or 98.02 depending on who converted
a full-range source. Everything here is pure but :func:`plan_source`; the graph is built with
``ffmpeg-python`` and can be compared as a list of arguments.

How frames ``[start, end)`` are read exactly: the demuxer is sent to the PTS of the last keyframe
shown not after the first frame (``-seek_timestamp 1 -noaccurate_seek -ss``; to its DTS where the
demuxer does not know keyframes), timestamps are kept
as they are in the file (``-copyts``, see :data:`GLOBAL_ARGUMENTS`), and ``trim`` picks the frames
by their PTS in stream ticks. A source of variable rate then goes through ``fps``, counted from
the title's first frame, and a second ``trim`` picks by canonical number. The caller asserts the
frame count.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import ffmpeg

from encoder.errors import SourceUnusable
from encoder.ffmpeg import SOURCE_OPTIONS
from encoder.source.hdr_metadata import NO_METADATA, StaticMetadata
from encoder.source.index import FrameIndex, index_frames
from encoder.source.probe import SourceInfo, probe
from encoder.source.scan import correct_scan
from encoder.source.timeline import Timeline, plan_timeline
from encoder.source.timestamps import ensure_timestamps
from encoder.source.tonemap import Transfer, filters, tags, tone_mapped

GLOBAL_ARGUMENTS = ("-hide_banner", "-copyts", "-max_error_rate", "1")
"""Arguments that every command with a reference in it must have, before its inputs.

Decoding may start among pictures whose references are missing; they are before the range, and
must not fail the command: the frame count says whether the range is there.

The output wants ``-fps_mode passthrough``: frames leave the graph numbered, in ticks of one
frame, and must be neither dropped nor repeated.
"""

MAX_SECONDS = 24 * 3600
"""Longest title: frames are counted, and a gap of years between two of them would be filled."""

GRAPH_VERSION = 1
"""Part of :attr:`ReferenceSource.graph_id`: raise it when the graph changes what pixels come."""

# Deterministic on every CPU (bitexact), centred chroma, no ringing beyond lanczos' own.
_SCALER = "lanczos+accurate_rnd+full_chroma_int+bitexact"

# Demuxers that go to a keyframe at or before the time asked for. The others search the file for
# any packet with that DTS; an open GOP's keyframe is decoded long before it is shown (240 ms in
# a clip of x265's), so they are asked for the keyframe's DTS.
_SEEKS_KEYFRAMES = ("mov", "matroska", "avi", "flv")

_HDR_SIDE_DATA = (
    "MASTERING_DISPLAY_METADATA",
    "CONTENT_LIGHT_LEVEL",
    "DYNAMIC_HDR_PLUS",
    "DYNAMIC_HDR_VIVID",
    "DOVI_RPU_BUFFER",
    "DOVI_METADATA",
)

# bwdif looks at the frame before and the frame after.
_DEINTERLACE_CONTEXT = 1


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceSource:
    """A source, planned: all that is needed to read any run of its canonical frames."""

    path: str
    """Absolute; the file to read, which may be a copy with timestamps of the one probed."""
    info: SourceInfo
    index: FrameIndex
    timeline: Timeline
    tone_mapped: bool = False
    """Whether a high dynamic range title is mapped to standard range in the reference itself, and
    is from then on a title of standard range."""
    given: str = ""
    """Path of the file that was given, where :attr:`path` is that of a copy with timestamps."""

    @property
    def named(self) -> str:
        """What to call it where somebody reads it."""
        return self.given or self.path

    @property
    def width(self) -> int:
        """Of the reference, pixels, even: the title's display width."""
        return self.info.display_width

    @property
    def height(self) -> int:
        """Of the reference, pixels, even."""
        return self.info.display_height

    @property
    def frame_rate(self) -> Fraction:
        """Frames per second, exact."""
        return self.timeline.frame_rate

    @property
    def frames(self) -> int:
        """Canonical frames of the title."""
        return self.timeline.frames

    @property
    def pix_fmt(self) -> Literal["yuv420p", "yuv420p10le"]:
        """Of the reference: 10 bit when the source has more than 8, or high dynamic range."""
        return "yuv420p10le" if self.info.bit_depth > 8 or self.hdr else "yuv420p"

    @property
    def hdr(self) -> Transfer | None:
        """The transfer of a high dynamic range title. Encodes carry it; whoever looks at pictures
        looks at :func:`open_sdr`."""
        return None if self.tone_mapped else self.info.hdr

    @property
    def mapped_from(self) -> Transfer | None:
        """The transfer of a source that is tone-mapped in the reference."""
        return self.info.hdr if self.tone_mapped else None

    @property
    def color_primaries(self) -> str | None:
        """ffmpeg's name; None when nobody knows. The same for the next two."""
        return "bt709" if self.mapped_from else self.info.color_primaries

    @property
    def color_transfer(self) -> str | None:
        """Transfer characteristic."""
        return "bt709" if self.mapped_from else self.info.color_transfer

    @property
    def color_matrix(self) -> str | None:
        """Matrix of the reference; RGB sources become BT.709."""
        return "bt709" if self.info.rgb or self.mapped_from else self.info.color_matrix

    @property
    def static_metadata(self) -> StaticMetadata:
        """What encodes of a high dynamic range title carry on; nothing of any other."""
        return self.info.static_metadata if self.hdr else NO_METADATA

    @property
    def sdr_matrix(self) -> str | None:
        """Matrix of the pictures that are looked at: :func:`open_sdr`, small frames."""
        return "bt709" if self.hdr else self.color_matrix

    @property
    def graph_id(self) -> str:
        """Digest of everything but the source's bytes that decides the pixels of a frame."""
        steps = [f"{name}={arguments}" for name, arguments in _pixels(self)]
        facts = [
            GRAPH_VERSION,
            self.info.stream_index,
            self.timeline.frame_rate,
            self.timeline.frames,
            self.timeline.constant,
            *steps,
            *(f"bwdif={part}" for part in _deinterlacing(self.info) if self.info.interlaced),
            *((self.info.static_metadata,) if self.hdr else ()),
        ]
        return hashlib.sha256(repr([str(fact) for fact in facts]).encode()).hexdigest()[:16]


def plan_source(path: str | os.PathLike[str], workdir: str | os.PathLike[str]) -> ReferenceSource:
    """Probe and index a source; a stream without timestamps is remuxed into ``workdir`` first.

    Raises:
        SourceUnusable: it cannot be read, or not by us.
    """
    asked = probe(path)
    timed = ensure_timestamps(asked.path, workdir)
    info = asked if str(timed) == asked.path else probe(timed)
    index = index_frames(timed)
    if index.duration_seconds > MAX_SECONDS:
        raise SourceUnusable(
            f"cannot use {path}: it claims to last {float(index.duration_seconds) / 3600:.0f} h, "
            f"more than the {MAX_SECONDS // 3600} h that we take; cut it"
        )
    claims = (asked.rate_from_bitstream, info.base_rate_from_header)
    timeline = plan_timeline(index, claims)
    return ReferenceSource(
        path=str(Path(timed).resolve()),
        info=correct_scan(info, index, timeline.frame_rate),
        index=index,
        timeline=timeline,
        given=asked.path,
    )


def open_reference(source: ReferenceSource, start: int, end: int) -> Any:
    """Node of ``ffmpeg-python`` that gives canonical frames ``[start, end)``, numbered from 0.

    Its time base is one frame, its frame rate the title's, its pixels those of
    :attr:`ReferenceSource.pix_fmt`.
    Commands need :data:`GLOBAL_ARGUMENTS`.

    Raises:
        ValueError: the range is empty or outside ``[0, source.frames]``.
    """
    if not 0 <= start < end <= source.frames:
        raise ValueError(f"frames [{start}, {end}) are not within [0, {source.frames}]")
    index, timeline = source.index, source.timeline
    first = timeline.source_frame(start)
    last = timeline.source_frame(end - 1) + 1
    before, after = first, last
    if source.info.interlaced:
        before = max(0, first - _DEINTERLACE_CONTEXT)
        after = min(index.frames, last + _DEINTERLACE_CONTEXT)
    node = _input(source, before)[str(source.info.stream_index)]
    node = _trim(node, _time(index, before), _time(index, after))
    if source.info.interlaced:
        node = _deinterlace(node, source)
        if (before, after) != (first, last):
            node = _trim(node, _time(index, first), _time(index, last))
    if not timeline.constant:
        node = _constant_rate(node, source, start, end)
    for name, arguments in _pixels(source):
        node = node.filter(name, **arguments)
    # fps passes these frames as they are: it is there to state the rate to encoders.
    return (
        node.filter("settb", str(1 / source.frame_rate))
        .filter("setpts", "N")
        .filter("fps", str(source.frame_rate))
    )


def open_sdr(source: ReferenceSource, start: int, end: int) -> Any:
    """As :func:`open_reference`, as it looks on a display of standard range."""
    return tone_mapped(open_reference(source, start, end), source.hdr)


def _input(source: ReferenceSource, frame: int) -> Any:
    options: dict[str, Any] = {
        **SOURCE_OPTIONS,
        "threads": 1,
        "noautorotate": None,
    }
    index = source.index
    keyframe = index.keyframe_for(frame)
    if keyframe > 0:
        by_pts = any(name in source.info.container for name in _SEEKS_KEYFRAMES)
        times = index.keyframe_pts if by_pts else index.keyframe_dts
        options["seek_timestamp"] = 1
        options["noaccurate_seek"] = None
        options["ss"] = _microseconds(int(times[keyframe]) * index.time_base)
    return ffmpeg.input(source.path, **options)


def _microseconds(seconds: Fraction) -> str:
    """``-ss`` takes microseconds: rounded up, so that the keyframe is not after it."""
    micros = -((-seconds * 1_000_000) // 1)
    sign = "-" if micros < 0 else ""
    whole, part = divmod(abs(micros), 1_000_000)
    return f"{sign}{whole}.{part:06d}"


def _time(index: FrameIndex, frame: int) -> int:
    """PTS of a frame; just after the last one for the end of the title.

    Past the end there may be pictures that are none of the title's, next to a torn packet.
    """
    return int(index.pts[frame]) if frame < index.frames else int(index.pts[-1]) + 1


def _trim(node: Any, start: int, end: int) -> Any:
    return node.filter("trim", start_pts=start, end_pts=end)


def _deinterlacing(info: SourceInfo) -> tuple[str, str]:
    """Which pictures bwdif takes, and which field is first."""
    # Pictures that the decoder marks are deinterlaced; where it marks none, all are, because the
    # container says so.
    which = "interlaced" if info.first_frame_interlaced else "all"
    parity = {"tt": "tff", "bt": "tff", "bb": "bff", "tb": "bff"}.get(info.field_order, "auto")
    if info.first_frame_interlaced:
        parity = "auto"
    return which, parity


def _deinterlace(node: Any, source: ReferenceSource) -> Any:
    which, parity = _deinterlacing(source.info)
    return node.filter("bwdif", mode="send_frame", parity=parity, deint=which).filter(
        "settb", str(source.index.time_base)
    )


def _constant_rate(node: Any, source: ReferenceSource, start: int, end: int) -> Any:
    """Frames by the canonical clock: ``round((pts - pts[0]) * rate)``, gaps filled."""
    return (
        node.filter("setpts", f"PTS-{int(source.index.pts[0])}".replace("--", "+"))
        .filter("fps", str(source.frame_rate), round="near", eof_action="pass")
        # The last frame read stands for all that is left of the range.
        .filter("tpad", stop=end - start, stop_mode="clone")
        .filter("trim", start_pts=start, end_pts=end)
    )


def _pixels(source: ReferenceSource) -> list[tuple[str, dict[str, Any]]]:
    """Filters that make the pixels canonical, in order; the part of the graph without times."""
    info = source.info
    steps: list[tuple[str, dict[str, Any]]] = []
    for name in info.orientation:
        name, _, direction = name.partition("=")
        steps.append((name, {"dir": direction} if direction else {}))
    if info.orientation:
        # Otherwise the matrix goes on to the encoder, and players turn the picture again.
        steps.append(("sidedata", {"mode": "delete", "type": "DISPLAYMATRIX"}))
    width, height = info.square_size
    stored = (info.width, info.height)
    if info.quarter_turned:
        width, height = height, width
        stored = (info.height, info.width)
    scale: dict[str, Any] = {}
    if (width, height) != stored:
        scale |= {"w": width, "h": height}
    if info.color_range == "full" or info.rgb:
        scale |= {"in_range": "full", "out_range": "limited"}
    if info.rgb:
        scale |= {"out_color_matrix": "bt709"}
    if scale or info.pix_fmt != source.pix_fmt:
        steps.append(("scale", {**scale, "flags": _SCALER}))
    steps.append(("format", {"pix_fmts": source.pix_fmt}))
    if (width, height) != (source.width, source.height):
        # An odd row or column is cut off: scaling by one pixel would blur the whole picture.
        steps.append(("crop", {"w": source.width, "h": source.height, "x": 0, "y": 0}))
    stated = {"range": "limited"}
    if info.hdr:
        stated = tags(info.hdr)
        # Encoders are told what is to be carried (encoder.source.hdr_metadata); what belongs to
        # single scenes or to an enhancement layer belongs to the source's own bits.
        steps += [("sidedata", {"mode": "delete", "type": kind}) for kind in _HDR_SIDE_DATA]
    elif info.rgb:
        stated |= {"colorspace": "bt709"}
    steps.append(("setparams", stated | {"field_mode": "prog"}))
    steps.append(("setsar", {"sar": 1}))
    if source.mapped_from:
        steps += filters(source.mapped_from)
        steps.append(("format", {"pix_fmts": source.pix_fmt}))
    return steps
