"""``comparison.json``: what ``ladder compare`` measured, kept in the package that was compared.

``ladder show`` and the report then show it without measuring again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from pydantic import Field, ValidationError

from cluster.package.package import Package
from cluster.store.files import atomic_write, file_sha256
from encoder.errors import BadInput
from ladder.bdrate import BdRate, RatePoint, monotone
from ladder.claims import Claims, bd_claim
from ladder.document import Document, Quality

COMPARISON_SCHEMA: Final = "shotladder/comparison/1"
COMPARISON_FILE: Final = "comparison.json"
"""Name of the file in a package."""


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
    ours: tuple[ComparedRung, ...]
    """Rungs of the package's first codec, lowest rate first."""
    fixed: tuple[ComparedRung, ...]
    """Rungs of the fixed ladder, lowest rate first."""
    per_title: tuple[ComparedRung, ...]
    """Rungs of the best per-title CRF ladder, lowest rate first."""
    claims: Mapping[str, Claims]
    """Claims by quality model."""
    search: str
    """Search that found our ladder: ``predict``, ``sparse`` or ``exhaustive``."""
    bounds: tuple[str, ...] = ()
    """Sentences on why the per-title ladder may not be the best of its kind, in which case the
    claim against it is too favourable. The fixed ladder has no such limit."""
    codecs: tuple[CodecComparison, ...] = ()
    """Ladders of the package's further codecs and of the other packages that were named, each
    against the first codec by the package's quality model."""

    @property
    def exhaustive(self) -> bool:
        """True where the exhaustive search found the ladder: no search reaches a better one."""
        return self.search == "exhaustive"


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


class SavedComparison(Document):
    """Content of ``comparison.json``; all of its numbers are measured."""

    schema_: Literal["shotladder/comparison/1"] = Field(default=COMPARISON_SCHEMA, alias="schema")
    title_id: str
    """Identity of the title."""
    ladder_sha256: str
    """SHA-256 of the ``ladder.json`` that was compared; with any other the comparison is stale."""
    quality_model: str
    """Quality model that the ladder was made by."""
    exhaustive: bool
    """True where the exhaustive search found our ladder."""
    ladders: dict[str, list[ComparedRung]]
    """Rungs of ``ours``, ``fixed`` and ``per_title``, lowest rate first."""
    claims: list[dict[str, Any]]
    """Fields of the ``claims`` lines of ``ladder compare --json``, one per quality model."""
    codecs: list[CodecComparison] = Field(default_factory=list)
    """Ladders of further codecs and of other packages against the first codec."""


def save_comparison(
    directory: Path, comparison: Comparison, claims: Sequence[Mapping[str, Any]], title_id: str
) -> bool:
    """Write ``comparison.json`` in one step.

    Args:
        directory: folder of the package that was compared.
        comparison: result of the comparison.
        claims: fields of the ``claims`` lines that ``ladder compare --json`` writes.
        title_id: identity of the title.

    Returns:
        True where the file was written, False where the folder cannot be written.
    """
    ladders = {
        "ours": comparison.ours,
        "fixed": comparison.fixed,
        "per_title": comparison.per_title,
    }
    saved = SavedComparison(
        title_id=title_id,
        ladder_sha256=file_sha256(directory / "ladder.json"),
        quality_model=comparison.quality_model,
        exhaustive=comparison.exhaustive,
        ladders={
            name: [replace(rung, bitrate=round(rung.bitrate, 1)) for rung in rungs]
            for name, rungs in ladders.items()
        },
        claims=[dict(fields) for fields in claims],
        codecs=list(comparison.codecs),
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
