"""The scrub track: small pictures at even steps, in sheets, for the bar of a player.

They are the frames of the analysis pass, which exist anyway: no frame is decoded or scored for
it. How many there are is planned before the first frame comes, so memory does not grow with the
title: one sheet of raw pixels, and the sheets that are full as JPEG.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, Self

import cv2
import numpy as np

from encoder.analysis.frames import Plane, SmallFrame
from encoder.source.reference import ReferenceSource
from recommender.artwork.colour import bgr_of_small

SCRUB_VERSION: Final = 1
"""Part of the store's keys: raise it when any picture or time changes."""

MOST_PICTURES: Final = 600
LEAST_SECONDS: Final = Fraction(1)
TILE_SIDE: Final = 160
COLUMNS: Final = 10
ROWS: Final = 10
_JPEG_QUALITY = 80


@dataclass(frozen=True, slots=True)
class ScrubTrack:
    """Sheets of small pictures and where each is."""

    step: int
    """Frames from one picture to the next."""
    count: int
    """Pictures; picture n stands for frames ``[n * step, (n + 1) * step)``."""
    width: int
    """Of one picture, pixels."""
    height: int
    sheets: tuple[bytes, ...]
    """JPEG, each of :data:`COLUMNS` times :data:`ROWS` pictures; the last one as high as it must
    be."""

    def facts(self) -> dict[str, int]:
        """All but the sheets, as JSON."""
        return {
            "step": self.step,
            "count": self.count,
            "width": self.width,
            "height": self.height,
        }

    @classmethod
    def of(cls, facts: Mapping[str, Any], sheets: tuple[bytes, ...]) -> Self:
        """From what :meth:`facts` gave."""
        return cls(sheets=sheets, **facts)

    def webvtt(self, frame_rate: Fraction, frames: int, names: tuple[str, ...]) -> str:
        """The track as WebVTT whose cues name a part of a sheet, as players' thumbnails have it.

        Args:
            frame_rate: frames per second of the title.
            frames: its length.
            names: of the sheets, relative to the track.
        """
        parts = ["WEBVTT"]
        for number in range(self.count):
            sheet, place = divmod(number, COLUMNS * ROWS)
            row, column = divmod(place, COLUMNS)
            start = Fraction(number * self.step) / frame_rate
            end = Fraction(min(frames, (number + 1) * self.step)) / frame_rate
            area = f"{column * self.width},{row * self.height},{self.width},{self.height}"
            parts.append(f"{_clock(start)} --> {_clock(end)}\n{names[sheet]}#xywh={area}")
        return "\n\n".join(parts) + "\n"


class ScrubSampler:
    """Analyser: eats small frames, gives a :class:`ScrubTrack`."""

    def __init__(
        self, frame_rate: Fraction, frames: int, width: int, height: int, matrix: str | None
    ) -> None:
        """Of a title of ``frames`` frames, shown at ``width`` by ``height``."""
        seconds = max(LEAST_SECONDS, Fraction(frames, MOST_PICTURES) / frame_rate)
        self._step = max(1, -(-(seconds * frame_rate) // 1))
        self._frames = frames
        self._matrix, self._display_height = matrix, height
        scale = Fraction(TILE_SIDE, max(width, height))
        self._width, self._height = (max(2, round(side * scale)) for side in (width, height))
        self._sheet: Plane | None = None
        self._count = 0
        self._sheets: list[bytes] = []

    @classmethod
    def of(cls, source: ReferenceSource) -> Self:
        """For the frames of a planned source."""
        return cls(source.frame_rate, source.frames, source.width, source.height, source.sdr_matrix)

    def push(self, frame: SmallFrame) -> None:
        """Take the next frame."""
        start = self._count * self._step
        middle = min(start + self._step // 2, self._frames - 1)
        if start >= self._frames or frame.number != middle:
            return
        picture = bgr_of_small(frame.yuv, self._matrix, self._display_height)
        tile = cv2.resize(picture, (self._width, self._height), interpolation=cv2.INTER_AREA)
        row, column = divmod(self._count % (COLUMNS * ROWS), COLUMNS)
        if self._sheet is None:
            self._sheet = np.zeros((ROWS * self._height, COLUMNS * self._width, 3), np.uint8)
        self._sheet[
            row * self._height : (row + 1) * self._height,
            column * self._width : (column + 1) * self._width,
        ] = tile
        self._count += 1
        if self._count % (COLUMNS * ROWS) == 0:
            self._close(ROWS)

    def track(self) -> ScrubTrack:
        """The track, when all frames have been pushed."""
        left = self._count % (COLUMNS * ROWS)
        if left:
            self._close(-(-left // COLUMNS))
        return ScrubTrack(self._step, self._count, self._width, self._height, tuple(self._sheets))

    def _close(self, rows: int) -> None:
        if self._sheet is None:
            return
        options = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
        made, coded = cv2.imencode(".jpg", self._sheet[: rows * self._height], options)
        assert made
        self._sheets.append(coded.tobytes())
        self._sheet = None


def _clock(seconds: Fraction) -> str:
    thousandths = round(seconds * 1000)
    minutes, rest = divmod(thousandths, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"
