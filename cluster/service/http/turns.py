"""Turns on the event loop for those that come at the same moment."""

from __future__ import annotations

import asyncio


class Turns:
    """Lets one after another go on, in the order in which they came.

    Between any two of them the loop looks for other work, so that hundreds that come at once delay
    what comes after them by the time that one of them takes, not by that of all.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def take(self) -> None:
        """Wait for the next turn."""
        async with self._lock:
            await asyncio.sleep(0)
