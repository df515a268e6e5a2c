"""Descriptors of a still: a hash to find duplicates, and an embedding to measure similarity.

The perceptual hash is that of "pHash": the signs of the low frequencies of a cosine transform.
Coding, scaling and small changes of light flip few of its bits. The embedding is classical (colours
of a grid, directions of edges, a histogram of chroma). Its id names what made it, so that the
pooled features of a network can replace it or join it under another id.
"""

from __future__ import annotations

import itertools
from typing import Final

import cv2
import numpy as np

from encoder.arrays import AnyArray, Float32, UInt8

EMBEDDING_ID: Final = "shotladder-classical/1"
"""Id of the embedding. Never compare embeddings with different ids."""
SAME_SCENE: Final = 0.28
"""Distance of embeddings up to which stills show the same scene."""

_GRID = 4
_DIRECTIONS = 8
_CHROMA_BINS = 4
EMBEDDING_SIZE: Final = 3 * _GRID**2 + _DIRECTIONS * _GRID + _CHROMA_BINS**2

_CHROMA_HALF = 48
_CHROMA_BIN = np.clip(
    (np.arange(256) - 128 + _CHROMA_HALF) * _CHROMA_BINS // (2 * _CHROMA_HALF), 0, _CHROMA_BINS - 1
).astype(np.uint8)
"""Bin of each level of chroma."""

# How much each part counts in the distance of two embeddings.
_COLOURS, _EDGES, _CHROMA = 0.5, 0.25, 0.25


def perceptual_hash(luma: UInt8) -> int:
    """Return a hash of 64 bits of a luma plane, to be compared by :func:`hash_distance`."""
    small = cv2.resize(luma, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:8, :8].ravel()
    # Element 0 is the mean of the picture, which says nothing about its content.
    signs = low > np.median(low[1:])
    signs[0] = False
    return int.from_bytes(np.packbits(signs).tobytes(), "big")


def hash_distance(one: int, other: int) -> int:
    """Count the bits that differ. Unrelated pictures differ in about 32 of 64."""
    return (one ^ other).bit_count()


def embedding(yuv: UInt8) -> Float32:
    """Return the embedding of a small picture (3, height, width), of length 1 at most.

    The Euclidean distance of two embeddings is 0 for equal pictures and near 1 for unlike ones.
    """
    grid = np.stack(
        [cv2.resize(plane, (_GRID, _GRID), interpolation=cv2.INTER_AREA) for plane in yuv]
    ).astype(np.float32)
    grid = (grid - 128) * np.array([1, 2, 2], np.float32)[:, None, None]
    colours = np.clip(grid / 128, -1, 1).ravel() * (2 / _GRID)
    parts = [
        _COLOURS * colours,
        _EDGES * _normalised(_directions(yuv[0])),
        _CHROMA * _normalised(np.sqrt(_chroma(yuv))),
    ]
    return np.concatenate(parts).astype(np.float32)


def distances(embedding: Float32, others: Float32) -> Float32:
    """Return the Euclidean distance of an embedding (size,) to each of ``others`` (n, size)."""
    return np.asarray(np.sqrt(np.square(others - embedding).sum(axis=-1)), np.float32)


def _directions(luma: UInt8) -> Float32:
    """Return the histogram of the directions of edges in each quarter of the picture."""
    small = cv2.resize(luma, (80, 48), interpolation=cv2.INTER_AREA).astype(np.float32)
    across, down = cv2.Sobel(small, cv2.CV_32F, 1, 0), cv2.Sobel(small, cv2.CV_32F, 0, 1)
    strength, angle = cv2.cartToPolar(across, down)
    bins = (angle * (2 * _DIRECTIONS / (2 * np.pi))).astype(np.int64) % _DIRECTIONS
    histograms = [
        np.bincount(bins[quarter].ravel(), strength[quarter].ravel(), _DIRECTIONS)
        for quarter in itertools.product(
            (slice(0, 24), slice(24, 48)), (slice(0, 40), slice(40, 80))
        )
    ]
    return np.asarray(np.sqrt(np.concatenate(histograms)), np.float32)


def _chroma(yuv: UInt8) -> Float32:
    """Return the histogram of chroma around grey."""
    u, v = (np.asarray(cv2.LUT(plane, _CHROMA_BIN), np.uint8) for plane in yuv[1:])
    bins = u * np.uint8(_CHROMA_BINS) + v
    counts = np.bincount(bins.ravel(), minlength=_CHROMA_BINS**2)
    return np.asarray(counts / counts.sum(), np.float32)


def _normalised(values: AnyArray) -> Float32:
    length = float(np.linalg.norm(values))
    return np.asarray(values / max(length, 1e-6), np.float32)
