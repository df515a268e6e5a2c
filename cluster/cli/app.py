"""The commands. Each checks nothing that the library checks, calls it, and shows what it returns.

Imports of the library stand inside the commands: ``--help`` must not wait for Dask and PyAV.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.cli import cluster as cluster_commands
from cluster.cli.artwork import artwork_app
from cluster.cli.compare import diff, report, upgrade_report, what_if
from cluster.cli.evaluate import evaluate
from cluster.cli.options import (
    FaceModel,
    Heights,
    Json,
    Priority,
    Scheduler,
    StorePath,
    ToneMap,
    Workers,
    heights_in,
)
from cluster.cli.output import announced, finish, say, show, write_lines
from cluster.cli.prefetch import prefetch_app
from cluster.cli.service import COMMANDS
from cluster.cli.store import runs_app, store_app
from cluster.cli.sweep import sweep
from cluster.cli.train import promote, train
from encoder.errors import BadInput

if TYPE_CHECKING:
    from cluster.events import Listener
    from ladder.rungs import Policy

app = typer.Typer(
    name="shotladder",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
ladder_app = typer.Typer(name="ladder", help="Look at a finished ladder.")
app.add_typer(ladder_app)
app.add_typer(prefetch_app)

Source = Annotated[Path, typer.Argument(metavar="SOURCE", help="A video file.")]
Directory = Annotated[
    Path, typer.Argument(metavar="DIR", help="What `shotladder run` wrote with `--out`.")
]


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"shotladder {version('shotladder')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and end."
        ),
    ] = False,
) -> None:
    """Per-shot encoding ladders: each bit where people see it.

    `shotladder run SOURCE --out DIR` makes one; the other commands look at it.
    """


@app.command()
def run(
    context: typer.Context,
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="SOURCE", help="A video file. With `--from`: where it is now, if it has moved."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where the package goes: a new or empty directory, or an older package, which "
            "it replaces in one step.",
        ),
    ] = None,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Only say what the run would cost. Needs no `--out`."),
    ] = False,
    search: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="How operating points are found: `predict` encodes what the complexity model "
            "expects the ladder to be and corrects that; `exhaustive` measures every size and CRF "
            "of the grid; `sparse` every third CRF.",
        ),
    ] = "predict",
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Weights of the complexity model, instead of those that come with the product.",
            show_default=False,
        ),
    ] = None,
    codec: Annotated[
        str,
        typer.Option(
            metavar="NAME,...",
            help="`x264`, `x265`, `svtav1` or `vp9`; or several, the first being what every "
            "player has to be able to play: `x264,svtav1`.",
        ),
    ] = "x264",
    preset: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Of the encoder, `ultrafast` to `veryslow`, for every codec."
        ),
    ] = "medium",
    profile: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Numbers behind the ladder: spacing of the rungs, limits of rates and quality.",
        ),
    ] = "default",
    heights: Heights = None,
    tone_map: ToneMap = False,
    policy: Annotated[
        str,
        typer.Option(metavar="NAME", help="`locked`: one size per rung; its shots differ in CRF."),
    ] = "locked",
    also: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="Measure the delivered segments with this model too, for example "
            "`vmaf_v0.6.1neg`. May be repeated.",
            show_default=False,
        ),
    ] = None,
    repeat: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="RUN",
            help="Repeat a run (see `runs list`) with its source and options, and compare the "
            "package with what it gave.",
            show_default=False,
        ),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="While it runs, serve its numbers for Prometheus at `http://127.0.0.1:N/metrics`.",
            show_default=False,
        ),
    ] = None,
    face_model: FaceModel = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    priority: Priority = 0,
    store: StorePath = None,
    json: Json = False,
) -> None:
    """Make a ladder: find the shots, encode and measure them, choose, package, verify.

    When it is stopped, however it is stopped, the same command continues where it was. DIR is
    written at the end, complete and verified, or not at all.
    """
    if out is None and not plan:
        raise BadInput("run needs --out DIR, a new or empty directory for the package (or --plan)")
    from cluster.execution import metrics
    from cluster.jobs import estimate, history
    from cluster.jobs.options import RunOptions
    from cluster.jobs.run import run_title
    from cluster.store import manifests, open_store

    before = manifests.find_run(open_store(store), repeat) if repeat else None
    if source is None and before is None:
        raise BadInput("run needs SOURCE, a video file (or --from RUN); `shotladder run --help`")
    options = RunOptions(
        source=source or Path(before.source.path if before else ""),
        out=out or Path(),
        search=search,
        codec=codec,
        preset=preset,
        profile=profile,
        heights=heights_in(heights),
        policy=_policy(policy),
        store=store,
        workers=workers,
        scheduler=scheduler,
        priority=priority,
        also=tuple(also or ()),
        face_model=face_model,
        tone_map=tone_map,
        weights=weights,
    )
    if before is not None:
        options = history.repeated(before, options)
    on_event = announced(context.obj, "plan" if plan else "run", options.source)
    from cluster.cli.views import ladder as views

    if plan:
        expected = estimate.plan_run(options, on_event)
        finish(
            on_event,
            as_json=json,
            result=views.estimate_fields(expected),
            view=lambda: show(views.estimate_view(expected)),
        )
        return
    with metrics.served(metrics_port):
        done = run_title(options, on_event)
    if before is not None and done.manifest is not None:
        history.check_repeated(before, done.manifest)

    def view() -> None:
        say(views.run_summary(done.ladder, done.run, str(done.out)))
        for name in ("master.m3u8", "manifest.mpd", "ladder.json"):
            print(done.out / name)

    finish(
        on_event,
        as_json=json,
        result={"out": str(done.out), "rungs": len(done.ladder.rungs), "run": done.run},
        view=view,
    )


@app.command()
def shots(
    context: typer.Context,
    title: Annotated[
        Path,
        typer.Argument(metavar="SOURCE|DIR", help="A video file, or what `shotladder run` wrote."),
    ],
    store: StorePath = None,
    json: Json = False,
) -> None:
    """List the shots of a video, or those of a finished ladder."""
    from cluster.cli.views import ladder as views
    from cluster.jobs.shots import shots_of_package, shots_of_source

    on_event: Listener = context.obj
    if title.is_dir():
        listed = shots_of_package(title)
    else:
        on_event = announced(on_event, "shots", title)
        listed = shots_of_source(title, store, on_event)
    finish(
        on_event,
        as_json=json,
        lines=views.shot_lines(listed),
        result={"shots": len(listed.shots), "frames": listed.frames},
        view=lambda: show(views.shots_view(listed)),
    )


@ladder_app.command("show")
def show_ladder(
    context: typer.Context,
    directory: Directory,
    shots: Annotated[
        bool, typer.Option("--shots", help="Also what every shot got in every rung.")
    ] = False,
    rung: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|RATE",
            help="The shots of one rung, with what was predicted and why they are as they are: a "
            "rung's name, or a rate such as `800k` or `1M` for the rung nearest to it.",
            show_default=False,
        ),
    ] = None,
    shot: Annotated[
        list[str] | None,
        typer.Option(
            metavar="N|N-M", help="Only these shots. May be repeated.", show_default=False
        ),
    ] = None,
    sort: Annotated[
        str,
        typer.Option(
            metavar="KEY",
            help="Order of shots: `shot`, or most first `bytes` and `rate`, worst first `quality` "
            "and `error` (of the prediction).",
        ),
    ] = "shot",
    reverse: Annotated[bool, typer.Option("--reverse", help="The other way round.")] = False,
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="At most so many shots.", show_default=False),
    ] = None,
    below: Annotated[
        float | None,
        typer.Option(
            metavar="QUALITY",
            help="Only shots of less quality: in the rung, or in every rung.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Show the rungs of a ladder: sizes, rates, measured quality, and what bounded them.

    Any option about shots lists shots.
    """
    from cluster.cli.views import ladder as views
    from cluster.cli.views import shots as shot_views
    from cluster.package import explain
    from cluster.package.comparison import read_comparison
    from cluster.package.package import Package

    wanted = explain.Wanted(
        explain.parse_sort(sort), reverse, limit, explain.parse_shots(shot or ()), below
    )
    package = Package.open(directory)
    ladder = package.ladder
    compared = read_comparison(directory)
    listing = shots or rung is not None or wanted != explain.Wanted()
    rows: list[explain.SegmentFacts] | None = None
    parts = views.ladder_view(ladder, compared) if rung is None else [views.ladder_facts(ladder)]
    if listing:
        looked_at = explain.find_rung(ladder, rung) if rung is not None else None
        per_shot: tuple[explain.ShotFacts, ...] = ()
        if looked_at is not None:
            found = explain.segment_facts(package, looked_at)
            rows = [*explain.chosen_segments(found, wanted)]
        else:
            per_shot = explain.chosen_shots(explain.shot_facts(package), wanted)
            rows = [segment for one in per_shot for segment in one.segments]
        parts += ["", *shot_views.shots_parts(ladder, looked_at, per_shot, rows)]
    finish(
        context.obj,
        as_json=json,
        lines=shot_views.ladder_lines(ladder, compared, rows),
        result={"rungs": len(ladder.rungs), "shots": len(ladder.rungs[0].segments)},
        view=lambda: show(parts),
    )


@ladder_app.command("plot")
def plot_ladder(
    context: typer.Context,
    directory: Directory,
    shot: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="One shot's measured points, its hull and what the rungs chose, instead of the "
            "title's. From 0.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Draw rate against quality: the title's hulls and its rungs, or those of one shot."""
    from cluster.cli.views import ladder as views
    from cluster.cli.views.plot import render
    from cluster.package.package import Package
    from cluster.package.plots import shot_plot, title_plot

    package = Package.open(directory)
    plot = title_plot(package) if shot is None else shot_plot(package, shot)
    finish(
        context.obj,
        as_json=json,
        lines=views.plot_lines(plot),
        result={"title": plot.title, "quality_model": plot.quality_model},
        view=lambda: print(render(plot)),
    )


@ladder_app.command("compare")
def compare_ladder(
    context: typer.Context,
    directory: Directory,
    rungs: Annotated[
        bool, typer.Option("--rungs", help="Also the rungs of all three ladders.")
    ] = False,
    source: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Where the source is now, if it has moved.", show_default=False
        ),
    ] = None,
    others: Annotated[
        list[Path] | None,
        typer.Option(
            "--with",
            metavar="DIR",
            help="Another package of the same title, for instance of another codec: its BD-rate "
            "against this one. May be repeated.",
            show_default=False,
        ),
    ] = None,
    workers: Workers = None,
    scheduler: Scheduler = None,
    store: StorePath = None,
    json: Json = False,
) -> None:
    """Compare a ladder with a fixed one and with the best per-title CRF ladder.

    Both are encoded and measured on the same title, each rung in one process. Three claims are
    stated together, for each quality model: BD-rate against either, and what viewers receive.
    Of several codecs, the first is compared so, and each other one's BD-rate against it is shown.
    Kept in DIR as `comparison.json`, where `ladder show` and `report` find it.
    """
    from cluster.cli.views import comparison
    from cluster.jobs import compare

    on_event = announced(context.obj, "compare", directory)
    options = compare.CompareOptions(
        directory, source, store, workers, scheduler, tuple(others or ())
    )
    result = compare.compare_ladder(options, on_event)
    lines = list(comparison.comparison_lines(result))
    comparison.keep(directory, result, lines, on_event)
    finish(
        on_event,
        as_json=json,
        lines=lines,
        result={"title": result.title, "exhaustive": result.exhaustive},
        view=lambda: show(comparison.comparison_view(result, rungs=rungs)),
    )


@app.command()
def verify(context: typer.Context, directory: Directory, json: Json = False) -> None:
    """Decode a package and compare every frame with the one that was measured.

    Also checked: playlists, sizes, times, keyframes and sound. `run` has done so before it
    published the package; this finds what happened to the files since.
    """
    from cluster.package.package import Package

    on_event = announced(context.obj, "verify", directory)
    done = Package.open(directory).verify(on_event)
    finish(
        on_event,
        as_json=json,
        result={
            "rungs": list(done.rungs),
            "frames": done.frames,
            "segments": done.segments,
            "cpu_seconds": round(done.cpu_seconds, 3),
        },
        view=lambda: print(
            f"{directory}: {len(done.rungs)} rungs of {done.segments} segments decode to exactly "
            f"the {done.frames} frames that were measured"
        ),
    )


@app.command()
def doctor(
    context: typer.Context,
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="[SOURCE]", help="A video file: say what it is and what will happen to it."
        ),
    ] = None,
    store: StorePath = None,
    json: Json = False,
) -> None:
    """Say what this machine can do; of a SOURCE, what was found and what will happen to it."""
    from cluster.cli.views import ladder as views
    from cluster.jobs import doctor as examine

    findings = examine.examine_machine(store) if source is None else examine.examine_source(source)
    lines = [("finding", asdict(finding)) for finding in findings]
    if any(finding.state == "bad" for finding in findings):
        if json:
            write_lines(lines)
        else:
            show(views.findings_view(findings))
        raise examine.unhealthy(findings, source)
    finish(
        context.obj,
        as_json=json,
        lines=lines,
        result={"warnings": sum(finding.state == "warn" for finding in findings)},
        view=lambda: show(views.findings_view(findings)),
    )


def _policy(text: str) -> Policy:
    match text:
        case "locked" | "mixed":
            return text
    raise BadInput(f"no policy {text!r}; choose 'locked'")


app.command()(sweep)
app.add_typer(runs_app)
app.add_typer(store_app)
for one in cluster_commands.COMMANDS:
    app.command()(one)
app.add_typer(artwork_app)
app.command()(train)
app.command()(evaluate)
app.command()(promote)
for command in COMMANDS:
    app.command()(command)
ladder_app.command("diff")(diff)
app.command()(upgrade_report)
app.command()(what_if)
app.command("report")(report)
