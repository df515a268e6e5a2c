"""Sources whose pictures have no presentation times, or none that can be trusted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path

from encoder.source.choices import SourceChoices
from encoder.source.coded import mpeg4
from encoder.source.containers import mxf
from encoder.source.copy_facts import CopyFacts
from encoder.source.index import demuxed
from encoder.source.opening.container import opened
from encoder.source.opening.streams import video_stream
from encoder.source.timestamps.jumps import clock_moves
from encoder.source.timestamps.presentation import Presentation, presentation
from encoder.source.timestamps.remux import remux

_EXAMINED_PACKETS = 500
_MPEG_DEMUXERS = ("mpegts", "mpeg")
_RAW_DEMUXERS = ("h264", "hevc", "mpegvideo", "m4v", "obu", "av1", "mjpeg")
_DECODING_TIMES = ("avi", "asf")
# Only of MPEG-2 does libavformat read the order of pictures in an MXF file.
_UNORDERED_IN_MXF = ("h264", "hevc")
_MP4_CODECS = ("h264", "hevc", "mpeg4", "mpeg2video", "av1")


@dataclass(frozen=True, slots=True)
class Untimed:
    """A copy that states when each picture is shown (:mod:`.presentation`)."""

    plan: Presentation

    @property
    def suffix(self) -> str:
        """Suffix of the copy."""
        return "mp4" if self.plan.codec in _MP4_CODECS and not self.plan.sound else "mkv"

    @property
    def text_start(self) -> Fraction:
        """Time of the first picture on the source's clock, seconds."""
        return self.plan.start_seconds

    def facts(self, before: CopyFacts) -> CopyFacts:
        """Return what the copy has other than its source."""
        jumps = () if self.plan.moves is None else self.plan.moves.jumps
        return replace(before, placed=self.plan.placed, lost=self.plan.lost, jumps=jumps)

    def write(self, source: Path, made: Path) -> None:
        """Write the copy of ``source`` to ``made``."""
        remux(source, made, self.plan)


def examine(path: Path, choices: SourceChoices) -> Untimed | None:
    """Return the copy that the source needs because its pictures lack times, None without need.

    Raises:
        SourceUnusable: the source cannot be read, or pictures in its middle do not decode.
    """
    with opened(path) as container:
        form = container.format.name
    moves = clock_moves(path) if form == "mpeg" else None
    if moves is not None or (form in _MPEG_DEMUXERS and has_sparse_times(path)):
        return Untimed(presentation(path, sparse=True, moves=moves))
    return Untimed(presentation(path)) if lacks_times(path) else None


def has_sparse_times(path: Path) -> bool:
    """Return True for a transport or program stream in which only some pictures state a time.

    In a transport stream that only counts where libavformat cannot derive the other times, or
    where a keyframe has none, because sources are read from keyframes, which are found by time.
    """
    with opened(path) as container:
        form = container.format.name
        stream = video_stream(container, path)
        frames = (each for each in demuxed(container, stream) if not each.completes)
        derived = [each.packet.pts is not None for each in frames]
    with opened(path, as_stored=True) as container:
        stream = video_stream(container, path)
        frames = (each for each in demuxed(container, stream) if not each.completes)
        stated = [(each.packet.pts is not None, each.key) for each in frames]
    if all(there for there, _ in stated) or not any(there for there, _ in stated):
        return False
    if form == "mpeg":
        return True
    return not all(derived) or not all(there for there, key in stated if key)


def lacks_times(path: Path) -> bool:
    """Return True where frames of the source lack trustworthy presentation timestamps.

    Raw streams have none: libavformat invents some, and cannot seek by them. AVI and ASF hold
    decoding times, which libavformat returns as presentation times even with B-frames.
    """
    with opened(path) as container:
        stream = video_stream(container, path)
        form = container.format.name
        if form in _RAW_DEMUXERS or (form in _DECODING_TIMES and stream.codec_context.has_b_frames):
            return True
        if form == mxf.DEMUXER and stream.codec_context.codec.canonical_name in _UNORDERED_IN_MXF:
            return bool(stream.codec_context.has_b_frames)
        if stream.codec_context.codec.canonical_name == "mpeg4":
            first = islice(container.demux(stream), _EXAMINED_PACKETS)
            if any(mpeg4.pictures(bytes(packet)) > 1 for packet in first):
                return True
    with opened(path) as container:
        stream = video_stream(container, path)
        for each in islice(demuxed(container, stream), _EXAMINED_PACKETS):
            # In AVI and ASF, releases of libavformat derive different times from the same stream.
            guessed = form in _DECODING_TIMES and each.packet.pts != each.packet.dts
            if not each.completes and (guessed or each.packet.pts is None):
                return True
        return False
