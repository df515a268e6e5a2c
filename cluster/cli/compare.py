"""Commands that compare ladders: with baselines, with each other, with what could be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.cli.groups import grouped
from cluster.cli.options import (
    Directory,
    Heights,
    Json,
    MovedSource,
    Scheduler,
    StorePath,
    Workers,
    given,
    parse_policy,
    parse_profile,
)
from cluster.cli.output import Line, announced, finish, show, write_lines
from encoder.errors import BadInput

if TYPE_CHECKING:
    from cluster.events import Listener
    from cluster.package.comparison import Comparison

Limit = Annotated[
    int, typer.Option(metavar="N", min=0, help="Show at most N shots of each title, worst first.")
]


# -- with baselines ----------------------------------------------------------------------------


def compare(
    context: typer.Context,
    directory: Directory,
    rungs: Annotated[
        bool, typer.Option("--rungs", help="Also show the rungs of all three ladders.")
    ] = False,
    source: MovedSource = None,
    others: Annotated[
        list[Path] | None,
        typer.Option(
            "--with",
            metavar="DIR",
            help="Another package of the same title, for example of another codec, whose BD-rate "
            "against this one is shown. May be repeated.",
        ),
    ] = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    store: StorePath = None,
    json: Json = False,
) -> None:
    """Compare a ladder with a fixed ladder and with the best per-title CRF ladder.

    Both baselines are encoded and scored on the same title, each rung in one process. Three claims
    are stated for each quality model: BD-rate against each baseline, and what viewers receive. In a
    package of several codecs, only the first codec is compared with the baselines; the BD-rate of
    each other codec is against the first. The result is kept in DIR as `comparison.json`, where
    `ladder show` and `report` find it.
    """
    from cluster.cli.views.comparison import comparison_lines, comparison_view
    from cluster.jobs import compare as library

    on_event = announced(context.obj, "compare", directory)
    options = library.CompareOptions(
        directory, source, store, workers, scheduler, tuple(others or ())
    )
    comparison = library.compare_ladder(options, on_event)
    lines = list(comparison_lines(comparison))
    _keep(directory, comparison, lines, on_event)
    finish(
        on_event,
        as_json=json,
        lines=lines,
        result={"title": comparison.title, "exhaustive": comparison.exhaustive},
        view=lambda: show(comparison_view(comparison, rungs=rungs)),
    )


def _keep(
    directory: Path, comparison: Comparison, lines: Sequence[Line], on_event: Listener
) -> None:
    """Write ``comparison.json`` into a package and renew its report; warn where that fails."""
    from cluster.events import Warned
    from cluster.package.comparison import save_comparison
    from cluster.package.documents import read_ladder
    from cluster.package.report import REPORT_FILE, ReportOptions, write_report
    from encoder.errors import OutputUnwritable

    claims = [fields for kind, fields in lines if kind == "claims"]
    if not save_comparison(directory, comparison, claims, read_ladder(directory).title.id):
        on_event(Warned(f"{directory} cannot be written: the comparison is shown but not kept"))
    elif (directory / REPORT_FILE).exists():
        try:
            write_report(ReportOptions(directory), on_event)
        except OutputUnwritable as error:
            on_event(Warned(error.message))


# -- two ladders -------------------------------------------------------------------------------


def diff(
    context: typer.Context,
    old: Annotated[Path, typer.Argument(metavar="OLD", help="Package to compare against.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="Another package of the same title.")],
    limit: Limit = 10,
    json: Json = False,
) -> None:
    """Show what changed between two ladders of one title: how they were made, rungs, shots, cost.

    All numbers compared are measured. A negative BD-rate means that NEW needs fewer bits.
    """
    from cluster.cli.views.difference import difference_lines, difference_view
    from cluster.package.diff import diff_ladders

    difference = diff_ladders(old, new)
    finish(
        context.obj,
        as_json=json,
        lines=difference_lines(difference, limit),
        result={"title": difference.title, "bd_rate_percent": difference.percent},
        view=lambda: show(difference_view(difference, limit)),
    )


def upgrade_report(
    context: typer.Context,
    old: Annotated[
        Path,
        typer.Argument(metavar="OLD", help="Package, or folder of packages, to compare against."),
    ],
    new: Annotated[
        Path,
        typer.Argument(
            metavar="NEW", help="The same titles, made by another version, tool or recipe."
        ),
    ],
    max_mean: Annotated[
        float, typer.Option(metavar="PERCENT", help="Highest mean BD-rate over titles that passes.")
    ] = 0.5,
    max_title: Annotated[
        float,
        typer.Option(metavar="PERCENT", help="Highest BD-rate of a single title that passes."),
    ] = 2.0,
    max_cpu: Annotated[
        float | None,
        typer.Option(
            metavar="PERCENT",
            help="Highest increase of CPU time that passes. Compared only for titles whose two "
            "runs began with an empty store.",
        ),
    ] = None,
    limit: Limit = 5,
    json: Json = False,
) -> None:
    """Compare the same titles under two versions or recipes, and fail if the new one is worse.

    The exit status is 0 within the limits and 1 beyond them, so it can gate an upgrade.
    """
    from cluster.cli.views.difference import upgrade_lines, upgrade_view
    from cluster.package import diff as library
    from encoder.errors import GateFailed

    report = library.upgrade_report(old, new, library.Limits(max_mean, max_title, max_cpu))
    if report.failures:
        if json:
            write_lines(upgrade_lines(report, limit))
        else:
            show(upgrade_view(report, limit))
        raise GateFailed("; ".join(report.failures), failures=list(report.failures))
    finish(
        context.obj,
        as_json=json,
        lines=upgrade_lines(report, limit),
        result={"titles": len(report.titles), "mean_bd_rate_percent": report.mean_bd_rate},
        view=lambda: show(upgrade_view(report, limit)),
    )


# -- what if -----------------------------------------------------------------------------------


def _parse_rate(option: str) -> Callable[[str], float]:
    def parse(text: str) -> float:
        from cluster.package.explain import parse_rate

        rate = parse_rate(text)
        if rate is None:
            raise BadInput(f"{option} takes a rate such as 800k or 4M; got {text!r}")
        return rate

    return parse


def _parse_rates(text: str) -> tuple[float, ...]:
    return tuple(map(_parse_rate("--rates"), text.split(",")))


@dataclass(frozen=True, slots=True)
class WhatIfFlags:
    """Options of ``what-if``, the fields of :class:`cluster.jobs.whatif.WhatIfOptions`."""

    profile: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            parser=parse_profile,
            help="Another profile: its name, or a TOML file.",
        ),
    ] = None
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            parser=parse_policy,
            help="Another policy. `locked`: one size per rung; `mixed`: shots of a rung may differ "
            "in size, and what one size per rung costs is shown.",
        ),
    ] = None
    max_rate: Annotated[
        float | None,
        typer.Option(
            metavar="RATE",
            parser=_parse_rate("--max-rate"),
            help="Highest average rate of any rung, such as `4M` or `800k`.",
        ),
    ] = None
    rates: Annotated[
        tuple[float, ...] | None,
        typer.Option(metavar="RATE,RATE,...", parser=_parse_rates, help="Rates of the rungs."),
    ] = None
    heights: Heights = None
    peak_ratio: Annotated[
        float | None,
        typer.Option(
            metavar="RATIO",
            help="Highest ratio of peak to average rate of a rung; 0 removes the limit.",
        ),
    ] = None
    vbv_seconds: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Size of the decoder buffer in seconds at the peak rate; 0 removes the limit.",
        ),
    ] = None
    floor: Annotated[
        float | None,
        typer.Option(
            metavar="QUALITY", help="Lowest quality of any shot in any rung; 0 removes the limit."
        ),
    ] = None
    jnd: Annotated[
        float | None,
        typer.Option(
            metavar="QUALITY", help="Largest difference in quality between neighbouring rungs."
        ),
    ] = None
    measured_only: Annotated[
        bool,
        typer.Option(
            "--measured", help="Answer from measured points only, even if there is a prediction."
        ),
    ] = False
    source: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Path of the source, if it has moved since the run. Only a predicted ladder "
            "needs it.",
        ),
    ] = None
    store: StorePath = None


@grouped
def what_if(
    context: typer.Context, *, directory: Directory, flags: WhatIfFlags, json: Json = False
) -> None:
    """Show what other rungs, constraints, profiles or policies would give. Encodes nothing.

    Answers come from what was measured and, for a predicted ladder, from its prediction corrected
    by the measurements. Each rung says which, and how many of its encodes exist already.
    """
    from cluster.cli.views.whatif import whatif_lines, whatif_view
    from cluster.jobs import whatif as library

    options = library.WhatIfOptions(directory=directory, **given(flags))
    on_event = announced(context.obj, "what-if", directory)
    answer = library.what_if(options)
    finish(
        on_event,
        as_json=json,
        lines=whatif_lines(answer),
        result={"rungs": len(answer.rungs), "new_encodes": answer.new_encodes},
        view=lambda: show(whatif_view(answer)),
    )
