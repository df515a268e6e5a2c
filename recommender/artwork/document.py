"""``artwork.json`` as types: the pool of a title's stills, with the evidence to choose among them.

A pool never changes: another choice is another pool with another id. Unknown values are null
instead of a guess: ``faces`` if face detection is off, ``maturity`` and ``rights`` always.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Final, Literal

from pydantic import Field

from ladder.document import Document, Rational, TitleDocument

ARTWORK_SCHEMA: Final = "shotladder/artwork/1"
SELECTION_SCHEMA: Final = "shotladder/artwork-selection/1"

ARTWORK_URI: Final = "artwork.json"
FOLDER: Final = "artwork"
ACTIONS_URI: Final = f"{FOLDER}/actions.parquet"
SCRUB_URI: Final = f"{FOLDER}/scrub.vtt"

Share = Annotated[float, Field(ge=0, le=1)]


class ArtworkTitle(Document):
    """The title that the pool shows."""

    id: str
    """First 16 hexadecimal digits of the source's SHA-256."""
    source: str
    """File name of the source, without folders."""
    sha256: str
    width: int
    height: int
    """Display height in square pixels. Crops are windows of frames of this display size."""
    frame_rate: Rational
    frames: int


class Area(Document):
    """A window of the frame, in pixels."""

    x: int
    y: int
    width: int
    height: int


class Place(Document):
    """A point, in shares of the width and height."""

    x: float
    y: float


class Measure(Document):
    """A measure of a still; `docs/artwork.md` explains each measure."""

    raw: float
    """Measured value in the measure's own unit."""
    percentile: Share
    """Share of the title's other stills with a lower value; ties count half."""


class DominantColour(Document):
    """A colour that covers much of a still."""

    hex: str
    """The colour as ``#rrggbb``."""
    share: Share
    """Share of the pixels that have it."""


class FoundFace(Document):
    """A face, in shares of the frame's width and height."""

    x: float
    y: float
    width: float
    height: float
    score: float
    """Confidence of the detector, 0 to 1."""


class Rendition(Document):
    """A file with a crop of the still."""

    format: Literal["webp", "jpeg"]
    width: int
    height: int
    bytes: int
    sha256: str
    uri: str
    """Path relative to the package's folder."""


class Crop(Document):
    """The still in one aspect ratio."""

    aspect: Literal["16:9", "2:3", "1:1", "21:9"]
    area: Area
    """Window of the frame that the crop shows, without black bars."""
    focal_point: Place
    """Point within the crop at which people look."""
    renditions: list[Rendition]
    """Files of the crop, the largest first; none is larger than ``area``."""


class Candidate(Document):
    """A still that may be shown."""

    id: str
    """First 16 hexadecimal digits of the SHA-256 of the frame's pixels."""
    action_id: str
    """Id by which a bandit logs and learns: the ``id`` that this picture had when it first was in a
    pool, kept when the title is delivered again (see ``replaces``)."""
    rank: int
    """Position from 0 in the order of quality and of difference from the candidates before."""
    frame: int
    time_seconds: float
    shot: int
    """Index of the shot in ``ladder.json``."""
    cluster: int
    """Number of the candidate's cluster. Stills of one cluster show similar things, and every
    cluster has a candidate before any has two."""
    quality: Share
    """Quality within the title; not comparable between titles."""
    flags: list[str]
    """Filters that found the still bad but had used up their quota."""
    focal_point: Place
    """Point within the frame at which people look."""
    title_side: Literal["left", "right", "top", "bottom"]
    """Side with most room for the title's name."""
    crops: list[Crop]
    metrics: dict[str, Measure]
    colours: list[DominantColour]
    """Dominant colours, the most frequent first."""
    perceptual_hash: str
    """64 bits as 16 hexadecimal digits; hashes that differ in 10 bits or fewer mean the same
    picture."""
    embedding: list[float]
    """Embedding by the document's ``embedding_model``."""
    faces: list[FoundFace] | None
    """Faces, the largest first; null if face detection is off."""
    spoiler_zone: bool
    """True in the last fifth of the title, by time alone."""
    maturity: None
    """Always null, because it is unknown."""
    rights: None
    """Always null, because it is unknown."""


class Filter(Document):
    """What a filter found among the title's stills."""

    name: str
    found: int
    """Number of stills that the filter found."""
    dropped: int
    """Number of stills that the filter dropped."""


class Selection(Document):
    """How the candidates were chosen."""

    stills: int
    """Number of stills that were measured."""
    quota: Share
    """Largest share of the stills that one filter may drop."""
    filters: list[Filter]
    """Filters in the order in which they drop."""
    clusters: int
    """Number of clusters of similar stills."""
    uncovered_clusters: list[int]
    """Clusters without a candidate, because all of their stills duplicate another cluster's."""


class ScrubFacts(Document):
    """Thumbnails at even steps, for the seek bar of a player."""

    uri: str
    """Path of a WebVTT file whose cues name parts of the sheets."""
    sheets: list[str]
    """Paths of the sheets."""
    step_seconds: float
    width: int
    """Width of a thumbnail in pixels."""
    height: int
    """Height of a thumbnail in pixels."""


class Kept(Document):
    """A picture that was in the previous pool and is in this one."""

    action_id: str
    old_id: str
    new_id: str
    hash_distance: int
    """Number of differing bits of the perceptual hashes; -1 for the same pixels."""


class Lineage(Document):
    """How this pool relates to the pool that it replaces."""

    pool: str
    """Id of the previous pool."""
    title_id: str
    """Id of the previous source."""
    kept: list[Kept]
    retired: list[str]
    """Action ids that are no longer in the pool."""


class Artwork(TitleDocument):
    """``artwork.json``."""

    schema_: Literal["shotladder/artwork/1"] = Field(default=ARTWORK_SCHEMA, alias="schema")
    pool: str
    """Id of the pool: 16 hexadecimal digits of a digest of its candidates and renditions."""
    title: ArtworkTitle
    embedding_model: str
    """Id of what made the embeddings. Only embeddings of the same id can be compared."""
    face_model: str | None
    """First 16 hexadecimal digits of the SHA-256 of the model for face detection; null if face
    detection is off."""
    picture: Area
    """The frame without black bars."""
    selection: Selection
    candidates: list[Candidate]
    """Candidates by rank, at least one."""
    actions_uri: str
    """Path of a Parquet table of the candidates, with ids and features for a bandit."""
    scrub: ScrubFacts
    replaces: Lineage | None
    """Relation to the previous pool in the package's folder; null if there was none."""

    def to_json(self) -> str:
        """Return the document's text, which ends in a newline."""
        return self.model_dump_json(indent=1) + "\n"


class SelectedStill(Document):
    """A candidate in the requested aspect ratio, with what is needed to show and to log it."""

    action_id: str
    id: str
    rank: int
    quality: Share
    flags: list[str]
    frame: int
    time_seconds: float
    shot: int
    cluster: int
    spoiler_zone: bool
    faces: int | None
    """Number of faces; null if face detection is off."""
    title_side: Literal["left", "right", "top", "bottom"]
    focal_point: Place
    """Point within the crop at which people look."""
    colours: list[DominantColour]
    renditions: list[Rendition]
    """Files of the crop, the largest first."""


class SelectedArtwork(TitleDocument):
    """A few candidates of a pool, as a service answers them."""

    schema_: Literal["shotladder/artwork-selection/1"] = Field(
        default=SELECTION_SCHEMA, alias="schema"
    )
    pool: str
    """Id of the pool; all of it is in ``artwork.json``."""
    title_id: str
    aspect: Literal["16:9", "2:3", "1:1", "21:9"]
    diverse: bool
    """True if chosen by quality and difference, false if by quality alone."""
    of: int
    """Number of candidates in the pool."""
    candidates: list[SelectedStill]
    """Selected candidates, the best first."""


def pool_id(candidates: list[Candidate]) -> str:
    """Return the id of a pool: a digest of its candidates without their action ids."""
    digest = hashlib.sha256()
    for candidate in candidates:
        content = candidate.model_dump_json(exclude={"action_id"})
        digest.update(hashlib.sha256(content.encode()).digest())
    return digest.hexdigest()[:16]
