"""Commands of a cluster: they stay until they are told to end."""

from __future__ import annotations

from typing import Annotated

import typer

from cluster.cli.output import say


def scheduler(
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where to listen; others must reach it.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="N", help="Where it listens; Dask's own number by default.")
    ] = 8786,
    dashboard: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Serve Dask's dashboard, and its numbers for Prometheus at `/metrics`.",
            show_default=False,
        ),
    ] = None,
    worker_ttl: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", help="A worker that says nothing for so long counts as dead."
        ),
    ] = 60.0,
) -> None:
    """Run a Dask scheduler with the settings that the workers' work wants.

    Its protocol has no passwords: let only machines reach it that you trust.
    """
    from cluster.execution.daemons import SchedulerOptions, serve_scheduler

    serve_scheduler(SchedulerOptions(host, port, dashboard, worker_ttl), say)


def worker(
    address: Annotated[
        str, typer.Argument(metavar="SCHEDULER", help="Its address, `tcp://host:8786`.")
    ],
    cores: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Encodes at once, each on one core. [default: the machine's cores]",
            show_default=False,
        ),
    ] = None,
    scratch: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Folder for Dask's own files.", show_default=False),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Address of this machine that the scheduler can reach.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Work for the runs that use a Dask scheduler, until told to end.

    Runs only use workers of their own release, ffmpeg and models; a run that finds others says
    which and why.
    """
    from cluster.execution.daemons import WorkerOptions, serve_workers

    serve_workers(WorkerOptions(address, cores, scratch, host), say)


COMMANDS = (scheduler, worker)
