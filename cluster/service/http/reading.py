"""Reads of a title's documents, answered from the library in memory and one read of a bundle.

:class:`.middleware.FrontMiddleware` asks :class:`Reader` before any framework is involved. The
application declares the same routes for its OpenAPI document, and answers them with
:meth:`Reader.answer` too.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from pydantic import ValidationError
from starlette.types import Send

from cluster.service.documents import DEFAULT_ASPECT, MAX_BATCH_TITLES, ArtworkBatch, StartBatch
from cluster.service.http.auth import Tokens, scope_missing
from cluster.service.http.problems import (
    MEDIA_TYPE,
    TOKEN_NEEDED,
    UNKNOWN_PARAMETER,
    problem,
    status_of,
)
from cluster.service.http.queries import (
    ArtworkQuery,
    NoQuery,
    StartQuery,
    UnknownParameter,
)
from cluster.service.library.bundle import JSON_TYPE, Bundle, Entry, with_base
from cluster.service.library.cached import Cold
from cluster.service.library.files import DOCUMENTS
from cluster.service.library.library import Library, not_published
from cluster.service.library.splicing import OPENING, gzip_with_member, with_member
from cluster.service.library.wanted import UNEDITED, Edited, Neighbour, Wanted, told_apart
from encoder.errors import NotThere
from recommender.prefetch.starting import Device

Headers = list[tuple[bytes, bytes]]
EntryChoice = Callable[[Bundle, bool, Edited], Entry | None]
"""Picks the entry of a title's bundle that answers a request, waiting for a disk or not, as editors
have decided."""

FRESH_SECONDS = 5
"""Time for which a cache may serve a document without asking whether it has changed."""
HTML_POLICY = b"sandbox allow-scripts"
"""Runs a report's scripts without giving it this service's origin: its text is others' input."""
START = "prefetch/start"
_PREFIX = "/v1/titles/"


@dataclass(slots=True)
class Reply:
    """A response."""

    route: str
    """Name of the route in metrics."""
    status: int
    headers: Headers
    body: bytes


class Reader:
    """Answers reads of titles' documents."""

    def __init__(self, library: Library, tokens: Tokens) -> None:
        self.library = library
        self._tokens = tokens
        self.scope: Final = b"private" if tokens.reads_need_token else b"public"
        """Whose caches may keep answers."""
        self._cache_control: Final = (
            b"cache-control",
            self.scope + b", max-age=%d" % FRESH_SECONDS,
        )

    def answer(
        self,
        path: str,
        query: bytes,
        headers: Sequence[tuple[bytes, bytes]],
        *,
        mount: str = "",
        wait: bool = True,
    ) -> Reply | None:
        """Answer a GET; None if ``path`` is not that of a document.

        ``mount`` is the path below which the service is mounted.

        Raises:
            Cold: the document is not in memory, and ``wait`` is False.
        """
        if not path.startswith(_PREFIX):
            return None
        title, _, document = path[len(_PREFIX) :].partition("/")
        if document not in DOCUMENTS and document != START:
            return None
        accept_encoding = none_match = authorization = None
        for header, value in headers:
            if header == b"accept-encoding":
                accept_encoding = value
            elif header == b"if-none-match":
                none_match = value
            elif header == b"authorization":
                authorization = value
        refused = self.refusal(document, authorization)
        if refused is not None:
            return refused
        try:
            known = len(query) <= _SHORT_QUERY_BYTES
            choose = (_known_choice if known else _choice)(document, query)
        except UnknownParameter as error:
            return failure(document, 400, str(error), UNKNOWN_PARAMETER)
        except ValueError as error:
            return failure(document, 422, str(error))
        try:
            bundle, base, package = self._opened(title, mount, wait=wait)
        except NotThere as missing:
            reason = missing.context["reason"]
            return failure(document, status_of(missing), missing.message, reason)
        edited = UNEDITED
        if document == "artwork":
            edited = self.library.edits.resolved(title, package, bundle, wait=wait)
        entry = choose(bundle, wait, edited)
        if entry is None:
            detail = f"{title} has no {document}; GET /v1/titles/{title} lists its documents"
            if document == START:
                detail = (
                    f"no rung of {title} plays on such a device; ask with a larger `max_height`, "
                    "more `codecs` or `hdr`, or do not pull it first"
                )
            return failure(document, 404, detail, f"no_{document.partition('/')[0]}")
        called = Called(title, base if document == START else None, edited)
        return self._reply(document, bundle, entry, called, accept_encoding, none_match, wait)

    def refusal(self, route: str, authorization: bytes | None) -> Reply | None:
        """Return the refusal of a client that may not read; None if it may."""
        if not self._tokens.reads_need_token:
            return None
        client = self._tokens.client(authorization)
        if client is None:
            return unauthorized(route)
        if not client.may("read"):
            return failure(route, 403, scope_missing(client, "read"), "scope_missing")
        return None

    def batch(self, path: str, batch: StartBatch | ArtworkBatch, mount: str = "") -> Reply:
        """Answer a request for documents of several titles; ``mount`` is that of :meth:`answer`."""
        starts = isinstance(batch, StartBatch)
        bases: dict[str, str] = {}
        documents, missing = [], []
        shown: list[Neighbour] = []
        for title in dict.fromkeys(batch.titles[:MAX_BATCH_TITLES]):
            entry, edited = None, UNEDITED
            with contextlib.suppress(NotThere):
                bundle, base, package = self._opened(title, mount)
                if isinstance(batch, StartBatch):
                    choose = start_choice(batch, title)
                else:
                    choose = stills_choice(batch)
                    edited = self.library.edits.resolved(title, package, bundle)
                entry = choose(bundle, True, edited)
            if entry is None:
                missing.append(title)
                continue
            called = Called(title, base if starts else None, edited)
            text = bundle.body(entry)
            if isinstance(batch, ArtworkBatch) and batch.apart:
                with_looks = "embedding" in batch.fields
                text, first = told_apart(text, shown[-2:], batch.k, edited, with_looks=with_looks)
                shown += [first] if first is not None else []
            documents.append((title, called.put_into(text)))
            if not starts:
                bases[title] = base
        text = _joined(documents, missing, bases)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(text)),
            (b"cache-control", b"no-store"),
        ]
        return Reply(path, 200, headers, text)

    def bundle(self, title: str, *, wait: bool = True) -> Bundle:
        """Return the bundle of a title's current version.

        Raises:
            NotThere: the title is not published.
            Cold: the bundle is not in memory, and ``wait`` is False.
        """
        bundle, _, _ = self._opened(title, "", wait=wait)
        return bundle

    def _opened(self, title: str, mount: str, *, wait: bool = True) -> tuple[Bundle, str, str]:
        """Return the bundle of a title's current version, the prefix of its files' URIs, and the
        name of its package."""
        current = self.library.current(title)
        if current is None or current.version is None:
            raise not_published(title, withdrawn=current is not None)
        base = self.library.links.base(title, current.version, current.package)
        try:
            bundle = self.library.files.bundles.get(current.package, wait=wait)
        except FileNotFoundError:  # withdrawn by another process just now
            raise not_published(title, withdrawn=True) from None
        return bundle, below(mount, base), current.package

    def _reply(
        self,
        route: str,
        bundle: Bundle,
        entry: Entry,
        called: Called,
        accept_encoding: bytes | None,
        none_match: bytes | None,
        wait: bool,
    ) -> Reply:
        packed = (
            entry.gzip is not None and accept_encoding is not None and accepts_gzip(accept_encoding)
        )
        is_json = entry.media_type == JSON_TYPE.encode()
        digest = b"%s-%s" % (entry.etag, called.digest) if is_json else entry.etag
        etag = b'"%s-gz"' % digest if packed else b'"%s"' % digest
        headers = [(b"etag", etag), self._cache_control, (b"vary", b"accept-encoding")]
        if none_match is not None and etag_matches(none_match, digest):
            return Reply(route, 304, headers, b"")
        if not is_json:
            body = bundle.body(entry, packed=packed, wait=wait)
        elif packed and called.base is None:
            body = bundle.body(entry, packed=True, wait=wait)
            if not wait and not body.startswith(OPENING):
                raise Cold  # of an earlier release: encoded anew, in a thread
            body = gzip_with_member(body, called.member)
        else:
            body = called.put_into(bundle.body(entry, wait=wait))
            body = _packed(body) if packed else body
        headers.append((b"content-type", entry.media_type))
        if entry.media_type.startswith(b"text/html"):
            headers.append((b"content-security-policy", HTML_POLICY))
        headers.append((b"content-length", b"%d" % len(body)))
        if packed:
            headers.append((b"content-encoding", b"gzip"))
        return Reply(route, 200, headers, body)


def below(mount: str, base: str) -> str:
    """Return a prefix of URIs as clients see it that ask below the path ``mount``."""
    return mount + base if base.startswith("/") else base


@dataclass(frozen=True, slots=True)
class Called:
    """What a title is called, and where its files are: put into its documents when they are read,
    since titles of equal content share one package and its documents."""

    title: str
    base: str | None = None
    """Prefix of the package's URIs, for a document that names it."""
    edited: Edited = UNEDITED
    """What editors have decided, for documents about artwork."""

    @property
    def member(self) -> bytes:
        """Members of the document that hold the title's name, which needs no escapes, and what
        editors have decided."""
        name = b'"external_id":"%s"' % self.title.encode()
        if self.edited == UNEDITED:
            return name
        decided = json.dumps({"banned": self.edited.banned, "pinned": self.edited.pinned})
        return b'%s,"editors":%s' % (name, decided.encode())

    @property
    def digest(self) -> bytes:
        """Digest of what is put in, for the document's ETag."""
        return _short_digest(self.title, self.base, self.edited)

    def put_into(self, document: bytes) -> bytes:
        """Return a document with all of this."""
        return with_member(
            document if self.base is None else with_base(document, self.base), self.member
        )


@lru_cache(maxsize=4096)
def _short_digest(title: str, base: str | None, edited: Edited) -> bytes:
    decided = "" if edited == UNEDITED else f" {edited}"
    return hashlib.sha256(f"{title} {base or ''}{decided}".encode()).hexdigest()[:8].encode()


def _packed(text: bytes) -> bytes:
    return gzip.compress(text, 4, mtime=0)


def start_choice(query: StartQuery | StartBatch, title: str = "") -> EntryChoice:
    """Choose the start document for a throughput and a number of seconds, in a batch those of a
    title. From the beginning and for any device it is stored; others are computed."""
    if isinstance(query, StartBatch):
        kbps, position = query.kbps_of.get(title, query.kbps), query.from_of.get(title, 0.0)
    else:
        kbps, position = query.kbps, query.from_
    device = Device(
        query.max_height, tuple(query.codecs.split(",")) if query.codecs else (), query.language
    )
    if not position and device == Device() and query.hdr:
        return lambda bundle, *_: bundle.entry(bundle.start_name(query.seconds, 1000 * kbps))

    def computed(bundle: Bundle, wait: bool, _: Edited) -> Entry | None:
        if not wait:
            raise Cold
        return bundle.start(query.seconds, 1000 * kbps, position, device, hdr=query.hdr)

    return computed


def stills_choice(query: ArtworkQuery | ArtworkBatch) -> EntryChoice:
    """Choose the best stills of one shape."""
    aspect = query.aspect or DEFAULT_ASPECT
    exclude = query.exclude.split(",") if isinstance(query.exclude, str) else query.exclude
    fields = query.fields.split(",") if isinstance(query.fields, str) else query.fields
    wanted = Wanted(
        query.spoilers is not False,
        query.faces,
        frozenset(exclude or ()),
        query.min_width or 0,
        tuple(fields or ()),
    )

    k = query.k
    if isinstance(query, ArtworkBatch) and query.apart:  # which is told of all stills
        looks = tuple(dict.fromkeys((*wanted.fields, "embedding")))
        wanted, k = replace(wanted, fields=looks), None

    def chosen(bundle: Bundle, wait: bool, edited: Edited) -> Entry | None:
        asked = wanted if edited == UNEDITED else replace(wanted, edited=edited)
        return bundle.stills(aspect, k, asked, wait=wait)

    return chosen


START_BATCH, ARTWORK_BATCH = "/v1/prefetch:batch", "/v1/artwork:batch"
_SHORT_QUERY_BYTES = 128
"""Limit of a query that is remembered."""
_BATCHES: Final[dict[str, type[StartBatch | ArtworkBatch]]] = {
    START_BATCH: StartBatch,
    ARTWORK_BATCH: ArtworkBatch,
}


def is_batch(path: str) -> bool:
    """Return whether a path is that of a request for documents of several titles."""
    return path in _BATCHES


def parse_batch(
    path: str, headers: Sequence[tuple[bytes, bytes]], body: bytes
) -> StartBatch | ArtworkBatch | None:
    """Parse a request for documents of several titles; None if it is not valid, or of a type that
    the framework knows better."""
    if not any(
        name == b"content-type" and value.lower().startswith(b"application/json")
        for name, value in headers
    ):
        return None
    try:
        return _BATCHES[path].model_validate_json(body)
    except ValidationError:
        return None


def _joined(documents: list[tuple[str, bytes]], missing: list[str], bases: dict[str, str]) -> bytes:
    """Join stored documents into one, without parsing them."""
    body = b",".join(b'"%s":%s' % (title.encode(), text.rstrip()) for title, text in documents)
    more = b',"bases":%s' % json.dumps(bases).encode() if bases else b""
    return b'{"titles":{%s},"missing":%s%s}' % (body, json.dumps(missing).encode(), more)


def _choice(document: str, query: bytes) -> EntryChoice:
    """Return what chooses the entry of a document; a query that is invalid is a ValueError."""
    if document == START:
        return start_choice(StartQuery.parse(query))
    if document == "artwork":
        artwork_query = ArtworkQuery.parse(query)
        if artwork_query.model_fields_set:
            return stills_choice(artwork_query)
    else:
        NoQuery.parse(query)
    return lambda bundle, *_: bundle.entry(document)


_known_choice = lru_cache(maxsize=4096)(_choice)
"""Clients ask the same few queries again and again; parsing one takes a tenth of an answer."""


@lru_cache(maxsize=256)
def accepts_gzip(accept_encoding: bytes) -> bool:
    """Return whether a client that sent this ``Accept-Encoding`` accepts gzip."""
    weights: dict[bytes, float] = {}
    for part in accept_encoding.lower().split(b","):
        coding, _, parameter = part.partition(b";")
        weight = 1.0
        if parameter.strip().startswith(b"q="):
            try:
                weight = float(parameter.strip()[2:])
            except ValueError:
                weight = 0.0
        weights[coding.strip()] = weight
    return weights.get(b"gzip", weights.get(b"*", 0.0)) > 0


def etag_matches(none_match: bytes, etag: bytes) -> bool:
    """Return whether an ``If-None-Match`` header names ``etag``, in either coding."""
    if none_match.strip() == b"*":
        return True
    for part in none_match.split(b","):
        given = part.strip().removeprefix(b"W/").strip(b'"').removesuffix(b"-gz")
        if given == etag:
            return True
    return False


async def send_reply(send: Send, reply: Reply, *, with_body: bool = True) -> None:
    """Send a reply (ASGI)."""
    await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
    await send({"type": "http.response.body", "body": reply.body if with_body else b""})


def failure(
    route: str,
    status: int,
    detail: str,
    reason: str | None = None,
    *,
    retry_seconds: int | None = None,
) -> Reply:
    """Return a problem document as a reply; the client may try again after ``retry_seconds``."""
    body = problem(status, detail, reason)
    headers = [
        (b"content-type", MEDIA_TYPE.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
    ]
    if retry_seconds is not None:
        headers.append((b"retry-after", b"%d" % retry_seconds))
    return Reply(route, status, headers, body)


def unauthorized(route: str) -> Reply:
    """Return the reply to a client without a token that may read."""
    reply = failure(route, 401, TOKEN_NEEDED, "no_token")
    reply.headers.append((b"www-authenticate", b"Bearer"))
    return reply
