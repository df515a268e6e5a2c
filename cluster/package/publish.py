"""Publish a package in one step: readers find the old package or the new one, never a part.

A package is written to a staging folder beside its target, so that the last step is a rename
within one file system. A run holds a lock on its staging folder; a staging folder that nobody has
locked was left behind by a killed run, and the next run removes it.
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

from cluster.store.files import name_new_file
from encoder.errors import BadInput, OutputUnwritable, StoreUnusable

MARKER = "ladder.json"
"""File that marks a folder as a package of shotladder, if it holds nothing but :data:`ENTRIES`."""

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
"""Names of all files and folders that a package may hold. Replacing a package removes it with all
its content, so a folder that holds anything else is not replaced."""

STAGING = ".shotladder-partial-"
"""Beginning of the name of every staging folder."""

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
# Errors of the place that is written to; any other error is one of the program.
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
    """Check that a package can be published at ``out``, before any work is done for it.

    Args:
        out: folder for the package; it may be missing, empty, or hold an older package.
        keep: files and folders that must not lie in ``out``, as it is replaced as a whole.

    Returns:
        ``out`` without symbolic links: the folder that will be replaced.

    Raises:
        OutputUnwritable: ``out`` must not be replaced, or its parent folder cannot be written.
    """
    try:
        return _checked(out, keep)
    except OSError as error:
        raise OutputUnwritable(
            f"{out} cannot be written ({error.strerror}); name another folder"
        ) from error


def _checked(out: Path, keep: Iterable[Path]) -> Path:
    if (out.exists() or out.is_symlink()) and not out.is_dir():
        raise OutputUnwritable(f"{out} is not a folder; name an empty or a new folder")
    folder = out.resolve()
    if folder.is_dir():
        names = {path.name for path in folder.iterdir()}
        if names and (MARKER not in names or names - ENTRIES):
            others = sorted(names - ENTRIES) or sorted(names)
            raise OutputUnwritable(
                f"{out} holds files that are not a package of shotladder "
                f"({', '.join(others[:3])}); name an empty or a new folder"
            )
        if folder.is_mount():
            raise OutputUnwritable(
                f"{out} is a mount point, which cannot be replaced in one step; "
                "name a folder inside it"
            )
        if Path.cwd().is_relative_to(folder):
            raise OutputUnwritable(
                f"{out} is the working folder or holds it, and would be replaced; name another "
                "folder, or start from another one"
            )
    for path in keep:
        if path.resolve().is_relative_to(folder):
            raise OutputUnwritable(
                f"{path} lies in {out}, which would be replaced as a whole; name another folder"
            )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder.parent):
        pass
    return folder


@contextlib.contextmanager
def publishing(out: Path) -> Iterator[Path]:
    """Yield a staging folder, and put it in place of ``out`` when the block ends without an error.

    Raises:
        OutputUnwritable: ``out`` must not be replaced, or the disk is full or cannot be written.
    """
    folder = check_output(out)
    remove_abandoned(folder.parent)
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
    """Make a staging folder and lock it; ``stack`` removes whatever has its name at the end."""
    while True:
        staging = Path(tempfile.mkdtemp(prefix=STAGING, dir=parent))
        stack.callback(shutil.rmtree, staging, ignore_errors=True)
        # Another run may take the folder for abandoned, and remove it before it is locked.
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(staging, os.O_RDONLY | os.O_DIRECTORY)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            staging.chmod(0o755)
            return staging


def _swap(staging: Path, out: Path) -> None:
    """Rename ``staging`` to ``out``; an older package at ``out`` gets the name ``staging``."""
    while True:
        try:
            staging.rename(out)  # succeeds where out is missing or empty
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            return
        check_output(out)  # files may have been added since the first check
        with contextlib.suppress(FileNotFoundError):
            _exchange(staging, out)
            return


def _exchange(first: Path, second: Path) -> None:
    """Let two folders swap names, in one step where the file system can."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is not None:
        paths = (_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second))
        if rename(*paths, _RENAME_EXCHANGE) == 0:
            return
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOSYS):
            raise OSError(number, os.strerror(number), str(second))
    # Three renames: for an instant there is no package.
    aside = first.with_name(first.name + ".old")
    second.rename(aside)
    first.rename(second)
    aside.rename(first)


def remove_abandoned(folder: Path) -> None:
    """Remove the staging folders in ``folder`` that killed runs left behind."""
    for path in folder.iterdir():
        if not path.name.startswith(STAGING):
            continue
        # The lock is refused with an OSError while a run holds it.
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(descriptor)


@contextlib.contextmanager
def publishing_file(out: Path) -> Iterator[Path]:
    """Yield where to write the new file ``out``, which gets its name when the block ends well.

    The file lies in a folder of its own beside ``out``, which is gone afterwards.

    Raises:
        BadInput: there is a file ``out``.
        StoreUnusable: it cannot be written.
    """
    try:
        if out.exists():
            raise BadInput(f"{out} exists; delete it, or name another file")
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".shotladder-") as folder:
            made = Path(folder) / out.name
            yield made
            name_new_file(made, out)
    except OSError as error:
        raise StoreUnusable(
            f"{out} cannot be written ({error.strerror}); name a file in a folder that you may "
            "write, with room for it"
        ) from error
