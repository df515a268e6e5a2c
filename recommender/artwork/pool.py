"""Chooses the artwork pool from measured stills: which are candidates, in which order, and why.

The choice takes two steps, because eyes can only be judged at full size. :func:`shortlist` names
the stills whose faces have to be read, and :func:`make_pool` chooses with what was read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np

from encoder.arrays import AnyArray, Float32, Int64, Mask
from encoder.media import Shot
from recommender.artwork.crops import ASPECTS
from recommender.artwork.diversity import DIVERSITY_VERSION, Shown, choose, cluster
from recommender.artwork.faces import Face
from recommender.artwork.filters import FILTERS_VERSION, Filtered, TitleStills, apply_filters
from recommender.artwork.people import (
    FACE_WEIGHT,
    PEOPLE_VERSION,
    People,
    Person,
    judge_people,
    likely_faces,
    unlike,
)
from recommender.artwork.portraits import LEGIBLE_HEIGHT, Portrait
from recommender.artwork.quality import QUALITY_VERSION, all_percentiles, quality
from recommender.artwork.stills import Stills

POOL_VERSION: Final = (2, FILTERS_VERSION, DIVERSITY_VERSION, QUALITY_VERSION, PEOPLE_VERSION)
"""Part of the store keys. Raise one of them when the same stills give another pool."""

MAX_SIZE: Final = 48
PER_SHOT, PER_SECOND = 1.25, 0.5
MIN_SIZE, MIN_SIZE_OF_LONG = 4, 12
SHORT_SECONDS: Final = 3
"""Length up to which a title may have fewer than :data:`MIN_SIZE` candidates."""

READ_PER_CANDIDATE, MIN_READ = 3, 24
"""Stills whose faces are read at full size: so many for each candidate, and so many at least."""

EYES_SHUT: Final = "eyes_shut"
"""Flag of stills in which somebody who matters has shut eyes."""

# Factor on the quality of flagged stills.
_FLAGGED = 0.3
# A portrait counts if the still has this share of the usual quality.
_FLOOR = 0.6
_SIZE_WEIGHT, _USUAL_SIZE = 0.5, 0.3
_SOME_LETTERS = 0.15


@dataclass(frozen=True, slots=True)
class ChosenStill:
    """A still that is a candidate."""

    row: int
    """Index of the still among the title's stills."""
    frame: int
    shot: int
    cluster: int
    quality: float
    flags: tuple[str, ...]
    """Names of the filters that found the still but had used up their quota, and
    :data:`EYES_SHUT`."""
    appeal: float = 0.0
    """What the people who are shown are worth, 0 to 1."""
    people: tuple[Person, ...] | None = None
    """People who are shown, the largest face first; None if the faces have not been read."""


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """The candidates of a title, best first, and how they came to be."""

    chosen: tuple[ChosenStill, ...]
    percentiles: Float32
    """Percentiles of all measures, (number of stills, len(MEASURES))."""
    filtered: Filtered
    clusters: int
    """Number of clusters of the stills that were not dropped. Each of them has a candidate, unless
    all of its stills are duplicates of another cluster's."""
    labels: Int64
    """Cluster of each still, -1 if it was dropped, (number of stills,)."""


def pool_size(shots: int, seconds: float) -> int:
    """Return how many candidates a title gets at most.

    The number grows with the shots and is at least 12 from 24 s on. A very short title gets fewer,
    because each candidate costs as much as encoding a few seconds.
    """
    min_size = min(MIN_SIZE_OF_LONG, max(MIN_SIZE, round(PER_SECOND * seconds)))
    return min(MAX_SIZE, max(min_size, round(PER_SHOT * shots)))


def shot_of_stills(stills: Stills, shots: Sequence[Shot]) -> Int64:
    """Return the index of the shot of each still, (n,)."""
    starts = np.array([shot.start for shot in shots])
    return np.asarray(np.searchsorted(starts, stills.frames, side="right") - 1, np.int64)


def shortlist(
    stills: Stills, shots: Sequence[Shot], frames: int, frame_rate: Fraction
) -> tuple[int, ...]:
    """Return the rows of the stills whose faces have to be read at full size, ascending.

    They are the stills with faces, or next to some, that are among the best of their scene and of
    their shot.
    """
    shot_of = shot_of_stills(stills, shots)
    faces = likely_faces(stills, shot_of)
    rows = np.flatnonzero([bool(found) for found in faces])
    if not len(rows):
        return ()
    size = pool_size(len(shots), float(frames / frame_rate))
    largest = np.array([faces[row][0].height for row in rows])
    value = quality(stills, all_percentiles(stills), shot_of)[rows]
    value = np.asarray(value + _SIZE_WEIGHT * np.minimum(1, largest / _USUAL_SIZE), np.float32)
    scenes = cluster(stills.embeddings[rows], size)
    places = _places(shot_of[rows], -value) + _places(scenes, -value)
    most = max(MIN_READ, READ_PER_CANDIDATE * size)
    best = np.lexsort((-value, places))[:most]
    return tuple(sorted(int(rows[at]) for at in best))


def _places(groups: Int64, order: AnyArray) -> Int64:
    """Return the place of each member within its group, counted from 0 by ascending ``order``."""
    places = np.zeros(len(groups), np.int64)
    sorted_ = np.lexsort((order, groups))
    starts = np.flatnonzero(np.diff(groups[sorted_], prepend=-1))
    places[sorted_] = np.arange(len(groups)) - np.repeat(
        starts, np.diff(np.append(starts, len(groups)))
    )
    return places


def make_pool(
    stills: Stills,
    shots: Sequence[Shot],
    frames: int,
    frame_rate: Fraction,
    portraits: Mapping[int, Sequence[Portrait]] | None = None,
    aspect: Fraction = ASPECTS["16:9"],
) -> Pool:
    """Choose the candidates of a title with at least one still.

    ``portraits`` are those of all faces of the stills of :func:`shortlist`, by row; ``aspect`` is
    the title's width over its height.
    """
    ranks = all_percentiles(stills)
    shot_of = shot_of_stills(stills, shots)
    qualities = quality(stills, ranks, shot_of)
    windows = [(min(1.0, float(a / aspect)), min(1.0, float(aspect / a))) for a in ASPECTS.values()]
    people = judge_people(stills, portraits or {}, shot_of, windows)
    spared = people.lead & (stills.measure("text") < _SOME_LETTERS)
    filtered = apply_filters(TitleStills(stills, frames, frame_rate), qualities, spared)
    kept = np.flatnonzero(filtered.kept)
    seconds = float(frames / frame_rate)
    size = pool_size(len(shots), seconds)
    rated = _rated(qualities, filtered, people)[kept]
    bad = (filtered.flagged | people.shut)[kept]
    # Whoever was not looked at may have shut eyes.
    reserve = bad | (people.unread & _large(likely_faces(stills, shot_of)))[kept]
    clusters = cluster(stills.embeddings[kept], size)
    order = choose(
        rated,
        clusters,
        [int(value) for value in stills.hashes[kept]],
        stills.embeddings[kept],
        size,
        reserve,
        shot_of[kept],
        _shown(people, kept, reserve),
        MIN_SIZE if seconds > SHORT_SECONDS else 1,
    )
    labels = np.full(len(stills), -1, np.int64)
    labels[kept] = clusters
    chosen = tuple(
        ChosenStill(
            row=row,
            frame=int(stills.frames[row]),
            shot=int(shot_of[row]),
            cluster=int(labels[row]),
            quality=round(float(rated[at]), 4),
            flags=filtered.flags[row] + ((EYES_SHUT,) if people.shut[row] else ()),
            appeal=round(float(people.appeal[row]), 2),
            people=None if people.unread[row] else people.persons[row],
        )
        for at in order
        for row in [int(kept[at])]
    )
    return Pool(chosen, ranks, filtered, int(clusters.max()) + 1, labels)


def _rated(qualities: Float32, filtered: Filtered, people: People) -> Float32:
    """Return the quality of each still with the people that it shows, 0 to 1, (n,).

    A picture that is poor stays so, whoever is in it.
    """
    usable = qualities >= _FLOOR * float(np.median(qualities))
    worth = FACE_WEIGHT * people.appeal * usable
    rated = qualities + worth * (1 - qualities)
    return np.where(filtered.flagged | people.shut, _FLAGGED * rated, rated).astype(np.float32)


def _large(faces: Sequence[Sequence[Face]]) -> Mask:
    """Return True for the stills with a face whose eyes can be seen, (n,)."""
    return np.array([bool(one) and one[0].height >= LEGIBLE_HEIGHT for one in faces], bool)


def _shown(people: People, kept: Int64, reserve: Mask) -> Shown | None:
    if not any(people.persons):
        return None
    return Shown(
        sitters=np.array([people.sitter(int(row)) for row in kept], np.int64),
        leads=np.where(people.lead[kept] & ~reserve, people.appeal[kept], 0).astype(np.float32),
        unlike=lambda at, other: unlike(
            people.persons[int(kept[at])], people.persons[int(kept[other])]
        ),
    )
