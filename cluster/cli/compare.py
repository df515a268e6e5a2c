"""Commands that compare and ask: ``ladder diff``, ``upgrade-report``, ``what-if``, ``report``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.cli.options import Heights, Json, StorePath, heights_in
from cluster.cli.output import announced, finish, show, write_lines
from encoder.errors import BadInput

if TYPE_CHECKING:
    from ladder.rungs import Policy

Old = Annotated[Path, typer.Argument(metavar="OLD", help="A package: the anchor.")]
New = Annotated[Path, typer.Argument(metavar="NEW", help="Another package of the same title.")]
Limit = Annotated[
    int, typer.Option(metavar="N", min=0, help="At most so many shots of each title, worst first.")
]


def diff(context: typer.Context, old: Old, new: New, limit: Limit = 10, json: Json = False) -> None:
    """Say what changed between two ladders of one title: how they were made, rungs, shots, cost.

    Everything compared is measured. BD-rate below zero: NEW needs fewer bits.
    """
    from cluster.cli.views import difference as views
    from cluster.package import diff

    found = diff.diff_ladders(old, new)
    finish(
        context.obj,
        as_json=json,
        lines=views.difference_lines(found, limit),
        result={"title": found.title, "bd_rate_percent": found.percent},
        view=lambda: show(views.difference_view(found, limit)),
    )


def upgrade_report(
    context: typer.Context,
    old: Annotated[
        Path, typer.Argument(metavar="OLD", help="A package, or a folder of packages: the anchor.")
    ],
    new: Annotated[
        Path,
        typer.Argument(metavar="NEW", help="The same titles by another version, tool or recipe."),
    ],
    max_mean: Annotated[
        float,
        typer.Option(metavar="PERCENT", help="Mean BD-rate over titles from where on it fails."),
    ] = 0.5,
    max_title: Annotated[
        float,
        typer.Option(metavar="PERCENT", help="BD-rate of any title from where on it fails."),
    ] = 2.0,
    max_cpu: Annotated[
        float | None,
        typer.Option(
            metavar="PERCENT",
            help="More CPU than this fails. Compared where both runs began with an empty store.",
            show_default=False,
        ),
    ] = None,
    limit: Limit = 5,
    json: Json = False,
) -> None:
    """Compare the same titles under two versions or recipes, and fail when the new is worse.

    The exit status is 0 when it is within the limits, 1 when it is not: a gate for upgrades.
    """
    from cluster.cli.views import difference as views
    from cluster.package import diff
    from encoder.errors import GateFailed

    limits = diff.Limits(max_mean, max_title, max_cpu)
    found = diff.upgrade_report(old, new, limits)
    if found.failures:
        if json:
            write_lines(views.upgrade_lines(found, limit))
        else:
            show(views.upgrade_view(found, limit))
        raise GateFailed("; ".join(found.failures), failures=list(found.failures))
    finish(
        context.obj,
        as_json=json,
        lines=views.upgrade_lines(found, limit),
        result={"titles": len(found.titles), "mean_bd_rate_percent": found.mean_bd_rate},
        view=lambda: show(views.upgrade_view(found, limit)),
    )


def what_if(
    context: typer.Context,
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="What `shotladder run` wrote with `--out`.")
    ],
    profile: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Another profile.", show_default=False),
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="`locked`, or `mixed`: shots of a rung may differ in size. Also says what one "
            "size per rung costs.",
            show_default=False,
        ),
    ] = None,
    max_rate: Annotated[
        str | None,
        typer.Option(
            metavar="RATE",
            help="No rung's average over this, as `4M` or `800k`.",
            show_default=False,
        ),
    ] = None,
    rates: Annotated[
        str | None,
        typer.Option(metavar="RATE,RATE,...", help="Rungs at these rates.", show_default=False),
    ] = None,
    heights: Heights = None,
    peak_ratio: Annotated[
        float | None,
        typer.Option(
            metavar="RATIO", help="Peak over average of a rung; 0 is no limit.", show_default=False
        ),
    ] = None,
    vbv_seconds: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Decoder buffer in seconds of the peak; 0 is no limit.",
            show_default=False,
        ),
    ] = None,
    floor: Annotated[
        float | None,
        typer.Option(
            metavar="QUALITY",
            help="No shot of any rung under this; 0 is no limit.",
            show_default=False,
        ),
    ] = None,
    jnd: Annotated[
        float | None,
        typer.Option(
            metavar="QUALITY", help="Neighbouring rungs at most so far apart.", show_default=False
        ),
    ] = None,
    measured_only: Annotated[
        bool,
        typer.Option("--measured", help="From measured points alone, also where there is a model."),
    ] = False,
    source: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where the source is now, if it has moved. Only a predicted ladder needs it.",
            show_default=False,
        ),
    ] = None,
    store: StorePath = None,
    json: Json = False,
) -> None:
    """Ask what other rungs, constraints, profiles or policies would give. Encodes nothing.

    Answers come from what was measured, and for a predicted ladder from its prediction corrected
    by that; each rung says which, and how many encodes are still to be made.
    """
    from cluster.cli.views import whatif as views
    from cluster.jobs import whatif

    options = whatif.WhatIfOptions(
        directory=directory,
        profile=profile,
        policy=_policy(policy),
        heights=heights_in(heights),
        rates=tuple(_rate(part, "--rates") for part in rates.split(",")) if rates else (),
        max_rate=_rate(max_rate, "--max-rate") if max_rate else None,
        peak_ratio=peak_ratio,
        vbv_seconds=vbv_seconds,
        floor=floor,
        jnd=jnd,
        source=source,
        store=store,
        measured_only=measured_only,
    )
    on_event = announced(context.obj, "what-if", directory)
    found = whatif.what_if(options)
    finish(
        on_event,
        as_json=json,
        lines=views.whatif_lines(found),
        result={"rungs": len(found.rungs), "new_encodes": found.new_encodes},
        view=lambda: show(views.whatif_view(found)),
    )


def _rate(text: str, option: str) -> float:
    from cluster.package.explain import parse_rate

    rate = parse_rate(text)
    if rate is None:
        raise BadInput(f"{option} takes a rate, as 800k or 4M; got {text!r}")
    return rate


def _policy(text: str | None) -> Policy | None:
    match text:
        case None | "locked" | "mixed":
            return text
    raise BadInput(f"no policy {text!r}; choose 'locked' or 'mixed'")


def report(
    context: typer.Context,
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="What `shotladder run` wrote with `--out`.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Where to. [default: DIR/report.html]", show_default=False
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The source, for frames of it, if it has moved.",
            show_default=False,
        ),
    ] = None,
    frames: Annotated[
        bool, typer.Option("--frames/--no-frames", help="Thumbnails and frames of the worst shots.")
    ] = True,
    json: Json = False,
) -> None:
    """Write a page about a ladder that opens anywhere, without a network.

    Curves of the title and of any shot, bits and quality along the time, predicted against
    measured, the baselines that `ladder compare` measured, frames of the worst shots, what a start
    takes, loudness, black and frozen stretches, artwork where there is any, and the run.
    """
    from cluster.package.report import ReportOptions, write_report

    telling = announced(context.obj, "report", directory)
    made = write_report(ReportOptions(directory, out, source, frames), telling)
    finish(
        telling,
        as_json=json,
        result={"report": str(made), "bytes": made.stat().st_size},
        view=lambda: print(made),
    )
