"""How the answer to ``what-if`` looks."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cluster.cli.views.ladder import predictor
from cluster.cli.views.tables import Column, kbits, table
from cluster.jobs.whatif import WhatIf, WhatIfRung
from ladder.bdrate import BdRate, NoOverlap
from ladder.claims import ViewersClaim
from ladder.locked_cost import RungCost
from ladder.viewers import AFFORDABLE, TOLERANCE


def whatif_view(answer: WhatIf) -> list[RenderableType]:
    """Show the rungs that would result, beside the delivered ones."""
    question = ", ".join(
        f"{name.replace('_', ' ')} {_value(name, value)}".strip()
        for name, value in answer.asked.items()
    )
    basis = (
        f"predicted by {predictor(answer.predictor)}, corrected by all measurements"
        if answer.basis == "predicted"
        else "measured points, and interpolation between two of them"
    )
    parts: list[RenderableType] = [
        Text(f"{answer.title}: what if {question or 'nothing changed'}"),
        Text(f"policy {answer.policy}; quality is {answer.quality_model}; {basis}", style="dim"),
        Text(),
    ]
    top, delivered = answer.rungs[-1], answer.delivered[-1]
    if not answer.changes:
        text = (
            "This changes nothing: the ladder would be the same without it. The highest delivered "
            f"rung has {kbits(delivered.rate)} kbit/s at {delivered.quality:.2f} (measured)."
        )
        return [*parts, Text(text)]
    parts += [
        _rungs(answer),
        Text(),
        Text(
            f"{len(answer.rungs)} rungs instead of {len(answer.delivered)}; the highest "
            f"{kbits(top.rate)} kbit/s at {top.quality:.2f} ({top.basis}) instead of "
            f"{kbits(delivered.rate)} at {delivered.quality:.2f} (measured). It would take "
            f"{answer.new_encodes} new encodes."
        ),
        Text(_bd(answer)),
    ]
    if answer.locked_cost:
        parts += [Text(), *_locked(answer)]
    parts += [Text(), *_viewers(answer)]
    of_rungs = (
        f"{kbits(rung.rate)} kbit/s: {note}" for rung in answer.rungs for note in rung.notes
    )
    notes = [*answer.notes, *of_rungs]
    if answer.unchanged:
        notes.insert(
            0,
            "The unchanged ladder is solved again on the same curves, so that only your change "
            "separates the two.",
        )
    parts += [Text(note, style="dim") for note in notes]
    return [*parts, *_commands(answer)]


def _commands(answer: WhatIf) -> list[RenderableType]:
    """Show what makes the ladder, as a shell takes it back."""
    if not answer.commands:
        return []
    lines = [Text(line) for command in answer.commands for line in shell_lines(command)]
    return [Text(), Text("To make it:"), *lines]


def shell_lines(command: str, width: int = 78) -> list[str]:
    """Return a command in lines of at most ``width`` signs where its words are short enough, each
    but the last with a backslash at its end."""
    words, lines = shlex.split(command), [""]
    if ">" in words:  # a redirection is no word
        return [command]
    for word in map(shlex.quote, words):
        if lines[-1] and len(lines[-1]) + len(word) + 3 > width:
            lines.append("   ")
        lines[-1] += f" {word}" if lines[-1] else word
    return [f"{line} \\" for line in lines[:-1]] + lines[-1:]


def _value(name: str, value: Any) -> str:
    if name == "max_rate":
        return f"{kbits(value)} kbit/s" if value else "off"
    if name in ("peak_ratio", "vbv_seconds", "floor") and not value:
        return "off"
    if name == "native_top":
        return ""
    if name == "size_limits":
        return ", ".join(f"{lines} lines up to {kbits(rate)} kbit/s" for rate, lines in value)
    if name == "rates":
        return "/".join(kbits(rate) for rate in value) + " kbit/s"
    if name == "viewers" and isinstance(value[0], list):
        return f"a histogram of {len(value)} bins"
    if name == "viewers":
        return "/".join(f"{median / 1e6:g}" for median in value) + " Mbit/s"
    if isinstance(value, list):
        return "/".join(str(item) for item in value)
    return "off" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _rungs(answer: WhatIf) -> Table:
    columns: list[Column[WhatIfRung]] = [
        Column("size", lambda rung: f"{rung.size.width}x{rung.size.height}", left=True),
        Column("kbit/s", lambda rung: kbits(rung.rate)),
        Column("quality", lambda rung: rung.quality, ".2f"),
        Column("worst shot", lambda rung: rung.worst_shot, ".2f"),
        Column("numbers", lambda rung: rung.basis, left=True),
        Column("exist", lambda rung: f"{rung.existing}/{answer.shots}"),
    ]
    return table(columns, answer.rungs)


def _bd(answer: WhatIf) -> str:
    measured = all(rung.basis == "measured" for rung in answer.rungs)
    kind = "measured" if measured else _kind(answer)
    match answer.bd_rate:
        case BdRate() as bd:
            return (
                f"BD-rate {_signed(bd.percent)} ({kind}) against {_anchor(answer)}, over quality "
                f"{bd.low:.1f} to {bd.high:.1f} by {answer.quality_model}."
            )
        case NoOverlap() as none:
            return f"BD-rate: {none}"
    return "BD-rate: none, a ladder has too few rungs."


def _kind(answer: WhatIf) -> str:
    return "predicted" if answer.basis == "predicted" else "interpolated"


def _anchor(answer: WhatIf) -> str:
    if not answer.unchanged:
        return "the delivered ladder (measured)"
    return f"the unchanged ladder ({_kind(answer)})"


def _locked(answer: WhatIf) -> Iterator[RenderableType]:
    kind = (
        f"predicted by {predictor(answer.predictor)}, corrected by all measurements"
        if answer.basis == "predicted"
        else "on measured curves, interpolated"
    )
    total = "" if answer.locked_bd_rate is None else f": {answer.locked_bd_rate:.1f} % of bits"
    yield Text(
        f"Cost of the delivered ladder's sizes against free sizes per shot ({kind}){total} "
        "(BD-rate)"
    )
    columns: list[Column[tuple[str, RungCost]]] = [
        Column("rung", lambda row: row[0], left=True),
        Column("kbit/s", lambda row: kbits(row[1].rate)),
        Column("quality", lambda row: row[1].quality, ".2f"),
        Column("costs", lambda row: _signed(row[1].percent)),
    ]
    yield table(columns, zip(answer.delivered_names, answer.locked_cost, strict=False))


def _signed(percent: float) -> str:
    """Format a percentage with its sign, which a percentage that rounds to zero has not."""
    return f"{percent:+.1f} %" if abs(percent) >= 0.05 else "0.0 %"


def _viewers(answer: WhatIf) -> Iterator[RenderableType]:
    yield Text(
        f"What viewers would receive, against {_anchor(answer)}. Their throughput has this median, "
        f"and each plays the highest rung under {AFFORDABLE:g} of it. Worse off: who loses more "
        f"than {TOLERANCE:g} points against the reference ladder, whose quality is predicted"
    )
    columns: list[Column[tuple[ViewersClaim, ViewersClaim, ViewersClaim]]] = [
        Column("median", lambda row: row[0].median / 1e6, ".3g", " Mbit/s"),
        Column("received", lambda row: kbits(row[0].fixed.rate)),
        Column("would be", lambda row: kbits(row[0].received.rate)),
        Column("bits", lambda row: row[0].received_percent, "+.1f", " %"),
        Column("quality", lambda row: row[0].received.quality - row[0].fixed.quality, "+.2f"),
        Column("worse off", lambda row: 100 * row[1].worse_off, ".1f", " %"),
        Column("would be", lambda row: 100 * row[2].worse_off, ".1f", " %"),
    ]
    yield table(columns, zip(answer.viewers, answer.before, answer.after, strict=True))


def whatif_lines(answer: WhatIf) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield an answer as NDJSON: one ``what_if``, then its ``rung`` objects."""
    bd = answer.bd_rate
    yield (
        "what_if",
        {
            "title": answer.title,
            "quality_model": answer.quality_model,
            "basis": answer.basis,
            "predictor": answer.predictor,
            "asked": dict(answer.asked),
            "policy": answer.policy,
            "new_encodes": answer.new_encodes,
            "bd_rate": None if bd is None else asdict(bd),
            "changes": answer.changes,
            "unchanged": [[round(p.rate), round(p.quality, 4)] for p in answer.unchanged],
            "delivered": [[p.rate, round(p.quality, 4)] for p in answer.delivered],
            "locked_bd_rate_percent": answer.locked_bd_rate,
            "locked_cost": [
                {"rung": name, "bitrate": round(c.rate), "percent": round(c.percent, 3)}
                for name, c in zip(answer.delivered_names, answer.locked_cost, strict=False)
            ],
            "viewers": [
                {
                    **asdict(claim),
                    "received_percent": claim.received_percent,
                    "worse_off_before": before.worse_off,
                    "worse_off_after": after.worse_off,
                }
                for claim, before, after in zip(
                    answer.viewers, answer.before, answer.after, strict=True
                )
            ],
            "notes": list(answer.notes),
            "commands": list(answer.commands) if answer.changes else [],
        },
    )
    for rung in answer.rungs:
        fields = {
            "width": rung.size.width,
            "height": rung.size.height,
            "bitrate": round(rung.rate),
            "quality": round(rung.quality, 4),
            "worst_shot": round(rung.worst_shot, 4),
            "basis": rung.basis,
            "existing_encodes": rung.existing,
            "notes": list(rung.notes),
        }
        yield "rung", fields
