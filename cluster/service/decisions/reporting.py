"""Takes reports of what became of decisions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from cluster.policy.ledger import Ledger
from cluster.policy.place import LATE_SECONDS, WINDOW_SECONDS
from cluster.policy.records import Outcome
from cluster.service.decisions.ids import DecisionIds

CLOCKS_SECONDS: Final = 300.0
"""How far the clocks of reporters may be off."""
Reason = Literal["not_signed_here", "outside_window", "too_late"]


@dataclass(frozen=True, slots=True)
class Report:
    """What is reported of one decision."""

    decision_id: str
    at: float | None
    """When it happened; None for now."""
    shown: bool
    seen_seconds: float
    played: bool
    minutes: float


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of the reports."""

    accepted: int
    refused: list[tuple[int, Reason]]
    """Places of the reports that were refused, and why."""


def take(reports: Sequence[Report], ledger: Ledger, ids: DecisionIds, now: float) -> Taken:
    """Put reports into the ledger; they are on disk when this returns.

    What happened later than :data:`cluster.policy.place.WINDOW_SECONDS` after its decision is no
    outcome of it, and is refused, as are reports that come after
    :data:`cluster.policy.place.LATE_SECONDS`, since policies have learned by then.

    Raises:
        StoreUnusable: the ledger cannot be written.
    """
    accepted: list[Outcome] = []
    refused: list[tuple[int, Reason]] = []
    for place, report in enumerate(reports):
        decided = ids.moment(report.decision_id)
        if decided is None:
            refused.append((place, "not_signed_here"))
            continue
        at = now if report.at is None else report.at
        if now > decided + LATE_SECONDS:
            refused.append((place, "too_late"))
        elif not decided - CLOCKS_SECONDS <= at <= decided + WINDOW_SECONDS:
            refused.append((place, "outside_window"))
        else:
            accepted.append(
                Outcome(
                    report.decision_id, at, now, report.shown or report.played,
                    report.seen_seconds, report.played, report.minutes,
                )
            )  # fmt: skip
    if accepted:
        ledger.report(accepted)
    return Taken(len(accepted), refused)
