"""Files of many titles, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from encoder.arrays import Float64, Index, Int64, Mask
from recommender.prefetch.demand import FileDemand


@dataclass(frozen=True, slots=True, eq=False)
class SiteFiles:
    """Files that a site may hold; a file is named by its position."""

    num_bytes: Int64
    title: Index
    """Position of each file's title."""
    start_seconds: Float64
    """Where each file begins in its title."""
    requests: Float64
    """Expected requests for each file by one play of its title."""

    def __len__(self) -> int:
        return len(self.num_bytes)

    def among(self, chosen: Mask | Index) -> SiteFiles:
        """Return some of the files; their titles keep their positions."""
        return SiteFiles(
            self.num_bytes[chosen],
            self.title[chosen],
            self.start_seconds[chosen],
            self.requests[chosen],
        )


def site_files(titles: Sequence[Sequence[FileDemand]]) -> SiteFiles:
    """Return the files of titles, title by title, each in its own order."""
    files = [file for title in titles for file in title]
    return SiteFiles(
        np.array([file.bytes for file in files], np.int64),
        np.repeat(np.arange(len(titles)), [len(title) for title in titles]),
        np.array([file.start_seconds for file in files], np.float64),
        np.array([file.requests for file in files], np.float64),
    )
