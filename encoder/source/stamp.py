"""What the file system tells of a file's content: by it a change is noticed without reading.

Any write changes the times of a file, and nothing sets ``ctime`` back: it shows a copy over the
file whose modification time was restored, and a rename shows in the inode. Two things stay hidden:
a write within the clock's granularity after the last one (:func:`settled` waits until that is
over), and a write through a memory map that the kernel has not noted yet. So an equal stamp saves
a digest between two digests, and does not replace the last one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import signal
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from encoder.errors import SourceChanged

COARSE_SECONDS, FINE_SECONDS = 2.1, 0.03
"""Granularity of the times of files: FAT and old network file systems count in two seconds, others
in ticks of the kernel."""
RECENT_SECONDS = 60.0
"""Age of the last write up to which an open writer is taken for an upload."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Size, times and inode of a file."""

    size: int
    """Size in bytes."""
    mtime_ns: int
    """Time of the last write, nanoseconds since 1970."""
    ctime_ns: int
    """Time of the last change of content, name or rights, nanoseconds since 1970."""
    inode: int

    @classmethod
    def of(cls, path: Path | str) -> Stamp:
        """Return the stamp of a file.

        Raises:
            SourceChanged: the file is no longer there, or cannot be opened.
        """
        try:
            # A network file system asks its server when a file is opened, and answers `stat` from
            # a cache that may be a minute old.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as error:
            raise source_changed(
                f"{path} can no longer be read ({error.strerror})",
                "put it back and run the same command again",
            ) from error
        try:
            return cls._of(os.fstat(descriptor))
        finally:
            os.close(descriptor)

    @classmethod
    def _of(cls, status: os.stat_result) -> Stamp:
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)

    @property
    def name(self) -> str:
        """Short name, equal for equal stamps."""
        facts = f"{self.size} {self.mtime_ns} {self.ctime_ns} {self.inode}"
        return hashlib.sha256(facts.encode()).hexdigest()[:16]

    def difference(self, now: Stamp) -> str:
        """Tell people what is different in a later stamp."""
        said = []
        if now.size != self.size:
            said.append(f"had {self.size} bytes and has {now.size}")
        if now.inode != self.inode:
            said.append("is another file under the same name")
        if now.mtime_ns != self.mtime_ns:
            said.append(f"was written at {_utc(now.mtime_ns)}")
        elif now.ctime_ns != self.ctime_ns:
            said.append(f"was replaced or touched at {_utc(now.ctime_ns)}")
        return ", ".join(said) or "has the same size and times"


def settled(path: Path) -> Stamp:
    """Return the stamp of a file that nobody writes, old enough that a later write would show.

    Raises:
        SourceChanged: the file is still being written, or is not there.
    """
    stamp = Stamp.of(path)
    last = max(stamp.mtime_ns, stamp.ctime_ns)
    age = time.time() - last / 1e9
    if 0 <= age < RECENT_SECONDS and _has_writer(path):
        raise source_changed(
            f"{path} is still being written: another process has it open for writing and wrote "
            f"{age:.0f} s ago",
            "run the same command when the file is complete",
        )
    coarse = not (stamp.mtime_ns % 1_000_000_000 or stamp.ctime_ns % 1_000_000_000)
    needed = COARSE_SECONDS if coarse else FINE_SECONDS
    if age < needed:
        time.sleep(min(needed, needed - age))
    return stamp


def check_same(path: Path, before: Stamp, after: Stamp) -> None:
    """Check that a file did not change while it was read.

    Raises:
        SourceChanged: it did; a file that only grew is still being written.
    """
    if after == before:
        return
    if after.size > before.size and after.inode == before.inode:
        raise source_changed(
            f"{path} is still being written: it grew from {before.size} to {after.size} bytes "
            "while it was read",
            "run the same command when the file is complete",
        )
    raise source_changed(
        f"{path} changed while it was read: it {before.difference(after)}",
        "run the same command when nothing writes to it",
    )


def source_changed(cause: str, remedy: str, **context: Any) -> SourceChanged:
    """Return the error for a source that changed; a service has another remedy than a command."""
    return SourceChanged(f"{cause}; {remedy}", cause=cause, **context)


def _has_writer(path: Path) -> bool:
    """Tell whether a process of this machine has the file open for writing, as far as is known."""
    # A read lease is refused while there is a writer. Only the owner of a file may ask, and not
    # on every file system: no answer is taken for no.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        # Who opens the file meanwhile makes the kernel send a signal; this one is ignored.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _utc(nanoseconds: int) -> str:
    return f"{datetime.fromtimestamp(nanoseconds / 1e9, UTC):%Y-%m-%d %H:%M:%S} UTC"
