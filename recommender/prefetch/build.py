"""Builds ``prefetch.json`` from a package as it was written.

Start-up rung: the highest rung that a client can afford (its average bitrate with audio is at most
0.8 of the throughput) and that plays its first 16 s without a stall when playback begins 2 s after
the first request. Each segment has to be complete when it is due. If the first shot has more bits
than the throughput delivers in 2 s, a lower rung is started.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Final

from encoder.package.layout import WrittenPackage, WrittenSegment, WrittenTrack
from ladder.document import Ladder, Rung
from ladder.viewers import AFFORDABLE, SIGMA, playing_shares
from recommender.caching import CacheFile, order_by_value
from recommender.prefetch.document import (
    AUDIO_TRACK,
    START_SECONDS,
    AudioFile,
    AudioTrack,
    Boundary,
    CachePlanEntry,
    File,
    Population,
    Prefetch,
    PrefetchRung,
    Start,
    StartupRung,
    VideoFile,
)

STALL_FREE_SECONDS: Final = 16.0
INITIAL_DELAY_SECONDS: Final = 2.0
"""Time between the request for the first byte and the first frame."""
MEDIAN_THROUGHPUT: Final = 3e6
"""Median throughput in bit/s that the cache plan assumes by default."""
HALF_LIFE_SECONDS: Final = 1200.0
"""Time after which half of the viewers are still watching, which the cache plan assumes by
default."""


def build_prefetch(ladder: Ladder, written: WrittenPackage) -> Prefetch:
    """Build the document of a package from its ``ladder.json`` and its files on disk.

    Raises:
        ValueError: the ladder and the package have different rungs.
    """
    if [rung.name for rung in ladder.rungs] != [track.name for track in written.video]:
        raise ValueError(
            f"the ladder has rungs {[rung.name for rung in ladder.rungs]}, "
            f"the package {[track.name for track in written.video]}"
        )
    rate = Fraction(ladder.title.frame_rate)
    model = ladder.quality_model
    rungs = [
        _rung(rung, track, model) for rung, track in zip(ladder.rungs, written.video, strict=True)
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
    sounds = [_audio(track, several=len(written.sounds) > 1) for track in written.sounds]
    audio = sounds[0] if sounds else None
    return Prefetch(
        title=ladder.title.id,
        frame_rate=ladder.title.frame_rate,
        seconds=_micros(ladder.title.frames / rate),
        quality_model=model,
        boundaries=boundaries,
        audio=audio,
        more_audio=sounds[1:],
        rungs=rungs,
        startup=startup_table(boundaries, audio, rungs),
        starts=[
            measure_start(seconds, boundaries, audio, rung)
            for rung in rungs
            for seconds in START_SECONDS
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
    seconds: float, boundaries: Sequence[Boundary], audio: AudioTrack | None, rung: PrefetchRung
) -> Start:
    """Count what the first ``seconds`` of a rung take.

    These are the whole shots that cover them, and the audio until the last of these shots ends.
    """
    starts = [boundary.start_seconds for boundary in boundaries]
    segments = max(1, bisect.bisect_left(starts, seconds - 1e-4))  # times are in microseconds
    last = boundaries[segments - 1]
    end = last.start_seconds + last.seconds
    parts = audio.segments[: _audio_segments_until(audio, end)] if audio is not None else []
    init_bytes = rung.init.bytes + (audio.init.bytes if audio is not None else 0)
    video_bytes = sum(segment.bytes for segment in rung.segments[:segments])
    audio_bytes = sum(part.bytes for part in parts)
    return Start(
        seconds=int(seconds),
        rung=rung.name,
        covers_seconds=round(end, 6),
        segments=segments,
        audio_segments=len(parts),
        init_bytes=init_bytes,
        video_bytes=video_bytes,
        audio_bytes=audio_bytes,
        bytes=init_bytes + video_bytes + audio_bytes,
    )


def startup_table(
    boundaries: Sequence[Boundary], audio: AudioTrack | None, rungs: Sequence[PrefetchRung]
) -> list[StartupRung]:
    """List the rung to start with by throughput: the highest that the throughput can play."""
    table: list[StartupRung] = []
    needed_above = math.inf
    for rung in reversed(rungs):  # a rung that needs more than a better rung is never started with
        needed = _needed_throughput(boundaries, audio, rung)
        if needed < needed_above:
            needed_above = needed
            table.insert(0, StartupRung(throughput=math.ceil(needed), rung=rung.name))
    lowest = StartupRung(throughput=0, rung=rungs[0].name)
    if table[0].rung == lowest.rung:
        return [lowest, *table[1:]]
    return [lowest, *table]


def plan_title(
    boundaries: Sequence[Boundary],
    audio: AudioTrack | None,
    rungs: Sequence[PrefetchRung],
    *,
    median_throughput: float = MEDIAN_THROUGHPUT,
    half_life_seconds: float = HALF_LIFE_SECONDS,
) -> list[CachePlanEntry]:
    """Rank a title's files by expected quality per byte.

    A shot is requested by the viewers who are still watching when it begins (their number halves
    every ``half_life_seconds``), in the rung that each of them can afford. A play takes from a
    segment its quality times its seconds. Audio and init segments have no quality of their own,
    but nothing plays without them: each is worth all that cannot be played without it, and
    precedes it.
    """
    audio_bitrate = audio.bitrate if audio is not None else 0
    shares = playing_shares([rung.bitrate + audio_bitrate for rung in rungs], median_throughput)
    watching = [0.5 ** (shot.start_seconds / half_life_seconds) for shot in boundaries]
    files: list[CacheFile] = []
    keys: list[tuple[str, int | None]] = []

    def add(track: str, segment: int | None, size: int, value: float, needs: Sequence[int]) -> int:
        files.append(CacheFile(size, value, tuple(needs)))
        keys.append((track, segment))
        return len(files) - 1

    # values[r][k]: quality x seconds that a play of the title takes from segment k of rung r
    values = [
        [
            share * segment.quality * shot.seconds * viewers
            for segment, shot, viewers in zip(rung.segments, boundaries, watching, strict=True)
        ]
        for rung, share in zip(rungs, shares, strict=True)
    ]
    audio_of_shot: list[list[int]] = [[] for _ in boundaries]
    if audio is not None:
        init = add(AUDIO_TRACK, None, audio.init.bytes, sum(map(sum, values)), ())
        for number, part in enumerate(audio.segments):
            shots = _overlapping(boundaries, part)
            value = sum(row[shot] for row in values for shot in shots)
            at = add(AUDIO_TRACK, number, part.bytes, value, (init,))
            for shot in shots:
                audio_of_shot[shot].append(at)
    for rung, row in zip(rungs, values, strict=True):
        init = add(rung.name, None, rung.init.bytes, sum(row), ())
        for number, (segment, value) in enumerate(zip(rung.segments, row, strict=True)):
            add(rung.name, number, segment.bytes, value, (init, *audio_of_shot[number]))
    return [
        CachePlanEntry(
            track=keys[at][0],
            segment=keys[at][1],
            value=float(f"{files[at].value:.6g}"),
            density=float(f"{density:.6g}"),
        )
        for at, density in order_by_value(files)
    ]


def _rung(rung: Rung, track: WrittenTrack, model: str) -> PrefetchRung:
    return PrefetchRung(
        name=rung.name,
        codecs=rung.codecs,
        width=rung.width,
        height=rung.height,
        bitrate=rung.bitrate,
        quality=round(rung.quality[model].mean, 4),
        init=_init(track),
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


def _audio(track: WrittenTrack, *, several: bool) -> AudioTrack:
    return AudioTrack(
        codecs=track.codecs,
        language=track.language if several else None,
        roles=list(track.roles) if several else [],
        bitrate=round(track.average_bitrate),
        init=_init(track),
        segments=[_audio_file(segment) for segment in track.segments],
    )


def _init(track: WrittenTrack) -> File:
    return File(uri=track.init_uri, bytes=track.init_size, sha256=track.init_sha256)


def _audio_file(segment: WrittenSegment) -> AudioFile:
    return AudioFile(
        uri=segment.uri,
        bytes=segment.size,
        sha256=segment.sha256,
        start_seconds=_micros(segment.start),
        seconds=_micros(segment.duration),
    )


def _audio_segments_until(audio: AudioTrack, seconds: float) -> int:
    """Return how many audio segments belong to the shots that end at ``seconds``.

    A segment that ends one audio frame late belongs to them. One that only begins there, with one
    audio frame before ``seconds``, does not.
    """
    middles = [part.start_seconds + part.seconds / 2 for part in audio.segments]
    return max(1, bisect.bisect_left(middles, seconds))


def _overlapping(boundaries: Sequence[Boundary], part: AudioFile) -> range:
    """Return the shots that an audio segment plays with, except at its outermost audio frames."""
    slack = min(0.05, part.seconds / 4)
    starts = [boundary.start_seconds for boundary in boundaries]
    first = bisect.bisect_right(starts, part.start_seconds + slack) - 1
    last = bisect.bisect_left(starts, part.start_seconds + part.seconds - slack)
    first = min(max(first, 0), len(boundaries) - 1)
    return range(first, max(last, first + 1))


def _needed_throughput(
    boundaries: Sequence[Boundary], audio: AudioTrack | None, rung: PrefetchRung
) -> float:
    """Return the throughput in bit/s from which a client can start a rung without a stall."""
    audio_bitrate = audio.bitrate if audio is not None else 0
    needed = (rung.bitrate + audio_bitrate) / AFFORDABLE
    for number, shot in enumerate(boundaries):
        if shot.start_seconds >= STALL_FREE_SECONDS:
            break
        start = measure_start(shot.start_seconds + shot.seconds, boundaries, audio, rung)
        assert start.segments >= number + 1
        needed = max(needed, 8 * start.bytes / (INITIAL_DELAY_SECONDS + shot.start_seconds))
    return needed


def _micros(seconds: Fraction) -> float:
    return round(float(seconds), 6)
