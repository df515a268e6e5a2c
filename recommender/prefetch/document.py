"""``prefetch.json`` as types: what a client, a CDN or a recommender fetches before playback starts.

The document describes the package as delivered: every file with its size, digest and URI, the
segment boundaries that all rungs share, the rung to start with at a given throughput, and the bytes
that the first seconds take. It also ranks the title's files for a cache (:mod:`recommender.caching`
merges several titles).
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from typing import Final, Literal

from pydantic import Field

from ladder.document import Document, Rational, TitleDocument
from recommender.caching import RankedFile

PREFETCH_SCHEMA: Final = "shotladder/prefetch/1"
START_SECONDS: Final = (2, 4, 8, 16)
"""Lengths of the beginnings whose sizes are listed."""
AUDIO_TRACK: Final = "audio"
"""Name of the audio track in the cache plan; video tracks go by the names of their rungs."""


class File(Document):
    """A file of the package."""

    uri: str
    """Path relative to the package's folder."""
    bytes: int
    sha256: str


class VideoFile(File):
    """One shot of one rung; the boundary with the same index has its times."""

    quality: float
    """Measured mean quality of the segment by ``quality_model``."""


class AudioFile(File):
    """An audio segment; it ends at the audio frame nearest to the end of a shot."""

    start_seconds: float
    seconds: float


class Boundary(Document):
    """Start and end of a shot, which is one segment in every rung."""

    start_frame: int
    end_frame: int
    start_seconds: float
    seconds: float


def _is_empty(value: object) -> bool:
    """Tell whether a member is left out: a title with one sound track has the document it had."""
    return not value


class AudioTrack(Document):
    """The audio, which plays with every rung."""

    codecs: str
    """Codec string by RFC 6381."""
    language: str | None = Field(default=None, exclude_if=_is_empty)
    """Language by BCP 47, where the title has more than one sound track and says it."""
    roles: list[str] = Field(default=[], exclude_if=_is_empty)
    """What the track is beside the title's own sound, such as ``commentary``."""
    bitrate: int
    """Average bitrate of the segments, bit/s."""
    init: File
    segments: list[AudioFile]


class PrefetchRung(Document):
    """One rung with its files."""

    name: str
    codecs: str
    """Codec string by RFC 6381."""
    width: int
    height: int
    bitrate: int
    """Average bitrate of the delivered video without audio, bit/s."""
    quality: float
    """Measured mean quality over the title by ``quality_model``."""
    init: File
    segments: list[VideoFile]


class StartupRung(Document):
    """The rung to start with from a throughput up to that of the next entry."""

    throughput: int
    """Throughput from which the entry applies, bit/s; 0 for the lowest rung, which plays when no
    rung is affordable."""
    rung: str


class Start(Document):
    """What it takes to play the first seconds of a rung, in whole segments."""

    seconds: int
    """Seconds that the start has to cover."""
    rung: str
    covers_seconds: float
    """Seconds that these segments play; less than ``seconds`` only if the title ends before."""
    segments: int
    """Number of video segments."""
    audio_segments: int
    init_bytes: int
    """Size of the init segments of video and audio."""
    video_bytes: int
    """Size of the video segments without the init segment."""
    audio_bytes: int
    bytes: int
    """Size of all of them together."""


class CachePlanEntry(Document):
    """A file to keep in a cache, in order of value."""

    track: str
    """Name of the rung, or ``audio``."""
    segment: int | None
    """Index of the segment in its track; null for the track's init segment."""
    value: float
    """Expected quality x seconds that one play of the title takes from this file."""
    density: float
    """Quality x seconds per byte, by which the plan is sorted; the files that a file needs precede
    it. Multiply by the title's popularity to compare titles."""


class Population(Document):
    """The viewers that the cache plan assumes."""

    median_throughput: float
    """Median throughput in bit/s; throughputs are log-normally distributed."""
    sigma: float
    """Standard deviation of the natural logarithm of the throughput."""
    affordable: float
    """Largest share of its throughput that a client spends."""
    half_life_seconds: float
    """Time in the title after which half of its viewers are still watching."""


class Prefetch(TitleDocument):
    """``prefetch.json``."""

    schema_: Literal["shotladder/prefetch/1"] = Field(default=PREFETCH_SCHEMA, alias="schema")
    title: str
    """First 16 hexadecimal digits of the source's SHA-256."""
    frame_rate: Rational
    seconds: float
    quality_model: str
    boundaries: list[Boundary]
    audio: AudioTrack | None
    """The sound that plays unless another is chosen; starts and the cache plan have this one."""
    more_audio: list[AudioTrack] = Field(default=[], exclude_if=_is_empty)
    """The other sound tracks."""
    rungs: list[PrefetchRung]
    """The rungs by rising bitrate."""
    startup: list[StartupRung]
    """Start-up rungs by rising throughput; the first entry is for throughput 0."""
    starts: list[Start]
    """Starts of 2, 4, 8 and 16 seconds for each rung."""
    population: Population
    cache_plan: list[CachePlanEntry]
    """Files by falling density, for one play of the title by this population."""

    def to_json(self) -> str:
        """Return the document's text, which ends in a newline."""
        return self.model_dump_json() + "\n"

    def sound_in(self, language: str | None) -> AudioTrack | None:
        """Return the sound in a language (BCP 47); the default one without a language, or where no
        track without a role is in it. ``pt`` finds ``pt-BR``, and the other way round."""
        if self.audio is None or language is None:
            return self.audio
        tracks = [(t.language.lower(), t) for t in (self.audio, *self.more_audio)
                  if t.language is not None and not t.roles]  # fmt: skip
        asked = language.lower()
        exact = [track for said, track in tracks if said == asked]
        near = [track for said, track in tracks if said.split("-")[0] == asked.split("-")[0]]
        return next(iter(exact + near), self.audio)

    def startup_rung(self, throughput: float) -> str:
        """Return the name of the rung to start with at ``throughput`` bit/s."""
        at = bisect.bisect_right([entry.throughput for entry in self.startup], throughput)
        return self.startup[max(at - 1, 0)].rung

    def start_files(self, start: Start) -> list[File]:
        """Return the files of ``start`` in the order in which to request them.

        The files that decode the first shot come first.
        """
        rung = next(rung for rung in self.rungs if rung.name == start.rung)
        files: list[File] = [rung.init, rung.segments[0]]
        if self.audio is not None:
            files += [self.audio.init, *self.audio.segments[: start.audio_segments]]
        return [*files, *rung.segments[1 : start.segments]]

    def ranked_files(self) -> Iterator[RankedFile]:
        """Yield the files of the cache plan, in its order."""
        tracks: dict[str, AudioTrack | PrefetchRung] = {rung.name: rung for rung in self.rungs}
        if self.audio is not None:
            tracks[AUDIO_TRACK] = self.audio
        for entry in self.cache_plan:
            track = tracks[entry.track]
            file = track.init if entry.segment is None else track.segments[entry.segment]
            yield RankedFile(file.uri, file.bytes, file.sha256, entry.density)
