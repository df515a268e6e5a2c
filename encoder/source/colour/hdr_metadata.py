"""Static HDR metadata of a title, and how encodes carry it on.

The metadata is the mastering display (SMPTE ST 2086) and the content light level (CTA-861.3).
Encoders take it as parameters of their own and write it into the stream; the sample entry gets the
boxes ``mdcv`` and ``clli``. ffmpeg could pass it on as side data of frames, but a filter graph with
several outputs gives side data to only one of them, and decoders attach it only to the frames after
a keyframe that repeats it.

Store keys contain the ``repr`` of these classes: renaming a class or a field changes the key of
every HDR encode.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction

from encoder import mp4

_CHROMATICITY, _LUMINANCE = 50_000, 10_000  # units in 1 (x and y), units in 1 cd/m2


@dataclass(frozen=True, slots=True)
class MasteringDisplay:
    """The display that a title was mastered on.

    Chromaticities (x, y) are in units of 0.00002, luminances in units of 0.0001 cd/m2.
    """

    red: tuple[int, int]
    """Chromaticity of the red primary."""
    green: tuple[int, int]
    """Chromaticity of the green primary."""
    blue: tuple[int, int]
    """Chromaticity of the blue primary."""
    white: tuple[int, int]
    """Chromaticity of the white point."""
    most: int
    """Largest luminance of the display."""
    least: int
    """Smallest luminance of the display."""

    def __post_init__(self) -> None:
        places = (*self.red, *self.green, *self.blue, *self.white)
        if min(places) < 0 or max(places) > 0xFFFF or not 0 <= self.least < self.most < 1 << 32:
            raise ValueError(f"no display has such colours or luminances: {self}")

    @classmethod
    def of(cls, data: bytes) -> MasteringDisplay | None:
        """Parse libavutil's ``AVMasteringDisplayMetadata``; None where it is not complete.

        It holds red, green, blue and white as x and y, then the smallest and the largest luminance,
        all as rationals of two 32-bit integers; then two flags, whether chromaticities and
        luminances are set.
        """
        numbers = struct.unpack("=22i", data[:88])
        if not (numbers[20] and numbers[21]) or 0 in numbers[1:20:2]:
            return None
        values = [Fraction(*numbers[at : at + 2]) for at in range(0, 20, 2)]
        x = [round(value * _CHROMATICITY) for value in values[:8]]
        least, most = (round(value * _LUMINANCE) for value in values[8:])
        try:
            return cls((x[0], x[1]), (x[2], x[3]), (x[4], x[5]), (x[6], x[7]), most, least)
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class StaticMetadata:
    """HDR metadata that a title states."""

    display: MasteringDisplay | None = None
    """Mastering display, None when unstated."""
    light: tuple[int, int] | None = None
    """MaxCLL and MaxFALL in cd/m2, None when unstated."""

    def __bool__(self) -> bool:
        return self.display is not None or self.light is not None

    def parameters(self, codec: str) -> str:
        """Return what to add to the encoder's parameters; empty where nothing is stated.

        Raises:
            ValueError: there is metadata, and encodes of the codec cannot carry it.
        """
        names = {
            "x265": ("master-display", "max-cll"),
            "svtav1": ("mastering-display", "content-light"),
        }
        if not self:
            return ""
        if codec not in names:
            raise ValueError(f"{codec} carries no HDR metadata; encode with {' or '.join(names)}")
        display, light = names[codec]
        parts = []
        if self.display is not None:
            parts.append(f"{display}={_written(self.display, fractions=codec == 'svtav1')}")
        if self.light is not None:
            parts.append(f"{light}={self.light[0]},{self.light[1]}")
        return ":".join(parts)

    def boxes(self) -> bytes:
        """Return ``mdcv`` and ``clli`` (ISO/IEC 14496-12) for a visual sample entry."""
        parts = b""
        if (display := self.display) is not None:
            # The order is that of SEI messages: green, blue, red.
            places = (*display.green, *display.blue, *display.red, *display.white)
            parts += mp4.box("mdcv", struct.pack(">8H2I", *places, display.most, display.least))
        if self.light is not None:
            most = (min(value, 0xFFFF) for value in self.light)
            parts += mp4.box("clli", struct.pack(">2H", *most))
        return parts


NO_METADATA = StaticMetadata()
"""Metadata of a title that states none."""


def _written(display: MasteringDisplay, *, fractions: bool) -> str:
    def number(value: int, unit: int) -> str:
        return f"{value / unit:.5f}" if fractions else str(value)

    def point(name: str, place: tuple[int, int]) -> str:
        return f"{name}({','.join(number(value, _CHROMATICITY) for value in place)})"

    limits = ",".join(number(value, _LUMINANCE) for value in (display.most, display.least))
    return (
        point("G", display.green)
        + point("B", display.blue)
        + point("R", display.red)
        + point("WP", display.white)
        + f"L({limits})"
    )
