"""Answers requests for the pictures of a row, in the application and in front of it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from pydantic import ValidationError

from cluster.service.decision_documents import DecisionRequest
from cluster.service.decisions.choosing import Answered, Row
from cluster.service.decisions.keeping import Decisions
from cluster.service.http.auth import Tokens
from cluster.service.http.reading import Reply, below
from encoder.errors import ShotladderError

DECISIONS = "/v1/decisions"
_HEADERS = ((b"content-type", b"application/json"), (b"cache-control", b"private, no-store"))


class Desk:
    """Answers ``POST /v1/decisions`` without a framework, which takes as long as to decide."""

    def __init__(self, decisions: Decisions, tokens: Tokens) -> None:
        self._decisions = decisions
        self._tokens = tokens

    def answer(
        self, headers: Sequence[tuple[bytes, bytes]], body: bytes, mount: str
    ) -> Reply | None:
        """Answer a request; None if the application has to say what is wrong with it.

        ``mount`` is the path below which the service is mounted.
        """
        sent = dict(headers)
        client = self._tokens.client(sent.get(b"authorization"))
        if client is None or client is self._tokens.anybody or not client.may("decide"):
            return None
        media_type = sent.get(b"content-type", b"").partition(b";")[0]
        if media_type.strip().lower() != b"application/json":
            return None
        try:
            request = DecisionRequest.model_validate_json(body)
            text = decided(request, self._decisions, mount)
        except (ValidationError, ShotladderError):
            return None
        length = (b"content-length", b"%d" % len(text))
        return Reply(DECISIONS, 200, [*_HEADERS, length], text)


def decided(request: DecisionRequest, decisions: Decisions, mount: str) -> bytes:
    """Choose the pictures of a row; return a :class:`.decision_documents.DecisionRow` as JSON.

    Raises:
        StoreUnusable: as :meth:`.choosing.Chooser.choose`.
    """
    row = Row(
        request_id=request.request_id,
        viewer=request.viewer,
        context=request.context,
        titles=request.titles,
        aspect=request.aspect,
        excluded=frozenset(request.exclude),
        no_spoilers=request.exclude_spoilers,
    )
    return _document(row, decisions.chooser.choose(row, time.time()), mount).encode()


def _document(row: Row, answered: Answered, mount: str) -> str:
    """Images are put in as they are: to encode them takes longer than to decide."""
    decisions = []
    for one in answered.chosen:
        fields = {
            "decision_id": one.decision.decision_id,
            "title": one.decision.title,
            "action_id": one.decision.action_id,
            "pool": one.decision.pool,
            "propensity": one.decision.propensity,
            "policy": one.decision.policy,
            "repeated": one.repeated,
            "base": below(mount, one.base),
        }
        image = one.shelf.images[row.aspect][one.position]
        decisions.append(f'{json.dumps(fields)[:-1]}, "image": {image}}}')
    fields = {"request_id": row.request_id, "day": answered.day, "policy": answered.policy}
    missing = json.dumps(answered.missing)
    return (
        f'{json.dumps(fields)[:-1]}, "decisions": [{", ".join(decisions)}], "missing": {missing}}}'
    )
