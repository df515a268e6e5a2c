"""Answers of the service: the errors that they stand for, the events of a stream, what is kept."""

from __future__ import annotations

import contextlib
import json
import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter, ValidationError

from cluster.service.client.patience import retry_after_seconds
from cluster.service.wording import first_complaint
from encoder.errors import BadInput, Busy, Conflict, NotThere, ServiceUnusable
from encoder.names import shown

TOKEN_VARIABLE = "SHOTLADDER_TOKEN"
_MAX_KEPT = 4096
_T = TypeVar("_T")


class KeptDocuments:
    """Documents for conditional requests, by path: the last ones that were read.

    May be used from several threads.
    """

    def __init__(self, most: int = _MAX_KEPT) -> None:
        self._most = most
        self._kept: OrderedDict[str, tuple[str, bytes]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, path: str) -> tuple[str, bytes] | None:
        """Return the ETag and the bytes of a document; None where it is not kept."""
        with self._lock:
            return self._kept.get(path)

    def keep(self, path: str, etag: str, content: bytes) -> None:
        """Keep a document, in place of the one that was read longest ago."""
        with self._lock:
            self._kept[path] = etag, content
            self._kept.move_to_end(path)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)


class EventLines:
    """Parser of server-sent events, line by line."""

    def __init__(self) -> None:
        self._number, self._data = 0, ""

    def take(self, line: str) -> tuple[int, dict[str, Any]] | None:
        """Return the number and the body of the event that a line completes; None for others."""
        field, _, value = line.partition(": ")
        if field == "id":
            self._number = int(value)
        elif field == "data":
            self._data = value
        elif not line and self._data:
            body, self._data = json.loads(self._data), ""
            if not isinstance(body, dict) or not isinstance(body.get("type"), str):
                raise ValueError("an event without a type")
            return self._number, body
        return None


def parsed(kind: type[_T], answer: httpx.Response) -> _T:
    """Return the document that an answer holds.

    Raises:
        ServiceUnusable: it holds none, as where a proxy or another server answers.
    """
    try:
        return TypeAdapter(kind).validate_json(answer.content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = "".join(f"{part}: " for part in first["loc"])
        raise unintelligible(answer, f"{place}{first['msg']}") from error


def unintelligible(answer: httpx.Response, cause: str) -> ServiceUnusable:
    """Return the error for an answer that is none of a service."""
    url = answer.url.copy_with(query=None)
    return ServiceUnusable(
        f"{url} answered {answer.status_code} with what is no answer of a service ({cause}); check "
        "that its URL is that of the service, and whether a proxy answers in its place"
    )


def error_of(answer: httpx.Response) -> Exception:
    """Return the error that a response of the service stands for."""
    detail, reason = f"the service answered {answer.status_code}", None
    try:
        document = answer.json()
        detail = str(document["detail"])
        reason = str(document["type"]).rpartition(":")[2].replace("-", "_")
    except (ValueError, KeyError, TypeError, RecursionError):  # of a proxy, or garbage
        pass
    match answer.status_code:
        case 401:
            return BadInput(f"{detail}; set {TOKEN_VARIABLE}", reason="no_token")
        case 404 | 410:
            return NotThere(detail, reason=reason)
        case 409:
            return Conflict(detail, reason=reason)
        case 429 | 503:
            asked = retry_after_seconds(answer)
            return Busy(detail, **({} if asked is None else {"retry_after_seconds": asked}))
        case status if 400 <= status < 500:
            return BadInput(detail, reason=reason)
    return ServiceUnusable(detail)


def invalid(error: ValidationError) -> BadInput:
    """Return the error for a request that is invalid before it is sent."""
    return BadInput(first_complaint(error.errors(include_url=False)))


@contextlib.contextmanager
def validated() -> Iterator[None]:
    """Raise what is wrong with a request as :class:`~encoder.errors.BadInput`."""
    try:
        yield
    except ValidationError as error:
        raise invalid(error) from error


def path_part(name: str) -> str:
    """Quote a name as one part of a path."""
    if not name or name in (".", ".."):
        raise BadInput(f"{name!r} cannot be the id of a job or the name of a title; check it")
    try:
        return quote(name, safe="")
    except UnicodeEncodeError as error:
        raise BadInput(f"{shown(name)} is no text that a name or an id can be; check it") from error
