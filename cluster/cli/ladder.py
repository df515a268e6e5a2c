"""``shotladder ladder``: look at the ladder of a finished package, and compare it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from cluster.cli.command import command, option
from cluster.cli.compare import compare, diff
from cluster.cli.options import Directory
from cluster.cli.output import Output

if TYPE_CHECKING:
    from cluster.package.explain import SegmentFacts, Selection, ShotFacts

ladder_app = typer.Typer(name="ladder", help="Look at a finished ladder.")


@dataclass(frozen=True, slots=True)
class ShotFlags:
    """Options of ``ladder show`` that choose shots and their order."""

    shots: bool = option(False, "--shots", help="Also show each shot in each rung.")
    rung: str | None = option(
        None,
        metavar="NAME|RATE",
        help="Show the shots of one rung, with what was predicted for them and why they are "
        "as they are: the rung's name, its number, `top`, or a rate such as `800k` or `1M` for the "
        "nearest rung.",
    )
    shot: tuple[str, ...] = option(
        (), metavar="N|N-M", help="Show only this shot or range of shots. May be repeated."
    )
    sort: str = option(
        "shot",
        metavar="KEY",
        help="Order of shots: `shot` (by number), `bytes` or `rate` (largest first), "
        "`quality` or `error` of the prediction (worst first).",
    )
    reverse: bool = option(False, "--reverse", help="Reverse the order.")
    limit: int | None = option(None, metavar="N", min=1, help="Show at most N shots.")
    below: float | None = option(
        None,
        metavar="QUALITY",
        help="Show only shots of lower quality: in the rung, or in every rung.",
    )

    def selection(self) -> Selection:
        """Return which shots to show, in which order.

        Raises:
            BadInput: a value cannot be parsed.
        """
        from cluster.package.explain import Selection, parse_shots, parse_sort

        return Selection(
            sort=parse_sort(self.sort),
            reverse=self.reverse,
            limit=self.limit,
            shots=parse_shots(self.shot),
            below=self.below,
        )


@ladder_app.command("show", rich_help_panel="Look")
@command
def show_ladder(output: Output, *, directory: Directory, flags: ShotFlags) -> None:
    """Show the rungs of a ladder: sizes, rates, measured quality, and what limited them.

    Any option about shots lists shots.
    """
    from cluster.cli.views.ladder import ladder_facts, ladder_lines, ladder_view
    from cluster.cli.views.shots import shots_parts
    from cluster.package import explain
    from cluster.package.comparison import has_stale_comparison, read_comparison
    from cluster.package.package import Package

    selection = flags.selection()
    package = Package.open(directory)
    ladder = package.ladder
    compared = read_comparison(directory)
    segments: list[SegmentFacts] | None = None
    stale = has_stale_comparison(directory)
    parts = ladder_view(ladder, compared, stale=stale)
    if flags.shots or flags.rung is not None or selection != explain.Selection():
        parts = [ladder_facts(ladder)]
        rung = explain.find_rung(ladder, flags.rung) if flags.rung is not None else None
        shots: tuple[ShotFacts, ...] = ()
        if rung is not None:
            of_rung = explain.segment_facts(package, rung)
            segments = [*explain.select_segments(of_rung, selection)]
        else:
            shots = explain.select_shots(explain.shot_facts(package), selection)
            segments = [segment for shot in shots for segment in shot.segments]
        parts += ["", *shots_parts(ladder, rung, shots, segments)]
    output.finish(
        lines=ladder_lines(ladder, compared, segments),
        result={"rungs": len(ladder.rungs), "shots": len(ladder.rungs[0].segments)},
        view=lambda: parts,
    )


@ladder_app.command("plot", rich_help_panel="Look")
@command
def plot_ladder(
    output: Output,
    directory: Directory,
    shot: int | None = option(
        None,
        metavar="N",
        help="Plot one shot instead of the title: its measured points, its hull and what the "
        "rungs chose. Shots count from 0.",
    ),
) -> None:
    """Plot rate against quality: the title's hulls and its rungs, or those of one shot."""
    from cluster.cli.views.plot import plot_lines, render
    from cluster.package.package import Package
    from cluster.package.plots import shot_plot, title_plot

    package = Package.open(directory)
    plot = title_plot(package) if shot is None else shot_plot(package, shot)
    output.finish(
        lines=plot_lines(plot),
        result={"title": plot.title, "quality_model": plot.quality_model},
        view=lambda: render(plot),
    )


ladder_app.command("compare", rich_help_panel="Compare")(compare)
ladder_app.command("diff", rich_help_panel="Compare")(diff)
