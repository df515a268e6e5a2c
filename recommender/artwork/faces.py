"""Faces, where the user gave a model that finds them: OpenCV's ``FaceDetectorYN``.

The wheel of OpenCV has no model in it, and none comes with this project. Without one nobody has
looked: documents then say ``faces: null``, not that there are none.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from encoder.analysis.frames import Plane
from encoder.errors import BadInput

LEAST_SCORE: Final = 0.8
_LOOK_SIDE = 960


@dataclass(frozen=True, slots=True)
class Face:
    """A face: shares of the picture's width and height, 0 to 1."""

    x: float
    y: float
    width: float
    height: float
    score: float
    """Of the detector, 0 to 1."""


class FaceFinder:
    """Finds faces with a model in the format of YuNet (ONNX)."""

    def __init__(self, model: Path) -> None:
        """Load ``model``.

        Raises:
            BadInput: it cannot be read, or OpenCV does not take it as such a model.
        """
        if not model.is_file():
            raise BadInput(
                f"--face-model {model} is not a file; name a YuNet model in ONNX "
                "(face_detection_yunet_*.onnx), or leave the option out"
            )
        # It warns of a setting that it makes itself.
        before = cv2.utils.logging.getLogLevel()
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
        try:
            self._detector: Any = cv2.FaceDetectorYN.create(
                str(model), "", (320, 320), score_threshold=LEAST_SCORE
            )
            self.find(np.zeros((64, 64, 3), np.uint8))
        except cv2.error as error:
            raise BadInput(
                f"--face-model {model} is not a model that OpenCV's FaceDetectorYN takes "
                f"({' '.join(str(error.err).split())[:120]}); name a YuNet model in ONNX"
            ) from error
        finally:
            cv2.utils.logging.setLogLevel(before)

    def find(self, picture: Plane) -> tuple[Face, ...]:
        """Faces in (height, width, 3) BGR, largest first."""
        height, width = picture.shape[:2]
        scale = min(1.0, _LOOK_SIDE / max(height, width))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        self._detector.setInputSize(size)
        _, rows = self._detector.detect(small)
        found = []
        for row in rows if rows is not None else ():
            x, y, w, h = (
                round(float(at) / side, 4) for at, side in zip(row[:4], 2 * size, strict=True)
            )
            found.append(Face(x, y, w, h, round(float(row[-1]), 4)))
        return tuple(sorted(found, key=lambda face: -face.width * face.height))
