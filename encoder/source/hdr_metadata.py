"""What a title of high dynamic range says of itself for displays, and how encodes carry it on.

Mastering display (SMPTE ST 2086) and content light level (CTA-861.3). Encoders are told by
parameters of their own and write it into the stream; the sample entry gets the boxes ``mdcv`` and
``clli``.
ffmpeg could pass it on as side data of frames, but a filter graph hands that to one of several
outputs only, and decoders give it with the frames after a keyframe that repeats it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction

from encoder import mp4

_CHROMATICITY, _LUMINANCE = 50_000, 10_000
"""Units in one: of x and y, of cd/m2."""


@dataclass(frozen=True, slots=True)
class MasteringDisplay:
    """Chromaticities (x, y) in units of 0.00002, luminances in units of 0.0001 cd/m2."""

    red: tuple[int, int]
    green: tuple[int, int]
    blue: tuple[int, int]
    white: tuple[int, int]
    most: int
    least: int

    def __post_init__(self) -> None:
        places = (*self.red, *self.green, *self.blue, *self.white)
        if min(places) < 0 or max(places) > 0xFFFF or not 0 <= self.least < self.most < 1 << 32:
            raise ValueError(f"no display has such colours: {self}")

    @classmethod
    def of(cls, data: bytes) -> MasteringDisplay | None:
        """From libavutil's ``AVMasteringDisplayMetadata``; None where that is not complete.

        Red, green, blue and white as x and y, then the least and the most luminance, all rationals
        of two 32-bit integers; two flags that say whether chromaticities and luminances are set.
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
    """What is known of a title; either may be missing."""

    display: MasteringDisplay | None = None
    light: tuple[int, int] | None = None
    """MaxCLL and MaxFALL, cd/m2."""

    def __bool__(self) -> bool:
        return self.display is not None or self.light is not None

    def parameters(self, codec: str) -> str:
        """What is added to the encoder's own parameters; "" where nothing is known.

        Raises:
            ValueError: the codec has no way to carry it here.
        """
        names = {
            "x265": ("master-display", "max-cll"),
            "svtav1": ("mastering-display", "content-light"),
        }
        if not self:
            return ""
        if codec not in names:
            raise ValueError(f"{codec} carries no metadata of high dynamic range here")
        display, light = names[codec]
        parts = []
        if self.display is not None:
            parts.append(f"{display}={_written(self.display, fractions=codec == 'svtav1')}")
        if self.light is not None:
            parts.append(f"{light}={self.light[0]},{self.light[1]}")
        return ":".join(parts)

    def boxes(self) -> bytes:
        """``mdcv`` and ``clli`` (ISO/IEC 14496-12), for a visual sample entry."""
        parts = b""
        if (display := self.display) is not None:
            # As in SEI messages: green, blue, red.
            places = (*display.green, *display.blue, *display.red, *display.white)
            parts += mp4.box("mdcv", struct.pack(">8H2I", *places, display.most, display.least))
        if self.light is not None:
            most = (min(value, 0xFFFF) for value in self.light)
            parts += mp4.box("clli", struct.pack(">2H", *most))
        return parts


NO_METADATA = StaticMetadata()


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
