"""Numbers and flags of requests, taken only as JSON says them.

Pydantic would also take ``"5"`` and ``true`` for the number, and ``0`` and ``"no"`` for the flag. A
client that sends those has confused something, and the OpenAPI document promises a refusal.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BeforeValidator, Strict
from pydantic_core import PydanticKnownError


def _number(given: object) -> object:
    if isinstance(given, str | bytes | bool):
        raise PydanticKnownError("float_type")
    return given


IS_NUMBER: Final = BeforeValidator(_number)
"""Mark of a number that is neither a text nor a flag."""
Flag = Annotated[bool, Strict()]
"""``true`` or ``false``."""
