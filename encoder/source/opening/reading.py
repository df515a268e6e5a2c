"""Read the bytes of a source, and notice when the disk or the network fails.

libav takes a failed read for the end of the file in several demuxers, or goes on behind the place
that it could not read. PyAV therefore reads sources through :class:`SourceFile`, which remembers
the failure.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from encoder.errors import ReadFailed, SourceUnusable
from encoder.source.opening import address

PathLike = str | os.PathLike[str]
"""Path of a file."""


class SourceFile:
    """A file for PyAV to read; :attr:`failure` is the first error of the operating system."""

    def __init__(self, path: Path) -> None:
        self.name = str(path.resolve())
        """Absolute path, whose suffix helps libav to tell containers apart."""
        self.failure: OSError | None = None
        self._file = path.open("rb", buffering=0)

    def read(self, count: int) -> bytes:
        """Return up to ``count`` bytes, none at the end of the file."""
        try:
            return self._file.read(count) or b""
        except OSError as error:
            self.failure = self.failure or error
            raise

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to another place, and return it; a negative number for a place that cannot be."""
        try:
            return self._file.seek(offset, whence)
        except OSError as error:
            # libav seeks to places that damaged files name; those are no failure of the disk.
            if error.errno == errno.EINVAL:
                return -errno.EINVAL
            self.failure = self.failure or error
            raise

    def tell(self) -> int:
        """Return the present place."""
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


_FAILURES = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EREMOTEIO, errno.ENOLINK)


@contextlib.contextmanager
def reading(path: PathLike) -> Iterator[None]:
    """Raise :class:`~encoder.errors.ReadFailed` where the block could not read a source.

    For blocks that write nothing: the error names the source.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _FAILURES:
            raise
        raise read_failed(Path(path), error) from error


def read_failed(path: Path, failure: OSError) -> ReadFailed:
    """Return the error for a source that the operating system could not read."""
    return ReadFailed(
        f"cannot read {path}: I/O error ({failure.strerror or failure}); the disk or the network "
        "failed, try again with the same command",
        errno=failure.errno,
    )


def file_of(path: PathLike) -> SourceFile:
    """Open the file of a source for reading its bytes.

    Raises:
        SourceUnusable: the path is missing, not a file, or empty, or may not be read.
        ReadFailed: the disk or the network failed.
    """
    given = Path(path)
    if not given.exists():
        raise SourceUnusable(f"cannot read {address.missing(str(path))}")
    if given.is_dir():
        raise SourceUnusable(f"cannot read {given}: it is a directory; name one video file")
    if not given.is_file():
        raise SourceUnusable(f"cannot read {given}: not a regular file; name one video file")
    if given.stat().st_size == 0:
        raise SourceUnusable(f"cannot read {given}: the file is empty; copy it again")
    try:
        return SourceFile(given)
    except PermissionError as error:
        raise SourceUnusable(
            f"cannot read {given}: permission denied; change its permissions"
        ) from error
    except OSError as error:
        raise read_failed(given, error) from error
