"""``shotladder prefetch``: what to load before a viewer presses play."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.cli.command import command, option
from cluster.cli.options import Directory
from cluster.cli.output import Output
from encoder.errors import BadInput

if TYPE_CHECKING:
    from recommender.caching import Objective

prefetch_app = typer.Typer(
    name="prefetch", help="Look at what to load before a viewer presses play."
)
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


@prefetch_app.command("show")
@command
def show_prefetch(output: Output, directory: Directory) -> None:
    """Show which rung to start with at which throughput, and the bytes of its first seconds."""
    from cluster.cli.views.prefetch import prefetch_view
    from cluster.package.documents import read_prefetch

    prefetch = read_prefetch(directory)
    output.finish(
        lines=[
            *(("startup", entry.model_dump()) for entry in prefetch.startup),
            *(("start", entry.model_dump()) for entry in prefetch.starts),
        ],
        result={"title": prefetch.title, "rungs": len(prefetch.rungs)},
        view=lambda: prefetch_view(prefetch),
    )


@prefetch_app.command("plan")
@command
def plan(
    output: Output,
    directories: Annotated[
        tuple[Path, ...],
        typer.Argument(metavar="DIR...", help="Directories of finished packages, one or more."),
    ],
    size: str | None = option(
        None,
        "--bytes",
        metavar="N",
        help="Size of the cache, such as `500M` or `20G`. [default: list all files]",
    ),
    popularity: tuple[str, ...] = option(
        (),
        metavar="DIR=PLAYS",
        help="Expected plays of a title, in any unit; 1 for the others. May be repeated.",
    ),
    objective: str = option(
        "quality",
        metavar="NAME",
        help="What the cache is to have most of: `quality` (x seconds, what a player wants), "
        "`offload` (bytes that need not come from the origin), `offload-net` (the same less what "
        "filling costs; plays are then those while the plan stands), `hits` (requests) or "
        "`starts` (requests for the first seconds).",
    ),
    start_weight: float = option(
        1.0,
        metavar="W",
        help="With `offload`, `offload-net` and `hits`: how many other requests one request for "
        "a title's first seconds is worth. 8 keeps nearly all starts for little else.",
    ),
    start_seconds: float = option(16.0, metavar="S", help="Length of those first seconds."),
    top: int = option(20, metavar="N", min=1, help="Number of files to show; `--json` lists all."),
) -> None:
    """List the files to keep in a cache, the most valuable per byte first."""
    from cluster.cli.views.prefetch import cache_view
    from cluster.package.documents import read_prefetch
    from recommender.caching import Goal, plan_cache
    from recommender.prefetch.demand import ranked_by

    goal = Goal(read_objective(objective), start_weight, start_seconds)
    titles = {str(each): tuple(ranked_by(read_prefetch(each), goal)) for each in directories}
    plays = dict.fromkeys(titles, 1.0) | dict(_plays(text) for text in popularity)
    capacity = None if size is None else read_bytes(size)
    planned = list(plan_cache(titles, plays, capacity, goal.least_density))
    output.finish(
        lines=[("file", asdict(file)) for file in planned],
        result={"files": len(planned), "bytes": planned[-1].total_bytes if planned else 0},
        view=lambda: cache_view(planned[:top], planned, goal.objective),
    )


def read_objective(text: str) -> Objective:
    """Return the objective called ``text``.

    Raises:
        BadInput: there is none.
    """
    from recommender.caching import Objective

    try:
        return Objective(text)
    except ValueError:
        names = ", ".join(Objective)
        raise BadInput(f"--objective {text!r} does not exist; there are {names}") from None


def _plays(text: str) -> tuple[str, float]:
    name, equals, number = text.rpartition("=")
    try:
        plays = float(number)
    except ValueError:
        equals, plays = "", 0.0
    if not equals or not name:
        raise BadInput(f"--popularity takes DIR=PLAYS, such as out/film=1000; got {text!r}")
    return name, plays


def read_bytes(text: str, name: str = "--bytes") -> int:
    """Return the bytes that a text such as ``20G`` means; ``name`` is the option's.

    Raises:
        BadInput: it means none.
    """
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS and text[-1:] else (text, "")
    try:
        num_bytes = float(number) * _UNITS[unit]
    except ValueError:
        num_bytes = -1
    if not 0 <= num_bytes < 1e18:
        raise BadInput(f"{name} takes a number, optionally followed by k, M, G or T; got {text!r}")
    return int(num_bytes)
