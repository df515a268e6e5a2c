"""``comparison.json``: what ``ladder compare`` measured, kept beside its ladder.

Other views can then show it without measuring again.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from pydantic import Field, ValidationError

from cluster.jobs.compare import ComparedRung, Comparison
from ladder.bdrate import RatePoint, monotone
from ladder.document import Document, Quality

COMPARISON_SCHEMA: Final = "shotladder/comparison/1"
NAME: Final = "comparison.json"


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
