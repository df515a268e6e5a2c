"""Event streams: one look at the tables for all listeners, however many there are.

A listener reads what its job has told so far, subscribes, reads what was told meanwhile, and then
takes what the poller hands out. What comes twice is told by its number.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import anyio
import structlog
from anyio.to_thread import run_sync

from cluster.service.documents import TERMINAL, Job
from cluster.service.queue.jobs import Jobs
from encoder.errors import Busy, StoreUnusable

POLL_SECONDS = 0.3
"""Interval at which the poller looks for new events while there are listeners."""
MAX_STREAMS = 500
KEEP_ALIVE_SECONDS = 15.0
_MAX_WAITING = 1_000
"""Limit of events that wait for one listener; one that is slower is cut off and connects again."""
log = structlog.stdlib.get_logger(__name__)


class _Listener:
    """Events that wait for one listener."""

    def __init__(self) -> None:
        self.waiting: asyncio.Queue[tuple[int, str, bytes] | None] = asyncio.Queue(_MAX_WAITING)

    def tell(self, event: tuple[int, str, bytes] | None) -> None:
        """Hand an event over; None, or one too many, ends the stream."""
        try:
            self.waiting.put_nowait(event)
        except asyncio.QueueFull:
            self.waiting.get_nowait()
            self.waiting.put_nowait(None)


class Followers:
    """All listeners of one service, and the task that looks for events while there are any."""

    def __init__(self, jobs: Jobs, *, poll_seconds: float = POLL_SECONDS) -> None:
        self._jobs = jobs
        self._poll_seconds = poll_seconds
        self._listeners: dict[str, set[_Listener]] = {}
        self._count = 0
        self._poller: asyncio.Task[None] | None = None
        self._begun: asyncio.Event | None = None
        # Threads of their own: reads of jobs never wait for listeners.
        self._limiter = anyio.CapacityLimiter(4)

    async def follow(self, job_id: str, after: int) -> AsyncIterator[bytes]:
        """Return the events of a job after a number, as server-sent events, until it has ended.

        Raises:
            NotThere: there is no such job.
            Busy: there are too many listeners.
        """
        if self._count >= MAX_STREAMS:
            raise Busy(
                f"all {MAX_STREAMS} event streams are in use; poll GET /v1/jobs/{job_id} instead"
            )
        told, job = await self._read(self._jobs.events_after, job_id, after)
        return self._stream(job_id, after, told, job)

    async def _stream(
        self, job_id: str, after: int, told: list[tuple[int, dict[str, Any]]], job: Job
    ) -> AsyncIterator[bytes]:
        for after, body in told:
            yield _message(after, body)
        if job.state in TERMINAL:
            return
        listener = _Listener()
        self._count += 1
        self._listeners.setdefault(job_id, set()).add(listener)
        try:
            await self._polling()
            told, job = await self._read(self._jobs.events_after, job_id, after)
            for after, body in told:  # written since
                yield _message(after, body)
            if job.state in TERMINAL:
                return
            while True:
                try:
                    async with asyncio.timeout(KEEP_ALIVE_SECONDS):
                        event = await listener.waiting.get()
                except TimeoutError:
                    yield b": still here\n\n"
                    continue
                if event is None:
                    return
                number, kind, message = event
                if number > after:
                    after = number
                    yield message
                    if kind in TERMINAL:
                        return
        finally:
            self._leave(job_id, listener)

    def _leave(self, job_id: str, listener: _Listener) -> None:
        listeners = self._listeners.get(job_id, set())
        if listener in listeners:
            listeners.remove(listener)
            self._count -= 1
        if not listeners:
            self._listeners.pop(job_id, None)

    async def _polling(self) -> None:
        """Return when the poller runs and has noted the last event from before."""
        if self._poller is None or self._poller.done():
            self._begun = asyncio.Event()
            self._poller = asyncio.create_task(self._poll(self._begun), name="followers")
        if self._begun is not None:
            await self._begun.wait()

    async def _poll(self, begun: asyncio.Event) -> None:
        try:
            last = await self._read(self._jobs.last_event)
            begun.set()
            while self._listeners:
                await asyncio.sleep(self._poll_seconds)
                with contextlib.suppress(StoreUnusable):  # busy: look again next time
                    for number, job_id, body in await self._read(self._jobs.all_events_after, last):
                        last = number
                        listeners = self._listeners.get(job_id)
                        if listeners:
                            event = number, str(body["type"]), _message(number, body)
                            for listener in tuple(listeners):
                                listener.tell(event)
        except Exception:
            log.exception("following jobs failed")
            for listeners in self._listeners.values():
                for listener in listeners:
                    listener.tell(None)  # they connect again
        finally:
            begun.set()

    async def _read(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await run_sync(partial(function, *arguments), limiter=self._limiter)


def _message(number: int, body: dict[str, Any]) -> bytes:
    text = json.dumps(body, ensure_ascii=False)
    return f"id: {number}\nevent: {body['type']}\ndata: {text}\n\n".encode()
