"""Requests and streams of lines by ``httpx``, blocking and awaited."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Self

import httpx

from cluster.service.client.steps import Listen, Send


def request_of(http: httpx.Client | httpx.AsyncClient, step: Send | Listen) -> httpx.Request:
    """Return the request that a step is to send."""
    if isinstance(step, Listen):
        return http.build_request("GET", step.path, headers=dict(step.headers))
    return http.build_request(
        step.method,
        step.path,
        params=dict(step.params) or None,
        headers=dict(step.headers),
        content=step.content,
        timeout=step.timeout_seconds,
    )


class Stream:
    """The stream of lines that a call listens to; opening another one closes it."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self._opened: httpx.Response | None = None
        self.lines: Iterator[str] = iter(())

    def open(self, step: Listen) -> httpx.Response:
        """Open a stream and return its response."""
        self.close()
        answer = self._opened = self._http.send(request_of(self._http, step), stream=True)
        if answer.status_code == 200:
            self.lines = answer.iter_lines()
        else:
            answer.read()
        return answer

    def close(self) -> None:
        """Close the stream that is open."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class AsyncStream:
    """As :class:`Stream`, without blocking."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._opened: httpx.Response | None = None
        self.lines: AsyncIterator[str]

    async def open(self, step: Listen) -> httpx.Response:
        """Open a stream and return its response."""
        await self.close()
        answer = self._opened = await self._http.send(request_of(self._http, step), stream=True)
        if answer.status_code == 200:
            self.lines = answer.aiter_lines()
        else:
            await answer.aread()
        return answer

    async def close(self) -> None:
        """Close the stream that is open."""
        if self._opened is not None:
            await self._opened.aclose()
            self._opened = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()
