"""Reads faces at full size: are they faces, are the eyes open, which way do they look?

MediaPipe's face mesh gives 468 points of a face and its confidence that there is one; its iris
model gives the eyelids and the iris of an eye. Sources: Kartynnik et al., "Real-time facial surface
geometry from monocular video on mobile GPUs" (2019); Ablavatski et al., "Real-time pupil tracking
from monocular video for digital puppetry" (2020); the openness of an eye is the eye aspect ratio of
Soukupova and Cech, "Real-time eye blink detection using facial landmarks" (CVWW 2016).
``models/NOTICE.md`` has the models' licences and cards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np

from encoder.arrays import Float32, UInt8
from recommender.artwork.faces import Face, load_net
from recommender.artwork.metrics import focus

PORTRAITS_VERSION: Final = 1
"""Part of the store keys. Raise it when any portrait of any picture changes."""

LEGIBLE_HEIGHT: Final = 0.15
"""Smallest height of a face, as a share of the picture's, at which the eyes are read."""
MIN_CONFIDENCE: Final = 0.5
"""Confidence of the mesh below which a face is none."""

_MESH_SIDE, _IRIS_SIDE = 192, 64
_MESH_SCALE, _IRIS_SCALE = 1.5, 2.3
_TURNED = 0.35
# Points of the mesh.
_NOSE, _CHEEKS, _FOREHEAD, _CHIN = 1, (234, 454), 10, 152
_EYES = ((33, 133), (263, 362))
"""Outer and inner corner of the eye on the left of the picture and of that on the right."""
_LIPS, _MOUTH = (13, 14), (61, 291)
# Points of the contour of an eye.
_OUTER, _INNER, _LOWER, _UPPER = 0, 8, slice(3, 6), slice(11, 14)


@dataclass(frozen=True, slots=True)
class Portrait:
    """A face as it was read at full size. Angles and shapes are without unit."""

    confidence: float
    """Confidence of the mesh that this is a face, 0 to 1."""
    place: tuple[float, float, float, float]
    """Left, top, width and height of the face from forehead to chin, in shares of the picture's
    width and height. It is more exact than the detector's."""
    openness: float | None
    """Distance of the eyelids over the width of the eye: 0.08 shut, 0.2 to 0.3 open. None if the
    face is too small to tell."""
    yaw: float
    """How far the face is turned: 0 towards the camera, -1 and 1 in profile."""
    pitch: float
    """How far the nose is below (positive) or above the middle of brow and chin, as a share."""
    mouth: float
    """Distance of the lips over the width of the mouth."""
    smile: float
    """Width of the mouth over the distance of the eyes."""
    gaze: tuple[float, float]
    """Place of the irises between the corners of the eyes, 0 in the middle."""
    blur: float
    """Blur where the face is, as :class:`recommender.artwork.metrics.Focus` measures it."""


class PortraitReader:
    """Reads the faces of full-size pictures. Not thread-safe."""

    def __init__(self) -> None:
        self._mesh, self._iris = load_net("face_landmark.tflite"), load_net("iris_landmark.tflite")

    def read(self, bgr: UInt8, face: Face) -> Portrait:
        """Read one face of a full-range BGR picture (height, width, 3)."""
        height, width = bgr.shape[:2]
        middle = (face.x + face.width / 2) * width, (face.y + face.height / 2) * height
        side = _MESH_SCALE * max(face.width * width, face.height * height)
        window, back = _window(bgr, middle, side, face.roll, _MESH_SIDE)
        confidence, points = self._read_mesh(window)
        across = float(np.linalg.norm(points[_CHEEKS[1]] - points[_CHEEKS[0]]))
        legible = face.height >= LEGIBLE_HEIGHT and confidence >= MIN_CONFIDENCE and across > 1
        openness: float | None = None
        gaze = (0.0, 0.0)
        yaw = _yaw(points)
        if legible:
            eyes = [self._read_eye(bgr, points, back, eye) for eye in (0, 1)]
            # Of a turned face, only the nearer eye is seen well, and narrower than it is. Of a
            # frontal face, one shut eye is enough for a wink.
            nearer = eyes if abs(yaw) < _TURNED else [eyes[0 if yaw > 0 else 1]]
            openness = min(each[0] for each in nearer) * float(np.sqrt(1 - min(0.9, abs(yaw)) ** 2))
            across_eye, down_eye = np.mean([each[1] for each in nearer], axis=0)
            gaze = float(across_eye), float(down_eye)
        eyes_apart = float(np.linalg.norm(_eye_middle(points, 0) - _eye_middle(points, 1)))
        mouth_width = float(np.linalg.norm(points[_MOUTH[0]] - points[_MOUTH[1]]))
        lips = float(np.linalg.norm(points[_LIPS[0]] - points[_LIPS[1]]))
        return Portrait(
            confidence=round(confidence, 1),
            place=_bounds(points, back, width, height),
            openness=None if openness is None else round(openness, 2),
            yaw=round(yaw, 2),
            pitch=round(_pitch(points), 2),
            mouth=round(lips / max(1.0, mouth_width), 2),
            smile=round(mouth_width / max(1.0, eyes_apart), 2),
            gaze=(round(gaze[0], 2), round(gaze[1], 2)),
            blur=round(_blur(bgr, face), 2),
        )

    def _read_mesh(self, window: UInt8) -> tuple[float, Float32]:
        """Return the confidence that ``window`` shows a face, and the mesh's points (468, 2)."""
        outputs = _forward(self._mesh, window)
        flag, points = sorted((each.reshape(-1) for each in outputs), key=np.size)
        return 1 / (1 + float(np.exp(-np.clip(flag[0], -80, 80)))), points.reshape(-1, 3)[:, :2]

    def _read_eye(
        self, bgr: UInt8, points: Float32, back: Float32, eye: int
    ) -> tuple[float, tuple[float, float]]:
        """Return the openness of an eye and the place of its iris between the corners."""
        outer, inner = (_placed(points[at], back) for at in _EYES[eye])
        left, right = (outer, inner) if eye == 0 else (inner, outer)
        roll = float(np.arctan2(*(right - left)[::-1]))
        middle = (outer + inner) / 2
        side = _IRIS_SCALE * float(np.linalg.norm(outer - inner))
        window, _ = _window(bgr, (float(middle[0]), float(middle[1])), side, roll, _IRIS_SIDE)
        if eye == 1:  # the model knows the eye on the left
            window = np.ascontiguousarray(window[:, ::-1])
        iris, contour = sorted(
            (each.reshape(-1, 3)[:, :2] for each in _forward(self._iris, window)), key=np.size
        )
        width = max(1.0, float(np.linalg.norm(contour[_OUTER] - contour[_INNER])))
        lids = np.linalg.norm(contour[_LOWER] - contour[_UPPER], axis=1)
        off = (iris[0] - (contour[_OUTER] + contour[_INNER]) / 2) / width
        across = float(off[0]) if eye == 0 else -float(off[0])
        return float(lids.mean()) / width, (across, float(off[1]))


def _forward(net: Any, window: UInt8) -> Sequence[Float32]:
    net.setInput(cv2.dnn.blobFromImage(window, 1 / 255, swapRB=True))
    return tuple(net.forward(net.getUnconnectedOutLayersNames()))


def _window(
    bgr: UInt8, middle: tuple[float, float], side: float, roll: float, pixels: int
) -> tuple[UInt8, Float32]:
    """Cut out a turned square, and return it with the matrix (2, 3) from it to the picture."""
    scale = max(1e-3, side) / pixels
    cosine, sine = scale * np.cos(roll), scale * np.sin(roll)
    half = (pixels - 1) / 2
    back = np.array([[cosine, -sine, 0], [sine, cosine, 0]], np.float32)
    back[:, 2] = np.array(middle) - 0.5 - back[:, :2] @ np.array([half, half])
    if scale > 2:  # averaged first, since warping takes four pixels only
        factor = 1 / int(scale)
        small = cv2.resize(bgr, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        matrix = back * np.float32(factor)
        matrix[:, 2] += (factor - 1) / 2
        source = np.asarray(small, np.uint8)
    else:
        matrix, source = back, bgr
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    window = cv2.warpAffine(source, matrix, (pixels, pixels), flags=flags)
    return np.asarray(window, np.uint8), back


def _placed(point: Float32, back: Float32) -> Float32:
    return np.asarray(back[:, :2] @ point + back[:, 2], np.float32)


def _bounds(
    points: Float32, back: Float32, width: int, height: int
) -> tuple[float, float, float, float]:
    placed = (points @ back[:, :2].T + back[:, 2]) / (width, height)
    low, high = placed.min(axis=0), placed.max(axis=0)
    x, y, across, down = (round(float(value), 3) for value in (*low, *(high - low)))
    return x, y, across, down


def _eye_middle(points: Float32, eye: int) -> Float32:
    return np.asarray((points[_EYES[eye][0]] + points[_EYES[eye][1]]) / 2, np.float32)


def _yaw(points: Float32) -> float:
    """Return how much nearer the nose is to one cheek than to the other, -1 to 1."""
    to_left, to_right = (abs(float(points[_NOSE][0] - points[at][0])) for at in _CHEEKS)
    return (to_left - to_right) / max(1.0, to_left + to_right)


def _pitch(points: Float32) -> float:
    """Return the place of the nose between forehead and chin, 0 in the middle."""
    brow, chin = float(points[_FOREHEAD][1]), float(points[_CHIN][1])
    return (float(points[_NOSE][1]) - (brow + chin) / 2) / max(1.0, chin - brow)


def _blur(bgr: UInt8, face: Face) -> float:
    """Return the blur of the face, scaled down where it is larger than the mesh sees it."""
    height, width = bgr.shape[:2]
    left, top = max(0, round(face.x * width)), max(0, round(face.y * height))
    right = min(width, round((face.x + face.width) * width))
    bottom = min(height, round((face.y + face.height) * height))
    if right - left < 8 or bottom - top < 8:
        return 1.0
    grey = cv2.cvtColor(bgr[top:bottom, left:right], cv2.COLOR_BGR2GRAY)
    scale = min(1.0, _MESH_SIDE / max(grey.shape))
    small = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return focus(np.asarray(small, np.uint8)).blur
