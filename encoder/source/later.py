"""Fields that were added to the description of a source after a release.

A title's description is part of keys. A field that has its default is left out of the description,
so that a title which the field does not concern keeps its keys.
"""

from __future__ import annotations

from dataclasses import field, fields, is_dataclass
from typing import Any

_LATER = "later"


def later(default: Any) -> Any:
    """Declare a dataclass field that was added after a release, with its default."""
    return field(default=default, metadata={_LATER: True})


def document(value: Any) -> Any:
    """Return a dataclass as a dictionary, nested ones too, without later fields at their default.

    Like :func:`dataclasses.asdict` otherwise.
    """
    if is_dataclass(value):
        return {
            one.name: document(getattr(value, one.name))
            for one in fields(value)
            if _LATER not in one.metadata or getattr(value, one.name) != one.default
        }
    if isinstance(value, (tuple, list)):
        return [document(part) for part in value]
    return value
