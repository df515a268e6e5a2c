"""Writing a copy of decoded pictures and sound without loss: FFV1 and PCM."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import av.container
import av.error
import numpy as np

from encoder.arrays import AnyArray
from encoder.errors import SourceUnusable
from encoder.source.containers.edits import Edit
from encoder.source.opening.container import opened, packets_of
from encoder.source.timestamps.edit_plan import Part, Stretch, plan_stretches
from encoder.source.timestamps.remux import written

_PREROLL_SECONDS = Fraction(1, 4)  # after which decoders of sound are right
_PCM = {
    "u8": "pcm_u8",
    "s16": "pcm_s16le",
    "s32": "pcm_s32le",
    "flt": "pcm_f32le",
    "dbl": "pcm_f64le",
}
_SILENT_SAMPLES = 48_000
# Formats that FFV1 lacks, which differ from others by their name alone.
_SAME = {
    "yuvj420p": "yuv420p",
    "yuvj422p": "yuv422p",
    "yuvj444p": "yuv444p",
    "yuvj440p": "yuv440p",
    "yuvj411p": "yuv411p",
}
_HELD_MICROSECONDS = "500000"  # of one stream, while the others have no packets


@dataclass(frozen=True, slots=True)
class EditedMedia:
    """What of a file's media is played."""

    stream: int
    """Index in the file of the video stream."""
    tick: Fraction
    """Seconds per tick of the title's times."""
    keyframes: tuple[tuple[int, int], ...]
    """Presentation and decoding time of each keyframe, in ticks of the media."""
    parts: tuple[Part, ...]
    """Pictures that each edit plays."""
    end: int
    """Tick of the title at which the last picture ends."""
    sounds: Mapping[int, tuple[Edit, ...]]
    """Edits of each stream of sound by its index in the file, none where all of it is played."""


def write_edited(source: Path, made: Path, media: EditedMedia) -> None:
    """Decode what is played of ``source``, and write it to ``made``.

    Raises:
        SourceUnusable: the source cannot be read, or pictures that are played do not decode.
        StoreUnusable: the copy cannot be written.
    """
    with written(made, {"max_interleave_delta": _HELD_MICROSECONDS}) as output:
        film = _Film(output, source, media)
        film.begin()
        tracks = [_Track(output, source, number, edits) for number, edits in media.sounds.items()]
        film.write()
        for track in tracks:
            track.write()


class _Film:
    """The pictures of the copy."""

    def __init__(
        self, output: av.container.OutputContainer, source: Path, media: EditedMedia
    ) -> None:
        self._output = output
        self._source = source
        self._media = media
        self._target: Any = None

    def begin(self) -> None:
        """Add the stream; its format is that of the first picture that is played."""
        _, frame = next(self._frames(self._media.parts[0]))
        name = _SAME.get(frame.format.name, frame.format.name)
        formats = {each.name for each in av.codec.Codec("ffv1", "w").video_formats or ()}
        if name not in formats:
            raise SourceUnusable(
                f"cannot use {self._source}: its edit list plays several parts, and pictures in "
                f"{name} cannot be kept without loss to apply it; export the title again with its "
                "edits applied"
            )
        target: Any = self._output.add_stream("ffv1", options={"level": "3", "slices": "4"})
        target.width, target.height, target.pix_fmt = frame.width, frame.height, name
        target.time_base = self._media.tick
        context = target.codec_context
        context.time_base = self._media.tick
        context.gop_size = 1
        context.color_range = frame.color_range
        context.color_primaries = frame.color_primaries
        context.color_trc = frame.color_trc
        context.colorspace = frame.colorspace
        self._target, self._shape = target, (frame.width, frame.height, frame.format.name)

    def write(self) -> None:
        """Write all pictures."""
        for number, part in enumerate(self._media.parts, 1):
            seen = set()
            for time, frame in self._frames(part):
                if time in seen:
                    continue
                seen.add(time)
                self._add(frame, part.times[time])
            if missing := len(part.times) - len(seen):
                raise SourceUnusable(
                    f"cannot use {self._source}: {missing} of the {len(part.times)} pictures that "
                    f"part {number} of its edit list plays do not decode; the file is damaged, "
                    "copy it again"
                )
        self._mux(None)

    def _add(self, frame: av.VideoFrame, at: int) -> None:
        if (frame.width, frame.height, frame.format.name) != self._shape:
            raise SourceUnusable(
                f"cannot use {self._source}: the size or the format of its pictures changes; "
                "export the title again with its edits applied"
            )
        if frame.format.name in _SAME:
            frame = _renamed(frame, _SAME[frame.format.name])
        frame.pts, frame.time_base = at, self._media.tick
        frame.pict_type = av.video.frame.PictureType.NONE
        self._mux(frame)

    def _mux(self, frame: av.VideoFrame | None) -> None:
        for packet in self._target.encode(frame):
            self._output.mux(packet)

    def _frames(self, part: Part) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yield the pictures of a part with their times in the media, in order."""
        with opened(self._source, unedited=True) as container:
            stream = container.streams[self._media.stream]
            assert isinstance(stream, av.VideoStream)
            stream.thread_count = 1
            begin, decoded = self._media.keyframes[part.keyframe]
            if part.keyframe:
                container.seek(decoded, stream=stream, backward=True)
            begun = False
            last = max(part.times)
            for packet in packets_of(container, stream):
                begun = begun or packet.pts == begin
                if not begun:
                    continue
                for frame in _decoded(packet):
                    time = frame.pts
                    if time in part.times:
                        yield time, frame
                    if time is not None and time >= last:
                        return


def _decoded(packet: Any) -> list[Any]:
    with contextlib.suppress(av.error.InvalidDataError):  # counted as missing
        return list(packet.decode())
    return []


def _renamed(frame: av.VideoFrame, name: str) -> av.VideoFrame:
    """Return the same picture under another name of its format."""
    other = av.VideoFrame(frame.width, frame.height, name)
    for old, new in zip(frame.planes, other.planes, strict=True):
        rows = np.frombuffer(bytes(old), np.uint8).reshape(-1, old.line_size)
        into = np.zeros((new.buffer_size // new.line_size, new.line_size), np.uint8)
        into[: new.height, : new.width] = rows[: old.height, : old.width]
        new.update(into.tobytes())
    other.color_range = frame.color_range
    other.colorspace = frame.colorspace
    other.color_primaries = frame.color_primaries
    other.color_trc = frame.color_trc
    return other


class _Track:
    """One stream of sound of the copy."""

    def __init__(
        self,
        output: av.container.OutputContainer,
        source: Path,
        number: int,
        edits: tuple[Edit, ...],
    ) -> None:
        self._output, self._source, self._number = output, source, number
        self._at = 0
        with opened(source, unedited=True) as container:
            stream: Any = container.streams[number]
            frame = next(
                (f for p in islice(packets_of(container, stream), 1000) for f in _decoded(p)), None
            )
            if frame is None:
                raise SourceUnusable(
                    f"cannot use {source}: audio stream {number} does not decode; the file is "
                    "damaged, copy it again"
                )
            whole = Fraction((stream.duration or 0) * Fraction(stream.time_base or 0))
        self._form = frame.format.packed.name
        self._rate, self._layout = frame.sample_rate, frame.layout
        self._channels = len(frame.layout.channels)
        self._tick = Fraction(1, self._rate)
        edits = edits or (Edit(whole, Fraction(1), Fraction(0)),)
        if len(edits) == 1 and not edits[0].seconds and edits[0].media_seconds is not None:
            edits = (Edit(whole - edits[0].media_seconds, Fraction(1), edits[0].media_seconds),)
        self._stretches = plan_stretches(edits, self._rate)
        played = [each for each in self._stretches if each.media is not None]
        if played:  # what is delayed begins later, without silence before it
            self._at = played[0].begin
        target: Any = output.add_stream(_PCM[self._form], rate=self._rate, layout=self._layout)
        target.time_base = self._tick
        self._target = target

    def write(self) -> None:
        """Write all samples."""
        for stretch in self._stretches:
            if stretch.media is not None:
                for samples in self._samples(stretch, stretch.media):
                    self._add(samples)
            self._silence(stretch.end - self._at)
        for packet in self._target.encode(None):
            self._output.mux(packet)

    def _samples(self, stretch: Stretch, media: int) -> Iterator[AnyArray]:
        """Yield the samples of a stretch, each (samples, channels); the last ones may lack."""
        wanted, end = media, media + stretch.end - stretch.begin
        with opened(self._source, unedited=True) as container:
            stream: Any = container.streams[self._number]
            base = Fraction(stream.time_base)
            ahead = Fraction(media, self._rate) - _PREROLL_SECONDS
            if ahead > 0:
                container.seek(int(ahead / base), stream=stream, backward=True)
            rounding = 2 + int(base * self._rate)  # times in coarse ticks
            after: int | None = None
            for packet in packets_of(container, stream):
                for frame in _decoded(packet):
                    samples = self._array(frame)
                    at = after
                    if frame.pts is not None:
                        stated = round(frame.pts * Fraction(frame.time_base) * self._rate)
                        if at is None or abs(stated - at) > rounding:
                            at = stated
                    if at is None:
                        continue
                    after = at + len(samples)
                    if at > wanted:
                        yield from self._zeros(min(at, end) - wanted)
                        wanted = min(at, end)
                    own = samples[max(0, wanted - at) : max(0, end - at)]
                    if len(own):
                        yield own
                        wanted += len(own)
                    if wanted >= end:
                        return

    def _array(self, frame: av.AudioFrame) -> AnyArray:
        form, rate = frame.format, frame.sample_rate
        channels = len(frame.layout.channels)
        if (form.packed.name, rate, channels) != (self._form, self._rate, self._channels):
            raise SourceUnusable(
                f"cannot use {self._source}: the rate or the channels of audio stream "
                f"{self._number} change; export the title again with its edits applied"
            )
        array: AnyArray = frame.to_ndarray()
        return array.T if form.is_planar else array.reshape(-1, self._channels)

    def _zeros(self, count: int) -> Iterator[AnyArray]:
        kind = np.dtype({"u8": "u1", "s16": "i2", "s32": "i4", "flt": "f4"}.get(self._form, "f8"))
        while count > 0:
            length = min(count, _SILENT_SAMPLES)
            yield np.full((length, self._channels), 128 if self._form == "u8" else 0, kind)
            count -= length

    def _silence(self, count: int) -> None:
        for samples in self._zeros(count):
            self._add(samples)

    def _add(self, samples: AnyArray) -> None:
        packed = np.ascontiguousarray(samples).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format=self._form, layout=self._layout)
        frame.sample_rate, frame.time_base, frame.pts = self._rate, self._tick, self._at
        self._at += len(samples)
        for packet in self._target.encode(frame):
            self._output.mux(packet)
