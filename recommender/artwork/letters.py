"""Text in a still: how much of the picture is lines of letters.

Ink (strokes much brighter or much darker than their surroundings) falls into pieces. Pieces with
the shape of letters that stand in a row with others of similar height and level and with small gaps
form a line. Texture has strokes as well, but seldom five in a row. Letters are searched for at two
sizes, because the strokes of large titles are wider than the gaps of small ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Self

import cv2
import numpy as np

from encoder.arrays import AnyArray, Float32, UInt8

_SIDES = (480, 160)
_PEN = 11
_INK = 45
_MAX_PIECES = 250
_LETTERS_OF_A_LINE = 5
_LETTERS_OF_A_CARD = 40
_LETTERS_OF_A_LOGO = 10
_AREA_OF_A_CARD = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class _Pieces:
    """Connected pieces of ink, with one element per piece in each array; sizes in pixels."""

    x: Float32
    y: Float32
    width: Float32
    height: Float32
    fill: Float32
    """Share of the box that is ink."""
    level: Float32
    """Mean luma of the ink."""

    def __len__(self) -> int:
        return len(self.x)

    def pick(self, indices: list[int]) -> Self:
        """Return the pieces with these indices."""
        return type(self)(*(getattr(self, each.name)[indices] for each in fields(self)))


def text_likelihood(detail: UInt8) -> float:
    """Return how much of the picture is lines of letters, 0 to 1.

    From about 0.45 the letters cannot be missed.
    """
    likelihood = 0.0
    for side in _SIDES:
        scale = min(1.0, side / max(detail.shape))
        small = cv2.resize(detail, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        plane = np.asarray(small, np.uint8)
        for operation in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT):
            ink = cv2.morphologyEx(plane, operation, np.ones((_PEN, _PEN), np.uint8))
            likelihood += _text_in(plane, np.asarray(ink > _INK, np.uint8))
    return min(1.0, likelihood)


def _text_in(plane: UInt8, ink: UInt8) -> float:
    """Return the likelihood of text of one polarity at one size."""
    pieces = _letter_like(plane, ink)
    if pieces is None:
        return 0.0
    letters, covered = 0, 0.0
    for indices in _rows(pieces):
        if len(indices) < _LETTERS_OF_A_LINE:
            continue
        line = pieces.pick(indices)
        if _is_text(line) and _is_on_ground(plane, ink, line):
            letters += len(line)
            width = line.x[-1] + line.width[-1] - line.x[0]
            covered += float(line.height.mean()) * float(width)
    size = min(covered / (_AREA_OF_A_CARD * plane.size), letters / _LETTERS_OF_A_LOGO)
    return max(letters / _LETTERS_OF_A_CARD, size)


def _letter_like(plane: UInt8, ink: UInt8) -> _Pieces | None:
    """Return the pieces of ink that have the shape of a letter, the largest if there are many; None
    if there are too few for a line."""
    # A plane of 480 by 480 has fewer pieces than a label of 16 bits can tell apart.
    _, _, boxes, _ = cv2.connectedComponentsWithStats(ink, connectivity=8, ltype=cv2.CV_16U)
    x, y, w, h, area = (boxes[1:, column].astype(np.float32) for column in range(5))
    shaped = (h >= 5) & (h <= 0.25 * len(plane)) & (w <= 2.5 * h) & (w >= 0.08 * h)
    shaped &= (area >= 0.15 * w * h) & (area >= 6)
    chosen = np.flatnonzero(shaped)
    if len(chosen) < _LETTERS_OF_A_LINE:
        return None
    if len(chosen) > _MAX_PIECES:
        chosen = np.sort(chosen[np.argsort(area[chosen])[::-1][:_MAX_PIECES]])
    x, y, w, h = x[chosen], y[chosen], w[chosen], h[chosen]
    inked = np.maximum(1e-6, _means_in(ink, x, y, w, h))
    level = np.asarray(_means_in(plane * ink, x, y, w, h) / inked, np.float32)
    return _Pieces(x, y, w, h, area[chosen] / (w * h), level)


def _rows(pieces: _Pieces) -> Iterator[list[int]]:
    """Yield the indices of pieces that follow each other in a row, from left to right."""
    x, y, w, h, level = pieces.x, pieces.y, pieces.width, pieces.height, pieces.level
    tall = np.maximum(h[:, None], h)
    gap = x - (x + w)[:, None]
    overlap = np.minimum((y + h)[:, None], y + h) - np.maximum(y[:, None], y)
    near = (gap > -0.2 * tall) & (gap < 0.9 * tall) & (x[:, None] < x)
    alike = (overlap > 0.6 * np.minimum(h[:, None], h)) & (tall < 2.2 * np.minimum(h[:, None], h))
    alike &= np.abs(level[:, None] - level) < 22
    gap_to_next = np.where(near & alike, gap, np.inf)
    following = gap_to_next.argmin(axis=1)
    has_following = np.isfinite(gap_to_next.min(axis=1))
    begins = np.ones(len(pieces), bool)
    begins[following[has_following]] = False
    for first in np.flatnonzero(begins & has_following):
        row = [int(first)]
        while has_following[row[-1]] and len(row) < 200:
            row.append(int(following[row[-1]]))
        yield row


def _is_text(line: _Pieces) -> bool:
    """Tell whether the pieces of a row stand on one base line and differ as letters do."""
    bottoms = line.y + line.height
    height = float(line.height.mean())
    on_base_line = float(np.median(np.abs(bottoms - np.median(bottoms)))) < 0.12 * height
    # Tiles and grids stand in rows as well, but are all alike, or solid.
    varied = float(line.fill.mean()) < 0.82 and float(line.width.std()) > 0.07 * height
    even = float(line.height.std()) < 0.3 * height and float(line.level.std()) < 12
    return on_base_line and varied and even


def _is_on_ground(plane: UInt8, ink: UInt8, line: _Pieces) -> bool:
    """Tell whether the ground between the letters has one level, far from that of the ink."""
    rows = slice(int(line.y.min()), int((line.y + line.height).max()))
    columns = slice(int(line.x.min()), int((line.x + line.width).max()))
    ground = plane[rows, columns][cv2.dilate(ink[rows, columns], np.ones((3, 3), np.uint8)) == 0]
    if ground.size < 12:
        return False
    middle = float(np.median(ground))
    contrast = abs(float(line.level.mean()) - middle)
    return contrast > 45 and float(np.abs(ground - middle).mean()) < 0.16 * contrast


def _means_in(plane: AnyArray, x: Float32, y: Float32, w: Float32, h: Float32) -> Float32:
    """Return the mean of a plane in each of many boxes."""
    sums = cv2.integral(plane.astype(np.uint8))
    left, top, right, bottom = (v.astype(np.int64) for v in (x, y, x + w, y + h))
    inside = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    return (inside / (w * h)).astype(np.float32)
