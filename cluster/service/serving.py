"""The service, put together and running until it is told to stop."""

from __future__ import annotations

import contextlib
import resource
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cluster.service.database import Database
from cluster.service.http.api import build
from cluster.service.http.auth import Tokens, own_tokens, read_tokens
from cluster.service.http.context import Service
from cluster.service.http.reading import Reader
from cluster.service.library.library import DAY, Library
from cluster.service.metrics import Metrics
from cluster.service.queue.jobs import Jobs
from cluster.service.queue.runner import Runner, RunnerOptions
from cluster.service.queue.webhooks import WebhookPolicy, Webhooks
from cluster.service.queue.work import Perform, perform
from cluster.service.sources import Allowed
from cluster.service.web import check_beginning
from encoder.errors import BadInput

REFRESH_SECONDS = 0.25
"""After which readers see what another process has published or withdrawn."""
DRAIN_SECONDS = 5
OPEN_FILES = 16_384
CONNECTIONS = 4_000


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """How a service runs."""

    data: Path
    """Folder of the service: tables, packages, stores."""
    roots: tuple[Path, ...] = ()
    """Folders that sources may lie in."""
    source_urls: tuple[str, ...] = ()
    """Beginnings of URLs that sources may have."""
    host: str = "127.0.0.1"
    port: int = 8480
    """0: any that is free."""
    tokens: Path | None = None
    """File with tokens of those who may write; one is made in ``data`` where there is none."""
    read_tokens: Path | None = None
    """File with tokens of those who may read; everybody may where there is none."""
    slots: int = 1
    """Jobs at once; 0: another process runs them."""
    workers: int | None = None
    scheduler: str | None = None
    face_model: Path | None = None
    """YuNet model (ONNX) that finds faces in artwork."""
    grace_seconds: float = 7 * DAY
    """For how long the files of a version that was replaced can still be read."""
    media_url: str = ""
    """Where packages are read from, if not from this service: a CDN before it."""
    webhook_hosts: tuple[str, ...] = ()
    webhook_private: bool = False
    webhook_secret: Path | None = None
    performing: Perform = perform


def serve(options: ServiceOptions, ready: Callable[[str, Path], None]) -> None:
    """Serve until a signal says otherwise.

    Args:
        options: how.
        ready: told the URL and the file with tokens when requests are taken.

    Raises:
        BadInput: the address is taken, a file with tokens, a folder or the model for faces is not
            there.
    """
    import uvicorn

    _check(options)
    _allow_open_files()
    with _bound(options) as listening, contextlib.ExitStack() as stack:
        database = Database(options.data / "service.db")
        stack.callback(database.close)
        token_file = options.tokens or options.data / "tokens"
        jobs = Jobs(database)
        library = _library(options, database)
        tokens = Tokens(
            read_tokens(token_file) if options.tokens else own_tokens(token_file),
            read_tokens(options.read_tokens) if options.read_tokens else (),
        )
        service = Service(
            jobs=jobs,
            library=library,
            tokens=tokens,
            reader=Reader(library, tokens),
            metrics=Metrics(jobs, library),
            webhooks=_policy(options),
            sources=Allowed(options.roots, options.source_urls),
        )
        _, front = build(service)
        server = uvicorn.Server(
            uvicorn.Config(
                front,
                loop="uvloop",
                http="httptools",
                lifespan="off",
                access_log=False,
                log_config=None,
                server_header=False,
                timeout_keep_alive=30,
                timeout_graceful_shutdown=DRAIN_SECONDS,
                limit_concurrency=CONNECTIONS,
                backlog=2048,
            )
        )
        if options.slots:
            runner = Runner(jobs, library, _runner_options(options))
            jobs.on_queued = runner.wake
            runner.start()
            stack.callback(runner.stop)
        webhooks = Webhooks(database, service.webhooks)
        webhooks.start()
        stack.callback(webhooks.stop)
        stack.enter_context(_refreshing(library))
        host, port = listening.getsockname()[:2]
        ready(f"http://{f'[{host}]' if ':' in host else host}:{port}", token_file)
        with _asked_to_stop():
            server.run(sockets=[listening])


def work(options: ServiceOptions, ready: Callable[[str], None]) -> None:
    """Run jobs of a service's folder in this process, without HTTP, until interrupted.

    Raises:
        BadInput: the folder is not there, or the model for faces cannot be used.
    """
    _check(options)
    database = Database(options.data / "service.db")
    runner = Runner(Jobs(database), _library(options, database), _runner_options(options))
    runner.start()
    try:
        ready(runner.owner)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
    finally:
        runner.stop()
        database.close()


def _library(options: ServiceOptions, database: Database) -> Library:
    return Library(
        database,
        options.data,
        media_url=options.media_url,
        grace_seconds=options.grace_seconds,
    )


def _runner_options(options: ServiceOptions) -> RunnerOptions:
    return RunnerOptions(
        slots=options.slots,
        workers=options.workers,
        scheduler=options.scheduler,
        face_model=options.face_model,
        performing=options.performing,
    )


def _policy(options: ServiceOptions) -> WebhookPolicy:
    secret = b""
    if options.webhook_secret is not None:
        try:
            secret = options.webhook_secret.read_bytes().strip()
        except OSError as error:
            raise BadInput(
                f"{options.webhook_secret} cannot be read ({error.strerror}); give a file with the "
                "secret that receivers share"
            ) from error
        if len(secret) < 16:
            raise BadInput(f"{options.webhook_secret} holds less than 16 bytes; give a longer one")
    elif options.webhook_hosts:
        raise BadInput("webhooks are signed: give --webhook-secret FILE beside --webhook-host")
    return WebhookPolicy(options.webhook_hosts, options.webhook_private, secret)


def _check(options: ServiceOptions) -> None:
    for root in options.roots:
        if not root.is_dir():
            raise BadInput(f"--sources {root} is no folder; name a folder that holds sources")
    for url in options.source_urls:
        check_beginning(url)
    if options.face_model is not None:
        from cluster.stages.artwork import check_face_model  # takes long, and few need it

        check_face_model(options.face_model)
    try:
        options.data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(
            f"--data {options.data} cannot be made ({error.strerror}); name a folder that can"
        ) from error


def _allow_open_files() -> None:
    """As many as this process may have: connections, and the bundles that are kept open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextlib.contextmanager
def _asked_to_stop() -> Iterator[None]:
    """uvicorn stops at a signal and then raises it again, for whom it may concern: nobody, as
    what is left to do is in the callers of this.
    """
    ours = (signal.SIGINT, signal.SIGTERM)
    before = {one: signal.signal(one, lambda number, frame: None) for one in ours}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@contextlib.contextmanager
def _bound(options: ServiceOptions) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    with socket.socket(family) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((options.host, options.port))
        except (OSError, OverflowError) as error:
            raise BadInput(
                f"cannot listen at {options.host}:{options.port} ({error}); name another --port"
            ) from error
        yield listening


@contextlib.contextmanager
def _refreshing(library: Library) -> Iterator[None]:
    """Readers see what other processes do."""
    stopping = threading.Event()

    def loop() -> None:
        while not stopping.wait(REFRESH_SECONDS):
            with contextlib.suppress(Exception):  # the table is busy: next time
                library.refresh()

    thread = threading.Thread(target=loop, name="refresh", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
