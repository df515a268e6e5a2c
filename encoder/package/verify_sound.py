"""What was asked of a package's sound, and whether its files have it. Pure."""

from __future__ import annotations

from dataclasses import dataclass

_RATE_SHARE, _RATE_MORE = 1.25, 16_000.0
"""Share of a bitrate, and bit/s on top, that a track may take: encoders vary, and the boxes of
short segments count."""
_SAME_LU = 0.15
"""Difference up to which two measurements of one track agree; both are rounded to a tenth."""


@dataclass(frozen=True, slots=True)
class ExpectedSound:
    """A track of sound as it was asked for and recorded."""

    name: str
    codecs: str
    """Codecs string as in RFC 6381."""
    channels: int
    bit_rate: int
    """Bitrate that was asked for, bit/s."""
    language: str
    """Language tag, empty without one."""
    integrated_lufs: float | None = None
    """Loudness that was recorded; None where none was asked for or measured."""


@dataclass(frozen=True, slots=True)
class FoundSound:
    """A track of sound as its files have it."""

    name: str
    codecs: str
    channels: int
    bit_rate: float
    """Average bitrate of its media, bit/s."""
    language: str
    integrated_lufs: float | None = None


def difference(expected: ExpectedSound, found: FoundSound) -> str | None:
    """Return in what a track differs from what was asked for, in words; None where it does not."""
    for what in ("name", "codecs", "channels", "language"):
        asked, there = getattr(expected, what), getattr(found, what)
        if asked != there:
            return f"the {what} {there!r}, ladder.json says {asked!r}"
    most = expected.bit_rate * _RATE_SHARE + _RATE_MORE
    if found.bit_rate > most:
        return f"{found.bit_rate / 1000:.0f} kbit/s for {expected.bit_rate / 1000:.0f} asked for"
    if expected.integrated_lufs is not None:
        heard = found.integrated_lufs
        if heard is None or abs(heard - expected.integrated_lufs) > _SAME_LU:
            there = "no loudness" if heard is None else f"a loudness of {heard:.1f} LUFS"
            return f"{there}, ladder.json says {expected.integrated_lufs:.1f} LUFS"
    return None
