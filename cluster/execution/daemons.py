"""The commands `shotladder scheduler` and `shotladder worker`, for clusters of several machines.

Any Dask cluster will do; these have shotladder's settings (see :mod:`cluster.execution.executor`).
A worker outlives its scheduler: it looks for another at the same address until it is told to end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import tempfile
from collections.abc import Callable
from typing import Any

from cluster.execution.executor import settings, usable_cores
from cluster.execution.fingerprint import own_fingerprint
from cluster.execution.security import Certificates, SharedScheduler
from encoder.errors import BadInput

LOOK_SECONDS = 1.0
"""Interval at which a worker looks for a scheduler."""

Tell = Callable[[str], None]


def serve_scheduler(
    host: str,
    port: int,
    dashboard: str | None,
    worker_ttl: float,
    tell: Tell,
    certificates: Certificates | None = None,
) -> None:
    """Run a scheduler at an address until SIGINT or SIGTERM.

    Args:
        host: address of this machine to listen on.
        port: its port.
        dashboard: ``host:port`` for Dask's dashboard and Prometheus metrics; None for neither.
        worker_ttl: seconds after which a silent worker counts as dead.
        tell: called with what the user should know.
        certificates: those by which it is known, and by which it knows workers and runs.

    Raises:
        BadInput: the address cannot be listened on.
    """
    with settings(worker_ttl=worker_ttl), _quiet():
        asyncio.run(_scheduler(host, port, dashboard, tell, certificates))


def serve_workers(
    scheduler: SharedScheduler,
    cores: int | None,
    scratch: str | None,
    host: str | None,
    tell: Tell,
) -> None:
    """Run workers until SIGINT or SIGTERM, through any number of schedulers at the address.

    Args:
        scheduler: the scheduler, with the certificates that it asks for.
        cores: number of encodes at once, each in its own process; by default one for each core.
        scratch: folder for Dask's own files; by default a temporary one.
        host: address of this machine that others can reach, for machines with several addresses.
        tell: called with what the user should know.

    Raises:
        BadInput: ``cores`` is not positive, or the scheduler's address is malformed.
        ToolFailed: there is no ffmpeg.
    """
    cores = cores or usable_cores()
    if cores < 1:
        raise BadInput(f"asked for {cores} cores; 1 or more can work")
    scheduler.check()
    with settings(), _quiet(), tempfile.TemporaryDirectory(prefix="shotladder-worker-") as folder:
        asyncio.run(_workers(scheduler, cores, scratch or folder, host, tell))


async def _scheduler(
    host: str, port: int, dashboard: str | None, tell: Tell, certificates: Certificates | None
) -> None:
    from distributed import Scheduler

    kind: Any = Scheduler
    ended = _signalled()
    protected = {}
    if certificates is not None:
        protected = {"protocol": "tls://", "security": certificates.security()}
    try:
        scheduler = await kind(
            **protected,
            host=host,
            port=port,
            dashboard=dashboard is not None,
            dashboard_address=dashboard or "127.0.0.1:0",
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise BadInput(
            f"cannot listen on {host}:{port} ({error.__cause__ or error}); "
            "name another --host or --port"
        ) from error
    async with scheduler:
        if certificates is None:
            tell(
                f"whoever reaches {host} can run programs here and on the workers; --tls-ca, "
                "--tls-cert and --tls-key prevent that"
            )
        tell(f"scheduler at {scheduler.address}")
        if dashboard is not None:
            tell(f"dashboard at http://{dashboard}/status")
        await ended.wait()


async def _workers(
    scheduler: SharedScheduler, cores: int, scratch: str, host: str | None, tell: Tell
) -> None:
    ended = _signalled()
    ticket = own_fingerprint().ticket
    tell(f"{cores} workers for {scheduler}, ticket {ticket}")
    keepers = [
        asyncio.create_task(
            _keep(scheduler, host, ticket, scratch, tell if number == 0 else lambda message: None)
        )
        for number in range(cores)
    ]
    await ended.wait()
    for keeper in keepers:
        keeper.cancel()
    await asyncio.gather(*keepers, return_exceptions=True)


async def _keep(
    scheduler: SharedScheduler, host: str | None, ticket: str, scratch: str, tell: Tell
) -> None:
    """Run one worker process after another, each for as long as its scheduler lives."""
    from distributed import Nanny

    kind: Any = Nanny
    security = scheduler.security()
    answered = True
    while True:
        if not await _answers(scheduler.address, security):
            if answered:
                tell(
                    f"no scheduler answers at {scheduler}{scheduler.hint}; looking again every "
                    "second"
                )
            answered = False
            await asyncio.sleep(LOOK_SECONDS)
            continue
        if not answered:
            tell(f"found the scheduler at {scheduler}")
        answered = True
        nanny = kind(
            scheduler.address,
            security=security,
            host=host,
            nthreads=1,
            resources={ticket: 1},
            # Dask sees only Python's memory, and the work is in ffmpeg's.
            memory_limit=0,
            local_directory=scratch,
            preload=["cluster.execution.executor"],
            silence_logs=logging.CRITICAL,
            dashboard=False,
        )
        with contextlib.suppress(OSError, RuntimeError, TimeoutError):
            try:
                await nanny
                await nanny.finished()
            finally:
                with contextlib.suppress(OSError, TimeoutError):
                    await nanny.close(timeout=2)
        await asyncio.sleep(LOOK_SECONDS)


async def _answers(address: str, security: Any) -> bool:
    from distributed.comm.core import connect as opened
    from distributed.security import Security

    connect: Any = opened
    kind: Any = Security
    arguments = (security or kind()).get_connection_args("worker")
    try:
        comm = await connect(address, timeout=2, **arguments)
    except (OSError, ValueError):
        return False
    await comm.close()
    return True


def _signalled() -> asyncio.Event:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    return ended


def _quiet() -> Any:
    from distributed.utils import silence_logging_cmgr

    return silence_logging_cmgr(logging.CRITICAL)
