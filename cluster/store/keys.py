"""Content keys: a result's key depends on everything that changes the result, and nothing else.

A key hashes the stage, the stage's version and its parameters. Paths, host names, thread counts
and times must not change a key, so paths are refused: pass the file's digest instead, from
:func:`cluster.store.files.file_sha256`.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any


def key(stage: str, version: int, **parameters: Any) -> str:
    """Return the key of a stage's result for these parameters: 64 hexadecimal digits.

    Parameters may be None, booleans, numbers, strings, bytes, enums, frozen dataclasses, and
    lists, tuples and mappings (by string) of them. Equal values have equal keys: ``23`` and
    ``23.0`` and ``Fraction(23)`` are one number, a tuple and a list one sequence, and the order
    of a mapping does not count.

    Raises:
        TypeError: the type of a parameter has no machine-independent form, as with a path.
        ValueError: a number is not finite.
    """
    document = {"stage": stage, "version": version, "parameters": _form(parameters, "parameters")}
    return hashlib.sha256(canonical_json(document)).hexdigest()


def canonical_json(document: Any) -> bytes:
    """Return the canonical JSON of a document: sorted, no spaces, ASCII, finite numbers only.

    Raises:
        TypeError: the document is not JSON.
        ValueError: a number is not finite.
    """
    return json.dumps(
        document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    ).encode("ascii")


def _form(value: Any, where: str) -> Any:
    """Return ``value`` as JSON. Lists begin with a tag, so no two unequal values share a form."""
    match value:
        case enum.Enum():
            return ["enum", type(value).__name__, _form(value.value, where)]
        case None | bool() | str():
            return value
        case int() | float() | Fraction():
            return _number(value, where)
        case bytes():
            return ["bytes", value.hex()]
        case list() | tuple():
            return ["sequence", *(_form(item, f"{where}[{i}]") for i, item in enumerate(value))]
        case Mapping():
            return {
                _name(name, where): _form(item, f"{where}.{name}") for name, item in value.items()
            }
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {
            field.name: _form(getattr(value, field.name), f"{where}.{field.name}")
            for field in dataclasses.fields(value)
        }
        return ["value", type(value).__name__, fields]
    raise TypeError(
        f"{where} is a {type(value).__name__}, which has no form in a key; "
        "pass its content (for a file: its digest)"
    )


def _number(value: float | Fraction, where: str) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} is {value}; numbers in a key are finite")
    # The exact ratio needs no rounding rule, and makes equal numbers of different types equal.
    numerator, denominator = value.as_integer_ratio()
    return numerator if denominator == 1 else ["ratio", numerator, denominator]


def _name(name: object, where: str) -> str:
    if not isinstance(name, str):
        raise TypeError(f"{where} has the name {name!r}; names in a key are strings")
    return name
