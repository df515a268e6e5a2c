"""Commands of a Dask cluster, ``scheduler`` and ``worker``, which run until they are stopped."""

from __future__ import annotations

from typing import Annotated

import typer

from cluster.cli.command import command, option
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
) -> None:
    """Run a Dask scheduler with the settings that encode and score tasks need.

    Its protocol has no passwords: let only trusted machines reach it.
    """
    from cluster.execution.daemons import serve_scheduler

    serve_scheduler(host, port, dashboard, worker_ttl, say)


@command
def worker(
    address: Annotated[
        str,
        typer.Argument(metavar="SCHEDULER", help="Address of the scheduler, `tcp://host:8786`."),
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
) -> None:
    """Run workers for a Dask scheduler until they are stopped.

    A run uses only workers that have its own release, ffmpeg and models. It names the workers that
    it does not use, and why.
    """
    from cluster.execution.daemons import serve_workers

    serve_workers(address, cores, scratch, host, say)
