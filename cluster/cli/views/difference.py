"""How differences of ladders look."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from cluster.cli.progress import duration
from cluster.cli.views.ladder import kbits, plain_table
from cluster.package.diff import LadderDifference, UpgradeReport
from ladder.bdrate import BdRate, NoOverlap


def difference_view(found: LadderDifference, limit: int) -> list[RenderableType]:
    """Two ladders of a title."""
    parts: list[RenderableType] = [
        Text(f"{found.title}: new against old, all measured by {found.quality_model}"),
        Text(_bd(found)),
        Text(_cost(found)),
    ]
    if found.facts:
        facts = plain_table(("made with", "l"))
        for header in ("old", "new"):
            facts.add_column(header, overflow="fold")
        for name, (old, new) in found.facts.items():
            facts.add_row(name, *("-" if one is None else str(one) for one in (old, new)))
        parts += [Text(), facts]
    rungs = plain_table(
        *(("old rung", "l"), ("kbit/s", "r"), ("quality", "r")),
        *(("new rung", "l"), ("kbit/s", "r"), ("quality", "r"), ("bits", "r"), ("quality", "r")),
    )
    for change in found.rungs:
        cells = []
        for rung in (change.old, change.new):
            cells += (
                ["-", "", ""]
                if rung is None
                else [
                    rung.name,
                    kbits(rung.bitrate),
                    f"{rung.quality[found.quality_model].mean:.2f}",
                ]
            )
        moved = change.bitrate_percent, change.quality_change
        rungs.add_row(
            *cells,
            "" if moved[0] is None else f"{moved[0]:+.1f} %",
            "" if moved[1] is None else f"{moved[1]:+.2f}",
        )
    parts += [Text(), rungs]
    if not found.shots:
        parts += [Text(), Text("The shots are not the same, so they cannot be compared.")]
    elif limit:
        parts += [Text(), *_shots(found, limit)]
    return parts


def _shots(found: LadderDifference, limit: int) -> Iterator[RenderableType]:
    yield Text(
        "Shots, worst first: BD-rate over the rungs; bits and quality over rungs that are paired",
        style="dim",
    )
    table = plain_table(
        *(("shot", "r"), ("frames", "l"), ("BD-rate", "r"), ("bits", "r"), ("quality", "r")),
        ("worst rung", "r"),
    )
    for shot in found.shots[:limit]:
        table.add_row(
            *(str(shot.shot), f"{shot.start_frame}-{shot.end_frame - 1}"),
            "-" if shot.bd_rate is None else f"{shot.bd_rate:+.1f} %",
            *(f"{shot.bytes_percent:+.1f} %", f"{shot.quality_change:+.2f}"),
            f"{shot.worst_change:+.2f}",
        )
    yield table


def _bd(found: LadderDifference) -> str:
    match found.bd_rate:
        case BdRate() as bd:
            return (
                f"BD-rate {bd.percent:+.2f} % over quality {bd.low:.1f} to {bd.high:.1f} "
                "(negative: fewer bits)"
            )
        case NoOverlap() as none:
            return f"BD-rate: {none}"
    return "BD-rate: none, a ladder has too few rungs"


def _cost(found: LadderDifference) -> str:
    known = ["not known" if s is None else duration(s) for s in found.cpu_seconds]
    return f"encodes {found.encodes[0]} -> {found.encodes[1]}; CPU {known[0]} -> {known[1]}" + (
        " (known where a run began with an empty store)" if "not known" in known else ""
    )


def difference_lines(found: LadderDifference, limit: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """A difference as NDJSON: one ``difference``, then ``rung_change`` and ``shot_change``."""
    bd = found.bd_rate
    yield (
        "difference",
        {
            "title": found.title,
            "quality_model": found.quality_model,
            "bd_rate": None if bd is None else asdict(bd),
            "facts": {name: list(values) for name, values in found.facts.items()},
            "encodes": list(found.encodes),
            "cpu_seconds": list(found.cpu_seconds),
        },
    )
    for change in found.rungs:
        yield (
            "rung_change",
            {
                "old": change.old.name if change.old else None,
                "new": change.new.name if change.new else None,
                "bitrate_percent": change.bitrate_percent,
                "quality_change": change.quality_change,
            },
        )
    for shot in found.shots[:limit]:
        yield "shot_change", asdict(shot)


def upgrade_view(found: UpgradeReport, limit: int) -> list[RenderableType]:
    """Many titles, then the worst shots of each."""
    table = plain_table(
        *(("title", "l"), ("BD-rate", "r"), ("encodes", "r"), ("CPU", "r")),
        *(("worst shot", "r"), ("by", "r")),
    )
    for title in found.titles:
        a, b = title.cpu_seconds
        worst = title.shots[0] if title.shots else None
        table.add_row(
            title.title,
            "-" if title.percent is None else f"{title.percent:+.2f} %",
            f"{title.encodes[0]} -> {title.encodes[1]}",
            "-" if a is None or b is None else f"{(b / a - 1) * 100:+.0f} %",
            *(
                ("-", "-")
                if worst is None or worst.bd_rate is None
                else (str(worst.shot), f"{worst.bd_rate:+.1f} %")
            ),
        )
    mean = "none" if found.mean_bd_rate is None else f"{found.mean_bd_rate:+.2f} %"
    cpu = (
        "not known (no title was made from an empty store both times)"
        if found.cpu_percent is None
        else f"{found.cpu_percent:+.1f} % over {found.cpu_titles} titles"
    )
    models = ", ".join(sorted({title.quality_model for title in found.titles}))
    parts: list[RenderableType] = [
        table,
        Text(),
        Text(f"mean BD-rate {mean}, all measured by {models}; negative is fewer bits. CPU {cpu}."),
    ]
    for names, side in ((found.only_old, "old"), (found.only_new, "new")):
        if names:
            parts.append(Text(f"only on the {side} side: {', '.join(names)}"))
    if limit:
        for title in found.titles:
            if title.shots:
                parts += [Text(), Text(title.title), *_shots(title, limit)]
    verdict = "FAIL: " + "; ".join(found.failures) if found.failures else "PASS"
    return [*parts, Text(), Text(verdict, style="bold red" if found.failures else "bold")]


def upgrade_lines(found: UpgradeReport, limit: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """An upgrade report as NDJSON: the titles' differences, then one ``upgrade``."""
    for title in found.titles:
        yield from difference_lines(title, limit)
    yield (
        "upgrade",
        {
            "titles": len(found.titles),
            "only_old": list(found.only_old),
            "only_new": list(found.only_new),
            "mean_bd_rate_percent": found.mean_bd_rate,
            "cpu_percent": found.cpu_percent,
            "cpu_titles": found.cpu_titles,
            "pass": not found.failures,
            "failures": list(found.failures),
        },
    )
