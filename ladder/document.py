"""``ladder.json`` and ``measurements.json`` as versioned types.

The JSON Schemas in ``docs/schemas`` are generated from these models. Documents are deterministic:
the same title, tools and parameters give the same bytes. Whatever differs from run to run (CPU
seconds, wall time, hosts) is in ``run.json``, next to the package.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from encoder.media import Size
from encoder.recipes import BLOCK
from ladder.sizes import aspect_error, padding

LADDER_SCHEMA: Final = "shotladder/ladder/1"
MEASUREMENTS_SCHEMA: Final = "shotladder/measurements/1"

Rational = Annotated[str, Field(pattern=r"^[1-9][0-9]*/[1-9][0-9]*$", examples=["24000/1001"])]


class Document(BaseModel):
    """Base of all documents: frozen, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)


def _is_none(value: object) -> bool:
    return value is None


class TitleDocument(Document):
    """Base of documents about a whole title."""

    external_id: str | None = Field(default=None, exclude_if=_is_none)
    """Name under which a service has the title. The service puts it in when it serves the document;
    files do not have it."""


class Quality(Document):
    """A measured quality, pooled over frames."""

    mean: float
    harmonic_mean: float
    p5: float
    """5th percentile over frames."""
    p1: float
    """1st percentile over frames."""
    min: float


class ExcerptFacts(Document):
    """Which part of a source a title is."""

    start_seconds: float
    """Time of its first picture from the first picture of the source."""
    seconds: float
    of_seconds: float
    """Duration of the whole source in seconds."""
    bitrate: int
    """Rate of the source's video packets in the part, bit/s."""
    of_bitrate: int
    """Rate of the source's video packets as a whole, bit/s."""
    source_sha256: str
    """SHA-256 of the source file."""


class TitleFacts(Document):
    """The title as it is encoded and measured: its canonical reference."""

    id: str
    """First 16 hexadecimal digits of the source's SHA-256."""
    source: str
    """File name of the source, without folders; of an excerpt also which part it is."""
    sha256: str
    """SHA-256 of the source file; of an excerpt a digest of that and of its place."""
    width: int
    """Display width in square pixels, after rotation."""
    height: int
    """Display height in square pixels, after rotation."""
    frame_rate: Rational
    frames: int
    """Number of frames."""
    source_bitrate: int
    """Rate of the source's video packets in bit/s."""
    audio: bool
    """True where the source has sound."""
    hdr: Literal["pq", "hlg"] | None = None
    """Transfer function of a title of high dynamic range; None for standard range. Qualities are
    those of its picture mapped to standard range, as the models' names state."""
    tone_mapped: Literal["pq", "hlg"] | None = None
    """Transfer function of a source of high dynamic range that was mapped to standard range
    (``run --tone-map``); the title is the mapped picture. None where nothing was mapped."""
    excerpt: ExcerptFacts | None = Field(default=None, exclude_if=_is_none)
    """Which part of the source the title is (``run --start``, ``--duration`` or ``--sample``); the
    field is missing where the title is the whole source."""


class SearchFacts(Document):
    """How the ladder was found, and how many encodes that took."""

    mode: str
    """Name of the search: ``predict``, ``sparse`` or ``exhaustive``."""
    weights: str | None = None
    """Identity of the complexity model's weights for the first codec; None where nothing was
    predicted."""
    encodes: int
    """Number of distinct operating points of shots that were encoded and measured."""
    delivered_encodes: int
    """Number of those encodes that the package holds."""
    grid_encodes: int
    """Number of encodes of the full grid: shots times sizes times CRFs."""


class CodecFacts(Document):
    """One codec of a ladder of several codecs, with its whole ladder before rungs were dropped."""

    codec: str
    recipe: str
    """Name of the recipe."""
    search: SearchFacts
    rungs: int
    """Number of rungs of the codec's own ladder."""
    dropped: list[str]
    """Names of rungs that are not in the package because a rung of another codec needs no more
    bits and is no worse. The first codec keeps all its rungs, as every player has to be able to
    play it."""
    bd_rate_percent: dict[str, float | None]
    """BD-rate against the first codec's ladder on measured rungs, by quality model; negative for
    fewer bits, None where the two ladders share no range of quality."""


class RecipeCheck(Document):
    """Two recipes compared on three shots of the title before the search.

    Either a recipe with its options against the same preset without them, or a further codec
    against the first.
    """

    recipe: str
    """Name of the recipe that was to be used."""
    against: str
    """Name of the recipe that it was compared with."""
    kept: bool
    """True where the ladder uses ``recipe``. Otherwise it uses ``against`` of the same codec, or
    leaves the further codec out."""
    by_evidence: bool = False
    """True where nothing was encoded for this, because evidence that ships with the weights covers
    the title."""
    shots: list[int] = Field(default_factory=list)
    """Numbers of the shots that were encoded."""
    width: int | None = None
    height: int | None = None
    percent: dict[str, float | None] = Field(default_factory=dict)
    """Rate of ``recipe`` over that of ``against`` at equal score, in percent, by quality model;
    negative for fewer bits, None where the scores have no common range."""
    warning: str | None = None
    """Why ``recipe`` is not used, should not be, or may do no good, in words; None where it does
    good."""


class LockedCost(Document):
    """What one size per rung costs against sizes free per shot, on the same curves."""

    bd_rate_percent: float | None
    """BD-rate of ``locked`` against ``mixed``; positive where ``locked`` needs more bits, None
    without a common range of quality."""
    basis: Literal["measured", "predicted"]
    """Kind of curves that both were solved on."""


class Segment(Document):
    """One shot of one rung, as delivered."""

    shot: int
    """Number of the shot in the title."""
    start_frame: int
    """First frame of the shot."""
    end_frame: int
    """One past the last frame of the shot."""
    width: int
    """Encoded width in pixels."""
    height: int
    """Encoded height in pixels."""
    crf: float
    bytes: int
    """Size of the segment in bytes."""
    uri: str
    """Path of the segment, relative to the package's folder."""
    sha256: str
    """SHA-256 of the segment."""
    quality: dict[str, float]
    """Measured mean quality by quality model."""

    @property
    def size(self) -> Size:
        """Width and height in pixels."""
        return Size(self.width, self.height)


class Rung(Document):
    """One rendition of the title."""

    name: str
    codec: str
    recipe: str | None = None
    """Name of the recipe; None for the ladder's own, in packages from before there were several
    codecs."""
    codecs: str
    """Codecs string as in RFC 6381."""
    width: int
    """Width in pixels; under ``mixed`` that of the largest segment."""
    height: int
    """Height in pixels; under ``mixed`` that of the largest segment."""
    bitrate: int
    """Rate of the delivered video in bit/s: media segments, without the init segment."""
    peak_bitrate: int
    """Largest rate in bit/s of contiguous segments that last 0.5 to 1.5 target durations."""
    slope: float | None
    """Quality-frames per bit at which every shot stopped spending."""
    quality: dict[str, Quality]
    """Measured quality over all frames of the title, by quality model."""
    predicted_quality: float | None
    """Mean quality that was expected before measuring; None where nothing was predicted."""
    init_uri: str
    """Path of the init segment, relative to the package's folder."""
    segments: list[Segment]
    """Segments of the rung, one per shot."""

    @property
    def size(self) -> Size:
        """Width and height in pixels; under ``mixed`` those of the largest segment."""
        return Size(self.width, self.height)

    @property
    def padding(self) -> float:
        """Pixels that the codec codes beside the picture, as a share of the picture's."""
        return padding(self.size, BLOCK[self.codec])


class SoundLoudness(Document):
    """How a track of sound was brought to a loudness (EBU R128)."""

    target: float
    """Integrated loudness in LUFS that was asked for."""
    source: float | None
    """LUFS of the mix before; None where it could not be measured and was left as it is."""
    integrated: float | None
    """LUFS of the track as it is delivered; None where it could not be measured."""
    true_peak: float | None
    """True peak of the track in dBTP."""
    linear: bool
    """True where one gain was enough, False where the gain changes because of peaks."""


class Sound(Document):
    """A track of sound, as asked for and delivered."""

    name: str
    """Name of the track, the last part of its folder."""
    codec: str
    """Codec that was asked for: ``aac``, ``opus``, ``ac3`` or ``eac3``."""
    codecs: str
    """Codecs string as in RFC 6381."""
    channels: int
    bitrate: int
    """Bitrate in bit/s that was asked for."""
    language: str | None
    """Tag as in RFC 5646; None where the source states no language."""
    loudness: SoundLoudness | None
    """None where no loudness was asked for."""


class CueFacts(Document):
    """A cue for ad insertion: pictures may be replaced there, or something inserted."""

    id: str
    start_frame: int
    """First frame of the segment that begins at the cue."""
    end_frame: int
    """One past the last frame of the break; ``start_frame`` where the break has no pictures."""


class EncryptionKey(Document):
    """A key by its id, and the tracks that need it."""

    key_id: str
    """32 hexadecimal digits."""
    tracks: list[str]
    """Names of rungs and of tracks of sound."""


class EncryptionFacts(Document):
    """How the media of a package are encrypted."""

    scheme: Literal["cbcs"]
    keys: list[EncryptionKey]


class Ladder(TitleDocument):
    """The ladder of a package, ``ladder.json``."""

    schema_: Literal["shotladder/ladder/1"] = Field(default=LADDER_SCHEMA, alias="schema")
    title: TitleFacts
    policy: Literal["locked", "mixed"]
    profile: str
    """Name of the profile."""
    codec: str
    """Codec of the ladder; the first where there are several."""
    recipe: str
    """Name of the first codec's recipe."""
    codecs: list[CodecFacts] = Field(default_factory=list)
    """Facts on each codec of a ladder of several codecs; empty where there is one."""
    tool: str
    """Identity of the ffmpeg that encoded and measured."""
    quality_model: str
    """Quality model that the ladder was solved for."""
    search: SearchFacts
    recipe_checks: list[RecipeCheck] | None = None
    """Comparisons of recipes before the search; None where none were asked for, and in packages
    from before there were any."""
    locked_cost: LockedCost | None
    """Cost of one size per rung; None under ``mixed``."""
    constraints: list[str]
    """Sentences for people: which constraint bounded which rung."""
    sound: list[Sound] | None = Field(default=None, exclude_if=_is_none)
    """Tracks of sound, where somebody decided how sound is encoded; the field is missing
    otherwise."""
    rungs: list[Rung]
    """Rungs codec by codec, from the lowest rate to the highest."""
    cues: list[CueFacts] | None = Field(default=None, exclude_if=_is_none)
    """Cues for ad insertion, each of which begins a segment; the field is missing where there
    are none."""
    encryption: EncryptionFacts | None = Field(default=None, exclude_if=_is_none)
    """How the media are encrypted; the field is missing where they are not."""

    @property
    def frame_rate(self) -> Fraction:
        """Frames per second of the title."""
        return Fraction(self.title.frame_rate)

    @property
    def quality_models(self) -> tuple[str, ...]:
        """Quality models that measured every rung, the ladder's own first."""
        shared = set.intersection(*(set(rung.quality) for rung in self.rungs))
        own = self.quality_model
        return (own, *sorted(shared - {own})) if own in shared else tuple(sorted(shared))

    def marginal_quality(self, rung: Rung, bitrate: float = 100_000) -> float | None:
        """Return the mean quality that ``bitrate`` bit/s more would add to a rung, to first order:
        its slope in units that people know. None where the rung has no slope.
        """
        if rung.slope is None:
            return None
        # The slope is in quality x frames per bit; a bit/s more is a bit per frame rate frames.
        return rung.slope * bitrate / float(self.frame_rate)

    def aspect_error(self, rung: Rung) -> float:
        """Return how much wider (positive) or narrower than the title a rung shows the picture, as
        a share of the title's aspect ratio."""
        return aspect_error(rung.size, self.title.width, self.title.height)

    def to_json(self) -> str:
        """Return the document's text, ending in a newline."""
        return self.model_dump_json(indent=1) + "\n"


class Cell(Document):
    """A measured operating point of a shot."""

    shot: int
    """Number of the shot in the title."""
    width: int
    """Encoded width in pixels."""
    height: int
    """Encoded height in pixels."""
    crf: float
    recipe: str | None = None
    """Name of the recipe; None for the document's own, in documents from before there were several
    codecs."""
    bytes: int
    """Size of the encode in bytes."""
    quality: float
    """Measured mean quality."""
    predicted_bytes: int | None = None
    """Size in bytes that was expected before anything was measured; None where nothing was
    predicted."""
    predicted_quality: float | None = None
    """Mean quality that was expected before anything was measured; None where nothing was
    predicted."""
    reason: str | None = None
    """Reason for which the search asked for this cell, in words."""

    @property
    def size(self) -> Size:
        """Width and height in pixels."""
        return Size(self.width, self.height)


class ShotRow(Document):
    """The frames of a shot."""

    start_frame: int
    """First frame."""
    end_frame: int
    """One past the last frame."""
    cuts: list[int]
    """Frames inside the shot at which a scene cut was left."""


class Measurements(Document):
    """Every operating point that was measured for a ladder, ``measurements.json``."""

    schema_: Literal["shotladder/measurements/1"] = Field(
        default=MEASUREMENTS_SCHEMA, alias="schema"
    )
    title_id: str
    """First 16 hexadecimal digits of the source's SHA-256."""
    recipe: str
    """Name of the first codec's recipe."""
    quality_model: str
    """Quality model of all qualities."""
    weights: str | None = None
    """Identity of the complexity model's weights for the first codec; None where nothing was
    predicted."""
    shots: list[ShotRow]
    cells: list[Cell]

    def of_recipe(self, recipe: str | None) -> list[Cell]:
        """Return the cells that were measured with a recipe; None is that of the first codec."""
        name = recipe or self.recipe
        return [cell for cell in self.cells if (cell.recipe or self.recipe) == name]

    def to_json(self) -> str:
        """Return the document's text, ending in a newline."""
        return self.model_dump_json() + "\n"
