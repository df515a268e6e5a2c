"""``shotladder run``, ``encode`` and ``doctor``: make a ladder or a file; check what it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.cli.command import argument, command, option
from cluster.cli.options import (
    EncodeFlags,
    OptionsFile,
    RunFlags,
    SourceFlags,
    StorePath,
    TlsFlags,
    given,
)
from cluster.cli.output import Output, say
from encoder.errors import BadInput
from encoder.names import path_of

if TYPE_CHECKING:
    from cluster.jobs.request import RunOptions

VERBOSE = option(False, "--verbose", help="Show every stage and every round of encodes.")
"""Looked up before the command line is parsed, by :func:`cluster.cli.main`."""


@command
def run(
    output: Output,
    *,
    source: tuple[Path, ...] = argument(
        None,
        metavar="SOURCE...",
        help="Video file. Of several, each gets a package in a folder of its own in DIR; one that "
        "fails does not stop the others. With `--from`: the path of the source, if it has moved.",
    ),
    out: Path | None = option(
        None,
        "--out",
        "-o",
        metavar="DIR",
        help="Directory for the package: a new or empty one, or an older package, which is "
        "replaced in one step.",
    ),
    plan: bool = option(
        False, "--plan", help="Only estimate what the run would cost; needs no `--out`."
    ),
    cpu_price: float | None = option(
        None,
        min=0,
        metavar="PRICE",
        help="With `--plan`: say what the run costs at this price of a CPU hour, in any currency.",
    ),
    options_file: OptionsFile = None,
    flags: RunFlags,
    tls: TlsFlags,
    verbose: bool = VERBOSE,
    repeat: str | None = option(
        None,
        "--from",
        metavar="RUN",
        help="Repeat a run (see `runs list`) with its source and options, and compare the two "
        "packages.",
    ),
    metrics_port: int | None = option(
        None,
        metavar="N",
        help="Serve Prometheus metrics at `http://127.0.0.1:N/metrics` during the run.",
    ),
) -> None:
    """Make a ladder: find the shots, encode and score them, choose, package, verify.

    When a run is stopped for whatever reason, the same command resumes it. DIR is written at the
    end, complete and verified, or not at all. Of several sources, those whose packages are there
    are not made again.
    """
    if out is None and not plan:
        raise BadInput("run needs --out DIR, a new or empty directory for the package (or --plan)")
    if cpu_price is not None and not plan:
        raise BadInput("--cpu-price is of estimates; give it with --plan, or leave it out")
    from cluster.execution import metrics
    from cluster.jobs.history import check_repeated, repeated
    from cluster.jobs.request import RunOptions, changed_ladder_options
    from cluster.jobs.run import run_title
    from cluster.store import manifests, open_store

    sources = source or ()
    before = manifests.find_run(open_store(flags.store), repeat) if repeat else None
    if not sources and before is None:
        raise BadInput("run needs SOURCE, a video file (or --from RUN); `shotladder run --help`")
    options = RunOptions(
        source=sources[0] if sources else path_of(before.source.path if before else ""),
        out=out or Path(),
        **{**given(flags), "scheduler": tls.shared(flags.scheduler)},
    )
    if len(sources) > 1:
        if before is not None:
            raise BadInput(f"--from repeats one run; name one source, got {len(sources)}")
        from cluster.jobs.several import several_options

        runs = several_options(options, sources)
        if plan:
            _estimate_several(runs, cpu_price, output)
        else:
            _run_several(runs, options.out, output, metrics_port)
        return
    if before is not None:
        if changed := changed_ladder_options(options):
            raise BadInput(
                f"--from takes the options of {before.id}; leave out "
                f"{', '.join('--' + name.replace('_', '-') for name in changed)}"
            )
        options = repeated(before, options)
    if plan:
        _estimate(options, cpu_price, output)
        return
    on_event = output.announce("run", options.source)
    with metrics.served(metrics_port):
        done = run_title(options, on_event)
    if before is not None and done.manifest is not None:
        check_repeated(before, done.manifest)
    output.finish(
        result={"out": str(done.out), "rungs": len(done.ladder.rungs), "run": done.run},
        view=lambda: "\n".join(
            str(done.out / name) for name in ("master.m3u8", "manifest.mpd", "ladder.json")
        ),
    )
    if not output.as_json:
        from cluster.cli.views.ladder import run_summary

        say(run_summary(done.ladder, done.run, done.out))


def _run_several(
    runs: Sequence[RunOptions], out: Path, output: Output, metrics_port: int | None
) -> None:
    from cluster.cli.views.several import several_lines, several_view
    from cluster.execution import metrics
    from cluster.jobs.several import failure, run_titles

    on_event = output.announce("run", f"{len(runs)} sources")
    with metrics.served(metrics_port):
        outcomes = run_titles(runs, on_event)
    output.finish(
        lines=several_lines(outcomes),
        result={"out": str(out), "sources": len(outcomes)},
        view=lambda: several_view(outcomes),
        failure=failure(outcomes),
    )


def _estimate_several(runs: Sequence[RunOptions], cpu_price: float | None, output: Output) -> None:
    from rich.text import Text

    from cluster.cli.views.estimate import estimate_fields, estimate_view
    from cluster.jobs.estimate import plan_run

    on_event = output.announce("plan", f"{len(runs)} sources")
    found = [(str(options.source), plan_run(options, on_event)) for options in runs]
    output.finish(
        lines=[
            ("plan", {"source": name, **estimate_fields(one, cpu_price)}) for name, one in found
        ],
        result={"sources": len(found)},
        view=lambda: [
            part
            for name, one in found
            for part in (Text(name, "bold"), *estimate_view(one, cpu_price))
        ],
    )


def _estimate(options: RunOptions, cpu_price: float | None, output: Output) -> None:
    from cluster.cli.views.estimate import estimate_fields, estimate_view
    from cluster.jobs.estimate import plan_run

    estimate = plan_run(options, output.announce("plan", options.source))
    output.finish(
        result=estimate_fields(estimate, cpu_price),
        view=lambda: estimate_view(estimate, cpu_price),
    )


@command
def encode(
    output: Output,
    *,
    source: Path = argument(..., metavar="SOURCE", help="Video file."),
    out: Path = option(
        ...,
        "--out",
        "-o",
        metavar="FILE",
        help="File to write: .mp4, .m4v or .mkv says the format.",
    ),
    vmaf: float = option(95.0, metavar="QUALITY", help="VMAF that the whole file is to have."),
    pooling: str = option(
        "mean",
        metavar="NAME",
        help="How the scores of all frames become one: `mean`, `harmonic-mean` or `p5`, their 5th "
        "percentile.",
    ),
    sound: str = option(
        "copy",
        metavar="NAME",
        help="`copy` takes the source's sound as it is, where the format holds it and the copy "
        "proves to be in time and no option says how it is encoded; `aac` encodes it, by another "
        "codec with `--audio-codec`; `none` leaves it out.",
    ),
    subtitles: bool = option(True, "--subtitles/--no-subtitles", help="Take text subtitles along."),
    compare: bool = option(
        False,
        "--compare",
        help="Encode the whole title at single CRFs as well, and say what they take for the same "
        "quality: two to five more encodes of everything.",
    ),
    flags: EncodeFlags,
    verbose: bool = VERBOSE,
) -> None:
    """Make one file of a given quality: every shot gets the CRF at which all have equal slope.

    Where one CRF for the whole file gives easy shots more than anyone sees and hard ones too
    little, bits go where they raise quality most. The file has the size of the source, is decoded
    before it appears, and each of its frames was scored. A command that was stopped goes on from
    the store.
    """
    from cluster.cli.views.encode import encode_fields, encode_view
    from cluster.jobs.encode import EncodeRequest, encode_title
    from cluster.jobs.request import RunOptions

    options = RunOptions(source=source, out=out, **given(flags))
    asked = EncodeRequest(
        quality=vmaf,
        pooling=pooling,
        sound=sound,
        subtitles=subtitles,
        compare=compare,
    )
    done = encode_title(options, asked, output.announce("encode", source))
    output.finish(result=encode_fields(done, asked), view=lambda: encode_view(done, asked))


@command
def doctor(
    output: Output,
    source: Path | None = argument(
        None, metavar="[SOURCE]", help="Video file to examine instead of the machine."
    ),
    store: StorePath = None,
    *,
    flags: SourceFlags,
) -> None:
    """Check what this machine can do; for a SOURCE, what it is and how a run would treat it."""
    from cluster.cli.views.findings import findings_view
    from cluster.jobs.doctor import examine_machine, unhealthy
    from cluster.jobs.source_findings import examine_source
    from encoder.source.choices import SourceChoices

    if source is None:
        findings = examine_machine(store)
    else:
        choices = SourceChoices.from_document(asdict(flags))
        choices.check()
        findings = examine_source(source, choices)
    lines = [("finding", asdict(finding)) for finding in findings]
    bad = any(finding.state == "bad" for finding in findings)
    output.finish(
        lines=lines,
        failure=unhealthy(findings, source) if bad else None,
        result={"warnings": sum(finding.state == "warn" for finding in findings)},
        view=lambda: findings_view(findings),
    )
