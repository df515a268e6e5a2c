"""Titles and profiles of the claims, what is kept of each, and what follows from it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from cluster.package.comparison import ALL, ComparedLadder, Comparison
from cluster.package.package import Package
from encoder.recipes import by_name
from ladder.audience import AudienceClaims, audience_claims
from ladder.bdrate import BdRate, RatePoint
from ladder.claims import claim_against

TITLES: Mapping[str, float | None] = {
    "cotracker_teddy_portrait.mp4": None,
    "elephantsdream_576p.mkv": None,
    "fate_screen_vs2005_vmnc.avi": None,
    "davis_multishot_dev.mov": None,
    "tears_of_steel_battle_332p.webm": None,
    "bbb_1080p24_seg038-053.mp4": 20.0,
}
"""Titles that the claims are about, the cheapest first, with the seconds of them that are taken;
None for the whole title. They are noise, drawn, a screen, natural, film with effects, animation."""

TODAY = "default-0.1"
"""The profile of release 0.1: a job's CPU is compared with its job."""
PROFILES = ("default", "auto", "popular")

VMAF = "v1"
"""What VMAF v1 is called here: which variant of it a title has follows from its frame rate."""

Against = Literal["fixed", "plain_per_title"]
FORMAT = 1
"""Raise it where results of before must not be taken for results of now."""


@dataclass(frozen=True, slots=True)
class Rung:
    """A measured rung."""

    codec: str
    bitrate: float
    """Bit/s."""
    quality: Mapping[str, float]
    """Mean quality by judge."""
    size: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Result:
    """A title under a profile: what was made of it, beside the ladders that it is compared with."""

    title: str
    profile: str
    identity: str
    """Digest of everything that decides the result but the code; see :func:`identity`."""
    code: str
    """Fingerprint of the code that made it."""
    seconds: float
    """Duration of what was taken of the title."""
    recipes: tuple[str, ...]
    """Recipes of the rungs, as made."""
    weights: str
    """Digest of weights that never saw the title's group; empty for those of the product."""
    cpu_seconds: Mapping[str, float]
    """CPU of the whole job, from an empty store, by kind of work."""
    ours: tuple[Rung, ...]
    fixed: tuple[Rung, ...]
    plain_per_title: tuple[Rung, ...]
    """The best per-title CRF ladder by plain x264 ``medium``."""
    per_title: Mapping[str, tuple[Rung, ...]] = field(default_factory=dict)
    """The best per-title CRF ladder by the recipe of each codec of ours."""

    @property
    def judges(self) -> tuple[str, ...]:
        """Judges by which all rungs were scored, VMAF first."""
        return tuple(self.ours[0].quality)

    @property
    def whole_cpu(self) -> float:
        """CPU seconds of the whole job."""
        return sum(self.cpu_seconds.values())


def identity(source_sha256: str, seconds: float | None, profile_sha256: str, weights: str) -> str:
    """Return the digest of everything that decides a result but the code."""
    asked = [FORMAT, source_sha256, seconds, profile_sha256, weights]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]


# -- what is kept --------------------------------------------------------------------------------


class Kept:
    """The file of results: JSON lines, the latest result of a title under a profile counts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self._results = {(one.title, one.profile): one for one in map(_parsed, lines)}

    def get(self, title: str, profile: str) -> Result | None:
        """Return the latest result of a title under a profile."""
        return self._results.get((title, profile))

    def put(self, result: Result) -> None:
        """Keep a result. Whenever this is killed, the file has it or is as it was."""
        self._results[result.title, result.profile] = result
        self._path.parent.mkdir(parents=True, exist_ok=True)
        beside = self._path.with_suffix(".new")
        with beside.open("w") as file:
            file.writelines(f"{json.dumps(asdict(one))}\n" for one in self._results.values())
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)


def _parsed(line: str) -> Result:
    fields: dict[str, Any] = json.loads(line)
    for name in ("ours", "fixed", "plain_per_title"):
        fields[name] = _rungs(fields[name])
    fields["per_title"] = {codec: _rungs(of) for codec, of in fields["per_title"].items()}
    return Result(**{**fields, "recipes": tuple(fields["recipes"])})


def _rungs(listed: Iterable[Mapping[str, Any]]) -> tuple[Rung, ...]:
    return tuple(Rung(**{**rung, "size": tuple(rung["size"])}) for rung in listed)


def measured(comparison: Comparison) -> dict[str, Any]:
    """Return the ladders of a comparison as fields of :class:`Result`."""
    names = {comparison.quality_model: VMAF} | {name: name for name in comparison.judges}

    def rungs(ladder: ComparedLadder) -> tuple[Rung, ...]:
        codec = by_name(ladder.recipe).codec
        return tuple(
            Rung(
                codec,
                rung.bitrate,
                {said: rung.quality[name].mean for name, said in names.items()},
                (rung.width, rung.height),
            )
            for rung in ladder.rungs
        )

    parts = [part for part in comparison.parts if part.name != ALL]
    return {
        "recipes": tuple(part.ours.recipe for part in parts),
        "ours": tuple(rung for part in parts for rung in rungs(part.ours)),
        "fixed": rungs(comparison.fixed),
        "plain_per_title": rungs(comparison.plain_per_title),
        "per_title": {part.name: rungs(part.per_title) for part in parts if part.per_title},
    }


def no_ladders(package: Package) -> dict[str, Any]:
    """Return the same fields for a package that is not compared."""
    ladder = package.ladder
    recipes = tuple(one.recipe for one in ladder.codecs) or (ladder.recipe,)
    return {"recipes": recipes, "ours": (), "fixed": (), "plain_per_title": ()}


# -- what follows --------------------------------------------------------------------------------


def points(rungs: Iterable[Rung], judge: str) -> list[RatePoint]:
    return [RatePoint(rung.bitrate, rung.quality[judge]) for rung in rungs]


def audience(result: Result, anchor: Iterable[Rung], judge: str) -> AudienceClaims:
    """Return what the classes of viewers have of a package, against an H.264 ladder."""
    codecs = dict.fromkeys(rung.codec for rung in result.ours)
    ours = {
        codec: points((rung for rung in result.ours if rung.codec == codec), judge)
        for codec in codecs
    }
    return audience_claims(ours, points(anchor, judge), viewers=judge == VMAF)


def saving(result: Result, against: Against, judge: str) -> float | None:
    """Return the BD-rate of a title in percent, meaned over viewers; None where it has none."""
    return audience(result, getattr(result, against), judge).percent


def same_recipe(result: Result, codec: str, judge: str) -> float | None:
    """Return what the choice by shots saves: against the per-title ladder by the same recipe."""
    ours = [rung for rung in result.ours if rung.codec == codec]
    anchor = result.per_title.get(codec, ())
    found = claim_against(points(anchor, judge), points(ours, judge))
    return found.percent if isinstance(found, BdRate) else None


def received(result: Result, median: float) -> tuple[float, float]:
    """Return the bits that viewers receive at no viewer's loss, over the fixed ladder's, and the
    share of viewers that are worse off all the same, both in percent.
    """
    claims = audience(result, result.fixed, VMAF).viewers
    (claim,) = [claim for claim in claims if claim.median == median]
    return claim.matched_percent, claim.worse_off * 100
