"""Editors decide which pictures of a title are never shown, and which come first.

Every decision is in the audit log, and in the change feed as another ``artwork`` of the title. It
stays when the title is coded again or withdrawn: a banned picture does not come back with it.
"""

from __future__ import annotations

import time

from sqlalchemy import select

from cluster.service.database import ArtworkEditRow, TitleRow, moment
from cluster.service.documents import ArtworkEdit, AuditLine, EditKind
from cluster.service.library.library import Library, audit_line, not_published, record_change
from encoder.errors import NotThere
from recommender.artwork.document import Artwork


def list_edits(library: Library, title: str) -> list[ArtworkEdit]:
    """Return the decisions about a title's artwork, the oldest first.

    Raises:
        NotThere: the title has never been published.
    """
    with library.database.reading() as session:
        if session.get(TitleRow, title) is None:
            raise not_published(title, withdrawn=False)
        rows = session.scalars(
            select(ArtworkEditRow)
            .where(ArtworkEditRow.title == title)
            .order_by(ArtworkEditRow.at, ArtworkEditRow.action_id)
        )
        return [_document(row) for row in rows]


def edit_picture(
    library: Library, title: str, action_id: str, kind: EditKind, reason: str, actor: str
) -> ArtworkEdit:
    """Ban or pin a picture of a title's current pool; a later decision replaces an earlier one.

    Raises:
        NotThere: the title is not published, or its pool has no such picture.
    """
    hash_ = _perceptual_hash(library, title, action_id)
    now = time.time()
    with library.database.writing() as session:
        row = session.get_one(TitleRow, title)
        if row.version is None:
            raise not_published(title, withdrawn=True)
        edit = ArtworkEditRow(
            title=title,
            action_id=action_id,
            kind=kind,
            perceptual_hash=hash_,
            reason=reason,
            actor=actor,
            at=now,
        )
        edit = session.merge(edit)
        action = {"ban": "artwork banned", "pin": "artwork pinned"}[kind]
        more = {"action_id": action_id, "reason": reason}
        record_change(session, row, now, actor, "replaced", ["artwork"], action=action, **more)
        made = _document(edit)
    library.refresh()
    return made


def lift_edit(library: Library, title: str, action_id: str, actor: str) -> AuditLine:
    """Take back what was decided about a picture.

    Raises:
        NotThere: nothing was decided about it.
    """
    now = time.time()
    with library.database.writing() as session:
        edit = session.get(ArtworkEditRow, (title, action_id))
        row = session.get(TitleRow, title)
        if edit is None or row is None:
            raise NotThere(
                f"nothing was decided about the picture {action_id} of {title}; "
                f"GET /v1/titles/{title}/artwork/edits lists what was",
                reason="no_edit",
            )
        more = {"action_id": action_id, "was": edit.kind}
        session.delete(edit)
        line = record_change(
            session, row, now, actor, "replaced", ["artwork"], action="artwork edit lifted", **more
        )
        session.flush()
        lifted = audit_line(line)
    library.refresh()
    return lifted


def _perceptual_hash(library: Library, title: str, action_id: str) -> str:
    current = library.current(title)
    if current is None or current.version is None:
        raise not_published(title, withdrawn=current is not None)
    try:
        bundle = library.files.bundles.get(current.package)
    except FileNotFoundError:  # withdrawn by another process just now
        raise not_published(title, withdrawn=True) from None
    entry = bundle.entry("artwork")
    pool = None if entry is None else Artwork.model_validate_json(bundle.body(entry))
    for candidate in pool.candidates if pool is not None else ():
        if candidate.action_id == action_id:
            return candidate.perceptual_hash
    raise NotThere(
        f"{title} has no picture with the action id {action_id}; "
        f"GET /v1/titles/{title}/artwork lists its pictures",
        reason="no_picture",
    )


def _document(row: ArtworkEditRow) -> ArtworkEdit:
    return ArtworkEdit(
        title=row.title,
        action_id=row.action_id,
        edit="pin" if row.kind == "pin" else "ban",
        reason=row.reason,
        actor=row.actor,
        at=moment(row.at),
    )
