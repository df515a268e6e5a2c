"""Files opened and read only where the kernel has them in memory, so that nobody waits for a disk.

Python has no function for ``openat2(2)``, whose ``RESOLVE_CACHED`` (Linux 5.12) looks a path up in
memory alone. On other systems nothing counts as being in memory.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from pathlib import Path

_OPENAT2, _AT_FDCWD, _RESOLVE_CACHED = 437, -100, 0x20
"""Number of the system call on all architectures since 5.6, and constants of ``openat2.h``."""


class _How(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


_HOW = _How(os.O_RDONLY | os.O_CLOEXEC, 0, _RESOLVE_CACHED)
_syscall = None
if sys.platform == "linux":
    _syscall = ctypes.CDLL(None, use_errno=True).syscall
    _syscall.argtypes = (ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p,
                         ctypes.c_size_t)  # fmt: skip
    _syscall.restype = ctypes.c_long


class Cold(Exception):
    """What was asked for is not in memory; ask again where waiting for the disk harms nobody."""


def open_cached(path: Path) -> int:
    """Open a file to read, without waiting for a disk; return its descriptor.

    Raises:
        Cold: the path is not in memory, or the system cannot tell.
        FileNotFoundError: there is no such file.
    """
    if _syscall is None:
        raise Cold
    how = ctypes.byref(_HOW)
    descriptor: int = _syscall(_OPENAT2, _AT_FDCWD, os.fsencode(path), how, ctypes.sizeof(_HOW))
    if descriptor >= 0:
        return descriptor
    number = ctypes.get_errno()
    if number == errno.ENOENT:
        raise FileNotFoundError(number, os.strerror(number), str(path))
    raise Cold  # whatever it is, an open that waits says it


def read_cached(descriptor: int, length: int, offset: int) -> bytes:
    """Read ``length`` bytes of a file from ``offset`` on, fewer at its end, without waiting.

    Raises:
        Cold: they are not all in memory, or the system cannot tell.
    """
    buffer = bytearray(length)
    try:
        count = os.preadv(descriptor, [buffer], offset, os.RWF_NOWAIT)
    except (OSError, AttributeError) as error:
        raise Cold from error
    return bytes(buffer[:count])
