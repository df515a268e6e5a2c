"""``artwork.json`` as types: the pool of a title's stills, with the evidence to choose among them.

A pool never changes: another choice is another pool with another id. Unknown values are null
instead of a guess: ``faces`` if face detection is off, ``maturity`` and ``rights`` always.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from ladder.document import Document, Rational, TitleDocument

ARTWORK_SCHEMA: Final = "shotladder/artwork/1"
SELECTION_SCHEMA: Final = "shotladder/artwork-selection/1"

ARTWORK_URI: Final = "artwork.json"
FOLDER: Final = "artwork"
ACTIONS_URI: Final = f"{FOLDER}/actions.parquet"
SCRUB_URI: Final = f"{FOLDER}/scrub.vtt"
SHEETS_TEMPLATE: Final = f"{FOLDER}/scrub-$Number%03d$.jpg"
"""Names of the sheets of the scrub track, as DASH writes them; they are numbered from 0."""

Share = Annotated[float, Field(ge=0, le=1)]
AspectName = Literal["16:9", "2:3", "1:1", "21:9", "9:16"]
TitleSide = Literal["left", "right", "top", "bottom"]


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
    """A face from brow to chin, in shares of the frame's width and height."""

    x: float
    y: float
    width: float
    height: float
    score: float
    """Confidence of the detector, 0 to 1."""
    eyes_open: Share | None = None
    """How far the eyes are open, as a share of the widest that they are in the same place of the
    same shot; null if the face is too small to tell, or nobody looked."""
    yaw: float | None = None
    """How far the face is turned: 0 towards the camera, -1 and 1 in profile; null if nobody
    looked."""


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

    aspect: AspectName
    area: Area
    """Window of the frame that the crop shows, without black bars."""
    focal_point: Place
    """Point within the crop at which people look."""
    renditions: list[Rendition]
    """Files of the crop, the largest first; none is larger than ``area``. Empty if the crop is not
    usable."""
    rank: int | None = None
    """Position from 0 among the usable crops of this aspect ratio: the order in which they are
    shown. Null if the crop is not usable, and in packages of earlier releases."""
    usable: bool = True
    """False if the crop would cut the main face; it is then not served and has no files."""
    quality: Share | None = None
    """Quality of the candidate times what the crop keeps of it; null in packages of earlier
    releases."""
    keeps_faces: bool | None = None
    """Whether the main face is whole in the crop; null if there is no face."""
    title_space: Share | None = None
    """Share of the crop that is quiet on the side with most room for the title's name."""
    title_side: TitleSide | None = None
    """That side of the crop."""
    blurhash: str | None = None
    """BlurHash of the crop, to be drawn until a file has arrived; null in packages of earlier
    releases."""


class Candidate(Document):
    """A still that may be shown."""

    id: str
    """First 16 hexadecimal digits of the SHA-256 of the frame's pixels."""
    action_id: str
    """Id by which a bandit logs and learns: the ``id`` that this picture had when it first was in a
    pool, kept when the title is delivered again (see ``replaces``)."""
    rank: int
    """Position from 0 in the one order of the pool: by quality, by the people who are shown, and by
    difference from the candidates before."""
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
    """Filters that found the still bad but had used up their quota, and ``eyes_shut``."""
    focal_point: Place
    """Point within the frame at which people look."""
    title_side: TitleSide
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
    """Faces, the largest first; null if face detection was off, in an earlier release."""
    people: int | None = None
    """Number of faces; null if face detection was off."""
    shot_scale: Literal["close-up", "medium", "wide"] | None = None
    """Scale of the shot by the height of its main face; null if there is no face."""
    appeal: Share | None = None
    """What the people who are shown add to a picture: size, open eyes, turned to the camera, sharp,
    not cut; 0 without people."""
    spoiler_zone: bool
    """True in the last fifth of the title, by time alone."""
    maturity: None
    """Always null, because it is unknown."""
    nudity_score: Share | None = None
    """Score of the document's ``nudity_model``: what it sees, not what is suitable for whom. Null
    where nobody asked for it."""
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


def _is_none(value: object) -> bool:
    return value is None


class Editors(Document):
    """What editors have decided about a pool. Its pictures stay what they are."""

    banned: list[str]
    """Action ids of pictures that are not to be shown: treat them as retired."""
    pinned: list[str]
    """Action ids of pictures that come first, in this order. Where there are any that can be shown,
    decisions are among them alone."""


class Artwork(TitleDocument):
    """``artwork.json``."""

    schema_: Literal["shotladder/artwork/1"] = Field(default=ARTWORK_SCHEMA, alias="schema")
    pool: str
    """Id of the pool: 16 hexadecimal digits of a digest of its candidates and renditions."""
    title: ArtworkTitle
    embedding_model: str
    """Id of what made the embeddings. Only embeddings of the same id can be compared."""
    face_model: str | None
    """First 16 hexadecimal digits of a digest of the models that find and read faces; null if face
    detection was off, in an earlier release."""
    nudity_model: str | None = None
    """First 16 hexadecimal digits of the digest of the model that scores nudity; null where nobody
    asked for it."""
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
    editors: Editors | None = Field(default=None, exclude_if=_is_none)
    """What editors of a service have decided; it puts that in when it serves the document."""

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
    """Number of faces; null if face detection was off, in an earlier release."""
    shot_scale: Literal["close-up", "medium", "wide"] | None = None
    """Scale of the shot by the height of its main face; null if there is no face."""
    title_side: TitleSide
    """Side of the crop with most room for the title's name."""
    title_space: Share | None = None
    """Share of that side that is quiet."""
    focal_point: Place
    """Point within the crop at which people look."""
    colours: list[DominantColour]
    blurhash: str | None = None
    """BlurHash of the crop, to be drawn until a file has arrived; null in packages of earlier
    releases."""
    renditions: list[Rendition]
    """Files of the crop, the largest first."""
    features: dict[str, Any] | None = Field(default=None, exclude_if=_is_none)
    """What a request asked for by ``fields``, as the candidate in ``artwork.json`` has it; with an
    ``embedding`` goes its ``embedding_model``."""


class SelectedArtwork(TitleDocument):
    """A few candidates of a pool, as a service answers them."""

    schema_: Literal["shotladder/artwork-selection/1"] = Field(
        default=SELECTION_SCHEMA, alias="schema"
    )
    pool: str
    """Id of the pool; all of it is in ``artwork.json``."""
    title_id: str
    aspect: AspectName
    order: Literal["rank"] | None = None
    """How the candidates are ordered: by their rank in this shape, as everywhere; null in answers
    from packages of earlier releases, which had two orders."""
    diverse: bool = True
    """True, since neighbours in the order differ; answers of earlier releases could be by quality
    alone."""
    of: int
    """Number of candidates in the pool."""
    unusable: int = 0
    """Number of candidates that are left out, because this shape would cut the main face."""
    filtered: int = 0
    """Number of candidates that are left out, because the request did not want them, or editors
    have banned them."""
    editors: Editors | None = Field(default=None, exclude_if=_is_none)
    """What editors of a service have decided; banned pictures are left out, pinned ones come
    first."""
    candidates: list[SelectedStill]
    """Selected candidates, the best first."""


def pool_id(candidates: list[Candidate]) -> str:
    """Return the id of a pool: a digest of its candidates without their action ids."""
    digest = hashlib.sha256()
    for candidate in candidates:
        content = candidate.model_dump_json(exclude={"action_id"})
        digest.update(hashlib.sha256(content.encode()).digest())
    return digest.hexdigest()[:16]
