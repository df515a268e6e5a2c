"""The two clients, which perform the steps of the same calls: one blocks, the other awaits."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import anyio
import httpx

from cluster.service.client.connection import TIMEOUT_SECONDS
from cluster.service.client.decision_calls import DecisionCalls
from cluster.service.client.job_calls import JobCalls
from cluster.service.client.patience import (
    PATIENCE_SECONDS,
    READ_PATIENCE_SECONDS,
    WAIT_PATIENCE_SECONDS,
)
from cluster.service.client.steps import (
    TRANSPORT_ERRORS,
    Drive,
    Give,
    Listen,
    NextLine,
    Pause,
    Send,
    Step,
    Steps,
    Values,
)
from cluster.service.client.streams import AsyncStream, Stream, request_of
from cluster.service.client.title_calls import TitleCalls

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Calls(JobCalls, TitleCalls, DecisionCalls):
    """Everything that can be asked of a service, as steps."""


class _Client:
    """What both clients have in common: how they are made."""

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        read_patience_seconds: float = READ_PATIENCE_SECONDS,
        wait_patience_seconds: float = WAIT_PATIENCE_SECONDS,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        """Take URL and token from ``SHOTLADDER_URL`` and ``SHOTLADDER_TOKEN`` by default.

        While the service does not answer, or has no room for a request (429, 503), it is asked
        again, at the time that it names by ``Retry-After``: reads of titles for
        ``read_patience_seconds``, others for ``patience_seconds``, and :meth:`wait` and
        :meth:`events`, once the service has answered them, for ``wait_patience_seconds``.
        """
        self.calls = Calls(
            url,
            patience_seconds=patience_seconds,
            read_patience_seconds=read_patience_seconds,
            wait_patience_seconds=wait_patience_seconds,
            timeout_seconds=timeout_seconds,
        )
        try:
            self._open(self.calls.settings(token))
        except httpx.InvalidURL as error:
            raise self.calls.invalid_url(error) from error

    @property
    def url(self) -> str:
        """URL of the service."""
        return self.calls.url

    def _open(self, settings: dict[str, Any]) -> None:
        raise NotImplementedError


def _blocking(
    call: Callable[Concatenate[Any, _P], Steps[_T]],
) -> Callable[Concatenate[Client, _P], _T]:
    @functools.wraps(call)
    def blocking(client: Client, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return client.returned(call(client.calls, *args, **kwargs))

    return blocking


def _iterating(
    call: Callable[Concatenate[Any, _P], Values[_T]],
) -> Callable[Concatenate[Client, _P], Generator[_T, None, None]]:
    @functools.wraps(call)
    def iterating(
        client: Client, /, *args: _P.args, **kwargs: _P.kwargs
    ) -> Generator[_T, None, None]:
        return client.given(Drive(call(client.calls, *args, **kwargs)))

    return iterating


def _awaited(
    call: Callable[Concatenate[Any, _P], Steps[_T]],
) -> Callable[Concatenate[AsyncClient, _P], Coroutine[Any, Any, _T]]:
    @functools.wraps(call)
    async def awaited(client: AsyncClient, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await client.returned(call(client.calls, *args, **kwargs))

    return awaited


def _async_iterating(
    call: Callable[Concatenate[Any, _P], Values[_T]],
) -> Callable[Concatenate[AsyncClient, _P], AsyncGenerator[_T, None]]:
    @functools.wraps(call)
    def iterating(
        client: AsyncClient, /, *args: _P.args, **kwargs: _P.kwargs
    ) -> AsyncGenerator[_T, None]:
        return client.given(Drive(call(client.calls, *args, **kwargs)))

    return iterating


class Client(_Client):
    """A connection to a service. May be used from several threads.

    Every method raises:
        BadInput: the request is invalid (the message is the service's), or the token is not valid.
        NotThere: there is no such job or title.
        Conflict: the state of the job or title does not allow the request.
        Busy: the service has no room for the request, until patience has ended.
        ServiceUnusable: the service does not answer, or has a defect.
    """

    _http: httpx.Client

    def _open(self, settings: dict[str, Any]) -> None:
        self._http = httpx.Client(**settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def returned(self, call: Steps[_T]) -> _T:
        """Perform the steps of a call, and return its result."""
        drive = Drive(call)
        for _ in self.given(drive):
            pass
        return drive.result

    def given(self, drive: Drive[Any]) -> Generator[Any, None, None]:
        """Perform the steps of a call, and yield what it gives."""
        with contextlib.closing(drive), Stream(self._http) as stream:
            step = drive.begin()
            while step is not None:
                if isinstance(step, Give):
                    yield step.value
                    step = drive.go_on(None)
                    continue
                try:
                    result = self._performed(step, stream)
                except TRANSPORT_ERRORS as error:
                    step = drive.fail(error)
                else:
                    step = drive.go_on(result)

    def _performed(self, step: Step, stream: Stream) -> Any:
        match step:
            case Send():
                return self._http.send(request_of(self._http, step))
            case Pause(seconds):
                return time.sleep(seconds)
            case Listen():
                return stream.open(step)
            case NextLine():
                return next(stream.lines, None)

    submit = _blocking(Calls.submit)
    job = _blocking(Calls.job)
    jobs = _iterating(Calls.jobs)
    find_job = _blocking(Calls.find_job)
    cancel = _blocking(Calls.cancel)
    retry = _blocking(Calls.retry)
    events = _iterating(Calls.events)
    wait = _blocking(Calls.wait)
    deliveries = _iterating(Calls.deliveries)
    resend = _blocking(Calls.resend)
    titles = _iterating(Calls.titles)
    snapshot = _blocking(Calls.snapshot)
    title = _blocking(Calls.title)
    signed = _blocking(Calls.signed)
    rollback = _blocking(Calls.rollback)
    artwork_edits = _blocking(Calls.artwork_edits)
    edit_artwork = _blocking(Calls.edit_artwork)
    lift_artwork_edit = _blocking(Calls.lift_artwork_edit)
    withdraw = _blocking(Calls.withdraw)
    holds = _blocking(Calls.holds)
    release = _blocking(Calls.release)
    audit = _blocking(Calls.audit)
    ladder = _blocking(Calls.ladder)
    prefetch = _blocking(Calls.prefetch)
    start = _blocking(Calls.start)
    artwork = _blocking(Calls.artwork)
    stills = _blocking(Calls.stills)
    starts = _blocking(Calls.starts)
    artworks = _blocking(Calls.artworks)
    changes = _blocking(Calls.changes)
    decide = _blocking(Calls.decide)
    report = _blocking(Calls.report)


class AsyncClient(_Client):
    """A connection to a service, whose methods are those of :class:`Client`, to be awaited; those
    that yield several values are iterated over with ``async for``.
    """

    _http: httpx.AsyncClient

    def _open(self, settings: dict[str, Any]) -> None:
        self._http = httpx.AsyncClient(**settings)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def returned(self, call: Steps[_T]) -> _T:
        """Perform the steps of a call, and return its result."""
        drive = Drive(call)
        async for _ in self.given(drive):
            pass
        return drive.result

    async def given(self, drive: Drive[Any]) -> AsyncGenerator[Any, None]:
        """Perform the steps of a call, and yield what it gives."""
        with contextlib.closing(drive):
            async with AsyncStream(self._http) as stream:
                step = drive.begin()
                while step is not None:
                    if isinstance(step, Give):
                        yield step.value
                        step = drive.go_on(None)
                        continue
                    try:
                        result = await self._performed(step, stream)
                    except TRANSPORT_ERRORS as error:
                        step = drive.fail(error)
                    else:
                        step = drive.go_on(result)

    async def _performed(self, step: Step, stream: AsyncStream) -> Any:
        match step:
            case Send():
                return await self._http.send(request_of(self._http, step))
            case Pause(seconds):
                return await anyio.sleep(seconds)
            case Listen():
                return await stream.open(step)
            case NextLine():
                return await anext(stream.lines, None)

    submit = _awaited(Calls.submit)
    job = _awaited(Calls.job)
    jobs = _async_iterating(Calls.jobs)
    find_job = _awaited(Calls.find_job)
    cancel = _awaited(Calls.cancel)
    retry = _awaited(Calls.retry)
    events = _async_iterating(Calls.events)
    wait = _awaited(Calls.wait)
    deliveries = _async_iterating(Calls.deliveries)
    resend = _awaited(Calls.resend)
    titles = _async_iterating(Calls.titles)
    snapshot = _awaited(Calls.snapshot)
    title = _awaited(Calls.title)
    signed = _awaited(Calls.signed)
    rollback = _awaited(Calls.rollback)
    artwork_edits = _awaited(Calls.artwork_edits)
    edit_artwork = _awaited(Calls.edit_artwork)
    lift_artwork_edit = _awaited(Calls.lift_artwork_edit)
    withdraw = _awaited(Calls.withdraw)
    holds = _awaited(Calls.holds)
    release = _awaited(Calls.release)
    audit = _awaited(Calls.audit)
    ladder = _awaited(Calls.ladder)
    prefetch = _awaited(Calls.prefetch)
    start = _awaited(Calls.start)
    artwork = _awaited(Calls.artwork)
    stills = _awaited(Calls.stills)
    starts = _awaited(Calls.starts)
    artworks = _awaited(Calls.artworks)
    changes = _awaited(Calls.changes)
    decide = _awaited(Calls.decide)
    report = _awaited(Calls.report)
