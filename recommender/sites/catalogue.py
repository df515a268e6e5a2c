"""The titles that sites may hold, by the names that logs and forecasts use."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from encoder.arrays import Mask
from recommender.prefetch.demand import FileDemand, file_demand
from recommender.prefetch.document import Prefetch
from recommender.sites.files import SiteFiles, site_files


@dataclass(frozen=True, slots=True, eq=False)
class Catalogue:
    """Titles and their files. Titles of the same files are one title that has several names."""

    titles: tuple[Prefetch, ...]
    names: Mapping[str, int]
    """Position of the title that each name stands for."""
    demand: tuple[FileDemand, ...]
    """Files of all titles, one title after the other."""
    files: SiteFiles
    """The same as arrays."""

    def name_of(self, title: int) -> str:
        """Return the first name of a title."""
        return next(name for name, at in self.names.items() if at == title)

    def mask_of(self, sha256s: Iterable[str]) -> tuple[Mask, int]:
        """Return a mask of the files with these digests, and how many digests are no file's."""
        wanted = set(sha256s)
        mask = np.array([file.sha256 in wanted for file in self.demand], np.bool_)
        return mask, len(wanted - {file.sha256 for file in self.demand})


def catalogue(named: Mapping[str, Prefetch]) -> Catalogue:
    """Return the catalogue of prefetch documents by name."""
    titles: list[Prefetch] = []
    files: list[list[FileDemand]] = []
    names: dict[str, int] = {}
    seen: dict[bytes, int] = {}
    for name, prefetch in named.items():
        demand = file_demand(prefetch)
        digests = "".join(file.sha256 for file in demand)
        digest = hashlib.sha256(digests.encode()).digest()
        if digest not in seen:
            seen[digest] = len(titles)
            titles.append(prefetch)
            files.append(demand)
        names[name] = seen[digest]
    return Catalogue(
        tuple(titles), names, tuple(file for each in files for file in each), site_files(files)
    )
