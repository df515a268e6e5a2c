"""Evidence that ships with the weights: on which titles a recipe was judged, and what it gained.

The check of a recipe (:mod:`ladder.recipe_check`) costs encodes, so it is skipped where enough
titles like this one have been judged before. That is decided by a file beside the weights, which is
part of the product, and never by what other jobs left in a store: a title's ladder then depends on
nothing but the title, the options and the release.

A recipe is settled for a title where at least :data:`LEAST_TITLES` titles were judged by every
judge of the check, none of them lost, the upper :data:`CONFIDENCE` bound for one more title stays
below the loss that the check allows, and the title's features lie within what those titles cover.
Pure but for :func:`read_evidence`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import NormalDist, fmean, stdev
from typing import Final, Literal

from pydantic import ConfigDict, Field, ValidationError

from encoder.analysis.features import FEATURE_NAMES, FEATURES_VERSION
from encoder.errors import BadInput
from ladder.document import Document

EVIDENCE_FILE: Final = "recipes.json"
"""Name of the file of evidence, beside the weights."""
EVIDENCE_SCHEMA: Final = "shotladder/recipe-evidence/1"

LEAST_TITLES = 6
"""Number of titles that must have been judged."""
CONFIDENCE = 0.95
"""Probability with which one more title must be within the allowed loss."""
REGION = ("noise_fine_p50", "noise_temporal_p50", "texture_fine_p50", "flat_share_p50")
"""Features that say where a recipe was judged. Tunings act on noise, texture and flat areas."""


class _Lenient(Document):
    """Another release may say more of its evidence; what is known here stays usable."""

    model_config = ConfigDict(frozen=True, extra="ignore", serialize_by_alias=True)


class Spread(_Lenient):
    """What judged titles gained by one judge."""

    titles: int
    mean: float
    """Mean rate against the anchor at equal score, in percent; negative for fewer bits."""
    sd: float
    """Standard deviation over titles, in percent."""
    worst: float
    """Largest rate of any title, in percent."""


class RecipeEvidence(_Lenient):
    """Evidence on one recipe against another."""

    recipe: str
    """Name of the recipe."""
    against: str
    """Name of the recipe that it was compared with."""
    titles: list[str]
    """Names of the titles that were judged."""
    frames: int
    """Number of frames that were judged, over all titles; parts may stand for a title."""
    judges: dict[str, Spread]
    """Gains by quality model or judge."""
    loss: Spread
    """What the titles lose by the judge that decides in the check."""
    region: dict[str, tuple[float, float]]
    """Lowest and highest value over those titles of each feature, meaned over a title's frames."""


class Evidence(_Lenient):
    """All evidence that ships with a set of weights."""

    schema_: Literal["shotladder/recipe-evidence/1"] = Field(
        default=EVIDENCE_SCHEMA, alias="schema"
    )
    features_version: int = FEATURES_VERSION
    """Version of the features that the regions are stated in."""
    recipes: list[RecipeEvidence] = Field(default_factory=list)

    def of(self, recipe: str, against: str) -> RecipeEvidence | None:
        """Return the evidence on ``recipe`` against ``against``; None where there is none."""
        for one in self.recipes:
            if (one.recipe, one.against) == (recipe, against):
                return one
        return None

    def to_json(self) -> str:
        """Return the document's text, ending in a newline."""
        return self.model_dump_json(indent=1) + "\n"


def read_evidence(weights: Path) -> Evidence:
    """Return the evidence beside a file of weights; none where there is no such file.

    Raises:
        BadInput: the file cannot be read, or is no evidence.
    """
    path = weights.with_name(EVIDENCE_FILE)
    try:
        return Evidence.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return Evidence()
    except (OSError, ValidationError) as error:
        reason = " ".join(str(error).split())
        raise BadInput(
            f"the recipes' evidence {path} cannot be read ({reason:.200}); remove the file to "
            "check every title"
        ) from error


def spread(percents: Sequence[float]) -> Spread:
    """Return the spread of at least two titles' rates against an anchor, in percent."""
    return Spread(
        titles=len(percents),
        mean=round(fmean(percents), 4),
        sd=round(stdev(percents), 4),
        worst=round(max(percents), 4),
    )


def bound_for_another(gains: Spread) -> float:
    """Return the rate in percent that one more title stays below with :data:`CONFIDENCE`.

    It is the one-sided prediction bound for normal gains, with Student's t for the few titles.
    """
    wider = math.sqrt(1 + 1 / gains.titles)
    return gains.mean + student_t(gains.titles - 1) * gains.sd * wider


def student_t(freedom: int) -> float:
    """Return the :data:`CONFIDENCE` quantile of Student's t, by its expansion about the normal
    (Abramowitz and Stegun 26.7.5); within 0.5 % from four degrees of freedom."""
    z = NormalDist().inv_cdf(CONFIDENCE)
    return (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )


def title_features(
    shots: Iterable[tuple[int, Sequence[float]]], names: Iterable[str] = REGION
) -> dict[str, float]:
    """Return features of a title by name: means over its frames.

    Args:
        shots: Number of frames of each shot, and its features in the order of ``FEATURE_NAMES``.
        names: Names of the features.
    """
    listed = list(shots)
    frames = sum(count for count, _ in listed)
    return {
        name: sum(count * values[FEATURE_NAMES.index(name)] for count, values in listed) / frames
        for name in names
    }


def settled(
    evidence: RecipeEvidence | None,
    judges: Iterable[str],
    features: Mapping[str, float],
    allowed_percent: float,
) -> bool:
    """Return whether the evidence makes checking a title of these features unnecessary.

    Args:
        evidence: Evidence on the recipe, if there is any.
        judges: Judges of the check; each must have judged.
        features: The title's features, by name.
        allowed_percent: Rate in percent that the check would let the title lose.
    """
    if evidence is None or not evidence.region:
        return False
    if any(
        judge not in evidence.judges or evidence.judges[judge].titles < LEAST_TITLES
        for judge in judges
    ):
        return False
    if max(evidence.loss.worst, bound_for_another(evidence.loss)) > allowed_percent:
        return False
    return all(
        name in features and low <= features[name] <= high
        for name, (low, high) in evidence.region.items()
    )
