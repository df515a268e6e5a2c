"""Commands of a Dask cluster, ``scheduler`` and ``worker``, which run until they are stopped."""

from __future__ import annotations

from typing import Annotated

import typer

from cluster.cli.output import say


def scheduler(
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS", help="Address to listen on; runs and workers must reach it."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="N", help="Port to listen on; the default is Dask's.")
    ] = 8786,
    dashboard: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Address of Dask's dashboard, with Prometheus metrics at `/metrics`. [default: "
            "none]",
        ),
    ] = None,
    worker_ttl: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", help="Seconds of silence after which a worker counts as dead."
        ),
    ] = 60.0,
) -> None:
    """Run a Dask scheduler with the settings that encode and score tasks need.

    Its protocol has no passwords: let only trusted machines reach it.
    """
    from cluster.execution.daemons import SchedulerOptions, serve_scheduler

    serve_scheduler(SchedulerOptions(host, port, dashboard, worker_ttl), say)


def worker(
    address: Annotated[
        str,
        typer.Argument(metavar="SCHEDULER", help="Address of the scheduler, `tcp://host:8786`."),
    ],
    cores: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Number of encodes at once, each on one core. [default: the number of cores]",
        ),
    ] = None,
    scratch: Annotated[
        str | None, typer.Option(metavar="DIR", help="Folder for Dask's own files.")
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Address of this machine under which the scheduler reaches it."
        ),
    ] = None,
) -> None:
    """Run workers for a Dask scheduler until they are stopped.

    A run uses only workers that have its own release, ffmpeg and models. It names the workers that
    it does not use, and why.
    """
    from cluster.execution.daemons import WorkerOptions, serve_workers

    serve_workers(WorkerOptions(address, cores, scratch, host), say)
