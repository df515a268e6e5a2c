"""What a policy learns from and is judged by: pools as numbers, and pictures that were tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from encoder.arrays import Float64, Index


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """The pictures of one title among which a policy chooses, as numbers."""

    title: str
    pool: str
    """Id of the pool, by which the features are found again."""
    actions: tuple[str, ...]
    """Lasting ids of the pictures."""
    features: Float64
    """Features of the pictures minus their mean over the pool, (pictures, features). What all
    pictures of a title share is the title's, and no reason to prefer one of them."""
    quality: Float64
    """Quality within the title, 0 to 1, (pictures,)."""
    looks: Float64 | None = None
    """Embeddings by which pictures are compared, (pictures, size); None if they are unknown."""
    looks_model: str = ""
    """Id of what made the embeddings. Only those of one id are compared."""

    def __len__(self) -> int:
        return len(self.actions)


def centred(features: Float64) -> Float64:
    """Return features minus their mean over the pool, (pictures, features)."""
    return np.asarray(features - features.mean(axis=0), np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Trials:
    """Pictures that were shown, one row each, and whether viewers took the title."""

    titles: tuple[str, ...]
    actions: tuple[str, ...]
    features: Float64
    """Features of the shown picture minus the mean of its pool, (n, features)."""
    context: Float64
    """Context of the viewer, (n, context)."""
    rewards: Float64
    """0 to 1: whether the title was taken, (n,)."""

    def __len__(self) -> int:
        return len(self.titles)

    def rows(self, chosen: Index) -> Trials:
        """Return some of the rows."""
        return Trials(
            tuple(self.titles[row] for row in chosen),
            tuple(self.actions[row] for row in chosen),
            self.features[chosen],
            self.context[chosen],
            self.rewards[chosen],
        )


def groups(names: Sequence[str]) -> list[tuple[str, Index]]:
    """Return each name with the positions at which it stands, in order of appearance."""
    found: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        found.setdefault(name, []).append(row)
    return [(name, np.array(rows, np.intp)) for name, rows in found.items()]
