"""Calls about titles: their documents, versions, changes and takedowns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import quote, urlencode, urljoin

from cluster.service.client.answers import parsed, path_part, validated
from cluster.service.client.connection import Connection
from cluster.service.client.steps import Steps, Values
from cluster.service.documents import (
    DEFAULT_ASPECT,
    ArtworkBatch,
    ArtworkEdit,
    ArtworkEditRequest,
    ArtworkRow,
    Aspect,
    AuditLine,
    Batch,
    Changes,
    EditKind,
    Hold,
    Rollback,
    SignedLink,
    Snapshot,
    StartBatch,
    StartDocument,
    StillField,
    Title,
    TitleDetail,
    TitlePage,
)
from ladder.document import Ladder
from recommender.artwork.document import Artwork, SelectedArtwork
from recommender.prefetch.document import Prefetch

_PAGE = 200


class TitleCalls(Connection):
    """Calls about titles, as steps."""

    def titles(self) -> Values[Title]:
        """Give all published titles, by name."""
        return self.each(TitlePage, "/v1/titles", {}, lambda page: page.titles, reading=True)

    def snapshot(self) -> Steps[Snapshot]:
        """Return all published titles, with the place in the change feed from which to go on."""
        params: dict[str, str | int] = {"limit": _PAGE}
        first = page = yield from self.get(TitlePage, "/v1/titles", params, reading=True)
        titles = list(first.titles)
        while page.next is not None:
            params["cursor"] = page.next
            page = yield from self.get(TitlePage, "/v1/titles", params, reading=True)
            titles += page.titles
        return Snapshot(titles=titles, sequence=first.sequence, epoch=first.epoch)

    def title(self, name: str) -> Steps[TitleDetail]:
        """Return a published title with its versions."""
        return (yield from self.get(TitleDetail, _path(name), reading=True))

    def signed(
        self, name: str, *, version: int | None = None, seconds: int | None = None
    ) -> Steps[SignedLink]:
        """Return URLs of a version's files that work without a token for ``seconds``, by default
        for a day. They are absolute.
        """
        asked = {"version": version, "seconds": seconds}
        params = {key: value for key, value in asked.items() if value is not None}
        link = yield from self.get(SignedLink, f"{_path(name)}/signed", params, reading=True)
        urls = {key: urljoin(f"{self.url}/", getattr(link, key)) for key in ("base", "hls", "dash")}
        return link.model_copy(update=urls)

    def rollback(self, name: str, version: int) -> Steps[TitleDetail]:
        """Make an earlier version of a title current again, while its files are kept."""
        with validated():
            request = Rollback(version=version)
        return (yield from self.post(TitleDetail, f"{_path(name)}/rollback", request))

    def withdraw(self, name: str, *, hold: bool = False) -> Steps[AuditLine]:
        """Take a title down and cancel its jobs; with ``hold``, refuse further ones."""
        params = {"hold": "true"} if hold else {}
        return (yield from self.delete(AuditLine, _path(name), params))

    def holds(self) -> Steps[list[Hold]]:
        """Return the names that are held."""
        answer = yield from self.request("GET", "/v1/holds")
        return parsed(list[Hold], answer)

    def release(self, name: str) -> Steps[AuditLine]:
        """Let a name that is held take jobs again."""
        return (yield from self.delete(AuditLine, f"{_path(name)}/hold"))

    def audit(self, name: str) -> Steps[list[AuditLine]]:
        """Return the audit log of a title, oldest first."""
        answer = yield from self.request("GET", "/v1/audit", params={"title": name})
        return parsed(list[AuditLine], answer)

    def artwork_edits(self, name: str) -> Steps[list[ArtworkEdit]]:
        """Return what editors have decided about a title's artwork, the oldest first."""
        answer = yield from self.request("GET", f"{_path(name)}/artwork/edits", reading=True)
        return parsed(list[ArtworkEdit], answer)

    def edit_artwork(
        self, name: str, action_id: str, edit: EditKind, reason: str = ""
    ) -> Steps[ArtworkEdit]:
        """Ban a picture of a title, or pin it."""
        with validated():
            request = ArtworkEditRequest(edit=edit, reason=reason)
        path = f"{_path(name)}/artwork/edits/{path_part(action_id)}"
        answer = yield from self.request("PUT", path, body=request)
        return parsed(ArtworkEdit, answer)

    def lift_artwork_edit(self, name: str, action_id: str) -> Steps[AuditLine]:
        """Take back what was decided about a picture."""
        path = f"{_path(name)}/artwork/edits/{path_part(action_id)}"
        return (yield from self.delete(AuditLine, path))

    def ladder(self, name: str) -> Steps[Ladder]:
        """Return a title's ``ladder.json``."""
        return (yield from self.document(Ladder, name, "ladder"))

    def prefetch(self, name: str) -> Steps[Prefetch]:
        """Return a title's ``prefetch.json``."""
        return (yield from self.document(Prefetch, name, "prefetch"))

    def start(
        self,
        name: str,
        *,
        kbps: float,
        seconds: float = 4,
        from_seconds: float = 0,
        max_height: int | None = None,
        codecs: str | None = None,
        hdr: bool = True,
        language: str | None = None,
    ) -> Steps[StartDocument]:
        """Return the files of a title to prefetch first, for a throughput in kbit/s.

        They begin at a place in the title, for a device that plays pictures of so many lines, such
        codecs (``avc1,hvc1``), and high dynamic range or not, with the sound in a language.
        """
        asked: dict[str, object] = {"seconds": f"{seconds:g}", "kbps": f"{kbps:g}"}
        if from_seconds:
            asked["from"] = f"{from_seconds:g}"
        if max_height is not None:
            asked["max_height"] = max_height
        if codecs is not None:
            asked["codecs"] = codecs
        if not hdr:
            asked["hdr"] = "false"
        if language is not None:
            asked["language"] = language
        query = urlencode(asked)
        return (yield from self.document(StartDocument, name, f"prefetch/start?{query}"))

    def artwork(self, name: str) -> Steps[Artwork]:
        """Return a title's ``artwork.json``: its whole pool of stills."""
        return (yield from self.document(Artwork, name, "artwork"))

    def stills(
        self,
        name: str,
        *,
        aspect: Aspect = DEFAULT_ASPECT,
        k: int | None = None,
        spoilers: bool = True,
        faces: bool | None = None,
        exclude: Sequence[str] = (),
        min_width: int = 0,
        fields: Sequence[StillField] = (),
    ) -> Steps[SelectedArtwork]:
        """Return a title's best stills in one shape: all of them, or at most ``k``.

        ``spoilers`` false leaves out those of the last fifth, ``faces`` asks for stills with or
        without faces, ``exclude`` names action ids to leave out, ``min_width`` is in pixels, and
        ``fields`` names features that the stills are to have.
        """
        query = f"aspect={quote(aspect, safe=':')}"
        if k is not None:
            query += f"&k={k}"
        if not spoilers:
            query += "&spoilers=false"
        if faces is not None:
            query += f"&faces={str(faces).lower()}"
        if exclude:
            query += f"&exclude={','.join(exclude)}"
        if min_width:
            query += f"&min_width={min_width}"
        if fields:
            query += f"&fields={','.join(fields)}"
        return (yield from self.document(SelectedArtwork, name, f"artwork?{query}"))

    def starts(
        self,
        names: Sequence[str],
        *,
        kbps: float,
        seconds: float = 4,
        kbps_of: Mapping[str, float] | None = None,
        from_of: Mapping[str, float] | None = None,
        max_height: int | None = None,
        codecs: str | None = None,
        hdr: bool = True,
        language: str | None = None,
    ) -> Steps[Batch]:
        """Return the files to prefetch first of up to 100 titles; ``kbps_of`` and ``from_of`` hold
        the throughputs of single titles and the seconds from which they are continued."""
        with validated():
            batch = StartBatch(
                titles=list(names),
                kbps=kbps,
                seconds=seconds,
                kbps_of=dict(kbps_of or {}),
                from_of=dict(from_of or {}),
                max_height=max_height,
                codecs=codecs,
                hdr=hdr,
                language=language,
            )
        return (yield from self.post(Batch, "/v1/prefetch:batch", batch, reading=True))

    def artworks(
        self,
        names: Sequence[str],
        *,
        aspect: Aspect = DEFAULT_ASPECT,
        k: int = 8,
        spoilers: bool = True,
        faces: bool | None = None,
        exclude: Sequence[str] = (),
        min_width: int = 0,
        fields: Sequence[StillField] = (),
    ) -> Steps[ArtworkRow]:
        """Return the best stills of up to 100 titles, as :meth:`stills` does."""
        with validated():
            batch = ArtworkBatch(
                titles=list(names),
                aspect=aspect,
                k=k,
                spoilers=spoilers,
                faces=faces,
                exclude=list(exclude),
                min_width=min_width,
                fields=list(fields),
            )
        return (yield from self.post(ArtworkRow, "/v1/artwork:batch", batch, reading=True))

    def changes(self, since: int = 0, epoch: str | None = None) -> Steps[Changes]:
        """Return the changes after a sequence number; pass ``next`` and ``epoch`` to get those that
        follow. A ``Conflict`` with the reason ``resync`` says to begin again with :meth:`snapshot`.
        """
        params = {"since": since, "epoch": epoch} if epoch else {"since": since}
        return (yield from self.get(Changes, "/v1/changes", params, reading=True))


def _path(name: str) -> str:
    return f"/v1/titles/{path_part(name)}"
