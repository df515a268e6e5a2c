"""Commands of a Dask cluster, ``scheduler`` and ``worker``, which run until they are stopped."""

from __future__ import annotations

from typing import Annotated

import typer

from cluster.cli.command import command, option
from cluster.cli.options import TlsFlags
from cluster.cli.output import say


@command
def scheduler(
    host: str = option(
        "127.0.0.1", metavar="ADDRESS", help="Address to listen on; runs and workers must reach it."
    ),
    port: int = option(8786, metavar="N", help="Port to listen on; the default is Dask's."),
    dashboard: str | None = option(
        None,
        metavar="HOST:PORT",
        help="Address of Dask's dashboard, with Prometheus metrics at `/metrics`. [default: none]",
    ),
    worker_ttl: float = option(
        60.0, metavar="SECONDS", help="Seconds of silence after which a worker counts as dead."
    ),
    *,
    tls: TlsFlags,
) -> None:
    """Run a Dask scheduler with the settings that encode and score tasks need.

    Without certificates, whoever reaches it can run programs on all its machines.
    """
    from cluster.execution.daemons import serve_scheduler

    serve_scheduler(host, port, dashboard, worker_ttl, say, tls.certificates())


@command
def worker(
    address: Annotated[
        str,
        typer.Argument(
            metavar="SCHEDULER",
            help="Address of the scheduler, `tls://host:8786`; `tcp://` without certificates.",
        ),
    ],
    cores: int | None = option(
        None,
        metavar="N",
        help="Number of encodes at once, each on one core. [default: the number of cores]",
    ),
    scratch: str | None = option(None, metavar="DIR", help="Folder for Dask's own files."),
    host: str | None = option(
        None,
        metavar="ADDRESS",
        help="Address of this machine under which the scheduler reaches it.",
    ),
    *,
    tls: TlsFlags,
) -> None:
    """Run workers for a Dask scheduler until they are stopped.

    A run uses only workers that have its own release, ffmpeg and models. It names the workers that
    it does not use, and why.
    """
    from cluster.execution.daemons import serve_workers
    from cluster.execution.security import SharedScheduler

    serve_workers(SharedScheduler(address, tls.certificates()), cores, scratch, host, say)
