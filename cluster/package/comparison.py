"""``comparison.json``: what ``ladder compare`` measured, kept in the package that was compared.

``ladder show`` and the report then show it without measuring again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from pydantic import Field, ValidationError

from cluster.package.package import Package
from cluster.package.receipts import Receipts, receipts_fields
from cluster.store.files import atomic_write, file_sha256
from encoder.errors import BadInput
from ladder.bdrate import BdRate, RatePoint, monotone
from ladder.claims import Claims, bd_claim, state_claims
from ladder.document import Document, Quality

COMPARISON_SCHEMA: Final = "shotladder/comparison/2"
COMPARISON_FILE: Final = "comparison.json"
"""Name of the file in a package."""

ALL: Final = "all"
"""Name of the part of a comparison that holds the rungs of all codecs of a package."""

LadderName = Literal["ours", "fixed", "per_title", "plain_per_title"]
Against = Literal["against_fixed", "against_per_title", "against_plain_per_title"]
"""Names of the BD-rates among the claims, which are fields of :class:`~ladder.claims.Claims`."""


@dataclass(frozen=True, slots=True)
class ComparedRung:
    """A measured rung of one of the compared ladders."""

    name: str
    """Name of the rung, such as ``v3-360p`` or ``360p 365k``."""
    width: int
    height: int
    bitrate: float
    """Average rate of the video in bit/s, without init segments."""
    quality: Mapping[str, Quality]
    """Pooled quality by quality model."""


@dataclass(frozen=True, slots=True)
class ComparedLadder:
    """A measured ladder, by one recipe."""

    recipe: str
    """Name of the recipe, or of the recipes, with commas, of a package's rungs of all codecs."""
    rungs: tuple[ComparedRung, ...]
    """Rungs, lowest rate first."""

    def points(self, model: str) -> list[RatePoint]:
        """Return rate (bit/s) and mean quality by ``model`` of each rung."""
        return [RatePoint(rung.bitrate, rung.quality[model].mean) for rung in self.rungs]


@dataclass(frozen=True, slots=True)
class ComparedPart:
    """The rungs of one codec of the package, or all of them, against the baselines."""

    name: str
    """Codec of the rungs, or :data:`ALL`."""
    ours: ComparedLadder
    per_title: ComparedLadder | None
    """Per-title CRF ladder by the same recipe; None for the rungs of all codecs."""
    claims: Mapping[str, Claims]
    """Claims by quality model, the package's own first."""

    def least(self, against: Against, models: Sequence[str]) -> tuple[str, BdRate] | None:
        """Return the one of ``models`` by which the saving is least, with its BD-rate.

        None where a model states no BD-rate: the least is not known then.
        """
        stated = {model: getattr(self.claims[model], against) for model in models}
        if not stated or not all(isinstance(claim, BdRate) for claim in stated.values()):
            return None
        return max(stated.items(), key=lambda each: each[1].percent)


@dataclass(frozen=True, slots=True)
class CodecComparison:
    """The whole ladder of one codec against the ladder of another, on the same title."""

    anchor: str
    """Recipe of the ladder that is compared against."""
    test: str
    """Recipe of the ladder that is compared."""
    percent: float | None
    """BD-rate in percent, negative where the test needs fewer bits; None where the two ladders
    share no range of quality."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The three claims about a ladder, and the measured ladders that they rest on."""

    title: str
    """File name of the source."""
    quality_model: str
    """Quality model that the ladder was made by."""
    judges: tuple[str, ...]
    """Judges other than VMAF, by which every claim but that of viewers is stated as well."""
    parts: tuple[ComparedPart, ...]
    """Rungs of each codec, the package's first codec first, then all together if there are
    several."""
    fixed: ComparedLadder
    """The fixed ladder, the same whatever made the package."""
    plain_per_title: ComparedLadder
    """The best per-title CRF ladder by the plain recipe of the fixed ladder."""
    search: str
    """Search that found our ladder: ``predict``, ``sparse`` or ``exhaustive``."""
    codecs: tuple[CodecComparison, ...] = ()
    """Ladders of the package's further codecs and of the other packages that were named, each
    against the first codec by the package's quality model."""
    receipts: Receipts | None = None
    """What viewers have by the codecs of their devices, and when the package has paid."""
    baseline: str | None = None
    """Name of the user's own ladder, which is then in :attr:`fixed`; None for the usual one."""

    @property
    def exhaustive(self) -> bool:
        """True where the exhaustive search found the ladder: no search reaches a better one."""
        return self.search == "exhaustive"

    @property
    def ladders(self) -> Iterator[tuple[LadderName, str | None, ComparedLadder]]:
        """Yield every measured ladder: its name, the part that it belongs to, if any, and itself.

        Rungs of all codecs together are not repeated.
        """
        yield "fixed", None, self.fixed
        yield "plain_per_title", None, self.plain_per_title
        for part in self.parts:
            if part.per_title is not None:
                yield "ours", part.name, part.ours
                yield "per_title", part.name, part.per_title


def compared_parts(
    codecs: Mapping[str, tuple[ComparedLadder, ComparedLadder]],
    fixed: ComparedLadder,
    plain_per_title: ComparedLadder,
    models: Sequence[str],
    judges: Sequence[str],
) -> tuple[ComparedPart, ...]:
    """Compare the rungs of each codec, and of all codecs together, with the baselines.

    Args:
        codecs: ladder of ours and per-title ladder by the same recipe, by codec.
        fixed: the fixed ladder.
        plain_per_title: the per-title ladder by a plain encoder.
        models: quality models by which all ladders were measured, the package's own first.
        judges: those of ``models`` that are no models of VMAF.

    Returns:
        One part per codec, and one of all codecs if there are several.
    """

    def claims(ours: ComparedLadder, per_title: ComparedLadder | None) -> dict[str, Claims]:
        return {
            model: state_claims(
                ours.points(model),
                fixed.points(model),
                per_title.points(model) if per_title else (),
                plain_per_title.points(model),
                viewers=model not in judges,
            )
            for model in models
        }

    parts = [
        ComparedPart(codec, ours, per_title, claims(ours, per_title))
        for codec, (ours, per_title) in codecs.items()
    ]
    if len(parts) > 1:
        rungs = sorted((r for part in parts for r in part.ours.rungs), key=lambda r: r.bitrate)
        recipes = ", ".join(part.ours.recipe for part in parts)
        together = ComparedLadder(recipes, tuple(rungs))
        parts.append(ComparedPart(ALL, together, None, claims(together, None)))
    return tuple(parts)


def compare_codecs(package: Package, others: Sequence[Package] = ()) -> tuple[CodecComparison, ...]:
    """Return the BD-rate of each further codec's ladder, and of each other package's first codec,
    against the package's first codec by its quality model. Only documents are read.

    Raises:
        BadInput: a package is of another title, or was not measured by that model.
    """
    ladder, model = package.ladder, package.quality_model
    compared = [
        CodecComparison(ladder.recipe, codec.recipe, codec.bd_rate_percent[model])
        for codec in ladder.codecs[1:]
    ]
    for other in others:
        title = other.ladder.title
        if title.sha256 != ladder.title.sha256 or title.frames != ladder.title.frames:
            raise BadInput(
                f"{other.directory} is a package of {title.source}, another title than "
                f"{ladder.title.source}; name packages of one title"
            )
        if any(model not in rung.quality for rung in other.ladder.rungs):
            raise BadInput(
                f"{other.directory} was not measured by {model}; run it again with --also {model}"
            )
        claim = bd_claim(package.rate_points(model), other.rate_points(model))
        percent = claim.percent if isinstance(claim, BdRate) else None
        compared.append(CodecComparison(ladder.recipe, other.ladder.recipe, percent))
    return tuple(compared)


class SavedLadder(Document):
    """A measured ladder in ``comparison.json``."""

    name: LadderName
    """``ours``, ``fixed``, ``per_title`` (by the recipe of ours) or ``plain_per_title``."""
    codec: str | None
    """Codec of ours that the ladder belongs to; null for the two that do not follow the package."""
    recipe: str
    """Recipe of the ladder."""
    rungs: list[ComparedRung]
    """Rungs, lowest rate first."""


class SavedComparison(Document):
    """Content of ``comparison.json``; all of its numbers are measured.

    Of the version before, the fixed ladder followed the package's own recipe; such a file counts
    as stale.
    """

    schema_: Literal["shotladder/comparison/2"] = Field(default=COMPARISON_SCHEMA, alias="schema")
    title_id: str
    """Identity of the title."""
    ladder_sha256: str
    """SHA-256 of the ``ladder.json`` that was compared; with any other the comparison is stale."""
    quality_model: str
    """Quality model that the ladder was made by."""
    judges: list[str]
    """Judges other than VMAF by which the ladders were measured."""
    exhaustive: bool
    """True where the exhaustive search found our ladder."""
    ladders: list[SavedLadder]
    """The measured ladders."""
    claims: list[dict[str, Any]]
    """Fields of the ``claims`` lines of ``ladder compare --json``, one per codec and quality
    model, and for all codecs together if there are several."""
    codecs: list[CodecComparison] = Field(default_factory=list)
    """Ladders of further codecs and of other packages against the first codec."""
    baseline: str | None = Field(default=None, exclude_if=lambda name: name is None)
    """Name of the user's own ladder that stands in place of the fixed one."""
    verdict: dict[str, Any] | None = None
    """Fields of the ``verdict`` line of ``ladder compare --json``; None in files from before there
    was one."""
    receipts: dict[str, Any] | None = None
    """Fields of the ``receipts`` line of ``ladder compare --json``; None in files from before
    there was one."""

    @property
    def fixed(self) -> list[ComparedRung]:
        """Rungs of the fixed ladder."""
        return next(ladder.rungs for ladder in self.ladders if ladder.name == "fixed")

    def percent(self, codec: str, model: str, against: str) -> float | None:
        """Return a BD-rate among the claims in percent; None where there is none."""
        for claims in self.claims:
            if (claims["codec"], claims["quality_model"]) == (codec, model):
                return (claims.get(against) or {}).get("percent")
        return None

    def least(self, codec: str, against: str) -> float | None:
        """Return the BD-rate in percent by the judge by which the saving is least; None where a
        judge has none."""
        stated = [self.percent(codec, judge, against) for judge in self.judges]
        known = [percent for percent in stated if percent is not None]
        return max(known) if known and len(known) == len(stated) else None


def save_comparison(
    directory: Path,
    comparison: Comparison,
    claims: Sequence[Mapping[str, Any]],
    title_id: str,
    verdict: Mapping[str, Any] | None = None,
) -> bool:
    """Write ``comparison.json`` in one step.

    Args:
        directory: folder of the package that was compared.
        comparison: result of the comparison.
        claims: fields of the ``claims`` lines that ``ladder compare --json`` writes.
        title_id: identity of the title.
        verdict: fields of the ``verdict`` line.

    Returns:
        True where the file was written, False where the folder cannot be written.
    """
    saved = SavedComparison(
        title_id=title_id,
        ladder_sha256=file_sha256(directory / "ladder.json"),
        quality_model=comparison.quality_model,
        judges=list(comparison.judges),
        exhaustive=comparison.exhaustive,
        ladders=[
            SavedLadder(
                name=name,
                codec=codec,
                recipe=ladder.recipe,
                rungs=[replace(rung, bitrate=round(rung.bitrate, 1)) for rung in ladder.rungs],
            )
            for name, codec, ladder in comparison.ladders
        ],
        claims=[dict(fields) for fields in claims],
        codecs=list(comparison.codecs),
        baseline=comparison.baseline,
        verdict=None if verdict is None else dict(verdict),
        receipts=receipts_fields(comparison.receipts) if comparison.receipts else None,
    )
    content = saved.model_dump_json(indent=1) + "\n"
    try:
        atomic_write(directory / COMPARISON_FILE, content.encode(), durable=False)
    except OSError:
        return False
    return True


def read_comparison(directory: Path) -> SavedComparison | None:
    """Return the comparison of a package; None where there is none, or only a stale one."""
    try:
        saved = SavedComparison.model_validate_json((directory / COMPARISON_FILE).read_bytes())
        current = file_sha256(directory / "ladder.json")
    except (OSError, ValidationError):
        return None
    return saved if saved.ladder_sha256 == current else None


def has_stale_comparison(directory: Path) -> bool:
    """Tell whether a package has a comparison that is of another ladder, or by a release whose
    fixed ladder was another one."""
    return (directory / COMPARISON_FILE).exists() and read_comparison(directory) is None


def bits_against(
    anchor: Sequence[ComparedRung], bitrate: float, quality: float, model: str
) -> float | None:
    """Return how many percent more bits a rung takes than a ladder needs for the same quality.

    The rate of ``anchor`` at that quality is interpolated linearly in log rate between its
    measured rungs.

    Args:
        anchor: rungs of the ladder that is compared against.
        bitrate: rate of the rung in bit/s.
        quality: mean quality of the rung.
        model: quality model of ``quality``.

    Returns:
        Percent; None where ``anchor`` does not reach the quality.
    """
    points = monotone(RatePoint(rung.bitrate, rung.quality[model].mean) for rung in anchor)
    if len(points) < 2 or not points[0].quality <= quality <= points[-1].quality:
        return None
    logs = [math.log(point.rate) for point in points]
    needed = math.exp(float(np.interp(quality, [point.quality for point in points], logs)))
    return (bitrate / needed - 1) * 100
