"""Published titles over HTTP. Reads of documents are answered by
:mod:`cluster.service.http.reading` before they come here; these routes say the same of themselves,
for the OpenAPI document.
"""

from __future__ import annotations

from importlib import resources
from pathlib import PurePosixPath
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import FileResponse

from cluster.service.documents import (
    MOST_IN_PAGE,
    TITLE_PATTERN,
    ArtworkBatch,
    ArtworkRow,
    AuditLine,
    Batch,
    Changes,
    StartBatch,
    StartDocument,
    TitleDetail,
    TitleName,
    TitlePage,
)
from cluster.service.http.context import Parts, ReaderName, Service, Writer
from cluster.service.http.problems import documented
from cluster.service.http.queries import ArtworkQuery, StartQuery
from cluster.service.http.reading import (
    FRESH_SECONDS,
    HTML_POLICY,
    matches,
    start_choice,
    stills_choice,
)
from cluster.service.library.library import unknown
from encoder.errors import NotThere
from ladder.document import Ladder
from recommender.artwork.document import Artwork, SelectedArtwork
from recommender.prefetch.document import Prefetch

router = APIRouter(prefix="/v1", tags=["titles"])
log = structlog.stdlib.get_logger(__name__)

Name = Annotated[str, Path(pattern=TITLE_PATTERN, examples=["film-1"])]
IMMUTABLE = "max-age=31536000, immutable"
_READ = documented(401, 404, 410, 422)
_NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "It is what you have."}}
# What a package's folder shows: not run.json, which tells paths of this machine.
_SHOWN = ("ladder.json", "prefetch.json", "artwork.json", "report.html", "master.m3u8",
          "manifest.mpd", "measurements.json")  # fmt: skip
_FOLDERS = ("video", "audio", "subtitles", "artwork")
# The player asks nobody but this service for anything.
_PLAYER_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self';"
    " media-src blob:; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
_TYPES = {
    ".m3u8": "application/vnd.apple.mpegurl",
    ".mpd": "application/dash+xml",
    ".m4s": "video/iso.segment",
    ".mp4": "video/mp4",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".avif": "image/avif",
    ".json": "application/json",
    ".html": "text/html; charset=utf-8",
    ".vtt": "text/vtt; charset=utf-8",
    ".parquet": "application/vnd.apache.parquet",
}


@router.get(
    "/titles",
    response_model=TitlePage,
    responses=documented(401, 422),
    summary="List published titles",
)
def titles(
    service: Parts,
    _: ReaderName,
    limit: Annotated[int, Query(ge=1, le=MOST_IN_PAGE)] = 50,
    cursor: TitleName | None = None,
) -> TitlePage:
    """Published titles by name. ``next`` is the cursor of the page that follows."""
    found, following = service.library.titles(limit, cursor)
    return TitlePage(titles=found, next=following)


@router.get("/titles/{title}", response_model=TitleDetail, responses=_READ, summary="One title")
def title(title: Name, service: Parts, _: ReaderName) -> TitleDetail:
    """A published title with its versions."""
    return service.library.title(title)


@router.delete(
    "/titles/{title}",
    response_model=AuditLine,
    responses=documented(400, 401, 404, 410, 413, 422),
    summary="Take a title down",
)
def withdraw(title: Name, service: Parts, actor: Writer) -> AuditLine:
    """Package, artwork, prefetch and caches are gone when this answers; the audit line stays."""
    line = service.library.withdraw(title, actor, service.jobs)
    log.warning("withdrawn", title=title, actor=actor)
    return line


@router.get(
    "/audit",
    response_model=list[AuditLine],
    responses=documented(401, 422),
    summary="Who did what to a title",
)
def audit(
    service: Parts, _: Writer, title: Annotated[TitleName, Query(examples=["film-1"])]
) -> list[AuditLine]:
    """Publications and takedowns, oldest first; also of a title that was withdrawn."""
    return service.library.audit(title)


def _document(request: Request, service: Service) -> Response:
    """As the reading path answers it."""
    scope = request.scope
    reply = service.reader.answer(scope["path"], scope["query_string"], scope["headers"])
    if reply is None:
        raise NotThere(f"there is nothing at {scope['path']}")
    response = Response(reply.body, reply.status)
    response.raw_headers = reply.headers
    return response


@router.get(
    "/titles/{title}/ladder",
    response_model=Ladder,
    responses={**_NOT_MODIFIED, **_READ},
    summary="ladder.json",
)
async def ladder(title: Name, request: Request, service: Parts, _: ReaderName) -> Response:
    """What was chosen for every shot of every rung, and what it measured."""
    return _document(request, service)


@router.get(
    "/titles/{title}/prefetch",
    response_model=Prefetch,
    responses={**_NOT_MODIFIED, **_READ},
    summary="prefetch.json",
)
async def prefetch(title: Name, request: Request, service: Parts, _: ReaderName) -> Response:
    """The whole manifest: every file with its bytes, start-up rungs, the cache plan."""
    return _document(request, service)


@router.get(
    "/titles/{title}/prefetch/start",
    response_model=StartDocument,
    responses={**_NOT_MODIFIED, **_READ},
    summary="What to pull first",
)
async def start(
    title: Name,
    request: Request,
    service: Parts,
    _: ReaderName,
    query: Annotated[StartQuery, Query()],
) -> Response:
    """Init and media segments for the first seconds at a throughput."""
    return _document(request, service)


@router.get(
    "/titles/{title}/artwork",
    response_model=Artwork | SelectedArtwork,
    responses={**_NOT_MODIFIED, **_READ},
    summary="artwork.json, or a few stills of one shape",
)
async def artwork(
    title: Name,
    request: Request,
    service: Parts,
    _: ReaderName,
    query: Annotated[ArtworkQuery, Query()],
) -> Response:
    """The whole pool; with ``aspect``, ``k`` or ``diverse`` the best stills of one shape."""
    return _document(request, service)


@router.get(
    "/titles/{title}/report",
    response_class=Response,
    responses={
        200: {
            "description": "For people.",
            "content": {"text/html": {"schema": {"type": "string"}}},
        },
        **_NOT_MODIFIED,
        **_READ,
    },
    summary="report.html",
)
async def report(title: Name, request: Request, service: Parts, _: ReaderName) -> Response:
    """The report on the ladder."""
    return _document(request, service)


@router.get(
    "/titles/{title}/player",
    response_class=Response,
    responses={
        200: {
            "description": "For people.",
            "content": {"text/html": {"schema": {"type": "string"}}},
        },
        **documented(404, 410, 422),
    },
    summary="A page that plays the title",
)
def player(title: Name, service: Parts) -> Response:
    """Plays the title and shows the rung, its bits and its quality along the time. Where reading
    needs a token, the page is open and asks for one: by itself it tells nothing.
    """
    if not service.tokens.readers:
        current = service.library.current(title)
        if current is None or current.version is None:
            raise unknown(title, withdrawn=current is not None)
    page = resources.files("cluster.service.library").joinpath("player.html").read_bytes()
    headers = {
        "Cache-Control": f"{_scope(service)}, max-age={FRESH_SECONDS}",
        "Content-Security-Policy": _PLAYER_POLICY,
        "X-Content-Type-Options": "nosniff",
    }
    return Response(page, media_type=_TYPES[".html"], headers=headers)


@router.post(
    "/prefetch:batch",
    response_model=Batch,
    responses=documented(400, 401, 413, 422),
    summary="What to pull first, of a home row",
)
def start_batch(asked: StartBatch, service: Parts, _: ReaderName) -> Response:
    """The start documents of up to 100 titles."""
    return _joined(*service.reader.batch(asked.titles, start_choice(asked)))


@router.post(
    "/artwork:batch",
    response_model=ArtworkRow,
    responses=documented(400, 401, 413, 422),
    summary="Artwork of a home row",
)
def artwork_batch(asked: ArtworkBatch, service: Parts, _: ReaderName) -> Response:
    """The best stills of up to 100 titles, in one shape."""
    return _joined(*service.reader.batch(asked.titles, stills_choice(asked)))


@router.get(
    "/changes",
    response_model=Changes,
    responses=documented(401, 422),
    summary="What was published, replaced, withdrawn",
)
def changes(
    service: Parts,
    _: ReaderName,
    since: Annotated[int, Query(ge=0, le=2**62)] = 0,
    limit: Annotated[int, Query(ge=1, le=MOST_IN_PAGE)] = 200,
) -> Changes:
    """Changes after a sequence number, oldest first. Ask again with ``next``."""
    return service.library.changes(since, limit)


_BINARY = {"*/*": {"schema": {"type": "string", "format": "binary"}}}
_BYTES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The bytes.", "content": _BINARY},
    206: {"description": "A range of them.", "content": _BINARY},
    **_NOT_MODIFIED,
    **documented(400, 401, 404, 410, 416, 422),
}


@router.head("/media/{sha256}", include_in_schema=False)
@router.get(
    "/media/{sha256}", response_class=Response, responses=_BYTES, summary="Media or an image"
)
def media(
    sha256: Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")],
    request: Request,
    service: Parts,
    _: ReaderName,
) -> Response:
    """A segment, init segment or image by its SHA-256."""
    path = service.library.files.media(sha256)
    if path is None:
        raise NotThere(f"there are no bytes {sha256}; the manifests list what there is")
    return _file(request, service, path, sha256)


@router.head("/packages/{package}/{path:path}", include_in_schema=False)
@router.get(
    "/packages/{package}/{path:path}",
    response_class=Response,
    responses=_BYTES,
    summary="A file of a package",
)
def package_file(
    package: Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")],
    path: str,
    request: Request,
    service: Parts,
    _: ReaderName,
) -> Response:
    """What players open: the package's files under the names that its playlists use."""
    pure = PurePosixPath(path)
    shown = path in _SHOWN or (len(pure.parts) > 1 and pure.parts[0] in _FOLDERS)
    if not shown or ".." in pure.parts or "\0" in path or len(path) > 200:
        raise NotThere(f"packages have no {path!r}; a player begins with master.m3u8")
    file = service.library.files.folder(package) / pure
    if not file.is_file():
        if service.library.files.folder(package).exists():
            raise NotThere(f"package {package} has no {path!r}; prefetch.json lists its files")
        if service.library.was_published(package):
            raise NotThere(f"package {package} was removed", reason="withdrawn")
        raise NotThere(f"there is no package {package}; GET /v1/titles lists them")
    return _file(request, service, file, f"{package}-{pure.as_posix().replace('/', '-')}")


def _scope(service: Service) -> str:
    """Which caches may keep what is read."""
    return "private" if service.tokens.readers else "public"


def _file(request: Request, service: Service, path: Any, etag: str) -> Response:
    headers = {
        "ETag": f'"{etag}"',
        "Cache-Control": f"{_scope(service)}, {IMMUTABLE}",
        "X-Content-Type-Options": "nosniff",
    }
    none_match = request.headers.get("if-none-match")
    if none_match is not None and matches(none_match.encode("latin-1"), etag.encode()):
        return Response(status_code=304, headers=headers)
    if path.suffix == ".html":
        headers["Content-Security-Policy"] = HTML_POLICY.decode()
    kind = _TYPES.get(path.suffix)
    return FileResponse(path, media_type=kind, headers=headers)


def _joined(found: list[tuple[str, bytes]], missing: list[str]) -> Response:
    """Stored documents in one, byte by byte as they are stored."""
    import json

    body = b",".join(b'"%s":%s' % (name.encode(), text.rstrip()) for name, text in found)
    text = b'{"titles":{%s},"missing":%s}' % (body, json.dumps(missing).encode())
    return Response(text, media_type="application/json", headers={"Cache-Control": "no-store"})
