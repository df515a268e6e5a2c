"""The canonical reference: the frames of a source that features, encodes and scores all read.

It has limited range, 4:2:0, square pixels, upright and progressive pictures at a constant frame
rate, and keeps the colour tags (PQ and HLG as well, see :attr:`ReferenceSource.hdr`). One graph
makes it (:func:`open_reference`), because the same encode scored 98.61 or 98.02 depending on how a
full-range source had been converted. All of it is pure; the graph is built with ``ffmpeg-python``
and can be compared as a list of arguments. :mod:`encoder.source.planning` finds the facts.

Frames ``[start, end)`` are read exactly: the demuxer seeks to the PTS of the last keyframe shown
not after the first frame (``-seek_timestamp 1 -noaccurate_seek -ss``; to its DTS where the demuxer
does not know keyframes), timestamps stay as they are in the file (``-copyts``, see
:data:`GLOBAL_ARGUMENTS`), and ``trim`` picks the frames by their PTS in stream ticks. A source of
variable rate then goes through ``fps``, counted from the title's first frame, and a second ``trim``
picks by canonical number. The caller asserts the frame count.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import ffmpeg

from encoder.ffmpeg import SOURCE_OPTIONS, Command, balanced_sum
from encoder.mp4 import Colour
from encoder.source.captions.collecting import CaptionData
from encoder.source.choices import DEFAULT_CHOICES, SourceChoices
from encoder.source.colour.codes import coded, completed
from encoder.source.colour.hdr_metadata import NO_METADATA, StaticMetadata
from encoder.source.colour.tonemap import Transfer, filters, tags, tone_mapped
from encoder.source.completeness import Shortfall
from encoder.source.copy_facts import NO_CHANGES, CopyFacts
from encoder.source.decoding import decoding_options
from encoder.source.index import FrameIndex
from encoder.source.probing.source_info import Run, SourceInfo
from encoder.source.timeline.constant_rate import Timeline, place_of, tick_of
from encoder.source.timeline.ends import NO_ENDS, Ends

GLOBAL_ARGUMENTS = ("-hide_banner", "-copyts", "-max_error_rate", "1")
"""Arguments that every command which reads a reference needs before its inputs.

Decoding may start among pictures whose references are missing. They precede the range and must not
fail the command: the frame count shows whether the range is complete.

The output needs ``-fps_mode passthrough``: frames leave the graph numbered, in ticks of one frame,
and must be neither dropped nor repeated.
"""

GRAPH_VERSION = 1
"""Part of :attr:`ReferenceSource.graph_id`: raise it when the graph changes any pixel."""

# Deterministic on every CPU (bitexact), centred chroma, no ringing beyond lanczos' own.
_SCALER = "lanczos+accurate_rnd+full_chroma_int+bitexact"

# Demuxers that seek to a keyframe at or before a PTS. The others search the file for any packet
# with that DTS; a keyframe of an open GOP is decoded long before it is shown (240 ms in a clip of
# x265), so they are given the keyframe's DTS.
_SEEKS_KEYFRAMES = ("mov", "matroska", "avi", "flv")

_HDR_SIDE_DATA = (
    "MASTERING_DISPLAY_METADATA",
    "CONTENT_LIGHT_LEVEL",
    "DYNAMIC_HDR_PLUS",
    "DYNAMIC_HDR_VIVID",
    "DOVI_RPU_BUFFER",
    "DOVI_METADATA",
)

# Some encoders and muxers would pass these on, others not, or only where a picture has them: a
# package says nothing of them.
_MEANT_FOR_PLAYERS = ("DISPLAYMATRIX", "STEREO3D", "SPHERICAL")


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceSource:
    """A planned source: all facts needed to read any run of its canonical frames."""

    path: str
    """Absolute path of the file to read, which may be a copy with timestamps of the given one."""
    info: SourceInfo
    index: FrameIndex
    timeline: Timeline
    tone_mapped: bool = False
    """True where a high dynamic range source is tone-mapped in the reference itself, which makes it
    a title of standard range."""
    given: str = ""
    """Path of the given file, where :attr:`path` is that of a copy with timestamps."""
    choices: SourceChoices = DEFAULT_CHOICES
    """What the user decided about the source."""
    shortfall: Shortfall | None = None
    """What the file promises beyond what it holds, None where it is complete."""
    captions: tuple[CaptionData, ...] = ()
    """Caption data that becomes captions of the title."""
    copied: CopyFacts = NO_CHANGES
    """What the copy has other than the given file."""
    ends: Ends = NO_ENDS
    """How the ends of sound and pictures were brought together."""
    text_start: Fraction | None = None
    """Time of the first picture on the clock of :attr:`given`, seconds, where subtitles are read
    from that file; None where they are in :attr:`path`."""

    @property
    def text_path(self) -> Path:
        """File whose subtitles are those of the title."""
        return Path(self.path if self.text_start is None else self.given)

    @property
    def text_start_seconds(self) -> Fraction:
        """Time of the title's beginning on the clock of :attr:`text_path`."""
        apart = 0 if self.text_start is None else self.text_start - self.index.start_seconds
        return self.start_seconds + apart

    @property
    def named(self) -> str:
        """Path to show to people."""
        return self.given or self.path

    @property
    def width(self) -> int:
        """Width of the reference in pixels, even: the title's display width."""
        return self.info.display_width

    @property
    def height(self) -> int:
        """Height of the reference in pixels, even."""
        return self.info.display_height

    @property
    def start_seconds(self) -> Fraction:
        """Time of the title's beginning on the file's clock: sound and text are placed by it."""
        return self.index.start_seconds - self.timeline.head / self.timeline.frame_rate

    @property
    def frame_rate(self) -> Fraction:
        """Frames per second of the reference, exact."""
        return self.timeline.frame_rate

    @property
    def frames(self) -> int:
        """Number of canonical frames of the title."""
        return self.timeline.frames

    @property
    def pix_fmt(self) -> Literal["yuv420p", "yuv420p10le"]:
        """Pixel format of the reference: 10 bit for sources of more than 8 bit or HDR."""
        return "yuv420p10le" if self.info.bit_depth > 8 or self.hdr else "yuv420p"

    @property
    def deinterlace_context(self) -> int:
        """Source frames that deinterlacing reads before and after a frame.

        bwdif reads one on each side, and there may be two, one after the other.
        """
        return 2 if self.info.interlaced_runs else 1

    @property
    def hdr(self) -> Transfer | None:
        """Transfer of a high dynamic range title, None for standard range.

        Encodes carry the transfer; pictures to look at come from :func:`open_sdr`.
        """
        return None if self.tone_mapped else self.info.hdr

    @property
    def mapped_from(self) -> Transfer | None:
        """Transfer of a source that is tone-mapped in the reference, else None."""
        return self.info.hdr if self.tone_mapped else None

    @property
    def color_primaries(self) -> str | None:
        """ffmpeg's name of the reference's primaries, None when unspecified."""
        return "bt709" if self.mapped_from else self.info.color_primaries

    @property
    def color_transfer(self) -> str | None:
        """ffmpeg's name of the reference's transfer characteristic, None when unspecified."""
        return "bt709" if self.mapped_from else self.info.color_transfer

    @property
    def color_matrix(self) -> str | None:
        """ffmpeg's name of the reference's matrix, None when unspecified; RGB becomes BT.709."""
        return "bt709" if self.info.rgb or self.mapped_from else self.info.color_matrix

    @property
    def colour(self) -> Colour:
        """Colours that every rung states: those of the reference, completed where the source leaves
        some unstated as players complete them for a source of this size.

        Players go by the height of what they play, so the rungs of an untagged title would differ.
        """
        names = self.color_primaries, self.color_transfer, self.color_matrix
        return coded(*completed(*names, self.info.shown_height))

    @property
    def static_metadata(self) -> StaticMetadata:
        """HDR metadata that encodes carry on; empty for a title of standard range."""
        return self.info.static_metadata if self.hdr else NO_METADATA

    @property
    def sdr_matrix(self) -> str:
        """ffmpeg's name of the matrix of :func:`open_sdr` and of small frames."""
        names = self.color_primaries, self.color_transfer, self.color_matrix
        return "bt709" if self.hdr else completed(*names, self.info.shown_height)[2]

    @property
    def graph_id(self) -> str:
        """Digest of everything but the source's bytes that determines the pixels of a frame."""
        steps = [f"{name}={arguments}" for name, arguments in pixel_filters(self)]
        facts = [
            GRAPH_VERSION,
            self.info.stream_index,
            self.timeline.frame_rate,
            self.timeline.frames,
            self.timeline.constant,
            *steps,
            *(f"bwdif={part}" for part in _deinterlacing(self.info) if self.info.interlaced),
            *self.info.interlaced_runs,
            *((self.info.static_metadata,) if self.hdr else ()),
            *((self.copied,) if self.copied != NO_CHANGES else ()),
            *_placing(self.timeline),
        ]
        return hashlib.sha256(repr([str(fact) for fact in facts]).encode()).hexdigest()[:16]


def open_reference(source: ReferenceSource, start: int, end: int) -> Any:
    """Return an ``ffmpeg-python`` node with canonical frames ``[start, end)``, numbered from 0.

    Its time base is one frame, its frame rate the title's, its pixel format
    :attr:`ReferenceSource.pix_fmt`. :func:`reading_command` builds the call.

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
        before = max(0, first - source.deinterlace_context)
        after = min(index.frames, last + source.deinterlace_context)
    node = _input(source, before)[str(source.info.stream_index)]
    node = _trim(node, _time(index, before), _time(index, after))
    if source.info.interlaced:
        for arguments in deinterlacers(source, before, after):
            node = node.filter("bwdif", **arguments).filter("settb", str(index.time_base))
        if (before, after) != (first, last):
            node = _trim(node, _time(index, first), _time(index, last))
    if not timeline.constant:
        node = _constant_rate(node, source, start, end)
    for name, arguments in pixel_filters(source):
        node = node.filter(name, **arguments)
    for kind in _MEANT_FOR_PLAYERS:
        node = node.filter("sidedata", mode="delete", type=kind)
    # fps passes these frames unchanged: it states the rate to encoders.
    return (
        node.filter("settb", str(1 / source.frame_rate))
        .filter("setpts", "N")
        .filter("fps", str(source.frame_rate))
    )


def reading_command(output: Any, *arguments: str) -> Command:
    """Build the ffmpeg call of an output whose inputs are references."""
    graph = output.global_args("-v", "error", "-y", *arguments, *GLOBAL_ARGUMENTS)
    return Command.of(graph.get_args())


def open_sdr(source: ReferenceSource, start: int, end: int) -> Any:
    """Return :func:`open_reference` as it looks on a display of standard range."""
    return tone_mapped(open_reference(source, start, end), source.hdr)


def _input(source: ReferenceSource, frame: int) -> Any:
    options: dict[str, Any] = {
        **SOURCE_OPTIONS,
        **decoding_options(source.info),
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
    return ffmpeg.input(Path(source.path), **options)


def _microseconds(seconds: Fraction) -> str:
    """Write a time for ``-ss``, rounded up: the keyframe must not be after it."""
    micros = -((-seconds * 1_000_000) // 1)
    sign = "-" if micros < 0 else ""
    whole, part = divmod(abs(micros), 1_000_000)
    return f"{sign}{whole}.{part:06d}"


def _time(index: FrameIndex, frame: int) -> int:
    """Return the PTS of a frame; for the end of the title, one tick after its last frame.

    Next to a torn packet at the end of a file there may be pictures that are not frames.
    """
    return int(index.pts[frame]) if frame < index.frames else int(index.pts[-1]) + 1


def _trim(node: Any, start: int, end: int) -> Any:
    return node.filter("trim", start_pts=start, end_pts=end)


def _deinterlacing(info: SourceInfo) -> tuple[str, str]:
    """Return which pictures bwdif deinterlaces, and which field is first."""
    # Where the decoder marks pictures as interlaced, those; where it marks none, all pictures,
    # because the container states it.
    if info.first_frame_interlaced:
        return "interlaced", "auto"
    parity = {"tt": "tff", "bt": "tff", "bb": "bff", "tb": "bff"}.get(info.field_order, "auto")
    return "all", parity


def deinterlacers(source: ReferenceSource, start: int, end: int) -> list[dict[str, str]]:
    """Return the arguments of each bwdif that source frames ``[start, end)`` go through.

    A source that is interlaced in parts has one for each run of interlaced pictures. bwdif does
    not use the neighbours of the first picture that it deinterlaces; with a filter for each run,
    that is the first picture of the run, wherever reading begins.
    """
    info = source.info
    which, parity = _deinterlacing(info)
    if not info.interlaced_runs:
        return [{"mode": "send_frame", "parity": parity, "deint": which}]
    return [
        {
            "mode": "send_frame",
            "parity": run.parity,
            "deint": "all",
            "enable": _during(source.index, run),
        }
        for run in info.interlaced_runs
        if run.start < end and run.end > start
    ]


def _during(index: FrameIndex, run: Run) -> str:
    """Return an expression of ``t`` that is true where the picture before ``t`` is in the run.

    bwdif keeps a picture back until its successor comes, so its ``enable`` is asked at the time of
    the successor.
    """

    def after(frame: int) -> str:
        """Return a time between the picture ``frame`` and its successor."""
        middle = Fraction(int(index.pts[frame]) + int(index.pts[frame + 1]), 2) * index.time_base
        return f"{float(middle):.6f}"

    terms = [f"gt(t,{after(run.start)})"] if run.start else []
    if run.end < index.frames:
        terms.append(f"lt(t,{after(run.end)})")
    return "*".join(terms) or "1"


def _constant_rate(node: Any, source: ReferenceSource, start: int, end: int) -> Any:
    """Place frames at ``round((pts - pts[0]) * rate)`` and fill the gaps between them."""
    head = source.timeline.head
    node = node.filter("setpts", _places(source, start, end)).filter(
        "fps", str(source.frame_rate), round="near", eof_action="pass"
    )
    # The last frame read fills the rest of the range, and the first one what precedes it.
    last = source.timeline.first_shown(source.timeline.source_frame(end - 1))
    filled: dict[str, Any] = {"stop": max(end - start, end - last), "stop_mode": "clone"}
    if start < head:
        filled |= {"start": min(head, end) - start, "start_mode": "clone"}
        node = node.filter("tpad", **filled).filter("setpts", f"N+{start}")
        return node.filter("trim", start_pts=start, end_pts=end)
    return node.filter("tpad", **filled).filter("trim", start_pts=start - head, end_pts=end - head)


def _places(source: ReferenceSource, start: int, end: int) -> str:
    """Return the expression of a frame's time since the first picture, from which ``fps`` rounds
    it to its place.
    """
    index, timeline = source.index, source.timeline
    per_tick = index.time_base * timeline.frame_rate
    origin = int(index.pts[0]) - int(timeline.phase_seconds / index.time_base)
    clock = f"PTS-{origin}".replace("--", "+")
    if not timeline.moved:
        return clock
    moves = []
    for frame in range(timeline.source_frame(start), timeline.source_frame(end - 1) + 1):
        time, shown = int(index.pts[frame]) - origin, timeline.first_shown(frame)
        place = shown - timeline.head
        if timeline.source_frame(shown) == frame and place_of(time, per_tick) != place:
            moves.append(f"eq(PTS,{time + origin})*({tick_of(place, per_tick) - time})")
    return "+".join([clock, *([balanced_sum(moves)] if moves else [])])


def _placing(timeline: Timeline) -> tuple[object, ...]:
    """Return what places frames besides the rate; nothing for most titles."""
    if not (timeline.head or timeline.phase_seconds or timeline.moved):
        return ()
    shown = b"" if timeline.source_of is None else timeline.source_of.tobytes()
    return (timeline.head, timeline.phase_seconds, hashlib.sha256(shown).hexdigest())


def pixel_filters(source: ReferenceSource) -> list[tuple[str, dict[str, Any]]]:
    """Return the filters that make pixels canonical: the part of the graph without times."""
    info = source.info
    steps: list[tuple[str, dict[str, Any]]] = []
    if info.crop is not None:
        size = {"w": info.shown_width, "h": info.shown_height}
        steps.append(("crop", {**size, "x": info.crop.left, "y": info.crop.top}))
    for name in info.orientation:
        name, _, direction = name.partition("=")
        steps.append((name, {"dir": direction} if direction else {}))
    if info.orientation:
        # Otherwise the encode carries the matrix on, and players turn the picture again.
        steps.append(("sidedata", {"mode": "delete", "type": "DISPLAYMATRIX"}))
    width, height = info.square_size
    stored = (info.shown_width, info.shown_height)
    if info.quarter_turned:
        width, height = height, width
        stored = (info.shown_height, info.shown_width)
    scale: dict[str, Any] = {}
    if (width, height) != stored:
        scale |= {"w": width, "h": height}
    if info.color_range == "full" or info.rgb:
        scale |= {"in_range": "full", "out_range": "limited"}
    if info.rgb:
        scale |= {"out_color_matrix": "bt709"}
    if info.limited_grey:
        # The levels are right already, and the scaler would compress them once more.
        scale |= {"in_range": "full", "out_range": "full"}
    if scale or info.pix_fmt != source.pix_fmt:
        steps.append(("scale", {**scale, "flags": _SCALER}))
    steps.append(("format", {"pix_fmts": source.pix_fmt}))
    if (width, height) != (source.width, source.height):
        # An odd row or column is cut off: scaling by one pixel would blur the whole picture.
        steps.append(("crop", {"w": source.width, "h": source.height, "x": 0, "y": 0}))
    if source.captions:
        # Captions become a text track in every codec. Only some encoders would also carry them in
        # the pictures, and the bytes of frames that are repeated or dropped would spoil the text.
        steps.append(("sidedata", {"mode": "delete", "type": "A53_CC"}))
    stated = {"range": "limited"}
    if info.hdr:
        stated = tags(info.hdr)
        # Encoders get static metadata as parameters (encoder.source.colour.hdr_metadata). Metadata
        # of single scenes or of an enhancement layer only fits the bits of the source.
        steps += [("sidedata", {"mode": "delete", "type": kind}) for kind in _HDR_SIDE_DATA]
    elif info.rgb:
        stated |= {"colorspace": "bt709"}
    steps.append(("setparams", stated | {"field_mode": "prog"}))
    steps.append(("setsar", {"sar": 1}))
    if source.mapped_from:
        steps += filters(source.mapped_from)
        steps.append(("format", {"pix_fmts": source.pix_fmt}))
    return steps
