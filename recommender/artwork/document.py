"""``artwork.json`` as types: the pool of a title's stills, with the evidence to choose among them.

A pool never changes: another choice is another pool with another id. What is not known is null
and not a guess: ``faces`` when no model was given, ``maturity`` and ``rights`` always.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Final, Literal

from pydantic import Field

from ladder.document import Document, Rational

ARTWORK_SCHEMA: Final = "shotladder/artwork/1"
SELECTION_SCHEMA: Final = "shotladder/artwork-selection/1"

Share = Annotated[float, Field(ge=0, le=1)]


class ArtworkTitle(Document):
    """What the pool is of."""

    id: str
    """First 16 hexadecimal digits of the source's SHA-256."""
    source: str
    """File name of the source, without folders."""
    sha256: str
    width: int
    height: int
    """Display size in square pixels: that of frames, crops are windows of it."""
    frame_rate: Rational
    frames: int


class Area(Document):
    """A window of the frame, pixels."""

    x: int
    y: int
    width: int
    height: int


class Place(Document):
    """A point of the frame: shares of its width and height."""

    x: float
    y: float


class Measure(Document):
    """A measure of a still, of which `docs/artwork.md` says what it is."""

    raw: float
    """As measured, in its own unit."""
    percentile: Share
    """Share of the title's other stills that have less of it; ties count half."""


class DominantColour(Document):
    """A colour that a still has much of."""

    hex: str
    """``#rrggbb``."""
    share: Share
    """Of the pixels."""


class FoundFace(Document):
    """A face: shares of the frame's width and height."""

    x: float
    y: float
    width: float
    height: float
    score: float
    """Of the detector, 0 to 1."""


class Rendition(Document):
    """A file with a crop of the still."""

    format: Literal["webp", "jpeg"]
    width: int
    height: int
    bytes: int
    sha256: str
    uri: str
    """Relative to the package's folder."""


class Crop(Document):
    """The still in one shape."""

    aspect: Literal["16:9", "2:3", "1:1", "21:9"]
    area: Area
    """Of the frame; bars are never in it."""
    focal_point: Place
    """Within the crop."""
    renditions: list[Rendition]
    """Largest first; none is larger than ``area``."""


class Candidate(Document):
    """A still that may be shown."""

    id: str
    """16 hexadecimal digits of the SHA-256 of the frame's pixels: other pixels, another id."""
    action_id: str
    """What a bandit logs and learns by: the id under which this picture was first in a pool, kept
    when the title is delivered again (see ``replaces``)."""
    rank: int
    """From 0: the order of quality and of difference from those before."""
    frame: int
    time_seconds: float
    shot: int
    """Number of the shot in ``ladder.json``."""
    cluster: int
    """Stills of one cluster show alike things. Every cluster has a candidate before any has two."""
    quality: Share
    """0 to 1 within the title; not comparable between titles."""
    flags: list[str]
    """Filters that found it bad but had used up their quota."""
    focal_point: Place
    """Within the frame: where one looks."""
    title_side: Literal["left", "right", "top", "bottom"]
    """Where there is most room for the title's name."""
    crops: list[Crop]
    metrics: dict[str, Measure]
    colours: list[DominantColour]
    """Most frequent first."""
    perceptual_hash: str
    """64 bits as 16 hexadecimal digits; 10 or fewer different bits are the same picture."""
    embedding: list[float]
    """By ``embedding_model`` of the document."""
    faces: list[FoundFace] | None
    """Largest first; null when nobody looked for faces."""
    spoiler_zone: bool
    """In the last fifth of the title, by time alone."""
    maturity: None
    """Nobody knows."""
    rights: None
    """Nobody knows."""


class Filter(Document):
    """What a filter found among the title's stills."""

    name: str
    found: int
    """Stills that are bad in its way."""
    dropped: int
    """Those that it dropped."""


class Selection(Document):
    """How the candidates came to be chosen."""

    stills: int
    """Stills that were measured."""
    quota: Share
    """Largest share of them that one filter may drop."""
    filters: list[Filter]
    """In the order in which they drop."""
    clusters: int
    uncovered_clusters: list[int]
    """Clusters without a candidate: all of their stills look like another cluster's."""


class ScrubFacts(Document):
    """Small pictures at even steps, for the bar of a player."""

    uri: str
    """WebVTT; its cues name parts of the sheets."""
    sheets: list[str]
    step_seconds: float
    width: int
    height: int
    """Of one picture."""


class Kept(Document):
    """A picture that was in the pool before and is in this one."""

    action_id: str
    old_id: str
    new_id: str
    hash_distance: int
    """Bits of the perceptual hash."""


class Lineage(Document):
    """How this pool follows the one that it replaces."""

    pool: str
    """Id of the pool before."""
    title_id: str
    """Of the source before."""
    kept: list[Kept]
    retired: list[str]
    """Action ids that are no more in the pool."""


class Artwork(Document):
    """``artwork.json``."""

    schema_: Literal["shotladder/artwork/1"] = Field(default=ARTWORK_SCHEMA, alias="schema")
    pool: str
    """Id of the pool: 16 hexadecimal digits of a digest of its candidates and renditions."""
    title: ArtworkTitle
    embedding_model: str
    """Only embeddings by the same model can be compared."""
    face_model: str | None
    """First 16 hexadecimal digits of the SHA-256 of the model; null: none was given."""
    picture: Area
    """The frame without black bars."""
    selection: Selection
    candidates: list[Candidate]
    """By rank; one at least."""
    actions_uri: str
    """Parquet table of the candidates: ids and features for a bandit."""
    scrub: ScrubFacts
    replaces: Lineage | None
    """The pool that lay in the package's folder before, where that was another one."""

    def to_json(self) -> str:
        """The document's text, ending in a newline."""
        return self.model_dump_json(indent=1) + "\n"


class SelectedStill(Document):
    """A candidate in the shape that was asked for: what is needed to show it and to log it."""

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
    """How many; null when nobody looked for faces."""
    title_side: Literal["left", "right", "top", "bottom"]
    focal_point: Place
    """Within the crop."""
    colours: list[DominantColour]
    renditions: list[Rendition]
    """Largest first."""


class SelectedArtwork(Document):
    """A few candidates of a pool, as a service answers them."""

    schema_: Literal["shotladder/artwork-selection/1"] = Field(
        default=SELECTION_SCHEMA, alias="schema"
    )
    pool: str
    """The whole pool is in ``artwork.json``."""
    title_id: str
    aspect: Literal["16:9", "2:3", "1:1", "21:9"]
    diverse: bool
    """Chosen by quality and difference, not by quality alone."""
    of: int
    """Candidates that the pool has."""
    candidates: list[SelectedStill]
    """Best first."""


def pool_id(candidates: list[Candidate]) -> str:
    """Id of a pool: of what is in it, whatever their actions are called."""
    digest = hashlib.sha256()
    for candidate in candidates:
        content = candidate.model_dump_json(exclude={"action_id"})
        digest.update(hashlib.sha256(content.encode()).digest())
    return digest.hexdigest()[:16]
