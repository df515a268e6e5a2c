"""A typed client of the service, for ingest jobs and recommender services.

A service that is away for a while (restarted, say) is asked again; a submission is sent with an
``Idempotency-Key``, so that asking again never makes two jobs::

    with Client("http://ladders:8480", token) as client:
        job = client.submit("/media/film.mp4", external_id="film-1")
        done = client.wait(job.id)
        start = client.start("film-1", kbps=3000)
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from cluster.service.documents import (
    DEFAULT_ASPECT,
    TERMINAL,
    ArtworkBatch,
    ArtworkRow,
    Aspect,
    AuditLine,
    Batch,
    Changes,
    Job,
    JobOptions,
    JobPage,
    Kind,
    StartBatch,
    StartDocument,
    State,
    Submission,
    Submitted,
    Title,
    TitleDetail,
    TitlePage,
)
from encoder.errors import BadInput, Busy, Conflict, NotThere, ServiceUnusable
from ladder.document import Ladder
from recommender.artwork.document import Artwork, SelectedArtwork
from recommender.prefetch.document import Prefetch

URL_VARIABLE = "SHOTLADDER_URL"
TOKEN_VARIABLE = "SHOTLADDER_TOKEN"
DEFAULT_URL = "http://127.0.0.1:8480"
PATIENCE_SECONDS = 60.0
"""For how long a service that does not answer is asked again."""
_AWAY = frozenset({502, 503, 504})
_KEPT = 4096
"""Documents that are asked for by their ETag."""

_M = TypeVar("_M", bound=BaseModel)


class Client:
    """A connection to a service. May be used from several threads.

    Every method raises:
        BadInput: what was asked cannot be (the message is the service's own), or no token fits.
        NotThere: there is no such job or title.
        Conflict: not in the state that things are in.
        ServiceUnusable: it does not answer, or has a defect.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        timeout_seconds: float = 30.0,
    ) -> None:
        """By default ``SHOTLADDER_URL`` and ``SHOTLADDER_TOKEN``."""
        self.url = (url or os.environ.get(URL_VARIABLE) or DEFAULT_URL).rstrip("/")
        token = token or os.environ.get(TOKEN_VARIABLE)
        self._patience = patience_seconds
        self._known: OrderedDict[str, tuple[str, bytes]] = OrderedDict()
        try:
            self._http = httpx.Client(
                base_url=self.url,
                timeout=timeout_seconds,
                follow_redirects=False,
                verify=not self.url.startswith("http:"),  # no certificates to load
                headers={"Authorization": f"Bearer {token}"} if token else {},
            )
        except (httpx.InvalidURL, UnicodeEncodeError) as error:
            raise BadInput(f"{self.url} is no URL of a service ({error})") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close connections."""
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
        idempotency_key: str | None = None,
    ) -> Submitted:
        """Submit a title; the job for it, which may have been there already (``merged``)."""
        try:
            asked = Submission(
                source=os.fspath(source),
                external_id=external_id,
                options=options or JobOptions(),
                kind=kind,
                priority=priority,
                deadline=deadline,
                webhook=webhook,
            )
        except ValidationError as error:
            raise invalid(error) from error
        answer = self._ask(
            "POST",
            "/v1/jobs",
            content=asked.model_dump_json().encode(),
            headers={
                "Content-Type": "application/json",
                "Idempotency-Key": idempotency_key or uuid.uuid4().hex,
            },
        )
        return Submitted.model_validate_json(answer.content)

    def job(self, job_id: str) -> Job:
        """A job as it is now."""
        return self._get(Job, f"/v1/jobs/{_part(job_id)}")

    def jobs(
        self,
        *,
        state: State | None = None,
        title: str | None = None,
        external_id: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Job]:
        """Jobs, newest first; all of them unless ``limit`` says how many."""
        asked = {"state": state, "title": title, "external_id": external_id}
        params: dict[str, Any] = {name: value for name, value in asked.items() if value}
        left = limit
        while left is None or left > 0:
            params["limit"] = min(left or 200, 200)
            page = self._get(JobPage, "/v1/jobs", params)
            yield from page.jobs
            if page.next is None:
                return
            params["cursor"] = page.next
            left = None if left is None else left - len(page.jobs)

    def cancel(self, job_id: str) -> Job:
        """Stop a job; it may take a moment until it is ``cancelled``."""
        answer = self._ask("POST", f"/v1/jobs/{_part(job_id)}/cancel")
        return Job.model_validate_json(answer.content)

    def retry(self, job_id: str) -> Job:
        """Queue a job that failed or was cancelled again."""
        answer = self._ask("POST", f"/v1/jobs/{_part(job_id)}/retry")
        return Job.model_validate_json(answer.content)

    def events(self, job_id: str, after: int = 0) -> Iterator[tuple[int, dict[str, Any]]]:
        """What a job reports, with numbers, until it has ended; across restarts of the service."""
        path = f"/v1/jobs/{_part(job_id)}/events"
        given_up = time.monotonic() + self._patience
        while True:
            try:
                headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
                with self._http.stream("GET", path, headers=headers) as stream:
                    if stream.status_code != 200:
                        stream.read()
                        raise problem(stream)
                    for number, body in _events(stream.iter_lines()):
                        after = number
                        given_up = time.monotonic() + self._patience
                        yield number, body
                if self.job(job_id).state in TERMINAL:
                    return
            except Busy:
                if time.monotonic() > given_up:
                    raise
                time.sleep(1.0)
            except httpx.HTTPError as error:
                if time.monotonic() > given_up:
                    raise self._silent(error) from error
                time.sleep(0.3)

    def wait(
        self,
        job_id: str,
        *,
        timeout_seconds: float | None = None,
        report: Callable[[dict[str, Any]], None] | None = None,
    ) -> Job:
        """A job when it has ended, however it has.

        Raises:
            TimeoutError: it has not within ``timeout_seconds``.
        """
        until = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        if until is None:
            for _, body in self.events(job_id):
                if report is not None:
                    report(body)
            return self.job(job_id)
        while (job := self.job(job_id)).state not in TERMINAL:
            if time.monotonic() > until:
                raise TimeoutError(f"{job_id} is {job.state} after {timeout_seconds:g} s")
            time.sleep(0.2)
        return job

    # -- titles --------------------------------------------------------------------------------

    def titles(self) -> Iterator[Title]:
        """All published titles, by name."""
        params: dict[str, Any] = {"limit": 200}
        while True:
            page = self._get(TitlePage, "/v1/titles", params)
            yield from page.titles
            if page.next is None:
                return
            params["cursor"] = page.next

    def title(self, name: str) -> TitleDetail:
        """A published title with its versions."""
        return self._get(TitleDetail, f"/v1/titles/{_part(name)}")

    def withdraw(self, name: str) -> AuditLine:
        """Take a title down."""
        answer = self._ask("DELETE", f"/v1/titles/{_part(name)}")
        return AuditLine.model_validate_json(answer.content)

    def audit(self, name: str) -> list[AuditLine]:
        """Who did what to a title."""
        answer = self._ask("GET", "/v1/audit", params={"title": name})
        return [AuditLine.model_validate(line) for line in answer.json()]

    def ladder(self, name: str) -> Ladder:
        """A title's ``ladder.json``."""
        return Ladder.model_validate_json(self._document(f"/v1/titles/{_part(name)}/ladder"))

    def prefetch(self, name: str) -> Prefetch:
        """A title's ``prefetch.json``."""
        return Prefetch.model_validate_json(self._document(f"/v1/titles/{_part(name)}/prefetch"))

    def start(self, name: str, *, kbps: float, seconds: float = 4) -> StartDocument:
        """What to pull first of a title."""
        path = f"/v1/titles/{_part(name)}/prefetch/start?seconds={seconds:g}&kbps={kbps:g}"
        return StartDocument.model_validate_json(self._document(path))

    def artwork(self, name: str) -> Artwork:
        """A title's ``artwork.json``: its whole pool."""
        return Artwork.model_validate_json(self._document(f"/v1/titles/{_part(name)}/artwork"))

    def stills(
        self,
        name: str,
        *,
        aspect: Aspect = DEFAULT_ASPECT,
        k: int | None = None,
        diverse: bool = False,
    ) -> SelectedArtwork:
        """The best stills of a title in one shape, all of them unless ``k`` says how many."""
        asked = f"aspect={quote(aspect, safe=':')}&diverse={'true' if diverse else 'false'}"
        if k is not None:
            asked += f"&k={k}"
        path = f"/v1/titles/{_part(name)}/artwork?{asked}"
        return SelectedArtwork.model_validate_json(self._document(path))

    def starts(self, names: Sequence[str], *, kbps: float, seconds: float = 4) -> Batch:
        """What to pull first of up to 100 titles."""
        try:
            asked = StartBatch(titles=list(names), kbps=kbps, seconds=seconds)
        except ValidationError as error:
            raise invalid(error) from error
        return self._post(Batch, "/v1/prefetch:batch", asked)

    def artworks(
        self,
        names: Sequence[str],
        *,
        aspect: Aspect = DEFAULT_ASPECT,
        k: int = 8,
        diverse: bool = False,
    ) -> ArtworkRow:
        """The best stills of up to 100 titles, as :meth:`stills`."""
        try:
            asked = ArtworkBatch(titles=list(names), aspect=aspect, k=k, diverse=diverse)
        except ValidationError as error:
            raise invalid(error) from error
        return self._post(ArtworkRow, "/v1/artwork:batch", asked)

    def changes(self, since: int = 0) -> Changes:
        """What has happened after a sequence number; ask again with ``next``."""
        return self._get(Changes, "/v1/changes", {"since": since})

    # -- below ---------------------------------------------------------------------------------

    def _get(self, kind: type[_M], path: str, params: dict[str, Any] | None = None) -> _M:
        return kind.model_validate_json(self._ask("GET", path, params=params or {}).content)

    def _post(self, kind: type[_M], path: str, asked: BaseModel) -> _M:
        headers = {"Content-Type": "application/json"}
        content = asked.model_dump_json().encode()
        return kind.model_validate_json(
            self._ask("POST", path, content=content, headers=headers).content
        )

    def _document(self, path: str) -> bytes:
        """A document, not sent again while it is the same."""
        known = self._known.get(path)
        headers = {"If-None-Match": known[0]} if known else {}
        answer = self._ask("GET", path, headers=headers)
        if answer.status_code == 304 and known:
            return known[1]
        self._known[path] = answer.headers["ETag"], answer.content
        self._known.move_to_end(path)
        while len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return answer.content

    def _ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        given_up = time.monotonic() + self._patience
        delay = 0.1
        while True:
            try:
                answer = self._http.request(method, path, **more)
            except httpx.TransportError as error:
                if time.monotonic() + delay > given_up:
                    raise self._silent(error) from error
            except httpx.InvalidURL as error:
                raise BadInput(f"{self.url} is no URL of a service ({error})") from error
            else:
                if answer.status_code in (200, 202, 304):
                    return answer
                if answer.status_code not in _AWAY or time.monotonic() + delay > given_up:
                    raise problem(answer)
            time.sleep(delay)
            delay = min(delay * 2, 2.0)

    def _silent(self, error: Exception) -> ServiceUnusable:
        return ServiceUnusable(
            f"no service answers at {self.url} ({type(error).__name__}: {error}); start it with "
            f"`shotladder serve`, or say where it is with {URL_VARIABLE}"
        )


def problem(answer: httpx.Response) -> Exception:
    """The error that an answer of the service means."""
    detail, reason = f"the service answered {answer.status_code}", None
    try:
        said = answer.json()
        detail = str(said["detail"])
        reason = str(said["type"]).rpartition(":")[2].replace("-", "_")
    except (ValueError, KeyError, TypeError):
        pass
    match answer.status_code:
        case 401:
            return BadInput(f"{detail}; set {TOKEN_VARIABLE}", reason="no_token")
        case 404 | 410:
            return NotThere(detail, reason=reason)
        case 409:
            return Conflict(detail, reason=reason)
        case 503:
            return Busy(detail)
        case status if 400 <= status < 500:
            return BadInput(detail, reason=reason)
    return ServiceUnusable(detail)


def invalid(error: ValidationError) -> BadInput:
    """A mistake found before anything was sent."""
    first = error.errors(include_url=False)[0]
    return BadInput(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")


def _part(name: str) -> str:
    """A name as one part of a path."""
    if not name or name in (".", ".."):
        raise BadInput(f"{name!r} is no name of a job or title")
    return quote(name, safe="")


def _events(lines: Iterator[str]) -> Iterator[tuple[int, dict[str, Any]]]:
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
