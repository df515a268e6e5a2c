"""A typed client of the service, for ingest jobs and recommender services.

Requests are repeated while the service does not answer, for example during a restart. Submissions
carry an ``Idempotency-Key``, so that a repeated submission never makes two jobs::

    with Client("http://ladders:8480", token) as client:
        job = client.submit("/media/film.mp4", external_id="film-1")
        done = client.wait(job.id)
        start = client.start("film-1", kbps=3000)
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote, urljoin

import httpx
from pydantic import BaseModel, ValidationError

from cluster.service.documents import (
    DEFAULT_ASPECT,
    EPOCH_HEADER,
    JOB_ID_PATTERN,
    TERMINAL,
    TITLE_PATTERN,
    ArtworkBatch,
    ArtworkRow,
    Aspect,
    AuditLine,
    Batch,
    Changes,
    Delivery,
    DeliveryPage,
    DeliveryState,
    Hold,
    Job,
    JobPage,
    Kind,
    Rollback,
    SignedLink,
    Snapshot,
    StartBatch,
    StartDocument,
    State,
    Submission,
    Submitted,
    Title,
    TitleDetail,
    TitlePage,
)
from cluster.service.options import JobOptions
from cluster.service.wording import first_complaint
from encoder.errors import BadInput, Busy, Conflict, NotThere, ServiceUnusable
from encoder.names import shown
from ladder.document import Ladder
from recommender.artwork.document import Artwork, SelectedArtwork
from recommender.prefetch.document import Prefetch

URL_VARIABLE = "SHOTLADDER_URL"
TOKEN_VARIABLE = "SHOTLADDER_TOKEN"
DEFAULT_URL = "http://127.0.0.1:8480"
PATIENCE_SECONDS = 60.0
"""Time for which requests about jobs are repeated while the service does not answer."""
READ_PATIENCE_SECONDS = 5.0
"""The same for documents of titles, for which a page may be waiting."""
WAIT_PATIENCE_SECONDS = 24 * 3600.0
"""The same for :meth:`Client.wait` and :meth:`Client.events`: a job that takes hours outlives an
update of the machine that its service runs on."""
_MAX_DELAY_SECONDS = 2.0
"""Longest pause between two attempts."""
_UNAVAILABLE = frozenset({429, 502, 503, 504})
_MAX_CACHED = 4096
"""Limit of documents that are kept for conditional requests."""

_M = TypeVar("_M", bound=BaseModel)
_P = TypeVar("_P", JobPage, TitlePage, DeliveryPage)


class Client:
    """A connection to a service. May be used from several threads.

    Every method raises:
        BadInput: the request is invalid (the message is the service's), or the token is not valid.
        NotThere: there is no such job or title.
        Conflict: the state of the job or title does not allow the request.
        ServiceUnusable: the service does not answer, or has a defect.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        read_patience_seconds: float = READ_PATIENCE_SECONDS,
        wait_patience_seconds: float = WAIT_PATIENCE_SECONDS,
        timeout_seconds: float = 30.0,
    ) -> None:
        """Take URL and token from ``SHOTLADDER_URL`` and ``SHOTLADDER_TOKEN`` by default.

        While the service does not answer, requests are repeated: those for documents of titles for
        ``read_patience_seconds``, others for ``patience_seconds``, and :meth:`wait` and
        :meth:`events`, once the service has answered them, for ``wait_patience_seconds``.
        """
        self.url = (url or os.environ.get(URL_VARIABLE) or DEFAULT_URL).rstrip("/")
        token = token or os.environ.get(TOKEN_VARIABLE)
        self._patience = patience_seconds
        self._read_patience = read_patience_seconds
        self._wait_patience = wait_patience_seconds
        self._cache: OrderedDict[str, tuple[str, bytes]] = OrderedDict()
        try:
            self._http = httpx.Client(
                base_url=self.url,
                timeout=timeout_seconds,
                follow_redirects=False,
                verify=not self.url.startswith("http:"),  # no certificates to load
                headers={"Authorization": f"Bearer {token}"} if token else {},
            )
        except (httpx.InvalidURL, UnicodeEncodeError) as error:
            raise self._invalid_url(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    # -- jobs ----------------------------------------------------------------------------------

    def submit(
        self,
        source: str | os.PathLike[str],
        *,
        external_id: str | None = None,
        options: JobOptions | None = None,
        kind: Kind = "run",
        priority: int = 0,
        deadline: datetime | None = None,
        webhook: str | None = None,
        force: bool = False,
        idempotency_key: str | None = None,
    ) -> Submitted:
        """Submit a title and return its job, which may have existed already (``merged``).

        ``force`` makes the title anew, for example with a new release of the service, where a
        package of the same source and options exists.
        """
        source = os.fspath(source)
        if shown(source) != source:  # JSON cannot hold such a path, but a URI can
            source = Path(source).absolute().as_uri()
        with _validated():
            submission = Submission(
                source=source,
                external_id=external_id,
                options=options or JobOptions(),
                kind=kind,
                priority=priority,
                deadline=deadline,
                webhook=webhook,
                force=force,
            )
        key = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        return self._post(Submitted, "/v1/jobs", submission, key)

    def job(self, job_id: str) -> Job:
        """Return a job and its present state."""
        return self._get(Job, f"/v1/jobs/{_path_part(job_id)}")

    def jobs(
        self,
        *,
        state: State | None = None,
        title: str | None = None,
        external_id: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Job]:
        """Yield jobs, newest first: all of them, or at most ``limit``."""
        filters = {"state": state, "title": title, "external_id": external_id}
        given = {name: value for name, value in filters.items() if value}
        pages = self._pages(JobPage, "/v1/jobs", {**given, "limit": min(limit or 200, 200)})
        yield from islice((job for page in pages for job in page.jobs), limit)

    def find_job(self, name: str) -> Job:
        """Return the job with this id, or else the newest job of the title of this name.

        Raises:
            NotThere: there is neither.
        """
        if re.fullmatch(JOB_ID_PATTERN, name):
            with contextlib.suppress(NotThere):
                return self.job(name)
        if re.fullmatch(TITLE_PATTERN, name):
            for job in self.jobs(title=name, limit=1):
                return job
        raise NotThere(
            f"there is no job {shown(name)}, and no title of that name has a job; "
            "`shotladder jobs` lists the jobs",
            reason="no_such_job",
        )

    def cancel(self, job_id: str) -> Job:
        """Cancel a job; a running job is ``cancelled`` only some seconds later."""
        return self._post(Job, f"/v1/jobs/{_path_part(job_id)}/cancel")

    def retry(self, job_id: str) -> Job:
        """Queue a failed or cancelled job again."""
        return self._post(Job, f"/v1/jobs/{_path_part(job_id)}/retry")

    def events(self, job_id: str, after: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield numbered events of a job until it has ended, across restarts of the service.

        All of them come again, with other numbers, if the tables of the service were restored from
        a backup meanwhile.
        """
        path = f"/v1/jobs/{_path_part(job_id)}"
        self._get(Job, path)  # a wrong id or URL is no reason to wait for a day
        attempts = _Attempts(self._wait_patience)
        last_type, ended, epoch = "", False, ""
        while True:
            try:
                headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
                headers |= {EPOCH_HEADER: epoch} if epoch else {}
                with self._http.stream("GET", f"{path}/events", headers=headers) as stream:
                    if stream.status_code == 200:
                        epoch = stream.headers.get(EPOCH_HEADER, "")
                        try:
                            for number, body in _events(stream.iter_lines()):
                                after, last_type = number, body["type"]
                                yield number, body
                        finally:  # the service answered until now
                            attempts = _Attempts(self._wait_patience)
                    else:
                        stream.read()
                        if stream.status_code not in _UNAVAILABLE or attempts.used_up():
                            raise error_of(stream)
            except httpx.TransportError as error:
                if attempts.used_up():
                    raise self._no_answer(error) from error
            else:
                if ended:
                    return
                job = self._get(Job, path, patience_seconds=self._wait_patience)
                ended = job.state in TERMINAL
                if ended and last_type in TERMINAL:
                    return
                if ended:  # while the stream was interrupted: its last events are still to come
                    continue
            attempts.pause()

    def wait(
        self,
        job_id: str,
        *,
        timeout_seconds: float | None = None,
        on_event: Callable[[dict[str, Any]], None] | None = None,
    ) -> Job:
        """Wait until a job has ended, in whatever state.

        ``on_event`` is called with each event of the job, unless there is a ``timeout_seconds``.

        Raises:
            TimeoutError: the job has not ended within ``timeout_seconds``.
        """
        path = f"/v1/jobs/{_path_part(job_id)}"
        if timeout_seconds is None:
            for _, body in self.events(job_id):
                if on_event is not None:
                    on_event(body)
            return self._get(Job, path, patience_seconds=self._wait_patience)
        until = time.monotonic() + timeout_seconds
        job = self.job(job_id)
        while job.state not in TERMINAL:
            if time.monotonic() > until:
                raise TimeoutError(f"{job_id} is {job.state} after {timeout_seconds:g} s")
            time.sleep(0.2)
            patience = min(self._wait_patience, max(until - time.monotonic(), self._patience))
            job = self._get(Job, path, patience_seconds=patience)
        return job

    def deliveries(
        self,
        *,
        state: DeliveryState | None = None,
        job_id: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Delivery]:
        """Yield webhook deliveries, newest first; ``given_up`` ones await you."""
        given = {name: value for name, value in (("state", state), ("job", job_id)) if value}
        pages = self._pages(
            DeliveryPage, "/v1/deliveries", {**given, "limit": min(limit or 200, 200)}
        )
        yield from islice((one for page in pages for one in page.deliveries), limit)

    def resend(self, delivery: int) -> Delivery:
        """Send a webhook delivery again, from the first attempt on."""
        return self._post(Delivery, f"/v1/deliveries/{delivery}/resend")

    # -- titles --------------------------------------------------------------------------------

    def titles(self) -> Iterator[Title]:
        """Yield all published titles, by name."""
        for page in self._pages(TitlePage, "/v1/titles", {"limit": 200}):
            yield from page.titles

    def snapshot(self) -> Snapshot:
        """Return all published titles, with the place in the change feed from which to go on."""
        pages = list(self._pages(TitlePage, "/v1/titles", {"limit": 200}))
        return Snapshot(
            titles=[title for page in pages for title in page.titles],
            sequence=pages[0].sequence,
            epoch=pages[0].epoch,
        )

    def title(self, name: str) -> TitleDetail:
        """Return a published title with its versions."""
        return self._get(TitleDetail, f"/v1/titles/{_path_part(name)}")

    def signed(
        self, name: str, *, version: int | None = None, seconds: int | None = None
    ) -> SignedLink:
        """Return URLs of a version's files that work without a token for ``seconds``, by default
        for a day. They are absolute.
        """
        asked = {"version": version, "seconds": seconds}
        params = {key: value for key, value in asked.items() if value is not None}
        link = self._get(SignedLink, f"/v1/titles/{_path_part(name)}/signed", params)
        urls = {key: urljoin(f"{self.url}/", getattr(link, key)) for key in ("base", "hls", "dash")}
        return link.model_copy(update=urls)

    def rollback(self, name: str, version: int) -> TitleDetail:
        """Make an earlier version of a title current again, while its files are kept."""
        with _validated():
            request = Rollback(version=version)
        return self._post(TitleDetail, f"/v1/titles/{_path_part(name)}/rollback", request)

    def withdraw(self, name: str, *, hold: bool = False) -> AuditLine:
        """Take a title down and cancel its jobs; with ``hold``, refuse further ones."""
        path, params = f"/v1/titles/{_path_part(name)}", {"hold": "true"} if hold else {}
        answer = self._request("DELETE", path, params=params)
        return AuditLine.model_validate_json(answer.content)

    def holds(self) -> list[Hold]:
        """Return the names that are held."""
        return [Hold.model_validate(hold) for hold in self._request("GET", "/v1/holds").json()]

    def release(self, name: str) -> AuditLine:
        """Let a name that is held take jobs again."""
        answer = self._request("DELETE", f"/v1/titles/{_path_part(name)}/hold")
        return AuditLine.model_validate_json(answer.content)

    def audit(self, name: str) -> list[AuditLine]:
        """Return the audit log of a title, oldest first."""
        answer = self._request("GET", "/v1/audit", params={"title": name})
        return [AuditLine.model_validate(line) for line in answer.json()]

    def ladder(self, name: str) -> Ladder:
        """Return a title's ``ladder.json``."""
        return self._document(Ladder, name, "ladder")

    def prefetch(self, name: str) -> Prefetch:
        """Return a title's ``prefetch.json``."""
        return self._document(Prefetch, name, "prefetch")

    def start(self, name: str, *, kbps: float, seconds: float = 4) -> StartDocument:
        """Return the files of a title to prefetch first, for a throughput in kbit/s."""
        query = f"seconds={seconds:g}&kbps={kbps:g}"
        return self._document(StartDocument, name, f"prefetch/start?{query}")

    def artwork(self, name: str) -> Artwork:
        """Return a title's ``artwork.json``: its whole pool of stills."""
        return self._document(Artwork, name, "artwork")

    def stills(
        self,
        name: str,
        *,
        aspect: Aspect = DEFAULT_ASPECT,
        k: int | None = None,
        diverse: bool = False,
    ) -> SelectedArtwork:
        """Return a title's best stills in one shape: all of them, or at most ``k``."""
        query = f"aspect={quote(aspect, safe=':')}&diverse={'true' if diverse else 'false'}"
        if k is not None:
            query += f"&k={k}"
        return self._document(SelectedArtwork, name, f"artwork?{query}")

    def starts(self, names: Sequence[str], *, kbps: float, seconds: float = 4) -> Batch:
        """Return the files to prefetch first of up to 100 titles."""
        with _validated():
            batch = StartBatch(titles=list(names), kbps=kbps, seconds=seconds)
        return self._post(Batch, "/v1/prefetch:batch", batch, patience_seconds=self._read_patience)

    def artworks(
        self,
        names: Sequence[str],
        *,
        aspect: Aspect = DEFAULT_ASPECT,
        k: int = 8,
        diverse: bool = False,
    ) -> ArtworkRow:
        """Return the best stills of up to 100 titles, as :meth:`stills` does."""
        with _validated():
            batch = ArtworkBatch(titles=list(names), aspect=aspect, k=k, diverse=diverse)
        return self._post(
            ArtworkRow, "/v1/artwork:batch", batch, patience_seconds=self._read_patience
        )

    def changes(self, since: int = 0, epoch: str | None = None) -> Changes:
        """Return the changes after a sequence number; pass ``next`` and ``epoch`` to get those that
        follow. A ``Conflict`` with the reason ``resync`` says to begin again with :meth:`snapshot`.
        """
        params = {"since": since, "epoch": epoch} if epoch else {"since": since}
        return self._get(Changes, "/v1/changes", params)

    # -- requests ------------------------------------------------------------------------------

    def _get(
        self,
        kind: type[_M],
        path: str,
        params: dict[str, Any] | None = None,
        *,
        patience_seconds: float | None = None,
    ) -> _M:
        answer = self._request("GET", path, patience_seconds, params=params or {})
        return kind.model_validate_json(answer.content)

    def _pages(self, kind: type[_P], path: str, params: dict[str, Any]) -> Iterator[_P]:
        while True:
            page = self._get(kind, path, params)
            yield page
            if page.next is None:
                return
            params["cursor"] = page.next

    def _post(
        self,
        kind: type[_M],
        path: str,
        request: BaseModel | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        patience_seconds: float | None = None,
    ) -> _M:
        body: dict[str, Any] = {"headers": headers}
        if request is not None:
            body["content"] = request.model_dump_json().encode()
            body["headers"] = {"Content-Type": "application/json", **(headers or {})}
        return kind.model_validate_json(
            self._request("POST", path, patience_seconds, **body).content
        )

    def _document(self, kind: type[_M], title: str, document: str) -> _M:
        """Get a document of a title; a cached one is sent again only if it has changed."""
        path = f"/v1/titles/{_path_part(title)}/{document}"
        cached = self._cache.get(path)
        headers = {"If-None-Match": cached[0]} if cached else {}
        answer = self._request("GET", path, self._read_patience, headers=headers)
        if answer.status_code == 304 and cached:
            return kind.model_validate_json(cached[1])
        self._cache[path] = answer.headers["ETag"], answer.content
        self._cache.move_to_end(path)
        while len(self._cache) > _MAX_CACHED:
            self._cache.popitem(last=False)
        return kind.model_validate_json(answer.content)

    def _request(
        self, method: str, path: str, patience_seconds: float | None = None, **options: Any
    ) -> httpx.Response:
        attempts = _Attempts(self._patience if patience_seconds is None else patience_seconds)
        while True:
            try:
                answer = self._http.request(method, path, **options)
            except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
                raise self._invalid_url(error) from error
            except httpx.TransportError as error:
                if attempts.used_up():
                    raise self._no_answer(error) from error
            else:
                if answer.status_code in (200, 202, 304):
                    return answer
                if answer.status_code not in _UNAVAILABLE or attempts.used_up():
                    raise error_of(answer)
            attempts.pause()

    def _no_answer(self, error: Exception) -> ServiceUnusable:
        return ServiceUnusable(
            f"no service answers at {self.url} ({type(error).__name__}: {error}); start it with "
            f"`shotladder serve`, or set {URL_VARIABLE} to its URL"
        )

    def _invalid_url(self, error: Exception) -> BadInput:
        return BadInput(
            f"{self.url!r} is not the URL of a service ({error}); set {URL_VARIABLE} to its URL"
        )


class _Attempts:
    """Attempts at one request, at growing intervals, until patience ends."""

    def __init__(self, patience_seconds: float) -> None:
        self._give_up_at = time.monotonic() + patience_seconds
        self._delay = 0.1

    def used_up(self) -> bool:
        """Return whether another attempt would come too late."""
        return time.monotonic() + self._delay > self._give_up_at

    def pause(self) -> None:
        """Wait until the next attempt."""
        time.sleep(self._delay)
        self._delay = min(self._delay * 2, _MAX_DELAY_SECONDS)


def error_of(answer: httpx.Response) -> Exception:
    """Return the error that a response of the service stands for."""
    detail, reason = f"the service answered {answer.status_code}", None
    try:
        document = answer.json()
        detail = str(document["detail"])
        reason = str(document["type"]).rpartition(":")[2].replace("-", "_")
    except (ValueError, KeyError, TypeError):
        pass
    match answer.status_code:
        case 401:
            return BadInput(f"{detail}; set {TOKEN_VARIABLE}", reason="no_token")
        case 404 | 410:
            return NotThere(detail, reason=reason)
        case 409:
            return Conflict(detail, reason=reason)
        case 429 | 503:
            return Busy(detail)
        case status if 400 <= status < 500:
            return BadInput(detail, reason=reason)
    return ServiceUnusable(detail)


def invalid(error: ValidationError) -> BadInput:
    """Return the error for a request that is invalid before it is sent."""
    return BadInput(first_complaint(error.errors(include_url=False)))


@contextlib.contextmanager
def _validated() -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        raise invalid(error) from error


def _path_part(name: str) -> str:
    """Quote a name as one part of a path."""
    if not name or name in (".", ".."):
        raise BadInput(f"{name!r} cannot be the id of a job or the name of a title; check it")
    return quote(name, safe="")


def _events(lines: Iterator[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Parse server-sent events."""
    number, data = 0, ""
    for line in lines:
        field, _, value = line.partition(": ")
        if field == "id":
            number = int(value)
        elif field == "data":
            data = value
        elif not line and data:
            yield number, json.loads(data)
            data = ""
