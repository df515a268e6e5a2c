"""Event streams: one look at the tables for all listeners, however many there are.

A listener subscribes, reads what its job has told so far, and then takes what the poller hands out.
What comes twice is told by its number. Where the tables were restored from a backup, numbers are
given out again, and the listener gets all events of its job once more.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
import structlog
from anyio.to_thread import run_sync

from cluster.service.documents import TERMINAL
from cluster.service.http.connections import Push
from cluster.service.http.turns import Turns
from cluster.service.queue.jobs import Jobs, ToldEvents
from encoder.errors import Busy, StoreUnusable

POLL_SECONDS = 0.3
"""Interval at which the poller looks for new events while there are listeners."""
MAX_STREAMS = 500
KEEP_ALIVE_SECONDS = 15.0
"""Longest silence of a stream."""
_READS_AT_ONCE, _GATHER_SECONDS = 2, 0.03
"""Reads at one time of what jobs have told, and the time for which listeners of one job gather who
share a read."""
_MAX_WAITING = 1_000
"""Limit of what waits for one listener; one that is slower is cut off and connects again."""
_MAX_UNSENT_BYTES = 1 << 18
"""The same for bytes that the listener's connection has not taken."""
_AT_ONCE, _BETWEEN_SECONDS = 20, 0.002
"""Listeners that are told at once, which takes half a millisecond, and the pause after them, in
which others are served."""
log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Events:
    """Events of one job, in order, that are handed to its listeners together."""

    each: list[tuple[int, bytes]]
    """Number and text of each; empty to stand for all events of the job, whose numbers begin anew
    since the tables were restored."""
    text: bytes = b""
    """The texts of all."""
    ended: bool = False
    """True if the last one says how the job ended."""

    def after(self, number: int) -> bytes:
        """Return the texts of those above ``number``."""
        if number < self.each[0][0]:
            return self.text
        return b"".join(text for one, text in self.each if one > number)


_AGAIN = Events([])


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
        self.push: Push | None = None
        """Sends text to a listener that has taken all before it; None where only the iteration
        can send."""
        self._followers = followers
        self._waiting: asyncio.Queue[Events | None] = asyncio.Queue(_MAX_WAITING)
        self._idle = False
        """True while the iteration waits for what comes next."""
        self._told: list[tuple[int, dict[str, Any]]] = []
        self._ended = False

    def tell(self, events: Events | None) -> None:
        """Hand events over, at once if the listener is idle; None, or too many, ends the stream."""
        if events is not None and events.each and self._idle and self._waiting.empty():
            unsent = self.push(events.after(self.after)) if self.push is not None else None
            if unsent is not None:
                self.after = max(self.after, events.each[-1][0])
                if not events.ended and unsent <= _MAX_UNSENT_BYTES:
                    return
                events = None
        try:
            self._waiting.put_nowait(events)
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
                events = await self._next()
            except TimeoutError:
                yield b": still here\n\n"
                continue
            if events is None:
                return
            if not events.each:
                self.after = 0
                await self.read()
                continue
            if text := events.after(self.after):
                self.after = events.each[-1][0]
                yield text
                if events.ended:
                    return

    async def _next(self) -> Events | None:
        self._idle = True
        try:
            # Listeners that began at the same moment do not go on in step.
            async with asyncio.timeout(KEEP_ALIVE_SECONDS * random.uniform(0.6, 1.0)):
                return await self._waiting.get()
        finally:
            self._idle = False


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
        self._limiter = anyio.CapacityLimiter(1 + _READS_AT_ONCE)
        self._turns = Turns()
        self._reading = asyncio.Semaphore(_READS_AT_ONCE)
        self._reads: dict[tuple[str, int, str | None], asyncio.Task[ToldEvents]] = {}
        """Reads that have not begun."""

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
        key = job_id, after, epoch
        if (read := self._reads.get(key)) is None:
            read = self._reads[key] = asyncio.create_task(self._read_once(key))
        told = await asyncio.shield(read)
        await self._turns.take()  # all that shared the read go on at the same moment
        return told

    async def _read_once(self, key: tuple[str, int, str | None]) -> ToldEvents:
        """Read for all that asked before the read began; who comes later may be told too little,
        since the poller has handed out what was told in between."""
        await asyncio.sleep(_GATHER_SECONDS)
        async with self._reading:
            del self._reads[key]
            told: ToldEvents = await self._read(self._jobs.events_after, *key)
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

    def _tell_all(self, events: Events | None) -> None:
        for streams in tuple(self._streams.values()):
            for stream in tuple(streams):
                stream.tell(events)

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
        told: dict[str, list[tuple[int, dict[str, Any]]]] = {}
        for number, job_id, body in await self._read(self._jobs.all_events_after, last):
            last = number
            told.setdefault(job_id, []).append((number, body))
        for job_id, bodies in told.items():
            streams = tuple(self._streams.get(job_id, ()))
            if not streams:
                continue  # nobody to write the events out for
            events = _written(bodies)
            for number, stream in enumerate(streams, 1):
                stream.tell(events)
                if number % _AT_ONCE == 0:
                    await asyncio.sleep(_BETWEEN_SECONDS)
        return last

    async def _read(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await run_sync(partial(function, *arguments), limiter=self._limiter)


def _written(bodies: list[tuple[int, dict[str, Any]]]) -> Events:
    """Return the text of events up to the first one that ends their job, as it ends streams."""
    each: list[tuple[int, bytes]] = []
    for number, body in bodies:
        each.append((number, _message(number, body)))
        if body["type"] in TERMINAL:
            return Events(each, b"".join(text for _, text in each), ended=True)
    return Events(each, b"".join(text for _, text in each))


def _message(number: int, body: dict[str, Any]) -> bytes:
    text = json.dumps(body, ensure_ascii=False)
    return f"id: {number}\nevent: {body['type']}\ndata: {text}\n\n".encode()
