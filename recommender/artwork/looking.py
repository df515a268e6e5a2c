"""Chooses a title's pool, and looks at full-size stills where the small ones do not tell enough."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

from encoder.arrays import UInt8
from encoder.media import Shot
from recommender.artwork.faces import FaceDetector
from recommender.artwork.pool import Pool, make_pool, shortlist
from recommender.artwork.portraits import Portrait, PortraitReader
from recommender.artwork.stills import Stills

LOOKING_VERSION: Final = 1
"""Part of the store keys. Raise it when other stills are looked at."""

_KEPT_BYTES = 192 * 2**20

Fetch = Callable[[Iterable[int]], Iterator[tuple[int, UInt8]]]
"""Yields frames at full size, BGR in full range, with their numbers, in ascending order."""


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """A pool, and what was seen on the way to it."""

    pool: Pool
    stills: Stills
    """The title's stills, with the faces that were found at full size."""
    pictures: dict[int, UInt8]
    """Pictures by frame, as many as memory allows: some of them are chosen."""


class Looker:
    """Looks at stills of a title at full size. Not thread-safe."""

    def __init__(self, stills: Stills, fetch: Fetch) -> None:
        self.stills = stills
        self.portraits: dict[int, tuple[Portrait, ...]] = {}
        self.pictures: dict[int, UInt8] = {}
        self._fetch = fetch
        self._reader, self._detector = PortraitReader(), FaceDetector()
        self._room = _KEPT_BYTES

    def look(self, rows: Sequence[int]) -> None:
        """Read the faces of some stills, and find them where nobody looked for any."""
        row_of = {int(self.stills.frames[row]): row for row in rows}
        faces = list(self.stills.faces)
        for frame, picture in self._fetch(row_of):
            row = row_of[frame]
            found = faces[row]
            if found is None:
                found = faces[row] = self._detector.find(picture)
            self.portraits[row] = tuple(self._reader.read(picture, face) for face in found)
            self._room -= picture.nbytes
            if self._room >= 0:
                self.pictures[frame] = picture
        self.stills = replace(self.stills, faces=tuple(faces))


def choose_pool(
    stills: Stills,
    shots: Sequence[Shot],
    frames: int,
    frame_rate: Fraction,
    aspect: Fraction,
    fetch: Fetch,
) -> Looked:
    """Choose the candidates of a title with at least one still.

    Stills that may become portraits are read first. A still that is chosen although nobody looked
    for faces in it is looked at, and the choice is made again with what was seen.
    """
    looker = Looker(stills, fetch)
    rows: Sequence[int] = shortlist(stills, shots, frames, frame_rate)
    while True:
        looker.look(rows)
        pool = make_pool(looker.stills, shots, frames, frame_rate, looker.portraits, aspect)
        rows = [still.row for still in pool.chosen if looker.stills.faces[still.row] is None]
        if not rows:
            return Looked(pool, looker.stills, looker.pictures)
