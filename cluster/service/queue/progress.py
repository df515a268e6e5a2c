"""Progress of a whole job: one share that never falls, and the time left once it can be told.

A run reports its stages one after another. Each has a weight, its usual part of the work. How many
rounds of encodes a search needs shows only while it goes on: further rounds are expected to be a
part of the last one, and further codecs as large as the first. Where more is to do than was
expected, the share waits; it never falls. The time left follows from the pace of the encodes of
this attempt, so nothing is said of it before some of them are made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

TYPE: Final = "job_progress"
"""Type of the event that reports it."""
MAX_RUNNING_SHARE = 0.999
"""Only a job that has succeeded is done."""
_ENCODE: Final = "encode"
# In the order of a run; what a job does not have is passed by when the next stage begins.
_STAGES: Final[Mapping[str, Mapping[str, float]]] = {
    "run": {
        "fetch": 2, "digest": 1, "shots": 6, "pieces": 1, "sound and text": 2, "recipe check": 6,
        _ENCODE: 70, "artwork": 2, "also": 2, "again": 0, "package": 2, "verify": 6, "report": 1,
    },
    "plan": {"fetch": 5, "digest": 5, "shots": 80, "recipe check": 10},
}  # fmt: skip
KINDS: Final = tuple(_STAGES)
"""Kinds of jobs whose whole progress can be told."""
_FURTHER_ROUNDS = 0.3
"""Encodes of all rounds that follow, as a part of those of the last round."""
_LEAST_PACE_SHARE = 0.02
"""Share that this attempt must have done in encodes before its pace tells anything."""
_LEAST_PACE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Whole:
    """Progress of a whole job."""

    share: float
    """Part of the job that is done, 0 to 1."""
    remaining_seconds: float | None
    """Time left; None while it cannot be told."""


class WholeProgress:
    """Follows the events of one attempt of a job."""

    def __init__(self, kind: str, share: float = 0.0, *, codecs: int = 1) -> None:
        """Begin an attempt.

        Args:
            kind: kind of the job.
            share: what earlier attempts have come to.
            codecs: number of codecs that the ladder may have.
        """
        self._weights = _STAGES.get(kind, {})
        self._total = sum(self._weights.values()) or 1.0
        self._pacing = max(self._weights, key=lambda stage: self._weights[stage], default="")
        """Stage whose pace tells the time left, the one with most of the work."""
        self._codecs = codecs
        self._shown = share
        self._now = 0.0
        """Share as this attempt knows it, which may fall."""
        self._expected_encodes = 0
        self._begun: float | None = None
        """Time of the first event of this attempt."""
        self._rounds: list[int] = []
        """Encodes of each round so far."""
        self._paced: tuple[float, float] | None = None
        """Share and time at which that stage began in this attempt."""

    def update(self, event: Mapping[str, Any], now: float) -> None:
        """Take an event of the run at ``now``, in seconds of any steady clock."""
        if event["type"] == "work_planned":
            self._plan(event["seconds"], event["encodes"], now)
            return
        self._begun = now if self._begun is None else self._begun
        stage, number = _stage(event)
        if stage not in self._weights:
            return
        if event["type"] == "stage_planned":
            done = 0.0
            if stage == _ENCODE and number > len(self._rounds):
                self._rounds.append(event["total"] - event["cached"])
        elif event["type"] == "stage_progress":
            done = stage_share(event)
        else:
            return
        if stage == _ENCODE:
            done = self._encodes_share(done)
        names = list(self._weights)
        before = sum(self._weights[name] for name in names[: names.index(stage)])
        self._now = (before + done * self._weights[stage]) / self._total
        if self._paced is None and stage == self._pacing:
            self._paced = self._now, now
        self._shown = min(max(self._shown, self._now), MAX_RUNNING_SHARE)

    def _plan(self, seconds: Mapping[str, float], encodes: int, now: float) -> None:
        """Weigh the stages by how long they are expected to take, and those before by what they
        took."""
        if sum(seconds.values()) <= 0:
            return
        self._weights = {name: float(seconds.get(name, 0.0)) for name in self._weights}
        self._weights["shots"] = now - (now if self._begun is None else self._begun)
        self._total = sum(self._weights.values()) or 1.0
        self._expected_encodes = encodes

    def at(self, now: float) -> Whole:
        """Return the progress at ``now``."""
        if self._paced is None:
            return Whole(self._shown, None)
        begun_share, begun = self._paced
        made, seconds = self._now - begun_share, now - begun
        if made < _LEAST_PACE_SHARE or seconds < _LEAST_PACE_SECONDS:
            return Whole(self._shown, None)
        return Whole(self._shown, seconds * (1 - self._now) / made)

    def _encodes_share(self, done: float) -> float:
        """Return the share of all encodes, where ``done`` is that of the last round."""
        if not self._rounds:
            return done
        *earlier, last = self._rounds
        known = sum(self._rounds) + _FURTHER_ROUNDS * last
        expected = self._expected_encodes or (
            self._codecs * self._rounds[0] * (1 + _FURTHER_ROUNDS)
        )
        return (sum(earlier) + done * last) / max(known, expected, 1)


def stage_share(event: Mapping[str, Any]) -> float:
    """Return the part of a stage's work that is done, 0 to 1, by a ``stage_progress`` event."""
    share = event.get("share")
    if share is None:
        to_do = event["total"] - event["cached"]
        share = (event["done"] - event["cached"]) / to_do if to_do > 0 else 1.0
    return min(max(float(share), 0.0), 1.0)


def _stage(event: Mapping[str, Any]) -> tuple[str, int]:
    """Return the name of an event's stage, and the number of the round in it."""
    name = str(event.get("stage", ""))
    kind, _, number = name.rpartition(" ")
    return (kind, int(number)) if number.isdigit() else (name, 0)
