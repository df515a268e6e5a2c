"""Calls about which artwork is shown, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cluster.service.client.answers import validated
from cluster.service.client.connection import Connection
from cluster.service.client.steps import Steps
from cluster.service.decision_documents import (
    DecisionRequest,
    DecisionRow,
    OutcomeBatch,
    OutcomeReport,
    OutcomesTaken,
)
from cluster.service.documents import DEFAULT_ASPECT, Aspect


class DecisionCalls(Connection):
    """Calls about decisions, as steps."""

    def decide(
        self,
        request_id: str,
        viewer: str,
        titles: Sequence[str],
        *,
        context: Mapping[str, float] | None = None,
        aspect: Aspect = DEFAULT_ASPECT,
        exclude: Sequence[str] = (),
        exclude_spoilers: bool = False,
    ) -> Steps[DecisionRow]:
        """Return the pictures that a viewer is shown for a row of titles."""
        with validated():
            request = DecisionRequest(
                request_id=request_id,
                viewer=viewer,
                titles=list(titles),
                context=dict(context or {}),
                aspect=aspect,
                exclude=list(exclude),
                exclude_spoilers=exclude_spoilers,
            )
        return (yield from self.post(DecisionRow, "/v1/decisions", request))

    def report(self, outcomes: Sequence[OutcomeReport]) -> Steps[OutcomesTaken]:
        """Report what became of up to 300 decisions; what is accepted is on disk."""
        with validated():
            batch = OutcomeBatch(outcomes=list(outcomes))
        return (yield from self.post(OutcomesTaken, "/v1/outcomes", batch))
