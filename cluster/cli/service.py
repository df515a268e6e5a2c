"""``serve`` and ``runner``, and the commands that talk to a service over HTTP."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster.cli.options import FaceModel, Heights, Json, Scheduler, ToneMap, Workers, heights_in
from cluster.cli.output import announced, finish, say, show
from encoder.errors import BadInput, ShotladderError

if TYPE_CHECKING:
    from cluster.events import Event, Listener
    from cluster.service.client import Client
    from cluster.service.documents import Job
    from cluster.service.serving import ServiceOptions

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        envvar="SHOTLADDER_URL",
        help="Where the service is. [default: http://127.0.0.1:8480]",
        show_default=False,
    ),
]
TokenText = Annotated[
    str | None,
    typer.Option(
        "--token",
        metavar="TOKEN",
        envvar="SHOTLADDER_TOKEN",
        help="Who asks; better given by the environment, where other users do not see it.",
        show_default=False,
    ),
]
JobName = Annotated[str, typer.Argument(metavar="JOB", help="Id of a job.")]
Data = Annotated[
    Path, typer.Option("--data", metavar="DIR", help="Where the service keeps everything.")
]
Sources = Annotated[
    list[Path] | None,
    typer.Option(
        "--sources",
        metavar="DIR",
        help="Folder that sources may lie in; nothing else is read. May be repeated.",
        show_default=False,
    ),
]
SourceUrls = Annotated[
    list[str] | None,
    typer.Option(
        "--source-url",
        metavar="URL",
        help="Folder of a web server that sources may lie in, as `https://media.example/masters/`. "
        "May be repeated.",
        show_default=False,
    ),
]
Slots = Annotated[int, typer.Option("--jobs", metavar="N", min=0, max=64, help="Jobs at once.")]
Grace = Annotated[
    float,
    typer.Option(
        metavar="HOURS",
        min=0,
        help="For how long the files of a version that was replaced can still be read.",
    ),
]
MediaUrl = Annotated[
    str,
    typer.Option(
        metavar="URL", help="Where media are read from, if not here: a CDN before this service."
    ),
]
DATA = Path("shotladder-service")


def serve(
    data: Data = DATA,
    sources: Sources = None,
    source_url: SourceUrls = None,
    host: Annotated[str, typer.Option(metavar="HOST", help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="PORT", min=0, max=65535, help="0 takes one that is free.")
    ] = 8480,
    tokens: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Lines NAME TOKEN: who may submit and withdraw. [default: DIR/tokens, made with "
            "one token where it is missing]",
            show_default=False,
        ),
    ] = None,
    read_tokens: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Lines NAME TOKEN: who may read. Everybody may unless it is given.",
            show_default=False,
        ),
    ] = None,
    jobs: Slots = 1,
    workers: Workers = None,
    scheduler: Scheduler = None,
    face_model: FaceModel = None,
    grace: Grace = 168,
    media_url: MediaUrl = "",
    webhook_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST",
            help="Host that jobs may name as a webhook; `*.example.com` is any below. May be "
            "repeated.",
            show_default=False,
        ),
    ] = None,
    webhook_secret: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Secret that webhooks are signed with.", show_default=False
        ),
    ] = None,
    webhook_private: Annotated[
        bool, typer.Option("--webhook-private", help="Webhooks may go to private addresses.")
    ] = False,
) -> None:
    """Run the HTTP service: take jobs, run them, publish what they make, answer reads.

    Prints where it is when it takes requests; its log is JSON on stderr. Stop it however you
    like: jobs that run go on when it is started again with the same DIR.
    """
    from cluster.service.logs import log_as_json
    from cluster.service.serving import ServiceOptions
    from cluster.service.serving import serve as run_service

    log_as_json()
    run_service(
        ServiceOptions(
            data=data.absolute(),
            roots=tuple(root.absolute() for root in sources or ()),
            source_urls=tuple(source_url or ()),
            host=host,
            port=port,
            tokens=tokens,
            read_tokens=read_tokens,
            slots=jobs,
            workers=workers,
            scheduler=scheduler,
            face_model=face_model,
            grace_seconds=3600 * grace,
            media_url=media_url,
            webhook_hosts=tuple(webhook_host or ()),
            webhook_private=webhook_private,
            webhook_secret=webhook_secret,
        ),
        _announce,
    )


def runner(
    data: Data = DATA,
    jobs: Slots = 1,
    workers: Workers = None,
    scheduler: Scheduler = None,
    face_model: FaceModel = None,
    grace: Grace = 168,
    media_url: MediaUrl = "",
) -> None:
    """Run jobs of a service on this machine, beside it: `serve --jobs 0` leaves them to this.

    Takes the same DIR; `--grace` and `--media-url` must be the service's.
    """
    from cluster.service.logs import log_as_json
    from cluster.service.serving import ServiceOptions, work

    if jobs < 1:
        raise BadInput("a runner runs 1 job at once or more; give --jobs N")
    log_as_json()
    options: ServiceOptions = ServiceOptions(
        data=data.absolute(),
        slots=jobs,
        workers=workers,
        scheduler=scheduler,
        face_model=face_model,
        grace_seconds=3600 * grace,
        media_url=media_url,
    )
    work(options, lambda name: print(f"runner {name} takes jobs of {data}", flush=True))


def submit(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A video file that the service sees under the same path, or a `file:///` URI or "
            "URL that it reads.",
        ),
    ],
    external_id: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The title's name in your catalogue, by which it is read. [default: one derived "
            "from the source's path]",
            show_default=False,
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Until the job has ended, showing how far it is.")
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only estimate what it would cost, and wait for that.")
    ] = False,
    priority: Annotated[
        int, typer.Option(metavar="N", min=-100, max=100, help="Higher goes first.")
    ] = 0,
    deadline: Annotated[
        datetime | None,
        typer.Option(
            metavar="TIME",
            help="When it should be done, UTC, as 2027-01-31T20:00:00: earlier goes first.",
            show_default=False,
        ),
    ] = None,
    webhook: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Told when the job has ended.", show_default=False),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="Names this submission: again with the same key it gives the same job.",
            show_default=False,
        ),
    ] = None,
    profile: Annotated[
        str, typer.Option(metavar="NAME", help="Numbers behind the ladder.")
    ] = "default",
    codec: Annotated[str, typer.Option(metavar="NAME", help="Of the encodes.")] = "x264",
    preset: Annotated[str, typer.Option(metavar="NAME", help="Of the encoder.")] = "medium",
    search: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="How points are found, as for `run`.", show_default=False
        ),
    ] = None,
    heights: Heights = None,
    also: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="Measure with this model too. May be repeated.",
            show_default=False,
        ),
    ] = None,
    tone_map: ToneMap = False,
    url: Url = None,
    token: TokenText = None,
    json: Json = False,
) -> None:
    """Submit a title to a service; prints the job's id.

    With `--wait` the exit status is 0 only if the job succeeded.
    """
    from cluster.service.client import invalid
    from cluster.service.documents import JobOptions

    on_event = announced(context.obj, "submit", source)
    asked = {
        "profile": profile,
        "codec": codec,
        "preset": preset,
        "search": search,
        "heights": heights_in(heights),
        "also": also or [],
        "tone_map": tone_map,
    }
    try:
        options = JobOptions.model_validate(asked)
    except ValueError as error:
        raise invalid(error) from error  # type: ignore[arg-type] # pydantic's own
    with _client(url, token) as client:
        job: Job = client.submit(
            source if "://" in source else os.path.abspath(source),  # noqa: PTH100 - no links
            external_id=external_id,
            options=options,
            kind="plan" if plan else "run",
            priority=priority,
            deadline=None if deadline is None else deadline.replace(tzinfo=UTC),
            webhook=webhook,
            idempotency_key=key,
        )
        if wait or plan:
            say(f"{job.id} is {job.state}")
            job = client.wait(job.id, on_event=lambda body: _draw(body, on_event))
            if job.state != "succeeded":
                raise _ended_badly(job)

    def view() -> None:
        if plan and job.result is not None:
            from cluster.cli.views import ladder as views

            show(views.plan_view(job.result.plan or {}))
        else:
            print(job.id)
            if job.state == "succeeded":
                say(f"{job.title} can be read: {client.url}/v1/titles/{job.title}")

    finish(on_event, as_json=json, result={"job": job.model_dump(mode="json")}, view=view)


def jobs(
    context: typer.Context,
    state: Annotated[
        str | None,
        typer.Option(
            metavar="STATE",
            help="Only those `queued`, `running`, `succeeded`, `failed` or `cancelled`.",
            show_default=False,
        ),
    ] = None,
    external_id: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Only those of this title.", show_default=False),
    ] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="So many of the newest.")] = 50,
    url: Url = None,
    token: TokenText = None,
    json: Json = False,
) -> None:
    """List the jobs of a service, newest first."""
    from cluster.cli.views import ladder as views

    with _client(url, token) as client:
        found = list(client.jobs(state=_state(state), external_id=external_id, limit=limit))
    finish(
        context.obj,
        as_json=json,
        lines=[("job", job.model_dump(mode="json")) for job in found],
        result={"jobs": len(found)},
        view=lambda: show(views.jobs_view(found)),
    )


def status(
    context: typer.Context,
    job: JobName,
    url: Url = None,
    token: TokenText = None,
    json: Json = False,
) -> None:
    """Show a job: its state, how far it is, what it came to."""
    from cluster.cli.views import ladder as views

    with _client(url, token) as client:
        found = client.job(job)
    finish(
        context.obj,
        as_json=json,
        result={"job": found.model_dump(mode="json")},
        view=lambda: show(views.job_view(found)),
    )


def cancel(
    context: typer.Context,
    job: JobName,
    url: Url = None,
    token: TokenText = None,
    json: Json = False,
) -> None:
    """Cancel a job. What it has finished is kept, for `retry` or another job."""
    with _client(url, token) as client:
        found = client.cancel(job)
        if found.state == "running":
            with contextlib.suppress(TimeoutError):
                found = client.wait(job, timeout_seconds=20)
    finish(
        context.obj,
        as_json=json,
        result={"job": found.model_dump(mode="json")},
        view=lambda: print(f"{found.id} {found.state}"),
    )


def retry(
    context: typer.Context,
    job: JobName,
    url: Url = None,
    token: TokenText = None,
    json: Json = False,
) -> None:
    """Queue a job that failed or was cancelled again; it goes on from what it had finished."""
    with _client(url, token) as client:
        found = client.retry(job)
    finish(
        context.obj,
        as_json=json,
        result={"job": found.model_dump(mode="json")},
        view=lambda: print(f"{found.id} {found.state}"),
    )


def withdraw(
    context: typer.Context,
    title: Annotated[str, typer.Argument(metavar="TITLE", help="Name of a published title.")],
    url: Url = None,
    token: TokenText = None,
    json: Json = False,
) -> None:
    """Take a title down: package, artwork, prefetch and caches. An audit line stays."""
    with _client(url, token) as client:
        line = client.withdraw(title)
    finish(
        context.obj,
        as_json=json,
        result=line.model_dump(mode="json"),
        view=lambda: print(f"{line.title} withdrawn by {line.actor}"),
    )


def _announce(url: str, tokens: Path) -> None:
    print(url, flush=True)
    say(f"tokens are in {tokens}; {url}/openapi.json describes the API")


@contextlib.contextmanager
def _client(url: str | None, token: str | None) -> Iterator[Client]:
    from cluster.service.client import Client

    with Client(url, token) as client:
        yield client


def _state(text: str | None) -> Any:
    from typing import get_args

    from cluster.service.documents import State

    if text is not None and text not in get_args(State):
        raise BadInput(f"no state {text!r}; choose one of {', '.join(get_args(State))}")
    return text


def _draw(body: dict[str, Any], on_event: Listener) -> None:
    """What a job reports, as this command's own."""
    from typing import get_args

    from cluster import events

    kinds = {kind.type: kind for kind in get_args(events.Event)}
    kind = kinds.get(body["type"])
    if kind in (events.StagePlanned, events.StageProgress, events.Round, events.Warned):
        event: Event = kind(**{name: value for name, value in body.items() if name != "type"})
        on_event(event)


def _ended_badly(job: Job) -> ShotladderError:
    if job.failure is None:
        return ShotladderError(f"{job.id} was {job.state}; `shotladder retry {job.id}` goes on")
    kind = BadInput if job.failure.error in ("BadInput", "SourceUnusable") else ShotladderError
    return kind(f"{job.id} failed: {job.failure.message}", **job.failure.context)


COMMANDS = (serve, runner, submit, jobs, status, cancel, retry, withdraw)
