"""The application: every command with its name and the panel of ``--help`` that lists it.

A command checks nothing that the library checks; it calls the library and shows what that returns.
Commands import the library when they run, because ``--help`` must not wait for Dask and PyAV.
"""

from __future__ import annotations

from typing import Annotated

import typer

from cluster.cli import cluster, compare, package, profiles, run, service, sites, training
from cluster.cli.artwork import artwork_app
from cluster.cli.ladder import ladder_app
from cluster.cli.policy import policy_app
from cluster.cli.prefetch import prefetch_app
from cluster.cli.store import runs_app, store_app

app = typer.Typer(
    name="shotladder",
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"shotladder {version('shotladder')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Make HLS and DASH packages whose bitrate ladder is optimised shot by shot with VMAF.

    `shotladder run SOURCE --out DIR` makes a package; the other commands look at it.
    """


COMMANDS = {
    "Make": (run.run, run.encode, package.export, run.doctor, profiles.profiles),
    "Look": (package.shots, package.verify, package.report),
    "Compare": (compare.what_if, compare.upgrade_report),
    "Train": (training.sweep, training.train, training.evaluate, training.promote),
    "Cluster": (cluster.scheduler, cluster.worker),
    "Service": (
        *(service.serve, service.runner, service.submit, service.jobs, service.status),
        *(service.cancel, service.retry, service.versions, service.rollback, service.withdraw),
        *(service.release, service.holds, service.sign, service.deliveries, service.resend),
    ),
}
GROUPS = {
    "Look": (ladder_app, artwork_app, prefetch_app),
    "Store": (runs_app, store_app),
    "Artwork": (policy_app,),
}

for command in (sites.fill, sites.simulate):
    prefetch_app.command()(command)
for panel, commands in COMMANDS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
for panel, groups in GROUPS.items():
    for group in groups:
        app.add_typer(group, rich_help_panel=panel)
