"""Requests and answers of ``POST /v1/prefetch:fill``."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Literal

from pydantic import Field

from cluster.package.fill_plans import SITE_NAME
from cluster.service.documents import AnswerModel, RequestModel, TitleName
from cluster.service.exact import IS_NUMBER

PlaysPerTitle = dict[
    TitleName, Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False), IS_NUMBER]
]
Bytes = Annotated[int, Field(ge=0, le=10**18), IS_NUMBER]


class FillRequest(RequestModel):
    """Request for a site's plan of one day: ``POST /v1/prefetch:fill``."""

    site: str = Field(pattern=f"^{SITE_NAME}$", examples=["rome"])
    """Your name of the site, under which its last plan is remembered."""
    day: date
    """Day that is planned. The same day may be planned again, as if for the first time."""
    capacity_bytes: Bytes
    expected: PlaysPerTitle
    """Expected plays of the day at this site; titles without any are not planned unless they were
    played."""
    played: PlaysPerTitle | None = None
    """What was played on the day before; titles that are not listed had no plays. It corrects this
    and later forecasts."""
    held: list[Annotated[str, Field(pattern="^[0-9a-f]{64}$")]] | None = None
    """SHA-256 digests of the files that the site holds; those of its last plan unless given."""
    objective: Literal["offload", "offload-net", "hits", "starts"] = "offload"
    start_weight: Annotated[float, Field(gt=0, le=1000), IS_NUMBER] = 8
    """Requests that one for the first seconds of a title is worth; not used by ``starts``."""
    start_seconds: Annotated[float, Field(gt=0, le=3600), IS_NUMBER] = 8
    share: Annotated[float, Field(ge=0, le=1), IS_NUMBER] | None = None
    """Share of the site that is planned; the rest is left to its pull cache. Unless given it is the
    one that would have been best on the days whose ``played`` is known, and 0.9 without such days.
    """
    fill_price: Annotated[float, Field(ge=0, le=1000), IS_NUMBER] = 0.9
    """What a byte costs that is pulled ahead, where one that misses costs 1."""
    fill_bytes: Bytes | None = None
    """Most bytes to pull ahead; no limit unless given."""


class PlannedSiteFile(AnswerModel):
    """A file of a site's plan."""

    sha256: str
    """Digest, by which ``/v1/media/SHA256`` serves the file."""
    bytes: int
    title: str
    uri: str
    """Path relative to the title's package."""


class ExpectedPlays(AnswerModel):
    """What is expected of a title on the day."""

    plays: float
    low: float
    """Lower end of the 80 % band."""
    high: float
    """Upper end of the 80 % band."""


class FillAnswer(AnswerModel):
    """A site's plan of one day, each list by falling value."""

    site: str
    day: date
    share: float
    """Share of the site that is planned."""
    followed_days: int
    """Past days from which the share follows; 0 where it was given or none is known."""
    add: list[PlannedSiteFile]
    """Files to pull now."""
    admit: list[PlannedSiteFile]
    """Files to keep once a viewer has asked for them."""
    remove: list[str]
    """Digests of files that are held and not planned, the least valuable first."""
    add_bytes: int
    admit_bytes: int
    over_budget_bytes: int
    """Bytes that would be pulled too, were ``fill_bytes`` larger."""
    titles: dict[str, ExpectedPlays]
    inside_band: float | None
    """Share of past days and titles inside the 80 % band, of those with an expected play; None
    while there are none."""
    missing: list[str]
    """Titles that were named and are not published."""
