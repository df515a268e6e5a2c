"""Turns the candidates of an artwork pool into the features by which policies compare them."""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np

from encoder.arrays import Float64
from recommender.artwork.document import Artwork, Candidate
from recommender.artwork.stills import MEASURES
from recommender.policy.trials import Pictures, centred

FEATURES_VERSION: Final = 1
"""Part of a policy. Raise it when the same pool gives other features."""
FEATURES: Final = (
    *MEASURES, "place", "spoiler_zone", "quality", "faces", "largest_face", "eyes_open", "facing",
)  # fmt: skip
"""Names of the features in the order of their columns. Measures are percentiles within the title;
``place`` is 0 to 1 in the title; ``faces`` is their number up to 3 and ``largest_face`` the largest
one's share of the picture, both 0 where face detection is off. ``eyes_open`` is how far the eyes of
the faces are open, and ``facing`` how far the largest face is turned to the camera, both half where
nothing is known of them."""

_SPREAD: Final = 12**0.5
"""Factor by which percentiles get a variance of 1."""


def pictures_of(artwork: Artwork, title: str) -> Pictures:
    """Return the pictures of a pool, in the order of their ranks, for the title of this name."""
    candidates = artwork.candidates
    return Pictures(
        title=title,
        pool=pool_version(artwork),
        actions=tuple(candidate.action_id for candidate in candidates),
        features=centred(np.array([_features(artwork, candidate) for candidate in candidates])),
        quality=np.array([candidate.quality for candidate in candidates]),
        looks=np.array([candidate.embedding for candidate in candidates], np.float64),
        looks_model=artwork.embedding_model,
    )


def pool_version(artwork: Artwork) -> str:
    """Return the id of a pool together with its action ids: that of the pool alone where all
    pictures are named by their own ids, and else followed by a digest of the names."""
    actions = [candidate.action_id for candidate in artwork.candidates]
    if actions == [candidate.id for candidate in artwork.candidates]:
        return artwork.pool
    return f"{artwork.pool}-{hashlib.sha256(' '.join(actions).encode()).hexdigest()[:8]}"


def _features(artwork: Artwork, candidate: Candidate) -> Float64:
    """Return the features of a candidate, each scaled to a variance of about 1."""
    place = candidate.frame / max(artwork.title.frames, 1)
    faces = candidate.faces or []
    largest = max((face.width * face.height for face in faces), default=0.0)
    open_eyes = [face.eyes_open for face in faces if face.eyes_open is not None]
    yaw = faces[0].yaw if faces else None
    percentiles = [
        candidate.metrics[name].percentile if name in candidate.metrics else 0.5
        for name in MEASURES  # a pool of an earlier release may lack some
    ]
    return np.array(
        [
            *((value - 0.5) * _SPREAD for value in (*percentiles, place)),
            (candidate.spoiler_zone - 0.2) / 0.4,
            (candidate.quality - 0.5) * _SPREAD,
            min(len(faces), 3) - 0.5,
            10 * largest,
            2 * (float(np.mean(open_eyes)) - 0.5) if open_eyes else 0.0,
            2 * (0.5 - min(abs(yaw), 1.0)) if yaw is not None else 0.0,
        ]
    )
