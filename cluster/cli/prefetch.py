"""``shotladder prefetch``: what to pull before somebody presses play."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from cluster.cli.options import Json
from cluster.cli.output import finish, show
from encoder.errors import BadInput

prefetch_app = typer.Typer(name="prefetch", help="What to pull before somebody presses play.")
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


@prefetch_app.command("show")
def show_prefetch(
    context: typer.Context,
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="What `shotladder run` wrote with `--out`.")
    ],
    json: Json = False,
) -> None:
    """Show with which rung to start at which throughput, and the bytes of the first seconds."""
    from cluster.cli.views import ladder as views
    from cluster.package.documents import read_prefetch

    prefetch = read_prefetch(directory)
    finish(
        context.obj,
        as_json=json,
        lines=[
            *(("startup", entry.model_dump()) for entry in prefetch.startup),
            *(("start", entry.model_dump()) for entry in prefetch.starts),
        ],
        result={"title": prefetch.title, "rungs": len(prefetch.rungs)},
        view=lambda: show(views.prefetch_view(prefetch)),
    )


@prefetch_app.command("plan")
def plan(
    context: typer.Context,
    directories: Annotated[
        list[Path],
        typer.Argument(metavar="DIR...", help="What `shotladder run` wrote, or several."),
    ],
    size: Annotated[
        str | None,
        typer.Option(
            "--bytes",
            metavar="N",
            help="Size of the cache, as `500M` or `20G`. Everything is listed unless it is given.",
            show_default=False,
        ),
    ] = None,
    popularity: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIR=PLAYS",
            help="Expected plays of a title, in any unit. May be repeated; 1 for the others.",
            show_default=False,
        ),
    ] = None,
    top: Annotated[
        int, typer.Option(metavar="N", min=1, help="So many lines are shown; `--json` has all.")
    ] = 20,
    json: Json = False,
) -> None:
    """List which files to keep in a cache, those with most expected quality per byte first."""
    from cluster.cli.views import ladder as views
    from cluster.package.documents import read_prefetch
    from recommender.caching import plan_cache

    titles = {str(directory): read_prefetch(directory) for directory in directories}
    plays = dict.fromkeys(titles, 1.0) | dict(_plays(text) for text in popularity or ())
    planned = list(plan_cache(titles, plays, None if size is None else _size(size)))
    finish(
        context.obj,
        as_json=json,
        lines=[
            (
                "file",
                {
                    "title": one.title,
                    "uri": one.uri,
                    "bytes": one.bytes,
                    "sha256": one.sha256,
                    "density": one.density,
                    "total_bytes": one.total_bytes,
                },
            )
            for one in planned
        ],
        result={
            "files": len(planned),
            "bytes": planned[-1].total_bytes if planned else 0,
        },
        view=lambda: show(views.cache_view(list(islice(planned, top)), planned)),
    )


def _plays(text: str) -> tuple[str, float]:
    name, equals, number = text.rpartition("=")
    try:
        plays = float(number)
    except ValueError:
        equals = ""
        plays = 0.0
    if not equals or not name:
        raise BadInput(f"--popularity takes DIR=PLAYS, as out/film=1000; got {text!r}")
    return name, plays


def _size(text: str) -> int:
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS and text[-1:] else (text, "")
    try:
        size = float(number) * _UNITS[unit]
    except ValueError:
        size = -1
    if not 0 <= size < 1e18:
        raise BadInput(f"--bytes takes a number, also with k, M, G or T behind; got {text!r}")
    return int(size)
