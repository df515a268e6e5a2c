"""Face detection with a model that the user supplies, by OpenCV's ``FaceDetectorYN``.

Neither OpenCV's wheel nor this project contains a model. Without one, face detection is off, and
documents say ``faces: null`` instead of claiming that there are none.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from encoder.arrays import UInt8
from encoder.errors import BadInput

MIN_SCORE: Final = 0.8
_MAX_SIDE = 960


@dataclass(frozen=True, slots=True)
class Face:
    """A face, in shares of the picture's width and height, 0 to 1."""

    x: float
    y: float
    width: float
    height: float
    score: float
    """Confidence of the detector, 0 to 1."""


class FaceFinder:
    """Finds faces with a YuNet model in ONNX format."""

    def __init__(self, model: Path) -> None:
        """Load ``model``.

        Raises:
            BadInput: the file cannot be read, or OpenCV rejects it as a YuNet model.
        """
        if not model.is_file():
            raise BadInput(
                f"--face-model {model} is not a file; name a YuNet model in ONNX format "
                "(face_detection_yunet_*.onnx), or leave the option out"
            )
        # OpenCV warns about a setting that it makes itself.
        log_level = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        try:
            self._detector: Any = cv2.FaceDetectorYN.create(
                str(model), "", (320, 320), score_threshold=MIN_SCORE
            )
            self.find(np.zeros((64, 64, 3), np.uint8))
        except cv2.error as error:
            raise BadInput(
                f"--face-model {model} is not a model that OpenCV's FaceDetectorYN accepts "
                f"({' '.join(str(error.err).split())[:120]}); name a YuNet model in ONNX format"
            ) from error
        finally:
            cv2.utils.logging.setLogLevel(log_level)

    def find(self, picture: UInt8) -> tuple[Face, ...]:
        """Return the faces in a BGR picture (height, width, 3), the largest first."""
        height, width = picture.shape[:2]
        scale = min(1.0, _MAX_SIDE / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        self._detector.setInputSize(size)
        _, rows = self._detector.detect(small)
        faces = []
        for row in rows if rows is not None else ():
            x, y, w, h = (
                round(float(value) / side, 4) for value, side in zip(row[:4], 2 * size, strict=True)
            )
            faces.append(Face(x, y, w, h, round(float(row[-1]), 4)))
        return tuple(sorted(faces, key=lambda face: -face.width * face.height))
