"""What may be read: sources under configured folders only, told apart without being read."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from encoder.errors import BadInput, SourceUnusable


@dataclass(frozen=True, slots=True)
class Found:
    """A source that may be read, as it was when it was looked at."""

    uri: str
    """``file://`` and its real path."""
    path: Path
    size: int
    stamp: str
    """Modification time in nanoseconds."""


def find_source(source: str, roots: Sequence[Path]) -> Found:
    """Look at a source, without reading it.

    Args:
        source: ``file:///...``, or an absolute path.
        roots: folders that sources may lie in; links that lead out of them lead nowhere.

    Raises:
        BadInput: it is of another scheme, or not under a root. What lies elsewhere is not told.
        SourceUnusable: there is no such file.
    """
    path = _path(source)
    allowed = [root.resolve() for root in roots]
    try:
        real = path.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise BadInput(f"{source!r} is not a path; name a file under {_listed(roots)}") from error
    if not any(real.is_relative_to(root) for root in allowed):
        raise BadInput(
            f"{source} is not under a folder that this service reads; "
            f"put the source under {_listed(roots)}",
            reason="source_not_allowed",
        )
    try:
        status = real.stat()
    except OSError as error:
        raise SourceUnusable(
            f"{source} cannot be read ({os.strerror(error.errno or 0)}); submit it when it is there"
        ) from error
    if not stat.S_ISREG(status.st_mode):
        raise SourceUnusable(f"{source} is not a file; name a video file")
    if status.st_size == 0:
        raise SourceUnusable(f"{source} is empty; submit it when it has been written")
    return Found(real.as_uri(), real, status.st_size, str(status.st_mtime_ns))


def path_of(uri: str) -> Path:
    """The path in a ``file://`` URI of ours."""
    return Path(unquote(urlsplit(uri).path))


def _path(source: str) -> Path:
    if source.startswith("/"):
        return Path(source)
    try:
        parts = urlsplit(source)
    except ValueError:
        parts = None
    if parts is not None and parts.scheme == "file" and parts.netloc in ("", "localhost"):
        path = unquote(parts.path, errors="surrogateescape")
        if path.startswith("/") and "\0" not in path:
            return Path(path)
    raise BadInput(
        f"{source!r} is not a source that this service reads; "
        "give an absolute path or a file:/// URI",
        reason="source_not_allowed",
    )


def _listed(roots: Sequence[Path]) -> str:
    return " or ".join(str(root) for root in roots) or "a root (none is configured)"
