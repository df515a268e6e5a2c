"""``shotladder train`` and ``shotladder promote``: new weights, and whether they are better."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.cli.options import Json, StorePath
from cluster.cli.output import announced, finish, say, show
from encoder.errors import BadInput

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cluster.training.train import Shadow, Trained

FromStore = Annotated[
    bool,
    typer.Option("--from-store", help="Also what jobs have measured and left in the store."),
]
Tables = Annotated[
    list[Path] | None,
    typer.Option(
        "--table",
        metavar="FILE",
        help="Parquet file that `shotladder sweep` wrote; may be given several times.",
        show_default=False,
    ),
]


def train(
    context: typer.Context,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Weights to write, `.safetensors`; the model card goes beside them.",
            show_default=False,
        ),
    ] = None,
    table: Tables = None,
    from_store: FromStore = False,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the networks' first weights.")] = 0,
    leave_out: Annotated[
        str | None,
        typer.Option(
            metavar="GROUP,...",
            help="Groups that are not trained on, to run their titles as new ones.",
            show_default=False,
        ),
    ] = None,
    store: StorePath = None,
    json: Json = False,
) -> None:
    """Train the complexity model. The same rows and seed give the same bytes.

    Some minutes of CPU. `shotladder run --weights FILE` uses it, `shotladder evaluate` judges the
    way it was trained, `shotladder promote` these very weights.
    """
    from cluster.store.place import store_place
    from cluster.training import train as library

    if out is None:
        raise BadInput("train needs --out FILE, where the weights go")
    if not table and not from_store:
        raise BadInput("train needs --table FILE, --from-store, or both")
    on_event = announced(context.obj, "train", out)
    options = library.TrainOptions(
        out=out,
        tables=tuple(table or ()),
        store=store_place(store) if from_store else None,
        seed=seed,
        leave_out=tuple(leave_out.split(",")) if leave_out else (),
    )
    made = library.train(options, (lambda _: None) if json else say)
    finish(
        on_event,
        as_json=json,
        result={"weights": str(made.weights), "card": str(made.card), "model": made.model}
        | made.facts,
        view=lambda: show(_trained(made)),
    )


def _trained(made: Trained) -> Iterator[RenderableType]:
    yield (
        f"{made.weights}: model {made.model}, from {made.facts['cells']} cells of "
        f"{len(made.facts['groups'])} groups"
    )
    for recipe, missed in made.facts["held_out"].items():
        points = missed["quality_error"].items()
        off = "".join(f" and {error:.1f} points of {quality}" for quality, error in points)
        yield (
            f"{recipe}, {missed['cells']} cells: off by {missed['rate_error_percent']:.0f} % of "
            f"bits{off} on groups not seen"
        )


def promote(
    context: typer.Context,
    new: Annotated[
        Path | None,
        typer.Argument(metavar="NEW", help="The weights that may take over.", show_default=False),
    ] = None,
    over: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The current weights. [default: those for x264 that come with the product]",
            show_default=False,
        ),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where NEW is written if it is better. Without it nothing is written.",
            show_default=False,
        ),
    ] = None,
    table: Tables = None,
    from_store: FromStore = False,
    store: StorePath = None,
    json: Json = False,
) -> None:
    """Judge new weights beside the current ones on titles that neither has seen.

    Both predict what jobs have measured (or a table has); neither decides anything. The new ones
    are better if their predictions give what was measured a higher density, on most titles and
    by more than a standard error, without being further off in points. Exit status 1 if not.
    """
    from cluster.stages.prediction import packaged_weights
    from cluster.store.place import store_place
    from cluster.training import train as library

    if new is None:
        raise BadInput("promote needs NEW, weights that `shotladder train` wrote")
    if not table and not from_store:
        raise BadInput("promote needs titles to judge on: --from-store, --table FILE, or both")
    rows = library.training_rows(tuple(table or ()), store_place(store) if from_store else None)
    on_event = announced(context.obj, "promote", new)
    found = library.promote(over or packaged_weights("x264"), new, rows, to)
    finish(
        on_event,
        as_json=json,
        lines=(("title", library.judged_facts(one)) for one in found.titles),
        result=library.shadow_facts(found)
        | {"written": str(to) if to and found.comparison.better else None},
        view=lambda: show(_shadow(found, to)),
    )
    if not found.comparison.better:
        raise typer.Exit(1)


def _shadow(found: Shadow, to: Path | None) -> Iterator[RenderableType]:
    from rich.table import Table

    both = found.comparison
    table = Table("title", box=None, pad_edge=False)
    for heading in ("cells", "log score", "new", "points off", "new", "bits", "new"):
        table.add_column(heading, justify="right")
    for one in found.titles:
        table.add_row(
            one.title,
            str(one.new.cells),
            *(f"{m.log_score:.3f}" for m in (one.current, one.new)),
            *(f"{m.quality_error:.2f}" for m in (one.current, one.new)),
            *(f"{m.log_rate_error:+.2f}" for m in (one.current, one.new)),
        )
    yield table
    yield (
        f"{both.titles} titles that neither has seen ({found.seen} left out): log score "
        f"{both.gain:+.3f} ± {both.deviation:.3f}, better on {both.better_on}; "
        f"{both.quality_error[0]:.2f} → {both.quality_error[1]:.2f} points off"
    )
    if both.better:
        yield f"better: {f'written to {to}' if to else 'name --to FILE to take it'}"
    else:
        yield "not better: the current weights stay"
