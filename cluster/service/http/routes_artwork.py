"""Routes of editors, who ban and pin pictures, and of reads over the artwork of all titles."""

from __future__ import annotations

from typing import Annotated

import structlog
from fastapi import APIRouter, Path, Query, Response

from cluster.service.documents import (
    ACTION_ID_PATTERN,
    EPOCH_HEADER,
    MAX_PAGE_SIZE,
    MAX_STILLS,
    TITLE_PATTERN,
    ArtworkEdit,
    ArtworkEditRequest,
    AuditLine,
    SimilarArtwork,
    TitleName,
)
from cluster.service.http.context import AnyReader, CurrentService, Editor
from cluster.service.http.problems import documented
from cluster.service.library.editing import edit_picture, lift_edit, list_edits
from cluster.service.library.exporting import export_artwork

router = APIRouter(prefix="/v1", tags=["artwork"])
log = structlog.stdlib.get_logger(__name__)

Name = Annotated[str, Path(pattern=TITLE_PATTERN, examples=["film-1"])]
Action = Annotated[str, Path(pattern=f"^{ACTION_ID_PATTERN}$", examples=["9f86d081884c7d65"])]
PARQUET = "application/vnd.apache.parquet"
_BINARY = {"type": "string", "format": "binary"}
_EDITS = "/titles/{title}/artwork/edits"


@router.get(_EDITS, responses=documented(401, 404, 410, 422), summary="What editors have decided")
def edits(title: Name, service: CurrentService, _: AnyReader) -> list[ArtworkEdit]:
    """Pictures of the title that editors have banned or pinned, the oldest decision first."""
    return list_edits(service.library, title)


@router.get(
    "/artwork:similar",
    responses=documented(401, 404, 422, 503),
    summary="Pictures of other titles that look like one",
)
def similar(
    service: CurrentService,
    _: AnyReader,
    action_id: Annotated[str, Query(pattern=f"^{ACTION_ID_PATTERN}$")],
    title: Annotated[
        TitleName | None, Query(description="Title of the picture, where several titles show it.")
    ] = None,
    k: Annotated[int, Query(ge=1, le=MAX_STILLS)] = 10,
) -> SimilarArtwork:
    """The nearest by embeddings, over all published titles, and whether they are duplicates.
    Pictures that editors have banned are left out.
    """
    return service.similar.search(action_id, title, k)


@router.get(
    "/artwork:export",
    response_class=Response,
    responses={
        200: {"description": "A Parquet file.", "content": {PARQUET: {"schema": _BINARY}}},
        **documented(401, 409, 422),
    },
    summary="All artwork since a change number, as Parquet",
)
def export(
    service: CurrentService,
    _: AnyReader,
    since: Annotated[int, Query(ge=0, le=2**62)] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_PAGE_SIZE)] = MAX_PAGE_SIZE,
    epoch: Annotated[str | None, Query(pattern=r"^[0-9a-f]{16}$")] = None,
) -> Response:
    """One row for each picture of the titles that the next changes are about: ids and features.
    Pass `Shotladder-Next` and `Shotladder-Epoch` as `since` and `epoch` to get what follows, while
    `Shotladder-More` is `true`. The same, and the titles that are gone, is in the file's metadata.
    """
    found = export_artwork(service.library, since, limit, epoch)
    headers = {
        "Shotladder-Next": str(found.changes.next),
        "Shotladder-More": str(found.changes.more).lower(),
        EPOCH_HEADER: found.changes.epoch,
        "Cache-Control": "no-store",
    }
    return Response(found.content, media_type=PARQUET, headers=headers)


@router.put(
    _EDITS + "/{action_id}",
    responses=documented(400, 401, 404, 410, 413, 422),
    summary="Ban or pin a picture",
)
def edit(
    title: Name,
    action_id: Action,
    request: ArtworkEditRequest,
    service: CurrentService,
    client: Editor,
) -> ArtworkEdit:
    """Show a picture no more, or before all others. The decision is about the picture: it stays
    when the title is coded again, and when the title is withdrawn and comes back.
    """
    made = edit_picture(
        service.library, title, action_id, request.edit, request.reason, client.name
    )
    log.warning("artwork edited", title=title, action_id=action_id, edit=made.edit,
                actor=client.name)  # fmt: skip
    return made


@router.delete(
    _EDITS + "/{action_id}",
    responses=documented(400, 401, 404, 413, 422),
    summary="Take back what was decided about a picture",
)
def lift(title: Name, action_id: Action, service: CurrentService, client: Editor) -> AuditLine:
    """Neither ban nor pin a picture any longer."""
    line = lift_edit(service.library, title, action_id, client.name)
    log.warning("artwork edit lifted", title=title, action_id=action_id, actor=client.name)
    return line
