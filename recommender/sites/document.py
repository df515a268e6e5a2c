"""A site's fill plan as a document, from which the next plan goes on."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from ladder.document import Document

FILL_PLAN_SCHEMA: Final = "shotladder/fill-plan/1"


class DayOfPlays(Document):
    """Plays of one day at one site, by title."""

    day: int
    """Number of the day since 1970."""
    expected: dict[str, float]
    """What was expected before the day."""
    played: dict[str, float] | None = None
    """What came; None while nobody has said."""


class FillPlanDocument(Document):
    """What a site was told last."""

    schema_: Literal["shotladder/fill-plan/1"] = Field(default=FILL_PLAN_SCHEMA, alias="schema")
    site: str
    capacity_bytes: int
    share: float
    """Share of the site that was planned."""
    keep: list[str]
    """SHA-256 digests of the planned files, the most valuable first. A later plan takes them for
    there unless it is told what the site holds."""
    before: list[str] = Field(default_factory=list)
    """The same of the plan before this one, from which the same day is planned again."""
    days: list[DayOfPlays] = Field(default_factory=list)
    """Days that were planned, the last one last; empty where a log of plays is kept elsewhere."""
