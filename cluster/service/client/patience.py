"""For how long a request is repeated, and when next."""

from __future__ import annotations

import email.utils
import time
from datetime import UTC, datetime

import httpx

PATIENCE_SECONDS = 60.0
"""Time for which requests about jobs are repeated while the service does not answer."""
READ_PATIENCE_SECONDS = 5.0
"""The same for documents of titles, for which a page may be waiting."""
WAIT_PATIENCE_SECONDS = 24 * 3600.0
"""The same for waiting for a job, which may take hours and outlives an update of the machine that
its service runs on."""
UNAVAILABLE = frozenset({429, 502, 503, 504})
"""Statuses after which a request is repeated."""
_MAX_DELAY_SECONDS = 2.0
"""Longest pause between two attempts that the service does not ask for."""
_LEAST_TIMEOUT_SECONDS = 1.0
_MAX_DIGITS = 9


def now_seconds() -> float:
    """Return the time of a clock that nobody sets."""
    return time.monotonic()


class Attempts:
    """Attempts at one request, at growing intervals, until patience ends."""

    def __init__(self, patience_seconds: float) -> None:
        self._give_up_at = now_seconds() + patience_seconds
        self._delay = 0.1

    def timeout_seconds(self, most: float) -> float:
        """Return for how long the next attempt may take: no longer than patience lasts."""
        left = self._give_up_at - now_seconds()
        return min(most, max(left, _LEAST_TIMEOUT_SECONDS))

    def pause_seconds(self, answer: httpx.Response | None = None) -> float | None:
        """Return the time until the next attempt; None where that would come too late.

        An ``answer`` may say by ``Retry-After`` when to come back; it is not asked earlier.
        """
        asked = None if answer is None else retry_after_seconds(answer)
        delay = max(self._delay, asked or 0.0)
        if now_seconds() + delay > self._give_up_at:
            return None
        self._delay = min(self._delay * 2, _MAX_DELAY_SECONDS)
        return delay


def retry_after_seconds(answer: httpx.Response) -> float | None:
    """Return the time after which a service wants to be asked again: ``Retry-After``, in seconds or
    as a date by the service's own clock. None where the answer does not say.
    """
    text = answer.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:_MAX_DIGITS])
    at = _date(text)
    if at is None:
        return None
    now = _date(answer.headers.get("Date", "")) or datetime.now(UTC)
    return max((at - now).total_seconds(), 0.0)


def _date(text: str) -> datetime | None:
    """Return the time that an HTTP date names; None where it is none."""
    try:
        at = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
