"""Captions of a source: pairs of bytes that its pictures, a track or its ancillary data carry.

The demux pass that indexes the frames also collects the caption data of the pictures: nothing is
decoded for it. The pairs stay in the plan of the source with the times of their pictures, in order
of presentation; :mod:`encoder.source.cea608` makes texts of them.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import av
import av.error
import numpy as np

from encoder.arrays import Int64, UInt8
from encoder.source import caption_data, cea608, h264
from encoder.source.caption_data import DTVCC_DATA, FIELD_2, Triplet
from encoder.source.probe import language_of, opened

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
    """(pairs, 3) type (:mod:`encoder.source.caption_data`) and two bytes of each pair."""

    def channels(self) -> dict[str, tuple[cea608.Caption, ...]]:
        """Decode the channels of CEA-608 that have captions, with times in seconds."""
        return cea608.decode(
            (ticks * self.time_base, kind, first, second)
            for ticks, (kind, first, second) in zip(
                self.pts.tolist(), self.pairs.tolist(), strict=True
            )
            if kind <= FIELD_2
        )

    @property
    def digital(self) -> bool:
        """True where there is data of CEA-708."""
        return bool((self.pairs[:, 0] >= DTVCC_DATA).any())


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
        """Add what a coded picture of one of :data:`~encoder.source.caption_data.CODECS` carries.

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
        return data if data.digital or data.channels() else None


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


def tracks(path: str | os.PathLike[str]) -> tuple[CaptionData, ...]:
    """Read the caption tracks and the ancillary data of a file; most files have none.

    What cannot be read to its end gives the captions before.

    Raises:
        SourceUnusable: the file cannot be opened.
    """
    with opened(path) as container:
        streams = [stream for stream in container.streams if _carries(stream)]
        if not streams:
            return ()
        collectors = {stream.index: Collector(_time_base(stream)) for stream in streams}
        for packet in _packets(container, streams):
            if packet.pts is not None and packet.size:
                ancillary = packet.stream.type == "data"
                read = caption_data.ancillary if ancillary else caption_data.in_track
                collectors[packet.stream_index].add(packet.pts, read(bytes(packet)))
        found = (
            collectors[stream.index].result(
                "ancillary" if stream.type == "data" else "track",
                stream.index,
                language_of(stream),
            )
            for stream in streams
        )
        return tuple(data for data in found if data is not None)


def _packets(container: Any, streams: list[Any]) -> Iterator[Any]:
    try:
        yield from container.demux(*streams)
    except av.error.FFmpegError:
        return


def _carries(stream: Any) -> bool:
    if stream.type == "data":
        return bool(stream.name == _ANCILLARY_CODEC)
    context = stream.codec_context if stream.type == "subtitle" else None
    return context is not None and context.codec.canonical_name == CAPTION_TRACK


def _time_base(stream: Any) -> Fraction:
    return Fraction(stream.time_base or 0)


def chosen(
    pictures: CaptionData | None, others: tuple[CaptionData, ...]
) -> tuple[CaptionData, ...]:
    """Return the data that becomes captions of the title.

    Pictures, tracks and ancillary data of one file carry the same captions. A track has a language,
    so tracks come first.
    """
    in_tracks = tuple(data for data in others if data.origin == "track" and data.channels())
    candidates = (*((pictures,) if pictures else ()), *others)
    texts = tuple(data for data in candidates if data.channels())
    return in_tracks or texts[:1] or candidates[:1]
