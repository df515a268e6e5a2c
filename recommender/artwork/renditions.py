"""Files of a crop: the sizes that are kept, and their coding as WebP and JPEG."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Final, Literal

import cv2
import numpy as np
from PIL import Image

from encoder.analysis.frames import Plane
from recommender.artwork.crops import Box

WIDTHS: Final[dict[str, tuple[int, ...]]] = {
    "16:9": (1280, 480),
    "2:3": (600, 240),
    "1:1": (600, 240),
    "21:9": (1280, 480),
}
"""Widths of the renditions in pixels by aspect; a crop that is smaller has smaller ones."""

_CLEARLY_SMALLER = 0.75
_WEBP_QUALITY, _JPEG_QUALITY = 82, 88
# Takes two fifths of the time of OpenCV's only method (4) and makes files that are 5 % larger.
_WEBP_METHOD = 2


def rendition_sizes(aspect: str, box: Box) -> list[tuple[int, int]]:
    """Return (width, height) of each rendition of a crop, the largest first.

    No rendition is larger than its crop.
    """
    largest = min(WIDTHS[aspect][0], box.width)
    others = [width for width in WIDTHS[aspect][1:] if width <= _CLEARLY_SMALLER * largest]
    return [(width, max(2, round(width * box.height / box.width))) for width in (largest, *others)]


def scaled(picture: Plane, width: int, height: int) -> Plane:
    """Scale a picture down by averaging."""
    if (width, height) == (picture.shape[1], picture.shape[0]):
        return picture
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def webp(bgr: Plane) -> bytes:
    """Code a picture (h, w, 3) as WebP."""
    file = io.BytesIO()
    picture = Image.fromarray(np.ascontiguousarray(bgr[..., ::-1]))
    picture.save(file, "WEBP", quality=_WEBP_QUALITY, method=_WEBP_METHOD)
    return file.getvalue()


def jpeg(bgr: Plane) -> bytes:
    """Code a picture (h, w, 3) as JPEG."""
    coded, content = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    assert coded
    return content.tobytes()


FORMATS: Final[Mapping[Literal["webp", "jpeg"], tuple[str, Callable[[Plane], bytes]]]] = {
    "webp": (".webp", webp),
    "jpeg": (".jpg", jpeg),
}
"""Suffix and coder of each format."""
