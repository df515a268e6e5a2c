"""What ffmpeg's log tells about sound: formats that change, peaks, silence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

SILENCE_DB = -90.0
"""Peak below which sound counts as silence, dBFS."""
LFE_DB = -50.0
"""Peak above 1 kHz, dBFS, from which a channel cannot be an LFE."""
LINES = re.compile(
    r"(af#\d+:0|fc#0) .*Reconfiguring filter graph because audio"
    r"|ashowinfo@first .* n:0 |ashowinfo@jump .* n:\d"
    r"|astats@(mix|parts|lfe) .*(Channel|Peak level dB): |max_volume: "
    r"|Error submitting packet to decoder: |Decoding error: "
)
"""Lines of the log that this module reads."""

_MAX_VOLUME = re.compile(r"max_volume: (\S+) dB")
_MIX_PEAK = re.compile(r"astats@mix .*Peak level dB: (\S+)")
_LFE_PEAK = re.compile(r"astats@lfe .*Peak level dB: (\S+)")
_PART = re.compile(r"astats@parts .*Channel: (\d+)")
_PART_PEAK = re.compile(r"astats@parts .*Peak level dB: (\S+)")
_FIRST = re.compile(
    r"ashowinfo@first .* n:0 pts:(-?\d+) .*channels:(\d+) chlayout:(.+?) rate:(\d+) "
)
_UNHEARD_SECONDS = Fraction(1, 10)
"""A first stretch that is shorter is a decoder that has not yet found its bearings."""


@dataclass(frozen=True, slots=True)
class SoundFormat:
    """The format of sound from a time on."""

    seconds: Fraction
    """Begin on the title's clock."""
    channels: int
    layout: str
    """ffmpeg's name of the layout."""
    sample_rate: int
    """Sample rate in Hz."""


@dataclass(frozen=True, slots=True)
class Undecoded:
    """Sound that does not decode, and is silent in the encode."""

    packets: int
    seconds: float
    """Duration of these packets."""
    first_seconds: float
    """Time of the first of them on the title's clock."""


def changes_format(lines: Sequence[str]) -> bool:
    """Return True where ffmpeg made its graph anew, because the format of the sound changed."""
    return any("Reconfiguring filter graph" in line for line in lines)


def jumps(lines: Sequence[str]) -> bool:
    """Return True where a timestamp of the sound is not near its predecessor's."""
    return any("ashowinfo@jump" in line for line in lines)


def formats(lines: Sequence[str], duration: Fraction) -> tuple[SoundFormat, ...]:
    """Return the formats that are heard within a title, one for each change.

    Changes that nobody hears are left out, such as those of the sample format.

    Args:
        lines: Log of :func:`encoder.package.audio_commands.steady_command`.
        duration: Duration of the title, seconds.
    """
    found: list[SoundFormat] = []
    for match in filter(None, map(_FIRST.search, lines)):
        rate = int(match[4])
        seconds = max(Fraction(int(match[1]), rate), Fraction(0))
        if seconds >= duration:
            continue
        if found and seconds - found[-1].seconds < _UNHEARD_SECONDS:
            found.pop()
        if found and (found[-1].layout, found[-1].sample_rate) == (match[3], rate):
            continue
        found.append(SoundFormat(seconds, int(match[2]), match[3], rate))
    return tuple(found)


def layouts(lines: Sequence[str]) -> dict[str, int]:
    """Return the number of channels of each layout that a stream has anywhere, by its name."""
    return {match[3]: int(match[2]) for match in filter(None, map(_FIRST.search, lines))}


def does_not_decode(lines: Sequence[str]) -> bool:
    """Return True where a part of the sound does not decode."""
    return any("packet to decoder" in line or "Decoding error" in line for line in lines)


def peak_db(lines: Sequence[str]) -> float:
    """Return the peak of the mix in dBFS, which may be above 0; minus infinity without one."""
    peaks = [float(match[1]) for line in lines if (match := _MIX_PEAK.search(line))]
    return max(peaks, default=float("-inf"))


def silent_channels(lines: Sequence[str]) -> tuple[int, ...]:
    """Return the channels of joined parts, counted from 0, in which nothing is audible."""
    silent: set[int] = set()
    told = [line for line in lines if "astats@parts" in line]
    for before, line in pairwise(told):
        channel, peak = _PART.search(before), _PART_PEAK.search(line)
        if channel and peak:
            change = silent.add if float(peak[1]) < SILENCE_DB else silent.discard
            change(int(channel[1]) - 1)
    return tuple(sorted(silent))


def lfe_is_wide(lines: Sequence[str]) -> bool:
    """Return True where the LFE among joined parts has sound that no LFE has."""
    peaks = [float(match[1]) for line in lines if (match := _LFE_PEAK.search(line))]
    return max(peaks, default=float("-inf")) > LFE_DB


def audible(lines: Sequence[str]) -> bool:
    """Return True where the sound as it was encoded is not silent."""
    volumes = [float(match[1]) for line in lines if (match := _MAX_VOLUME.search(line))]
    return max(volumes, default=float("-inf")) >= SILENCE_DB
