"""``comparison.json``: what ``ladder compare`` measured, kept beside its ladder.

Other views can then show it without measuring again.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from pydantic import Field, ValidationError

from cluster.package.package import Package
from encoder.errors import BadInput
from ladder.bdrate import BdRate, RatePoint, monotone
from ladder.claims import Claims, bd_claim
from ladder.document import Document, Quality

COMPARISON_SCHEMA: Final = "shotladder/comparison/1"
NAME: Final = "comparison.json"


@dataclass(frozen=True, slots=True)
class ComparedRung:
    """A measured rung of one of the compared ladders."""

    name: str
    width: int
    height: int
    bitrate: float
    """Bit/s of the video, without init segments."""
    quality: Mapping[str, Quality]
    """Pooled quality by model."""


@dataclass(frozen=True, slots=True)
class CodecComparison:
    """The whole ladder of one codec against that of another, on the same title."""

    anchor: str
    """Name of the anchor's recipe."""
    test: str
    """Name of the test's recipe."""
    percent: float | None
    """BD-rate in per cent, negative where the test needs fewer bits; None where the two ladders
    share no range of quality."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The three claims about a ladder, and the measured ladders they are made from."""

    title: str
    quality_model: str
    ours: tuple[ComparedRung, ...]
    fixed: tuple[ComparedRung, ...]
    per_title: tuple[ComparedRung, ...]
    claims: Mapping[str, Claims]
    """Claims by quality model."""
    search: str
    """Search that found our ladder: ``predict``, ``sparse`` or ``exhaustive``."""
    bounds: tuple[str, ...] = ()
    """Sentences on why the per-title baseline may not be the best of its kind, in which case the
    claim against it is too favourable. The fixed ladder has no such limit."""
    codecs: tuple[CodecComparison, ...] = ()
    """Each further codec of the ladder, and each further package that was named, against the first
    codec, by the ladder's own quality model."""

    @property
    def exhaustive(self) -> bool:
        """True where the exhaustive search found the ladder: no search reaches a better one."""
        return self.search == "exhaustive"


def compare_codecs(package: Package, others: Sequence[Package] = ()) -> tuple[CodecComparison, ...]:
    """Return the BD-rate of each other codec's ladder, by the package's own quality model.

    Reads no media.

    Raises:
        BadInput: another package is of another title, or was not measured by the same model.
    """
    ladder, model = package.ladder, package.quality_model
    compared = [
        CodecComparison(ladder.recipe, one.recipe, one.bd_rate_percent[model])
        for one in ladder.codecs[1:]
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


class ComparedRow(Document):
    """A rung of one of the ladders, measured."""

    name: str
    width: int
    height: int
    bitrate: float
    """Bit/s of the delivered video."""
    quality: dict[str, Quality]
    """By model."""


class ComparedCodec(Document):
    """A codec's whole ladder against another's, by the quality model of the ladder."""

    anchor: str
    """Recipe."""
    test: str
    """Recipe."""
    percent: float | None
    """BD-rate; negative: the test needs fewer bits. None: no common range of quality."""


class SavedComparison(Document):
    """``comparison.json``: everything in it is measured."""

    schema_: Literal["shotladder/comparison/1"] = Field(default=COMPARISON_SCHEMA, alias="schema")
    title_id: str
    ladder_sha256: str
    """Of the ``ladder.json`` that was compared: another one is another ladder."""
    quality_model: str
    exhaustive: bool
    """Whether ours is what the exhaustive search reaches."""
    ladders: dict[str, list[ComparedRow]]
    """``ours``, ``fixed`` and ``per_title``, from the lowest rate to the highest."""
    claims: list[dict[str, Any]]
    """As the ``claims`` lines of ``ladder compare --json``, one per model."""
    codecs: list[ComparedCodec] = Field(default_factory=list)
    """As its ``codec`` lines: of this ladder, and of packages that were named."""


def save_comparison(
    directory: Path, comparison: Comparison, claims: Sequence[Mapping[str, Any]], title_id: str
) -> bool:
    """Write ``comparison.json`` in one step; whether the folder takes it."""
    saved = SavedComparison(
        title_id=title_id,
        ladder_sha256=_digest(directory),
        quality_model=comparison.quality_model,
        exhaustive=comparison.exhaustive,
        ladders={
            "ours": _rows(comparison.ours),
            "fixed": _rows(comparison.fixed),
            "per_title": _rows(comparison.per_title),
        },
        claims=[dict(one) for one in claims],
        codecs=[ComparedCodec(**asdict(one)) for one in comparison.codecs],
    )
    partial = directory / f".{NAME}.{os.getpid()}"
    try:
        partial.write_text(saved.model_dump_json(indent=1) + "\n")
        partial.replace(directory / NAME)
    except OSError:
        partial.unlink(missing_ok=True)
        return False
    return True


def read_comparison(directory: Path) -> SavedComparison | None:
    """The comparison of the ladder in ``directory``; None where there is none, or another's."""
    try:
        saved = SavedComparison.model_validate_json((directory / NAME).read_bytes())
        return saved if saved.ladder_sha256 == _digest(directory) else None
    except (OSError, ValidationError):
        return None


def bits_against(
    anchor: Sequence[ComparedRow], rate: float, quality: float, model: str
) -> float | None:
    """How many percent more bits a rung takes than ``anchor`` needs for the same quality.

    The anchor's rate is interpolated linearly in log rate over its measured rungs; None outside
    of the qualities that it reaches.
    """
    points = monotone(RatePoint(r.bitrate, r.quality[model].mean) for r in anchor)
    if len(points) < 2 or not points[0].quality <= quality <= points[-1].quality:
        return None
    logs = [math.log(point.rate) for point in points]
    needed = math.exp(float(np.interp(quality, [point.quality for point in points], logs)))
    return (rate / needed - 1) * 100


def _digest(directory: Path) -> str:
    return hashlib.sha256((directory / "ladder.json").read_bytes()).hexdigest()


def _rows(rungs: Sequence[ComparedRung]) -> list[ComparedRow]:
    return [
        ComparedRow(
            name=rung.name,
            width=rung.width,
            height=rung.height,
            bitrate=round(rung.bitrate, 1),
            quality=dict(rung.quality),
        )
        for rung in rungs
    ]
