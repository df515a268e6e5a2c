"""Pull caches to compare with and to stand beside a plan: LRU and S3-FIFO.

Both hold what is asked for and make room by giving up files. Their capacity may change, and files
may be handed to them and taken from them.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol


class PullCache(Protocol):
    """A cache that fills itself with what is asked for."""

    def request(self, file: int, num_bytes: int) -> bool:
        """Ask for a file; True if it is there. Otherwise it is held from now on."""
        ...

    def take(self, file: int) -> bool:
        """Give a file up to somebody else; False if it is not there."""
        ...

    def give(self, file: int, num_bytes: int) -> None:
        """Hold a file that nobody asked for now."""
        ...

    def resize(self, capacity: int) -> None:
        """Hold at most so many bytes from now on."""
        ...

    def held(self) -> list[int]:
        """Return the files that are held."""
        ...


class LRU:
    """Gives up the file whose last request is longest ago."""

    def __init__(self, capacity: int) -> None:
        self._capacity, self._used = capacity, 0
        self._files: OrderedDict[int, int] = OrderedDict()

    def request(self, file: int, num_bytes: int) -> bool:
        """Ask for a file."""
        if file in self._files:
            self._files.move_to_end(file)
            return True
        self.give(file, num_bytes)
        return False

    def take(self, file: int) -> bool:
        """Give a file up to somebody else."""
        num_bytes = self._files.pop(file, None)
        self._used -= num_bytes or 0
        return num_bytes is not None

    def give(self, file: int, num_bytes: int) -> None:
        """Hold a file, as the one asked for last."""
        self._files[file] = num_bytes
        self._used += num_bytes
        self.resize(self._capacity)

    def resize(self, capacity: int) -> None:
        """Hold at most so many bytes."""
        self._capacity = capacity
        while self._used > capacity:
            self._used -= self._files.popitem(last=False)[1]

    def held(self) -> list[int]:
        """Return the files that are held."""
        return list(self._files)


class S3FIFO:
    """Three queues (Yang and others, SOSP 2023): a tenth of the bytes for new files, and a memory
    of what left them, as large as the main queue. A file that is asked for twice while it is new,
    or comes back from that memory, goes to the main queue.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity, self._used, self._small_used, self._ghost_used = capacity, 0, 0, 0
        self._small: OrderedDict[int, int] = OrderedDict()
        self._main: OrderedDict[int, int] = OrderedDict()
        self._ghost: OrderedDict[int, int] = OrderedDict()
        self._hits: dict[int, int] = {}  # of held files, at most 3

    def request(self, file: int, num_bytes: int) -> bool:
        """Ask for a file."""
        hits = self._hits.get(file)
        if hits is not None:
            if hits < 3:
                self._hits[file] = hits + 1
            return True
        if num_bytes > self._capacity:
            return False
        if file in self._ghost:
            self._ghost_used -= self._ghost.pop(file)
            self.give(file, num_bytes)
            return False
        self._hits[file] = 0
        self._small[file] = num_bytes
        self._small_used += num_bytes
        self._used += num_bytes
        self._shrink()
        return False

    def take(self, file: int) -> bool:
        """Give a file up to somebody else."""
        if self._hits.pop(file, None) is None:
            return False
        if file in self._small:
            num_bytes = self._small.pop(file)
            self._small_used -= num_bytes
        else:
            num_bytes = self._main.pop(file)
        self._used -= num_bytes
        return True

    def give(self, file: int, num_bytes: int) -> None:
        """Hold a file in the main queue."""
        self._hits[file] = 0
        self._main[file] = num_bytes
        self._used += num_bytes
        self._shrink()

    def resize(self, capacity: int) -> None:
        """Hold at most so many bytes."""
        self._capacity = capacity
        self._shrink()

    def held(self) -> list[int]:
        """Return the files that are held."""
        return list(self._hits)

    def _shrink(self) -> None:
        while self._used > self._capacity:
            if self._small and (self._small_used > self._capacity // 10 or not self._main):
                file, num_bytes = self._small.popitem(last=False)
                self._small_used -= num_bytes
                if self._hits[file] > 1:
                    self._hits[file] = 0
                    self._main[file] = num_bytes
                    continue
                self._remember(file, num_bytes)
            else:
                file, num_bytes = self._main.popitem(last=False)
                if self._hits[file]:
                    self._hits[file] -= 1
                    self._main[file] = num_bytes
                    continue
            del self._hits[file]
            self._used -= num_bytes

    def _remember(self, file: int, num_bytes: int) -> None:
        self._ghost[file] = num_bytes
        self._ghost_used += num_bytes
        while self._ghost_used > 0.9 * self._capacity:
            self._ghost_used -= self._ghost.popitem(last=False)[1]
