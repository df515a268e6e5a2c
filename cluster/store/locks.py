"""Locks between processes that end with their holder, however it ends.

A lock is a file that its holder has flocked and that still has its name. The holder unlinks the
file before it lets go; a process that was waiting then holds a file without a name, sees that and
tries again. So no two processes hold the lock of one name, and no file outlives its use (the file
of a killed holder stays until somebody takes and releases the lock).
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def acquire(path: Path, *, wait: bool = True) -> int | None:
    """Take the lock ``path`` and return the descriptor that holds it.

    Return None if another process holds the lock and ``wait`` is false.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if _inode(path) == os.fstat(descriptor).st_ino:
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def release(path: Path, descriptor: int) -> None:
    """Release the lock ``path``, which ``descriptor`` holds."""
    try:
        path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None
