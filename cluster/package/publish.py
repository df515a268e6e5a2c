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
from collections.abc import Iterable, Iterator
from pathlib import Path

from encoder.errors import OutputUnwritable

MARKER = "ladder.json"
"""A folder that holds this file, and nothing but :data:`ENTRIES`, is a package of ours."""

ENTRIES = frozenset(
    {
        MARKER,
        "master.m3u8",
        "manifest.mpd",
        "video",
        "audio",
        "subtitles",
        "measurements.json",
        "run.json",
        "prefetch.json",
        "artwork.json",
        "artwork",
        "report.html",
        "comparison.json",
    }
)
"""What a package's folder may hold. Replacing a package removes it, so anything else is somebody's
own and the folder is not replaced."""

STAGING = ".shotladder-partial-"
"""Beginning of the name of every staging folder."""

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
# Of a place, not of a program: what writing a package can run into.
_UNWRITABLE = frozenset(
    {
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EFBIG,
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.EBUSY,
        errno.EXDEV,
        errno.EIO,
        errno.ENOTDIR,
    }
)


def check_output(out: Path, keep: Iterable[Path] = ()) -> Path:
    """Look whether ``out`` can take a package, before any work is done for it.

    Args:
        out: the folder asked for.
        keep: files and folders that must not lie in it, because it may be replaced as a whole.

    Returns:
        ``out`` without symbolic links: the folder that will be replaced.

    Raises:
        OutputUnwritable: it is something else, or its parent cannot be written.
    """
    try:
        return _checked(out, keep)
    except OSError as error:
        raise OutputUnwritable(
            f"{out} cannot be written ({error.strerror}); name a folder that can"
        ) from error


def _checked(out: Path, keep: Iterable[Path]) -> Path:
    if (out.exists() or out.is_symlink()) and not out.is_dir():
        raise OutputUnwritable(f"{out} is not a folder; name an empty or a new folder")
    folder = out.resolve()
    if folder.is_dir():
        names = {path.name for path in folder.iterdir()}
        if names and (MARKER not in names or names - ENTRIES):
            others = ", ".join(sorted(names - ENTRIES)[:3]) or ", ".join(sorted(names)[:3])
            raise OutputUnwritable(
                f"{out} holds files that are not a package of shotladder ({others}); "
                "name an empty or a new folder"
            )
        if folder.is_mount():
            raise OutputUnwritable(
                f"{out} is a mount point, which cannot be put in place in one step; "
                "name a folder inside it"
            )
        if Path.cwd().is_relative_to(folder):
            raise OutputUnwritable(
                f"{out} is the working folder, which would be replaced; name another folder or "
                "start from one"
            )
    for path in keep:
        if path.resolve().is_relative_to(folder):
            raise OutputUnwritable(
                f"{path} lies in {out}, which is replaced as a whole; name a folder of its own"
            )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder.parent):
        pass
    return folder


@contextlib.contextmanager
def publishing(out: Path) -> Iterator[Path]:
    """A folder to fill; it takes the place of ``out`` when the block ends without an error.

    Raises:
        OutputUnwritable: the folder cannot be made, the disk is full, or ``out`` is in the way.
    """
    folder = check_output(out)
    _sweep(folder.parent)
    with contextlib.ExitStack() as stack:
        try:
            staging = _stage(folder.parent, stack)
            yield staging
            _swap(staging, folder)
        except (OSError, OutputUnwritable) as error:
            cause = error.__cause__ if isinstance(error, OutputUnwritable) else error
            if not isinstance(cause, OSError) or cause.errno not in _UNWRITABLE:
                raise
            raise OutputUnwritable(
                f"the package could not be written to {out} ({cause.strerror}); make room or "
                "name another folder, then run the same command: encodes are kept"
            ) from cause


def _stage(parent: Path, stack: contextlib.ExitStack) -> Path:
    """A new folder in ``parent``, locked; ``stack`` removes whatever bears its name at the end."""
    while True:
        staging = Path(tempfile.mkdtemp(prefix=STAGING, dir=parent))
        stack.callback(shutil.rmtree, staging, ignore_errors=True)
        # Another run may sweep it before it is locked.
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(staging, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            staging.chmod(0o755)
            return staging


def _swap(staging: Path, out: Path) -> None:
    """Give ``out`` the contents of ``staging``; ``staging`` then is what ``out`` was, if it was."""
    while True:
        try:
            staging.rename(out)  # onto nothing or onto an empty folder
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            return
        check_output(out)  # somebody may have put files there since
        with contextlib.suppress(FileNotFoundError):
            _exchange(staging, out)
            return


def _exchange(first: Path, second: Path) -> None:
    """Two folders change their names, in one step where the file system can."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is not None:
        paths = (_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second))
        if rename(*paths, _RENAME_EXCHANGE) == 0:
            return
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOSYS):
            raise OSError(number, os.strerror(number), str(second))
    # Two steps, with the old package aside for an instant.
    aside = first.with_name(first.name + ".old")
    second.rename(aside)
    first.rename(second)
    aside.rename(first)


def _sweep(folder: Path) -> None:
    for left in folder.iterdir():
        if not left.name.startswith(STAGING):
            continue
        with contextlib.suppress(OSError):
            descriptor = os.open(left, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(descriptor)
