"""Routes of published titles.

Reads of documents, batches of them, media and files of packages never come here:
:class:`.middleware.FrontMiddleware` answers them. Their routes declare them for the OpenAPI
document.
Those of documents give the same answers by the same code; those of files refuse what cannot be the
name of one.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import structlog
from fastapi import APIRouter, Depends, Path, Query, Request, Response

from cluster.service.documents import (
    MAX_PAGE_SIZE,
    TITLE_PATTERN,
    ArtworkBatch,
    ArtworkRow,
    AuditLine,
    Batch,
    Changes,
    Hold,
    Rollback,
    SignedLink,
    StartBatch,
    StartDocument,
    Title,
    TitleDetail,
    TitleName,
    TitlePage,
)
from cluster.service.http.context import (
    AnyReader,
    CurrentService,
    Mount,
    Root,
    Service,
    Submitter,
    Withdrawer,
)
from cluster.service.http.mounting import mount_of
from cluster.service.http.pages import PAGE, page_response
from cluster.service.http.problems import documented
from cluster.service.http.queries import ArtworkQuery, StartQuery
from cluster.service.http.reading import (
    ARTWORK_BATCH,
    FRESH_SECONDS,
    START_BATCH,
    Reply,
    below,
)
from cluster.service.library.links import MAX_SIGNED_SECONDS, SIGNED_SECONDS
from encoder.errors import NotThere
from ladder.document import Ladder
from recommender.artwork.document import Artwork, SelectedArtwork
from recommender.prefetch.document import Prefetch

router = APIRouter(prefix="/v1", tags=["titles"])
log = structlog.stdlib.get_logger(__name__)

Name = Annotated[str, Path(pattern=TITLE_PATTERN, examples=["film-1"])]
_PLAYER_POLICY = "connect-src 'self'; media-src blob:; img-src data:"


@router.get("/titles", responses=documented(401, 422), summary="List published titles")
def titles(
    service: CurrentService,
    mount: Mount,
    root: Root,
    _: AnyReader,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE_SIZE)] = 50,
    cursor: TitleName | None = None,
) -> TitlePage:
    """Published titles by name. Pass ``next`` as ``cursor`` to get the next page."""
    page = service.library.titles(limit, cursor)
    shown = [_located(title, service, mount, root) for title in page.titles]
    return page.model_copy(update={"titles": shown})


@router.get("/titles/{title}", responses=documented(401, 404, 410, 422), summary="Get a title")
def title(
    title: Name, service: CurrentService, mount: Mount, root: Root, _: AnyReader
) -> TitleDetail:
    """The published title and its versions."""
    return _located(service.library.title(title), service, mount, root)


@router.get(
    "/titles/{title}/signed",
    responses=documented(401, 404, 410, 422, 503),
    summary="Sign URLs of a title",
)
def signed(
    title: Name,
    service: CurrentService,
    mount: Mount,
    _: AnyReader,
    response: Response,
    version: Annotated[
        int | None, Query(ge=1, le=2**31, description="The current one unless it is given.")
    ] = None,
    seconds: Annotated[
        int, Query(ge=1, le=MAX_SIGNED_SECONDS, description="Time for which the URLs hold.")
    ] = int(SIGNED_SECONDS),
) -> SignedLink:
    """URLs of the files of one version that work without a token, for players, images and TVs. They
    end with their time, or when the version is withdrawn or its files are removed.
    """
    response.headers["Cache-Control"] = "no-store"
    link = service.library.signed(title, version, seconds)
    base, hls, dash = (below(mount, url) for url in (link.base, link.hls, link.dash))
    return link.model_copy(update={"base": base, "hls": hls, "dash": dash})


@router.delete(
    "/titles/{title}",
    responses=documented(400, 401, 404, 410, 413, 422),
    summary="Take a title down",
)
def withdraw(
    title: Name,
    service: CurrentService,
    client: Withdrawer,
    hold: Annotated[
        bool, Query(description="Refuse jobs for this name until the hold is released.")
    ] = False,
) -> AuditLine:
    """Take a title down. When this answers, its files are gone and its jobs are cancelled, also
    those of a title that was not published yet. Its audit log stays.
    """
    line = service.library.withdraw(title, client.name, service.jobs.request_cancel, hold=hold)
    log.warning(line.action, title=title, actor=client.name, **line.detail)
    return line


@router.get("/holds", responses=documented(401), summary="List held names")
def holds(service: CurrentService, _: Withdrawer) -> list[Hold]:
    """Names that take no jobs, since their titles were taken down with ``hold``."""
    return service.library.holds()


@router.delete(
    "/titles/{title}/hold",
    responses=documented(400, 401, 404, 413, 422),
    summary="Release a held name",
)
def release(title: Name, service: CurrentService, client: Withdrawer) -> AuditLine:
    """Let a name that was held take jobs again."""
    line = service.library.release(title, client.name)
    log.warning("released", title=title, actor=client.name)
    return line


@router.post(
    "/titles/{title}/rollback",
    responses=documented(400, 401, 404, 409, 410, 413, 422),
    summary="Make an earlier version current again",
)
def rollback(
    title: Name,
    rollback: Rollback,
    service: CurrentService,
    mount: Mount,
    root: Root,
    client: Submitter,
) -> TitleDetail:
    """Make an earlier version of the title current again, while its files are kept. The next
    delivery replaces it as always.
    """
    detail = service.library.rollback(title, rollback.version, client.name)
    log.warning("rolled back", title=title, version=rollback.version, actor=client.name)
    return _located(detail, service, mount, root)


@router.get("/audit", responses=documented(401, 422), summary="Audit log of a title")
def audit(
    service: CurrentService, _: Withdrawer, title: Annotated[TitleName, Query(examples=["film-1"])]
) -> list[AuditLine]:
    """Publications and takedowns of the title, oldest first, also after it was withdrawn."""
    return service.library.audit(title)


async def _stored_response(
    title: Name, request: Request, service: CurrentService, _: AnyReader
) -> Response:
    """Answer as the reading path does."""
    scope = request.scope
    reply = service.reader.answer(
        scope["path"], scope["query_string"], scope["headers"], mount=mount_of(scope)
    )
    if reply is None:
        raise NotThere(f"there is nothing at {scope['path']}; see /openapi.json for all paths")
    return _response(reply)


StoredResponse = Annotated[Response, Depends(_stored_response)]
_DOCUMENT: dict[int | str, dict[str, Any]] = {
    304: {"description": "Not modified."},
    **documented(401, 404, 410, 422),
}


@router.get(
    "/titles/{title}/ladder", response_model=Ladder, responses=_DOCUMENT, summary="ladder.json"
)
async def ladder(response: StoredResponse) -> Response:
    """The operating point of every shot of every rung, with its measured quality and size."""
    return response


@router.get(
    "/titles/{title}/prefetch",
    response_model=Prefetch,
    responses=_DOCUMENT,
    summary="prefetch.json",
)
async def prefetch(response: StoredResponse) -> Response:
    """The whole prefetch manifest: every file and its size, the start-up rungs, the cache plan."""
    return response


@router.get(
    "/titles/{title}/prefetch/start",
    response_model=StartDocument,
    responses=_DOCUMENT,
    summary="Files to prefetch first",
)
async def start(response: StoredResponse, query: Annotated[StartQuery, Query()]) -> Response:
    """Init segments and media segments of the first seconds, for a client's throughput."""
    return response


@router.get(
    "/titles/{title}/artwork",
    response_model=Artwork | SelectedArtwork,
    responses=_DOCUMENT,
    summary="artwork.json, or the best stills of one shape",
)
async def artwork(response: StoredResponse, query: Annotated[ArtworkQuery, Query()]) -> Response:
    """The whole pool; with any parameter the best stills of one shape, those that are wanted."""
    return response


@router.get(
    "/titles/{title}/report",
    response_class=Response,
    responses={200: PAGE, **_DOCUMENT},
    summary="report.html",
)
async def report(response: StoredResponse) -> Response:
    """The report on the title's ladder."""
    return response


@router.get(
    "/titles/{title}/player",
    response_class=Response,
    responses={200: PAGE, **documented(404, 410, 422)},
    summary="Player page",
)
def player(
    title: Name,
    service: CurrentService,
    package: Annotated[
        str | None, Query(description="URL of a package to play instead of the current one.")
    ] = None,
) -> Response:
    """A page that plays the title and shows rung, bitrate and quality along its timeline. The page
    needs no token. Where reads need one, the page asks its user for the token.
    """
    if not service.tokens.reads_need_token:
        service.reader.bundle(title)  # raises an error for a title that cannot be read
    fresh = f"{service.reader.scope.decode()}, max-age={FRESH_SECONDS}"
    return page_response(
        "cluster.service.library", "player.html", policy=_PLAYER_POLICY, cache_control=fresh
    )


@router.post(
    "/prefetch:batch",
    response_model=Batch,
    responses=documented(400, 401, 413, 422),
    summary="Files to prefetch first, of several titles",
)
def start_batch(batch: StartBatch, service: CurrentService, mount: Mount, _: AnyReader) -> Response:
    """Start documents of up to 100 titles."""
    return _response(service.reader.batch(START_BATCH, batch, mount))


@router.post(
    "/artwork:batch",
    response_model=ArtworkRow,
    responses=documented(400, 401, 413, 422),
    summary="Best stills of several titles",
)
def artwork_batch(
    batch: ArtworkBatch, service: CurrentService, mount: Mount, _: AnyReader
) -> Response:
    """Best stills of up to 100 titles, in one shape."""
    return _response(service.reader.batch(ARTWORK_BATCH, batch, mount))


@router.get("/changes", responses=documented(401, 409, 422), summary="Change feed")
def changes(
    service: CurrentService,
    _: AnyReader,
    since: Annotated[int, Query(ge=0, le=2**62)] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE_SIZE)] = 200,
    epoch: Annotated[str | None, Query(pattern=r"^[0-9a-f]{16}$")] = None,
) -> Changes:
    """Publications, replacements and withdrawals after a sequence number, oldest first. Pass
    ``next`` as ``since``, and ``epoch``, to get the changes that follow.
    """
    return service.library.changes(since, limit, epoch)


_BINARY = {"*/*": {"schema": {"type": "string", "format": "binary"}}}
_BYTES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The whole file.", "content": _BINARY},
    206: {"description": "A range of the file.", "content": _BINARY},
    304: _DOCUMENT[304],
    **documented(401, 404, 410, 416, 422, 503),
}


@router.get(
    "/media/{sha256}",
    response_class=Response,
    responses=_BYTES,
    summary="Get a media file or image",
)
def media(sha256: Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")], _: AnyReader) -> Response:
    """The segment, init segment or image with this SHA-256."""
    raise NotThere(f"no file has the SHA-256 {sha256}")


@router.get(
    "/packages/{package}/{path:path}",
    response_class=Response,
    responses=_BYTES,
    summary="Get a file of a package",
)
def package_file(
    package: Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")], path: str, _: AnyReader
) -> Response:
    """A file under the name by which the package's playlists refer to it."""
    raise NotThere(f"package {package} has no {path!r}")


@router.get(
    "/signed/{signature}/{path:path}",
    response_class=Response,
    responses={**_BYTES, **documented(403, 404, 410, 416, 422, 503)},
    summary="Get a file by a signed URL",
)
def signed_file(signature: str, path: str) -> Response:
    """A file of the version that the URL was signed for. It needs no token."""
    raise NotThere(f"there is no {path!r}")


_T = TypeVar("_T", bound=Title)


def _located(title: _T, service: Service, mount: str, root: str) -> _T:
    """Return a title with its URLs, as clients see it that ask for it under ``root``, which is
    below the path ``mount``."""
    urls = service.playable.of_version(title.title, title.version, title.package, root)
    return title.model_copy(update={"base": below(mount, title.base), "urls": urls})


def _response(reply: Reply) -> Response:
    response = Response(reply.body, reply.status)
    response.raw_headers = reply.headers
    return response
