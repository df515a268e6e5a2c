"""What may be read: sources under configured folders and URLs only, told apart without being read.

A file is told from its next delivery by size and modification time, what lies on a web server by
size and ETag (or modification time, where it has no ETag).
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cluster.service import web
from encoder.errors import BadInput, SourceUnusable


@dataclass(frozen=True, slots=True)
class Allowed:
    """Where sources may lie."""

    roots: tuple[Path, ...] = ()
    """Folders; links that lead out of them lead nowhere."""
    urls: tuple[str, ...] = ()
    """Beginnings of URLs: scheme, host, and a folder on it."""

    def listed(self) -> str:
        """For who has to choose another place."""
        return " or ".join([*map(str, self.roots), *self.urls]) or "a root (none is configured)"


@dataclass(frozen=True, slots=True)
class Found:
    """A source that may be read, as it was when it was looked at."""

    uri: str
    """``file://`` and its real path, or its URL."""
    size: int
    stamp: str
    """Modification time of a file in nanoseconds; ETag or modification time of a URL."""


def find_source(source: str, allowed: Allowed) -> Found:
    """Look at a source, without reading it.

    Args:
        source: ``file:///...``, an absolute path, or a URL.
        allowed: where it may lie.

    Raises:
        BadInput: it is of another scheme, or not where sources may lie. What lies elsewhere is not
            told.
        SourceUnusable: there is no such file.
    """
    if web.is_url(source):
        if not any(web.is_below(source, url) for url in allowed.urls):
            raise _outside(source, allowed)
        return Found(source, *web.look(source))
    path = _path(source)
    roots = [root.resolve() for root in allowed.roots]
    try:
        real = path.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise BadInput(f"{source!r} is not a path; name a file under {allowed.listed()}") from error
    if not any(real.is_relative_to(root) for root in roots):
        raise _outside(source, allowed)
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
    return Found(real.as_uri(), status.st_size, str(status.st_mtime_ns))


def path_of(uri: str) -> Path | None:
    """The path in a ``file://`` URI of ours; None of a URL."""
    return None if web.is_url(uri) else Path(unquote(urlsplit(uri).path))


def check_unchanged(found: Found) -> None:
    """See that a file is the one that was found. A URL is looked at when it is fetched.

    Raises:
        SourceUnusable: it is not.
    """
    path = path_of(found.uri)
    if path is None:
        return
    if path.resolve() != path:  # a folder on the way is a link by now
        raise SourceUnusable(f"{path} leads elsewhere by now; submit it again")
    try:
        status = path.stat()
    except OSError as error:
        raise SourceUnusable(
            f"{path} cannot be read any more ({error.strerror}); put it back and retry the job"
        ) from error
    if (status.st_size, str(status.st_mtime_ns)) != (found.size, found.stamp):
        raise web.changed(str(path))


def _outside(source: str, allowed: Allowed) -> BadInput:
    return BadInput(
        f"{source} is not under a folder or URL that this service reads; "
        f"put the source under {allowed.listed()}",
        reason="source_not_allowed",
    )


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
        "give an absolute path, a file:/// URI or a URL",
        reason="source_not_allowed",
    )
