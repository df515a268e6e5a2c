"""``shotladder sweep``: measure cells of many titles into a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.cli.options import Heights, Json, Scheduler, StorePath, Workers, heights_in
from cluster.cli.output import announced, finish, show
from encoder.errors import BadInput

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cluster.training.sweep import SweepResult


def sweep(
    context: typer.Context,
    sources: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[SOURCE]...", help="Video files.", show_default=False),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Parquet file that the rows go to; made if missing, added to if not.",
            show_default=False,
        ),
    ] = None,
    cells: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Measure N operating points of every shot, spread over sizes and CRFs, instead "
            "of the full grid. A larger N keeps the points of a smaller one.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Of the spread, and of which frames are augmented.")
    ] = 0,
    catalog: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="Has the columns `file` and `group`: titles of one group share footage. A file "
            "that is not in it is a group of its own.",
            show_default=False,
        ),
    ] = None,
    augment: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="Also sweep new content made of every file: `all`, or some of `crop`, `zoom`, "
            "`small`, `reframe`, `fast`, `halfrate`, `grain`, `denoise`, `soft`, `dark`.",
            show_default=False,
        ),
    ] = None,
    augmented_seconds: Annotated[
        float, typer.Option(metavar="S", help="Most seconds of each augmentation.")
    ] = 8.0,
    only_augmented: Annotated[
        bool, typer.Option("--only-augmented", help="Leave the files themselves out.")
    ] = False,
    package: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="DIR",
            help="Also add what this finished ladder has measured, from what `shotladder run` "
            "wrote. May be repeated.",
            show_default=False,
        ),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only say what would be measured and what it takes.")
    ] = False,
    codec: Annotated[
        str, typer.Option(metavar="NAME", help="`x264`, `x265`, `svtav1` or `vp9`.")
    ] = "x264",
    preset: Annotated[
        str, typer.Option(metavar="NAME", help="Of the encoder, `ultrafast` to `veryslow`.")
    ] = "medium",
    profile: Annotated[
        str, typer.Option(metavar="NAME", help="Whose sizes and CRFs are measured.")
    ] = "default",
    heights: Heights = None,
    also: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="A quality model beside each title's own. May be repeated.",
            show_default=False,
        ),
    ] = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    store: StorePath = None,
    json: Json = False,
) -> None:
    """Measure rate and quality of many shots into a table, for `train` and for comparison.

    Through the same stages and store as `run`: what either has measured, the other does not
    measure again. When it is stopped, the same command continues; the table has every title that
    was finished.
    """
    from cluster.training import sweep as library
    from encoder.augment import AUGMENTATIONS

    if table is None:
        raise BadInput("sweep needs --table FILE, the Parquet file that the rows go to")
    names = tuple(AUGMENTATIONS) if augment == "all" else tuple((augment or "").split(","))
    options = library.SweepOptions(
        files=tuple(sources or ()),
        table=table,
        cells=cells,
        seed=seed,
        catalog=catalog,
        augmentations=names if augment else (),
        originals=not only_augmented,
        augmented_seconds=augmented_seconds,
        codec=codec,
        preset=preset,
        profile=profile,
        heights=heights_in(heights),
        also=tuple(also or ()),
        store=store,
        workers=workers,
        scheduler=scheduler,
    )
    on_event = announced(context.obj, "sweep", table)
    rows = 0
    if package and not plan:
        rows = library.add_packages(package, table, on_event, catalog=catalog, store=store)
    if sources or not package:
        result = (library.plan_sweep if plan else library.sweep)(options, on_event)
    else:
        result = library.SweepResult((), {}, rows)
    finish(
        on_event,
        as_json=json,
        lines=[("swept_title", asdict(title)) for title in result.titles],
        result={
            "table": str(table),
            "rows": result.rows,
            "titles": len(result.titles),
            "skipped": dict(result.skipped),
        },
        view=lambda: show(_view(result, table, plan=plan)),
    )


def _view(result: SweepResult, table: Path, *, plan: bool) -> Sequence[RenderableType]:
    from rich.text import Text

    from cluster.cli.progress import duration
    from cluster.cli.views.ladder import plain_table

    shown = plain_table(
        *(("title", "l"), ("", "l"), ("group", "l"), ("shots", "r"), ("cells", "r")),
        *(("kept", "r"), ("CPU", "r")),
    )
    for title in result.titles:
        shown.add_row(
            title.source,
            title.augmentation,
            title.group,
            *(str(number) for number in (title.shots, title.cells, title.cached)),
            duration(title.cpu_seconds),
        )
    total = sum(title.cpu_seconds for title in result.titles)
    cells = sum(title.cells - title.cached for title in result.titles)
    said = f"{cells} cells to measure, about" if plan else f"{cells} cells measured in"
    return [
        *([shown] if result.titles else []),
        Text(f"{said} {duration(total)} of CPU; {table} has {result.rows} rows"),
        *(Text(f"left out: {why}") for why in result.skipped.values()),
    ]
