"""Fill a folder aside, then put it in place in one step: a package is whole or not there.

The staging folder lies beside the target, so that the last step is a rename within one file
system. Its owner holds a lock on it; one without an owner was left by a killed run and is removed.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from encoder.errors import OutputUnwritable

MARKER = "ladder.json"
"""A folder that holds this file is a package of ours and may be replaced."""

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def check_output(out: Path) -> None:
    """Look whether ``out`` can take a package, before any work is done for it.

    Raises:
        OutputUnwritable: it is something else, or its parent cannot be written.
    """
    if out.is_dir():
        if any(out.iterdir()) and not (out / MARKER).exists():
            raise OutputUnwritable(
                f"{out} holds files that are not a package of shotladder; "
                "name an empty or a new folder"
            )
    elif out.exists() or out.is_symlink():
        raise OutputUnwritable(f"{out} is not a folder; name an empty or a new folder")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise OutputUnwritable(
            f"{out.parent} cannot be written ({error.strerror}); name a folder that can"
        ) from error


@contextlib.contextmanager
def publishing(out: Path) -> Iterator[Path]:
    """A folder to fill; it takes the place of ``out`` when the block ends without an error.

    Raises:
        OutputUnwritable: the folder cannot be made, the disk is full, or ``out`` is in the way.
    """
    check_output(out)
    prefix = f".{out.name}.partial-"
    _sweep(out.parent, prefix)
    descriptor = -1
    staging: Path | None = None
    try:
        staging = Path(tempfile.mkdtemp(prefix=prefix, dir=out.parent))
        descriptor = os.open(staging, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        staging.chmod(0o755)
        yield staging
        _swap(staging, out)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise OutputUnwritable(
                f"the package could not be written to {out} ({error.strerror}); make room or "
                "name another folder, then run the same command: encodes are kept"
            ) from error
        raise
    finally:
        if staging is not None:
            # After an exchange this is the package that was replaced.
            shutil.rmtree(staging, ignore_errors=True)
        if descriptor >= 0:
            os.close(descriptor)


def _swap(staging: Path, out: Path) -> None:
    if not out.exists():
        staging.rename(out)
        return
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.renameat2(
        _AT_FDCWD, os.fsencode(staging), _AT_FDCWD, os.fsencode(out), _RENAME_EXCHANGE
    )
    if done != 0:
        # A file system without exchange: two steps, with the old package aside for an instant.
        aside = staging.with_name(staging.name + ".old")
        out.rename(aside)
        staging.rename(out)
        aside.rename(staging)


def _sweep(folder: Path, prefix: str) -> None:
    for left in folder.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            descriptor = os.open(left, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(descriptor)
