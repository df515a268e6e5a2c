"""What a package is made of, and what was written, as values; and how rates are counted.

Times are seconds as :class:`~fractions.Fraction` on the title's presentation timeline, which
begins at its first video frame. Sizes are bytes, rates bit/s.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from encoder import mp4

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*\Z")
VIDEO_BRAND = "cmf2"
"""No edit list, signed composition offsets: exactly what our video tracks are."""
AUDIO_BRAND = "cmfc"
"""AAC keeps its edit list, which takes the encoder's priming out of the presentation."""


@dataclass(frozen=True, slots=True)
class VideoSegment:
    """One shot of one rung, as it was encoded and measured."""

    start_frame: int
    end_frame: int
    """One past the last frame."""
    media: Path | bytes
    """``moof + mdat``, one pair per keyframe, on the title's timeline."""
    size: int
    sha256: str
    """Hex digest of ``media``."""
    configuration: str
    """:attr:`encoder.mp4.CodecConfiguration.sha256` of the init that came with it."""


@dataclass(frozen=True, slots=True)
class Rendition:
    """One rung."""

    name: str
    """Also the name of its folder."""
    init: bytes
    """``ftyp + moov`` of any of its encodes: their codec configurations are equal."""
    segments: tuple[VideoSegment, ...]
    """One per shot."""

    def __post_init__(self) -> None:
        if not _NAME.match(self.name) or self.name == "audio":
            raise ValueError(
                "a rung's name is letters, digits, '-' and '_', begins with a letter and is not "
                f"'audio', got {self.name!r}"
            )


@dataclass(frozen=True, slots=True)
class AudioSegment:
    """The sound beside one shot."""

    start: Fraction
    """Of presentation: what is heard first, after the edit list."""
    duration: Fraction
    media: bytes
    """One ``moof + mdat``."""


@dataclass(frozen=True, slots=True)
class AudioTrack:
    """The title's sound."""

    init: bytes
    segments: tuple[AudioSegment, ...]
    language: str | None = None
    """BCP 47, when known."""


@dataclass(frozen=True, slots=True)
class SubtitleTrack:
    """Subtitles as WebVTT."""

    whole: str
    segments: tuple[str, ...]
    """One per shot."""
    boundaries: tuple[Fraction, ...]
    """End of each shot, seconds."""
    language: str | None = None
    """BCP 47, when known."""
    forced: bool = False
    hearing_impaired: bool = False


@dataclass(frozen=True, slots=True)
class TitlePackage:
    """What :func:`encoder.package.write.write_package` writes."""

    frame_rate: Fraction
    """Frames per second, of the title and of every rung."""
    shots: tuple[tuple[int, int], ...]
    """Half-open frame ranges, contiguous from 0."""
    renditions: tuple[Rendition, ...]
    """In the order of the playlists: from the lowest rate to the highest."""
    audio: AudioTrack | None = None
    more_audio: tuple[AudioTrack, ...] = ()
    """Other languages, commentary, surround: what a viewer may choose instead."""
    subtitles: tuple[SubtitleTrack, ...] = ()

    def __post_init__(self) -> None:
        ends = [0, *(end for _, end in self.shots)]
        if not self.shots or any(
            start != before or end <= start
            for before, (start, end) in zip(ends, self.shots, strict=False)
        ):
            raise ValueError(f"shots follow each other from frame 0, got {self.shots[:8]}")
        names = [rendition.name for rendition in self.renditions]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"a package needs rungs of different names, got {names}")
        for rendition in self.renditions:
            ranges = tuple((s.start_frame, s.end_frame) for s in rendition.segments)
            if ranges != self.shots:
                raise ValueError(f"rung {rendition.name!r} has segments {ranges[:8]}, "
                                 f"the title's shots are {self.shots[:8]}")  # fmt: skip

    @property
    def duration(self) -> Fraction:
        """Seconds of video."""
        return self.shots[-1][1] / self.frame_rate

    @property
    def boundaries(self) -> tuple[Fraction, ...]:
        """End of each shot, seconds."""
        return tuple(end / self.frame_rate for _, end in self.shots)

    @property
    def sounds(self) -> tuple[AudioTrack, ...]:
        """All its sound, what is heard by default first."""
        return (self.audio, *self.more_audio) if self.audio is not None else ()


@dataclass(frozen=True, slots=True)
class KeyFrame:
    """A frame at which decoding may start, and the bytes of its segment that show it alone."""

    start: Fraction
    duration: Fraction
    """Until the next key frame or the end."""
    offset: int
    """First byte in the segment (of the ``moof``)."""
    size: int
    """Bytes up to the end of the frame's own data."""


@dataclass(frozen=True, slots=True)
class WrittenSegment:
    """A media segment on disk."""

    uri: str
    """Relative to the package's folder."""
    start: Fraction
    duration: Fraction
    size: int
    sha256: str
    """Hex digest of the file: the encode with its fragments numbered."""
    keyframes: tuple[KeyFrame, ...] = ()


@dataclass(frozen=True, slots=True)
class WrittenTrack:
    """A media playlist with its files."""

    name: str
    directory: str
    """Relative to the package's folder."""
    codecs: str
    """RFC 6381."""
    timescale: int
    """Ticks per second of its files, in which all its times are whole."""
    init_uri: str
    init_size: int
    init_sha256: str
    segments: tuple[WrittenSegment, ...]
    width: int = 0
    """Pixels; 0 for sound."""
    height: int = 0
    channels: int = 0
    """0 for video."""
    sample_rate: int = 0
    """Hz; 0 for video."""
    language: str | None = None
    priming: Fraction = Fraction(0)
    """Seconds at its beginning that the edit list takes out of the presentation."""
    colour: mp4.Colour | None = None
    """Of video, as its init says."""

    @property
    def video_range(self) -> str | None:
        """``PQ`` or ``HLG``; None for standard range, and for sound."""
        return self.colour.video_range if self.colour else None

    @property
    def duration(self) -> Fraction:
        """Seconds."""
        return sum((segment.duration for segment in self.segments), Fraction())

    @property
    def size(self) -> int:
        """Bytes of all media segments, without the init segment."""
        return sum(segment.size for segment in self.segments)

    @property
    def average_bitrate(self) -> float:
        """Bit/s over the whole track, without the init segment."""
        return float(8 * self.size / self.duration)

    def peak_bitrate(self, target_duration: int) -> float:
        """Bit/s, by :func:`peak_bitrate`."""
        return peak_bitrate(
            [8 * segment.size for segment in self.segments],
            [segment.duration for segment in self.segments],
            target_duration,
        )


@dataclass(frozen=True, slots=True)
class WrittenSubtitles:
    """Subtitles on disk."""

    name: str
    directory: str
    """Relative to the package's folder."""
    durations: tuple[Fraction, ...]
    """Of its segments, seconds."""
    size: int
    """Bytes of the whole."""
    language: str | None
    forced: bool
    hearing_impaired: bool

    @property
    def duration(self) -> Fraction:
        """Seconds."""
        return sum(self.durations, Fraction())


@dataclass(frozen=True, slots=True)
class WrittenPackage:
    """What lies on disk."""

    frame_rate: Fraction
    target_duration: int
    """Seconds, the same in all playlists."""
    video: tuple[WrittenTrack, ...]
    audio: WrittenTrack | None
    more_audio: tuple[WrittenTrack, ...] = ()
    subtitles: tuple[WrittenSubtitles, ...] = ()

    @property
    def sounds(self) -> tuple[WrittenTrack, ...]:
        """All its sound, what is heard by default first."""
        return (self.audio, *self.more_audio) if self.audio is not None else ()

    def bandwidth(self, track: WrittenTrack) -> int:
        """HLS ``BANDWIDTH`` of a rung: the sum of the peaks of video and sound, bit/s.

        Of several tracks of sound the one with most counts: a player takes one.
        """
        peaks = [sound.peak_bitrate(self.target_duration) for sound in self.sounds]
        return math.ceil(track.peak_bitrate(self.target_duration) + max(peaks, default=0))

    def average_bandwidth(self, track: WrittenTrack) -> int:
        """HLS ``AVERAGE-BANDWIDTH`` of a rung with sound, bit/s."""
        audio = max((sound.average_bitrate for sound in self.sounds), default=0)
        return math.ceil(track.average_bitrate + audio)


def peak_bitrate(
    bits: Sequence[float], durations: Sequence[Fraction | float], target_duration: float
) -> float:
    """The largest rate of contiguous segments lasting 0.5 to 1.5 target durations (RFC 8216 4.1).

    A title so short that no run lasts half a target duration has its overall rate.

    Args:
        bits: of each segment, shape (segments,).
        durations: seconds, shape (segments,), positive.
        target_duration: seconds.

    Returns:
        bit/s.

    Raises:
        ValueError: no segments, different lengths, or a duration that is not positive.
    """
    if not bits or len(bits) != len(durations) or min(durations) <= 0:
        raise ValueError(
            f"a rate needs as many positive durations as segments, got {len(bits)} segments and "
            f"{len(durations)} durations"
        )
    shortest, longest = Fraction(target_duration) / 2, Fraction(target_duration) * 3 / 2
    exact = [Fraction(duration) for duration in durations]
    peak = 0.0
    for first in range(len(bits)):
        run_bits, run_seconds = 0.0, Fraction()
        for index in range(first, len(bits)):
            run_bits += bits[index]
            run_seconds += exact[index]
            if run_seconds > longest:
                break
            if run_seconds >= shortest:
                peak = max(peak, run_bits / float(run_seconds))
    return peak or sum(bits) / float(sum(exact))


def buffered_bitrate(
    bits: Sequence[float], durations: Sequence[Fraction | float], buffer_seconds: float
) -> float:
    """The smallest constant rate that plays from any segment on without a stall (DASH bandwidth).

    A client that starts with segment i and receives at this rate begins to play after
    ``buffer_seconds`` (``MPD@minBufferTime``) and then has every segment j complete when it is due:
    bits of i..j <= rate x (buffer_seconds + time from i to j).

    Args:
        bits: of each segment, shape (segments,).
        durations: seconds, shape (segments,).
        buffer_seconds: seconds, positive.

    Returns:
        bit/s.
    """
    ends = np.cumsum(np.asarray(bits, dtype=float))
    starts = np.concatenate([[0.0], np.cumsum([float(duration) for duration in durations])[:-1]])
    return max(
        float(np.max((ends[i:] - ends[i] + bits[i]) / (buffer_seconds + starts[i:] - starts[i])))
        for i in range(len(bits))
    )


def target_duration(video: Sequence[Fraction], audio: Sequence[Fraction] = ()) -> int:
    """One ``EXT-X-TARGETDURATION`` for all playlists, seconds.

    The ceiling of the longest video segment, which is also no less than any audio segment rounded
    to the nearest second (what RFC 8216 4.3.3.1 asks for): sound may end an audio frame later than
    its shot, and must not make every player's target one second longer.
    """
    longest = max(math.ceil(max(video)), 1)
    return max([longest, *(math.floor(duration + Fraction(1, 2)) for duration in audio)])


def segment_name(number: int) -> str:
    """File name of a track's segment ``number``, counted from 0."""
    return f"{number:05d}.m4s"


def check_segment(
    rendition: str, segment: VideoSegment, media: bytes, init: bytes, frame_rate: Fraction
) -> list[mp4.Fragment]:
    """The fragments of a segment, after a check that it holds its frames at their exact times.

    Raises:
        ValueError: another size, frame count, time or first frame than the segment promises.
    """
    where = f"rung {rendition!r}, frames [{segment.start_frame}, {segment.end_frame})"
    if len(media) != segment.size:
        raise ValueError(f"{where}: {len(media)} bytes instead of {segment.size}")
    fragments = mp4.fragments(init, media)
    check_timeline(where, fragments, segment.start_frame, segment.end_frame,
                   mp4.track_timescale(init) / frame_rate)  # fmt: skip
    return fragments


def check_timeline(
    where: str, fragments: Sequence[mp4.Fragment], start: int, end: int, ticks: Fraction
) -> None:
    """Check that ``fragments`` hold the frames ``[start, end)``, ``ticks`` apart, each exactly.

    Raises:
        ValueError: they do not; ``where`` begins the message.
    """
    samples = [sample for fragment in fragments for sample in fragment.samples]
    if len(samples) != end - start:
        raise ValueError(f"{where}: {len(samples)} frames instead of {end - start}")
    for number, sample in enumerate(samples, start):
        if sample.decode_time != number * ticks or sample.duration != ticks:
            raise ValueError(
                f"{where}: frame {number} in decoding order is decoded at tick "
                f"{sample.decode_time} for {sample.duration} instead of at {number * ticks} "
                f"for {ticks}"
            )
    for number, time in enumerate(sorted(sample.composition_time for sample in samples), start):
        if time != number * ticks:
            raise ValueError(
                f"{where}: frame {number} is shown at tick {time} instead of {number * ticks}"
            )
    for fragment in fragments:
        if not fragment.samples[0].is_sync:
            raise ValueError(f"{where}: the fragment at byte {fragment.start} has no keyframe")
    if fragments[0].samples[0].composition_time != start * ticks:
        raise ValueError(f"{where}: its first keyframe is not its first frame")
