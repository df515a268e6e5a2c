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
from dataclasses import dataclass
from typing import Any

from cluster.execution.executor import WORKER_TTL_SECONDS, settings, usable_cores
from cluster.execution.fingerprint import own_fingerprint
from encoder.errors import BadInput

LOOK_SECONDS = 1.0
"""Interval at which a worker looks for a scheduler."""

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class SchedulerOptions:
    """Options of `shotladder scheduler`."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 8786
    """Port to listen on."""
    dashboard: str | None = None
    """``host:port`` for Dask's dashboard and its Prometheus metrics; None for neither."""
    worker_ttl: float = WORKER_TTL_SECONDS
    """Seconds after which a silent worker counts as dead."""


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """Options of `shotladder worker`."""

    scheduler: str
    """Address of the scheduler, ``tcp://host:port``."""
    cores: int | None = None
    """Number of encodes at once, each in its own process; by default one for each core."""
    scratch: str | None = None
    """Folder for Dask's own files; by default a temporary one."""
    host: str | None = None
    """Address of this machine that others can reach, for machines with several addresses."""


def serve_scheduler(options: SchedulerOptions, tell: Tell) -> None:
    """Run a scheduler until SIGINT or SIGTERM.

    Raises:
        BadInput: the address cannot be listened on.
    """
    with settings(worker_ttl=options.worker_ttl), _quiet():
        asyncio.run(_scheduler(options, tell))


def serve_workers(options: WorkerOptions, tell: Tell) -> None:
    """Run workers until SIGINT or SIGTERM, through any number of schedulers at the address.

    Raises:
        BadInput: ``cores`` is not positive, or the scheduler's address is malformed.
        ToolFailed: there is no ffmpeg.
    """
    cores = options.cores or usable_cores()
    if cores < 1:
        raise BadInput(f"asked for {cores} cores; 1 or more can work")
    if not options.scheduler.startswith(("tcp://", "tls://")):
        raise BadInput(f"a scheduler's address looks like tcp://host:8786, got {options.scheduler}")
    ticket = own_fingerprint().ticket
    with tempfile.TemporaryDirectory(prefix="shotladder-worker-") as scratch:
        place = options.scratch or scratch
        with settings(), _quiet():
            asyncio.run(_workers(options, cores, ticket, place, tell))


async def _scheduler(options: SchedulerOptions, tell: Tell) -> None:
    from distributed import Scheduler

    kind: Any = Scheduler
    ended = _signalled()
    try:
        scheduler = await kind(
            host=options.host,
            port=options.port,
            dashboard=options.dashboard is not None,
            dashboard_address=options.dashboard or "127.0.0.1:0",
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise BadInput(
            f"cannot listen on {options.host}:{options.port} ({error.__cause__ or error}); "
            "name another --host or --port"
        ) from error
    async with scheduler:
        tell(f"scheduler at {scheduler.address}")
        if options.dashboard is not None:
            tell(f"dashboard at http://{options.dashboard}/status")
        await ended.wait()


async def _workers(
    options: WorkerOptions, cores: int, ticket: str, scratch: str, tell: Tell
) -> None:
    ended = _signalled()
    tell(f"{cores} workers for {options.scheduler}, ticket {ticket}")
    keepers = [
        asyncio.create_task(_keep(options, ticket, scratch, tell if number == 0 else _silent))
        for number in range(cores)
    ]
    await ended.wait()
    for keeper in keepers:
        keeper.cancel()
    await asyncio.gather(*keepers, return_exceptions=True)


async def _keep(options: WorkerOptions, ticket: str, scratch: str, tell: Tell) -> None:
    """Run one worker process after another, each for as long as its scheduler lives."""
    from distributed import Nanny

    kind: Any = Nanny
    answered = True
    while True:
        if not await _answers(options.scheduler):
            if answered:
                tell(f"no scheduler answers at {options.scheduler}; looking again every second")
            answered = False
            await asyncio.sleep(LOOK_SECONDS)
            continue
        if not answered:
            tell(f"found the scheduler at {options.scheduler}")
        answered = True
        nanny = kind(
            options.scheduler,
            host=options.host,
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


async def _answers(address: str) -> bool:
    from distributed.comm.core import connect as opened

    connect: Any = opened
    try:
        comm = await connect(address, timeout=2)
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


def _silent(message: str) -> None:
    pass


def _quiet() -> Any:
    from distributed.utils import silence_logging_cmgr

    return silence_logging_cmgr(logging.CRITICAL)
