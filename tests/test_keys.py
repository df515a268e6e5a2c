from __future__ import annotations

import enum
import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.store.files import file_sha256
from cluster.store.keys import key
from encoder.media import Shot


@dataclass(frozen=True)
class OperatingPoint:
    """As it was when the first keys were made: keys hash the names of types and fields."""

    recipe: str
    width: int
    height: int
    crf: float


POINT = OperatingPoint("x264-medium", 640, 360, 23.0)
SHOT = Shot(0, 48, (24,))


class Colour(enum.Enum):
    RED = 1


@dataclass(frozen=True)
class Left:
    a: Any


@dataclass(frozen=True)
class Right:
    a: Any


def test_a_key_is_stable_over_releases() -> None:
    # A golden vector: if this changes, every store in the world is recomputed.
    assert key("encode", 1, point=POINT, shot=SHOT, rate=Fraction(24000, 1001)) == (
        "46e7043f5afb001ba46ddef0c065baf080e361a6c74c1fe39363acc4b08446ba"
    )


def test_a_key_does_not_depend_on_the_process() -> None:
    program = (
        "from cluster.store.keys import key; from encoder.media import Shot; "
        "from tests.test_keys import OperatingPoint; from fractions import Fraction;"
        "print(key('encode', 1, rate=Fraction(24000, 1001), shot=Shot(0, 48, (24,)),"
        "point=OperatingPoint('x264-medium', 640, 360, 23.0)))"
    )
    environment = os.environ | {"PYTHONHASHSEED": "7", "LC_ALL": "C", "TZ": "Asia/Tokyo"}
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    ).stdout.strip()
    assert printed == key("encode", 1, point=POINT, shot=SHOT, rate=Fraction(24000, 1001))


@pytest.mark.parametrize(
    "changed",
    [
        ("score", 1, {"point": POINT, "shot": SHOT}),
        ("encode", 2, {"point": POINT, "shot": SHOT}),
        ("encode", 1, {"point": OperatingPoint("x265", 640, 360, 23.0), "shot": SHOT}),
        ("encode", 1, {"point": OperatingPoint("x264-medium", 642, 360, 23.0), "shot": SHOT}),
        ("encode", 1, {"point": OperatingPoint("x264-medium", 640, 362, 23.0), "shot": SHOT}),
        ("encode", 1, {"point": OperatingPoint("x264-medium", 640, 360, 23.5), "shot": SHOT}),
        ("encode", 1, {"point": POINT, "shot": Shot(0, 49, (24,))}),
        ("encode", 1, {"point": POINT, "shot": Shot(0, 48)}),
        ("encode", 1, {"point": POINT, "shot": SHOT, "extra": None}),
        ("encode", 1, {"point": SHOT, "shot": POINT}),
    ],
)
def test_every_parameter_changes_the_key(changed: tuple[str, int, dict[str, Any]]) -> None:
    stage, version, parameters = changed
    assert key(stage, version, **parameters) != key("encode", 1, point=POINT, shot=SHOT)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (23, 23.0),
        (Fraction(1, 2), 0.5),
        ([1, 2], (1, 2)),
        ({"a": 1, "b": 2}, MappingProxyType({"b": 2, "a": 1})),
        (0.0, -0.0),
    ],
)
def test_equal_values_have_equal_keys(left: Any, right: Any) -> None:
    assert key("s", 1, v=left) == key("s", 1, v=right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (1, True),
        (1, "1"),
        (None, "null"),
        (b"ab", "ab"),
        (b"ab", "6162"),
        (0.1, Fraction(1, 10)),
        ([[1], [2]], [[1, 2]]),
        ([1, [2]], [1, 2]),
        ({"a": [1]}, {"a": 1}),
        (["ratio", 1, 2], Fraction(1, 2)),
        (["value", "Left", {"a": 1}], Left(1)),
        (Left(1), Right(1)),
        (Left(1), {"a": 1}),
        (Colour.RED, 1),
        ((), None),
        ("\u00e9", "e\u0301"),
    ],
)
def test_unequal_values_have_unequal_keys(left: Any, right: Any) -> None:
    assert key("s", 1, v=left) != key("s", 1, v=right)


@pytest.mark.parametrize(
    "refused", [Path("clip.mp4"), object(), {1, 2}, {"deep": [Path()]}, {1: "a"}, int, len]
)
def test_what_has_no_portable_form_is_refused(refused: Any) -> None:
    with pytest.raises(TypeError, match=r"parameters\.v"):
        key("s", 1, v=refused)


@pytest.mark.parametrize("refused", [float("nan"), float("inf")])
def test_numbers_are_finite(refused: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        key("s", 1, v=refused)


JSONISH = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.fractions() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def _typed(value: Any) -> Any:
    """Equality as keys see it: booleans are no numbers."""
    if isinstance(value, list):
        return [_typed(item) for item in value]
    if isinstance(value, dict):
        return {name: _typed(item) for name, item in value.items()}
    return (isinstance(value, bool), value)


@given(JSONISH, JSONISH)
def test_keys_are_equal_exactly_when_values_are(left: Any, right: Any) -> None:
    assert (key("s", 1, v=left) == key("s", 1, v=right)) == (_typed(left) == _typed(right))


def test_file_sha256_is_that_of_the_bytes(tmp_path: Path) -> None:
    content = os.urandom((1 << 20) + 17)
    path = tmp_path / "file"
    path.write_bytes(content)
    assert file_sha256(path) == hashlib.sha256(content).hexdigest()
