"""Sources on web servers: look one up, and fetch it as it was when it was looked up.

Redirects are not followed and proxies in the environment are ignored, so that every byte comes
from a place that the owner of the service has allowed.
"""

from __future__ import annotations

import asyncio
import functools
import posixpath
import re
import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from cluster.service.redaction import without_secrets
from encoder.errors import BadInput, SourceUnusable

if TYPE_CHECKING:
    import httpx

LOOKUP_TIMEOUT_SECONDS = 10.0
"""Limit of a whole look at a source, however slowly its server answers."""
READ_TIMEOUT_SECONDS = 60.0
"""Silence after which a connection counts as lost."""
FETCH_ATTEMPTS = 5
"""Consecutive attempts without a further byte after which fetching fails."""
_PORTS = {"http": 80, "https": 443}
_HEAD_REFUSED = frozenset({400, 401, 403, 405, 501})
_PLAIN: Mapping[str, Any] = {
    "follow_redirects": False,
    "trust_env": False,
    "headers": {"Accept-Encoding": "identity"},
}
"""Options of every HTTP client that looks at sources or fetches them."""


def is_url(text: str) -> bool:
    """Return whether a source lies on a web server."""
    return text.lower().startswith(("http://", "https://"))


def is_below(url: str, prefix: str) -> bool:
    """Return whether ``url``, however it is spelled, lies on the server and below ``prefix``."""
    try:
        target, allowed = urlsplit(url), urlsplit(prefix)
        same_server = (target.scheme, target.hostname, target.port or _PORTS[target.scheme]) == (
            allowed.scheme, allowed.hostname, allowed.port or _PORTS[allowed.scheme]
        )  # fmt: skip
    except ValueError:
        return False
    path = unquote(target.path)
    plain = "\\" not in path and "//" not in path and posixpath.normpath(path) == path
    below = path.startswith(unquote(allowed.path))
    return same_server and plain and target.username is None and below


def check_url_prefix(url: str) -> None:
    """Check that ``url`` can be a prefix of source URLs.

    Raises:
        BadInput: ``url`` does not name a folder of a web server.
    """
    try:
        parts = urlsplit(url) if is_url(url) else None
    except ValueError:
        parts = None
    folder = parts is not None and parts.hostname and parts.path.endswith("/")
    if not folder or url[-1] != "/" or "?" in url or "#" in url or not is_below(url + "x", url):
        raise BadInput(
            f"--source-url {url} is not a folder of a web server; give it as https://host/masters/"
        )


async def size_and_stamp(url: str) -> tuple[int, str]:
    """Return the size in bytes of the file at ``url``, and its ETag or else its modification time.

    A server that refuses HEAD, as all do for a URL that was signed for GET, is asked for one byte.

    Raises:
        SourceUnusable: the server does not answer in time, or does not tell size and stamp.
    """
    import httpx

    try:
        async with (
            asyncio.timeout(LOOKUP_TIMEOUT_SECONDS),
            httpx.AsyncClient(
                verify=_tls() if url.lower().startswith("https:") else False,
                timeout=LOOKUP_TIMEOUT_SECONDS,
                **_PLAIN,
            ) as client,
        ):
            answer = await client.head(url)
            if answer.status_code in _HEAD_REFUSED:
                async with client.stream("GET", url, headers={"Range": "bytes=0-0"}) as answer:
                    pass  # the headers say all, and a body may be the whole film
    except TimeoutError as error:
        limit = TimeoutError(f"no whole answer within {LOOKUP_TIMEOUT_SECONDS:g} s")
        raise _unreachable(url, limit, "submit it once its server answers faster") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _unreachable(url, error, "submit it once it is there") from error
    if answer.status_code not in (200, 206):
        raise _refused(url, answer.status_code)
    size, stamp = _size(answer), _stamp(answer.headers)
    if not size.isdigit() or int(size) == 0 or not stamp:
        raise SourceUnusable(
            f"the server of {_shown(url)} does not send a Content-Length above 0 with an ETag or a "
            "Last-Modified, by which deliveries are told apart; use a server that does"
        )
    return int(size), stamp


def _size(answer: httpx.Response) -> str:
    name = "content-range" if answer.status_code == 206 else "content-length"
    return str(answer.headers.get(name, "")).rpartition("/")[2]


@functools.cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


def fetch(url: str, size: int, stamp: str, folder: Path, progress: Callable[[int], None]) -> Path:
    """Download the file at ``url``, resuming after lost connections.

    Args:
        url: URL of the source.
        size: expected size in bytes.
        stamp: expected ETag or modification time.
        folder: folder for the file, which keeps its name; created if missing.
        progress: called with the number of bytes that have arrived.

    Raises:
        SourceUnusable: the file has changed, or its server does not send it.
    """
    import httpx

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _file_name(url)
    failures = 0
    with path.open("wb") as file, _client(READ_TIMEOUT_SECONDS) as client:
        while (begin := file.tell()) < size:
            lost: Exception = EOFError("the answer ended early")
            try:
                headers = {"Range": f"bytes={begin}-"} if begin else {}
                with client.stream("GET", url, headers=headers) as answer:
                    if answer.status_code == 200:
                        file.seek(0)
                        file.truncate()
                    elif answer.status_code != 206 or not _begins_at(answer.headers, begin):
                        raise _refused(url, answer.status_code)
                    if _stamp(answer.headers) != stamp:
                        raise source_changed(url)
                    for chunk in answer.iter_raw():
                        file.write(chunk)
                        if file.tell() > size:
                            raise source_changed(url)
                        progress(file.tell())
            except httpx.HTTPError as error:
                lost = error
            failures = 0 if file.tell() > begin else failures + 1
            if failures >= FETCH_ATTEMPTS:
                raise _unreachable(url, lost, "retry the job once its server answers") from lost
            time.sleep(failures)
    return path


def source_changed(place: str) -> SourceUnusable:
    """Return the error for a source that is no longer the submitted delivery."""
    return SourceUnusable(
        f"{_shown(place)} has changed since it was submitted; submit it again, as a new version"
    )


def _client(timeout_seconds: float) -> httpx.Client:
    import httpx

    return httpx.Client(timeout=timeout_seconds, **_PLAIN)


def _begins_at(headers: Mapping[str, str], begin: int) -> bool:
    return headers.get("content-range", "").startswith(f"bytes {begin}-")


def _stamp(headers: Mapping[str, str]) -> str:
    return headers.get("etag") or headers.get("last-modified") or ""


def _file_name(url: str) -> str:
    """Return the last part of a URL's path as a harmless file name."""
    name = re.sub(r"[^\w.-]", "_", PurePosixPath(unquote(urlsplit(url).path)).name)[-100:]
    return name if name.strip(".") else "source"


def _shown(place: str) -> str:
    """Return a source as messages name it."""
    shown: str = without_secrets(place)
    return shown


def _refused(url: str, status: int) -> SourceUnusable:
    return SourceUnusable(
        f"the server of {_shown(url)} answers {status}; "
        "give a URL that it answers with 200 and the file"
    )


def _unreachable(url: str, error: Exception, remedy: str) -> SourceUnusable:
    return SourceUnusable(
        f"{_shown(url)} cannot be read ({type(error).__name__}: {error}); {remedy}"
    )
