"""``ladder.json`` and ``measurements.json`` as types: what goes out, versioned.

The JSON Schemas in ``docs/schemas`` are generated from these models. Documents are deterministic:
the same title, tools and parameters give the same bytes. What differs from run to run (CPU
seconds, wall time, hosts) is in ``run.json``, which stands beside the package.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from encoder.media import Size

LADDER_SCHEMA: Final = "shotladder/ladder/1"
MEASUREMENTS_SCHEMA: Final = "shotladder/measurements/1"

Rational = Annotated[str, Field(pattern=r"^[1-9][0-9]*/[1-9][0-9]*$", examples=["24000/1001"])]


class Document(BaseModel):
    """Common behaviour: frozen, nothing unknown accepted."""

    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)


class Quality(Document):
    """A measured quality, pooled over frames."""

    mean: float
    harmonic_mean: float
    p5: float
    p1: float
    min: float


class TitleFacts(Document):
    """The title as it is encoded and measured: its canonical reference."""

    id: str
    """First 16 hexadecimal digits of the source's SHA-256."""
    source: str
    """File name of the source, without folders."""
    sha256: str
    width: int
    height: int
    """Display size in square pixels, after rotation."""
    frame_rate: Rational
    frames: int
    source_bitrate: int
    """Bit/s of the source's video packets."""
    audio: bool
    hdr: Literal["pq", "hlg"] | None = None
    """Transfer of a title of high dynamic range; its qualities are those of its picture on a
    display of standard range, which the models' names say."""
    tone_mapped: Literal["pq", "hlg"] | None = None
    """Transfer of a source of high dynamic range that was mapped to standard range (``run
    --tone-map``): the title is what came of it."""


class SearchFacts(Document):
    """What was encoded to find the ladder."""

    mode: str
    """``predict``, ``sparse`` or ``exhaustive``."""
    weights: str | None = None
    """Identity of the complexity model's weights for the first codec; None where nothing was
    predicted."""
    encodes: int
    """Distinct operating points of shots that were encoded and measured."""
    delivered_encodes: int
    """Those of them that the package holds."""
    grid_encodes: int
    """Size of the full grid: shots times sizes times CRFs."""


class CodecFacts(Document):
    """One codec of a ladder of several: its own whole ladder, before any rung was dropped."""

    codec: str
    recipe: str
    search: SearchFacts
    rungs: int
    """Rungs of its own ladder."""
    dropped: list[str]
    """Names of those that are not in the package: a rung of another codec needs no more bits and
    is no worse. The first codec keeps all: it is what every player has to be able to play."""
    bd_rate_percent: dict[str, float | None]
    """By model, against the first codec's ladder, on measured rungs; negative: fewer bits. None
    where the two share no range of quality."""


class LockedCost(Document):
    """What one size per rung costs against sizes free per shot, on the same curves."""

    bd_rate_percent: float | None
    """Positive: ``locked`` needs more bits. None: no common quality range."""
    basis: Literal["measured", "predicted"]


class Segment(Document):
    """One shot of one rung, as delivered."""

    shot: int
    start_frame: int
    end_frame: int
    width: int
    height: int
    crf: float
    bytes: int
    uri: str
    """Relative to the package's folder."""
    sha256: str
    quality: dict[str, float]
    """Measured mean quality by model."""

    @property
    def size(self) -> Size:
        """Width and height in pixels."""
        return Size(self.width, self.height)


class Rung(Document):
    """One rendition of the title."""

    name: str
    codec: str
    recipe: str | None = None
    """None in packages from before there were several codecs: the ladder's."""
    codecs: str
    """RFC 6381."""
    width: int
    height: int
    bitrate: int
    """Bit/s of the delivered video: media segments, without the init segment."""
    peak_bitrate: int
    """Bit/s: largest rate of contiguous segments lasting 0.5 to 1.5 target durations."""
    slope: float | None
    """Quality-frames per bit at which every shot stopped spending."""
    quality: dict[str, Quality]
    """Measured, by model, over all frames of the title."""
    predicted_quality: float | None
    """Mean quality expected before it was measured; None where nothing was predicted."""
    init_uri: str
    segments: list[Segment]


class Ladder(Document):
    """``ladder.json``."""

    schema_: Literal["shotladder/ladder/1"] = Field(default=LADDER_SCHEMA, alias="schema")
    title: TitleFacts
    policy: Literal["locked", "mixed"]
    profile: str
    codec: str
    """The first, where there are several."""
    recipe: str
    """Of the first codec."""
    codecs: list[CodecFacts] = Field(default_factory=list)
    """Each codec of a ladder of several; empty where there is one."""
    tool: str
    """Identity of the ffmpeg that encoded and measured."""
    quality_model: str
    search: SearchFacts
    locked_cost: LockedCost | None
    constraints: list[str]
    """In words: what bounded which rung."""
    rungs: list[Rung]
    """Codec by codec, from the lowest rate to the highest."""

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

    def to_json(self) -> str:
        """The document's text, ending in a newline."""
        return self.model_dump_json(indent=1) + "\n"


class Cell(Document):
    """A measured operating point of a shot."""

    shot: int
    width: int
    height: int
    crf: float
    recipe: str | None = None
    """None in documents from before there were several codecs: the document's."""
    bytes: int
    quality: float
    predicted_bytes: int | None = None
    """As expected before anything of the title was measured; None where nothing was predicted."""
    predicted_quality: float | None = None
    reason: str | None = None
    """Why the search asked for it, in words."""

    @property
    def size(self) -> Size:
        """Width and height in pixels."""
        return Size(self.width, self.height)


class ShotRow(Document):
    """A shot's frames."""

    start_frame: int
    end_frame: int
    cuts: list[int]


class Measurements(Document):
    """``measurements.json``: every operating point that was measured for this ladder."""

    schema_: Literal["shotladder/measurements/1"] = Field(
        default=MEASUREMENTS_SCHEMA, alias="schema"
    )
    title_id: str
    recipe: str
    """Of the first codec."""
    quality_model: str
    weights: str | None = None
    """Identity of the complexity model's weights for the first codec; None where nothing was
    predicted."""
    shots: list[ShotRow]
    cells: list[Cell]

    def of_recipe(self, recipe: str | None) -> list[Cell]:
        """What was measured with a recipe; None is that of the first codec."""
        wanted = recipe or self.recipe
        return [cell for cell in self.cells if (cell.recipe or self.recipe) == wanted]

    def to_json(self) -> str:
        """The document's text, ending in a newline."""
        return self.model_dump_json() + "\n"
