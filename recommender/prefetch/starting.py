"""Starts anywhere in a title, on devices that do not play every rung.

Where a viewer continues, the first seconds are others, and so is the highest rung that plays them
without a stall. Both follow from the rest of the title, looked at as a title of its own.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass

from recommender.prefetch.build import measure_start, startup_table
from recommender.prefetch.document import START_SECONDS, AudioTrack, File, Prefetch


@dataclass(frozen=True, slots=True)
class Device:
    """What a device plays, and its viewer hears."""

    max_height: int | None = None
    """Lines of the smaller side of the largest picture; None for any."""
    codecs: tuple[str, ...] = ()
    """Beginnings of codec strings by RFC 6381, such as ``avc1``; empty for any."""
    language: str | None = None
    """Language of the sound that the viewer hears (BCP 47); None for the title's default."""


@dataclass(frozen=True, slots=True)
class StartFrom:
    """What it takes to play from somewhere in a title."""

    rung: str
    seconds: int
    """Seconds that the files have to cover."""
    from_seconds: float
    """Where in the title the first file begins."""
    covers_seconds: float
    """Seconds that the files play from the place that was asked for."""
    files: tuple[File, ...]
    """Files in the order in which to request them."""

    @property
    def bytes(self) -> int:
        """Size of all files."""
        return sum(file.bytes for file in self.files)


def start_from(
    prefetch: Prefetch,
    seconds: float,
    throughput: float,
    *,
    position: float = 0.0,
    device: Device | None = None,
) -> StartFrom | None:
    """Return what to pull so that playback can start at a place; None if the device plays no rung.

    Args:
        prefetch: of the title.
        seconds: to cover; taken as 2, 4, 8 or 16, whichever is next.
        throughput: of the client in bit/s.
        position: seconds into the title; a place after its end counts as its last shot.
        device: what it plays; everything unless given.
    """
    rest = _rest(prefetch, position, device or Device())
    if rest is None:
        return None
    part, first, offset = rest
    steps = START_SECONDS
    covered = next((step for step in steps if step >= seconds), steps[-1])
    name = part.startup_rung(throughput)
    rung = next(each for each in part.rungs if each.name == name)
    skipped = max(position - offset, 0.0)
    start = measure_start(covered + skipped, part.boundaries, part.audio, rung)
    return StartFrom(
        rung=name,
        seconds=covered,
        from_seconds=prefetch.boundaries[first].start_seconds,
        covers_seconds=round(max(start.covers_seconds - skipped, 0.0), 6),
        files=tuple(part.start_files(start)),
    )


def _rest(
    prefetch: Prefetch, position: float, device: Device
) -> tuple[Prefetch, int, float] | None:
    """Return a title from the shot at a place on, as far as a device plays it, the number of that
    shot, and the seconds before it."""
    starts = [shot.start_seconds for shot in prefetch.boundaries]
    first = max(bisect.bisect_right(starts, position + 1e-6) - 1, 0)
    offset = starts[first]
    rungs = [
        rung.model_copy(update={"segments": rung.segments[first:]})
        for rung in prefetch.rungs
        if (device.max_height is None or min(rung.width, rung.height) <= device.max_height)
        and (not device.codecs or rung.codecs.startswith(device.codecs))
    ]
    if not rungs:
        return None
    boundaries = [
        shot.model_copy(update={"start_seconds": round(shot.start_seconds - offset, 6)})
        for shot in prefetch.boundaries[first:]
    ]
    audio = _audio_from(prefetch.sound_in(device.language), offset)
    part = prefetch.model_copy(
        update={
            "boundaries": boundaries,
            "audio": audio,
            "rungs": rungs,
            "startup": startup_table(boundaries, audio, rungs),
        }
    )
    return part, first, offset


def _audio_from(audio: AudioTrack | None, offset: float) -> AudioTrack | None:
    """Return the sound from a shot on. A segment that ends one frame late belongs to the shot
    before."""
    if audio is None:
        return None
    middles = [part.start_seconds + part.seconds / 2 for part in audio.segments]
    first = min(bisect.bisect_left(middles, offset), len(audio.segments) - 1)
    segments = [
        part.model_copy(update={"start_seconds": round(part.start_seconds - offset, 6)})
        for part in audio.segments[first:]
    ]
    return audio.model_copy(update={"segments": segments})
