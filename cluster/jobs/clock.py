"""What a run takes: CPU and wall seconds of this process and of everything that it started."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field


def process_tree_cpu_seconds() -> float:
    """Return the CPU seconds of this process, its living descendants, and all that have ended."""
    import psutil

    this = psutil.Process()
    total = 0.0
    for process in (this, *this.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


@dataclass
class Clock:
    """Counts from the moment it is made."""

    _wall_at_start: float = field(default_factory=time.monotonic)
    _cpu_at_start: float = field(default_factory=process_tree_cpu_seconds)

    def cpu_seconds(self) -> float:
        """Return the CPU seconds of the process tree since the start."""
        return process_tree_cpu_seconds() - self._cpu_at_start

    def wall_seconds(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self._wall_at_start
