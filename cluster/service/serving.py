"""Assemble the service and run it until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import structlog
import uvicorn
from typing_extensions import override
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from cluster.service.database import Database
from cluster.service.decisions.keeping import Decisions, log_written
from cluster.service.http.access import AccessLog, AccessMiddleware
from cluster.service.http.api import build
from cluster.service.http.auth import TokenFiles
from cluster.service.http.connections import ConnectionLimits, Connections, parse_networks
from cluster.service.http.context import Service
from cluster.service.http.hosts import AllowedHosts, is_address, is_loopback, own_names
from cluster.service.http.mounting import MountMiddleware, parse_mount
from cluster.service.http.origins import CrossOriginMiddleware, check_origins
from cluster.service.http.reading import Reader
from cluster.service.library.library import DAY_SECONDS, Library
from cluster.service.library.links import SIGNED_SECONDS
from cluster.service.library.playable import Playable
from cluster.service.library.similar import SimilarPictures
from cluster.service.metrics import Metrics
from cluster.service.processes import HttpProcesses, shared_metrics
from cluster.service.queue.deliveries import Deliveries
from cluster.service.queue.jobs import Jobs
from cluster.service.queue.leases import Leases
from cluster.service.queue.runner import Runner, RunnerOptions
from cluster.service.queue.table import JobTable
from cluster.service.queue.webhooks import WebhookPolicy, Webhooks
from cluster.service.sites import SitePlans
from cluster.service.sources import SourcePolicy
from cluster.service.web import check_url_prefix
from cluster.service.writable import Writable
from encoder.errors import BadInput, StoreUnusable

log = structlog.stdlib.get_logger(__name__)

REFRESH_SECONDS = 0.25
"""Time within which readers see what another process has published or withdrawn."""
DRAIN_SECONDS = 5
"""Time for open requests to end when the service stops."""
OPEN_FILES = 16_384
BACKLOG = 16_384
"""Limit of connections that wait to be taken, where the system (``somaxconn``) allows so many. A
client beyond it hears nothing and tries again after 1, 3, 7 and 15 seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceOptions(RunnerOptions):
    """Options of a service."""

    data: Path
    """Folder for tables, packages and stores."""
    database: str | None = None
    """URL of a PostgreSQL database for the tables; None for a file in ``data``."""
    roots: tuple[Path, ...] = ()
    """Folders below which sources may lie."""
    source_urls: tuple[str, ...] = ()
    """URL prefixes that sources may have."""
    host: str = "127.0.0.1"
    port: int = 8480
    """TCP port; 0 for any free port."""
    processes: int = 1
    """Processes that answer requests. Above 1, another one runs the jobs."""
    limits: ConnectionLimits = field(default_factory=ConnectionLimits)
    """What connections may cost."""
    allowed_hosts: tuple[str, ...] = ()
    """Names under which the service answers, beside IP addresses and its machine's own name."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses or networks of proxies in front of the service, whose ``X-Forwarded-For`` tells
    who the client is."""
    access_log: str | None = None
    """File in which every request is noted, ``-`` for stdout; None for no such log."""
    tokens: Path | None = None
    """File with tokens that may write; None for ``data/tokens``, which is created if missing."""
    read_tokens: Path | None = None
    """File with tokens that may read; None to let everybody read."""
    grace_seconds: float = 7 * DAY_SECONDS
    """Time for which the files of a replaced version can still be read."""
    public_url: str = ""
    """URL under which clients ask the service, for URLs in answers and webhooks; empty for that of
    each request, and in webhooks for that of the submission."""
    media_url: str = ""
    """Prefix of the URLs of media, for a CDN in front of the service."""
    root_path: str = ""
    """Path below which a proxy has mounted the service; empty for none."""
    cors_origins: tuple[str, ...] = ()
    """Origins whose pages may read; ``*`` for all."""
    signed_seconds: float = SIGNED_SECONDS
    """Least time for which the signed URLs in answers hold, where reading needs a token."""
    webhook_hosts: tuple[str, ...] = ()
    """Hosts that webhooks may have; see :class:`.queue.webhooks.WebhookPolicy`."""
    webhook_private: bool = False
    """True to allow webhooks at private addresses."""
    day_starts_hour: int = 0
    """Hour (UTC) at which a day starts, for which a viewer keeps the same artwork."""
    webhook_secret: Path | None = None
    """File with the secret that signs webhooks."""


SWITCH_SECONDS = 0.0005
"""Time for which a thread that computes may keep the one that answers waiting. In Python it is 5
ms, which every write would wait while a batch is put together."""


class _Server(uvicorn.Server):
    """The HTTP server; it says when it takes connections, and closes those whose time is over."""

    on_started: Callable[[], None]
    on_stopping: Callable[[], None]
    connections: Connections

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.on_started()

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.on_stopping()
        await super().shutdown(sockets)

    @override
    async def on_tick(self, counter: int) -> bool:
        """Do what is due ten times a second."""
        self.connections.expire(asyncio.get_running_loop().time())
        return await super().on_tick(counter)


def serve(options: ServiceOptions, ready: Callable[[str, Path], None]) -> None:
    """Serve until SIGINT or SIGTERM.

    ``ready`` is called with the URL and the file of tokens once requests are answered.

    Raises:
        BadInput: the address is in use, or a file or folder of the options cannot be used.
    """
    _check(options)
    _allow_open_files()
    with _bound(options) as listening, contextlib.ExitStack() as stack:
        database = _database(options)
        stack.callback(database.close)
        token_file = options.tokens or options.data / "tokens"
        if options.read_tokens is None and not is_loopback(options.host):
            log.warning(
                f"everybody who reaches {options.host} can read all titles and jobs; "
                "give --read-tokens FILE to change that"
            )
        table, library = JobTable(database), _library(options, database)
        parts = _parts(options, table, library)
        if options.slots:
            runner = _runner(table, library, options)
            table.on_queued = runner.wake
            runner.start()
            stack.callback(runner.stop)
        webhooks = Webhooks(parts.deliveries, parts.service.webhooks)
        webhooks.start()
        stack.callback(webhooks.stop)
        stack.enter_context(log_written(parts.service.decisions))
        announce = partial(ready, _url(listening), token_file)
        if options.processes == 1:
            _answer(options, parts, listening, announce, stack)
            return
        stack.enter_context(_refreshing(library, parts.files))
        stack.enter_context(shared_metrics())
        processes = HttpProcesses(options.processes, answer_requests, options, listening)
        stack.callback(processes.stop)
        with _signals_caught() as stopped:
            processes.start()
            announce()
            stopped.wait()


def answer_requests(
    options: ServiceOptions, listening: socket.socket, started: Callable[[], None]
) -> None:
    """Answer requests in one of several processes, until SIGTERM."""
    _allow_open_files()
    with contextlib.ExitStack() as stack:
        database = _database(options)
        stack.callback(database.close)
        library = _library(options, database, watched=True)
        stack.callback(library.close)
        parts = _parts(options, JobTable(database), library)
        _answer(options, parts, listening, started, stack)


@dataclass(frozen=True, slots=True)
class _Parts:
    service: Service
    files: TokenFiles
    deliveries: Deliveries


def _parts(options: ServiceOptions, table: JobTable, library: Library) -> _Parts:
    """Put the parts of a service together."""
    database, jobs = table.database, Jobs(table, library)
    playable = Playable(library, options.public_url)
    deliveries = Deliveries(database, urls=playable.of_job)
    token_file = options.tokens or options.data / "tokens"
    files = TokenFiles(token_file, options.read_tokens, create=options.tokens is None)
    service = Service(
        jobs=jobs,
        library=library,
        tokens=files.tokens,
        reader=Reader(library, files.tokens),
        metrics=Metrics(jobs, library, deliveries),
        deliveries=deliveries,
        webhooks=_webhook_policy(options),
        sources=SourcePolicy(options.roots, options.source_urls),
        writable=Writable(database, options.data),
        playable=playable,
        decisions=Decisions(library, options.data, day_starts_hour=options.day_starts_hour),
        sites=SitePlans(library, options.data),
        similar=SimilarPictures(library),
    )
    return _Parts(service, files, deliveries)


def _answer(
    options: ServiceOptions,
    parts: _Parts,
    listening: socket.socket,
    started: Callable[[], None],
    stack: contextlib.ExitStack,
) -> None:
    """Answer requests until SIGINT or SIGTERM; what is opened for that is closed by ``stack``."""
    max_connections = min(options.limits.connections, _allow_open_files() // 2)
    access = AccessLog(options.access_log) if options.access_log is not None else None
    connections = -(-max_connections // options.processes)
    server = _server(parts.service, options, connections, access)
    if access is not None:
        access.start()
        stack.callback(access.stop)
    stack.enter_context(_refreshing(parts.service.library, parts.files))
    server.on_started = started
    sys.setswitchinterval(SWITCH_SECONDS)
    gc.collect()
    gc.freeze()  # what is here now stays; looking through it again would hold up answers
    with _signals_caught():
        server.run(sockets=[listening])


def _server(
    service: Service, options: ServiceOptions, max_connections: int, access: AccessLog | None
) -> _Server:
    proxies = parse_networks(options.trusted_proxies)
    limits = replace(options.limits, connections=max_connections)
    peer_requests = limits.peer_connections if proxies else None
    public = urlsplit(options.public_url).hostname
    named = (public,) if public and not is_address(public) else ()
    hosts = AllowedHosts((*own_names(options.host), *options.allowed_hosts, *named))
    app, front = build(service, hosts=hosts, peer_requests=peer_requests)
    connections = Connections(
        limits, proxies, lambda status: service.metrics.observe("refused", status, 0.0)
    )
    application: Any = front
    if options.cors_origins:
        application = CrossOriginMiddleware(application, check_origins(options.cors_origins))
    if access is not None:
        application = AccessMiddleware(application, access, service.tokens)
    if proxies:
        trusted = [str(network) for network in proxies]
        application = ProxyHeadersMiddleware(application, trusted_hosts=trusted)
    application = MountMiddleware(application, parse_mount(options.root_path), connections.is_proxy)
    server = _Server(
        uvicorn.Config(
            application,
            loop="uvloop",
            http=connections.protocol,  # type: ignore[arg-type] # only called, with these arguments
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,  # put between, since the mount is told by the proxy's own address
            timeout_keep_alive=limits.idle_seconds,
            timeout_graceful_shutdown=DRAIN_SECONDS,
            backlog=BACKLOG,
        )
    )
    server.connections = connections
    server.on_stopping = app.state.followers.close
    return server


def work(options: ServiceOptions, ready: Callable[[str], None]) -> None:
    """Run jobs of a service's folder in this process, without HTTP, until interrupted.

    ``ready`` is called with the runner's name once jobs are accepted.

    Raises:
        BadInput: a file or folder of the options cannot be used.
    """
    _check(options)
    database = _database(options)
    runner = _runner(JobTable(database), _library(options, database), options)
    runner.start()
    try:
        ready(runner.name)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
    finally:
        runner.stop()
        database.close()


def _database(options: ServiceOptions) -> Database:
    return Database(options.data / "service.db" if options.database is None else options.database)


def _library(options: ServiceOptions, database: Database, *, watched: bool = False) -> Library:
    return Library(
        database,
        options.data,
        media_url=options.media_url,
        signed=options.read_tokens is not None,
        signed_seconds=options.signed_seconds,
        grace_seconds=options.grace_seconds,
        watched=watched,
    )


def _runner(table: JobTable, library: Library, options: ServiceOptions) -> Runner:
    return Runner(Jobs(table, library), Leases(table), library, options)


def _webhook_policy(options: ServiceOptions) -> WebhookPolicy:
    secret = b""
    if options.webhook_secret is not None:
        try:
            secret = options.webhook_secret.read_bytes().strip()
        except OSError as error:
            raise BadInput(
                f"{options.webhook_secret} cannot be read ({error.strerror}); give a file with the "
                "secret that the receivers know"
            ) from error
        if len(secret) < 16:
            raise BadInput(f"{options.webhook_secret} has fewer than 16 bytes; use a longer secret")
    elif options.webhook_hosts:
        raise BadInput("--webhook-host needs a secret to sign with; give --webhook-secret FILE too")
    return WebhookPolicy(options.webhook_hosts, options.webhook_private, secret)


def _check(options: ServiceOptions) -> None:
    for root in options.roots:
        if not root.is_dir():
            raise BadInput(f"--sources {root} is not a folder; give the folder of the sources")
    for url in options.source_urls:
        check_url_prefix(url)
    _check_public_url(options.public_url)
    parse_networks(options.trusted_proxies)
    AllowedHosts(options.allowed_hosts)
    parse_mount(options.root_path)
    check_origins(options.cors_origins)
    if options.weights is not None and not options.weights.is_file():
        raise BadInput(f"no weights at {options.weights}; `shotladder train` makes them")
    if options.embedding is not None or options.nudity:
        from recommender.artwork.vision import sight_of  # loads OpenCV, and is rarely asked

        sight_of(options.embedding, options.nudity)
    try:
        options.data.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(
            f"--data {options.data} cannot be created ({error.strerror}); give another folder"
        ) from error


def _check_public_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if url and (not usable or any(sign in url for sign in "?#@ ")):
        raise BadInput(
            f"--public-url {url} is not the URL of a service; give it as "
            "https://ladders.example.com or https://example.com/ladders"
        )


def _allow_open_files() -> int:
    """Raise the limit of open files, for connections and open bundles; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
        soft = limit
    return OPEN_FILES if soft == resource.RLIM_INFINITY else soft


@contextlib.contextmanager
def _signals_caught() -> Iterator[threading.Event]:
    """Note SIGINT and SIGTERM, since uvicorn stops at a signal and then raises it again.

    That would end the process before the callers have stopped the runner and the webhooks.
    """
    signals, stopped = (signal.SIGINT, signal.SIGTERM), threading.Event()
    handlers = {number: signal.signal(number, lambda *_: stopped.set()) for number in signals}
    try:
        yield stopped
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _bound(options: ServiceOptions) -> Iterator[socket.socket]:
    """Open the listening socket.

    It listens at once, since several sockets can be bound to one port as long as none listens.
    """
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    with socket.socket(family) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((options.host, options.port))
            listening.listen(BACKLOG)
        except (OSError, OverflowError) as error:
            raise BadInput(
                f"cannot listen at {options.host}:{options.port} ({error}); give another --port"
            ) from error
        yield listening


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


@contextlib.contextmanager
def _refreshing(library: Library, files: TokenFiles) -> Iterator[None]:
    """Keep the library in step with what other processes publish and withdraw, and the tokens with
    their files."""
    stopping = threading.Event()

    def loop() -> None:
        while not stopping.wait(REFRESH_SECONDS):
            with contextlib.suppress(Exception):  # the tables are busy: try again next time
                library.refresh()
            files.refresh()
            with contextlib.suppress(StoreUnusable):  # said to whoever needs a signature
                library.links.keys.refresh()

    thread = threading.Thread(target=loop, name="refresh", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()
