"""Describe what is heard in a source: what only decoding its sound shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction

from cluster.jobs.findings import Finding
from encoder.package.audio import SURROUND_CHANNELS, SoundFacts
from encoder.source.probe import AudioStream, SourceInfo

_LISTED = 5


def describe_heard(
    info: SourceInfo, heard: Iterable[tuple[AudioStream, SoundFacts]], *, encoded: bool
) -> Iterator[Finding]:
    """Describe formats that change, and mixes that would clip.

    What was not ``encoded`` may be lowered by some decibels more than the mix needs.
    """
    numbers = track_numbers(info)
    least = "" if encoded else "at least "
    for stream, facts in heard:
        if facts.formats:
            yield _changes(numbers[stream.index], facts)
        if facts.lowered_db:
            yield Finding(
                "sound",
                f"the stereo mix of track {numbers[stream.index]} exceeds full scale",
                f"is lowered by {least}{facts.lowered_db:.1f} dB as a whole, so as not to clip",
                "warn",
            )


def track_numbers(info: SourceInfo) -> dict[int, int]:
    """Return the number of each audio track, counted from 1 in the file, by its stream's index."""
    return {index: n for n, index in enumerate(sorted(s.index for s in info.audio), 1)}


def _changes(number: int, facts: SoundFacts) -> Finding:
    parts = [f"{one.layout} at {one.sample_rate} Hz" for one in facts.formats]
    times = [_time(one.seconds) for one in facts.formats]
    told = [f"{part} from {time}" for part, time in zip(parts, times, strict=True)]
    more = len(told) - _LISTED
    listed = ", ".join(told[:_LISTED]) + (f" and {more} more times" if more > 0 else "")
    then = "each part is mixed to stereo, at its own time"
    if facts.widest >= SURROUND_CHANNELS:
        then += "; in the 5.1 track, what is stereo sounds in front left and right"
    return Finding("sound", f"track {number} changes its format: {listed}", then, "warn")


def _time(seconds: Fraction) -> str:
    return f"{float(seconds):.3f} s"
