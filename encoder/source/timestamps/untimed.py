"""Sources whose pictures have no presentation times, or none that can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from encoder.source.choices import SourceChoices
from encoder.source.copy_facts import CopyFacts
from encoder.source.index import demuxed
from encoder.source.probe import opened, video_stream
from encoder.source.timestamps.presentation import Presentation, presentation
from encoder.source.timestamps.remux import remux

_EXAMINED_PACKETS = 500
_RAW_DEMUXERS = ("h264", "hevc", "mpegvideo", "m4v", "obu", "av1", "mjpeg")
_MP4_CODECS = ("h264", "hevc", "mpeg4", "mpeg2video", "av1")


@dataclass(frozen=True, slots=True)
class Untimed:
    """A copy that states when each picture is shown (:mod:`.presentation`)."""

    plan: Presentation

    @property
    def suffix(self) -> str:
        """Suffix of the copy."""
        return "mp4" if self.plan.codec in _MP4_CODECS and not self.plan.sound else "mkv"

    def facts(self, before: CopyFacts) -> CopyFacts:
        """Return what the copy has other than its source."""
        return before

    def write(self, source: Path, made: Path) -> None:
        """Write the copy of ``source`` to ``made``."""
        remux(source, made, self.plan)


def examine(path: Path, choices: SourceChoices) -> Untimed | None:
    """Return the copy that the source needs because its pictures lack times, None without need.

    Raises:
        SourceUnusable: the source cannot be read, or pictures in its middle do not decode.
    """
    return Untimed(presentation(path)) if lacks_times(path) else None


def lacks_times(path: Path) -> bool:
    """Return True where frames of the source lack trustworthy presentation timestamps.

    Raw streams have none: libavformat invents some, and cannot seek by them. AVI and ASF hold
    decoding times, which libavformat returns as presentation times even with B-frames.
    """
    with opened(path) as container:
        stream = video_stream(container, path)
        form = container.format.name
        if form in _RAW_DEMUXERS or (form in ("avi", "asf") and stream.codec_context.has_b_frames):
            return True
        packets = islice(demuxed(container, stream), _EXAMINED_PACKETS)
        return any(each.packet.pts is None and not each.completes for each in packets)
