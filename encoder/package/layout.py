"""The input and the written package as values, and the definitions of its bitrates.

Times are seconds as :class:`~fractions.Fraction` on the title's presentation timeline, which
begins at its first video frame. Sizes are bytes, bitrates bit/s, languages BCP 47 tags (None when
unknown), digests hexadecimal SHA-256. URIs and folders are relative to the package's folder.
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
from encoder.segmentation import Cue

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*\Z")
VIDEO_BRAND = "cmf2"
"""Brand of video: no edit list, signed composition offsets."""
AUDIO_BRAND = "cmfc"
"""Brand of audio, which keeps its edit list to skip the priming of the AAC encoder."""


@dataclass(frozen=True, slots=True)
class VideoSegment:
    """One shot of one rung, as it was encoded and measured."""

    start_frame: int
    """First frame of the shot."""
    end_frame: int
    """One past the last frame of the shot."""
    media: Path | bytes
    """``moof + mdat``, one pair per keyframe, on the title's timeline."""
    size: int
    sha256: str
    configuration: str
    """:attr:`encoder.mp4.CodecConfiguration.sha256` of the encode's init."""


@dataclass(frozen=True, slots=True)
class Rendition:
    """One rung."""

    name: str
    """Name of the rung and of its folder."""
    init: bytes
    """``ftyp + moov`` of any of its encodes: their codec configurations are equal."""
    segments: tuple[VideoSegment, ...]
    """Segments, one per shot."""

    def __post_init__(self) -> None:
        if not _NAME.match(self.name) or self.name == "audio":
            raise ValueError(
                "a rung's name is letters, digits, '-' and '_', begins with a letter and is not "
                f"'audio', got {self.name!r}"
            )


@dataclass(frozen=True, slots=True)
class AudioSegment:
    """The audio of one shot."""

    start: Fraction
    """Presentation time of its first audible sample, after the edit list."""
    duration: Fraction
    media: bytes
    """One ``moof + mdat``."""


@dataclass(frozen=True, slots=True)
class AudioTrack:
    """One audio track of a title."""

    init: bytes
    """Init segment, ``ftyp + moov``."""
    segments: tuple[AudioSegment, ...]
    """Segments in order; short shots may share one."""
    language: str | None = None
    title: str | None = None
    """Name that the source gives the track, printable."""
    roles: tuple[str, ...] = ()
    """What the track is beside the title's own sound, such as ``commentary`` or ``description``."""


@dataclass(frozen=True, slots=True)
class SubtitleTrack:
    """One subtitle track of a title, as WebVTT."""

    whole: str
    """The track in one file."""
    segments: tuple[str, ...]
    """Segments, one per shot."""
    boundaries: tuple[Fraction, ...]
    """End of each shot."""
    language: str | None = None
    forced: bool = False
    """True where players show the track without being asked."""
    hearing_impaired: bool = False
    """True where the track also describes sounds."""
    captions: str = ""
    """Channel of the source's captions (``CC1``) that the track was made of, else empty."""


@dataclass(frozen=True, slots=True)
class Thumbnails:
    """Thumbnails at even steps for the seek bar of a player, in sheets."""

    uris: tuple[str, ...]
    """JPEG files of the package, which its playlists name; numbered from 0."""
    template: str
    """Their name with ``$Number%03d$`` in the place of the number."""
    sizes: tuple[int, ...]
    """Size of each sheet."""
    columns: int
    rows: tuple[int, ...]
    """Number of rows of each sheet: all alike but the last."""
    width: int
    """Width of a thumbnail in pixels."""
    height: int
    """Height of a thumbnail in pixels."""
    step: Fraction
    """Time from one thumbnail to the next; each sheet lasts as long as its thumbnails."""

    def durations(self, seconds: Fraction) -> tuple[Fraction, ...]:
        """Return how long each sheet lasts in a title of some seconds."""
        whole = self.columns * self.rows[0] * self.step
        starts = [number * whole for number in range(len(self.uris))]
        return tuple(min(whole, seconds - start) for start in starts)

    def bandwidth(self, seconds: Fraction) -> int:
        """Return the rate in bit/s at which every sheet arrives while the one before lasts."""
        pairs = zip(self.sizes, self.durations(seconds), strict=True)
        return max(math.ceil(8 * size / duration) for size, duration in pairs)


@dataclass(frozen=True, slots=True)
class TitlePackage:
    """A package before it is written, the input of :func:`encoder.package.write.write_package`."""

    frame_rate: Fraction
    """Frames per second of the title and of every rung."""
    shots: tuple[tuple[int, int], ...]
    """Frame ranges of the shots, half open and contiguous from 0."""
    renditions: tuple[Rendition, ...]
    """Rungs in the order of the playlists, from the lowest bitrate to the highest."""
    audio: AudioTrack | None = None
    """Audio that plays by default, None for a silent title."""
    more_audio: tuple[AudioTrack, ...] = ()
    """Audio that a viewer may choose instead: other languages, commentary, surround."""
    subtitles: tuple[SubtitleTrack, ...] = ()
    colour: mp4.Colour | None = None
    """Colours that every rung states; None leaves them as the encodes state them."""
    cues: tuple[Cue, ...] = ()
    """Cues for ad insertion, each at the beginning of a segment."""
    thumbnails: Thumbnails | None = None

    def __post_init__(self) -> None:
        ends = [0, *(end for _, end in self.shots)]
        if not self.shots or any(
            start != before or end <= start
            for before, (start, end) in zip(ends, self.shots, strict=False)
        ):
            raise ValueError(f"shots must follow each other from frame 0, got {self.shots[:8]}")
        names = [rendition.name for rendition in self.renditions]
        if not names or len(set(names)) != len(names):
            raise ValueError(f"a package needs rungs of different names, got {names}")
        for rendition in self.renditions:
            ranges = tuple((s.start_frame, s.end_frame) for s in rendition.segments)
            if ranges != self.shots:
                raise ValueError(f"rung {rendition.name!r} has segments {ranges[:8]}, "
                                 f"the title's shots are {self.shots[:8]}")  # fmt: skip
        for cue in self.cues:
            if not {cue.frame, cue.end_frame} <= {0, *(end for _, end in self.shots)}:
                raise ValueError(f"cue {cue.id!r} is not at a boundary of segments")

    @property
    def duration(self) -> Fraction:
        """Duration of the video."""
        return self.shots[-1][1] / self.frame_rate

    @property
    def boundaries(self) -> tuple[Fraction, ...]:
        """End of each shot."""
        return tuple(end / self.frame_rate for _, end in self.shots)

    @property
    def sounds(self) -> tuple[AudioTrack, ...]:
        """All audio tracks, the default one first."""
        return (self.audio, *self.more_audio) if self.audio is not None else ()


@dataclass(frozen=True, slots=True)
class KeyFrame:
    """A frame at which decoding can start, and the bytes of its segment that show it alone."""

    start: Fraction
    duration: Fraction
    """Time until the next key frame or the end."""
    offset: int
    """Offset of its ``moof`` in the segment."""
    size: int
    """Bytes from there to the end of the frame's own data."""


@dataclass(frozen=True, slots=True)
class WrittenSegment:
    """A media segment on disk."""

    uri: str
    start: Fraction
    duration: Fraction
    size: int
    sha256: str
    """Hex digest of the file: the encode with its fragments numbered."""
    keyframes: tuple[KeyFrame, ...] = ()
    """Key frames of a video segment."""


@dataclass(frozen=True, slots=True)
class WrittenTrack:
    """A rung or an audio track on disk."""

    name: str
    directory: str
    codecs: str
    """Value of ``codecs`` by RFC 6381."""
    timescale: int
    """Ticks per second of its files, in which all its times are whole."""
    init_uri: str
    init_size: int
    init_sha256: str
    segments: tuple[WrittenSegment, ...]
    width: int = 0
    """Width in pixels; 0 for audio."""
    height: int = 0
    """Height in pixels; 0 for audio."""
    channels: int = 0
    """Number of audio channels; 0 for video."""
    sample_rate: int = 0
    """Audio sample rate in Hz; 0 for video."""
    language: str | None = None
    title: str | None = None
    """Name that the source gives an audio track."""
    roles: tuple[str, ...] = ()
    """What an audio track is beside the title's own sound."""
    priming: Fraction = Fraction(0)
    """Time at the beginning of the media that the edit list skips."""
    colour: mp4.Colour | None = None

    @property
    def video_range(self) -> str | None:
        """``PQ`` or ``HLG``; None for standard range, and for audio."""
        return self.colour.video_range if self.colour else None

    @property
    def duration(self) -> Fraction:
        """Duration of all segments."""
        return sum((segment.duration for segment in self.segments), Fraction())

    @property
    def size(self) -> int:
        """Size of all media segments, without the init segment."""
        return sum(segment.size for segment in self.segments)

    @property
    def average_bitrate(self) -> float:
        """Average bitrate of the media segments."""
        return float(8 * self.size / self.duration)

    def peak_bitrate(self, target_duration: int) -> float:
        """Return the peak bitrate of the media segments in bit/s."""
        return peak_bitrate(
            [8 * segment.size for segment in self.segments],
            [segment.duration for segment in self.segments],
            target_duration,
        )


@dataclass(frozen=True, slots=True)
class WrittenSubtitles:
    """A subtitle track on disk."""

    name: str
    directory: str
    durations: tuple[Fraction, ...]
    size: int
    """Size of the whole file."""
    language: str | None
    forced: bool
    hearing_impaired: bool
    captions: str = ""

    @property
    def duration(self) -> Fraction:
        """Duration of all segments."""
        return sum(self.durations, Fraction())


@dataclass(frozen=True, slots=True)
class WrittenCue:
    """A cue of a package on disk."""

    number: int
    """Number of the cue in the title, from 1."""
    id: str
    start: Fraction
    """Presentation time."""
    duration: Fraction
    """Duration of the break; 0 where it has no pictures."""
    ends_title: bool
    """True where the break lasts to the end of the title."""


@dataclass(frozen=True, slots=True)
class WrittenPackage:
    """A package on disk."""

    frame_rate: Fraction
    """Frames per second of every rung."""
    target_duration: int
    """``EXT-X-TARGETDURATION`` of all playlists, seconds."""
    video: tuple[WrittenTrack, ...]
    """Rungs, from the lowest bitrate to the highest."""
    audio: WrittenTrack | None
    more_audio: tuple[WrittenTrack, ...] = ()
    subtitles: tuple[WrittenSubtitles, ...] = ()
    cues: tuple[WrittenCue, ...] = ()
    thumbnails: Thumbnails | None = None

    @property
    def sounds(self) -> tuple[WrittenTrack, ...]:
        """All audio tracks, the default one first."""
        return (self.audio, *self.more_audio) if self.audio is not None else ()

    def bandwidth(self, track: WrittenTrack) -> int:
        """Return HLS' ``BANDWIDTH`` of a rung: the sum of the peak bitrates of video and audio.

        A player plays one audio track at a time, so the one with the highest peak counts.
        """
        peaks = [sound.peak_bitrate(self.target_duration) for sound in self.sounds]
        return math.ceil(track.peak_bitrate(self.target_duration) + max(peaks, default=0))

    def average_bandwidth(self, track: WrittenTrack) -> int:
        """Return HLS' ``AVERAGE-BANDWIDTH`` of a rung with audio."""
        audio = max((sound.average_bitrate for sound in self.sounds), default=0)
        return math.ceil(track.average_bitrate + audio)


def peak_bitrate(
    bits: Sequence[float], durations: Sequence[Fraction | float], target_duration: float
) -> float:
    """Return the peak bitrate by RFC 8216, 4.1, in bit/s; there is a duration for each of ``bits``.

    It is the largest bitrate of contiguous segments lasting 0.5 to 1.5 target durations. A title
    so short that no run lasts half a target duration has its average bitrate.

    Raises:
        ValueError: there are no segments, different lengths, or a duration that is not positive.
    """
    if not bits or len(bits) != len(durations) or min(durations) <= 0:
        raise ValueError(
            f"a bitrate needs as many positive durations as segments, got {len(bits)} segments and "
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
    """Return DASH's bandwidth in bit/s: the least constant rate that plays without a stall.

    A client that starts with any segment i and receives at this rate begins to play after
    ``buffer_seconds`` (``MPD@minBufferTime``) and then has every segment j complete when it is due:
    bits of i..j <= rate x (buffer_seconds + time from i to j).
    """
    ends = np.cumsum(np.asarray(bits, dtype=float))
    starts = np.concatenate([[0.0], np.cumsum([float(duration) for duration in durations])[:-1]])
    return max(
        float(np.max((ends[i:] - ends[i] + bits[i]) / (buffer_seconds + starts[i:] - starts[i])))
        for i in range(len(bits))
    )


def target_duration(video: Sequence[Fraction], audio: Sequence[Fraction] = ()) -> int:
    """Return one ``EXT-X-TARGETDURATION`` for all playlists, seconds.

    It is the ceiling of the longest video segment, and at least every audio segment rounded to the
    nearest second, as RFC 8216, 4.3.3.1 requires. Audio may end a frame later than its shot, which
    must not raise the target duration by a second.
    """
    longest = max(math.ceil(max(video)), 1)
    return max([longest, *(math.floor(duration + Fraction(1, 2)) for duration in audio)])


def segment_name(number: int) -> str:
    """Return the file name of a track's segment ``number``, counted from 0."""
    return f"{number:05d}.m4s"


def check_segment(
    rendition: str, segment: VideoSegment, media: bytes, init: bytes, frame_rate: Fraction
) -> list[mp4.Fragment]:
    """Return the fragments of a segment after checking its frames and their exact times.

    Raises:
        ValueError: the segment has another size, frame count, time or first frame than stated.
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
    """Check that ``fragments`` hold exactly the frames ``[start, end)``, ``ticks`` apart.

    Raises:
        ValueError: a frame is missing or at another time; ``where`` begins the message.
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
