"""Captions of a source: pairs of bytes that its pictures, a track or its ancillary data carry.

The demux pass that indexes the frames also collects the caption data of the pictures: nothing is
decoded for it. The pairs stay in the plan of the source with the times of their pictures, in order
of presentation; :mod:`encoder.source.captions.cea608` makes texts of them.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import av
import av.container
import numpy as np

from encoder.arrays import Int64, UInt8
from encoder.source.captions import caption_data, cea608, cea708, subtitle_marks
from encoder.source.captions.caption_data import DTVCC_START, FIELD_2, Triplet
from encoder.source.coded import h264
from encoder.source.opening.streams import has_decoder, language_of
from encoder.source.probing.subtitle_streams import TEXT_SUBTITLES

Origin = Literal["pictures", "track", "ancillary"]
"""What carries captions: the coded pictures, a QuickTime caption track, or ancillary data."""

_FRAME_SECONDS = Fraction(1001, 30000)
CAPTION_TRACK = "eia_608"
"""ffmpeg's canonical name of the codec of QuickTime's caption tracks."""
_ANCILLARY_CODEC = "smpte_436m_anc"


@dataclass(frozen=True, slots=True, eq=False)
class CaptionData:
    """Caption data of one stream of a source, on the file's clock."""

    origin: Origin
    stream_index: int
    """Index in the file of the stream that carries the data."""
    language: str | None
    """Language tag as written in the file, None without one and for pictures."""
    time_base: Fraction
    """Seconds per tick of :attr:`pts`."""
    pts: Int64
    """(pairs,) time of each pair in ticks, ascending."""
    pairs: UInt8
    """(pairs, 3) type (:mod:`encoder.source.captions.caption_data`) and two bytes of each pair."""

    def channels(self) -> dict[str, tuple[cea608.Caption, ...]]:
        """Decode the channels that have captions, with times in seconds.

        Broadcasts send the same captions as CEA-608 (``CC1``) and CEA-708 (``SERVICE1``): services
        count where there are more of them than channels.
        """
        times = [ticks * self.time_base for ticks in self.pts.tolist()]
        pairs = list(zip(times, self.pairs.tolist(), strict=True))
        found = cea608.decode((time, *pair) for time, pair in pairs if pair[0] <= FIELD_2)
        if (self.pairs[:, 0] > FIELD_2).any():
            services = cea708.decode(
                (t, kind == DTVCC_START, one, two)
                for t, (kind, one, two) in pairs
                if kind > FIELD_2
            )
            more = list(services.items())[len(found) :]
            found |= {f"SERVICE{number}": captions for number, captions in more}
        return found


class Collector:
    """Collects the caption data of a stream, packet by packet in any order."""

    def __init__(self, time_base: Fraction, extradata: bytes | None = None) -> None:
        self._time_base = time_base
        self._extradata = extradata
        self._pts = array("q")
        self._pairs = bytearray()
        self._frame = max(1, round(_FRAME_SECONDS / time_base)) if time_base else 1

    def add(self, pts: int, found: Iterable[Triplet]) -> None:
        """Add the triplets of a packet that is shown at ``pts``."""
        for each in found:
            self._pts.append(pts + each.frames_later * self._frame)
            self._pairs += bytes((each.kind, each.first, each.second))

    def add_picture(self, codec: str, pts: int | None, packet: bytes) -> None:
        """Add what a coded picture carries, of a codec in
        :data:`~encoder.source.captions.caption_data.CODECS`.

        A picture without a time adds nothing.
        """
        if pts is None:
            return
        if codec == "mpeg2video" and caption_data.has_dvd(packet):
            pts -= caption_data.shown_before(packet) * self._frame
        length = _length_size(codec, self._extradata)
        if length:
            # Pictures of high rate are searched fast: only the units that may hold captions.
            messages = _MESSAGES[codec]
            units = (u for u in h264.units(packet, length) if u and messages(u[0]))
            for unit in units:
                self.add(pts, caption_data.in_picture(codec, unit))
        else:
            self.add(pts, caption_data.in_picture(codec, packet))

    def result(
        self, origin: Origin, stream_index: int, language: str | None = None
    ) -> CaptionData | None:
        """Return the data in order of time without padding, None where no caption is in it."""
        if not self._pts:
            return None
        pts = np.frombuffer(self._pts, dtype=np.int64)
        pairs = np.frombuffer(bytes(self._pairs), dtype=np.uint8).reshape(-1, 3)
        order = np.argsort(pts, kind="stable")
        pts, pairs = pts[order], pairs[order]
        kept = _meaningful(pairs)
        data = CaptionData(
            origin, stream_index, language, self._time_base, pts[kept].copy(), pairs[kept].copy()
        )
        return data if data.channels() else None


_MESSAGES: dict[str, Callable[[int], bool]] = {
    "h264": lambda head: head & 0x1F == 6,
    "hevc": lambda head: head >> 1 & 0x3F in (39, 40),
}
"""Whether a unit holds messages (SEI), by its first byte."""


def _length_size(codec: str, extradata: bytes | None) -> int:
    """Return the size of the length before each unit of H.264 or HEVC; 0 where start codes or
    another codec separate them.
    """
    if codec == "h264":
        return h264.length_size(extradata)
    if codec == "hevc" and extradata and len(extradata) > 22 and extradata[0] == 1:
        return (extradata[21] & 3) + 1
    return 0


def _meaningful(pairs: UInt8) -> list[int]:
    """Return the numbers of the pairs that are no padding.

    Padding after a control code is kept once: it tells a code that is meant twice from one that is
    sent twice.
    """
    kept = []
    control = [False, False]
    for number, (kind, first, second) in enumerate(pairs.tolist()):
        if kind > FIELD_2:
            kept.append(number)
            continue
        padding = not (first & 0x7F or second & 0x7F)
        if not padding or control[kind]:
            kept.append(number)
        control[kind] = 0x10 <= first & 0x7F <= 0x1F
    return kept


class Beside:
    """What the demux pass over the pictures learns from the streams beside them: captions in tracks
    and ancillary data, and which subtitles may be more than plain text.
    """

    def __init__(self, container: av.container.InputContainer, pictures: av.VideoStream) -> None:
        # Values, not streams: those must not be asked once the file is closed.
        self._collectors: dict[int, tuple[Origin, str | None, Collector]] = {
            stream.index: (
                "ancillary" if stream.type == "data" else "track",
                language_of(stream),
                Collector(_time_base(stream)),
            )
            for stream in container.streams
            if _carries(stream)
        }
        self._texts = {
            stream.index: subtitle_marks.marks(
                stream.codec_context.codec.canonical_name, stream.codec_context.extradata
            )
            for stream in container.streams.subtitles
            if has_decoder(stream) and stream.codec_context.codec.canonical_name in TEXT_SUBTITLES
        }
        self.streams = [
            stream
            for stream in container.streams
            if stream.index in self._collectors or stream.index in self._texts
        ]
        """Streams whose packets :meth:`take` wants."""
        self._pictures = pictures.index
        self.in_pictures = Collector(_time_base(pictures), pictures.codec_context.extradata)
        """Collects the captions in the pictures."""

    def take(self, packet: Any) -> None:
        """Look at a packet of one of :attr:`streams`."""
        if not packet.size:
            return
        if packet.stream_index in self._texts:
            seconds = Fraction(packet.duration or 0) * Fraction(packet.time_base or 0)
            placed = packet.has_sidedata("webvtt_settings")
            self._texts[packet.stream_index].look(bytes(packet), seconds, placed=placed)
        elif packet.pts is not None:
            origin, _, collector = self._collectors[packet.stream_index]
            read = caption_data.ancillary if origin == "ancillary" else caption_data.in_track
            collector.add(packet.pts, read(bytes(packet)))

    @property
    def styled(self) -> frozenset[int]:
        """Indices of the subtitles that may be more than plain text."""
        return frozenset(index for index, marks in self._texts.items() if marks.found)

    def captions(self) -> tuple[CaptionData, ...]:
        """Return the data that becomes captions of the title.

        Pictures, tracks and ancillary data of one file carry the same captions. A track has a
        language, so tracks come first.
        """
        found = [self.in_pictures.result("pictures", self._pictures)]
        for index, (origin, language, collector) in self._collectors.items():
            found.append(collector.result(origin, index, language))
        texts = [data for data in found if data is not None]
        tracks = [data for data in texts if data.origin == "track"]
        return tuple(tracks or texts[:1])


def _carries(stream: Any) -> bool:
    if stream.type == "data":
        return bool(stream.name == _ANCILLARY_CODEC)
    context = stream.codec_context if stream.type == "subtitle" else None
    return context is not None and context.codec.canonical_name == CAPTION_TRACK


def _time_base(stream: Any) -> Fraction:
    return Fraction(stream.time_base or 0)
