"""Event streams: one look at the tables for all listeners, however many there are.

A listener subscribes, reads what its job has told so far, and then takes what the poller hands out.
What comes twice is told by its number. Where the tables were restored from a backup, numbers are
given out again, and the listener gets all events of its job once more.
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

from cluster.service.documents import TERMINAL
from cluster.service.queue.jobs import Jobs, ToldEvents
from encoder.errors import Busy, StoreUnusable

POLL_SECONDS = 0.3
"""Interval at which the poller looks for new events while there are listeners."""
MAX_STREAMS = 500
KEEP_ALIVE_SECONDS = 15.0
_MAX_WAITING = 1_000
"""Limit of events that wait for one listener; one that is slower is cut off and connects again."""
_AT_ONCE, _BETWEEN_SECONDS = 10, 0.002
"""Listeners that are told an event at once, and the pause after them, in which others are served:
telling one takes a quarter of a millisecond."""
log = structlog.stdlib.get_logger(__name__)


_Event = tuple[int, str, bytes]
"""Number, type and text of an event."""
_AGAIN: _Event = (0, "", b"")
"""Stands for all events of the job: the tables were restored, and their numbers begin anew."""


class EventStream:
    """The events of a job for one listener, as server-sent events, until the job has ended.

    It has one of the places from :meth:`Followers.follow` until :meth:`close`.
    """

    def __init__(self, followers: Followers, job_id: str, after: int) -> None:
        self.job_id = job_id
        self.after = after
        """Number of the last event that the listener has."""
        self.epoch = ""
        """The history in which numbers count."""
        self._followers = followers
        self._waiting: asyncio.Queue[_Event | None] = asyncio.Queue(_MAX_WAITING)
        self._told: list[tuple[int, dict[str, Any]]] = []
        self._ended = False

    def tell(self, event: _Event | None) -> None:
        """Hand an event over; None, or one too many, ends the stream."""
        try:
            self._waiting.put_nowait(event)
        except asyncio.QueueFull:
            self._waiting.get_nowait()
            self._waiting.put_nowait(None)

    async def read(self, epoch: str | None = None) -> None:
        """Read what the job has told so far; all of it if the listener's numbers are of another
        history."""
        told: ToldEvents = await self._followers.read(self.job_id, self.after, epoch)
        self._told, self.epoch, self.after = told.events, told.epoch, told.after
        self._ended = told.job.state in TERMINAL

    def close(self) -> None:
        """Give the place back."""
        self._followers.leave(self)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            told, self._told = self._told, []
            for number, body in told:
                self.after = number
                yield _message(number, body)
            if self._ended:
                return
            try:
                async with asyncio.timeout(KEEP_ALIVE_SECONDS):
                    event = await self._waiting.get()
            except TimeoutError:
                yield b": still here\n\n"
                continue
            if event is None:
                return
            if event is _AGAIN:
                self.after = 0
                await self.read()
                continue
            number, kind, message = event
            if number > self.after:
                self.after = number
                yield message
                if kind in TERMINAL:
                    return


class Followers:
    """All listeners of one service, and the task that looks for events while there are any."""

    def __init__(
        self, jobs: Jobs, *, poll_seconds: float = POLL_SECONDS, max_streams: int = MAX_STREAMS
    ) -> None:
        self._jobs = jobs
        self._poll_seconds = poll_seconds
        self._max_streams = max_streams
        self._streams: dict[str, set[EventStream]] = {}
        self._count = 0
        self._closed = False
        self._poller: asyncio.Task[None] | None = None
        self._begun: asyncio.Event | None = None
        # Threads of their own: reads of jobs never wait for listeners.
        self._limiter = anyio.CapacityLimiter(4)

    async def follow(self, job_id: str, after: int, epoch: str | None = None) -> EventStream:
        """Return the events of a job after a number, to be closed.

        All of its events are returned if the number is of another history than ``epoch``, or has
        not been given out, since the tables were restored from a backup.

        Raises:
            NotThere: there is no such job.
            Busy: there are too many listeners, or the service is stopping.
        """
        if self._closed:
            raise Busy("the service is stopping; connect again")
        if self._count >= self._max_streams:
            raise Busy(
                f"all {self._max_streams} event streams are in use; "
                f"poll GET /v1/jobs/{job_id} instead"
            )
        stream = EventStream(self, job_id, after)
        self._count += 1
        self._streams.setdefault(job_id, set()).add(stream)
        try:
            await self._polling()
            await stream.read(epoch)
        except BaseException:
            stream.close()
            raise
        return stream

    async def read(self, job_id: str, after: int, epoch: str | None) -> ToldEvents:
        """Return what a job has told; for streams."""
        told: ToldEvents = await self._read(self._jobs.events_after, job_id, after, epoch)
        return told

    def leave(self, stream: EventStream) -> None:
        """Take a stream's place back; once is enough."""
        streams = self._streams.get(stream.job_id, set())
        if stream in streams:
            streams.remove(stream)
            self._count -= 1
        if not streams:
            self._streams.pop(stream.job_id, None)

    def close(self) -> None:
        """End all streams, and let no other begin: their listeners connect again."""
        self._closed = True
        self._tell_all(None)

    def _tell_all(self, event: _Event | None) -> None:
        for streams in tuple(self._streams.values()):
            for stream in tuple(streams):
                stream.tell(event)

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
            while self._streams:
                await asyncio.sleep(self._poll_seconds)
                with contextlib.suppress(StoreUnusable):  # busy: look again next time
                    last = await self._look(last)
        except Exception:
            log.exception("following jobs failed")
            self._tell_all(None)  # they connect again
        finally:
            begun.set()

    async def _look(self, last: int) -> int:
        """Hand out the events after a number; return the number of the last one."""
        if (present := await self._read(self._jobs.last_event)) < last:
            log.warning("the tables were restored; streams of events begin anew")
            self._tell_all(_AGAIN)
            return int(present)
        if present == last:
            return last
        for number, job_id, body in await self._read(self._jobs.all_events_after, last):
            last = number
            streams = tuple(self._streams.get(job_id, ()))
            if not streams:
                continue
            event = number, str(body["type"]), _message(number, body)
            for told, stream in enumerate(streams, 1):
                stream.tell(event)
                if told % _AT_ONCE == 0:
                    await asyncio.sleep(_BETWEEN_SECONDS)
        return last

    async def _read(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await run_sync(partial(function, *arguments), limiter=self._limiter)


def _message(number: int, body: dict[str, Any]) -> bytes:
    text = json.dumps(body, ensure_ascii=False)
    return f"id: {number}\nevent: {body['type']}\ndata: {text}\n\n".encode()
