"""What is logged: decisions and outcomes as values, and as rows of Parquet files.

``docs/policy.md`` explains the columns.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
from pydantic_core import to_json

DECISIONS_SCHEMA: Final = "shotladder/decisions/1"
OUTCOMES_SCHEMA: Final = "shotladder/outcomes/1"
_ARRAYS: Final = {"allowed": "<i2", "propensities": "<f4", "shadow_propensities": "<f4"}
"""Fields that a body holds as the bytes of an array."""
_EARLIER = pa.struct([("title", pa.string()), ("action_id", pa.string()), ("pool", pa.string())])
_MOMENT = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True, slots=True)
class Earlier:
    """A picture that was drawn before in the same row, and that the draw was given."""

    title: str
    action_id: str
    pool: str


@dataclass(frozen=True, slots=True)
class Decision:
    """A picture that was drawn for a viewer, a title and a day."""

    decision_id: str
    request_id: str
    at: float
    """Seconds since the epoch."""
    day: str
    viewer_day: str
    """Keyed digest of viewer and day: the same viewer has another one on every day."""
    title: str
    aspect: str
    pool: str
    slot: int
    """Place in the row, from 0."""
    action_id: str
    propensity: float
    """Probability of the picture, given the earlier slots."""
    allowed: tuple[int, ...]
    """Places in the pool of the pictures that could be shown."""
    propensities: tuple[float, ...]
    """Probability of each of them."""
    policy: str
    seed: str
    """From which the draw follows."""
    context: dict[str, float]
    earlier: tuple[Earlier, ...]
    shadow_policy: str | None = None
    shadow_propensities: tuple[float, ...] | None = None
    """What another policy would have drawn by, given the same earlier slots."""
    redraw: int = 0
    """How often the picture had to be drawn again on this day, since it was excluded or gone."""

    def body(self) -> str:
        """Return all of it as JSON."""
        # Not by dataclasses.asdict, which copies every number and takes ten times as long.
        fields = {name: getattr(self, name) for name in self.__slots__}
        fields["earlier"] = [(one.title, one.action_id, one.pool) for one in self.earlier]
        for name, kind in _ARRAYS.items():
            if fields[name] is not None:
                fields[name] = base64.b64encode(np.array(fields[name], kind).tobytes()).decode()
        return to_json(fields).decode()

    @staticmethod
    def of_body(text: str) -> Decision:
        """Return a decision from :meth:`body`."""
        fields = json.loads(text)
        fields["earlier"] = tuple(Earlier(*one) for one in fields["earlier"])
        for name, kind in _ARRAYS.items():
            if fields[name] is not None:
                values = np.frombuffer(base64.b64decode(fields[name]), kind)
                fields[name] = tuple(values.tolist())
        return Decision(**fields)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A report on a decision. Reports on one decision are merged by taking the most of each."""

    decision_id: str
    at: float
    """When it happened, seconds since the epoch."""
    received: float
    shown: bool
    seen_seconds: float
    played: bool
    minutes: float


_DECISION_COLUMNS: Final = pa.schema(
    [
        ("decision_id", pa.string()),
        ("request_id", pa.string()),
        ("at", _MOMENT),
        ("day", pa.string()),
        ("viewer_day", pa.string()),
        ("title", pa.string()),
        ("aspect", pa.string()),
        ("pool", pa.string()),
        ("slot", pa.int16()),
        ("action_id", pa.string()),
        ("propensity", pa.float64()),
        ("allowed", pa.list_(pa.int16())),
        ("propensities", pa.list_(pa.float32())),
        ("policy", pa.string()),
        ("seed", pa.string()),
        ("context", pa.map_(pa.string(), pa.float32())),
        ("earlier", pa.list_(_EARLIER)),
        ("shadow_policy", pa.string()),
        ("shadow_propensities", pa.list_(pa.float32())),
        ("redraw", pa.int32()),
    ],
    metadata={"shotladder": json.dumps({"schema": DECISIONS_SCHEMA})},
)  # fmt: skip
_OUTCOME_COLUMNS: Final = pa.schema(
    [
        ("decision_id", pa.string()),
        ("at", _MOMENT),
        ("received", _MOMENT),
        ("shown", pa.bool_()),
        ("seen_seconds", pa.float32()),
        ("played", pa.bool_()),
        ("minutes", pa.float32()),
    ],
    metadata={"shotladder": json.dumps({"schema": OUTCOMES_SCHEMA})},
)


def decisions_table(decisions: Sequence[Decision]) -> pa.Table:
    """Return decisions as rows of the log."""
    rows = []
    for one in decisions:
        row = asdict(one)
        row["at"] = _moment(one.at)
        row["context"] = sorted(one.context.items())
        rows.append(row)
    return _table(rows, _DECISION_COLUMNS)


def outcomes_table(outcomes: Iterable[Outcome]) -> pa.Table:
    """Return outcomes as rows of the log."""
    rows = []
    for one in outcomes:
        row = asdict(one)
        row |= {"at": _moment(one.at), "received": _moment(one.received)}
        rows.append(row)
    return _table(rows, _OUTCOME_COLUMNS)


def decisions_of(table: pa.Table) -> list[Decision]:
    """Return the decisions of rows of the log."""
    found = []
    for row in table.to_pylist():
        row["at"] = row["at"].timestamp()
        row["context"] = dict(row["context"])
        row["earlier"] = tuple(Earlier(**one) for one in row["earlier"])
        for name in _ARRAYS:
            row[name] = None if row[name] is None else tuple(row[name])
        found.append(Decision(**row))
    return found


def outcomes_of(table: pa.Table) -> list[Outcome]:
    """Return the outcomes of rows of the log."""
    return [
        Outcome(**row | {"at": row["at"].timestamp(), "received": row["received"].timestamp()})
        for row in table.to_pylist()
    ]


def _table(rows: list[dict[str, Any]], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=schema)


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
