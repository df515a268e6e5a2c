"""Crops of a still for the shapes in which artwork is shown, and the sizes they are kept in.

A crop is the largest window of its shape in the picture without bars; it slides to where one
looks. Nothing is ever enlarged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import cv2
import numpy as np

from encoder.analysis.frames import Plane
from encoder.arrays import Float32
from recommender.artwork import metrics
from recommender.artwork.faces import Face

CROPS_VERSION: Final = 1

ASPECTS: Final[dict[str, Fraction]] = {
    "16:9": Fraction(16, 9),
    "2:3": Fraction(2, 3),
    "1:1": Fraction(1),
    "21:9": Fraction(21, 9),
}
"""Width over height, by the name that documents and the service use."""

WIDTHS: Final[dict[str, tuple[int, ...]]] = {
    "16:9": (1280, 480),
    "2:3": (600, 240),
    "1:1": (600, 240),
    "21:9": (1280, 480),
}
"""Pixels that renditions are wide, where the crop has them."""

_CLEARLY_SMALLER = 0.75
_FACE_MARGIN = 0.35
_EDGE = 0.06
_BAR_AGREE = 0.8
_PLAIN_LEVEL = 40


@dataclass(frozen=True, slots=True)
class Box:
    """A window of a picture, pixels."""

    x: int
    y: int
    width: int
    height: int

    def of(self, picture: Plane) -> Plane:
        """The pixels inside: a view."""
        return picture[self.y : self.y + self.height, self.x : self.x + self.width]


@dataclass(frozen=True, slots=True)
class Point:
    """A place in a picture: shares of its width and height, 0 to 1."""

    x: float
    y: float


def picture_area(
    width: int, height: int, bars: Float32, bright: Float32, pictures: Sequence[Plane] = ()
) -> Box:
    """The part of a title's frames that is not black bars.

    A bar is there when nearly all of the stills that are bright enough to tell have it. Its edge
    is then found to the pixel in full-size pictures; it is the smallest that any of them has.

    Args:
        width: of the title's frames, pixels.
        height: of them.
        bars: (n, 4) top, bottom, left, right as shares, of each still.
        bright: (n,) upper end of the levels of each still, 0 to 1.
        pictures: (h, w, 3) full-size stills, full range.
    """
    telling = bars[bright > 0.25]
    if len(telling) < 3:
        return Box(0, 0, width, height)
    usual = np.quantile(telling, 1 - _BAR_AGREE, axis=0)
    exact = []
    for side in range(4):
        across = height if side < 2 else width
        rough = float(usual[side]) * across
        if rough < max(2.0, 0.01 * across):
            exact.append(0)
            continue
        edges = [edge for picture in pictures if (edge := _bar(picture, side)) > 0]
        limit = int(rough) + across // 160 + 1
        exact.append(min([*edges, limit]) if edges else int(rough))
    top, bottom, left, right = exact
    # Chroma has half the lines: an odd edge would mix bar and picture. Two more lines, because
    # scaling and coding have softened it.
    top, left = (edge + 2 + edge % 2 if edge else 0 for edge in (top, left))
    bottom, right = (edge + 2 + edge % 2 if edge else 0 for edge in (bottom, right))
    return Box(left, top, width - left - right, height - top - bottom)


def _bar(picture: Plane, side: int) -> int:
    """Lines of a full-range picture that are black on one side; 0 if it is too dark to tell."""
    grey = picture.max(axis=2)
    if float(np.quantile(grey, 0.95)) < _PLAIN_LEVEL * 2:
        return 0
    lines = np.quantile(grey, 0.98, axis=1 if side < 2 else 0)
    shown = np.flatnonzero((lines if side in (0, 2) else lines[::-1]) > _PLAIN_LEVEL)
    return int(shown[0]) if len(shown) else 0


def focal_point(attention: Float32, faces: Sequence[Face] | None) -> Point:
    """Where one looks: at the faces, weighted by their size, else where saliency is highest.

    Args:
        attention: saliency of the picture.
        faces: in pixels of the same picture scaled to 0 to 1; None when nobody looked for any.
    """
    if faces:
        weights = np.array([face.width * face.height for face in faces])
        x = np.array([face.x + face.width / 2 for face in faces])
        y = np.array([face.y + face.height / 2 for face in faces])
        return Point(
            float((x * weights).sum() / weights.sum()), float((y * weights).sum() / weights.sum())
        )
    return Point(*metrics.focal_point(attention))


def crop(
    area: Box,
    aspect: Fraction,
    attention: Float32,
    focus: Point,
    faces: Sequence[Face] | None = None,
) -> Box:
    """The largest window of ``aspect`` in ``area``, slid to keep what one looks at.

    It takes the most attention, prefers the focal point near its middle, and does not cut
    through what stands out (or through a face) where it can help it. Sides are even.

    Args:
        area: of the picture.
        aspect: width over height.
        attention: saliency of ``area``.
        focus: in ``area``.
        faces: in shares of ``area``.
    """
    if Fraction(area.width, area.height) > aspect:
        height = area.height - area.height % 2
        width = min(area.width, _even(height * aspect))
        free, along = area.width - width, 1
    else:
        width = area.width - area.width % 2
        height = min(area.height, _even(width / aspect))
        free, along = area.height - height, 0
    side = area.width if along else area.height
    window = (width if along else height) / side
    profile = np.square(attention).sum(axis=1 - along)
    place = focus.x if along else focus.y
    spans = [((f.x, f.x + f.width) if along else (f.y, f.y + f.height)) for f in faces or ()]
    offset = _slide(profile, window, place, spans) * side
    start = min(free, max(0, round(offset)))
    start -= start % 2
    return (
        Box(area.x + start, area.y, width, height)
        if along
        else Box(area.x, area.y + start, width, height)
    )


def _slide(
    profile: Float32, window: float, place: float, spans: Sequence[tuple[float, float]]
) -> float:
    """Best start of a window (shares of the side) over a profile of attention."""
    if window >= 1:
        return 0.0
    cumulative = np.concatenate([[0.0], np.cumsum(profile / max(1e-9, float(profile.sum())))])
    grid = np.linspace(0, 1, len(cumulative))

    def mass(start: float, end: float) -> float:
        low, high = np.interp([max(0.0, start), min(1.0, end)], grid, cumulative)
        return float(high - low)

    sizes = sum(high - low for low, high in spans)
    best, best_value = 0.0, -np.inf
    for start in np.linspace(0, 1 - window, 41):
        end = start + window
        value = mass(start, end)
        value -= 0.5 * (mass(start - _EDGE / 2, start + _EDGE / 2) if start > 0 else 0)
        value -= 0.5 * (mass(end - _EDGE / 2, end + _EDGE / 2) if end < 1 else 0)
        value -= 0.6 * abs((start + end) / 2 - place)
        for low, high in spans:
            weight = (high - low) / sizes
            margin = _FACE_MARGIN * (high - low)
            seen = min(end, high + margin) - max(start, low - margin)
            # More than all the rest together: a face beats whatever else stands out.
            value += 3 * weight * max(0.0, seen) / (high - low + 2 * margin)
            if max(start, low) < min(end, high) and not (start <= low and high <= end):
                value -= weight  # it would cut through a face
        if value > best_value + 1e-9:
            best, best_value = float(start), value
    return best


def _even(size: Fraction) -> int:
    return max(2, 2 * round(size / 2))


def rendition_sizes(name: str, box: Box) -> list[tuple[int, int]]:
    """(width, height) of each size kept of a crop, largest first; never larger than the crop."""
    largest = min(WIDTHS[name][0], box.width)
    others = [width for width in WIDTHS[name][1:] if width <= _CLEARLY_SMALLER * largest]
    return [(width, max(2, round(width * box.height / box.width))) for width in (largest, *others)]


def scaled(picture: Plane, width: int, height: int) -> Plane:
    """A picture made smaller by averaging; never larger."""
    if (width, height) == (picture.shape[1], picture.shape[0]):
        return picture
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


@dataclass(frozen=True, slots=True)
class Colour:
    """A colour that a still has much of."""

    hex: str
    """``#rrggbb``."""
    share: float
    """Of the pixels."""


def dominant_colours(picture: Plane, count: int = 5) -> tuple[Colour, ...]:
    """Up to ``count`` colours of (h, w, 3) BGR, most frequent first; always the same ones."""
    small = cv2.resize(picture, (48, 27), interpolation=cv2.INTER_AREA)
    points = cv2.cvtColor(small, cv2.COLOR_BGR2LAB).reshape(-1, 3).astype(np.float32)
    # Started at the levels' own quantiles: no random numbers, so no random answers.
    order = points[np.argsort(points @ np.array([1.0, 0.3, 0.3]), kind="stable")]
    centres = order[np.linspace(0, len(order) - 1, 2 * count + 1).astype(int)[1::2]].copy()
    for _ in range(12):
        labels = np.square(points[:, None] - centres).sum(axis=2).argmin(axis=1)
        for number in range(count):
            if (labels == number).any():
                centres[number] = points[labels == number].mean(axis=0)
    labels = np.square(points[:, None] - centres).sum(axis=2).argmin(axis=1)
    shares = np.bincount(labels, minlength=count) / len(points)
    found: list[tuple[float, Float32]] = []
    for number in np.argsort(-shares, kind="stable"):
        same = next(
            (at for at, (_, c) in enumerate(found) if np.linalg.norm(c - centres[number]) < 12),
            None,
        )
        if shares[number] <= 0:
            continue
        if same is None:
            found.append((float(shares[number]), centres[number]))
        else:
            found[same] = (found[same][0] + float(shares[number]), found[same][1])
    found.sort(key=lambda item: -item[0])
    lab = np.array([[centre for _, centre in found]]).round().clip(0, 255).astype(np.uint8)
    colours = cv2.cvtColor(lab, cv2.COLOR_LAB2BGR)[0]
    return tuple(
        Colour(f"#{int(r):02x}{int(g):02x}{int(b):02x}", round(share, 4))
        for (share, _), (b, g, r) in zip(found, colours, strict=True)
    )
