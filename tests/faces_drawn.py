"""Faces drawn with known eyes: the real detector and the real mesh find drawn faces, too."""

from __future__ import annotations

import cv2
import numpy as np

from tests.artwork_measures import Picture

_SKIN, _SHADE, _LIPS = (140, 170, 215), (110, 140, 190), (90, 85, 180)
_HAIR, _IRIS = (35, 45, 60), (60, 70, 90)


def draw_face(
    picture: Picture,
    middle: tuple[float, float],
    height: float,
    *,
    eyes: float = 1.0,
    mouth: float = 0.2,
    turned: float = 0.0,
) -> Picture:
    """Return a picture with a frontal face on it.

    Args:
        picture: BGR picture.
        middle: middle of the face in pixels.
        height: height of the face in pixels, brow to chin.
        eyes: how far the eyes are open, 0 to 1.
        mouth: how far the mouth is open, 0 to 1.
        turned: how far the features are moved aside, -1 to 1.
    """
    scale = 4  # drawn large and averaged down, which gives soft edges
    drawn = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    unit = scale * height / 100
    x, y = middle[0] * scale, middle[1] * scale

    def ellipse(
        dx: float,
        dy: float,
        across: float,
        down: float,
        colour: tuple[int, int, int],
        angle: float = 0,
    ) -> None:
        place = round(x + dx * unit), round(y + dy * unit)
        axes = max(1, round(across * unit)), max(1, round(down * unit))
        cv2.ellipse(drawn, place, axes, angle, 0, 360, colour, -1, cv2.LINE_AA)

    aside = 14 * turned
    ellipse(0, -12, 52, 72, _HAIR)
    ellipse(0, 62, 22, 40, _SHADE)
    ellipse(0, 0, 43, 60, _SKIN)
    ellipse(-30 + aside / 2, 12, 10, 16, (134, 160, 208))
    ellipse(30 + aside / 2, 12, 10, 16, (134, 160, 208))
    for side in (-1, 1):
        at = 18 * side + aside
        ellipse(at, -16, 12, 7.5, _SHADE)
        ellipse(at, -26, 11, 2.2, _HAIR, 6 * side)
        if eyes > 0:
            ellipse(at, -15, 9, 4.6 * eyes, (40, 50, 70))
            ellipse(at, -14.6, 8.4, 4.2 * eyes, (240, 240, 240))
            ellipse(at, -14.8, 3.6, min(3.6, 4.2 * eyes), _IRIS)
            ellipse(at, -14.8, 1.7, min(1.7, 4.0 * eyes), (10, 10, 10))
        else:
            ellipse(at, -15, 9.5, 5, _SKIN)
            ellipse(at, -11.5, 9, 1.0, (60, 75, 105))
    ellipse(aside * 1.3, 4, 4.5, 14, (150, 182, 226))
    ellipse(-4 + aside * 1.3, 14, 2.2, 1.6, (80, 100, 150))
    ellipse(4 + aside * 1.3, 14, 2.2, 1.6, (80, 100, 150))
    ellipse(aside * 1.3, 12, 7, 3.0, _SHADE)
    ellipse(-3.5 + aside * 1.3, 13.5, 1.8, 1.2, (70, 90, 140))
    ellipse(3.5 + aside * 1.3, 13.5, 1.8, 1.2, (70, 90, 140))
    ellipse(aside, 30, 15, 3.5 + 6 * mouth, _LIPS)
    ellipse(aside, 30, 12, 0.8 + 5 * mouth, (50, 40, 90))
    size = picture.shape[1], picture.shape[0]
    small = cv2.resize(drawn, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(small, (0, 0), 0.6), np.uint8)
