"""Query parameters of the documents on the reading path, each declared once.

The routes take these models as their parameters, which is what the OpenAPI document describes, and
the reader validates every request with the same models. Validation takes about 2 us a request, so
there is no second, faster parser to keep in step.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, ClassVar, Self
from urllib.parse import parse_qsl

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from cluster.service.documents import (
    ACTION_ID_PATTERN,
    ASPECTS,
    DEFAULT_ASPECT,
    MAX_EXCLUDED,
    MAX_START_SECONDS,
    MAX_STILLS,
    STILL_FIELDS,
    Aspect,
    DeviceCodecs,
    DeviceHeight,
    FromSeconds,
    Kbps,
    Language,
    PictureWidth,
    StartSeconds,
    StillCount,
)


def _count(text: str) -> int:
    """Parse decimal digits; pydantic would also take ``5.0`` and ``+5``."""
    if not (text.isascii() and text.isdecimal() and len(text) < 9):
        raise ValueError("not a count")
    return int(text)


def _flag(text: str) -> bool:
    """Parse ``true`` or ``false``; pydantic would also take ``yes``, ``on`` and ``1``."""
    if text not in ("true", "false"):
        raise ValueError("neither true nor false")
    return text == "true"


class UnknownParameter(ValueError):
    """A query has a parameter that its path does not know."""


def check_known(query: bytes, known: Collection[str]) -> None:
    """Check that a query string has no parameters but the known ones.

    Raises:
        UnknownParameter: there is another; the message names those that are known.
    """
    for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name not in known:
            listed = ", ".join(f"`{one}`" for one in known)
            raise UnknownParameter(
                f"there is no query parameter {name[:100]!r} here; "
                + (f"there are {listed}" if listed else "there are none, leave the query out")
            )


class DocumentQuery(BaseModel):
    """Query string of a document."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    usage: ClassVar[str]
    """How to ask, for a client whose query is invalid."""

    @classmethod
    def parse(cls, query: bytes) -> Self:
        """Parse a query string. Of a parameter given twice the last value counts.

        Raises:
            UnknownParameter: the document does not have a parameter.
            ValueError: a parameter is missing or invalid; the message ends with :attr:`usage`.
        """
        if query:
            check_known(query, [field.alias or name for name, field in cls.model_fields.items()])
        given = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)) if query else {}
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            parameter = error.errors(include_url=False)[0]["loc"][0]
            raise ValueError(f"`{parameter}` is missing or invalid; {cls.usage}") from error


class NoQuery(DocumentQuery):
    """Query of a document that has no parameters."""

    usage = "ask without a query"


class StartQuery(DocumentQuery):
    """Query of ``/v1/titles/{title}/prefetch/start``."""

    usage = (
        "ask for `kbps`, the client's throughput in kbit/s, and `seconds`, more than 0 up to "
        f"{MAX_START_SECONDS}, for example ?seconds=4&kbps=3000; and, where it matters, for `from` "
        "in seconds, `max_height` in lines, `codecs` such as avc1,hvc1, `hdr`, true or false, and "
        "the `language` of the sound, such as pt-BR"
    )
    kbps: Annotated[Kbps, BeforeValidator(float)]
    seconds: Annotated[StartSeconds, BeforeValidator(float)] = 4
    from_: Annotated[FromSeconds, BeforeValidator(float)] = Field(
        default=0, alias="from", description="Seconds into the title from which it is continued."
    )
    max_height: Annotated[DeviceHeight, BeforeValidator(_count)] | None = Field(
        default=None, description="Lines that the device plays at most."
    )
    codecs: DeviceCodecs | None = Field(
        default=None, description="Codecs that the device plays, such as avc1,hvc1."
    )
    hdr: Annotated[bool, BeforeValidator(_flag)] = Field(
        default=True, description="False where the device does not play high dynamic range."
    )
    language: Language | None = Field(
        default=None, description="Language of the sound; the default sound where it has none."
    )


_FIELD = "|".join(STILL_FIELDS)


class ArtworkQuery(DocumentQuery):
    """Query of ``/v1/titles/{title}/artwork``; without any parameter it asks for the whole pool."""

    usage = (
        f"ask for an `aspect` of {', '.join(ASPECTS)}, for `k` stills, 1 to {MAX_STILLS}, and "
        "with `spoilers` or `faces`, true or false, with a `min_width` in pixels, or with action "
        "ids to `exclude`, separated by commas, for those that you want, and for their features by "
        f"`fields`, some of {', '.join(STILL_FIELDS)}, for example "
        "?aspect=16:9&k=5&spoilers=false"
    )
    aspect: Aspect | None = Field(default=None, description=f"{DEFAULT_ASPECT} unless it is given.")
    k: Annotated[StillCount, BeforeValidator(_count)] | None = Field(
        default=None, description="At most so many stills; all unless it is given."
    )
    diverse: Annotated[bool, BeforeValidator(_flag)] | None = Field(
        default=None,
        description="Changes nothing, since there is one order; it had two in earlier releases.",
    )
    spoilers: Annotated[bool, BeforeValidator(_flag)] | None = Field(
        default=None, description="False leaves out the stills of the last fifth of the title."
    )
    faces: Annotated[bool, BeforeValidator(_flag)] | None = Field(
        default=None, description="True for stills with faces only, false for stills without."
    )
    exclude: str | None = Field(
        default=None,
        pattern=f"^{ACTION_ID_PATTERN}(,{ACTION_ID_PATTERN})*$",
        max_length=26 * MAX_EXCLUDED,
        description="Action ids of stills to leave out, separated by commas.",
    )
    min_width: Annotated[PictureWidth, BeforeValidator(_count)] | None = Field(
        default=None, description="Width in pixels that the largest file of a still has at least."
    )
    fields: str | None = Field(
        default=None,
        pattern=f"^({_FIELD})(,({_FIELD}))*$",
        max_length=200,
        description="Features that stills are to have, separated by commas.",
    )
