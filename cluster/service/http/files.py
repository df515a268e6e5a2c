"""Media and files of packages, answered before the framework, as documents are.

A file is looked up, opened and read in threads of their own kind, so that a slow disk keeps nobody
waiting but those who read from it.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import anyio
from anyio.to_thread import run_sync
from starlette.types import Receive, Scope, Send

from cluster.service.http.problems import status_of
from cluster.service.http.ranges import parse_ranges
from cluster.service.http.reading import (
    HTML_POLICY,
    Headers,
    Reader,
    Reply,
    etag_matches,
    failure,
    send_reply,
)
from cluster.service.library.avif import SUFFIX, ensure_avif
from encoder.errors import NotThere, ShotladderError

CHUNK_BYTES = 1 << 20
"""Bytes that are read and sent at once; most segments are smaller."""
MEDIA_ROUTE, PACKAGE_ROUTE = "/v1/media/{sha256}", "/v1/packages/{package}/{path:path}"
SIGNED_ROUTE = "/v1/signed/{signature}/{path:path}"
FRESH_SECONDS = 365 * 86400
"""Time for which caches may keep what never changes."""
_ROUTES = (
    ("sha256", MEDIA_ROUTE), ("package", PACKAGE_ROUTE), ("signature", SIGNED_ROUTE),
)  # fmt: skip
# Files of a package that clients may read: not run.json, which contains local paths.
_READABLE_FILES = ("ladder.json", "prefetch.json", "artwork.json", "report.html", "master.m3u8",
                   "manifest.mpd", "measurements.json")  # fmt: skip
_READABLE_FOLDERS = ("video", "audio", "subtitles", "artwork")
_TYPES: Mapping[str, bytes] = {
    ".m3u8": b"application/vnd.apple.mpegurl",
    ".mpd": b"application/dash+xml",
    ".m4s": b"video/iso.segment",
    ".mp4": b"video/mp4",
    ".jpg": b"image/jpeg",
    ".png": b"image/png",
    ".webp": b"image/webp",
    ".avif": b"image/avif",
    ".json": b"application/json",
    ".html": b"text/html; charset=utf-8",
    ".vtt": b"text/vtt; charset=utf-8",
    ".parquet": b"application/vnd.apache.parquet",
}
_PATH = re.compile(
    r"/v1/(?:media/(?P<sha256>[0-9a-f]{64})"
    r"|packages/(?P<package>[0-9a-f]{32})/(?P<path>.*)"
    r"|signed/(?P<signature>[^/]*)/(?P<signed_path>.*))",
    re.DOTALL,
)
_Part = bytes | tuple[int, int]
"""A piece of a body: given bytes, or begin and end of a piece of the file."""


@dataclass(slots=True)
class _Opened:
    """The reply about a file, with its first bytes, and the file if there are more."""

    reply: Reply
    file: BinaryIO | None = None
    chunks: Iterator[bytes] | None = None
    """Bytes of the body that are not in the reply yet."""
    left: int = 0
    """Number of them."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """The headers of a request that matter to files."""

    none_match: bytes | None = None
    range: bytes | None = None
    if_range: bytes | None = None


@dataclass(frozen=True, slots=True)
class FileReader:
    """Answers reads of media and packages."""

    reader: Reader
    limiter: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(16))

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> tuple[str, int] | None:
        """Answer a GET or HEAD; return the route and the status, or None if the path is not one
        of these."""
        found = _PATH.fullmatch(scope["path"])
        if found is None:
            return None
        parts = found.groupdict()
        route = next(name for part, name in _ROUTES if parts[part] is not None)
        headers = dict(scope["headers"])
        if route != SIGNED_ROUTE:
            refused = self.reader.refusal(route, headers.get(b"authorization"))
            if refused is not None:
                await send_reply(send, refused, with_body=scope["method"] == "GET")
                return route, refused.status
        head = scope["method"] == "HEAD"
        ranges = [value for name, value in scope["headers"] if name == b"range"]
        asked = _Asked(
            headers.get(b"if-none-match"),
            ranges[0] if len(ranges) == 1 and not head else None,  # a range is for GET alone
            headers.get(b"if-range"),
        )
        work = partial(self._open, route, parts, asked, head=head)
        opened = await run_sync(work, limiter=self.limiter)
        if opened.file is None:
            await send_reply(send, opened.reply, with_body=not head)
        else:
            with opened.file:
                await self._send_file(opened, opened.file, receive, send)
        return route, opened.reply.status

    async def _send_file(
        self, opened: _Opened, file: BinaryIO, receive: Receive, send: Send
    ) -> None:
        """Send a file in chunks, while its client takes them."""
        gone = asyncio.create_task(_disconnected(receive))
        try:
            reply = opened.reply
            start = {"status": reply.status, "headers": reply.headers}
            await send({"type": "http.response.start", **start})
            await send({"type": "http.response.body", "body": reply.body, "more_body": True})
            left = opened.left
            while left and not gone.done():
                chunk = await run_sync(_next, opened.chunks, limiter=self.limiter)
                if not chunk:
                    raise EOFError(f"{file.name} became shorter while it was read")
                left -= len(chunk)
                await send({"type": "http.response.body", "body": chunk, "more_body": left > 0})
        finally:
            gone.cancel()

    def _open(self, route: str, parts: Mapping[str, str], asked: _Asked, *, head: bool) -> _Opened:
        """Find and open a file; read its first bytes."""
        scope, fresh_seconds = self.reader.scope, FRESH_SECONDS
        library = self.reader.library
        try:
            if route == MEDIA_ROUTE:
                found, etag = self._media(parts["sha256"]), parts["sha256"]
            elif route == PACKAGE_ROUTE:
                found, etag = self._package_file(parts["package"], parts["path"])
            else:
                package, left_seconds = library.links.opened(parts["signature"], library.version)
                found, etag = self._package_file(package, parts["signed_path"])
                # Whoever has the URL may read what it names: any cache may keep it as long.
                scope, fresh_seconds = b"public", min(left_seconds, FRESH_SECONDS)
            file = found.open("rb", buffering=0)
        except ShotladderError as error:
            reason = error.context.get("reason")
            return _Opened(failure(route, status_of(error), error.message, reason))
        except FileNotFoundError:
            detail = "the file was removed just now; GET /v1/changes tells when"
            return _Opened(failure(route, 410, detail, "withdrawn"))
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return _Opened(failure(route, 404, "packages have no file of so long a name"))
            detail = f"the file cannot be read now ({error.strerror}); try again later"
            return _Opened(failure(route, 503, detail, retry_seconds=30))
        cache_control = b"%s, max-age=%d, immutable" % (scope, fresh_seconds)
        opened = _reply(route, file, found.suffix, etag.encode(), asked, cache_control)
        if opened.chunks is not None and not head:
            opened.reply.body = next(opened.chunks, b"")
            opened.left -= len(opened.reply.body)
            if opened.left > 0:
                opened.file = file
                return opened
        file.close()
        return opened

    def _media(self, sha256: str) -> Path:
        path = self.reader.library.files.media(sha256)
        if path is None:
            raise NotThere(
                f"no file has the SHA-256 {sha256}; prefetch.json and artwork.json list the files"
            )
        return path

    def _package_file(self, package: str, path: str) -> tuple[Path, str]:
        relative = PurePosixPath(path)
        parts = relative.parts
        readable = path in _READABLE_FILES or (len(parts) > 1 and parts[0] in _READABLE_FOLDERS)
        if not readable or ".." in parts or "\0" in path or len(path) > 200:
            raise NotThere(f"packages have no {path!r}; a player opens master.m3u8")
        folder = self.reader.library.files.folder(package)
        if parts[0] == "artwork" and relative.suffix == SUFFIX:
            ensure_avif(folder / relative)
        if not (folder / relative).is_file():
            if folder.exists():
                raise NotThere(f"package {package} has no {path!r}; prefetch.json lists its files")
            if self.reader.library.was_published(package):
                raise NotThere(
                    f"package {package} was removed; GET /v1/changes tells when", reason="withdrawn"
                )
            raise NotThere(f"there is no package {package}; GET /v1/titles lists the packages")
        return folder / relative, f"{package}-{relative.as_posix().replace('/', '-')}"


def _reply(
    route: str, file: BinaryIO, suffix: str, etag: bytes, asked: _Asked, cache_control: bytes
) -> _Opened:
    """Return the reply about an open file, which is then at the first byte to send."""
    size = os.fstat(file.fileno()).st_size
    headers: Headers = [
        (b"etag", b'"%s"' % etag),
        (b"cache-control", cache_control),
        (b"x-content-type-options", b"nosniff"),
        (b"accept-ranges", b"bytes"),
    ]
    if asked.none_match is not None and etag_matches(asked.none_match, etag):
        return _Opened(Reply(route, 304, headers, b""))
    media_type = _TYPES.get(suffix)
    if suffix == ".html":
        headers.append((b"content-security-policy", HTML_POLICY))
        headers.append((b"referrer-policy", b"no-referrer"))  # the URL may be signed
    ranges = None
    if asked.range is not None and asked.if_range in (None, b'"%s"' % etag):
        ranges = parse_ranges(asked.range, size)
    if ranges is None:
        return _parts(route, 200, headers, media_type, file, [(0, size)])
    if not ranges:
        refusal = failure(route, 416, f"the file has {size} bytes; ask for some of them")
        refusal.headers.append((b"content-range", b"bytes */%d" % size))
        return _Opened(refusal)
    if len(ranges) == 1:
        headers.append((b"content-range", _content_range(*ranges[0], size)))
        return _parts(route, 206, headers, media_type, file, [*ranges])
    boundary = secrets.token_hex(12).encode()
    kind = b"" if media_type is None else b"content-type: %s\r\n" % media_type
    parts: list[_Part] = []
    for begin, end in ranges:
        place = _content_range(begin, end, size)
        head = b"\r\n--%s\r\n%scontent-range: %s\r\n\r\n" % (boundary, kind, place)
        parts += [head, (begin, end)]
    parts.append(b"\r\n--%s--\r\n" % boundary)
    media_type = b"multipart/byteranges; boundary=%s" % boundary
    return _parts(route, 206, headers, media_type, file, parts)


def _parts(
    route: str,
    status: int,
    headers: Headers,
    media_type: bytes | None,
    file: BinaryIO,
    parts: list[_Part],
) -> _Opened:
    """Return a reply whose body consists of given bytes and of ranges of a file."""
    length = sum(len(one) if isinstance(one, bytes) else one[1] - one[0] for one in parts)
    if media_type is not None:
        headers.append((b"content-type", media_type))
    headers.append((b"content-length", b"%d" % length))
    return _Opened(Reply(route, status, headers, b""), None, _chunks(file, parts), length)


def _chunks(file: BinaryIO, parts: list[_Part]) -> Iterator[bytes]:
    for part in parts:
        if isinstance(part, bytes):
            yield part
            continue
        begin, end = part
        file.seek(begin)
        while begin < end:
            chunk = file.read(min(end - begin, CHUNK_BYTES))
            if not chunk:
                return
            begin += len(chunk)
            yield chunk


def _next(chunks: Iterator[bytes] | None) -> bytes:
    return b"" if chunks is None else next(chunks, b"")


def _content_range(begin: int, end: int, size: int) -> bytes:
    return b"bytes %d-%d/%d" % (begin, end - 1, size)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
