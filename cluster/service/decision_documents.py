"""Requests and answers about which artwork is shown: ``/v1/decisions`` and ``/v1/outcomes``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from cluster.service.documents import (
    DEFAULT_ASPECT,
    MAX_BATCH_TITLES,
    AnswerModel,
    Aspect,
    RequestModel,
    TitleName,
)
from cluster.service.exact import IS_NUMBER, Flag
from recommender.artwork.document import Place, Rendition

OPAQUE_PATTERN = r"^[\x21-\x7e]{1,128}$"
CONTEXT_NAME_PATTERN = r"^[a-z][a-z0-9_]{0,63}$"
MAX_CONTEXT = 64
MAX_EXCLUDED = 1000
MAX_REPORTS = 300

Opaque = Annotated[str, Field(pattern=OPAQUE_PATTERN)]
ActionId = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
ContextName = Annotated[str, Field(pattern=CONTEXT_NAME_PATTERN)]
ContextValue = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False), IS_NUMBER]


class DecisionRequest(RequestModel):
    """Request for the pictures of a row: ``POST /v1/decisions``."""

    request_id: Opaque
    """Your name for this request, kept in the log. The same request gets the same pictures."""
    viewer: Opaque
    """Your name for the viewer, best a pseudonym; only a keyed digest of it and the day is kept."""
    context: dict[ContextName, ContextValue] = Field(default={}, max_length=MAX_CONTEXT)
    """What may matter for this viewer now, as numbers by name, such as the parts of an embedding.
    It is kept in the log: put nothing into it by which a person can be recognised."""
    titles: list[TitleName] = Field(min_length=1, max_length=MAX_BATCH_TITLES)
    """Titles of the row, in its order."""
    aspect: Aspect = DEFAULT_ASPECT
    exclude: list[ActionId] = Field(default=[], max_length=MAX_EXCLUDED)
    """Action ids that may not be shown, as your records on rights and maturity have it."""
    exclude_spoilers: Flag = False
    """True to show nothing of the last fifth of a title."""


class DecidedImage(AnswerModel):
    """A picture to show."""

    id: str
    """Id of the candidate in ``artwork.json``."""
    title_side: Literal["left", "right", "top", "bottom"]
    """Side with most room for the title's name."""
    focal_point: Place
    """Point within the crop at which people look."""
    renditions: list[Rendition]
    """Files of the crop, the largest first."""


class DecisionAnswer(AnswerModel):
    """The picture of one title."""

    decision_id: str
    """Signed name of the decision, to be sent with its outcomes."""
    title: str
    action_id: str
    pool: str
    """Version of the pool."""
    propensity: float
    """Probability with which the picture was drawn, given those of the earlier slots."""
    policy: str
    """Policy that drew it."""
    repeated: bool
    """True where the viewer had got the picture before on this day."""
    base: str
    """Prefix of the URIs of the image's files."""
    image: DecidedImage


class DecisionRow(AnswerModel):
    """The pictures of a row."""

    request_id: str
    day: str
    """Day for which the pictures hold."""
    policy: str
    """Policy that draws on this day."""
    decisions: list[DecisionAnswer]
    """Pictures in the order of the titles."""
    missing: dict[str, Literal["no_artwork", "all_excluded"]]
    """Titles without a picture, and why."""


class OutcomeReport(RequestModel):
    """What became of a decision. Reports on one decision may come in any order and again and again:
    of each field, the largest counts."""

    decision_id: str = Field(min_length=1, max_length=200)
    at: AwareDatetime | None = None
    """When it happened; now unless it is given."""
    shown: Flag = False
    """True once the picture was on the screen."""
    seen_seconds: Annotated[float, Field(ge=0, le=86400, allow_inf_nan=False), IS_NUMBER] = 0
    """Time for which it was on the screen."""
    played: Flag = False
    """True once the title was played from it."""
    minutes: Annotated[float, Field(ge=0, le=1440, allow_inf_nan=False), IS_NUMBER] = 0
    """Minutes of the title that were watched."""


class OutcomeBatch(RequestModel):
    """Reports: ``POST /v1/outcomes``."""

    outcomes: list[OutcomeReport] = Field(min_length=1, max_length=MAX_REPORTS)


class RefusedReport(AnswerModel):
    """A report that was not taken."""

    index: int
    """Its place in the request."""
    reason: Literal["not_signed_here", "outside_window", "too_late"]


class OutcomesTaken(AnswerModel):
    """What became of the reports."""

    accepted: int
    """Reports that are on disk now."""
    refused: list[RefusedReport]
    """Reports that were not taken; sending them again does not help."""
