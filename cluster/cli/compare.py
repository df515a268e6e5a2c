"""Commands that compare ladders: with baselines, with each other, with what could be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.cli.command import command, option
from cluster.cli.options import (
    Directory,
    Heights,
    LimitFlags,
    MovedSource,
    Scheduler,
    StorePath,
    TlsFlags,
    Workers,
    given,
    parse_policy,
    parse_profile,
    parse_rates,
)
from cluster.cli.output import Line, Output

if TYPE_CHECKING:
    from cluster.events import Listener
    from cluster.package.comparison import Comparison

Limit = Annotated[
    int, typer.Option(metavar="N", min=0, help="Show at most N shots of each title, worst first.")
]


# -- with baselines ----------------------------------------------------------------------------


@command
def compare(
    output: Output,
    directory: Directory,
    rungs: bool = option(False, "--rungs", help="Also show the rungs of all ladders."),
    source: MovedSource = None,
    others: tuple[Path, ...] = option(
        (),
        "--with",
        metavar="DIR",
        help="Another package of the same title, for example of another codec, whose BD-rate "
        "against this one is shown. May be repeated.",
    ),
    baseline: Path | None = option(
        None,
        metavar="FILE|DIR",
        help="Your own ladder in place of the fixed one: a CSV file with a rate and a size in each "
        "row, such as `800k,640x360`, which plain x264 `medium` encodes in two passes, or a "
        "package of the same title.",
    ),
    also: tuple[str, ...] = option(
        (),
        metavar="MODEL",
        help="Additional quality model to state the claims by, for example `vmaf_v0.6.1neg`. May "
        "be repeated. `vmaf_v0.6.1` and `vmaf_v0.6.1neg` triple the cost of scoring.",
    ),
    shares: str = option(
        "25/25/50",
        metavar="N/N/N",
        help="Percentages of viewers whose devices play H.264 only, HEVC as well, and AV1 as well.",
    ),
    egress_price: float = option(
        0.02,
        metavar="PRICE",
        help="Price of delivering 10^9 bytes, for the number of views after which the package has "
        "paid.",
    ),
    cpu_price: float = option(
        0.04, metavar="PRICE", help="Price of a core for an hour, in the same currency."
    ),
    workers: Workers = None,
    scheduler: Scheduler = None,
    store: StorePath = None,
    *,
    tls: TlsFlags,
) -> None:
    """Compare a ladder with a fixed ladder and with the best per-title CRF ladders.

    The baselines are encoded and scored on the same title, each rung in one process, whatever the
    search of the ladder was: the fixed ladder in two passes by plain x264 at `medium` (x265 for a
    title of high dynamic range), and per-title CRF ladders of about ten rungs, one by the ladder's
    own recipe, one by that plain encoder. Three claims are stated for each codec, and for all of
    them together: BD-rate against the fixed ladder and against the per-title ladders, by the
    ladder's quality model and by the judges XPSNR and SSIM, and what viewers receive. The expected
    cost is said first. In a package of several codecs, viewers are divided by what their devices
    play, and the claims are summed by their shares. Last comes the number of views after which the
    saving has paid for the CPU of the whole job. The result is kept in DIR as `comparison.json`,
    where `ladder show` and `report` find it.

    The first line is for those who read one: at equal quality, as delivered, what it costs. After
    the claims stand egress per 1,000 hours watched, and why the figures differ.
    """
    from cluster.cli.views.comparison import comparison_lines, comparison_view
    from cluster.jobs import compare as library
    from ladder.audience import parse_shares
    from ladder.payback import Prices

    on_event = output.announce("compare", directory)
    options = library.CompareOptions(
        directory=directory,
        source=source,
        store=store,
        workers=workers,
        scheduler=tls.shared(scheduler),
        others=others,
        also=also,
        shares=parse_shares(shares),
        prices=Prices(egress_price, cpu_price),
        baseline=baseline,
    )
    comparison = library.compare_ladder(options, on_event)
    lines = list(comparison_lines(comparison))
    _keep(directory, comparison, lines, on_event)
    output.finish(
        lines=lines,
        result={"title": comparison.title, "exhaustive": comparison.exhaustive},
        view=lambda: comparison_view(comparison, rungs=rungs),
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
    (verdict,) = (fields for kind, fields in lines if kind == "verdict")
    title_id = read_ladder(directory).title.id
    if not save_comparison(directory, comparison, claims, title_id, verdict):
        on_event(Warned(f"{directory} cannot be written: the comparison is shown but not kept"))
    elif (directory / REPORT_FILE).exists():
        try:
            write_report(ReportOptions(directory), on_event)
        except OutputUnwritable as error:
            on_event(Warned(error.message))


# -- two ladders -------------------------------------------------------------------------------


@command
def diff(
    output: Output,
    old: Annotated[Path, typer.Argument(metavar="OLD", help="Package to compare against.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="Another package of the same title.")],
    limit: Limit = 10,
) -> None:
    """Show what changed between two ladders of one title: how they were made, rungs, shots, cost.

    All numbers compared are measured. A negative BD-rate means that NEW needs fewer bits.
    """
    from cluster.cli.views.difference import difference_lines, difference_view
    from cluster.package.diff import diff_ladders

    difference = diff_ladders(old, new)
    output.finish(
        lines=difference_lines(difference, limit),
        result={"title": difference.title, "bd_rate_percent": difference.percent},
        view=lambda: difference_view(difference, limit),
    )


@command
def upgrade_report(
    output: Output,
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
    max_mean: float = option(
        0.5, metavar="PERCENT", help="Highest mean BD-rate over titles that passes."
    ),
    max_title: float = option(
        2.0, metavar="PERCENT", help="Highest BD-rate of a single title that passes."
    ),
    max_cpu: float | None = option(
        None,
        metavar="PERCENT",
        help="Highest increase of CPU time that passes. Compared only for titles whose two "
        "runs began with an empty store.",
    ),
    limit: Limit = 5,
) -> None:
    """Compare the same titles under two versions or recipes, and fail if the new one is worse.

    The exit status is 0 within the limits and 1 beyond them, so it can gate an upgrade.
    """
    from cluster.cli.views.difference import upgrade_lines, upgrade_view
    from cluster.package import diff as library
    from encoder.errors import GateFailed

    report = library.upgrade_report(old, new, library.Limits(max_mean, max_title, max_cpu))
    failure = GateFailed("; ".join(report.failures), failures=list(report.failures))
    output.finish(
        failure=failure if report.failures else None,
        lines=upgrade_lines(report, limit),
        result={"titles": len(report.titles), "mean_bd_rate_percent": report.mean_bd_rate},
        view=lambda: upgrade_view(report, limit),
    )


# -- what if -----------------------------------------------------------------------------------


def _parse_names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


@dataclass(frozen=True)
class WhatIfFlags(LimitFlags):
    """Options of ``what-if``, the fields of :class:`cluster.jobs.whatif.WhatIfOptions`."""

    profile: str | None = option(
        None,
        metavar="NAME|FILE",
        parser=parse_profile,
        help="Another profile: its name, or a TOML file.",
    )
    policy: str | None = option(
        None,
        metavar="NAME",
        parser=parse_policy,
        help="Another policy. `locked`: one size per rung; `mixed`: shots of a rung may differ "
        "in size, and what one size per rung costs is shown.",
    )
    heights: Heights = None
    add: tuple[float, ...] | None = option(
        None,
        metavar="RATE,RATE,...",
        parser=parse_rates("--add"),
        help="Rates of rungs to add to the delivered ones.",
    )
    remove: tuple[str, ...] | None = option(
        None,
        metavar="NAME,NAME,...",
        parser=_parse_names,
        help="Names of delivered rungs to leave out.",
    )
    measured_only: bool = option(
        False, "--measured", help="Answer from measured points only, even if there is a prediction."
    )
    source: Path | None = option(
        None,
        metavar="FILE",
        help="Path of the source, if it has moved since the run. Only a predicted ladder needs it.",
    )
    store: StorePath = None


@command
def what_if(output: Output, *, directory: Directory, flags: WhatIfFlags) -> None:
    """Show what other rungs, constraints, profiles or policies would give. Encodes nothing.

    Answers come from what was measured and, for a predicted ladder, from its prediction corrected
    by the measurements. Each rung says which, and how many of its encodes exist already.
    """
    from cluster.cli.views.whatif import whatif_lines, whatif_view
    from cluster.jobs import whatif as library

    options = library.WhatIfOptions(directory=directory, **given(flags))
    output.announce("what-if", directory)
    answer = library.what_if(options)
    output.finish(
        lines=whatif_lines(answer),
        result={"rungs": len(answer.rungs), "new_encodes": answer.new_encodes},
        view=lambda: whatif_view(answer),
    )
