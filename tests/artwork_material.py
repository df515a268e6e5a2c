"""Titles with known pictures in them, and stills made by hand."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from encoder.analysis.frames import SmallFrame
from encoder.arrays import UInt8
from recommender.artwork.descriptors import EMBEDDING_SIZE
from recommender.artwork.stills import MEASURES, Stills
from tests.artwork_measures import Picture, encode

RATE = Fraction(12)
SIZE = (320, 180)

# Measures of a still that no filter finds.
GOOD: Mapping[str, float] = {
    "sharpness": 20.0,
    "blur": 0.3,
    "motion_blur": 0.03,
    "exposure": 0.45,
    "contrast": 0.6,
    "bright": 0.8,
    "clipped": 0.0,
    "entropy": 7.0,
    "colourfulness": 25.0,
    "noise": 1.0,
    "thirds": 0.6,
    "subject": 0.25,
    "symmetry": 0.1,
    "title_space": 0.4,
    "change": 5.0,
    "unrest": 10.0,
    "text": 0.0,
    "uniform": 0.1,
    "blend": 0.0,
    "cut_distance": 6.0,
}


def stills(rows: list[dict[str, float]], step: int = 3, seed: int = 1) -> Stills:
    """One still for each of ``rows``, which override :data:`GOOD`; no two stills are alike."""
    rng = np.random.default_rng(seed)
    table = [[{**GOOD, **row}[name] for name in MEASURES] for row in rows]
    vectors = rng.normal(size=(len(rows), EMBEDDING_SIZE))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Stills(
        frames=np.arange(len(rows), dtype=np.int64) * step,
        measures=np.array(table, np.float32).reshape(len(rows), len(MEASURES)),
        hashes=rng.integers(0, 2**63, len(rows), dtype=np.uint64),
        embeddings=vectors.astype(np.float32),
        bars=np.zeros((len(rows), 4), np.float32),
        faces=((),) * len(rows),
    )


def natural(seed: int, size: tuple[int, int] = SIZE) -> Picture:
    """A picture whose spectrum falls as that of photographs does, with a few things in it."""
    width, height = size
    rng = np.random.default_rng(seed)
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    fall = 1 / np.maximum(1 / width, np.hypot(rows, columns))
    planes = []
    for _ in range(3):
        phase = np.exp(2j * np.pi * rng.random((height, width // 2 + 1)))
        plane = np.fft.irfft2(fall * phase, s=(height, width))
        planes.append(plane / plane.std())
    mix = np.stack([planes[0], planes[0] + 0.5 * planes[1], planes[0] + 0.5 * planes[2]], axis=2)
    tint = rng.uniform(70, 160, 3)
    picture = np.clip(tint + 34 * mix, 0, 255).astype(np.uint8)
    for _ in range(4):
        place = tuple(int(rng.integers(0, side)) for side in size)
        axes = tuple(int(rng.integers(12, 48)) for _ in range(2))
        colour = [int(value) for value in rng.integers(20, 235, 3)]
        cv2.ellipse(
            picture, place, axes, int(rng.integers(0, 180)), 0, 360, colour, -1, cv2.LINE_AA
        )
    return np.asarray(picture, np.uint8)


def scene(seed: int, frames: int, speed: float = 0.5) -> list[Picture]:
    """A camera that moves slowly over a larger picture."""
    width, height = SIZE
    large = natural(seed, (width + 64, height + 32))
    made = []
    for number in range(frames):
        shift = np.array([[1, 0, -speed * number], [0, 1, -4]], np.float32)
        made.append(
            np.asarray(
                cv2.warpAffine(large, shift, (width, height), flags=cv2.INTER_CUBIC), np.uint8
            )
        )
    return made


def make_title(path: Path, seeds: range = range(6), seconds: int = 2) -> Path:
    """A title of scenes that differ."""
    pictures = [picture for seed in seeds for picture in scene(seed, int(seconds * RATE))]
    encode(pictures, RATE, path, crf=12)
    return path


def small(number: int, picture: Picture) -> SmallFrame:
    """A frame as the analysis pass gives it, with the picture itself as the decoded one."""
    yuv = cv2.cvtColor(picture, cv2.COLOR_BGR2YUV).astype(np.float32)
    limited = np.stack([16 + yuv[..., 0] * 219 / 255, *(yuv[..., n] for n in (1, 2))])
    planes: UInt8 = np.clip(np.rint(limited), 0, 255).astype(np.uint8)
    return SmallFrame(number, planes, av.VideoFrame.from_ndarray(planes, format="yuv444p"))
