"""``shotladder evaluate``: how good the search is on titles that the model has never seen."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster.cli.options import Json, Scheduler, Workers
from cluster.cli.output import announced, finish, show
from encoder.errors import BadInput

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from cluster.training.evaluate import Evaluation, TitleResult
    from ladder.evaluation.simulate import Coverage, Summary, Verdict

NAME_WIDTH = 24


def evaluate(
    context: typer.Context,
    table: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Parquet file that `shotladder sweep` wrote. Titles with their full grid are "
            "judged, all others are trained on.",
            show_default=False,
        ),
    ] = None,
    also: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Train on this table too. May be repeated.",
            show_default=False,
        ),
    ] = None,
    judge: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Judge the titles of this table instead, and train on nothing of it: what a "
            "sparse sweep of another codec is worth, for example.",
            show_default=False,
        ),
    ] = None,
    groups: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="Judge the titles of these groups only. [default: all]",
            show_default=False,
        ),
    ] = None,
    rivals: Annotated[
        bool,
        typer.Option(
            "--rivals",
            help="Beside the search, judge what it could be replaced by: sparse grids, no "
            "correction, no model, trees for networks, one CRF per rung; and what a free proxy "
            "encode of every shot would bring.",
        ),
    ] = False,
    rungs: Annotated[
        bool, typer.Option("--rungs", help="Also every rung beside the best of its rate.")
    ] = False,
    cache: Annotated[
        Path,
        typer.Option(
            metavar="DIR",
            help="Where predictions and verdicts are kept. The same command continues; a change "
            "of the search alone trains nothing again.",
        ),
    ] = Path("out/evaluate"),
    profile: Annotated[
        str, typer.Option(metavar="NAME", help="Whose grid and rungs are used.")
    ] = "default",
    workers: Workers = None,
    scheduler: Scheduler = None,
    json: Json = False,
) -> None:
    """Judge the search on titles that its model has never seen, without any encode.

    For each group of titles that share footage a model is trained on all others, and the search
    is run in simulation on those titles of the group whose full grid is in the table.
    """
    from cluster.training import evaluate as library

    if table is None:
        raise BadInput("evaluate needs --table FILE, a table that `shotladder sweep` wrote")
    options = library.EvaluateOptions(
        table=table,
        also=tuple(also or ()),
        judged=judge,
        groups=tuple(groups.split(",")) if groups else (),
        rivals=rivals,
        cache=cache,
        profile=profile,
        workers=workers,
        scheduler=scheduler,
    )
    on_event = announced(context.obj, "evaluate", table)
    found = library.evaluate(options, on_event)
    finish(
        on_event,
        as_json=json,
        lines=evaluation_lines(found),
        result={
            "table": str(table),
            "also": [str(one) for one in also or ()],
            "judged": str(judge or table),
            "rows": found.rows,
            "groups": found.groups,
            "summaries": list(_by_recipe(found)),
            "single_shot_summaries": list(_by_recipe(found, single=True)),
        },
        view=lambda: show(evaluation_view(found, rungs=rungs)),
    )


def summaries(found: Evaluation, *, single: bool = False) -> list[Summary]:
    """One per search, over titles with several shots or over those with a single one."""
    from ladder.evaluation.simulate import Summary

    verdicts = (found.verdicts(search, single=single) for search in found.searches)
    return [Summary.of(of) for of in verdicts if of]


def _by_recipe(found: Evaluation, *, single: bool = False) -> Iterator[dict[str, Any]]:
    for recipe in found.recipes:
        for one in summaries(found.only(recipe), single=single):
            yield {"recipe": recipe, **asdict(one)}


def evaluation_lines(found: Evaluation) -> Iterator[tuple[str, dict[str, Any]]]:
    """A ``verdict`` per title and search, a ``calibration`` per title."""
    for title in found.titles:
        for verdict in title.verdicts:
            figures = {
                name: _plain(getattr(verdict, name))
                for name in ("loss", "worst", "extra", "saved", "cpu_saved", "cpu_ratio")
            }
            yield (
                "verdict",
                {
                    "recipe": title.recipe,
                    **asdict(verdict),
                    **figures,
                    "qualities": verdict.qualities,
                },
            )
    for title in found.titles:
        yield (
            "calibration",
            {
                **{name: getattr(title, name) for name in ("title", "group", "quality_model")},
                "left_out": title.left_out,
                "before": [asdict(one) for one in title.before],
                "after": [asdict(one) for one in title.after],
            },
        )


def _plain(number: float | None) -> float | None:
    return None if number is None or math.isnan(number) else number


# -- tables ------------------------------------------------------------------------------------


def evaluation_view(found: Evaluation, *, rungs: bool = False) -> Iterator[RenderableType]:
    """Tables for people."""
    from rich.text import Text

    from cluster.training.evaluate import PREDICT

    yield Text(f"{found.rows} cells of {found.groups} groups; each judged by a model without it\n")
    for recipe in found.recipes:
        under = f"{recipe}, " if len(found.recipes) > 1 else ""
        yield from _judged(found.only(recipe), f"{under}titles with several shots", single=False)
        yield from _judged(found.only(recipe), f"{under}titles of a single shot", single=True)
    yield Text("measured cells within the intervals predicted for them, %", style="bold")
    yield _calibration(found)
    yield Text()
    if rungs:
        for verdict in (*found.verdicts(PREDICT), *found.verdicts(PREDICT, single=True)):
            yield Text(verdict.title, style="bold")
            yield _rungs(verdict)
            yield Text()
    yield from _notes(found)


def _judged(found: Evaluation, heading: str, *, single: bool) -> Iterator[RenderableType]:
    from rich.text import Text

    from cluster.training.evaluate import PREDICT

    verdicts = found.verdicts(PREDICT, single=single)
    if not verdicts:
        return
    yield Text(f"{heading}: {PREDICT} against the exhaustive search", style="bold")
    yield _encodes(verdicts)
    yield Text()
    yield _qualities(verdicts)
    yield Text()
    if len(found.searches) > 1:
        yield Text(f"{heading}: means by search", style="bold")
        yield _searches(summaries(found, single=single))
        yield Text()


def _name(text: str) -> str:
    return text if len(text) <= NAME_WIDTH else text[: NAME_WIDTH - 1] + "…"


def _percent(share: float | None, digits: int = 0) -> str:
    return "-" if share is None or math.isnan(share) else f"{100 * share:.{digits}f}"


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def _table(*columns: tuple[str, str]) -> Table:
    """A plain one whose first column gives way on a narrow terminal: names wrap, numbers stay."""
    from cluster.cli.views.ladder import plain_table

    shown = plain_table(*columns)
    shown.padding = (0, 1, 0, 0)
    shown.columns[0].no_wrap = False
    shown.columns[0].overflow = "fold"
    return shown


def _encodes(verdicts: Sequence[Verdict]) -> Table:
    from ladder.evaluation.simulate import Summary

    shown = _table(
        *(("title", "l"), ("shots", "r"), ("loss", "r"), ("worst", "r"), ("rungs", "r")),
        *(("deliv", "r"), ("extra", "r"), ("grid", "r"), ("saved", "r"), ("rounds", "r")),
    )
    for verdict in verdicts:
        shown.add_row(
            *(_name(verdict.title), str(verdict.shots), _percent(verdict.loss, 2)),
            *(_percent(verdict.worst, 1), str(len(verdict.rungs)), str(verdict.delivered)),
            *(_number(verdict.extra), str(verdict.grid), _percent(verdict.saved)),
            str(verdict.rounds),
        )
    mean = Summary.of(verdicts)
    shown.add_section()
    shown.add_row(
        *("mean", "", _percent(mean.loss, 2), "", "", _number(mean.delivered, 0)),
        *(_number(mean.extra), "", _percent(mean.saved), _number(mean.rounds, 1)),
    )
    shown.add_row("worst", "", _percent(mean.worst_loss, 2), _percent(mean.worst_rung, 1))
    return shown


def _qualities(verdicts: Sequence[Verdict]) -> Table:
    from ladder.evaluation.simulate import Summary

    shown = _table(
        *(("title", "l"), ("off", "r"), ("bias", "r"), ("rate", "r"), ("bias", "r")),
        *(("covered", "r"), ("best", "r"), ("CPU x", "r"), ("saved", "r"), ("BD", "r")),
    )
    for verdict in verdicts:
        off = verdict.off
        shown.add_row(
            _name(verdict.title),
            *(
                ("-",) * 4
                if off is None
                else (
                    *(_number(off.quality), _number(off.quality_bias)),
                    *(_percent(off.rate), _percent(off.rate_bias)),
                )
            ),
            *(_range(verdict.qualities), _range(verdict.best_qualities)),
            *(_number(verdict.cpu_ratio), _percent(verdict.cpu_saved)),
            _number(verdict.bd_percent),
        )
    mean = Summary.of(verdicts)
    shown.add_section()
    off = mean.off
    shown.add_row(
        "mean",
        *(
            ("-",) * 4
            if off is None
            else (
                *(_number(off.quality), _number(off.quality_bias)),
                *(_percent(off.rate), _percent(off.rate_bias)),
            )
        ),
        *("", "", _number(mean.cpu_ratio), _percent(mean.cpu_saved), _number(mean.bd_percent)),
    )
    return shown


def _range(qualities: tuple[float, float] | None) -> str:
    return "-" if qualities is None else f"{qualities[0]:.1f}-{qualities[1]:.1f}"


def _searches(rows: Sequence[Summary]) -> Table:
    shown = _table(
        *(("search", "l"), ("loss", "r"), ("worst", "r"), ("rung", "r"), ("extra", "r")),
        *(("encodes", "r"), ("deliv", "r"), ("saved", "r"), ("CPU x", "r"), ("off", "r")),
        ("rounds", "r"),
    )
    for one in rows:
        name = one.search if not one.failed else f"{one.search} ({one.failed} failed)"
        shown.add_row(
            *(name, _percent(one.loss, 2), _percent(one.worst_loss, 1)),
            *(_percent(one.worst_rung, 0), _number(one.extra), _number(one.encodes, 0)),
            *(_number(one.delivered, 0), _percent(one.saved), _number(one.cpu_ratio)),
            *("-" if one.off is None else _number(one.off.quality), _number(one.rounds, 1)),
        )
    return shown


def _calibration(found: Evaluation) -> Table:
    from ladder.evaluation.simulate import LEVELS, Coverage

    wanted = "/".join(f"{100 * level:.0f}" for level in LEVELS)
    shown = _table(
        *(("group", "l"), ("cells", "r"), (f"rate {wanted}", "r"), ("quality", "r")),
        *(("later", "r"), (f"rate {wanted}", "r"), ("quality", "r")),
    )
    totals = [Coverage() for _ in range(4)]
    for group in sorted({title.group for title in found.titles}):
        titles = [title for title in found.titles if title.group == group]
        sums = [sum((title.before[kind] for title in titles), Coverage()) for kind in (0, 1)] + [
            sum((title.after[kind] for title in titles), Coverage()) for kind in (0, 1)
        ]
        totals = [total + one for total, one in zip(totals, sums, strict=True)]
        shown.add_row(*_coverages(group, sums))
    shown.add_section()
    shown.add_row(*_coverages("all", totals))
    return shown


def _coverages(name: str, found: Sequence[Coverage]) -> Iterator[str]:
    yield _name(name)
    for first in (0, 2):
        yield str(found[first].cells) if found[first].cells else "-"
        for one in found[first : first + 2]:
            yield "/".join(_percent(share) for share in one.shares) if one.cells else "-"


def _rungs(verdict: Verdict) -> Table:
    from cluster.cli.views.ladder import kbits

    shown = _table(
        *(("kbit/s", "r"), ("size", "l"), ("quality", "r"), ("best size", "l"), ("best", "r")),
        ("loss", "r"),
    )
    for rung in verdict.rungs:
        best = rung.best_size
        shown.add_row(
            *(kbits(rung.rate), f"{rung.size.width}x{rung.size.height}", _number(rung.quality)),
            *("-" if best is None else f"{best.width}x{best.height}", _number(rung.best_quality)),
            _percent(rung.loss, 2),
        )
    return shown


def _notes(found: Evaluation) -> Iterator[RenderableType]:
    from rich.text import Text

    from cluster.training.evaluate import PREDICT

    lines = [
        "loss: % of a rung's bits at the exhaustive search's slope, mean over rungs; worst: of a "
        "rung.",
        "extra: encodes beyond the delivered ones, per delivered one. saved: % of the full grid.",
        "off, bias: delivered minus first predicted, points of each title's own VMAF model, and % "
        "of the rate.",
        "covered, best: lowest and highest quality of the ladder, and of the exhaustive search's.",
        "CPU x: of all encodes and scores over that of delivered ones; saved: % of the exhaustive "
        "search's. Encodes as measured, scores as modelled (8 ms a frame and 20 ns a pixel of the "
        "title); decoding, features and packaging are not in it.",
        "BD: BD-rate in % against the exhaustive search, both solved at the same eight rates.",
        "later: cells not measured yet when the middle rung of the first plan is.",
    ]
    lines += [
        f"{v.title}, {v.search}: no ladder ({v.failure})"
        for search in found.searches
        for single in (False, True)
        for v in found.verdicts(search, single=single)
        if v.failure
    ]
    lines += [
        f"{verdict.title}: {without} of {len(verdict.rungs)} rungs have no loss, as nothing better "
        "is to be had for more bits there"
        for single in (False, True)
        for verdict in found.verdicts(PREDICT, single=single)
        if (without := len(verdict.rungs) - len(verdict.losses)) and not verdict.failure
    ]
    lines += _left_out(found.titles)
    yield Text("\n".join(lines), style="dim")


def _left_out(titles: Iterable[TitleResult]) -> list[str]:
    """Which titles were not judged, by why: what was made of a title counts with it."""
    why: dict[str, Counter[str]] = {}
    for title in titles:
        if title.left_out:
            why.setdefault(title.left_out, Counter())[title.title.partition("/")[0]] += 1
    return [
        f"not judged, {reason}: "
        + ", ".join(name if count == 1 else f"{name} ({count})" for name, count in names.items())
        for reason, names in why.items()
    ]
