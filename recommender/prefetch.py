"""``prefetch.json``: what a client, a CDN or a recommender pulls before somebody presses play.

Exactly as delivered: every file of the package with its bytes, digest and place, the boundaries
that all rungs share, the rung to start with at a throughput, and what the first seconds take.
Which files to keep in a cache is a matter of :mod:`recommender.caching`, whose order for one title
stands here too.

Start-up rung: the highest rung that a client affords (its average rate, sound included, is at most
0.8 of the throughput) and that plays its first 16 s without a stall when playing begins 2 s after
the first byte was asked for. Each segment has to be complete when it is due; a start-up with a
longer first shot than the throughput carries in 2 s goes to a lower rung.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Final, Literal

from pydantic import Field

from encoder.package.layout import WrittenPackage, WrittenSegment, WrittenTrack
from ladder.claims import AFFORDABLE, SIGMA, playing_shares
from ladder.document import Document, Ladder, Rational
from recommender.caching import Fetch, order_by_value

PREFETCH_SCHEMA: Final = "shotladder/prefetch/1"

START_SECONDS = (2, 4, 8, 16)
"""For how much of the beginning sizes are stated."""
STALL_FREE_SECONDS = 16.0
INITIAL_DELAY_SECONDS = 2.0
"""Between asking for the first byte and the first frame."""
MEDIAN_THROUGHPUT = 3e6
"""bit/s, of the population that the cache plan expects where nobody says otherwise."""
HALF_LIFE_SECONDS = 1200.0
"""After which half of those who began a title still watch, where nobody says otherwise."""


class File(Document):
    """A file of the package."""

    uri: str
    """Relative to the package's folder."""
    bytes: int
    sha256: str


class VideoFile(File):
    """One shot of one rung. Its times are those of the boundary with its number."""

    quality: float
    """Measured mean quality by ``quality_model``."""


class AudioFile(File):
    """A part of the sound; it ends at the audio frame nearest a shot's end."""

    start_seconds: float
    seconds: float


class Boundary(Document):
    """A shot, which is one segment in every rung."""

    start_frame: int
    end_frame: int
    start_seconds: float
    seconds: float


class AudioTrack(Document):
    """The sound, which goes with every rung."""

    codecs: str
    """RFC 6381."""
    bitrate: int
    """Bit/s of its segments."""
    init: File
    segments: list[AudioFile]


class PrefetchRung(Document):
    """One rung, as files."""

    name: str
    codecs: str
    """RFC 6381."""
    width: int
    height: int
    bitrate: int
    """Bit/s of the delivered video, without sound."""
    quality: float
    """Measured mean over the title by ``quality_model``."""
    init: File
    segments: list[VideoFile]


class StartupRung(Document):
    """With which rung to start from a throughput on, up to that of the next entry."""

    throughput: int
    """Bit/s; 0 for the lowest rung, which plays when nothing is affordable."""
    rung: str


class Start(Document):
    """What it takes to play the first seconds of a rung: whole segments, so a little more."""

    seconds: int
    """Asked for."""
    rung: str
    covers_seconds: float
    """Played by what is counted here; less than ``seconds`` only where the title ends."""
    segments: int
    """Of video."""
    audio_segments: int
    init_bytes: int
    """Init segments of video and sound."""
    video_bytes: int
    """Media segments, without init."""
    audio_bytes: int
    bytes: int
    """All of it."""


class CachePlanEntry(Document):
    """A file to keep, in the order in which keeping pays."""

    track: str
    """Name of the rung, or ``audio``."""
    segment: int | None
    """Number of the segment in its track; None for the track's init segment."""
    value: float
    """Expected quality x seconds that one play of the title takes from this file."""
    density: float
    """Quality x seconds per byte, by which the plan is sorted; what a file needs to be of use
    comes before it. Times the title's popularity it compares with other titles."""


class Population(Document):
    """Whom the cache plan expects."""

    median_throughput: float
    """Bit/s; throughputs are log-normal."""
    sigma: float
    affordable: float
    """Share of its throughput that a client spends at most."""
    half_life_seconds: float
    """After which half of those who began still watch."""


class Prefetch(Document):
    """``prefetch.json``."""

    schema_: Literal["shotladder/prefetch/1"] = Field(default=PREFETCH_SCHEMA, alias="schema")
    title: str
    """First 16 hexadecimal digits of the source's SHA-256."""
    frame_rate: Rational
    seconds: float
    quality_model: str
    boundaries: list[Boundary]
    audio: AudioTrack | None
    rungs: list[PrefetchRung]
    """From the lowest rate to the highest."""
    startup: list[StartupRung]
    """By ascending throughput; the first entry is for 0."""
    starts: list[Start]
    """Per rung for 2, 4, 8 and 16 seconds."""
    population: Population
    cache_plan: list[CachePlanEntry]
    """By falling density, for one play of the title by this population."""

    def to_json(self) -> str:
        """The document's text, ending in a newline."""
        return self.model_dump_json() + "\n"

    def startup_rung(self, throughput: float) -> str:
        """Name of the rung to start with at ``throughput`` bit/s."""
        at = bisect.bisect_right([entry.throughput for entry in self.startup], throughput)
        return self.startup[max(at - 1, 0)].rung

    def start_files(self, start: Start) -> list[File]:
        """The files that ``start`` counts, in the order in which to ask for them: what decodes the
        first shot comes first.
        """
        rung = next(rung for rung in self.rungs if rung.name == start.rung)
        files: list[File] = [rung.init, rung.segments[0]]
        if self.audio is not None:
            files += [self.audio.init, *self.audio.segments[: start.audio_segments]]
        return [*files, *rung.segments[1 : start.segments]]


def build_prefetch(ladder: Ladder, written: WrittenPackage) -> Prefetch:
    """The document of a package.

    Args:
        ladder: of the package.
        written: the same package as it lies on disk; its tracks are the ladder's rungs.

    Raises:
        ValueError: they are not of one package.
    """
    if [rung.name for rung in ladder.rungs] != [track.name for track in written.video]:
        raise ValueError(
            f"the ladder has rungs {[rung.name for rung in ladder.rungs]}, "
            f"the package {[track.name for track in written.video]}"
        )
    rate = Fraction(ladder.title.frame_rate)
    seconds = float(ladder.title.frames / rate)
    model = ladder.quality_model
    rungs = [
        PrefetchRung(
            name=rung.name,
            codecs=rung.codecs,
            width=rung.width,
            height=rung.height,
            bitrate=rung.bitrate,
            quality=round(rung.quality[model].mean, 4),
            init=File(uri=track.init_uri, bytes=track.init_size, sha256=track.init_sha256),
            segments=[
                VideoFile(
                    uri=segment.uri,
                    bytes=segment.bytes,
                    sha256=segment.sha256,
                    quality=segment.quality[model],
                )
                for segment in rung.segments
            ],
        )
        for rung, track in zip(ladder.rungs, written.video, strict=True)
    ]
    boundaries = [
        Boundary(
            start_frame=segment.start_frame,
            end_frame=segment.end_frame,
            start_seconds=_micros(segment.start_frame / rate),
            seconds=_micros((segment.end_frame - segment.start_frame) / rate),
        )
        for segment in ladder.rungs[0].segments
    ]
    audio = None if written.audio is None else _audio(written.audio)
    return Prefetch(
        title=ladder.title.id,
        frame_rate=ladder.title.frame_rate,
        seconds=round(seconds, 6),
        quality_model=model,
        boundaries=boundaries,
        audio=audio,
        rungs=rungs,
        startup=startup_table(boundaries, audio, rungs),
        starts=[
            measure_start(asked, boundaries, audio, rung)
            for rung in rungs
            for asked in START_SECONDS
        ],
        population=Population(
            median_throughput=MEDIAN_THROUGHPUT,
            sigma=SIGMA,
            affordable=AFFORDABLE,
            half_life_seconds=HALF_LIFE_SECONDS,
        ),
        cache_plan=plan_title(boundaries, audio, rungs),
    )


def measure_start(
    asked: float, boundaries: Sequence[Boundary], audio: AudioTrack | None, rung: PrefetchRung
) -> Start:
    """What the first ``asked`` seconds of a rung take: as many whole shots as cover them, and the
    sound that is heard until the last of them ends.
    """
    starts = [boundary.start_seconds for boundary in boundaries]
    segments = max(1, bisect.bisect_left(starts, asked - 1e-4))  # times are in microseconds
    last = boundaries[segments - 1]
    covers = last.start_seconds + last.seconds
    heard = _heard_until(audio, covers)
    init = rung.init.bytes + (audio.init.bytes if audio is not None else 0)
    video = sum(segment.bytes for segment in rung.segments[:segments])
    sound = sum(segment.bytes for segment in audio.segments[:heard]) if audio is not None else 0
    return Start(
        seconds=int(asked),
        rung=rung.name,
        covers_seconds=round(covers, 6),
        segments=segments,
        audio_segments=heard,
        init_bytes=init,
        video_bytes=video,
        audio_bytes=sound,
        bytes=init + video + sound,
    )


def startup_table(
    boundaries: Sequence[Boundary], audio: AudioTrack | None, rungs: Sequence[PrefetchRung]
) -> list[StartupRung]:
    """From which throughput on to start with which rung: the highest of those that it carries."""
    table: list[StartupRung] = []
    carried = math.inf
    for rung in reversed(rungs):  # a rung that needs more than a better one is never started with
        needed = _needed_throughput(boundaries, audio, rung)
        if needed < carried:
            carried = needed
            table.insert(0, StartupRung(throughput=math.ceil(needed), rung=rung.name))
    first = table[0]
    if first.rung != rungs[0].name:
        table.insert(0, StartupRung(throughput=0, rung=rungs[0].name))
    else:
        table[0] = StartupRung(throughput=0, rung=first.rung)
    return table


def plan_title(
    boundaries: Sequence[Boundary],
    audio: AudioTrack | None,
    rungs: Sequence[PrefetchRung],
    *,
    median_throughput: float = MEDIAN_THROUGHPUT,
    half_life_seconds: float = HALF_LIFE_SECONDS,
) -> list[CachePlanEntry]:
    """A title's files by expected quality per byte.

    A shot is asked for by those who still watch when it begins (their number halves every
    ``half_life_seconds``), in the rung that each can afford. What a play takes from a segment is
    its quality times its seconds. Sound and init segments have no quality of their own; without
    them nothing plays, so each is worth all that cannot be played without it, and stands before it.
    """
    sound = audio.bitrate if audio is not None else 0
    shares = playing_shares([rung.bitrate + sound for rung in rungs], median_throughput)
    watching = [0.5 ** (shot.start_seconds / half_life_seconds) for shot in boundaries]
    fetches: list[Fetch] = []
    keys: list[tuple[str, int | None]] = []

    def add(track: str, segment: int | None, size: int, value: float, needs: Sequence[int]) -> int:
        fetches.append(Fetch(size, value, tuple(needs)))
        keys.append((track, segment))
        return len(fetches) - 1

    # value[r][k]: what a play of the title takes from segment k of rung r
    value = [
        [
            share * segment.quality * shot.seconds * still
            for segment, shot, still in zip(rung.segments, boundaries, watching, strict=True)
        ]
        for rung, share in zip(rungs, shares, strict=True)
    ]
    heard: list[list[int]] = [[] for _ in boundaries]
    if audio is not None:
        init = add("audio", None, audio.init.bytes, sum(map(sum, value)), ())
        for number, part in enumerate(audio.segments):
            over = _overlapping(boundaries, part)
            worth = sum(row[shot] for row in value for shot in over)
            added = add("audio", number, part.bytes, worth, (init,))
            for shot in over:
                heard[shot].append(added)
    for rung, row in zip(rungs, value, strict=True):
        init = add(rung.name, None, rung.init.bytes, sum(row), ())
        for number, (segment, worth) in enumerate(zip(rung.segments, row, strict=True)):
            add(rung.name, number, segment.bytes, worth, (init, *heard[number]))
    return [
        CachePlanEntry(
            track=keys[at][0],
            segment=keys[at][1],
            value=float(f"{fetches[at].value:.6g}"),
            density=float(f"{density:.6g}"),
        )
        for at, density in order_by_value(fetches)
    ]


def _audio(track: WrittenTrack) -> AudioTrack:
    return AudioTrack(
        codecs=track.codecs,
        bitrate=round(track.average_bitrate),
        init=File(uri=track.init_uri, bytes=track.init_size, sha256=track.init_sha256),
        segments=[_audio_file(segment) for segment in track.segments],
    )


def _audio_file(segment: WrittenSegment) -> AudioFile:
    return AudioFile(
        uri=segment.uri,
        bytes=segment.size,
        sha256=segment.sha256,
        start_seconds=_micros(segment.start),
        seconds=_micros(segment.duration),
    )


def _heard_until(audio: AudioTrack | None, seconds: float) -> int:
    """How many parts of the sound belong to shots that end at ``seconds``: a part that ends an
    audio frame late still does, one of which only that frame is heard does not."""
    if audio is None:
        return 0
    middles = [part.start_seconds + part.seconds / 2 for part in audio.segments]
    return max(1, bisect.bisect_left(middles, seconds))


def _overlapping(boundaries: Sequence[Boundary], part: AudioFile) -> range:
    """Shots that are shown while a part of the sound is heard, but for its frame over the edge."""
    slack = min(0.05, part.seconds / 4)
    starts = [boundary.start_seconds for boundary in boundaries]
    first = bisect.bisect_right(starts, part.start_seconds + slack) - 1
    last = bisect.bisect_left(starts, part.start_seconds + part.seconds - slack)
    first = min(max(first, 0), len(boundaries) - 1)
    return range(first, max(last, first + 1))


def _needed_throughput(
    boundaries: Sequence[Boundary], audio: AudioTrack | None, rung: PrefetchRung
) -> float:
    """bit/s from which a client affords a rung and starts it without a stall."""
    sound = audio.bitrate if audio is not None else 0
    needed = (rung.bitrate + sound) / AFFORDABLE
    for number, shot in enumerate(boundaries):
        if shot.start_seconds >= STALL_FREE_SECONDS:
            break
        start = measure_start(shot.start_seconds + shot.seconds, boundaries, audio, rung)
        needed = max(needed, 8 * start.bytes / (INITIAL_DELAY_SECONDS + shot.start_seconds))
        assert start.segments >= number + 1
    return needed


def _micros(seconds: Fraction) -> float:
    return round(float(seconds), 6)
