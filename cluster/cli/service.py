"""``serve`` and ``runner``, and the commands that talk to a service over HTTP."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from cluster.cli.command import command, option
from cluster.cli.options import (
    Embedding,
    LadderFlags,
    Nudity,
    OptionsFile,
    Scheduler,
    TlsFlags,
    Weights,
    Workers,
    given,
)
from cluster.cli.output import Output, say
from encoder.errors import BadInput, ShotladderError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cluster.events import Event, Listener
    from cluster.service.client import Client
    from cluster.service.documents import Job, Submitted
    from cluster.service.options import JobOptions
    from cluster.service.serving import ServiceOptions

# -- the service -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class JobFlags:
    """Options of ``serve`` and ``runner``: where the service is kept, and how it runs jobs."""

    data: Path = option(
        Path("shotladder-service"),
        metavar="DIR",
        help="Folder in which the service keeps everything.",
    )
    database: str | None = option(
        None,
        metavar="URL",
        envvar="SHOTLADDER_DATABASE",
        help="PostgreSQL database for the tables, such as `postgresql://user@host/shotladder`; "
        "give a URL with a password in the environment. [default: a file in the folder]",
    )
    slots: int = option(
        1, "--jobs", metavar="N", min=0, max=64, help="Number of jobs at once, beside one estimate."
    )
    workers: Workers = None
    scheduler: Scheduler = None
    weights: Weights = None
    embedding: Embedding = None
    nudity: Nudity = False
    grace: float = option(
        168,
        metavar="HOURS",
        min=0,
        help="Hours for which the files of a replaced version can still be read.",
    )


@dataclass(frozen=True, slots=True)
class WebFlags:
    """Options of ``serve``: what it accepts, from whom, and whom it tells."""

    sources: tuple[Path, ...] = option(
        (),
        metavar="DIR",
        help="Folder that sources may be in; no other file is read. May be repeated.",
    )
    source_urls: tuple[str, ...] = option(
        (),
        "--source-url",
        metavar="URL",
        help="Folder of a web server that sources may be in, such as "
        "`https://media.example/masters/`. May be repeated.",
    )
    host: str = option("127.0.0.1", metavar="HOST", help="Address to listen on.")
    port: int = option(
        8480, metavar="PORT", min=0, max=65535, help="Port to listen on; 0 takes a free one."
    )
    processes: int = option(
        1,
        metavar="N",
        min=1,
        max=64,
        help="Processes that answer requests; with more than one, the first one only runs jobs.",
    )
    public_url: str = option(
        "",
        metavar="URL",
        help="URL under which clients ask the service, such as `https://example.com/ladders`, for "
        "the URLs in answers and webhooks. [default: that of each request]",
    )
    allowed_hosts: tuple[str, ...] = option(
        (),
        "--allowed-host",
        metavar="NAME",
        help="Name under which clients ask the service, such as `ladders.example.com` or "
        "`*.example.com`, beside `localhost`, this machine's own name and IP addresses; `*` "
        "allows every name. May be repeated.",
    )
    trusted_proxies: tuple[str, ...] = option(
        (),
        "--trusted-proxy",
        metavar="ADDRESS",
        help="Address or network of a proxy in front of the service, such as `10.0.0.0/24`, whose "
        "`X-Forwarded-For` is believed. May be repeated.",
    )
    root_path: str = option(
        "",
        metavar="PATH",
        help="Path below which a proxy has mounted the service, such as `/ladders`; a trusted "
        "proxy may name it in `X-Forwarded-Prefix`.",
    )
    cors_origins: tuple[str, ...] = option(
        (),
        "--cors-origin",
        metavar="ORIGIN",
        help="Origin whose pages may read with a browser, such as `https://play.example.com`, or "
        "`*` for all. May be repeated.",
    )
    peer_connections: int = option(
        1000,
        metavar="N",
        min=1,
        help="Connections that one client may have at once; behind a proxy, requests.",
    )
    access_log: str | None = option(
        None,
        metavar="FILE",
        help="File to which a line of JSON is added for every request, without tokens and "
        "signatures; `-` for stdout. [default: no such log]",
    )
    tokens: Path | None = option(
        None,
        metavar="FILE",
        help="File with lines NAME TOKEN [SCOPE,...]: who may submit and withdraw. [default: "
        "DIR/tokens, created with one token if it is missing]",
    )
    read_tokens: Path | None = option(
        None, metavar="FILE", help="File with lines NAME TOKEN: who may read. [default: everybody]"
    )
    media_url: str = option(
        "",
        metavar="URL",
        help="URL under which players read media, for example of a CDN. [default: the "
        "service's own]",
    )
    signed_hours: float = option(
        24,
        metavar="HOURS",
        min=0.1,
        max=720,
        help="Hours for which the signed URLs in answers hold at least, where reading needs a "
        "token.",
    )
    day_starts_hour: int = option(
        0,
        "--day-starts",
        metavar="HOUR",
        min=0,
        max=23,
        help="Hour (UTC) at which a day starts: a viewer keeps the same artwork for a day, and a "
        "promoted policy is live from the next day on.",
    )
    webhook_hosts: tuple[str, ...] = option(
        (),
        "--webhook-host",
        metavar="HOST",
        help="Host that jobs may name as a webhook; `*.example.com` allows all of its "
        "subdomains. May be repeated.",
    )
    webhook_secret: Path | None = option(
        None, metavar="FILE", help="File with the secret that signs webhooks."
    )
    webhook_private: bool = option(
        False, "--webhook-private", help="Allow webhooks to private addresses."
    )


@command
def serve(*, jobs: JobFlags, tls: TlsFlags, web: WebFlags) -> None:
    """Run the HTTP service: take jobs, run them, publish their packages, answer reads.

    The service prints its URL when it takes requests, and logs JSON to stderr. It can be stopped at
    any time: jobs that were running resume when it is started again with the same DIR.
    """
    from cluster.service.http.connections import ConnectionLimits
    from cluster.service.logs import log_as_json
    from cluster.service.serving import serve as run_service

    log_as_json()
    fields = asdict(web)
    fields["limits"] = ConnectionLimits(peer_connections=fields.pop("peer_connections"))
    fields["signed_seconds"] = 3600 * fields.pop("signed_hours")
    roots = tuple(root.absolute() for root in fields.pop("sources"))
    run_service(_service_options(jobs, tls, roots=roots, **fields), _announce)


@command
def runner(*, jobs: JobFlags, tls: TlsFlags) -> None:
    """Run jobs of a service on this machine, beside a service that was started with `--jobs 0`.

    DIR and `--grace` must be the service's.
    """
    from cluster.service.logs import log_as_json
    from cluster.service.serving import work

    if jobs.slots < 1:
        raise BadInput("a runner runs 1 job at once or more; give --jobs N")
    log_as_json()
    work(
        _service_options(jobs, tls),
        lambda name: print(f"runner {name} takes jobs of {jobs.data}", flush=True),
    )


def _service_options(jobs: JobFlags, tls: TlsFlags, **more: Any) -> ServiceOptions:
    from cluster.service.serving import ServiceOptions

    fields = {**asdict(jobs), "scheduler": tls.shared(jobs.scheduler)}
    return ServiceOptions(
        data=fields.pop("data").absolute(),
        grace_seconds=3600 * fields.pop("grace"),
        **fields,
        **more,
    )


def _announce(url: str, tokens: Path) -> None:
    print(url, flush=True)
    say(f"tokens are in {tokens}; {url}/openapi.json describes the API")


# -- its clients -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Connection:
    """Options of the commands that talk to a service."""

    url: str | None = option(
        None,
        metavar="URL",
        envvar="SHOTLADDER_URL",
        help="URL of the service. [default: http://127.0.0.1:8480]",
    )
    token: str | None = option(
        None,
        metavar="TOKEN",
        envvar="SHOTLADDER_TOKEN",
        help="Token to authenticate with; safer in the environment, where other users of the "
        "machine do not see it.",
    )

    def client(self) -> Client:
        """Return a client of the service, to be closed."""
        from cluster.service.client import Client

        return Client(self.url, self.token)


JobId = Annotated[str, typer.Argument(metavar="JOB", help="Id of a job.")]


@dataclass(frozen=True, slots=True)
class SubmissionFlags:
    """Options of ``submit`` about the job, not about the ladder."""

    external_id: str | None = option(
        None,
        metavar="NAME",
        help="Name of the title in your catalogue, under which it is read. [default: derived "
        "from the source's path]",
    )
    priority: int = option(0, metavar="N", min=-100, max=100, help="Priority: higher goes first.")
    deadline: datetime | None = option(
        None,
        metavar="TIME",
        help="Time by which the job should be done, UTC, such as 2027-01-31T20:00:00; earlier "
        "goes first.",
    )
    webhook: str | None = option(None, metavar="URL", help="URL to notify when the job has ended.")
    force: bool = option(
        False,
        "--force",
        help="Make the title anew even if a package of the same source and options exists, for "
        "example with a new release.",
    )
    idempotency_key: str | None = option(
        None,
        "--key",
        metavar="KEY",
        help="Key of this submission: submitting again with the same key returns the same job.",
    )


@command
def submit(
    output: Output,
    *,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Video file that the service sees under the same path, or a `file:///` URI or "
            "URL that it can read.",
        ),
    ],
    submission: SubmissionFlags,
    wait: bool = option(False, "--wait", help="Show the progress of the job until it has ended."),
    plan: bool = option(
        False, "--plan", help="Only estimate what the job would cost, and wait for that."
    ),
    options_file: OptionsFile = None,
    flags: LadderFlags,
    connection: Connection,
) -> None:
    """Submit a title to a service and print the job's id.

    With `--wait` the exit status is 0 only if the job succeeded.
    """
    on_event = output.announce("submit", source)
    fields = asdict(submission)
    if submission.deadline is not None:
        fields["deadline"] = submission.deadline.replace(tzinfo=UTC)
    options = _job_options(flags)
    with connection.client() as client:
        submitted = client.submit(
            source if "://" in source else os.path.abspath(source),  # noqa: PTH100 - no links
            options=options,
            kind="plan" if plan else "run",
            **fields,
        )
        _say_earlier(submitted)
        job: Job = submitted
        if wait or plan:
            say(f"{job.id} is {job.state}")
            job = client.wait(job.id, on_event=lambda body: _forward(body, on_event))
            if job.state != "succeeded":
                raise _ended_badly(job)

    def view() -> Iterable[RenderableType] | str:
        if plan and job.result is not None:
            from cluster.cli.views.estimate import estimate_view, service_estimate

            return estimate_view(service_estimate(job.result.plan or {}))
        if job.state == "succeeded":
            say(f"{job.title} can be read: {client.url}/v1/titles/{job.title}")
        return job.id

    output.finish({"job": job.model_dump(mode="json")}, view)


def _say_earlier(job: Submitted) -> None:
    """Say why a delivery that was submitted before is a new job, and what it costs."""
    if job.earlier is not None:
        cost = (
            "what was encoded then is kept, so it will be short"
            if job.earlier.kept
            else "what was encoded then is gone, so it encodes the source again"
        )
        say(f"{job.earlier.job} did the same earlier; {job.id} makes a new version: {cost}")


def _job_options(flags: LadderFlags) -> JobOptions:
    from cluster.service.client import invalid
    from cluster.service.options import JobOptions
    from ladder.profiles import profile_document, profile_from_file

    options = given(flags)
    if isinstance(flags.profile, Path):
        # The service does not see this machine's files: a profile travels as content.
        options["profile"] = profile_document(profile_from_file(flags.profile))
    try:
        return JobOptions.model_validate(options)
    except ValueError as error:
        raise invalid(error) from error  # type: ignore[arg-type] # pydantic's own


@command
def jobs(
    output: Output,
    *,
    state: str | None = option(
        None,
        metavar="STATE",
        help="List only jobs that are `queued`, `running`, `succeeded`, `failed` or `cancelled`.",
    ),
    external_id: str | None = option(None, metavar="NAME", help="List only jobs of this title."),
    limit: int = option(50, metavar="N", min=1, help="List at most the N newest jobs."),
    connection: Connection,
) -> None:
    """List the jobs of a service, newest first."""
    from cluster.cli.views.jobs import jobs_view
    from cluster.service.documents import State

    with connection.client() as client:
        wanted = _state(state, State)
        listed = list(client.jobs(state=wanted, external_id=external_id, limit=limit))
    output.finish(
        lines=[("job", job.model_dump(mode="json")) for job in listed],
        result={"jobs": len(listed)},
        view=lambda: jobs_view(listed),
    )


def _state(text: str | None, states: object) -> Any:
    """Return a state that is one of ``states``, a ``Literal``, or None.

    Raises:
        BadInput: there is no such state.
    """
    known = get_args(states)
    if text is not None and text not in known:
        raise BadInput(f"no state {text!r}; choose one of {', '.join(known)}")
    return text


@command
def status(
    output: Output,
    *,
    job: Annotated[
        str,
        typer.Argument(
            metavar="JOB", help="Id of a job, or the name of a title, for its newest job."
        ),
    ],
    connection: Connection,
) -> None:
    """Show a job: its state, its progress, its result."""
    from cluster.cli.views.jobs import job_view

    with connection.client() as client:
        current = client.find_job(job)
    output.finish(result={"job": current.model_dump(mode="json")}, view=lambda: job_view(current))


@command
def cancel(output: Output, *, job: JobId, connection: Connection) -> None:
    """Cancel a job. Its finished work is kept for `retry` or for another job."""
    with connection.client() as client:
        cancelled = client.cancel(job)
        if cancelled.state == "running":
            with contextlib.suppress(TimeoutError):
                cancelled = client.wait(job, timeout_seconds=20)
    _finish_with_state(output, cancelled)


@command
def retry(output: Output, *, job: JobId, connection: Connection) -> None:
    """Queue a failed or cancelled job again; it resumes from its finished work."""
    with connection.client() as client:
        queued = client.retry(job)
    _finish_with_state(output, queued)


def _finish_with_state(output: Output, job: Job) -> None:
    output.finish(result={"job": job.model_dump(mode="json")}, view=lambda: f"{job.id} {job.state}")


@command
def deliveries(
    output: Output,
    *,
    state: str | None = option(
        None,
        metavar="STATE",
        help="List only deliveries that are `waiting`, `delivered` or `given_up`.",
    ),
    job: str | None = option(None, metavar="JOB", help="List only deliveries of this job."),
    limit: int = option(50, metavar="N", min=1, help="List at most the N newest deliveries."),
    connection: Connection,
) -> None:
    """List the webhook deliveries of a service, newest first, with the receivers' last answers."""
    from cluster.cli.views.jobs import deliveries_view
    from cluster.service.documents import DeliveryState

    wanted = _state(state, DeliveryState)
    with connection.client() as client:
        listed = list(client.deliveries(state=wanted, job_id=job, limit=limit))
    output.finish(
        lines=[("delivery", delivery.model_dump(mode="json")) for delivery in listed],
        result={"deliveries": len(listed)},
        view=lambda: deliveries_view(listed),
    )


@command
def resend(
    output: Output,
    *,
    delivery: Annotated[
        int, typer.Argument(metavar="DELIVERY", help="Number of a delivery, of `deliveries`.")
    ],
    connection: Connection,
) -> None:
    """Send a webhook delivery again, for example one that was given up."""
    with connection.client() as client:
        queued = client.resend(delivery)
    output.finish(
        result={"delivery": queued.model_dump(mode="json")},
        view=lambda: f"delivery {queued.id} of {queued.job} {queued.state}",
    )


Title = Annotated[str, typer.Argument(metavar="TITLE", help="Name of a published title.")]


@command
def versions(output: Output, *, title: Title, connection: Connection) -> None:
    """List the versions of a title, newest first: which is current, and which are still kept."""
    from cluster.cli.views.jobs import versions_view

    with connection.client() as client:
        listed = client.title(title).versions
    output.finish(
        lines=[("version", version.model_dump(mode="json")) for version in listed],
        result={"versions": len(listed)},
        view=lambda: versions_view(listed),
    )


@command
def sign(
    output: Output,
    *,
    title: Title,
    version: int | None = option(
        None, metavar="VERSION", min=1, help="Version to sign. [default: the current one]"
    ),
    hours: float = option(
        24, metavar="HOURS", min=0.01, max=720, help="Hours for which the URLs hold."
    ),
    connection: Connection,
) -> None:
    """Print URLs of a title that play without a token until they expire or it is withdrawn."""
    with connection.client() as client:
        link = client.signed(title, version=version, seconds=round(3600 * hours))
    output.finish(
        result=link.model_dump(mode="json"),
        view=lambda: (
            f"HLS   {link.hls}\nDASH  {link.dash}\n"
            f"{link.title}, version {link.version}, until {link.expires_at:%Y-%m-%d %H:%M} UTC"
        ),
    )


@command
def rollback(
    output: Output,
    *,
    title: Title,
    version: Annotated[
        int, typer.Argument(metavar="VERSION", help="Number of a version that is still kept.")
    ],
    connection: Connection,
) -> None:
    """Make an earlier version of a title current again. The next delivery replaces it as always."""
    with connection.client() as client:
        detail = client.rollback(title, version)
    output.finish(
        result=detail.model_dump(mode="json"),
        view=lambda: f"{detail.title} is at version {detail.version} again",
    )


@command
def withdraw(
    output: Output,
    *,
    title: Title,
    hold: bool = option(
        False, "--hold", help="Refuse jobs for this name until `release`; the name may be unused."
    ),
    yes: bool = option(
        False, "--yes", help="Do not ask; without a terminal to ask on, this is needed."
    ),
    connection: Connection,
) -> None:
    """Take a title down: package, artwork, prefetch, caches and jobs. Its audit log stays."""
    if not yes:
        _confirm(f"Take {title} down, with all of its files and jobs?")
    with connection.client() as client:
        line = client.withdraw(title, hold=hold)
    cancelled = len(line.detail.get("cancelled", ()))
    jobs_too = f", {cancelled} jobs cancelled" if cancelled else ""
    output.finish(
        result=line.model_dump(mode="json"),
        view=lambda: f"{line.title} {line.action} by {line.actor}{jobs_too}",
    )


def _confirm(question: str) -> None:
    """Ask on a terminal whether to go on.

    Raises:
        BadInput: the answer is no, or there is no terminal to ask on.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise BadInput("nobody can be asked here whether this is meant; add --yes if it is")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise BadInput("nothing was done")


@command
def release(output: Output, *, title: Title, connection: Connection) -> None:
    """Let a name that is held after a takedown take jobs again."""
    with connection.client() as client:
        line = client.release(title)
    output.finish(
        result=line.model_dump(mode="json"), view=lambda: f"{line.title} released by {line.actor}"
    )


@command
def holds(output: Output, *, connection: Connection) -> None:
    """List the names that are held: who took their titles down, and when."""
    from cluster.cli.views.jobs import holds_view

    with connection.client() as client:
        listed = client.holds()
    output.finish(
        lines=[("hold", hold.model_dump(mode="json")) for hold in listed],
        result={"holds": len(listed)},
        view=lambda: holds_view(listed),
    )


def _forward(body: dict[str, Any], on_event: Listener) -> None:
    """Report an event of a job as an event of this command."""
    from cluster import events

    kinds = {kind.type: kind for kind in get_args(events.Event)}
    kind = kinds.get(body["type"])
    if kind in (events.StagePlanned, events.StageProgress, events.Round, events.Warned):
        known = {one.name for one in dataclasses.fields(kind)}  # a newer service may tell more
        event: Event = kind(**{name: value for name, value in body.items() if name in known})
        on_event(event)


def _ended_badly(job: Job) -> ShotladderError:
    if job.failure is None:
        return ShotladderError(f"{job.id} was {job.state}; `shotladder retry {job.id}` resumes it")
    kind = BadInput if job.failure.error in ("BadInput", "SourceUnusable") else ShotladderError
    return kind(f"{job.id} failed: {job.failure.message}", **job.failure.context)
