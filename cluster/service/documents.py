"""What goes over HTTP as types: shared by the service, its OpenAPI document and the client."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from recommender.artwork.document import SelectedArtwork
from recommender.prefetch.document import START_SECONDS

State = Literal["queued", "running", "succeeded", "failed", "cancelled"]
TERMINAL: Final[frozenset[State]] = frozenset({"succeeded", "failed", "cancelled"})
Kind = Literal["run", "plan"]
ChangeKind = Literal["published", "replaced", "withdrawn"]

TITLE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
"""Of a title's name: fit for a URL's path without escapes."""
MOST_IN_BATCH = 100
MOST_IN_PAGE = 500
Aspect = Literal["16:9", "2:3", "1:1", "21:9"]
ASPECTS: Final[tuple[Aspect, ...]] = get_args(Aspect)
DEFAULT_ASPECT: Final[Aspect] = "16:9"
MOST_STILLS = 100
"""More than any title has."""
MAX_START_SECONDS = START_SECONDS[-1]

_TEXT = r"^[^\x00-\x1f\x7f]+$"
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
TitleName = Annotated[str, Field(pattern=TITLE_PATTERN)]
Kbps = Annotated[float, Field(gt=0, le=1e9)]
"""Throughput of a client in kbit/s."""
StartSeconds = Annotated[float, Field(gt=0, le=MAX_START_SECONDS)]
"""Seconds of playback to pull first."""
StillCount = Annotated[int, Field(ge=1, le=MOST_STILLS)]


class Model(BaseModel):
    """Common behaviour: frozen, nothing unknown accepted."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Answer(BaseModel):
    """Common behaviour of what the service answers: a newer service may say more."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class JobOptions(Model):
    """What is asked of the run; as the options of ``shotladder run``."""

    profile: Name = "default"
    codec: Name = "x264"
    preset: Name = "medium"
    search: Name | None = None
    """None: the service's default."""
    heights: list[Annotated[int, Field(ge=2, le=16384)]] | None = Field(
        default=None, min_length=1, max_length=20
    )
    also: list[Name] = Field(default=[], max_length=8)
    tone_map: bool = False
    """Make a ladder of standard range of a source of high dynamic range."""


class Submission(Model):
    """``POST /v1/jobs``."""

    source: str = Field(min_length=1, max_length=4096, pattern=_TEXT, examples=["file:///m/a.mp4"])
    """``file:///...`` or an absolute path on the service's side, under one of its roots."""
    external_id: TitleName | None = None
    """The title's name in your catalogue, by which it is read. A later job with the same name
    makes a new version of the title. None: a name derived from the source's place."""
    options: JobOptions = JobOptions()
    kind: Kind = "run"
    """``plan`` only estimates what a run would cost."""
    priority: int = Field(default=0, ge=-100, le=100)
    """Higher goes first, and takes the place of a running job of lower priority, which goes on
    later from where it was."""
    deadline: AwareDatetime | None = None
    """Among equal priorities the earliest goes first; a job that misses it is marked late."""
    webhook: str | None = Field(
        default=None, max_length=2048, pattern=r"^https?://[^\x00-\x20\x7f]+$"
    )
    """Told, signed, when the job has ended."""


class Progress(Answer):
    """How far a running job is."""

    stage: str
    done: int
    total: int
    share: float
    """Of the stage's work, 0 to 1."""
    at: datetime


class Failure(Answer):
    """Why a job failed."""

    error: str
    """Class of the error."""
    message: str
    """One line: what was asked, what was found, what to do."""
    context: dict[str, Any] = {}


class Outcome(Answer):
    """What a job came to."""

    version: int | None = None
    """Of the title; None for a plan."""
    package: str | None = None
    """Digest that names the package, in ``/v1/packages/{package}/``."""
    superseded: bool = False
    """A later delivery of this title was published first; this version never became current."""
    merged_with: str | None = None
    """A job that had made the same package of the same bytes."""
    plan: dict[str, Any] | None = None
    """What a run would cost, for a job of kind ``plan``."""
    run: dict[str, Any] | None = None
    """What the run cost."""


class Job(Answer):
    """A job."""

    id: str
    title: str
    """Name under which the title is read when the job has succeeded."""
    kind: Kind
    state: State
    source: str
    external_id: str | None
    options: JobOptions
    priority: int
    deadline: datetime | None
    late: bool
    """The deadline passed before the job had succeeded."""
    webhooks: list[str]
    """Told when it has ended: of all who asked for this job."""
    submitted_by: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    attempts: int
    """How often it was started."""
    cancel_requested: bool
    progress: Progress | None
    result: Outcome | None
    failure: Failure | None


class Submitted(Job):
    """A job as it was submitted."""

    merged: bool
    """There was a job for the same source and options already; this is it."""


class JobPage(Answer):
    """Some jobs, newest first."""

    jobs: list[Job]
    next: str | None
    """``cursor`` of the next page; None on the last."""


class Version(Answer):
    """One version of a title."""

    version: int
    package: str
    job: str
    published_at: datetime
    retired_at: datetime | None
    """When another version took its place."""
    removed_at: datetime | None
    """When its files will be, or were, removed."""


class Title(Answer):
    """A published title."""

    title: str
    version: int
    package: str
    base: str
    """Where the package's relative URIs begin; a player opens ``{base}master.m3u8``."""
    published_at: datetime
    documents: list[str]
    """What can be read: ``ladder``, ``prefetch``, ``artwork``, ``report``."""


class TitleDetail(Title):
    """A title with its history."""

    versions: list[Version]


class TitlePage(Answer):
    """Some titles, by name."""

    titles: list[Title]
    next: str | None


class Change(Answer):
    """Something that consumers should follow."""

    sequence: int
    kind: ChangeKind
    title: str
    version: int | None
    package: str | None
    at: datetime


class Changes(Answer):
    """What has changed since a sequence number, oldest first."""

    changes: list[Change]
    next: int
    """``since`` of the next request; the same number when nothing has happened."""
    more: bool
    """Ask again at once: there is more already."""


class StartFile(Answer):
    """A file to pull."""

    uri: str
    bytes: int
    sha256: str


class StartDocument(Answer):
    """``/v1/titles/{id}/prefetch/start``: what to pull first."""

    version_of: str
    """Digest of the package."""
    base: str
    """Where the relative URIs below begin."""
    rung: str
    seconds: int
    """Asked for, rounded up to 2, 4, 8 or 16."""
    covers_seconds: float
    """Played by these files."""
    bytes: int
    files: list[StartFile]


class StartBatch(Model):
    """``POST /v1/prefetch:batch``."""

    titles: list[TitleName] = Field(min_length=1, max_length=MOST_IN_BATCH)
    kbps: Kbps
    seconds: StartSeconds = 4


class ArtworkBatch(Model):
    """``POST /v1/artwork:batch``."""

    titles: list[TitleName] = Field(min_length=1, max_length=MOST_IN_BATCH)
    aspect: Aspect = DEFAULT_ASPECT
    k: StillCount = 8
    """So many stills of each title, or all it has."""
    diverse: bool = False
    """Chosen by quality and difference, not by quality alone."""


class Batch(Answer):
    """Documents of several titles, as they are stored."""

    titles: dict[str, Any]
    missing: list[str]
    """Not published, withdrawn, or without this document."""


class ArtworkRow(Answer):
    """The stills of several titles."""

    titles: dict[str, SelectedArtwork]
    missing: list[str]
    """Not published, withdrawn, or without artwork."""


class AuditLine(Answer):
    """Who did what to a title."""

    at: datetime
    actor: str
    action: str
    title: str
    detail: dict[str, Any]


class Health(Answer):
    """Whether the process works."""

    status: Literal["ok"]


class Readiness(Health):
    """Whether the service can take work, and how much it has."""

    queued: int
    running: int


class Problem(Answer):
    """RFC 9457: what went wrong and what to do."""

    type: str
    title: str
    status: int
    detail: str
    """What was asked, what was found, what to do."""
    errors: list[dict[str, Any]] | None = None
    """Of fields that cannot be, where there are several."""
