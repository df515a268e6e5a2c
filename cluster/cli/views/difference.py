"""How differences between ladders look."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cluster.cli.drawing import duration
from cluster.cli.views.tables import ABSENT, Column, kbits, table
from cluster.package.diff import LadderDifference, RungChange, ShotChange, UpgradeReport
from ladder.bdrate import BdRate, NoOverlap
from vmaf.models import is_judge, unit


def difference_view(difference: LadderDifference, limit: int) -> list[RenderableType]:
    """Show what changed between two ladders of a title, and at most ``limit`` of its shots."""
    parts: list[RenderableType] = [
        Text(f"{difference.title}: new against old, all measured by {difference.quality_model}"),
        Text(f"BD-rate {_bd(difference.bd_rate)} (negative: fewer bits)"),
        *(
            Text(f"by {model} {_bd(claim, unit(model))}")
            for model, claim in difference.also.items()
        ),
        Text(_cost(difference)),
    ]
    if difference.facts:
        parts += [Text(), table(_FACTS, difference.facts.items())]
    parts += [Text(), _rungs(difference)]
    if not difference.shots:
        parts += [Text(), Text("The two ladders have different shots, which cannot be compared.")]
    elif limit:
        parts += [Text(), *_shots(difference, limit)]
    return parts


_FACTS: list[Column[tuple[str, tuple[Any, Any]]]] = [
    Column("made with", lambda row: row[0], left=True),
    Column("old", lambda row: row[1][0], left=True, fold=True),
    Column("new", lambda row: row[1][1], left=True, fold=True),
]


def _rungs(difference: LadderDifference) -> Table:
    model = difference.quality_model

    def mean(change: RungChange, side: str) -> str:
        rung = getattr(change, side)
        return "" if rung is None else f"{rung.quality[model].mean:.2f}"

    def rate(change: RungChange, side: str) -> str:
        rung = getattr(change, side)
        return "" if rung is None else kbits(rung.bitrate)

    columns: list[Column[RungChange]] = [
        Column("old rung", lambda change: change.old and change.old.name, left=True),
        Column("kbit/s", lambda change: rate(change, "old")),
        Column("quality", lambda change: mean(change, "old")),
        Column("new rung", lambda change: change.new and change.new.name, left=True),
        Column("kbit/s", lambda change: rate(change, "new")),
        Column("quality", lambda change: mean(change, "new")),
        Column("bits", lambda change: change.bitrate_percent, "+.1f", " %"),
        Column("quality", lambda change: change.quality_change, "+.2f"),
    ]
    return table(columns, difference.rungs)


_SHOTS: list[Column[ShotChange]] = [
    Column("shot", lambda shot: shot.shot),
    Column("frames", lambda shot: f"{shot.start_frame}-{shot.end_frame - 1}", left=True),
    Column("BD-rate", lambda shot: shot.bd_rate, "+.1f", " %"),
    Column("bits", lambda shot: shot.bytes_percent, "+.1f", " %"),
    Column("quality", lambda shot: shot.quality_change, "+.2f"),
    Column("worst rung", lambda shot: shot.worst_change, "+.2f"),
]


def _shots(difference: LadderDifference, limit: int) -> Iterator[RenderableType]:
    yield Text(
        "Shots, worst first. BD-rate: over all rungs; bits and quality: over paired rungs",
        style="dim",
    )
    yield table(_SHOTS, difference.shots[:limit])


def _bd(claim: BdRate | NoOverlap | None, unit: str = "") -> str:
    match claim:
        case BdRate():
            return f"{claim.percent:+.2f} % over quality {claim.low:.1f} to {claim.high:.1f}{unit}"
        case NoOverlap():
            return f"none: {claim}"
    return "none: a ladder has too few rungs"


def _cost(difference: LadderDifference) -> str:
    old, new = ("unknown" if s is None else duration(s) for s in difference.cpu_seconds)
    text = f"encodes {difference.encodes[0]} -> {difference.encodes[1]}; CPU {old} -> {new}"
    if None in difference.cpu_seconds:
        text += " (known only for runs that began with an empty store)"
    return text


def difference_lines(
    difference: LadderDifference, limit: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a difference as NDJSON: ``difference``, then ``rung_change`` and ``shot_change``."""
    yield (
        "difference",
        {
            "title": difference.title,
            "quality_model": difference.quality_model,
            "bd_rate": _fields(difference.bd_rate),
            "also": {model: _fields(bd) for model, bd in difference.also.items()},
            "facts": {name: list(values) for name, values in difference.facts.items()},
            "encodes": list(difference.encodes),
            "cpu_seconds": list(difference.cpu_seconds),
        },
    )
    for change in difference.rungs:
        yield (
            "rung_change",
            {
                "old": change.old.name if change.old else None,
                "new": change.new.name if change.new else None,
                "bitrate_percent": change.bitrate_percent,
                "quality_change": change.quality_change,
            },
        )
    for shot in difference.shots[:limit]:
        yield "shot_change", asdict(shot)


def _fields(claim: BdRate | NoOverlap | None) -> dict[str, Any] | None:
    return None if claim is None else asdict(claim)


# -- many titles -------------------------------------------------------------------------------


def upgrade_view(report: UpgradeReport, limit: int) -> list[RenderableType]:
    """Show the titles of an upgrade report, the worst shots of each, and whether it passes."""
    mean = "none" if report.mean_bd_rate is None else f"{report.mean_bd_rate:+.2f} %"
    cpu = (
        "unknown (no title was made from an empty store both times)"
        if report.cpu_percent is None
        else f"{report.cpu_percent:+.1f} % over {report.cpu_titles} titles"
    )
    models = ", ".join(sorted({title.quality_model for title in report.titles}))
    parts: list[RenderableType] = [
        table(_titles(report), report.titles),
        Text(),
        Text(f"mean BD-rate {mean}, all measured by {models}; negative is fewer bits. CPU {cpu}."),
    ]
    for model, by in report.also.items():
        titles = "all titles" if by.titles == len(report.titles) else f"{by.titles} titles"
        parts.append(Text(f"mean BD-rate {by.percent:+.2f} % by {model}, over {titles}."))
    for names, side in ((report.only_old, "old"), (report.only_new, "new")):
        if names:
            parts.append(Text(f"only on the {side} side: {', '.join(names)}"))
    if limit:
        for title in report.titles:
            if title.shots:
                parts += [Text(), Text(title.title), *_shots(title, limit)]
    # What fails is said once, by the error that ends the command.
    return parts if report.failures else [*parts, Text(), Text("PASS", style="bold green")]


def _titles(report: UpgradeReport) -> list[Column[LadderDifference]]:
    def judged(model: str) -> Column[LadderDifference]:
        return Column(model, lambda title: title.percent_by(model), "+.2f", " %")

    return [
        Column("title", lambda title: title.title, left=True, fold=True),
        Column("BD-rate", lambda title: title.percent, "+.2f", " %"),
        *(judged(model) for model in report.also if is_judge(model)),
        Column("encodes", lambda title: f"{title.encodes[0]} -> {title.encodes[1]}"),
        Column("CPU", lambda title: _cpu_percent(title), "+.0f", " %"),
        Column(
            "worst shot", lambda title: ABSENT if _worst(title) is None else title.shots[0].shot
        ),
        Column("by", lambda title: _worst(title), "+.1f", " %"),
    ]


def _cpu_percent(title: LadderDifference) -> float | None:
    old, new = title.cpu_seconds
    return None if old is None or new is None else (new / old - 1) * 100


def _worst(title: LadderDifference) -> float | None:
    return title.shots[0].bd_rate if title.shots else None


def upgrade_lines(report: UpgradeReport, limit: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield an upgrade report as NDJSON: the titles' differences, then one ``upgrade``."""
    for title in report.titles:
        yield from difference_lines(title, limit)
    yield (
        "upgrade",
        {
            "titles": len(report.titles),
            "only_old": list(report.only_old),
            "only_new": list(report.only_new),
            "mean_bd_rate_percent": report.mean_bd_rate,
            "also": {model: asdict(by) for model, by in report.also.items()},
            "cpu_percent": report.cpu_percent,
            "cpu_titles": report.cpu_titles,
            "pass": not report.failures,
            "failures": list(report.failures),
        },
    )
