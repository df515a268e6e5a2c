"""Files written whole: a reader sees the old content or the new one, never a part."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits, in constant memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def atomic_write(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Replace or create the file ``path`` in one step; see :func:`atomic_file`."""
    with atomic_file(path, durable=durable) as partial:
        partial.write_bytes(content)


@contextlib.contextmanager
def atomic_file(path: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a path to write to, and rename it to ``path`` when the block ends without an error.

    The partial file lies beside ``path``; its name begins with a dot and ends like that of
    ``path``. If the block raises, the partial file is removed and ``path`` stays as it was.
    ``durable`` makes the new content survive a loss of power, at the cost of two fsyncs.
    """
    partial = path.with_name(f".{os.getpid()}-{os.urandom(4).hex()}.{path.name}")
    try:
        yield partial
        if durable:
            fsync_file(partial)
        partial.replace(path)
        if durable:
            fsync_file(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def name_new_file(made: Path, path: Path) -> None:
    """Give a finished file beside ``path`` that name, in one step, unless there is one already.

    Where a file system has no hard links, a file that comes to be there in the same instant is
    replaced.

    Raises:
        FileExistsError: there is a file ``path``.
    """
    try:
        os.link(made, path)
    except FileExistsError:
        raise
    except OSError:
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        made.rename(path)


def fsync_file(path: Path) -> None:
    """Make a file's bytes, or the names in a folder, survive a loss of power."""
    # After a loss of power, a renamed file may exist under its new name without its bytes.
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(folder: Path) -> None:
    """Make a folder, and all files and folders in it, survive a loss of power."""
    for place, _, names in os.walk(folder, onerror=_raise):
        for name in names:
            fsync_file(Path(place, name))
        fsync_file(Path(place))


def _raise(error: OSError) -> None:
    raise error
