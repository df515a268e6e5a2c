"""The scrub track: thumbnails at even steps, in sheets, for the seek bar of a player.

Thumbnails are made from the frames of the analysis pass; no frame is decoded or scored for them.
Their number is fixed before the first frame, so memory does not grow with the title: one sheet of
raw pixels, and the finished sheets as JPEG.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, Self

import cv2
import numpy as np

from encoder.analysis.frames import SmallFrame
from encoder.arrays import UInt8
from encoder.package.subtitles import webvtt_time
from encoder.pictures import jpeg
from encoder.source.reference import ReferenceSource
from recommender.artwork.colour import bgr_of_small

SCRUB_VERSION: Final = 1
"""Part of the store keys. Raise it when any thumbnail or time changes."""

MAX_THUMBNAILS: Final = 600
MIN_STEP_SECONDS: Final = Fraction(1)
TILE_SIDE: Final = 160
COLUMNS: Final = 10
ROWS: Final = 10
_JPEG_QUALITY = 80


@dataclass(frozen=True, slots=True)
class ScrubTrack:
    """Sheets of thumbnails and how they are arranged."""

    step: int
    """Frames from one thumbnail to the next."""
    count: int
    """Number of thumbnails; thumbnail n stands for frames ``[n * step, (n + 1) * step)``."""
    width: int
    """Width of a thumbnail in pixels."""
    height: int
    """Height of a thumbnail in pixels."""
    sheets: tuple[bytes, ...]
    """JPEG files of :data:`COLUMNS` times :data:`ROWS` thumbnails; the last one may have fewer
    rows."""

    def facts(self) -> dict[str, int]:
        """Return all fields but the sheets, for JSON."""
        return {name: getattr(self, name) for name in ("step", "count", "width", "height")}

    @classmethod
    def of(cls, facts: Mapping[str, Any], sheets: tuple[bytes, ...]) -> Self:
        """Restore a track from what :meth:`facts` returned and its sheets."""
        return cls(sheets=sheets, **facts)

    def webvtt(self, frame_rate: Fraction, frames: int, names: tuple[str, ...]) -> str:
        """Return the track as WebVTT whose cues name parts of the sheets, as players expect.

        ``names`` are the file names of the sheets, relative to the track.
        """
        parts = ["WEBVTT"]
        for number in range(self.count):
            sheet, place = divmod(number, COLUMNS * ROWS)
            row, column = divmod(place, COLUMNS)
            start = Fraction(number * self.step) / frame_rate
            end = Fraction(min(frames, (number + 1) * self.step)) / frame_rate
            area = f"{column * self.width},{row * self.height},{self.width},{self.height}"
            parts.append(f"{webvtt_time(start)} --> {webvtt_time(end)}\n{names[sheet]}#xywh={area}")
        return "\n\n".join(parts) + "\n"


class ScrubSampler:
    """Analyser that turns small frames into a :class:`ScrubTrack`."""

    def __init__(
        self, frame_rate: Fraction, frames: int, width: int, height: int, matrix: str | None
    ) -> None:
        """Create a sampler for a title of ``frames`` frames of this display size and matrix."""
        seconds = max(MIN_STEP_SECONDS, Fraction(frames, MAX_THUMBNAILS) / frame_rate)
        self.step = max(1, -(-(seconds * frame_rate) // 1))
        """Frames from one thumbnail to the next."""
        self._frames = frames
        self._matrix, self._display_height = matrix, height
        scale = Fraction(TILE_SIDE, max(width, height))
        self._width, self._height = (max(2, round(side * scale)) for side in (width, height))
        self._sheet: UInt8 | None = None
        self._count = 0
        self._sheets: list[bytes] = []

    @classmethod
    def of(cls, source: ReferenceSource) -> Self:
        """Create a sampler for the frames of a planned source."""
        return cls(source.frame_rate, source.frames, source.width, source.height, source.sdr_matrix)

    def push(self, frame: SmallFrame) -> None:
        """Take the next frame."""
        tile = self.thumbnail(frame)
        if tile is not None:
            self.add(tile)

    def thumbnail(self, frame: SmallFrame) -> UInt8 | None:
        """Return the thumbnail (height, width, 3) if a frame is one that is shown."""
        start = frame.number - frame.number % self.step
        if frame.number != min(start + self.step // 2, self._frames - 1):
            return None
        picture = bgr_of_small(frame.yuv, self._matrix, self._display_height)
        size = (self._width, self._height)
        return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)

    def add(self, tile: UInt8) -> None:
        """Take the next thumbnail."""
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
        """Return the track, after all frames have been pushed."""
        in_last_sheet = self._count % (COLUMNS * ROWS)
        if in_last_sheet:
            self._close(-(-in_last_sheet // COLUMNS))
        return ScrubTrack(self.step, self._count, self._width, self._height, tuple(self._sheets))

    def _close(self, rows: int) -> None:
        if self._sheet is None:
            return
        self._sheets.append(jpeg(self._sheet[: rows * self._height], _JPEG_QUALITY))
        self._sheet = None
