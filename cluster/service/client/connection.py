"""What all calls to a service have in common: its address, and requests that are repeated while it
does not answer.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel

from cluster.service.client.answers import (
    TOKEN_VARIABLE,
    KeptDocuments,
    error_of,
    parsed,
    path_part,
)
from cluster.service.client.patience import (
    PATIENCE_SECONDS,
    READ_PATIENCE_SECONDS,
    UNAVAILABLE,
    WAIT_PATIENCE_SECONDS,
    Attempts,
)
from cluster.service.client.steps import RETRIED_ERRORS, Give, Pause, Send, Steps, Values
from cluster.service.documents import DeliveryPage, JobPage, TitlePage
from encoder.errors import BadInput, ServiceUnusable

URL_VARIABLE = "SHOTLADDER_URL"
DEFAULT_URL = "http://127.0.0.1:8480"
TIMEOUT_SECONDS = 30.0
_PAGE = 200
_TOKEN = re.compile("[!-~]+")
_SUCCEEDED = (200, 202, 304)

_M = TypeVar("_M", bound=BaseModel)
_P = TypeVar("_P", JobPage, TitlePage, DeliveryPage)
_T = TypeVar("_T")


class Connection:
    """Requests to a service, as steps."""

    def __init__(
        self,
        url: str | None = None,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        read_patience_seconds: float = READ_PATIENCE_SECONDS,
        wait_patience_seconds: float = WAIT_PATIENCE_SECONDS,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self.url = (url or os.environ.get(URL_VARIABLE) or DEFAULT_URL).rstrip("/")
        self.patience_seconds = patience_seconds
        self.read_patience_seconds = read_patience_seconds
        self.wait_patience_seconds = wait_patience_seconds
        self._timeout_seconds = timeout_seconds
        self._kept = KeptDocuments()

    def settings(self, token: str | None) -> dict[str, Any]:
        """Return the settings of an ``httpx`` client for this service.

        Raises:
            BadInput: the token cannot be sent.
        """
        token = token or os.environ.get(TOKEN_VARIABLE)
        if token and not _TOKEN.fullmatch(token):
            raise BadInput(
                f"the token has other characters than ASCII, or a space or line end; check "
                f"{TOKEN_VARIABLE}"
            )
        return {
            "base_url": self.url,
            "timeout": self._timeout_seconds,
            "follow_redirects": False,
            "verify": not self.url.startswith("http:"),  # no certificates to load
            "headers": {"Authorization": f"Bearer {token}"} if token else {},
        }

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        body: BaseModel | None = None,
        reading: bool = False,
        patience_seconds: float | None = None,
    ) -> Steps[httpx.Response]:
        """Send a request, and again while the service does not answer and patience lasts: that for
        reads if it is ``reading``, and that for jobs if no other is given.

        Where the service says when to come back, it is not asked earlier, and not at all if that
        is too late. No attempt at a read lasts longer than patience does.
        """
        if patience_seconds is None:
            patience_seconds = self.read_patience_seconds if reading else self.patience_seconds
        headers = dict(headers or {})
        if body is not None:
            headers["Content-Type"] = "application/json"
        content = None if body is None else body.model_dump_json().encode()
        most = self._timeout_seconds
        attempts = Attempts(patience_seconds)
        while True:
            timeout = attempts.timeout_seconds(most) if reading else most
            send = Send(method, path, timeout, params or {}, headers, content)
            try:
                answer: httpx.Response = yield send
            except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
                raise self.invalid_url(error) from error
            except RETRIED_ERRORS as error:
                pause = attempts.pause_seconds()
                if pause is None:
                    raise self.no_answer(error) from error
            else:
                if answer.status_code in _SUCCEEDED:
                    return answer
                again = answer.status_code in UNAVAILABLE
                pause = attempts.pause_seconds(answer) if again else None
                if pause is None:
                    raise error_of(answer)
            yield Pause(pause)

    def get(
        self,
        kind: type[_M],
        path: str,
        params: Mapping[str, Any] | None = None,
        *,
        reading: bool = False,
        patience_seconds: float | None = None,
    ) -> Steps[_M]:
        """Get a document of a kind."""
        answer = yield from self.request(
            "GET", path, params=params, reading=reading, patience_seconds=patience_seconds
        )
        return parsed(kind, answer)

    def post(
        self,
        kind: type[_M],
        path: str,
        body: BaseModel | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        reading: bool = False,
    ) -> Steps[_M]:
        """Post a request and return the answer, of a kind."""
        answer = yield from self.request("POST", path, headers=headers, body=body, reading=reading)
        return parsed(kind, answer)

    def delete(
        self, kind: type[_M], path: str, params: Mapping[str, Any] | None = None
    ) -> Steps[_M]:
        """Delete something and return the answer, of a kind."""
        answer = yield from self.request("DELETE", path, params=params)
        return parsed(kind, answer)

    def each(
        self,
        kind: type[_P],
        path: str,
        filters: Mapping[str, Any],
        entries: Callable[[_P], Sequence[_T]],
        *,
        limit: int | None = None,
        reading: bool = False,
    ) -> Values[_T]:
        """Give the entries of all pages: all of them, or at most ``limit``."""
        params = {name: value for name, value in filters.items() if value}
        params["limit"] = min(limit or _PAGE, _PAGE)
        given = 0
        while given != limit:
            page = yield from self.get(kind, path, params, reading=reading)
            for entry in entries(page):
                yield Give(entry)
                given += 1
                if given == limit:
                    return
            if page.next is None:
                return
            params["cursor"] = page.next

    def document(self, kind: type[_M], title: str, document: str) -> Steps[_M]:
        """Get a document of a title; one that is kept is sent again only if it has changed."""
        path = f"/v1/titles/{path_part(title)}/{document}"
        kept = self._kept.get(path)
        headers = {"If-None-Match": kept[0]} if kept else {}
        answer = yield from self.request("GET", path, headers=headers, reading=True)
        if answer.status_code == 304 and kept:
            return kind.model_validate_json(kept[1])
        found = parsed(kind, answer)
        if "ETag" in answer.headers:
            self._kept.keep(path, answer.headers["ETag"], answer.content)
        return found

    def no_answer(self, error: Exception) -> ServiceUnusable:
        """Return the error for a service that does not answer."""
        return ServiceUnusable(
            f"no service answers at {self.url} ({type(error).__name__}: {error}); start it with "
            f"`shotladder serve`, or set {URL_VARIABLE} to its URL"
        )

    def invalid_url(self, error: Exception) -> BadInput:
        """Return the error for an address that is none."""
        return BadInput(
            f"{self.url!r} is not the URL of a service ({error}); set {URL_VARIABLE} to its URL"
        )
