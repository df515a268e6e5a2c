"""The steps that a call of a client consists of. What to do next is decided once, for both clients.

A call is a generator of steps. Whoever drives it (:mod:`.clients`) performs each step, blocking or
awaiting, and sends back what came of it; errors of the transport are thrown into the generator. So
nothing here and in the calls waits, and nothing there decides.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import httpx

T = TypeVar("T")

RETRIED_ERRORS = (httpx.TransportError, httpx.DecodingError)
"""Errors after which a request is sent again: no answer came, or not in one piece."""
TRANSPORT_ERRORS = (*RETRIED_ERRORS, httpx.InvalidURL)
"""Errors of a step that are thrown into the call."""


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request; the result is its response."""

    method: str
    path: str
    timeout_seconds: float
    """Time for which the connection may be silent."""
    params: Mapping[str, Any]
    headers: Mapping[str, str]
    content: bytes | None


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait; there is no result."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Listen:
    """Open a stream of lines; the result is its response, whose body is read unless it is 200."""

    path: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class NextLine:
    """Take a line from the stream that was opened last; the result is None at its end."""


@dataclass(frozen=True, slots=True)
class Give(Generic[T]):
    """Give a value to the caller of an iterator; there is no result."""

    value: T


Step = Send | Pause | Listen | NextLine
Steps = Generator[Step, Any, T]
"""A call that returns a value."""
Values = Generator[Step | Give[T], Any, None]
"""A call that gives values one after another."""


class Drive(Generic[T]):
    """A call under way: its present step, and in the end its result."""

    result: T

    def __init__(self, call: Generator[Step | Give[Any], Any, T]) -> None:
        self._call = call

    def begin(self) -> Step | Give[Any] | None:
        """Return the first step; None where there is none."""
        return self.go_on(None)

    def go_on(self, result: Any) -> Step | Give[Any] | None:
        """Return the step after one with this result; None at the end."""
        try:
            return self._call.send(result)
        except StopIteration as end:
            self.result = end.value
            return None

    def fail(self, error: Exception) -> Step | Give[Any] | None:
        """Return the step after one that ended with an error; None at the end."""
        try:
            return self._call.throw(error)
        except StopIteration as end:
            self.result = end.value
            return None

    def close(self) -> None:
        """End the call early."""
        self._call.close()
