"""Crops of a still for the aspect ratios in which artwork is shown.

A crop is the largest window of its aspect ratio in the picture without black bars. The window
slides to where people look.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np

from encoder.arrays import Float32, Float64, UInt8
from encoder.source.probing.geometry import nearest_even
from recommender.artwork import saliency
from recommender.artwork.faces import Face

CROPS_VERSION: Final = 2
"""Part of the store keys. Raise it when any crop or rendition changes."""

ASPECTS: Final[dict[str, Fraction]] = {
    "16:9": Fraction(16, 9),
    "2:3": Fraction(2, 3),
    "1:1": Fraction(1),
    "21:9": Fraction(21, 9),
    "9:16": Fraction(9, 16),
}
"""Width over height by the name that documents and the service use."""

_FACE_MARGIN = 0.35
_EDGE = 0.06
_BAR_AGREE = 0.8
# A face of which so much is seen is whole: the detector does not tell its edge more exactly.
_WHOLE = 0.98
_FACE_SHARE = 0.7
_PLAIN_LEVEL = 40


@dataclass(frozen=True, slots=True)
class Box:
    """A window of a picture, in pixels."""

    x: int
    y: int
    width: int
    height: int

    def of(self, picture: UInt8) -> UInt8:
        """Return a view of the pixels inside the window."""
        return picture[self.y : self.y + self.height, self.x : self.x + self.width]


@dataclass(frozen=True, slots=True)
class Point:
    """A place in a picture, as shares of its width and height, 0 to 1."""

    x: float
    y: float


def picture_area(
    width: int, height: int, bars: Float32, bright: Float32, pictures: Sequence[UInt8] = ()
) -> Box:
    """Return the part of a title's frames that is not black bars.

    A title has a bar if nearly all of its stills that are bright enough to tell have it. The edge
    of the bar is then measured to the pixel in full-size pictures: it is the narrowest bar that any
    of them has.

    Args:
        width: width of the title's frames in pixels.
        height: height of the title's frames in pixels.
        bars: bars of each still at top, bottom, left and right as shares, (n, 4).
        bright: upper end of the levels of each still, 0 to 1, (n,).
        pictures: full-size stills in full range, (h, w, 3) each.
    """
    bars_of_bright = bars[bright > 0.25]
    if len(bars_of_bright) < 3:
        return Box(0, 0, width, height)
    usual = np.quantile(bars_of_bright, 1 - _BAR_AGREE, axis=0)
    lines = []
    for side in range(4):
        across = height if side < 2 else width
        rough = float(usual[side]) * across
        if rough < max(2.0, 0.01 * across):
            lines.append(0)
            continue
        edges = [edge for picture in pictures if (edge := _bar(picture, side)) > 0]
        limit = int(rough) + across // 160 + 1
        lines.append(min([*edges, limit]) if edges else int(rough))
    top, bottom, left, right = lines
    # Edges are even, because chroma has half the lines and an odd edge would mix bar and picture.
    # Two more lines go, because scaling and coding have softened the edge.
    top, left = (edge + 2 + edge % 2 if edge else 0 for edge in (top, left))
    bottom, right = (edge + 2 + edge % 2 if edge else 0 for edge in (bottom, right))
    return Box(left, top, width - left - right, height - top - bottom)


def _bar(picture: UInt8, side: int) -> int:
    """Count the black lines on one side of a full-range picture; 0 if it is too dark to tell."""
    grey = picture.max(axis=2)
    if float(np.quantile(grey, 0.95)) < _PLAIN_LEVEL * 2:
        return 0
    lines = np.quantile(grey, 0.98, axis=1 if side < 2 else 0)
    shown = np.flatnonzero((lines if side in (0, 2) else lines[::-1]) > _PLAIN_LEVEL)
    return int(shown[0]) if len(shown) else 0


def focal_point(attention: Float32, faces: Sequence[Face] | None) -> Point:
    """Return where people look: at the faces, the largest first, or else at the salient part.

    ``faces`` is None if nobody looked for faces.
    """
    if faces:
        weights = _weights(faces)
        x = np.array([face.x + face.width / 2 for face in faces])
        y = np.array([face.y + face.height / 2 for face in faces])
        return Point(
            float((x * weights).sum() / weights.sum()), float((y * weights).sum() / weights.sum())
        )
    return Point(*saliency.focal_point(attention))


def _weights(faces: Sequence[Face]) -> Float32:
    """Return how much each face counts; of two that do not fit, the larger one is kept."""
    areas = np.square([face.area for face in faces])
    return np.asarray(areas / max(1e-12, float(areas.sum())), np.float32)


def seen_share(face: Face, window: Box, area: Box) -> float:
    """Return how much of a face of ``area`` is inside ``window``, 0 to 1."""
    left, top = area.x + face.x * area.width, area.y + face.y * area.height
    # What lies outside of the picture cannot be cut off by a window.
    right = min(left + face.width * area.width, area.x + area.width)
    bottom = min(top + face.height * area.height, area.y + area.height)
    left, top = max(left, area.x), max(top, area.y)
    across = min(right, window.x + window.width) - max(left, window.x)
    down = min(bottom, window.y + window.height) - max(top, window.y)
    return max(0.0, across) * max(0.0, down) / max(1e-9, (right - left) * (bottom - top))


def keeps_faces(window: Box, area: Box, faces: Sequence[Face]) -> bool | None:
    """Tell whether the main face, the first, is whole in ``window``; None if there is none."""
    return seen_share(faces[0], window, area) >= _WHOLE if faces else None


def kept_share(window: Box, area: Box, attention: Float32, faces: Sequence[Face]) -> float:
    """Return how much of what people look at in ``area`` is inside ``window``, 0 to 1.

    Where there are faces, they count for most of it.
    """
    height, width = attention.shape
    down, across = height / area.height, width / area.width
    top, left = round((window.y - area.y) * down), round((window.x - area.x) * across)
    inside = attention[
        top : top + max(1, round(window.height * down)),
        left : left + max(1, round(window.width * across)),
    ]
    salient = float(np.square(inside).sum()) / max(1e-9, float(np.square(attention).sum()))
    if not faces:
        return min(1.0, salient)
    seen = [seen_share(face, window, area) for face in faces]
    return min(1.0, _FACE_SHARE * float(_weights(faces) @ seen) + (1 - _FACE_SHARE) * salient)


def crop(
    area: Box,
    aspect: Fraction,
    attention: Float32,
    focus: Point,
    faces: Sequence[Face] | None = None,
) -> Box:
    """Return the largest window of ``aspect`` in ``area`` that keeps what people look at.

    The window takes in as much saliency as possible, prefers the focal point near its middle, and
    avoids cutting through salient things and faces. Its sides are even. ``attention`` is the
    saliency map of ``area``, in which ``focus`` and ``faces`` lie.
    """
    if Fraction(area.width, area.height) > aspect:
        height = area.height - area.height % 2
        width = min(area.width, nearest_even(height * aspect))
        free, along = area.width - width, 1
    else:
        width = area.width - area.width % 2
        height = min(area.height, nearest_even(width / aspect))
        free, along = area.height - height, 0
    side = area.width if along else area.height
    window = (width if along else height) / side
    profile = np.square(attention).sum(axis=1 - along)
    place = focus.x if along else focus.y
    spans = [
        (face.x, face.x + face.width) if along else (face.y, face.y + face.height)
        for face in faces or ()
    ]
    offset = _best_start(profile, window, place, spans, _weights(faces or ())) * side
    start = min(free, max(0, round(offset)))
    start -= start % 2
    return (
        Box(area.x + start, area.y, width, height)
        if along
        else Box(area.x, area.y + start, width, height)
    )


def _best_start(
    profile: Float32,
    window: float,
    place: float,
    spans: Sequence[tuple[float, float]],
    weights: Float32,
) -> float:
    """Return the best start of a window over a profile of saliency, as a share of the side.

    All other arguments are shares of the side as well; ``spans`` are those of the faces, and
    ``weights`` how much each of them counts.
    """
    if window >= 1:
        return 0.0
    cumulative = np.concatenate([[0.0], np.cumsum(profile / max(1e-9, float(profile.sum())))])
    grid = np.linspace(0, 1, len(cumulative))

    def mass(start: Float64, end: Float64) -> Float64:
        sides = np.interp([np.maximum(0.0, start), np.minimum(1.0, end)], grid, cumulative)
        return np.asarray(sides[1] - sides[0])

    starts = np.linspace(0, 1 - window, 41)
    ends = starts + window
    values = mass(starts, ends)
    for edges, cuts in ((starts, starts > 0), (ends, ends < 1)):
        values -= 0.5 * np.where(cuts, mass(edges - _EDGE / 2, edges + _EDGE / 2), 0)
    values -= 0.6 * np.abs((starts + ends) / 2 - place)
    best, best_value = 0.0, -np.inf
    for start, end, value in zip(starts.tolist(), ends.tolist(), values.tolist(), strict=True):
        for (low, high), weight in zip(spans, weights.tolist(), strict=True):
            margin = _FACE_MARGIN * (high - low)
            seen = min(end, high + margin) - max(start, low - margin)
            # Faces weigh more than everything else together.
            value += 3 * weight * max(0.0, seen) / (high - low + 2 * margin)
            low, high = max(0.0, low), min(1.0, high)
            if max(start, low) < min(end, high) and not (start <= low and high <= end):
                value -= weight  # the window cuts through a face
        if spans and not (start <= max(0.0, spans[0][0]) and min(1.0, spans[0][1]) <= end):
            value -= 3  # the main face is whole wherever it can be
        if value > best_value + 1e-9:
            best, best_value = start, value
    return best
