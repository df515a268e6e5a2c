"""Commands about the complexity model: ``sweep``, ``train``, ``evaluate`` and ``promote``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from cluster.cli.command import argument, command, option
from cluster.cli.options import (
    GridFlags,
    Profile,
    Scheduler,
    StorePath,
    TlsFlags,
    Workers,
    given,
    parse_codecs,
    parse_names,
    parse_shares,
)
from cluster.cli.output import Output, say
from encoder.errors import BadInput

# -- sweep -------------------------------------------------------------------------------------


def _parse_augmentations(text: str) -> tuple[str, ...]:
    from encoder.augment import AUGMENTATIONS

    return tuple(AUGMENTATIONS) if text == "all" else parse_names(text)


@dataclass(frozen=True, slots=True)
class SweepFlags(GridFlags):
    """Options of ``sweep``, the fields of :class:`cluster.training.sweep.SweepOptions`."""

    codec: str | None = option(
        None,
        metavar="NAME",
        parser=parse_codecs,
        help="Video codec instead of the profile's first: `x264`, `x265`, `svtav1` or `vp9`.",
    )
    cells: int | None = option(
        None,
        metavar="N",
        help="Measure N operating points of every shot, spread over sizes and CRFs, instead "
        "of the full grid. A larger N includes the points of a smaller one.",
    )
    seed: int = option(0, metavar="N", help="Random seed for choosing cells and frames.")
    catalog: Path | None = option(
        None,
        metavar="CSV",
        help="Table with the columns `file` and `group`: titles of one group share footage. A "
        "file that is not listed is a group of its own.",
    )
    augmentations: tuple[str, ...] | None = option(
        None,
        "--augment",
        metavar="NAME,...",
        parser=_parse_augmentations,
        help="Also sweep augmentations of every file: `all`, or some of `crop`, `zoom`, "
        "`small`, `reframe`, `fast`, `halfrate`, `grain`, `denoise`, `soft`, `dark`.",
    )
    augmented_seconds: float = option(8.0, metavar="S", help="Maximum seconds per augmentation.")
    workers: Workers = None
    scheduler: Scheduler = None
    store: StorePath = None


@command
def sweep(
    output: Output,
    *,
    sources: tuple[Path, ...] = argument((), metavar="[SOURCE]...", help="Video files."),
    table: Path | None = option(
        None, metavar="FILE", help="Parquet file for the rows; created if missing, extended if not."
    ),
    flags: SweepFlags,
    tls: TlsFlags,
    only_augmented: bool = option(
        False, "--only-augmented", help="Sweep only the augmentations, not the files."
    ),
    package: tuple[Path, ...] = option(
        (), metavar="DIR", help="Also add the measurements of a finished package. May be repeated."
    ),
    plan: bool = option(
        False, "--plan", help="Only show what would be measured and what it costs."
    ),
) -> None:
    """Measure rate and quality of many shots into a table, for `train` and for comparison.

    A sweep uses the stages and the store of `run`, so neither repeats what the other has measured.
    When a sweep is stopped, the same command resumes it; the table has every finished title.
    """
    from cluster.cli.views.training import sweep_view
    from cluster.training import sweep as library
    from cluster.training.package_rows import add_packages

    if table is None:
        raise BadInput("sweep needs --table FILE, the Parquet file for the rows")
    options = library.SweepOptions(
        files=sources,
        table=table,
        originals=not only_augmented,
        **{**given(flags), "scheduler": tls.shared(flags.scheduler)},
    )
    on_event = output.announce("sweep", table)
    rows = 0
    if package and not plan:
        rows = add_packages(package, table, on_event, catalog=flags.catalog, store=flags.store)
    if sources or not package:
        result = (library.plan_sweep if plan else library.sweep)(options, on_event)
    else:
        result = library.SweepResult((), {}, rows)
    output.finish(
        lines=[("swept_title", asdict(title)) for title in result.titles],
        result={
            "table": str(table),
            "rows": result.rows,
            "titles": len(result.titles),
            "skipped": dict(result.skipped),
        },
        view=lambda: sweep_view(result, table, plan=plan),
    )


# -- train and promote -------------------------------------------------------------------------

Tables = Annotated[
    tuple[Path, ...],
    typer.Option(
        "--table",
        metavar="FILE",
        help="Parquet file that `shotladder sweep` wrote. May be repeated.",
    ),
]
FromStore = Annotated[
    bool,
    typer.Option("--from-store", help="Also use the measurements that runs left in the store."),
]


@command
def train(
    output: Output,
    out: Path | None = option(
        None,
        metavar="FILE",
        help="File for the weights, `.safetensors`; the model card is written beside it.",
    ),
    table: Tables = (),
    from_store: FromStore = False,
    seed: int = option(0, metavar="N", help="Random seed for initial weights."),
    leave_out: str | None = option(
        None,
        metavar="GROUP,...",
        help="Groups that are not trained on, so that their titles can be run as unseen ones.",
    ),
    store: StorePath = None,
) -> None:
    """Train the complexity model. The same rows and seed give the same bytes.

    Training takes some minutes of CPU. `shotladder run --weights FILE` uses the weights,
    `shotladder evaluate` judges the training procedure, `shotladder promote` these very weights.
    """
    from cluster.cli.views.training import trained_view
    from cluster.store.place import store_place
    from cluster.training import train as library

    if out is None:
        raise BadInput("train needs --out FILE, the file for the weights")
    if not table and not from_store:
        raise BadInput("train needs --table FILE, --from-store, or both")
    output.announce("train", out)
    options = library.TrainOptions(
        out=out,
        tables=table,
        store=store_place(store) if from_store else None,
        seed=seed,
        leave_out=parse_names(leave_out) if leave_out else (),
    )
    trained = library.train(options, (lambda _: None) if output.as_json else say)
    output.finish(
        result={"weights": str(trained.weights), "card": str(trained.card), "model": trained.model}
        | trained.facts,
        view=lambda: trained_view(trained),
    )


@command
def promote(
    output: Output,
    new: Path | None = argument(None, metavar="NEW", help="Weights to judge."),
    over: Path | None = option(
        None,
        metavar="FILE",
        help="Current weights. [default: the weights that come with shotladder]",
    ),
    to: Path | None = option(
        None,
        metavar="FILE",
        help="File that NEW is copied to if it is better. Nothing is written without it.",
    ),
    table: Tables = (),
    from_store: FromStore = False,
    store: StorePath = None,
) -> None:
    """Judge new weights against the current ones on titles that neither was trained on.

    Both predict what runs (or a table) have measured, and decide nothing. The new weights are
    better if their predictions give the measurements a higher density, on most titles and by more
    than a standard error, without a larger error in points, and if they are worse for no recipe.
    The exit status is 1 if they are not.
    """
    from cluster.cli.views.training import promotion_view
    from cluster.stages.prediction import packaged_weights
    from cluster.store.place import store_place
    from cluster.training import promote as library
    from cluster.training.train import training_rows

    if new is None:
        raise BadInput("promote needs NEW, weights that `shotladder train` wrote")
    if not table and not from_store:
        raise BadInput("promote needs titles to judge on: --from-store, --table FILE, or both")
    rows = training_rows(table, store_place(store) if from_store else None)
    output.announce("promote", new)
    judged = library.promote(over or packaged_weights(), new, rows, to)
    output.finish(
        lines=(("title", library.title_facts(title)) for title in judged.titles),
        result=library.comparison_facts(judged)
        | {"written": str(to) if to and judged.better else None},
        view=lambda: promotion_view(judged, to),
    )
    if not judged.better:
        raise typer.Exit(1)


# -- evaluate ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EvaluateFlags:
    """Options of ``evaluate``, the fields of :class:`cluster.training.evaluate.EvaluateOptions`."""

    also: tuple[Path, ...] = option(
        (), metavar="FILE", help="Another table to train on. May be repeated."
    )
    judged: Path | None = option(
        None,
        "--judge",
        metavar="FILE",
        help="Judge the titles of this table instead, and train on none of it: for example to "
        "find out what a sparse sweep of another codec is worth.",
    )
    judges: bool = option(
        False,
        "--judges",
        help="Judge the titles that judge a release, on which nothing is trained or chosen; they "
        "are never judged without this option. Run it once for a release.",
    )
    groups: tuple[str, ...] | None = option(
        None,
        metavar="NAME,...",
        parser=parse_names,
        help="Judge only the titles of these groups. [default: all]",
    )
    folds: int | None = option(
        None,
        metavar="N",
        help="Train only N times, each time without an equal share of the groups. [default: once "
        "for every group]",
    )
    seed: int = option(0, metavar="N", help="First random seed for initial weights.")
    seeds: int = option(
        1,
        metavar="N",
        help="Train and judge with N seeds, counted on from --seed. Means are over all of them.",
    )
    rivals: bool = option(
        False,
        "--rivals",
        help="Also judge what could replace the search: sparse grids, no correction, no "
        "model, trees instead of networks, one CRF per rung; and what a free proxy encode of "
        "every shot would bring.",
    )
    budgets: tuple[float, ...] | None = option(
        None,
        metavar="SHARE,...",
        parser=parse_shares,
        help="Also judge the search with other budgets of encodes beyond the delivered ones, for "
        "example 0,0.05,0.2: the trade-off of loss against encodes.",
    )
    cache: Path = option(
        Path("out/evaluate"),
        metavar="DIR",
        help="Folder for predictions and verdicts. The same command resumes; after a change "
        "of the search alone, nothing is trained again.",
    )
    profile: Profile = "default"
    workers: Workers = None
    scheduler: Scheduler = None


@command
def evaluate(
    output: Output,
    *,
    table: Path | None = option(
        None,
        metavar="FILE",
        help="Parquet file that `shotladder sweep` wrote. Titles with their full grid are "
        "judged, all others are trained on.",
    ),
    flags: EvaluateFlags,
    tls: TlsFlags,
    rungs: bool = option(
        False, "--rungs", help="Also show every rung beside the best one of its rate."
    ),
) -> None:
    """Judge the search on titles that its model was not trained on, without any encode.

    For each group of titles that share footage, a model is trained on all other groups. The search
    is then simulated on those titles of the group whose full grid is in the table.
    """
    from cluster.cli.views import evaluation as views
    from cluster.training import evaluate as library

    if table is None:
        raise BadInput("evaluate needs --table FILE, a table that `shotladder sweep` wrote")
    on_event = output.announce("evaluate", table)
    options = library.EvaluateOptions(
        table=table, **{**given(flags), "scheduler": tls.shared(flags.scheduler)}
    )
    evaluation = library.evaluate(options, on_event)
    output.finish(
        lines=views.evaluation_lines(evaluation),
        result={
            "table": str(table),
            "also": [str(path) for path in flags.also],
            "judged": str(flags.judged or table),
            "rows": evaluation.rows,
            "groups": evaluation.groups,
            "summaries": views.summary_fields(evaluation),
            "single_shot_summaries": views.summary_fields(evaluation, single=True),
        },
        view=lambda: views.evaluation_view(evaluation, rungs=rungs),
    )
