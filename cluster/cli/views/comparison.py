"""How a comparison looks: the three claims, together, for every model by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cluster.cli.output import Line
from cluster.cli.views.ladder import kbits, plain_table
from cluster.events import Listener, Warned
from cluster.package.comparison import ComparedRung, Comparison, save_comparison
from cluster.package.documents import read_ladder
from cluster.package.report import NAME, ReportOptions, write_report
from encoder.errors import OutputUnwritable
from ladder.bdrate import BdRate, NoOverlap
from ladder.claims import AFFORDABLE, TOLERANCE, Claims

_LADDERS = {"ours": "ours", "fixed": "fixed", "per_title": "per-title CRF"}


def comparison_view(comparison: Comparison, *, rungs: bool = False) -> list[RenderableType]:
    """The claims; with ``rungs`` all three ladders before them."""
    limit = ", which is the limit for these sizes and recipes" if comparison.exhaustive else ""
    article = "an" if comparison.exhaustive else "a"
    parts: list[RenderableType] = [
        Text(
            f"{comparison.title}: bits on disk and measured quality, each baseline rung encoded "
            f"in one process. Ours is from {article} {comparison.search} search{limit}."
        )
    ]
    if rungs:
        for name, label in _LADDERS.items():
            parts += [Text(), _rungs(label, getattr(comparison, name))]
    for model, claims in comparison.claims.items():
        parts += [
            *(Text(), Text(model, style="bold")),
            *_claims(claims, " (bounded)" if comparison.bounds else ""),
        ]
    if comparison.codecs:
        parts += [Text(), Text(f"codecs, by {comparison.quality_model}", style="bold")]
        table = plain_table(("BD-rate of", "l"), ("against", "l"), ("", "r"))
        for one in comparison.codecs:
            shown = "no common quality" if one.percent is None else f"{one.percent:+.1f} %"
            table.add_row(one.test, one.anchor, shown)
        parts.append(table)
    parts += [part for bound in comparison.bounds for part in (Text(), Text(f"Bounded: {bound}."))]
    notes = (
        "BD-rate: negative is fewer bits at equal quality. Viewers: log-normal throughput of this "
        f"median, each plays the highest rung under {AFFORDABLE:g} of its own. bits and quality: "
        "against what the fixed ladder gives them. not worse: bits when nobody takes more than "
        f"needed to lose at most {TOLERANCE:g}. worse off: clients who lose more all the same; "
        "at worst: the most that one loses."
    )
    return [*parts, Text(), Text(notes, style="dim")]


def _claims(claims: Claims, mark: str) -> Iterator[RenderableType]:
    bd = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    bd.add_row("1", "BD-rate against the fixed ladder", _bd(claims.against_fixed))
    bd.add_row("2", f"BD-rate against per-title CRF{mark}", _bd(claims.against_per_title))
    yield bd
    yield Text("3  what viewers receive, against the fixed ladder")
    table = plain_table(
        *(("median", "r"), ("bits", "r"), ("quality", "r"), ("not worse", "r")),
        *(("worse off", "r"), ("at worst", "r")),
    )
    for viewers in claims.viewers:
        table.add_row(
            f"{viewers.median / 1e6:g} Mbit/s",
            f"{viewers.received_percent:+.1f} %",
            f"{viewers.received.quality - viewers.fixed.quality:+.2f}",
            f"{viewers.matched_percent:+.1f} %",
            f"{100 * viewers.worse_off:.1f} %",
            f"{-viewers.worst_loss:.2f}" if viewers.worst_loss else "0",
        )
    yield table


def _bd(claim: BdRate | NoOverlap | None) -> str:
    match claim:
        case BdRate():
            return f"{claim.percent:+.1f} %  (quality {claim.low:.1f} to {claim.high:.1f})"
        case NoOverlap():
            return str(claim)
    return "none: a ladder has too few rungs"


def _rungs(label: str, rungs: tuple[ComparedRung, ...]) -> Table:
    models = list(rungs[0].quality) if rungs else []
    table = plain_table((label, "l"), ("kbit/s", "r"), *((model, "r") for model in models))
    for rung in rungs:
        means = (f"{rung.quality[model].mean:.2f}" for model in models)
        table.add_row(rung.name, kbits(rung.bitrate), *means)
    return table


def comparison_lines(comparison: Comparison) -> Iterator[tuple[str, dict[str, Any]]]:
    """A comparison as NDJSON: ``compared_rung`` objects, then one ``claims`` per model."""
    for name in _LADDERS:
        for rung in getattr(comparison, name):
            quality = {model: pooled.model_dump() for model, pooled in rung.quality.items()}
            fields = {"name": rung.name, "width": rung.width, "height": rung.height}
            yield (
                "compared_rung",
                {
                    "ladder": name,
                    **fields,
                    "bitrate": round(rung.bitrate),
                    "quality": quality,
                },
            )
    for one in comparison.codecs:
        yield "codec", asdict(one)
    for model, claims in comparison.claims.items():
        yield (
            "claims",
            {
                "quality_model": model,
                "against_fixed": _bd_fields(claims.against_fixed),
                "against_per_title": _bd_fields(claims.against_per_title),
                "bounds": list(comparison.bounds),
                "viewers": [
                    {
                        **asdict(viewers),
                        "received_percent": viewers.received_percent,
                        "matched_percent": viewers.matched_percent,
                    }
                    for viewers in claims.viewers
                ],
            },
        )


def keep(
    directory: Path, comparison: Comparison, lines: Sequence[Line], on_event: Listener
) -> None:
    """Write ``comparison.json`` into the package, and its report anew where it has one; warn
    where it does not take them."""
    claims = [fields for kind, fields in lines if kind == "claims"]
    if not save_comparison(directory, comparison, claims, read_ladder(directory).title.id):
        on_event(Warned(f"{directory} cannot be written: the comparison is shown but not kept"))
    elif (directory / NAME).exists():
        try:
            write_report(ReportOptions(directory), on_event)
        except OutputUnwritable as error:
            on_event(Warned(error.message))


def _bd_fields(claim: BdRate | NoOverlap | None) -> dict[str, Any] | None:
    return None if claim is None else asdict(claim)
