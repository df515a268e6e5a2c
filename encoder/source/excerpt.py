"""An excerpt of a source, for a quick look: a run of its coded pictures with their sound, copied.

Coded pictures can only be cut at keyframes, so an excerpt begins and ends at some. Its sound is cut
by the same clock and keeps its place. Subtitles are read from the whole source.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av.error
import numpy as np

from encoder.arrays import Float64, Int64
from encoder.errors import BadInput, SourceUnusable
from encoder.source.opening.container import opened, packets_of
from encoder.source.opening.streams import is_decodable, video_stream
from encoder.source.part import ExcerptChoices
from encoder.source.reference import ReferenceSource
from encoder.source.timestamps.remux import written

LEAD_SECONDS = Fraction(2, 5)
"""Time of the first picture in the file of an excerpt: what is decoded before it is shown, and
sound that is cut within a packet, begin earlier. Sound that begins earlier by more would count as
the beginning of the title."""


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A part of a source that stands for a title."""

    start_seconds: Fraction
    """Time of its first picture from the first picture of the source."""
    seconds: Fraction
    of_seconds: Fraction
    """Duration of the whole source."""
    bitrate: int
    """Rate of the source's video in the part, bit/s."""
    of_bitrate: int
    """Rate of the source's video as a whole, bit/s."""
    source_sha256: str = ""
    """Digest of the whole source."""

    @property
    def sha256(self) -> str:
        """Digest that stands for the bytes of the excerpt in all keys."""
        place = f"{self.source_sha256} {self.start_seconds} {self.seconds}"
        return hashlib.sha256(f"excerpt {place}".encode()).hexdigest()


def choose(
    starts: Float64, wanted: ExcerptChoices, total: float, sizes: Float64, name: object
) -> tuple[int, int]:
    """Return the keyframes at which an excerpt begins and ends; the last one is the end. Pure.

    Args:
        starts: Times of the keyframes from the first picture in seconds, (keyframes,), ascending.
        wanted: What the user wants.
        total: Duration of the source in seconds.
        sizes: Coded bytes from each keyframe to the next, (keyframes,).
        name: Name of the source.

    Raises:
        BadInput: the source ends before the excerpt begins.
    """
    edges = np.append(starts, total)
    if wanted.sample is not None:
        return _typical(edges, wanted.sample, sizes)
    start = wanted.start or 0.0
    if start >= total:
        raise BadInput(f"start is {start:g} s, and {name} lasts {total:.1f} s; give an earlier one")
    first = max(0, int(np.searchsorted(starts, start + 1e-6, side="right")) - 1)
    end = total if wanted.duration is None else min(total, start + wanted.duration)
    return first, _nearest(edges, end, first)


def _nearest(edges: Float64, end: float, first: int) -> int:
    """Return the edge after ``first`` that is nearest to a time."""
    return first + 1 + int(np.abs(edges[first + 1 :] - end).argmin())


def _typical(edges: Float64, seconds: float, sizes: Float64) -> tuple[int, int]:
    """Return the part of about so many seconds whose rate is nearest that of the whole; of equals,
    the one nearest the middle.
    """
    total = edges[-1]
    before = np.concatenate([[0.0], np.cumsum(sizes)])
    mean = before[-1] / total
    found: list[tuple[float, float, int, int]] = []
    for first in range(len(edges) - 1):
        if edges[first] + seconds > total and found:
            break
        last = _nearest(edges, edges[first] + seconds, first)
        rate = (before[last] - before[first]) / (edges[last] - edges[first])
        off = abs(float(np.log(max(rate, 1.0) / max(mean, 1.0))))
        middle = abs((edges[first] + edges[last]) / 2 - total / 2)
        found.append((round(off, 2), float(middle), first, last))
    return min(found)[2:]


def cut_excerpt(
    source: ReferenceSource, wanted: ExcerptChoices, made: Path
) -> tuple[Excerpt, Fraction]:
    """Copy an excerpt of a source to ``made``, a Matroska file.

    Returns:
        The excerpt, without the digest of its source, and the time of its first picture on the
        clock of :attr:`ReferenceSource.path`.

    Raises:
        BadInput: the source ends before the excerpt begins.
        SourceUnusable: the source cannot be read, or Matroska does not hold what it has.
        StoreUnusable: the file cannot be written.
    """
    index = source.index
    sizes = _bytes_by_keyframe(source)
    starts = (index.keyframe_pts - index.pts[0]).astype(float) * float(index.time_base)
    total = float(index.duration_seconds)
    first, last = choose(np.maximum(starts, 0.0), wanted, total, sizes, source.named)
    begin = int(index.keyframe_pts[first])
    end = int(index.keyframe_pts[last]) if last < len(starts) else None
    try:
        _copy(source, made, begin, end)
    except (av.error.FFmpegError, ValueError) as error:
        raise SourceUnusable(
            f"cannot cut an excerpt of {source.named}: {error}; give the whole title"
        ) from error
    stop = int(index.pts[0]) + round(index.duration_seconds / index.time_base)
    seconds = ((stop if end is None else end) - begin) * index.time_base
    excerpt = Excerpt(
        start_seconds=(begin - int(index.pts[0])) * index.time_base,
        seconds=seconds,
        of_seconds=index.duration_seconds,
        bitrate=round(8 * float(sizes[first:last].sum()) / float(seconds)),
        of_bitrate=index.bitrate,
    )
    return excerpt, begin * index.time_base


def _bytes_by_keyframe(source: ReferenceSource) -> Float64:
    """Return the coded bytes from each keyframe to the next in the order of the file."""
    keyframes: Int64 = source.index.keyframe_pts
    sizes = np.zeros(len(keyframes))
    at = 0
    with opened(source.path) as container:
        for packet in packets_of(container, video_stream(container, source.path)):
            if packet.is_keyframe and packet.pts is not None:
                place = int(np.searchsorted(keyframes, packet.pts))
                at = place if place < len(keyframes) and keyframes[place] == packet.pts else at
            sizes[at] += packet.size
    return sizes


def _copy(source: ReferenceSource, made: Path, begin: int, end: int | None) -> None:
    """Copy the pictures from one keyframe up to another, and the sound of that time."""
    tick = source.index.time_base
    with opened(source.path) as container:
        stream = video_stream(container, source.path)
        wanted = {one.index for one in source.info.audio}
        sounds = [s for s in container.streams.audio if s.index in wanted and is_decodable(s)]
        with written(made) as output:
            copies = {one.index: _template(output, one) for one in (stream, *sounds)}
            started = ended = False
            limit = None if end is None else end * tick
            for packet in _with_dts(packets_of(container, stream, *sounds), stream.index):
                if packet.stream_index not in copies:
                    continue
                if packet.stream_index == stream.index:
                    started |= packet.is_keyframe and packet.pts == begin
                    ended |= end is not None and packet.is_keyframe and packet.pts == end
                    # Pictures that are shown before the first keyframe lack what they refer to.
                    shown = packet.pts is None or packet.pts >= begin
                    if not started or ended or not shown:
                        continue
                elif not _heard(packet, begin * tick, limit):
                    continue
                _mux(output, packet, copies[packet.stream_index], begin * tick)


def _with_dts(packets: Iterator[Any], video: int) -> Iterator[Any]:
    """Yield packets that hold something, those at the beginning of the video with a DTS as well,
    which Matroska does not state: as far apart as they last.
    """
    early: list[Any] = []
    for packet in packets:
        if not packet.size or (packet.dts is None and packet.pts is None):
            continue
        if packet.dts is None and packet.stream_index == video:
            early.append(packet)
            continue
        if packet.stream_index == video and early:
            _place(early, packet.dts)
            yield from early
            early = []
        if packet.dts is None:
            packet.dts = packet.pts
        yield packet
    if early:
        _place(early, min(packet.pts for packet in early) + 1)
        yield from early


def _place(early: Sequence[Any], before: int) -> None:
    """Give packets in decoding order a DTS each, ending before a known one."""
    for packet in reversed(early):
        before = min(before - max(1, packet.duration or 1), packet.pts)
        packet.dts = before


def _template(output: Any, stream: Any) -> Any:
    made = output.add_stream_from_template(stream, opaque=True)
    made.time_base = stream.time_base
    for name, value in stream.metadata.items():
        if name in ("language", "title"):
            made.metadata[name] = value
    made.disposition = stream.disposition
    return made


def _heard(packet: Any, begin: Fraction, end: Fraction | None) -> bool:
    """Return True for sound of which a part is heard within the excerpt."""
    time = (packet.dts if packet.pts is None else packet.pts) * packet.time_base
    length = (packet.duration or 0) * packet.time_base
    return bool(time + length > begin and (end is None or time < end))


def _mux(output: Any, packet: Any, stream: Any, begin: Fraction) -> None:
    shift = round((begin - LEAD_SECONDS) / packet.time_base)
    packet.dts -= shift
    if packet.pts is not None:
        packet.pts -= shift
    packet.stream = stream
    output.mux(packet)


def as_excerpt(part: ReferenceSource, whole: ReferenceSource, begin: Fraction) -> ReferenceSource:
    """Return the plan of an excerpt's file with what only the whole source has.

    Args:
        part: Plan of the file of the excerpt.
        whole: Plan of the source.
        begin: Time of the first picture of the excerpt on the clock of ``whole``'s file.

    Raises:
        SourceUnusable: the copy would be read in another way than the source.
    """
    facts = ("width", "height", "pix_fmt", "hdr", "color_primaries", "color_transfer")
    for fact in facts:
        here, there = getattr(part, fact), getattr(whole, fact)
        if here != there:
            raise SourceUnusable(
                f"cannot cut an excerpt of {whole.named}: its copy would have {fact} {here} "
                f"instead of {there}; give the whole title"
            )
    subtitles = whole.info.subtitles
    text_start = begin
    if whole.text_start is not None:
        text_start = whole.text_start + begin - whole.index.start_seconds
    return replace(
        part,
        given=whole.given or whole.path,
        info=replace(part.info, subtitles=subtitles),
        choices=whole.choices,
        text_start=text_start if any(one.text for one in subtitles) else None,
    )
