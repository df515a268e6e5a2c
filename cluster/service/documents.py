"""Requests and answers of the HTTP interface, shared by the service, its OpenAPI document and the
client.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from cluster.service.exact import IS_NUMBER, Flag
from cluster.service.options import JobOptions, StatedOptions
from cluster.service.redaction import origin_of, without_secrets
from recommender.artwork.document import SelectedArtwork
from recommender.prefetch.document import START_SECONDS

State = Literal["queued", "running", "succeeded", "failed", "cancelled"]
TERMINAL: Final[frozenset[State]] = frozenset({"succeeded", "failed", "cancelled"})
Kind = Literal["run", "plan"]
DeliveryState = Literal["waiting", "delivered", "given_up"]
ChangeKind = Literal["published", "replaced", "withdrawn"]

TITLE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"
"""Pattern of a title's name, which needs no escapes in a URL's path."""
EPOCH_HEADER = "Shotladder-Epoch"
"""Header of a stream of events: the history in which its numbers count."""
JOB_ID_PATTERN = r"^job-[0-9a-f]{20}$"
MAX_BATCH_TITLES = 100
MAX_PAGE_SIZE = 500
Aspect = Literal["16:9", "2:3", "1:1", "21:9", "9:16"]
ASPECTS: Final[tuple[Aspect, ...]] = get_args(Aspect)
DEFAULT_ASPECT: Final[Aspect] = "16:9"
MAX_STILLS = 100
"""Limit of ``k``, above the size of any pool."""
MAX_START_SECONDS = START_SECONDS[-1]

_TEXT = r"^[^\x00-\x1f\x7f]+$"
TitleName = Annotated[str, Field(pattern=TITLE_PATTERN)]
Kbps = Annotated[float, Field(gt=0, le=1e9), IS_NUMBER]
"""Throughput of a client in kbit/s."""
StartSeconds = Annotated[float, Field(gt=0, le=MAX_START_SECONDS), IS_NUMBER]
"""Seconds of playback to pull first."""
FromSeconds = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False), IS_NUMBER]
"""Seconds into a title at which playback continues."""
DeviceHeight = Annotated[int, Field(ge=16, le=16384), IS_NUMBER]
"""Lines that a device plays at most, counted on the smaller side of the picture."""
DeviceCodecs = Annotated[str, Field(pattern=r"^[a-z0-9]{4}(,[a-z0-9]{4}){0,7}$")]
"""First four characters of the codecs strings that a device plays, separated by commas."""
MAX_EXCLUDED = 200
"""Limit of the action ids that a request leaves out."""
ACTION_ID_PATTERN = r"[0-9a-f]{16}(-[0-9a-f]{8})?"
ActionId = Annotated[str, Field(pattern=f"^{ACTION_ID_PATTERN}$")]
Language = Annotated[str, Field(max_length=35, pattern=r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$")]
"""Language by BCP 47."""
PictureWidth = Annotated[int, Field(ge=0, le=16384), IS_NUMBER]
StillField = Literal[
    "metrics", "embedding", "perceptual_hash", "faces", "people", "appeal", "crops"
]
STILL_FIELDS: Final[tuple[StillField, ...]] = get_args(StillField)
"""Features of stills that a request may ask for: members of the candidates in ``artwork.json``."""
EditKind = Literal["ban", "pin"]
StillCount = Annotated[int, Field(ge=1, le=MAX_STILLS), IS_NUMBER]


class RequestModel(BaseModel):
    """Base of requests: unknown fields are an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class AnswerModel(BaseModel):
    """Base of answers: unknown fields are ignored, since a newer service may send more."""

    model_config = ConfigDict(frozen=True, extra="ignore")


def _is_false(value: object) -> bool:
    """Tell whether a flag is left out: services of earlier releases do not know it."""
    return value is False


class Submission(RequestModel):
    """Request for a job: ``POST /v1/jobs``."""

    source: str = Field(min_length=1, max_length=4096, pattern=_TEXT, examples=["file:///m/a.mp4"])
    """``file:///`` URI or absolute path on the service's machine, below one of its source folders,
    or a URL below one of its source URLs."""
    external_id: TitleName | None = None
    """Name of the title in your catalogue, under which clients read it. A later job with the same
    name makes a new version of the title. None for a name derived from the source's URI."""
    options: JobOptions = JobOptions()
    kind: Kind = "run"
    """``run``, or ``plan`` to estimate what a run would cost."""
    priority: Annotated[int, IS_NUMBER] = Field(default=0, ge=-100, le=100)
    """Jobs of higher priority run first. They also preempt a running job of lower priority, which
    later resumes from the store."""
    deadline: AwareDatetime | None = None
    """Time by which the job should succeed; among equal priorities the earliest runs first. A job
    that misses its deadline is marked ``late`` and goes on."""
    webhook: str | None = Field(
        default=None, max_length=2048, pattern=r"^https?://[^\x00-\x20\x7f]+$"
    )
    """URL to which the service posts a signed notification when the job has ended."""
    force: Flag = Field(default=False, exclude_if=_is_false)
    """True to make the package anew, for example with a new release, where one of the same source
    and options exists."""


class Progress(AnswerModel):
    """Progress of a running job's present stage."""

    stage: str
    done: int
    total: int
    share: float
    """Part of the stage's work that is done, 0 to 1."""
    at: datetime


class Completion(AnswerModel):
    """Progress of a whole job, over all its stages and attempts."""

    share: float
    """Part of the job that is done, 0 to 1. It never falls, and is 1 only once the job has
    succeeded. Where there is more to do than was expected, it stands still."""
    remaining_seconds: float | None
    """Time left at the present pace; None while it cannot be told, as before the first encodes."""
    at: datetime | None
    """When it was reported; None if nothing was."""


class Attempt(AnswerModel):
    """One start of a job."""

    number: int
    started_at: datetime
    ended_at: datetime | None
    """None while it runs."""
    seconds: float
    """Time that it ran."""
    ended: str | None
    """How it ended: ``succeeded``, ``failed``, ``cancelled``, or why the job was queued again."""


class Failure(AnswerModel):
    """Why a job failed."""

    error: str
    """Name of the error's class."""
    message: str
    """One line with the object, the cause and the remedy."""
    context: dict[str, Any] = {}


class TitleUrls(AnswerModel):
    """Absolute URLs of one version of a title, for players and people. They are made from the URL
    under which the client asks, or from the service's public URL. Where reading needs a token, all
    but that of the player are signed and need none."""

    hls: str
    dash: str
    player: str
    """A page that plays the title's current version. It asks for a token where one is needed."""
    report: str | None
    """The report, for people; None if the package has none."""
    poster: str | None
    """The best still of 16:9, or of the next shape that has any; None if there is no artwork."""
    expires_at: datetime | None
    """When the signed URLs end; None where they are not signed."""


class Outcome(AnswerModel):
    """Result of a job that succeeded."""

    version: int | None = None
    """Number of the title's new version; None for a plan."""
    package: str | None = None
    """Digest that names the package in ``/v1/packages/{package}/``."""
    superseded: bool = False
    """True where a later delivery of the title was published first, so that this version never
    became current."""
    merged_with: str | None = None
    """Id of the job that had already made this package from equal source bytes."""
    plan: dict[str, Any] | None = None
    """Estimated cost of a run, for a job of kind ``plan``."""
    run: dict[str, Any] | None = None
    """Cost of the run, as in ``run.json``."""


class Job(AnswerModel):
    """A job and its state."""

    id: str
    title: str
    """Name under which clients read the title once the job has succeeded."""
    kind: Kind
    state: State
    source: str
    external_id: str | None
    options: StatedOptions
    """Options of the run; those that are not stated have their default."""
    priority: int
    deadline: datetime | None
    late: bool
    """True where the deadline passed before the job had succeeded."""
    webhooks: list[str]
    """URLs notified when the job has ended, of every submission that was merged into it. Clients
    that may not submit see only their hosts."""
    submitted_by: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    attempts: int
    """Number of times that the job was started."""
    attempt_list: list[Attempt] = []
    """Those starts, oldest first."""
    cancel_requested: bool
    completion: Completion | None = None
    """Progress of the whole job; None from a service that does not tell."""
    progress: Progress | None
    result: Outcome | None
    urls: TitleUrls | None = None
    """Where the version that the job made is played; None until it succeeded and once the version
    cannot be read any more."""
    failure: Failure | None

    def for_readers(self) -> Job:
        """Return the job without what only those who submit may see: signatures in the URL of the
        source, and the webhooks but for their hosts."""
        webhooks = [origin_of(url) for url in self.webhooks]
        hidden = {"source": without_secrets(self.source), "webhooks": webhooks}
        return self.model_copy(update=hidden)


class Earlier(AnswerModel):
    """An earlier job for the same source and options, whose version is no longer current."""

    job: str
    version: int | None
    """Version that the job made; None if it has not ended."""
    kept: bool
    """True while what was encoded for that job is kept, so that the new job is short; False where
    the source is encoded again."""


class Submitted(Job):
    """Answer to a submission: its job."""

    merged: bool
    """True where a job for the same source and options existed already; this is that job."""
    earlier: Earlier | None = None
    """Set where this is a new job although the same source and options were submitted before:
    another version is current or on its way, files are missing, or ``force`` was given."""


class Delivery(AnswerModel):
    """A webhook notification of a job that has ended."""

    id: int
    """``delivery`` in the notification."""
    job: str
    url: str
    state: DeliveryState
    attempts: int
    tried_at: datetime | None
    """When the last attempt ended."""
    next_at: datetime | None
    """When the next attempt is due; None if there is none."""
    answer: str | None
    """Status line of the last answer, or why there was none."""


class DeliveryPage(AnswerModel):
    """A page of deliveries, newest first."""

    deliveries: list[Delivery]
    next: str | None
    """``cursor`` of the next page; None on the last page."""


class JobPage(AnswerModel):
    """A page of jobs, newest first."""

    jobs: list[Job]
    next: str | None
    """``cursor`` of the next page; None on the last page."""


class Version(AnswerModel):
    """One version of a title."""

    version: int
    package: str
    job: str
    published_at: datetime
    retired_at: datetime | None
    """When another version became current."""
    removed_at: datetime | None
    """When the version's files were or will be removed."""
    current: bool = False
    """True for the version that clients read."""
    readable: bool = False
    """True while the version's files are there, so that it can be made current again."""


class Rollback(RequestModel):
    """Request to make a version current again: ``POST /v1/titles/{title}/rollback``."""

    version: Annotated[int, IS_NUMBER] = Field(ge=1, le=2**31)


class Title(AnswerModel):
    """A published title."""

    title: str
    version: int
    package: str
    base: str
    """Prefix of the package's relative URIs; a player opens ``{base}master.m3u8``. Where reading
    needs a token, it is signed, and holds for a day or longer."""
    published_at: datetime
    urls: TitleUrls | None = None
    """Where the title is played; None from a service that does not tell."""
    documents: list[str]
    """Documents that the title has, of ``ladder``, ``prefetch``, ``artwork`` and ``report``."""


class TitleDetail(Title):
    """A published title with all its versions."""

    versions: list[Version]


class TitlePage(AnswerModel):
    """A page of titles, sorted by name."""

    titles: list[Title]
    next: str | None
    sequence: int = 0
    """Number of the last change that this page includes. A snapshot of all pages is completed by
    the changes after the first page's number."""
    epoch: str = ""
    """Epoch of ``sequence``, as in ``/v1/changes``."""


class Snapshot(AnswerModel):
    """All published titles, by name, with the place in the change feed from which to go on."""

    titles: list[Title]
    sequence: int
    epoch: str


class SignedLink(AnswerModel):
    """URLs of a version's files that need no token: ``/v1/titles/{title}/signed``."""

    title: str
    version: int
    package: str
    base: str
    """Prefix of the relative URIs of the version's files, also of stills."""
    hls: str
    """URL of the HLS playlist."""
    dash: str
    """URL of the DASH manifest."""
    expires_at: datetime
    """When the URLs end, unless the version is withdrawn before."""


class Change(AnswerModel):
    """Publication, replacement or withdrawal of a title."""

    sequence: int
    kind: ChangeKind
    title: str
    version: int | None
    package: str | None
    at: datetime
    changed: list[str] | None = None
    """Documents that are not what they were (of ``ladder``, ``prefetch``, ``artwork`` and
    ``report``); None for changes before it was recorded, where any of them may have changed."""


class Changes(AnswerModel):
    """Changes after a sequence number, oldest first."""

    changes: list[Change]
    next: int
    """``since`` of the next request; unchanged when there are no changes."""
    more: bool
    """True where further changes exist already, so that the next request need not wait."""
    epoch: str = ""
    """The history in which ``next`` counts; another one once the tables were restored from a
    backup. Pass it with ``since``; a 409 of the type ``resync`` says to read all titles again."""


def _is_none(value: object) -> bool:
    return value is None


class StartFile(AnswerModel):
    """A file to prefetch."""

    uri: str
    bytes: int
    sha256: str


class StartDocument(AnswerModel):
    """Files to prefetch so that playback can start: ``/v1/titles/{title}/prefetch/start``."""

    external_id: str | None = Field(default=None, exclude_if=_is_none)
    """Name under which the title is read; put in when the document is served."""
    version_of: str
    """Digest that names the package."""
    base: str
    """Prefix of the relative URIs in ``files``."""
    rung: str
    seconds: int
    """Requested seconds, rounded up to 2, 4, 8 or 16."""
    covers_seconds: float
    """Seconds that the files play, since segments are whole shots."""
    from_seconds: float | None = Field(default=None, exclude_if=_is_none)
    """Where in the title the first segment begins, if ``from`` asked for a place."""
    bytes: int
    files: list[StartFile]


def _is_default(value: object) -> bool:
    """Tell whether what limits a start is left out: earlier services do not know it."""
    return value is None or value is True or value == {}


class StartBatch(RequestModel):
    """Request for the start documents of several titles: ``POST /v1/prefetch:batch``."""

    titles: list[TitleName] = Field(min_length=1, max_length=MAX_BATCH_TITLES)
    kbps: Kbps
    seconds: StartSeconds = 4
    kbps_of: dict[TitleName, Kbps] = Field(default_factory=dict, exclude_if=_is_default)
    """Throughput for single titles, where it is not ``kbps``."""
    from_of: dict[TitleName, FromSeconds] = Field(default_factory=dict, exclude_if=_is_default)
    """Seconds into single titles from which they are continued; the others begin at 0."""
    max_height: DeviceHeight | None = Field(default=None, exclude_if=_is_default)
    """Largest height that the device plays; any unless given."""
    codecs: DeviceCodecs | None = Field(default=None, exclude_if=_is_default)
    """Codecs that the device plays, such as ``avc1,hvc1``; any unless given."""
    hdr: Flag = Field(default=True, exclude_if=_is_default)
    """False for a device that does not play high dynamic range."""
    language: Language | None = Field(default=None, exclude_if=_is_default)
    """Language of the sound; the title's default sound unless given, or where it has none."""


class ArtworkBatch(RequestModel):
    """Request for the best stills of several titles: ``POST /v1/artwork:batch``."""

    titles: list[TitleName] = Field(min_length=1, max_length=MAX_BATCH_TITLES)
    aspect: Aspect = DEFAULT_ASPECT
    k: StillCount = 8
    """Maximum number of stills of each title."""
    diverse: Flag = False
    """Changes nothing, since there is one order; there were two in earlier releases."""
    spoilers: Flag = True
    """False to leave out the stills of the last fifth of each title."""
    faces: Flag | None = None
    """True for stills with faces only, false for stills without."""
    exclude: list[ActionId] = Field(default=[], max_length=MAX_EXCLUDED)
    """Action ids of stills to leave out."""
    min_width: PictureWidth = 0
    """Width in pixels that the largest file of a still has at least."""
    fields: list[StillField] = Field(default=[], max_length=len(STILL_FIELDS))
    """Features that every still is to have in ``features``."""
    apart: Flag = False
    """True to tell the pictures of a row apart: stills that look like the first still of one of the
    two titles before, in the order of ``titles``, are moved behind the others of their title."""


class Batch(AnswerModel):
    """Start documents of several titles, by title."""

    titles: dict[str, Any]
    missing: list[str]
    """Titles that are not published, were withdrawn, or lack this document."""


class ArtworkRow(AnswerModel):
    """Best stills of several titles, by title."""

    titles: dict[str, SelectedArtwork]
    missing: list[str]
    """Titles that are not published, were withdrawn, or have no artwork."""
    bases: dict[str, str] = {}
    """Prefix of the relative URIs of each title's stills, as in ``/v1/titles/{title}``."""


class SimilarPicture(AnswerModel):
    """A picture that looks like another."""

    title: str
    action_id: str
    id: str
    distance: float
    """Euclidean distance of the embeddings: 0 for equal pictures, near 1 for unlike ones."""
    hash_distance: int
    """Number of differing bits of the perceptual hashes."""
    duplicate: bool
    """True where the two are one picture at a glance: within 10 bits, or nearer than 0.10."""


class SimilarArtwork(AnswerModel):
    """Pictures of other titles that look most like one: ``GET /v1/artwork:similar``."""

    title: str
    """Title that shows the picture."""
    action_id: str
    embedding_model: str
    """Id of what made the embeddings: only pictures with embeddings of the same id are compared."""
    searched: int
    """Number of pictures with such embeddings, of all titles."""
    similar: list[SimilarPicture]
    """Those that look most like it, the nearest first."""


class ArtworkEditRequest(RequestModel):
    """Request of an editor: ``PUT /v1/titles/{title}/artwork/edits/{action_id}``."""

    edit: EditKind
    """``ban`` to show the picture no more, ``pin`` to show it before all that are not pinned."""
    reason: str = Field(default="", max_length=500, pattern=r"^[^\x00-\x1f\x7f]*$")
    """Why, for the audit log."""


class ArtworkEdit(AnswerModel):
    """What an editor has decided about a picture of a title."""

    title: str
    action_id: str
    edit: EditKind
    reason: str
    actor: str
    """Who decided it."""
    at: datetime


class AuditLine(AnswerModel):
    """Entry of the audit log: who did what to a title, and when."""

    at: datetime
    actor: str
    action: str
    title: str
    detail: dict[str, Any]


class Hold(AnswerModel):
    """A name that takes no jobs until it is released."""

    title: str
    actor: str
    """Who took the title down and holds its name."""
    at: datetime


class Health(AnswerModel):
    """Liveness of the service."""

    status: Literal["ok"]


class Readiness(Health):
    """Readiness of the service, and its load."""

    queued: int
    """Number of queued jobs."""
    running: int
    """Number of running jobs."""


class Problem(AnswerModel):
    """Error document as of RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    """One line with the object, the cause and the remedy."""
    errors: list[dict[str, Any]] | None = None
    """Invalid fields of the request, each with its message."""
