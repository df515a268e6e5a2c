"""Sources on web servers that the owner named: looked at, and fetched as they were looked at.

Redirects are not followed, and no proxy of the environment is asked: what is read lies where it
was allowed to lie.
"""

from __future__ import annotations

import posixpath
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from encoder.errors import BadInput, SourceUnusable

if TYPE_CHECKING:
    import httpx

LOOK_SECONDS = 10.0
READ_SECONDS = 60.0
"""After which a server that sends nothing more is asked again."""
FETCH_ATTEMPTS = 5
"""In a row, without a byte more."""
_PORTS = {"http": 80, "https": 443}


def is_url(text: str) -> bool:
    """Whether a source is said to lie on a web server."""
    return text.lower().startswith(("http://", "https://"))


def is_below(url: str, beginning: str) -> bool:
    """Whether ``url`` is of the same server and below the same folder, by whatever spelling."""
    try:
        one, other = urlsplit(url), urlsplit(beginning)
        same = (one.scheme, one.hostname, one.port or _PORTS[one.scheme]) == (
            other.scheme, other.hostname, other.port or _PORTS[other.scheme]
        )  # fmt: skip
    except ValueError:
        return False
    path = unquote(one.path)
    plain = "\\" not in path and "//" not in path and posixpath.normpath(path) == path
    return same and plain and one.username is None and path.startswith(unquote(other.path))


def check_beginning(url: str) -> None:
    """See that ``url`` can be the beginning of URLs of sources.

    Raises:
        BadInput: it cannot.
    """
    try:
        parts = urlsplit(url) if is_url(url) else None
    except ValueError:
        parts = None
    folder = parts is not None and parts.hostname and parts.path.endswith("/")
    if not folder or url[-1] != "/" or "?" in url or "#" in url or not is_below(url + "x", url):
        raise BadInput(
            f"--source-url {url} is no folder of a web server; give one as https://host/masters/"
        )


def look(url: str) -> tuple[int, str]:
    """Size in bytes of what lies at ``url``, and its ETag or else its modification time.

    Raises:
        SourceUnusable: it cannot be had, or its server does not say these.
    """
    import httpx

    try:
        with _client(LOOK_SECONDS) as client:
            answer = client.head(url)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _unreachable(url, error, "submit it when it is there") from error
    if answer.status_code != 200:
        raise _refused(url, answer.status_code)
    size, stamp = answer.headers.get("content-length", ""), _stamp(answer.headers)
    if not size.isdigit() or int(size) == 0 or not stamp:
        raise SourceUnusable(
            f"the server of {url} does not say a Content-Length above 0 with an ETag or a "
            "Last-Modified; put it where a delivery can be told from the next"
        )
    return int(size), stamp


def fetch(url: str, size: int, stamp: str, folder: Path, progress: Callable[[int], None]) -> Path:
    """Bring what lies at ``url``, as it was looked at; after a lost connection go on.

    Args:
        url: of the source.
        size: in bytes.
        stamp: its ETag or modification time.
        folder: to put it into, under its own name; made.
        progress: told how many bytes are there.

    Raises:
        SourceUnusable: it has changed, or cannot be had.
    """
    import httpx

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _file_name(url)
    failures = 0
    with path.open("wb") as file, _client(READ_SECONDS) as client:
        while (begin := file.tell()) < size:
            lost: Exception = EOFError("it ended early")
            try:
                with client.stream("GET", url, headers=_from(begin)) as answer:
                    if answer.status_code == 200:
                        file.seek(0)
                        file.truncate()
                    elif answer.status_code != 206 or not _begins(answer.headers, begin):
                        raise _refused(url, answer.status_code)
                    if _stamp(answer.headers) != stamp:
                        raise changed(url)
                    for chunk in answer.iter_raw():
                        file.write(chunk)
                        if file.tell() > size:
                            raise changed(url)
                        progress(file.tell())
            except httpx.HTTPError as error:
                lost = error
            failures = 0 if file.tell() > begin else failures + 1
            if failures >= FETCH_ATTEMPTS:
                raise _unreachable(url, lost, "retry the job when its server answers") from lost
            time.sleep(failures)
    return path


def changed(place: str) -> SourceUnusable:
    """What to say of a source that is not what was submitted."""
    return SourceUnusable(
        f"{place} has changed since it was submitted; submit it again, as a new version"
    )


def _client(seconds: float) -> httpx.Client:
    import httpx

    return httpx.Client(
        follow_redirects=False,
        trust_env=False,
        timeout=seconds,
        headers={"Accept-Encoding": "identity"},
    )


def _from(begin: int) -> dict[str, str]:
    return {"Range": f"bytes={begin}-"} if begin else {}


def _begins(headers: Mapping[str, str], begin: int) -> bool:
    return headers.get("content-range", "").startswith(f"bytes {begin}-")


def _stamp(headers: Mapping[str, str]) -> str:
    return headers.get("etag") or headers.get("last-modified") or ""


def _file_name(url: str) -> str:
    """The last part of a URL's path, as a harmless name of a file."""
    name = re.sub(r"[^\w.-]", "_", PurePosixPath(unquote(urlsplit(url).path)).name)[-100:]
    return name if name.strip(".") else "source"


def _refused(url: str, status: int) -> SourceUnusable:
    return SourceUnusable(
        f"the server of {url} answers {status}; give a URL that it answers with 200 and the file"
    )


def _unreachable(url: str, error: Exception, then: str) -> SourceUnusable:
    return SourceUnusable(f"{url} cannot be read ({type(error).__name__}: {error}); {then}")
