"""Finds faces in small pictures, with MediaPipe's full-range detector in OpenCV's ``dnn``.

Source: Bazarevsky et al., "BlazeFace: sub-millisecond neural face detection on mobile GPUs"
(2019), in the dense full-range variant; ``models/NOTICE.md`` has its licence and model card. The
detector looks at 192x192 pixels, so the small frames of the analysis pass are enough for it. It
takes a few other things for faces; :mod:`~recommender.artwork.portraits` looks again at full size.
"""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from encoder.arrays import Float32, UInt8
from encoder.errors import BadInput

FACES_VERSION: Final = 1
"""Part of the store keys. Raise it when any face of any picture changes."""

MODELS: Final[dict[str, str]] = {
    "face_detection_full_range.tflite": (
        "99bf9494d84f50acc6617d89873f71bf6635a841ea699c17cb3377f9507cfec3"
    ),
    "face_landmark.tflite": "1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
    "iris_landmark.tflite": "d1744d2a09c25f501d39eba4faff47e53ecca8852c5ce19bce8eeac39357521f",
}
"""Files in ``models/`` with their SHA-256, which is part of the store keys."""

MIN_SCORE: Final = 0.5
MOST_FACES: Final = 8
"""Largest number of faces that are reported of one picture."""

_SIDE = 192
_CELLS = _SIDE // 4
_OVERLAP = 0.3
# Shares and scores are rounded to these steps, so that the last bits of a convolution, which differ
# between kinds of CPU, do not reach the store.
_SHARE_STEPS, _SCORE_STEPS = 500, 50


@dataclass(frozen=True, slots=True)
class Face:
    """A face from brow to chin, in shares of the picture's width and height, 0 to 1."""

    x: float
    y: float
    width: float
    height: float
    score: float
    """Confidence of the detector, 0 to 1."""
    roll: float = 0.0
    """Angle of the line through the eyes in radians, clockwise."""

    @property
    def area(self) -> float:
        """Share of the picture that the face covers."""
        return self.width * self.height


def models_sha256() -> str:
    """Return a digest of the models' digests, for store keys and documents."""
    return hashlib.sha256("".join(MODELS[name] for name in sorted(MODELS)).encode()).hexdigest()


def load_net(name: str) -> Any:
    """Load a model of :data:`MODELS` for one thread; a net is not thread-safe.

    Raises:
        BadInput: the file is not the one that was released.
    """
    # The new engine of OpenCV 5 returns only the last output of these models.
    return cv2.dnn.readNetFromTFLite(str(checked_path(name)), engine=cv2.dnn.ENGINE_CLASSIC)


@functools.cache
def checked_path(name: str) -> Path:
    """Return the path of a model.

    Raises:
        BadInput: the file is not the one that was released.
    """
    path = Path(__file__).parent / "models" / name
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != MODELS[name]:
        raise BadInput(f"the model {path} is missing or damaged; install shotladder again")
    return path


class FaceDetector:
    """Finds faces in pictures of any size. Not thread-safe."""

    def __init__(self) -> None:
        self._net = load_net("face_detection_full_range.tflite")

    def find(self, bgr: UInt8) -> tuple[Face, ...]:
        """Return the faces in a full-range BGR picture (height, width, 3), the largest first."""
        height, width = bgr.shape[:2]
        scale = _SIDE / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        shrinks = scale < 1
        inner = cv2.resize(bgr, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        left, top = (_SIDE - size[0]) // 2, (_SIDE - size[1]) // 2
        square = np.zeros((_SIDE, _SIDE, 3), np.uint8)
        square[top : top + size[1], left : left + size[0]] = inner
        self._net.setInput(
            cv2.dnn.blobFromImage(square, 1 / 127.5, mean=(127.5, 127.5, 127.5), swapRB=True)
        )
        outputs = self._net.forward(self._net.getUnconnectedOutLayersNames())
        logits, places = sorted((each.reshape(_CELLS**2, -1) for each in outputs), key=np.size)
        found = []
        for box, eyes, score in _decoded(logits[:, 0], places):
            x, y = (box[0] - left) / size[0], (box[1] - top) / size[1]
            found.append(
                Face(
                    x=_rounded(x, _SHARE_STEPS),
                    y=_rounded(y, _SHARE_STEPS),
                    width=_rounded(box[2] / size[0], _SHARE_STEPS),
                    height=_rounded(box[3] / size[1], _SHARE_STEPS),
                    score=_rounded(score, _SCORE_STEPS),
                    roll=_rounded(float(np.arctan2(*(eyes[1] - eyes[0])[::-1])), _SCORE_STEPS),
                )
            )
        return tuple(sorted(found, key=lambda face: (-face.area, face.x, face.y)))


def _decoded(logits: Float32, places: Float32) -> list[tuple[Float32, Float32, float]]:
    """Return (x, y, width, height), the eyes (2, 2) and the score of each face, in pixels.

    The anchors are the middles of the cells; where faces overlap, the one with the best score
    stays.
    """
    scores = 1 / (1 + np.exp(-np.clip(logits, -80, 80)))
    sure = np.flatnonzero(scores >= MIN_SCORE)
    rows = places[sure]
    anchors = (np.stack([sure % _CELLS, sure // _CELLS], axis=1) + 0.5) * (_SIDE / _CELLS)
    sizes = rows[:, 2:4]
    boxes = np.concatenate([rows[:, :2] + anchors - sizes / 2, sizes], axis=1).astype(np.float32)
    best = cv2.dnn.NMSBoxes(boxes.tolist(), scores[sure].tolist(), MIN_SCORE, _OVERLAP)
    kept = [int(at) for at in best][:MOST_FACES]
    return [
        (boxes[at], rows[at, 4:8].reshape(2, 2) + anchors[at], float(scores[sure[at]]))
        for at in kept
    ]


def _rounded(value: float, steps: int) -> float:
    return round(round(float(value) * steps) / steps, 4)
