"""Which sources may be read, and how one delivery of a source is told from the next.

Sources lie below configured folders and URLs. Submission reads no content: a file is identified by
its size and modification time, a file on a web server by its size and ETag, or by its modification
time where it has no ETag.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import anyio
from anyio.to_thread import run_sync

from cluster.service import web
from cluster.service.redaction import without_secrets
from encoder.errors import BadInput, SourceUnusable


@dataclass(frozen=True, slots=True)
class SourcePolicy:
    """Where sources may lie."""

    roots: tuple[Path, ...] = ()
    """Folders. A link inside a root to a file outside all roots is refused."""
    urls: tuple[str, ...] = ()
    """URL prefixes: scheme, host and a folder on that host."""

    def describe(self) -> str:
        """List the allowed places, for an error message."""
        return " or ".join([*map(str, self.roots), *self.urls]) or "a root (none is configured)"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A source that may be read, and the identity of its present delivery."""

    uri: str
    """``file://`` URI of the real path, or the URL."""
    size: int
    """Size of the file in bytes."""
    stamp: str
    """Modification time of a file in nanoseconds; ETag or modification time of a URL."""


async def find_source(
    source: str, policy: SourcePolicy, threads: anyio.CapacityLimiter | None = None
) -> SourceFile:
    """Look up a source, a ``file:///`` URI, absolute path or URL, without reading its content.

    A file is looked up in one of ``threads``, since its file system may hang.

    Raises:
        BadInput: the source has another scheme or lies elsewhere; the error does not tell whether
            a file exists there.
        SourceUnusable: there is no such file.
    """
    if web.is_url(source):
        if not any(web.is_below(source, prefix) for prefix in policy.urls):
            raise _not_allowed(source, policy)
        return SourceFile(source, *await web.size_and_stamp(source))
    return await run_sync(_find_file, source, policy, limiter=threads)


def _find_file(source: str, policy: SourcePolicy) -> SourceFile:
    path = _parse_path(source)
    roots = [root.resolve() for root in policy.roots]
    try:
        real_path = path.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise BadInput(
            f"{source!r} is not a path; name a file under {policy.describe()}"
        ) from error
    if not any(real_path.is_relative_to(root) for root in roots):
        raise _not_allowed(source, policy)
    try:
        status = real_path.stat()
    except OSError as error:
        raise SourceUnusable(
            f"{source} cannot be read ({os.strerror(error.errno or 0)}); submit it once it is there"
        ) from error
    if not stat.S_ISREG(status.st_mode):
        raise SourceUnusable(f"{source} is not a file; name a video file")
    if status.st_size == 0:
        raise SourceUnusable(f"{source} is empty; submit it once it has been written")
    return SourceFile(real_path.as_uri(), status.st_size, str(status.st_mtime_ns))


def local_path(uri: str) -> Path | None:
    """Return the path in a ``file://`` URI of a :class:`SourceFile`, or None for a URL."""
    if web.is_url(uri):
        return None
    return Path(unquote(urlsplit(uri).path, errors="surrogateescape"))


def check_unchanged(source: SourceFile) -> None:
    """Check that a file is still the submitted delivery. URLs are checked while they are fetched.

    Raises:
        SourceUnusable: the file has changed or cannot be read.
    """
    path = local_path(source.uri)
    if path is None:
        return
    if path.resolve() != path:  # a folder on the way has become a link
        raise SourceUnusable(f"{path} now leads to another file; submit it again")
    try:
        status = path.stat()
    except OSError as error:
        raise SourceUnusable(
            f"{path} can no longer be read ({error.strerror}); put it back and retry the job"
        ) from error
    if (status.st_size, str(status.st_mtime_ns)) != (source.size, source.stamp):
        raise web.source_changed(str(path))


def _not_allowed(source: str, policy: SourcePolicy) -> BadInput:
    return BadInput(
        f"{without_secrets(source)} is not under a folder or URL that this service reads; "
        f"put the source under {policy.describe()}",
        reason="source_not_allowed",
    )


def _parse_path(source: str) -> Path:
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
