"""The measured stills of a title: one row of numbers each, no pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields, replace
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from encoder.arrays import AnyArray, Float32, Int64
from recommender.artwork.faces import Face

MEASURES: Final = (
    "sharpness",
    "blur",
    "motion_blur",
    "exposure",
    "contrast",
    "bright",
    "clipped",
    "entropy",
    "colourfulness",
    "noise",
    "thirds",
    "subject",
    "symmetry",
    "title_space",
    "change",
    "unrest",
    "text",
    "uniform",
    "blend",
    "cut_distance",
)
"""Names of the measures in the order of their columns; ``docs/artwork.md`` explains each."""


@dataclass(frozen=True, slots=True, eq=False)
class Stills:
    """Everything that is known of a title's stills, one row each, in order of time."""

    frames: Int64
    """Canonical frame numbers, (n,)."""
    measures: Float32
    """Values of :data:`MEASURES` of each still, (n, len(MEASURES))."""
    hashes: npt.NDArray[np.uint64]
    """Perceptual hash of each still, (n,)."""
    embeddings: Float32
    """Embedding of each still, (n, EMBEDDING_SIZE)."""
    bars: Float32
    """Black bars at top, bottom, left and right as shares of the height or width, (n, 4)."""
    faces: tuple[tuple[Face, ...] | None, ...]
    """Faces that the detector finds in each still, the largest first; None for the stills that it
    did not look at, since they follow a still that looks much the same."""

    def __len__(self) -> int:
        return len(self.frames)

    def measure(self, name: str) -> Float32:
        """Return the column of one measure, (n,)."""
        return self.measures[:, MEASURES.index(name)]

    def between(self, start: int, end: int) -> Self:
        """Return the stills of frames ``[start, end)``."""
        first, last = (int(at) for at in np.searchsorted(self.frames, (start, end)))
        rows = slice(first, last)
        return replace(self, **{name: getattr(self, name)[rows] for name in _ROWS})

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Return the stills of consecutive parts of a title as those of the title."""
        columns = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in _ROWS
            if name != "faces"
        }
        return cls(**columns, faces=tuple(faces for part in parts for faces in part.faces))

    def arrays(self) -> dict[str, AnyArray]:
        """Return the arrays by name, to be written to a file and read by :meth:`of_arrays`."""
        return {
            "frames": self.frames,
            "measures": self.measures,
            "hashes": self.hashes,
            "embeddings": self.embeddings.astype(np.float16),
            "bars": self.bars.astype(np.float16),
            "face_counts": np.array(
                [-1 if faces is None else len(faces) for faces in self.faces], np.int64
            ),
            "faces": np.array(
                [astuple(face) for faces in self.faces for face in faces or ()], np.float64
            ).reshape(-1, len(fields(Face))),
        }

    @classmethod
    def of_arrays(cls, arrays: Any) -> Self:
        """Restore stills from what :meth:`arrays` returned."""
        counts = np.asarray(arrays["face_counts"], np.int64)
        rows = np.split(arrays["faces"], np.cumsum(np.maximum(0, counts))[:-1])
        return cls(
            frames=np.asarray(arrays["frames"], np.int64),
            measures=np.asarray(arrays["measures"], np.float32),
            hashes=np.asarray(arrays["hashes"], np.uint64),
            embeddings=np.asarray(arrays["embeddings"], np.float32),
            bars=np.asarray(arrays["bars"], np.float32),
            faces=tuple(
                None if count < 0 else tuple(Face(*map(float, face)) for face in found)
                for count, found in zip(counts, rows, strict=True)
            ),
        )


_ROWS = tuple(field.name for field in fields(Stills))
